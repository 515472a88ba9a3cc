# Life of the background workers: a pipeline's worker starts at CREATE and stops at
# DROP and pause, comes back after it was terminated, takes no harm from a cancel or
# a reload, goes when streamext is turned off, and is not there on a standby until
# that is promoted.  While it waits it holds no snapshot.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'streamext'
max_worker_processes = 16
CONF
$node->start;

# Runs the query until it gives what is expected; the last argument names the test.
sub becomes
{
	my ($server, $db, $query, $expected, $name) = @_;
	ok($server->poll_query_until($db, $query, $expected), $name);
}

sub worker_pid
{
	return $node->safe_psql('app',
		"SELECT pid FROM pg_stat_activity WHERE application_name = 'streamext: ' || "
		  . "(SELECT pipeline FROM streamext.pipelines WHERE pid IS NOT NULL LIMIT 1)");
}

my $workers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'streamext worker'";
my $schedulers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'streamext scheduler'";
my $others = "SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('streamext worker', 'streamext scheduler')";
my $marks = "SELECT count(*) FROM pg_db_role_setting WHERE 'streamext.enabled=on' = ANY (setconfig)";

# What a change of the view's count proves: batches are running.
sub advances
{
	my ($server, $name) = @_;
	my $n = $server->safe_psql('app', 'SELECT coalesce(max(n), 0) FROM counted');
	becomes($server, 'app', "SELECT coalesce(max(n), 0) > $n FROM counted", 't', $name);
}

# ---------------------------------------------------------------- start and stop
becomes($node, 'postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'streamext launcher'",
	'1', 'the launcher runs');
is($node->safe_psql('postgres', $schedulers), '0', 'no scheduler without the extension');

$node->safe_psql('postgres', 'CREATE DATABASE app');
$node->safe_psql('app', 'CREATE EXTENSION streamext');
is($node->safe_psql('postgres', $marks), '1', 'CREATE EXTENSION marks the database');
becomes($node, 'postgres', $schedulers, '1', 'its scheduler starts');

$node->safe_psql('app', q(
	CREATE STREAM ticks (value bigint, "timestamp" timestamptz) WITH (connector = 'rate', rows_per_second = 100);));
is($node->safe_psql('app', $workers), '0', 'a stream that nobody reads has no worker');
$node->safe_psql('app', q(
	CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM ticks;));
becomes($node, 'app', $workers, '1', 'a worker starts at CREATE MATERIALIZED VIEW');
advances($node, 'the view is kept current');
becomes($node, 'app', 'SELECT count(*) FROM streamext.pipelines WHERE pid IS NOT NULL AND rows_per_second > 0',
	'1', 'streamext.pipelines shows the worker and its rate');

$node->safe_psql('app', q(SELECT streamext.pause('counted')));
becomes($node, 'app', $workers, '0', 'pause stops the worker');
$node->safe_psql('app', q(SELECT streamext.resume('counted')));
becomes($node, 'app', $workers, '1', 'resume starts one');
advances($node, '... that goes on');

# ---------------------------------------------------------------- signals
my $pid = worker_pid();
$node->safe_psql('app', "SELECT pg_terminate_backend($pid)");
becomes($node, 'app', "$workers AND pid <> $pid", '1', 'another worker follows one that was terminated');
advances($node, '... and goes on');

$node->safe_psql('app', "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'streamext%'");
advances($node, 'a cancel does no harm');
$node->reload;
advances($node, 'nor does a reload');

my $scheduler = $node->safe_psql('app', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'streamext scheduler'");
$node->safe_psql('app', "SELECT pg_terminate_backend($scheduler)");
becomes($node, 'app', "$schedulers AND pid <> $scheduler", '1', 'another scheduler follows one that was terminated');
is($node->safe_psql('app', $workers), '1', '... and finds the worker running');

# ---------------------------------------------------------------- turned off
$node->append_conf('postgresql.conf', 'streamext.enabled = off');
$node->reload;
becomes($node, 'postgres', $others, '0', 'streamext.enabled = off stops all');
$node->append_conf('postgresql.conf', 'streamext.enabled = on');
$node->reload;
becomes($node, 'postgres', $workers, '1', '... and on starts them again');
advances($node, '... where they were');

# ---------------------------------------------------------------- idle
$node->safe_psql('app', q(
	CREATE STREAM inbox (v int) WITH (connector = 'queue');
	CREATE MATERIALIZED VIEW received AS SELECT count(*) AS n FROM inbox;
	INSERT INTO inbox VALUES (1);));
becomes($node, 'app', 'SELECT n FROM received', '1', 'an INSERT into a queue wakes the worker');
becomes($node, 'app', q(
	SELECT count(*) FROM pg_stat_activity a JOIN streamext.pipelines p USING (pid)
	WHERE p.pipeline = 'inbox' AND a.state = 'idle'
	AND a.backend_xmin IS NULL AND a.backend_xid IS NULL AND a.xact_start IS NULL),
	'1', 'an idle worker holds no snapshot and no transaction');

# ---------------------------------------------------------------- crash
$node->stop('immediate');
$node->start;
becomes($node, 'app', $workers, '2', 'the workers are back after a crash');
advances($node, '... and go on');

# ---------------------------------------------------------------- standby
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'streamext%'"),
	'0', 'nothing runs on a standby');
$node->stop('fast');
$standby->promote;
becomes($standby, 'postgres', $workers, '2', 'promotion starts the workers');
advances($standby, '... which go on');
$standby->stop('fast');
$node->start;

# ---------------------------------------------------------------- errors
$node->safe_psql('app', q(
	CREATE STREAM jobs (v int) WITH (connector = 'queue');
	CREATE TABLE kept (v int);
	CREATE STREAM keep WITH (connector = 'table', table = 'kept') AS SELECT v FROM jobs;
	INSERT INTO jobs VALUES (1);));
becomes($node, 'app', 'SELECT v FROM kept', '1', 'a sink gets its rows');
$node->safe_psql('app', 'ALTER TABLE kept DROP COLUMN v');
$node->safe_psql('app', 'INSERT INTO jobs VALUES (2)');
becomes($node, 'app', q(SELECT state || ' ' || error_sqlstate FROM streamext.pipelines WHERE pipeline = 'jobs'),
	'stopped 42804', 'what only a user can mend stops the pipeline');
becomes($node, 'app', $workers, '2', '... and its worker');
$node->safe_psql('app', q(ALTER TABLE kept ADD COLUMN v int; SELECT streamext.resume('keep')));
becomes($node, 'app', 'SELECT max(v) FROM kept', '2', '... and once mended it goes on from there');

$node->safe_psql('app', q(
	BEGIN;
	LOCK TABLE kept;
	INSERT INTO jobs VALUES (3);
	COMMIT;));
becomes($node, 'app', 'SELECT max(v) FROM kept', '3', 'a lock is waited for');
becomes($node, 'app', q(SELECT failures || ' ' || state FROM streamext.pipelines WHERE pipeline = 'jobs'),
	'0 running', 'a batch that was committed clears the failures');
$node->safe_psql('app', 'DROP STREAM jobs CASCADE');
becomes($node, 'app', $workers, '2', 'DROP STREAM … CASCADE stops its worker');

# ---------------------------------------------------------------- run() and wait()
$node->safe_psql('app', q(
	CREATE STREAM ends (v int) WITH (connector = 'queue', paused);
	CREATE MATERIALIZED VIEW ended AS SELECT sum(v) AS s FROM ends;
	INSERT INTO ends VALUES (1), (2);));
$node->safe_psql('app', q(SELECT streamext.run('ends')));
is($node->safe_psql('app', q(SELECT streamext.wait('ends'))), 't', 'wait() sees the end of run()');
is($node->safe_psql('app', q(SELECT s FROM ended)), '3', '... when all is counted');
$node->safe_psql('app', q(INSERT INTO ends VALUES (4)));
my ($rc, $out, $err) = $node->psql('app', q(SELECT streamext.wait('ends')));
like($err, qr/is paused/, '... and does not take it for the end of what came later');
$node->safe_psql('app', 'DROP STREAM ends CASCADE; CREATE STREAM lonely (v int) WITH (connector = \'queue\')');
($rc, $out, $err) = $node->psql('app', q(SELECT streamext.wait('lonely')));
like($err, qr/no view or sink/, 'wait() says when nobody reads the stream');
$node->safe_psql('app', 'DROP STREAM lonely');

# ---------------------------------------------------------------- other databases
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE app');
pass('a database with streams can be copied');
is($node->safe_psql('postgres', $marks), '1', '... and its copy is not marked');
becomes($node, 'app', $workers, '2', '... and the workers come back');
$node->safe_psql('postgres', 'ALTER DATABASE app RENAME TO app2');
$node->safe_psql('postgres', 'ALTER DATABASE app2 RENAME TO app');
pass('... and renamed');

# ---------------------------------------------------------------- end
$node->safe_psql('app', 'DROP STREAM ticks CASCADE');
becomes($node, 'app', $workers, '1', 'DROP STREAM stops the worker');
$node->safe_psql('app', 'DROP EXTENSION streamext CASCADE');
becomes($node, 'postgres', $others, '0', 'DROP EXTENSION stops all');
is($node->safe_psql('postgres', $marks), '0', '... and takes the mark away');

$node->safe_psql('app', q(
	CREATE EXTENSION streamext;
	CREATE STREAM ticks (value bigint, "timestamp" timestamptz) WITH (connector = 'rate', rows_per_second = 100);
	CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM ticks;));
becomes($node, 'app', $workers, '1', 'created anew it runs again');
$node->safe_psql('postgres', 'DROP DATABASE app');
becomes($node, 'postgres', $others, '0', 'a database with streams can be dropped');

ok(!$node->log_contains('TRAP:|PANIC:|terminated by signal'), 'no crash in the log');
$node->stop('fast');
done_testing();
