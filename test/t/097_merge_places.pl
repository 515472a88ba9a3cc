# A view with one row a key is merged by hand: rows where they are remembered to stand,
# others by the index, with the expressions of its statement; or by the statement, where
# its table is not plain.  Everything here makes what is remembered wrong, or changes between
# the two ways.  After each of them all keys get rows again, and every view must be its own
# SELECT over the rows that were accepted.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $keys = 3000;
my $seed = $ENV{SEED} // int(rand(1_000_000));
diag("seed $seed");

my $node = PostgreSQL::Test::Cluster->new('merged');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'streamext'
max_worker_processes = 16
autovacuum = off
CONF
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE app');

# Keys: of equal values in several forms, NULL at times, of a collation that takes other texts
# for equal, and none at all.  Columns: sums that add, extremes, a stored state, what goes into
# TOAST.  The division fails for every 501st record, whose place in the batch is any.
my %query = (
	plain => 'SELECT a, b, count(*) AS n, sum(id) AS s, avg(id) AS mean, min(id) AS low, max(b) AS high FROM ROWS GROUP BY a, b',
	fails => 'SELECT a, count(*) AS n, sum(1000 / (id % 501)) AS s FROM ROWS GROUP BY a',
	stored => 'SELECT b, a, round(stddev(id), 6) AS d, bit_or(id) AS bits, length(max(repeat(md5(id::text), 90))) AS long FROM ROWS GROUP BY b, a',
	folded => 'SELECT c COLLATE folded AS c, count(*) AS n, sum(id) FILTER (WHERE id % 3 = 0) AS s FROM ROWS GROUP BY 1 HAVING count(*) > 1',
	whole => 'SELECT count(*) AS n, sum(id) AS s, max(id) AS m FROM ROWS',
	seen => 'SELECT a, b FROM ROWS GROUP BY a, b',
	above => 'SELECT n, count(*) AS keys FROM (SELECT a, count(*) AS n FROM ROWS GROUP BY a) x GROUP BY n',
	several => 'SELECT a % 10 AS tens, id % 2 = 0 AS even, array_agg(DISTINCT id % 5) AS rests, count(*) AS n FROM ROWS GROUP BY 1, 2');
$node->safe_psql('app', q(
	CREATE EXTENSION streamext;
	CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
	CREATE STREAM q (a numeric, b text, c text, id int) WITH (connector = 'queue', max_batch_rows = 2500);
	CREATE TABLE history (a numeric, b text, c text, id int);
	SET client_min_messages = error;)
	. join('', map { "CREATE MATERIALIZED VIEW $_ AS " . ($query{$_} =~ s/ROWS/q/r) . ';' } sort keys %query)
	. "CREATE MATERIALIZED VIEW forgets WITH (state_ttl = '1 day') AS SELECT a, count(*) AS n, sum(id) AS s FROM q GROUP BY a;");
$query{forgets} = 'SELECT a, count(*) AS n, sum(id) AS s FROM ROWS GROUP BY a';

my $rows = 0;

# Rows for every key, in random order, and for some of them twice.
sub feed
{
	$node->safe_psql('app', qq(
		SELECT setseed(@{[ $seed / 1_000_000 ]} * ($rows % 7) / 7);
		WITH x AS (SELECT i % $keys AS k, row_number() OVER (ORDER BY random()) + $rows AS id FROM generate_series(1, $keys * 5 / 4) i),
		new AS (INSERT INTO history SELECT CASE WHEN k % 97 > 0 THEN CASE id % 3 WHEN 0 THEN k ELSE round(k, (id % 3)::int) END END,
			CASE WHEN k % 7 > 0 THEN 'b' || k % 5 END, CASE id % 2 WHEN 0 THEN 'key ' ELSE 'KEY ' END || k, id FROM x ORDER BY id RETURNING *)
		INSERT INTO q SELECT * FROM new ORDER BY id;));
	$rows += $keys * 5 / 4;
}

# numeric has one form for each of its values, of which a view keeps the first
sub is_right
{
	my ($name) = @_;
	$node->safe_psql('app', "SELECT streamext.wait('q')");
	foreach my $view (sort keys %query)
	{
		my $accepted = $view eq 'fails' ? '(SELECT * FROM history WHERE id % 501 <> 0) h' : 'history h';
		my $batch = $query{$view} =~ s/ROWS/$accepted/r;
		is($node->safe_psql('app', "WITH batch AS MATERIALIZED ($batch) SELECT (SELECT count(*) FROM (TABLE batch EXCEPT ALL TABLE $view) x),
			(SELECT count(*) FROM (TABLE $view EXCEPT ALL TABLE batch) x)"), '0|0', "$name: $view");
	}
}

sub sql
{
	my ($sql) = @_;
	return sub { $node->safe_psql('app', $sql) };
}

# attack NAME, SUB
sub attack
{
	my ($name, $sub) = @_;
	$sub->();
	feed();
	is_right($name);
}

# Scans of the index of a table's keys, when the worker has told all of them.
sub scans
{
	my ($table) = @_;
	$node->safe_psql('app', "SELECT streamext.pause('q')");
	$node->poll_query_until('app', 'SELECT count(*) = 0 FROM streamext.pipelines WHERE pid IS NOT NULL');
	my $scans = $node->safe_psql('app', "SELECT sum(idx_scan) FROM pg_stat_user_indexes WHERE schemaname = 'streamext_state' AND relname = '$table'");
	$node->safe_psql('app', "SELECT streamext.resume('q')");
	return $scans;
}

feed();
is_right('first rows');
feed();
is_right('known keys');

# Both ways are taken here: by hand few look-ups of a new worker go to the index, and each
# row that the statement merges is looked up there.
my $before = scans('plain');
for (1 .. 2) { feed(); $node->safe_psql('app', "SELECT streamext.wait('q')"); }
my $by_hand = scans('plain') - $before;
cmp_ok($by_hand, '<', $keys, "rows are found where they stand ($by_hand look-ups in the index)");
$node->safe_psql('app', 'CREATE UNIQUE INDEX own ON streamext_state.plain (b, a) NULLS NOT DISTINCT');
$before = scans('plain');
feed();
is_right('a unique index of the owner');
my $by_statement = scans('plain') - $before;
cmp_ok($by_statement, '>=', $keys, "then the statement is taken ($by_statement look-ups)");
attack('without it', sql('DROP INDEX streamext_state.own'));

my @tables = map { "streamext_state.$_" } qw(plain fails stored folded whole seen forgets);
my $all = sub { my ($what) = @_; return sub { $node->safe_psql('app', $what =~ s/EACH/$_/r) foreach @tables } };
attack('VACUUM', $all->('VACUUM (FREEZE) EACH'));
attack('VACUUM FULL', $all->('VACUUM FULL EACH'));
attack('rows moved to and fro', sql('BEGIN; CLUSTER streamext_state.plain USING plain_a_b_idx; ROLLBACK'));
attack('rows moved', sql('UPDATE streamext_state.plain SET n = n; UPDATE streamext_state.folded SET n = n WHERE n % 2 = 0'));
attack('REINDEX', $all->('REINDEX TABLE CONCURRENTLY EACH'));
attack('an index that ends HOT updates', sql('CREATE INDEX i_n ON streamext_state.plain (n); CREATE INDEX ON streamext_state.stored (bits) WHERE a > 5'));
is($node->safe_psql('app', q(SET enable_seqscan = off; SET enable_bitmapscan = off;
	SELECT (SELECT sum(n) FROM streamext_state.plain WHERE n > 0) = (SELECT count(*) FROM history))), 't', 'the index has all rows');
attack('a trigger', sql(q(CREATE TABLE told (n bigint);
	CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.told VALUES (NEW.n); RETURN NULL; END';
	CREATE TRIGGER tell AFTER UPDATE ON streamext_state.folded FOR EACH ROW EXECUTE FUNCTION tell();)));
cmp_ok($node->safe_psql('app', 'SELECT count(*) FROM told'), '>=', $keys, 'the trigger was called for each row');
attack('a check', sql('DROP TRIGGER tell ON streamext_state.folded; ALTER TABLE streamext_state.folded ADD CONSTRAINT positive CHECK (n > 0)'));
attack('a column more', sql('ALTER TABLE streamext_state.folded DROP CONSTRAINT positive; ALTER TABLE streamext_state.folded ADD COLUMN note text DEFAULT \'none\''));
attack('batches of another session, one of them rolled back', sub {
	$node->safe_psql('app', "SELECT streamext.pause('q')");
	feed();
	$node->safe_psql('app', "BEGIN; SELECT count(*) FROM streamext.step('q'); ROLLBACK; SELECT count(*) FROM streamext.step('q')");
	$node->safe_psql('app', "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM streamext.step('q'); COMMIT; SELECT streamext.resume('q')");
});
attack('a server that stops in the middle', sub { feed(); $node->stop('immediate'); $node->start });
attack('no memory for places', sub {
	$node->safe_psql('app', "ALTER SYSTEM SET streamext.state_cache = 0");
	$node->safe_psql('app', "SELECT pg_reload_conf(); SELECT streamext.pause('q')");
	$node->safe_psql('app', "SELECT streamext.resume('q')");
});
attack('little of it', sub {
	$node->safe_psql('app', "ALTER SYSTEM SET streamext.state_cache = '8kB'");
	$node->safe_psql('app', "SELECT pg_reload_conf(); SELECT streamext.pause('q')");
	$node->safe_psql('app', "SELECT streamext.resume('q')");
});
is($node->safe_psql('app', "SELECT count(*), count(DISTINCT message) FROM streamext.dead_letters"),
	$node->safe_psql('app', "SELECT count(*), 1 FROM history WHERE id % 501 = 0"), 'rows that failed, and no others, are dead letters');

done_testing();
