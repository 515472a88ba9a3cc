-- Queries that look at several rows: after every batch each view equals its SELECT over all rows.
SET client_min_messages = error;
CREATE SCHEMA nodes;
CREATE SCHEMA nodes_all;
SET search_path = nodes, public;
CREATE STREAM a (k int, x int, s text, ts timestamptz)
    WITH (connector = 'queue', pipeline = 'nodes', paused, event_time = 'ts', watermark = '1 second');
CREATE STREAM b (k int, y int, ts timestamptz)
    WITH (connector = 'queue', pipeline = 'nodes', event_time = 'ts', watermark = '1 second');
CREATE TABLE nodes_all.a (k int, x int, s text, ts timestamptz);
CREATE TABLE nodes_all.b (k int, y int, ts timestamptz);
CREATE TABLE dim AS SELECT i AS k, 'n' || i % 3 AS name FROM generate_series(0, 4) i;

\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir '/sql/include/oracle.sql'
\i :oracle

CREATE TABLE query (id int PRIMARY KEY, sql text NOT NULL);
INSERT INTO query VALUES
(1, $q$SELECT k, percentile_cont(0.5) WITHIN GROUP (ORDER BY x) AS p, mode() WITHIN GROUP (ORDER BY s) AS m FROM a GROUP BY k$q$),
(2, $q$SELECT k, count(DISTINCT x) AS d, string_agg(s, ',' ORDER BY s, x) AS l FROM a GROUP BY k$q$),
(3, $q$SELECT count(DISTINCT x) AS d FROM a$q$),
(4, $q$SELECT DISTINCT k, s FROM a$q$),
(5, $q$SELECT DISTINCT ON (k) k, x, s, ts FROM a ORDER BY k, ts DESC, x, s$q$),
(6, $q$SELECT k, x, rn FROM (SELECT k, x, row_number() OVER (PARTITION BY k ORDER BY x DESC NULLS LAST, ts) AS rn FROM a) t WHERE rn <= 2$q$),
(7, $q$SELECT k, x, sum(x) OVER (PARTITION BY k ORDER BY ts) AS run FROM a$q$),
(8, $q$SELECT a.k, a.x, b.y FROM a JOIN b ON a.k = b.k WHERE b.y > 3$q$),
(9, $q$SELECT a.k, a.x, b.y FROM a LEFT JOIN b ON a.k = b.k AND b.y > 10$q$),
(10, $q$SELECT k, a.x, b.y FROM a FULL JOIN b USING (k)$q$),
(11, $q$SELECT a.k, a.x FROM a WHERE EXISTS (SELECT FROM b WHERE b.k = a.k AND b.y > a.x)$q$),
(12, $q$SELECT a.k, a.x FROM a WHERE NOT EXISTS (SELECT FROM b WHERE b.k = a.k AND b.y > a.x)$q$),
(13, $q$SELECT a.k, a.x FROM a WHERE a.k IN (SELECT k FROM b WHERE y > 5)$q$),
(14, $q$SELECT a.k, a.x FROM a WHERE a.k NOT IN (SELECT k FROM b WHERE y > 5)$q$),
(15, $q$SELECT k, max(n) AS mx FROM (SELECT k, s, count(*) AS n FROM a GROUP BY k, s) c GROUP BY k$q$),
(16, $q$SELECT max(n) AS mx FROM (SELECT k, count(*) AS n FROM a GROUP BY k) c$q$),
(17, $q$SELECT s, avg(m) AS av FROM (SELECT k, s, max(x) AS m FROM a GROUP BY k, s) c GROUP BY s$q$),
(18, $q$SELECT k, count(*) AS n, sum(x) AS sx FROM a GROUP BY ROLLUP (k, s)$q$),
(19, $q$SELECT k, s, grouping(k, s) AS g, count(*) AS n FROM a GROUP BY CUBE (k, s)$q$),
(20, $q$SELECT a.k, count(*) AS n, sum(b.y) AS sy FROM a JOIN b ON a.k = b.k GROUP BY a.k HAVING count(*) > 2$q$),
(21, $q$SELECT k FROM a UNION SELECT k FROM b$q$),
(22, $q$SELECT k FROM a INTERSECT SELECT k FROM b$q$),
(23, $q$SELECT k, x FROM a EXCEPT SELECT k, y FROM b$q$),
(24, $q$SELECT k, x FROM a EXCEPT ALL SELECT k, y FROM b$q$),
(25, $q$SELECT k, x FROM a ORDER BY x DESC NULLS LAST, ts, s LIMIT 3$q$),
(26, $q$WITH c AS (SELECT k, count(*) AS n FROM a GROUP BY k) SELECT c1.k, c1.n FROM c c1 WHERE c1.n = (SELECT max(n) FROM c)$q$),
(27, $q$SELECT tumble(ts, '10 s') AS w, k, count(DISTINCT x) AS n FROM a GROUP BY 1, 2$q$),
(28, $q$SELECT hop(ts, '5 s', '10 s') AS w, percentile_disc(0.5) WITHIN GROUP (ORDER BY x) AS n FROM a GROUP BY 1$q$),
(29, $q$SELECT d.name, count(DISTINCT a.x) AS n FROM a JOIN dim d ON d.k = a.k GROUP BY d.name$q$),
(30, $q$SELECT x.k, x.n, y.m FROM (SELECT k, count(*) AS n FROM a GROUP BY k) x LEFT JOIN (SELECT k, sum(y) AS m FROM b GROUP BY k) y ON x.k = y.k$q$),
(31, $q$SELECT a1.k, a1.x, a2.x AS x2 FROM a a1 JOIN a a2 ON a1.k = a2.k AND a1.x < a2.x$q$),
(32, $q$SELECT a.k, a.x, l.y FROM a, LATERAL (SELECT b.y FROM b WHERE b.k = a.k ORDER BY b.y, b.ts LIMIT 1) l$q$),
(33, $q$SELECT a.k, (SELECT max(y) FROM b WHERE b.k = a.k) AS my FROM a$q$),
(34, $q$SELECT a.x, b.y FROM a JOIN b ON a.x > b.y + 15$q$),
(35, $q$SELECT w, n FROM (SELECT tumble(ts, '10 s') AS w, count(*) AS n FROM a GROUP BY 1) c WHERE n > 2$q$),
(36, $q$SELECT s, count(*) AS n FROM (SELECT DISTINCT k, s FROM a) d GROUP BY s$q$),
(37, $q$SELECT k, array_agg(x ORDER BY x) AS l FROM a GROUP BY k$q$),
(38, $q$SELECT a.k, d.name, b.y FROM a JOIN dim d ON d.k = a.k JOIN b ON b.k = a.k$q$),
(39, $q$SELECT a.k, b.y, c.m FROM a JOIN b ON a.k = b.k JOIN (SELECT k, max(x) AS m FROM a GROUP BY k) c ON c.k = b.k$q$),
(40, $q$SELECT k, x, dense_rank() OVER (PARTITION BY k ORDER BY x) AS r FROM a WHERE x > 3$q$),
(41, $q$SELECT b.k, b.y, a.x FROM a RIGHT JOIN b ON a.k = b.k AND a.x BETWEEN b.y - 5 AND b.y$q$),
(42, $q$SELECT k, count(*) FILTER (WHERE x > 5) AS n, max(DISTINCT s) AS m FROM a WHERE s <> 'a' GROUP BY k HAVING count(DISTINCT x) > 1$q$),
(43, $q$SELECT count(*) AS n FROM a JOIN b ON a.k = b.k$q$),
(44, $q$SELECT k, x FROM a UNION ALL SELECT k, count(*)::int FROM b GROUP BY k$q$),
(45, $q$SELECT CASE WHEN k > 2 THEN 'big' ELSE 'small' END AS c, count(DISTINCT s) AS n FROM a GROUP BY 1$q$),
(46, $q$SELECT lower(s) AS l, json_agg(x ORDER BY x)::text AS j FROM a GROUP BY lower(s)$q$),
(47, $q$SELECT first_value(x) OVER (PARTITION BY k ORDER BY ts) AS f, k FROM a$q$);

CALL create_views();

-- n rows of each stream, the same in every run
CREATE FUNCTION feed(seed int, na int, nb int, base interval DEFAULT '0') RETURNS void LANGUAGE sql AS $$
    WITH f AS (SELECT k, x, s, ts FROM rows_a(seed, na, base)),
    i AS (INSERT INTO nodes_all.a TABLE f)
    INSERT INTO nodes.a TABLE f;
    WITH f AS (SELECT k, y, ts FROM rows_b(seed, nb, base)),
    i AS (INSERT INTO nodes_all.b TABLE f)
    INSERT INTO nodes.b TABLE f;
$$;

SELECT * FROM differences();
SELECT feed(1, 10, 10);
SELECT batch_id, rows, dead_letters FROM streamext.step('nodes');
SELECT * FROM differences();
SELECT feed(1001, 1, 0);
SELECT batch_id, rows, dead_letters FROM streamext.step('nodes');
SELECT * FROM differences();
SELECT feed(2001, 0, 1);
SELECT batch_id, rows, dead_letters FROM streamext.step('nodes');
SELECT * FROM differences();
SELECT feed(3001, 40, 30);
SELECT batch_id, rows, dead_letters FROM streamext.step('nodes');
SELECT * FROM differences();
SELECT feed(4001, 3, 3);
SELECT batch_id, rows, dead_letters FROM streamext.step('nodes');
SELECT * FROM differences();
SELECT feed(5001, 100, 100);
SELECT batch_id, rows, dead_letters FROM streamext.step('nodes');
SELECT * FROM differences();

-- a step that is rolled back leaves nothing behind
BEGIN;
SELECT feed(9001, 20, 20);
COMMIT;
BEGIN;
SELECT batch_id, rows FROM streamext.step('nodes');
ROLLBACK;
SELECT batch_id, rows FROM streamext.step('nodes');
SELECT * FROM differences();

SELECT strategy, count(*) FROM streamext.step WHERE pipeline = (SELECT id FROM streamext.pipeline WHERE name = 'nodes') GROUP BY 1 ORDER BY 1;
DROP SCHEMA nodes CASCADE;
DROP SCHEMA nodes_all CASCADE;
SELECT relname FROM pg_class WHERE relnamespace = 'streamext_state'::regnamespace AND relname ~ '^(nodes_)?v[0-9]';
