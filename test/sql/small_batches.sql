-- Batches of one row, in which statements that would do nothing are left out and other plans
-- are used, make the same of the same rows as one batch of all rows does, and as SQL does.
SET client_min_messages = error;
CREATE SCHEMA small_batches;
SET search_path = small_batches, public;

-- Three kinds of rows in turn, one without a kind, keys that are NULL, a divisor of 0.
CREATE TABLE item AS
	SELECT i AS id, CASE WHEN i % 11 <> 0 THEN i % 3 END AS kind, NULLIF(i % 5, 4) AS k, i % 7 AS v,
		timestamptz '2026-01-01 00:00+00' + i * interval '1 s' AS ts
	FROM generate_series(1, 120) i;
CREATE TABLE label AS SELECT k, 'label ' || k AS label FROM generate_series(0, 2) k;

-- $s is the stream, or the table.
CREATE TABLE query (name text, sql text);
INSERT INTO query VALUES
	('copy', 'SELECT id, k, v FROM $s s WHERE kind = 1'),
	('no_kind', 'SELECT id FROM $s s WHERE kind IS NULL'),
	('never', 'SELECT id FROM $s s WHERE kind = 7'),
	('either', 'SELECT id, 1 AS b FROM $s s WHERE kind = 0 UNION ALL SELECT id, 2 FROM $s s WHERE kind = 2'),
	('labels', 'SELECT s.id, l.label FROM $s s LEFT JOIN label l USING (k) WHERE s.kind = 2'),
	('labels_by_right', 'SELECT s.id, l.label FROM label l JOIN $s s USING (k) WHERE s.kind = 2 AND l.k > 0'),
	('sums', 'SELECT k, count(*) AS n, sum(v) AS v FROM $s s WHERE kind = 1 GROUP BY k'),
	('totals', 'SELECT count(*) AS n, sum(v) AS v FROM $s s WHERE kind = 1'),
	('rolled', 'SELECT k, count(*) AS n FROM $s s WHERE kind = 0 GROUP BY ROLLUP (k)'),
	('distinct_values', 'SELECT k, count(DISTINCT v) AS n, count(DISTINCT v) FILTER (WHERE v > 3) AS m FROM $s s WHERE kind < 2 GROUP BY k'),
	('medians', 'SELECT k, percentile_disc(0.5) WITHIN GROUP (ORDER BY v) AS m FROM $s s WHERE kind = 2 GROUP BY k'),
	('firsts', 'SELECT * FROM (SELECT id, k, row_number() OVER (PARTITION BY k ORDER BY v DESC, id) AS r FROM $s s WHERE kind = 0) q WHERE r <= 2'),
	('pairs', 'SELECT a.id AS a, b.id AS b FROM $s a JOIN $s b ON a.k = b.k WHERE a.kind = 0 AND b.kind = 1'),
	('lonely', 'SELECT a.id AS a, b.id AS b FROM (SELECT * FROM $s s WHERE kind = 0) a LEFT JOIN (SELECT * FROM $s s WHERE kind = 1) b ON a.id = b.id - 1 AND b.ts BETWEEN a.ts - interval ''5 s'' AND a.ts + interval ''5 s'''),
	('best', 'SELECT k, max(n) AS n FROM (SELECT k, v, count(*) AS n FROM $s s WHERE kind = 1 GROUP BY k, v) c GROUP BY k'),
	('average', 'SELECT n, count(*) AS c, avg(k) AS k FROM (SELECT k, count(*) AS n FROM $s s WHERE kind = 2 GROUP BY k) c GROUP BY n'),
	('minutes', 'SELECT tumble(ts, ''10 s'') AS w, count(*) AS n FROM $s s WHERE kind = 2 GROUP BY 1'),
	('divided', 'SELECT id, 42 / v AS q FROM $s s WHERE kind = 1 AND 42 / v > 6');

CREATE FUNCTION make(stream text, options text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	q query;
BEGIN
	EXECUTE format('CREATE STREAM %I (id int, kind int, k int, v int, ts timestamptz)
		WITH (connector = ''queue'', event_time = ''ts'', watermark = ''1 hour'', pipeline = %L, paused%s)', stream, stream, options);
	FOR q IN SELECT * FROM query LOOP
		EXECUTE format('CREATE MATERIALIZED VIEW %I AS %s', stream || '_' || q.name, replace(q.sql, '$s', quote_ident(stream)));
	END LOOP;
END $$;
SELECT make('one', ', max_batch_rows = 1');
SELECT make('many', '');
INSERT INTO one SELECT * FROM item ORDER BY id;
SELECT streamext.resume('one'), streamext.resume('many');
-- One worker has small and large batches.
INSERT INTO many SELECT * FROM item WHERE id = 1;
SELECT streamext.wait('many');
INSERT INTO many SELECT * FROM item WHERE id = 2;
SELECT streamext.wait('many');
INSERT INTO many SELECT * FROM item WHERE id BETWEEN 3 AND 110 ORDER BY id;
SELECT streamext.wait('many');
INSERT INTO many SELECT * FROM item WHERE id BETWEEN 111 AND 119 ORDER BY id;
SELECT streamext.wait('many');
INSERT INTO many SELECT * FROM item WHERE id = 120;
SELECT streamext.wait('many'), streamext.wait('one');
SELECT pipeline, state, batch_id FROM streamext.pipelines WHERE pipeline IN ('one', 'many') ORDER BY 1;

-- Rows that are missing or too much, in each view; the rows that fail in "divided" are left out of it.
CREATE FUNCTION compare(stream text, OUT name text, OUT rows bigint, OUT wrong bigint) RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
	q query;
BEGIN
	FOR q IN SELECT * FROM query LOOP
		name := q.name;
		EXECUTE format('WITH b AS MATERIALIZED (%s), v AS (SELECT * FROM %I)
			SELECT (SELECT count(*) FROM b), (SELECT count(*) FROM ((TABLE b EXCEPT ALL TABLE v) UNION ALL (TABLE v EXCEPT ALL TABLE b)) x)',
			replace(q.sql, '$s', CASE q.name WHEN 'divided' THEN '(SELECT * FROM item WHERE v <> 0)' ELSE 'item' END), stream || '_' || q.name)
		INTO rows, wrong;
		RETURN NEXT;
	END LOOP;
END $$;
SELECT * FROM compare('one');
SELECT * FROM compare('many') WHERE wrong > 0;

-- The counters are the same, too, and the records that failed.
SELECT replace(view::text, 'one_', '') AS view, late_rows, null_time_rows, dead_letters FROM streamext.views WHERE view::text ~ '^one_'
EXCEPT SELECT replace(view::text, 'many_', ''), late_rows, null_time_rows, dead_letters FROM streamext.views WHERE view::text ~ '^many_';
SELECT pipeline, view, count(*), min(message) FROM streamext.dead_letters WHERE pipeline IN ('one', 'many') GROUP BY 1, 2 ORDER BY 1;
DROP SCHEMA small_batches CASCADE;
