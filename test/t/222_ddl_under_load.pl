# faults: P5
#
# DDL of users against what a pipeline at full load reads and writes: the table that feeds a
# stream, a joined table, a sink's table, state.  No statement waits for more than a batch
# and a second; the pipeline goes on, or stops with an error that names what is missing
# and goes on when that is mended.  Each row of the input is counted once.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IPC::Run qw(start);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxFault;
use Test::More;
use Time::HiRes qw(time usleep);

my $rounds = scale(1, 3);
my $node = PostgreSQL::Test::Cluster->new('ddl');
$node->init;
$node->append_conf('postgresql.conf', qq{
shared_preload_libraries = 'streamext'
max_worker_processes = 32
});
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION streamext;
	CREATE TABLE feed (id bigint GENERATED ALWAYS AS IDENTITY, k int, amount int);
	CREATE TABLE names (k int PRIMARY KEY, name text);
	INSERT INTO names SELECT i, 'name ' || i FROM generate_series(0, 99) i;
	CREATE STREAM s (id bigint, k int, amount int) WITH (connector = 'table', table = 'feed', max_batch_rows = 5000);
	CREATE MATERIALIZED VIEW totals AS SELECT k, count(*) AS n, sum(amount) AS s FROM s GROUP BY k;
	CREATE MATERIALIZED VIEW named AS SELECT n.name, count(*) AS n FROM s JOIN names n USING (k) GROUP BY 1;
	CREATE TABLE kept (id bigint, k int);
	CREATE STREAM keep WITH (connector = 'table', table = 'kept') AS SELECT id, k FROM s;
	CREATE FUNCTION run_sum(INOUT state bigint, k int, amount int, OUT total bigint) LANGUAGE sql AS 'SELECT coalesce(state, 0) + amount, coalesce(state, 0) + amount';
	CREATE STREAM sums WITH (map_with_state = 'run_sum', key = 'k') AS SELECT k, amount FROM s;
	CREATE STREAM sums_out WITH (connector = 'null') AS SELECT * FROM sums;
});

# ------------------------------------------------------------------ the load
my $bench = PostgreSQL::Test::Utils::tempdir() . '/load.sql';
append_to_file($bench, "INSERT INTO feed (k, amount) SELECT i % 100, i FROM generate_series(1, 200) i;\n");
my ($bench_out, $load) = ('');

sub load_starts
{
	$load = start([ 'pgbench', '-n', '-h', $node->host, '-p', $node->port, '-c', '2', '-T', '600', '-R', '60', '-f', $bench, 'postgres' ],
		'>', \$bench_out, '2>&1');
	return;
}

sub batches { return $node->safe_psql('postgres', "SELECT coalesce(sum(batch_id), 0) FROM streamext.pipelines") }

sub goes_on
{
	my ($what) = @_;
	my $n = batches();
	ok($node->poll_query_until('postgres', "SELECT sum(batch_id) > $n + 3 FROM streamext.pipelines"), "$what: goes on")
	  or BAIL_OUT($node->safe_psql('postgres', 'SELECT state, error_message FROM streamext.pipelines'));
	return;
}

sub oracle
{
	my ($what) = @_;
	is($node->safe_psql('postgres', 'SELECT (SELECT sum(n) FROM totals) = count(*), (SELECT sum(s) FROM totals) = sum(amount) FROM feed'), 't|t',
		"$what: each row counted once");
	is($node->safe_psql('postgres', 'SELECT (SELECT sum(state) FROM streamext_state.sums) = sum(amount) FROM feed'), 't', "$what: in the state as well");
}

load_starts();
goes_on('load');

# ------------------------------------------------------------------ what may be done
my ($tried, $worst, $worst_what) = (0, 0, '');

# The longest batch of late, in seconds.
sub longest_batch
{
	return $node->safe_psql('postgres', 'SELECT coalesce(max(load_ms + steps_ms + commit_ms), 0) / 1000 FROM streamext.batches');
}

sub ddl
{
	my ($what, $sql, $more) = @_;

	# work of their own, and waits for transactions that are older
	$more //= 20 if $what =~ /CONCURRENTLY|VACUUM|INDEX|ALTER TYPE/;
	my $began = time();
	my ($rc, $out, $err) = $node->psql('postgres', $sql, on_error_stop => 1);
	my $took = time() - $began;
	my $bound = longest_batch() + scale(20, 1) + ($more // 0);
	$tried++;
	($worst, $worst_what) = ($took, $what) if $took > $worst && !$more;
	is($err =~ /ERROR.*/ ? $& : '', '', $what);
	cmp_ok($took, '<=', $bound, sprintf('%s: waits %.0f ms', $what, $took * 1000));
	return;
}

my @harmless = (
	[ 'feed: ADD COLUMN', 'ALTER TABLE feed ADD COLUMN more int' ],
	[ 'feed: DROP COLUMN', 'ALTER TABLE feed DROP COLUMN more' ],
	[ 'feed: ALTER TYPE of a column nobody reads', 'ALTER TABLE feed ADD COLUMN note int; ALTER TABLE feed ALTER note TYPE text; ALTER TABLE feed DROP COLUMN note' ],
	[ 'feed: RENAME COLUMN', 'ALTER TABLE feed ADD COLUMN x int; ALTER TABLE feed RENAME COLUMN x TO y; ALTER TABLE feed DROP COLUMN y' ],
	[ 'feed: RENAME', 'BEGIN; ALTER TABLE feed RENAME TO feed2; ALTER TABLE feed2 RENAME TO feed; COMMIT' ],
	[ 'feed: LOCK', 'BEGIN; LOCK TABLE feed; COMMIT' ],
	[ 'feed: VACUUM FULL', 'VACUUM FULL feed' ],
	[ 'joined: ADD COLUMN', "ALTER TABLE names ADD COLUMN more text DEFAULT 'x'" ],
	[ 'joined: DROP COLUMN', 'ALTER TABLE names DROP COLUMN more' ],
	[ 'joined: RENAME', 'ALTER TABLE names RENAME TO names2' ],
	[ 'joined: RENAME COLUMN', 'ALTER TABLE names2 RENAME COLUMN name TO label' ],
	[ 'joined: SET SCHEMA', 'CREATE SCHEMA moved; ALTER TABLE names2 SET SCHEMA moved' ],
	[ 'joined: back', 'ALTER TABLE moved.names2 SET SCHEMA public; DROP SCHEMA moved; ALTER TABLE names2 RENAME TO names; ALTER TABLE names RENAME COLUMN label TO name' ],
	[ 'joined: REINDEX CONCURRENTLY', 'REINDEX TABLE CONCURRENTLY names' ],
	[ 'joined: VACUUM FULL', 'VACUUM FULL names' ],
	[ 'joined: LOCK', 'BEGIN; LOCK TABLE names; COMMIT' ],
	[ 'joined: TRUNCATE and refill', q{BEGIN; CREATE TEMP TABLE t AS TABLE names; TRUNCATE names; INSERT INTO names TABLE t; COMMIT} ],
	[ 'sink: ADD COLUMN', 'ALTER TABLE kept ADD COLUMN more int' ],
	[ 'sink: DROP COLUMN', 'ALTER TABLE kept DROP COLUMN more' ],
	[ 'sink: CREATE INDEX', 'CREATE INDEX kept_id ON kept (id)' ],
	[ 'sink: REINDEX CONCURRENTLY', 'REINDEX INDEX CONCURRENTLY kept_id' ],
	[ 'sink: DROP INDEX CONCURRENTLY', 'DROP INDEX CONCURRENTLY kept_id' ],
	[ 'sink: TRUNCATE', 'TRUNCATE kept' ],
	[ 'sink: VACUUM FULL', 'VACUUM FULL kept' ],
	[ 'sink: LOCK', 'BEGIN; LOCK TABLE kept; COMMIT' ],
	[ 'sink: RENAME', 'ALTER TABLE kept RENAME TO kept2; ALTER TABLE kept2 RENAME TO kept' ],
	[ 'state: VACUUM FULL', 'VACUUM FULL streamext_state.totals' ],
	[ 'state: REINDEX CONCURRENTLY', 'REINDEX TABLE CONCURRENTLY streamext_state.totals' ],
	[ 'state: LOCK', 'BEGIN; LOCK TABLE streamext_state.sums; COMMIT' ],
	[ 'state: CREATE INDEX', 'CREATE INDEX ON totals (n)' ],
	[ 'log: REINDEX CONCURRENTLY', 'REINDEX TABLE CONCURRENTLY streamext_state.s_log' ],
	[ 'stream: ADD COLUMN', 'ALTER TABLE feed ADD COLUMN later int; ALTER STREAM s ADD COLUMN later int' ],
	[ 'stream: DROP COLUMN', 'ALTER STREAM s DROP COLUMN later; ALTER TABLE feed DROP COLUMN later' ],
	[ 'stream: RENAME', 'ALTER STREAM s RENAME TO s2; ALTER STREAM s2 RENAME TO s' ],
	[ 'stream: CREATE and DROP another one', q{CREATE STREAM s3 (id bigint) WITH (connector = 'table', table = 'feed'); DROP STREAM s3} ],
	[ 'stream: OPTIONS', q{ALTER STREAM s OPTIONS (SET max_batch_rows '4000')} ],
	[ 'function: CREATE OR REPLACE', q{CREATE OR REPLACE FUNCTION run_sum(INOUT state bigint, k int, amount int, OUT total bigint) LANGUAGE sql AS 'SELECT amount + coalesce(state, 0), amount + coalesce(state, 0)'} ],
	[ 'function: RENAME', 'ALTER FUNCTION run_sum RENAME TO run_sum2; ALTER FUNCTION run_sum2 RENAME TO run_sum' ],
	[ 'view: RENAME', 'ALTER MATERIALIZED VIEW totals RENAME TO t2; ALTER MATERIALIZED VIEW t2 RENAME TO totals' ],
	[ 'view: SET SCHEMA', 'CREATE SCHEMA moved; ALTER MATERIALIZED VIEW totals SET SCHEMA moved; ALTER MATERIALIZED VIEW moved.totals SET SCHEMA public; DROP SCHEMA moved' ],
	[ 'all: OWNER TO', q{DO 'BEGIN IF to_regrole(''sx_other'') IS NULL THEN CREATE ROLE sx_other SUPERUSER LOGIN; END IF; END'; ALTER STREAM s OWNER TO sx_other} ],
	[ 'all: OWNER TO, back', 'ALTER STREAM s OWNER TO CURRENT_USER' ]);

for my $round (1 .. $rounds)
{
	foreach my $entry (@harmless)
	{
		my ($what, $sql) = @$entry;
		ddl($what, $sql);
		goes_on($what);
	}
}
is($node->safe_psql('postgres', 'SELECT state FROM streamext.pipelines'), 'running', 'nothing of it has stopped the pipeline');

# ------------------------------------------------------------------ a lock that is held
{
	my $lock = $node->background_psql('postgres');
	$lock->query_safe('BEGIN; LOCK TABLE kept');
	ok($node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM pg_locks WHERE relation = 'kept'::regclass AND NOT granted}),
		'the worker waits for a lock on a sink\'s table');
	ddl('another table meanwhile', 'ALTER TABLE names ADD COLUMN meanwhile int; ALTER TABLE names DROP COLUMN meanwhile');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		WHERE a.backend_type = 'streamext worker' AND l.granted AND l.locktype = 'relation' AND l.relation >= 16384}), '0',
		'... and holds none while it waits');
	$lock->query_safe('COMMIT');
	$lock->quit;
	goes_on('after the lock');
}

# ------------------------------------------------------------------ a worker that opens its pipeline
# One session locks the joined table, a new worker comes as far as that, and the session
# goes on to what the worker holds already.
ddl('against a worker that starts', q{
	BEGIN;
	LOCK TABLE names;
	SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'streamext worker';
	DO $$
	BEGIN
		FOR i IN 1 .. 2000 LOOP
			EXIT WHEN EXISTS (SELECT FROM pg_locks WHERE relation = 'names'::regclass AND NOT granted);
			PERFORM pg_sleep(0.002);
			PERFORM pg_stat_clear_snapshot();
		END LOOP;
	END $$;
	ALTER STREAM s OPTIONS (SET max_batch_rows '4500');
	ALTER TABLE kept ADD COLUMN once int;
	ALTER TABLE kept DROP COLUMN once;
	COMMIT;
}, 4);
goes_on('against a worker that starts');

# ------------------------------------------------------------------ what stops it
sub stops
{
	my ($what, $sql, $pattern, $mend) = @_;
	ddl($what, $sql);
	ok($node->poll_query_until('postgres', "SELECT count(*) > 0 FROM streamext.pipelines WHERE state = 'stopped'"), "$what: stops")
	  or BAIL_OUT('it does not stop');
	like($node->safe_psql('postgres', "SELECT error_sqlstate || ' ' || error_message FROM streamext.pipelines WHERE state = 'stopped'"), $pattern,
		"$what: ... and says why");
	$node->safe_psql('postgres', $mend);
	$node->safe_psql('postgres', "SELECT streamext.resume(pipeline) FROM streamext.pipelines WHERE state = 'stopped'");
	goes_on($what);
	return;
}

stops('sink: RENAME COLUMN away', 'ALTER TABLE kept DROP COLUMN k', qr/^42804 table public.kept has no column for column "k"/, 'ALTER TABLE kept ADD COLUMN k int');
stops('state: ALTER TYPE', 'ALTER TABLE streamext_state.sums ALTER state TYPE text', qr/^55000 .*streamext_state\.sums/,
	'ALTER TABLE streamext_state.sums ALTER state TYPE bigint USING state::bigint');

# ------------------------------------------------------------------ DROP
my ($rc, $out, $err) = $node->psql('postgres', 'DROP TABLE kept');
like($err, qr/cannot drop table kept because other objects depend on it/, 'a sink\'s table is not dropped without CASCADE');
($rc, $out, $err) = $node->psql('postgres', 'DROP TABLE feed');
like($err, qr/cannot drop table feed because other objects depend on it/, 'nor the table that feeds a stream');
ddl('sink: DROP TABLE CASCADE', 'DROP TABLE kept CASCADE');
goes_on('sink: DROP TABLE CASCADE');
ddl('joined: DROP TABLE CASCADE', 'DROP TABLE names CASCADE');
goes_on('joined: DROP TABLE CASCADE');

# ------------------------------------------------------------------ end
$load->signal('TERM');
$load->finish;
# the step that was stopped catches up and joins the others again
ok($node->poll_query_until('postgres', 'SELECT count(*) = 1 FROM streamext.pipelines'), 'all steps run together');
ok($node->safe_psql('postgres', q{SELECT streamext.wait('totals')}) eq 't', 'everything is processed');
oracle('at the end');
ok(!$node->log_contains('deadlock detected'), 'no deadlock, so no insert has failed');
ok(!$node->log_contains('TRAP:|PANIC:|terminated by signal'), 'no crash');
fault_row(row => 'P5', what => 'DDL on feeds, joined and sink tables, state, streams under load', tried => $tried,
	lost => Test::More->builder->is_passing ? 0 : '?', duplicated => Test::More->builder->is_passing ? 0 : '?',
	recovery => sprintf('longest statement %.0f ms (%s)', $worst * 1000, $worst_what),
	note => sprintf('longest batch %.0f ms', longest_batch() * 1000));
$node->safe_psql('postgres', 'DROP TABLE feed CASCADE');
is($node->safe_psql('postgres', 'SELECT count(*) FROM streamext.pipelines'), '0', 'DROP TABLE … CASCADE of the feed takes the pipeline');
$node->stop('fast');
done_testing();
