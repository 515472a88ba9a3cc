-- What roles that are no superusers can and cannot reach; more of it is in
-- test/t/250_security.pl, and what would run as somebody else in security_escalation.sql.
SET client_min_messages = error;
CREATE ROLE sec_mallory;
CREATE ROLE sec_reader;
GRANT USAGE ON FOREIGN SERVER streamext TO sec_mallory;
CREATE SCHEMA security AUTHORIZATION sec_mallory;
GRANT USAGE ON SCHEMA security TO sec_reader;
SET search_path = security, public;

-- ---------------------------------------------------------------- rules for hosts
SELECT rules, name, address, port, streamext.host_allowed(rules, name, address::inet, port) AS allowed FROM (VALUES
    ('', 'x', '192.0.2.1', 9092), ('', 'x', '10.0.0.1', 9092), ('', 'localhost', '127.0.0.1', 9092), ('', 'x', '127.8.9.10', 1),
    ('', 'x', '::1', 1), ('', 'x', '::ffff:127.0.0.1', 1), ('', 'x', '64:ff9b::7f00:1', 1), ('', 'x', '0.0.0.0', 1), ('', 'x', '::', 1),
    ('', 'x', '169.254.169.254', 80), ('', 'x', 'fe80::1', 80), ('', 'x', '224.0.0.1', 80), ('', 'x', '255.255.255.255', 80),
    ('*', 'x', '192.0.2.1', 1), ('*', 'x', '127.0.0.1', 1),
    ('*.example.com', 'a.example.com', '192.0.2.1', 1), ('*.example.com', 'A.EXAMPLE.COM', '192.0.2.1', 1),
    ('*.example.com', 'a.example.com', '127.0.0.1', 1), ('*.example.com', 'example.com', '192.0.2.1', 1),
    ('*.example.com', 'evil-example.com', '192.0.2.1', 1), ('*.example.com', 'a.example.com.evil.org', '192.0.2.1', 1),
    ('localhost:9092', 'localhost', '127.0.0.1', 9092), ('localhost:9092', 'localhost', '127.0.0.1', 5432), ('localhost:9092', 'other', '127.0.0.1', 9092),
    ('127.0.0.0/8:9000-9100', 'x', '127.0.0.1', 9092), ('127.0.0.0/8:9000-9100', 'x', '127.0.0.1', 9101),
    ('10.128.0.0/9', 'x', '10.200.0.1', 1), ('10.128.0.0/9', 'x', '10.100.0.1', 1), ('0.0.0.0/0', 'x', '127.0.0.1', 1),
    ('[2001:db8::/33]:5', 'x', '2001:db8:7fff::1', 5), ('[2001:db8::/33]:5', 'x', '2001:db8:8000::1', 5), ('[::1]', 'x', '::1', 5),
    ('a.example.com, 10.0.0.0/8', 'x', '10.0.0.1', 1), ('a.example.com', 'x', '192.0.2.1', 1)) t(rules, name, address, port);
SELECT streamext.host_allowed('a:b', 'x', '192.0.2.1', 1);
SELECT streamext.host_allowed('10.0.0.0/33', 'x', '192.0.2.1', 1);
SELECT streamext.host_allowed('a, b/8', 'x', '192.0.2.1', 1);
SELECT streamext.host_allowed('a*', 'x', '192.0.2.1', 1);
SELECT streamext.host_allowed('[::1', 'x', '192.0.2.1', 1);
SELECT streamext.host_allowed('::1', 'x', '192.0.2.1', 1);
SHOW streamext.allowed_hosts;
SET streamext.allowed_hosts = '*';

-- ---------------------------------------------------------------- states of aggregates
SET ROLE sec_mallory;
CREATE STREAM s (k int, x numeric) WITH (connector = 'queue', paused);
CREATE MATERIALIZED VIEW v AS SELECT k, stddev(x) AS sd, count(*) AS n FROM s GROUP BY k;
INSERT INTO s VALUES (1, 1), (1, 3), (2, 5);
SELECT rows FROM streamext.step('s');
GRANT SELECT ON v TO sec_reader;
-- who may read the view may, though functions in it run as he
SET ROLE sec_reader;
SELECT k, round(sd, 3) AS sd, n FROM v ORDER BY k;
SET ROLE sec_mallory;
SELECT streamext.final_agg('stddev(numeric)'::regprocedure, '\x53580202000f0000'::streamext.agg_state, NULL::numeric);
SELECT streamext.final_agg('stddev(numeric)'::regprocedure, '\x53580202000f0000'::bytea::streamext.agg_state, NULL::numeric);
SELECT streamext.final_agg('stddev(numeric)'::regprocedure, '\x53580202000f0000'::text::streamext.agg_state, NULL::numeric);
CREATE DOMAIN forged AS streamext.agg_state;
SELECT '\x00'::forged;
SELECT (ROW('\x00')::text::record);
CREATE TYPE pair AS (a streamext.agg_state);
SELECT '(\\x00)'::pair;
SELECT '{\\x00}'::streamext.agg_state[];
DO $$ DECLARE a streamext.agg_state; BEGIN a := '\x00'; END $$;
CREATE TABLE copied (a streamext.agg_state);
COPY copied FROM STDIN;
\\x00
\.
CREATE CAST (bytea AS streamext.agg_state) WITHOUT FUNCTION;
CREATE FUNCTION forge(bytea) RETURNS streamext.agg_state LANGUAGE internal AS 'byteaout';
-- real ones can be had, and used for what they are
SELECT streamext.final_agg('sum(numeric)'::regprocedure, streamext.partial_agg('sum(numeric)'::regprocedure, x), NULL::numeric) FROM (VALUES (1.5), (2)) t(x);
SELECT streamext.final_agg('avg(numeric)'::regprocedure, streamext.partial_agg('sum(numeric)'::regprocedure, x), NULL::numeric) FROM (VALUES (1.5), (2)) t(x);
SELECT streamext.final_agg('sum(numeric)'::regprocedure, streamext.partial_agg('sum(numeric)'::regprocedure, x), NULL::text) FROM (VALUES (1.5), (2)) t(x);
SELECT streamext.partial_agg('sum(numeric)'::regprocedure, x) FROM (VALUES (1), (2)) t(x);
-- an aggregate with bytes for a state is none with an internal state, though its name was made to have the same hash
CREATE FUNCTION keep(bytea, bigint) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$ SELECT '\xffffffffffffffff'::bytea $$;
CREATE FUNCTION keep(bytea, bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$ SELECT $1 $$;
CREATE AGGREGATE cssnp2taa (bigint) (SFUNC = keep, STYPE = bytea, COMBINEFUNC = keep);
SELECT substr(streamext.partial_agg('cssnp2taa(bigint)'::regprocedure, 1::bigint)::text, 15, 8) =
    substr(streamext.partial_agg('pg_catalog.stddev(bigint)'::regprocedure, 1::bigint)::text, 15, 8) AS same_hash;
SELECT streamext.final_agg('pg_catalog.stddev(bigint)'::regprocedure, streamext.partial_agg('cssnp2taa(bigint)'::regprocedure, 1::bigint), NULL::numeric);
-- a superuser restores what a dump holds
RESET ROLE;
SELECT count(a::text::streamext.agg_state) FROM (SELECT sd AS a FROM streamext_state.v) t;

-- ---------------------------------------------------------------- tables of state
SET ROLE sec_mallory;
UPDATE streamext_state.v SET n = 7;
ALTER TABLE streamext_state.v DROP COLUMN n;
SELECT streamext.reset('s');
SELECT count(*) FROM v;
DROP STREAM s CASCADE;

-- ---------------------------------------------------------------- search_path
CREATE STREAM s (k int) WITH (connector = 'queue', paused);
SET search_path = security, pg_catalog;
CREATE MATERIALIZED VIEW v AS SELECT k FROM s;
SET search_path = pg_catalog, security;
CREATE MATERIALIZED VIEW security.v AS SELECT k FROM s;

RESET ROLE;
RESET search_path;
DROP OWNED BY sec_mallory, sec_reader CASCADE;
DROP ROLE sec_mallory, sec_reader;
