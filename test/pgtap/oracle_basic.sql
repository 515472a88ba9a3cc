-- A continuous view equals its own SELECT over all rows that its stream has brought:
-- every query below is a view over a stream, and a plain view over a table that got the
-- same rows.  They are compared after every batch, the empty ones included.
\set QUIET on
SET client_min_messages = warning;
SET timezone = 'UTC';
SET search_path = public;
CREATE TABLE countries (code text, name text, rank int);
INSERT INTO countries VALUES ('de', 'Germany', 1), ('fr', 'France', 2), ('fr', 'République', 3), ('xx', NULL, 4), (NULL, 'nowhere', 5);
CREATE TABLE base (code text, v int, n numeric, f float8, ok boolean, ts timestamptz, day date, plain timestamp);
CREATE STREAM s (code text, v int, n numeric, f float8, ok boolean, ts timestamptz, day date, plain timestamp)
    WITH (connector = 'queue', pipeline = 'oracle', paused, event_time = 'ts', watermark = '1 hour');
CREATE STREAM s2 (code text, v int) WITH (connector = 'queue', pipeline = 'oracle', paused);
CREATE TABLE base2 (code text, v int);

-- @ is the stream or the table, @2 the second one
CREATE TABLE cases (id serial, name text, query text);
INSERT INTO cases (name, query) VALUES
    ('NULL keys', 'SELECT code, ok, count(*) AS n, sum(v) AS s FROM @ GROUP BY code, ok'),
    ('NULLs in aggregates', 'SELECT code, count(v) AS c, sum(v) AS s, min(v) AS mi, max(v) AS ma, avg(v) AS a FROM @ GROUP BY code'),
    ('HAVING', 'SELECT code, count(*) AS n FROM @ GROUP BY code HAVING count(*) > 3 AND sum(v) IS NOT NULL'),
    ('FILTER', 'SELECT code, count(*) FILTER (WHERE ok) AS n, sum(v) FILTER (WHERE NOT ok) AS s, max(n) FILTER (WHERE v > 5) AS m FROM @ GROUP BY code'),
    ('expressions over aggregates', 'SELECT code, sum(v) * 100 / nullif(count(*), 0) AS percent, coalesce(max(n), 0) - min(n) AS spread, count(*) % 2 = 0 AS even FROM @ GROUP BY code'),
    ('one aggregate used twice', 'SELECT code, count(*) AS a, count(*) + 1 AS b, sum(v) AS c, -sum(v) AS d FROM @ GROUP BY code'),
    ('expressions as keys', 'SELECT v % 3 AS m, upper(code) AS u, CASE WHEN n > 5 THEN ''large'' ELSE ''small'' END AS size, count(*) AS n FROM @ GROUP BY 1, 2, 3'),
    ('keys that are not shown', 'SELECT count(*) AS n, sum(v) AS s FROM @ GROUP BY code, v % 2'),
    ('no GROUP BY', 'SELECT count(*) AS n, sum(v) AS s, avg(n) AS a, max(ts) AS t, bool_and(ok) AS b FROM @'),
    ('no GROUP BY, HAVING', 'SELECT sum(v) AS s FROM @ HAVING count(*) > 5'),
    ('keys and no aggregate', 'SELECT code, v FROM @ GROUP BY code, v'),
    ('stddev, variance', 'SELECT code, stddev(v) AS sd, variance(n) AS vr, round(corr(v, f)::numeric, 6) AS c FROM @ GROUP BY code'),
    ('averages of floats', 'SELECT code, round(avg(f)::numeric, 9) AS a, round(sum(f)::numeric, 6) AS s FROM @ GROUP BY code'),
    ('rows', 'SELECT code, v + 1 AS v, ts FROM @ WHERE ok IS NOT FALSE'),
    ('flat map', 'SELECT code, x FROM @, generate_series(1, v % 4) x'),
    ('inner join', 'SELECT s.v, c.name FROM @ s JOIN countries c ON c.code = s.code'),
    ('left join', 'SELECT s.v, c.name FROM @ s LEFT JOIN countries c ON c.code = s.code AND c.rank < 3'),
    ('left join and group', 'SELECT c.name, count(*) AS n, sum(s.v) AS s FROM @ s LEFT JOIN countries c USING (code) GROUP BY c.name'),
    ('semi join', 'SELECT v FROM @ s WHERE EXISTS (SELECT FROM countries c WHERE c.code = s.code)'),
    ('semi join by IN', 'SELECT code, count(*) AS n FROM @ s WHERE code IN (SELECT code FROM countries) GROUP BY code'),
    ('anti join', 'SELECT v FROM @ s WHERE NOT EXISTS (SELECT FROM countries c WHERE c.code = s.code)'),
    ('anti join and group', 'SELECT code, sum(v) AS s FROM @ s WHERE NOT EXISTS (SELECT FROM countries c WHERE c.code = s.code AND rank > s.v) GROUP BY code'),
    ('scalar subquery', 'SELECT v, (SELECT max(rank) FROM countries c WHERE c.code = s.code) AS r FROM @ s'),
    ('two joins', 'SELECT a.name, b.rank, count(*) AS n FROM @ s JOIN countries a ON a.code = s.code LEFT JOIN countries b ON b.rank = s.v GROUP BY 1, 2'),
    ('UNION ALL', 'SELECT code, v FROM @ WHERE ok UNION ALL SELECT code, v * 2 FROM @2'),
    ('UNION ALL and group', 'SELECT code, sum(v) AS s, count(*) AS n FROM (SELECT code, v FROM @ UNION ALL SELECT code, v FROM @2) u GROUP BY code'),
    ('the second stream alone', 'SELECT code, count(*) AS n FROM @2 GROUP BY code'),
    ('tumble', 'SELECT tumble(ts, ''15 minutes'') AS w, code, count(*) AS n, sum(v) AS s FROM @ WHERE ts IS NOT NULL GROUP BY 1, 2'),
    ('tumble with an origin', 'SELECT tumble(ts, ''1 hour'', timestamptz ''2000-01-01 00:10Z'') AS w, count(*) AS n FROM @ WHERE ts IS NOT NULL GROUP BY 1'),
    ('hop', 'SELECT hop(ts, ''10 minutes'', ''30 minutes'') AS w, count(*) AS n, avg(v) AS a FROM @ WHERE ts IS NOT NULL GROUP BY 1'),
    ('hop in FROM', 'SELECT w, code, max(n) AS m FROM @, hop(ts, ''1 hour'', ''2 hours'') w WHERE ts IS NOT NULL GROUP BY w, code'),
    ('date_bin', 'SELECT date_bin(''20 minutes'', ts, timestamptz ''2001-01-01Z'') AS w, count(*) AS n FROM @ WHERE ts IS NOT NULL GROUP BY 1'),
    ('date_trunc', 'SELECT date_trunc(''hour'', ts) AS w, count(*) AS n, min(code) AS c FROM @ WHERE ts IS NOT NULL GROUP BY 1'),
    ('date_trunc with a zone', 'SELECT date_trunc(''day'', ts, ''America/New_York'') AS w, count(*) AS n FROM @ WHERE ts IS NOT NULL GROUP BY 1'),
    ('days', 'SELECT day, plain::date AS p, count(*) AS n FROM @ GROUP BY 1, 2'),
    ('windows and a join', 'SELECT tumble(s.ts, ''1 hour'') AS w, c.name, count(*) AS n, sum(s.v) FILTER (WHERE s.ok) AS s FROM @ s JOIN countries c USING (code) WHERE s.ts IS NOT NULL GROUP BY 1, 2'),
    ('CTE', 'WITH big AS (SELECT * FROM @ WHERE v > 3), named AS (SELECT b.*, c.name FROM big b LEFT JOIN countries c USING (code)) SELECT name, count(*) AS n FROM named GROUP BY name'),
    ('subquery in FROM', 'SELECT q.k, sum(q.w) AS s FROM (SELECT lower(code) AS k, v * 2 AS w FROM @ WHERE v IS NOT NULL) q WHERE q.w > 4 GROUP BY q.k');

SELECT format('CREATE MATERIALIZED VIEW v%s AS %s', id, replace(replace(query, '@2', 's2'), '@', 's')) FROM cases ORDER BY id \gexec
SELECT format('CREATE VIEW o%s AS %s', id, replace(replace(query, '@2', 'base2'), '@', 'base')) FROM cases ORDER BY id \gexec

CREATE FUNCTION equal(batch text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE c cases;
BEGIN
    FOR c IN SELECT * FROM cases ORDER BY id LOOP
        RETURN NEXT bag_eq(format('SELECT whole::text FROM v%s whole', c.id), format('SELECT whole::text FROM o%s whole', c.id), c.name || ': ' || batch);
    END LOOP;
END $$;
CREATE FUNCTION feed(first int, last int) RETURNS void LANGUAGE sql AS $$
    WITH r AS (
        SELECT (ARRAY['de', 'fr', 'it', 'xx', NULL])[1 + i * 7 % 5] AS code, nullif(i * 13 % 11, 7) AS v,
               CASE WHEN i % 8 > 0 THEN (i * 17 % 100) / 10.0 END AS n, (i * 29 % 50) / 8.0 AS f,
               CASE i % 3 WHEN 0 THEN true WHEN 1 THEN false END AS ok,
               CASE WHEN i % 9 > 0 THEN timestamptz '2024-03-09 22:00Z' + (i * 37 % 100) * interval '5 minutes' + i * interval '1 minute' END AS ts,
               date '2024-03-09' + i % 3 AS day, timestamp '2024-03-09 12:00' + i * interval '3 hours' AS plain
        FROM generate_series(first, last) i),
    kept AS (INSERT INTO base SELECT * FROM r),
    second AS (INSERT INTO s2 SELECT code, v FROM r WHERE v < 4),
    second_kept AS (INSERT INTO base2 SELECT code, v FROM r WHERE v < 4)
    INSERT INTO s SELECT * FROM r $$;
CREATE FUNCTION step() RETURNS bigint LANGUAGE sql AS $$ SELECT rows FROM streamext.step('oracle', '2024-03-10 12:00Z') $$;

SELECT plan(6 * count(*)::int + 8) FROM cases;
SELECT equal('before the first batch');
SELECT feed(1, 20) \g /dev/null
SELECT is(step(), (SELECT count(*) FROM base) + (SELECT count(*) FROM base2), 'first batch');
SELECT equal('first batch');
SELECT is(step(), NULL, 'an empty batch is none');
SELECT feed(21, 21) \g /dev/null
SELECT ok(step() > 0, 'a batch of one row');
SELECT equal('a batch of one row');
-- only the other stream
INSERT INTO base2 VALUES ('de', 100), (NULL, NULL);
INSERT INTO s2 VALUES ('de', 100), (NULL, NULL);
SELECT is(step(), 2::bigint, 'a batch without rows of the first stream');
SELECT equal('only the second stream');
SELECT feed(22, 300) \g /dev/null
BEGIN;
SELECT ok(step() > 279, 'a larger batch');
SELECT equal('a larger batch');
ROLLBACK;
SELECT ok(step() > 279, 'the same after a rollback');
SELECT equal('the same after a rollback');
-- and so says streamext itself
SELECT is((SELECT sum(late_rows + null_time_rows + dead_letters + skipped_rows) FROM streamext.views), 0::numeric, 'nothing was left out');
SELECT is((SELECT count(*) FROM streamext.batches), 4::bigint, 'four batches');
SELECT * FROM finish();
