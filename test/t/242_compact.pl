# Rows that move to the front of a sparse state table: under records that a snapshot keeps many
# versions of, with values in TOAST, a row that somebody has locked, batches that are rolled
# back; and a table that is published, whose rows stay where they are.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = PostgreSQL::Test::Cluster->new('compact');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'streamext'
wal_level = logical
max_worker_processes = 16
autovacuum = off
CONF
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION streamext;
	CREATE FUNCTION wide(n bigint) RETURNS text LANGUAGE sql IMMUTABLE AS
		$$SELECT string_agg(md5((n * 1000 + i)::text), '') FROM generate_series(1, 100) i$$;
	CREATE TABLE bad (value bigint);
	CREATE FUNCTION checked(v bigint) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
	BEGIN
		IF EXISTS (SELECT FROM public.bad WHERE bad.value = v / 20) THEN RAISE 'no good: %', v; END IF;
		RETURN v;
	END$$;
	CREATE FUNCTION counted(state bigint, k text, value bigint[]) RETURNS bigint LANGUAGE sql AS
		'SELECT coalesce(state, 0) + cardinality(value)';
	CREATE STREAM ticks (value bigint, "timestamp" timestamptz) WITH (connector = 'rate', rows_per_second = 100000, max_batch_rows = 500);
	CREATE MATERIALIZED VIEW names AS SELECT 'k' || value % 2000 AS k, NULLIF(value % 4, 3) AS part, count(*) AS n, max(value) AS last FROM ticks GROUP BY 1, 2;
	CREATE STREAM counts WITH (update_state = 'counted', key = 'k', changed_only = true) AS SELECT 'k' || value % 1000 AS k, value FROM ticks;
	CREATE STREAM away WITH (connector = 'null') AS SELECT * FROM counts;
	CREATE STREAM wide_ticks (value bigint, "timestamp" timestamptz) WITH (connector = 'rate', rows_per_second = 1000, max_batch_rows = 50);
	CREATE MATERIALIZED VIEW wides AS SELECT value % 300 AS k, count(*) AS n, max(wide(value % 300)) AS w, max(checked(value)) AS last FROM wide_ticks GROUP BY 1;
	CREATE STREAM other_ticks (value bigint, "timestamp" timestamptz) WITH (connector = 'rate', rows_per_second = 100000, max_batch_rows = 500);
	CREATE MATERIALIZED VIEW published AS SELECT value % 1000 AS k, count(*) AS n FROM other_ticks GROUP BY 1;
	CREATE PUBLICATION p FOR TABLE streamext_state.published WITH (publish = 'insert');});

sub answer { return $node->safe_psql('postgres', $_[0]) }
sub becomes { my ($query, $name) = @_; return ok($node->poll_query_until('postgres', $query), $name) }

my @tables = map { "streamext_state.$_" } qw(names counts wides published);

sub pages { return answer("SELECT pg_relation_size('$_[0]') / 8192") }

# Each pipeline has made so many batches more.
sub batches
{
	my ($n) = @_;
	my %from = map { split /\|/ } split /\n/, answer('SELECT pipeline, batch_id FROM streamext.pipelines');
	$node->poll_query_until('postgres', "SELECT batch_id >= $from{$_} + $n FROM streamext.pipelines WHERE pipeline = '$_'") || BAIL_OUT("no batches of $_") foreach keys %from;
	return;
}

# VACUUM now and then, until the rows stand in the first half of what the table was.
sub shrinks
{
	my ($table, $from) = @_;
	my $until = time + 120;
	while (time < $until)
	{
		answer("VACUUM $table");
		return 1 if pages($table) <= $from / 2;
	}
	return 0;
}

# Heaps and indexes as amcheck wants them, where it is installed.
my $has_amcheck = answer("SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'");
answer('CREATE EXTENSION amcheck') if $has_amcheck;

sub sound
{
	my ($when) = @_;
	SKIP:
	{
		skip 'amcheck is not installed', scalar @tables if !$has_amcheck;
		foreach my $table (@tables)
		{
			my $faults = answer("SELECT string_agg(msg, '; ') FROM verify_heapam('$table')");
			answer("SELECT bt_index_parent_check(indexrelid, true) FROM pg_index WHERE indrelid = '$table'::regclass");
			is($faults, '', "$table is sound $when");
		}
	}
	return;
}

becomes('SELECT (SELECT count(*) FROM names) = 2000 AND (SELECT count(*) FROM wides) = 300 AND (SELECT count(*) FROM published) = 1000', 'all keys are there');
answer("VACUUM $_") foreach @tables;
my $reader = $node->background_psql('postgres');
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
my %large;
foreach my $table (@tables)
{
	$node->poll_query_until('postgres', "SELECT pg_relation_size('$table') >= 80 * 8192") || BAIL_OUT("$table does not grow");
}
$large{$_} = pages($_) foreach @tables;
$reader->quit;

# A row at the end that somebody has locked stays, and keeps nobody waiting.
# (Who wants to lock one that is being moved gets an error: the next one, then.)
my $locker = $node->background_psql('postgres', on_error_stop => 0);
my $locked = '';
for (my $i = 0; $i < 100 && $locked !~ /locked/; $i++)
{
	$locked = $locker->query(q{ROLLBACK; BEGIN; SELECT 'locked' FROM streamext_state.names WHERE ctid = (SELECT max(ctid) FROM streamext_state.names) FOR KEY SHARE});
	$locker->{stderr} = '';
}
like($locked, qr/locked/, 'a row at the end is locked');
# Some batches fail, and with them the moves that they have made.
answer('INSERT INTO bad SELECT (SELECT max(last) FROM wides) / 20 + i FROM generate_series(100, 102) i');
becomes('SELECT count(*) = 60 FROM streamext.dead_letters', 'batches fail');
batches(50);
pass('nobody waits for the lock');
sound('while rows move');
$locker->query_safe('COMMIT');
$locker->quit;
ok(shrinks($_, $large{$_}), "$_ becomes small again (of $large{$_} pages)") foreach @tables[0 .. 2];

# Who subscribes to INSERTs alone would get keys that are there.
batches(20);
answer('VACUUM streamext_state.published') foreach 1 .. 3;
cmp_ok(pages('streamext_state.published'), '>', $large{'streamext_state.published'} / 2, 'a published table stays as it is');
answer('DROP PUBLICATION p');
ok(shrinks($tables[3], $large{ $tables[3] }), 'and becomes small, too, when it is published no more');

# What was moved is what it was.
answer("SELECT streamext.pause(pipeline) FROM streamext.pipelines");
becomes("SELECT bool_and(state = 'paused') FROM streamext.pipelines", 'all stand still');
is(answer(q{SELECT count(*) FROM (
	WITH all_ticks AS (SELECT generate_series(0, (SELECT max(last) FROM names)) AS value)
	(SELECT 'k' || value % 2000 AS k, NULLIF(value % 4, 3) AS part, count(*) AS n, max(value) AS last FROM all_ticks GROUP BY 1, 2 EXCEPT ALL SELECT * FROM names) UNION ALL
	(SELECT * FROM names EXCEPT ALL SELECT 'k' || value % 2000, NULLIF(value % 4, 3), count(*), max(value) FROM all_ticks GROUP BY 1, 2)) d}), '0', 'every group is right');
is(answer(q{SELECT count(*), sum(state) = (SELECT max(last) + 1 FROM names) FROM streamext_state.counts}), '1000|t', 'and every state');
is(answer(q{SELECT count(*), bool_and(w = wide(k)), sum(n) + (SELECT count(*) FROM streamext.dead_letters) = max(last) + 1
	FROM wides}), '300|t|t', 'and what is in TOAST');
is(answer(q{SELECT count(*), max(n) - min(n) <= 1 FROM published}), '1000|t', 'and the published ones');
sound('at the end');
ok(!$node->log_contains('terminated by signal|PANIC|TRAP:|changed by another session'), 'nothing crashed, no conflict');
$node->stop;
done_testing();
