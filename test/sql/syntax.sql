--
-- CREATE, ALTER and DROP STREAM: what is understood, what is left alone, what is
-- refused with what to write instead.
--
\set VERBOSITY default
SET client_min_messages = notice;
CREATE SCHEMA syn;
SET search_path = syn, public;

-- ---------------------------------------------------------------------
-- The word, however it is written
-- ---------------------------------------------------------------------
CREATE STREAM s1 (value bigint, "timestamp" timestamptz) WITH (connector = 'rate', paused);
cReAtE
  /* a comment /* nested; DROP */ ; */ -- and; another
  sTrEaM IF NOT EXISTS syn."S; 2" ("stream" bigint NOT NULL, "timestamp" timestamptz)
  WITH (connector = queue, paused = on);
CREATE STREAM IF NOT EXISTS s1 (value bigint) WITH (connector = 'rate');
CREATE FOREIGN TABLE s3 (value bigint, "timestamp" timestamptz) SERVER streamext
  OPTIONS (connector 'rate', paused 'on');
SELECT relation, kind FROM streamext.stream JOIN pg_class c ON c.oid = relation
WHERE relnamespace = 'syn'::regnamespace ORDER BY relation::text COLLATE "C";

-- several statements in one string
CREATE STREAM m1 (value bigint) WITH (connector = 'rate', paused)\; SELECT ';' AS one, E'\';' AS two\;
  CREATE STREAM m2 (value bigint) WITH (connector = 'rate', paused) \; /* ; */ DROP STREAM m1, m2;
-- the same where backslashes escape in plain strings
SET standard_conforming_strings = off;
SET escape_string_warning = off;
SELECT 'it\'s; ' AS one \; DROP STREAM IF EXISTS nothing;
RESET escape_string_warning;
RESET standard_conforming_strings;
SELECT 'it\' AS one \; DROP STREAM IF EXISTS nothing;
SELECT $q$ ; $r$ DROP STREAM $q$ AS one, "stream;" FROM (SELECT 1 AS "stream;") x \; DROP STREAM IF EXISTS nothing;
DO $$ BEGIN EXECUTE $e$ SELECT E'a'
  'b\'; ' AS one; DROP STREAM IF EXISTS nothing $e$; END $$;

-- PL/pgSQL, static and dynamic, and ROLLBACK
DO $$
BEGIN
    CREATE STREAM pl (value bigint) WITH (connector = 'rate', paused);
    EXECUTE 'ALTER /**/ STREAM pl ADD COLUMN "timestamp" timestamptz';
    DROP STREAM pl;
END $$;
CREATE FUNCTION make_stream(name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE STREAM %I (value bigint) WITH (connector = rate, paused)', name);
END $$;
SELECT make_stream('made');
DROP STREAM made;
CREATE FUNCTION sql_drop() RETURNS void LANGUAGE sql AS 'DROP STREAM IF EXISTS nothing';
SELECT sql_drop();
BEGIN;
CREATE STREAM gone (value bigint) WITH (connector = 'rate', paused);
ROLLBACK;
SELECT count(*) FROM pg_class WHERE relname = 'gone';
BEGIN;
SAVEPOINT a;
CREATE STREAM gone (value bigint,);
ROLLBACK TO a;
CREATE STREAM gone (value bigint) WITH (connector = 'rate', paused);
DROP STREAM gone;
COMMIT;

-- ---------------------------------------------------------------------
-- Other SQL keeps its meaning
-- ---------------------------------------------------------------------
CREATE TABLE t (stream int, "drop" int, alter int);
ALTER TABLE t ALTER stream SET DEFAULT 1;
ALTER TABLE t DROP stream;
ALTER TABLE t ADD stream int DEFAULT 2;
ALTER TABLE t -- gone;
  DROP stream;
ALTER TABLE t /* ; */ ADD stream int DEFAULT 3;
ALTER TABLE t ADD "x;" int, DROP stream;
ALTER TABLE t ADD stream int DEFAULT 4, ALTER stream SET NOT NULL;
INSERT INTO t VALUES (1, 2);
SELECT stream, drop.stream AS stream, drop stream, drop, stream alter FROM t drop;
SELECT 1 AS create, stream FROM t;
SELECT 1 drop, stream FROM t AS stream;
SELECT stream.stream FROM t stream;
CREATE VIEW v AS SELECT stream FROM t;
ALTER VIEW v ALTER stream SET DEFAULT 5;
ALTER VIEW v ALTER COLUMN stream DROP DEFAULT;
CREATE FUNCTION stream(stream int) RETURNS int LANGUAGE sql AS 'SELECT stream + 1';
SELECT stream(stream), stream(stream => stream) FROM t;
CREATE TABLE stream (create_ int, stream text);
CREATE INDEX stream_stream ON stream (stream);
ALTER TABLE stream RENAME stream TO word;
DROP TABLE stream;
CREATE TYPE stream AS (stream int);
ALTER TYPE stream RENAME ATTRIBUTE stream TO x;
DROP TYPE stream;
DO $$
DECLARE
    stream int := 3;
    drop t%ROWTYPE;
BEGIN
    SELECT * INTO drop FROM t;
    RAISE NOTICE '% %', stream, drop.stream;
END $$;
SELECT quote_ident('drop'), quote_ident('stream'), quote_ident('table');
SELECT word FROM pg_get_keywords() WHERE word IN ('stream', 'table');
PREPARE drop AS SELECT 1 AS stream;
PREPARE keywords AS SELECT word FROM pg_get_keywords() WHERE word IN ('stream', 'table');
DROP STREAM IF EXISTS "nothing";
EXECUTE keywords;
DEALLOCATE ALL;

-- not at the start of a statement, or with something in between
CREATE SCHEMA syn2 CREATE STREAM s (value bigint);
CREATE OR REPLACE STREAM s (value bigint) WITH (connector = 'rate');
CREATE "x" STREAM s (value bigint);
COMMENT ON STREAM s1 IS 'x';

-- places of errors
CREATE STREAM;
CREATE STREAM s (value bigint,) WITH (connector = 'rate');
SELECT 1 \; CREATE STREAM s (value bigint CHECK (value > 0)) WITH (connector = 'rate');
DO $$ BEGIN CREATE STREAM s (value bigint DEFAULT 0) WITH (connector = 'rate'); END $$;

-- ---------------------------------------------------------------------
-- What a stream cannot have
-- ---------------------------------------------------------------------
CREATE STREAM s (value bigint PRIMARY KEY) WITH (connector = 'rate');
CREATE STREAM s (value bigint UNIQUE) WITH (connector = 'rate');
CREATE STREAM s (value bigint, UNIQUE (value)) WITH (connector = 'rate');
CREATE STREAM s (value bigint, CHECK (value > 0)) WITH (connector = 'rate');
CREATE STREAM s (value bigint REFERENCES t) WITH (connector = 'rate');
CREATE STREAM s (value bigint, EXCLUDE (value WITH =)) WITH (connector = 'rate');
CREATE STREAM s (value bigint GENERATED ALWAYS AS IDENTITY) WITH (connector = 'rate');
CREATE STREAM s (value bigint, x int GENERATED ALWAYS AS (1) STORED) WITH (connector = 'rate');
CREATE STREAM s (LIKE t) WITH (connector = 'rate');
CREATE STREAM s OF stream WITH (connector = 'rate');
CREATE STREAM s (value bigint) INHERITS (t) WITH (connector = 'rate');
CREATE STREAM s (value bigint) PARTITION BY HASH (value) WITH (connector = 'rate');
CREATE STREAM s PARTITION OF t DEFAULT WITH (connector = 'rate');
CREATE STREAM s (value bigint) WITH (connector = 'rate') TABLESPACE pg_default;
CREATE STREAM s (value bigint) WITH (connector = 'rate') ON COMMIT DROP;
CREATE STREAM s (value bigint) USING heap WITH (connector = 'rate');
CREATE TEMP STREAM s (value bigint) WITH (connector = 'rate');
CREATE LOCAL TEMPORARY STREAM s (value bigint) WITH (connector = 'rate');
CREATE UNLOGGED STREAM s (value bigint) WITH (connector = 'rate');
CREATE STREAM s (value bigint);

PREPARE p AS SELECT 1;
CREATE STREAM s AS EXECUTE p;
CREATE STREAM s AS SELECT value FROM s1 WITH NO DATA;
CREATE TEMP STREAM s AS SELECT value FROM s1;
CREATE STREAM s USING heap AS SELECT value FROM s1;
CREATE STREAM s AS SELECT value INTO x FROM s1;
DO $$ DECLARE x int := 1; BEGIN CREATE STREAM s AS SELECT value + x FROM s1; END $$;
CREATE MATERIALIZED VIEW s AS SELECT value FROM s1 WITH NO DATA;
DEALLOCATE p;

-- ---------------------------------------------------------------------
-- ALTER and DROP
-- ---------------------------------------------------------------------
ALTER STREAM s1 OPTIONS (ADD event_time 'timestamp', ADD watermark '5 seconds');
ALTER STREAM s1 OPTIONS (SET watermark '10 seconds');
ALTER STREAM s1 OPTIONS (DROP watermark, DROP event_time);
-- the columns of a rate stream are given; a queue takes any
ALTER STREAM s1 ADD COLUMN extra int;
ALTER STREAM s1 RENAME COLUMN value TO v;
DROP STREAM s1;
CREATE STREAM s1 (value bigint) WITH (connector = 'queue', paused);
ALTER STREAM s1 ADD COLUMN extra int, ADD other int OPTIONS (path '$.x') NOT NULL;
ALTER STREAM s1 ALTER extra SET NOT NULL, ALTER extra TYPE bigint, DROP other;
ALTER STREAM s1 DROP COLUMN extra;
ALTER STREAM s1 RENAME COLUMN value TO v;
ALTER STREAM s1 RENAME TO s0;
CREATE SCHEMA other;
ALTER STREAM s0 SET SCHEMA other;
ALTER STREAM other.s0 OWNER TO CURRENT_USER;
ALTER STREAM IF EXISTS nothing RENAME TO x;
ALTER STREAM nothing RENAME TO x;
ALTER STREAM other.s0 ADD COLUMN extra int DEFAULT 1;
ALTER STREAM other.s0 ADD CHECK (v > 0);
ALTER STREAM other.s0 SET TABLESPACE pg_default;
ALTER STREAM ALL IN TABLESPACE pg_default SET TABLESPACE pg_default;
SELECT ftoptions FROM pg_foreign_table WHERE ftrelid = 'other.s0'::regclass;

CREATE STREAM d1 AS SELECT v FROM other.s0 WHERE v > 0;
CREATE STREAM d2 AS SELECT v FROM d1;
CREATE STREAM IF NOT EXISTS d2 AS SELECT v FROM d1;
ALTER STREAM d2 RENAME COLUMN v TO w;
ALTER STREAM d2 RENAME TO d3;
ALTER STREAM d3 ADD COLUMN x int;
ALTER STREAM d3 SET SCHEMA other;
CREATE STREAM k1 WITH (connector = 'table', table = 'syn.kept') AS SELECT w FROM other.d3;
ALTER STREAM k1 OPTIONS (SET table 'elsewhere');
ALTER STREAM k1 ADD COLUMN x int;

-- EXPLAIN shows the maintenance plan, and makes nothing
CREATE FUNCTION explains(statement text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    line text;
BEGIN
    EXECUTE statement INTO line;
    RETURN length(line) > 0;
END $$;
SELECT explains('EXPLAIN CREATE STREAM d4 AS SELECT v FROM d1');
SELECT explains('EXPLAIN (ANALYZE, COSTS off) CREATE STREAM d4 AS SELECT v FROM d1');
SELECT explains('explain analyze verbose create /* */ stream d4 AS SELECT v FROM d1');
SELECT explains('EXPLAIN ANALYZE CREATE MATERIALIZED VIEW d4 AS SELECT count(*) FROM d1');
EXPLAIN (COSTS off) CREATE MATERIALIZED VIEW d4 AS SELECT 1;
EXPLAIN (COSTS off) CREATE TABLE d4 AS SELECT 1;
EXPLAIN (FORMAT json) CREATE STREAM d4 AS SELECT v FROM d1;
SELECT to_regclass('d4') AS d4;

ALTER STREAM t ADD x int;
DROP STREAM t;
DROP STREAM v;
DROP STREAM nothing;
DROP STREAM other.s0;
DROP STREAM other.s0, d1, other.d3;
DROP STREAM IF EXISTS nothing, other.s0, d1, k1, other.d3;
DROP STREAM syn."S; 2", s3;
SELECT relation FROM streamext.stream JOIN pg_class c ON c.oid = relation
WHERE relnamespace IN ('syn'::regnamespace, 'other'::regnamespace);

-- ---------------------------------------------------------------------
-- Continuous views answer to statements about materialized views
-- ---------------------------------------------------------------------
CREATE STREAM clicks (url text, n int) WITH (connector = 'queue', paused);
CREATE MATERIALIZED VIEW hits AS SELECT url, count(*) AS n, avg(n) AS a FROM clicks GROUP BY url;
CREATE MATERIALIZED VIEW IF NOT EXISTS hits AS SELECT url, count(*) AS n FROM clicks GROUP BY url;
CREATE MATERIALIZED VIEW plain AS SELECT 1 AS one;
COMMENT ON MATERIALIZED VIEW hits IS 'clicks by url';
SELECT obj_description('hits'::regclass);
CREATE INDEX hits_url ON hits (url);
SELECT tablename = split_part((SELECT state::text FROM streamext.step WHERE relation = 'hits'::regclass), '.', 2) AS on_state
FROM pg_indexes WHERE indexname = 'hits_url';
CREATE INDEX ON hits (a);
CREATE INDEX ON hits (nothing);
CREATE INDEX ON hits (lower(url));
CREATE UNIQUE INDEX ON hits (n);
CREATE INDEX CONCURRENTLY ON hits (url);
REFRESH MATERIALIZED VIEW hits;
REFRESH MATERIALIZED VIEW plain;
CREATE OR REPLACE VIEW hits AS SELECT 'x'::text AS url, 1::bigint AS n, 2::numeric AS a;
ALTER MATERIALIZED VIEW hits RENAME COLUMN n TO m;
ALTER MATERIALIZED VIEW hits RENAME TO hits2;
ALTER MATERIALIZED VIEW hits2 SET (fillfactor = 50);
ALTER MATERIALIZED VIEW hits2 SET SCHEMA other;
DROP STREAM other.hits2;
DROP MATERIALIZED VIEW plain, other.hits2;
DROP STREAM clicks;

DROP SCHEMA syn, other CASCADE;
