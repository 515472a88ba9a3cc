-- What is kept between batches, what bounds it, and how it is shown: streamext.state, explain(), warnings.
SET timezone = 'UTC';
CREATE SCHEMA stv;
SET search_path = stv, public;
CREATE STREAM s (k int, x int, t text, ts timestamptz)
    WITH (connector = 'queue', pipeline = 'stv', paused, event_time = 'ts', watermark = '5 seconds');

-- ---------------------------------------------------------------------
-- Warnings: state that can only grow
-- ---------------------------------------------------------------------
CREATE MATERIALIZED VIEW groups AS SELECT k, count(*) AS n FROM s GROUP BY k;
CREATE MATERIALIZED VIEW distinct_x AS SELECT k, count(DISTINCT x) AS n FROM s GROUP BY k;
CREATE MATERIALIZED VIEW keys AS SELECT DISTINCT k FROM s;
CREATE MATERIALIZED VIEW ranks AS SELECT k, x, rank() OVER (PARTITION BY k ORDER BY x) AS r FROM s;
CREATE STREAM firsts WITH (deduplicate = 'k') AS SELECT k, ts FROM s;
-- none for these
CREATE MATERIALIZED VIEW total AS SELECT count(*) AS n FROM s;
CREATE MATERIALIZED VIEW rows_kept AS SELECT k, x FROM s;
CREATE MATERIALIZED VIEW per_window WITH (retention = '20 seconds') AS SELECT tumble(ts, '10 s') AS w, k, count(*) AS n FROM s GROUP BY 1, 2;
CREATE MATERIALIZED VIEW exact WITH (late = 'drop') AS SELECT tumble(ts, '10 s') AS w, count(DISTINCT x) AS n FROM s GROUP BY 1;
CREATE MATERIALIZED VIEW nested WITH (late = 'drop') AS
    SELECT w, max(n) AS most FROM (SELECT tumble(ts, '10 s') AS w, k, count(*) AS n FROM s GROUP BY 1, 2) c GROUP BY w;
CREATE STREAM seen WITH (deduplicate = 'k, ts', within = '1 minute') AS SELECT k, ts FROM s;
CREATE STREAM firsts_out WITH (connector = 'null') AS SELECT * FROM firsts;
CREATE STREAM seen_out WITH (connector = 'null') AS SELECT * FROM seen;

INSERT INTO s SELECT i % 3, i % 7, 't', timestamptz '2026-01-01Z' + i * interval '1 second' FROM generate_series(0, 29) i;
SELECT rows FROM streamext.step('stv', '2026-01-01Z');

SELECT relation, node, strategy, state_table, streamext.state_rows(state_table) AS exactly, oldest, bounded_by
FROM streamext.state WHERE pipeline = 'stv' ORDER BY relation::text, node::text NULLS FIRST, state_table::text;
SELECT bool_and(bytes = heap_bytes + index_bytes + toast_bytes + coalesce(pg_table_size(state_table) - heap_bytes - toast_bytes, 0)) AS adds_up,
       bool_and(bytes > 0) AS some, bool_and(rows >= 0 AND dead_rows >= 0) AS counted
FROM streamext.state;

-- only its owner sees it, and who monitors
CREATE ROLE stv_other;
CREATE ROLE stv_monitor IN ROLE pg_monitor;
SET ROLE stv_other;
SELECT count(*) FROM streamext.state;
SELECT streamext.state_rows(state) IS NULL AS hidden FROM (SELECT min(oid)::regclass AS state FROM pg_class WHERE relname = 'groups' AND relkind = 'r') c;
SET ROLE stv_monitor;
SELECT count(*) > 10 AS all_of_them FROM streamext.state;
RESET ROLE;
DROP ROLE stv_other;
DROP ROLE stv_monitor;

-- ---------------------------------------------------------------------
-- explain: the tree of nodes
-- ---------------------------------------------------------------------
\pset format unaligned
\pset tuples_only on
SELECT streamext.explain('nested');
SELECT regexp_replace(line, '\d+ bytes', 'N bytes') FROM regexp_split_to_table(streamext.explain('nested', true), '\n') line WHERE line ~ 'State: ';
-- of what is not there yet: nothing is made
CREATE TABLE before AS SELECT count(*) AS steps, (SELECT count(*) FROM pg_class) AS relations FROM streamext.step;
EXPLAIN CREATE MATERIALIZED VIEW later WITH (late = 'drop') AS SELECT k, count(DISTINCT x) AS n FROM s GROUP BY k;
EXPLAIN CREATE MATERIALIZED VIEW later AS
    SELECT k, max(n) AS most FROM (SELECT k, t, count(*) AS n FROM s GROUP BY 1, 2) c GROUP BY k;
SELECT steps = (SELECT count(*) FROM streamext.step), relations + 1 = (SELECT count(*) FROM pg_class) FROM before;
\pset tuples_only off
\pset format aligned

-- ---------------------------------------------------------------------
-- Expiry in small steps: a jump of the watermark is paid by several batches
-- ---------------------------------------------------------------------
CREATE STREAM many (id int, ts timestamptz)
    WITH (connector = 'queue', pipeline = 'many', paused, event_time = 'ts', watermark = '0 seconds');
CREATE MATERIALIZED VIEW per_id WITH (retention = '0 seconds') AS SELECT tumble(ts, '1 s') AS w, id, count(*) AS n FROM many GROUP BY 1, 2;
CREATE STREAM per_id_changes WITH (changes) AS SELECT * FROM per_id;
CREATE STREAM per_id_log WITH (connector = 'table', table = 'per_id_ops') AS SELECT streamext.batch_id() AS b, op FROM per_id_changes;
INSERT INTO many SELECT i, '2026-01-01Z' FROM generate_series(1, 50000) i;
SELECT rows FROM streamext.step('many', '2026-01-01Z');
SELECT count(*) FROM per_id;
INSERT INTO many VALUES (0, '2026-01-02Z');
SELECT rows FROM streamext.step('many', '2026-01-02Z');
SELECT count(*) FROM per_id;
-- what is not gone yet is closed all the same
INSERT INTO many VALUES (1, '2026-01-01Z');
SELECT rows FROM streamext.step('many', '2026-01-02Z');
SELECT count(*), max(n) FROM per_id;
INSERT INTO many VALUES (0, '2026-01-02Z');
BEGIN;
SELECT rows FROM streamext.step('many', '2026-01-02Z');
SELECT count(*) FROM per_id;
ROLLBACK;
SELECT rows FROM streamext.step('many', '2026-01-02Z');
SELECT * FROM per_id;
-- being forgotten is no change
SELECT b, op, count(*) FROM per_id_ops GROUP BY 1, 2 ORDER BY 1, 2;

-- ---------------------------------------------------------------------
-- state_ttl: a group without rows for so long is forgotten, exactly
-- ---------------------------------------------------------------------
CREATE STREAM v (k int, x int, ts timestamptz)
    WITH (connector = 'queue', pipeline = 'ttl', paused, event_time = 'ts', watermark = '5 seconds');
CREATE MATERIALIZED VIEW recent WITH (state_ttl = '10 seconds') AS
    SELECT k, count(*) AS n, avg(x) AS a, max(x) AS m FROM v GROUP BY k HAVING count(*) > 0;
CREATE MATERIALIZED VIEW recent_keys WITH (state_ttl = '10 seconds') AS SELECT k FROM v GROUP BY k;
CREATE STREAM recent_changes WITH (changes) AS SELECT k, n FROM recent;
CREATE STREAM recent_log WITH (connector = 'table', table = 'recent_ops') AS SELECT streamext.batch_id() AS b, op, k, n, old_n FROM recent_changes;
INSERT INTO v VALUES (1, 10), (2, 20), (NULL, 30);
SELECT rows FROM streamext.step('ttl', '2026-01-01 00:00:00Z');
INSERT INTO v VALUES (1, 20);
SELECT rows FROM streamext.step('ttl', '2026-01-01 00:00:09Z');
SELECT * FROM recent ORDER BY k;
-- 2 and NULL are ten seconds old: gone, and NULL begins anew
INSERT INTO v VALUES (NULL, 50);
SELECT rows FROM streamext.step('ttl', '2026-01-01 00:00:10Z');
SELECT * FROM recent ORDER BY k;
SELECT * FROM recent_keys ORDER BY k;
SELECT streamext.state_rows('streamext_state.recent');
TABLE recent_ops;
SELECT bounded_by FROM streamext.state WHERE relation = 'recent'::regclass;
SELECT streamext.explain('recent');
-- what is not deleted yet is not there: neither seen nor added to
INSERT INTO v SELECT i, 1 FROM generate_series(1, 50000) i;
SELECT rows FROM streamext.step('ttl', '2026-01-01 00:01:00Z');
INSERT INTO v SELECT i, 1 FROM generate_series(24001, 24002) i;
SELECT rows FROM streamext.step('ttl', '2026-01-01 00:02:00Z');
SELECT * FROM recent ORDER BY k;
SELECT streamext.state_rows('streamext_state.recent');
INSERT INTO v VALUES (24001, 1), (24003, 1);
SELECT rows FROM streamext.step('ttl', '2026-01-01 00:02:01Z');
SELECT * FROM recent ORDER BY k;
SELECT streamext.state_rows('streamext_state.recent');

CREATE MATERIALIZED VIEW bad WITH (state_ttl = '1 minute', backfill = off) AS SELECT k, x FROM v;
CREATE MATERIALIZED VIEW bad WITH (state_ttl = '1 minute', backfill = off) AS SELECT count(*) AS n FROM v;
CREATE MATERIALIZED VIEW bad WITH (state_ttl = '1 minute', backfill = off) AS SELECT k, count(DISTINCT x) AS n FROM v GROUP BY k;
CREATE MATERIALIZED VIEW bad WITH (state_ttl = '1 minute', backfill = off) AS SELECT tumble(ts, '10 s') AS w, count(*) AS n FROM v GROUP BY 1;
CREATE MATERIALIZED VIEW bad WITH (state_ttl = '1 minute', emit = '1 s', backfill = off) AS SELECT k, count(*) AS n FROM v GROUP BY k;
CREATE MATERIALIZED VIEW bad WITH (state_ttl = '0 s', backfill = off) AS SELECT k, count(*) AS n FROM v GROUP BY k;

SET client_min_messages = warning;
DROP SCHEMA stv CASCADE;
