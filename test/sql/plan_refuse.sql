-- What a continuous view cannot be, and what to write instead.
SET client_min_messages = warning;
CREATE SCHEMA plan_refuse;
SET search_path = plan_refuse, public;
CREATE TABLE t (id int PRIMARY KEY, k text, name text);
CREATE STREAM s (k text, v int, p point, ts timestamptz)
    WITH (connector = 'queue', pipeline = 'plan_refuse', paused, event_time = 'ts', watermark = '1 minute');
CREATE STREAM s2 (k text, v int, ts timestamptz) WITH (connector = 'queue', pipeline = 'plan_refuse', event_time = 'ts', paused);
CREATE FUNCTION drifting(int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1';
CREATE FUNCTION counted() RETURNS bigint STABLE BEGIN ATOMIC SELECT count(*) FROM s; END;

-- joins
CREATE MATERIALIZED VIEW x AS SELECT t.id FROM s RIGHT JOIN t ON s.v = t.id;
CREATE MATERIALIZED VIEW x AS SELECT t.id FROM t LEFT JOIN s ON s.v = t.id;
CREATE MATERIALIZED VIEW x AS SELECT t.id FROM s FULL JOIN t ON s.v = t.id;
CREATE MATERIALIZED VIEW x AS SELECT * FROM t WHERE EXISTS (SELECT FROM s WHERE s.v = t.id);
CREATE MATERIALIZED VIEW x AS SELECT n FROM counted() n;

-- clauses that look at several rows
CREATE MATERIALIZED VIEW x AS SELECT k FROM s ORDER BY k;
CREATE MATERIALIZED VIEW x AS SELECT k FROM s LIMIT 3;
CREATE MATERIALIZED VIEW x AS SELECT k FROM s OFFSET 3;
CREATE MATERIALIZED VIEW x AS SELECT k FROM s EXCEPT SELECT k FROM t;
CREATE MATERIALIZED VIEW x AS SELECT k FROM s UNION ALL SELECT k FROM t;
CREATE MATERIALIZED VIEW x AS WITH RECURSIVE r AS (SELECT v FROM s UNION ALL SELECT v - 1 FROM r WHERE v > 0) SELECT * FROM r;
CREATE MATERIALIZED VIEW x AS SELECT * FROM s FOR UPDATE;
CREATE VIEW sorted AS SELECT DISTINCT k FROM s;

-- tables beside nodes would be read again
CREATE MATERIALIZED VIEW x AS SELECT t.id, q.n FROM t JOIN (SELECT k, count(*) AS n FROM s GROUP BY k) q ON q.k = t.k;
CREATE MATERIALIZED VIEW x AS SELECT a.k FROM s a JOIN s2 b USING (k) JOIN t ON t.k = a.k AND t.name < b.k;
CREATE MATERIALIZED VIEW x AS SELECT DISTINCT ON (k) k, s FROM s ORDER BY k, v;

-- aggregates
CREATE MATERIALIZED VIEW x AS SELECT t.id, t.name, count(*) FROM s JOIN t ON t.id = s.v GROUP BY t.id;
CREATE MATERIALIZED VIEW x AS SELECT k, (SELECT count(*) FROM t), count(*) FROM s GROUP BY k;

-- time
CREATE MATERIALIZED VIEW x AS SELECT k FROM s WHERE ts > now() - interval '1 hour';
CREATE MATERIALIZED VIEW x AS SELECT s.k FROM s JOIN t ON t.id = s.v AND ts > current_timestamp;
CREATE MATERIALIZED VIEW x AS SELECT k, count(*) FROM s GROUP BY k HAVING max(ts) > current_date;
CREATE MATERIALIZED VIEW x AS SELECT current_date, count(*) FROM s GROUP BY 1;
CREATE MATERIALIZED VIEW x AS SELECT k, localtimestamp, count(*) FROM s GROUP BY k;
CREATE MATERIALIZED VIEW x AS SELECT drifting(v) FROM s;
CREATE MATERIALIZED VIEW x AS SELECT clock_timestamp(), k FROM s;

-- windows and options
CREATE MATERIALIZED VIEW x AS SELECT hop(ts, '10 s', '5 s'), count(*) FROM s GROUP BY 1;
CREATE MATERIALIZED VIEW x AS SELECT tumble(ts, '0 s'), count(*) FROM s GROUP BY 1;
CREATE MATERIALIZED VIEW x AS SELECT tumble(ts, '1 month'), count(*) FROM s GROUP BY 1;
CREATE MATERIALIZED VIEW x AS SELECT tumble(ts, v * interval '1 s'), count(*) FROM s GROUP BY 1;
CREATE MATERIALIZED VIEW x WITH (emit = 'final') AS SELECT k, count(*) FROM s GROUP BY 1;
CREATE MATERIALIZED VIEW x WITH (emit = 'final') AS SELECT tumble(ts + interval '1 s', '1 min'), count(*) FROM s GROUP BY 1;
CREATE MATERIALIZED VIEW x WITH (emit = 'final') AS SELECT tumble(ts, '1 min'), count(*) FROM s2 GROUP BY 1;
CREATE MATERIALIZED VIEW x WITH (emit = 'final', late = 'update') AS SELECT tumble(ts, '1 min'), count(*) FROM s GROUP BY 1;
CREATE MATERIALIZED VIEW x WITH (retention = '1 hour') AS SELECT k, count(*) FROM s GROUP BY 1;
CREATE MATERIALIZED VIEW x WITH (late = 'drop') AS SELECT k FROM s;

-- names
CREATE MATERIALIZED VIEW x AS SELECT k, k FROM s;
CREATE MATERIALIZED VIEW x (a, b, c) AS SELECT k, count(*) FROM s GROUP BY 1;

-- streams and sinks
CREATE STREAM y AS SELECT * FROM t;
CREATE TABLE target (a int PRIMARY KEY, b text);
CREATE UNLOGGED TABLE forgetful (a int);
CREATE STREAM y WITH (connector = 'table', table = 'target') AS SELECT v, k, ts FROM s;
CREATE STREAM y WITH (connector = 'table', table = 'target') AS SELECT k, v FROM s;
CREATE STREAM y WITH (connector = 'table', table = 'forgetful') AS SELECT v FROM s;
CREATE STREAM y WITH (connector = 'table', table = 'sorted') AS SELECT v FROM s;
CREATE STREAM y WITH (connector = 'table', table = 'target', key = 'k') AS SELECT v, k FROM s;
CREATE STREAM y WITH (connector = 'table', table = 'target', key = 'w') AS SELECT v, k FROM s;
CREATE STREAM y WITH (connector = 'table', table = 'target', key = 'v') AS SELECT v::bigint AS v, k FROM s;
CREATE STREAM y WITH (connector = 'table', table = 'target') AS SELECT id, name FROM t;
CREATE STREAM y WITH (connector = 'table', table = 'target', key = 'v') AS SELECT v, k AS sx_row FROM s;
CREATE TABLE computed (a int, twice int GENERATED ALWAYS AS (a * 2) STORED, id int GENERATED ALWAYS AS IDENTITY);
CREATE STREAM y WITH (connector = 'table', table = 'computed') AS SELECT v, v AS w FROM s;
CREATE STREAM y WITH (connector = 'null') AS SELECT k FROM s;
CREATE MATERIALIZED VIEW x AS SELECT k FROM y;

-- nothing was left behind
SELECT relname FROM pg_class WHERE relnamespace = 'streamext_state'::regnamespace AND relname ~ '^(plan_refuse_)?[xy](_|$)';
DROP SCHEMA plan_refuse CASCADE;
