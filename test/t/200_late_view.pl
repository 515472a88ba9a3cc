# A view that comes late to a pipeline at work equals its own SELECT over all that was
# ever written, whatever is killed while it reads the past and while it is merged: its
# own worker, that of the shared pipeline, or both with the whole server.
#
# One stream is a queue, whose log a paused pipeline keeps whole, the other one a folder.
# Each run makes a view, a table sink and a view with a join over one of them, under load;
# its end is compared with a table that the writer fills in the same transactions, or with
# the files.
#
# faults: L1
#
#	SX_SEED		of the moments

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use POSIX ();
use Test::More;
use Time::HiRes qw(time usleep);
use FindBin;
use lib $FindBin::RealBin;
use SxFault;
use SxPoll;

my $runs = scale(2, 20);
fault_seed();

my $dir = PostgreSQL::Test::Utils::tempdir() . '/in';
mkdir $dir or die "mkdir $dir: $!";
my $stop_file = PostgreSQL::Test::Utils::tempdir() . '/stop';

my $node = PostgreSQL::Test::Cluster->new('late');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'streamext'
max_worker_processes = 32
restart_after_crash = on
deadlock_timeout = 200ms
CONF
$node->start;
poll_server($node);
$node->safe_psql('postgres', qq(
	CREATE EXTENSION streamext;
	CREATE TABLE names AS SELECT i AS k, 'name ' || i AS name FROM generate_series(0, 6) i;
	CREATE TABLE written (id bigint, v int);
	CREATE STREAM q (id bigint, v int) WITH (connector = 'queue', max_batch_rows = 300);
	CREATE MATERIALIZED VIEW keeper WITH (pipeline = 'keeper') AS SELECT id FROM q WHERE false;
	SELECT streamext.pause('keeper');
	CREATE MATERIALIZED VIEW q_first AS SELECT id % 7 AS k, count(*) AS n, sum(v) AS s FROM q GROUP BY 1;
	CREATE STREAM f (id bigint, v int) WITH (connector = 'file', path = '$dir', format = 'csv', max_batch_rows = 300);
	CREATE MATERIALIZED VIEW f_first AS SELECT id % 7 AS k, count(*) AS n, sum(v) AS s FROM f GROUP BY 1;));

# the answer, or undef while the server is not there
# ---------------------------------------------------------------- the writers
my ($host, $port) = ($node->host, $node->port);

sub write_queue
{
	my $sql = q(WITH n AS (SELECT coalesce(max(id), 0) AS at FROM written),
		w AS (INSERT INTO written SELECT at + i, (at + i) % 1000 FROM n, generate_series(1, 200) i RETURNING *)
		INSERT INTO q SELECT * FROM w);
	while (!-e $stop_file)
	{
		system("psql -X -q -h '$host' -p $port -d postgres -c \"$sql\" >/dev/null 2>&1");
		usleep(5_000);
	}
}

my $file_number = 0;

sub write_file
{
	my ($from) = @_;
	my $n = $from;
	while (!-e $stop_file)
	{
		$n++;
		open(my $out, '>', "$dir/.$n") or die "cannot write: $!";
		print $out join('', map { my $id = $n * 1000 + $_; "$id," . $id % 1000 . "\n" } 1 .. 100 + $n % 300);
		close $out;
		rename("$dir/.$n", "$dir/$n") or die "rename: $!";
		usleep(30_000);
	}
}

# what is in the files, as the oracle's table
sub load_files
{
	$node->safe_psql('postgres', 'DROP TABLE IF EXISTS in_files; CREATE TABLE in_files (id bigint, v int)');
	$node->safe_psql('postgres', join("\n", map { "COPY in_files FROM '$_' (FORMAT csv);" } glob "$dir/*"));
}

# ---------------------------------------------------------------- faults
sub pid_of
{
	my ($pipeline) = @_;
	return answer("SELECT pid FROM streamext.pipelines WHERE pipeline = '$pipeline' AND pid IS NOT NULL");
}

my %killed = (lane => 0, shared => 0, server => 0);

sub hurt
{
	my ($lane, $shared) = @_;
	my $kind = (qw(lane lane lane shared shared server))[ int(rand(6)) ];
	my $pid = pid_of($kind eq 'lane' ? $lane : $shared);
	return if !$pid;
	$killed{$kind}++ if kill($kind eq 'server' ? 'KILL' : 'TERM', $pid);
}

# ---------------------------------------------------------------- runs
my ($equal, $lost, $duplicated, $in_lane, $longest) = (0, 0, 0, 0, 0);
for my $run (1 .. $runs)
{
	my ($s, $oracle) = $run % 2 ? ('q', 'written') : ('f', 'in_files');
	unlink $stop_file;
	my $writer = fork() // die "fork: $!";
	if ($writer == 0)
	{
		$run % 2 ? write_queue() : write_file($file_number);
		POSIX::_exit(0);
	}
	# something has happened before the view comes
	comes_true("SELECT sum(n) > 8000 FROM ${s}_first");

	my $began = time();
	my $created = 0;
	until ($created)
	{
		$created = defined answer(qq(
			CREATE TABLE IF NOT EXISTS sunk_$run (id bigint, v int);
			BEGIN;
			CREATE MATERIALIZED VIEW late_$run AS SELECT id % 7 AS k, count(*) AS n, sum(v) AS s FROM $s GROUP BY 1;
			CREATE STREAM sink_$run WITH (connector = 'table', table = 'sunk_$run') AS SELECT id, v FROM $s;
			CREATE MATERIALIZED VIEW joined_$run AS SELECT name, count(*) AS n FROM $s JOIN names ON k = id % 7 GROUP BY 1;
			COMMIT));
		usleep(100_000) if !$created;
	}
	my @lanes = ("late_$run", "sink_$run", "joined_$run");
	my $lanes_left = "SELECT count(*) FROM streamext.views WHERE view::text IN ('" . join("','", @lanes) . "') AND pipeline <> '$s'";
	$in_lane++ if (answer($lanes_left) // 0) > 0;
	for my $fault (1 .. 8)
	{
		usleep(int(rand(120_000)));
		hurt($lanes[ rand @lanes ], $s);
	}
	ok(comes_true("SELECT ($lanes_left) = 0"), "run $run: merged under load");
	my $took = time() - $began;
	$longest = $took if $took > $longest;
	hurt($s, $s);

	append_to_file($stop_file, 'stop');
	waitpid($writer, 0);
	$file_number = scalar(my @all = glob "$dir/*");
	comes_true('SELECT true');
	load_files() if $s eq 'f';
	ok(comes_true("SELECT (SELECT count(*) FROM sunk_$run) >= (SELECT count(*) FROM $oracle)"), "run $run: all has come");
	$node->safe_psql('postgres', "SELECT streamext.wait('late_$run', '1 minute')");

	my $different = answer(qq(SELECT
		(SELECT count(*) FROM (SELECT * FROM late_$run EXCEPT SELECT id % 7, count(*), sum(v) FROM $oracle GROUP BY 1) x) +
		(SELECT count(*) FROM (SELECT id % 7, count(*), sum(v) FROM $oracle GROUP BY 1 EXCEPT SELECT * FROM late_$run) x) +
		(SELECT count(*) FROM (SELECT * FROM joined_$run EXCEPT SELECT 'name ' || id % 7, count(*) FROM $oracle GROUP BY 1) x)));
	$lost += answer("SELECT count(*) FROM (SELECT id, v FROM $oracle EXCEPT ALL SELECT * FROM sunk_$run) x");
	$duplicated += answer("SELECT count(*) FROM (SELECT * FROM sunk_$run EXCEPT ALL SELECT id, v FROM $oracle) x");
	is($different, '0', "run $run: the views equal the batch SQL");
	$equal++ if $different eq '0';
	answer("DROP MATERIALIZED VIEW late_$run, joined_$run; DROP STREAM sink_$run; DROP TABLE sunk_$run");
}
is($lost, 0, 'no row is missing in a sink');
is($duplicated, 0, 'no row is there twice');
is($node->safe_psql('postgres', 'SELECT count(*) FROM streamext.pipelines WHERE lane_of IS NOT NULL'), '0', 'no lane is left');
unlike(slurp_file($node->logfile), qr/deadlock detected/, 'no deadlock');

fault_row(row => 'L1', what => 'late view, sink and join over a running pipeline, both workers and the server killed',
	tried => "$runs runs, kills: " . join(', ', map { "$_ $killed{$_}" } sort keys %killed),
	lost => $lost, duplicated => $duplicated, recovery => sprintf('merged within %.1f s', $longest),
	note => "equal to the batch SQL: $equal of $runs; still in lanes when first looked at: $in_lane");
$node->stop;
done_testing();
