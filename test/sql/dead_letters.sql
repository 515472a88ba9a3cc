-- Records that fail: whose fault it is, what becomes of them, and of all the others.
SET timezone = 'UTC';
SET client_min_messages = warning;
CREATE SCHEMA dead_letters;
SET search_path = dead_letters, public;
\getenv build_dir PG_ABS_BUILDDIR
\set dir :build_dir /dead_letters
\setenv DIR :dir
\! rm -rf "$DIR"; mkdir -p "$DIR/ten" "$DIR/stop" "$DIR/skip" "$DIR/column"; chmod -R 755 "$DIR"

-- one bad record in each of ten batches, each bad in its own way
\! cd "$DIR/ten"; for b in 0 1 2 3 4 5 6 7 8 9; do for i in 1 2 3 4 5 6 7 8 9; do echo "{\"k\": $b, \"v\": $i}"; done >f$b; done
\! cd "$DIR/ten"; echo '{"k": 0, "v": ' >>f0; echo 'no json' >>f1; echo '[1, 2]' >>f2; printf '{"k": 3, "v": "\377\376"}\n' >>f3; printf '{"k": 4, "s": "\\ud800", "v": 1}\n' >>f4
\! cd "$DIR/ten"; echo '{"k": 5, "v": "five"}' >>f5; echo '{"k": 6, "v": 3000000000}' >>f6; echo '{"k": 7, "v": 1.5}' >>f7; echo '{"k": 8, "v": {"a": "\t"}}' >>f8; printf "{'k': 9}\n" >>f9
\! cd "$DIR/ten"; for b in 0 1 2 3 4 5 6 7 8 9; do touch -d "2024-01-0$((b+1))Z" f$b; done
\set path :dir '/ten'
CREATE STREAM ten (k int, v int, s text)
    WITH (connector = 'file', path = :'path', format = 'json', max_files_per_batch = 1, paused);
CREATE MATERIALIZED VIEW per_k AS SELECT k, count(*) AS n, sum(v) AS s, count(s) AS texts FROM ten GROUP BY k;
CREATE FUNCTION step_all(pipeline text) RETURNS TABLE (batch_id bigint, rows bigint, dead_letters bigint) LANGUAGE plpgsql AS $$
BEGIN
    LOOP
        RETURN QUERY SELECT s.batch_id, s.rows, s.dead_letters FROM streamext.step(pipeline, '2024-02-01Z') s;
        EXIT WHEN NOT FOUND;
    END LOOP;
END $$;
SELECT * FROM step_all('ten');
SELECT * FROM per_k ORDER BY k;
SELECT batch_id, view, topic, sqlstate, message, encode(value, 'escape') AS value FROM streamext.dead_letters ORDER BY id;
-- byte for byte the last line of its file; the offset counts lines
SELECT topic, "offset", sha256(file) = sha256(substr(file, 1, length(file) - length(value) - 1) || value || '\x0a') AS same_bytes
FROM (SELECT topic, "offset", value, pg_read_binary_file(:'path' || '/' || topic) AS file FROM streamext.dead_letters) d ORDER BY 1;
SELECT view, rows, dead_letters, skipped_rows FROM streamext.views;
SELECT batch_id, rows, dead_letters FROM streamext.batches WHERE pipeline = 'ten' ORDER BY batch_id;
DROP STREAM ten CASCADE;
-- letters go with their stream
SELECT count(*) FROM streamext.dead_letter;

-- on_error = stop: the error names the record, and nothing of the batch has happened
\! cd "$DIR/stop"; printf '{"v": 1}\n{"v": 2}\n{"v": "x"}\n{"v": 0}\n' >a
\set path :dir '/stop'
CREATE STREAM stopping (v int, off bigint OPTIONS (metadata 'offset'))
    WITH (connector = 'file', path = :'path', format = 'json', on_error = 'stop', max_batch_rows = 2, paused);
CREATE MATERIALIZED VIEW stopped AS SELECT 10 / v AS q FROM stopping;
SELECT batch_id, rows FROM streamext.step('stopped', '2024-02-01Z');
SELECT batch_id, rows FROM streamext.step('stopped', '2024-02-01Z');
-- again the same
SELECT batch_id, rows FROM streamext.step('stopped', '2024-02-01Z');
SELECT q FROM stopped ORDER BY 1;
SELECT p.position->>'offset' IS NOT NULL AS has_position, g.batch_id, count(d.*) AS letters
FROM streamext.partition p JOIN streamext.progress g USING (pipeline) LEFT JOIN streamext.dead_letter d USING (pipeline)
WHERE p.stream = 'stopping'::regclass GROUP BY 1, 2;
-- within a block of plpgsql that catches it
DO $$
BEGIN
    PERFORM streamext.step('stopped', '2024-02-01Z');
EXCEPTION WHEN invalid_text_representation THEN RAISE WARNING 'caught: %', sqlerrm;
END $$;
-- by an expression: found by halving, and named as well
ALTER STREAM stopping OPTIONS (SET on_error 'dead_letter');
SELECT batch_id, rows, dead_letters FROM streamext.step('stopped', '2024-02-01Z');
\! cd "$DIR/stop"; printf '{"v": 5}\n{"v": 0}\n' >b
ALTER STREAM stopping OPTIONS (SET on_error 'stop');
SELECT batch_id, rows FROM streamext.step('stopped', '2024-02-01Z');
DO $$
BEGIN
    PERFORM streamext.step('stopped', '2024-02-01Z');
EXCEPTION WHEN division_by_zero THEN RAISE WARNING 'caught: %', sqlerrm;
END $$;
-- a running pipeline stops and tells the reason
SELECT streamext.resume('stopped');
DO $$
BEGIN
    FOR i IN 1..600 LOOP
        EXIT WHEN (SELECT state = 'stopped' FROM streamext.pipelines WHERE pipeline = 'stopping');
        PERFORM pg_sleep(0.05);
        COMMIT;
    END LOOP;
END $$;
SELECT state, error_sqlstate, replace(error_message, :'dir', 'DIR') AS error_message, batch_id FROM streamext.pipelines WHERE pipeline = 'stopping';
SELECT q FROM stopped ORDER BY 1;
DROP STREAM stopping CASCADE;

-- on_error = skip: counted, and that is all
\! cd "$DIR/skip"; printf '{"v": 1}\nbad\n{"v": "x"}\n{"v": 0}\n{"v": 5}\n' >a
\set path :dir '/skip'
CREATE STREAM skipping (v int) WITH (connector = 'file', path = :'path', format = 'json', on_error = 'skip', paused);
CREATE MATERIALIZED VIEW quotient AS SELECT 10 / v AS q FROM skipping;
CREATE MATERIALIZED VIEW total AS SELECT count(*) AS n FROM skipping;
SELECT batch_id, rows, dead_letters FROM streamext.step('skipping', '2024-02-01Z');
SELECT q FROM quotient ORDER BY q;
SELECT n FROM total;
SELECT view, rows, dead_letters, skipped_rows FROM streamext.views ORDER BY view::text;
SELECT count(*) FROM streamext.dead_letter;
DROP STREAM skipping CASCADE;

-- whose record: a bad column or expression is the matter of those who read it
\! cd "$DIR/column"; printf '{"k": "a", "v": 1, "n": 1}\n{"k": "b", "v": "x", "n": 2}\n{"k": "c", "v": 0, "n": 3}\n{"k": "d", "v": 4}\n{"k": "e", "v": 5, "n": 5}\nbad\n' >a
\set path :dir '/column'
CREATE STREAM columns (k text, v int, n int NOT NULL, off bigint OPTIONS (metadata 'offset'))
    WITH (connector = 'file', path = :'path', format = 'json', paused);
CREATE STREAM derived AS SELECT k, 100 / v AS q FROM columns;
CREATE MATERIALIZED VIEW all_of_them AS SELECT k FROM columns;
CREATE MATERIALIZED VIEW reads_v AS SELECT k, v FROM columns;
CREATE MATERIALIZED VIEW divides AS SELECT k, 10 / v AS q FROM columns WHERE v < 100;
CREATE MATERIALIZED VIEW over_derived AS SELECT k, q FROM derived;
CREATE MATERIALIZED VIEW reads_n AS SELECT sum(n) AS n FROM columns;
CREATE STREAM sink WITH (connector = 'null') AS SELECT 1 / (v - 4) FROM columns;
SELECT batch_id, rows, dead_letters FROM streamext.step('columns', '2024-02-01Z');
SELECT array_agg(k ORDER BY k) FROM all_of_them;
SELECT * FROM reads_v ORDER BY k;
SELECT * FROM divides ORDER BY k;
SELECT * FROM over_derived ORDER BY k;
SELECT * FROM reads_n;
SELECT view, "offset", sqlstate, message, convert_from(value, 'UTF8') AS value
FROM streamext.dead_letters ORDER BY view::text NULLS FIRST, "offset", sqlstate;
SELECT view, rows, dead_letters FROM streamext.views ORDER BY view::text;
DROP STREAM columns CASCADE;
DROP STREAM IF EXISTS derived;

-- what a sink's target refuses
CREATE STREAM orders (id int, v int, what text) WITH (connector = 'queue', paused);
CREATE TABLE target (id int PRIMARY KEY, v int NOT NULL CHECK (v < 100), what varchar(3), x int GENERATED ALWAYS AS (100 / v) STORED);
CREATE FUNCTION raises() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF new.id = 13 THEN RAISE 'thirteen'; END IF; RETURN new; END $$;
CREATE TRIGGER raises BEFORE INSERT ON target FOR EACH ROW EXECUTE FUNCTION raises();
CREATE STREAM to_target WITH (connector = 'table', table = 'target') AS SELECT id, v, what FROM orders;
CREATE MATERIALIZED VIEW ordered AS SELECT count(*) AS n FROM orders;
INSERT INTO orders VALUES (1, 1, 'a'), (2, NULL, 'b'), (3, 100, 'c'), (4, 4, 'long'), (5, 0, 'd'), (13, 1, 'e'), (1, 7, 'f'), (7, 7, 'g');
SELECT batch_id, rows, dead_letters FROM streamext.step('orders', '2024-02-01Z');
SELECT * FROM target ORDER BY id;
TABLE ordered;
SELECT view, sqlstate, message, convert_from(value, 'UTF8') AS value FROM streamext.dead_letters ORDER BY id;
DROP STREAM orders CASCADE;

-- several in a batch of a thousand, and many
CREATE STREAM thousand (i int) WITH (connector = 'queue', paused);
CREATE MATERIALIZED VIEW thousandths AS SELECT i, 1 / (i % 250) AS q FROM thousand;
CREATE MATERIALIZED VIEW hundredths AS SELECT i % 2 AS odd, count(*) AS n, sum(1 / (i % 40)) AS q FROM thousand GROUP BY 1;
INSERT INTO thousand SELECT generate_series(1, 1000);
SELECT batch_id, rows, dead_letters FROM streamext.step('thousand', '2024-02-01Z');
SELECT count(*), bool_or(i % 250 = 0) AS wrong FROM thousandths;
SELECT * FROM hundredths ORDER BY 1;
SELECT view, count(*), array_agg((convert_from(value, 'UTF8')::jsonb->>'i')::int ORDER BY id) AS failed, min(message) FROM streamext.dead_letters GROUP BY 1 ORDER BY 1;
-- the next batch is not touched by it
INSERT INTO thousand VALUES (7);
SELECT batch_id, rows, dead_letters FROM streamext.step('thousand', '2024-02-01Z');
SELECT n FROM hundredths WHERE odd = 1;
DROP STREAM thousand CASCADE;

-- types whose input function only knows how to fail
\! cd "$DIR"; rm -rf *; mkdir types; i=1; while [ $i -le 30 ]; do echo "{\"i\": $i, \"mood\": \"fine\", \"d\": $((i % 15)), \"a\": \"{1,2}\", \"r\": \"[1,2)\"}"; i=$((i+1)); done >types/a; printf '{"i": 31, "mood": "bad"}\n{"i": 32, "a": "{1,"}\n{"i": 33, "r": "[2,1)"}\n' >>types/a
\set path :dir '/types'
CREATE TYPE mood AS ENUM ('fine');
CREATE DOMAIN positive AS int CHECK (value > 0);
CREATE STREAM types (i int, mood mood, d positive, a int[], r int4range) WITH (connector = 'file', path = :'path', format = 'json', paused);
CREATE MATERIALIZED VIEW moods AS SELECT mood, count(*) AS n FROM types GROUP BY 1;
CREATE MATERIALIZED VIEW domains AS SELECT count(d) AS n, count(a) AS a, count(r) AS r FROM types;
SELECT batch_id, rows, dead_letters FROM streamext.step('types', '2024-02-01Z');
SELECT * FROM moods ORDER BY 1;
SELECT * FROM domains;
SELECT view, sqlstate, message, convert_from(value, 'UTF8')::jsonb->>'i' AS i FROM streamext.dead_letters ORDER BY view::text, id;
DROP STREAM types CASCADE;

-- both halves pass and the whole fails: nobody's fault but the step's
CREATE STREAM large (k int, f float8) WITH (connector = 'queue', paused);
CREATE MATERIALIZED VIEW sums AS SELECT k, sum(f) AS f FROM large GROUP BY k;
CREATE MATERIALIZED VIEW counts AS SELECT count(*) AS n FROM large;
INSERT INTO large VALUES (1, 1e308), (1, 1), (1, 1e308), (2, 1);
SELECT batch_id, rows FROM streamext.step('large', '2024-02-01Z');
DO $$
BEGIN
    PERFORM streamext.step('large', '2024-02-01Z');
EXCEPTION WHEN numeric_value_out_of_range THEN RAISE WARNING 'caught: %', sqlerrm;
END $$;
SELECT count(*) FROM streamext.dead_letter;
TABLE sums;
TABLE counts;
-- mended: nothing was lost
DROP MATERIALIZED VIEW sums;
SELECT batch_id, rows, dead_letters FROM streamext.step('large', '2024-02-01Z');
TABLE counts;
DROP STREAM large CASCADE;

-- max_errors: of each step by itself
CREATE STREAM breaker (i int) WITH (connector = 'queue', max_errors = 3, paused);
CREATE MATERIALIZED VIEW third AS SELECT i, 1 / (i % 3) AS q FROM breaker;
CREATE MATERIALIZED VIEW fourth AS SELECT i, 1 / (i % 4) AS q FROM breaker;
INSERT INTO breaker SELECT generate_series(1, 9);
SELECT batch_id, rows, dead_letters FROM streamext.step('breaker', '2024-02-01Z');
INSERT INTO breaker SELECT generate_series(1, 12);
SELECT batch_id, rows, dead_letters FROM streamext.step('breaker', '2024-02-01Z');
SELECT count(*) FROM third;
SELECT count(*) FROM streamext.dead_letter;
ALTER STREAM breaker OPTIONS (SET max_errors '4');
SELECT batch_id, rows, dead_letters FROM streamext.step('breaker', '2024-02-01Z');
-- no record of a hundred passes: it is not the records
INSERT INTO breaker SELECT 12 FROM generate_series(1, 100);
ALTER STREAM breaker OPTIONS (SET max_errors '1000');
SELECT batch_id, rows, dead_letters FROM streamext.step('breaker', '2024-02-01Z');
SELECT count(*) FROM streamext.dead_letter;
-- two steps that lose a half each are fine
DROP STREAM breaker CASCADE;
CREATE STREAM breaker (i int) WITH (connector = 'queue', paused);
CREATE MATERIALIZED VIEW even AS SELECT 1 / (i % 2) AS q FROM breaker;
CREATE MATERIALIZED VIEW odd AS SELECT 1 / ((i + 1) % 2) AS q FROM breaker;
INSERT INTO breaker SELECT generate_series(1, 100);
SELECT batch_id, rows, dead_letters FROM streamext.step('breaker', '2024-02-01Z');
SELECT view, rows, dead_letters FROM streamext.views ORDER BY view::text;
DROP STREAM breaker CASCADE;

-- late = 'dead_letter' is the view's own wish, whatever on_error says
CREATE STREAM times (v int, ts timestamptz)
    WITH (connector = 'queue', event_time = 'ts', watermark = '0 s', on_error = 'skip', paused);
CREATE MATERIALIZED VIEW late_ones WITH (late = 'dead_letter') AS SELECT tumble(ts, '1 minute') AS w, count(*) AS n, sum(1 / v) AS s FROM times GROUP BY 1;
INSERT INTO times VALUES (1, '2024-01-01 00:05'), (0, '2024-01-01 00:09');
SELECT batch_id, rows, dead_letters FROM streamext.step('times', '2024-02-01Z');
INSERT INTO times VALUES (1, '2024-01-01 00:01'), (0, '2024-01-01 00:02'), (1, '2024-01-01 00:05:30');
SELECT batch_id, rows, dead_letters FROM streamext.step('times', '2024-02-01Z');
SELECT * FROM late_ones ORDER BY 1;
SELECT view, batch_id, sqlstate, message, convert_from(value, 'UTF8') AS value FROM streamext.dead_letters ORDER BY id;
SELECT view, rows, late_rows, dead_letters, skipped_rows, watermark FROM streamext.views;
DROP STREAM times CASCADE;

-- a record that failed moves no watermark, also when only the second view noticed
\! cd "$DIR"; rm -rf *; mkdir wm; printf '{"v": 1, "ts": "2024-01-01T00:01:00Z"}\n{"v": "x", "ts": "2024-01-01T00:09:00Z"}\n{"v": 0, "ts": "2024-01-01T00:08:00Z"}\n' >wm/a
\set path :dir '/wm'
CREATE STREAM wm (v int, ts timestamptz)
    WITH (connector = 'file', path = :'path', format = 'json', event_time = 'ts', watermark = '0 s', paused);
CREATE MATERIALIZED VIEW counted AS SELECT tumble(ts, '1 minute') AS w, count(*) AS n FROM wm GROUP BY 1;
CREATE MATERIALIZED VIEW divided AS SELECT tumble(ts, '1 minute') AS w, sum(10 / v) AS n FROM wm GROUP BY 1;
SELECT batch_id, rows, dead_letters FROM streamext.step('wm', '2024-02-01Z');
SELECT * FROM counted ORDER BY 1;
SELECT * FROM divided ORDER BY 1;
SELECT watermark FROM streamext.pipelines WHERE pipeline = 'wm';
SELECT watermark, max_event_time FROM streamext.partitions WHERE pipeline = 'wm';
SELECT view, watermark FROM streamext.views ORDER BY view::text;
-- infinity: a bad record by default
\! cd "$DIR"; printf '{"v": 1, "ts": "infinity"}\n{"v": 1, "ts": "-infinity"}\n{"v": 1, "ts": null}\n{"v": 1, "ts": "2024-01-01T00:02:00Z"}\n' >wm/b
SELECT batch_id, rows, dead_letters FROM streamext.step('wm', '2024-02-01Z');
SELECT view, "offset", sqlstate, message FROM streamext.dead_letters WHERE batch_id = 2 ORDER BY view::text, "offset";
SELECT view, null_time_rows, watermark FROM streamext.views ORDER BY view::text;
DROP STREAM wm CASCADE;
-- … allowed by option, but of no effect on the watermark
\! cd "$DIR"; rm wm/a
CREATE STREAM wm (v float8, ts timestamptz)
    WITH (connector = 'file', path = :'path', format = 'json', event_time = 'ts', watermark = '0 s', allow_special = on, paused);
CREATE MATERIALIZED VIEW counted AS SELECT ts, count(*) AS n FROM wm GROUP BY 1;
SELECT batch_id, rows, dead_letters FROM streamext.step('wm', '2024-02-01Z');
SELECT * FROM counted ORDER BY 1;
SELECT watermark FROM streamext.pipelines WHERE pipeline = 'wm';
DROP STREAM wm CASCADE;
-- into a queue they do not get
CREATE STREAM special (f float8, n numeric, ts timestamptz, d date)
    WITH (connector = 'queue', event_time = 'ts', watermark = '0 s', paused);
INSERT INTO special (ts) VALUES ('infinity');
INSERT INTO special (d) VALUES ('-infinity');
INSERT INTO special (f) VALUES ('NaN');
INSERT INTO special (n) VALUES ('Infinity');
ALTER STREAM special OPTIONS (ADD allow_special 'on');
INSERT INTO special (f, ts) VALUES ('NaN', 'infinity');
SELECT f, n, ts, d FROM special;
DROP STREAM special;

-- an event time far ahead of the clock is processed and counted, and moves nothing
CREATE STREAM future (ts timestamptz, k int) WITH (connector = 'queue', event_time = 'ts', watermark = '1 minute', paused);
CREATE MATERIALIZED VIEW plain AS SELECT k, count(*) AS n FROM future GROUP BY k;
INSERT INTO future VALUES (now() + interval '2 hours', 1), ('2024-01-01', 2), (now() + interval '3 hours', 1), ('2023-01-01', 3);
SELECT batch_id, rows, dead_letters FROM streamext.step('future', '2024-02-01Z');
SELECT * FROM plain ORDER BY k;
SELECT watermark, future_rows FROM streamext.source WHERE stream = 'future'::regclass;
-- each once, also where a failing record makes the batch run again
CREATE MATERIALIZED VIEW halving WITH (backfill = off) AS SELECT 1 / k AS q FROM future;
INSERT INTO future VALUES (now() + interval '2 hours', 0), (now() + interval '2 hours', 1);
SELECT batch_id, rows, dead_letters FROM streamext.step('future', '2024-02-01Z');
SELECT watermark, future_rows FROM streamext.source WHERE stream = 'future'::regclass;
DROP STREAM future CASCADE;
-- as far as the option says
CREATE STREAM future (ts timestamptz) WITH (connector = 'queue', event_time = 'ts', watermark = '0 s', max_future_skew = '1 day', paused);
CREATE MATERIALIZED VIEW plain AS SELECT count(*) AS n FROM future;
INSERT INTO future VALUES (now() + interval '2 hours');
SELECT batch_id, rows, dead_letters FROM streamext.step('future', '2024-02-01Z');
SELECT watermark > now(), future_rows FROM streamext.source WHERE stream = 'future'::regclass;
DROP SCHEMA dead_letters CASCADE;
SELECT count(*) FROM streamext.dead_letter;
\! rm -rf "$DIR"
