-- The connector 'socket': options and refusals.  What needs a peer is in t/050_socket.pl
-- and t/051_socket_crash.pl.
SET client_min_messages = warning;

-- what it cannot do without, and what it does not take
CREATE STREAM s (line text) WITH (connector = 'socket');
CREATE STREAM s (line text) WITH (connector = 'socket', host = '127.0.0.1');
CREATE STREAM s (line text) WITH (connector = 'socket', host = '', port = 9);
CREATE STREAM s (line text) WITH (connector = 'socket', host = '127.0.0.1', port = 0);
CREATE STREAM s (line text) WITH (connector = 'socket', host = '127.0.0.1', port = 65536);
CREATE STREAM s (line text) WITH (connector = 'socket', host = '127.0.0.1', port = 'http');
CREATE STREAM s (line text) WITH (connector = 'socket', host = '127.0.0.1', port = 9, framing = 'lines');
CREATE STREAM s (line text) WITH (connector = 'socket', host = '127.0.0.1', port = 9, max_record_bytes = 0);
CREATE STREAM s (line text) WITH (connector = 'socket', host = '127.0.0.1', port = 9, header);
CREATE STREAM s (line text) WITH (connector = 'socket', host = '127.0.0.1', port = 9, topic = 't');
CREATE STREAM s (line text) WITH (connector = 'rate', ack);
CREATE STREAM s (line text) WITH (connector = 'socket', host = '127.0.0.1', port = 9, durable = off, ack);
CREATE STREAM s (line text) WITH (connector = 'socket', host = '127.0.0.1', port = 9, durable = off, max_log_rows = 5);

-- durable: a log, of which the owner may read
CREATE STREAM s (line text, no bigint OPTIONS (metadata 'offset'), at timestamptz OPTIONS (metadata 'timestamp'), bytes bytea OPTIONS (metadata 'raw'))
    WITH (connector = 'socket', host = '127.0.0.1', port = 9, paused, max_batch_rows = 2);
\d streamext_state.s_log
SELECT obj_description('streamext_state.s_log'::regclass, 'pg_class');
SELECT stream, connector, format FROM streamext.streams WHERE stream = 's'::regclass;

-- batches are cut off the log (written here by hand)
CREATE MATERIALIZED VIEW s_all AS SELECT streamext.batch_id() AS batch, line, no, extract(year FROM at AT TIME ZONE 'UTC') AS year, bytes FROM s;
SELECT batch_id, rows FROM streamext.step('s');
INSERT INTO streamext_state.s_log VALUES (1, '2020-01-01 00:00:00Z', 'one'), (2, '2021-01-01 00:00:00Z', ''), (3, '2022-01-01 00:00:00Z', '\xff');
SELECT line, no FROM s WHERE no < 3;
BEGIN;
SELECT batch_id, rows FROM streamext.step('s');
ROLLBACK;
SELECT batch_id, rows FROM streamext.step('s');
SELECT position, end_position, lag FROM streamext.partition WHERE stream = 's'::regclass;
SELECT no, bytes FROM s;
SELECT batch_id, rows, dead_letters FROM streamext.step('s');
SELECT batch_id, rows FROM streamext.step('s');
SELECT * FROM s_all ORDER BY no;
SELECT "offset", value, sqlstate FROM streamext.dead_letters WHERE stream = 's'::regclass;

-- a gap in the numbers is no silent loss
INSERT INTO streamext_state.s_log VALUES (6, now(), 'six');
SELECT batch_id, rows FROM streamext.step('s');

-- reset() reads again what the log holds
SELECT streamext.reset('s');
SELECT batch_id, rows FROM streamext.step('s');

-- nothing goes in but through the socket; some things stay as they were created
INSERT INTO s VALUES ('x');
COPY s (line) FROM stdin;
x
\.
ALTER STREAM s OPTIONS (ADD durable 'off');
ALTER STREAM s OPTIONS (SET port '99999');
ALTER STREAM s OPTIONS (SET port '10', ADD ack 'on');
DROP TABLE streamext_state.s_log;

-- who may
CREATE ROLE source_socket_user;
GRANT CREATE ON SCHEMA public TO source_socket_user;
SET ROLE source_socket_user;
CREATE STREAM t (line text) WITH (connector = 'socket', host = '127.0.0.1', port = 9, paused);
RESET ROLE;
REVOKE CREATE ON SCHEMA public FROM source_socket_user;
DROP ROLE source_socket_user;

-- not durable: no log, and nothing to look at
CREATE STREAM u (line text) WITH (connector = 'socket', host = '127.0.0.1', port = 9, durable = off, paused);
SELECT to_regclass('streamext_state.u_log') IS NULL AS no_log;
SELECT * FROM u;

DROP STREAM s CASCADE;
SELECT to_regclass('streamext_state.s_log') IS NULL AS no_log;
DROP STREAM u;
