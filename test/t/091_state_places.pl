# A worker remembers where the rows of keys stand.  Everything here makes what it remembers
# wrong: rows that move, come, go, are rolled back or written by another session, a cache
# that is too small.  After each of them all keys are written again, and every state must
# be what the function says of the records, in their order.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $keys = 2000;
my $seed = $ENV{SEED} // int(rand(1_000_000));
diag("seed $seed");

my $node = PostgreSQL::Test::Cluster->new('places');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'streamext'
max_worker_processes = 16
autovacuum = off
CONF
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE app');

# Keys of two columns, one of them equal in several forms, the other NULL at times; states
# from some hundred bytes to what goes into TOAST; every 13th record removes its key, and
# every 2003rd, but for those of the third and fourth feed, is refused by the table that the calls are
# noted in, after the state was written.
$node->safe_psql('app', qq(
	CREATE EXTENSION streamext;
	CREATE STREAM q (a numeric, b text, id int) WITH (connector = 'queue', max_batch_rows = 1000);
	CREATE TYPE tally AS (n int, first_id int, filler text);
	CREATE FUNCTION number(INOUT state tally, a numeric, b text, id int, OUT i int, OUT n int, OUT began int) LANGUAGE plpgsql AS
	\$\$BEGIN
		state := row(coalesce((state).n, 0) + 1, coalesce((state).first_id, id),
					 CASE WHEN a % 50 = 0 THEN (SELECT string_agg(md5((id + x)::text), '') FROM generate_series(1, 120) x)
					 ELSE repeat(md5(id::text), 10) END)::tally;
		i := id; n := (state).n; began := (state).first_id;
		IF id % 13 = 0 THEN state := NULL; END IF;
	END\$\$;

	CREATE STREAM numbered WITH (map_with_state = 'number', key = 'a, b') AS SELECT a, b, id FROM q;
	CREATE FUNCTION total(state bigint, a numeric, b text, id int[]) RETURNS bigint LANGUAGE sql AS
		'SELECT coalesce(state, 0) + (SELECT sum(x) FROM unnest(id) x)';
	CREATE STREAM totals WITH (update_state = 'total', key = 'a, b', changed_only) AS
		SELECT a, b || repeat('.', 520) AS b, id FROM q;
	SET client_min_messages = error;
	CREATE STREAM firsts WITH (deduplicate = 'a, b') AS SELECT a, b || repeat('.', 520) AS b, id FROM q;
	CREATE TABLE calls (i int CHECK (i % 2003 <> 0 OR i BETWEEN 5001 AND 10000), n int, began int);
	CREATE STREAM numbered_out WITH (connector = 'table', table = 'calls') AS SELECT * FROM numbered;
	CREATE STREAM totals_out WITH (connector = 'null') AS SELECT * FROM totals;
	CREATE STREAM firsts_out WITH (connector = 'table', table = 'firsts_t') AS SELECT * FROM firsts;
	CREATE TABLE history (a numeric, b text, id int);
	SELECT setseed($seed / 1000000.0);));

my $rows = 0;

# Records for every key, in random order, and for some of them twice.
sub feed
{
	$node->safe_psql('app', qq(
		WITH x AS (SELECT i % $keys AS k, row_number() OVER (ORDER BY random()) + $rows AS id FROM generate_series(1, $keys * 5 / 4) i),
		new AS (INSERT INTO history SELECT CASE id % 3 WHEN 0 THEN k ELSE round(k, (id % 3)::int) END,
			CASE WHEN k % 7 > 0 THEN 'b' || k % 5 END, id FROM x ORDER BY id RETURNING *)
		INSERT INTO q SELECT * FROM new ORDER BY id;));
	$rows += $keys * 5 / 4;
}

sub wait_for_all
{
	$node->safe_psql('app', "SELECT streamext.wait('q')");
}

# The history without its refused records, each with the number that the function gives it.
my $oracle = q(
	WITH runs AS (SELECT a, b, id, count(*) FILTER (WHERE id % 13 = 0) OVER w - (id % 13 = 0)::int AS run FROM history WHERE id % 2003 <> 0 OR id BETWEEN 5001 AND 10000
			WINDOW w AS (PARTITION BY a, b ORDER BY id)),
		expected AS (SELECT a, b, id, row_number() OVER w AS n, min(id) OVER w AS began FROM runs WINDOW w AS (PARTITION BY a, b, run ORDER BY id)),
		last AS (SELECT DISTINCT ON (a, b) * FROM expected ORDER BY a, b, id DESC)
);

sub is_right
{
	my ($name) = @_;
	wait_for_all();
	is($node->safe_psql('app', "$oracle SELECT count(*) FROM expected e FULL JOIN calls c ON c.i = e.id WHERE (c.n, c.began) IS DISTINCT FROM (e.n::int, e.began)"),
		'0', "$name: every call had the right state");
	is($node->safe_psql('app', qq($oracle SELECT count(*) FROM (SELECT * FROM last WHERE id % 13 <> 0) e FULL JOIN streamext_state.numbered s
			ON s.a = e.a AND s.b IS NOT DISTINCT FROM e.b
			WHERE ((s.state).n, (s.state).first_id) IS DISTINCT FROM (e.n::int, e.began)
			OR length((s.state).filler) <> CASE WHEN e.a % 50 = 0 THEN 3840 ELSE 320 END)),
		'0', "$name: the states are those of the last calls");
	is($node->safe_psql('app', q(SELECT count(*) FROM (SELECT a, b || repeat('.', 520) AS b, sum(id) AS s FROM history GROUP BY 1, 2) e
			FULL JOIN streamext_state.totals t ON t.a = e.a AND t.b IS NOT DISTINCT FROM e.b WHERE t.state IS DISTINCT FROM e.s)),
		'0', "$name: so are the totals");
	is($node->safe_psql('app', q(SELECT count(*), count(DISTINCT (a, b)) = count(*) FROM firsts_t)), "$keys|t", "$name: each key went on once");
}

sub worker
{
	return $node->safe_psql('app', "SELECT pid FROM streamext.pipelines WHERE pid IS NOT NULL");
}

# attack NAME, SUB [, the worker may be another one afterwards]
sub attack
{
	my ($name, $sub, $restarts) = @_;
	my $pid = worker();
	$sub->();
	feed();
	is_right($name);
	is(worker(), $pid, "$name: it is the same worker") unless $restarts;
}

sub sql
{
	my ($sql) = @_;
	return sub { $node->safe_psql('app', $sql) };
}

feed();
is_right('first records');
feed();
is_right('known keys');
ok($node->safe_psql('app', "SELECT bool_and(pg_relation_size(c.oid) > 256 * 8192) FROM pg_class c WHERE relname IN ('numbered', 'totals') AND relkind = 'r'
		AND relnamespace = 'streamext_state'::regnamespace") eq 't', 'the tables are big enough to look ahead');

# It is worth it: a new worker learns all places from a part of the keys.  No batch is rolled
# back here, and a worker that leaves has told all its figures.
sub rest
{
	$node->safe_psql('app', "SELECT streamext.pause('q')");
	$node->poll_query_until('app', 'SELECT count(*) = 0 FROM streamext.pipelines WHERE pid IS NOT NULL');
	return $node->safe_psql('app', "SELECT sum(idx_scan) FROM pg_stat_user_indexes WHERE schemaname = 'streamext_state' AND relname = 'totals'");
}
my $before = rest();
$node->safe_psql('app', "SELECT streamext.resume('q')");
for (1 .. 2)
{
	feed();
	wait_for_all();
}
my $looked = rest() - $before;
cmp_ok($looked, '<', $keys, "few look-ups went to the index ($looked of @{[ 2 * $keys ]})");
$node->safe_psql('app', "SELECT streamext.resume('q')");
is_right('known keys once more');

my @tables = map { "streamext_state.$_" } qw(numbered totals firsts);
attack('VACUUM', sub { $node->safe_psql('app', "VACUUM (FREEZE) $_") foreach @tables });
attack('VACUUM FULL', sub { $node->safe_psql('app', "VACUUM FULL $_") foreach @tables });
attack('CLUSTER', sub { $node->safe_psql('app', "CLUSTER $_ USING @{[ s/.*\.//r ]}_a_b_idx") foreach @tables });
attack('rows moved to and fro', sub {
	$node->safe_psql('app', "BEGIN; CLUSTER $_ USING @{[ s/.*\.//r ]}_a_b_idx; ROLLBACK") foreach @tables });
attack('REINDEX', sub { $node->safe_psql('app', "REINDEX TABLE CONCURRENTLY $_") foreach @tables });
attack('an index that ends HOT updates', sql("CREATE INDEX ON streamext_state.totals (state); CREATE INDEX ON streamext_state.numbered (((state).n))"), 1);
attack('batches of another session', sub {
	$node->safe_psql('app', "SELECT streamext.pause('q')");
	feed();
	$node->safe_psql('app', "BEGIN; SELECT count(*) FROM streamext.step('q'); ROLLBACK; SELECT count(*) FROM streamext.step('q'); SELECT streamext.resume('q')");
}, 1);
attack('worker terminated', sub { feed(); $node->safe_psql('app', 'SELECT pg_terminate_backend(pid) FROM streamext.pipelines') }, 1);
attack('server stopped at once', sub { feed(); $node->stop('immediate'); $node->start }, 1);

# smaller than what there is to remember, and none at all
foreach my $size ('4kB', '40kB', '0')
{
	attack("a cache of $size", sub {
		$node->safe_psql('app', "ALTER SYSTEM SET streamext.state_cache = '$size'");
		$node->safe_psql('app', "SELECT pg_reload_conf(); SELECT streamext.pause('q')");
		$node->safe_psql('app', "SELECT streamext.resume('q')");
		feed();
	}, 1);
}
$node->safe_psql('app', "ALTER SYSTEM RESET streamext.state_cache");
$node->safe_psql('app', "SELECT pg_reload_conf(); SELECT streamext.pause('q')");
$node->safe_psql('app', "SELECT streamext.resume('q')");

# without its index the stream goes out of the pipeline, though the worker may know all places
feed();
is_right('the whole cache again');
$node->safe_psql('app', 'DROP INDEX streamext_state.totals_a_b_idx');
feed();
ok($node->poll_query_until('app', "SELECT bool_or(error_message LIKE '%has no unique index on its keys') FROM streamext.pipelines"), 'no index: stopped');
$node->safe_psql('app', 'CREATE UNIQUE INDEX totals_a_b_idx ON streamext_state.totals (a, b COLLATE "C") NULLS NOT DISTINCT');
$node->safe_psql('app', "SELECT streamext.resume('totals')");
$node->poll_query_until('app', "SELECT count(*) = 1 FROM streamext.pipelines") or die 'totals did not join again';
is_right('the index is back');

is($node->safe_psql('app', "SELECT count(*) FROM streamext.dead_letters"),
	$node->safe_psql('app', "SELECT count(*) FROM history WHERE id % 2003 = 0 AND id NOT BETWEEN 5001 AND 10000"), 'records that were refused, and no others, are dead letters');

done_testing();
