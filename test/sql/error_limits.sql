-- How many records may fail, for how long a step may run, and what a step does that fails as a whole.
SET timezone = 'UTC';
SET client_min_messages = warning;
\set SHOW_CONTEXT never
CREATE SCHEMA error_limits;
SET search_path = error_limits, public;
CREATE FUNCTION step_at(pipeline text, at timestamptz) RETURNS text LANGUAGE plpgsql AS $$
DECLARE s record; message text; hint text;
BEGIN
    SELECT * INTO s FROM streamext.step(pipeline, at);
    RETURN format('batch %s: %s rows, %s letters', s.batch_id, s.rows, s.dead_letters);
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
    RETURN format('%s: %s', sqlstate, message);
END $$;

-- max_errors: the batch is rolled back, with an error of its own
CREATE STREAM s (i int) WITH (connector = 'queue', max_errors = 3, max_errors_per_hour = 6, paused);
CREATE MATERIALIZED VIEW v AS SELECT 1 / i AS q FROM s;
CREATE MATERIALIZED VIEW w AS SELECT i FROM s;
INSERT INTO s VALUES (0), (0), (0), (0), (1);
SELECT step_at('s', '2024-01-01 00:00Z');
SELECT count(*) FROM streamext.dead_letters;
TABLE w;
ALTER STREAM s OPTIONS (SET max_errors '4');
SELECT step_at('s', '2024-01-01 00:00Z');
-- within the hour: 4 + 2 are allowed, 4 + 3 are not
INSERT INTO s VALUES (0), (0);
SELECT step_at('s', '2024-01-01 00:30Z');
INSERT INTO s VALUES (0);
SELECT step_at('s', '2024-01-01 00:45Z');
SELECT count(*) FROM streamext.dead_letters;
-- an hour later half of them count no more: 6 · 1/2 + 1
SELECT step_at('s', '2024-01-01 01:30Z');
INSERT INTO s VALUES (0), (0);
SELECT step_at('s', '2024-01-01 01:30Z');
INSERT INTO s VALUES (0);
SELECT step_at('s', '2024-01-01 01:31Z');
-- much later all is forgotten
SELECT step_at('s', '2024-01-02 01:31Z');
-- and so it is with resume()
INSERT INTO s VALUES (0), (0), (0);
SELECT step_at('s', '2024-01-02 01:32Z');
INSERT INTO s VALUES (0), (0), (0);
SELECT step_at('s', '2024-01-02 01:33Z');
SELECT relation, errors_now, errors_before FROM streamext.step_progress ORDER BY relation::text;
BEGIN;
SELECT streamext.resume('s');
SELECT streamext.pause('s');
COMMIT;
SELECT step_at('s', '2024-01-02 01:33Z');
DROP STREAM s CASCADE;

-- every record of a hundred: not the records' fault
CREATE STREAM s (i int) WITH (connector = 'queue', paused);
CREATE MATERIALIZED VIEW v AS SELECT 1 / i AS q FROM s;
INSERT INTO s SELECT 0 FROM generate_series(1, 99);
SELECT step_at('s', '2024-01-01Z');
INSERT INTO s SELECT 0 FROM generate_series(1, 100);
SELECT step_at('s', '2024-01-01Z');
SELECT count(*) FROM streamext.dead_letters;
DROP STREAM s CASCADE;

-- a record that takes too long alone; the others go on
CREATE FUNCTION slow(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(CASE WHEN i = 7 THEN 60 ELSE 0 END); RETURN i; END $$;
CREATE FUNCTION loops(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN WHILE i = 8 LOOP NULL; END LOOP; RETURN i; END $$;
CREATE STREAM s (i int) WITH (connector = 'queue', step_timeout = '500 ms', paused);
CREATE STREAM out WITH (connector = 'table', table = 'out_rows') AS SELECT slow(i) AS i FROM s;
CREATE MATERIALIZED VIEW v AS SELECT loops(i) AS i FROM s;
INSERT INTO s SELECT generate_series(1, 20);
SELECT step_at('s', '2024-01-01Z');
SELECT count(*), sum(i) FROM out_rows;
SELECT count(*), sum(i) FROM v;
SELECT view, sqlstate, message, convert_from(value, 'UTF8') AS value FROM streamext.dead_letters ORDER BY view::text;
-- the caller's own time-out is the caller's
INSERT INTO s VALUES (7);
SET statement_timeout = '100 ms';
SELECT * FROM streamext.step('s', '2024-01-01Z');
SET statement_timeout = 0;
DROP STREAM s CASCADE;
-- a stateful function knows the record
CREATE FUNCTION stuck(INOUT state int, k int, i int, OUT n int) LANGUAGE plpgsql AS $$ BEGIN PERFORM slow(i); state := coalesce(state, 0) + 1; n := state; END $$;
CREATE STREAM s (k int, i int) WITH (connector = 'queue', step_timeout = '500 ms', paused);
CREATE STREAM m WITH (map_with_state = 'stuck', key = 'k') AS SELECT k, i FROM s;
CREATE STREAM out2 WITH (connector = 'table', table = 'out2_rows') AS SELECT n FROM m;
INSERT INTO s SELECT 1, generate_series(1, 10);
SELECT step_at('s', '2024-01-01Z');
SELECT count(*), max(n) FROM out2_rows;
SELECT view, sqlstate, convert_from(value, 'UTF8') AS value FROM streamext.dead_letters;
DROP STREAM s CASCADE;
-- no record is slow alone: it is the step's fault
CREATE FUNCTION little(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.08); RETURN i; END $$;
CREATE STREAM s (i int) WITH (connector = 'queue', step_timeout = '500 ms', paused);
CREATE MATERIALIZED VIEW v AS SELECT little(i) AS i FROM s;
INSERT INTO s SELECT generate_series(1, 10);
SELECT step_at('s', '2024-01-01Z');
SELECT count(*) FROM streamext.dead_letters;
ALTER STREAM s OPTIONS (SET step_timeout '0');
SELECT step_at('s', '2024-01-01Z');
DROP STREAM s CASCADE;

-- a table that is gone, a privilege: stop, and no record is blamed
CREATE STREAM s (i int) WITH (connector = 'queue', paused);
CREATE TABLE other (i int);
CREATE FUNCTION reads() RETURNS bigint STABLE LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT count(*) FROM error_limits.other); END $$;
CREATE STREAM out WITH (connector = 'table', table = 'out3_rows') AS SELECT i, reads() AS n FROM s;
INSERT INTO s VALUES (1);
ALTER TABLE other RENAME TO elsewhere;
SELECT step_at('s', '2024-01-01Z');
SELECT count(*) FROM streamext.dead_letters;
ALTER TABLE elsewhere RENAME TO other;
SELECT step_at('s', '2024-01-01Z');
DROP STREAM s CASCADE;
DROP SCHEMA error_limits CASCADE;
