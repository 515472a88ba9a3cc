-- deduplicate: the first row of each key goes on, the others are swallowed.
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
CREATE SCHEMA deduplicate;
SET search_path = deduplicate, public;

-- ---------------------------------------------------------------- for ever
CREATE STREAM q (k text, n int, v int) WITH (connector = 'queue', paused);
CREATE STREAM firsts WITH (deduplicate = 'k, n') AS SELECT v, k, n FROM q;
SET client_min_messages = warning;
\d firsts
\d streamext_state.firsts
CREATE STREAM firsts_out WITH (connector = 'table', table = 'firsts_t') AS
    SELECT streamext.batch_id() AS b, row_number() OVER () AS i, * FROM firsts;
INSERT INTO q VALUES ('b', 1, 1), ('a', 1, 2), ('b', 1, 3), (NULL, NULL, 4), ('a', NULL, 5), (NULL, NULL, 6);
SELECT batch_id, rows FROM streamext.step('q', '2024-02-01 00:00:00');
INSERT INTO q VALUES ('a', 1, 7), ('a', 2, 8), (NULL, NULL, 9), ('a', NULL, 10);
SELECT batch_id, rows FROM streamext.step('q', '2024-02-01 00:00:00');
SELECT * FROM firsts_t ORDER BY b, i;
SELECT * FROM streamext_state.firsts ORDER BY k, n;
SELECT streamext.explain('firsts');
SELECT * FROM firsts;
DROP STREAM q CASCADE;

-- ---------------------------------------------------------------- within
CREATE STREAM e (id int, k text, ts timestamptz) WITH (connector = 'queue', event_time = 'ts', watermark = '10 seconds', paused);
CREATE STREAM seen WITH (deduplicate = 'k', within = '5 seconds') AS SELECT id, k, ts FROM e;
\d streamext_state.seen
CREATE STREAM seen_out WITH (connector = 'table', table = 'seen_t') AS
    SELECT streamext.batch_id() AS b, row_number() OVER () AS i, id, k, ts::time FROM seen;
-- id 3 has an earlier time than the first row of its key, which stays the first
INSERT INTO e VALUES (1, 'x', '2024-01-01 00:00:10'), (2, 'y', '2024-01-01 00:00:11'), (3, 'x', '2024-01-01 00:00:02'), (4, 'x', NULL), (5, NULL, '2024-01-01 00:00:10');
SELECT batch_id, rows FROM streamext.step('e', '2024-02-01 00:00:00');
SELECT k, expires_at FROM streamext_state.seen ORDER BY k;
-- watermark 00:00:01: a row at it is late, one above is not; the duplicate at :14 puts nothing off
INSERT INTO e VALUES (6, 'l', '2024-01-01 00:00:01'), (7, 'm', '2024-01-01 00:00:01.000001'), (8, 'x', '2024-01-01 00:00:14'), (9, 'z', '2024-01-01 00:00:25');
SELECT batch_id, rows FROM streamext.step('e', '2024-02-01 00:00:00');
-- the watermark is :15 now: x and NULL are forgotten at that very time, y at :16 is not
SELECT k, expires_at FROM streamext_state.seen ORDER BY k;
INSERT INTO e VALUES (10, 'x', '2024-01-01 00:00:16'), (11, 'y', '2024-01-01 00:00:17'), (12, 'x', '2024-01-01 00:00:20'), (13, 'x', '2024-01-01 00:00:15');
SELECT batch_id, rows FROM streamext.step('e', '2024-02-01 00:00:00');
SELECT * FROM seen_t ORDER BY b, i;
SELECT rows, late_rows, null_time_rows, watermark FROM streamext.step_progress WHERE relation = 'seen'::regclass;
-- seen first in the batch that forgets it
INSERT INTO e VALUES (14, 'w', '2024-01-01 00:00:20'), (15, 'v', '2024-01-01 00:10:00'), (16, 'w', '2024-01-01 00:00:21');
SELECT batch_id, rows FROM streamext.step('e', '2024-02-01 00:00:00');
SELECT k, expires_at FROM streamext_state.seen ORDER BY k;
SELECT id FROM seen_t WHERE b = 4 ORDER BY i;
SELECT streamext.explain('seen');
-- what stands on it has its event time
CREATE MATERIALIZED VIEW per_minute WITH (backfill = off, emit = 'final') AS SELECT tumble(ts, '1 minute') AS w, count(*) AS n FROM seen GROUP BY 1;
INSERT INTO e VALUES (20, 'p', '2024-01-01 00:10:01'), (21, 'p', '2024-01-01 00:10:02'), (22, 'q', '2024-01-01 00:10:02'), (23, 'r', '2024-01-01 00:12:00');
SELECT batch_id, rows FROM streamext.step('e', '2024-02-01 00:00:00');
SELECT * FROM per_minute;
SELECT streamext.reset('e');
SELECT count(*) FROM streamext_state.seen;
DROP STREAM e CASCADE;

-- an event time that is a date: midnight, UTC
CREATE STREAM d (k int, day date) WITH (connector = 'queue', event_time = 'day', watermark = '1 day', paused);
CREATE STREAM by_day WITH (deduplicate = 'k', within = '1 day') AS SELECT * FROM d;
CREATE STREAM by_day_out WITH (connector = 'table', table = 'by_day_t') AS SELECT streamext.batch_id() AS b, * FROM by_day;
INSERT INTO d VALUES (1, '2024-01-01'), (1, '2024-01-02');
SELECT batch_id, rows FROM streamext.step('d', '2024-02-01 00:00:00');
SELECT * FROM streamext_state.by_day;
INSERT INTO d VALUES (1, '2024-01-03'), (2, '2024-01-01');
SELECT batch_id, rows FROM streamext.step('d', '2024-02-01 00:00:00');
INSERT INTO d VALUES (1, '2024-01-04');
SELECT batch_id, rows FROM streamext.step('d', '2024-02-01 00:00:00');
SELECT * FROM by_day_t ORDER BY b;
DROP STREAM d CASCADE;

-- ---------------------------------------------------------------- batch by batch what the golden case s_dedup_compare gives with a function of one's own
CREATE STREAM e (id int, k text, v float8, ts timestamptz) WITH (connector = 'queue', event_time = 'ts', watermark = '10 seconds', paused);
CREATE STREAM seen WITH (deduplicate = 'k', within = '10 seconds') AS SELECT id, k, ts FROM e;
CREATE STREAM seen_out WITH (connector = 'table', table = 'spark_t') AS SELECT streamext.batch_id() AS b, row_number() OVER () AS i, id FROM seen;
INSERT INTO e VALUES (1, 'x', 1, '2025-01-01 00:00:00'), (2, 'y', 2, '2025-01-01 00:00:05');
SELECT batch_id FROM streamext.step('e', '2025-02-01 00:00:00');
INSERT INTO e VALUES (3, 'x', 3, '2025-01-01 00:00:09'), (4, 'y', 4, '2025-01-01 00:00:02');
SELECT batch_id FROM streamext.step('e', '2025-02-01 00:00:00');
INSERT INTO e VALUES (5, 'x', 5, '2025-01-01 00:00:20');
SELECT batch_id FROM streamext.step('e', '2025-02-01 00:00:00');
INSERT INTO e VALUES (6, 'x', 6, '2025-01-01 00:00:19'), (7, 'y', 7, '2025-01-01 00:00:21');
SELECT batch_id FROM streamext.step('e', '2025-02-01 00:00:00');
INSERT INTO e VALUES (8, 'y', 8, '2025-01-01 00:00:26'), (9, 'x', 9, '2025-01-01 00:00:27');
SELECT batch_id FROM streamext.step('e', '2025-02-01 00:00:00');
INSERT INTO e VALUES (10, 'x', 10, '2025-01-01 00:00:28'), (11, 'y', 11, '2025-01-01 00:00:27');
SELECT batch_id FROM streamext.step('e', '2025-02-01 00:00:00');
INSERT INTO e VALUES (12, 'x', 12, '2025-01-01 00:00:15'), (13, 'w', 13, '2025-01-01 00:00:40'), (14, 'y', 14, '2025-01-01 00:00:40');
SELECT batch_id FROM streamext.step('e', '2025-02-01 00:00:00');
INSERT INTO e VALUES (15, 'x', 15, '2025-01-01 00:00:41'), (16, 'y', 16, '2025-01-01 00:00:41'), (17, 'w', 17, '2025-01-01 00:00:50');
SELECT batch_id FROM streamext.step('e', '2025-02-01 00:00:00');
INSERT INTO e VALUES (18, 'w', 18, '2025-01-01 00:00:51'), (19, 'q', 19, '2025-01-01 00:01:30');
SELECT batch_id FROM streamext.step('e', '2025-02-01 00:00:00');
SELECT b - 1 AS batch, id FROM spark_t ORDER BY b, i;
DROP STREAM e CASCADE;

-- times at the far end: what would be forgotten behind the end of time is never forgotten
CREATE STREAM e (k text, v int, ts timestamptz) WITH (connector = 'queue', event_time = 'ts', watermark = '0 seconds', paused);
CREATE STREAM far_end WITH (deduplicate = 'k', within = '30 days') AS SELECT k, v, ts FROM e;
CREATE STREAM far_out WITH (connector = 'table', table = 'far_t') AS SELECT streamext.batch_id() AS b, * FROM far_end;
INSERT INTO e VALUES ('a', 1, '294276-12-31'), ('a', 2, '294276-12-31'), ('b', 1, '2024-01-01');
SELECT batch_id, rows FROM streamext.step('e', '2024-02-01 00:00:00');
INSERT INTO e VALUES ('a', 3, '294276-12-31'), ('b', 2, '2024-01-02');
SELECT batch_id, rows FROM streamext.step('e', '2024-02-01 00:00:00');
SELECT * FROM far_t ORDER BY b, k;
SELECT * FROM streamext_state.far_end ORDER BY k;
DROP STREAM e CASCADE;
CREATE STREAM e (k text, day date) WITH (connector = 'queue', event_time = 'day', watermark = '0 seconds', paused);
CREATE STREAM far_end WITH (deduplicate = 'k', within = '30 days') AS SELECT k, day FROM e;
CREATE STREAM far_out WITH (connector = 'null') AS SELECT * FROM far_end;
INSERT INTO e VALUES ('b', '2024-01-01');
SELECT batch_id, rows FROM streamext.step('e', '2024-02-01 00:00:00');
INSERT INTO e VALUES ('a', '5874897-12-31'), ('c', '5000000-12-31'), ('d', '294276-12-31'), ('e', '294277-01-01');
SELECT batch_id, rows FROM streamext.step('e', '2024-02-01 00:00:00');
SELECT * FROM streamext_state.far_end ORDER BY k;
DROP STREAM e CASCADE;

-- ---------------------------------------------------------------- refusals
CREATE STREAM plain (k text, ts timestamptz) WITH (connector = 'queue', paused);
CREATE STREAM timed (k text, ts timestamptz) WITH (connector = 'queue', event_time = 'ts', watermark = '10 seconds', paused);
CREATE STREAM x WITH (within = '1 s') AS SELECT k, ts FROM timed;
CREATE STREAM x WITH (deduplicate = 'k', key = 'k') AS SELECT k, ts FROM timed;
CREATE STREAM x WITH (deduplicate = 'k', within = '1 s') AS SELECT k, ts FROM plain;
CREATE STREAM x WITH (deduplicate = 'k', within = '1 s') AS SELECT k, ts + interval '1 s' AS ts FROM timed;
CREATE STREAM x WITH (deduplicate = 'k', within = '1 month') AS SELECT k, ts FROM timed;
CREATE STREAM x WITH (deduplicate = 'nope') AS SELECT k, ts FROM timed;
CREATE STREAM x WITH (deduplicate = 'k, k') AS SELECT k, ts FROM timed;
CREATE STREAM x WITH (deduplicate = 'k', map_with_state = 'f', key = 'k') AS SELECT k, ts FROM timed;
CREATE STREAM x WITH (deduplicate = 'expires_at') AS SELECT k AS expires_at FROM timed;
CREATE STREAM x WITH (deduplicate = 'p') AS SELECT k::json AS p FROM timed;
DROP STREAM plain, timed CASCADE;
DROP SCHEMA deduplicate CASCADE;
