-- Operating: step, pause, resume, reset, the views of streamext, and what views and
-- sinks do in a batch.
SET timezone = 'UTC';
SET client_min_messages = warning;
CREATE SCHEMA operate;
SET search_path = operate, public;

-- step(): a batch in the caller's transaction
CREATE STREAM s (k text, v int, ts timestamptz) WITH (connector = 'queue', pipeline = 'operate', paused, max_batch_rows = 4,
    event_time = 'ts', watermark = '10 seconds');
CREATE MATERIALIZED VIEW rows AS SELECT streamext.batch_id() AS b, streamext.batch_time() AS at, now() AS now, current_date AS d, streamext.watermark('s') AS wm, k, v FROM s;
CREATE MATERIALIZED VIEW per_k AS SELECT k, count(*) AS n, sum(v) AS s, max(streamext.batch_id()) AS last_batch FROM s GROUP BY k;
CREATE MATERIALIZED VIEW overall AS SELECT count(*) AS n, max(v) AS m FROM s;
-- nothing there: no row, no batch
SELECT * FROM streamext.step('operate', '2024-02-01Z');
SELECT * FROM streamext.step('operate', NULL);
SELECT * FROM streamext.step(NULL);
SELECT * FROM streamext.step('nowhere');
SELECT * FROM streamext.step('operate', 'infinity');
INSERT INTO s VALUES ('a', 1, '2024-01-01 00:00:30'), ('b', 2, '2024-01-01 00:00:20'), ('a', 3, '2024-01-01 00:00:40'), (NULL, 4, '2024-01-01 00:00:10'), ('a', 5, '2024-01-01 00:00:50');
SELECT batch_id, batch_time, rows, bytes > 0 AS has_bytes, dead_letters FROM streamext.step('operate', '2024-02-01 12:00Z');
BEGIN;
SELECT batch_id, batch_time, rows FROM streamext.step('operate', '2024-02-02 12:00Z');
SELECT * FROM per_k ORDER BY k;
SELECT watermark FROM streamext.pipelines;
ROLLBACK;
SELECT * FROM per_k ORDER BY k;
SELECT batch_id FROM streamext.progress;
-- again, and now it counts; a savepoint is as good
BEGIN;
SAVEPOINT x;
SELECT batch_id, batch_time, rows FROM streamext.step('operate', '2024-02-03 12:00Z');
ROLLBACK TO x;
SELECT batch_id, batch_time, rows FROM streamext.step('rows', '2024-02-04 12:00Z');
SELECT batch_id, batch_time, rows FROM streamext.step('rows', '2024-02-04 12:00Z');
COMMIT;
SELECT * FROM rows ORDER BY v;
SELECT * FROM per_k ORDER BY k;
TABLE overall;
SELECT at = timestamptz '2024-02-04 12:00Z' AND now = at AS batch_time_is_now FROM rows WHERE b = 2;
-- outside of a batch
SELECT streamext.batch_id() IS NULL AS id, streamext.batch_time() = now() AS time, streamext.watermark('s') AS wm;
SELECT streamext.watermark('nowhere');
-- refused: read-only, inside a batch, running
BEGIN READ ONLY;
SELECT * FROM streamext.step('operate');
ROLLBACK;
CREATE FUNCTION inner_step(int) RETURNS bigint STABLE LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT batch_id FROM streamext.step('operate')); END $$;
CREATE MATERIALIZED VIEW nested WITH (backfill = off) AS SELECT inner_step(v) AS x FROM s;
INSERT INTO s VALUES ('a', 1, NULL);
SELECT * FROM streamext.step('operate');
DROP MATERIALIZED VIEW nested;
SELECT batch_id, rows FROM streamext.step('operate', '2024-02-05Z');
SELECT streamext.resume('operate');
SELECT state FROM streamext.pipelines;
SELECT * FROM streamext.step('operate');
SELECT streamext.reset('operate');
INSERT INTO s VALUES ('c', 7, '2024-01-01 00:01:30');
SELECT streamext.wait('operate');
SELECT * FROM per_k ORDER BY k;
SELECT streamext.pause('per_k');
SELECT state FROM streamext.pipelines;
SELECT streamext.wait('operate', '1 second');
SELECT streamext.start_all();
SELECT state FROM streamext.pipelines;
BEGIN;
SELECT streamext.pause('operate');
ROLLBACK;
SELECT state FROM streamext.pipelines;
SELECT streamext.pause('operate');
-- run(): to the end of what was there, then paused
INSERT INTO s SELECT 'd', i, '2024-01-01 00:01:31' FROM generate_series(1, 10) i;
SELECT streamext.run('operate');
SELECT streamext.wait('operate');
SELECT state FROM streamext.pipelines;
SELECT * FROM per_k WHERE k = 'd';

-- what the views show
SELECT stream, kind, connector, format, pipelines FROM streamext.streams ORDER BY stream::text;
SELECT pipeline, state, pid, batch_id, lag, watermark, watermark_stream, watermark_partition, views, sinks, failures, error_message FROM streamext.pipelines;
SELECT pipeline, stream, partition, position IS NOT NULL AS position, lag, max_event_time, watermark, idle, rows FROM streamext.partitions;
SELECT batch_id, rows, bytes > 0 AS bytes, dead_letters, started_at <= now() AS started, poll_ms >= 0 AS poll, load_ms >= 0 AS load, steps_ms > 0 AS steps FROM streamext.batches WHERE batch_id < 4 ORDER BY batch_id;
SELECT view, kind, pipeline, strategy, state_table, late_rows, null_time_rows, dead_letters, skipped_rows, first_batch, options FROM streamext.views ORDER BY view::text;
SELECT streamext.explain('per_k');
SELECT streamext.explain('nowhere');

-- reset: back to the start, batch ids go on
SELECT streamext.reset('operate');
TABLE per_k;
TABLE overall;
SELECT count(*) FROM rows;
SELECT count(*) FROM streamext.partition;
SELECT watermark FROM streamext.pipelines;
SELECT batch_id > 3 AS batch_ids_go_on FROM streamext.progress;
DROP STREAM s CASCADE;
-- with a source that can be read again
CREATE STREAM r (value bigint, "timestamp" timestamptz) WITH (connector = 'rate', rows_per_batch = 3, pipeline = 'again', event_time = 'timestamp', watermark = '0 s', paused);
CREATE MATERIALIZED VIEW numbers AS SELECT value FROM r;
CREATE MATERIALIZED VIEW rsum AS SELECT sum(value) AS s, count(*) AS n FROM r;
CREATE MATERIALIZED VIEW rfinal WITH (emit = 'final') AS SELECT tumble("timestamp", '1 s') AS w, count(*) AS n FROM r GROUP BY 1;
CREATE MATERIALIZED VIEW rnow WITH (emit = '5 seconds') AS SELECT value % 2 AS odd, count(*) AS n FROM r GROUP BY 1;
CREATE STREAM rsink WITH (connector = 'table', table = 'rtarget') AS SELECT value FROM r;
SELECT batch_id, rows FROM streamext.step('r', '2024-02-01 00:00:00Z');
SELECT batch_id, rows FROM streamext.step('r', '2024-02-01 00:00:01Z');
SELECT streamext.reset('again');
SELECT count(*) FROM numbers;
TABLE rsum;
SELECT count(*) FROM rfinal;
SELECT count(*) FROM rnow;
SELECT count(*) FROM rtarget;
SELECT batch_id, rows FROM streamext.step('r', '2024-02-01 00:00:00Z');
SELECT array_agg(value ORDER BY value) FROM numbers;
TABLE rsum;
SELECT * FROM rnow ORDER BY odd;
SELECT array_agg(value ORDER BY value) FROM rtarget;
DROP STREAM r CASCADE;

-- emit = '5 seconds': at most this often, by batch time
CREATE STREAM e (k text, ts timestamptz) WITH (connector = 'queue', paused, event_time = 'ts', watermark = '10 seconds');
CREATE MATERIALIZED VIEW seldom WITH (emit = '5 seconds') AS SELECT k, count(*) AS n FROM e GROUP BY k HAVING count(*) > 1;
CREATE MATERIALIZED VIEW closed WITH (emit = 'final', retention = '1 minute') AS SELECT tumble(ts, '10 seconds') AS w, k, count(*) AS n FROM e GROUP BY 1, 2;
INSERT INTO e VALUES ('a', '2024-01-01 00:00:01'), ('a', '2024-01-01 00:00:09'), ('b', '2024-01-01 00:00:10');
SELECT batch_id, rows FROM streamext.step('e', '2024-02-01 00:00:00Z');
TABLE seldom;
INSERT INTO e VALUES ('b', '2024-01-01 00:00:19');
SELECT batch_id, rows FROM streamext.step('e', '2024-02-01 00:00:04Z');
TABLE seldom;
TABLE closed;
-- due without data
SELECT batch_id, rows FROM streamext.step('e', '2024-02-01 00:00:04.999Z');
SELECT batch_id, rows FROM streamext.step('e', '2024-02-01 00:00:05Z');
SELECT * FROM seldom ORDER BY k;
SELECT batch_id, rows FROM streamext.step('e', '2024-02-01 00:00:20Z');
-- final: each window once, when the watermark reaches its end
INSERT INTO e VALUES ('a', '2024-01-01 00:00:20');
SELECT batch_id, rows FROM streamext.step('e', '2024-02-01 00:00:21Z');
TABLE closed;
INSERT INTO e VALUES ('late', '2024-01-01 00:00:05'), ('a', '2024-01-01 00:00:45');
SELECT batch_id, rows FROM streamext.step('e', '2024-02-01 00:00:22Z');
SELECT * FROM closed ORDER BY w, k;
-- retention
INSERT INTO e VALUES ('a', '2024-01-01 00:01:31');
SELECT batch_id, rows FROM streamext.step('e', '2024-02-01 00:00:23Z');
SELECT * FROM closed ORDER BY w, k;
SELECT view, rows, late_rows FROM streamext.views ORDER BY view::text;
DROP STREAM e CASCADE;

-- several sources in a pipeline, streams over streams
CREATE STREAM a (k text, v int, ts timestamptz) WITH (connector = 'queue', pipeline = 'two', paused, event_time = 'ts', watermark = '0 s');
CREATE STREAM b (k text, v int, ts timestamptz) WITH (connector = 'queue', pipeline = 'two', event_time = 'ts', watermark = '0 s');
CREATE STREAM ab AS SELECT 'a' AS src, * FROM a UNION ALL SELECT 'b', * FROM b;
CREATE STREAM positive AS SELECT src, k, v, ts FROM ab WHERE v > 0;
CREATE STREAM words AS SELECT src, w FROM positive, regexp_split_to_table(k, ' ') w;
CREATE MATERIALIZED VIEW word_count AS SELECT w, count(*) AS n, count(*) FILTER (WHERE src = 'b') AS from_b FROM words GROUP BY w;
CREATE MATERIALIZED VIEW windows AS SELECT tumble(ts, '1 minute') AS w, count(*) AS n FROM positive GROUP BY 1;
CREATE STREAM ordered WITH (connector = 'table', table = 'in_order') AS SELECT streamext.batch_id() AS b, src, v FROM ab;
-- the watermark is the lower one, and there is none before both have been seen
INSERT INTO b VALUES ('z', -1, '2024-01-01 00:04');
SELECT batch_id, rows FROM streamext.step('two', '2024-02-01Z');
SELECT watermark, watermark_stream FROM streamext.pipelines;
INSERT INTO b VALUES ('x y', 1, '2024-01-01 00:05'), ('y', -1, '2024-01-01 00:06');
INSERT INTO a VALUES ('x', 2, '2024-01-01 00:01');
SELECT batch_id, rows FROM streamext.step('two', '2024-02-01Z');
SELECT * FROM word_count ORDER BY w;
SELECT * FROM windows ORDER BY w;
SELECT b, src, v FROM in_order ORDER BY ctid;
SELECT watermark, watermark_stream FROM streamext.pipelines;
INSERT INTO b VALUES ('z', 3, '2024-01-01 00:09');
SELECT batch_id, rows FROM streamext.step('two', '2024-02-01Z');
SELECT watermark, watermark_stream FROM streamext.pipelines;
SELECT * FROM word_count ORDER BY w;
DROP STREAM a, b CASCADE;

-- sinks: append, upsert, null; the table made from the query's columns
CREATE STREAM s (k text, v int) WITH (connector = 'queue', paused);
CREATE TABLE existing (v int DEFAULT 7, k text, at timestamptz DEFAULT '2024-01-01Z', PRIMARY KEY (k));
CREATE STREAM append WITH (connector = 'table', table = 'made') AS SELECT k, v::numeric(10, 2) AS amount, now() AS at, streamext.batch_id() AS b FROM s;
CREATE STREAM upsert WITH (connector = 'table', table = 'existing', key = 'k') AS SELECT v, k FROM s WHERE k IS NOT NULL;
CREATE STREAM upsert_made WITH (connector = 'table', table = 'made_by_key', key = 'k') AS SELECT k, v FROM s;
CREATE STREAM nothing WITH (connector = 'null') AS SELECT v FROM s;
CREATE STREAM sorted WITH (connector = 'table', table = 'in_query_order') AS SELECT v FROM s ORDER BY v DESC;
CREATE STREAM counts WITH (connector = 'table', table = 'batch_counts') AS SELECT count(*) AS n, sum(v) AS s FROM s;
CREATE STREAM reduced WITH (connector = 'table', table = 'batch_sums') AS SELECT sum(v) AS s FROM s HAVING count(*) > 0;
\d made
\d made_by_key
INSERT INTO existing (k) VALUES ('a'), ('z');
INSERT INTO s VALUES ('a', 1), ('b', 2), ('a', 3), (NULL, 4), (NULL, 5);
SELECT batch_id, rows FROM streamext.step('s', '2024-02-01Z');
INSERT INTO s VALUES ('b', 6), ('c', 9), (NULL, 7);
SELECT batch_id, rows FROM streamext.step('s', '2024-02-02Z');
SELECT * FROM made ORDER BY ctid;
SELECT * FROM existing ORDER BY k;
SELECT * FROM made_by_key ORDER BY k;
SELECT * FROM in_query_order ORDER BY ctid;
TABLE batch_counts;
TABLE batch_sums;
SELECT view, strategy, state_table, rows FROM streamext.views ORDER BY view::text;
DROP STREAM s CASCADE;

-- functions that read a stream: inside them, too, it is the batch
CREATE STREAM s (url text) WITH (connector = 'queue', paused);
CREATE FUNCTION top_urls(n int) RETURNS TABLE (url text, n bigint)
    BEGIN ATOMIC SELECT url, count(*) FROM s GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT n; END;
CREATE STREAM top2 AS SELECT streamext.batch_id() AS b, * FROM top_urls(2);
CREATE STREAM top_sink WITH (connector = 'table', table = 'tops') AS SELECT * FROM top2;
INSERT INTO s VALUES ('a'), ('b'), ('a'), ('c'), ('c'), ('c');
SELECT batch_id, rows FROM streamext.step('s', '2024-02-01Z');
INSERT INTO s VALUES ('b'), ('b'), ('a');
SELECT batch_id, rows FROM streamext.step('s', '2024-02-01Z');
SELECT * FROM tops ORDER BY b, n DESC;
DROP STREAM s CASCADE;

-- the settings of the session that created it
CREATE STREAM s (day text, i text) WITH (connector = 'queue', paused);
SET TimeZone = 'America/New_York';
SET DateStyle = 'German';
SET IntervalStyle = 'iso_8601';
CREATE MATERIALIZED VIEW local AS SELECT day::timestamptz AS t, day::timestamptz::text AS text, date_trunc('day', '2024-01-01 03:00Z'::timestamptz) AS day, (i::interval)::text AS i FROM s;
SET TimeZone = 'Asia/Tokyo';
SET DateStyle = 'ISO, MDY';
RESET IntervalStyle;
INSERT INTO s VALUES ('02.03.2024 12:00', 'P1D');
SELECT batch_id, rows FROM streamext.step('s', '2024-02-01Z');
SHOW TimeZone;
SET TimeZone = 'UTC';
TABLE local;
SELECT streamext.resume('s');
INSERT INTO s VALUES ('02.03.2024 12:00', 'P1D');
SELECT streamext.wait('s');
SELECT count(*), count(DISTINCT l) FROM local l;
DROP STREAM s CASCADE;

-- the state of an extension's aggregate
SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'hll') AS hll \gset
\if :hll
SET client_min_messages = error;
CREATE EXTENSION hll;
SET client_min_messages = warning;
CREATE STREAM s (k int, u int) WITH (connector = 'queue', paused);
CREATE MATERIALIZED VIEW users AS SELECT k, hll_cardinality(hll_add_agg(hll_hash_integer(u)))::int AS n FROM s GROUP BY k;
CREATE MATERIALIZED VIEW sketches AS SELECT k, hll_add_agg(hll_hash_integer(u)) AS h FROM s GROUP BY k;
INSERT INTO s SELECT i % 2, i FROM generate_series(1, 100) i;
SELECT rows FROM streamext.step('s', '2024-02-01Z');
INSERT INTO s SELECT i % 3, i FROM generate_series(50, 150) i;
SELECT rows FROM streamext.step('s', '2024-02-01Z');
SELECT users.k, abs(n - m) < 5 AS near, hll_cardinality(h)::int = n AS same
FROM users JOIN sketches USING (k) JOIN (SELECT k, count(DISTINCT u) AS m
    FROM (SELECT i % 2 AS k, i AS u FROM generate_series(1, 100) i UNION ALL SELECT i % 3, i FROM generate_series(50, 150) i) x GROUP BY k) o USING (k) ORDER BY 1;
DROP STREAM s CASCADE;
DROP EXTENSION hll;
\else
SELECT i AS k, true AS near, true AS same FROM generate_series(0, 2) i;
\endif

-- everything that users can see has a comment
SELECT p.oid::regprocedure AS uncommented FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
    JOIN pg_extension x ON x.oid = d.refobjid AND x.extname = 'streamext' WHERE obj_description(p.oid, 'pg_proc') IS NULL;
SELECT c.oid::regclass AS uncommented FROM pg_class c
WHERE relnamespace = 'streamext'::regnamespace AND relkind IN ('r', 'v', 'f', 'm') AND obj_description(c.oid, 'pg_class') IS NULL;
DROP SCHEMA operate CASCADE;
