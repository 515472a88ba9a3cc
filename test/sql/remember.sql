-- Results of regular expressions, lower() and upper() that a batch remembers are those of the functions.
SET client_min_messages = error;
CREATE SCHEMA remember;
SET search_path = remember, public;
CREATE STREAM s (id int, a text, p text) WITH (connector = 'queue', paused);
CREATE TABLE names (name text);
CREATE INDEX ON names (lower(name));
INSERT INTO names VALUES ('Anna'), ('BERT');
CREATE TABLE rows (id int, a text, p text);
CREATE MATERIALIZED VIEW v AS
    SELECT id, substring(a FROM '(?:&|^)id=([^&]*)') AS id_of, regexp_replace(a, 'b+', 'x') AS one, regexp_replace(a, 'B', '-', 'gi') AS every,
           regexp_match(a, '(.)(b)') AS parts, regexp_match(a, '(B)', 'i') AS parts_i, regexp_like(a, '^a') AS begins, regexp_substr(a, '[0-9]+') AS digits,
           a ~ 'b$' AS r, a !~ 'b$' AS nr, a ~* 'B$' AS ri, a !~* 'B$' AS nri, a ~ p AS by_row, lower(a) AS l, upper(a) AS u,
           lower(a COLLATE "C") AS lc, upper(substring(a FROM 'id=(.*)')) AS nested, lower('CONST') AS c
    FROM s WHERE substring(a FROM '(?:&|^)id=([^&]*)') IS NOT NULL OR lower(a) IN ('ab', 'äb') OR id % 3 = 0;
CREATE MATERIALIZED VIEW groups AS SELECT lower(a) AS l, count(*) AS n, count(*) FILTER (WHERE a ~ 'b') AS b FROM s GROUP BY lower(a);
CREATE MATERIALIZED VIEW named AS SELECT s.id, n.name FROM s JOIN names n ON lower(n.name) = lower(s.a);
-- strings that come again, NULL, empty ones, such as are not ASCII, long ones, and such as share nothing
INSERT INTO rows
    SELECT i, CASE i % 11 WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN 'ab' WHEN 3 THEN 'Äb' WHEN 4 THEN 'x&id=' || i % 50 WHEN 5 THEN 'id=' || i
                      WHEN 6 THEN repeat('aB', 300) || i % 4 WHEN 7 THEN 'anna' WHEN 8 THEN 'abB' || i % 2000 WHEN 9 THEN 'Bert' ELSE 'x' END,
           CASE i % 4 WHEN 0 THEN 'b' WHEN 1 THEN '^a' WHEN 2 THEN NULL ELSE '' END
    FROM generate_series(1, 12000) i;
INSERT INTO s SELECT * FROM rows;
SELECT rows FROM streamext.step('s');
-- once more, from what is remembered, with new results in places that are taken
INSERT INTO s SELECT * FROM rows WHERE id > 6000;
INSERT INTO rows SELECT * FROM rows WHERE id > 6000;
SELECT rows FROM streamext.step('s');
CREATE VIEW batch AS
    SELECT id, substring(a FROM '(?:&|^)id=([^&]*)') AS id_of, regexp_replace(a, 'b+', 'x') AS one, regexp_replace(a, 'B', '-', 'gi') AS every,
           regexp_match(a, '(.)(b)') AS parts, regexp_match(a, '(B)', 'i') AS parts_i, regexp_like(a, '^a') AS begins, regexp_substr(a, '[0-9]+') AS digits,
           a ~ 'b$' AS r, a !~ 'b$' AS nr, a ~* 'B$' AS ri, a !~* 'B$' AS nri, a ~ p AS by_row, lower(a) AS l, upper(a) AS u,
           lower(a COLLATE "C") AS lc, upper(substring(a FROM 'id=(.*)')) AS nested, lower('CONST') AS c
    FROM rows WHERE substring(a FROM '(?:&|^)id=([^&]*)') IS NOT NULL OR lower(a) IN ('ab', 'äb') OR id % 3 = 0;
SELECT count(*) FROM v;
SELECT (SELECT count(*) FROM (TABLE batch EXCEPT ALL TABLE v) x) AS missing, (SELECT count(*) FROM (TABLE v EXCEPT ALL TABLE batch) x) AS extra;
SELECT count(*) AS differs FROM (TABLE groups EXCEPT ALL SELECT lower(a), count(*), count(*) FILTER (WHERE a ~ 'b') FROM rows GROUP BY lower(a)) x;
SELECT name, count(*) FROM named GROUP BY name ORDER BY name;
-- a pattern from the data that is none: a dead letter, as ever
INSERT INTO s VALUES (3, 'ab', '('), (6, 'ab', 'a');
SELECT rows, dead_letters FROM streamext.step('s');
-- by hand it does what the function does, and nothing that is not in its list
SELECT streamext.remember_text(870, 'ABC'::text), streamext.remember_boolean(1254, 'abc'::text, 'b'::text);
SELECT streamext.remember_text(1254, 'abc'::text, 'b'::text);
SELECT streamext.remember_text(870, 'ABC'::text, 'b'::text);
SELECT streamext.remember_text(870, 1);
SELECT streamext.remember_text('pg_read_file(text)'::regprocedure, 'x'::text);
DROP SCHEMA remember CASCADE;
