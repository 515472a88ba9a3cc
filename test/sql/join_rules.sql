-- Joins of streams, rule by rule: what is shown after which batch, what is late, what is kept.
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
CREATE SCHEMA jr;
SET search_path = jr, public;
CREATE STREAM l (k text, id int, ts timestamptz)
    WITH (connector = 'queue', pipeline = 'jr', paused, event_time = 'ts', watermark = '5 seconds');
CREATE STREAM r (k text, id int, ts timestamptz)
    WITH (connector = 'queue', pipeline = 'jr', event_time = 'ts', watermark = '5 seconds');
-- a second of this day
CREATE FUNCTION at(second numeric) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$ SELECT timestamptz '2025-01-01Z' + second * interval '1 s' $$;
CREATE FUNCTION second(timestamptz) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$ SELECT trim_scale(extract(epoch FROM $1 - timestamptz '2025-01-01Z')) $$;

-- ---------- each kind, with a bound: r at most 10 s after l ----------
CREATE MATERIALIZED VIEW v_inner AS SELECT l.id, r.id AS rid FROM l JOIN r ON l.k = r.k AND r.ts BETWEEN l.ts AND l.ts + interval '10 s';
CREATE MATERIALIZED VIEW v_left AS SELECT l.id, r.id AS rid FROM l LEFT JOIN r ON l.k = r.k AND r.ts BETWEEN l.ts AND l.ts + interval '10 s';
CREATE MATERIALIZED VIEW v_left_final WITH (emit = 'final') AS SELECT l.id, r.id AS rid FROM l LEFT JOIN r ON l.k = r.k AND r.ts BETWEEN l.ts AND l.ts + interval '10 s';
CREATE MATERIALIZED VIEW v_right_final WITH (emit = 'final') AS SELECT l.id, r.id AS rid FROM l RIGHT JOIN r ON l.k = r.k AND r.ts BETWEEN l.ts AND l.ts + interval '10 s';
CREATE MATERIALIZED VIEW v_full AS SELECT l.id, r.id AS rid FROM l FULL JOIN r ON l.k = r.k AND r.ts BETWEEN l.ts AND l.ts + interval '10 s';
CREATE MATERIALIZED VIEW v_full_final WITH (emit = 'final') AS SELECT l.id, r.id AS rid FROM l FULL JOIN r ON l.k = r.k AND r.ts BETWEEN l.ts AND l.ts + interval '10 s';
CREATE MATERIALIZED VIEW v_semi AS SELECT l.id FROM l WHERE EXISTS (SELECT FROM r WHERE l.k = r.k AND r.ts BETWEEN l.ts AND l.ts + interval '10 s');
CREATE MATERIALIZED VIEW v_in AS SELECT l.id FROM l WHERE k IN (SELECT r.k FROM r WHERE r.ts BETWEEN l.ts AND l.ts + interval '10 s');
CREATE MATERIALIZED VIEW v_anti AS SELECT l.id FROM l WHERE NOT EXISTS (SELECT FROM r WHERE l.k = r.k AND r.ts BETWEEN l.ts AND l.ts + interval '10 s');
CREATE MATERIALIZED VIEW v_anti_final WITH (emit = 'final') AS SELECT l.id FROM l WHERE NOT EXISTS (SELECT FROM r WHERE l.k = r.k AND r.ts BETWEEN l.ts AND l.ts + interval '10 s');
CREATE MATERIALIZED VIEW v_window WITH (emit = 'final') AS
    SELECT p.w, p.id, q.id AS rid FROM (SELECT tumble(ts, '10 s') AS w, k, id FROM l) p LEFT JOIN (SELECT tumble(ts, '10 s') AS w, k, id FROM r) q USING (w, k);
CREATE MATERIALIZED VIEW v_letters WITH (late = 'dead_letter') AS SELECT l.id, r.id AS rid FROM l JOIN r ON l.k = r.k AND r.ts BETWEEN l.ts AND l.ts + interval '10 s';
CREATE MATERIALIZED VIEW v_retained WITH (retention = '20 s') AS SELECT l.id, r.id AS rid FROM l LEFT JOIN r ON l.k = r.k AND r.ts BETWEEN l.ts AND l.ts + interval '10 s';

CREATE FUNCTION shown() RETURNS TABLE (view text, rows text) LANGUAGE plpgsql AS $$
BEGIN
    FOREACH view IN ARRAY ARRAY['v_inner', 'v_left', 'v_left_final', 'v_right_final', 'v_full', 'v_full_final', 'v_semi', 'v_in', 'v_anti', 'v_anti_final', 'v_window', 'v_retained'] LOOP
        EXECUTE format('SELECT coalesce(string_agg(t::text, '' '' ORDER BY t::text), ''-'') FROM (SELECT %s FROM jr.%I) t',
                       CASE WHEN view IN ('v_semi', 'v_in', 'v_anti', 'v_anti_final') THEN 'id' ELSE 'id, rid' END, view) INTO rows;
        RETURN NEXT;
    END LOOP;
END $$;
CREATE FUNCTION kept() RETURNS TABLE (view text, l text, r text) LANGUAGE plpgsql AS $$
BEGIN
    FOREACH view IN ARRAY ARRAY['v_inner', 'v_left', 'v_window'] LOOP
        EXECUTE format('SELECT string_agg(id::text, '' '' ORDER BY id) FROM streamext_state.%I', view || '_1') INTO l;
        EXECUTE format('SELECT string_agg(id::text, '' '' ORDER BY id) FROM streamext_state.%I', view || '_2') INTO r;
        RETURN NEXT;
    END LOOP;
END $$;

-- 1 and 2 meet 101; 3 has no partner yet; NULL keys (4, 104) never match
INSERT INTO l VALUES ('a', 1, at(10)), ('a', 2, at(11)), ('b', 3, at(12)), (NULL, 4, at(12));
INSERT INTO r VALUES ('a', 101, at(12)), (NULL, 104, at(13));
SELECT batch_id, rows FROM streamext.step('jr');
SELECT * FROM shown();
-- a second partner of 1 and 2 (a semi join does not show them again), the first of 3: taken back
INSERT INTO r VALUES ('a', 102, at(14)), ('b', 103, at(15)), ('c', 105, at(15));
SELECT batch_id, rows FROM streamext.step('jr');
SELECT * FROM shown();
-- the right side was first: 5 meets 105, which is at the bound itself
INSERT INTO l VALUES ('c', 5, at(15));
SELECT batch_id, rows FROM streamext.step('jr');
SELECT * FROM shown();
SELECT * FROM kept();
-- watermark 23 (the lower one, of l): 4 is out of reach from 22 on, and l is released up to 13, r up to 23
INSERT INTO l VALUES ('z', 6, at(28));
INSERT INTO r VALUES ('y', 106, at(40));
SELECT batch_id, rows FROM streamext.step('jr');
SELECT * FROM shown();
SELECT * FROM kept();
-- late: at or before the watermark 23; on windows: in one that has ended by then
INSERT INTO l VALUES ('c', 7, at(23)), ('y', 8, at(23.000001)), ('y', 9, at(30)), ('x', 10, at(19)), ('x', 11, at(20));
INSERT INTO r VALUES ('c', 107, at(22)), ('x', 108, at(20.5));
SELECT batch_id, rows, dead_letters FROM streamext.step('jr');
SELECT * FROM shown();
SELECT view, late_rows, null_time_rows, second(watermark) AS watermark FROM streamext.views WHERE pipeline = 'jr' ORDER BY late_rows, view::text COLLATE "C";
SELECT stream, sqlstate, message, second((convert_from(value, 'UTF8')::json->>'ts')::timestamptz) AS at FROM streamext.dead_letters WHERE pipeline = 'jr' ORDER BY 1, 4;
-- no event time: never late, meets nobody, and is shown alone at once; a window does not take it
INSERT INTO l VALUES ('a', 12, NULL), ('y', 13, at(60));
INSERT INTO r VALUES ('a', 112, NULL), ('y', 113, at(70));
SELECT batch_id, rows FROM streamext.step('jr');
SELECT * FROM shown();
SELECT * FROM kept();
SELECT view, null_time_rows FROM streamext.views WHERE view = 'v_window'::regclass;

-- ---------- a record that makes the condition fail is out for this view alone ----------
CREATE MATERIALIZED VIEW v_bad WITH (backfill = off) AS SELECT l.id, r.id AS rid FROM l JOIN r ON l.k = r.k AND 10 / (r.id - 201) >= 0 AND r.ts BETWEEN l.ts AND l.ts + interval '10 s';
INSERT INTO l VALUES ('e', 201, at(100));
SELECT batch_id, rows, dead_letters FROM streamext.step('jr');
INSERT INTO r VALUES ('e', 202, at(101)), ('e', 201, at(102)), ('e', 203, at(103));
SELECT batch_id, rows, dead_letters FROM streamext.step('jr');
SELECT * FROM v_bad ORDER BY rid;
SELECT * FROM v_inner WHERE id = 201 ORDER BY rid;

-- ---------- after a new worker has taken over: nothing is forgotten ----------
SELECT streamext.resume('jr');
INSERT INTO r VALUES ('e', 204, at(104));
SELECT streamext.wait('jr');
SELECT streamext.pause('jr');
SELECT * FROM v_inner WHERE id = 201 ORDER BY rid;

-- ---------- 60 windows later the state is that of the open ones ----------
DO $$
BEGIN
    FOR i IN 1..60 LOOP
        INSERT INTO jr.l SELECT 'm' || g % 5, 1000 * i + g, jr.at(200 + i * 10 + g * 0.1) FROM generate_series(0, 99) g;
        INSERT INTO jr.r SELECT 'm' || g % 5, 1000 * i + g, jr.at(200 + i * 10 + g * 0.1) FROM generate_series(0, 99) g;
        COMMIT;
        PERFORM streamext.step('jr');
        COMMIT;
    END LOOP;
END $$;
SELECT relname, (xpath('/row/c/text()', query_to_xml(format('SELECT count(*) AS c FROM streamext_state.%I', relname), false, true, '')))[1]::text::int AS rows
FROM pg_class WHERE relnamespace = 'streamext_state'::regnamespace AND relkind = 'r' AND relname ~ '^(jr_)?v_(inner|full_final|semi|window|retained)(_[12])?$' ORDER BY 1;

-- ---------- the watermark jumps: rows leave in steps, at least 20,000 a batch ----------
CREATE STREAM big (k int, ts timestamptz) WITH (connector = 'queue', pipeline = 'jr2', paused, event_time = 'ts', watermark = '5 seconds');
CREATE MATERIALIZED VIEW v_big AS SELECT p.k FROM big p JOIN big q ON p.k = q.k AND p.ts = q.ts;
INSERT INTO big SELECT i, at(0) FROM generate_series(1, 45000) i;
SELECT rows FROM streamext.step('jr2');
INSERT INTO big VALUES (0, at(1000));
SELECT rows FROM streamext.step('jr2');
SELECT count(*) FROM streamext_state.v_big_1;
INSERT INTO big VALUES (0, at(1000));
SELECT rows FROM streamext.step('jr2');
SELECT count(*) FROM streamext_state.v_big_1;
INSERT INTO big VALUES (0, at(1000));
SELECT rows FROM streamext.step('jr2');
SELECT count(*) FROM streamext_state.v_big_1;
SELECT count(*) FROM v_big;

-- ---------- what is refused, and what is warned of ----------
SELECT streamext.explain('v_window') ~ 'Bound: equal windows of 10 seconds' AS bound;
SELECT (regexp_match(streamext.explain('v_inner'), 'Bound: [^\n]*'))[1];
CREATE MATERIALIZED VIEW w1 WITH (backfill = off) AS SELECT l.id FROM l JOIN r USING (k);
CREATE MATERIALIZED VIEW w2 WITH (backfill = off) AS SELECT l.id FROM l LEFT JOIN r ON l.k = r.k AND r.ts >= l.ts;
CREATE MATERIALIZED VIEW w3 WITH (backfill = off, emit = 'final') AS SELECT l.id FROM l RIGHT JOIN r ON l.k = r.k AND r.ts >= l.ts;
CREATE MATERIALIZED VIEW bad WITH (backfill = off, emit = 'final') AS SELECT l.id FROM l LEFT JOIN r ON l.k = r.k AND r.ts >= l.ts;
CREATE MATERIALIZED VIEW bad WITH (backfill = off, emit = 'final') AS SELECT l.id FROM l FULL JOIN r ON l.k = r.k;
CREATE MATERIALIZED VIEW bad WITH (backfill = off, emit = 'final') AS SELECT l.id FROM l JOIN r ON l.k = r.k;
CREATE MATERIALIZED VIEW bad WITH (backfill = off, late = 'update') AS SELECT l.id FROM l JOIN r ON l.k = r.k AND l.ts = r.ts;
CREATE MATERIALIZED VIEW bad WITH (backfill = off, late = 'drop') AS SELECT l.id FROM l JOIN r ON l.k = r.k;
CREATE MATERIALIZED VIEW bad WITH (backfill = off, retention = '1 hour') AS SELECT l.id FROM l JOIN r ON l.k = r.k AND r.ts >= l.ts;
CREATE MATERIALIZED VIEW bad WITH (backfill = off, emit = '5 seconds') AS SELECT l.id FROM l JOIN r ON l.k = r.k AND l.ts = r.ts;
CREATE MATERIALIZED VIEW bad WITH (backfill = off) AS SELECT l.id AS sx_time FROM l JOIN r ON l.k = r.k AND l.ts = r.ts;
CREATE MATERIALIZED VIEW bad WITH (backfill = off) AS SELECT count(*) AS n FROM l JOIN v_left_final f ON f.id = l.id;
-- an event time that is changed bounds nothing
CREATE MATERIALIZED VIEW w4 WITH (backfill = off) AS SELECT p.id FROM (SELECT k, id, date_trunc('minute', ts) + interval '1 s' AS ts FROM l) p JOIN r ON p.k = r.k AND r.ts BETWEEN p.ts AND p.ts + interval '10 s';
DROP MATERIALIZED VIEW v_inner;
SELECT relname FROM pg_class WHERE relname LIKE 'v\_inner%' OR relname LIKE 'jr\_v\_inner%';
SET client_min_messages = warning;
DROP SCHEMA jr CASCADE;
SELECT relname FROM pg_class WHERE relnamespace = 'streamext_state'::regnamespace AND relname ~ '^(jr_)?[vw](_|[0-9])';
