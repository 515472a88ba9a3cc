-- A view over one with emit = 'final': its rows are those of the windows that close, and it closes its own in the same batch.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE SCHEMA chained;
SET search_path = chained, public;
CREATE STREAM s (k text, v int, ts timestamptz)
    WITH (connector = 'queue', pipeline = 'chained', paused, event_time = 'ts', watermark = '5 seconds');
CREATE MATERIALIZED VIEW tens WITH (emit = 'final') AS SELECT tumble(ts, '10 s') AS w, k, count(*) AS n FROM s GROUP BY 1, 2 HAVING max(v) > 0;
CREATE MATERIALIZED VIEW hops WITH (emit = 'final') AS SELECT hop(ts, '10 s', '20 s') AS w, count(*) AS n FROM s GROUP BY 1;
CREATE MATERIALIZED VIEW grown WITH (emit = 'final') AS SELECT cumulate(ts, '10 s', '30 s') AS w, count(*) AS n FROM s GROUP BY 1;
CREATE MATERIALIZED VIEW sessions WITH (emit = 'final') AS SELECT k, session_start() AS a, session_end() AS b, count(*) AS n FROM s GROUP BY k, session(ts, '5 s');
-- merge, append, recompute and session over it
CREATE MATERIALIZED VIEW minutes WITH (emit = 'final') AS SELECT tumble(w, '1 minute') AS w, k, max(n) AS n, count(*) AS windows FROM tens GROUP BY 1, 2;
CREATE MATERIALIZED VIEW minutes_now AS SELECT tumble(w, '1 minute') AS w, k, max(n) AS n, count(*) AS windows FROM tens GROUP BY 1, 2;
CREATE MATERIALIZED VIEW busy AS SELECT * FROM tens WHERE n > 1;
CREATE MATERIALIZED VIEW lists WITH (emit = 'final') AS SELECT tumble(w, '1 minute') AS w, array_agg(n ORDER BY w, k) AS n FROM tens GROUP BY 1;
CREATE MATERIALIZED VIEW same WITH (emit = 'final') AS SELECT w, max(n) AS n FROM tens GROUP BY w;
CREATE MATERIALIZED VIEW runs WITH (emit = 'final') AS SELECT k, session_start() AS a, session_end() AS b, sum(n) AS n FROM tens GROUP BY k, session(w, '10 s');
CREATE MATERIALIZED VIEW different WITH (emit = 'final') AS SELECT tumble(w, '1 minute') AS w, count(DISTINCT k) AS keys, count(*) AS windows FROM tens GROUP BY 1;
-- a third one; over hops, ends and sessions
CREATE MATERIALIZED VIEW pairs WITH (emit = 'final') AS SELECT tumble(w, '2 minutes') AS w, sum(windows) AS windows FROM minutes GROUP BY 1;
CREATE MATERIALIZED VIEW hop_minutes WITH (emit = 'final') AS SELECT tumble(w, '1 minute') AS w, sum(n) AS n FROM hops GROUP BY 1;
CREATE MATERIALIZED VIEW ends WITH (emit = 'final') AS SELECT tumble(w - interval '1 microsecond', '1 minute') AS w, sum(n) AS n FROM grown GROUP BY 1;
CREATE MATERIALIZED VIEW session_minutes WITH (emit = 'final') AS SELECT tumble(b, '1 minute') AS w, count(*) AS sessions, sum(n) AS n FROM sessions GROUP BY 1;
-- in one query
CREATE MATERIALIZED VIEW nested WITH (emit = 'final') AS
    SELECT tumble(w, '1 minute') AS w, k, max(n) AS n FROM (SELECT tumble(ts, '10 s') AS w, k, count(*) AS n FROM s GROUP BY 1, 2) t GROUP BY 1, 2;
CREATE MATERIALIZED VIEW nested_sessions WITH (emit = 'final') AS
    SELECT tumble(b, '1 minute') AS w, count(*) AS sessions FROM (SELECT k, session_end() AS b FROM s GROUP BY k, session(ts, '5 s')) t GROUP BY 1;
CREATE TABLE names (k text, name text);
INSERT INTO names VALUES ('a', 'A');
CREATE MATERIALIZED VIEW named WITH (emit = 'final') AS SELECT tumble(t.w, '1 minute') AS w, m.name, sum(t.n) AS n FROM tens t JOIN names m USING (k) GROUP BY 1, 2;
SELECT view, strategy FROM streamext.views WHERE pipeline = 'chained' ORDER BY view::text;

CREATE TABLE rows (k text, v int, ts timestamptz);
CREATE FUNCTION feed(VARIADIC seconds numeric[]) RETURNS void LANGUAGE sql AS $$
    INSERT INTO chained.rows SELECT CASE WHEN i % 3 = 0 THEN 'b' ELSE 'a' END, 1, timestamptz '2024-01-01 00:00Z' + s * interval '1 second'
    FROM unnest(seconds) WITH ORDINALITY u(s, i);
    INSERT INTO chained.s SELECT * FROM chained.rows OFFSET (SELECT count(*) FROM chained.rows) - cardinality(seconds);
$$;

-- the watermark is 00:00:54: all but the last window of tens, and no minute
SELECT feed(1, 2, 3, 12, 42, 59);
SELECT batch_id, rows FROM streamext.step('chained');
SELECT * FROM tens ORDER BY 1, 2;
SELECT * FROM minutes ORDER BY 1, 2;
SELECT * FROM minutes_now ORDER BY 1, 2;
SELECT * FROM busy ORDER BY 1, 2;
SELECT * FROM same ORDER BY 1;
-- 00:01:05 brings it to 00:01:00: the last window of the minute and the minute close in this batch
SELECT feed(65);
SELECT batch_id, rows FROM streamext.step('chained');
SELECT * FROM minutes ORDER BY 1, 2;
SELECT * FROM lists ORDER BY 1;
SELECT * FROM nested ORDER BY 1, 2;
SELECT * FROM named ORDER BY 1, 2;
-- the hop [00:00:50, 00:01:10) has not ended, and it begins within the minute
SELECT * FROM hop_minutes ORDER BY 1;
SELECT * FROM ends ORDER BY 1;
SELECT * FROM session_minutes ORDER BY 1;
-- a roll-back leaves nothing behind
SELECT feed(75.5);
BEGIN;
SELECT batch_id, rows FROM streamext.step('chained');
SELECT * FROM hop_minutes ORDER BY 1;
ROLLBACK;
SELECT * FROM hop_minutes ORDER BY 1;
SELECT batch_id, rows FROM streamext.step('chained');
SELECT * FROM hop_minutes ORDER BY 1;
SELECT * FROM runs ORDER BY 1, 2;
-- late for tens means that nothing below has it; everything ends
SELECT feed(1, 66, 300);
SELECT batch_id, rows FROM streamext.step('chained');
SELECT * FROM minutes ORDER BY 1, 2;
SELECT * FROM pairs ORDER BY 1;
SELECT * FROM ends ORDER BY 1;
SELECT * FROM session_minutes ORDER BY 1;
SELECT * FROM nested_sessions ORDER BY 1;
SELECT * FROM runs ORDER BY 1, 2;
SELECT view, late_rows, watermark FROM streamext.views WHERE pipeline = 'chained' ORDER BY view::text;
-- a node that gives out closed windows keeps none of them
SELECT count(*) FROM streamext_state.nested_1 WHERE w < '2024-01-01 00:04:50';

-- each view is its query over the view below
CREATE FUNCTION differences() RETURNS SETOF text LANGUAGE sql AS $$
    SELECT 'minutes' FROM ((SELECT * FROM minutes_now EXCEPT SELECT tumble(w, '1 minute'), k, max(n), count(*) FROM tens GROUP BY 1, 2)
        UNION ALL (SELECT tumble(w, '1 minute'), k, max(n), count(*) FROM tens GROUP BY 1, 2 EXCEPT SELECT * FROM minutes_now)) d
    UNION ALL SELECT 'busy' FROM ((TABLE busy EXCEPT ALL SELECT * FROM tens WHERE n > 1) UNION ALL (SELECT * FROM tens WHERE n > 1 EXCEPT ALL TABLE busy)) d
    UNION ALL SELECT 'same' FROM ((TABLE same EXCEPT SELECT w, max(n) FROM tens GROUP BY 1) UNION ALL (SELECT w, max(n) FROM tens GROUP BY 1 EXCEPT TABLE same)) d
    UNION ALL SELECT 'hops' FROM (TABLE hop_minutes EXCEPT SELECT tumble(w, '1 minute'), sum(n) FROM hops GROUP BY 1) d
    UNION ALL SELECT 'ends' FROM (TABLE ends EXCEPT SELECT tumble(w - interval '1 microsecond', '1 minute'), sum(n) FROM grown GROUP BY 1) d
    UNION ALL SELECT 'sessions' FROM (TABLE session_minutes EXCEPT SELECT tumble(b, '1 minute'), count(*), sum(n) FROM sessions GROUP BY 1) d
    UNION ALL SELECT 'different' FROM (TABLE different EXCEPT SELECT tumble(w, '1 minute'), count(DISTINCT k), count(*) FROM tens GROUP BY 1) d
    UNION ALL SELECT 'nested' FROM (TABLE nested EXCEPT SELECT w, k, n FROM minutes) d
$$;
SELECT * FROM differences();
SELECT setseed(0.3);
DO $$
BEGIN
    FOR b IN 1 .. 25 LOOP
        PERFORM chained.feed(VARIADIC (SELECT array_agg((300 + b * 15 + random() * 30 - 12)::numeric(9, 3)) FROM generate_series(1, 1 + (random() * 6)::int)));
        COMMIT;
        PERFORM streamext.step('chained');
        IF EXISTS (SELECT FROM chained.differences()) THEN
            RAISE WARNING 'batch %: %', b, (SELECT array_agg(DISTINCT d) FROM chained.differences() d);
        END IF;
    END LOOP;
END $$;
SELECT count(*) > 5 AS minutes, sum(windows) > 20 AS windows FROM minutes;
SELECT count(*) > 5 AS minutes, max(keys) AS keys FROM different;
SELECT min(late_rows) > 0 AS late FROM streamext.views WHERE view = 'tens'::regclass;
-- nothing was late above, and each minute has been closed by what is closed below
SELECT view, late_rows FROM streamext.views WHERE pipeline = 'chained' AND late_rows > 0 AND view::text !~ '^(tens|hops|grown|sessions|nested|nested_sessions)$';

-- windows by the calendar, and with an origin
CREATE STREAM d (ts timestamptz) WITH (connector = 'queue', pipeline = 'chained_days', paused, event_time = 'ts', watermark = '0 seconds');
CREATE MATERIALIZED VIEW days WITH (emit = 'final') AS SELECT date_trunc('day', ts, 'America/New_York') AS w, count(*) AS n FROM d GROUP BY 1;
CREATE MATERIALIZED VIEW months WITH (emit = 'final') AS SELECT date_trunc('month', w, 'America/New_York') AS w, sum(n) AS n, count(*) AS days FROM days GROUP BY 1;
CREATE MATERIALIZED VIEW shifted WITH (emit = 'final') AS SELECT tumble(ts, '1 day', '2024-01-01 05:00Z') AS w, count(*) AS n FROM d GROUP BY 1;
CREATE MATERIALIZED VIEW weeks WITH (emit = 'final') AS SELECT tumble(w, '7 days', '2024-01-01 05:00Z') AS w, sum(n) AS n FROM shifted GROUP BY 1;
INSERT INTO d SELECT generate_series(timestamptz '2024-03-01 05:00Z', '2024-04-01 03:59Z', '6 hours');
SELECT batch_id, rows FROM streamext.step('chained_days');
SELECT count(*) FROM days;
TABLE months;
-- midnight in New York, in summer time
INSERT INTO d VALUES ('2024-04-01 04:00Z');
SELECT batch_id, rows FROM streamext.step('chained_days');
TABLE months;
SELECT * FROM weeks ORDER BY 1;

-- windows by the time of the batch
CREATE STREAM p (k text) WITH (connector = 'queue', pipeline = 'chained_batch', paused);
CREATE MATERIALIZED VIEW by_minute AS SELECT tumble(streamext.batch_time(), '1 minute') AS w, k, count(*) AS n FROM p GROUP BY 1, 2;
CREATE MATERIALIZED VIEW by_minute_all AS SELECT tumble(streamext.batch_time(), '1 minute') AS w, array_agg(k ORDER BY k) AS ks, max(streamext.batch_time()) AS t, count(DISTINCT k) AS n FROM p GROUP BY 1;
INSERT INTO p VALUES ('a'), ('b');
SELECT batch_id FROM streamext.step('chained_batch', '2024-01-01 00:00:30Z');
INSERT INTO p VALUES ('a');
SELECT batch_id FROM streamext.step('chained_batch', '2024-01-01 00:00:59.999999Z');
INSERT INTO p VALUES ('a');
SELECT batch_id FROM streamext.step('chained_batch', '2024-01-01 00:01:00Z');
SELECT * FROM by_minute ORDER BY 1, 2;
SELECT * FROM by_minute_all ORDER BY 1;
DROP SCHEMA chained CASCADE;
SELECT relname FROM pg_class WHERE relnamespace = 'streamext_state'::regnamespace AND relname ~ '^(chained|tens|hops|grown|sessions|nested|minutes)';
