-- Streams with rows of their own in a batch: evaluated once for all who read them, whatever stands on what.
SET timezone = 'UTC';
SET client_min_messages = warning;
CREATE SCHEMA per_batch;
SET search_path = per_batch, public;
CREATE STREAM q (k text, v int) WITH (connector = 'queue', paused);
CREATE TABLE evaluations (stream text);
CREATE FUNCTION evaluated(stream text) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO per_batch.evaluations VALUES (stream); RETURN stream; END $$;

-- a view is part of its readers; what is not row by row has rows of its own
CREATE STREAM positive AS SELECT * FROM q WHERE v > 0;
CREATE STREAM totals AS SELECT k, sum(v) AS v, random() AS r, evaluated('totals') AS e FROM positive GROUP BY k;
CREATE STREAM best AS SELECT t.*, evaluated('best') AS e2 FROM totals t ORDER BY v DESC, k LIMIT 1;
SELECT relname, relkind FROM pg_class WHERE oid IN ('positive'::regclass, 'totals'::regclass, 'best'::regclass) ORDER BY oid;
SELECT stream, kind, pipelines FROM streamext.streams ORDER BY stream::text COLLATE "C";
CREATE STREAM sink1 WITH (connector = 'table', table = 't1') AS SELECT k, v, r FROM totals;
CREATE STREAM sink2 WITH (connector = 'table', table = 't2') AS SELECT a.k, a.v, b.r, a.r = b.r AS same FROM totals a JOIN totals b USING (k);
CREATE STREAM sink3 WITH (connector = 'table', table = 't3') AS SELECT k, v FROM best;
CREATE MATERIALIZED VIEW wins AS SELECT k, count(*) AS n FROM best GROUP BY k;
INSERT INTO q VALUES ('a', 1), ('a', 2), ('b', 1), (NULL, 3), ('c', -5), ('d', NULL);
SELECT batch_id, rows FROM streamext.step('q', '2024-01-01Z');
SELECT k, v FROM t1 ORDER BY k;
SELECT t2.k, t2.v, same, t1.r = t2.r AS as_in_t1 FROM t1 JOIN t2 ON t1.k IS NOT DISTINCT FROM t2.k ORDER BY 1;
SELECT * FROM t3;
-- totals once for each of three groups, best for the rows that LIMIT lets it see or more, never once per reader
SELECT stream, count(*) FROM evaluations WHERE stream = 'totals' GROUP BY 1;
SELECT * FROM wins;
INSERT INTO q VALUES ('b', 9), ('a', 9);
SELECT batch_id, rows FROM streamext.step('q', '2024-01-01Z');
SELECT * FROM t3;
SELECT * FROM wins ORDER BY k;

-- a stream that nobody reads does not run
CREATE STREAM unread AS SELECT 1 / (count(*) - 1) AS boom FROM q;
INSERT INTO q VALUES ('z', 1);
SELECT batch_id, rows FROM streamext.step('q', '2024-01-01Z');

-- outside a batch: what the source holds
INSERT INTO q VALUES ('now', 4);
SELECT k, v FROM totals;
SELECT k, v FROM best;
EXPLAIN (COSTS off) SELECT k FROM totals WHERE v > 1;
INSERT INTO totals VALUES ('x', 1);
SELECT * FROM sink1;
SELECT streamext.explain('totals');
SELECT batch_id, rows FROM streamext.step('q', '2024-01-01Z');

-- a record that fails for one reader is there for the others
CREATE TABLE narrow (k text, v bigint CHECK (v < 100));
CREATE STREAM sink4 WITH (connector = 'table', table = 'narrow', backfill = 'off') AS SELECT k, v FROM totals;
CREATE STREAM halves AS SELECT k, 10 / v AS v FROM q GROUP BY k, v;
CREATE STREAM sink5 WITH (connector = 'table', table = 't5', backfill = 'off') AS SELECT * FROM halves;
TRUNCATE t1;
INSERT INTO q VALUES ('e', 5), ('big', 1000), ('f', 6), ('zero', 0);
SELECT batch_id, rows, dead_letters FROM streamext.step('q', '2024-01-01Z');
SELECT k, v FROM t1 ORDER BY k;
SELECT k, v FROM narrow ORDER BY k;
SELECT k, v FROM t5 ORDER BY k;
SELECT view, value, message FROM streamext.dead_letters ORDER BY id;

-- foreachBatch: called in each batch, with rows or without, in order of creation
CREATE TABLE calls (name text, batch bigint, at timestamptz, rows bigint, ks text[]);
CREATE FUNCTION first_call(batch_id bigint, batch_time timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO per_batch.calls (name, batch, at, rows, ks) SELECT 'first', batch_id, batch_time, count(*), array_agg(k ORDER BY k) FROM per_batch.each;
END $$;
CREATE FUNCTION second_call(batch_id bigint, batch_time timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO per_batch.calls (name, batch, at, rows, ks) SELECT 'second', batch_id, batch_time, count(*), array_agg(k ORDER BY k) FROM per_batch."Every one";
    IF EXISTS (SELECT FROM per_batch."Every one" WHERE k = 'raise') THEN RAISE 'not this one'; END IF;
END $$;
CREATE STREAM each WITH (connector = 'function', function = 'first_call', backfill = 'off') AS SELECT k FROM q WHERE v > 0;
CREATE STREAM "Every one" WITH (connector = 'function', function = 'per_batch.second_call', backfill = 'off') AS SELECT k, v FROM q;
INSERT INTO q VALUES ('g', 1), ('h', -1);
SELECT batch_id, rows, dead_letters FROM streamext.step('q', '2024-01-02Z');
INSERT INTO q VALUES ('i', -1);
SELECT batch_id, rows, dead_letters FROM streamext.step('q', '2024-01-03Z');
-- the record that the function refuses becomes a dead letter of this sink alone
INSERT INTO q VALUES ('j', 1), ('raise', 1), ('k', 1);
SELECT batch_id, rows, dead_letters FROM streamext.step('q', '2024-01-04Z');
SELECT * FROM calls ORDER BY batch, name;
SELECT view, value, message FROM streamext.dead_letters WHERE view = '"Every one"'::regclass;
SELECT streamext.explain('each');

-- refused
CREATE STREAM x WITH (connector = 'function', function = 'nobody') AS SELECT k FROM q;
CREATE STREAM x WITH (connector = 'function') AS SELECT k FROM q;
CREATE STREAM x AS SELECT k FROM sink1;
CREATE STREAM x WITH (source = 'evaluations') AS SELECT 1 AS a;
CREATE STREAM x WITH (source = 'nobody') AS SELECT 1 AS a;
CREATE STREAM x AS SELECT * FROM evaluated('x');
CREATE FOREIGN TABLE x (a int) SERVER streamext;
DROP FUNCTION first_call(bigint, timestamptz);
-- a function that reads a stream unseen
CREATE FUNCTION unseen() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT count(*) FROM per_batch.totals); END $$;
CREATE STREAM sink6 WITH (connector = 'table', table = 't6', source = 'totals', backfill = 'off') AS SELECT unseen() AS n FROM q LIMIT 1;
INSERT INTO q VALUES ('l', 1), ('m', 1);
SELECT batch_id, rows, dead_letters FROM streamext.step('q', '2024-01-05Z');
SELECT * FROM t6;
DROP STREAM totals;

-- the columns are those of the query
ALTER STREAM totals OPTIONS (ADD source 'q');
ALTER FOREIGN TABLE totals ADD COLUMN x int;
ALTER FOREIGN TABLE sink1 ALTER COLUMN k TYPE int;
ALTER TABLE totals RENAME COLUMN k TO kk;
-- names in options follow
ALTER STREAM totals RENAME TO sums;
ALTER FUNCTION first_call(bigint, timestamptz) RENAME TO "First call";
CREATE OR REPLACE FUNCTION unseen() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT count(*) FROM per_batch.sums); END $$;
INSERT INTO q VALUES ('n', 1);
SELECT batch_id, rows FROM streamext.step('q', '2024-01-06Z');
SELECT k, v FROM t1 WHERE k = 'n';
SELECT * FROM t6;
SELECT name, rows FROM calls WHERE batch = 10 ORDER BY name;
ALTER STREAM sums RENAME TO totals;

-- streams that stand on one another go in one statement
DROP STREAM sink1, sink2, sink3, sink4, sink6, best, totals CASCADE;
DROP STREAM q, positive, unread, halves, sink5, each, "Every one";
SELECT count(*) FROM streamext.step;
SELECT count(*) FROM streamext.stream;
SELECT relname FROM pg_class WHERE relnamespace = 'streamext_state'::regnamespace;
DROP SCHEMA per_batch CASCADE;

-- what a function of a sink must not do to its own pipeline
CREATE SCHEMA per_batch;
SET search_path = per_batch, public;
CREATE STREAM q (k text) WITH (connector = 'queue', paused);
CREATE FUNCTION drops(batch_id bigint, batch_time timestamptz) RETURNS void LANGUAGE plpgsql AS $$ BEGIN DROP STREAM per_batch.q CASCADE; END $$;
CREATE STREAM suicide WITH (connector = 'function', function = 'drops') AS SELECT k FROM q;
INSERT INTO q VALUES ('a');
SELECT batch_id FROM streamext.step('q', '2024-01-01Z');
CREATE OR REPLACE FUNCTION drops(batch_id bigint, batch_time timestamptz) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM streamext.reset('per_batch.q'); END $$;
SELECT batch_id FROM streamext.step('q', '2024-01-01Z');
DROP SCHEMA per_batch CASCADE;
