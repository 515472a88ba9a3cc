-- reduceByWindow, with an inverse function or without: nothing when the window is empty.
SET timezone = 'UTC';
SET client_min_messages = warning;
\getenv build_dir PG_ABS_BUILDDIR
\set dir :build_dir /reduce_by_window
\setenv DIR :dir
\! rm -rf "$DIR" && mkdir "$DIR" && chmod 755 "$DIR"
-- nine batches; 2, 5, 6, 7 and 8 are empty, one row has no value, one no key
\! cd "$DIR"; printf 'a,1\nb,2\na,3\n' >1; : >2; printf 'a,10\n,20\nc,\n' >3; printf 'b,-2\nb,2\n' >4; : >5; : >6; : >7; : >8; printf 'd,7\n' >9
\! cd "$DIR"; for f in *; do touch -d "2024-01-01T00:00:0${f}Z" $f; done
CREATE STREAM rbw_s (k text, v int)
    WITH (connector = 'file', path = :'dir', format = 'csv', max_files_per_batch = 1, paused);
CREATE STREAM rbw_31 WITH (window = '3 batches') AS SELECT k, v FROM rbw_s;
CREATE STREAM rbw_32 WITH (window = '3 batches', slide = '2 batches') AS SELECT k, v FROM rbw_s;
CREATE STREAM rbw_23 WITH (window = '2 batches', slide = '3 batches') AS SELECT k, v FROM rbw_s;
-- four batches and more are answered from panes
CREATE STREAM rbw_51 WITH (window = '5 batches') AS SELECT k, v FROM rbw_s;
CREATE STREAM rbw_r AS SELECT sum(v) AS s, max(v) AS hi FROM rbw_31 HAVING count(*) > 0;
CREATE STREAM rbw_t31 WITH (connector = 'table', table = 'rbw_31_t') AS SELECT streamext.batch_id() AS batch, * FROM rbw_r;
CREATE STREAM rbw_t32 WITH (connector = 'table', table = 'rbw_32_t') AS SELECT streamext.batch_id() AS batch, sum(v) AS s FROM rbw_32 HAVING count(*) > 0;
CREATE STREAM rbw_t23 WITH (connector = 'table', table = 'rbw_23_t') AS SELECT streamext.batch_id() AS batch, sum(v) AS s FROM rbw_23 HAVING count(*) > 0;
CREATE STREAM rbw_r5 AS SELECT sum(v) AS s, max(v) AS hi FROM rbw_51 HAVING count(*) > 0;
CREATE STREAM rbw_t51 WITH (connector = 'table', table = 'rbw_51_t') AS SELECT streamext.batch_id() AS batch, * FROM rbw_r5;
SELECT count(s.batch_id) FROM generate_series(1, 10) i, streamext.step('rbw_s', '2024-02-01Z'::timestamptz + i * interval '1 s') s;
-- in batch 8 the last three were empty; in batch 9 the window of five holds one row
SELECT * FROM rbw_31_t ORDER BY batch;
SELECT * FROM rbw_32_t ORDER BY batch;
SELECT * FROM rbw_23_t ORDER BY batch;
SELECT * FROM rbw_51_t ORDER BY batch;
DROP TABLE rbw_31_t, rbw_32_t, rbw_23_t, rbw_51_t CASCADE;
DROP STREAM rbw_s CASCADE;
