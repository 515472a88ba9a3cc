-- window(W, S) by batches: what a windowed stream holds, when it fires, what it keeps.
SET timezone = 'UTC';
SET client_min_messages = warning;
\getenv build_dir PG_ABS_BUILDDIR
\set dir :build_dir /window
\setenv DIR :dir
\! rm -rf "$DIR" && mkdir "$DIR" && chmod 755 "$DIR"
-- ten batches; 3, 6 and 7 are empty
\! cd "$DIR"; printf 'a,1\nb,2\n' >01; printf 'c,3\n' >02; : >03; printf ',\nd,4\nd,4\n' >04; printf 'e,5\n' >05; : >06; : >07; printf 'f,6\n' >08; printf 'g,7\n' >09; printf 'h,8\n' >10
\! cd "$DIR"; for f in *; do touch -d "2024-01-01T00:00:${f}Z" $f; done

CREATE STREAM win_s (k text, v int)
    WITH (connector = 'file', path = :'dir', format = 'csv', max_files_per_batch = 1, paused);
CREATE STREAM win_31 WITH (window = '3 batches') AS SELECT k, v FROM win_s;
CREATE STREAM win_32 WITH (window = '3 batches', slide = '2 batches') AS SELECT k, v FROM win_s;
CREATE STREAM win_22 WITH (window = '2 batches', slide = '2 batches') AS SELECT k, v FROM win_s;
CREATE STREAM win_23 WITH (window = '2 Batches', slide = '3 batches') AS SELECT k, v FROM win_s;
CREATE STREAM win_11 WITH (window = '1 batch', slide = '1 batch') AS SELECT k, v FROM win_s;
-- a window over a window; over that, with a longer slide; over what is made of a window
CREATE STREAM win_w32 WITH (window = '4 batches') AS SELECT k FROM win_32;
CREATE STREAM win_w6 WITH (window = '12 batches', slide = '6 batches') AS SELECT k FROM win_w32;
CREATE STREAM win_count AS SELECT count(*) AS n FROM win_22;
CREATE STREAM win_counts WITH (window = '4 batches') AS SELECT n FROM win_count;

-- all that they hold, in the order of arrival, batch by batch
CREATE TABLE win_seen (batch bigint, w text, rows text);
CREATE PROCEDURE win_watch(w text, expression text DEFAULT 'coalesce(k, ''-'')') LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE STREAM %1$s_sink WITH (connector = ''table'', table = ''win_seen'') AS '
                   'SELECT streamext.batch_id() AS batch, %1$L AS w, string_agg(%2$s, '' '') AS rows FROM %1$s', w, expression);
END $$;
CALL win_watch('win_31');
CALL win_watch('win_32');
CALL win_watch('win_22');
CALL win_watch('win_23');
CALL win_watch('win_11');
CALL win_watch('win_w32');
CALL win_watch('win_w6');
CALL win_watch('win_counts', 'n::text');
-- a window is read twice in one query, and by another stream that is not a window
CREATE STREAM win_pairs WITH (connector = 'table', table = 'win_seen') AS
    SELECT streamext.batch_id() AS batch, 'pairs' AS w, count(*)::text AS rows FROM win_31 a JOIN win_31 b ON a.v < b.v;

SELECT count(s.batch_id) FROM generate_series(1, 5) i, streamext.step('win_s', '2024-02-01Z'::timestamptz + i * interval '1 s') s;
-- a batch that is rolled back leaves nothing
BEGIN;
SELECT batch_id FROM streamext.step('win_s', '2024-02-01Z');
SELECT batch_id FROM streamext.step('win_s', '2024-02-01Z');
ROLLBACK;
SELECT batch_id, k, v FROM streamext_state.win_31 ORDER BY batch_id, ctid;
SELECT count(s.batch_id) FROM generate_series(6, 11) i, streamext.step('win_s', '2024-02-01Z'::timestamptz + i * interval '1 s') s;
SELECT w, batch, rows FROM win_seen ORDER BY w, batch;

-- what is kept, and what a SELECT outside a batch shows: the window that fired last
\d streamext_state.win_32
SELECT batch_id, k, v FROM streamext_state.win_32 ORDER BY batch_id, ctid;
SELECT * FROM win_32;
SELECT k FROM win_31;
SELECT k FROM win_23;
SELECT batch_id, k FROM streamext_state.win_23;
SELECT streamext.explain('win_32');
SELECT view, strategy, state_table, rows FROM streamext.views WHERE view = 'win_31'::regclass;

-- a consumer that comes late finds the whole window
CREATE STREAM win_late WITH (connector = 'table', table = 'win_late_t') AS SELECT k, v FROM win_31;
\! cd "$DIR"; printf 'i,9\n' >11; touch -d "2024-01-01T00:00:11Z" 11
SELECT batch_id FROM streamext.step('win_s', '2024-02-02Z');
SELECT * FROM win_late_t;
-- a window that comes late begins now
CREATE STREAM win_new WITH (window = '3 batches') AS SELECT k FROM win_s;
\! cd "$DIR"; printf 'j,10\n' >12; touch -d "2024-01-01T00:00:12Z" 12
SELECT batch_id FROM streamext.step('win_s', '2024-02-02Z');
SELECT k FROM win_new;

-- a record that fails for a reader is in no window any more
CREATE STREAM win_bad WITH (connector = 'table', table = 'win_bad_t') AS SELECT sum(100 / v) AS s FROM win_31;
\! cd "$DIR"; printf 'k,0\nl,1\n' >13; touch -d "2024-01-01T00:00:13Z" 13
SELECT batch_id, dead_letters FROM streamext.step('win_s', '2024-02-02Z');
SELECT * FROM win_bad_t;
SELECT k FROM win_31;
SELECT view, message FROM streamext.dead_letters WHERE stream = 'win_s'::regclass;
-- one that was let in before, when nobody minded, is no fault of this batch's records
CREATE STREAM win_bad2 WITH (connector = 'table', table = 'win_bad2_t') AS SELECT sum(100 / (v - 9)) AS s FROM (SELECT * FROM win_31 OFFSET 0) q;
\! cd "$DIR"; printf 'm,9\n' >14; touch -d "2024-01-01T00:00:14Z" 14
DROP STREAM win_bad2;
SELECT batch_id FROM streamext.step('win_s', '2024-02-02Z');
CREATE STREAM win_bad2 WITH (connector = 'table', table = 'win_bad2_t') AS SELECT sum(100 / (v - 9)) AS s FROM (SELECT * FROM win_31 OFFSET 0) q;
\! cd "$DIR"; printf 'n,1\no,2\n' >15; touch -d "2024-01-01T00:00:15Z" 15
SELECT batch_id, dead_letters FROM streamext.step('win_s', '2024-02-02Z');
DROP STREAM win_bad2;

-- refused
CREATE STREAM win_x WITH (window = '0 batches') AS SELECT k FROM win_s;
CREATE STREAM win_x WITH (window = '-3 batches') AS SELECT k FROM win_s;
CREATE STREAM win_x WITH (window = '0 seconds') AS SELECT k FROM win_s;
CREATE STREAM win_x WITH (window = '-1 second') AS SELECT k FROM win_s;
CREATE STREAM win_x WITH (window = '2 months') AS SELECT k FROM win_s;
CREATE STREAM win_x WITH (window = 'batches') AS SELECT k FROM win_s;
CREATE STREAM win_x WITH (window = '3 bananas') AS SELECT k FROM win_s;
CREATE STREAM win_x WITH (window = '3 batches', slide = '0 batches') AS SELECT k FROM win_s;
CREATE STREAM win_x WITH (slide = '2 batches') AS SELECT k FROM win_s;
CREATE STREAM win_x WITH (window = '3 batches', slide = '2 seconds') AS SELECT k FROM win_s;
CREATE STREAM win_x WITH (window = '3 batches') AS SELECT k FROM win_32;
CREATE STREAM win_x WITH (window = '4 batches', slide = '3 batches') AS SELECT k FROM win_32;
CREATE STREAM win_x WITH (window = '4 seconds') AS SELECT k FROM win_32;
CREATE STREAM win_x WITH (window = '3 batches') AS SELECT k, 1 AS batch_id FROM win_s;
-- what is read together must fire together: in streams, windows, sinks and views
CREATE STREAM win_x AS SELECT a.k FROM win_32 a JOIN win_s b USING (k);
CREATE STREAM win_x AS SELECT k FROM win_32 UNION ALL SELECT k FROM win_23;
CREATE STREAM win_ok WITH (window = '6 batches') AS SELECT a.k FROM win_32 a, win_count c;
CREATE STREAM win_x WITH (window = '6 batches') AS SELECT a.k FROM win_32 a, win_23 c;
CREATE STREAM win_x WITH (connector = 'null') AS SELECT k FROM win_31 UNION ALL SELECT k FROM win_32;
CREATE MATERIALIZED VIEW win_x AS SELECT k, count(*) FROM (SELECT k FROM win_s UNION ALL SELECT k FROM win_32) u GROUP BY k;
-- the same slide may be, and every batch is what a source has
CREATE STREAM win_same AS SELECT a.k FROM win_32 a JOIN win_22 b USING (k);
CREATE STREAM win_every AS SELECT a.k FROM win_s a LEFT JOIN win_31 b USING (k) WHERE b.k IS NULL;
DROP STREAM win_s CASCADE;
SELECT count(*) FROM pg_class WHERE relnamespace = 'streamext_state'::regnamespace AND relname LIKE 'win%';

-- multiples of batch_interval
CREATE STREAM win_i (k text) WITH (connector = 'queue', batch_interval = '10 seconds', paused);
CREATE STREAM win_x WITH (window = '25 seconds') AS SELECT k FROM win_i;
CREATE STREAM win_x WITH (window = '30 seconds', slide = '5 seconds') AS SELECT k FROM win_i;
CREATE STREAM win_x WITH (window = '30 seconds', slide = '20 seconds') AS SELECT k FROM win_i;
CREATE STREAM win_y WITH (window = '40 seconds', slide = '30 seconds') AS SELECT k FROM win_x;
CREATE STREAM win_y WITH (window = '40 seconds', slide = '40 seconds') AS SELECT k FROM win_x;
DROP STREAM win_i CASCADE;
DROP TABLE win_seen, win_late_t, win_bad_t, win_bad2_t;
DROP PROCEDURE win_watch;
