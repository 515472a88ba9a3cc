# Limits of the server and of roles: too few background workers, streamext.max_workers,
# max_connections, CONNECTION LIMIT, NOLOGIN, no right to connect.  One warning, a status
# that says what to do, no storm of starts, and work goes on when there is room.  What
# fails again and again is tried less and less often, also across a restart.
#
# faults: P7

use strict;
use warnings;
use File::Basename qw(dirname);
use lib dirname(__FILE__);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxFault;
use Test::More;
use Time::HiRes qw(time);

my $watch = scale(12, 60);		# seconds in which starts are counted
my $node = PostgreSQL::Test::Cluster->new('limits');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'streamext'
max_worker_processes = 3
max_connections = 12
max_logical_replication_workers = 0
log_min_messages = debug1
CONF
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION streamext');

my $workers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'streamext worker'";

sub becomes
{
	my ($query, $expected, $name) = @_;
	ok($node->poll_query_until('postgres', $query, $expected), $name);
	return;
}

sub make_queue
{
	my ($name) = @_;
	$node->safe_psql('postgres', qq{
		CREATE STREAM $name (v int) WITH (connector = 'queue');
		CREATE MATERIALIZED VIEW n_$name AS SELECT count(*) AS n FROM $name;
		INSERT INTO $name VALUES (1);});
	return;
}

sub count_in_log
{
	my ($pattern) = @_;
	my $log = slurp_file($node->logfile);
	return scalar(() = $log =~ /$pattern/g);
}

my $status = q{SELECT state || ' ' || coalesce(error_message, '') FROM streamext.pipelines WHERE pipeline = '%s'};

# ---------------------------------------------------------------- max_worker_processes
# Three: launcher, scheduler, and one pipeline.
make_queue('a');
becomes('SELECT n FROM n_a', '1', 'the first pipeline runs');
make_queue('b');
make_queue('c');
becomes(sprintf($status, 'b'), 'running waits for a free worker: increase max_worker_processes', 'the second says what it waits for');
becomes(sprintf($status, 'c'), 'running waits for a free worker: increase max_worker_processes', 'the third too');
is($node->safe_psql('postgres', q{SELECT failures FROM streamext.pipelines WHERE pipeline = 'b'}), '0', '... which is no failure of theirs');

my $updates = 'SELECT n_tup_upd FROM pg_stat_all_tables WHERE relid = \'streamext.pipeline\'::regclass';
my $before = $node->safe_psql('postgres', $updates);
my $began = time;
my $end = $began + $watch;
$node->poll_query_until('postgres', "SELECT clock_timestamp() >= to_timestamp($end)");
my $attempts = ($node->safe_psql('postgres', $updates) - $before) / 2;
$watch = time - $began;
cmp_ok($attempts * 60 / $watch, '<=', scale(12, 6), sprintf('a few attempts only: %g in %.0f s', $attempts, $watch));
is(count_in_log('out of workers for pipeline'), 1, 'one warning');
is($node->safe_psql('postgres', 'SELECT n FROM n_a'), '1', 'meanwhile the first one runs');
fault_row(row => 'P7', what => 'max_worker_processes exhausted', tried => 1,
	note => sprintf('%.1f attempts a minute, none of which starts a process; 1 warning', $attempts * 60 / $watch));

$node->safe_psql('postgres', q{SELECT streamext.pause('a')});
becomes("SELECT (SELECT n FROM n_b) + (SELECT n FROM n_c)", '1', 'room that comes free is taken');
$node->append_conf('postgresql.conf', "max_worker_processes = 16\nstreamext.max_workers = 1");
$node->restart;

# ---------------------------------------------------------------- streamext.max_workers
becomes(q{SELECT count(*) FROM streamext.pipelines WHERE error_message = 'waits for a free worker: increase streamext.max_workers'}, '1',
	'streamext.max_workers: the pipeline says what it waits for');
is($node->safe_psql('postgres', $workers), '1', '... and no more run');
$node->append_conf('postgresql.conf', 'streamext.max_workers = 8');
$node->restart;
becomes("SELECT (SELECT n FROM n_b) + (SELECT n FROM n_c)", '2', 'with room all run');
becomes('SELECT count(*) FROM streamext.pipelines WHERE error_message IS NOT NULL', '0', '... and nothing is said any more');
$node->safe_psql('postgres', q{SELECT streamext.resume('a')});

# ---------------------------------------------------------------- max_connections
my @sessions;
push @sessions, $node->background_psql('postgres', on_error_stop => 0) foreach 1 .. 8;
$_->query('SELECT 1') foreach @sessions;
$node->safe_psql('postgres', 'SELECT pg_terminate_backend(pid) FROM streamext.pipelines WHERE pid IS NOT NULL');
becomes($workers, '3', 'workers need no connection: they start though few are left');
$_->quit foreach @sessions;

# ---------------------------------------------------------------- the owner
$node->safe_psql('postgres', q{
	CREATE ROLE boss LOGIN;
	GRANT CREATE ON SCHEMA public TO boss;
	GRANT USAGE ON FOREIGN SERVER streamext TO boss;});
$node->safe_psql('postgres', q{
	CREATE STREAM theirs (v int) WITH (connector = 'queue');
	CREATE MATERIALIZED VIEW n_theirs AS SELECT count(*) AS n FROM theirs;
	INSERT INTO theirs VALUES (1);}, extra_params => [ '-U', 'boss' ]);
becomes('SELECT n FROM n_theirs', '1', 'a pipeline of a plain role runs');

sub restart_theirs
{
	$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM streamext.pipelines WHERE pipeline = 'theirs' AND pid IS NOT NULL});
	return;
}
my $n = 1;
sub blocked
{
	my ($block, $reason, $unblock) = @_;
	my $warned = count_in_log('pipeline "theirs" cannot run now');
	$node->safe_psql('postgres', $block);
	restart_theirs();
	becomes(sprintf($status, 'theirs'), "running $reason", "$block: the status says so");
	$node->safe_psql('postgres', 'INSERT INTO theirs VALUES (1)');
	is(count_in_log('pipeline "theirs" cannot run now'), $warned + 1, '... and the log, once');
	$node->safe_psql('postgres', $unblock);
	becomes('SELECT n FROM n_theirs', ++$n, "$unblock: goes on by itself");
	becomes(sprintf($status, 'theirs'), 'running ', '... and nothing is said any more');
	return;
}
SKIP:
{
	skip 'background workers need no LOGIN on this server', 4 if $node->pg_version >= 17;
	blocked('ALTER ROLE boss NOLOGIN', 'role boss is not permitted to log in: run ALTER ROLE boss LOGIN', 'ALTER ROLE boss LOGIN');
}
blocked('REVOKE CONNECT ON DATABASE postgres FROM PUBLIC', 'role boss may not connect to the database: GRANT CONNECT ON DATABASE postgres TO boss',
	'GRANT CONNECT ON DATABASE postgres TO PUBLIC');

$node->safe_psql('postgres', 'ALTER ROLE boss CONNECTION LIMIT 0');
restart_theirs();
$node->safe_psql('postgres', 'INSERT INTO theirs VALUES (1)');
becomes('SELECT n FROM n_theirs', ++$n, 'CONNECTION LIMIT 0 does not count workers');
$node->safe_psql('postgres', 'ALTER ROLE boss CONNECTION LIMIT -1');
my $session = $node->background_psql('postgres', extra_params => [ '-U', 'boss' ]);
$session->query('SELECT 1');
blocked('ALTER ROLE boss CONNECTION LIMIT 0', 'too many connections of role boss: raise its CONNECTION LIMIT', 'ALTER ROLE boss CONNECTION LIMIT 5');
$session->quit;
my $other = $node->background_psql('postgres');
$other->query('SELECT 1');
blocked('ALTER DATABASE postgres CONNECTION LIMIT 0', 'too many connections to database postgres: raise its CONNECTION LIMIT',
	'ALTER DATABASE postgres CONNECTION LIMIT -1');
$other->quit;

# ---------------------------------------------------------------- back-off
# A sink whose function finds no disk: class 53, tried again, less and less often.
$node->safe_psql('postgres', q{
	CREATE FUNCTION full_disk(v int) RETURNS int LANGUAGE plpgsql AS
		$$BEGIN RAISE EXCEPTION 'no space' USING ERRCODE = '53100'; END$$;
	CREATE STREAM d (v int) WITH (connector = 'queue');
	CREATE TABLE kept (v int);
	CREATE STREAM keep WITH (connector = 'table', table = 'kept') AS SELECT full_disk(v) AS v FROM d;
	INSERT INTO d VALUES (1);});
becomes(q{SELECT failures >= 5 FROM streamext.pipelines WHERE pipeline = 'd'}, 't', 'failures are counted');
my ($failures, $retry_at) = split /\|/, $node->safe_psql('postgres',
	q{SELECT failures, extract(epoch FROM retry_at - error_at) FROM streamext.pipelines WHERE pipeline = 'd'});
cmp_ok($retry_at, '>', 0.5, 'the next try is not at once');
is(count_in_log('ERROR:  no space'), 1, 'the same error is logged once');
$node->stop('immediate');
$node->start;
$node->poll_query_until('postgres', $workers, '4');
cmp_ok($node->safe_psql('postgres', q{SELECT failures FROM streamext.pipelines WHERE pipeline = 'd'}), '>=', $failures, 'a crash does not forget them');
is($node->safe_psql('postgres', q{SELECT state || ' ' || error_message FROM streamext.pipelines WHERE pipeline = 'd'}), 'running no space', 'the status tells the reason');
$node->safe_psql('postgres', q{CREATE OR REPLACE FUNCTION full_disk(v int) RETURNS int LANGUAGE sql AS 'SELECT v'; SELECT streamext.resume('d')});
becomes('SELECT count(*) FROM kept', '1', 'mended and resumed it goes on at once');
is($node->safe_psql('postgres', 'SELECT count(*) FROM streamext.dead_letters'), '0', 'no record was blamed');

ok(!$node->log_contains('TRAP:|PANIC:|terminated by signal'), 'no crash in the log');
$node->stop;
done_testing();
