-- Outside a batch a derived stream is evaluated as its owner, with his settings:
-- whoever looks puts no function and no table of his own in place of the owner's.
SET client_min_messages = warning;
CREATE ROLE po_owner;
CREATE ROLE po_reader;
GRANT USAGE ON FOREIGN SERVER streamext TO po_owner;
CREATE SCHEMA po_owner AUTHORIZATION po_owner;
CREATE SCHEMA po_reader AUTHORIZATION po_reader;
GRANT USAGE ON SCHEMA po_owner TO po_reader;
GRANT USAGE ON SCHEMA po_reader TO po_owner;

SET ROLE po_owner;
SET search_path = po_owner;
CREATE STREAM s (a int, t timestamptz) WITH (connector = 'queue', paused);
CREATE TABLE names (a int, name text);
INSERT INTO names VALUES (1, 'one');
CREATE FUNCTION helper(int) RETURNS text LANGUAGE sql AS $$ SELECT 'of ' || current_user $$;
CREATE FUNCTION name(int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT n.name || ', ' || helper($1) FROM names n WHERE n.a = $1); END $$;
SET timezone = 'Asia/Tokyo';
CREATE STREAM d AS SELECT a, po_owner.name(a), t::text, count(*) FROM s GROUP BY a, t;
INSERT INTO s VALUES (1, '2024-01-01 00:00:00Z');
GRANT SELECT ON d TO po_reader;

SET ROLE po_reader;
SET search_path = po_reader;
SET timezone = 'UTC';
CREATE FUNCTION helper(int) RETURNS text LANGUAGE sql AS $$ SELECT 'stolen as ' || current_user $$;
CREATE TEMPORARY TABLE names (a int, name text);
INSERT INTO names VALUES (1, 'temporary');
GRANT SELECT ON names TO po_owner;
SELECT * FROM po_owner.d;
SHOW search_path;
SHOW timezone;

RESET ROLE;
RESET search_path;
SET client_min_messages = error;
DROP OWNED BY po_owner, po_reader CASCADE;
DROP ROLE po_owner, po_reader;
