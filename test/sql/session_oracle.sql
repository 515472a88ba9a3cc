-- Session windows over random rows and random batches: after every batch the views are what plain SQL makes of the rows.
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE SCHEMA session_oracle;
SET search_path = session_oracle, public;
CREATE STREAM s (id int, k int, j text, v int, ts timestamptz)
    WITH (connector = 'queue', pipeline = 'session_oracle', paused, event_time = 'ts', watermark = '8 seconds');
-- every row accepted
CREATE MATERIALIZED VIEW every AS
    SELECT k, j, session_start() AS a, session_end() AS b, count(*) AS n, sum(v) AS v, min(id) AS id FROM s GROUP BY k, j, session(ts, make_interval(secs => v));
CREATE MATERIALIZED VIEW every_id AS
    SELECT k, j, session_start() AS a, session_end() AS b, array_agg(id ORDER BY id) AS ids FROM s GROUP BY k, j, session(ts, make_interval(secs => v));
-- late rows dropped
CREATE MATERIALIZED VIEW dropping WITH (late = 'drop') AS
    SELECT k, j, session_start() AS a, session_end() AS b, count(*) AS n, sum(v) AS v, min(id) AS id FROM s GROUP BY k, j, session(ts, make_interval(secs => v));
CREATE MATERIALIZED VIEW final WITH (emit = 'final') AS
    SELECT k, j, session_start() AS a, session_end() AS b, array_agg(id ORDER BY id) AS ids FROM s GROUP BY k, j, session(ts, make_interval(secs => v));
CREATE MATERIALIZED VIEW final_sum WITH (emit = 'final') AS
    SELECT k, j, session_start() AS a, session_end() AS b, count(*) AS n, sum(v) AS v, min(id) AS id FROM s GROUP BY k, j, session(ts, make_interval(secs => v));
CREATE MATERIALIZED VIEW letters WITH (late = 'dead_letter') AS
    SELECT k, j, session_start() AS a, session_end() AS b, count(*) AS n, sum(v) AS v, min(id) AS id FROM s GROUP BY k, j, session(ts, make_interval(secs => v));

-- the rows, those that no closed session holds, and the closed sessions
CREATE TABLE rows (id int, k int, j text, v int, ts timestamptz, batch int);
CREATE TABLE live (LIKE rows);
CREATE TABLE closed (k int, j text, a timestamptz, b timestamptz, ids int[]);
CREATE TABLE late (id int);
CREATE FUNCTION islands(query text) RETURNS TABLE (id int, k int, j text, v int, a timestamptz, b timestamptz) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY EXECUTE format('SELECT id, k, j, v, min(ts) OVER w, max(ts + make_interval(secs => v)) OVER w
        FROM (SELECT *, sum(fresh) OVER (PARTITION BY k, j ORDER BY ts, v, id) AS island
              FROM (SELECT *, CASE WHEN ts <= max(ts + make_interval(secs => v)) OVER (PARTITION BY k, j ORDER BY ts, v, id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
                              THEN 0 ELSE 1 END AS fresh FROM (%s) r WHERE v > 0 AND ts IS NOT NULL) r) r
        WINDOW w AS (PARTITION BY k, j, island)', query);
END $$;

-- a batch of n random rows around a time that goes forward
CREATE FUNCTION feed(batch int, n int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO rows SELECT batch * 1000 + i, nullif(floor(random() * 4)::int, 3), CASE WHEN random() < 0.5 THEN 'x' ELSE 'y' END,
        floor(random() * 6)::int, CASE WHEN random() < 0.97 THEN timestamptz '2024-01-01Z' + batch * interval '3 seconds' + (random() * 20 - 12)::int * interval '1 second' END, batch
    FROM generate_series(1, n) i;
    INSERT INTO s SELECT id, k, j, v, ts FROM rows r WHERE r.batch = feed.batch;
END $$;

-- the rules, in plain SQL; mark: the watermark at the end of the batch before
CREATE FUNCTION close_sessions(b int, mark timestamptz) RETURNS timestamptz LANGUAGE plpgsql AS $$
DECLARE
    upto timestamptz;
BEGIN
    INSERT INTO live SELECT * FROM rows WHERE batch = close_sessions.b AND ts IS NOT NULL AND v > 0;
    CREATE TEMP TABLE now ON COMMIT DROP AS SELECT * FROM session_oracle.islands('TABLE session_oracle.live');
    INSERT INTO late SELECT id FROM now n WHERE n.b <= mark;
    SELECT greatest(mark, max(ts) - interval '8 seconds') INTO upto FROM rows;
    INSERT INTO closed SELECT n.k, n.j, n.a, n.b, array_agg(n.id ORDER BY n.id) FROM now n WHERE n.b > mark AND n.b <= upto GROUP BY n.k, n.j, n.a, n.b;
    DELETE FROM live l USING now n WHERE l.id = n.id AND n.b <= upto;
    DROP TABLE now;
    RETURN upto;
END $$;

CREATE FUNCTION compare(name text, want text, have text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    n bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM ((SELECT r::text FROM (%1$s) r EXCEPT ALL SELECT r::text FROM (%2$s) r)
        UNION ALL (SELECT r::text FROM (%2$s) r EXCEPT ALL SELECT r::text FROM (%1$s) r)) d', want, have) INTO n;
    IF n > 0 THEN
        RETURN NEXT name || ': ' || n;
    END IF;
END $$;

CREATE FUNCTION differences() RETURNS SETOF text LANGUAGE sql AS $$
    SELECT compare('every', 'SELECT k, j, a, b, count(*), sum(v), min(id) FROM islands(''TABLE rows'') GROUP BY k, j, a, b', 'TABLE every')
    UNION ALL SELECT compare('every_id', 'SELECT k, j, a, b, array_agg(id ORDER BY id) FROM islands(''TABLE rows'') GROUP BY k, j, a, b', 'TABLE every_id')
    UNION ALL SELECT compare('final', 'TABLE closed', 'TABLE final')
    UNION ALL SELECT compare('final_sum', 'SELECT k, j, a, b, n, x.v, id FROM closed, LATERAL (SELECT count(*) AS n, sum(r.v) AS v, min(r.id) AS id FROM rows r WHERE r.id = ANY (ids)) x', 'TABLE final_sum')
    UNION ALL SELECT compare(name, 'SELECT k, j, a, b, n, x.v, id FROM closed, LATERAL (SELECT count(*) AS n, sum(r.v) AS v, min(r.id) AS id FROM rows r WHERE r.id = ANY (ids)) x
        UNION ALL SELECT k, j, a, b, count(*), sum(v), min(id) FROM islands(''TABLE live'') GROUP BY k, j, a, b', 'TABLE ' || name) FROM unnest('{dropping,letters}'::text[]) name
$$;

SELECT setseed(0.6);
DO $$
DECLARE
    mark timestamptz := '-infinity';
    d text;
BEGIN
    FOR b IN 1 .. 40 LOOP
        PERFORM session_oracle.feed(b, (ARRAY[1, 2, 7, 0, 30])[1 + floor(random() * 5)::int]);
        COMMIT;
        PERFORM streamext.step('session_oracle');
        mark := session_oracle.close_sessions(b, mark);
        FOR d IN SELECT * FROM session_oracle.differences() LOOP
            RAISE WARNING 'batch %: %', b, d;
        END LOOP;
    END LOOP;
END $$;
-- what was tried
SELECT (SELECT count(*) FROM rows) > 200 AS rows, (SELECT count(*) FROM late) > 5 AS late, (SELECT count(*) FROM closed) > 50 AS closed,
    (SELECT max(cardinality(ids)) FROM closed) > 5 AS long, (SELECT count(*) FROM live) > 0 AS live;
SELECT view, late_rows - (SELECT count(*) FROM late) AS late, null_time_rows - (SELECT count(*) FROM rows WHERE ts IS NULL) AS without_time
FROM streamext.views WHERE pipeline = 'session_oracle' AND view::text !~ 'every' ORDER BY view::text;
SELECT count(*) FROM ((SELECT id FROM late EXCEPT SELECT (convert_from(value, 'UTF8')::json->>'id')::int FROM streamext.dead_letters WHERE view = 'letters'::regclass)
    UNION ALL (SELECT (convert_from(value, 'UTF8')::json->>'id')::int FROM streamext.dead_letters WHERE view = 'letters'::regclass EXCEPT SELECT id FROM late)) d;
-- rows of live sessions are kept, and those without a session that the watermark has not passed
SELECT count(*) FROM streamext_state.final_1 f WHERE NOT EXISTS (SELECT FROM live l WHERE l.id = f.id) AND v > 0;
DROP SCHEMA session_oracle CASCADE;
