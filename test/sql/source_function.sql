-- The connector 'function': rows that a function of the user's gives, once each.  What
-- needs a worker is in t/060_function_source.pl.
SET timezone = 'UTC';
CREATE SCHEMA recv;
SET search_path = recv, public;
CREATE TABLE api (id int, v text);
CREATE TABLE calls (failing boolean);
INSERT INTO calls VALUES (false);

-- the rows behind a position; the failure that it may be told to raise
CREATE FUNCTION feed(pos jsonb, max_rows int)
    RETURNS TABLE ("position" jsonb, extra float8, v text, id int)
    LANGUAGE plpgsql STABLE SET search_path = recv AS $$
BEGIN
    IF (SELECT failing FROM calls) THEN
        RAISE EXCEPTION 'the service is away';
    END IF;
    RETURN QUERY SELECT to_jsonb(a.id), 1.5::float8, a.v, a.id FROM api a
                 WHERE a.id > coalesce(pos::int, 0) ORDER BY a.id LIMIT max_rows;
END $$;

-- found by search_path at creation, kept qualified; the columns by name, in any order
CREATE STREAM s (id int NOT NULL, v text, no bigint OPTIONS (metadata 'offset'))
    WITH (connector = 'function', function = 'feed', poll_interval = '100 ms', max_batch_rows = 3, paused);
SELECT ftoptions FROM pg_foreign_table WHERE ftrelid = 's'::regclass;
CREATE MATERIALIZED VIEW got AS SELECT streamext.batch_id() AS batch, no, id, v FROM s;
SET search_path = public;

-- nothing there: no batch
SELECT batch_id, rows FROM streamext.step('recv.s');

INSERT INTO recv.api SELECT i, CASE WHEN i <> 4 THEN 'row ' || i END FROM generate_series(1, 7) i;
SELECT * FROM recv.s;
SELECT batch_id, rows FROM streamext.step('recv.s');
SELECT position, new.anchor FROM streamext.partition new WHERE stream = 'recv.s'::regclass;

-- a step that rolls back: the next one gives the same
BEGIN;
SELECT batch_id, rows FROM streamext.step('recv.s');
SELECT batch, id FROM recv.got WHERE batch = 2 ORDER BY id;
ROLLBACK;
SELECT batch_id, rows FROM streamext.step('recv.s');
SELECT batch_id, rows FROM streamext.step('recv.s');
SELECT batch_id, rows FROM streamext.step('recv.s');
SELECT * FROM recv.got ORDER BY id;
SELECT lag FROM streamext.partition WHERE stream = 'recv.s'::regclass;

-- what it raises is the call's failure
UPDATE recv.calls SET failing = true;
SELECT batch_id, rows FROM streamext.step('recv.s');
UPDATE recv.calls SET failing = false;

-- a record that fails is a dead letter; NULL for NOT NULL, and what a query makes of it
INSERT INTO recv.api VALUES (8, 'x'), (9, '5'), (10, '6');
CREATE MATERIALIZED VIEW recv.numbers WITH (backfill = off) AS SELECT id, v::int AS n FROM recv.s;
SELECT batch_id, rows, dead_letters FROM streamext.step('recv.s');
SELECT * FROM recv.numbers ORDER BY id;
SELECT "offset", sqlstate, message, convert_from(value, 'UTF8') FROM streamext.dead_letters WHERE stream = 'recv.s'::regclass ORDER BY 1;

-- altered: renamed, moved, replaced; not dropped
ALTER FUNCTION recv.feed(jsonb, int) RENAME TO feed2;
INSERT INTO recv.api VALUES (11, '7');
SELECT batch_id, rows FROM streamext.step('recv.s');
DROP FUNCTION recv.feed2(jsonb, int);
ALTER FUNCTION recv.feed2(jsonb, int) STRICT;
SELECT batch_id, rows FROM streamext.step('recv.s');
ALTER FUNCTION recv.feed2(jsonb, int) CALLED ON NULL INPUT;
CREATE OR REPLACE FUNCTION recv.feed2(pos jsonb, max_rows int)
    RETURNS TABLE ("position" jsonb, extra float8, v text, id int)
    LANGUAGE sql STABLE AS $$ SELECT '{"at": [1, "2"]}'::jsonb, NULL::float8, 'replaced'::text, NULL::int FROM pg_catalog.generate_series(1, 2) $$;
SELECT batch_id, rows, dead_letters FROM streamext.step('recv.s');
SELECT position FROM streamext.partition WHERE stream = 'recv.s'::regclass;
SELECT count(*) FROM recv.got WHERE v = 'replaced';
ALTER STREAM recv.s OPTIONS (SET function 'recv.other');
ALTER STREAM recv.s OPTIONS (SET poll_interval '2 seconds');
ALTER STREAM recv.s ADD COLUMN extra float8;
ALTER STREAM recv.s ADD COLUMN none float8;
SELECT * FROM recv.s;
DROP FUNCTION recv.feed2(jsonb, int) CASCADE;
SELECT count(*) FROM streamext.stream WHERE relation = to_regclass('recv.s');

-- one that gives more than it was asked for, and for ever: what is asked for is taken
CREATE FUNCTION recv.endless(pos jsonb, max_rows int) RETURNS TABLE (pos jsonb, n bigint)
    LANGUAGE sql STABLE BEGIN ATOMIC
    SELECT to_jsonb(i), i FROM (SELECT generate_series(coalesce((endless.pos)::bigint, 0) + 1, 1000000000000) AS i) g;
END;
CREATE STREAM recv.e (n bigint) WITH (connector = 'function', function = 'recv.endless', max_batch_rows = 5000, paused);
CREATE MATERIALIZED VIEW recv.sums AS SELECT streamext.batch_id() AS batch, count(*), min(n), max(n) FROM recv.e GROUP BY 1;
SELECT batch_id, rows FROM streamext.step('recv.e');
SELECT batch_id, rows FROM streamext.step('recv.e');
SELECT * FROM recv.sums ORDER BY batch;
SELECT count(*) FROM recv.e;
-- … by bytes
ALTER STREAM recv.e OPTIONS (ADD max_batch_bytes '1000');
SELECT batch_id, rows < 100 AS cut FROM streamext.step('recv.e');
SELECT max - min + 1 = count AS complete, min FROM recv.sums WHERE batch = 3;
DROP STREAM recv.e CASCADE;

-- read-only: it may be called again
CREATE FUNCTION recv.writes(after jsonb, max_rows int) RETURNS TABLE (pos jsonb, n int)
    LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO recv.calls VALUES (true);
    RETURN QUERY SELECT '1'::jsonb, 1;
END $$;
CREATE STREAM recv.w (n int) WITH (connector = 'function', function = 'recv.writes', paused);
CREATE MATERIALIZED VIEW recv.wv AS SELECT n FROM recv.w;
SELECT batch_id, rows FROM streamext.step('recv.w');
SELECT * FROM recv.w;
INSERT INTO recv.calls VALUES (true);
DROP STREAM recv.w CASCADE;

-- a row without a position
CREATE FUNCTION recv.lost(pos jsonb, max_rows int) RETURNS TABLE (pos jsonb, n int)
    LANGUAGE sql AS $$ SELECT NULL::jsonb, 1 $$;
CREATE STREAM recv.l (n int) WITH (connector = 'function', function = 'recv.lost', paused);
SELECT * FROM recv.l;
DROP STREAM recv.l;

-- the contract
CREATE FUNCTION recv.wrong_args(pos text) RETURNS TABLE (pos jsonb, n int) LANGUAGE sql AS $$ SELECT NULL::jsonb, 1 $$;
CREATE FUNCTION recv.one(pos jsonb, max_rows int) RETURNS int LANGUAGE sql AS $$ SELECT 1 $$;
CREATE FUNCTION recv.scalars(pos jsonb, max_rows int) RETURNS SETOF int LANGUAGE sql AS $$ SELECT 1 $$;
CREATE FUNCTION recv.records(pos jsonb, max_rows int) RETURNS SETOF record LANGUAGE sql AS $$ SELECT 1, 2 $$;
CREATE FUNCTION recv.no_position(pos jsonb, max_rows int) RETURNS TABLE (n int, p jsonb) LANGUAGE sql AS $$ SELECT 1, '1'::jsonb $$;
CREATE FUNCTION recv.is_strict(pos jsonb, max_rows int) RETURNS TABLE (pos jsonb, n int) LANGUAGE sql STRICT AS $$ SELECT '1'::jsonb, 1 $$;
CREATE PROCEDURE recv.a_procedure(pos jsonb, max_rows int) LANGUAGE sql AS $$ SELECT 1 $$;
CREATE STREAM recv.x (n int) WITH (connector = 'function');
CREATE STREAM recv.x (n int) WITH (connector = 'function', function = 'recv.nobody');
CREATE STREAM recv.x (n int) WITH (connector = 'function', function = 'recv.wrong_args');
CREATE STREAM recv.x (n int) WITH (connector = 'function', function = 'recv.one');
CREATE STREAM recv.x (n int) WITH (connector = 'function', function = 'recv.scalars');
CREATE STREAM recv.x (n int) WITH (connector = 'function', function = 'recv.records');
CREATE STREAM recv.x (n int) WITH (connector = 'function', function = 'recv.no_position');
CREATE STREAM recv.x (n int) WITH (connector = 'function', function = 'recv.is_strict');
CREATE STREAM recv.x (n int) WITH (connector = 'function', function = 'recv.a_procedure');
CREATE STREAM recv.x (n int, m int) WITH (connector = 'function', function = 'recv.lost');
CREATE STREAM recv.x (n bigint) WITH (connector = 'function', function = 'recv.lost');
CREATE STREAM recv.x (n int) WITH (connector = 'function', function = 'recv.lost', poll_interval = '0');
CREATE STREAM recv.x (n int) WITH (connector = 'function', function = 'recv.lost', path = '/x');
CREATE STREAM recv.x (n int) WITH (connector = 'rate', function = 'recv.lost');

-- a composite type, the position by its name; a column with a length
CREATE TYPE recv.answer AS (n varchar(3), "position" jsonb);
CREATE FUNCTION recv.answers(pos jsonb, max_rows int) RETURNS SETOF recv.answer
    LANGUAGE sql AS $$ SELECT 'abc'::varchar(3), '"p"'::jsonb WHERE pos IS NULL $$;
CREATE STREAM recv.x (n varchar(2)) WITH (connector = 'function', function = 'recv.answers');
CREATE STREAM recv.a (n varchar(3), "position" jsonb) WITH (connector = 'function', function = 'recv.answers', paused);
SELECT * FROM recv.a;
CREATE MATERIALIZED VIEW recv.av AS SELECT count(*) FROM recv.a;
SELECT batch_id, rows FROM streamext.step('recv.a');
SELECT batch_id, rows FROM streamext.step('recv.a');

-- who may: the creator needs EXECUTE; the function runs as the owner, whoever looks
CREATE ROLE source_function_owner;
CREATE ROLE source_function_reader;
GRANT USAGE ON FOREIGN SERVER streamext TO source_function_owner;
CREATE SCHEMA recv_owned AUTHORIZATION source_function_owner;
GRANT USAGE ON SCHEMA recv_owned TO source_function_reader;
GRANT USAGE ON SCHEMA recv TO source_function_owner;
CREATE FUNCTION recv.whoami(pos jsonb, max_rows int) RETURNS TABLE (pos jsonb, who name)
    LANGUAGE sql AS $$ SELECT '1'::jsonb, current_user WHERE pos IS NULL $$;
REVOKE EXECUTE ON FUNCTION recv.whoami(jsonb, int) FROM PUBLIC;
SET ROLE source_function_owner;
CREATE STREAM recv_owned.o (who name) WITH (connector = 'function', function = 'recv.whoami', paused);
RESET ROLE;
GRANT EXECUTE ON FUNCTION recv.whoami(jsonb, int) TO source_function_owner;
SET ROLE source_function_owner;
CREATE STREAM recv_owned.o (who name) WITH (connector = 'function', function = 'recv.whoami', paused);
CREATE MATERIALIZED VIEW recv_owned.ov AS SELECT who FROM recv_owned.o;
GRANT SELECT ON recv_owned.o TO source_function_reader;
RESET ROLE;
SELECT * FROM recv_owned.o;
SET ROLE source_function_reader;
SELECT * FROM recv_owned.o;
RESET ROLE;
SELECT batch_id, rows FROM streamext.step('recv_owned.o');
SELECT * FROM recv_owned.ov;
-- in somebody else's pipeline, too
CREATE MATERIALIZED VIEW recv.other WITH (pipeline = 'recv_other') AS SELECT who FROM recv_owned.o;
SELECT streamext.wait('recv_other');
SELECT * FROM recv.other;
SELECT current_user, current_setting('search_path') AS path, current_setting('transaction_read_only') AS read_only;

SET client_min_messages = warning;
DROP SCHEMA recv_owned CASCADE;
DROP SCHEMA recv CASCADE;
REVOKE USAGE ON FOREIGN SERVER streamext FROM source_function_owner;
DROP ROLE source_function_owner, source_function_reader;
