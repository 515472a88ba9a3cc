-- cumulate(ts, step, size): ends of the growing windows; those of one size begin at its multiples and end step by step.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';
SELECT cumulate(timestamptz '2024-01-01 00:00:07', '5 seconds', '20 seconds');
-- a time on a boundary belongs to the window that begins there, not to the one that ends
SELECT ts, array(SELECT cumulate(ts, '5 seconds', '10 seconds')) FROM (VALUES
    (timestamptz '2024-01-01 00:00:00'), ('2024-01-01 00:00:04.999999'), ('2024-01-01 00:00:05'), ('2024-01-01 00:00:09.999999'), ('2024-01-01 00:00:10'),
    ('1969-12-31 23:59:50'), ('1969-12-31 23:59:59.5'), ('1970-01-01 00:00:00'), ('infinity'), ('-infinity')) v(ts);
SELECT * FROM cumulate(timestamp '1969-12-31 23:59:57', '5 seconds', '15 seconds');
SELECT cumulate(timestamptz '2024-01-01 00:00:07', '5 seconds', '10 seconds', '2024-01-01 00:00:03');
SELECT cumulate(timestamptz '2024-01-01 00:00:07', '10 seconds', '10 seconds');
SELECT cumulate(NULL::timestamptz, '5 seconds', '10 seconds') IS NULL AS one_null_row;
-- every window that is given holds the time, and none is left out
SELECT count(*) FROM generate_series(timestamptz '1969-12-31', '1970-01-02', '3 minutes 7 seconds') ts,
    LATERAL (SELECT array_agg(h ORDER BY h) AS a FROM cumulate(ts, '4 minutes', '20 minutes') h) x,
    LATERAL (SELECT array_agg(w + n * interval '4 minutes' ORDER BY n) AS b
             FROM generate_series(timestamptz '1969-12-30', '1970-01-03', '20 minutes') w, generate_series(1, 5) n
             WHERE w <= ts AND ts < w + n * interval '4 minutes' AND ts < w + interval '20 minutes') y
WHERE a IS DISTINCT FROM b;
SELECT cumulate(now(), '7 seconds', '10 seconds');
SELECT cumulate(now(), '20 seconds', '10 seconds');
SELECT cumulate(now(), '0 seconds', '10 seconds');
SELECT cumulate(now(), '1 day', '1 month');
SELECT cumulate(timestamptz '294276-12-31', '100 days', '100000 days');

CREATE SCHEMA cumulate_test;
SET search_path = cumulate_test, public;
CREATE STREAM s (k text, v int, ts timestamptz)
    WITH (connector = 'queue', pipeline = 'cumulate_test', paused, event_time = 'ts', watermark = '0 seconds');
CREATE MATERIALIZED VIEW changes AS SELECT cumulate(ts, '10 s', '30 s') AS w, k, count(*) AS n, sum(v) AS v FROM s GROUP BY 1, 2;
CREATE MATERIALIZED VIEW final WITH (emit = 'final') AS SELECT cumulate(ts, '10 s', '30 s') AS w, count(*) AS n FROM s GROUP BY 1;
CREATE MATERIALIZED VIEW in_from WITH (emit = 'final') AS SELECT w, array_agg(v ORDER BY v) AS vs FROM s, cumulate(ts, '10 s', '30 s') w GROUP BY w;
CREATE MATERIALIZED VIEW bad AS SELECT cumulate(ts, '7 s', '30 s') AS w, count(*) FROM s GROUP BY 1;
CREATE MATERIALIZED VIEW bad WITH (emit = 'final') AS SELECT cumulate(ts, '10 s', k::interval) AS w, count(*) FROM s GROUP BY 1;
INSERT INTO s VALUES ('a', 1, '2024-01-01 00:00:00'), ('a', 2, '2024-01-01 00:00:10'), ('b', 3, '2024-01-01 00:00:19'), ('n', 4, NULL);
SELECT batch_id, rows FROM streamext.step('cumulate_test');
SELECT * FROM changes ORDER BY 1, 2;
SELECT * FROM final ORDER BY 1;
-- 00:00:05 is late for the window that ended at 00:00:10, and for no other
INSERT INTO s VALUES ('a', 5, '2024-01-01 00:00:05'), ('b', 6, '2024-01-01 00:00:30');
SELECT batch_id, rows FROM streamext.step('cumulate_test');
SELECT * FROM changes ORDER BY 1, 2;
SELECT * FROM final ORDER BY 1;
SELECT * FROM in_from ORDER BY 1;
SELECT view, late_rows, null_time_rows, watermark FROM streamext.views WHERE pipeline = 'cumulate_test' ORDER BY view::text;
DROP SCHEMA cumulate_test CASCADE;
