-- The batch of a merged view is grouped by hand where its keys are equal when their bytes are and
-- its aggregates are count, sum, min and max of integers; texts that are split are not cut into rows.
-- Every view is there twice: one whose state table has a trigger, which makes the batch take the view's statement
-- and so the server's own functions and grouping.  Both must be the query itself over all rows.
SET client_min_messages = error;
SET TimeZone = 'UTC';
CREATE SCHEMA by_hand;
SET search_path = by_hand, public;
CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE STREAM q (id int, line text, k int, s smallint, b bigint, t timestamptz, d date, u uuid, o boolean, y bytea) WITH (connector = 'queue', paused, allow_special);
CREATE STREAM words AS SELECT id, string_to_table(line, ' ') AS word FROM q WHERE id % 7 <> 0;
CREATE TABLE history (id int, line text, k int, s smallint, b bigint, t timestamptz, d date, u uuid, o boolean, y bytea);
CREATE TABLE twins (name text PRIMARY KEY, query text);
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';

-- What splits: ways to write it, of which some are known and the others the executor's.
INSERT INTO twins SELECT 'split_' || i, format('SELECT w, count(*) AS n, count(w) AS m, sum(k) AS s, min(b) AS low, max(t) AS high FROM ROWS, %s AS w GROUP BY w', call)
FROM unnest(ARRAY['string_to_table(line, '' '')', 'string_to_table(line, '', '')', 'string_to_table(line, ''é'')', 'string_to_table(line, ''aa'')',
	'string_to_table(line, '''')', 'string_to_table(line, NULL)', 'string_to_table(line, '' '', ''a'')', 'unnest(string_to_array(line, '' ''))',
	'regexp_split_to_table(line, '' '')', 'regexp_split_to_table(line, '' +'')', 'regexp_split_to_table(line, ''\s'')', 'regexp_split_to_table(line, ''\s+'')',
	'regexp_split_to_table(line, ''\S+'')', 'regexp_split_to_table(line, ''\W+'')', 'regexp_split_to_table(line, ''\w'')', 'regexp_split_to_table(line, ''\d+'')',
	'regexp_split_to_table(line, ''\D'')', 'regexp_split_to_table(line, ''.'')', 'regexp_split_to_table(line, ''[ ,]+'')', 'regexp_split_to_table(line, '''')',
	'regexp_split_to_table(line, '' *'')', 'regexp_split_to_table(line, '' +?'')', 'regexp_split_to_table(line, ''A'', ''i'')', 'regexp_split_to_table(line, ''é'')',
	'unnest(regexp_split_to_array(line, ''\s+''))', 'unnest(regexp_split_to_array(line, '',''))', 'string_to_table(lower(line || '' End''), '' '')',
	'regexp_split_to_table(line COLLATE "und-x-icu", ''\s+'')', 'regexp_split_to_table(line COLLATE "und-x-icu", ''\w+'')',
	'regexp_split_to_table(line COLLATE "C", ''\s+'')', 'regexp_split_to_table(line COLLATE "C", ''\W+'')', 'string_to_table(line, E''\t'')']) WITH ORDINALITY x(call, i);

-- Where it stands: what may be taken out of rows, and what sees the pieces.
INSERT INTO twins VALUES
	('listed', 'SELECT w, count(*) AS n FROM (SELECT string_to_table(line, '' '') AS w FROM ROWS) x GROUP BY w'),
	('here', 'SELECT string_to_table(line, '' '') AS w, count(*) AS n, sum(s) AS s FROM ROWS GROUP BY 1'),
	('two', 'SELECT string_to_table(line, '' '') AS w, string_to_table(line, ''a'') AS v, count(*) AS n FROM ROWS GROUP BY 1, 2'),
	('with_key', 'SELECT k, w, o, count(*) AS n, max(s) AS m FROM (SELECT k, o, s, string_to_table(line, '' '') AS w FROM ROWS WHERE k > 2) x GROUP BY k, w, o'),
	('filtered', 'SELECT w, count(*) AS n FROM ROWS, string_to_table(line, '' '') AS w WHERE w <> '''' GROUP BY w'),
	('filter', 'SELECT w, count(*) FILTER (WHERE k > 3) AS n, sum(k) FILTER (WHERE w > ''b'') AS s FROM ROWS, string_to_table(line, '' '') AS w GROUP BY w'),
	('lowered', 'SELECT lower(w) AS w, count(*) AS n FROM ROWS, string_to_table(line, '' '') AS w GROUP BY lower(w)'),
	('outer_join', 'SELECT w, count(*) AS n, count(w) AS m FROM ROWS LEFT JOIN LATERAL string_to_table(line, '' '') AS w ON true GROUP BY w'),
	('inner_join', 'SELECT w, count(*) AS n FROM ROWS JOIN LATERAL string_to_table(line, '' '') AS w ON k > 4 GROUP BY w'),
	('numbered', 'SELECT w, max(i) AS last FROM ROWS, string_to_table(line, '' '') WITH ORDINALITY AS x(w, i) GROUP BY w'),
	('deep', 'SELECT w, count(*) AS n FROM (SELECT w, k FROM (SELECT k, string_to_table(line, '' '') AS w FROM ROWS) x WHERE k <> 3) y WHERE k <> 5 GROUP BY w'),
	('inside', 'SELECT w, count(*) AS n FROM (SELECT w, k FROM (SELECT k, string_to_table(line, '' '') AS w FROM ROWS) x WHERE EXISTS (SELECT FROM unnest(ARRAY[''a'', ''é'', '''']) e WHERE e = w)) y GROUP BY w'),
	('as_folded', 'SELECT w COLLATE folded AS w, count(*) AS n FROM ROWS, string_to_table(line, '' '') AS w GROUP BY 1'),
	('several_rows', 'SELECT w, count(*) AS n FROM (SELECT string_to_table(line, '' '') AS w, generate_series(1, k) AS g FROM ROWS) x GROUP BY w'),
	('crossed', 'SELECT w, g, count(*) AS n FROM ROWS, string_to_table(line, '' '') AS w, generate_series(1, k % 3) AS g GROUP BY w, g'),
	('own', 'SELECT a.w, count(*) AS n, count(b.w) AS m FROM ROWS, string_to_table(line, '' '') AS a(w), string_to_table(line, ''a'') AS b(w) GROUP BY a.w'),
	('chained', 'SELECT n, count(*) AS words FROM (SELECT w, count(*) AS n FROM ROWS, string_to_table(line, '' '') AS w GROUP BY w) x GROUP BY n');

-- Keys and aggregates of every kind, known ones and others.
INSERT INTO twins VALUES
	('k', 'SELECT k, count(*) AS n, count(s) AS c, sum(k) AS a, sum(s) AS b, min(s) AS d, max(s) AS e, min(d) AS f, max(t) AS g, min(b) AS h FROM ROWS GROUP BY k'),
	('s', 'SELECT s, sum(b) AS n FROM ROWS GROUP BY s'), ('b', 'SELECT b, avg(k) AS n FROM ROWS GROUP BY b'), ('t', 'SELECT t, count(*) AS n FROM ROWS GROUP BY t'),
	('d', 'SELECT d, max(id) AS n FROM ROWS GROUP BY d'), ('u', 'SELECT u, count(line) AS n FROM ROWS GROUP BY u'), ('o', 'SELECT o, count(*) AS n FROM ROWS GROUP BY o'),
	('y', 'SELECT y, count(*) AS n, sum(k) AS s FROM ROWS GROUP BY y'), ('line', 'SELECT line, count(*) AS n, min(k) AS s FROM ROWS GROUP BY line'),
	('line_folded', 'SELECT line COLLATE folded AS f, count(*) AS n FROM ROWS GROUP BY 1'), ('seen', 'SELECT k, o FROM ROWS GROUP BY k, o'),
	('many', 'SELECT k, o, line, u, y, d, s, count(*) AS n, sum(id) AS i FROM ROWS GROUP BY k, o, line, u, y, d, s'),
	('floats', 'SELECT (k - 3)::float8 * 0 AS f, count(*) AS n FROM ROWS GROUP BY 1'), ('numbers', 'SELECT round(k, s % 3) AS f, count(*) AS n FROM ROWS WHERE s > 0 GROUP BY 1'),
	('having', 'SELECT k, count(*) AS n FROM ROWS GROUP BY k HAVING count(*) > 40'), ('distincts', 'SELECT k, count(DISTINCT s) AS n, sum(id) AS i FROM ROWS GROUP BY k'),
	('mixed', 'SELECT k, bool_or(o) AS o, string_agg(line, ''|'' ORDER BY id) AS l, count(*) AS n FROM ROWS GROUP BY k'),
	('filters', 'SELECT k, count(*) FILTER (WHERE o) AS a, sum(s) FILTER (WHERE s > 3) AS b, min(b) FILTER (WHERE o IS NULL) AS c FROM ROWS GROUP BY k'),
	('strings', 'SELECT k::varchar(3) AS v, left(line, 1)::"char" AS c, count(*) AS n FROM ROWS GROUP BY 1, 2'),
	('windows', 'SELECT tumble(t, ''1 hour'') AS w, k, count(*) AS n, sum(s) AS s FROM ROWS GROUP BY 1, 2'),
	('sets', 'SELECT k, o, count(*) AS n FROM ROWS GROUP BY GROUPING SETS ((k), (o))'), ('other', 'SELECT k, k + 1 AS l, 5 AS five, count(*) + 1 AS n FROM ROWS GROUP BY k'),
	('volatile', 'SELECT (random() * 0)::int AS z, count(*) AS n FROM ROWS GROUP BY 1');

-- Those that views do not know at all are told, and left out.
CREATE FUNCTION make_twins() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE twin twins;
BEGIN
	FOR twin IN SELECT * FROM twins ORDER BY name LOOP
		BEGIN
			EXECUTE format('CREATE MATERIALIZED VIEW %I AS %s', twin.name, replace(twin.query, 'ROWS', 'q'));
			EXECUTE format('CREATE MATERIALIZED VIEW %I AS %s', twin.name || '_stmt', replace(twin.query, 'ROWS', 'q'));
			EXECUTE format('CREATE TRIGGER other BEFORE DELETE ON %s FOR EACH STATEMENT EXECUTE FUNCTION nothing()',
				(SELECT state_table FROM streamext.views WHERE view = ('by_hand.' || quote_ident(twin.name || '_stmt'))::regclass));
		EXCEPTION WHEN feature_not_supported OR invalid_parameter_value OR datatype_mismatch THEN
			RETURN NEXT twin.name || ': ' || sqlerrm;
			DELETE FROM twins WHERE name = twin.name;
		END;
	END LOOP;
END $$;
SELECT * FROM make_twins();
CREATE MATERIALIZED VIEW of_stream AS SELECT word, count(*) AS n FROM words GROUP BY word;

CREATE FUNCTION feed(n int) RETURNS bigint LANGUAGE sql AS $$
	WITH letters AS (SELECT ARRAY[' ', ' ', ' ', 'a', 'a', 'b', 'A', 'B', ',', '.', '_', '1', '42', 'é', 'É', E'\t', E'\n', E'\r', E'\x0b', E'\x0c', E'\x1c', E'\x1f', E'\x7f',
		U&'\3000', U&'\00a0', U&'\2003', U&'\0085', U&'\0301', U&'\0661', '😀', 'long word ', repeat('x', 20)] AS a),
	made AS (SELECT i + (SELECT count(*)::int FROM history) AS id, r FROM generate_series(1, n) i,
		LATERAL (SELECT array_agg(random() + i * 0 ORDER BY j) AS r FROM generate_series(1, 30) j) x),
	new AS (INSERT INTO history
		SELECT id, CASE WHEN r[1] < 0.1 THEN NULL WHEN r[1] < 0.2 THEN '' ELSE
				(SELECT string_agg(a[1 + floor(r[j] * CASE WHEN id % 3 = 0 THEN cardinality(a) ELSE 23 END)::int], '' ORDER BY j) FROM letters, generate_series(2, 2 + (id % 20)) j) END,
			CASE WHEN r[23] > 0.1 THEN floor(r[23] * 8)::int END, CASE WHEN r[24] > 0.2 THEN floor(r[24] * 9 - 3)::int END,
			CASE WHEN r[25] > 0.2 THEN floor(r[25] * 1e12)::bigint * 7 END, CASE r[26] > 0.1 WHEN true THEN 'epoch'::timestamptz + floor(r[26] * 300) * interval '1 minute' ELSE 'infinity' END,
			CASE WHEN r[27] > 0.1 THEN date '2024-01-01' + floor(r[27] * 40)::int - 20 END, CASE WHEN r[28] > 0.3 THEN md5(floor(r[28] * 50)::text)::uuid END,
			CASE WHEN r[29] > 0.3 THEN r[29] > 0.6 END, CASE WHEN r[30] > 0.2 THEN decode(repeat('0a00', floor(r[30] * 5)::int), 'hex') END
		FROM made RETURNING *)
	SELECT count(*) FROM new;
	INSERT INTO q SELECT * FROM history WHERE id > (SELECT count(*) FROM history) - n ORDER BY id;
	SELECT count(*) FROM history $$;

-- What differs from the query over all rows, if anything: equal texts may be kept in any of their forms.
CREATE FUNCTION wrong() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE twin twins; way text; n bigint;
BEGIN
	FOR twin IN SELECT * FROM twins ORDER BY name LOOP
		FOREACH way IN ARRAY ARRAY['', '_stmt'] LOOP
			EXECUTE format('WITH batch AS MATERIALIZED (SELECT %1$s FROM (%2$s) x), view AS MATERIALIZED (SELECT %1$s FROM %3$I)
				SELECT (SELECT count(*) FROM (TABLE batch EXCEPT ALL TABLE view) x) + (SELECT count(*) FROM (TABLE view EXCEPT ALL TABLE batch) x)',
				CASE WHEN twin.name LIKE '%folded' THEN 'n' ELSE '*' END, replace(twin.query, 'ROWS', 'history'), twin.name || way) INTO n;
			IF n > 0 THEN RETURN NEXT twin.name || way || ': ' || n; END IF;
		END LOOP;
	END LOOP;
END $$;

-- twice with little memory, so that there are more groups than it holds
SELECT setseed(0.5);
SET work_mem = '64kB';
SELECT feed(1500);
SELECT rows, dead_letters FROM streamext.step('q', '2024-01-01Z');
SELECT feed(700);
SELECT rows, dead_letters FROM streamext.step('q', '2024-01-01Z');
SELECT * FROM wrong();
RESET work_mem;
SELECT feed(1);
SELECT rows, dead_letters FROM streamext.step('q', '2024-01-01Z');
SELECT feed(300);
SELECT rows, dead_letters FROM streamext.step('q', '2024-01-01Z');
SELECT * FROM wrong();
(SELECT word, count(*) FROM (SELECT string_to_table(line, ' ') AS word FROM history WHERE id % 7 <> 0) x GROUP BY word EXCEPT ALL TABLE of_stream);
SELECT count(*) > 100 AS several FROM of_stream;

-- Records whose rows fail are out, and no others: the key, the argument, the text and the filter.
CREATE STREAM p (id int, line text) WITH (connector = 'queue', paused);
CREATE MATERIALIZED VIEW bad_key AS SELECT 10 / (id - 5) AS x, count(*) AS n FROM p GROUP BY 1;
CREATE MATERIALIZED VIEW bad_argument AS SELECT id % 2 AS x, sum(10 / (id - 6)) AS n FROM p GROUP BY 1;
CREATE MATERIALIZED VIEW bad_filter AS SELECT id % 2 AS x, count(*) FILTER (WHERE 10 / (id - 7) > 0) AS n FROM p GROUP BY 1;
CREATE MATERIALIZED VIEW bad_text AS SELECT w, count(*) AS n FROM p, string_to_table(substr(line, 1, id - 8), ' ') AS w WHERE id > 6 GROUP BY w;
INSERT INTO p SELECT i, 'a bc d ' || i FROM generate_series(1, 12) i;
SELECT rows, dead_letters FROM streamext.step('p', '2024-01-01Z');
SELECT view::text COLLATE "C", value, message FROM streamext.dead_letters WHERE stream = 'p'::regclass ORDER BY 1, 2;
SELECT * FROM bad_key ORDER BY x;
SELECT * FROM bad_argument ORDER BY x;
SELECT * FROM bad_filter ORDER BY x;
SELECT * FROM bad_text ORDER BY w;

-- Which way was taken is a message.
CREATE STREAM r (id int, line text) WITH (connector = 'queue', paused);
CREATE MATERIALIZED VIEW known_1 AS SELECT w, count(*) AS n FROM r, string_to_table(line, ' ') AS w GROUP BY w;
CREATE MATERIALIZED VIEW known_2 AS SELECT w, count(*) AS n FROM (SELECT regexp_split_to_table(line, '\s+') AS w FROM r) x GROUP BY w;
CREATE MATERIALIZED VIEW known_3 AS SELECT id, sum(length(line)) AS n FROM r GROUP BY id;
CREATE MATERIALIZED VIEW known_4 AS SELECT w, count(*) AS n FROM r, string_to_table(line, ' ') AS w WHERE w <> '' GROUP BY w;
CREATE MATERIALIZED VIEW unknown AS SELECT id::numeric AS id, count(*) AS n FROM r GROUP BY 1;
INSERT INTO r VALUES (1, 'a b');
SET client_min_messages = debug1;
SELECT rows, dead_letters FROM streamext.step('r', '2024-01-01Z');
SET client_min_messages = error;

DROP SCHEMA by_hand CASCADE;
