-- Joins of streams against batch SQL: after every batch each view equals its query over the rows accepted so far.
SET client_min_messages = error;
SET timezone = 'UTC';
CREATE SCHEMA jo;
CREATE SCHEMA jo_all;      -- rows in time for joins by event time
CREATE SCHEMA jo_windows;  -- … for joins on equal windows
CREATE SCHEMA jo_self;     -- … for a join of a with itself
CREATE SCHEMA jo_hops;     -- … on equal windows, a row for each of its windows
CREATE SCHEMA jo_every;    -- every row
SET search_path = jo, public;
CREATE STREAM a (id int, k int, x int, ts timestamptz)
    WITH (connector = 'queue', pipeline = 'jo', paused, event_time = 'ts', watermark = '5 seconds');
CREATE STREAM b (id int, k int, y int, ts timestamptz)
    WITH (connector = 'queue', pipeline = 'jo', event_time = 'ts', watermark = '3 seconds');
CREATE TABLE jo_hops.a (id int, k int, w timestamptz);
CREATE TABLE jo_hops.b (id int, k int, w timestamptz);
DO $$
DECLARE s text;
BEGIN
    FOREACH s IN ARRAY ARRAY['jo_all', 'jo_windows', 'jo_self', 'jo_every'] LOOP
        EXECUTE format('CREATE TABLE %1$s.a (id int, k int, x int, ts timestamptz); CREATE TABLE %1$s.b (id int, k int, y int, ts timestamptz)', s);
    END LOOP;
END $$;

-- what a batch is late by: the lower of both watermarks at the end of the batch before
CREATE TABLE mark (late timestamptz NOT NULL DEFAULT '-infinity', late_a timestamptz NOT NULL DEFAULT '-infinity', now timestamptz NOT NULL DEFAULT '-infinity');
INSERT INTO mark DEFAULT VALUES;
CREATE FUNCTION mark() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT now FROM jo.mark';

\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir '/sql/include/oracle.sql'
\i :oracle

-- The view's query; for emit = 'final' also what it shows: rows without a match when their time has passed.
CREATE TABLE query (id int PRIMARY KEY, rows_of text, options text, sql text NOT NULL, shown text);
INSERT INTO query VALUES
(1, 'jo_all', '', $q$SELECT a.id, b.id AS bid FROM a JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts AND a.ts + interval '10 s'$q$, NULL),
(2, 'jo_all', '', $q$SELECT a.id, b.id AS bid, a.x FROM a LEFT JOIN b ON a.k = b.k AND b.ts >= a.ts - interval '4 s' AND b.ts < a.ts + interval '6 s'$q$, NULL),
(3, 'jo_all', '', $q$SELECT a.id, b.id AS bid, b.y FROM a RIGHT JOIN b ON a.k = b.k AND a.ts - b.ts <= interval '6 s' AND interval '-5 s' <= a.ts - b.ts AND a.x > b.y$q$, NULL),
(4, 'jo_all', '', $q$SELECT a.id, b.id AS bid FROM a FULL JOIN b ON a.k = b.k AND a.ts + interval '3 s' > b.ts AND a.ts <= interval '4 s' + b.ts$q$, NULL),
(5, 'jo_all', '', $q$SELECT a.id, a.x FROM a WHERE EXISTS (SELECT FROM b WHERE b.k = a.k AND b.ts BETWEEN a.ts - interval '5 s' AND a.ts + interval '5 s' AND b.y > a.x)$q$, NULL),
(6, 'jo_all', '', $q$SELECT a.id, a.x FROM a WHERE NOT EXISTS (SELECT FROM b WHERE b.k = a.k AND b.ts BETWEEN a.ts - interval '5 s' AND a.ts + interval '5 s')$q$, NULL),
(7, 'jo_all', $o$ WITH (emit = 'final')$o$, $q$SELECT a.id, b.id AS bid FROM a LEFT JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts AND a.ts + interval '10 s'$q$,
    $q$SELECT a.id, b.id AS bid FROM a LEFT JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts AND a.ts + interval '10 s'
       WHERE b.id IS NOT NULL OR a.ts IS NULL OR a.ts + interval '10 s' <= mark()$q$),
(8, 'jo_all', $o$ WITH (emit = 'final')$o$, $q$SELECT a.id, b.id AS bid FROM a FULL JOIN b ON a.k = b.k AND b.ts >= a.ts - interval '4 s' AND b.ts <= a.ts + interval '6 s'$q$,
    $q$SELECT a.id, b.id AS bid FROM a FULL JOIN b ON a.k = b.k AND b.ts >= a.ts - interval '4 s' AND b.ts <= a.ts + interval '6 s'
       WHERE (a.id IS NOT NULL AND b.id IS NOT NULL) OR coalesce(a.ts + interval '6 s' <= mark(), b.ts + interval '4 s' <= mark(), true)$q$),
(9, 'jo_all', $o$ WITH (emit = 'final')$o$, $q$SELECT a.id FROM a WHERE NOT EXISTS (SELECT FROM b WHERE b.k = a.k AND b.ts BETWEEN a.ts AND a.ts + interval '7 s')$q$,
    $q$SELECT a.id FROM a WHERE NOT EXISTS (SELECT FROM b WHERE b.k = a.k AND b.ts BETWEEN a.ts AND a.ts + interval '7 s') AND coalesce(a.ts + interval '7 s' <= mark(), true)$q$),
(10, 'jo_windows', '', $q$SELECT a.id, b.id AS bid, tumble(a.ts, '10 s') AS w FROM a LEFT JOIN b ON a.k = b.k AND tumble(a.ts, '10 s') = tumble(b.ts, '10 s')$q$, NULL),
(11, 'jo_windows', $o$ WITH (emit = 'final')$o$, $q$SELECT coalesce(p.w, q.w) AS w, p.id, q.id AS bid FROM (SELECT tumble(ts, '10 s') AS w, * FROM a) p FULL JOIN (SELECT tumble(ts, '10 s') AS w, * FROM b) q ON p.w = q.w AND p.k = q.k$q$,
    $q$SELECT coalesce(p.w, q.w) AS w, p.id, q.id AS bid FROM (SELECT tumble(ts, '10 s') AS w, * FROM a) p FULL JOIN (SELECT tumble(ts, '10 s') AS w, * FROM b) q ON p.w = q.w AND p.k = q.k
       WHERE (p.id IS NOT NULL AND q.id IS NOT NULL) OR coalesce(p.w, q.w) + interval '10 s' <= mark()$q$),
(12, 'jo_self', '', $q$SELECT p.id, q.id AS id2 FROM a p JOIN a q ON p.k = q.k AND p.id < q.id AND q.ts BETWEEN p.ts - interval '5 s' AND p.ts + interval '5 s'$q$, NULL),
(13, 'jo_all', '', $q$SELECT a.id, b.id AS bid FROM a JOIN b ON b.ts BETWEEN a.ts AND a.ts + interval '1 s'$q$, NULL),
(14, 'jo_all', '', $q$SELECT a.id, b.id AS bid FROM a, b WHERE a.ts = b.ts$q$, NULL),
(15, 'jo_every', '', $q$SELECT a.id, b.id AS bid FROM a LEFT JOIN b ON a.k = b.k AND a.x = b.y$q$, NULL),
(16, 'jo_every', '', $q$SELECT a.id, b.id AS bid, k FROM a FULL JOIN b USING (k)$q$, NULL),
(17, 'jo_every', '', $q$SELECT a.id FROM a WHERE a.x IN (SELECT y FROM b WHERE b.k = a.k)$q$, NULL),
(18, 'jo_every', '', $q$SELECT a.id FROM a WHERE a.x > 8 AND NOT EXISTS (SELECT FROM b WHERE b.k = a.k AND b.y < 9)$q$, NULL),
(19, 'jo_every', '', $q$SELECT a.id, b.id AS bid FROM a LEFT JOIN b ON a.k = b.k WHERE b.y IS NULL OR b.y > a.x$q$, NULL),
(20, 'jo_every', '', $q$SELECT p.id, q.id AS id2 FROM a p LEFT JOIN a q ON p.x = q.k$q$, NULL),
(21, 'jo_every', '', $q$SELECT a.id, b.id AS bid FROM a JOIN b ON a.k IS NOT DISTINCT FROM b.k AND a.x = 5$q$, NULL),
(22, 'jo_every', '', $q$SELECT a.id, b.id AS bid FROM a RIGHT JOIN b ON a.k = b.k AND b.y > 12$q$, NULL),
(23, 'jo_all', '', $q$SELECT a.id, b.id AS bid FROM a LEFT JOIN b ON a.k = b.k AND b.ts >= a.ts$q$, NULL),
(24, 'jo_windows', $o$ WITH (late = 'drop')$o$, $q$SELECT p.w, p.id, q.id AS bid FROM (SELECT date_bin('10 s', ts, '2000-01-01Z') AS w, id, k FROM a) p JOIN (SELECT date_bin('10 s', ts, '2000-01-01Z') AS w, id, k FROM b) q USING (w, k)$q$, NULL),
(25, 'jo_all', $o$ WITH (emit = 'final')$o$, $q$SELECT a.id FROM a WHERE EXISTS (SELECT FROM b WHERE b.k = a.k AND b.ts BETWEEN a.ts AND a.ts + interval '7 s')$q$, NULL),
(26, 'jo_self', '', $q$SELECT p.id, q.id AS id2 FROM a p LEFT JOIN a q ON p.k = q.k AND p.x = q.x AND p.id <> q.id AND q.ts BETWEEN p.ts - interval '5 s' AND p.ts + interval '2 s'$q$, NULL),
(27, 'jo_every', '', $q$SELECT p.id, q.id AS id2 FROM a p FULL JOIN a q ON p.k = q.k AND p.id = q.id$q$, NULL),
(28, 'jo_hops', '', $q$SELECT p.w, p.id, q.id AS bid FROM (SELECT hop(ts, '5 s', '10 s') AS w, k, id FROM a) p LEFT JOIN (SELECT hop(ts, '5 s', '10 s') AS w, k, id FROM b) q ON p.w = q.w AND p.k = q.k$q$,
    $q$SELECT p.w, p.id, q.id AS bid FROM a p LEFT JOIN b q ON p.w = q.w AND p.k = q.k$q$),
(29, 'jo_every', '', $q$SELECT a.id, n.name, b.id AS bid FROM a JOIN names n ON n.k = a.k LEFT JOIN b ON a.x = b.y$q$, NULL);

CREATE TABLE names AS SELECT i AS k, 'n' || i AS name FROM generate_series(1, 3) i;
CALL create_views();
SELECT strategy, count(*) FROM streamext.step WHERE pipeline = (SELECT id FROM streamext.pipeline WHERE name = 'jo') GROUP BY 1 ORDER BY 1;

-- A batch of na and nb rows around second "at", some of them far behind; some keys, values and times NULL.
CREATE FUNCTION feed(seed int, na int, nb int, at int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    t timestamptz := timestamptz '2025-01-01Z' + at * interval '1 s';
BEGIN
    CREATE TEMP TABLE fa AS
        SELECT seed + i AS id, nullif(abs(hashint4(i * 7 + seed)) % 6, 5) AS k, nullif(abs(hashint4(i * 11 + seed)) % 21, 3) AS x,
               CASE WHEN abs(hashint4(i * 3 + seed)) % 25 > 0 THEN t - CASE WHEN abs(hashint4(i + seed)) % 8 = 0 THEN 20 ELSE 6 END
                    * (abs(hashint4(i * 17 + seed)) % 1000) / 1000.0 * interval '1 s' END AS ts
        FROM generate_series(1, na) i;
    CREATE TEMP TABLE fb AS
        SELECT seed + i AS id, nullif(abs(hashint4(i * 19 + seed)) % 6, 5) AS k, nullif(abs(hashint4(i * 23 + seed)) % 21, 3) AS y,
               CASE WHEN abs(hashint4(i * 5 + seed)) % 25 > 0 THEN t - CASE WHEN abs(hashint4(i + 9 + seed)) % 8 = 0 THEN 20 ELSE 6 END
                    * (abs(hashint4(i * 29 + seed)) % 1000) / 1000.0 * interval '1 s' END AS ts
        FROM generate_series(1, nb) i;
    INSERT INTO jo.a TABLE fa;
    INSERT INTO jo.b TABLE fb;
    INSERT INTO jo_every.a TABLE fa;
    INSERT INTO jo_every.b TABLE fb;
    INSERT INTO jo_all.a SELECT fa.* FROM fa, jo.mark WHERE coalesce(ts > late, true);
    INSERT INTO jo_all.b SELECT fb.* FROM fb, jo.mark WHERE coalesce(ts > late, true);
    INSERT INTO jo_self.a SELECT fa.* FROM fa, jo.mark WHERE coalesce(ts > late_a, true);
    INSERT INTO jo_windows.a SELECT fa.* FROM fa, jo.mark WHERE tumble(ts, '10 s') + interval '10 s' > late;
    INSERT INTO jo_windows.b SELECT fb.* FROM fb, jo.mark WHERE tumble(ts, '10 s') + interval '10 s' > late;
    INSERT INTO jo_hops.a SELECT id, k, w FROM fa, jo.mark, hop(ts, '5 s', '10 s') w WHERE w + interval '10 s' > late;
    INSERT INTO jo_hops.b SELECT id, k, w FROM fb, jo.mark, hop(ts, '5 s', '10 s') w WHERE w + interval '10 s' > late;
    DROP TABLE fa, fb;
    UPDATE jo.mark SET now = coalesce(least((SELECT max(ts) FROM jo_every.a) - interval '5 s',
                                            (SELECT max(ts) FROM jo_every.b) - interval '3 s'), '-infinity')
    WHERE (SELECT max(ts) FROM jo_every.a) IS NOT NULL AND (SELECT max(ts) FROM jo_every.b) IS NOT NULL;
    UPDATE jo.mark SET late = now, late_a = coalesce((SELECT max(ts) FROM jo_every.a) - interval '5 s', '-infinity');
END $$;

SELECT * FROM differences();
SELECT feed(1000, 20, 0, 5);          -- one stream alone: no watermark yet
SELECT batch_id, rows, dead_letters FROM streamext.step('jo');
SELECT * FROM differences();
SELECT feed(2000, 15, 20, 10);
SELECT batch_id, rows, dead_letters FROM streamext.step('jo');
SELECT * FROM differences();
SELECT feed(3000, 1, 0, 12);
SELECT batch_id, rows, dead_letters FROM streamext.step('jo');
SELECT * FROM differences();
SELECT feed(4000, 0, 1, 13);
SELECT batch_id, rows, dead_letters FROM streamext.step('jo');
SELECT * FROM differences();
-- a step that is rolled back leaves nothing behind
SELECT feed(5000, 30, 30, 20);
BEGIN;
SELECT batch_id, rows, dead_letters FROM streamext.step('jo');
ROLLBACK;
SELECT batch_id, rows, dead_letters FROM streamext.step('jo');
SELECT * FROM differences();
SELECT feed(6000, 40, 10, 28);
SELECT batch_id, rows, dead_letters FROM streamext.step('jo');
SELECT * FROM differences();
SELECT feed(7000, 5, 40, 31);
SELECT batch_id, rows, dead_letters FROM streamext.step('jo');
SELECT * FROM differences();

-- twenty more: what a batch's transaction sees must be committed before
CREATE TABLE wrong (batch int, what text);
DO $$
BEGIN
    FOR i IN 8..27 LOOP
        PERFORM jo.feed(i * 1000, (i * 7) % 23, (i * 11) % 19, 31 + (i - 7) * 3);
        COMMIT;
        PERFORM streamext.step('jo');
        INSERT INTO jo.wrong SELECT i, d FROM jo.differences() d;
        COMMIT;
    END LOOP;
END $$;
SELECT max(batch_id) FROM streamext.batches WHERE pipeline = 'jo';
TABLE wrong;
SELECT count(*) FROM jo_every.a;
SELECT count(*) FROM jo_every.b;
SELECT late_rows > 0 AS late, null_time_rows > 0 AS null_time, count(*) FROM streamext.views WHERE pipeline = 'jo' GROUP BY 1, 2 ORDER BY 1, 2;
-- rows kept of each side by the joins with a bound, at most those of the last bound and delay
SELECT relname, (xpath('/row/c/text()', query_to_xml(format('SELECT count(*) AS c FROM streamext_state.%I', relname), false, true, '')))[1]::text::int AS rows
FROM pg_class WHERE relnamespace = 'streamext_state'::regnamespace AND relkind = 'r' AND relname ~ '^(jo_)?v(1|2|4|5|8|10|11|12)_[12]$' ORDER BY 1;
DROP SCHEMA jo CASCADE;
DROP SCHEMA jo_all, jo_windows, jo_self, jo_hops, jo_every CASCADE;
SELECT relname FROM pg_class WHERE relnamespace = 'streamext_state'::regnamespace AND relname ~ '^(jo_)?v[0-9]';
