-- Dead letters that are fed again: each once, to whom it is owed, and to nobody else.
SET timezone = 'UTC';
SET client_min_messages = notice;
CREATE SCHEMA replay;
SET search_path = replay, public;
\getenv build_dir PG_ABS_BUILDDIR
\set dir :build_dir /replay
\setenv DIR :dir
\! rm -rf "$DIR"; mkdir -p "$DIR/json"; chmod -R 755 "$DIR"
CREATE FUNCTION step_all(pipeline text) RETURNS TABLE (batch_id bigint, rows bigint, dead_letters bigint) LANGUAGE plpgsql AS $$
BEGIN
    LOOP
        RETURN QUERY SELECT s.batch_id, s.rows, s.dead_letters FROM streamext.step(pipeline, '2024-02-01Z') s;
        EXIT WHEN NOT FOUND;
    END LOOP;
END $$;

-- one record fails for one view, one for all: each goes where it was missing
\! cd "$DIR/json"; printf '{"k": "a", "v": 1}\n{"k": "b", "v": 0}\n{"k": "c", "v": 4}\nno json\n' >a
\set path :dir '/json'
CREATE STREAM s (k text, v int, off bigint OPTIONS (metadata 'offset'), file text OPTIONS (metadata 'topic'), raw text OPTIONS (metadata 'raw'))
    WITH (connector = 'file', path = :'path', format = 'json', paused);
CREATE TABLE mend (broken boolean);
INSERT INTO mend VALUES (true);
CREATE FUNCTION divide(v int) RETURNS int STABLE LANGUAGE sql AS $$ SELECT 100 / CASE WHEN broken THEN v ELSE nullif(v, 0) END FROM mend $$;
CREATE STREAM kept WITH (connector = 'table', table = 'kept_rows') AS SELECT k, v, off, file, raw FROM s;
CREATE STREAM divided WITH (connector = 'table', table = 'divided_rows') AS SELECT k, off, divide(v) AS q FROM s;
CREATE MATERIALIZED VIEW n AS SELECT count(*) AS n FROM s;
SELECT * FROM step_all('s');
SELECT view, "offset", sqlstate, attempt, replay, convert_from(value, 'UTF8') AS value, value_size FROM streamext.dead_letters ORDER BY id;
-- nothing is marked: nothing is fed
SELECT * FROM step_all('s');
-- still broken: they fail again, and are letters again
SELECT streamext.replay_dead_letters('s');
SELECT view, attempt, replay FROM streamext.dead_letters ORDER BY id;
-- marked is marked
SELECT streamext.replay_dead_letters('s');
SELECT * FROM step_all('s');
SELECT view, "offset", sqlstate, attempt, replay, batch_id FROM streamext.dead_letters ORDER BY id;
TABLE n;
-- mended: the filter, which is the caller's
UPDATE mend SET broken = false;
SELECT streamext.replay_dead_letters('s', $$sqlstate = '22012' AND attempt > 1$$);
SELECT view, replay FROM streamext.dead_letters ORDER BY id;
-- a batch that is rolled back gives them back
BEGIN;
SELECT * FROM step_all('s');
SELECT count(*) FROM streamext.dead_letters;
ROLLBACK;
SELECT count(*) FROM streamext.dead_letters;
SELECT * FROM step_all('s');
SELECT k, off, q FROM divided_rows ORDER BY off;
SELECT k, off, file, raw FROM kept_rows ORDER BY off;
TABLE n;
SELECT view, rows, dead_letters FROM streamext.views ORDER BY view::text;
-- by the name of the view
SELECT streamext.replay_dead_letters('divided');
-- new records are not held up, and positions have not moved
\! cd "$DIR/json"; printf '{"k": "d", "v": 5}\n' >b
SELECT * FROM step_all('s');
SELECT k, q FROM divided_rows ORDER BY k;
TABLE n;

-- filters that are none
SELECT streamext.replay_dead_letters('s', 'true); DELETE FROM mend; SELECT (1');
SELECT streamext.replay_dead_letters('s', 'true) OR (true');
SELECT streamext.replay_dead_letters('s', 'no such column');
SELECT streamext.replay_dead_letters('s', 'id -- and a comment');
SELECT streamext.replay_dead_letters('s', NULL);
SELECT streamext.replay_dead_letters('nobody');
SELECT streamext.replay_dead_letters(NULL);
SELECT streamext.replay_dead_letters('mend');
TABLE mend;
-- deleting
SELECT streamext.delete_dead_letters('s', $$failed_at < now() - interval '1 day'$$);
SELECT streamext.delete_dead_letters('s');
SELECT count(*) FROM streamext.dead_letter;
SELECT * FROM step_all('s');
DROP STREAM s CASCADE;
DROP TABLE kept_rows, divided_rows;

-- rows instead of bytes
UPDATE mend SET broken = true;
CREATE TYPE pair AS (a int, b text);
CREATE STREAM q (i int, t text, b bytea, a text[], p pair, ts timestamptz, f float8, n numeric, j jsonb, d date)
    WITH (connector = 'queue', paused);
CREATE STREAM out WITH (connector = 'table', table = 'out_rows') AS SELECT i, t, b, a, p, ts, f, n, j, d, divide(i) AS q FROM q;
INSERT INTO q VALUES (0, E'x"\\\n', '\x00ff', '{"a,b",NULL}', '(1,"x y")', '2024-01-01 00:00:00.123456+02', 1.1, 1.10, '{"a": [1, null]}', '2024-02-29'),
    (0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL), (5, '', '', '{}', NULL, NULL, '1e-300', '1e30', '1', NULL);
SELECT * FROM step_all('q');
SELECT convert_from(value, 'UTF8') FROM streamext.dead_letters ORDER BY id;
UPDATE mend SET broken = false;
SELECT streamext.replay_dead_letters('q');
SELECT * FROM step_all('q');
SELECT * FROM out_rows ORDER BY q, t;
-- the view that is owed them is gone
UPDATE mend SET broken = true;
INSERT INTO q (i, t) VALUES (0, 'one'), (0, '2');
SELECT * FROM step_all('q');
DROP STREAM out;
SELECT view, sqlstate, replay FROM streamext.dead_letters ORDER BY id;
SELECT streamext.replay_dead_letters('q');
SELECT * FROM step_all('q');
DROP STREAM q CASCADE;
DROP TABLE out_rows;

-- derived streams: what failed in one is fed to that, and through it to its readers
CREATE STREAM src (i int, g int) WITH (connector = 'queue', paused);
CREATE STREAM inverse AS SELECT i, g, divide(i) AS q FROM src WHERE random() < 2;
CREATE STREAM per_g AS SELECT g, count(*) AS n, sum(q) AS q FROM inverse GROUP BY g;
CREATE STREAM to_a WITH (connector = 'table', table = 'a_rows') AS SELECT i, q FROM inverse;
CREATE STREAM to_b WITH (connector = 'table', table = 'b_rows') AS SELECT g, n, q FROM per_g;
CREATE STREAM to_c WITH (connector = 'table', table = 'c_rows') AS SELECT i FROM src;
CREATE STREAM to_d WITH (connector = 'table', table = 'd_rows') AS SELECT i, 100 / (q - 20) AS d FROM inverse;
CREATE STREAM to_e WITH (connector = 'table', table = 'e_rows') AS SELECT src.i, p.n FROM src, per_g p WHERE p.g = src.g;
INSERT INTO src VALUES (0, 1), (5, 1), (2, 2);
SELECT * FROM step_all('src');
SELECT view, sqlstate, convert_from(value, 'UTF8') AS value FROM streamext.dead_letters ORDER BY id;
SELECT * FROM a_rows ORDER BY i;
SELECT * FROM b_rows ORDER BY g;
SELECT * FROM c_rows ORDER BY i;
SELECT * FROM d_rows ORDER BY i;
SELECT * FROM e_rows ORDER BY i, n;
UPDATE mend SET broken = false;
SELECT streamext.replay_dead_letters('inverse');
SELECT * FROM step_all('src');
-- the record reaches those that read the stream it failed in, and no other
SELECT * FROM a_rows ORDER BY i;
SELECT * FROM b_rows ORDER BY g, n;
SELECT * FROM c_rows ORDER BY i;
SELECT * FROM d_rows ORDER BY i;
SELECT * FROM e_rows ORDER BY i, n;
SELECT view, sqlstate, attempt, convert_from(value, 'UTF8') AS value FROM streamext.dead_letters ORDER BY id;
DROP STREAM src CASCADE;
DROP TABLE a_rows, b_rows, c_rows, d_rows, e_rows;

-- streams with state: the state goes without the record, and gets it with the letter
UPDATE mend SET broken = true;
CREATE STREAM ev (k text, v int) WITH (connector = 'queue', paused);
CREATE FUNCTION running(INOUT state int, k text, v int, OUT key text, OUT total int) LANGUAGE plpgsql AS $$
BEGIN
    IF v = 13 AND (SELECT broken FROM mend) THEN RAISE 'thirteen'; END IF;
    state := coalesce(state, 0) + v; key := k; total := state;
END $$;
CREATE STREAM totals WITH (map_with_state = 'running', key = 'k') AS SELECT k, v FROM ev;
CREATE STREAM f WITH (connector = 'table', table = 'f_rows') AS SELECT key, total FROM totals;
CREATE STREAM g WITH (connector = 'table', table = 'g_rows') AS SELECT key, divide(total - 10) AS q FROM totals;
CREATE STREAM h WITH (connector = 'table', table = 'h_rows') AS SELECT k, v FROM ev;
INSERT INTO ev VALUES ('x', 1), ('x', 13), ('y', 10), ('x', 2);
SELECT * FROM step_all('ev');
SELECT view, message, convert_from(value, 'UTF8') AS value FROM streamext.dead_letters ORDER BY id;
SELECT * FROM f_rows ORDER BY key, total;
SELECT * FROM g_rows ORDER BY key, q;
SELECT k, state FROM streamext_state.totals ORDER BY k;
UPDATE mend SET broken = false;
SELECT streamext.replay_dead_letters('ev');
SELECT * FROM step_all('ev');
SELECT * FROM f_rows ORDER BY key, total;
SELECT * FROM g_rows ORDER BY key, q;
SELECT * FROM h_rows ORDER BY k, v;
SELECT k, state FROM streamext_state.totals ORDER BY k;
SELECT count(*) FROM streamext.dead_letters;
DROP STREAM ev CASCADE;
DROP TABLE f_rows, g_rows, h_rows;

-- event time: a letter moves no watermark, and is as late as it is
UPDATE mend SET broken = true;
CREATE STREAM times (v int, ts timestamptz) WITH (connector = 'queue', event_time = 'ts', watermark = '0 s', paused);
CREATE MATERIALIZED VIEW dropping WITH (late = 'drop') AS SELECT tumble(ts, '1 minute') AS w, count(*) AS n, sum(divide(v)) AS s FROM times GROUP BY 1;
CREATE MATERIALIZED VIEW updating AS SELECT tumble(ts, '1 minute') AS w, count(*) AS n, sum(divide(v)) AS s FROM times GROUP BY 1;
INSERT INTO times VALUES (1, '2024-01-01 00:01'), (0, '2024-01-01 00:01'), (0, '2024-01-01 00:09');
SELECT * FROM step_all('times');
INSERT INTO times VALUES (1, '2024-01-01 00:03');
SELECT * FROM step_all('times');
UPDATE mend SET broken = false;
SELECT streamext.replay_dead_letters('times');
SELECT * FROM step_all('times');
SELECT * FROM dropping ORDER BY w;
SELECT * FROM updating ORDER BY w;
SELECT watermark FROM streamext.pipelines WHERE pipeline = 'times';
SELECT view, late_rows, dead_letters FROM streamext.views ORDER BY view::text;
SELECT view, sqlstate FROM streamext.dead_letters ORDER BY id;
DROP STREAM times CASCADE;
-- late = 'dead_letter': late for ever
CREATE STREAM times (v int, ts timestamptz) WITH (connector = 'queue', event_time = 'ts', watermark = '0 s', paused);
CREATE MATERIALIZED VIEW strict WITH (late = 'dead_letter') AS SELECT tumble(ts, '1 minute') AS w, count(*) AS n FROM times GROUP BY 1;
INSERT INTO times VALUES (1, '2024-01-01 00:05');
SELECT * FROM step_all('times');
INSERT INTO times VALUES (1, '2024-01-01 00:01');
SELECT * FROM step_all('times');
SELECT streamext.replay_dead_letters('strict');
SELECT * FROM step_all('times');
SELECT view, sqlstate, attempt FROM streamext.dead_letters ORDER BY id;
SELECT w, n FROM strict;
DROP STREAM times CASCADE;

-- on_error of a batch of letters is dead_letter, whatever the pipeline says
UPDATE mend SET broken = true;
CREATE STREAM st (i int) WITH (connector = 'queue', max_errors = 2, paused);
CREATE MATERIALIZED VIEW vst AS SELECT i, divide(i) AS q FROM st;
INSERT INTO st VALUES (0), (0), (1);
SELECT * FROM step_all('st');
ALTER STREAM st OPTIONS (ADD on_error 'stop', SET max_errors '0');
SELECT streamext.replay_dead_letters('st');
SELECT * FROM step_all('st');
ALTER STREAM st OPTIONS (SET on_error 'skip');
SELECT streamext.replay_dead_letters('st');
SELECT * FROM step_all('st');
SELECT view, attempt FROM streamext.dead_letters;
DROP STREAM st CASCADE;

-- two views of two pipelines are owed one undecodable record each by their own letter
\! cd "$DIR"; rm -rf json; mkdir csv; printf '1\nx\n' >csv/a
\set path :dir '/csv'
CREATE STREAM c (i int) WITH (connector = 'file', path = :'path', format = 'csv', paused);
CREATE MATERIALIZED VIEW c1 AS SELECT i FROM c;
BEGIN;
CREATE MATERIALIZED VIEW c2 WITH (pipeline = 'other') AS SELECT i FROM c;
SELECT streamext.pause('other');
COMMIT;
SELECT * FROM step_all('c');
SELECT * FROM step_all('other');
SELECT pipeline, view, sqlstate FROM streamext.dead_letters ORDER BY id;
SELECT streamext.replay_dead_letters('c');
SELECT * FROM step_all('c');
SELECT pipeline, attempt, replay FROM streamext.dead_letters ORDER BY pipeline;
SELECT * FROM step_all('other');
SELECT pipeline, attempt, replay FROM streamext.dead_letters ORDER BY pipeline;

-- only owners
CREATE ROLE replay_other;
GRANT USAGE ON SCHEMA replay TO replay_other;
SET ROLE replay_other;
SELECT count(*) FROM streamext.dead_letters;
SELECT streamext.replay_dead_letters('replay.c');
SELECT streamext.delete_dead_letters('replay.c');
SELECT count(*) FROM streamext.dead_letter;
RESET ROLE;
SELECT count(*), bool_or(replay) FROM streamext.dead_letters;
REVOKE ALL ON SCHEMA replay FROM replay_other;
DROP ROLE replay_other;
DROP SCHEMA replay CASCADE;
SELECT count(*) FROM streamext.dead_letter;
\! rm -rf "$DIR"
