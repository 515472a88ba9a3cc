-- Rows joined with the highest of their group are kept as a rank: the same rows as the join's, and few of them are kept.
SET client_min_messages = error;
CREATE SCHEMA max_join;
SET search_path = max_join, public;
CREATE STREAM raw (id int, k int, g text, v int, x numeric, ts timestamp) WITH (connector = 'queue', paused);
CREATE STREAM s AS SELECT id, k, g, v, x, ts FROM raw WHERE id > 0;
CREATE TABLE rows (id int, k int, g text, v int, x numeric, ts timestamp);
CREATE TABLE texts (name text, q text, kept text);
INSERT INTO texts VALUES
    ('subqueries', 'SELECT b.id, b.k, m.k AS mk, m.m FROM (SELECT id, k, v FROM s) b JOIN (SELECT k, max(v) AS m FROM s GROUP BY k) m ON b.k = m.k AND b.v = m.m'),
    ('plain', 'SELECT s.id, s.v FROM s JOIN (SELECT k, max(v) AS m FROM s GROUP BY k) m ON s.k = m.k AND m.m = s.v WHERE s.id % 2 = 0'),
    ('comma', 'SELECT b.id FROM s b, (SELECT k, g, min(v) AS m FROM s GROUP BY k, g) m WHERE b.g = m.g AND b.k = m.k AND b.v = m.m'),
    ('using_columns', 'SELECT id, k FROM s JOIN (SELECT k, max(v) AS v FROM s GROUP BY k) m USING (k, v)'),
    ('windows', 'SELECT b.id, b.w FROM (SELECT id, v, tumble(ts, ''10 s'') AS w FROM s) b JOIN (SELECT tumble(ts, ''10 s'') AS w, max(v) AS mv FROM s GROUP BY 1) m ON b.v = m.mv AND b.w = m.w'),
    ('with_cte', 'WITH c AS (SELECT id, k, x FROM s WHERE v IS NOT NULL) SELECT c.id FROM c JOIN (SELECT k, max(x) AS m FROM s WHERE v IS NOT NULL GROUP BY k) m ON c.k = m.k AND c.x = m.m'),
    ('counted', 'SELECT b.k, count(*) AS n, sum(b.id) AS ids FROM s b JOIN (SELECT k, max(v) AS m FROM s GROUP BY k) m ON b.k = m.k AND b.v = m.m GROUP BY b.k'),
    -- and such as are none
    ('other_rows', 'SELECT b.id FROM s b JOIN (SELECT k, max(v) AS m FROM s WHERE id % 2 = 0 GROUP BY k) m ON b.k = m.k AND b.v = m.m'),
    ('other_column', 'SELECT b.id FROM s b JOIN (SELECT k, max(v) AS m FROM s GROUP BY k) m ON b.k = m.k AND b.id = m.m'),
    ('key_missing', 'SELECT b.id FROM s b JOIN (SELECT k, g, max(v) AS m FROM s GROUP BY k, g) m ON b.k = m.k AND b.v = m.m'),
    ('left_join', 'SELECT b.id, m.m FROM s b LEFT JOIN (SELECT k, max(v) AS m FROM s GROUP BY k) m ON b.k = m.k AND b.v = m.m'),
    ('shown', 'SELECT b.id, m.m FROM s b JOIN (SELECT k, max(x) AS m FROM s GROUP BY k) m ON b.k = m.k AND b.x = m.m'),
    ('above', 'SELECT b.id FROM s b JOIN (SELECT k, max(v) AS m FROM s GROUP BY k) m ON b.k = m.k AND b.v >= m.m'),
    ('having', 'SELECT b.id FROM s b JOIN (SELECT k, max(v) AS m FROM s GROUP BY k HAVING count(*) > 2) m ON b.k = m.k AND b.v = m.m'),
    ('counts', 'SELECT b.id FROM s b JOIN (SELECT k, count(v) AS m FROM s GROUP BY k) m ON b.k = m.k AND b.v = m.m');
DO $$
DECLARE t record;
BEGIN
    FOR t IN SELECT * FROM max_join.texts LOOP
        EXECUTE format('CREATE MATERIALIZED VIEW max_join.%I AS %s', t.name, t.q);
    END LOOP;
END $$;
-- those that are a rank have a node that forgets
SELECT coalesce(node_of, relation) AS view, bool_or(strategy = 'reduce') AS ranks FROM streamext.step WHERE state IS NOT NULL GROUP BY 1 ORDER BY coalesce(node_of, relation)::text COLLATE "C";
CREATE FUNCTION differs() RETURNS TABLE (view text, missing bigint, extra bigint) LANGUAGE plpgsql AS $$
DECLARE t record;
BEGIN
    FOR t IN SELECT * FROM max_join.texts LOOP
        view := t.name;
        EXECUTE format('SELECT (SELECT count(*) FROM (TABLE b_%1$s EXCEPT ALL TABLE max_join.%1$I) x), (SELECT count(*) FROM (TABLE max_join.%1$I EXCEPT ALL TABLE b_%1$s) x)', t.name) INTO missing, extra;
        IF missing + extra > 0 THEN RETURN NEXT; END IF;
    END LOOP;
END $$;
-- the same queries over a table
CREATE SCHEMA max_join_table;
SET search_path = max_join_table, public;
CREATE VIEW s AS SELECT id, k, g, v, x, ts FROM max_join.rows WHERE id > 0;
DO $$
DECLARE t record;
BEGIN
    FOR t IN SELECT * FROM max_join.texts LOOP
        EXECUTE format('CREATE VIEW max_join_table.b_%s AS %s', t.name, t.q);
    END LOOP;
END $$;
CREATE PROCEDURE batch(first int, last int) LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO max_join.rows
        SELECT i, nullif(hashint4(i) & 7, 0), CASE WHEN i % 7 > 0 THEN chr(97 + (hashint4(-i) & 3)) END, nullif((hashint4(i * 31) & 1023) % (20 + i / 10), 5),
               ((hashint4(i * 17) & 63) / 10.0)::numeric(6, 2) * CASE WHEN i % 2 = 0 THEN 1 ELSE 1.0 END, timestamp '2024-01-01' + i * interval '0.3 s' - (i % 5) * interval '2 s'
        FROM generate_series(first, last) i;
    INSERT INTO max_join.raw SELECT * FROM max_join.rows WHERE id BETWEEN first AND last;
    COMMIT;
    PERFORM streamext.step('raw');
    COMMIT;
END $$;
CALL batch(-3, 1);
SELECT * FROM max_join.differs();
CALL batch(2, 40);
SELECT * FROM max_join.differs();
CALL batch(41, 42);
SELECT * FROM max_join.differs();
CALL batch(43, 400);
SELECT * FROM max_join.differs();
CALL batch(401, 900);
SELECT * FROM max_join.differs();
SELECT count(*) > 0 AS some FROM max_join.subqueries;
-- of 900 rows there are those that tie for the highest
SELECT coalesce(node_of, relation) AS view, max(streamext.state_rows(state)) < 100 AS few FROM streamext.step WHERE state IS NOT NULL GROUP BY 1 ORDER BY coalesce(node_of, relation)::text COLLATE "C";
SET client_min_messages = warning;
DROP SCHEMA max_join_table CASCADE;
DROP SCHEMA max_join CASCADE;
