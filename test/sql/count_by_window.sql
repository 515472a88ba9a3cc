-- countByWindow: a row per slide from the first batch, 0 when the window is empty.
SET timezone = 'UTC';
SET client_min_messages = warning;
\getenv build_dir PG_ABS_BUILDDIR
\set dir :build_dir /count_by_window
\setenv DIR :dir
\! rm -rf "$DIR" && mkdir "$DIR" && chmod 755 "$DIR"
-- nine batches; 2, 5, 6, 7 and 8 are empty, one row has no value, one no key
\! cd "$DIR"; printf 'a,1\nb,2\na,3\n' >1; : >2; printf 'a,10\n,20\nc,\n' >3; printf 'b,-2\nb,2\n' >4; : >5; : >6; : >7; : >8; printf 'd,7\n' >9
\! cd "$DIR"; for f in *; do touch -d "2024-01-01T00:00:0${f}Z" $f; done
CREATE STREAM cbw_s (k text, v int)
    WITH (connector = 'file', path = :'dir', format = 'csv', max_files_per_batch = 1, paused);
CREATE STREAM cbw_31 WITH (window = '3 batches') AS SELECT k, v FROM cbw_s;
CREATE STREAM cbw_32 WITH (window = '3 batches', slide = '2 batches') AS SELECT k, v FROM cbw_s;
CREATE STREAM cbw_23 WITH (window = '2 batches', slide = '3 batches') AS SELECT k, v FROM cbw_s;
-- four batches and more are answered from panes
CREATE STREAM cbw_51 WITH (window = '5 batches') AS SELECT k, v FROM cbw_s;
CREATE STREAM cbw_c AS SELECT count(*) AS n, count(v) AS values FROM cbw_31;
CREATE STREAM cbw_t31 WITH (connector = 'table', table = 'cbw_31_t') AS SELECT streamext.batch_id() AS batch, * FROM cbw_c;
CREATE STREAM cbw_t32 WITH (connector = 'table', table = 'cbw_32_t') AS SELECT streamext.batch_id() AS batch, count(*) AS n FROM cbw_32;
CREATE STREAM cbw_t23 WITH (connector = 'table', table = 'cbw_23_t') AS SELECT streamext.batch_id() AS batch, count(*) AS n FROM cbw_23;
CREATE STREAM cbw_c5 AS SELECT count(*) AS n FROM cbw_51;
CREATE STREAM cbw_t51 WITH (connector = 'table', table = 'cbw_51_t') AS SELECT streamext.batch_id() AS batch, n FROM cbw_c5;
SELECT count(s.batch_id) FROM generate_series(1, 10) i, streamext.step('cbw_s', '2024-02-01Z'::timestamptz + i * interval '1 s') s;
SELECT * FROM cbw_31_t ORDER BY batch;
SELECT * FROM cbw_32_t ORDER BY batch;
SELECT * FROM cbw_23_t ORDER BY batch;
SELECT * FROM cbw_51_t ORDER BY batch;
DROP TABLE cbw_31_t, cbw_32_t, cbw_23_t, cbw_51_t CASCADE;
DROP STREAM cbw_s CASCADE;
