-- A publication of all tables does not stop what keeps state: its tables have a replica identity.
SET timezone = 'UTC';
SET client_min_messages = error;
CREATE SCHEMA publication;
SET search_path = publication, public;
CREATE STREAM q (k text, v int) WITH (connector = 'queue', paused);
CREATE MATERIALIZED VIEW counts AS SELECT k, count(*) AS n FROM q GROUP BY k;
CREATE FUNCTION add_up(INOUT state int, k text, v int, OUT total int) LANGUAGE plpgsql AS $$ BEGIN state := coalesce(state, 0) + v; total := state; END $$;
CREATE STREAM sums WITH (map_with_state = 'add_up', key = 'k') AS SELECT k, v FROM q;
CREATE STREAM w WITH (window = '4 batches') AS SELECT k, v FROM q;
CREATE STREAM w_sums AS SELECT k, sum(v) AS v FROM w GROUP BY k;
CREATE STREAM out1 WITH (connector = 'table', table = 't1') AS SELECT * FROM sums;
CREATE STREAM out2 WITH (connector = 'table', table = 't2') AS SELECT streamext.batch_id() AS batch, * FROM w_sums;
CREATE PUBLICATION everything FOR ALL TABLES;
-- each in a transaction of its own: a step does not see what the caller has not committed
\o /dev/null
SELECT x FROM generate_series(1, 7), LATERAL (VALUES ('INSERT INTO q VALUES (''a'', 1), (NULL, 10)'), ('SELECT streamext.step(''q'', ''2024-01-01Z'')')) v(x) \gexec
\o
SELECT * FROM counts ORDER BY k;
SELECT max(total) FROM t1;
SELECT * FROM t2 WHERE batch = 7 ORDER BY k;
DROP PUBLICATION everything;
DROP SCHEMA publication CASCADE;
