-- Windows answered from panes: the same results as the query over the rows.
SET timezone = 'UTC';
SET client_min_messages = warning;

-- Each aggregate runs twice: by panes, and over the rows (a subquery keeps it from panes).
CREATE STREAM pn_s (k text, v int, f float8, d numeric) WITH (connector = 'queue', paused);
CREATE FUNCTION pn_both(w text, query text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE STREAM pn_p_%1$s WITH (connector = ''table'', table = ''pn_pt_%1$s'') AS %2$s', w, replace(query, '@', w));
    EXECUTE format('CREATE STREAM pn_r_%1$s WITH (connector = ''table'', table = ''pn_rt_%1$s'') AS %2$s', w,
                   replace(query, '@', '(SELECT * FROM ' || w || ') q'));
    -- the batch in which a row was written
    EXECUTE format('ALTER TABLE pn_pt_%1$s ADD batch bigint DEFAULT streamext.batch_id()', w);
    EXECUTE format('ALTER TABLE pn_rt_%1$s ADD batch bigint DEFAULT streamext.batch_id()', w);
END $$;
CREATE FUNCTION pn_compare(w text, OUT rows_of_panes bigint, OUT different bigint) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SELECT (SELECT count(*) FROM pn_pt_%1$s), (SELECT count(*) FROM '
                   '((TABLE pn_pt_%1$s EXCEPT ALL TABLE pn_rt_%1$s) UNION ALL (TABLE pn_rt_%1$s EXCEPT ALL TABLE pn_pt_%1$s)) x)', w)
        INTO rows_of_panes, different;
END $$;

-- windows in batches: not a power of two, a slide, a slide above 1 that does not divide much, a window over a window
CREATE STREAM wa WITH (window = '7 batches') AS SELECT * FROM pn_s;
CREATE STREAM wb WITH (window = '16 batches', slide = '3 batches') AS SELECT * FROM pn_s WHERE v IS DISTINCT FROM 3;
CREATE STREAM wc WITH (window = '40 batches', slide = '2 batches') AS SELECT * FROM pn_s;
CREATE STREAM wd WITH (window = '33 batches') AS SELECT * FROM pn_s;
CREATE STREAM wp WITH (window = '2 batches', slide = '2 batches') AS SELECT * FROM pn_s;
CREATE STREAM we WITH (window = '12 batches') AS SELECT * FROM wp;
-- in time, with and without a slide
CREATE STREAM wf WITH (window = '20 seconds', slide = '5 seconds') AS SELECT * FROM pn_s;
CREATE STREAM wg WITH (window = '17 seconds') AS SELECT * FROM pn_s;

SELECT pn_both('wa', 'SELECT k, count(*) AS n, count(v) AS c, sum(v) AS s, min(v) AS lo, max(v) AS hi, avg(v) AS a FROM @ GROUP BY k');
SELECT pn_both('wb', 'SELECT count(*) AS n, sum(v) AS s, max(k) AS k, bool_or(v > 8) AS b, min(d) AS d FROM @');
SELECT pn_both('wc', 'SELECT coalesce(k, ''none'') || ''!'' AS kk, v % 2 AS odd, sum(d) AS s, avg(d) AS a, sum(v::bigint) FILTER (WHERE v > 4) AS big, '
               'stddev(d) AS sd, count(*) * 10 + 1 AS n FROM @ WHERE v IS NULL OR v <> 7 GROUP BY 1, v % 2 HAVING count(*) > 2 AND max(v) > 1');
SELECT pn_both('wd', 'SELECT sum(v) AS s FROM @ HAVING count(*) > 0');
SELECT pn_both('we', 'SELECT k, v, count(*) AS n FROM @ GROUP BY k, v');
SELECT pn_both('wf', 'SELECT k, count(*) AS n, sum(d) AS s, variance(v) AS var FROM @ GROUP BY k');
SELECT pn_both('wg', 'SELECT k FROM @ GROUP BY k');

-- which of them have panes, and why the others have none
SELECT relation, panes FROM streamext.step WHERE relation::text LIKE 'pn%' ORDER BY relation::text;
SELECT relation, (regexp_match(streamext.explain(relation::text), 'Window: [^\n]*'))[1]
FROM streamext.step WHERE relation::text LIKE 'pn_r%' ORDER BY relation::text;

-- 120 batches, each in one to three calls of step(): empty ones, NULLs, keys that come and go, a time that jumps and stands still
SELECT setseed(0.4);
CREATE TABLE pn_clock (at timestamptz);
INSERT INTO pn_clock VALUES ('2024-01-01 00:00:00');
CREATE PROCEDURE pn_run(batches int) LANGUAGE plpgsql AS $$
DECLARE t timestamptz;
BEGIN
    FOR i IN 1..batches LOOP
        IF random() < 0.85 THEN
            INSERT INTO pn_s SELECT nullif(chr(97 + (random() * 5)::int + i / 40), 'c'), nullif((random() * 10)::int, 5), random(), (random() * 100)::int / 10.0
            FROM generate_series(1, (random() * 6)::int);
            COMMIT;
        END IF;
        UPDATE pn_clock SET at = at + (CASE WHEN random() < 0.06 THEN 60 WHEN random() < 0.1 THEN 0 ELSE 1 + random() * 2 END) * interval '1 second'
        RETURNING at INTO t;
        PERFORM streamext.step('pn_s', t);
        COMMIT;
    END LOOP;
END $$;
CALL pn_run(120);
SELECT w, (pn_compare(w)).* FROM unnest('{wa,wb,wc,wd,we,wf,wg}'::text[]) w;
-- rows that have left are gone, and so are their panes
SELECT count(DISTINCT batch_id) <= 7 AS rows_ok, (SELECT min(sx_pane) > max(w.batch_id) - 7 FROM streamext_state.pn_p_wa_panes WHERE sx_level = 0) AS panes_ok
FROM streamext_state.wa w;

-- a consumer that comes late has the whole window at once; one that is dropped leaves nothing
CREATE STREAM pn_late WITH (connector = 'table', table = 'pn_late_t') AS SELECT k, sum(v) AS s, count(*) AS n FROM wd GROUP BY k;
DROP STREAM pn_p_wd;
SELECT to_regclass('streamext_state.pn_p_wd_panes');
TRUNCATE pn_rt_wd;
CALL pn_run(1);
SELECT count(*) > 2 AS several, sum(s) = (SELECT s FROM pn_rt_wd) AS same FROM pn_late_t;

-- the worker, which goes on from batch to batch, with batches that are made good in between
CREATE PROCEDURE pn_work(rounds int) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..rounds LOOP
        INSERT INTO pn_s SELECT chr(97 + (random() * 5)::int), (random() * 10)::int, random(), (random() * 100)::int FROM generate_series(1, 5);
        COMMIT;
        IF NOT streamext.wait('pn_s', '20 seconds') THEN RAISE 'no end'; END IF;
        COMMIT;
    END LOOP;
END $$;
SELECT streamext.resume('pn_s');
CALL pn_work(60);
SELECT streamext.pause('pn_s');
CALL pn_run(10);
SELECT streamext.resume('pn_s');
CALL pn_work(20);
SELECT streamext.pause('pn_s');
SELECT w, different FROM unnest('{wa,wb,wc,we,wf,wg}'::text[]) w, pn_compare(w);

-- a record that fails is left out of the window and its panes
CREATE STREAM pn_bad WITH (connector = 'table', table = 'pn_bad_t') AS SELECT k, sum(10 / v) AS s FROM wa GROUP BY k;
ALTER TABLE pn_bad_t ADD batch bigint DEFAULT streamext.batch_id();
TRUNCATE pn_pt_wa, pn_rt_wa;
DELETE FROM streamext_state.wa;
DELETE FROM streamext_state.pn_p_wa_panes;
INSERT INTO pn_s VALUES ('x', 1), ('x', 0), ('y', 2), ('x', 5);
SELECT rows, dead_letters FROM streamext.step('pn_s', '2030-01-01');
INSERT INTO pn_s VALUES ('y', 5);
SELECT rows, dead_letters FROM streamext.step('pn_s', '2030-01-02');
SELECT b.k, b.s, n, c, p.s FROM pn_bad_t b JOIN pn_pt_wa p USING (k, batch) ORDER BY batch, k;
SELECT * FROM pn_compare('wa');
SELECT view, sqlstate, message FROM streamext.dead_letters WHERE stream = 'pn_s'::regclass;

-- reset empties them
SELECT streamext.reset('pn_s');
SELECT count(*) FROM streamext_state.pn_p_wa_panes;
DROP STREAM pn_s CASCADE;
SELECT count(*) FROM pg_class WHERE relnamespace = 'streamext_state'::regnamespace AND relname ~ '^(pn_|w[a-g])';
SELECT count(*) FROM streamext.window_batch;
DROP FUNCTION pn_both, pn_compare;
DROP PROCEDURE pn_run, pn_work;
