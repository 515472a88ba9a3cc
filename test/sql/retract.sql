-- GROUP BY over what changes: after every batch each view equals its SELECT over all rows.
SET client_min_messages = error;
SET timezone = 'UTC';
CREATE SCHEMA undo;
CREATE SCHEMA undo_all;
SET search_path = undo, public;
CREATE STREAM a (k int, x int, s text, ts timestamptz)
    WITH (connector = 'queue', pipeline = 'undo', paused, event_time = 'ts', watermark = '5 seconds');
CREATE STREAM b (k int, y int, ts timestamptz)
    WITH (connector = 'queue', pipeline = 'undo', event_time = 'ts', watermark = '5 seconds');
CREATE TABLE undo_all.a (k int, x int, s text, ts timestamptz);
CREATE TABLE undo_all.b (k int, y int, ts timestamptz);
-- a user's own views are nodes, too
CREATE MATERIALIZED VIEW per_k AS SELECT k, s, count(*) AS n, max(x) AS m FROM a GROUP BY k, s HAVING count(*) > 1;
CREATE VIEW undo_all.per_k AS SELECT k, s, count(*) AS n, max(x) AS m FROM undo_all.a GROUP BY k, s HAVING count(*) > 1;

\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir '/sql/include/oracle.sql'
\i :oracle

CREATE TABLE query (id int PRIMARY KEY, strategy text, sql text NOT NULL);
INSERT INTO query VALUES
(1, 'retract', $q$SELECT n, count(*) AS c FROM (SELECT k, count(*) AS n FROM a GROUP BY k) c GROUP BY n$q$),
(2, 'retract', $q$SELECT s, avg(m) AS av, sum(m) AS sm, count(m) AS cm, count(*) FILTER (WHERE m > 10) AS f FROM (SELECT k, s, max(x) AS m FROM a GROUP BY k, s) c GROUP BY s$q$),
(3, 'retract', $q$SELECT count(*) AS c, sum(n) AS sn, avg(n) AS an FROM (SELECT k, count(*) AS n FROM a WHERE x > 4 GROUP BY k HAVING count(*) > 1) c WHERE n < 9$q$),
(4, 'retract', $q$SELECT s, count(*) AS c, sum(n)::text || '!' AS t FROM per_k WHERE n < 12 GROUP BY s HAVING count(*) > 1$q$),
(5, 'retract', $q$SELECT k, count(y) AS cy, sum(y) AS sy, sum(x) FILTER (WHERE y IS NULL) AS sx FROM (SELECT a.k, a.x, b.y FROM a LEFT JOIN b ON a.k = b.k AND b.y > a.x) j GROUP BY k$q$),
(6, 'retract', $q$SELECT DISTINCT m FROM (SELECT k, s, max(x) AS m FROM a GROUP BY k, s) c$q$),
(7, 'retract', $q$SELECT m % 3 AS r, sum(d) AS sd FROM (SELECT k, min(x) AS m, count(DISTINCT s) AS d FROM a GROUP BY k) c GROUP BY m % 3$q$),
(8, 'retract', $q$SELECT n2, count(*) AS c FROM (SELECT n, count(*) AS n2 FROM (SELECT k, s, count(*) AS n FROM a GROUP BY k, s) c GROUP BY n) d GROUP BY n2$q$),
(9, 'retract', $q$SELECT w, count(*) AS c, sum(n) AS sn FROM (SELECT tumble(ts, '10 s') AS w, k, count(*) AS n FROM a GROUP BY 1, 2) c GROUP BY w$q$),
(10, 'recompute', $q$SELECT s, max(m) AS mx, count(*) AS c FROM (SELECT k, s, max(x) AS m FROM a GROUP BY k, s) c GROUP BY s$q$),
(11, 'recompute', $q$SELECT s, sum(m / 2.0) AS sm FROM (SELECT k, s, max(x) AS m FROM a GROUP BY k, s) c GROUP BY s$q$),
(12, 'retract', $q$SELECT x, count(*) AS c FROM (SELECT k, x, row_number() OVER (PARTITION BY k ORDER BY ts DESC, x, s) AS rn FROM a) t WHERE rn <= 2 GROUP BY x$q$),
(13, 'retract', $q$SELECT s, sum(sx) AS ss, sum(m) AS sm FROM (SELECT k, s, sum(x::bigint) AS sb, sum(x::smallint) AS sx, min(nullif(x, 5))::smallint AS m FROM a GROUP BY k, s) c GROUP BY s$q$);

CALL create_views();
SELECT q.id, v.strategy FROM query q JOIN streamext.views v ON v.view = ('v' || q.id)::regclass WHERE v.strategy <> q.strategy;
CREATE MATERIALIZED VIEW timely WITH (late = 'drop') AS
    SELECT w, count(*) AS c, sum(n) AS sn FROM (SELECT tumble(ts, '10 s') AS w, k, count(*) AS n FROM a GROUP BY 1, 2) c GROUP BY w;

-- n rows of each stream, the same in every run
CREATE FUNCTION feed(seed int, na int, nb int, base interval DEFAULT '0') RETURNS void LANGUAGE sql AS $$
    WITH f AS (SELECT k, x, s, ts FROM rows_a(seed, na, base)),
    i AS (INSERT INTO undo_all.a TABLE f)
    INSERT INTO undo.a TABLE f;
    WITH f AS (SELECT k, y, ts FROM rows_b(seed, nb, base)),
    i AS (INSERT INTO undo_all.b TABLE f)
    INSERT INTO undo.b TABLE f;
$$;

SELECT * FROM differences();
SELECT feed(1, 10, 5);
SELECT batch_id, rows, dead_letters FROM streamext.step('undo');
SELECT * FROM differences();
SELECT feed(1001, 1, 1);
SELECT batch_id, rows, dead_letters FROM streamext.step('undo');
SELECT * FROM differences();
SELECT feed(3001, 60, 20);
SELECT batch_id, rows, dead_letters FROM streamext.step('undo');
SELECT * FROM differences();
-- a step that is rolled back leaves nothing behind
SELECT feed(9001, 20, 5, '1 minute');
BEGIN;
SELECT batch_id, rows FROM streamext.step('undo');
ROLLBACK;
SELECT batch_id, rows, dead_letters FROM streamext.step('undo');
SELECT * FROM differences();
SELECT feed(10001, 30, 30, '58 seconds');
SELECT batch_id, rows, dead_letters FROM streamext.step('undo');
SELECT * FROM differences();
SELECT feed(11001, 3, 0);
SELECT batch_id, rows, dead_letters FROM streamext.step('undo');
SELECT * FROM differences();
TABLE timely ORDER BY w;
TABLE v1 ORDER BY n;
\pset tuples_only on
\pset format unaligned
SELECT streamext.explain('v2');
SELECT streamext.explain('v4');
SELECT streamext.explain('v10');
DROP SCHEMA undo CASCADE;
DROP SCHEMA undo_all CASCADE;
SELECT relname FROM pg_class WHERE relnamespace = 'streamext_state'::regnamespace AND relname ~ '^(undo_)?v[0-9]';
