-- Rows that are computed again: those that stay as they are stay where they stand, and the
-- view equals its SELECT over all rows after every batch.
SET client_min_messages = error;
CREATE SCHEMA difference;
CREATE SCHEMA difference_all;
SET search_path = difference, public;
CREATE STREAM a (k int, x numeric, s text, j json) WITH (connector = 'queue', pipeline = 'difference', paused);
CREATE TABLE difference_all.a (k int, x numeric, s text, j json);
CREATE TABLE query (id int PRIMARY KEY, sql text NOT NULL);
INSERT INTO query VALUES
-- rows that are there several times, and values of a type without equality
(1, $q$SELECT k, x % 3 AS x, s, j::text AS j, count(*) OVER (PARTITION BY k) > 3 AS many FROM a$q$),
(2, $q$SELECT k, j, row_number() OVER (PARTITION BY k ORDER BY x DESC, s, j::text) / 3 AS third FROM a$q$),
-- no key
(3, $q$SELECT k, x, s FROM a ORDER BY x DESC NULLS LAST, k, s, j::text LIMIT 7$q$),
(4, $q$SELECT max(n) AS most, count(*) AS keys FROM (SELECT k, count(*) AS n FROM a GROUP BY k) c$q$),
-- values that are equal and do not look so: the scale of a number
(5, $q$SELECT k, (array_agg(x ORDER BY length(s), s, x, x::text))[1] AS first, count(DISTINCT s) AS n FROM a GROUP BY k$q$),
-- long values
(6, $q$SELECT k, s, repeat(s || k, 3000) AS long, lag(x) OVER (PARTITION BY k ORDER BY s, x, x::text, j::text) AS before FROM a$q$),
-- first rows of a join, whose other ranks nobody reads
(7, $q$SELECT k, x, y FROM (SELECT l.k, l.x, r.x AS y, row_number() OVER (PARTITION BY l.k ORDER BY r.x DESC NULLS LAST, l.x, l.s, r.s, l.j::text, r.j::text) AS rn
       FROM a l JOIN a r ON l.k = r.k) t WHERE rn <= 2$q$),
(8, $q$SELECT k, x, rk FROM (SELECT l.k, l.x, rank() OVER (PARTITION BY l.k ORDER BY l.x) AS rk FROM a l JOIN a r ON l.k = r.k AND r.x > l.x) t WHERE 3 > rk$q$);
DO $$
DECLARE q query;
BEGIN
    FOR q IN SELECT * FROM query ORDER BY id LOOP
        EXECUTE format('CREATE MATERIALIZED VIEW v%s AS %s', q.id, q.sql);
    END LOOP;
END $$;

-- Rows that the view and its query over all rows do not share.
CREATE FUNCTION differences() RETURNS SETOF int LANGUAGE plpgsql AS $$
DECLARE
    q query;
    n bigint;
BEGIN
    FOR q IN SELECT * FROM difference.query ORDER BY id LOOP
        PERFORM set_config('search_path', 'difference_all, difference, public', true);
        EXECUTE 'CREATE TEMP TABLE want AS ' || q.sql;
        PERFORM set_config('search_path', 'difference, public', true);
        EXECUTE format('SELECT count(*) FROM ((SELECT r_::text FROM want r_ EXCEPT ALL SELECT r_::text FROM v%1$s r_)
                        UNION ALL (SELECT r_::text FROM v%1$s r_ EXCEPT ALL SELECT r_::text FROM want r_)) d', q.id) INTO n;
        DROP TABLE want;
        IF n > 0 THEN
            RETURN NEXT q.id;
        END IF;
    END LOOP;
END $$;
CREATE FUNCTION feed(sql text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'CREATE TEMP TABLE f AS SELECT * FROM (' || sql || ') f (k, x, s, j)';
    INSERT INTO difference_all.a SELECT k, x, s, j::json FROM f;
    INSERT INTO a SELECT k, x, s, j::json FROM f;
    DROP TABLE f;
END $$;

SELECT feed($$SELECT i % 5, i, 's' || i % 4, '{"a": 1}' FROM generate_series(1, 60) i$$);
SELECT FROM streamext.step('difference');
SELECT * FROM differences();

-- Where rows stand that a batch of one row of key 1 leaves as they are.
CREATE TABLE places AS SELECT 1 AS v, k, ctid::text AS at FROM streamext_state.v1
    UNION ALL SELECT 3, k, ctid::text FROM streamext_state.v3 UNION ALL SELECT 6, k, ctid::text FROM streamext_state.v6;
SELECT feed($$VALUES (1, -1, 'z', '{"a": 2}')$$);
SELECT FROM streamext.step('difference');
SELECT * FROM differences();
SELECT p.v, count(*) AS stayed FROM places p JOIN (SELECT 1 AS v, k, ctid::text AS at FROM streamext_state.v1
    UNION ALL SELECT 3, k, ctid::text FROM streamext_state.v3 UNION ALL SELECT 6, k, ctid::text FROM streamext_state.v6) n USING (v, k, at)
    GROUP BY p.v ORDER BY p.v;
-- … ranks that nobody reads are not kept
SELECT count(*) = 2 * 5 AS only_two FROM streamext_state.v7_3;

-- The same rows again; NULLs; no change of a value but of its scale; many keys, one row each.
SELECT feed($$SELECT i % 5, i, 's' || i % 4, '{"a": 1}' FROM generate_series(1, 20) i$$);
SELECT FROM streamext.step('difference');
SELECT * FROM differences();
SELECT feed($$VALUES (NULL::int, NULL::numeric, NULL, NULL), (NULL, 1, NULL, NULL), (2, NULL, 's', NULL), (NULL, NULL, NULL, NULL)$$);
SELECT FROM streamext.step('difference');
SELECT * FROM differences();
SELECT feed($$VALUES (3, 1.0, '', '{}'), (4, 2.00, '', '{ }')$$);
SELECT FROM streamext.step('difference');
SELECT feed($$VALUES (3, 1.00, '', '{}'), (4, 2.0, '', '{ }')$$);
SELECT FROM streamext.step('difference');
SELECT * FROM differences();
SELECT feed($$SELECT i, i, 'k', '[]' FROM generate_series(10, 300) i$$);
SELECT FROM streamext.step('difference');
SELECT * FROM differences();

-- One row a batch, long enough for comparisons to be given up and taken up again.
ALTER STREAM a OPTIONS (ADD max_batch_rows '1');
INSERT INTO a SELECT i % 3, i * 7 % 50, 's' || i % 6, json_build_object('i', i) FROM generate_series(1, 90) i;
INSERT INTO difference_all.a SELECT i % 3, i * 7 % 50, 's' || i % 6, json_build_object('i', i) FROM generate_series(1, 90) i;
SELECT streamext.run('difference');
SELECT streamext.wait('difference');
SELECT * FROM differences();
ALTER STREAM a OPTIONS (DROP max_batch_rows);

-- More rows of a key than are compared.
SELECT feed($$SELECT 1, i % 7, 'm' || i % 5000, NULL FROM generate_series(1, 400) i$$);
SELECT FROM streamext.step('difference');
SELECT * FROM differences();
CREATE STREAM b (k int, x int) WITH (connector = 'queue', pipeline = 'many', paused);
CREATE MATERIALIZED VIEW many AS SELECT k, x, x - lag(x) OVER (PARTITION BY k ORDER BY x) AS step FROM b;
INSERT INTO b SELECT 1, i FROM generate_series(1, 9000) i;
SELECT FROM streamext.step('many');
INSERT INTO b VALUES (1, 20000);
SELECT FROM streamext.step('many');
INSERT INTO b VALUES (1, 20010), (2, 0);
SELECT FROM streamext.step('many');
SELECT k, count(*), sum(step), max(x) FROM many GROUP BY k ORDER BY k;

DROP SCHEMA difference, difference_all CASCADE;
