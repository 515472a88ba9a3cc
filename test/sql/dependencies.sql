-- What stands on what: drops, renames, options, shared pipelines, privileges.
SET timezone = 'UTC';
SET client_min_messages = warning;
CREATE SCHEMA dependencies;
SET search_path = dependencies, public;
-- what the catalogs of streamext hold, and what is left in streamext_state
CREATE VIEW left_over AS
    SELECT 'pipeline' AS what, name FROM streamext.pipeline
    UNION ALL SELECT 'progress', pipeline::text FROM streamext.progress
    UNION ALL SELECT 'source', stream::text FROM streamext.source
    UNION ALL SELECT 'partition', stream::text FROM streamext.partition
    UNION ALL SELECT 'stream', relation::text FROM streamext.stream
    UNION ALL SELECT 'step', relation::text FROM streamext.step
    UNION ALL SELECT 'step_progress', relation::text FROM streamext.step_progress
    UNION ALL SELECT 'batch', pipeline::text FROM streamext.batch
    UNION ALL SELECT 'dead_letter', stream::text FROM streamext.dead_letter
    UNION ALL SELECT 'file_taken', stream::text FROM streamext.file_taken
    UNION ALL SELECT 'relation', relname FROM pg_class
        WHERE relnamespace = 'streamext_state'::regnamespace AND relkind IN ('r', 'v', 'f', 'p');
TABLE left_over;

-- DROP STREAM: RESTRICT names what stands on it, CASCADE takes it along
CREATE TABLE users (id int PRIMARY KEY, name text);
INSERT INTO users VALUES (1, 'ada'), (2, 'grace');
CREATE STREAM clicks (user_id int, url text) WITH (connector = 'queue', paused);
CREATE STREAM pages AS SELECT user_id, url FROM clicks WHERE url LIKE '/p/%';
CREATE MATERIALIZED VIEW per_user AS SELECT name, count(*) AS n FROM pages JOIN users ON id = user_id GROUP BY name;
CREATE STREAM copy WITH (connector = 'table', table = 'copied') AS SELECT url FROM clicks;
CREATE VIEW on_top AS SELECT * FROM per_user;
INSERT INTO clicks VALUES (1, '/p/1'), (1, '/p/2'), (2, '/');
SELECT batch_id, rows FROM streamext.step('clicks');
SELECT what, count(*) FROM left_over GROUP BY 1 ORDER BY 1;
DROP STREAM clicks;
DROP STREAM pages;
DROP STREAM pages RESTRICT;
DROP TABLE users;
DROP MATERIALIZED VIEW per_user;
-- nothing of it has happened
SELECT * FROM on_top;
-- the state table, and the hidden view, are parts
DROP TABLE streamext_state.per_user;
DROP VIEW streamext_state.per_user_q;
DROP VIEW per_user;
-- a table that is joined, with CASCADE: the view goes, stream and sink go on
BEGIN;
DROP TABLE users CASCADE;
SELECT * FROM left_over WHERE what NOT IN ('progress', 'batch', 'partition') ORDER BY 1, 2;
INSERT INTO clicks VALUES (1, '/p/3');
COMMIT;
SELECT batch_id, rows FROM streamext.step('clicks');
-- the sink's target: a table of the user's
DROP TABLE copied;
DROP STREAM copy;
TABLE copied;
DROP TABLE copied;
SELECT * FROM left_over WHERE what NOT IN ('progress', 'batch', 'partition') ORDER BY 1, 2;
DROP STREAM clicks CASCADE;
TABLE left_over;

-- several in one statement, whatever the order
CREATE STREAM a (x int) WITH (connector = 'queue', paused);
CREATE STREAM b AS SELECT x FROM a;
CREATE STREAM c WITH (connector = 'null') AS SELECT x FROM b;
DROP STREAM a, c, b;
TABLE left_over;

-- DROP MATERIALIZED VIEW, also in a list with a plain one
CREATE STREAM a (x int) WITH (connector = 'queue', paused);
CREATE MATERIALIZED VIEW v AS SELECT x FROM a;
CREATE MATERIALIZED VIEW plain AS SELECT 1 AS x;
CREATE MATERIALIZED VIEW w AS SELECT count(*) FROM a;
DROP MATERIALIZED VIEW v, plain;
DROP MATERIALIZED VIEW IF EXISTS v, w;
SELECT * FROM left_over WHERE what NOT IN ('progress') ORDER BY 1, 2;
DROP FOREIGN TABLE a;
TABLE left_over;

-- DROP SCHEMA, DROP OWNED
CREATE SCHEMA other;
CREATE STREAM other.a (x int) WITH (connector = 'queue', paused);
CREATE MATERIALIZED VIEW v AS SELECT x FROM other.a;
CREATE STREAM other.s WITH (connector = 'null') AS SELECT x FROM other.a;
DROP SCHEMA other;
DROP SCHEMA other CASCADE;
TABLE left_over;
CREATE ROLE dependencies_owner;
GRANT USAGE, CREATE ON SCHEMA dependencies TO dependencies_owner;
GRANT USAGE ON FOREIGN SERVER streamext TO dependencies_owner;
SET ROLE dependencies_owner;
CREATE STREAM owned (x int) WITH (connector = 'queue', paused);
CREATE MATERIALIZED VIEW owned_view AS SELECT x FROM owned;
CREATE STREAM owned_sink WITH (connector = 'null') AS SELECT x FROM owned;
RESET ROLE;
DROP OWNED BY dependencies_owner;
TABLE left_over;

-- ROLLBACK of both
BEGIN;
CREATE STREAM a (x int) WITH (connector = 'queue', paused);
CREATE MATERIALIZED VIEW v AS SELECT x FROM a;
ROLLBACK;
TABLE left_over;
CREATE STREAM a (x int) WITH (connector = 'queue', paused);
CREATE MATERIALIZED VIEW v AS SELECT x FROM a;
INSERT INTO a VALUES (1);
BEGIN;
DROP STREAM a CASCADE;
SELECT count(*) FROM left_over;
SAVEPOINT s;
SELECT * FROM streamext.step('a');
ROLLBACK;
SELECT batch_id, rows FROM streamext.step('v');
TABLE v;

-- renames of everything while it goes on
CREATE TABLE t (id int PRIMARY KEY, name text);
INSERT INTO t VALUES (1, 'one'), (2, 'two');
DROP STREAM a CASCADE;
CREATE STREAM a (x int, y text, ts timestamptz, "off" bigint OPTIONS (metadata 'offset'))
    WITH (connector = 'queue', pipeline = 'going', event_time = 'ts', watermark = '0 s', paused);
CREATE STREAM d AS SELECT x, y, ts FROM a WHERE x > 0;
CREATE MATERIALIZED VIEW v AS SELECT tumble(ts, '1 minute') AS w, name, count(*) AS n, sum(x) AS s FROM d JOIN t ON id = x GROUP BY 1, 2;
CREATE STREAM k WITH (connector = 'table', table = 'target') AS SELECT x, y FROM d;
INSERT INTO a VALUES (1, 'a', '2024-01-01 00:00');
SELECT batch_id, rows FROM streamext.step('v');
ALTER STREAM a RENAME TO a2;
INSERT INTO a2 VALUES (1, 'b', '2024-01-01 00:00');
SELECT batch_id, rows FROM streamext.step('v');
ALTER STREAM d RENAME TO d2;
INSERT INTO a2 VALUES (1, 'c', '2024-01-01 00:00');
SELECT batch_id, rows FROM streamext.step('going');
ALTER TABLE t RENAME TO t2;
ALTER TABLE t2 RENAME COLUMN name TO label;
INSERT INTO a2 VALUES (1, 'd', '2024-01-01 00:00');
SELECT batch_id, rows FROM streamext.step('k');
ALTER MATERIALIZED VIEW v RENAME TO v2;
ALTER MATERIALIZED VIEW v2 RENAME COLUMN n TO number;
ALTER STREAM k RENAME TO k2;
INSERT INTO a2 VALUES (1, 'e', '2024-01-01 00:00');
SELECT batch_id, rows FROM streamext.step('v2');
ALTER TABLE target RENAME TO target2;
ALTER TABLE target2 RENAME COLUMN x TO x2;
INSERT INTO a2 VALUES (1, 'f', '2024-01-01 00:00');
SELECT batch_id, rows FROM streamext.step('k2');
CREATE SCHEMA moved;
ALTER STREAM a2 SET SCHEMA moved;
ALTER STREAM d2 SET SCHEMA moved;
ALTER STREAM k2 SET SCHEMA moved;
ALTER MATERIALIZED VIEW v2 SET SCHEMA moved;
ALTER TABLE t2 SET SCHEMA moved;
ALTER TABLE target2 SET SCHEMA moved;
INSERT INTO moved.a2 VALUES (1, 'g', '2024-01-01 00:00');
SELECT batch_id, rows FROM streamext.step('moved.v2');
ALTER SCHEMA moved RENAME TO moved2;
INSERT INTO moved2.a2 VALUES (2, 'h', '2024-01-01 00:00');
SELECT batch_id, rows FROM streamext.step('moved2.d2');
ALTER STREAM moved2.a2 RENAME COLUMN x TO x3;
ALTER STREAM moved2.a2 RENAME ts TO at;
ALTER STREAM moved2.a2 RENAME COLUMN "off" TO no;
INSERT INTO moved2.a2 VALUES (2, 'i', '2024-01-01 00:01');
SELECT batch_id, rows FROM streamext.step('going');
SELECT w, label, number, s FROM (SELECT * FROM moved2.v2) v(w, label, number, s) ORDER BY 1, 2;
SELECT * FROM moved2.v2 WHERE number > 0 ORDER BY 1, 2;
SELECT * FROM moved2.target2 ORDER BY y;
SELECT watermark FROM streamext.pipelines WHERE pipeline = 'going';
SELECT view, kind, state_table, rows FROM streamext.views ORDER BY view::text;
-- a new column, which nobody reads yet, and one less
ALTER STREAM moved2.a2 ADD COLUMN z int;
INSERT INTO moved2.a2 (x3, y, at, z) VALUES (2, 'j', '2024-01-01 00:01', 7);
CREATE MATERIALIZED VIEW zs WITH (backfill = off) AS SELECT z FROM moved2.a2;
SELECT batch_id, rows FROM streamext.step('going');
TABLE zs;
ALTER STREAM moved2.a2 DROP COLUMN z;
ALTER STREAM moved2.a2 DROP COLUMN z CASCADE;
ALTER STREAM moved2.a2 ALTER COLUMN x3 TYPE bigint;
-- the same by other words
ALTER FOREIGN TABLE moved2.a2 ADD COLUMN q varchar(3);
ALTER TABLE moved2.a2 RENAME COLUMN q TO r;
ALTER TABLE moved2.a2 ALTER COLUMN r TYPE text;
SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = 'streamext_state' AND table_name = 'a_log' ORDER BY ordinal_position;
INSERT INTO moved2.a2 (x3, y, at) VALUES (2, 'k', '2024-01-01 00:01');
SELECT batch_id, rows FROM streamext.step('going');
DROP STREAM moved2.a2 CASCADE;
DROP SCHEMA moved2 CASCADE;
TABLE left_over;

-- options: taken up by the next batch
CREATE STREAM a (x int, ts timestamptz) WITH (connector = 'queue', paused);
CREATE MATERIALIZED VIEW v AS SELECT x FROM a;
ALTER STREAM a OPTIONS (ADD max_batch_rows '2');
INSERT INTO a SELECT generate_series(1, 5);
SELECT batch_id, rows FROM streamext.step('a');
ALTER STREAM a OPTIONS (SET max_batch_rows '1', ADD event_time 'ts', ADD watermark '1 minute');
SELECT batch_id, rows FROM streamext.step('a');
ALTER STREAM a OPTIONS (DROP max_batch_rows);
SELECT batch_id, rows FROM streamext.step('a');
ALTER STREAM a OPTIONS (SET max_batch_rows '1');
ALTER STREAM a OPTIONS (ADD max_batch_rows 'many');
ALTER STREAM a OPTIONS (ADD max_bach_rows '1');
ALTER STREAM a OPTIONS (SET connector 'rate');
ALTER STREAM a OPTIONS (ADD pipeline 'elsewhere');
ALTER STREAM a OPTIONS (SET event_time 'x');
ALTER STREAM a OPTIONS (SET event_time 'nowhere');
ALTER STREAM a OPTIONS (SET paused 'off');
ALTER FOREIGN TABLE a OPTIONS (DROP connector);
ALTER TABLE a DROP COLUMN ts;
DROP STREAM a CASCADE;

-- views share the pipeline of their stream, and its batches
CREATE STREAM a (x int) WITH (connector = 'queue', paused);
CREATE MATERIALIZED VIEW v1 AS SELECT streamext.batch_id() AS b, x FROM a;
CREATE MATERIALIZED VIEW v2 AS SELECT streamext.batch_id() AS b, count(*) AS n FROM a GROUP BY 1;
INSERT INTO a VALUES (1), (2);
SELECT batch_id, rows FROM streamext.step('v1');
INSERT INTO a VALUES (3);
SELECT batch_id, rows FROM streamext.step('v2');
SELECT pipeline, views, sinks, batch_id FROM streamext.pipelines;
SELECT * FROM v1 ORDER BY x;
SELECT * FROM v2 ORDER BY b;
-- too late to see all
CREATE MATERIALIZED VIEW v3 WITH (backfill = off) AS SELECT x FROM a;
CREATE MATERIALIZED VIEW v4 WITH (pipeline = 'fresh') AS SELECT x FROM a;
SELECT streamext.pause('fresh');
INSERT INTO a VALUES (4);
SELECT batch_id, rows FROM streamext.step('a');
TABLE v3;
SELECT x FROM v1 ORDER BY x;
SELECT view, pipeline, first_batch FROM streamext.views ORDER BY view::text;
SELECT stream, pipelines FROM streamext.streams;
DROP STREAM a CASCADE;
TABLE left_over;

-- options of one pipeline have to agree
CREATE STREAM a (x int) WITH (connector = 'queue', pipeline = 'both', max_batch_rows = 10, paused);
CREATE STREAM b (x int) WITH (connector = 'queue', pipeline = 'both', max_batch_rows = 20, paused);
CREATE STREAM b (x int) WITH (connector = 'queue', pipeline = 'both', on_error = 'stop', paused);
CREATE STREAM c (x int) WITH (connector = 'queue', pipeline = 'both', on_error = 'skip', paused);
ALTER STREAM b OPTIONS (ADD max_batch_rows '20');
CREATE STREAM c (x int) WITH (connector = 'queue', max_batch_rows = 30, paused);
CREATE MATERIALIZED VIEW v AS SELECT x FROM a UNION ALL SELECT x FROM b;
SELECT view, pipeline FROM streamext.views;
CREATE MATERIALIZED VIEW w AS SELECT x FROM a UNION ALL SELECT x FROM c;
DROP STREAM a, b, c CASCADE;
TABLE left_over;

-- who may
CREATE ROLE dependencies_other;
GRANT USAGE, CREATE ON SCHEMA dependencies TO dependencies_owner, dependencies_other;
SET ROLE dependencies_owner;
CREATE STREAM forbidden (x int) WITH (connector = 'queue', paused);
CREATE FOREIGN TABLE forbidden (x int) SERVER streamext OPTIONS (connector 'queue');
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER streamext TO dependencies_owner;
SET ROLE dependencies_owner;
CREATE TABLE private (x int);
INSERT INTO private VALUES (1), (2);
CREATE STREAM mine (x int) WITH (connector = 'queue', paused);
CREATE MATERIALIZED VIEW mine_view AS SELECT m.x, 1 / (m.x - 2) AS q FROM mine m JOIN private USING (x);
CREATE STREAM mine_sink WITH (connector = 'table', table = 'mine_target', key = 'x') AS SELECT x FROM mine;
INSERT INTO mine VALUES (1), (2), (3);
SELECT batch_id, rows, dead_letters FROM streamext.step('mine');
TABLE mine_view;
SELECT * FROM mine_target ORDER BY x;
SELECT view, message FROM streamext.dead_letters;
SELECT pipeline, owner, batch_id FROM streamext.pipelines;
-- only streamext writes the state
UPDATE mine_view SET x = 1;
DELETE FROM streamext_state.mine_log;
CREATE INDEX ON mine_view (x);
SET ROLE dependencies_other;
SELECT * FROM streamext.step('mine');
SELECT * FROM streamext.step('mine_view');
SELECT streamext.pause('mine');
SELECT streamext.resume('mine');
SELECT streamext.run('mine');
SELECT streamext.reset('mine');
SELECT streamext.start_all();
SELECT count(*) FROM streamext.pipelines;
SELECT count(*) FROM streamext.streams;
SELECT count(*) FROM streamext.views;
SELECT count(*) FROM streamext.partitions;
SELECT count(*) FROM streamext.batches;
SELECT count(*) FROM streamext.dead_letters;
TABLE mine_view;
TABLE streamext_state.mine_view;
INSERT INTO mine VALUES (1);
SELECT * FROM mine;
DROP STREAM mine CASCADE;
-- without USAGE on the server: no stream; and nobody's pipeline can be joined
CREATE STREAM theirs (x int) WITH (connector = 'queue', pipeline = 'mine', paused);
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER streamext TO dependencies_other;
SET ROLE dependencies_other;
CREATE STREAM theirs (x int) WITH (connector = 'queue', pipeline = 'mine', paused);
CREATE MATERIALIZED VIEW theirs AS SELECT x FROM mine;
RESET ROLE;
GRANT SELECT ON mine TO dependencies_other;
SET ROLE dependencies_other;
CREATE MATERIALIZED VIEW theirs AS SELECT x FROM mine;
CREATE MATERIALIZED VIEW theirs WITH (pipeline = 'theirs') AS SELECT x FROM mine;
SELECT streamext.pause('theirs');
SELECT pipeline, owner FROM streamext.pipelines;
RESET ROLE;
-- a role's membership, and pg_monitor
GRANT dependencies_owner TO dependencies_other;
SET ROLE dependencies_other;
SELECT batch_id, rows FROM streamext.step('mine');
SELECT count(*) FROM streamext.dead_letters;
RESET ROLE;
CREATE ROLE dependencies_monitor IN ROLE pg_monitor;
SET ROLE dependencies_monitor;
SELECT pipeline FROM streamext.pipelines ORDER BY 1;
SELECT count(*) FROM streamext.dead_letters;
SELECT * FROM streamext.step('mine');
-- the batch runs with the rights of the pipeline's owner, not with the caller's
RESET ROLE;
CREATE TABLE secret (x int);
INSERT INTO secret VALUES (1);
SET ROLE dependencies_owner;
CREATE FUNCTION peek(int) RETURNS int STABLE LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT x FROM secret); END $$;
CREATE MATERIALIZED VIEW spying WITH (backfill = off) AS SELECT peek(x) AS p FROM mine;
INSERT INTO mine VALUES (1);
RESET ROLE;
SELECT batch_id, rows, dead_letters FROM streamext.step('mine');
SELECT current_user = session_user AS still_me;
DROP OWNED BY dependencies_owner, dependencies_other CASCADE;
TABLE left_over;

-- nothing of the catalog can be written, and only its views be read, by everybody
SELECT c.relname, acl.privilege_type, acl.grantee::regrole
FROM pg_class c, aclexplode(c.relacl) acl
WHERE c.relnamespace IN ('streamext'::regnamespace, 'streamext_state'::regnamespace) AND acl.grantee <> c.relowner
ORDER BY 1, 2;
SELECT p.oid::regprocedure FROM pg_proc p
WHERE pronamespace = 'streamext'::regnamespace AND prosecdef;
SET ROLE dependencies_monitor;
SELECT * FROM streamext.pipeline;
SELECT * FROM streamext.dead_letter;
SELECT streamext.mark_database();
RESET ROLE;
DROP ROLE dependencies_owner, dependencies_other, dependencies_monitor;
DROP SCHEMA dependencies CASCADE;
