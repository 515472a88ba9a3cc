-- Whatever the owner of a stream attaches to what he owns, none of it runs as the owner of
-- the extension or as anybody else: functions in index predicates, statistics, domains.
SET client_min_messages = error;
SET timezone = 'UTC';
CREATE ROLE se_mallory;
GRANT USAGE ON FOREIGN SERVER streamext TO se_mallory;
CREATE SCHEMA se AUTHORIZATION se_mallory;
SET ROLE se_mallory;
SET search_path = se;
CREATE TABLE ran (place text, role name, session name);
CREATE FUNCTION note(place text) RETURNS boolean LANGUAGE plpgsql VOLATILE AS
    $$ BEGIN INSERT INTO se.ran VALUES (place, current_user, session_user); RETURN true; END $$;
CREATE FUNCTION note_fast(place text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN PERFORM se.note(place); RETURN true; END $$;
CREATE FUNCTION note_null(place text, v int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN PERFORM se.note(place); RETURN true; END $$;

-- statistics on the log of a queue: the planner looks at them when the log is trimmed
CREATE STREAM q (k int) WITH (connector = 'queue', paused);
CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS n FROM q GROUP BY k;
CREATE STATISTICS se.st_log ON k, (note_fast('statistics of the log')) FROM streamext_state.q_log;
CREATE STATISTICS se.st_view ON k, (note_fast('statistics of the view')) FROM streamext_state.v;
RESET ROLE;
INSERT INTO q VALUES (1), (2);
SELECT rows FROM streamext.step('q');
INSERT INTO q VALUES (3);
SELECT rows FROM streamext.step('q');
SELECT streamext.reset('q');
SET ROLE se_mallory;

-- a partial index on the table that a stream follows: the planner looks at its predicate
CREATE TABLE t (k int, secret text);
CREATE INDEX ON t (k) WHERE note_fast('predicate of an index');
INSERT INTO t VALUES (1, 'x');
CREATE STREAM s (k int) WITH (connector = 'table', table = 't', start = 'earliest', paused);

-- a domain as the type of a new column: rows that are there already are checked
CREATE DOMAIN dom AS int CHECK (note_null('domain', VALUE));
CREATE STREAM q2 (k int) WITH (connector = 'queue', paused);
CREATE MATERIALIZED VIEW v2 AS SELECT k, count(*) AS n FROM q2 GROUP BY k;
INSERT INTO q2 VALUES (1), (2);
ALTER STREAM q2 ADD COLUMN d dom;
SELECT place, role FROM ran WHERE role <> 'se_mallory' GROUP BY 1, 2 ORDER BY 1, 2;
-- they did run, as he
SELECT DISTINCT place FROM ran ORDER BY 1;

-- row level security of a followed table holds for the rows that are there already
RESET ROLE;
CREATE TABLE se.guarded (k int);
INSERT INTO se.guarded VALUES (1), (2);
ALTER TABLE se.guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY one ON se.guarded FOR SELECT USING (k OPERATOR(pg_catalog.=) 1);
GRANT SELECT, TRIGGER ON se.guarded TO se_mallory;
SET ROLE se_mallory;
CREATE STREAM g (k int) WITH (connector = 'table', table = 'guarded', start = 'earliest', paused);
RESET ROLE;
RESET search_path;
DROP SCHEMA se CASCADE;
DROP OWNED BY se_mallory CASCADE;
DROP ROLE se_mallory;
