# Keyed state under a running worker: rows come all the time while the worker is
# terminated and the server stopped at once, again and again.  In the end each key's
# state, and the rows that each call gave, must be as if nothing had happened.  Then:
# time-outs come by timer, without data, once for each key, and over a restart.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxRestart;
use Test::More;

my $rounds = 12;
my $node = restart_node('state');
$node->safe_psql('app', q(
	CREATE EXTENSION streamext;
	CREATE STREAM q (k text, id int) WITH (connector = 'queue', max_batch_rows = 37);
	CREATE FUNCTION number(INOUT state int, k text, id int, OUT key text, OUT i int, OUT n int) LANGUAGE plpgsql AS
		'BEGIN state := coalesce(state, 0) + 1; key := k; i := id; n := state; END';
	CREATE FUNCTION gather(state int, k text, id int[]) RETURNS int LANGUAGE sql AS
		'SELECT coalesce(state, 0) + cardinality(id)';
	CREATE STREAM numbered WITH (map_with_state = 'number', key = 'k') AS SELECT k, id FROM q;
	CREATE STREAM gathered WITH (update_state = 'gather', key = 'k', changed_only) AS SELECT k, id FROM q;
	SET client_min_messages = error;
	CREATE STREAM firsts WITH (deduplicate = 'k') AS SELECT k, id FROM q;
	CREATE STREAM numbered_out WITH (connector = 'table', table = 'numbered_t') AS SELECT * FROM numbered;
	CREATE STREAM gathered_out WITH (connector = 'null') AS SELECT * FROM gathered;
	CREATE STREAM firsts_out WITH (connector = 'table', table = 'firsts_t') AS SELECT * FROM firsts;));

sub becomes
{
	my ($query, $expected, $name) = @_;
	ok($node->poll_query_until('app', $query, $expected), $name);
}

my $rows = restart_rounds($node, $rounds, 400, sub {
	my ($first, $last) = @_;
	$node->safe_psql('app', "INSERT INTO q SELECT 'key ' || (random() * 60)::int, i FROM generate_series($first, $last) i");
});
becomes("SELECT count(*) FROM numbered_t", $rows, "every row was numbered, once");
is($node->safe_psql('app', "SELECT count(DISTINCT i) FROM numbered_t"), $rows, 'none twice');
is( $node->safe_psql('app', "SELECT count(*) FROM (SELECT n, row_number() OVER (PARTITION BY key ORDER BY n) AS r FROM numbered_t) x WHERE n <> r"),
	'0', 'the numbers of each key have neither gap nor repetition');
is( $node->safe_psql('app', "SELECT count(*) FROM streamext_state.numbered s FULL JOIN (SELECT key, max(n) AS n FROM numbered_t GROUP BY 1) x ON s.k = x.key WHERE s.state IS DISTINCT FROM x.n"),
	'0', 'the states are those of the last calls');
is( $node->safe_psql('app', "SELECT count(*) FROM streamext_state.numbered n FULL JOIN streamext_state.gathered g USING (k) WHERE n.state IS DISTINCT FROM g.state"),
	'0', 'update_state has counted the same');
is( $node->safe_psql('app', "SELECT count(*), count(DISTINCT k), (SELECT count(*) FROM streamext_state.firsts) = count(*) FROM firsts_t"),
	$node->safe_psql('app', "SELECT count(*), count(*), true FROM streamext_state.numbered"), 'each key went on once');

# the first rows were the first, as they were inserted
is( $node->safe_psql('app', "SELECT count(*) FROM firsts_t f JOIN (SELECT key, min(i) AS i FROM numbered_t WHERE n = 1 GROUP BY 1) x ON x.key = f.k WHERE x.i <> f.id"),
	'0', 'and it was the first row of each');
is($node->safe_psql('app', "SELECT count(*) FROM streamext.dead_letters"), '0', 'no record was blamed');

# ---------------------------------------------------------------- time-outs without data
$node->safe_psql('app', q(
	CREATE STREAM t (k text, v int) WITH (connector = 'queue');
	CREATE FUNCTION watch(INOUT state int, k text, v int, OUT key text, OUT gone boolean, OUT at timestamptz, OUT wall timestamptz) LANGUAGE plpgsql AS
		'BEGIN state := coalesce(state, 0) + 1; key := k; gone := streamext.timing_out(); at := streamext.batch_time(); wall := clock_timestamp(); END';
	CREATE STREAM watched WITH (map_with_state = 'watch', key = 'k', idle_timeout = '700 milliseconds') AS SELECT k, v FROM t;
	CREATE STREAM watched_out WITH (connector = 'table', table = 'watched_t') AS SELECT * FROM watched;
	INSERT INTO t SELECT 'key ' || i, i FROM generate_series(1, 100) i;));
becomes("SELECT count(*) FROM watched_t WHERE gone", '100', 'time-outs come without data');
is($node->safe_psql('app', "SELECT count(*) FROM streamext_state.watched"), '0', 'and the keys are gone');
is( $node->safe_psql('app', "SELECT count(*) FROM watched_t a JOIN watched_t b USING (key) WHERE b.gone AND NOT a.gone AND b.at >= a.at + interval '700 milliseconds'"),
	'100', 'none of them early');

# the timer is found again after a crash
$node->safe_psql('app', "INSERT INTO t VALUES ('late', 1)");
becomes("SELECT count(*) FROM watched_t WHERE key = 'late' AND NOT gone", '1', 'a key is there');
$node->stop('immediate');
$node->start;
becomes("SELECT count(*) FROM watched_t WHERE key = 'late' AND gone", '1', 'and times out after a crash of the server');
is($node->safe_psql('app', "SELECT count(*) FROM watched_t WHERE gone"), '101', 'once');

# nothing is done while there is nothing to do
my $batches = "SELECT batch_id FROM streamext.pipelines WHERE pipeline LIKE '%t' ORDER BY id DESC LIMIT 1";
my $before = $node->safe_psql('app', $batches);
$node->safe_psql('app', "SELECT streamext.wait('t')") for 1 .. 20;
is($node->safe_psql('app', $batches), $before, 'no batch without a timer');

$node->stop;
done_testing();
