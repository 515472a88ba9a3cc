-- Many views over one stream: its records are decoded once for all of them, and groups are made by the
-- scan where the batch is large.  Each view must be what its SELECT gives over a table of the good
-- records, and each record must fail for those views that read what is bad in it, for no others.
SET timezone = 'UTC';
SET client_min_messages = error;
CREATE SCHEMA shared_columns;
SET search_path = shared_columns, public;
\getenv build_dir PG_ABS_BUILDDIR
\set dir :build_dir /shared_columns
\setenv DIR :dir
\! rm -rf "$DIR"; mkdir -p "$DIR/all" "$DIR/once" "$DIR/big"; chmod -R 777 "$DIR"

-- What is wrong with record i, if anything.  Errors of expressions come from v = 0 and k = 3.
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE record AS
    SELECT i, CASE WHEN i % 500 = 7 THEN 'document' WHEN i % 500 = 107 THEN 'k' WHEN i % 500 = 207 THEN 'v'
            WHEN i % 500 = 307 THEN 't' WHEN i % 500 = 407 THEN 'd' WHEN i % 500 = 457 THEN 'p' WHEN i % 500 = 467 THEN 'a' WHEN i % 500 = 477 THEN 'nn' END AS bad,
        CASE WHEN i % 13 <> 0 THEN i % 11 + 4 END AS k, CASE WHEN i % 17 <> 0 THEN (i * 7) % 100 + 1 END AS v,
        CASE WHEN i % 7 <> 0 THEN 't' || i % 40 END AS t, 1 + i % 12 AS month, 1 + i % 9 AS p, i % 5 AS nn,
        CASE WHEN i % 600 = 0 THEN repeat('b' || i, 20000) ELSE 'b' || i % 3 END AS b
    FROM generate_series(1, 4000) i;
UPDATE record SET v = 0 WHERE i IN (700, 1700, 3700);
UPDATE record SET k = 3 WHERE i IN (900, 2900);
CREATE TABLE document AS
    SELECT i, CASE bad WHEN 'document' THEN format('{"id": %s, "k": 1', i) ELSE
        format('{"id": %s, "k": %s, "v": %s, "t": %s, "d": %s, "p": %s, "a": %s, "nn": %s, "b": "%s", "f": %s.25}', i,
            CASE bad WHEN 'k' THEN '"no"' ELSE coalesce(k::text, 'null') END, CASE bad WHEN 'v' THEN '3000000000' ELSE coalesce(v::text, 'null') END,
            CASE bad WHEN 't' THEN '"\u0000"' ELSE coalesce('"' || t || '"', 'null') END, CASE bad WHEN 'd' THEN '"2024-13-45"' ELSE format('"%s/01/2024"', lpad(month::text, 2, '0')) END,
            CASE bad WHEN 'p' THEN -1 ELSE p END, CASE bad WHEN 'a' THEN '["x"]' ELSE format('[%s, 2]', coalesce(k, 0)) END, CASE bad WHEN 'nn' THEN 'null' ELSE nn::text END, b, i % 8) END AS line
    FROM record;
\set file :dir /all/a
COPY (SELECT line FROM document ORDER BY i) TO :'file' WITH (FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02');
CREATE TABLE good (id bigint, k int, v int, t text, d date, p int, a int[], nn int, b text, f float8, bad text);
INSERT INTO good SELECT i, k, v, t, make_date(2024, month, 1), p, ARRAY[coalesce(k, 0), 2], nn, b, i % 8 + 0.25, coalesce(bad, '') FROM record WHERE bad IS DISTINCT FROM 'document';

-- What a view reads decides which records it goes without; fails: for which its expressions raise.
CREATE TABLE query (name text, reads text[], sql text, fails text DEFAULT 'false');
INSERT INTO query (name, reads, sql) VALUES
    ('all_rows', '{}', 'SELECT count(*) AS n FROM $s s'),
    ('by_k', '{k,v}', 'SELECT k, count(*) AS n, count(v) AS vs, sum(v) AS s, min(v) AS low, max(v) AS high FROM $s s GROUP BY k'),
    ('by_expression', '{k,v}', 'SELECT (k + 1) % 7 AS g, count(*) AS n, sum(v) FILTER (WHERE v > 30) AS s, bool_and(v > 1) AS b, count(*) FILTER (WHERE k IS NULL) AS nulls FROM $s s GROUP BY 1'),
    ('by_text', '{t,k}', 'SELECT t, count(*) AS n, sum(k) AS s FROM $s s GROUP BY t'),
    ('by_two', '{k,t}', 'SELECT t, k, count(*) AS n FROM $s s WHERE k > 4 OR k IS NULL GROUP BY k, t'),
    ('by_number', '{v}', 'SELECT CASE v % 3 WHEN 0 THEN 1.0 WHEN 1 THEN 1.00 END AS x, count(*) AS n FROM $s s GROUP BY 1'),
    ('by_float', '{f,k}', 'SELECT CASE k % 2 WHEN 0 THEN float8 ''-0'' ELSE 0 END AS x, sum(f) AS s, max(f) AS m FROM $s s GROUP BY 1'),
    ('by_array', '{a}', 'SELECT a, count(*) AS n FROM $s s GROUP BY a'),
    ('by_domain', '{p}', 'SELECT p, count(*) AS n FROM $s s GROUP BY p'),
    ('by_not_null', '{nn}', 'SELECT nn, count(*) AS n FROM $s s GROUP BY nn'),
    ('by_big', '{b}', 'SELECT b, count(*) AS n, sum(length(b)) AS l FROM $s s GROUP BY b'),
    ('by_id', '{}', 'SELECT id, count(*) AS n FROM $s s GROUP BY id'),
    ('twice', '{k,v}', 'SELECT k AS a, k AS b, sum(v) + count(*) AS x, upper(k::text) AS u FROM $s s GROUP BY k, k::text'),
    ('averages', '{k,v}', 'SELECT k, avg(v) AS a, sum(v::bigint) AS s FROM $s s GROUP BY k'),
    ('many_keys', '{k,v,t}', 'SELECT k, count(DISTINCT t) AS n FROM $s s WHERE v > 50 GROUP BY k'),
    ('having', '{k,v}', 'SELECT k, sum(v) AS s FROM $s s GROUP BY k HAVING sum(v) > 1000'),
    ('rows_kept', '{k,t,b}', 'SELECT id, k, t, b FROM $s s WHERE k = 9'),
    ('everything', '{k,v,t,d,p,a,nn,b}', 'SELECT id, k, v, t, d, p, a, nn, f, length(b) AS l FROM $s s WHERE id % 10 = 1'),
    ('dates', '{d}', 'SELECT d, count(*) AS n FROM $s s GROUP BY d'),
    ('from_derived', '{v}', 'SELECT w, count(*) AS n FROM $d d GROUP BY w'),
    ('also_from_derived', '{k,v}', 'SELECT k, sum(w) AS s FROM $d d WHERE w < 100 GROUP BY k');
INSERT INTO query VALUES
    ('fails_in_argument', '{k,v}', 'SELECT k, sum(100 / v) AS s FROM $s s GROUP BY k', 'v = 0'),
    ('fails_in_key', '{v}', 'SELECT 100 / v AS q, count(*) AS n FROM $s s GROUP BY 1', 'v = 0'),
    ('fails_in_filter', '{k,v}', 'SELECT v, count(*) AS n FROM $s s WHERE 10 / (k - 3) >= 0 GROUP BY v', 'k = 3'),
    ('fails_in_rows', '{v}', 'SELECT id, 7 / v AS q FROM $s s WHERE id > 690', 'v = 0 AND id > 690');
\set derived 'SELECT k, v * 2 AS w FROM $s WHERE v IS NOT NULL'

CREATE FUNCTION make(stream text, path text, options text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    q query;
BEGIN
    EXECUTE format('CREATE STREAM %1$I (id bigint, k int, v int, t text, d date, p positive, a int[], nn int NOT NULL, b text, f float8, off bigint OPTIONS (metadata ''offset''))
        WITH (connector = ''file'', path = %2$L, format = ''json'', pipeline = %1$L, max_errors = 10000, paused%3$s)', stream, path, options);
    EXECUTE format('CREATE STREAM %I AS SELECT k, v * 2 AS w FROM %I WHERE v IS NOT NULL', stream || '_d', stream);
    FOR q IN SELECT * FROM query LOOP
        IF q.name = 'dates' THEN SET datestyle = 'ISO, DMY'; END IF;
        EXECUTE format('CREATE MATERIALIZED VIEW %I AS %s', stream || '_' || q.name, replace(replace(q.sql, '$s', quote_ident(stream)), '$d', quote_ident(stream || '_d')));
        SET datestyle = 'ISO, MDY';
    END LOOP;
END $$;
CREATE FUNCTION differences(stream text) RETURNS TABLE (name text, missing bigint, extra bigint) LANGUAGE plpgsql AS $$
DECLARE
    q query;
    good text;
    day text;
BEGIN
    FOR q IN SELECT * FROM query LOOP
        -- the view of another DateStyle takes the months of these dates for days
        day := CASE q.name WHEN 'dates' THEN 'make_date(2024, 1, extract(month FROM d)::int)' ELSE 'd' END;
        good := format('(SELECT id, k, v, t, %s AS d, p, a, nn, b, f FROM good WHERE bad <> ALL (%L) AND (%s) IS NOT TRUE)', day, q.reads, q.fails);
        good := replace(replace(q.sql, '$d', '(SELECT k, v * 2 AS w FROM $s s WHERE v IS NOT NULL)'), '$s', good);
        name := q.name;
        EXECUTE format('WITH a AS (%s), b AS (SELECT * FROM %I) SELECT (SELECT count(*) FROM (TABLE a EXCEPT ALL TABLE b) x), (SELECT count(*) FROM (TABLE b EXCEPT ALL TABLE a) x)',
            good, stream || '_' || q.name) INTO missing, extra;
        CONTINUE WHEN missing = 0 AND extra = 0;
        RETURN NEXT;
    END LOOP;
END $$;
CREATE VIEW expected_letters AS
    SELECT NULL::text AS name, i::bigint AS id FROM record WHERE bad = 'document'
    UNION ALL SELECT name, i FROM query, record WHERE bad = ANY (reads) AND name <> 'many_keys'
    UNION ALL SELECT 'fails_in_argument', i FROM record WHERE v = 0 AND bad IS NULL
    UNION ALL SELECT 'fails_in_key', i FROM record WHERE v = 0 AND bad IS NULL
    UNION ALL SELECT 'fails_in_rows', i FROM record WHERE v = 0 AND i > 690 AND bad IS NULL
    UNION ALL SELECT 'fails_in_filter', i FROM record WHERE k = 3 AND bad IS NULL;
CREATE FUNCTION wrong_letters(of text) RETURNS TABLE (what text, name text, id bigint) LANGUAGE sql AS $$
    WITH letters AS (SELECT substr(split_part(l.view::text, '.', -1), length(of) + 2) AS name, (regexp_match(convert_from(l.value, 'UTF8'), '"id": (\d+)'))[1]::bigint AS id
        FROM streamext.dead_letters l WHERE l.stream::text ~ (of || '$') AND coalesce(l.view::text, '') !~ 'many_keys') -- whose letters are of its parts
    SELECT 'missing', x.* FROM (TABLE expected_letters EXCEPT ALL TABLE letters) x
    UNION ALL SELECT 'extra', x.* FROM (TABLE letters EXCEPT ALL TABLE expected_letters) x ORDER BY 1, 2, 3
$$;

-- a worker: several large batches
\set path :dir '/all'
SELECT make('parts', :'path', ', max_batch_rows = 900');
SELECT streamext.resume('parts');
SELECT streamext.wait('parts');
SELECT count(*) > 3 AS batches, sum(rows) AS rows FROM streamext.batches WHERE pipeline = 'parts';
SELECT * FROM differences('parts');
SELECT * FROM wrong_letters('parts');
SELECT count(*), count(DISTINCT sqlstate) AS kinds FROM streamext.dead_letters WHERE stream::text ~ 'parts$';
-- letters that are fed again fail again, each for its view, and change nothing
SELECT streamext.pause('parts');
SELECT streamext.replay_dead_letters('parts');
DO $$ BEGIN LOOP PERFORM streamext.step('parts'); EXIT WHEN NOT FOUND; END LOOP; END $$;
SELECT * FROM differences('parts');
SELECT * FROM wrong_letters('parts');
SELECT attempt, replay, count(*) FROM streamext.dead_letters WHERE stream::text ~ 'parts$' GROUP BY 1, 2;

-- all in one batch of step(), with little memory for groups: several passes over the records
SELECT make('whole', :'path', '');
SET work_mem = '64kB';
SELECT rows FROM streamext.step('whole');
RESET work_mem;
SELECT * FROM differences('whole');
SELECT * FROM wrong_letters('whole');
DROP STREAM parts, whole CASCADE;

-- Five scans, one record that is bad in a column which two of them read: all others are decoded
-- once.  Then a sixth scan with a column whose errors raise decodes for itself.
\! cd "$DIR/once"; for i in 1 2 3 4 5 6 7 8 9; do echo "{\"k\": $i, \"v\": $i, \"p\": $i}"; done >a; echo '{"k": 10, "v": "x", "p": 10}' >>a
\set path :dir '/once'
CREATE STREAM once (k int, v int, p positive) WITH (connector = 'file', path = :'path', format = 'json', paused);
CREATE MATERIALIZED VIEW once_1 AS SELECT k, v FROM once;
CREATE MATERIALIZED VIEW once_2 AS SELECT k % 2 AS g, count(*) AS n FROM once GROUP BY 1;
CREATE MATERIALIZED VIEW once_3 AS SELECT k % 3 AS g, count(*) AS n FROM once GROUP BY 1;
CREATE MATERIALIZED VIEW once_4 AS SELECT v % 3 AS g, count(*) AS n FROM once GROUP BY 1;
CREATE MATERIALIZED VIEW once_5 AS SELECT count(*) AS n FROM once;
BEGIN;
SET LOCAL client_min_messages = debug1;
SELECT rows, dead_letters FROM streamext.step('once');
ROLLBACK;
CREATE MATERIALIZED VIEW once_6 AS SELECT p FROM once;
SET client_min_messages = debug1;
SELECT rows, dead_letters FROM streamext.step('once');
SET client_min_messages = error;
SELECT (SELECT count(*) FROM once_1) AS a, (SELECT sum(n) FROM once_2) AS b, (SELECT sum(n) FROM once_3) AS c, (SELECT sum(n) FROM once_4) AS d, (TABLE once_5) AS e, (SELECT count(*) FROM once_6) AS f;
DROP STREAM once CASCADE;

-- more than is kept: what is beyond is decoded by each, and the result is the same
\set file :dir /big/a
COPY (SELECT format('{"k": %s, "b": "%s"}', i, repeat(chr(97 + i % 26), 100000)) FROM generate_series(1, 300) i) TO :'file' WITH (FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02');
\set path :dir '/big'
CREATE STREAM big (k int, b text) WITH (connector = 'file', path = :'path', format = 'json', max_batch_bytes = 104857600, paused);
CREATE MATERIALIZED VIEW big_1 AS SELECT left(b, 1) AS c, count(*) AS n, sum(length(b)) AS l FROM big GROUP BY 1;
CREATE MATERIALIZED VIEW big_2 AS SELECT md5(b) AS h, count(*) AS n, sum(k) AS s FROM big GROUP BY 1;
CREATE MATERIALIZED VIEW big_3 AS SELECT b, count(*) AS n FROM big GROUP BY 1;
SET client_min_messages = debug1;
SELECT rows, dead_letters FROM streamext.step('big');
SET client_min_messages = error;
SELECT count(*), sum(n) AS n, sum(l) AS l FROM big_1;
SELECT count(*), sum(n) AS n, sum(s) AS s, bool_and(h IN (SELECT md5(b) FROM big_3)) AS same FROM big_2;

-- more groups than there is memory for
\set path :dir '/all'
CREATE STREAM few (id bigint, t text) WITH (connector = 'file', path = :'path', format = 'json', paused);
CREATE MATERIALIZED VIEW few_1 AS SELECT id, count(*) AS n, max(length(t)) AS l FROM few GROUP BY id;
CREATE MATERIALIZED VIEW few_2 AS SELECT id::text || t AS k, count(*) AS n, min(id) AS i FROM few WHERE t <> 't7' GROUP BY 1;
SET work_mem = '64kB';
SET client_min_messages = debug1;
SELECT rows, dead_letters FROM streamext.step('few');
SET client_min_messages = error;
RESET work_mem;
WITH a AS (SELECT id, count(*) AS n, max(length(t)) AS l FROM good WHERE bad <> 't' GROUP BY id)
    SELECT (SELECT count(*) FROM a) AS n, (SELECT count(*) FROM (TABLE a EXCEPT ALL SELECT * FROM few_1) x) AS missing, (SELECT count(*) FROM (SELECT * FROM few_1 EXCEPT ALL TABLE a) x) AS extra;
WITH a AS (SELECT id::text || t AS k, count(*) AS n, min(id) AS i FROM good WHERE bad <> 't' AND t <> 't7' GROUP BY 1)
    SELECT (SELECT count(*) FROM a) AS n, (SELECT count(*) FROM (TABLE a EXCEPT ALL SELECT * FROM few_2) x) AS missing, (SELECT count(*) FROM (SELECT * FROM few_2 EXCEPT ALL TABLE a) x) AS extra;
DROP SCHEMA shared_columns CASCADE;
