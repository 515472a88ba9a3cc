-- The connector 'table': the new rows of a table, once each.  What needs several sessions
-- is in specs/source_table_order.spec.
SET timezone = 'UTC';
CREATE SCHEMA st;
SET search_path = st, public;
CREATE TABLE orders (id bigint PRIMARY KEY, gone int, v text, price numeric(10, 2),
                     twice bigint GENERATED ALWAYS AS (id * 2) STORED);
ALTER TABLE orders DROP COLUMN gone;
INSERT INTO orders (id, v) VALUES (1, 'before');
CREATE STREAM s (twice bigint, id bigint, v text, no bigint OPTIONS (metadata 'offset'))
    WITH (connector = 'table', table = 'orders', max_batch_rows = 100, paused);
SELECT ftoptions FROM pg_foreign_table WHERE ftrelid = 's'::regclass;
SELECT tgname, tgenabled, tgisinternal FROM pg_trigger WHERE tgrelid = 'orders'::regclass;
CREATE MATERIALIZED VIEW got AS SELECT streamext.batch_id() AS batch, id, v, twice FROM s;
SET search_path = public;

-- nothing new, nothing to do
SELECT batch_id, rows FROM streamext.step('st.s');

-- one row, many rows, COPY, a rollback, savepoints
INSERT INTO st.orders (id, v) VALUES (2, 'one');
INSERT INTO st.orders (id, v) SELECT i, NULL FROM generate_series(3, 5) i;
COPY st.orders (id, v) FROM stdin;
6	copied
7	\N
\.
BEGIN;
INSERT INTO st.orders (id) VALUES (100);
ROLLBACK;
BEGIN;
INSERT INTO st.orders (id, v) VALUES (8, 'kept');
SAVEPOINT a;
INSERT INTO st.orders (id) VALUES (101);
ROLLBACK TO a;
INSERT INTO st.orders (id, v) VALUES (9, 'kept too');
COMMIT;
SELECT id, v, no > 0 AS numbered FROM st.s ORDER BY no;

-- updates, deletes and what ON CONFLICT updates are no new rows; MERGE's inserts are
UPDATE st.orders SET v = 'updated' WHERE id = 2;
DELETE FROM st.orders WHERE id = 3;
INSERT INTO st.orders (id, v) VALUES (2, 'x'), (10, 'new') ON CONFLICT (id) DO UPDATE SET v = 'conflict';
INSERT INTO st.orders (id, v) VALUES (2, 'x') ON CONFLICT DO NOTHING;
MERGE INTO st.orders o USING (VALUES (10), (11)) n (id) ON o.id = n.id
    WHEN MATCHED THEN UPDATE SET v = 'merged' WHEN NOT MATCHED THEN INSERT (id, v) VALUES (n.id, 'merged');
WITH d AS (INSERT INTO st.orders (id, v) VALUES (12, 'cte') RETURNING id) SELECT * FROM d;

-- a big value leaves the table's TOAST
INSERT INTO st.orders (id, v) SELECT 13, string_agg(md5(i::text), '') FROM generate_series(1, 1000) i;
BEGIN;
SELECT batch_id, rows FROM streamext.step('st.s');
ROLLBACK;
DELETE FROM st.orders WHERE id = 13;
SELECT batch_id, rows FROM streamext.step('st.s');
SELECT batch, id, twice, left(v, 20) AS v, length(v) FROM st.got ORDER BY id;
TRUNCATE st.orders;
SELECT batch_id, rows FROM streamext.step('st.s');

-- whatever session_replication_role says
SET session_replication_role = replica;
INSERT INTO st.orders (id) VALUES (20);
RESET session_replication_role;
SELECT batch_id, rows FROM streamext.step('st.s');

-- columns: renamed on either side, used ones cannot go or change
ALTER TABLE st.orders RENAME COLUMN v TO what;
ALTER STREAM st.s RENAME COLUMN id TO order_id;
ALTER TABLE st.orders RENAME TO sales;
INSERT INTO st.sales (id, what) VALUES (21, 'renamed');
SELECT order_id, v FROM st.s;
SELECT batch_id, rows FROM streamext.step('st.s');
SELECT * FROM st.got WHERE id >= 20 ORDER BY id;
ALTER TABLE st.sales DROP COLUMN what;
ALTER TABLE st.sales ALTER COLUMN what TYPE varchar(10);
ALTER TABLE st.sales ADD COLUMN more int DEFAULT 5;
ALTER STREAM st.s ADD COLUMN more int;
ALTER STREAM st.s ADD COLUMN price numeric;
ALTER STREAM st.s ADD COLUMN none int;
ALTER STREAM st.s DROP COLUMN twice;
DROP MATERIALIZED VIEW st.got;
ALTER STREAM st.s DROP COLUMN twice;
SELECT tgname, encode(tgargs, 'escape') FROM pg_trigger WHERE tgrelid = 'st.sales'::regclass;
ALTER TABLE st.sales DROP COLUMN twice;
INSERT INTO st.sales (id, what, price) VALUES (22, 'more', 1.5);
SELECT order_id, v, more, price FROM st.s;
ALTER STREAM st.s OPTIONS (SET table 'st.other');

-- dependencies
DROP TRIGGER streamext_s ON st.sales;
DROP TABLE st.sales;
DROP FUNCTION streamext.feed_stream();
INSERT INTO st.s (order_id) VALUES (1);
DROP STREAM st.s;
SELECT tgname FROM pg_trigger WHERE tgrelid = 'st.sales'::regclass;
SELECT to_regclass('streamext_state.s_log');
INSERT INTO st.sales (id) VALUES (23);

-- start = earliest: the rows that are there as well
CREATE STREAM st.s (id bigint) WITH (connector = 'table', table = 'st.sales', start = 'earliest', paused);
CREATE STREAM st.s2 (id bigint, price numeric(10, 2)) WITH (connector = 'table', table = 'st.sales', start = 'latest', paused);
CREATE MATERIALIZED VIEW st.v AS SELECT id FROM st.s;
INSERT INTO st.sales (id) VALUES (24);
SELECT batch_id, rows FROM streamext.step('st.s');
SELECT * FROM st.v ORDER BY id;
SELECT * FROM st.s2;
SELECT tgname FROM pg_trigger WHERE tgrelid = 'st.sales'::regclass ORDER BY 1;
DROP TABLE st.sales CASCADE;
SELECT count(*) FROM pg_class WHERE relname IN ('s_log', 's2_log');

-- what the stream does not allow is a dead letter, not an error of the insert
CREATE TABLE st.loose (a int, f float8);
CREATE STREAM st.strict (a int NOT NULL, f float8) WITH (connector = 'table', table = 'st.loose', paused);
CREATE MATERIALIZED VIEW st.sv AS SELECT a, f FROM st.strict;
INSERT INTO st.loose VALUES (1, 1), (NULL, 2), (3, 'NaN'), (4, 4);
SELECT a, f FROM st.strict ORDER BY a;
SELECT batch_id, rows, dead_letters FROM streamext.step('st.strict');
SELECT * FROM st.sv ORDER BY a;
SELECT message, convert_from(value, 'UTF8') FROM streamext.dead_letters WHERE stream = 'st.strict'::regclass ORDER BY 1;

-- partitions, with columns in another order, old, new and two levels deep
CREATE TABLE st.parts (k int, v text, extra int) PARTITION BY RANGE (k);
CREATE TABLE st.p0 (extra int, v text, k int NOT NULL);
ALTER TABLE st.parts ATTACH PARTITION st.p0 FOR VALUES FROM (0) TO (10);
CREATE STREAM st.ps (v text, k int) WITH (connector = 'table', table = 'st.parts', paused);
CREATE TABLE st.p1 PARTITION OF st.parts FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (k);
CREATE TABLE st.p1a (v text, extra int, k int);
ALTER TABLE st.p1 ATTACH PARTITION st.p1a FOR VALUES FROM (10) TO (15);
INSERT INTO st.parts VALUES (1, 'routed', 0), (11, 'routed deep', 0);
INSERT INTO st.p0 VALUES (0, 'direct', 2);
ALTER TABLE st.parts RENAME COLUMN v TO w;
INSERT INTO st.p1a VALUES ('direct deep', 0, 12);
ALTER TABLE st.parts DETACH PARTITION st.p0;
INSERT INTO st.p0 VALUES (0, 'detached', 3);
SELECT k, v FROM st.ps ORDER BY k;
ALTER STREAM st.ps ADD COLUMN extra int;
INSERT INTO st.parts VALUES (13, 'altered', 7);
SELECT k, v, extra FROM st.ps ORDER BY k;
-- one partition alone
CREATE STREAM st.one (k int) WITH (connector = 'table', table = 'st.p1a', paused);
INSERT INTO st.parts VALUES (14, 'both', 7);
SELECT k FROM st.one;
DROP STREAM st.ps, st.one;
SELECT count(*) FROM pg_trigger WHERE tgname IN ('streamext_ps', 'streamext_one');

-- what cannot be followed
CREATE VIEW st.a_view AS SELECT 1 AS a;
CREATE MATERIALIZED VIEW st.a_matview AS SELECT 1 AS a;
CREATE UNLOGGED TABLE st.unlogged (a int);
CREATE TEMP TABLE temporary (a int);
CREATE SEQUENCE st.a_sequence;
CREATE TABLE st.plain (a int, c varchar(5));
CREATE STREAM st.x (a int) WITH (connector = 'table');
CREATE STREAM st.x (a int) WITH (connector = 'table', table = 'st.nothing');
CREATE STREAM st.x (a int) WITH (connector = 'table', table = 'st.a_view');
CREATE STREAM st.x (a int) WITH (connector = 'table', table = 'st.a_matview');
CREATE STREAM st.x (a int) WITH (connector = 'table', table = 'st.unlogged');
CREATE STREAM st.x (a int) WITH (connector = 'table', table = 'temporary');
CREATE STREAM st.x (a int) WITH (connector = 'table', table = 'st.a_sequence');
CREATE STREAM st.x (a int) WITH (connector = 'table', table = 'st.strict');
CREATE STREAM st.x (relname name) WITH (connector = 'table', table = 'pg_class');
CREATE STREAM st.x (id int) WITH (connector = 'table', table = 'streamext.pipeline');
CREATE STREAM st.x (a int) WITH (connector = 'table', table = 'streamext_state.strict_log');
CREATE STREAM st.x (b int) WITH (connector = 'table', table = 'st.plain');
CREATE STREAM st.x (a bigint) WITH (connector = 'table', table = 'st.plain');
CREATE STREAM st.x (c varchar(4)) WITH (connector = 'table', table = 'st.plain');
CREATE STREAM st.x (ctid tid) WITH (connector = 'table', table = 'st.plain');
CREATE STREAM st.x (a int) WITH (connector = 'table', table = 'st.plain', start = '2020-01-01');
CREATE STREAM st.x (a int) WITH (connector = 'table', table = 'st.plain', key = 'a');
-- a trigger of one's own feeds nothing
CREATE TRIGGER mine AFTER INSERT ON st.plain FOR EACH ROW EXECUTE FUNCTION streamext.feed_stream('1:1');
INSERT INTO st.plain VALUES (1);
DROP TRIGGER mine ON st.plain;
-- the standard form is a source as well; a sink is made by AS SELECT
CREATE FOREIGN TABLE st.x (a int) SERVER streamext OPTIONS (connector 'table', "table" 'st.plain', paused 'on');
CREATE STREAM st.sink WITH (connector = 'table', table = 'st.copied', key = 'a') AS SELECT a FROM st.x;
INSERT INTO st.plain VALUES (1), (1), (2);
SELECT batch_id, rows FROM streamext.step('st.x');
SELECT * FROM st.copied ORDER BY a;
SELECT * FROM st.sink;
INSERT INTO st.sink VALUES (1);

-- who may: TRIGGER and SELECT, no row-level security in the way; inserting takes nothing more
CREATE ROLE source_table_owner;
CREATE ROLE source_table_writer;
GRANT USAGE ON FOREIGN SERVER streamext TO source_table_owner;
GRANT USAGE ON SCHEMA st TO source_table_owner, source_table_writer;
CREATE SCHEMA st_owned AUTHORIZATION source_table_owner;
GRANT INSERT ON st.plain TO source_table_writer;
GRANT SELECT ON st.plain TO source_table_owner;
SET ROLE source_table_owner;
CREATE STREAM st_owned.o (a int) WITH (connector = 'table', table = 'st.plain', paused);
RESET ROLE;
GRANT TRIGGER ON st.plain TO source_table_owner;
ALTER TABLE st.plain ENABLE ROW LEVEL SECURITY;
SET ROLE source_table_owner;
CREATE STREAM st_owned.o (a int) WITH (connector = 'table', table = 'st.plain', paused);
RESET ROLE;
ALTER TABLE st.plain DISABLE ROW LEVEL SECURITY;
SET ROLE source_table_owner;
CREATE STREAM st_owned.o (a int) WITH (connector = 'table', table = 'st.plain', paused);
CREATE TRIGGER mine AFTER INSERT ON st.plain FOR EACH ROW EXECUTE FUNCTION streamext.feed_stream('1:1');
SET ROLE source_table_writer;
INSERT INTO st.plain VALUES (77);
SELECT * FROM streamext_state.o_log;
SET ROLE source_table_owner;
SELECT * FROM st_owned.o;
RESET ROLE;

SET client_min_messages = warning;
DROP SCHEMA st_owned CASCADE;
DROP SCHEMA st CASCADE;
DROP TABLE temporary;
SELECT count(*) FROM pg_class WHERE relnamespace = 'streamext_state'::regnamespace AND relname ~ 'strict|_log|st_';
REVOKE USAGE ON FOREIGN SERVER streamext FROM source_table_owner;
DROP ROLE source_table_owner, source_table_writer;

-- existing rows of foreign partitions are not copied: they would be read with the rights of the extension's owner
CREATE STREAM st_foreign (a int) WITH (connector = 'queue', paused);
CREATE TABLE st_parts (a int) PARTITION BY LIST (a);
CREATE TABLE st_parts_1 PARTITION OF st_parts FOR VALUES IN (1, 2) PARTITION BY LIST (a);
ALTER TABLE st_parts_1 ATTACH PARTITION st_foreign FOR VALUES IN (1);
CREATE STREAM st_copy (a int) WITH (connector = 'table', table = 'st_parts', start = 'earliest', paused);
CREATE STREAM st_copy (a int) WITH (connector = 'table', table = 'st_parts', paused);
DROP STREAM st_copy;
DROP TABLE st_parts;
