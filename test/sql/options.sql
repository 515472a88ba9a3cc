--
-- Options of streams, views, servers and user mappings: the wrong ones are refused
-- with the nearest right one, the list, and what to write instead.
--
CREATE SCHEMA opt;
SET search_path = opt, public;

-- ---------------------------------------------------------------------
-- Names
-- ---------------------------------------------------------------------
CREATE STREAM s (a int) WITH (connector = 'kafka', brokers = 'localhost:9092', topic = 't', watermak = '5 seconds');
CREATE STREAM s (a int) WITH (connector = 'kafka', brokers = 'localhost:9092', topic = 't', "not like any other" = 1);
CREATE STREAM s (a int) WITH (connector = 'rate', topic = 't');
CREATE STREAM s (a int) WITH (connector = 'rate', retention = '1 day');
CREATE STREAM s (a int) WITH (connector = 'rate', rows_per_second = 1, rows_per_second = 2);
CREATE STREAM s (a int OPTIONS (paht '$.a')) WITH (connector = 'queue');
CREATE STREAM s (a int OPTIONS (metadata 'offest')) WITH (connector = 'queue');
CREATE FOREIGN TABLE s (a int) SERVER streamext OPTIONS (connector 'rate', rows_per_secnd '1');
CREATE FOREIGN TABLE s (a int) SERVER streamext;
CREATE SERVER k FOREIGN DATA WRAPPER streamext OPTIONS (broker 'localhost:9092');
CREATE FOREIGN DATA WRAPPER w HANDLER streamext.fdw_handler VALIDATOR streamext.fdw_validator OPTIONS (x 'y');

-- ---------------------------------------------------------------------
-- Connectors
-- ---------------------------------------------------------------------
CREATE STREAM s (a int) WITH (connector = 'kafak');
CREATE STREAM s (a int) WITH (connector = 'postgres');
CREATE STREAM s (a int) WITH (connector = 'null');
CREATE STREAM s (a int) WITH (connector = 'kafka');
CREATE STREAM s (a int) WITH (connector = 'file');
CREATE STREAM s (a int) WITH (topic = 't');

-- ---------------------------------------------------------------------
-- Values
-- ---------------------------------------------------------------------
CREATE STREAM s (value bigint) WITH (connector = 'rate', paused = 'perhaps');
CREATE STREAM s (value bigint) WITH (connector = 'rate', rows_per_second = 0);
CREATE STREAM s (value bigint) WITH (connector = 'rate', rows_per_second = '10x');
CREATE STREAM s (value bigint) WITH (connector = 'rate', max_batch_rows = 99999999999999999999);
CREATE STREAM s (value bigint) WITH (connector = 'rate', batch_interval = '1 month');
CREATE STREAM s (value bigint) WITH (connector = 'rate', batch_interval = 'soon');
CREATE STREAM s (value bigint) WITH (connector = 'rate', watermark = '-1 second');
CREATE STREAM s (value bigint) WITH (connector = 'rate', on_error = 'ignore');
CREATE STREAM s (value bigint) WITH (connector = 'rate', parallelism = 2);
CREATE STREAM s (value bigint) WITH (connector = 'rate', pipeline = '');
CREATE STREAM s (value bigint) WITH (connector = 'rate', synchronous_commit = 'local');
CREATE STREAM s (a int) WITH (connector = 'file', path = '/x', format = 'xml');
CREATE STREAM s (a int) WITH (connector = 'file', path = '/x', format = 'avro');
CREATE STREAM s (a int) WITH (connector = 'file', path = '/x', format = 'csv', delimiter = '||');
CREATE STREAM s (a int) WITH (connector = 'file', path = '/x', encoding = 'latin-nothing');
CREATE STREAM s (a int) WITH (connector = 'file', path = '/x', timezone = 'Mars/Olympus');
CREATE STREAM s (a int) WITH (connector = 'file', path = '/x', timestamp_format = 'days');
CREATE STREAM s (a int) WITH (connector = 'file', path = '/x', max_files_per_batch = -1);
CREATE STREAM s (a int) WITH (connector = 'kafka', topic = 't', start = 'yesterdayish');
CREATE STREAM s (a int) WITH (connector = 'kafka', topic = 't', start = '{"0": 42');
CREATE STREAM s (a int) WITH (connector = 'kafka', topic = 't', partitions = '3-1');
CREATE STREAM s (a int) WITH (connector = 'kafka', topic = 't', on_data_loss = 'weep');

-- ---------------------------------------------------------------------
-- Later work
-- ---------------------------------------------------------------------
CREATE STREAM s (a int) WITH (connector = 'kafka', topic_pattern = 't.*');
CREATE STREAM s (a int) WITH (connector = 'file', path = '/x', max_errors_per_hour = -1);
CREATE STREAM r (value bigint, "timestamp" timestamptz) WITH (connector = 'rate', paused, rows_per_batch = 10);
CREATE STREAM s WITH (connector = 'table', table = 't', delete_when = 'value > 1') AS SELECT value FROM r;
CREATE STREAM s WITH (map_with_state = 'f', key = 'value') AS SELECT value FROM r;
CREATE STREAM s WITH (deduplicate = 'value', within = 'soon') AS SELECT value FROM r;
CREATE STREAM s WITH (connector = 'kafka', topic = 't') AS SELECT value FROM r;
CREATE STREAM s WITH (connector = 'postgres') AS SELECT value FROM r;
CREATE STREAM s WITH (connector = 'table', table = 't', delete_when = 'true') AS SELECT value FROM r;

-- ---------------------------------------------------------------------
-- Sinks and views
-- ---------------------------------------------------------------------
CREATE STREAM s WITH (connector = 'rate') AS SELECT value FROM r;
CREATE STREAM s WITH (connector = 'table') AS SELECT value FROM r;
CREATE STREAM s WITH (connector = 'null', key = 'value') AS SELECT value FROM r;
CREATE STREAM s WITH (anything) AS SELECT value FROM r;
CREATE MATERIALIZED VIEW s WITH (emmit = 'final') AS SELECT count(*) FROM r;
CREATE MATERIALIZED VIEW s WITH (emit = 'sometimes') AS SELECT count(*) FROM r;
CREATE MATERIALIZED VIEW s WITH (emit = '0 seconds') AS SELECT count(*) FROM r;
CREATE MATERIALIZED VIEW s WITH (late = 'never') AS SELECT count(*) FROM r;
CREATE MATERIALIZED VIEW s WITH (retention = '1 year') AS SELECT count(*) FROM r;
CREATE MATERIALIZED VIEW s WITH (fillfactor = 70) AS SELECT count(*) FROM r;
-- a matview that reads no stream has PostgreSQL's own options
CREATE MATERIALIZED VIEW m WITH (fillfactor = 70) AS SELECT 1 AS one;
DROP MATERIALIZED VIEW m;

-- ---------------------------------------------------------------------
-- librdkafka properties and secrets
-- ---------------------------------------------------------------------
CREATE SERVER k FOREIGN DATA WRAPPER streamext
    OPTIONS (brokers 'localhost:9092', "security.protocol" 'sasl_ssl', "sasl.mechanism" 'PLAIN', "client.id" 'me');
CREATE STREAM s (a int) WITH (connector = 'kafka', topic = 't', server = 'k', paused, "fetch.wait.max.ms" = 50, client.rack = 'r1');
SELECT ftoptions FROM pg_foreign_table WHERE ftrelid = 's'::regclass;
ALTER STREAM s OPTIONS (ADD "fetch.wait.max.mss" '50');
ALTER STREAM s OPTIONS (ADD "group.id" 'mine');
ALTER STREAM s OPTIONS (ADD "bootstrap.servers" 'x');
ALTER STREAM s OPTIONS (ADD "plugin.library.paths" 'evil.so');
ALTER STREAM s OPTIONS (ADD "sasl.password" 'secret');
ALTER STREAM s OPTIONS (ADD password 'secret');
ALTER STREAM s OPTIONS (ADD "fetch.min.bytes" '-1');
ALTER STREAM s OPTIONS (DROP topic);
ALTER SERVER k OPTIONS (ADD "sasl.username" 'u');
ALTER SERVER k OPTIONS (SET "security.protocol" 'rot13');
ALTER STREAM r OPTIONS (ADD "client.id" 'x');
CREATE USER MAPPING FOR CURRENT_USER SERVER k OPTIONS ("sasl.username" 'u', "sasl.password" 'p');
ALTER USER MAPPING FOR CURRENT_USER SERVER k OPTIONS (ADD "client.id" 'x');
ALTER USER MAPPING FOR CURRENT_USER SERVER k OPTIONS (ADD brokers 'x');

-- files of the server and weaker encryption are the superuser's
ALTER SERVER k OPTIONS (ADD "ssl.ca.location" '/etc/ssl/ca.pem');
CREATE ROLE regress_sx_opt;
GRANT USAGE ON FOREIGN DATA WRAPPER streamext TO regress_sx_opt;
SET ROLE regress_sx_opt;
CREATE SERVER k2 FOREIGN DATA WRAPPER streamext OPTIONS ("ssl.ca.location" '/etc/ssl/ca.pem');
CREATE SERVER k2 FOREIGN DATA WRAPPER streamext OPTIONS ("sasl.mechanism" 'OAUTHBEARER');
CREATE SERVER k2 FOREIGN DATA WRAPPER streamext OPTIONS ("enable.ssl.certificate.verification" 'false');
RESET ROLE;
REVOKE USAGE ON FOREIGN DATA WRAPPER streamext FROM regress_sx_opt;
DROP ROLE regress_sx_opt;

CREATE STREAM x (a int) WITH (connector = 'kafka', topic = 't', server = 'nowhere');
DROP STREAM s, r;
DROP SERVER k CASCADE;
DROP SCHEMA opt CASCADE;
