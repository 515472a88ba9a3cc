-- The changes of a continuous view as a stream: batch by batch, for every strategy.
SET client_min_messages = error;
CREATE SCHEMA changes;
SET search_path = changes, public;
CREATE STREAM s (k int, x int, t text, ts timestamptz)
    WITH (connector = 'queue', pipeline = 'changes', paused, event_time = 'ts', watermark = '5 seconds');

-- merge with HAVING, recompute, append, final, emit = interval, no key, one row
CREATE MATERIALIZED VIEW m AS SELECT k, count(*) AS n, max(t) AS t FROM s GROUP BY k HAVING sum(x) > 0;
CREATE MATERIALIZED VIEW d AS SELECT k, count(DISTINCT x) AS n FROM s GROUP BY k;
CREATE MATERIALIZED VIEW a AS SELECT k, x FROM s WHERE x > 2;
CREATE MATERIALIZED VIEW f WITH (emit = 'final') AS SELECT tumble(ts, '10 s') AS w, count(*) AS n FROM s GROUP BY 1;
CREATE MATERIALIZED VIEW fd WITH (emit = 'final') AS SELECT tumble(ts, '10 s') AS w, count(DISTINCT x) AS n FROM s GROUP BY 1;
CREATE MATERIALIZED VIEW e WITH (emit = '10 s') AS SELECT k, count(*) AS n FROM s GROUP BY 1;
CREATE MATERIALIZED VIEW j AS SELECT k, x, rank() OVER (PARTITION BY k ORDER BY x) AS r FROM s;
CREATE MATERIALIZED VIEW one AS SELECT count(*) AS n, max(x) AS x FROM s;
CREATE STREAM mc WITH (changes) AS TABLE m;
CREATE STREAM dc WITH (changes) AS SELECT * FROM d;
CREATE STREAM ac WITH (changes) AS SELECT * FROM a;
CREATE STREAM fc WITH (changes) AS SELECT * FROM f;
CREATE STREAM fdc WITH (changes) AS SELECT * FROM fd;
CREATE STREAM ec WITH (changes) AS SELECT * FROM e;
CREATE STREAM jc WITH (changes) AS SELECT * FROM j;
CREATE STREAM onec WITH (changes) AS SELECT * FROM one;
-- columns and WHERE: a row that passes no longer is deleted
CREATE STREAM pc WITH (changes) AS SELECT 'k' || k AS id, k, n * 10 AS tens FROM m WHERE n > 1;
\d mc

CREATE FUNCTION log_all() RETURNS void LANGUAGE plpgsql AS $$
DECLARE c text;
BEGIN
    FOREACH c IN ARRAY '{mc,dc,ac,fc,fdc,ec,jc,onec,pc}'::text[] LOOP
        EXECUTE format('CREATE STREAM %s_out WITH (connector = ''table'', table = ''%s_log'') AS '
                       'SELECT streamext.batch_id() AS b, * FROM %s', c, c, c);
    END LOOP;
END $$;
SELECT log_all();

INSERT INTO s VALUES (1, 1, 'a', '2026-01-01Z'), (2, 2, 'b', '2026-01-01Z'), (NULL, 3, 'c', '2026-01-01 00:00:01Z');
SELECT batch_id FROM streamext.step('changes', '2026-01-01Z');
INSERT INTO s VALUES (1, -5, 'a', '2026-01-01 00:00:02Z'), (2, 2, 'b', '2026-01-01 00:00:16Z'), (NULL, 4, 'd', '2026-01-01Z');
SELECT batch_id FROM streamext.step('changes', '2026-01-01 00:00:05Z');
-- a step that is rolled back has changed nothing, and gives the same when it is run again
INSERT INTO s VALUES (1, 7, 'a', '2026-01-01 00:00:40Z');
BEGIN;
SELECT batch_id FROM streamext.step('changes', '2026-01-01 00:00:06Z');
SELECT op, n FROM mc_log WHERE b = 3;
TABLE fc_log;
ROLLBACK;
SELECT batch_id FROM streamext.step('changes', '2026-01-01 00:00:15Z');
-- late for f: dropped there, counted by the others; nothing closes
INSERT INTO s VALUES (2, NULL, NULL, '2026-01-01 00:00:03Z');
SELECT batch_id FROM streamext.step('changes', '2026-01-01 00:00:16Z');
-- nothing changes in d and m's key 1
INSERT INTO s VALUES (1, 7, 'a', '2026-01-01 00:00:41Z'), (NULL, -50, 'z', NULL);
SELECT batch_id FROM streamext.step('changes', '2026-01-01 00:01:00Z');

TABLE mc_log;
TABLE dc_log;
TABLE ac_log;
TABLE fc_log;
TABLE fdc_log;
TABLE ec_log;
TABLE jc_log;
TABLE onec_log;
TABLE pc_log;
-- each closed row once
(TABLE f EXCEPT ALL SELECT w, n FROM fc_log) UNION ALL (SELECT w, n FROM fc_log EXCEPT ALL TABLE f);

-- ---------------------------------------------------------------------
-- What cannot be
-- ---------------------------------------------------------------------
SELECT * FROM mc;
CREATE STREAM bad WITH (changes) AS SELECT * FROM s;
CREATE STREAM bad WITH (changes) AS SELECT k FROM m GROUP BY k;
CREATE STREAM bad WITH (changes) AS SELECT m.k FROM m, d;
CREATE STREAM bad WITH (changes) AS SELECT k FROM m WHERE k IN (SELECT k FROM d);
CREATE STREAM bad WITH (changes) AS SELECT k, now() AS at FROM m;
CREATE STREAM bad WITH (changes) AS SELECT k, n AS op FROM m;
CREATE STREAM bad WITH (changes) AS SELECT k, n AS old_k FROM m;
CREATE STREAM bad WITH (changes = off) AS SELECT k, n FROM m;
CREATE STREAM bad WITH (changes, key = 'nothing') AS SELECT k, n FROM m;
CREATE STREAM bad WITH (changes, deduplicate = 'k') AS SELECT k, n FROM m;
CREATE STREAM bad WITH (connector = 'table', table = 'x', key = 'n') AS SELECT k, n, t FROM mc;
CREATE STREAM bad WITH (connector = 'table', table = 'x', delete_when = 'k = 1') AS SELECT k, n, t FROM mc;
CREATE STREAM bad WITH (connector = 'table', table = 'x', key = 'k', delete_when = 'true; DROP TABLE x') AS SELECT k, n FROM mc;
CREATE STREAM bad WITH (connector = 'table', table = 'x', key = 'k', delete_when = 'nothing') AS SELECT k, n FROM mc;
CREATE STREAM bad WITH (connector = 'table', table = 'x', key = 'k', delete_when = 'n') AS SELECT k, n FROM mc;
CREATE STREAM bad WITH (connector = 'table', table = 'x', key = 'k', delete_when = 'k IN (SELECT 1)') AS SELECT k, n FROM mc;
DROP VIEW m;

-- ---------------------------------------------------------------------
-- Names follow renames
-- ---------------------------------------------------------------------
ALTER VIEW m RENAME TO totals;
INSERT INTO s VALUES (5, 1, 'q', '2026-01-01 00:01:00Z');
SELECT batch_id FROM streamext.step('changes', '2026-01-01 00:01:01Z');
SELECT op, k, n FROM mc_log WHERE b = 6;
SELECT streamext.explain('mc');
SELECT streamext.explain('fc');

-- ---------------------------------------------------------------------
-- A sink with a key is the view; chained streams and views
-- ---------------------------------------------------------------------
CREATE STREAM w (k int, x int, t text, ts timestamptz)
    WITH (connector = 'queue', pipeline = 'copies', paused, event_time = 'ts', watermark = '5 seconds');
CREATE TABLE query (name text PRIMARY KEY, key text, sql text);
INSERT INTO query VALUES
('q1', 'k', 'SELECT k, count(*) AS n, max(t) AS t, avg(x) AS a FROM w GROUP BY k HAVING sum(x) % 3 <> 0'),
('q2', 'k, t', 'SELECT k, t, count(DISTINCT x) AS n FROM w GROUP BY k, t HAVING count(DISTINCT x) <> 3'),
('q3', 'k, t', 'SELECT DISTINCT k, t FROM w'),
('q4', 'k', 'SELECT DISTINCT ON (k) k, x, t FROM w ORDER BY k, x DESC, t'),
('q5', 'k, rn', 'SELECT k, rn, x, t FROM (SELECT k, x, t, row_number() OVER (PARTITION BY k ORDER BY x DESC NULLS LAST, t, ts) AS rn FROM w) r WHERE rn <= 2'),
('q6', 't', 'SELECT t, max(n) AS n FROM (SELECT k, t, count(*) AS n FROM w GROUP BY k, t) c GROUP BY t'),
('q7', 'k', 'SELECT k FROM w EXCEPT SELECT x FROM w');
DO $$
DECLARE q query;
BEGIN
    FOR q IN SELECT * FROM query ORDER BY name LOOP
        EXECUTE format('CREATE MATERIALIZED VIEW %s AS %s', q.name, q.sql);
        EXECUTE format('CREATE STREAM %s_c WITH (changes, key = %L) AS TABLE %s', q.name, q.key, q.name);
        EXECUTE format('CREATE STREAM %s_s WITH (connector = ''table'', table = ''%s_t'', key = %L) AS SELECT %s FROM %s_c',
                       q.name, q.name, q.key,
                       (SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
                        WHERE attrelid = q.name::regclass AND attnum > 0), q.name);
    END LOOP;
END $$;
CREATE STREAM losses AS SELECT k, old_n - n AS fewer FROM q1_c WHERE op = 'update';
CREATE MATERIALIZED VIEW ops AS SELECT op, count(*) AS n FROM q1_c GROUP BY op;
CREATE STREAM q1_log WITH (connector = 'table', table = 'q1_all') AS SELECT op, k, n, t, a, old_k, old_n, old_t, old_a FROM q1_c;

CREATE TABLE q1_before AS TABLE q1;
CREATE FUNCTION feed(seed int, rows int) RETURNS void LANGUAGE sql AS $$
    INSERT INTO w SELECT nullif(abs(hashint4(i * 7 + seed)) % 7, 6), nullif(abs(hashint4(i * 11 + seed)) % 21, 3) - 8,
                         chr(97 + abs(hashint4(i * 13 + seed)) % 4),
                         timestamptz '2026-01-01Z' + abs(hashint4(i * 17 + seed)) % 30000000 * interval '1 microsecond'
                  FROM generate_series(1, rows) i
$$;
CREATE FUNCTION round(seed int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    q query;
    bad bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM streamext.step('copies', '2026-01-01Z'::timestamptz + seed * interval '1 s')) THEN
        RETURN 'no batch';
    END IF;
    FOR q IN SELECT * FROM query ORDER BY name LOOP
        EXECUTE format('SELECT count(*) FROM ((TABLE %1$s EXCEPT ALL TABLE %1$s_t) UNION ALL (TABLE %1$s_t EXCEPT ALL TABLE %1$s)) x', q.name) INTO bad;
        IF bad > 0 THEN RETURN format('%s differs after batch %s', q.name, seed); END IF;
    END LOOP;
    -- the changes lead from one version to the next, and none is there in vain
    SELECT count(*) INTO bad FROM (
        (SELECT * FROM q1_before EXCEPT ALL TABLE q1) EXCEPT ALL SELECT old_k, old_n, old_t, old_a FROM q1_all WHERE op <> 'insert') x;
    SELECT bad + count(*) INTO bad FROM (
        (TABLE q1 EXCEPT ALL TABLE q1_before) EXCEPT ALL SELECT k, n, t, a FROM q1_all WHERE op <> 'delete') x;
    SELECT bad + count(*) INTO bad FROM q1_all WHERE op = 'update' AND (k, n, t, a) IS NOT DISTINCT FROM (old_k, old_n, old_t, old_a);
    IF bad > 0 THEN RETURN format('changes of batch %s are wrong', seed); END IF;
    DELETE FROM q1_before;
    INSERT INTO q1_before TABLE q1;
    TRUNCATE q1_all;
    RETURN NULL;
END $$;
CREATE PROCEDURE rounds() LANGUAGE plpgsql AS $$
DECLARE result text;
BEGIN
    FOR i IN 1 .. 25 LOOP
        PERFORM feed(i, 1 + (i * 7) % 23);
        COMMIT;
        result := round(i);
        IF result IS NOT NULL THEN RAISE WARNING '%', result; END IF;
        COMMIT;
    END LOOP;
END $$;
CALL rounds();
SELECT batch_id FROM streamext.pipelines WHERE pipeline = 'copies';
SELECT op, n FROM ops ORDER BY op;

-- rolled back and again
SELECT feed(100, 30);
BEGIN;
SELECT round(100);
ROLLBACK;
SELECT round(101);

-- reset() empties the views and not the sinks; what comes again is put in its place
SELECT streamext.reset('copies');
SELECT count(*) FROM q1;
SELECT count(*) > 0 AS kept FROM q1_t;
SELECT feed(102, 40);
SELECT rows > 0 AS any FROM streamext.step('copies', '2026-01-01 00:30Z');
(TABLE q1 EXCEPT TABLE q1_t);

-- ---------------------------------------------------------------------
-- delete_when: tombstones
-- ---------------------------------------------------------------------
CREATE TABLE latest (k int PRIMARY KEY, x int NOT NULL);
CREATE STREAM tombstones WITH (connector = 'table', table = 'latest', key = 'k', delete_when = 'x IS NULL OR w.t = ''gone''', backfill = off) AS
    SELECT k, x FROM w WHERE k IS NOT NULL;
CREATE STREAM grouped WITH (connector = 'table', table = 'small', key = 'k', delete_when = 'n > 1', backfill = off) AS
    SELECT k, count(*) AS n FROM w GROUP BY k;
INSERT INTO w (k, x) VALUES (1, 1), (2, 2), (3, 3), (NULL, 4), (4, NULL), (4, 5), (5, 6), (5, NULL);
SELECT rows FROM streamext.step('copies', '2026-01-01 01:00Z');
SELECT * FROM latest ORDER BY k;
SELECT * FROM small ORDER BY k;
INSERT INTO w (k, x, t) VALUES (1, NULL, 'a'), (2, 9, 'gone'), (3, NULL, 'a'), (3, 8, 'a'), (9, NULL, 'a'), (NULL, 1, 'a'), (NULL, 1, 'a');
SELECT rows FROM streamext.step('copies', '2026-01-01 01:01Z');
SELECT * FROM latest ORDER BY k;
SELECT * FROM small ORDER BY k;
-- the condition follows a rename, and is shown as it was given
ALTER STREAM w RENAME COLUMN x TO xx;
SELECT streamext.explain('tombstones');

CREATE ROLE changes_writer;
GRANT INSERT, UPDATE, SELECT ON latest TO changes_writer;
GRANT USAGE, CREATE ON SCHEMA changes TO changes_writer;
GRANT SELECT ON w TO changes_writer;
GRANT USAGE ON FOREIGN SERVER streamext TO changes_writer;
SET ROLE changes_writer;
CREATE STREAM bad WITH (connector = 'table', table = 'latest', key = 'k', delete_when = 'x IS NULL', pipeline = 'other') AS SELECT k, xx AS x FROM w;
RESET ROLE;

DROP SCHEMA changes CASCADE;
DROP OWNED BY changes_writer;
DROP ROLE changes_writer;
SELECT count(*) FROM streamext.step;
