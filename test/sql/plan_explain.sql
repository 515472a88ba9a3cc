-- The maintenance plan: what explain() and EXPLAIN show.
SET client_min_messages = warning;
CREATE SCHEMA plan_explain;
SET search_path = plan_explain, public;
\pset format unaligned
\pset tuples_only on
CREATE TABLE users (id bigint PRIMARY KEY, name text);
CREATE STREAM clicks (user_id bigint, url text, ms real, ts timestamptz)
    WITH (connector = 'queue', pipeline = 'plan_explain', paused, event_time = 'ts', watermark = '5 seconds');
CREATE STREAM pages AS SELECT user_id, url, ms, ts FROM clicks WHERE url LIKE '/p/%' AND ts > now() - interval '1 day';
CREATE STREAM busy AS SELECT url, count(*) AS n FROM clicks GROUP BY url;

CREATE MATERIALIZED VIEW hits WITH (retention = '1 day') AS
    SELECT tumble(ts, '1 minute') AS w, url, count(*) AS n, avg(user_id) AS a, stddev(ms) AS sd, max(ms) - min(ms) AS spread,
           sum(user_id) FILTER (WHERE ms > 10) AS slow
    FROM pages GROUP BY 1, 2 HAVING count(*) > 1;
SELECT streamext.explain('hits');
SELECT pg_get_viewdef('hits');
SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'streamext_state.hits'::regclass ORDER BY indexrelid;

CREATE MATERIALIZED VIEW names AS SELECT c.url, u.name FROM clicks c LEFT JOIN users u ON u.id = c.user_id;
CREATE MATERIALIZED VIEW total WITH (emit = '5 seconds') AS SELECT count(*) AS n FROM clicks;
CREATE MATERIALIZED VIEW days WITH (emit = 'final', late = 'dead_letter') AS
    SELECT date_trunc('day', ts, 'Europe/Berlin') AS day, count(*) FROM (SELECT ts FROM clicks UNION ALL SELECT ts FROM pages) u GROUP BY 1;
CREATE STREAM newest WITH (connector = 'table', table = 'newest_click', key = 'user_id') AS SELECT user_id, url FROM pages;
SELECT streamext.explain(v) FROM unnest('{names,total,days,newest,pages,busy}'::text[]) v;
SELECT pg_get_viewdef('days');
SELECT streamext.explain('clicks');
SELECT streamext.explain('missing');

-- names follow
ALTER TABLE users RENAME TO people;
ALTER FOREIGN TABLE clicks RENAME TO raw_clicks;
SELECT streamext.explain('days');

-- EXPLAIN makes nothing
EXPLAIN CREATE MATERIALIZED VIEW later AS SELECT url, avg(ms) FROM raw_clicks GROUP BY url;
EXPLAIN CREATE STREAM later WITH (connector = 'table', table = 'nowhere') AS SELECT url FROM raw_clicks;
EXPLAIN CREATE STREAM later AS SELECT url FROM raw_clicks;
SELECT to_regclass('later'), to_regclass('nowhere'), to_regclass('streamext_state.later');

-- only batches write
INSERT INTO names VALUES ('x', 'y');

-- dependencies
\pset tuples_only off
DROP STREAM raw_clicks;
DROP TABLE newest_click;
DROP MATERIALIZED VIEW hits;
DROP STREAM newest;
SELECT relname FROM pg_class WHERE relnamespace = 'streamext_state'::regnamespace AND relname ~ '^(hits|newest)';
SET client_min_messages = notice;
DROP STREAM raw_clicks CASCADE;
SET client_min_messages = warning;
SELECT relname FROM pg_class WHERE relnamespace = 'streamext_state'::regnamespace AND relname ~ '^(names|total|days|busy)';
DROP SCHEMA plan_explain CASCADE;
