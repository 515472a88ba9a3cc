-- reduceByKeyAndWindow: keys vanish when they have no row in the window; a sum of 0 is a sum.
SET timezone = 'UTC';
SET client_min_messages = warning;
\getenv build_dir PG_ABS_BUILDDIR
\set dir :build_dir /reduce_by_key_and_window
\setenv DIR :dir
\! rm -rf "$DIR" && mkdir "$DIR" && chmod 755 "$DIR"
-- nine batches; 2, 5, 6, 7 and 8 are empty, one row has no value, one no key
\! cd "$DIR"; printf 'a,1\nb,2\na,3\n' >1; : >2; printf 'a,10\n,20\nc,\n' >3; printf 'b,-2\nb,2\n' >4; : >5; : >6; : >7; : >8; printf 'd,7\n' >9
\! cd "$DIR"; for f in *; do touch -d "2024-01-01T00:00:0${f}Z" $f; done
CREATE STREAM rkw_s (k text, v int)
    WITH (connector = 'file', path = :'dir', format = 'csv', max_files_per_batch = 1, paused);
CREATE STREAM rkw_31 WITH (window = '3 batches') AS SELECT k, v FROM rkw_s;
CREATE STREAM rkw_32 WITH (window = '3 batches', slide = '2 batches') AS SELECT k, v FROM rkw_s;
CREATE STREAM rkw_23 WITH (window = '2 batches', slide = '3 batches') AS SELECT k, v FROM rkw_s;
-- four batches and more are answered from panes
CREATE STREAM rkw_51 WITH (window = '5 batches') AS SELECT k, v FROM rkw_s;
CREATE STREAM rkw_r AS SELECT k, sum(v) AS s, count(*) AS n FROM rkw_31 GROUP BY k;
CREATE STREAM rkw_t31 WITH (connector = 'table', table = 'rkw_31_t') AS SELECT streamext.batch_id() AS batch, * FROM rkw_r;
CREATE STREAM rkw_t32 WITH (connector = 'table', table = 'rkw_32_t') AS SELECT streamext.batch_id() AS batch, k, sum(v) AS s FROM rkw_32 GROUP BY k;
CREATE STREAM rkw_t23 WITH (connector = 'table', table = 'rkw_23_t') AS SELECT streamext.batch_id() AS batch, k, sum(v) AS s FROM rkw_23 GROUP BY k;
CREATE STREAM rkw_r5 AS SELECT k, sum(v) AS s, count(*) AS n FROM rkw_51 GROUP BY k;
CREATE STREAM rkw_t51 WITH (connector = 'table', table = 'rkw_51_t') AS SELECT streamext.batch_id() AS batch, * FROM rkw_r5;
-- an upsert by key keeps keys that have vanished from the window
CREATE STREAM rkw_last WITH (connector = 'table', table = 'rkw_last_t', key = 'k') AS SELECT k, sum(v) AS s, count(*) AS n FROM rkw_51 GROUP BY k;
SELECT count(s.batch_id) FROM generate_series(1, 10) i, streamext.step('rkw_s', '2024-02-01Z'::timestamptz + i * interval '1 s') s;
SELECT * FROM rkw_31_t ORDER BY batch, k;
SELECT * FROM rkw_32_t ORDER BY batch, k;
SELECT * FROM rkw_23_t ORDER BY batch, k;
SELECT * FROM rkw_51_t ORDER BY batch, k;
SELECT * FROM rkw_last_t ORDER BY k;
DROP TABLE rkw_31_t, rkw_32_t, rkw_23_t, rkw_51_t, rkw_last_t CASCADE;
DROP STREAM rkw_s CASCADE;
