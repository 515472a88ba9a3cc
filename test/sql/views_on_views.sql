-- Continuous views over continuous views, alone and joined with streams.
SET client_min_messages = error;
CREATE SCHEMA views_on_views;
SET search_path = views_on_views, public;
CREATE STREAM a (k int, x int) WITH (connector = 'queue', pipeline = 'views_on_views', paused);
CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS n FROM a GROUP BY k;
CREATE MATERIALIZED VIEW sizes AS SELECT n, count(*) AS keys FROM v GROUP BY n;
CREATE MATERIALIZED VIEW large AS SELECT * FROM v WHERE n > 1;
CREATE MATERIALIZED VIEW with_rows AS SELECT a.x, v.n FROM a JOIN v USING (k);
CREATE VIEW plain AS SELECT * FROM large;
CREATE MATERIALIZED VIEW through_plain AS SELECT max(n) AS most FROM plain;
SELECT view, strategy FROM streamext.views ORDER BY view::text;
INSERT INTO a SELECT i % 3, i FROM generate_series(1, 7) i;
SELECT batch_id, rows FROM streamext.step('views_on_views');
SELECT * FROM sizes ORDER BY n;
SELECT * FROM large ORDER BY k;
SELECT * FROM with_rows ORDER BY x;
SELECT * FROM through_plain;
INSERT INTO a VALUES (0, 8), (NULL, 9);
SELECT batch_id, rows FROM streamext.step('views_on_views');
SELECT * FROM sizes ORDER BY n;
SELECT * FROM with_rows ORDER BY x;
SELECT * FROM through_plain;
-- it is a dependency
DROP MATERIALIZED VIEW v;
DROP SCHEMA views_on_views CASCADE;
