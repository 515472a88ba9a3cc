-- A superuser may alter state and log tables (their owner may not: security.sql), and result
-- types of functions can be altered: what does not fit any more is refused, by name.
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SET client_min_messages = warning;
CREATE SCHEMA altered_tables;
SET search_path = altered_tables, public;
CREATE ROLE sx_alterer;
GRANT USAGE ON FOREIGN SERVER streamext TO sx_alterer;
GRANT ALL ON SCHEMA altered_tables TO sx_alterer;
SET ROLE sx_alterer;

-- ---------------------------------------------------------------- state tables
CREATE STREAM q (k text, v int) WITH (connector = 'queue', paused);
CREATE FUNCTION running(INOUT state int, k text, v int, OUT o int) LANGUAGE sql AS 'SELECT coalesce(state, 0) + v, v';
CREATE STREAM sums WITH (map_with_state = 'running', key = 'k', idle_timeout = '10 seconds') AS SELECT k, v FROM q;
CREATE STREAM sums_out WITH (connector = 'null') AS SELECT * FROM sums;
INSERT INTO q VALUES ('a', 1), ('b', 2);
SELECT batch_id, rows FROM streamext.step('q', '2024-01-01 00:00:00');
INSERT INTO q VALUES ('a', 1), ('b', 2);
RESET ROLE;
ALTER TABLE streamext_state.sums ALTER state TYPE text;
SET ROLE sx_alterer;
SELECT batch_id, rows FROM streamext.step('q', '2024-01-01 00:00:01');
RESET ROLE;
ALTER TABLE streamext_state.sums ALTER state TYPE int USING state::int, ALTER updated_at TYPE text;
SET ROLE sx_alterer;
SELECT batch_id, rows FROM streamext.step('q', '2024-01-01 00:00:01');
RESET ROLE;
ALTER TABLE streamext_state.sums ALTER updated_at TYPE timestamptz USING updated_at::timestamptz, ALTER k TYPE varchar;
SET ROLE sx_alterer;
SELECT batch_id, rows FROM streamext.step('q', '2024-01-01 00:00:01');
RESET ROLE;
ALTER TABLE streamext_state.sums ALTER k TYPE text;
SET ROLE sx_alterer;
-- as it was: it goes on
SELECT batch_id, rows FROM streamext.step('q', '2024-01-01 00:00:01');
SELECT k, state FROM streamext_state.sums ORDER BY k;

-- further indexes, which come first once the others have been rebuilt: not all rows
-- are in them, or not in that order
RESET ROLE;
CREATE UNIQUE INDEX own_keys ON streamext_state.sums (k) NULLS NOT DISTINCT WHERE state > 1000;
CREATE INDEX own_times ON streamext_state.sums (updated_at DESC);
CREATE INDEX own_recent ON streamext_state.sums (updated_at) WHERE state > 1000;
REINDEX INDEX CONCURRENTLY streamext_state.sums_k_idx;
REINDEX INDEX CONCURRENTLY streamext_state.sums_updated_at_idx;
SET ROLE sx_alterer;
INSERT INTO q VALUES ('a', 1), ('c', 3);
SELECT batch_id, rows, dead_letters FROM streamext.step('q', '2024-01-01 00:00:05');
SELECT k, state, updated_at FROM streamext_state.sums ORDER BY k;
-- b alone is due, then the others
SELECT batch_id, rows FROM streamext.step('q', '2024-01-01 00:00:11');
SELECT k, state, updated_at FROM streamext_state.sums ORDER BY k;
SELECT batch_id, rows FROM streamext.step('q', '2024-01-01 00:00:15');
SELECT k, state, updated_at FROM streamext_state.sums ORDER BY k;
DROP STREAM q CASCADE;

-- ---------------------------------------------------------------- result types
CREATE TYPE result AS (state int, o int);
CREATE STREAM q (k text, v int) WITH (connector = 'queue', paused);
CREATE FUNCTION typed(state int, k text, v int) RETURNS result LANGUAGE plpgsql AS
    $$ DECLARE r altered_tables.result; BEGIN r.state := coalesce(state, 0) + v; r.o := v; RETURN r; END $$;
CREATE STREAM t WITH (map_with_state = 'typed', key = 'k') AS SELECT k, v FROM q;
CREATE STREAM t_out WITH (connector = 'table', table = 't_t') AS SELECT * FROM t;
INSERT INTO q VALUES ('a', 1);
SELECT batch_id, rows FROM streamext.step('q');
INSERT INTO q VALUES ('a', 2);
ALTER TYPE result ALTER ATTRIBUTE o TYPE text;
SELECT batch_id, rows FROM streamext.step('q');
ALTER TYPE result ALTER ATTRIBUTE o TYPE int;
ALTER TYPE result ADD ATTRIBUTE more text;
SELECT batch_id, rows FROM streamext.step('q');
ALTER TYPE result DROP ATTRIBUTE more;
SELECT batch_id, rows FROM streamext.step('q');
SELECT * FROM t_t;
SELECT k, state FROM streamext_state.t;
DROP STREAM q CASCADE;

-- ---------------------------------------------------------------- tables that a crash would empty
CREATE STREAM q (k text, v int) WITH (connector = 'queue', paused);
CREATE STREAM q_out WITH (connector = 'table', table = 'q_t') AS SELECT * FROM q;
CREATE MATERIALIZED VIEW n AS SELECT k, count(*) AS n FROM q GROUP BY k;
INSERT INTO q VALUES ('a', 1);
ALTER TABLE q_t SET UNLOGGED;
SELECT batch_id, rows FROM streamext.step('q');
ALTER TABLE q_t SET LOGGED;
RESET ROLE;
ALTER TABLE streamext_state.n SET UNLOGGED;
SET ROLE sx_alterer;
SELECT batch_id, rows FROM streamext.step('q');
-- the error has left no transaction behind
SELECT now() = statement_timestamp() AS alone;
RESET ROLE;
ALTER TABLE streamext_state.n SET LOGGED;
SET ROLE sx_alterer;
SELECT batch_id, rows FROM streamext.step('q');
SELECT * FROM q_t;
DROP STREAM q CASCADE;
DROP TABLE q_t;

-- ---------------------------------------------------------------- logs
CREATE STREAM q (k text, v int) WITH (connector = 'queue', paused);
CREATE STREAM q_out WITH (connector = 'table', table = 'q_t') AS SELECT * FROM q;
INSERT INTO q VALUES ('a', 1);
RESET ROLE;
ALTER TABLE streamext_state.q_log ALTER _sx_written_at DROP DEFAULT, ALTER _sx_written_at TYPE text;
SET ROLE sx_alterer;
INSERT INTO q VALUES ('a', 2);
SELECT batch_id, rows FROM streamext.step('q');
SELECT * FROM q;
RESET ROLE;
ALTER TABLE streamext_state.q_log ALTER _sx_written_at TYPE timestamptz USING _sx_written_at::timestamptz;
SET ROLE sx_alterer;
SELECT batch_id, rows FROM streamext.step('q');
SELECT * FROM q_t;
DROP STREAM q CASCADE;
CREATE STREAM sock (line text) WITH (connector = 'socket', host = '127.0.0.1', port = '9', format = 'text', paused);
RESET ROLE;
ALTER TABLE streamext_state.sock_log ALTER value TYPE bigint USING 0;
SET ROLE sx_alterer;
SELECT * FROM sock;
DROP STREAM sock;

RESET ROLE;
DROP SCHEMA altered_tables CASCADE;
DROP OWNED BY sx_alterer;
DROP ROLE sx_alterer;
