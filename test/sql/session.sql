-- session(ts, gap): a row spans [ts, ts + gap); spans of one key that overlap or touch are one session.
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE SCHEMA session_test;
SET search_path = session_test, public;
CREATE STREAM s (k text, v int, gap interval, ts timestamptz)
    WITH (connector = 'queue', pipeline = 'session_test', paused, event_time = 'ts', watermark = '20 seconds');
CREATE STREAM other (k text, v int, ts timestamptz)
    WITH (connector = 'queue', pipeline = 'session_test', event_time = 'ts', watermark = '0 seconds');
CREATE MATERIALIZED VIEW changes AS
    SELECT k, session_start() AS a, session_end() AS b, count(*) AS n, sum(v) AS v, stddev(v) AS d FROM s GROUP BY k, session(ts, '10 s');
CREATE MATERIALIZED VIEW dropping WITH (late = 'drop') AS
    SELECT k, session_start() AS a, session_end() AS b, count(*) AS n, sum(v) AS v FROM s GROUP BY k, session(ts, '10 s');
CREATE MATERIALIZED VIEW final WITH (emit = 'final') AS
    SELECT session_start() AS a, session_end() AS b, k, count(*) AS n, array_agg(v ORDER BY v) AS vs FROM s GROUP BY session(ts, '10 s'), k;
CREATE MATERIALIZED VIEW letters WITH (late = 'dead_letter') AS
    SELECT k, session_start() AS a, count(*) AS n FROM s GROUP BY k, session(ts, '10 s');
CREATE MATERIALIZED VIEW kept WITH (retention = '30 s') AS
    SELECT k, session_end() AS b, count(DISTINCT v) AS n FROM s GROUP BY k, session(ts, '10 s');
-- no key; the session itself, expressions over its bounds, HAVING
CREATE MATERIALIZED VIEW everybody AS
    SELECT session(ts, '10 s') AS s, session_end() - session_start() AS length, max(v) - min(v) AS spread
    FROM s GROUP BY session(ts, '10 s') HAVING count(*) > 1 AND session_end() - session_start() > '10 s';
-- a gap of each row; 0, less or NULL: in no session
CREATE MATERIALIZED VIEW gaps AS
    SELECT k, session_start() AS a, session_end() AS b, count(*) AS n FROM s WHERE gap IS NOT NULL OR k = 'x' GROUP BY k, session(ts, gap);
-- streams together; a subquery below something else
CREATE MATERIALIZED VIEW together AS
    SELECT k, session_start() AS a, session_end() AS b, count(*) AS n
    FROM (SELECT k, ts FROM s UNION ALL SELECT k, ts FROM other) u GROUP BY k, session(ts, '10 s');
CREATE MATERIALIZED VIEW longest AS
    SELECT k, max(n) AS n, max(b - a) AS length, count(*) AS sessions
    FROM (SELECT k, session_start() AS a, session_end() AS b, count(*) AS n FROM s GROUP BY k, session(ts, '10 s')) x GROUP BY k;

SELECT view, strategy FROM streamext.views WHERE pipeline = 'session_test' ORDER BY view::text;

-- a: 0 and 10 s touch, 20.000001 does not; a NULL key is a key; a NULL time is in no session
INSERT INTO s VALUES ('a', 1, NULL, '2024-01-01 00:00:00'), ('a', 2, NULL, '2024-01-01 00:00:10'), ('a', 3, NULL, '2024-01-01 00:00:20.000001'),
    (NULL, 1, NULL, '2024-01-01 00:00:05'), ('n', 1, NULL, NULL);
SELECT batch_id, rows, dead_letters FROM streamext.step('session_test');
SELECT * FROM changes ORDER BY 1, 2;
-- 00:00:12 bridges two sessions of a; b is 30 s away, and moves the watermark to 00:00:30
INSERT INTO s VALUES ('a', 4, NULL, '2024-01-01 00:00:12'), ('b', 1, NULL, '2024-01-01 00:00:50');
SELECT batch_id, rows, dead_letters FROM streamext.step('session_test');
SELECT * FROM changes ORDER BY 1, 2;
SELECT * FROM final ORDER BY 1, 3;
-- late: 'late' ends at 00:00:25; a 00:00:29 would extend a session that ends at 30.000001, which lives;
-- what would extend the closed one of NULL is a late session of its own; one that is alive is kept, though it overlaps that
INSERT INTO s VALUES ('late', 1, NULL, '2024-01-01 00:00:15'), ('a', 5, NULL, '2024-01-01 00:00:03'), (NULL, 2, NULL, '2024-01-01 00:00:14'),
    (NULL, 3, NULL, '2024-01-01 00:00:21');
SELECT batch_id, rows, dead_letters FROM streamext.step('session_test');
SELECT * FROM changes ORDER BY 1, 2;
SELECT * FROM dropping ORDER BY 1, 2;
SELECT * FROM final ORDER BY 1, 3;
-- a batch without rows for it closes nothing twice; the watermark goes to 00:01:40
INSERT INTO s VALUES ('b', 2, NULL, '2024-01-01 00:02:00'), ('b', 3, NULL, '2024-01-01 00:00:58');
SELECT batch_id, rows, dead_letters FROM streamext.step('session_test');
SELECT * FROM dropping ORDER BY 1, 2;
SELECT * FROM final ORDER BY 1, 3;
SELECT * FROM letters ORDER BY 1, 2;
SELECT * FROM kept ORDER BY 1, 2;
SELECT * FROM everybody ORDER BY 1;
SELECT * FROM longest ORDER BY 1;
SELECT view, late_rows, null_time_rows, dead_letters FROM streamext.views WHERE pipeline = 'session_test' ORDER BY view::text;
SELECT view, batch_id, convert_from(value, 'UTF8') AS record, message FROM streamext.dead_letters WHERE pipeline = 'session_test' ORDER BY id;
-- rows of sessions that are closed are not kept
SELECT count(*) FROM streamext_state.final_1;

-- gaps of rows; two streams
INSERT INTO s VALUES ('x', 1, '1 minute', '2024-01-01 00:03:00'), ('x', 2, '1 second', '2024-01-01 00:03:30'), ('x', 3, '0', '2024-01-01 00:03:31'),
    ('x', 4, '-1 hour', '2024-01-01 00:03:32'), ('x', 5, NULL, '2024-01-01 00:03:33'), ('x', 6, '1 second', '2024-01-01 00:04:00'),
    ('x', 7, '1 second', '2024-01-01 00:04:01.000001');
INSERT INTO other VALUES ('x', 1, '2024-01-01 00:03:10'), ('x', 1, '2024-01-01 00:03:20');
SELECT batch_id, rows, dead_letters FROM streamext.step('session_test');
SELECT * FROM gaps ORDER BY 1, 2;
SELECT * FROM together WHERE k = 'x' ORDER BY 1, 2;

-- a step that is rolled back leaves nothing behind
INSERT INTO s VALUES ('x', 8, '1 second', '2024-01-01 00:04:02');
BEGIN;
SELECT batch_id, rows, dead_letters FROM streamext.step('session_test');
SELECT * FROM gaps ORDER BY 1, 2;
ROLLBACK;
SELECT * FROM gaps ORDER BY 1, 2;
SELECT batch_id, rows, dead_letters FROM streamext.step('session_test');
SELECT * FROM gaps ORDER BY 1, 2;

-- times without time zone; before 1970; a join to a table
CREATE STREAM plain (k int, at timestamp) WITH (connector = 'queue', pipeline = 'session_plain', paused, event_time = 'at', watermark = '0 seconds');
CREATE TABLE names (k int, name text);
INSERT INTO names VALUES (1, 'one');
CREATE MATERIALIZED VIEW without_zone WITH (emit = 'final') AS
    SELECT n.name, session(at, '1 minute') AS s, session_start() AS a, session_end() AS b, count(*) FROM plain JOIN names n USING (k) GROUP BY n.name, session(at, '1 minute');
INSERT INTO plain VALUES (1, '1969-12-31 23:59:30'), (1, '1970-01-01 00:00:20'), (2, '1970-01-01 00:00:20'), (1, '1970-01-01 00:01:20');
SELECT batch_id, rows FROM streamext.step('session_plain');
TABLE without_zone;
INSERT INTO plain VALUES (1, '1970-01-01 00:02:20.5');
SELECT batch_id, rows FROM streamext.step('session_plain');
SET timezone = 'America/New_York';
TABLE without_zone;
SET timezone = 'UTC';

-- rows kept: aggregates that see order, direct arguments that are keys, FILTER; two streams; no key; below other queries
CREATE STREAM r (k text, v int, ts timestamptz) WITH (connector = 'queue', pipeline = 'session_rows', paused, event_time = 'ts', watermark = '0 seconds');
CREATE STREAM r2 (k text, v int, ts timestamptz) WITH (connector = 'queue', pipeline = 'session_rows', event_time = 'ts', watermark = '0 seconds');
CREATE MATERIALIZED VIEW many AS
    SELECT k, v % 2 AS odd, session_start() AS a, session_end() AS b, array_agg(v) AS vs, percentile_cont(0.5) WITHIN GROUP (ORDER BY v) AS p,
        rank(v % 2) WITHIN GROUP (ORDER BY v) AS r, count(*) FILTER (WHERE v > 2) AS n, string_agg(k || v, ',' ORDER BY v DESC) AS l
    FROM (SELECT k, v, ts FROM r UNION ALL SELECT k, v, ts FROM r2) x WHERE v > 0 GROUP BY k, v % 2, session(ts, '10 s') HAVING count(DISTINCT v) > 0;
CREATE MATERIALIZED VIEW no_key AS SELECT array_agg(v) AS vs FROM r GROUP BY session(ts, '10 s');
CREATE MATERIALIZED VIEW top AS SELECT k, n, a FROM (
    SELECT k, n, a, row_number() OVER (PARTITION BY k ORDER BY n DESC, a) AS r FROM (SELECT k, session_start() AS a, count(*) AS n FROM r GROUP BY k, session(ts, '10 s')) s) s WHERE r = 1;
CREATE MATERIALIZED VIEW of_all AS SELECT max(cardinality(l)) AS longest FROM (SELECT array_agg(v) AS l FROM r GROUP BY k, session(ts, '10 s')) s;
INSERT INTO r VALUES ('a', 1, '2024-01-01 00:00:00'), ('a', 3, '2024-01-01 00:00:10'), ('b', 1, '2024-01-01 00:00:05'), (NULL, 1, '2024-01-01 00:00:05'), ('c', 1, NULL);
INSERT INTO r2 VALUES ('a', 7, '2024-01-01 00:00:15'), ('a', 2, '2024-01-01 00:00:10');
SELECT batch_id, rows FROM streamext.step('session_rows');
INSERT INTO r VALUES ('b', 5, '2024-01-01 00:00:17'), ('b', 3, '2024-01-01 00:00:11'), ('b', 0, '2024-01-01 00:00:11');
SELECT batch_id, rows FROM streamext.step('session_rows');
SELECT * FROM many ORDER BY k, a;
TABLE no_key;
SELECT * FROM top ORDER BY k;
TABLE of_all;

-- where it means nothing
SELECT session(now(), '1 minute');
SELECT session_start();
CREATE STREAM per_batch AS SELECT k, count(*) FROM s GROUP BY k, session(ts, '10 s');
CREATE MATERIALIZED VIEW bad AS SELECT k, session_start() FROM s GROUP BY k;
CREATE MATERIALIZED VIEW bad AS SELECT k, count(*) FROM s WHERE session_start() > '2024-01-01' GROUP BY k, session(ts, '10 s');
CREATE MATERIALIZED VIEW bad AS SELECT k, max(session_start()) FROM s GROUP BY k, session(ts, '10 s');
CREATE MATERIALIZED VIEW bad AS SELECT k, session(ts, '10 s') FROM s;
CREATE MATERIALIZED VIEW bad AS SELECT date_trunc('hour', session(ts, '10 s')), count(*) FROM s GROUP BY 1;
CREATE MATERIALIZED VIEW bad AS SELECT count(*) FROM s GROUP BY session(ts, '10 s'), session(ts, '1 s');
CREATE MATERIALIZED VIEW bad AS SELECT count(*) FROM s GROUP BY ROLLUP (k, session(ts, '10 s'));
CREATE MATERIALIZED VIEW bad AS SELECT DISTINCT count(*) FROM s GROUP BY k, session(ts, '10 s');
CREATE MATERIALIZED VIEW bad WITH (backfill = off) AS SELECT count(*) FROM s JOIN other USING (k) GROUP BY k, session(s.ts, '10 s');
CREATE MATERIALIZED VIEW bad AS SELECT count(*) FROM changes GROUP BY k, session(a, '10 s');
CREATE MATERIALIZED VIEW bad WITH (emit = '5 seconds') AS SELECT count(*) FROM s GROUP BY k, session(ts, '10 s');
CREATE MATERIALIZED VIEW bad WITH (emit = 'final') AS SELECT count(*) FROM s GROUP BY k, session(ts + interval '1 s', '10 s');
CREATE MATERIALIZED VIEW bad WITH (late = 'dead_letter', backfill = off) AS SELECT array_agg(v ORDER BY v) FROM s GROUP BY k, session(ts, '10 s');
DROP SCHEMA session_test CASCADE;
SELECT relname FROM pg_class WHERE relnamespace = 'streamext_state'::regnamespace AND relname ~ '^(session|changes|dropping|final|letters|kept|everybody|gaps|together|longest|without_zone)';
