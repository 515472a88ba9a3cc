-- ALTER of streams, views and sinks: each form works with the pipeline, or says what to do.
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SET client_min_messages = notice;
CREATE SCHEMA alter_objects;
SET search_path = alter_objects, public;
CREATE ROLE sx_first;
CREATE ROLE sx_second;
CREATE ROLE sx_third;
GRANT ALL ON SCHEMA alter_objects TO sx_first, sx_second, sx_third;
GRANT USAGE ON FOREIGN SERVER streamext TO sx_first, sx_second, sx_third;
CREATE VIEW owners AS
    SELECT c.oid::regclass AS relation, c.relowner::regrole AS owner FROM pg_class c
    WHERE c.relkind IN ('r', 'v', 'f') AND (c.relnamespace = 'streamext_state'::regnamespace OR c.relnamespace = 'alter_objects'::regnamespace)
    AND pg_get_userbyid(c.relowner) LIKE 'sx\_%'
    UNION ALL SELECT 'streamext.pipeline', owner FROM streamext.pipeline;
GRANT SELECT ON owners TO PUBLIC;
SET ROLE sx_first;

CREATE STREAM q (k text, v int, ts timestamptz) WITH (connector = 'queue', event_time = 'ts', watermark = '1 minute', paused);
CREATE STREAM rows AS SELECT k, v FROM q WHERE v > 0;
CREATE STREAM sums AS SELECT k, sum(v) AS s FROM q GROUP BY k;
CREATE STREAM win WITH (window = '8 batches') AS SELECT k, v FROM q;
CREATE STREAM win_sums AS SELECT k, sum(v) AS s FROM win GROUP BY k;
CREATE TABLE begin_with (k text, state bigint);
INSERT INTO begin_with VALUES ('z', 26);
CREATE FUNCTION add_up(state bigint, k text, v int[]) RETURNS bigint LANGUAGE sql AS 'SELECT coalesce(state, 0) + coalesce((SELECT sum(x) FROM unnest(v) x), 0)';
CREATE STREAM totals WITH (update_state = 'add_up', key = 'k', initial_state = 'begin_with') AS SELECT k, v FROM q;
CREATE STREAM totals_t WITH (connector = 'table', table = 'totals_out', key = 'k') AS SELECT * FROM totals;
CREATE STREAM win_t WITH (connector = 'table', table = 'win_out') AS SELECT streamext.batch_id() AS b, * FROM win_sums;
CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS n FROM rows GROUP BY k;
CREATE MATERIALIZED VIEW nodes AS SELECT n, count(*) AS keys FROM (SELECT k, count(*) AS n FROM q GROUP BY k) x GROUP BY n;
CREATE MATERIALIZED VIEW slow WITH (emit = '1 minute') AS SELECT k, max(v) AS m FROM q GROUP BY k;
INSERT INTO q VALUES ('a', 1, '2024-01-01'), ('b', 2, '2024-01-01');
SELECT batch_id, rows FROM streamext.step('q', '2024-01-01 00:00');

-- ---------------------------------------------------------------- names
ALTER STREAM totals RENAME TO totals2;
ALTER STREAM win RENAME TO win2;
ALTER MATERIALIZED VIEW v RENAME TO v2;
ALTER STREAM totals_t RENAME TO totals_t2;
ALTER FUNCTION add_up RENAME TO add_it_up;
ALTER TABLE begin_with RENAME TO "Begin with";
ALTER TABLE totals_out RENAME TO totals_out2;
INSERT INTO q VALUES ('a', 3, '2024-01-01');
SELECT batch_id, rows FROM streamext.step('q', '2024-01-01 00:01');
SELECT ftrelid::regclass, ftoptions FROM pg_foreign_table WHERE ftrelid IN ('totals2'::regclass, 'totals_t2'::regclass) ORDER BY 1;
SELECT * FROM totals_out2 ORDER BY k;
RESET ROLE;
SELECT relation, options FROM streamext.step WHERE relation IN ('totals2'::regclass, 'totals_t2'::regclass) ORDER BY seq;
ALTER SCHEMA alter_objects RENAME TO altered_objects;
SET search_path = altered_objects, public;
SELECT relation, options FROM streamext.step WHERE relation IN ('totals2'::regclass, 'totals_t2'::regclass) ORDER BY seq;
ALTER SCHEMA altered_objects RENAME TO alter_objects;
SET search_path = alter_objects, public;
SET ROLE sx_first;
-- reset takes the initial state under its new name
SELECT streamext.reset('q');
SELECT k, state FROM streamext_state.totals ORDER BY k;
INSERT INTO q VALUES ('a', 1, '2024-01-01');
SELECT batch_id, rows FROM streamext.step('q', '2024-01-01 00:02');
TABLE v2 ORDER BY k;

-- ---------------------------------------------------------------- columns and options
ALTER STREAM sums ADD COLUMN x int;
ALTER STREAM win2 ALTER COLUMN v TYPE bigint;
ALTER STREAM totals_t2 DROP COLUMN state;
ALTER STREAM totals2 RENAME COLUMN state TO other;
ALTER STREAM win2 OPTIONS (SET window '4 batches');
ALTER STREAM rows ADD COLUMN x int;
ALTER STREAM rows OPTIONS (ADD a 'b');
ALTER MATERIALIZED VIEW v2 ADD COLUMN x int;
ALTER MATERIALIZED VIEW v2 ALTER COLUMN n SET STATISTICS 100;
ALTER STREAM q OPTIONS (SET kind 'sink');
ALTER FOREIGN TABLE q OPTIONS (DROP kind);
CREATE STREAM kinds (x int) WITH (connector = 'queue', kind = 'source');
ALTER STREAM rows RENAME COLUMN v TO v3;
ALTER MATERIALIZED VIEW v2 RENAME COLUMN n TO number;
ALTER STREAM q ADD COLUMN more text;
ALTER STREAM q ALTER COLUMN more TYPE varchar(10);
ALTER STREAM q OPTIONS (ADD max_batch_rows '10', SET watermark '2 minutes');
INSERT INTO q (k, v, ts) VALUES ('c', 1, '2024-01-01');
SELECT batch_id, rows FROM streamext.step('q', '2024-01-01 00:03');
ALTER STREAM q DROP COLUMN more;
ALTER STREAM q OPTIONS (DROP max_batch_rows);
INSERT INTO q (k, v, ts) VALUES ('c', 1, '2024-01-01');
SELECT batch_id, rows FROM streamext.step('q', '2024-01-01 00:04');
TABLE v2 ORDER BY k;
TABLE nodes ORDER BY n;

-- ---------------------------------------------------------------- owners
SELECT owner, count(*) FROM owners GROUP BY 1;
-- only to a role that one is a member of
ALTER STREAM q OWNER TO sx_second;
RESET ROLE;
-- a part of a pipeline alone
ALTER STREAM totals2 OWNER TO sx_second;
ALTER MATERIALIZED VIEW v2 OWNER TO sx_second;
ALTER VIEW v2 OWNER TO sx_second;
ALTER TABLE totals_t2 OWNER TO sx_second;
-- the source takes all along, tables and functions of the user's stay
ALTER STREAM q OWNER TO sx_second;
SELECT * FROM owners ORDER BY owner::text, relation::text COLLATE "C";
INSERT INTO q VALUES ('d', 1, '2024-01-01');
SELECT batch_id, rows FROM streamext.step('q', '2024-01-01 00:05');
GRANT INSERT, UPDATE, SELECT ON totals_out2, win_out TO sx_second;
SELECT batch_id, rows FROM streamext.step('q', '2024-01-01 00:05');
SET ROLE sx_second;
SELECT pipeline, owner FROM streamext.pipelines;
SELECT k, state FROM streamext_state.totals WHERE k = 'd';
RESET ROLE;
SET ROLE sx_first;
SELECT * FROM streamext.step('q');
RESET ROLE;
-- a derived stream that keeps nothing is like a view
ALTER STREAM sums OWNER TO sx_first;
SELECT * FROM owners WHERE relation::text ~ 'sums' ORDER BY relation::text COLLATE "C";
ALTER STREAM sums OWNER TO sx_second;
-- a pipeline over somebody else's stream is taken along as a whole
GRANT SELECT ON q TO sx_first;
SET ROLE sx_first;
BEGIN;
CREATE MATERIALIZED VIEW mine WITH (pipeline = 'mine') AS SELECT k FROM q;
CREATE MATERIALIZED VIEW mine_too WITH (pipeline = 'mine') AS SELECT v FROM q;
SELECT streamext.pause('mine');
COMMIT;
RESET ROLE;
ALTER MATERIALIZED VIEW mine OWNER TO sx_second;
SELECT pipeline, owner FROM streamext.pipelines ORDER BY 1;
-- REASSIGN OWNED, DROP ROLE, DROP OWNED
\set VERBOSITY terse
DROP ROLE sx_second;
\set VERBOSITY default
REASSIGN OWNED BY sx_second TO sx_third;
SELECT owner, count(*) FROM owners GROUP BY 1 ORDER BY owner::text;
GRANT INSERT, UPDATE, SELECT ON totals_out2, win_out TO sx_third;
INSERT INTO q VALUES ('e', 1, '2024-01-01');
SELECT batch_id, rows FROM streamext.step('q', '2024-01-01 00:06');
DROP OWNED BY sx_second;
DROP ROLE sx_second;
-- two owners of one pipeline would remain
CREATE ROLE sx_second;
GRANT ALL ON SCHEMA alter_objects TO sx_second;
GRANT USAGE ON FOREIGN SERVER streamext TO sx_second;
ALTER STREAM q OWNER TO sx_second;
SELECT owner, count(*) FROM owners GROUP BY 1 ORDER BY owner::text;

-- ---------------------------------------------------------------- indexes on state
SET ROLE sx_second;
CREATE INDEX mine_index ON streamext_state.totals (state);
CREATE INDEX ON streamext_state.totals (lower(k));
CREATE UNIQUE INDEX ON streamext_state.totals (state);
CREATE INDEX log_index ON streamext_state.q_log (_sx_written_at);
CREATE INDEX ON v2 (k);
SET ROLE sx_third;
CREATE INDEX ON streamext_state.totals (state);
SET ROLE sx_second;
INSERT INTO q VALUES ('f', 1, '2024-01-01');
RESET ROLE;
GRANT INSERT, UPDATE, SELECT ON totals_out2, win_out TO sx_second;
SELECT batch_id, rows FROM streamext.step('q', '2024-01-01 00:07');
SELECT indexname FROM pg_indexes WHERE schemaname = 'streamext_state' AND indexname ~ 'mine_index|log_index' ORDER BY 1;
SET ROLE sx_second;
DROP INDEX streamext_state.mine_index;
RESET ROLE;

-- ---------------------------------------------------------------- functions
SET ROLE sx_first;
CREATE OR REPLACE FUNCTION add_it_up(state bigint, k text, v int[]) RETURNS bigint LANGUAGE sql AS 'SELECT 1000::bigint';
RESET ROLE;
INSERT INTO q VALUES ('g', 1, '2024-01-01');
SELECT batch_id, rows FROM streamext.step('q', '2024-01-01 00:08');
SELECT k, state FROM streamext_state.totals WHERE k = 'g';
DROP FUNCTION add_it_up;

-- ---------------------------------------------------------------- a sink's table
-- ON CONFLICT goes by the collation of the index: another one means other duplicates
CREATE TABLE by_name (k text COLLATE "C", v int);
CREATE COLLATION IF NOT EXISTS no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE UNIQUE INDEX by_name_index ON by_name (k COLLATE no_case) NULLS NOT DISTINCT;
CREATE STREAM other (k text, v int) WITH (connector = 'queue', paused);
CREATE STREAM named WITH (connector = 'table', table = 'by_name', key = 'k') AS SELECT k, v FROM other;
CREATE UNIQUE INDEX ON by_name (k) NULLS NOT DISTINCT;
CREATE STREAM named WITH (connector = 'table', table = 'by_name', key = 'k') AS SELECT k, v FROM other;

SET client_min_messages = warning;
DROP STREAM other CASCADE;
DROP STREAM q CASCADE;
SELECT count(*) FROM pg_class WHERE relnamespace = 'streamext_state'::regnamespace;
SELECT count(*) FROM streamext.pipeline;
DROP SCHEMA alter_objects CASCADE;
DROP OWNED BY sx_first, sx_second, sx_third;
DROP ROLE sx_first, sx_second, sx_third;
