# Files under crashes.  A writer appends 200,000 lines to a log, in pieces that end anywhere, and
# rotates it again and again, while the worker is killed and the server stopped immediately:
# every line must have been counted, once.  Then the same for clean = delete and archive:
# each file is taken once, and is gone, or in the archive, in the end.  Last: an idle
# tail writes no WAL and holds no snapshot; loss of data stops a running pipeline; a file that
# changed after it was taken is reported.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxQuiet;
use Test::More;
use Time::HiRes qw(usleep);

my $lines = 200_000;
my $rotations = 12;
my $files = 300;
my $seed = $ENV{SEED} // int(rand(1_000_000));
diag("seed $seed");
srand($seed);

my $node = PostgreSQL::Test::Cluster->new('tail');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'streamext'
max_worker_processes = 16
restart_after_crash = on
autovacuum = off
CONF
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE app');
$node->safe_psql('app', 'CREATE EXTENSION streamext');

my $dir = PostgreSQL::Test::Utils::tempdir();
mkdir "$dir/$_" for qw(log in done arch);

sub becomes
{
	my ($query, $expected, $name) = @_;
	ok($node->poll_query_until('app', $query, $expected), $name);
}

# A child that runs a function.
sub start_writer
{
	my ($function) = @_;
	my $pid = fork();
	die "fork: $!" unless defined $pid;
	return $pid if $pid;
	srand($seed + 1);
	eval { $function->(); 1 } or print STDERR "writer: $@";
	require POSIX;
	POSIX::_exit(0);
}

# Kills workers and stops the server while the writer writes, and each of them once at least,
# however soon it ends.
sub torment
{
	my ($writer) = @_;
	my ($kills, $stops, $ended) = (0, 0, 0);
	while (1)
	{
		$ended ||= waitpid($writer, 1) != 0;
		last if $ended && $kills && $stops;
		usleep(100_000 + rand(300_000));
		if ($kills && !$stops || $stops && rand() < 0.3)
		{
			$node->stop('immediate');
			$node->start;
			$stops++;
		}
		else
		{
			my ($rc, $pids) = $node->psql('app',
				"SELECT pid FROM pg_stat_activity WHERE backend_type = 'streamext worker' ORDER BY random() LIMIT 1");
			next unless defined $pids && $pids =~ /^\d+$/;
			kill 'KILL', $pids;
			$kills++;
		}
		$node->poll_query_until('app', 'SELECT 1', '1');
	}
	diag("$kills workers killed, $stops immediate stops");
	cmp_ok($kills, '>', 0, 'workers were killed');
	cmp_ok($stops, '>', 0, 'the server was stopped');
}

# ---------------------------------------------------------------- a tail
sub rotate
{
	my ($number) = @_;
	rename "$dir/log/app.log.$_", "$dir/log/app.log." . ($_ + 1) or die for reverse 1 .. $number - 1;
	rename "$dir/log/app.log", "$dir/log/app.log.1" or die;
}

sub write_log
{
	my $text = join('', map { "$_,line $_\n" } 1 .. $lines);
	my %rotate_at = map { int(rand(length $text)) => 1 } 1 .. $rotations;
	my @cuts = sort { $a <=> $b } keys %rotate_at;
	my ($at, $number) = (0, 0);
	# a line is written to one file
	@cuts = map { index($text, "\n", $_) + 1 } @cuts;
	open(my $out, '>>', "$dir/log/app.log") or die;
	while ($at < length $text)
	{
		if (@cuts && $at >= $cuts[0])
		{
			shift @cuts;
			rotate(++$number);
			usleep(rand(20_000));
			open($out, '>>', "$dir/log/app.log") or die;
		}
		my $n = 1 + int(rand(3000));
		$n = $cuts[0] - $at if @cuts && $at + $n > $cuts[0];
		$n = length($text) - $at if $n > length($text) - $at;
		syswrite($out, $text, $n, $at) == $n or die;
		$at += $n;
		usleep(3000);
	}
}

$node->safe_psql('app', qq(
	CREATE STREAM log (n int, t text) WITH (connector = 'file', path = '$dir/log/app.log', format = 'csv', tail,
		max_batch_rows = 5000);
	CREATE MATERIALIZED VIEW counted AS SELECT n, count(*) AS times FROM log GROUP BY n;));
torment(start_writer(\&write_log));
ok($node->safe_psql('app', q(SELECT streamext.wait('log'))), 'wait() returns');
becomes('SELECT count(*) FROM counted', $lines, 'each line was read');
is($node->safe_psql('app', 'SELECT max(times) FROM counted'), '1', '… once');
is($node->safe_psql('app', q(SELECT count(*) FROM streamext.dead_letters)), '0', '… and none in two halves');
is($node->safe_psql('app', q(SELECT position ->> 'losses' FROM streamext.partitions)), '0', 'nothing counts as lost');
cmp_ok(scalar(glob("'$dir/log/app.log.$rotations'") && 1), '==', 1, "the log was rotated $rotations times");

# ---------------------------------------------------------------- idle
# A worker that has run a batch: others write down after ten seconds that they live.
append_to_file("$dir/log/app.log", "0,last\n");
becomes('SELECT times FROM counted WHERE n = 0', '1', 'one line more is read');
cmp_ok(idle_wal($node, 'app'), '<', 1000, 'an idle tail writes no WAL');
is( $node->safe_psql('app',
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'streamext worker' AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)"),
	'0', 'and holds no snapshot');

# ---------------------------------------------------------------- loss of data
truncate("$dir/log/app.log", 3) or die;
becomes(q(SELECT state FROM streamext.pipelines), 'stopped', 'a truncated file stops the pipeline');
like($node->safe_psql('app', 'SELECT error_message FROM streamext.pipelines'),
	qr/data loss: file ".*app.log" has become shorter/, 'which says why');
append_to_file("$dir/log/app.log", "\n-1,after\n");
$node->safe_psql('app', q(ALTER STREAM log OPTIONS (ADD on_data_loss 'continue'); SELECT streamext.resume('log');));
becomes('SELECT times FROM counted WHERE n = -1', '1', 'with "continue" it begins anew');
is($node->safe_psql('app', q(SELECT position ->> 'losses' FROM streamext.partitions)), '1', 'and counts that');
unlink "$dir/log/app.log";
becomes(q(SELECT status LIKE 'file "%app.log" does not exist' FROM streamext.pipelines), 't', 'a missing file is a status');
$node->safe_psql('app', 'DROP STREAM log CASCADE');

# ---------------------------------------------------------------- clean
sub write_files
{
	for my $i (1 .. $files)
	{
		for my $folder ("$dir/in", "$dir/arch")
		{
			append_to_file("$folder/.new", join('', map { "$i,$_\n" } 1 .. 1 + int(rand(100))) . "$i,0\n");
			rename "$folder/.new", "$folder/file$i.csv" or die;
		}
		usleep(20_000);
	}
}

# Each file has a line 0; the number of its other lines is the highest of them.
my $wrong = sub {
	my ($view) = @_;
	return "SELECT count(*) FROM $view WHERE zeros <> 1 OR n <> top + 1";
};
$node->safe_psql('app', qq(
	CREATE STREAM d (file int, line int) WITH (connector = 'file', path = '$dir/in', format = 'csv', clean = 'delete');
	CREATE STREAM a (file int, line int) WITH (connector = 'file', path = '$dir/arch/*.csv', format = 'csv', max_batch_rows = 40,
		clean = 'archive', archive_path = '$dir/done');
	CREATE MATERIALIZED VIEW deleted AS
		SELECT file, count(*) AS n, max(line) AS top, count(*) FILTER (WHERE line = 0) AS zeros FROM d GROUP BY file;
	CREATE MATERIALIZED VIEW archived AS
		SELECT file, count(*) AS n, max(line) AS top, count(*) FILTER (WHERE line = 0) AS zeros FROM a GROUP BY file;
	CREATE MATERIALIZED VIEW second WITH (pipeline = 'second') AS
		SELECT file, count(*) AS n, max(line) AS top, count(*) FILTER (WHERE line = 0) AS zeros FROM d GROUP BY file;));
torment(start_writer(\&write_files));
$node->safe_psql('app', "SELECT streamext.wait('$_')") for qw(d a second);
for my $view (qw(deleted archived second))
{
	becomes("SELECT count(*) FROM $view", $files, "$view: each file was taken");
	is($node->safe_psql('app', $wrong->($view)), '0', '… once, and whole');
}
# A row whose file another pipeline has removed goes with the next change of the folder.
becomes('SELECT count(*) FROM streamext.file_taken', '0', 'and is forgotten');
is(join(' ', glob("'$dir/in/*' '$dir/arch/*'")), '', 'no file is left');
my @archived = glob("'$dir/done/*'");
is(scalar(@archived), $files, 'all are in the archive');
is($node->safe_psql('app', q(SELECT string_agg(error_message, ' ') FROM streamext.pipelines)), '', 'no error');

# ---------------------------------------------------------------- idle
append_to_file("$dir/in/last", "0,0\n");
append_to_file("$dir/arch/last.csv", "0,0\n");
becomes("SELECT n FROM $_ WHERE file = 0", '1', "$_: one file more is taken") for qw(deleted archived second);
becomes('SELECT count(*) FROM streamext.file_taken', '0', 'and cleaned');
cmp_ok(idle_wal($node, 'app'), '<', 1000, 'idle directories write no WAL');

# ---------------------------------------------------------------- a change
append_to_file("$dir/kept.csv", "1,1\n");
$node->safe_psql('app', qq(
	CREATE STREAM k (file int, line int) WITH (connector = 'file', path = '$dir/k*.csv', format = 'csv');
	CREATE MATERIALIZED VIEW kept AS SELECT count(*) AS n FROM k;));
becomes('SELECT n FROM kept', '1', 'a file was taken');
append_to_file("$dir/kept.csv", "1,2\n");
becomes(q(SELECT status LIKE 'file "%kept.csv" has changed after it was taken' FROM streamext.pipelines WHERE pipeline = 'k'),
	't', 'that it changed is a status');
is($node->safe_psql('app', 'SELECT n FROM kept'), '1', 'what is new in it is not read');

$node->stop;
done_testing();
