-- What the randomised oracle has found (test/oracle), each in its smallest form.
SET client_min_messages = error;
CREATE SCHEMA oracle_found;
SET search_path = oracle_found, public;
CREATE STREAM a (k int, x int, ts timestamptz) WITH (connector = 'queue', pipeline = 'oracle_found', paused);
CREATE STREAM b (k int, y int, ts timestamptz) WITH (connector = 'queue', pipeline = 'oracle_found');

-- a view over continuous views alone was an ordinary materialized view
CREATE MATERIALIZED VIEW kept AS SELECT k, x FROM a;
CREATE MATERIALIZED VIEW total AS SELECT sum(k) AS s FROM kept;
CREATE MATERIALIZED VIEW mid AS SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY k) AS m FROM kept;
SELECT view, strategy FROM streamext.views WHERE view IN ('total'::regclass, 'mid'::regclass) ORDER BY 1;

-- ORDER BY in a CTE over several columns, of which it shows one: the server crashed
CREATE MATERIALIZED VIEW sorted AS WITH w AS (SELECT k FROM a ORDER BY x, k) SELECT max(k) AS m FROM w;
CREATE MATERIALIZED VIEW first AS WITH w AS (SELECT k FROM a ORDER BY x, k LIMIT 2) SELECT l.k FROM w l JOIN w r ON l.k = r.k;

-- over an aggregate without GROUP BY there is a row from the beginning
CREATE MATERIALIZED VIEW shown AS SELECT m FROM (SELECT avg(y) AS m FROM b) q;
CREATE MATERIALIZED VIEW counted AS SELECT 1 AS one FROM (SELECT max(y) AS m FROM b) q;
TABLE shown;
TABLE counted;

-- DISTINCT over an outer join, by a key of the side that is always there
CREATE MATERIALIZED VIEW outer_distinct AS SELECT DISTINCT b.y FROM a RIGHT JOIN b ON a.k = b.y;

-- grouped by expressions that are not immutable, in the query and in the node
CREATE MATERIALIZED VIEW by_jsonb AS SELECT to_jsonb(q.m) AS j, mode() WITHIN GROUP (ORDER BY q.k) AS o FROM (SELECT k, max(x) AS m FROM a GROUP BY k) q GROUP BY to_jsonb(q.m);
CREATE MATERIALIZED VIEW spread AS SELECT k, stddev(x) AS d FROM a GROUP BY k;
CREATE MATERIALIZED VIEW by_spread AS SELECT d, count(DISTINCT k) AS n FROM spread GROUP BY d;

INSERT INTO a VALUES (1, 1, '2024-01-01Z'), (2, 3, '2024-01-01Z'), (2, 5, '2024-01-01Z');
INSERT INTO b VALUES (0, NULL, '2024-01-01Z');
SELECT batch_id, rows, dead_letters FROM streamext.step('oracle_found');
INSERT INTO a VALUES (1, 3, '2024-01-01Z'), (3, NULL, '2024-01-01Z');
INSERT INTO b VALUES (1, NULL, '2024-01-01Z'), (1, 1, '2024-01-01Z');
SELECT batch_id, rows, dead_letters FROM streamext.step('oracle_found');
TABLE total;
TABLE mid;
TABLE sorted;
SELECT * FROM first ORDER BY 1;
TABLE shown;
TABLE counted;
SELECT * FROM outer_distinct ORDER BY 1;
SELECT * FROM by_jsonb ORDER BY 1;
SELECT round(d, 3) AS d, n FROM by_spread ORDER BY 1;
DROP SCHEMA oracle_found CASCADE;
