# faults: E1
#
# Option parallelism: workers that share the files of one stream.  SIGKILL of one of them, or
# of all, at random moments while files keep coming; the views, the windows that have closed
# and the table that a sink fills are what SQL makes of the same records.  Then run() and
# wait(), fewer workers than slots, a worker that is terminated, another number of workers,
# and another owner.

use strict;
use warnings;
use File::Basename qw(dirname);
use lib dirname(__FILE__);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxCrash;
use SxFault;
use Test::More;
use Time::HiRes qw(sleep time);

my $kills = scale(5, 60);
my $dir = PostgreSQL::Test::Utils::tempdir();
my ($sent, $files) = (0, 0);

fault_seed();
SxCrash::adopt_orphans();
mkdir "$dir/in" or die;
my $node = PostgreSQL::Test::Cluster->new('parallel');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'streamext'
max_worker_processes = 24
restart_after_crash = on
streamext.batch_history = 1000000
timezone = 'UTC'
CONF
$node->start;

my $db = 'postgres';

sub sql { return $node->safe_psql($db, $_[0]) }

# An answer, or nothing while the server comes back.
sub answer
{
	my ($query) = @_;
	my ($rc, $out) = $node->psql($db, $query, timeout => 60);
	return defined $rc && $rc == 0 ? $out : '';
}

sub until_true
{
	my ($query, $what) = @_;
	note(sprintf('%d s: %s', time() - $^T, $what));
	my $until = time() + 4 * $PostgreSQL::Test::Utils::timeout_default;
	while (answer($query) ne 't')
	{
		if (time() > $until)
		{
			diag(answer('SELECT * FROM streamext.pipelines'));
			BAIL_OUT("waited in vain: $what");
		}
		sleep 0.05;
	}
	return;
}

# Files of some records; time goes on by a second a record, in disorder by less than 5.
sub publish
{
	my ($n) = @_;
	while ($n > 0)
	{
		my $rows = 20 + int(rand(60));
		my ($csv, $name) = ('', sprintf('%05d.csv', ++$files));
		for (1 .. $rows)
		{
			$sent++;
			$csv .= sprintf("%d,%s,k%d,%d\n", $sent,
				answer_time(1_700_000_000 + $sent - int(rand(5))), int(rand(20)), int(rand(1000)));
		}
		append_to_file("$dir/in/.$name", $csv);
		append_to_file("$dir/model.csv", $csv);
		rename "$dir/in/.$name", "$dir/in/$name" or die;
		$n -= $rows;
	}
	return;
}

sub answer_time
{
	my @t = gmtime($_[0]);
	return sprintf('%04d-%02d-%02d %02d:%02d:%02dZ', $t[5] + 1900, $t[4] + 1, @t[ 3, 2, 1, 0 ]);
}

sql(qq{
	CREATE EXTENSION streamext;
	CREATE TABLE names (k text PRIMARY KEY, name text);
	INSERT INTO names SELECT 'k' || i, 'name ' || i FROM generate_series(0, 19) i;
	CREATE TABLE copied (slot int, id bigint, k text, n int);
	CREATE TABLE latest (k text PRIMARY KEY, id bigint);
	CREATE STREAM ev (id bigint, ts timestamptz, k text, n int)
		WITH (connector = 'file', path = '$dir/in', format = 'csv', event_time = 'ts', watermark = '10 seconds',
			idle_timeout = '1 day', parallelism = 2, max_batch_rows = 100, paused);
	CREATE MATERIALIZED VIEW totals AS
		SELECT k, count(*) AS c, sum(n) AS s, min(id) AS lo, max(id) AS hi, avg(n) AS a FROM ev GROUP BY 1;
	CREATE MATERIALIZED VIEW named AS
		SELECT x.name, count(*) AS c FROM ev JOIN names x USING (k) WHERE n < 500 GROUP BY 1;
	CREATE MATERIALIZED VIEW everything AS SELECT count(*) AS c, sum(n) AS s FROM ev;
	CREATE MATERIALIZED VIEW minutes WITH (emit = 'final') AS
		SELECT tumble(ts, '1 minute') AS w, k, count(*) AS c, sum(n) AS s FROM ev GROUP BY 1, 2;
	CREATE MATERIALIZED VIEW rows AS SELECT id, ts, k, n FROM ev;
	CREATE STREAM copied_sink WITH (connector = 'table', table = 'copied') AS SELECT streamext.slot() AS slot, id, k, n FROM ev;
	CREATE STREAM latest_sink WITH (connector = 'table', table = 'latest', key = 'k') AS SELECT k, id FROM ev;
	SELECT streamext.resume('ev');});

my $pids = "SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE backend_type = 'streamext worker'";

# ---------------------------------------------------------------- kills
my %worked;
for my $kill (1 .. $kills)
{
	my $done = 0;
	publish(300);
	until_true("SELECT count(*) = 2 FROM pg_stat_activity WHERE backend_type = 'streamext worker'", 'two workers');
	# somewhere on the way
	my $goal = $sent - int(rand(250));
	until_true("SELECT (SELECT count(*) FROM rows) >= $goal", 'some records');
	publish(100);
	my @pids = split ' ', answer($pids);
	next unless @pids;
	@pids = ($pids[ int(rand(@pids)) ]) if $kill % 2;
	kill 'KILL', @pids;
	$worked{ scalar @pids }++;
}
publish(200);
until_true("SELECT (SELECT count(*) FROM rows) >= $sent", 'all records');
until_true("SELECT streamext.wait('ev')", 'wait()');
note("killed: ", join ', ', map { "$worked{$_} times $_" } sort keys %worked);

# ---------------------------------------------------------------- the oracle
sub check
{
	my ($name) = @_;
	sql(qq{DROP TABLE IF EXISTS model; CREATE TABLE model (id bigint, ts timestamptz, k text, n int);
		COPY model FROM '$dir/model.csv' CSV});
	my $lost = sql('SELECT count(*) FROM (TABLE model EXCEPT ALL TABLE rows) x');
	my $duplicate = sql('SELECT count(*) FROM (TABLE rows EXCEPT ALL TABLE model) x');
	is("$lost $duplicate", '0 0', "$name: nothing lost, nothing twice");
	is(sql('SELECT count(*) FROM ((SELECT id, k, n FROM model EXCEPT ALL SELECT id, k, n FROM copied) UNION ALL
			(SELECT id, k, n FROM copied EXCEPT ALL SELECT id, k, n FROM model)) x'), '0', "$name: the sink's table");
	my $totals = 'SELECT k, count(*), sum(n), min(id), max(id), avg(n) FROM model GROUP BY 1';
	is(sql("SELECT count(*) FROM (($totals EXCEPT TABLE totals) UNION ALL (TABLE totals EXCEPT $totals)) x"), '0', "$name: totals");
	my $named = 'SELECT x.name, count(*) FROM model JOIN names x USING (k) WHERE n < 500 GROUP BY 1';
	is(sql("SELECT count(*) FROM (($named EXCEPT TABLE named) UNION ALL (TABLE named EXCEPT $named)) x"), '0', "$name: joined to a table");
	is(sql('SELECT e.c = m.c AND e.s = m.s FROM everything e, (SELECT count(*) AS c, sum(n) AS s FROM model) m'), 't', "$name: one row");
	my $minutes = q{SELECT date_trunc('minute', ts), k, count(*), sum(n) FROM model
		WHERE date_trunc('minute', ts) + interval '1 minute' <= (SELECT watermark FROM streamext.views WHERE view = 'minutes'::regclass) GROUP BY 1, 2};
	is(sql("SELECT count(*) FROM (($minutes EXCEPT TABLE minutes) UNION ALL (TABLE minutes EXCEPT $minutes)) x"), '0', "$name: closed windows");
	is(sql("SELECT late_rows FROM streamext.views WHERE view = 'minutes'::regclass"), '0', "$name: no row was late");
	is(sql('SELECT count(*) = count(DISTINCT k) AND bool_and(EXISTS (SELECT FROM model m WHERE m.k = l.k AND m.id = l.id)) FROM latest l'),
		't', "$name: a table that both write by key");
	return (lost => $lost, duplicated => $duplicate);
}
my %figures = check('after the kills');
cmp_ok(sql('SELECT count(*) FROM minutes'), '>', 0, 'windows have closed');
is(sql('SELECT count(DISTINCT slot) FROM copied'), '2', 'both workers have worked');
is(sql('SELECT bool_and(n = m) FROM (SELECT slot, count(*) AS n, max(batch_id) AS m FROM streamext.batches GROUP BY 1) x'),
	't', 'each has counted its batches without a gap');
is(sql(q{SELECT (SELECT sum(rows) FROM streamext.batches) = (SELECT sum(rows) FROM streamext.partitions)}), 't', 'history and positions agree');
fault_row(row => 'E1', what => 'one or both of two workers killed, files', tried => $kills, %figures);

# ---------------------------------------------------------------- operating
is(sql(q{SELECT parallelism, workers, state FROM streamext.pipelines}), '2|2|running', 'the pipeline tells of its workers');
sql(q{SELECT streamext.pause('ev')});
until_true("SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'streamext worker'", 'no worker');
publish(500);
sql(q{SELECT streamext.run('ev')});
is(sql(q{SELECT streamext.wait('ev', '3 minutes')}), 't', 'run() comes to its end');
is(sql('SELECT state FROM streamext.pipelines'), 'paused', 'which pauses the pipeline');
check('after run()');

# a worker that is terminated comes back, the other one stays
sql(q{SELECT streamext.resume('ev')});
until_true('SELECT workers = 2 FROM streamext.pipelines', 'two workers');
my $first = sql('SELECT pid FROM streamext.pipelines');
sql(qq{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'streamext worker' AND pid <> $first});
publish(300);
until_true("SELECT (SELECT count(*) FROM rows) >= $sent", 'the records of both');
is(sql('SELECT pid FROM streamext.pipelines'), $first, 'the worker of slot 0 is the one it was');
check('after a worker was terminated');

# fewer workers than slots
$node->append_conf('postgresql.conf', 'streamext.max_workers = 1');
$node->restart;
publish(600);
until_true(q{SELECT workers = 1 AND status LIKE '1 of 2 workers run%' FROM streamext.pipelines}, 'one worker, and the status says so');
until_true('SELECT count(*) > (SELECT count(*) FROM model) FROM rows', 'it goes on');
is(sql(q{SELECT streamext.wait('ev', '1 second')}), 'f', 'wait() waits for the other');
$node->append_conf('postgresql.conf', 'streamext.max_workers = 8');
$node->restart;
until_true("SELECT (SELECT count(*) FROM rows) >= $sent", 'all records');
until_true("SELECT streamext.wait('ev')", 'wait()');
check('after a lack of workers');

# another number of them: to the end, then ALTER
sql(q{SELECT streamext.run('ev')});
is(sql(q{SELECT streamext.wait('ev', '3 minutes')}), 't', 'to its end');
sql(q{ALTER STREAM ev OPTIONS (SET parallelism '3'); SELECT streamext.resume('ev');});
publish(500);
until_true('SELECT workers = 3 FROM streamext.pipelines', 'three workers');
until_true("SELECT (SELECT count(*) FROM rows) >= $sent", 'the records of all three');
until_true("SELECT streamext.wait('ev')", 'wait()');
check('after ALTER');

# a dump, restored: it goes on where that was made
sql(q{SELECT streamext.pause('ev')});
until_true("SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'streamext worker'", 'no worker');
$node->command_ok([ 'pg_dump', '-d', $node->connstr('postgres'), '-f', "$dir/dump.sql" ], 'pg_dump');
sql('CREATE DATABASE restored');
$node->command_ok([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('restored'), '-f', "$dir/dump.sql" ], 'restored');
$db = 'restored';
publish(300);
sql('SELECT streamext.start_all()');
until_true('SELECT workers = 3 FROM streamext.pipelines', 'three workers');
until_true("SELECT (SELECT count(*) FROM rows) >= $sent", 'the records of all three');
until_true("SELECT streamext.wait('ev')", 'wait()');
check('after a restore');

$node->stop;
done_testing();
