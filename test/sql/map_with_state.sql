-- map_with_state: a function is called for each record with the state of its key.
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SET client_min_messages = warning;
CREATE SCHEMA map_with_state;
SET search_path = map_with_state, public;
\getenv build_dir PG_ABS_BUILDDIR
\set dir :build_dir /map_with_state
\setenv DIR :dir
\! rm -rf "$DIR"; mkdir -p "$DIR/kv"; chmod -R 755 "$DIR"

-- ---------------------------------------------------------------- batch by batch
-- files cut the batches; the third is empty, \N is NULL
\! cd "$DIR/kv"; printf 'a,1\na,2\nb,10\na,3\n' >0; printf '\\N,5\nb,\\N\n\\N,6\n' >1; : >2; printf 'a,-1\na,7\nc,1\n' >3
\! cd "$DIR/kv"; for i in 0 1 2 3; do touch -d "2024-01-0$((i+1))Z" $i; done
\set path :dir '/kv'
CREATE STREAM kv (k text, v int)
    WITH (connector = 'file', path = :'path', format = 'csv', "null" = '\N', max_files_per_batch = 1, paused);
-- a negative value removes the key
CREATE FUNCTION running(INOUT state int, k text, v int, OUT key text, OUT sum int, OUT was int) LANGUAGE plpgsql AS $$
BEGIN
    key := k; was := state; sum := coalesce(state, 0) + coalesce(v, 0);
    state := CASE WHEN v < 0 THEN NULL ELSE sum END;
END $$;
CREATE STREAM sums WITH (map_with_state = 'running', key = 'k') AS SELECT k, v FROM kv;
\d sums
\d streamext_state.sums
CREATE STREAM sums_out WITH (connector = 'table', table = 'sums_t') AS
    SELECT streamext.batch_id() AS b, row_number() OVER () AS i, * FROM sums;
SELECT batch_id, rows FROM streamext.step('kv', '2024-02-01 00:00:00');
SELECT * FROM sums_t ORDER BY b, i;
SELECT * FROM streamext_state.sums ORDER BY k;
-- a step that is rolled back has not happened
BEGIN;
SELECT batch_id, rows FROM streamext.step('kv', '2024-02-01 00:00:01');
SELECT k, state FROM streamext_state.sums ORDER BY k;
ROLLBACK;
SELECT k, state FROM streamext_state.sums ORDER BY k;
SELECT batch_id, rows FROM streamext.step('kv', '2024-02-01 00:00:02');
SELECT batch_id, rows FROM streamext.step('kv', '2024-02-01 00:00:03');
SELECT batch_id, rows FROM streamext.step('kv', '2024-02-01 00:00:04');
SELECT batch_id, rows FROM streamext.step('kv', '2024-02-01 00:00:05');
SELECT * FROM sums_t WHERE b > 1 ORDER BY b, i;
-- b was called with NULL, which left its state as it was: nothing was written
SELECT * FROM streamext_state.sums ORDER BY k;
SELECT streamext.explain('sums');
-- outside a batch
SELECT * FROM sums;
-- back to the start
SELECT streamext.reset('kv');
SELECT * FROM streamext_state.sums;
SELECT batch_id, rows FROM streamext.step('kv', '2024-02-01 00:00:06');
SELECT k, state FROM streamext_state.sums ORDER BY k;
-- two batches in one transaction see each other
BEGIN;
SELECT count(*) FROM streamext.step('kv', '2024-02-01 00:00:07');
SELECT count(*) FROM streamext.step('kv', '2024-02-01 00:00:08');
SELECT count(*) FROM streamext.step('kv', '2024-02-01 00:00:09');
COMMIT;
SELECT k, state FROM streamext_state.sums ORDER BY k;
-- dependencies
DROP FUNCTION running;
DROP TABLE streamext_state.sums;
DROP STREAM kv CASCADE;
SELECT to_regclass('streamext_state.sums');

-- ---------------------------------------------------------------- time-outs
CREATE STREAM q (k text, v int) WITH (connector = 'queue', paused);
CREATE FUNCTION visits(INOUT state int, k text, v int, OUT key text, OUT n int, OUT timed_out boolean) LANGUAGE plpgsql AS $$
BEGIN
    key := k; timed_out := streamext.timing_out(); n := coalesce(state, 0);
    -- what is returned when it times out does not keep it; no change of the state keeps it young all the same
    IF v IS NULL AND NOT timed_out THEN RETURN; END IF;
    state := n + 1; n := state;
END $$;
CREATE STREAM visit WITH (map_with_state = 'visits', key = 'k', idle_timeout = '10 seconds') AS SELECT k, v FROM q;
CREATE STREAM visit_out WITH (connector = 'table', table = 'visit_t') AS
    SELECT streamext.batch_id() AS b, row_number() OVER () AS i, * FROM visit;
INSERT INTO q VALUES ('b', 1), ('a', 1), (NULL, 1), ('c', 1);
SELECT batch_id, rows FROM streamext.step('q', '2024-02-01 00:00:00');
INSERT INTO q VALUES ('c', NULL);
SELECT batch_id, rows FROM streamext.step('q', '2024-02-01 00:00:05');
SELECT * FROM streamext_state.visit ORDER BY k;
-- not yet; then at the very moment, without data: once each, by age and then by key
SELECT batch_id, rows FROM streamext.step('q', '2024-02-01 00:00:09.999999');
SELECT batch_id, rows FROM streamext.step('q', '2024-02-01 00:00:10');
SELECT batch_id, rows FROM streamext.step('q', '2024-02-01 00:00:10');
SELECT * FROM visit_t WHERE b > 1 ORDER BY b, i;
SELECT * FROM streamext_state.visit;
-- long overdue, but there is data of it in the batch: no time-out; d is new, and is not timed out either
INSERT INTO q VALUES ('c', 7), ('d', 1);
SELECT batch_id, rows FROM streamext.step('q', '2024-02-01 01:00:00');
SELECT * FROM visit_t WHERE b = 4 ORDER BY b, i;
SELECT * FROM streamext_state.visit ORDER BY k;
-- both are due, in a batch with data of another key: after its records
INSERT INTO q VALUES ('e', 1);
SELECT batch_id, rows FROM streamext.step('q', '2024-02-01 02:00:00');
SELECT * FROM visit_t WHERE b = 5 ORDER BY b, i;
SELECT * FROM streamext_state.visit ORDER BY k;
DROP STREAM q CASCADE;

-- an error of a time-out is no record's: nobody is set aside, the batch has not happened
CREATE STREAM q (k text, v int) WITH (connector = 'queue', paused);
CREATE FUNCTION last_words(INOUT state int, k text, v int, OUT o int) LANGUAGE plpgsql AS $$
BEGIN
    IF streamext.timing_out() THEN RAISE 'out of breath'; END IF;
    o := v; state := 10 / v;
END $$;
CREATE STREAM words WITH (map_with_state = 'last_words', key = 'k', idle_timeout = '10 seconds') AS SELECT k, v FROM q;
CREATE STREAM words_out WITH (connector = 'null') AS SELECT * FROM words;
INSERT INTO q VALUES ('a', 1);
SELECT batch_id, rows FROM streamext.step('q', '2024-02-01 00:00:00');
INSERT INTO q VALUES ('b', 1), ('c', 0);
SELECT batch_id, rows FROM streamext.step('q', '2024-02-01 00:01:00');
SELECT count(*) FROM streamext.dead_letters;
CREATE OR REPLACE FUNCTION last_words(INOUT state int, k text, v int, OUT o int) LANGUAGE sql AS 'SELECT 10 / v, v';
SELECT batch_id, rows, dead_letters FROM streamext.step('q', '2024-02-01 00:01:00');
SELECT * FROM streamext_state.words ORDER BY k;
SELECT view, sqlstate, message FROM streamext.dead_letters;
DROP STREAM q CASCADE;
DROP FUNCTION last_words;

-- ---------------------------------------------------------------- errors
-- The third record of a fails because of the second: only it is set aside, and what
-- comes after it sees the state as it was before.  x is bad alone; no other key suffers.
CREATE STREAM q (k text, v int) WITH (connector = 'queue', paused);
CREATE FUNCTION upwards(INOUT state int, k text, v int, OUT key text, OUT val int, OUT was int) LANGUAGE plpgsql AS $$
BEGIN
    IF v < state THEN RAISE '% after %', v, state USING ERRCODE = '22000'; END IF;
    IF v IS NULL THEN RAISE 'nothing'; END IF;
    IF state IS NULL AND v > 100 THEN RAISE 'must begin low'; END IF;
    key := k; val := v; was := state; state := v;
END $$;
CREATE STREAM up WITH (map_with_state = 'upwards', key = 'k') AS SELECT k, v FROM q;
CREATE STREAM up_out WITH (connector = 'table', table = 'up_t') AS
    SELECT streamext.batch_id() AS b, row_number() OVER () AS i, * FROM up;
CREATE MATERIALIZED VIEW n AS SELECT count(*) FROM q;
INSERT INTO q VALUES ('a', 1), ('a', 5), ('a', 3), ('x', NULL), ('b', 1), ('a', 200), ('b', 150), ('c', 101), ('a', 6);
SELECT batch_id, rows, dead_letters FROM streamext.step('q', '2024-02-01 00:00:00');
SELECT * FROM up_t ORDER BY b, i;
SELECT k, state FROM streamext_state.up ORDER BY k;
SELECT view, sqlstate, message FROM streamext.dead_letters ORDER BY id;
SELECT * FROM n;
-- many bad ones among the good, more than are looked for one by one
INSERT INTO q SELECT 'many', CASE WHEN i % 3 = 0 THEN i - 2 ELSE i END FROM generate_series(1, 99) i;
SELECT batch_id, rows, dead_letters FROM streamext.step('q', '2024-02-01 00:00:01');
SELECT count(*), max(val) FROM up_t WHERE b = 2;
SELECT k, state FROM streamext_state.up WHERE k = 'many';
-- an error that is no record's fault
CREATE OR REPLACE FUNCTION upwards(INOUT state int, k text, v int, OUT key text, OUT val int, OUT was int) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM * FROM map_with_state.no_such_table;
END $$;
INSERT INTO q VALUES ('a', 300), (E'a''\n"b', 1);
SELECT batch_id, rows, dead_letters FROM streamext.step('q', '2024-02-01 00:00:02');
DROP STREAM q CASCADE;
-- a record that becomes several rows goes whole
CREATE STREAM q (k text, v int[]) WITH (connector = 'queue', paused);
CREATE FUNCTION add_small(INOUT state int, k text, v int, OUT o int) LANGUAGE plpgsql AS $$
BEGIN
    IF v > 10 THEN RAISE 'too big'; END IF;
    state := coalesce(state, 0) + v; o := state;
END $$;
CREATE STREAM small WITH (map_with_state = 'add_small', key = 'k') AS SELECT k, u AS v FROM q, unnest(v) u;
CREATE STREAM small_out WITH (connector = 'table', table = 'small_t') AS
    SELECT streamext.batch_id() AS b, row_number() OVER () AS i, * FROM small;
INSERT INTO q VALUES ('a', '{1,2}'), ('a', '{3,11,4}'), ('a', '{5}'), ('b', '{20}'), ('a', '{}');
SELECT batch_id, rows, dead_letters FROM streamext.step('q', '2024-02-01 00:00:00');
SELECT * FROM small_t ORDER BY b, i;
SELECT k, state FROM streamext_state.small;
DROP STREAM q CASCADE;
DROP FUNCTION add_small, upwards;
-- a record that fails moves no watermark, and fires no timer
CREATE STREAM q (k text, v text, ts timestamptz) WITH (connector = 'queue', event_time = 'ts', watermark = '0 seconds', paused);
CREATE FUNCTION timed(INOUT state int, k text, v int, ts timestamptz, OUT o text, OUT at timestamptz) LANGUAGE plpgsql AS $$
BEGIN
    IF streamext.timing_out() THEN o := 'timer of ' || k; RETURN; END IF;
    IF v < state THEN RAISE 'backwards'; END IF;
    state := v; o := k || v; at := ts + interval '10 seconds';
END $$;
CREATE STREAM times WITH (map_with_state = 'timed', key = 'k', event_timer = 'at') AS SELECT k, v::int AS v, ts FROM q;
CREATE STREAM times_out WITH (connector = 'table', table = 'times_t') AS
    SELECT streamext.batch_id() AS b, row_number() OVER () AS i, o FROM times;
INSERT INTO q VALUES ('a', '2', '2024-01-01 00:00:00'), ('b', 'no number', '2024-01-01 02:00:00'), ('a', '1', '2024-01-01 01:00:00'), ('a', '3', '2024-01-01 00:00:09');
SELECT batch_id, rows, dead_letters FROM streamext.step('q', '2024-02-01 00:00:00');
SELECT streamext.watermark('q');
INSERT INTO q VALUES ('c', '1', '2024-01-01 00:00:30');
SELECT batch_id, rows, dead_letters FROM streamext.step('q', '2024-02-01 00:00:00');
SELECT * FROM times_t ORDER BY b, i;
SELECT view, sqlstate, message FROM streamext.dead_letters ORDER BY id;
DROP STREAM q CASCADE;
-- on_error = stop names the record
CREATE STREAM q (k text, v int) WITH (connector = 'queue', on_error = 'stop', paused);
CREATE FUNCTION inverse(INOUT state int, k text, v int, OUT o int) LANGUAGE sql AS 'SELECT 10 / v, v';
CREATE STREAM inv WITH (map_with_state = 'inverse', key = 'k') AS SELECT k, v FROM q;
CREATE STREAM inv_out WITH (connector = 'null') AS SELECT * FROM inv;
INSERT INTO q VALUES ('a', 1), ('a', 0);
SELECT batch_id FROM streamext.step('q', '2024-02-01 00:00:00');
-- on_error = skip
ALTER STREAM q OPTIONS (SET on_error 'skip');
SELECT batch_id, rows, dead_letters FROM streamext.step('q', '2024-02-01 00:00:00');
SELECT k, state FROM streamext_state.inv;
DROP STREAM q CASCADE;

-- ---------------------------------------------------------------- sets of rows
CREATE STREAM q (k text, v int) WITH (connector = 'queue', paused);
-- v rows for each record, none for 0; the state is that of the last row
CREATE FUNCTION several(INOUT state int, k text, v int, OUT o text) RETURNS SETOF record LANGUAGE sql AS
    $$ SELECT coalesce(state, 0) + i, CASE WHEN i <> 2 THEN k || i END FROM generate_series(1, v) i $$;
CREATE FUNCTION several_pl(s int, k text, v int) RETURNS TABLE (o text, state int) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..v LOOP o := CASE WHEN i <> 2 THEN k || i END; state := coalesce(s, 0) + i; RETURN NEXT; END LOOP;
END $$;
CREATE STREAM many WITH (map_with_state = 'several', key = 'k') AS SELECT k, v FROM q;
CREATE STREAM many_pl WITH (map_with_state = 'several_pl', key = 'k') AS SELECT k, v FROM q;
CREATE STREAM many_out WITH (connector = 'table', table = 'many_t') AS SELECT 'sql' AS f, o FROM many UNION ALL SELECT 'pl', o FROM many_pl;
INSERT INTO q VALUES ('a', 3), ('a', 0), ('b', 0), ('c', 1), ('a', 1);
SELECT batch_id, rows FROM streamext.step('q', '2024-02-01 00:00:00');
SELECT * FROM many_t;
SELECT k, state FROM streamext_state.many ORDER BY k;
SELECT k, state FROM streamext_state.many_pl ORDER BY k;
DROP STREAM q CASCADE;

-- ---------------------------------------------------------------- states and keys of any type
CREATE TYPE acc AS (n int, vals numeric[], note text);
CREATE DOMAIN positive AS int CHECK (value > 0);
CREATE STREAM q (k1 int, k2 numeric, v int) WITH (connector = 'queue', allow_special, paused);
CREATE FUNCTION f_composite(INOUT state acc, k2 numeric, k1 int, v int, OUT n int) LANGUAGE plpgsql AS $$
BEGIN
    n := coalesce(state.n, 0) + 1;
    state := CASE WHEN v = 0 THEN NULL ELSE (n, coalesce(state.vals, '{}') || v::numeric, repeat(v::text, 3000))::acc END;
END $$;
CREATE FUNCTION f_jsonb(INOUT state jsonb, k1 int, k2 numeric, v int, OUT n int) LANGUAGE sql AS
    $$ SELECT coalesce(state, '{}') || jsonb_build_object('v' || v, k2), jsonb_array_length(jsonb_path_query_array(coalesce(state, '{}'), '$.keyvalue()')) $$;
CREATE FUNCTION f_array(INOUT state text[], k1 int, k2 numeric, v int, OUT first text) LANGUAGE sql AS
    $$ SELECT coalesce(state, '{}') || v::text, state[1] $$;
CREATE FUNCTION f_range(INOUT state int4range, k1 int, k2 numeric, v int, OUT width int) LANGUAGE sql AS
    $$ SELECT range_merge(coalesce(state, 'empty'), int4range(v, v, '[]')), upper(state) - lower(state) $$;
CREATE FUNCTION f_domain(INOUT state positive, k1 int, k2 numeric, v int, OUT o int) LANGUAGE sql AS $$ SELECT v::positive, state $$;
CREATE STREAM s_composite WITH (map_with_state = 'f_composite', key = 'k2, k1') AS SELECT k1, k2, v FROM q;
CREATE STREAM s_jsonb WITH (map_with_state = 'f_jsonb', key = 'k1, k2') AS SELECT k1, k2, v FROM q;
CREATE STREAM s_array WITH (map_with_state = 'f_array', key = 'k1, k2') AS SELECT k1, k2, v FROM q;
CREATE STREAM s_range WITH (map_with_state = 'f_range', key = 'k1, k2') AS SELECT k1, k2, v FROM q;
CREATE STREAM s_domain WITH (map_with_state = 'f_domain', key = 'k1, k2') AS SELECT k1, k2, v FROM q;
CREATE STREAM types_out WITH (connector = 'table', table = 'types_t') AS
    SELECT 'composite' AS f, n::text AS o FROM s_composite UNION ALL SELECT 'jsonb', n::text FROM s_jsonb UNION ALL SELECT 'array', first FROM s_array
    UNION ALL SELECT 'range', width::text FROM s_range UNION ALL SELECT 'domain', o::text FROM s_domain;
-- 1.0 and 1.00 are one key; NULLs are equal
INSERT INTO q VALUES (1, 1.0, 5), (1, 1.00, 7), (1, NULL, 1), (1, NULL, 2), (NULL, NULL, 3), (2, 'NaN', 4), (2, 'NaN', 6);
SELECT batch_id, rows, dead_letters FROM streamext.step('q', '2024-02-01 00:00:00');
INSERT INTO q VALUES (1, 1.000, 9), (1, NULL, 0), (2, 'NaN', 4);
SELECT batch_id, rows, dead_letters FROM streamext.step('q', '2024-02-01 00:00:01');
SELECT * FROM types_t;
SELECT k2, k1, (state).n, (state).vals, length((state).note) FROM streamext_state.s_composite ORDER BY 1, 2;
SELECT k1, k2, state FROM streamext_state.s_jsonb ORDER BY 1, 2;
SELECT k1, k2, state FROM streamext_state.s_array ORDER BY 1, 2;
SELECT k1, k2, state FROM streamext_state.s_range ORDER BY 1, 2;
SELECT k1, k2, state FROM streamext_state.s_domain ORDER BY 1, 2;
SELECT view, sqlstate, message FROM streamext.dead_letters ORDER BY id;
DROP STREAM q CASCADE;
-- keys that are composite, arrays, and equal without being the same
CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TYPE pair AS (a int, b text);
CREATE STREAM q (c pair, a int[], t text, v int) WITH (connector = 'queue', paused);
CREATE FUNCTION counted(INOUT state int, c pair, a int[], t text, v int, OUT n int) LANGUAGE sql AS 'SELECT coalesce(state, 0) + v, coalesce(state, 0) + v';
CREATE STREAM odd_keys WITH (map_with_state = 'counted', key = 'c, a, t') AS SELECT c, a, t COLLATE nocase AS t, v FROM q;
CREATE STREAM odd_out WITH (connector = 'null') AS SELECT * FROM odd_keys;
INSERT INTO q VALUES ('(1,x)', '{1,2}', 'Ab', 1), ('(1,x)', '{1,2}', 'aB', 1), ('(1,)', '{}', 'z', 1), ('(1,)', '{}', 'z', 1), ('(1,y)', NULL, NULL, 1);
SELECT batch_id, rows, dead_letters FROM streamext.step('q', '2024-02-01 00:00:00');
INSERT INTO q VALUES ('(1,x)', '{1,2}', 'AB', 1);
SELECT batch_id, rows, dead_letters FROM streamext.step('q', '2024-02-01 00:00:00');
SELECT c, a, t, state FROM streamext_state.odd_keys ORDER BY state DESC;
-- a key too long for the index fails alone
INSERT INTO q SELECT '(1,z)', '{}', string_agg(md5(i::text), ''), 1 FROM generate_series(1, 400) i;
INSERT INTO q VALUES ('(1,z)', '{}', 'short', 1);
SELECT batch_id, rows, dead_letters FROM streamext.step('q', '2024-02-01 00:00:00');
SELECT sqlstate FROM streamext.dead_letters;
SELECT count(*) FROM streamext_state.odd_keys;
DROP STREAM q CASCADE;

-- ---------------------------------------------------------------- timers of event time
CREATE STREAM q (k text, ts timestamptz, d int) WITH (connector = 'queue', event_time = 'ts', watermark = '10 seconds', paused);
-- a timer d seconds after each event; -1 at the call for the timer sets it once more, by 5 s
CREATE FUNCTION alarm(INOUT state int, k text, ts timestamptz, d int, OUT key text, OUT what text, OUT at timestamptz) LANGUAGE plpgsql AS $$
BEGIN
    IF streamext.timing_out() THEN
        key := k; what := 'timer ' || state;
        IF state = -1 THEN at := '2024-01-01 00:00:35'; state := 1; ELSIF state = 0 THEN state := NULL; END IF;
    ELSE
        state := d;
        IF d IS NOT NULL THEN at := ts + abs(d) * interval '1 second'; END IF;
    END IF;
END $$;
CREATE STREAM alarms WITH (map_with_state = 'alarm', key = 'k', event_timer = 'at') AS SELECT k, ts, d FROM q;
\d streamext_state.alarms
CREATE STREAM alarms_out WITH (connector = 'table', table = 'alarms_t') AS
    SELECT streamext.batch_id() AS b, row_number() OVER () AS i, * FROM alarms;
-- the rows that have nothing but the timer are not emitted
INSERT INTO q VALUES ('a', '2024-01-01 00:00:00', 5), ('b', '2024-01-01 00:00:00', 0), ('c', '2024-01-01 00:00:01', -1), ('d', '2024-01-01 00:00:00', 5), (NULL, NULL, NULL);
SELECT batch_id, rows FROM streamext.step('q', '2024-02-01 00:00:00');
SELECT count(*) FROM alarms_t;
SELECT k, state, timer FROM streamext_state.alarms ORDER BY k;
-- the watermark becomes 00:00:04: b and c, by timer; b is removed
INSERT INTO q VALUES ('e', '2024-01-01 00:00:14', 30);
SELECT batch_id, rows FROM streamext.step('q', '2024-02-01 00:00:00');
SELECT * FROM alarms_t ORDER BY b, i;
SELECT k, state, timer FROM streamext_state.alarms ORDER BY k;
-- a and d are due at 00:00:05; d puts it off in that very batch
INSERT INTO q VALUES ('d', '2024-01-01 00:00:15', 5);
SELECT batch_id, rows FROM streamext.step('q', '2024-02-01 00:00:00');
SELECT * FROM alarms_t WHERE b = 3;
-- the timer of c that its call had set; e and d are due, too
INSERT INTO q VALUES ('x', '2024-01-01 00:01:00', NULL);
SELECT batch_id, rows FROM streamext.step('q', '2024-02-01 00:00:00');
SELECT * FROM alarms_t WHERE b = 4 ORDER BY i;
SELECT k, state, timer FROM streamext_state.alarms ORDER BY k;
-- a timer that is past already fires in the batch that sets it
INSERT INTO q VALUES ('late', '2024-01-01 00:00:10', 1);
SELECT batch_id, rows FROM streamext.step('q', '2024-02-01 00:00:00');
SELECT key, what, at FROM alarms_t WHERE b = 5;
DROP STREAM q CASCADE;
-- with idle_timeout: the call for a timer does not make the key younger
CREATE STREAM q (k text, ts timestamptz) WITH (connector = 'queue', event_time = 'ts', watermark = '0 seconds', paused);
CREATE FUNCTION bother(INOUT state int, k text, ts timestamptz, OUT key text, OUT n int, OUT at timestamptz) LANGUAGE plpgsql AS $$
BEGIN
    key := k; state := coalesce(state, 0) + 1; n := state; at := coalesce(ts, '2024-01-01 00:00:05') + interval '5 seconds';
END $$;
CREATE STREAM bothered WITH (map_with_state = 'bother', key = 'k', event_timer = 'at', idle_timeout = '10 seconds') AS SELECT k, ts FROM q;
CREATE STREAM bothered_out WITH (connector = 'table', table = 'both_t') AS SELECT streamext.batch_id() AS b, row_number() OVER () AS i, * FROM bothered;
INSERT INTO q VALUES ('a', '2024-01-01 00:00:00');
SELECT batch_id, rows FROM streamext.step('q', '2024-02-01 00:00:00');
INSERT INTO q VALUES ('b', '2024-01-01 00:00:06');
SELECT batch_id, rows FROM streamext.step('q', '2024-02-01 00:00:08');
SELECT * FROM streamext_state.bothered ORDER BY k;
SELECT batch_id, rows FROM streamext.step('q', '2024-02-01 00:00:10');
SELECT * FROM both_t ORDER BY b, i;
SELECT * FROM streamext_state.bothered ORDER BY k;
DROP STREAM q CASCADE;

-- ---------------------------------------------------------------- initial state
CREATE STREAM q (k text, v int) WITH (connector = 'queue', paused);
CREATE TABLE before (state int, more text, k text);
INSERT INTO before VALUES (100, '', 'a'), (200, '', 'b'), (300, '', NULL), (NULL, '', 'none');
CREATE STREAM went WITH (map_with_state = 'visits', key = 'k', idle_timeout = '10 seconds', initial_state = 'before') AS SELECT k, v FROM q;
SELECT * FROM streamext_state.went ORDER BY k;
DELETE FROM before WHERE k = 'b';
CREATE STREAM went_out WITH (connector = 'table', table = 'went_t') AS SELECT streamext.batch_id() AS b, row_number() OVER () AS i, * FROM went;
SELECT streamext.step('q', '2024-02-01 00:00:00');
INSERT INTO q VALUES ('a', 1);
SELECT batch_id, rows FROM streamext.step('q', '2024-02-01 00:00:00');
SELECT * FROM streamext_state.went ORDER BY k;
SELECT batch_id, rows FROM streamext.step('q', '2024-02-01 00:00:10');
SELECT * FROM went_t ORDER BY b, i;
SELECT streamext.reset('q');
SELECT * FROM streamext_state.went ORDER BY k;
DROP STREAM q CASCADE;

-- ---------------------------------------------------------------- order of arrival over two sources and a join
CREATE STREAM first (k text, v int) WITH (connector = 'queue', paused, pipeline = 'two');
CREATE STREAM second (k text, v int) WITH (connector = 'queue', paused, pipeline = 'two');
CREATE TABLE names (k text, name text);
INSERT INTO names SELECT 'k', 'n' || i FROM generate_series(1, 2) i;
CREATE FUNCTION trail(INOUT state text, k text, v int, OUT so_far text) LANGUAGE sql AS $$ SELECT concat_ws(',', state, v), concat_ws(',', state, v) $$;
CREATE STREAM unioned WITH (map_with_state = 'trail', key = 'k') AS SELECT k, v FROM second WHERE v > 0 UNION ALL SELECT k, v FROM first UNION ALL SELECT k, -v FROM second;
CREATE STREAM joined WITH (map_with_state = 'trail', key = 'k') AS SELECT k, v FROM first JOIN names USING (k);
CREATE STREAM own_order WITH (map_with_state = 'trail', key = 'k') AS SELECT k, v FROM first ORDER BY v DESC;
CREATE STREAM grouped WITH (map_with_state = 'trail', key = 'k') AS SELECT k, sum(v)::int AS v FROM first GROUP BY k;
CREATE STREAM two_out WITH (connector = 'null') AS SELECT so_far FROM unioned UNION ALL SELECT so_far FROM joined UNION ALL SELECT so_far FROM own_order UNION ALL SELECT so_far FROM grouped;
INSERT INTO second VALUES ('k', 1), ('k', 2);
INSERT INTO first SELECT 'k', i FROM generate_series(11, 14) i;
SELECT batch_id, rows FROM streamext.step('two', '2024-02-01 00:00:00');
SELECT state FROM streamext_state.unioned;
SELECT state FROM streamext_state.joined;
SELECT state FROM streamext_state.own_order;
SELECT state FROM streamext_state.grouped;
DROP STREAM first, second CASCADE;

-- ---------------------------------------------------------------- one stream upon another; the owner's settings
CREATE STREAM q (k text, v int) WITH (connector = 'queue', paused);
SET timezone = 'Asia/Tokyo';
CREATE FUNCTION zone(INOUT state text, k text, v int, OUT key text, OUT tz text) LANGUAGE sql AS $$ SELECT 's', k, current_setting('timezone') $$;
CREATE STREAM lower_one WITH (map_with_state = 'zone', key = 'k', idle_timeout = '1 s') AS SELECT k, v FROM q;
SET timezone = 'UTC';
CREATE FUNCTION per_zone(INOUT state int, tz text, key text, OUT z text, OUT n int) LANGUAGE sql AS $$ SELECT coalesce(state, 0) + 1, tz, coalesce(state, 0) + 1 $$;
CREATE STREAM upper_one WITH (map_with_state = 'per_zone', key = 'tz') AS SELECT tz, key FROM lower_one;
CREATE STREAM upper_out WITH (connector = 'table', table = 'upper_t') AS SELECT streamext.batch_id() AS b, * FROM upper_one;
INSERT INTO q VALUES ('a', 1), ('b', 1);
SELECT batch_id, rows FROM streamext.step('q', '2024-02-01 00:00:00');
SELECT batch_id, rows FROM streamext.step('q', '2024-02-01 00:00:01');
SELECT * FROM upper_t;
DROP STREAM q CASCADE;

-- ---------------------------------------------------------------- refusals
CREATE STREAM q (k text, v int, p point, ts timestamptz) WITH (connector = 'queue', paused);
CREATE FUNCTION only_state(INOUT state int, k text, v int) LANGUAGE sql AS 'SELECT state';
CREATE FUNCTION strict_one(INOUT state int, k text, v int, OUT o int) LANGUAGE sql STRICT AS 'SELECT state, v';
CREATE FUNCTION any_one(INOUT state anyelement, k text, v int, OUT o int) LANGUAGE sql AS 'SELECT state, v';
CREATE FUNCTION two(INOUT state int, k text, v int, OUT o int) LANGUAGE sql AS 'SELECT state, v';
CREATE FUNCTION two(INOUT state text, k text, v int, OUT o int) LANGUAGE sql AS 'SELECT state, v';
CREATE FUNCTION unnamed(INOUT s int, k text, v int, OUT o int) LANGUAGE sql AS 'SELECT s, v';
CREATE FUNCTION point_key(INOUT state int, p point, v int, OUT o int) LANGUAGE sql AS 'SELECT state, v';
CREATE STREAM x WITH (map_with_state = 'visits') AS SELECT k, v FROM q;
CREATE STREAM x WITH (key = 'k') AS SELECT k, v FROM q;
CREATE STREAM x WITH (idle_timeout = '1 s') AS SELECT k, v FROM q;
CREATE STREAM x WITH (update_state = 'visits', key = 'k', idle_timeout = '1 s') AS SELECT k, v FROM q;
CREATE STREAM x WITH (map_with_state = 'visits', update_state = 'visits', key = 'k') AS SELECT k, v FROM q;
CREATE STREAM x WITH (map_with_state = 'visits', key = 'k', changed_only) AS SELECT k, v FROM q;
CREATE STREAM x WITH (map_with_state = 'visits', key = 'k', idle_timeout = '0 s') AS SELECT k, v FROM q;
CREATE STREAM x WITH (map_with_state = 'visits', key = 'nope') AS SELECT k, v FROM q;
CREATE STREAM x WITH (map_with_state = 'no_such', key = 'k') AS SELECT k, v FROM q;
CREATE STREAM x WITH (map_with_state = 'visits', key = 'v') AS SELECT k, v FROM q;
CREATE STREAM x WITH (map_with_state = 'visits', key = 'k') AS SELECT k, v::bigint AS v FROM q;
CREATE STREAM x WITH (map_with_state = 'only_state', key = 'k') AS SELECT k, v FROM q;
CREATE STREAM x WITH (map_with_state = 'strict_one', key = 'k') AS SELECT k, v FROM q;
CREATE STREAM x WITH (map_with_state = 'any_one', key = 'k') AS SELECT k, v FROM q;
CREATE STREAM x WITH (map_with_state = 'two', key = 'k') AS SELECT k, v FROM q;
CREATE STREAM x WITH (map_with_state = 'unnamed', key = 'k') AS SELECT k, v FROM q;
CREATE STREAM x WITH (map_with_state = 'point_key', key = 'p') AS SELECT p, v FROM q;
CREATE STREAM x WITH (map_with_state = 'visits', key = 'state') AS SELECT k AS state, v FROM q;
CREATE STREAM x WITH (map_with_state = 'visits', key = 'k', event_timer = 'n') AS SELECT k, v FROM q;
CREATE STREAM x WITH (map_with_state = 'visits', key = 'k', initial_state = 'no_such') AS SELECT k, v FROM q;
CREATE STREAM x WITH (map_with_state = 'visits', key = 'k', initial_state = 'q') AS SELECT k, v FROM q;
CREATE TABLE wrong (k text, state bigint);
CREATE STREAM x WITH (map_with_state = 'visits', key = 'k', initial_state = 'wrong') AS SELECT k, v FROM q;
CREATE TABLE no_state (k text);
CREATE STREAM x WITH (map_with_state = 'visits', key = 'k', initial_state = 'no_state') AS SELECT k, v FROM q;
CREATE TABLE twice (k text, state int);
INSERT INTO twice VALUES ('a', 1), ('b', 2), (NULL, 3), (NULL, 4);
CREATE STREAM x WITH (map_with_state = 'visits', key = 'k', initial_state = 'twice') AS SELECT k, v FROM q;
-- nothing is left of any of them
SELECT count(*) FROM pg_class WHERE relname LIKE 'x%' AND relnamespace IN ('map_with_state'::regnamespace, 'streamext_state'::regnamespace);
EXPLAIN CREATE STREAM x WITH (map_with_state = 'visits', key = 'k', idle_timeout = '1 s') AS SELECT k, v FROM q;
-- varchar for text, a domain for its type: nothing to convert
CREATE STREAM y WITH (map_with_state = 'visits', key = 'k') AS SELECT k::varchar(5) AS k, v::positive AS v FROM q;
\d streamext_state.y
-- privileges
CREATE ROLE sx_mapper;
GRANT USAGE ON FOREIGN SERVER streamext TO sx_mapper;
GRANT ALL ON SCHEMA map_with_state TO sx_mapper;
REVOKE EXECUTE ON FUNCTION visits FROM PUBLIC;
SET ROLE sx_mapper;
CREATE STREAM mine (k text, v int) WITH (connector = 'queue', paused);
CREATE STREAM x WITH (map_with_state = 'visits', key = 'k') AS SELECT k, v FROM mine;
RESET ROLE;
GRANT EXECUTE ON FUNCTION visits TO sx_mapper;
SET ROLE sx_mapper;
CREATE STREAM x WITH (map_with_state = 'visits', key = 'k', initial_state = 'before') AS SELECT k, v FROM mine;
CREATE STREAM x WITH (map_with_state = 'visits', key = 'k') AS SELECT k, v FROM mine;
CREATE STREAM x_out WITH (connector = 'null') AS SELECT * FROM x;
INSERT INTO mine VALUES ('a', 1);
SELECT batch_id, rows FROM streamext.step('mine', '2024-02-01 00:00:00');
SELECT k, state FROM streamext_state.x;
RESET ROLE;
REVOKE EXECUTE ON FUNCTION visits FROM sx_mapper;
INSERT INTO mine VALUES ('a', 1);
SELECT batch_id, rows FROM streamext.step('mine', '2024-02-01 00:00:00');
DROP STREAM q, mine CASCADE;
DROP OWNED BY sx_mapper;
DROP ROLE sx_mapper;
DROP SCHEMA map_with_state CASCADE;
