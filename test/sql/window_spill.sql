-- Rows beyond work_mem are spilled to disk: those of a batch and those of a window, read twice.
SET timezone = 'UTC';
SET client_min_messages = warning;
SET work_mem = '64kB';
CREATE STREAM sp_r (value bigint, "timestamp" timestamptz) WITH (connector = 'rate', rows_per_batch = 3000, paused);
CREATE STREAM sp_d AS SELECT value, repeat('x', 20) || value AS t FROM (SELECT DISTINCT value FROM sp_r) d;
CREATE STREAM sp_w WITH (window = '3 batches') AS SELECT value, t FROM sp_d;
CREATE STREAM sp_batch WITH (connector = 'table', table = 'sp_batch_t') AS
    SELECT streamext.batch_id() AS b, count(*) AS n, sum(d.value) AS s, max(e.t) AS t FROM sp_d d JOIN sp_d e USING (value);
CREATE STREAM sp_window WITH (connector = 'table', table = 'sp_window_t') AS
    SELECT streamext.batch_id() AS b, count(*) AS n, sum(w.value) AS s, count(DISTINCT v.t) AS t FROM sp_w w JOIN sp_w v USING (value);
SELECT batch_id, rows FROM generate_series(1, 4) i, streamext.step('sp_r', '2024-01-01Z'::timestamptz + i * interval '1 s');
SELECT * FROM sp_batch_t ORDER BY b;
SELECT * FROM sp_window_t ORDER BY b;
SELECT count(*), min(value), max(value) FROM sp_w;
DROP STREAM sp_r CASCADE;
DROP TABLE sp_batch_t, sp_window_t;
