-- The connector 'rate': what a batch holds follows from the position and its time.
SET timezone = 'UTC';
SET client_min_messages = warning;

-- by rate: the first poll fixes the start; a batch has what is due since
CREATE STREAM ticks (value bigint, "timestamp" timestamptz)
    WITH (connector = 'rate', rows_per_second = 2, max_batch_rows = 5, paused);
CREATE MATERIALIZED VIEW ticked AS
    SELECT streamext.batch_id() AS batch, value, "timestamp" AS t FROM ticks;
SELECT batch_id, rows FROM streamext.step('ticked', '2024-01-01 00:00:00Z');
SELECT position FROM streamext.partition WHERE stream = 'ticks'::regclass;
SELECT batch_id, rows FROM streamext.step('ticked', '2024-01-01 00:00:00.4Z');
SELECT batch_id, rows FROM streamext.step('ticked', '2024-01-01 00:00:01.6Z');
BEGIN;
SELECT batch_id, rows FROM streamext.step('ticked', '2024-01-01 00:00:04Z');
ROLLBACK;
SELECT batch_id, rows FROM streamext.step('ticked', '2024-01-01 00:00:04Z');
SELECT * FROM ticked ORDER BY value;
-- more than a batch may hold
SELECT batch_id, rows FROM streamext.step('ticked', '2024-01-01 00:00:08Z');
SELECT batch_id, rows FROM streamext.step('ticked', '2024-01-01 00:00:08Z');
SELECT batch_id, rows FROM streamext.step('ticked', '2024-01-01 00:00:08Z');
SELECT count(*), max(value), max(t) FROM ticked;
DROP STREAM ticks CASCADE;

-- by batch: each has exactly so many, at the batch's time
CREATE STREAM packs ("timestamp" timestamptz, no bigint OPTIONS (metadata 'offset'), value bigint)
    WITH (connector = 'rate', rows_per_batch = 3, paused);
CREATE MATERIALIZED VIEW packed AS
    SELECT streamext.batch_id() AS batch, value, no, "timestamp" AS t FROM packs;
SELECT batch_id, rows FROM streamext.step('packed', '2024-01-01 00:00:01Z');
SELECT batch_id, rows FROM streamext.step('packed', '2024-01-01 00:00:02Z');
SELECT * FROM packed ORDER BY value;
SELECT position FROM streamext.partition WHERE stream = 'packs'::regclass;
SELECT value, no FROM packs;
DROP STREAM packs CASCADE;

-- other columns, and rates that make no sense
CREATE STREAM wrong (value bigint, name text) WITH (connector = 'rate');
CREATE STREAM wrong (value int) WITH (connector = 'rate');
CREATE STREAM wrong (value bigint) WITH (connector = 'rate', rows_per_second = 5, rows_per_batch = 5);
CREATE STREAM wrong (value bigint) WITH (connector = 'rate', rows_per_batch = 0);
