-- Spark's transformations, one by one, batch by batch: SEMANTICS §1.  Every source gives one file a batch; the second
-- file is empty, and there are NULLs among keys and values.
SET timezone = 'UTC';
SET client_min_messages = warning;
CREATE SCHEMA transformations;
SET search_path = transformations, public;
\getenv build_dir PG_ABS_BUILDDIR
\set dir :build_dir /transformations
\setenv DIR :dir
\! rm -rf "$DIR"; mkdir -p "$DIR/s" "$DIR/a" "$DIR/b" "$DIR/lines"
\! cd "$DIR/s"; printf 'a,1\na,2\nb,5\n,3\na,\n' >1; : >2; printf 'b,7\nc,0\n,4\n,\n' >3
\! cd "$DIR/a"; printf 'k,a1\nk,a2\nonly a,a3\n,a4\n' >1; : >2; printf 'k,a5\n' >3
\! cd "$DIR/b"; printf 'k,b1\nk,b2\nonly b,b3\n,b4\n' >1; printf 'k,b5\n' >2; : >3
\! cd "$DIR/lines"; printf 'to be or\nnot to be\n' >1; : >2; printf 'be\n' >3
\! cd "$DIR"; for d in s a b lines; do for f in 1 2 3; do touch -d "2024-01-0$f 00:00Z" $d/$f; done; done
\set path :dir '/s'
CREATE STREAM s (k text, v int, line bigint OPTIONS (metadata 'offset'), part int OPTIONS (metadata 'partition'))
    WITH (connector = 'file', path = :'path', format = 'csv', max_files_per_batch = 1, pipeline = 'p', paused);
\set path :dir '/a'
CREATE STREAM a (k text, v text)
    WITH (connector = 'file', path = :'path', format = 'csv', max_files_per_batch = 1, pipeline = 'p', paused);
\set path :dir '/b'
CREATE STREAM b (k text, v text)
    WITH (connector = 'file', path = :'path', format = 'csv', max_files_per_batch = 1, pipeline = 'p', paused);
\set path :dir '/lines'
CREATE STREAM lines (line text)
    WITH (connector = 'file', path = :'path', format = 'text', max_files_per_batch = 1, pipeline = 'p', paused);

-- what each batch of a stream held, in a table named after the operation
CREATE PROCEDURE capture(operation text, query text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE STREAM %I AS %s', operation, query);
    EXECUTE format('CREATE STREAM %I WITH (connector = ''table'', table = %L) AS SELECT streamext.batch_id() AS batch, * FROM %I',
                   'capture_' || operation, quote_ident(operation || '_t'), operation);
END $$;

-- record by record
CALL capture('map', 'SELECT k, v * 10 AS v FROM s');
CALL capture('filter', 'SELECT k, v FROM s WHERE v > 2');
CALL capture('mapValues', 'SELECT k, -v AS v FROM s');
CALL capture('flatMap', 'SELECT w FROM lines, regexp_split_to_table(line, '' '') w');
CALL capture('flatMapValues', 'SELECT k, x FROM s, generate_series(1, v) x');
CALL capture('mapPartitions', 'SELECT part, array_agg(v ORDER BY line) AS vs FROM s GROUP BY part');
CALL capture('union', 'SELECT k, v FROM a UNION ALL SELECT k, v FROM b');
-- over the batch
CALL capture('count', 'SELECT count(*) AS n FROM s');
CALL capture('reduce', 'SELECT sum(v) AS v FROM s HAVING count(*) > 0');
CALL capture('countByValue', 'SELECT k, count(*) AS n FROM s GROUP BY k');
CALL capture('reduceByKey', 'SELECT k, sum(v) AS v FROM s GROUP BY k');
CALL capture('groupByKey', 'SELECT k, array_agg(v ORDER BY line) AS vs FROM s GROUP BY k');
CREATE AGGREGATE combined(int) (SFUNC = int4larger, STYPE = int, COMBINEFUNC = int4larger, INITCOND = '-1');
CALL capture('combineByKey', 'SELECT k, combined(v) AS v FROM s GROUP BY k');
CALL capture('distinct', 'SELECT DISTINCT k FROM s');
CALL capture('sort', 'SELECT row_number() OVER (ORDER BY v DESC NULLS LAST, k) AS r, k, v FROM s');
CALL capture('top', 'SELECT k, v FROM s ORDER BY v DESC NULLS LAST LIMIT 2');
CALL capture('subtract', 'SELECT k FROM a EXCEPT SELECT k FROM b');
CALL capture('intersection', 'SELECT k FROM a INTERSECT SELECT k FROM b');
CALL capture('scalar', 'SELECT k, v FROM s WHERE v = (SELECT max(v) FROM s)');
CALL capture('cte', 'WITH m AS (SELECT max(v) AS v FROM s) SELECT s.k, m.v - s.v AS below FROM s, m WHERE s.v IS NOT NULL');
-- of two streams: the same batch only
CALL capture('join', 'SELECT a.k, a.v AS a, b.v AS b FROM a JOIN b USING (k)');
CALL capture('join_null_keys', 'SELECT a.k, a.v AS a, b.v AS b FROM a JOIN b ON a.k IS NOT DISTINCT FROM b.k');
CALL capture('leftOuterJoin', 'SELECT a.k, a.v AS a, b.v AS b FROM a LEFT JOIN b USING (k)');
CALL capture('rightOuterJoin', 'SELECT b.k, a.v AS a, b.v AS b FROM a RIGHT JOIN b USING (k)');
CALL capture('fullOuterJoin', 'SELECT coalesce(a.k, b.k) AS k, a.v AS a, b.v AS b FROM a FULL JOIN b USING (k)');
CALL capture('cogroup', $$SELECT coalesce(x.k, y.k) AS k, coalesce(x.vs, '{}') AS a, coalesce(y.vs, '{}') AS b
    FROM (SELECT k, array_agg(v ORDER BY v) AS vs FROM a GROUP BY k) x
         FULL JOIN (SELECT k, array_agg(v ORDER BY v) AS vs FROM b GROUP BY k) y
         ON coalesce(x.k, '<null>') = coalesce(y.k, '<null>')$$);
CALL capture('subtractByKey', 'SELECT a.k, a.v FROM a WHERE NOT EXISTS (SELECT FROM b WHERE b.k = a.k)');
-- transform: any query, any function; a table counts as it is when the batch runs
CREATE TABLE names (k text PRIMARY KEY, name text);
INSERT INTO names VALUES ('a', 'Ada');
CALL capture('transform', 'SELECT s.k, n.name, s.v FROM s LEFT JOIN names n USING (k)');
CREATE FUNCTION top_keys(n int) RETURNS TABLE (k text, total bigint)
    BEGIN ATOMIC SELECT k, sum(v) FROM s GROUP BY k ORDER BY 2 DESC NULLS LAST, 1 LIMIT n; END;
CALL capture('transform_function', 'SELECT * FROM top_keys(2)');
CREATE FUNCTION hidden_count() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT count(*) FROM s WHERE k IS NULL); END $$;
CREATE STREAM "transformWith" WITH (source = 's, "a"') AS SELECT hidden_count() AS n, (SELECT count(*) FROM a) AS m;
CREATE STREAM capture_transformWith WITH (connector = 'table', table = 'transformWith_t') AS
    SELECT streamext.batch_id() AS batch, * FROM "transformWith";
-- persist: a sink of connector table keeps what a stream held
CREATE STREAM persist WITH (connector = 'table', table = 'persist_t') AS SELECT streamext.batch_id() AS batch, k, v FROM s;

SELECT batch_id, rows, dead_letters FROM streamext.step('p', '2024-02-01 00:00:01Z');
INSERT INTO names VALUES ('b', 'Bob');
UPDATE names SET name = 'Ann' WHERE k = 'a';
SELECT batch_id, rows, dead_letters FROM streamext.step('p', '2024-02-01 00:00:02Z');
SELECT batch_id, rows, dead_letters FROM streamext.step('p', '2024-02-01 00:00:03Z');
SELECT batch_id FROM streamext.step('p', '2024-02-01 00:00:04Z');

SELECT * FROM map_t ORDER BY batch, k, v;
SELECT * FROM filter_t ORDER BY batch, k, v;
SELECT * FROM "mapValues_t" ORDER BY batch, k, v;
SELECT batch, array_agg(w) AS words FROM "flatMap_t" GROUP BY batch ORDER BY batch;
SELECT batch, k, array_agg(x) AS xs FROM "flatMapValues_t" GROUP BY batch, k ORDER BY batch, k;
SELECT * FROM "mapPartitions_t" ORDER BY batch, part;
SELECT * FROM union_t ORDER BY batch, k, v;
SELECT * FROM count_t ORDER BY batch;
SELECT * FROM reduce_t ORDER BY batch;
SELECT * FROM "countByValue_t" ORDER BY batch, k;
SELECT * FROM "reduceByKey_t" ORDER BY batch, k;
SELECT * FROM "groupByKey_t" ORDER BY batch, k;
SELECT * FROM "combineByKey_t" ORDER BY batch, k;
SELECT * FROM distinct_t ORDER BY batch, k;
SELECT * FROM sort_t ORDER BY batch, r;
SELECT * FROM top_t;
SELECT * FROM subtract_t ORDER BY batch, k;
SELECT * FROM intersection_t ORDER BY batch, k;
SELECT * FROM scalar_t ORDER BY batch, k;
SELECT * FROM cte_t ORDER BY batch, k, below;
SELECT * FROM join_t ORDER BY batch, k, a, b;
SELECT * FROM join_null_keys_t ORDER BY batch, k, a, b;
SELECT * FROM "leftOuterJoin_t" ORDER BY batch, k, a, b;
SELECT * FROM "rightOuterJoin_t" ORDER BY batch, k, a, b;
SELECT * FROM "fullOuterJoin_t" ORDER BY batch, k, a, b;
SELECT * FROM cogroup_t ORDER BY batch, k;
SELECT * FROM "subtractByKey_t" ORDER BY batch, k;
SELECT * FROM transform_t ORDER BY batch, k, v;
SELECT * FROM transform_function_t ORDER BY batch, k;
SELECT * FROM transformWith_t ORDER BY batch;
SELECT batch, count(*) FROM persist_t GROUP BY batch ORDER BY batch;
DROP SCHEMA transformations CASCADE;
