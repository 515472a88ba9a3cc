-- The first rows of a key: nodes forget the others, and after every batch each view equals its SELECT over all rows.
SET client_min_messages = error;
SET timezone = 'UTC';
CREATE SCHEMA first;
CREATE SCHEMA first_all;
SET search_path = first, public;
CREATE STREAM a (id int, k int, x int, s text, ts timestamptz)
    WITH (connector = 'queue', pipeline = 'first', paused, event_time = 'ts', watermark = '5 seconds');
CREATE TABLE first_all.a (id int, k int, x int, s text, ts timestamptz);
CREATE TABLE dim AS SELECT i AS k, 'n' || i % 3 AS name FROM generate_series(0, 4) i;

\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir '/sql/include/oracle.sql'
\i :oracle

-- id is the order of arrival
CREATE TABLE query (id int PRIMARY KEY, reduces bool, sql text NOT NULL, shown text);
INSERT INTO query VALUES
(1, true, $q$SELECT DISTINCT ON (k) k, x, s, ts FROM a ORDER BY k, ts DESC, x, s$q$),
(2, true, $q$SELECT k, x, s FROM (SELECT *, row_number() OVER (PARTITION BY k, s ORDER BY ts DESC, x) AS rn FROM a) t WHERE rn <= 1$q$),
(3, true, $q$SELECT * FROM (SELECT k, x, ts, row_number() OVER (PARTITION BY k ORDER BY x DESC NULLS LAST, ts) AS rn FROM a) t WHERE rn < 4$q$),
(4, true, $q$SELECT k, x, r FROM (SELECT k, x, rank() OVER (PARTITION BY k ORDER BY x) AS r FROM a WHERE s <> 'b') t WHERE 3 >= r$q$),
(5, true, $q$SELECT k, x, s, r FROM (SELECT k, x, s, dense_rank() OVER (PARTITION BY k ORDER BY x DESC, s) AS r, rank() OVER (PARTITION BY k ORDER BY x DESC, s) AS r2 FROM a) t WHERE r = 2$q$),
(6, true, $q$SELECT k, x, ts FROM a ORDER BY x DESC NULLS LAST, ts, s LIMIT 3$q$),
(7, true, $q$SELECT x, s FROM a WHERE k > 1 ORDER BY x FETCH FIRST 2 ROWS WITH TIES$q$),
(8, true, $q$SELECT k, sum(x) AS sx, count(*) AS n FROM (SELECT k, x, s, row_number() OVER (PARTITION BY k ORDER BY ts) AS rn FROM a) t WHERE rn <= 2 GROUP BY k$q$),
(9, true, $q$SELECT s, x FROM (SELECT s, x, ts, row_number() OVER (ORDER BY ts, x) AS rn FROM a) t WHERE rn <= 5$q$),
(10, true, $q$SELECT p.k, p.x, q.x AS x2 FROM (SELECT k, x, row_number() OVER (PARTITION BY k ORDER BY ts, x) AS rn FROM a) p
    JOIN (SELECT k, x, row_number() OVER (PARTITION BY k ORDER BY ts, x) AS rn FROM a) q ON q.k = p.k WHERE p.rn = 1 AND q.rn = 2$q$),
(11, true, $q$SELECT d.name, t.x FROM (SELECT DISTINCT ON (a.k) a.k, a.x, d.name FROM a JOIN dim d USING (k) ORDER BY a.k, a.ts, a.x) t JOIN (SELECT DISTINCT ON (k) k, name FROM (SELECT a.k, d.name, a.ts FROM a JOIN dim d USING (k)) z ORDER BY k, ts DESC, name) d ON d.k = t.k$q$),
(12, false, $q$SELECT k, x, rn, run FROM (SELECT k, x, row_number() OVER (PARTITION BY k ORDER BY ts, x) AS rn, sum(x) OVER (PARTITION BY k) AS run FROM a) t WHERE rn <= 2$q$),
(13, false, $q$SELECT k, x FROM (SELECT k, x, row_number() OVER (PARTITION BY k ORDER BY ts, x) AS rn FROM a) t WHERE rn >= 2$q$),
(14, false, $q$SELECT k, x FROM a ORDER BY x DESC NULLS LAST, ts, s OFFSET 3 LIMIT 3$q$),
(15, true, $q$SELECT tumble(ts, '10 s') AS w, k, x FROM (SELECT ts, k, x, row_number() OVER (PARTITION BY tumble(ts, '10 s') ORDER BY x DESC NULLS LAST, ts) AS rn FROM a) t WHERE rn <= 2$q$),
(16, true, $q$SELECT DISTINCT ON (s) s, id FROM a ORDER BY s$q$),
(17, true, $q$SELECT id, k FROM (SELECT id, k, row_number() OVER (PARTITION BY k) AS rn FROM a) t WHERE rn <= 2$q$);
-- what the order leaves open is taken in order of arrival
UPDATE query SET shown = replace(sql, 'ORDER BY s', 'ORDER BY s, id') WHERE id = 16;
UPDATE query SET shown = replace(sql, 'BY k)', 'BY k ORDER BY id)') WHERE id = 17;

CALL create_views();
SELECT q.id FROM query q WHERE q.reduces <> EXISTS (
    SELECT FROM streamext.step s WHERE ('v' || q.id)::regclass IN (s.node_of, s.relation) AND s.strategy = 'reduce');
CREATE MATERIALIZED VIEW timely WITH (late = 'drop') AS
    SELECT tumble(ts, '10 s') AS w, k, x, rn FROM (SELECT ts, k, x, row_number() OVER (PARTITION BY tumble(ts, '10 s'), k ORDER BY x, ts) AS rn FROM a) t WHERE rn <= 2;

-- n rows, the same in every run
CREATE FUNCTION feed(seed int, n int, base interval DEFAULT '0') RETURNS void LANGUAGE sql AS $$
    WITH f AS (SELECT * FROM rows_a(seed, n, base)),
    i AS (INSERT INTO first_all.a SELECT * FROM f ORDER BY id)
    INSERT INTO first.a SELECT * FROM f ORDER BY id;
$$;

SELECT * FROM differences();
SELECT feed(1, 10);
SELECT batch_id, rows, dead_letters FROM streamext.step('first');
SELECT * FROM differences();
SELECT feed(1001, 1);
SELECT batch_id, rows, dead_letters FROM streamext.step('first');
SELECT * FROM differences();
SELECT feed(3001, 100);
SELECT batch_id, rows, dead_letters FROM streamext.step('first');
SELECT * FROM differences();
-- a step that is rolled back leaves nothing behind
SELECT feed(9001, 20, '1 minute');
BEGIN;
SELECT batch_id, rows FROM streamext.step('first');
ROLLBACK;
SELECT batch_id, rows, dead_letters FROM streamext.step('first');
SELECT * FROM differences();
SELECT feed(10001, 150, '58 seconds');
SELECT batch_id, rows, dead_letters FROM streamext.step('first');
SELECT * FROM differences();
SELECT feed(11001, 3);
SELECT batch_id, rows, dead_letters FROM streamext.step('first');
SELECT * FROM differences();
TABLE timely ORDER BY w, k, rn;
-- what the nodes hold
SELECT s.relation, (xpath('//row/n/text()', query_to_xml(format('SELECT count(*) AS n FROM %s', s.state), false, false, '')))[1]::text::int AS rows
FROM streamext.step s WHERE s.options ? 'keep_when' ORDER BY s.relation::regclass::text COLLATE "C";
\pset tuples_only on
\pset format unaligned
SELECT streamext.explain('v1');
SELECT streamext.explain('streamext_state.v3_2_rows');
SELECT streamext.explain('v7');
DROP SCHEMA first CASCADE;
DROP SCHEMA first_all CASCADE;
SELECT relname FROM pg_class WHERE relnamespace = 'streamext_state'::regnamespace AND relname ~ '^(first_)?v[0-9]';
