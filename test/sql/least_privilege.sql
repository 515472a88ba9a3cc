-- What the owner of a stream attaches to its tables never runs as the owner of the extension.
SET timezone = 'UTC';
SET client_min_messages = error;
CREATE SCHEMA least_privilege;
CREATE ROLE mallory;
GRANT USAGE ON FOREIGN SERVER streamext TO mallory;
GRANT ALL ON SCHEMA least_privilege TO mallory;
SET search_path = least_privilege, public;
SET ROLE mallory;
CREATE STREAM q (k int) WITH (connector = 'queue', paused);
CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS n FROM q GROUP BY k;
CREATE TABLE ran_as (role name);
CREATE FUNCTION trap() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO least_privilege.ran_as VALUES (current_user); RETURN coalesce(NEW, OLD); END $$;
GRANT ALL ON streamext_state.q_log TO mallory;
-- he cannot add triggers, but may have found somebody who did it for him
CREATE TRIGGER trap BEFORE INSERT OR UPDATE OR DELETE ON streamext_state.v FOR EACH ROW EXECUTE FUNCTION trap();
RESET ROLE;
CREATE TRIGGER trap BEFORE INSERT OR UPDATE OR DELETE ON streamext_state.q_log FOR EACH ROW EXECUTE FUNCTION trap();
ALTER TABLE streamext_state.q_log ENABLE ALWAYS TRIGGER trap;
CREATE TRIGGER trap BEFORE INSERT OR UPDATE OR DELETE ON streamext_state.v FOR EACH ROW EXECUTE FUNCTION trap();
ALTER TABLE streamext_state.v ENABLE ALWAYS TRIGGER trap;
RESET ROLE;
INSERT INTO q VALUES (1), (2);
SELECT batch_id, rows FROM streamext.step('q', '2024-01-01Z');
INSERT INTO q VALUES (1), (3);
-- the second batch deletes what the first has processed
SELECT batch_id, rows FROM streamext.step('q', '2024-01-01Z');
SELECT count(*) FROM streamext_state.q_log;
SELECT streamext.reset('q');
SELECT role, count(*) > 0 AS some FROM ran_as GROUP BY role;
-- and what others create does not run as him
CREATE MATERIALIZED VIEW mine AS SELECT k FROM q;
CREATE MATERIALIZED VIEW mine WITH (pipeline = 'mine') AS SELECT k FROM q;
SELECT pipeline, owner::regrole = current_user::regrole AS is_mine FROM streamext.pipelines ORDER BY 1;
SET client_min_messages = error;
DROP SCHEMA least_privilege CASCADE;
DROP OWNED BY mallory;
DROP ROLE mallory;
