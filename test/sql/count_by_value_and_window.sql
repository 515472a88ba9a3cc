-- countByValueAndWindow: GROUP BY the value; NULL is a value like any other.
SET timezone = 'UTC';
SET client_min_messages = warning;
\getenv build_dir PG_ABS_BUILDDIR
\set dir :build_dir /count_by_value_and_window
\setenv DIR :dir
\! rm -rf "$DIR" && mkdir "$DIR" && chmod 755 "$DIR"
-- nine batches; 2, 5, 6, 7 and 8 are empty, one row has no value, one no key
\! cd "$DIR"; printf 'a,1\nb,2\na,3\n' >1; : >2; printf 'a,10\n,20\nc,\n' >3; printf 'b,-2\nb,2\n' >4; : >5; : >6; : >7; : >8; printf 'd,7\n' >9
\! cd "$DIR"; for f in *; do touch -d "2024-01-01T00:00:0${f}Z" $f; done
CREATE STREAM cvw_s (k text, v int)
    WITH (connector = 'file', path = :'dir', format = 'csv', max_files_per_batch = 1, paused);
CREATE STREAM cvw_31 WITH (window = '3 batches') AS SELECT k, v FROM cvw_s;
CREATE STREAM cvw_32 WITH (window = '3 batches', slide = '2 batches') AS SELECT k, v FROM cvw_s;
CREATE STREAM cvw_23 WITH (window = '2 batches', slide = '3 batches') AS SELECT k, v FROM cvw_s;
-- four batches and more are answered from panes
CREATE STREAM cvw_51 WITH (window = '5 batches') AS SELECT k, v FROM cvw_s;
CREATE STREAM cvw_c AS SELECT k, count(*) AS n FROM cvw_31 GROUP BY k;
CREATE STREAM cvw_t31 WITH (connector = 'table', table = 'cvw_31_t') AS SELECT streamext.batch_id() AS batch, * FROM cvw_c;
CREATE STREAM cvw_t32 WITH (connector = 'table', table = 'cvw_32_t') AS SELECT streamext.batch_id() AS batch, k, count(*) AS n FROM cvw_32 GROUP BY k;
CREATE STREAM cvw_t23 WITH (connector = 'table', table = 'cvw_23_t') AS SELECT streamext.batch_id() AS batch, k, count(*) AS n FROM cvw_23 GROUP BY k;
CREATE STREAM cvw_c5 AS SELECT v, count(*) AS n FROM cvw_51 GROUP BY v;
CREATE STREAM cvw_t51 WITH (connector = 'table', table = 'cvw_51_t') AS SELECT streamext.batch_id() AS batch, * FROM cvw_c5;
SELECT count(s.batch_id) FROM generate_series(1, 10) i, streamext.step('cvw_s', '2024-02-01Z'::timestamptz + i * interval '1 s') s;
SELECT * FROM cvw_31_t ORDER BY batch, k;
SELECT * FROM cvw_32_t ORDER BY batch, k;
SELECT * FROM cvw_23_t ORDER BY batch, k;
SELECT * FROM cvw_51_t ORDER BY batch, v;
DROP TABLE cvw_31_t, cvw_32_t, cvw_23_t, cvw_51_t CASCADE;
DROP STREAM cvw_s CASCADE;
