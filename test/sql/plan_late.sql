-- Lateness, closing, retention, and what becomes of late rows.
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE SCHEMA plan_late;
SET search_path = plan_late, public;
CREATE STREAM s (k text, v int, ts timestamptz)
    WITH (connector = 'queue', pipeline = 'plan_late', paused, event_time = 'ts', watermark = '10 seconds');
CREATE STREAM positive AS SELECT k, v, ts FROM s WHERE v > 0;
CREATE MATERIALIZED VIEW changes AS SELECT tumble(ts, '10 s') AS w, count(*) AS n FROM s GROUP BY 1;
CREATE MATERIALIZED VIEW dropping WITH (late = 'drop') AS SELECT hop(ts, '10 s', '20 s') AS w, count(*) AS n FROM s GROUP BY 1;
CREATE MATERIALIZED VIEW final WITH (emit = 'final') AS SELECT tumble(ts, '10 s') AS w, count(*) AS n FROM positive GROUP BY 1;
CREATE MATERIALIZED VIEW letters WITH (late = 'dead_letter') AS SELECT hop(ts, '10 s', '20 s') AS w, k, count(*) AS n FROM positive GROUP BY 1, 2;
CREATE MATERIALIZED VIEW kept WITH (retention = '30 s') AS SELECT tumble(ts, '10 s') AS w, count(*) AS n FROM s GROUP BY 1;
CREATE MATERIALIZED VIEW stamped WITH (late = 'drop') AS SELECT tumble(ts, '10 s') AS w, k FROM s;
CREATE STREAM last WITH (connector = 'table', table = 'last_of_k', key = 'k') AS SELECT k, v FROM positive;

-- a window is closed by a watermark that reaches its end, which moves at the end of a batch
INSERT INTO s VALUES ('a', 1, '2024-01-01 00:00:01'), ('a', 2, '2024-01-01 00:00:19'), ('b', 1, '2024-01-01 00:00:20'), ('n', 1, NULL);
SELECT batch_id, rows, dead_letters FROM streamext.step('plan_late');
TABLE final;
-- 'late' is late for [0, 10), in hops of 20 s for the window before as well; NULL time: in no window
INSERT INTO s VALUES ('late', 1, '2024-01-01 00:00:02'), ('edge', 1, '2024-01-01 00:00:10'), ('c', -1, '2024-01-01 00:01:00'), ('b', 7, '2024-01-01 00:00:40'), ('b', 8, '2024-01-01 00:00:30');
SELECT batch_id, rows, dead_letters FROM streamext.step('plan_late');
SELECT * FROM changes ORDER BY 1;
SELECT * FROM dropping ORDER BY 1;
SELECT * FROM final ORDER BY 1;
SELECT * FROM letters ORDER BY 1, 2;
SELECT * FROM kept ORDER BY 1;
SELECT * FROM stamped ORDER BY 1, 2;
-- the last row of a key by arrival, not by time
SELECT * FROM last_of_k ORDER BY 1;
-- far behind: late for everything, also beyond the retention
INSERT INTO s VALUES ('old', 1, '2024-01-01 00:00:03');
SELECT batch_id, rows, dead_letters FROM streamext.step('plan_late');
SELECT * FROM changes ORDER BY 1 LIMIT 1;
SELECT * FROM kept ORDER BY 1;
SELECT view, late_rows, null_time_rows, dead_letters, watermark FROM streamext.views
WHERE pipeline = 'plan_late' ORDER BY view::text;
SELECT view, batch_id, convert_from(value, 'UTF8') AS record, message FROM streamext.dead_letters
WHERE pipeline = 'plan_late' ORDER BY id;
DROP SCHEMA plan_late CASCADE;
