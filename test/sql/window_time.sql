-- window(W, S) in batch time: boundaries, timers without data, gaps, downtime.
SET timezone = 'UTC';
SET client_min_messages = warning;
SET datestyle = 'ISO, MDY';
CREATE FUNCTION wt_step(stream text, second numeric, OUT batch bigint, OUT at text)
LANGUAGE plpgsql AS $$
DECLARE
    b record;
BEGIN
    SELECT * INTO b FROM streamext.step(stream, '2024-01-01 00:00:00'::timestamptz + second * interval '1 s');
    batch := b.batch_id;
    at := extract(epoch FROM b.batch_time - '2024-01-01 00:00:00'::timestamptz)::numeric(10, 1);
END $$;
-- what fired, when: rows are in order of arrival
CREATE PROCEDURE wt_watch(w text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE STREAM %1$s_sink WITH (connector = ''table'', table = ''wt_seen'') AS '
                   'SELECT streamext.batch_id() AS batch, extract(epoch FROM streamext.batch_time() - ''2024-01-01Z'')::numeric(10, 1) AS at, '
                   '%1$L AS w, coalesce(string_agg(k, '' ''), ''(empty)'') AS rows FROM %1$s', w);
END $$;
CREATE VIEW wt_boundaries AS
    SELECT relation, extract(epoch FROM last_emit - '2024-01-01Z')::numeric(10, 1) AS last_boundary FROM streamext.step_progress;

-- ---------- without batch_interval: boundaries at T1 + n * slide ----------
CREATE STREAM wt_s (k text) WITH (connector = 'queue', paused);
CREATE STREAM wt_tumble WITH (window = '10 seconds', slide = '10 seconds') AS SELECT k FROM wt_s;
CREATE STREAM wt_slide WITH (window = '20 seconds', slide = '10 seconds') AS SELECT k FROM wt_s;
CREATE STREAM wt_gap WITH (window = '4 seconds', slide = '10 seconds') AS SELECT k FROM wt_s;
CREATE STREAM wt_every WITH (window = '10 seconds') AS SELECT k FROM wt_s;
-- over a window: at its boundaries, and on until it is empty itself
CREATE STREAM wt_over WITH (window = '40 seconds', slide = '20 seconds') AS SELECT k FROM wt_tumble;
CALL wt_watch('wt_tumble');
CALL wt_watch('wt_slide');
CALL wt_watch('wt_gap');
CALL wt_watch('wt_every');
CALL wt_watch('wt_over');

INSERT INTO wt_s VALUES ('a');
SELECT * FROM wt_step('wt_s', 3);        -- T1: its own boundary
INSERT INTO wt_s VALUES ('b');
SELECT * FROM wt_step('wt_s', 5);        -- between two boundaries: nothing fires
INSERT INTO wt_s VALUES ('c');
SELECT * FROM wt_step('wt_s', 13);       -- on a boundary: its rows are in it
INSERT INTO wt_s VALUES ('d');
SELECT * FROM wt_step('wt_s', 16);
INSERT INTO wt_s VALUES ('e');
SELECT * FROM wt_step('wt_s', 22);
SELECT * FROM wt_step('wt_s', 22.5);     -- no data, no timer
-- after the boundary at 23 was missed: it fires, and f belongs to the next window
INSERT INTO wt_s VALUES ('f');
SELECT * FROM wt_step('wt_s', 25);
-- timers: a batch without data at 33, 43; the worker would run them at exactly these times
SELECT * FROM wt_step('wt_s', 33);
SELECT * FROM wt_step('wt_s', 43);       -- now the tumbling window has become empty, once
SELECT * FROM wt_step('wt_s', 53);
SELECT * FROM wt_step('wt_s', 63);
SELECT * FROM wt_step('wt_s', 73);       -- and that was all
SELECT * FROM wt_step('wt_s', 100);
SELECT w, batch, at, rows FROM wt_seen WHERE w <> 'wt_every' ORDER BY w, batch;
SELECT w, batch, at, rows FROM wt_seen WHERE w = 'wt_every' ORDER BY w, batch;

-- a long time after: no window between has rows, and the last one had none either
TRUNCATE wt_seen;
INSERT INTO wt_s VALUES ('g');
SELECT * FROM wt_step('wt_s', 1000);
SELECT * FROM wt_seen ORDER BY w, batch;
SELECT * FROM wt_boundaries WHERE relation::text IN ('wt_tumble', 'wt_slide', 'wt_over') ORDER BY relation::text;
-- downtime: rows before and after it are in one window each; what is due comes in the first batches
INSERT INTO wt_s VALUES ('h');
SELECT * FROM wt_step('wt_s', 1002);
INSERT INTO wt_s VALUES ('i');
SELECT * FROM wt_step('wt_s', 2500);     -- fires 1003 with g and h; i is later
INSERT INTO wt_s VALUES ('j');
SELECT * FROM wt_step('wt_s', 2500);     -- a time that stands still
INSERT INTO wt_s VALUES ('k');
SELECT * FROM wt_step('wt_s', 2499);     -- or goes back
SELECT * FROM wt_step('wt_s', 2503);
SELECT * FROM wt_step('wt_s', 2513);
SELECT w, batch, at, rows FROM wt_seen WHERE w IN ('wt_tumble', 'wt_slide', 'wt_over') ORDER BY w, batch;
-- what fired last, from outside
SELECT k FROM wt_tumble;
SELECT k FROM wt_slide;
SELECT relation, count(*) FROM streamext.window_batch GROUP BY relation ORDER BY relation::text;
-- without "at" a step has the time of the timer that has passed
SELECT extract(epoch FROM batch_time - '2024-01-01Z') FROM streamext.step('wt_s');
SELECT streamext.reset('wt_s');
SELECT count(*) FROM streamext.window_batch;
SELECT count(*) FROM streamext_state.wt_slide;
DROP STREAM wt_s CASCADE;
TRUNCATE wt_seen;

-- ---------- with batch_interval B: boundaries at T1 - B + n * slide, a batch each interval ----------
CREATE STREAM wt_b (k text) WITH (connector = 'queue', batch_interval = '10 seconds', paused);
CREATE STREAM wt_b33 WITH (window = '30 seconds', slide = '30 seconds') AS SELECT k FROM wt_b;
CREATE STREAM wt_b31 WITH (window = '30 seconds', slide = '10 seconds') AS SELECT k FROM wt_b;
CREATE STREAM wt_b3 WITH (window = '3 batches') AS SELECT k FROM wt_b;
CALL wt_watch('wt_b33');
CALL wt_watch('wt_b31');
CALL wt_watch('wt_b3');
SELECT * FROM wt_step('wt_b', 10);       -- a batch each interval, from the first one on, also without data
SELECT * FROM wt_step('wt_b', 15);
INSERT INTO wt_b VALUES ('a');
SELECT * FROM wt_step('wt_b', 20);
INSERT INTO wt_b VALUES ('b');
SELECT * FROM wt_step('wt_b', 30);
INSERT INTO wt_b VALUES ('c');
SELECT * FROM wt_step('wt_b', 40);
SELECT * FROM wt_step('wt_b', 50);
SELECT * FROM wt_step('wt_b', 60);
SELECT * FROM wt_step('wt_b', 70);
SELECT * FROM wt_step('wt_b', 80);
SELECT * FROM wt_step('wt_b', 90);
SELECT w, batch, at, rows FROM wt_seen ORDER BY w, batch;
DROP STREAM wt_b CASCADE;
DROP TABLE wt_seen;
DROP VIEW wt_boundaries;
DROP FUNCTION wt_step;
DROP PROCEDURE wt_watch;
