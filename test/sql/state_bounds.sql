-- What views over windows keep is bounded by the windows that are open: it is the same after 10 windows and after 60.
SET client_min_messages = error;
SET timezone = 'UTC';
CREATE SCHEMA bounds;
SET search_path = bounds, public;
CREATE STREAM s (k int, v int, ts timestamptz) WITH (connector = 'queue', pipeline = 'bounds', paused, event_time = 'ts', watermark = '5 seconds');
CREATE STREAM t (k int, v int, ts timestamptz) WITH (connector = 'queue', pipeline = 'bounds', event_time = 'ts', watermark = '5 seconds');
CREATE STREAM u (k int, v int, ts timestamptz) WITH (connector = 'queue', pipeline = 'bounds', event_time = 'ts', watermark = '5 seconds');

-- five windows a batch
CREATE PROCEDURE feed(first int, last int) LANGUAGE plpgsql AS $$
BEGIN
    FOR n IN first .. last LOOP
        INSERT INTO bounds.s SELECT i % 5, i % 7, timestamptz '2024-01-01 00:00Z' + n * interval '10 s' + i * interval '0.4 s' FROM generate_series(0, 19) i;
        INSERT INTO bounds.t SELECT i % 5, i % 3, timestamptz '2024-01-01 00:00Z' + n * interval '10 s' + i * interval '0.8 s' FROM generate_series(0, 9) i;
        INSERT INTO bounds.u SELECT i % 5, i, timestamptz '2024-01-01 00:00Z' + n * interval '10 s' + i * interval '1.5 s' FROM generate_series(0, 4) i;
        CONTINUE WHEN n % 5 <> 0;
        COMMIT;
        PERFORM streamext.step('bounds');
        COMMIT;
    END LOOP;
END $$;

-- one strategy after the other; rows of the view itself go by retention
CREATE MATERIALIZED VIEW append_rows WITH (retention = '0 s') AS SELECT tumble(ts, '10 s') AS w, k, v FROM s;
CREATE MATERIALIZED VIEW merge_tumble WITH (retention = '0 s') AS SELECT tumble(ts, '10 s') AS w, k, count(*) AS n FROM s GROUP BY 1, 2;
CREATE MATERIALIZED VIEW merge_hop WITH (retention = '0 s') AS SELECT hop(ts, '5 s', '20 s') AS w, k, count(*) AS n FROM s GROUP BY 1, 2;
CREATE MATERIALIZED VIEW merge_cumulate WITH (retention = '0 s') AS SELECT cumulate(ts, '5 s', '20 s') AS w, k, count(*) AS n FROM s GROUP BY 1, 2;
CREATE MATERIALIZED VIEW distinct_values WITH (retention = '0 s') AS SELECT tumble(ts, '10 s') AS w, k, count(*) AS n, count(DISTINCT v) AS d FROM s GROUP BY 1, 2;
CREATE MATERIALIZED VIEW reduce_rank WITH (late = 'drop', retention = '0 s') AS
    SELECT w, k, v FROM (SELECT *, row_number() OVER (PARTITION BY w, k ORDER BY v DESC, ts) AS r FROM (SELECT tumble(ts, '10 s') AS w, * FROM s) a) b WHERE r <= 2;
CREATE MATERIALIZED VIEW reduce_on WITH (late = 'drop', retention = '0 s') AS SELECT DISTINCT ON (w, k) w, k, v FROM (SELECT tumble(ts, '10 s') AS w, * FROM s) a ORDER BY w, k, ts DESC;
CREATE MATERIALIZED VIEW retract_groups WITH (late = 'drop', retention = '0 s') AS
    SELECT w, n, count(*) AS keys FROM (SELECT tumble(ts, '10 s') AS w, k, count(*) AS n FROM s GROUP BY 1, 2) c GROUP BY 1, 2;
CREATE MATERIALIZED VIEW recompute_agg WITH (late = 'drop', retention = '0 s') AS
    SELECT tumble(ts, '10 s') AS w, k, percentile_cont(0.5) WITHIN GROUP (ORDER BY v) AS m FROM s GROUP BY 1, 2;
CREATE MATERIALIZED VIEW recompute_window WITH (late = 'drop', retention = '0 s') AS
    SELECT w, k, v, sum(v) OVER (PARTITION BY w, k ORDER BY ts) AS r FROM (SELECT tumble(ts, '10 s') AS w, * FROM s) a;
CREATE MATERIALIZED VIEW recompute_max WITH (late = 'drop', retention = '0 s') AS
    WITH c AS (SELECT k, hop(ts, '5 s', '20 s') AS w, count(*) AS n FROM s GROUP BY 1, 2)
    SELECT c.k, c.w, c.n FROM c JOIN (SELECT w, max(n) AS m FROM c GROUP BY w) m USING (w) WHERE c.n >= m.m;
CREATE MATERIALIZED VIEW sessions WITH (retention = '0 s') AS SELECT k, session_start() AS a, session_end() AS b, count(*) AS n FROM s GROUP BY k, session(ts, '1 s');
CREATE MATERIALIZED VIEW session_rows WITH (retention = '0 s') AS
    SELECT k, session_start() AS a, session_end() AS b, percentile_cont(0.5) WITHIN GROUP (ORDER BY v) AS m FROM s GROUP BY k, session(ts, '1 s');
CREATE MATERIALIZED VIEW final_tens WITH (emit = 'final', retention = '0 s') AS SELECT tumble(ts, '10 s') AS w, k, count(*) AS n FROM s GROUP BY 1, 2;
CREATE MATERIALIZED VIEW final_chained WITH (emit = 'final', retention = '0 s') AS SELECT tumble(w, '20 s') AS w, max(n) AS n FROM final_tens GROUP BY 1;
CREATE MATERIALIZED VIEW join_inner WITH (late = 'drop', retention = '0 s') AS SELECT s.ts, s.k, t.v FROM s JOIN t ON s.k = t.k AND t.ts BETWEEN s.ts AND s.ts + interval '3 s';
CREATE MATERIALIZED VIEW join_left WITH (late = 'drop', retention = '0 s') AS SELECT s.ts, s.k, t.v FROM s LEFT JOIN t ON s.k = t.k AND t.ts BETWEEN s.ts AND s.ts + interval '3 s';
CREATE MATERIALIZED VIEW join_right WITH (late = 'drop', retention = '0 s') AS SELECT t.ts, s.k, t.v FROM s RIGHT JOIN t ON s.k = t.k AND t.ts BETWEEN s.ts AND s.ts + interval '3 s';
CREATE MATERIALIZED VIEW join_full WITH (late = 'drop', retention = '0 s') AS SELECT s.ts, t.ts AS tts, s.k FROM s FULL JOIN t ON s.k = t.k AND t.ts BETWEEN s.ts AND s.ts + interval '3 s';
CREATE MATERIALIZED VIEW join_semi WITH (late = 'drop', retention = '0 s') AS
    SELECT s.ts, s.k FROM s WHERE EXISTS (SELECT FROM t WHERE s.k = t.k AND t.ts BETWEEN s.ts AND s.ts + interval '3 s');
CREATE MATERIALIZED VIEW join_anti WITH (emit = 'final', retention = '0 s') AS
    SELECT s.ts, s.k FROM s WHERE NOT EXISTS (SELECT FROM t WHERE s.k = t.k AND t.ts BETWEEN s.ts AND s.ts + interval '3 s');

CREATE MATERIALIZED VIEW join_counted WITH (retention = '0 s') AS SELECT tumble(ts, '10 s') AS w, k, count(*) AS n, sum(v) AS v FROM join_inner GROUP BY 1, 2;

-- what people write first: aggregates over joins
CREATE MATERIALIZED VIEW window_join WITH (late = 'drop', retention = '0 s') AS
    SELECT a.w, a.k, count(*) AS n FROM (SELECT tumble(ts, '10 s') AS w, k FROM s) a JOIN (SELECT tumble(ts, '10 s') AS w, k FROM t) b ON a.k = b.k AND a.w = b.w GROUP BY 1, 2;
CREATE MATERIALIZED VIEW two_counts WITH (late = 'drop', retention = '0 s') AS
    SELECT a.w, a.k, a.n, b.n AS m FROM (SELECT tumble(ts, '10 s') AS w, k, count(*) AS n FROM s GROUP BY 1, 2) a
        LEFT JOIN (SELECT tumble(ts, '10 s') AS w, k, count(*) AS n FROM t GROUP BY 1, 2) b ON a.k = b.k AND a.w = b.w;
CREATE MATERIALIZED VIEW bounded_join_count WITH (late = 'drop', retention = '0 s') AS
    SELECT tumble(s.ts, '10 s') AS w, count(*) AS n FROM s JOIN t ON s.k = t.k AND t.ts BETWEEN s.ts AND s.ts + interval '3 s' GROUP BY 1;
CREATE MATERIALIZED VIEW three_windows WITH (late = 'drop', retention = '0 s') AS
    SELECT a.w, a.k, count(*) AS n FROM (SELECT tumble(ts, '10 s') AS w, k FROM s) a JOIN (SELECT tumble(ts, '10 s') AS w, k FROM t) b ON a.k = b.k AND a.w = b.w
        JOIN (SELECT tumble(ts, '10 s') AS w, k FROM u) c ON a.k = c.k AND a.w = c.w GROUP BY 1, 2;

CALL feed(1, 10);
CREATE TABLE before AS SELECT relation, state_table, streamext.state_rows(state_table) AS rows FROM streamext.state WHERE pipeline = 'bounds';
CALL feed(11, 60);
CREATE TABLE after AS SELECT relation, state_table, streamext.state_rows(state_table) AS rows FROM streamext.state WHERE pipeline = 'bounds';
-- rows of all state tables of a view: the same when fifty more windows have passed
SELECT a.relation AS view, count(*) AS tables, sum(b.rows) AS after_10, sum(a.rows) AS after_60
FROM before b JOIN after a USING (state_table) GROUP BY 1 ORDER BY a.relation::text;
SELECT a.relation AS grows, a.state_table, b.rows AS after_10, a.rows AS after_60
FROM before b JOIN after a USING (state_table) WHERE a.rows > b.rows ORDER BY a.state_table::text;
SELECT count(*) FROM join_counted;
SELECT streamext.state_bound('bounded_join_count'), streamext.state_bound('join_counted');
DROP SCHEMA bounds CASCADE;
