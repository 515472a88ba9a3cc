# Views of the strategies distinct, reduce, retract and session, and one over closed windows,
# under a running worker: rows come all the time while the worker is terminated and the
# server stopped at once, again and again.  In the end each view is its query over all rows.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxRestart;
use Test::More;

my $rounds = 9;
my $node = restart_node('views');

# name => strategy, query over the relation s
my %views = (
	different => ['distinct', 'SELECT k, count(*) AS n, count(DISTINCT x) AS d, sum(DISTINCT x) FILTER (WHERE id % 2 = 0) AS t FROM %s GROUP BY k'],
	latest => ['reduce', 'SELECT DISTINCT ON (k) k, id, x FROM %s ORDER BY k, ts DESC, id'],
	top => ['reduce', 'SELECT id, x FROM %s ORDER BY x DESC, id LIMIT 5'],
	sizes => ['retract', 'SELECT n, count(*) AS keys, sum(m) AS m FROM (SELECT k, count(*) / 10 AS n, max(x) AS m FROM %s GROUP BY k) c GROUP BY n'],
	taken_back => ['retract', 'SELECT count(*) AS keys, sum(n) AS n FROM (SELECT k, count(*) AS n FROM %s GROUP BY k) c'],
	sessions => ['session', q(SELECT k, session_start() AS a, session_end() AS b, count(*) AS n, sum(x) AS x FROM %s GROUP BY k, session(ts, '2 s'))],
	lists => ['session', q(SELECT k, session_start() AS a, session_end() AS b, array_agg(id ORDER BY id) AS ids FROM %s GROUP BY k, session(ts, '2 s'))],
);
my $setup = q(
	SET client_min_messages = error;
	CREATE EXTENSION streamext;
	CREATE STREAM s (k text, id int, x int, ts timestamptz) WITH (connector = 'queue', pipeline = 'p', event_time = 'ts', watermark = '2 seconds', max_batch_rows = 37);
	CREATE TABLE all_s (k text, id int, x int, ts timestamptz);
	CREATE MATERIALIZED VIEW tens WITH (emit = 'final') AS SELECT tumble(ts, '10 s') AS w, k, count(*) AS n FROM s GROUP BY 1, 2;
	CREATE MATERIALIZED VIEW halves WITH (emit = 'final') AS SELECT tumble(w, '30 s') AS w, count(DISTINCT k) AS keys, sum(n) AS n FROM tens GROUP BY 1;
);
$setup .= "CREATE MATERIALIZED VIEW $_ AS " . sprintf($views{$_}[1], 's') . ";\n" foreach sort keys %views;
$node->safe_psql('app', $setup);
foreach my $view (sort keys %views)
{
	is($node->safe_psql('app', "SELECT strategy FROM streamext.views WHERE view = '$view'::regclass"),
		$views{$view}[0], "strategy of $view");
}

my $rows = restart_rounds($node, $rounds, 300, sub {
	my ($first, $last) = @_;
	$node->safe_psql('app', qq(
		WITH new AS MATERIALIZED (
			SELECT CASE WHEN random() < 0.95 THEN 'k' || (random() * 30)::int END AS k, i AS id,
			       (random() * 1000)::int AS x, timestamptz '2025-01-01Z' + i * interval '50 ms' AS ts
			FROM generate_series($first, $last) i),
		kept AS (INSERT INTO all_s SELECT * FROM new)
		INSERT INTO s SELECT * FROM new ORDER BY id));
});
ok($node->poll_query_until('app', "SELECT sum(rows) FROM streamext.batches", $rows), 'all rows were taken, once');

sub same
{
	my ($view, $want, $name) = @_;
	is( $node->safe_psql('app', "SELECT count(*) FROM ((SELECT * FROM $view EXCEPT ALL ($want)) UNION ALL (($want) EXCEPT ALL SELECT * FROM $view)) d"),
		'0', $name);
	cmp_ok($node->safe_psql('app', "SELECT count(*) FROM $view"), '>', 0, "$view has rows");
}

# A session begins where more than the gap has passed since the row before.
my $islands = q((SELECT *, count(*) FILTER (WHERE begins) OVER (PARTITION BY k ORDER BY ts) AS i
	FROM (SELECT *, ts - lag(ts) OVER (PARTITION BY k ORDER BY ts) > interval '2 s' AS begins FROM all_s) g) g);
my %wanted = (
	sessions => "SELECT k, min(ts) AS a, max(ts) + interval '2 s' AS b, count(*) AS n, sum(x) AS x FROM $islands GROUP BY k, i",
	lists => "SELECT k, min(ts) AS a, max(ts) + interval '2 s' AS b, array_agg(id ORDER BY id) AS ids FROM $islands GROUP BY k, i");
same($_, $wanted{$_} // sprintf($views{$_}[1], 'all_s'), "$_ equals its query") foreach sort keys %views;

my $mark = "(timestamptz '2025-01-01Z' + $rows * interval '50 ms' - interval '2 s')";
same('tens', "SELECT tumble(ts, '10 s') AS w, k, count(*) AS n FROM all_s GROUP BY 1, 2 HAVING tumble(ts, '10 s') + interval '10 s' <= $mark",
	'closed windows');
same('halves', "SELECT tumble(ts, '30 s') AS w, count(DISTINCT k), count(*)::numeric AS n FROM all_s GROUP BY 1 HAVING tumble(ts, '30 s') + interval '30 s' <= $mark",
	'windows over closed windows');
is($node->safe_psql('app', "SELECT sum(late_rows) FROM streamext.views"), '0', 'no row was late');
# what cannot be among the first any more is gone
cmp_ok($node->safe_psql('app', "SELECT count(*) FROM streamext_state.latest_1"), '<=', 32, 'one row of each key is kept');
cmp_ok($node->safe_psql('app', "SELECT count(*) FROM streamext_state.top_1"), '<=', 5, 'five rows are kept');

$node->stop;
done_testing();
