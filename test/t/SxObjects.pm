# SxObjects.pm: a database with streams of all kinds, for tests that dump, restore or
# upgrade it.
#
# What pipeline "q" makes is stepped through, with the same batches and batch times
# wherever it is, so it must be the same everywhere; the rest runs to the end of its
# input, and is compared with SQL over that.

package SxObjects;

use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Test::More;

sub new
{
	my ($class) = @_;
	my $self = { dir => PostgreSQL::Test::Utils::tempdir() };
	mkdir "$self->{dir}/$_" or die "mkdir: $!" foreach qw(in out);
	chmod 0777, "$self->{dir}/out", "$self->{dir}/in";
	return bless $self, $class;
}

sub make
{
	my ($self, $node, $db) = @_;
	$node->safe_psql($db, <<"SQL");
SET client_min_messages = warning;
CREATE SCHEMA app;
CREATE TABLE input (seq int, k text, v int, ts timestamptz);
CREATE TABLE names (k text PRIMARY KEY, name text);
INSERT INTO names SELECT 'k' || i, 'name ' || i FROM generate_series(0, 9) i;

CREATE STREAM q (k text NOT NULL, v int, ts timestamptz, no bigint OPTIONS (metadata 'offset'))
    WITH (connector = 'queue', event_time = 'ts', watermark = '5 seconds', paused);
CREATE STREAM doubled AS SELECT k, v * 2 AS v, ts FROM q WHERE v >= 0;
CREATE MATERIALIZED VIEW v_append AS SELECT k, v, name FROM doubled JOIN names USING (k);
CREATE MATERIALIZED VIEW v_merge AS SELECT k, count(*) AS n, sum(v) AS s, avg(v) AS a, stddev(v) AS d FROM q GROUP BY k;
CREATE MATERIALIZED VIEW v_final WITH (emit = 'final') AS SELECT tumble(ts, '10 seconds') AS w, k, count(*) AS n, sum(v) AS s FROM q GROUP BY 1, 2;
CREATE MATERIALIZED VIEW v_slow WITH (emit = '5 seconds') AS SELECT k, max(v) AS m FROM q GROUP BY k;
CREATE MATERIALIZED VIEW v_nodes AS SELECT n, count(*) AS keys, max(s) AS m FROM (SELECT k, count(*) AS n, sum(v) AS s FROM q GROUP BY k) x GROUP BY n;
CREATE STREAM per_batch AS SELECT k, count(*) AS n FROM doubled GROUP BY k;
CREATE STREAM per_batch_t WITH (connector = 'table', table = 'app.per_batch_out') AS SELECT streamext.batch_id() AS b, k, n FROM per_batch;
CREATE STREAM last WITH (connector = 'table', table = 'app.last_out', key = 'k') AS SELECT k, v FROM q;
CREATE STREAM w WITH (window = '8 batches', slide = '1 batch') AS SELECT k, v FROM q;
CREATE STREAM w_sum AS SELECT k, sum(v) AS s, count(*) AS n FROM w GROUP BY k;
CREATE STREAM w_t WITH (connector = 'table', table = 'w_out') AS SELECT streamext.batch_id() AS b, * FROM w_sum;
CREATE TABLE first_counts (k text, state bigint);
INSERT INTO first_counts VALUES ('k1', 100), ('old', 5);
CREATE FUNCTION add_up(state bigint, k text, v int[]) RETURNS bigint LANGUAGE sql AS 'SELECT coalesce(state, 0) + coalesce((SELECT sum(x) FROM unnest(v) x), 0)';
CREATE STREAM counts WITH (update_state = 'add_up', key = 'k', initial_state = 'first_counts') AS SELECT k, v FROM q;
CREATE STREAM counts_t WITH (connector = 'table', table = 'counts_out') AS SELECT streamext.batch_id() AS b, * FROM counts;
CREATE FUNCTION gap(INOUT state timestamptz, k text, ts timestamptz, OUT gap interval) LANGUAGE sql AS 'SELECT ts, ts - state';
CREATE STREAM gaps WITH (map_with_state = 'gap', key = 'k', idle_timeout = '1 hour') AS SELECT k, ts FROM q;
CREATE STREAM gaps_t WITH (connector = 'table', table = 'gaps_out') AS SELECT * FROM gaps;
CREATE STREAM once WITH (deduplicate = 'k, v') AS SELECT k, v FROM q;
CREATE STREAM once_t WITH (connector = 'table', table = 'once_out') AS SELECT * FROM once;
CREATE TABLE calls (b bigint, n bigint);
CREATE FUNCTION note(batch_id bigint, batch_time timestamptz) RETURNS void LANGUAGE plpgsql AS
    \$\$ BEGIN INSERT INTO public.calls SELECT batch_id, count(*) FROM public.noted; END \$\$;
CREATE STREAM noted WITH (connector = 'function', function = 'note') AS SELECT k FROM q;
CREATE STREAM files WITH (connector = 'file', path = '$self->{dir}/out', format = 'csv') AS SELECT k, v FROM q;

-- names that change, columns that go: what a dump writes is not what was typed
ALTER FUNCTION add_up SET SCHEMA app;
ALTER FUNCTION gap RENAME TO between;
ALTER FUNCTION note RENAME TO "Note it";
ALTER TABLE first_counts RENAME TO counts_then;
ALTER STREAM w RENAME TO wide;
ALTER MATERIALIZED VIEW v_merge SET SCHEMA app;

CREATE TABLE orders (gone int, id int, amount int);
CREATE STREAM new_orders (id int, gone int, amount int) WITH (connector = 'table', table = 'orders');
CREATE MATERIALIZED VIEW order_sum AS SELECT count(*) AS n, sum(amount) AS s, sum(id) AS ids FROM new_orders;
ALTER STREAM new_orders DROP COLUMN gone;
ALTER TABLE orders DROP COLUMN gone;
ALTER TABLE orders RENAME COLUMN id TO order_id;
ALTER STREAM new_orders RENAME TO followed;

CREATE STREAM lines (x int) WITH (connector = 'file', path = '$self->{dir}/in', format = 'csv', pipeline = 'lines');
CREATE MATERIALIZED VIEW line_sum AS SELECT count(*) AS n, sum(x) AS s FROM lines;
CREATE STREAM numbers (value bigint, "timestamp" timestamptz) WITH (connector = 'rate', rows_per_second = 1000);
CREATE MATERIALIZED VIEW number_sum AS SELECT count(*) AS n, max(value) AS m, sum(value) AS s FROM numbers;
CREATE FUNCTION pull(at jsonb, max_rows int) RETURNS TABLE ("position" jsonb, i int) LANGUAGE sql STABLE SET search_path = public AS
    'SELECT to_jsonb(seq), seq FROM input WHERE seq > coalesce(at::int, 0) ORDER BY seq LIMIT max_rows';
CREATE STREAM pulled (i int) WITH (connector = 'function', function = 'pull', poll_interval = '100 ms');
CREATE MATERIALIZED VIEW pull_sum AS SELECT count(*) AS n, sum(i) AS s FROM pulled;
CREATE STREAM wire (line text) WITH (connector = 'socket', host = '127.0.0.1', port = '9', paused);
CREATE MATERIALIZED VIEW wire_sum AS SELECT count(*) AS n FROM wire;
SQL
	return;
}

# Rows for round n: 50 for the queue and as many for the others.
sub feed
{
	my ($self, $node, $db, $round) = @_;
	$node->safe_psql($db, <<"SQL");
INSERT INTO input SELECT $round * 50 + i, 'k' || (i * 7 + $round) % 10, i - 3, '2024-01-01'::timestamptz + ($round * 50 + i) * interval '1 second'
    FROM generate_series(1, 50) i;
INSERT INTO q (k, v, ts) SELECT k, v, ts FROM input WHERE seq BETWEEN $round * 50 + 1 AND $round * 50 + 50 ORDER BY seq;
INSERT INTO orders (order_id, amount) SELECT seq, v FROM input WHERE seq BETWEEN $round * 50 + 1 AND $round * 50 + 50;
SQL
	my $file = "$self->{dir}/in/$round.csv";
	return if -e $file;
	append_to_file("$file.tmp", join('', map { $_ + 100 * $round . "\n" } 1 .. 50));
	rename "$file.tmp", $file or die "rename: $!";
	return;
}

# Batches of pipeline q, at times that are the same wherever they are run.
sub step
{
	my ($self, $node, $db, $round) = @_;
	return $node->safe_psql($db, "SELECT batch_id, rows, dead_letters FROM streamext.step('q', '2024-01-01'::timestamptz + $round * interval '1 minute')");
}

# All that pipeline q has made.
sub shot
{
	my ($self, $node, $db) = @_;
	return $node->safe_psql($db, <<'SQL');
SELECT 'append', * FROM v_append ORDER BY 2, 3;
SELECT 'merge', * FROM app.v_merge ORDER BY k;
SELECT 'final', * FROM v_final ORDER BY w, k;
SELECT 'nodes', * FROM v_nodes ORDER BY n;
SELECT 'slow', * FROM v_slow ORDER BY k;
SELECT 'batch', * FROM app.per_batch_out ORDER BY 2, 3;
SELECT 'last', * FROM app.last_out ORDER BY 2;
SELECT 'window', * FROM w_out ORDER BY 2, 3;
SELECT 'counts', * FROM counts_out ORDER BY 2, 3;
SELECT 'gaps', * FROM gaps_out ORDER BY 2;
SELECT 'once', * FROM once_out ORDER BY 2, 3;
SELECT 'calls', * FROM calls ORDER BY 2;
SELECT 'state', * FROM streamext_state.gaps ORDER BY k;
SELECT 'rows', view, rows, late_rows FROM streamext.views WHERE pipeline = 'q' ORDER BY view::text;
SELECT 'position', pipeline, stream, watermark FROM streamext.partitions WHERE pipeline = 'q';
SELECT 'batches', count(*), sum(rows) FROM streamext.batches WHERE pipeline = 'q';
SQL
}

# The views that can be told from the input, against SQL over it.
sub oracle
{
	my ($self, $node, $db, $what, $upto) = @_;
	is($node->safe_psql($db, <<"SQL"), '', "$what: equal to SQL over the input");
WITH i AS (SELECT * FROM input WHERE seq <= $upto),
a AS (SELECT k, v * 2 AS v, name FROM i JOIN names USING (k) WHERE v >= 0),
m AS (SELECT k, count(*) AS n, sum(v) AS s, round(stddev(v), 6) AS d FROM i GROUP BY k),
o AS (SELECT n, count(*) AS keys, max(s) AS m FROM m GROUP BY n),
c AS (SELECT k, sum(v) + CASE k WHEN 'k1' THEN 100 ELSE 0 END AS state FROM i GROUP BY k UNION ALL SELECT 'old', 5)
(SELECT 'append', a::text FROM (TABLE a EXCEPT ALL TABLE v_append) a) UNION ALL
(SELECT 'append', a::text FROM (TABLE v_append EXCEPT ALL TABLE a) a) UNION ALL
(SELECT 'merge', m::text FROM (TABLE m EXCEPT ALL SELECT k, n, s, round(d, 6) FROM app.v_merge) m) UNION ALL
(SELECT 'nodes', o::text FROM (TABLE o EXCEPT ALL TABLE v_nodes) o) UNION ALL
(SELECT 'nodes', o::text FROM (TABLE v_nodes EXCEPT ALL TABLE o) o) UNION ALL
(SELECT 'counts', c::text FROM (TABLE c EXCEPT ALL SELECT k, state FROM streamext_state.counts) c) UNION ALL
(SELECT 'once', o::text FROM (SELECT DISTINCT k, v FROM i EXCEPT ALL TABLE once_out) o) UNION ALL
(SELECT 'once', o::text FROM (TABLE once_out EXCEPT ALL SELECT DISTINCT k, v FROM i) o)
SQL
	return;
}

# What runs: to the end of its input, and right.  rounds: how many were fed.
sub settled
{
	my ($self, $node, $db, $what, $rounds) = @_;
	my $n = $rounds * 50;
	ok($node->poll_query_until($db, "SELECT n = $n AND s = (SELECT sum(v) FROM input) AND ids = (SELECT sum(seq) FROM input) FROM order_sum"),
		"$what: the followed table");
	ok($node->poll_query_until($db, "SELECT n = $n AND s = (SELECT sum(seq) FROM input) FROM pull_sum"), "$what: the custom receiver");
	ok($node->poll_query_until($db, "SELECT n = $n AND s = (SELECT sum(x + 100 * r) FROM generate_series(1, 50) x, generate_series(0, $rounds - 1) r) FROM line_sum"),
		"$what: the files");
	is($node->safe_psql($db, 'SELECT n = m + 1 AND s = m * (m + 1) / 2 FROM number_sum'), 't', "$what: the numbers, each once");
	return;
}

# Which pipelines there are and how they stand.
sub states
{
	my ($self, $node, $db) = @_;
	return $node->safe_psql($db, "SELECT string_agg(pipeline || ' ' || state || ' ' || coalesce(error_sqlstate, '-'), ', ' ORDER BY pipeline) FROM streamext.pipelines");
}

1;
