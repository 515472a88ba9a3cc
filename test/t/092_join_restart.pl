# Joins of streams under a running worker: rows of both sides come all the time while
# the worker is terminated and the server stopped at once, again and again.  In the end
# each pair is there once, each row without a match once, and what is kept of both sides
# is what can still meet a partner.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxRestart;
use Test::More;

my $rounds = 9;
my $node = restart_node('join');

my $left = "SELECT l.id, r.id AS rid FROM %1\$s l LEFT JOIN %2\$s r ON l.k = r.k AND r.ts BETWEEN l.ts AND l.ts + interval '10 s'";
my $full = "SELECT l.id, r.id AS rid FROM %1\$s l FULL JOIN %2\$s r ON l.k = r.k AND r.ts BETWEEN l.ts AND l.ts + interval '10 s'";
my $semi = "SELECT l.id FROM %1\$s l WHERE EXISTS (SELECT FROM %2\$s r WHERE l.k = r.k AND r.ts BETWEEN l.ts AND l.ts + interval '10 s')";
my $sql = sub { my ($form, $l, $r) = @_; return sprintf($form, $l, $r); };

$node->safe_psql('app', sprintf(q(
	CREATE EXTENSION streamext;
	CREATE STREAM l (k text, id int, ts timestamptz) WITH (connector = 'queue', pipeline = 'p', event_time = 'ts', watermark = '2 seconds', max_batch_rows = 37);
	CREATE STREAM r (k text, id int, ts timestamptz) WITH (connector = 'queue', pipeline = 'p', event_time = 'ts', watermark = '2 seconds');
	CREATE TABLE all_l (k text, id int, ts timestamptz);
	CREATE TABLE all_r (k text, id int, ts timestamptz);
	CREATE MATERIALIZED VIEW v_left AS %s;
	CREATE MATERIALIZED VIEW v_full WITH (emit = 'final') AS %s;
	CREATE MATERIALIZED VIEW v_semi AS %s;
	), $sql->($left, 'l', 'r'), $sql->($full, 'l', 'r'), $sql->($semi, 'l', 'r')));

my $rows = restart_rounds($node, $rounds, 300, sub {
	my ($first, $last) = @_;
	foreach my $side ('l', 'r')
	{
		$node->safe_psql('app', qq(
			WITH new AS MATERIALIZED (
				SELECT CASE WHEN random() < 0.95 THEN 'k' || (random() * 30)::int END AS k, i AS id,
				       timestamptz '2025-01-01Z' + i * interval '50 ms' AS ts
				FROM generate_series($first, $last) i),
			kept AS (INSERT INTO all_$side SELECT * FROM new)
			INSERT INTO $side SELECT * FROM new ORDER BY id));
	}
});
ok($node->poll_query_until('app', "SELECT sum(rows) FROM streamext.batches", 2 * $rows), 'all rows were taken, once');

sub same
{
	my ($view, $want, $name) = @_;
	is( $node->safe_psql('app', "SELECT count(*) FROM ((SELECT * FROM $view EXCEPT ALL ($want)) UNION ALL (($want) EXCEPT ALL SELECT * FROM $view)) d"),
		'0', $name);
}
my $mark = "(timestamptz '2025-01-01Z' + $rows * interval '50 ms' - interval '2 s')";
same('v_left', $sql->($left, 'all_l', 'all_r'), 'left join: each pair once, rows without a match taken back');
same('v_semi', $sql->($semi, 'all_l', 'all_r'), 'semi join: each row once');
same('v_full',
	$sql->($full, 'all_l', 'all_r')
	  . " WHERE (l.id IS NOT NULL AND r.id IS NOT NULL) OR coalesce(l.ts + interval '10 s' <= $mark, r.ts <= $mark)",
	'full join, final: rows without a match once, when their bound has passed');
is($node->safe_psql('app', "SELECT sum(late_rows) FROM streamext.views"), '0', 'no row was late');
# 12 seconds of 50 ms, 2 seconds of 50 ms
is($node->safe_psql('app', "SELECT count(*) FROM streamext_state.v_left_1"), '240', 'rows of l that can still meet one are kept');
is($node->safe_psql('app', "SELECT count(*) FROM streamext_state.v_left_2"), '40', 'rows of r that can still meet one are kept');

$node->stop;
done_testing();
