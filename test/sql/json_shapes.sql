-- JSON documents that look like earlier ones are not walked through (json_shape.cpp): what comes out
-- must be what strict = on, which walks through each, and json of the server itself say.
SET timezone = 'UTC';
SET client_min_messages = warning;
\getenv build_dir PG_ABS_BUILDDIR
\set dir :build_dir /json_shapes
\set file :dir /documents
\setenv DIR :dir
\! rm -rf "$DIR" && mkdir "$DIR" && chmod 777 "$DIR"

-- 20 shapes, more than are kept, mixed, in runs, with other values each time: numbers, texts with
-- quotes and backslashes and of other scripts, null, missing, containers, keys in another order
CREATE TABLE document (i int PRIMARY KEY, e json);
INSERT INTO document
SELECT i, CASE shape
    WHEN 0 THEN format('{"a": %s, "b": %s, "c": {"d": [1, %s, {"x": 2}]}, "z": 1}', i, t, i)
    WHEN 1 THEN format('{"a":%s,"b":%s,"c":{"d":[1,%s,{"x":2}]},"z":1}', -i, t, i)
    WHEN 2 THEN format('{"b": %s, "a": %s, "c": {"d": [null, %s]}}', t, i, t)
    WHEN 3 THEN format('{"skip": {"a": %s, "b": "no"}, "a": "%s", "b": %s}', i, i, t)
    WHEN 4 THEN format('{"a": %s, "b": %s}', i % 7, t)
    WHEN 5 THEN format('{"a": null, "b": %s, "c": %s}', t, i)
    WHEN 6 THEN format('{"c": {"d": "%s"}, "a": %s, "b": null, "more": {"c": [{}, []]}}', i, i)
    WHEN 7 THEN format('{"aa": %s, "a ": 2, "A": 3, "b": %s, "bb": 1, "": 0}', i, t)
    WHEN 8 THEN '{}'
    WHEN 9 THEN format('{"b": %s, "c": [%s, [2, 3]]}', t, i)
    WHEN 10 THEN format('{"k%s": 1, "a": %s}', i, i)
    ELSE format('{"x%s": [], "a": %s, "b": %s}', shape, i, t) END::json
FROM (SELECT i, (hashint4(i / 5 + i % 2) & 1023) % 20 AS shape,
        to_json((ARRAY['plain', 'café ☃', 'a "quote"', 'back\slash', '', '{"a": 5}', 'tab' || chr(9), repeat('long ', 40)])[1 + i % 8])::text AS t
    FROM generate_series(1, 4000) i) x;
COPY (SELECT e FROM document ORDER BY i) TO :'file' WITH (FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02');

CREATE STREAM fast (a int, b text, c jsonb, d text OPTIONS (path 'c.d'), e text OPTIONS (path 'c.d[1]'), no bigint OPTIONS (metadata 'offset'))
    WITH (connector = 'file', path = :'file', format = 'json');
CREATE STREAM walked (a int, b text, c jsonb, d text OPTIONS (path 'c.d'), e text OPTIONS (path 'c.d[1]'), no bigint OPTIONS (metadata 'offset'))
    WITH (connector = 'file', path = :'file', format = 'json', strict = on);
SELECT count(*), count(a), count(b), count(c), count(d), count(e) FROM fast;
SELECT count(*) FROM (SELECT a, b, c, d::text, e, no FROM fast EXCEPT ALL SELECT a, b, c, d::text, e, no FROM walked) x;
-- flat columns alone, which know of missing ones
WITH f AS (SELECT a, b, c FROM fast), t AS (SELECT (e ->> 'a')::int AS a, e ->> 'b' AS b, nullif((e -> 'c')::jsonb, 'null') AS c FROM document)
    SELECT (SELECT count(*) FROM f), (SELECT count(*) FROM (TABLE f EXCEPT ALL TABLE t) x) AS extra, (SELECT count(*) FROM (TABLE t EXCEPT ALL TABLE f) x) AS missing;
DROP STREAM fast, walked;

-- what is wrong with a document is found whatever the ones before it looked like, and the first of two keys wins
\! cd "$DIR"; rm documents; yes '{"a": 1, "b": "x", "c": 2}' | head -n 50 >wrong
\! cd "$DIR"; printf '%s\n' '{"a": 01, "b": "x", "c": 2}' '{"a": 1, "b": "x" "c": 2}' '{"a": 1, "b": "x", "c": 2]' '{"a": 1, "b": "x", "c": 2}}' '{"a": 1, "b": "\q", "c": 2}' '{"a": 1, "b": "x, "c": 2}' '{"a": nul, "b": "x", "c": 2}' '{"a": 2147483648, "b": "x", "c": 2}' '{"a": 1, "a": 2, "b": "x"}' '{"a": 1, "b": "x", "a": 2}' '{"a": 3, "b": "x", "c": nonsense}' '{"\u0061": 4, "b": "x", "c": 2}' '{"a": 1, "b": "\u0000", "c": 2}' '["a"]' '' '{"a": 5, "b": "y", "c": 2}' >>wrong
-- objects and arrays that begin and do not end, in documents of the same shape
\! cd "$DIR"; printf '%s\n' '{"a": {1, "b": "x"}' '{"a": {2, "b": "x"}' '{"a": {3, "b": "x"}' '{"a": 1, "b": {null}' '{"a": 1, "b": {true}' '{"a": 1, "b": [1 }' '{"a": 1, "b": [2 }' '{"a": 1, "b": {"c" }' '{"a": 1, "b": {"d" }' '{"a": 6, "b": "z", "c": 2}' >>wrong
CREATE STREAM s (a int, b text) WITH (connector = 'file', path = :'dir', format = 'json', paused);
CREATE MATERIALIZED VIEW v AS SELECT a, b, count(*) AS n FROM s GROUP BY 1, 2;
SELECT rows, dead_letters FROM streamext.step('v');
SELECT * FROM v ORDER BY 1, 2;
SELECT convert_from(value, 'UTF8') AS document, sqlstate, message FROM streamext.dead_letters ORDER BY "offset";
DROP STREAM s CASCADE;
DROP TABLE document;
