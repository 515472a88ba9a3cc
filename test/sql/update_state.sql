-- update_state: a function is called for each key with its state and its rows of the batch.
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SET client_min_messages = warning;
CREATE SCHEMA update_state;
SET search_path = update_state, public;
\getenv build_dir PG_ABS_BUILDDIR
\set dir :build_dir /update_state
\setenv DIR :dir
\! rm -rf "$DIR"; mkdir -p "$DIR/kv"; chmod -R 755 "$DIR"

-- ---------------------------------------------------------------- every key in every batch
\! cd "$DIR/kv"; printf 'a,1\nb,2\na,\\N\n\\N,9\na,3\n' >0; : >1; printf 'c,1\nb,-1\n' >2; printf 'b,5\n' >3
\! cd "$DIR/kv"; for i in 0 1 2 3; do touch -d "2024-01-0$((i+1))Z" $i; done
\set path :dir '/kv'
CREATE STREAM kv (k text, v int)
    WITH (connector = 'file', path = :'path', format = 'csv', "null" = '\N', max_files_per_batch = 1, paused);
-- what it was called with is its state; a negative value removes the key
CREATE FUNCTION calls(state text, k text, v int[]) RETURNS text LANGUAGE sql AS
    $$ SELECT CASE WHEN -1 = ANY (v) THEN NULL ELSE concat_ws(' ', state, v::text) END $$;
CREATE STREAM st WITH (update_state = 'calls', key = 'k') AS SELECT k, v FROM kv;
\d st
\d streamext_state.st
CREATE STREAM st_out WITH (connector = 'table', table = 'st_t') AS
    SELECT streamext.batch_id() AS b, row_number() OVER () AS i, * FROM st;
CREATE FUNCTION touched(state bigint, k text, v int[]) RETURNS bigint LANGUAGE sql AS
    $$ SELECT nullif(coalesce(state, 0) + cardinality(v), 6) $$;
CREATE STREAM ch WITH (update_state = 'touched', key = 'k', changed_only) AS SELECT k, v FROM kv;
CREATE STREAM ch_out WITH (connector = 'table', table = 'ch_t') AS
    SELECT streamext.batch_id() AS b, row_number() OVER () AS i, * FROM ch;
SELECT batch_id, rows FROM streamext.step('kv', '2024-02-01 00:00:00');
SELECT * FROM st_t ORDER BY b, i;
-- no data: every key is called for, with empty arrays; with changed_only none is
SELECT batch_id, rows FROM streamext.step('kv', '2024-02-01 00:00:01');
-- b is removed
SELECT batch_id, rows FROM streamext.step('kv', '2024-02-01 00:00:02');
-- and comes again
SELECT batch_id, rows FROM streamext.step('kv', '2024-02-01 00:00:03');
SELECT batch_id, rows FROM streamext.step('kv', '2024-02-01 00:00:04');
SELECT * FROM st_t WHERE b > 1 ORDER BY b, i;
SELECT * FROM streamext_state.st ORDER BY k;
SELECT * FROM ch_t ORDER BY b, i;
SELECT * FROM streamext_state.ch ORDER BY k;
-- outside a batch: the states
SELECT * FROM st ORDER BY k;
SELECT streamext.explain('st');
DROP STREAM kv CASCADE;

-- ---------------------------------------------------------------- other sources make batches, too; with batch_interval, time does
CREATE STREAM one (k text, v int) WITH (connector = 'queue', paused, pipeline = 'p', batch_interval = '10 seconds');
CREATE STREAM other (v int) WITH (connector = 'queue', paused, pipeline = 'p', batch_interval = '10 seconds');
CREATE STREAM st WITH (update_state = 'calls', key = 'k') AS SELECT k, v FROM one;
CREATE STREAM st_out WITH (connector = 'table', table = 'p_t') AS SELECT streamext.batch_id() AS b, * FROM st;
CREATE MATERIALIZED VIEW others AS SELECT count(*) FROM other;
INSERT INTO one VALUES ('a', 1);
SELECT batch_id, rows FROM streamext.step('p', '2024-02-01 00:00:00');
INSERT INTO other VALUES (1);
SELECT batch_id, rows FROM streamext.step('p', '2024-02-01 00:00:01');
SELECT batch_id, rows FROM streamext.step('p', '2024-02-01 00:00:02');
SELECT batch_id, rows FROM streamext.step('p', '2024-02-01 00:00:11');
SELECT * FROM p_t ORDER BY b;
DROP STREAM one, other CASCADE;

-- ---------------------------------------------------------------- several value columns, keys of several columns, composite state
CREATE TYPE acc AS (n int, sum numeric);
CREATE STREAM q (k1 int, k2 date, a numeric, b text) WITH (connector = 'queue', paused);
CREATE FUNCTION gather(state acc, k2 date, k1 int, a numeric[], b varchar[]) RETURNS acc LANGUAGE plpgsql AS $$
BEGIN
    RETURN (coalesce(state.n, 0) + cardinality(b), coalesce(state.sum, 0) + coalesce((SELECT sum(x) FROM unnest(a) x), 0))::acc;
END $$;
CREATE STREAM g WITH (update_state = 'gather', key = 'k2, k1') AS SELECT k1, a, k2, b::varchar AS b FROM q;
CREATE STREAM g_out WITH (connector = 'null') AS SELECT * FROM g;
INSERT INTO q VALUES (1, '2024-01-01', 1.5, 'x'), (1, NULL, 1, NULL), (NULL, NULL, NULL, NULL), (1, '2024-01-01', 2.5, 'y');
SELECT batch_id, rows FROM streamext.step('q', '2024-02-01 00:00:00');
SELECT * FROM streamext_state.g ORDER BY k2, k1;
-- a state that stays the same bit for bit is not written
SELECT ctid, k2, k1 FROM streamext_state.g ORDER BY k2, k1;
INSERT INTO q VALUES (2, NULL, 1, 'z');
SELECT batch_id, rows FROM streamext.step('q', '2024-02-01 00:00:01');
SELECT ctid, k2, k1 FROM streamext_state.g ORDER BY k2, k1;
-- no values at all: the key alone
CREATE FUNCTION age(state int, k1 int) RETURNS int LANGUAGE sql AS 'SELECT coalesce(state, 0) + 1';
CREATE STREAM ages WITH (update_state = 'age', key = 'k1') AS SELECT k1 FROM q;
CREATE STREAM ages_out WITH (connector = 'null') AS SELECT * FROM ages;
INSERT INTO q (k1) VALUES (1), (1), (2);
SELECT batch_id, rows FROM streamext.step('q', '2024-02-01 00:00:02');
INSERT INTO q (k1) VALUES (3);
SELECT batch_id, rows FROM streamext.step('q', '2024-02-01 00:00:03');
SELECT * FROM streamext_state.ages ORDER BY 1;
DROP STREAM q CASCADE;
-- a function in C
CREATE STREAM q (k int) WITH (connector = 'queue', paused);
CREATE FUNCTION c_add(state int, k int) RETURNS int LANGUAGE internal AS 'int4pl';
CREATE STREAM added WITH (update_state = 'c_add', key = 'k') AS SELECT k FROM q;
CREATE STREAM added_out WITH (connector = 'null') AS SELECT * FROM added;
INSERT INTO q VALUES (5), (7), (5);
SELECT batch_id, rows FROM streamext.step('q', '2024-02-01 00:00:02');
INSERT INTO q VALUES (5);
SELECT batch_id, rows FROM streamext.step('q', '2024-02-01 00:00:03');
SELECT * FROM streamext_state.added ORDER BY k;
-- it may be renamed
ALTER FUNCTION c_add RENAME TO c_plus;
INSERT INTO q VALUES (7);
SELECT batch_id, rows FROM streamext.step('q', '2024-02-01 00:00:04');
SELECT * FROM streamext_state.added ORDER BY k;
DROP STREAM q CASCADE;

-- ---------------------------------------------------------------- errors
CREATE STREAM q (k text, v int) WITH (connector = 'queue', paused);
CREATE FUNCTION add_ten(state int, k text, v int[]) RETURNS int LANGUAGE sql AS
    $$ SELECT coalesce(state, 0) + coalesce((SELECT sum(10 / x) FROM unnest(v) x), 0)::int $$;
CREATE STREAM tens WITH (update_state = 'add_ten', key = 'k') AS SELECT k, v FROM q;
CREATE STREAM tens_out WITH (connector = 'table', table = 'tens_t') AS SELECT streamext.batch_id() AS b, * FROM tens;
INSERT INTO q VALUES ('a', 1), ('b', 0), ('a', 0), ('a', 2), ('c', 5);
SELECT batch_id, rows, dead_letters FROM streamext.step('q', '2024-02-01 00:00:00');
SELECT * FROM tens_t;
SELECT view, sqlstate, message FROM streamext.dead_letters ORDER BY id;
-- without values: no record's fault
CREATE OR REPLACE FUNCTION add_ten(state int, k text, v int[]) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    IF v = '{}' THEN RAISE 'starved'; END IF;
    RETURN state + v[1];
END $$;
INSERT INTO q VALUES ('a', 1);
SELECT batch_id, rows, dead_letters FROM streamext.step('q', '2024-02-01 00:00:01');
SELECT * FROM streamext_state.tens ORDER BY k;
SELECT count(*) FROM streamext.dead_letters;
DROP STREAM q CASCADE;

-- ---------------------------------------------------------------- initial state
CREATE STREAM q (k text, v int) WITH (connector = 'queue', paused);
CREATE TABLE init AS SELECT * FROM (VALUES ('a', 100::bigint), ('z', 7), (NULL, 1)) i (k, state);
CREATE STREAM s1 WITH (update_state = 'touched', key = 'k', initial_state = 'init') AS SELECT k, v FROM q;
CREATE STREAM s2 WITH (update_state = 'touched', key = 'k', initial_state = 'init', changed_only) AS SELECT k, v FROM q;
CREATE STREAM s_out WITH (connector = 'table', table = 's_t') AS SELECT 1 AS s, * FROM s1 UNION ALL SELECT 2, * FROM s2;
INSERT INTO q VALUES ('b', 1), ('a', 1);
SELECT batch_id, rows FROM streamext.step('q', '2024-02-01 00:00:00');
SELECT * FROM s_t;
DROP STREAM q CASCADE;

-- ---------------------------------------------------------------- refusals
CREATE STREAM q (k text, v int, a int[]) WITH (connector = 'queue', paused);
CREATE FUNCTION arrays(state int, k text, a int[][]) RETURNS int LANGUAGE sql AS 'SELECT state';
CREATE FUNCTION other_type(state int, k text, v int[]) RETURNS bigint LANGUAGE sql AS 'SELECT state::bigint';
CREATE FUNCTION no_array(state int, k text, v int) RETURNS int LANGUAGE sql AS 'SELECT state';
CREATE FUNCTION strict_one(state int, k text, v int[]) RETURNS int LANGUAGE sql STRICT AS 'SELECT state';
CREATE STREAM x WITH (update_state = 'touched') AS SELECT k, v FROM q;
CREATE STREAM x WITH (update_state = 'arrays', key = 'k') AS SELECT k, a FROM q;
CREATE STREAM x WITH (update_state = 'other_type', key = 'k') AS SELECT k, v FROM q;
CREATE STREAM x WITH (update_state = 'no_array', key = 'k') AS SELECT k, v FROM q;
CREATE STREAM x WITH (update_state = 'strict_one', key = 'k') AS SELECT k, v FROM q;
CREATE STREAM x WITH (update_state = 'no_such', key = 'k') AS SELECT k, v FROM q;
CREATE STREAM x WITH (update_state = 'touched', key = 'k', changed_only = 'perhaps') AS SELECT k, v FROM q;
CREATE STREAM x WITH (update_state = 'touched', key = 'k', within = '1 s') AS SELECT k, v FROM q;
DROP STREAM q CASCADE;
DROP SCHEMA update_state CASCADE;
