# A good neighbour: the hooks of other libraries work before and behind ours, databases
# without the extension notice nothing, no process holds a snapshot or a lock while it
# waits, what others lock is waited for without a failure, deadlocks hit the worker and not
# the user, and settings of roles and databases neither break nor change batches.

use strict;
use warnings;
use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = PostgreSQL::Test::Cluster->new('neighbour');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'streamext'
max_worker_processes = 16
CONF
$node->start;

sub becomes
{
	my ($query, $expected, $name) = @_;
	ok($node->poll_query_until('postgres', $query, $expected), $name)
	  or diag $node->safe_psql('postgres', 'SELECT pipeline, state, pid, status, error_message FROM streamext.pipelines');
	return;
}
my $failures = q{SELECT coalesce(sum(failures), 0) || ' ' || count(error_message) || ' ' || count(*) FILTER (WHERE state <> 'running') FROM streamext.pipelines};

$node->safe_psql('postgres', q{
	CREATE EXTENSION streamext;
	CREATE STREAM jobs (v int) WITH (connector = 'queue');
	CREATE TABLE kept (v int PRIMARY KEY, n int);
	CREATE STREAM keep WITH (connector = 'table', table = 'kept', key = 'v') AS SELECT v, 1 AS n FROM jobs;
	CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM jobs;
	INSERT INTO jobs VALUES (1);});
becomes('SELECT count(*) FROM kept', '1', 'the job runs');

# ---------------------------------------------------------------- other people's locks
my $other = $node->background_psql('postgres');
$other->set_query_timer_restart();
my $n = 1;

# While the other session holds it the worker waits and says so; no failure, nothing held.
sub waits
{
	my ($lock, $status, $name) = @_;
	$other->query_safe("BEGIN; $lock");
	$node->safe_psql('postgres', 'INSERT INTO jobs VALUES (' . ++$n . ')');
	becomes(q{SELECT status FROM streamext.pipelines}, $status, "$name: the status says for what");
	is($node->safe_psql('postgres', q{
		SELECT count(*) FROM pg_locks l JOIN streamext.pipelines p USING (pid) WHERE l.granted AND l.relation >= 16384
		AND l.relation NOT IN (SELECT c.oid FROM pg_class c WHERE c.relnamespace = 'streamext'::regnamespace)}), '0',
		"$name: meanwhile it holds no lock of a user's relation");
	my $end = time + 6;		# past lock_timeout
	$node->poll_query_until('postgres', "SELECT clock_timestamp() >= to_timestamp($end)");
	is($node->safe_psql('postgres', $failures), '0 0 0', "$name: that is no failure");
	$other->query_safe('COMMIT');
	becomes("SELECT count(*) FROM kept", $n, "$name: then it goes on");
	return;
}
waits('LOCK TABLE kept', 'waits for a lock on public.kept', 'LOCK TABLE');
waits(q{SELECT streamext.pause('jobs'); SELECT streamext.resume('jobs')},
	'waits for a transaction that has paused or changed the pipeline and is still open', 'an open transaction with pause()');

# That transaction may go on to lock what the batch needs.
$other->query_safe(q{BEGIN; SELECT streamext.pause('jobs')});
$node->safe_psql('postgres', 'INSERT INTO jobs VALUES (' . ++$n . ')');
becomes(q{SELECT status LIKE 'waits for a transaction that has paused%' FROM streamext.pipelines}, 't', 'it waits for pause()');
$other->query_safe(q{ALTER TABLE kept ADD COLUMN more int; SELECT streamext.resume('jobs'); COMMIT});
becomes('SELECT count(*) FROM kept', $n, 'pause() and DDL in one transaction: no deadlock');
unlike(slurp_file($node->logfile), qr/deadlock detected|lock timeout/, '... and nothing of it in the log');

# A row that is locked: the batch is tried again, and says what it waits for.
$other->query_safe('BEGIN; SELECT * FROM kept WHERE v = 1 FOR UPDATE');
$node->safe_psql('postgres', 'INSERT INTO jobs VALUES (1)');
becomes(q{SELECT error_message LIKE 'canceling statement due to lock timeout while % tuple % in relation "kept"' AND state = 'running' FROM streamext.pipelines},
	't', 'a row that is locked: the status names the relation');
$other->query_safe('COMMIT');
becomes(q{SELECT s.n FROM counted s}, $n + 1, '... and then it goes on');

# ---------------------------------------------------------------- deadlocks
# Two rows, in the order against that of the batch.
# However slow the machine is, the user looks for deadlocks after the worker.
$node->append_conf('postgresql.conf', "deadlock_timeout = '20s'");
$node->reload;
my $user_errors = 0;
for my $round (1 .. 5)
{
	$other->query_safe('BEGIN; UPDATE kept SET more = 1 WHERE v = 3');
	$node->safe_psql('postgres', 'INSERT INTO jobs VALUES (2), (3)');
	$n += 2;
	$node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM pg_stat_activity a JOIN streamext.pipelines p USING (pid) WHERE a.wait_event_type = 'Lock'});
	my ($out, $failed) = $other->query('UPDATE kept SET more = 2 WHERE v = 2; COMMIT');
	$user_errors++ if ($other->{stderr} // '') =~ /ERROR/;
	becomes('SELECT s.n FROM counted s', $n + 1, "deadlock $round: the batch is done in the end");
}
is($user_errors, 0, 'no deadlock hit the user');
$node->append_conf('postgresql.conf', "deadlock_timeout = '1s'");
$node->reload;
$other->quit;

# ---------------------------------------------------------------- settings of roles and databases
my $settings = '';
for my $setting ("statement_timeout = '1ms'", "lock_timeout = '1ms'", "idle_in_transaction_session_timeout = '1ms'",
	'default_transaction_read_only = on', "default_transaction_isolation = 'serializable'", 'default_transaction_deferrable = on',
	"search_path = 'nowhere'", "DateStyle = 'German'", "IntervalStyle = 'sql_standard'", "TimeZone = 'Asia/Tokyo'",
	'extra_float_digits = -15', "bytea_output = 'escape'", 'row_security = off', "session_replication_role = 'replica'",
	'synchronous_commit = off', 'exit_on_error = on', 'array_nulls = off', 'transform_null_equals = on',
	"xmloption = 'document'", "application_name = 'mine'", "role = 'pg_monitor'", "plan_cache_mode = 'force_custom_plan'",
	"client_encoding = 'LATIN1'", "force_parallel_mode = 'on'", "work_mem = '64kB'", "default_tablespace = ''")
{
	next if $setting =~ /force_parallel/ && $node->pg_version >= 16;
	$settings .= "ALTER DATABASE postgres SET $setting; ALTER ROLE CURRENT_USER SET $setting;\n";
}
$node->safe_psql('postgres', $settings);
# The test's own sessions stay as they are.
$ENV{PGOPTIONS} = join ' ', map { "-c $_" } 'default_transaction_read_only=off', 'statement_timeout=0', 'lock_timeout=0',
  'search_path=public', 'session_replication_role=origin', 'role=none', 'idle_in_transaction_session_timeout=0',
  'default_transaction_isolation=read\\ committed', 'TimeZone=UTC', 'DateStyle=ISO', 'client_encoding=UTF8', 'IntervalStyle=postgres',
  'extra_float_digits=1', 'bytea_output=hex', 'exit_on_error=off', 'row_security=on', 'array_nulls=on';
$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'streamext %'});
$node->safe_psql('postgres', q{
	CREATE FUNCTION trail() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.trail := session_user || ' ' || current_user; RETURN NEW; END$$;
	CREATE STREAM texts (d text, f text, i text, b text, a text, u text) WITH (connector = 'queue');
	CREATE TABLE typed (d timestamptz, f float8, i interval, b bytea, a int[], u text, shown text, trail text);
	CREATE TRIGGER t BEFORE INSERT ON typed FOR EACH ROW EXECUTE FUNCTION trail();
	CREATE STREAM typing WITH (connector = 'table', table = 'typed') AS
		SELECT d::timestamptz AS d, f::float8 AS f, i::interval AS i, b::bytea AS b, a::int[] AS a, u,
			(f::float8)::text || ' ' || (d::timestamptz)::text || ' ' || (b::bytea)::text AS shown FROM texts;
	INSERT INTO texts VALUES ('2024-03-01 12:00', '0.1', '1-2', '\\x0a', '{1,NULL}', 'ä €');});
becomes("SELECT count(*) FROM typed", '1', 'batches run whatever the role and the database set');
is($node->safe_psql('postgres', 'SELECT d, f, i, b, a, u, shown FROM typed'),
	'2024-03-01 12:00:00+00|0.1|1 year 2 mons|\x0a|{1,NULL}|ä €|0.1 2024-03-01 12:00:00+00 \x0a', '... and read and show values as they were meant');
like($node->safe_psql('postgres', 'SELECT trail FROM typed'), qr/^(\S+) \1$/, '... as their owner, with triggers');
is($node->safe_psql('postgres', q{SELECT count(error_message) || ' ' || count(*) FILTER (WHERE state <> 'running') FROM streamext.pipelines}), '0 0', '... without failures');
$node->safe_psql('postgres', 'ALTER DATABASE postgres RESET ALL; ALTER ROLE CURRENT_USER RESET ALL;');
delete $ENV{PGOPTIONS};
$node->safe_psql('postgres', q{ALTER DATABASE postgres SET streamext.enabled = on});
$node->reload;

# ---------------------------------------------------------------- nothing is held while waiting
my $silent = IO::Socket::INET->new(Listen => 8, LocalAddr => '127.0.0.1') or die;
my $port = $silent->sockport;
$node->safe_psql('postgres', qq{
	CREATE STREAM wire (v int) WITH (connector = 'socket', host = '127.0.0.1', port = '$port', format = 'json');
	CREATE MATERIALIZED VIEW n_wire AS SELECT count(*) AS n FROM wire;
	CREATE STREAM broker (v int) WITH (connector = 'kafka', brokers = '127.0.0.1:1', topic = 't', format = 'json');
	CREATE MATERIALIZED VIEW n_broker AS SELECT count(*) AS n FROM broker;});
becomes(q{SELECT count(DISTINCT backend_type) FROM pg_stat_activity WHERE backend_type LIKE 'streamext %'}, '4', 'launcher, scheduler, workers, receiver');
my $held = 0;
my $seen = 0;
my %times;
for (1 .. 100)
{
	# A moment of work is not held while waiting; what is seen again and again is.
	my ($all, @busy) = split /[|\n]/, $node->safe_psql('postgres', q{
		SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'streamext %';
		SELECT pid || ' ' || coalesce(xact_start, state_change, '-infinity') FROM pg_stat_activity
		WHERE backend_type LIKE 'streamext %' AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL OR xact_start IS NOT NULL)});
	$seen += $all;
	$times{$_}++ foreach @busy;
}
$held = grep { $_ > 50 } values %times;
cmp_ok($seen, '>=', 600, 'all kinds of processes were looked at');
is($held, 0, 'none of them held a snapshot, a transaction id or a transaction');

# ---------------------------------------------------------------- hooks of others
for my $libraries ('pg_stat_statements, streamext, auto_explain', 'auto_explain, streamext, pg_stat_statements')
{
	$node->append_conf('postgresql.conf', "shared_preload_libraries = '$libraries'\nauto_explain.log_min_duration = 0\n"
		  . "auto_explain.log_nested_statements = on\npg_stat_statements.track = all\npg_stat_statements.track_utility = on\n");
	$node->restart;
	$node->safe_psql('postgres', 'CREATE EXTENSION IF NOT EXISTS pg_stat_statements; SELECT pg_stat_statements_reset()');
	$node->safe_psql('postgres', q{
		CREATE STREAM hooked (v int) WITH (connector = 'queue');
		CREATE MATERIALIZED VIEW n_hooked AS SELECT count(*) AS n FROM hooked;
		INSERT INTO hooked VALUES (1), (2);});
	becomes('SELECT n FROM n_hooked', '2', "$libraries: pipelines run");
	is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_statements WHERE query LIKE 'INSERT INTO hooked%'}), '1', '... statements are counted');
	cmp_ok($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_statements WHERE query LIKE 'CREATE STREAM hooked%' OR query LIKE 'CREATE MATERIALIZED VIEW n_hooked%'}),
		'>=', $libraries =~ /streamext.*pg_stat/ ? 2 : 1, '... utility statements too, or what they became');
	ok($node->log_contains('Query Text: SELECT n FROM n_hooked'), '... and plans are logged');
	is($node->safe_psql('postgres', q{SELECT count(*) > 0 FROM pg_stat_statements WHERE query LIKE 'UPDATE streamext.progress%'}), 't', '... those of workers as well');
	$node->safe_psql('postgres', 'DROP STREAM hooked CASCADE');
}

# A database without the extension.
$node->safe_psql('postgres', 'CREATE DATABASE plain');
is($node->safe_psql('plain', q{
	CREATE TABLE t (stream int, drop_stream text);
	ALTER TABLE t ALTER stream SET DEFAULT 1;
	CREATE VIEW v AS SELECT stream FROM t;
	CREATE MATERIALIZED VIEW m AS SELECT stream FROM t;
	REFRESH MATERIALIZED VIEW m;
	DROP MATERIALIZED VIEW m;
	CREATE EXTENSION pg_stat_statements;
	DROP EXTENSION pg_stat_statements;
	ALTER TABLE t DROP stream CASCADE;
	SELECT count(*) FROM pg_stat_activity WHERE datname = 'plain' AND backend_type LIKE 'streamext%'}), '0', 'a database without the extension is as ever');
ok($node->safe_psql('plain', "SELECT count(*) FROM pg_class WHERE relname LIKE '%streamext%'") eq '0', '... and has nothing of ours');

ok(!$node->log_contains('TRAP:|PANIC:|terminated by signal (6|9|11)'), 'no crash in the log');
$node->stop;
done_testing();
