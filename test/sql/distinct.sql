-- Aggregates over different values, and SELECT DISTINCT: after every batch each view equals its SELECT over all rows.
SET client_min_messages = error;
SET timezone = 'UTC';
CREATE SCHEMA uniq;
CREATE SCHEMA uniq_all;
SET search_path = uniq, public;
CREATE STREAM a (k int, x int, n numeric(6,2), s text, ts timestamptz)
    WITH (connector = 'queue', pipeline = 'uniq', paused, event_time = 'ts', watermark = '5 seconds');
CREATE TABLE uniq_all.a (k int, x int, n numeric(6,2), s text, ts timestamptz);
CREATE TABLE dim AS SELECT i AS k, 'n' || i % 3 AS name FROM generate_series(0, 4) i;
CREATE AGGREGATE total(int) (sfunc = int4pl, stype = int, combinefunc = int4pl, initcond = '0');

\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir '/sql/include/oracle.sql'
\i :oracle

CREATE TABLE query (id int PRIMARY KEY, strategy text, sql text NOT NULL);
INSERT INTO query VALUES
(1, 'distinct', $q$SELECT k, count(*) AS n, count(DISTINCT x) AS d FROM a GROUP BY k$q$),
(2, 'distinct', $q$SELECT count(DISTINCT x) AS d FROM a$q$),
(3, 'distinct', $q$SELECT k, s, sum(DISTINCT x) AS sx, avg(DISTINCT n) AS av, count(DISTINCT n) FILTER (WHERE x > 5) AS c, count(DISTINCT x) AS d FROM a GROUP BY k, s$q$),
(4, 'distinct', $q$SELECT k + 1 AS k1, count(DISTINCT x % 3) + count(DISTINCT s) AS both, min(x) AS m FROM a WHERE s <> 'b' GROUP BY k + 1 HAVING count(DISTINCT x) > 1$q$),
(5, 'merge', $q$SELECT k, max(DISTINCT x) AS m, bool_or(DISTINCT x > 3) AS b FROM a GROUP BY k$q$),
(6, 'distinct', $q$SELECT lower(s) AS l, count(DISTINCT k) FILTER (WHERE x IS NULL) AS z, count(DISTINCT k) FILTER (WHERE x > 3 AND k IS NOT NULL) AS y, count(*) FILTER (WHERE x > 3) AS w FROM a GROUP BY lower(s)$q$),
(7, 'distinct', $q$SELECT d.name, count(DISTINCT a.x) AS n, variance(DISTINCT a.x) AS v FROM a JOIN dim d ON d.k = a.k GROUP BY d.name$q$),
(8, 'distinct', $q$SELECT tumble(ts, '10 s') AS w, count(DISTINCT k) AS n, count(*) AS c FROM a GROUP BY 1$q$),
(9, 'distinct', $q$SELECT hop(ts, '5 s', '10 s') AS w, count(DISTINCT s) AS n FROM a GROUP BY 1$q$),
(10, 'distinct', $q$SELECT s, regr_count(DISTINCT k, x) AS r, total(DISTINCT x) AS t FROM a GROUP BY s$q$),
(11, 'recompute', $q$SELECT k, array_agg(DISTINCT x) AS l, count(DISTINCT x) AS d FROM a GROUP BY k$q$),
(12, 'recompute', $q$SELECT k, count(DISTINCT x) AS d, string_agg(s, ',' ORDER BY s) AS l FROM a GROUP BY k$q$),
(13, 'merge', $q$SELECT DISTINCT k, s FROM a$q$),
(14, 'merge', $q$SELECT DISTINCT x % 4 AS r, 1 AS one, n FROM a WHERE k > 1$q$),
(15, 'merge', $q$SELECT DISTINCT tumble(ts, '10 s') AS w, k FROM a$q$),
(16, NULL, $q$SELECT sum(d) AS sd, max(d) AS mx FROM (SELECT k, count(DISTINCT x) AS d FROM a GROUP BY k) c$q$),
(17, NULL, $q$SELECT s, count(*) AS n FROM (SELECT DISTINCT k, s FROM a) d GROUP BY s$q$),
(18, 'recompute', $q$SELECT count(DISTINCT (k, x)) AS d, count(DISTINCT n) AS e FROM a$q$),
(19, 'distinct', $q$SELECT k, count(DISTINCT -x) AS d, count(DISTINCT s COLLATE "POSIX") AS e FROM a WHERE EXISTS (SELECT FROM dim d WHERE d.k = a.k) GROUP BY a.k$q$);

CALL create_views();
SELECT q.id, v.strategy FROM query q JOIN streamext.views v ON v.view = ('v' || q.id)::regclass WHERE v.strategy IS DISTINCT FROM q.strategy AND q.strategy IS NOT NULL;
-- late rows do not count; and closed windows are forgotten
CREATE MATERIALIZED VIEW timely WITH (late = 'drop') AS
    SELECT tumble(ts, '10 s') AS w, count(*) AS c, count(DISTINCT k) AS n FROM a GROUP BY 1;
CREATE MATERIALIZED VIEW timely_k WITH (late = 'dead_letter', retention = '0 s') AS
    SELECT tumble(ts, '10 s') AS w, k, count(DISTINCT x) AS n FROM a GROUP BY 1, 2;
CREATE MATERIALIZED VIEW final WITH (emit = 'final') AS
    SELECT tumble(ts, '10 s') AS w, count(DISTINCT x) AS n, count(*) AS c FROM a GROUP BY 1;
CREATE MATERIALIZED VIEW above WITH (late = 'drop') AS
    SELECT w, max(n) AS mx, sum(n) AS sn FROM (SELECT tumble(ts, '10 s') AS w, k, count(DISTINCT x) AS n FROM a GROUP BY 1, 2) c GROUP BY w;
CREATE MATERIALIZED VIEW slow WITH (emit = '1 hour') AS SELECT k, count(*) AS c, count(DISTINCT x) AS n FROM a GROUP BY 1;

-- n rows, the same in every run
CREATE FUNCTION feed(seed int, n int, base interval DEFAULT '0') RETURNS void LANGUAGE sql AS $$
    WITH f AS (SELECT k, x, (abs(hashint4((id - seed) * 5 + seed)) % 9) / 4.0 AS n, s, ts FROM rows_a(seed, n, base)),
    i AS (INSERT INTO uniq_all.a TABLE f)
    INSERT INTO uniq.a TABLE f;
$$;

SELECT * FROM differences();
SELECT feed(1, 10);
SELECT batch_id, rows, dead_letters FROM streamext.step('uniq');
SELECT * FROM differences();
TABLE timely ORDER BY w;
SELECT feed(1001, 1);
SELECT batch_id, rows, dead_letters FROM streamext.step('uniq');
SELECT * FROM differences();
SELECT feed(3001, 40);
SELECT batch_id, rows, dead_letters FROM streamext.step('uniq');
SELECT * FROM differences();
-- a step that is rolled back leaves nothing behind
SELECT feed(9001, 20, '1 minute');
BEGIN;
SELECT batch_id, rows FROM streamext.step('uniq');
ROLLBACK;
SELECT * FROM differences();
SELECT batch_id, rows, dead_letters FROM streamext.step('uniq');
SELECT * FROM differences();
-- late for the first windows, not for the last one
SELECT feed(4001, 30, '58 seconds');
SELECT batch_id, rows, dead_letters FROM streamext.step('uniq');
SELECT * FROM differences();
TABLE timely ORDER BY w;
TABLE final ORDER BY w;
TABLE above ORDER BY w;
SELECT count(*), min(w), max(w) FROM timely_k;
SELECT view, late_rows, dead_letters FROM streamext.views WHERE view IN ('timely'::regclass, 'timely_k'::regclass, 'above'::regclass) ORDER BY 1;
-- nodes of the windowed views keep open windows only
SELECT s.relation, n.ended FROM streamext.step s, LATERAL (
    SELECT (xpath('//row/n/text()', query_to_xml(format('SELECT count(*) FILTER (WHERE key_1 + interval ''10 s'' <= %L) AS n FROM %s', g.watermark, s.state), false, false, '')))[1]::text AS ended
    FROM streamext.step_progress g WHERE g.relation = s.node_of) n
WHERE s.options ? 'set' AND s.node_of IN ('timely'::regclass, 'timely_k'::regclass, 'final'::regclass, 'above'::regclass) ORDER BY 1;
TABLE slow ORDER BY k;
SELECT streamext.explain('v3');
SELECT streamext.explain('v18');
SELECT streamext.explain('v14');
SELECT streamext.reset('v3');
DROP SCHEMA uniq CASCADE;
DROP SCHEMA uniq_all CASCADE;
SELECT relname FROM pg_class WHERE relnamespace = 'streamext_state'::regnamespace AND relname ~ '^(uniq_)?v[0-9]';
