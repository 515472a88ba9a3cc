-- Late views and sinks read the past in a lane and are merged; steps that fail for
-- themselves are detached.  Here by step() alone: 200_late_view.pl and
-- 202_detach.pl do it with workers, under load.
CREATE SCHEMA lanes;
SET search_path = lanes, public;
SET timezone = 'UTC';
\getenv build_dir PG_ABS_BUILDDIR
\set file_dir :build_dir /lanes

CREATE VIEW shown AS
    SELECT p.pipeline, p.state, p.lane_of, p.lane_for, p.batch_id, p.views, p.sinks, p.error_message
    FROM streamext.pipelines p WHERE pipeline IN ('q', 'r', 'f', 'late', 'late2', 'again', 'of_totals', 'of_window', 'ts') ORDER BY p.id;

--
-- A queue: the lane reads what its log still holds
--
CREATE STREAM q (id int, v int) WITH (connector = 'queue', max_batch_rows = 4, paused);
CREATE MATERIALIZED VIEW first AS SELECT id % 3 AS k, count(*) AS n, sum(v) AS s FROM q GROUP BY 1;
INSERT INTO q SELECT i, i FROM generate_series(1, 10) i;
SELECT batch_id, rows FROM streamext.step('q', '2026-01-01 00:00:01');
SELECT batch_id, rows FROM streamext.step('q', '2026-01-01 00:00:02');

-- 8 of 10 rows are processed: the lane is to stop in the middle of what one snapshot saw
CREATE MATERIALIZED VIEW late AS SELECT id % 3 AS k, count(*) AS n, sum(v) AS s FROM q GROUP BY 1;
SELECT * FROM shown;
SELECT view, state, pipeline, first_batch FROM streamext.views WHERE view = 'late'::regclass;
SELECT stream, pipelines FROM streamext.streams WHERE stream = 'q'::regclass;
SELECT * FROM late ORDER BY k;

-- each step is a batch of the lane; the one that gets there merges, and can be taken back
SELECT batch_id, rows FROM streamext.step('late', '2026-01-01 00:01:01');
SELECT * FROM late ORDER BY k;
SELECT lag FROM streamext.views WHERE view = 'late'::regclass;
BEGIN;
SELECT batch_id, rows FROM streamext.step('late', '2026-01-01 00:01:02');
SELECT * FROM shown;
ROLLBACK;
SELECT * FROM shown;
SELECT batch_id, rows FROM streamext.step('late', '2026-01-01 00:01:02');
SELECT * FROM shown;
SELECT * FROM late EXCEPT SELECT * FROM first;

-- from now on it is the shared pipeline's
SELECT batch_id, rows FROM streamext.step('late', '2026-01-01 00:00:03');
SELECT * FROM late ORDER BY k;
SELECT * FROM late EXCEPT SELECT * FROM first;
SELECT batch_id, rows FROM streamext.step('q');

-- the shared pipeline goes on meanwhile: the lane follows
INSERT INTO q SELECT i, i FROM generate_series(11, 13) i;
CREATE MATERIALIZED VIEW late2 AS SELECT id, v FROM q;
INSERT INTO q SELECT i, i FROM generate_series(14, 16) i;
SELECT batch_id, rows FROM streamext.step('late2', '2026-01-01 00:02:01');
SELECT batch_id, rows FROM streamext.step('q', '2026-01-01 00:02:02');
SELECT batch_id, rows FROM streamext.step('late2', '2026-01-01 00:02:03');
SELECT batch_id, rows FROM streamext.step('q', '2026-01-01 00:02:04');
SELECT batch_id, rows FROM streamext.step('late2', '2026-01-01 00:02:05');
SELECT batch_id, rows FROM streamext.step('late2', '2026-01-01 00:02:06');
SELECT * FROM shown;
SELECT count(*), count(DISTINCT id), sum(id) FROM late2;
DROP MATERIALIZED VIEW late2;

-- begin now
CREATE MATERIALIZED VIEW now_only WITH (backfill = off) AS SELECT id FROM q;
SELECT pipeline, state FROM streamext.views WHERE view = 'now_only'::regclass;
DROP MATERIALIZED VIEW now_only;

-- a pipeline whose streams nobody has read has no past
CREATE STREAM unread (a int) WITH (connector = 'queue', pipeline = 'q');
CREATE MATERIALIZED VIEW of_unread AS SELECT a FROM unread;
SELECT pipeline, state FROM streamext.views WHERE view = 'of_unread'::regclass;
DROP STREAM unread CASCADE;

-- dropping the view drops its lane; a lane cannot be joined
CREATE MATERIALIZED VIEW late2 AS SELECT id, v FROM q;
CREATE MATERIALIZED VIEW joining WITH (pipeline = 'late2') AS SELECT id FROM q;
DROP MATERIALIZED VIEW late2;
SELECT * FROM shown;

-- rows that are gone are not passed over in silence
SELECT count(*) FROM streamext_state.q_log;
DELETE FROM streamext_state.q_log WHERE _sx_seq < 5;
CREATE MATERIALIZED VIEW late2 AS SELECT id, v FROM q;
SELECT count(batch_id) FROM generate_series(1, 5) i, LATERAL streamext.step('late2', '2026-01-02'::timestamptz + i * interval '1 second') s;
SELECT * FROM shown;
SELECT min(id), count(*) FROM late2;
DROP MATERIALIZED VIEW late2;

--
-- Pausing, resuming and resetting
--
CREATE MATERIALIZED VIEW late2 AS SELECT id, v FROM q;
SELECT streamext.step('late2') IS NOT NULL;
SELECT streamext.reset('late2');
SELECT count(*) FROM late2;
SELECT count(batch_id) FROM generate_series(1, 5) i, LATERAL streamext.step('late2', '2026-01-02'::timestamptz + i * interval '1 second') s;
SELECT * FROM shown;
SELECT min(id), count(*) FROM late2;
DROP MATERIALIZED VIEW late2;
CREATE MATERIALIZED VIEW late2 AS SELECT id, v FROM q;
BEGIN;
SELECT streamext.resume('q');
SELECT pipeline, state FROM shown;
SELECT streamext.pause('late2');
SELECT pipeline, state FROM shown;
SELECT streamext.pause('q');
SELECT streamext.resume('late2');
SELECT pipeline, state FROM shown;
SELECT streamext.pause('q');
SELECT pipeline, state FROM shown;
COMMIT;
SELECT streamext.wait('late2', '1 second');
DROP MATERIALIZED VIEW late2;

--
-- Sinks: deliveries get rising numbers, whatever pipeline they come from
--
CREATE TABLE calls (delivery bigint, rows bigint);
CREATE FUNCTION note(id bigint, at timestamptz) RETURNS void
    BEGIN ATOMIC INSERT INTO calls SELECT id, count(*) FROM (SELECT 1) x; END;
INSERT INTO q SELECT i, i FROM generate_series(17, 20) i;
SELECT batch_id, rows FROM streamext.step('q');
CREATE STREAM again WITH (connector = 'function', function = 'note') AS SELECT id FROM q;
SELECT count(batch_id) FROM generate_series(1, 10) i, LATERAL streamext.step('again', '2026-01-02'::timestamptz + i * interval '1 second') s;
INSERT INTO q SELECT i, i FROM generate_series(21, 24) i;
SELECT batch_id, rows FROM streamext.step('q');
SELECT delivery, delivery > lag(delivery) OVER () AS rising FROM calls;
SELECT streamext.detach('again');
SELECT streamext.detach('again');
INSERT INTO q SELECT i, i FROM generate_series(25, 28) i;
SELECT batch_id, rows FROM streamext.step('q');
SELECT batch_id, rows FROM streamext.step('again');
SELECT batch_id, rows FROM streamext.step('again');
INSERT INTO q SELECT i, i FROM generate_series(29, 32) i;
SELECT batch_id, rows FROM streamext.step('again');
SELECT delivery, delivery > lag(delivery) OVER () AS rising FROM calls;
DROP STREAM again;

--
-- Detaching: what shares state goes along
--
CREATE FUNCTION add(state bigint, k int, v int[]) RETURNS bigint IMMUTABLE
    RETURN coalesce(state, 0) + (SELECT coalesce(sum(x), 0) FROM unnest(v) x);
CREATE STREAM totals WITH (update_state = 'add', key = 'k') AS SELECT id % 2 AS k, v FROM q;
CREATE MATERIALIZED VIEW of_totals AS SELECT k, max(state) AS top FROM totals GROUP BY 1;
CREATE MATERIALIZED VIEW late2 AS SELECT k, count(*) AS n FROM totals GROUP BY 1;
INSERT INTO q SELECT i, i FROM generate_series(33, 36) i;
SELECT batch_id, rows FROM streamext.step('q');
SELECT streamext.detach('of_totals');
SELECT view, pipeline, state FROM streamext.views WHERE view::text ~ 'totals|late|first' ORDER BY view::text;
INSERT INTO q SELECT i, i FROM generate_series(37, 44) i;
SELECT batch_id, rows FROM streamext.step('q');
SELECT batch_id, rows FROM streamext.step('q');
SELECT * FROM of_totals ORDER BY k;
SELECT batch_id, rows FROM streamext.step('of_totals');
SELECT batch_id, rows FROM streamext.step('of_totals');
SELECT view, pipeline, state FROM streamext.views WHERE view::text ~ 'totals|late|first' ORDER BY view::text;
SELECT k, state FROM streamext_state.totals ORDER BY k;
SELECT * FROM of_totals ORDER BY k;

-- all that there is cannot be detached
DROP STREAM totals CASCADE;
DROP MATERIALIZED VIEW late;
SELECT streamext.detach('first');
SELECT streamext.detach('q');

-- windows by arrival stay apart
CREATE STREAM lastly WITH (window = '2 batches') AS SELECT id FROM q;
CREATE MATERIALIZED VIEW of_window AS SELECT streamext.batch_id() AS b, count(*) AS n FROM lastly GROUP BY 1;
INSERT INTO q VALUES (45, 45);
SELECT batch_id, rows FROM streamext.step('q');
SELECT streamext.detach('of_window');
SELECT view, pipeline, state FROM streamext.views WHERE pipeline IN ('q', 'of_window') ORDER BY view::text;
SELECT * FROM shown;
DROP STREAM lastly CASCADE;
DROP STREAM q CASCADE;
SELECT * FROM shown;

--
-- Rows made by rate: the same ones again
--
CREATE STREAM r (value bigint, "timestamp" timestamptz) WITH (connector = 'rate', rows_per_second = 10, max_batch_rows = 7, paused,
    event_time = 'timestamp', watermark = '0 seconds');
CREATE MATERIALIZED VIEW first AS SELECT tumble("timestamp", '1 second') AS w, count(*) AS n, min(value) AS lo FROM r GROUP BY 1;
SELECT batch_id, rows FROM streamext.step('r', '2026-01-01 00:00:00');
SELECT batch_id, rows FROM streamext.step('r', '2026-01-01 00:00:01');
SELECT batch_id, rows FROM streamext.step('r', '2026-01-01 00:00:02');
CREATE MATERIALIZED VIEW late AS SELECT tumble("timestamp", '1 second') AS w, count(*) AS n, min(value) AS lo FROM r GROUP BY 1;
SELECT batch_id, rows FROM streamext.step('late');
SELECT batch_id, rows FROM streamext.step('r', '2026-01-01 00:00:03');
SELECT batch_id, rows FROM streamext.step('late');
SELECT batch_id, rows FROM streamext.step('late');
SELECT * FROM shown;
SELECT * FROM late ORDER BY w;
SELECT * FROM late EXCEPT SELECT * FROM first;
SELECT watermark FROM streamext.views WHERE view = 'late'::regclass;

-- a change of pace is made again as well
ALTER STREAM r OPTIONS (SET rows_per_second '2');
SELECT batch_id, rows FROM streamext.step('r', '2026-01-01 00:00:10');
SELECT batch_id, rows FROM streamext.step('r', '2026-01-01 00:00:12');
CREATE MATERIALIZED VIEW late2 AS SELECT value, "timestamp" FROM r;
SELECT batch_id, rows FROM streamext.step('late2');
SELECT * FROM late2 ORDER BY value;
SELECT pipeline FROM streamext.views WHERE view = 'late2'::regclass;
DROP STREAM r CASCADE;

-- the watermark of a view never goes back, and is that of the stream when that is higher
CREATE STREAM ts (id int, at timestamptz) WITH (connector = 'queue', event_time = 'at', watermark = '1 minute', paused);
CREATE MATERIALIZED VIEW first AS SELECT tumble(at, '1 minute') AS w, count(*) AS n FROM ts GROUP BY 1;
INSERT INTO ts VALUES (1, '2026-01-01 00:10');
SELECT batch_id, rows FROM streamext.step('ts');
INSERT INTO ts VALUES (2, '2026-01-01 00:05');
SELECT batch_id, rows FROM streamext.step('ts');
CREATE MATERIALIZED VIEW late WITH (late = 'drop') AS SELECT tumble(at, '1 minute') AS w, count(*) AS n FROM ts GROUP BY 1;
SELECT batch_id, rows FROM streamext.step('late');
SELECT pipeline, watermark, late_rows FROM streamext.views WHERE view IN ('first'::regclass, 'late'::regclass) ORDER BY view::text;
SELECT * FROM late ORDER BY w;
INSERT INTO ts VALUES (3, '2026-01-01 00:06');
SELECT batch_id, rows FROM streamext.step('late');
SELECT view, late_rows FROM streamext.views WHERE view IN ('first'::regclass, 'late'::regclass) ORDER BY view::text;
DROP STREAM ts CASCADE;

--
-- Files: those that the shared pipeline has taken, and of the last one as much
--
\setenv LANE_DIR :file_dir
\! rm -rf "$LANE_DIR"; mkdir "$LANE_DIR"; chmod 755 "$LANE_DIR"
\! for i in 1 2 3; do seq $((i * 10)) $((i * 10 + 9)) > "$LANE_DIR/$i.csv"; touch -d "2026-01-01 00:0$i" "$LANE_DIR/$i.csv"; done
CREATE STREAM f (n int) WITH (connector = 'file', path = :'file_dir', format = 'csv', max_batch_rows = 12, paused);
CREATE MATERIALIZED VIEW first AS SELECT n FROM f;
SELECT batch_id, rows FROM streamext.step('f');
SELECT batch_id, rows FROM streamext.step('f');
CREATE MATERIALIZED VIEW late AS SELECT n FROM f;
SELECT batch_id, rows FROM streamext.step('late');
SELECT * FROM shown;
SELECT batch_id, rows FROM streamext.step('late');
SELECT * FROM shown;
SELECT count(*), sum(n), max(n) FROM late;
SELECT count(*), sum(n), max(n) FROM first;
\! seq 40 49 > "$LANE_DIR/4.csv"
CREATE MATERIALIZED VIEW late2 AS SELECT n FROM f;
SELECT batch_id, rows FROM streamext.step('f');
SELECT batch_id, rows FROM streamext.step('f');
SELECT count(batch_id) FROM generate_series(1, 10) i, LATERAL streamext.step('late2', '2026-01-02'::timestamptz + i * interval '1 second') s;
SELECT * FROM shown;
SELECT (SELECT array_agg(n ORDER BY n) FROM late2) = (SELECT array_agg(n ORDER BY n) FROM first) AS equal, (SELECT count(*) FROM late2);
DROP STREAM f CASCADE;

-- a file that grows
\! seq 1 5 > "$LANE_DIR/log"
\set log :file_dir /log
CREATE STREAM f (n int) WITH (connector = 'file', path = :'log', tail = on, format = 'csv', max_batch_rows = 3, paused);
CREATE MATERIALIZED VIEW first AS SELECT n FROM f;
SELECT batch_id, rows FROM streamext.step('f');
CREATE MATERIALIZED VIEW late AS SELECT n FROM f;
\! seq 6 9 >> "$LANE_DIR/log"
SELECT batch_id, rows FROM streamext.step('f');
SELECT batch_id, rows FROM streamext.step('late');
SELECT batch_id, rows FROM streamext.step('late');
SELECT * FROM shown;
SELECT array_agg(n ORDER BY n) FROM late;
DROP STREAM f CASCADE;
\! rm -r "$LANE_DIR"

--
-- A view made of nodes is in one lane, and is detached as a whole
--
CREATE STREAM q (id int, v int) WITH (connector = 'queue', max_batch_rows = 4, paused);
CREATE MATERIALIZED VIEW first AS SELECT id % 2 AS k, percentile_cont(0.5) WITHIN GROUP (ORDER BY v) AS m FROM q GROUP BY 1;
CREATE MATERIALIZED VIEW keeper WITH (pipeline = 'keeper') AS SELECT id FROM q WHERE false;
INSERT INTO q SELECT i, i * i FROM generate_series(1, 10) i;
SELECT batch_id, rows FROM streamext.step('q');
SELECT batch_id, rows FROM streamext.step('q');
CREATE MATERIALIZED VIEW late AS SELECT id % 2 AS k, percentile_cont(0.5) WITHIN GROUP (ORDER BY v) AS m FROM q GROUP BY 1;
SELECT * FROM shown;
SELECT s.pipeline = max(s.pipeline) OVER () AS same FROM streamext.step s WHERE s.relation = 'late'::regclass OR s.node_of = 'late'::regclass;
SELECT batch_id, rows FROM streamext.step('late');
SELECT batch_id, rows FROM streamext.step('late');
SELECT * FROM shown;
SELECT * FROM late ORDER BY k;
SELECT streamext.detach('late');
SELECT s.pipeline = max(s.pipeline) OVER () AS same FROM streamext.step s WHERE s.relation = 'late'::regclass OR s.node_of = 'late'::regclass;
SELECT batch_id, rows FROM streamext.step('q');
SELECT * FROM shown;
SELECT batch_id, rows FROM streamext.step('late');
SELECT * FROM shown;
SELECT * FROM late ORDER BY k;
SELECT * FROM late EXCEPT SELECT * FROM first;
DROP STREAM q CASCADE;

--
-- What cannot go back begins now, and says so
--
CREATE FUNCTION numbers(at jsonb, max int) RETURNS TABLE (pos jsonb, n int) LANGUAGE sql
    AS 'SELECT to_jsonb(i), i FROM generate_series(coalesce($1::int, 0) + 1, 5) i LIMIT $2';
CREATE STREAM f (n int) WITH (connector = 'function', function = 'numbers', paused);
CREATE MATERIALIZED VIEW first AS SELECT n FROM f;
SELECT batch_id, rows FROM streamext.step('f');
CREATE MATERIALIZED VIEW late AS SELECT n FROM f;
SELECT pipeline, state FROM streamext.views WHERE view = 'late'::regclass;
SELECT streamext.detach('late');
DROP STREAM f CASCADE;

SELECT * FROM shown;
SET client_min_messages = warning;
DROP SCHEMA lanes CASCADE;
