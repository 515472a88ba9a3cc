-- Option parallelism: workers that divide the partitions of a pipeline, and what they can keep.
SET timezone = 'UTC';
SET client_min_messages = warning;
\set SHOW_CONTEXT never
CREATE SCHEMA parallel_test;
SET search_path = parallel_test, public;
\getenv build_dir PG_ABS_BUILDDIR
\set dir :build_dir /parallel
\setenv DIR :dir
\! rm -rf "$DIR" && mkdir "$DIR" && chmod 755 "$DIR"
-- 12 files of 50 lines: time, key, number; hours of different files are interleaved
\! cd "$DIR"; for f in 0 1 2 3 4 5 6 7 8 9 10 11; do for i in 0 1 2 3 4 5 6 7 8 9; do for k in a b c d e; do echo "2024-01-01 $(printf '%02d:%02d' $i $((f * 5))):00Z,$k,$((f * 100 + i))"; done; done >f$f.csv; done; echo '2024-01-01 00:01:00Z,,' >>f3.csv; echo 'no time,z,1' >>f4.csv

-- ---------- what cannot be divided ----------
CREATE STREAM q (i int) WITH (connector = 'queue', parallelism = 2, paused);
CREATE STREAM q (value bigint, "timestamp" timestamptz) WITH (connector = 'rate', rows_per_second = 1, parallelism = 2, paused);
CREATE STREAM q (i int) WITH (connector = 'socket', host = 'localhost', port = 1, format = 'csv', parallelism = 2, paused);
\set file :dir /f0.csv
CREATE STREAM q (line text) WITH (connector = 'file', path = :'file', format = 'text', tail, parallelism = 2, paused);
CREATE STREAM q (line text) WITH (connector = 'file', path = :'dir', format = 'text', parallelism = 65, paused);
CREATE STREAM q (line text) WITH (connector = 'file', path = :'dir', format = 'text', parallelism = 0, paused);

CREATE STREAM s (ts timestamptz, k text, n int, file text OPTIONS (metadata 'topic'))
    WITH (connector = 'file', path = :'dir', format = 'csv', event_time = 'ts', watermark = '0 seconds',
          parallelism = 3, paused);
CREATE STREAM q (i int) WITH (connector = 'queue', pipeline = 's');
CREATE STREAM s2 (line text) WITH (connector = 'file', path = :'dir', format = 'text', parallelism = 2, pipeline = 's');
-- nothing that looks at more than a record, or keeps other state than what is merged
CREATE MATERIALIZED VIEW no AS SELECT k, percentile_cont(0.5) WITHIN GROUP (ORDER BY n) FROM s GROUP BY 1;
CREATE MATERIALIZED VIEW no AS SELECT count(DISTINCT k) FROM s;
CREATE MATERIALIZED VIEW no AS SELECT session(ts, '1 minute') AS w, count(*) FROM s GROUP BY 1;
CREATE MATERIALIZED VIEW no AS SELECT a.k FROM s a JOIN s b ON a.k = b.k;
CREATE MATERIALIZED VIEW no AS SELECT k, count(*) FROM (SELECT k, n, count(*) FROM s GROUP BY 1, 2) x GROUP BY 1;
CREATE MATERIALIZED VIEW no WITH (emit = '1 minute') AS SELECT k, count(*) FROM s GROUP BY 1;
CREATE MATERIALIZED VIEW no WITH (state_ttl = '1 minute') AS SELECT k, count(*) FROM s GROUP BY 1;
CREATE STREAM no WITH (window = '2 batches') AS SELECT * FROM s;
CREATE STREAM per_batch AS SELECT count(*) AS n FROM s;
CREATE MATERIALIZED VIEW no AS SELECT n FROM per_batch;
CREATE TABLE target (k text, n bigint);
CREATE STREAM no WITH (connector = 'table', table = 'target') AS SELECT k, count(*) AS n FROM s GROUP BY 1;
CREATE STREAM no WITH (connector = 'file', path = '/tmp', format = 'csv') AS SELECT k FROM s;
CREATE AGGREGATE last_one(int) (SFUNC = int4larger, STYPE = int, COMBINEFUNC = int4smaller);
CREATE MATERIALIZED VIEW no AS SELECT k, last_one(n) FROM s GROUP BY 1;

-- ---------- views and sinks ----------
CREATE MATERIALIZED VIEW by_key AS
    SELECT k, count(*) AS c, sum(n) AS s, avg(n) AS a, min(n) AS lo, max(n) AS hi, stddev_pop(n) AS d,
           count(n) FILTER (WHERE n > 300) AS f, max(ts) - min(ts) AS span
    FROM s GROUP BY 1;
CREATE MATERIALIZED VIEW total AS SELECT count(*) AS c, sum(n) AS s, bool_or(n > 1000) AS b FROM s;
CREATE MATERIALIZED VIEW ks AS SELECT DISTINCT k FROM s;
CREATE MATERIALIZED VIEW big AS SELECT k, sum(n) FROM s GROUP BY 1 HAVING count(*) > 100;
CREATE MATERIALIZED VIEW hours WITH (emit = 'final') AS
    SELECT tumble(ts, '1 hour') AS w, k, count(*) AS c, sum(n) AS s FROM s GROUP BY 1, 2;
CREATE MATERIALIZED VIEW lines AS SELECT ts, k, n, file FROM s;
CREATE STREAM sink WITH (connector = 'table', table = 'target') AS SELECT k, n FROM s WHERE n < 50;
TABLE total;
\d streamext_state.by_key
SELECT pg_get_viewdef('by_key'::regclass) LIKE '%GROUP BY r.k%' AS combined;
CREATE TABLE seen_before AS SELECT * FROM s;
-- one batch of each worker
SELECT slot, rows > 0 AS some FROM streamext.step('s', '2024-02-01Z') WITH ORDINALITY x, LATERAL (SELECT 3 - ordinality AS slot) y ORDER BY 1;
SELECT batch_id, rows FROM streamext.step('s', '2024-02-01Z');

SELECT count(*), count(DISTINCT file) FROM lines;
SELECT slot, batch_id, rows > 0 AS some FROM streamext.batches WHERE pipeline = 's' ORDER BY 1, 2;
SELECT stream, partition, slot, position - 'name' AS position FROM streamext.partitions WHERE pipeline = 's' ORDER BY 2;
SELECT pipeline, parallelism, workers, batch_id, watermark, pid, status FROM streamext.pipelines WHERE pipeline = 's';
SELECT view, rows, late_rows, dead_letters, watermark FROM streamext.views WHERE pipeline = 's' ORDER BY view::text COLLATE "C";
SELECT count(*), min(sqlstate) FROM streamext.dead_letters WHERE pipeline = 's';
-- the same as SQL over the lines
SELECT count(*), count(*) FILTER (WHERE sx_slot = 0) > 0 AS of_0, count(*) FILTER (WHERE sx_slot = 2) > 0 AS of_2 FROM streamext_state.by_key;
CREATE VIEW by_key_sql AS
    SELECT k, count(*) AS c, sum(n) AS s, avg(n) AS a, min(n) AS lo, max(n) AS hi, stddev_pop(n) AS d,
           count(n) FILTER (WHERE n > 300) AS f, max(ts) - min(ts) AS span FROM lines GROUP BY 1;
TABLE by_key ORDER BY k;
(TABLE by_key EXCEPT TABLE by_key_sql) UNION ALL (TABLE by_key_sql EXCEPT TABLE by_key);
SELECT t.c = x.c AND t.s = x.s AND t.b = x.b AS same FROM total t, (SELECT count(*) AS c, sum(n) AS s, bool_or(n > 1000) AS b FROM lines) x;
TABLE ks ORDER BY 1;
TABLE big ORDER BY 1;
SELECT count(*) = (SELECT count(*) FROM lines WHERE n < 50) AS same FROM target;
-- hours that all workers have passed
SELECT min(w), max(w), count(*) FROM hours;
SELECT * FROM hours h LEFT JOIN (SELECT date_trunc('hour', ts) AS w, k, count(*) AS c, sum(n) AS s FROM lines GROUP BY 1, 2) x ON h.w = x.w AND h.k IS NOT DISTINCT FROM x.k
    WHERE (h.c, h.s) IS DISTINCT FROM (x.c, x.s);
-- closed is closed: what comes later is late
SELECT count(*) AS before FROM hours \gset
\! cd "$DIR"; for f in 0 1 2 3 4 5 6 7 8 9 10 11; do echo "2024-01-01 00:00:00Z,a,1" >late$f.csv; done
SELECT sum(rows) FROM streamext.step('s', '2024-02-01Z');
SELECT late_rows FROM streamext.views WHERE view = 'hours'::regclass;
SELECT count(*) = :before AS same FROM hours;

-- ---------- dead letters ----------
SELECT message, view FROM streamext.dead_letters WHERE pipeline = 's' ORDER BY view::text COLLATE "C";
SELECT streamext.replay_dead_letters('s');
-- those of each step are a batch, of slot 0
DO $$ BEGIN FOR i IN 1..7 LOOP PERFORM FROM streamext.step('s', '2024-02-01Z'); END LOOP; END $$;
SELECT * FROM streamext.step('s', '2024-02-01Z');
SELECT count(*), max(attempt) FROM streamext.dead_letters WHERE pipeline = 's';

-- ---------- another number ----------
ALTER STREAM s OPTIONS (SET parallelism '2');
SELECT stream, partition, slot, position - 'name' AS position FROM streamext.partitions WHERE pipeline = 's' ORDER BY 2;
SELECT parallelism FROM streamext.pipelines WHERE pipeline = 's';
\! cd "$DIR"; for f in 0 1 2 3 4 5 6 7; do echo "2024-01-01 20:00:00Z,a,1" >more$f.csv; done
SELECT count(*), sum(rows) FROM streamext.step('s', '2024-02-01Z');
(TABLE by_key EXCEPT TABLE by_key_sql) UNION ALL (TABLE by_key_sql EXCEPT TABLE by_key);
ALTER STREAM s OPTIONS (DROP parallelism);
\! cd "$DIR"; for f in 0 1 2 3 4 5 6 7; do echo "2024-01-01 21:00:00Z,a,1" >again$f.csv; done
SELECT count(*), sum(rows) FROM streamext.step('s', '2024-02-01Z');
(TABLE by_key EXCEPT TABLE by_key_sql) UNION ALL (TABLE by_key_sql EXCEPT TABLE by_key);
-- made for one worker
CREATE MATERIALIZED VIEW one WITH (backfill = off) AS SELECT k, count(*) FROM s GROUP BY 1;
ALTER STREAM s OPTIONS (ADD parallelism '2');
DROP VIEW one;
ALTER STREAM s OPTIONS (ADD parallelism '2');
SELECT streamext.resume('s');
ALTER STREAM s OPTIONS (SET parallelism '3');
SELECT streamext.pause('s');

-- ---------- a late view, reset ----------
SET client_min_messages = notice;
CREATE MATERIALIZED VIEW late AS SELECT k, count(*) AS c FROM s GROUP BY 1;
SET client_min_messages = warning;
SELECT streamext.reset('s');
TABLE total;
SELECT sum(rows) FROM streamext.step('s', '2024-03-01Z');
SELECT (SELECT sum(c) FROM late) = (SELECT c FROM total) AS same, (SELECT c FROM total) = (SELECT count(*) FROM seen_before) + 12 + 16 AS all_of_it;
(TABLE by_key EXCEPT TABLE by_key_sql) UNION ALL (TABLE by_key_sql EXCEPT TABLE by_key);
DROP VIEW by_key_sql;
DROP STREAM s CASCADE;
SELECT count(*) FROM streamext.progress g WHERE NOT EXISTS (SELECT FROM streamext.pipeline p WHERE p.id = g.pipeline);
