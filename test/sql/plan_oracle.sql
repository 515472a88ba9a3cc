-- A continuous view equals its own SELECT over all rows.  Each view is compared with the
-- same query over a table that got the same rows, batch after batch.
SET client_min_messages = error;
SET timezone = 'UTC';
SET extra_float_digits = 0;		-- sums in another order
CREATE SCHEMA plan_oracle;
SET search_path = plan_oracle, public;
CREATE TABLE base (k text, i2 int2, i4 int, i8 bigint, n numeric, f4 real, f8 float8, iv interval, ts timestamptz,
    b bool, m money);
CREATE TABLE t (id int, k text, name text);
INSERT INTO t VALUES (1, 'a', 'Alpha'), (2, 'a', 'Alef'), (3, 'b', 'Beta'), (4, 'z', 'Zeta'), (5, NULL, 'none');
CREATE STREAM s (k text, i2 int2, i4 int, i8 bigint, n numeric, f4 real, f8 float8, iv interval, ts timestamptz,
    b bool, m money) WITH (connector = 'queue', pipeline = 'plan_oracle', paused, event_time = 'ts', allow_special = on);

CREATE TABLE cases (name text, query text);
INSERT INTO cases VALUES
    ('counts', 'SELECT k, count(*) AS c, count(i4) AS c4, count(*) FILTER (WHERE i4 > 20) AS cf FROM @ GROUP BY k'),
    ('sums', 'SELECT k, sum(i2) AS s2, sum(i4) AS s4, sum(i8) AS s8, sum(n) AS sn, sum(f4) AS sf4, sum(f8) AS sf8, sum(iv) AS siv, sum(m) AS sm FROM @ GROUP BY k'),
    ('averages', 'SELECT k, avg(i2) AS a2, avg(i4) AS a4, avg(i8) AS a8, avg(n) AS an, avg(f4) AS af4, avg(f8) AS af8, avg(iv) AS aiv, avg(i4) FILTER (WHERE b) AS af FROM @ GROUP BY k'),
    ('extremes', 'SELECT i2, min(k), max(k) AS mx, min(ts) AS t, max(n) AS n, min(f8) AS f, max(f4) - min(f4) AS spread FROM @ GROUP BY i2'),
    ('logic', 'SELECT k, bool_and(b) AS ba, bool_or(b) AS bo, every(b) AS e, bit_or(i4) AS bor, bit_and(i8) AS bn, bit_xor(i4) AS bx FROM @ GROUP BY k'),
    ('exact_statistics', 'SELECT k, stddev(i4) AS a, stddev_pop(n) AS b, variance(i8) AS c, var_pop(i2) AS d FROM @ GROUP BY k'),
    ('rounded_statistics', 'SELECT k, round(corr(f8, f4)::numeric, 9) AS a, round(regr_slope(f8, f4)::numeric, 9) AS b, round(stddev(f8)::numeric, 9) AS c, regr_count(f8, f4) AS d FROM @ GROUP BY k'),
    ('over_aggregates', 'SELECT lower(k) || ''!'' AS kk, sum(i4) + 1 AS s, round(avg(n), 3) * 2 AS r, count(*) > 10 AS many FROM @ GROUP BY lower(k) HAVING count(i4) > 5'),
    ('windows', 'SELECT tumble(ts, ''1 hour'') AS w, k, count(*) AS c FROM @ WHERE ts IS NOT NULL GROUP BY 1, 2'),
    ('hops', 'SELECT w, count(*) AS c, max(i4) AS m FROM @ s, hop(ts, ''1 hour'', ''3 hours'') w WHERE ts IS NOT NULL GROUP BY w'),
    ('months', 'SELECT date_trunc(''month'', ts) AS w, count(*) AS c FROM @ WHERE ts IS NOT NULL GROUP BY 1'),
    ('keys_only', 'SELECT k, b FROM @ GROUP BY k, b'),
    ('one_row', 'SELECT count(*) AS c, sum(i4) AS s, avg(n) AS a, min(ts) AS m, stddev(i4) AS sd FROM @'),
    ('rows', 'SELECT k, i4 * 2 AS d FROM @ WHERE i4 > 10'),
    ('inner_join', 'SELECT s.k, t.name FROM @ s JOIN t ON t.k = s.k'),
    ('left_join', 'SELECT s.k, t.name FROM @ s LEFT JOIN t ON t.k = s.k'),
    ('semi', 'SELECT k, i4 FROM @ s WHERE EXISTS (SELECT FROM t WHERE t.k = s.k)'),
    ('anti', 'SELECT k, i4 FROM @ s WHERE NOT EXISTS (SELECT FROM t WHERE t.k = s.k)'),
    ('in_list', 'SELECT k, i4 FROM @ s WHERE k IN (SELECT k FROM t) OR i4 IN (SELECT id FROM t)'),
    ('lateral', 'SELECT s.k, l.n FROM @ s, LATERAL (SELECT count(*) AS n FROM t WHERE t.k = s.k) l'),
    ('union_all', 'SELECT k, i4 FROM @ WHERE b UNION ALL SELECT k, i2 FROM @ WHERE NOT b'),
    ('union_in_from', 'SELECT k, count(*) AS c FROM (SELECT k FROM @ WHERE b UNION ALL SELECT name FROM @ JOIN t USING (k)) u GROUP BY k'),
    ('cte', 'WITH c AS (SELECT k, i4 FROM @ WHERE i4 IS NOT NULL) SELECT k, sum(i4) AS s FROM c GROUP BY k'),
    ('join_and_group', 'SELECT t.name, count(*) AS c, sum(s.i4) AS s FROM @ s JOIN t USING (k) GROUP BY t.name');

SELECT format('CREATE MATERIALIZED VIEW v_%s AS %s', name, replace(query, '@', 's')) FROM cases
UNION ALL SELECT format('CREATE VIEW o_%s AS %s', name, replace(query, '@', 'base')) FROM cases
\gexec

CREATE FUNCTION differing() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE c text; n bigint;
BEGIN
    FOR c IN SELECT name FROM cases LOOP
        EXECUTE format('SELECT count(*) FROM ((SELECT v::text FROM v_%1$s v EXCEPT ALL SELECT o::text FROM o_%1$s o)
            UNION ALL (SELECT o::text FROM o_%1$s o EXCEPT ALL SELECT v::text FROM v_%1$s v)) d', c) INTO n;
        IF n > 0 THEN RETURN NEXT c || ': ' || n; END IF;
    END LOOP;
END $$;

-- before the first batch
SELECT * FROM differing();

CREATE FUNCTION feed(batch int, rows int) RETURNS void LANGUAGE sql AS $$
    WITH r AS (
        SELECT CASE WHEN i % 11 = 0 THEN NULL ELSE chr(97 + i % 5) END AS k,
               CASE WHEN i % 7 <> 0 THEN (i * 31 % 100)::int2 END AS i2, CASE WHEN i % 5 <> 0 THEN i * 37 % 100 END AS i4,
               i * 1000000007::bigint AS i8,
               CASE WHEN i % 9 = 0 THEN NULL WHEN i % 301 = 0 THEN 'NaN' WHEN i % 401 = 0 THEN 'Infinity'
                    ELSE (i * 7919 % 100000) / (10 ^ (i % 4))::numeric(10, 0) END AS n,
               CASE WHEN i % 4 <> 0 THEN (i % 64) / 8.0 END AS f4, (i * 13 % 1000) / 16.0 AS f8,
               i * interval '1 second' + (i % 3) * interval '1 day' + (i % 2) * interval '1 month' AS iv,
               CASE WHEN i % 13 <> 0 THEN timestamptz '1969-12-31 12:00' + i * interval '7 minutes' END AS ts,
               CASE WHEN i % 6 <> 0 THEN i % 4 > 1 END AS b, (i % 500)::money AS m
        FROM generate_series(batch * 1000, batch * 1000 + rows - 1) i),
    kept AS (INSERT INTO base SELECT * FROM r)
    INSERT INTO s SELECT * FROM r $$;

SELECT feed(1, 300);
SELECT batch_id, rows, dead_letters FROM streamext.step('plan_oracle');
SELECT * FROM differing();
SELECT feed(2, 1);
SELECT batch_id, rows, dead_letters FROM streamext.step('plan_oracle');
SELECT feed(3, 200);
SELECT batch_id, rows, dead_letters FROM streamext.step('plan_oracle');
SELECT * FROM differing();
SELECT feed(4, 50);
SELECT batch_id, rows, dead_letters FROM streamext.step('plan_oracle');
SELECT * FROM differing();
SELECT count(*) > 0 AS filled FROM v_windows;
DROP SCHEMA plan_oracle CASCADE;
