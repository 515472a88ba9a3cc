-- The connector 'file': which files a batch takes, in which order, and once only.
SET timezone = 'UTC';
SET client_min_messages = warning;
\getenv build_dir PG_ABS_BUILDDIR
\set dir :build_dir /source_file
\setenv DIR :dir
\! rm -rf "$DIR" && mkdir "$DIR" && chmod 755 "$DIR"

-- one file a batch, in order of mtime, then name; an empty file makes an empty batch
\! cd "$DIR"; printf 'b1\nb2\n' >b; printf 'a1\n\na3' >a; : >empty; printf 'c1\n' >c; touch -d '2024-01-02Z' a b; touch -d '2024-01-01Z' c; touch -d '2024-01-03Z' empty
-- not taken: hidden names, folders, anything but regular files
\! cd "$DIR"; echo no >.hidden; echo no >_hidden; mkdir folder; mkfifo pipe
CREATE STREAM lines (line text, file text OPTIONS (metadata 'topic'), no bigint OPTIONS (metadata 'offset'))
    WITH (connector = 'file', path = :'dir', format = 'text', max_files_per_batch = 1, paused);
CREATE MATERIALIZED VIEW seen AS
    SELECT streamext.batch_id() AS batch, line, file, no FROM lines;
SELECT batch_id, rows FROM streamext.step('seen', '2024-02-01Z');
SELECT batch_id, rows FROM streamext.step('seen', '2024-02-01Z');
SELECT batch_id, rows FROM streamext.step('seen', '2024-02-01Z');
SELECT batch_id, rows FROM streamext.step('seen', '2024-02-01Z');
SELECT batch_id, rows FROM streamext.step('seen', '2024-02-01Z');
SELECT * FROM seen ORDER BY batch, no;
SELECT name, size, mtime, batch_id FROM streamext.file_taken WHERE stream = 'lines'::regclass ORDER BY batch_id;

-- one that appears late with an older mtime is taken; names that never were, too
\! cd "$DIR"; echo old >old; touch -d '2000-01-01Z' old; echo renamed >.new; mv .new new
BEGIN;
SELECT batch_id, rows FROM streamext.step('seen', '2024-02-01Z');
SELECT line FROM seen WHERE batch = 5;
ROLLBACK;
-- rolled back: the same file again
SELECT batch_id, rows FROM streamext.step('seen', '2024-02-01Z');
SELECT line FROM seen WHERE batch = 5;
SELECT batch_id, rows FROM streamext.step('seen', '2024-02-01Z');

-- one that grows after it was taken is reported, not read
\! cd "$DIR"; echo more >>c
SELECT batch_id, rows FROM streamext.step('seen', '2024-02-01Z');
SELECT count(*) FROM seen;

-- a SELECT outside a batch reads all that is there
SELECT line, file, no FROM lines ORDER BY file, no;
DROP STREAM lines CASCADE;
SELECT count(*) FROM streamext.file_taken;

-- without max_files_per_batch: a batch is as full as it may be, and ends where a record ends
\! cd "$DIR"; rm -rf *; seq 1 7 >one; seq 8 9 >two; touch -d '2024-01-01Z' one; touch -d '2024-01-02Z' two
CREATE STREAM parts (n int, no bigint OPTIONS (metadata 'offset'))
    WITH (connector = 'file', path = :'dir', format = 'csv', max_batch_rows = 3, paused);
CREATE MATERIALIZED VIEW numbers AS SELECT streamext.batch_id() AS batch, n, no FROM parts;
SELECT batch_id, rows, bytes FROM streamext.step('numbers', '2024-02-01Z');
SELECT position FROM streamext.partition WHERE stream = 'parts'::regclass;
SELECT batch_id, rows FROM streamext.step('numbers', '2024-02-01Z');
SELECT batch_id, rows FROM streamext.step('numbers', '2024-02-01Z');
SELECT position FROM streamext.partition WHERE stream = 'parts'::regclass;
SELECT batch_id, rows FROM streamext.step('numbers', '2024-02-01Z');
SELECT batch, array_agg(n ORDER BY n), array_agg(no ORDER BY n) FROM numbers GROUP BY 1 ORDER BY 1;
DROP STREAM parts CASCADE;

-- a pattern
\set pattern :dir '/t*'
CREATE STREAM matching (line text) WITH (connector = 'file', path = :'pattern', format = 'text', paused);
CREATE MATERIALIZED VIEW matched AS SELECT line FROM matching;
SELECT batch_id, rows FROM streamext.step('matched', '2024-02-01Z');
DROP STREAM matching CASCADE;

-- a folder that is not there yet
\set missing :dir '/later'
CREATE STREAM later (line text) WITH (connector = 'file', path = :'missing', format = 'text', paused);
CREATE MATERIALIZED VIEW came AS SELECT line FROM later;
SELECT batch_id, rows FROM streamext.step('came', '2024-02-01Z');
\! mkdir "$DIR/later"; echo here >"$DIR/later/file"
SELECT batch_id, rows FROM streamext.step('came', '2024-02-01Z');
DROP STREAM later CASCADE;

-- who may
CREATE ROLE source_file_user;
GRANT USAGE ON FOREIGN SERVER streamext TO source_file_user;
GRANT CREATE ON SCHEMA public TO source_file_user;
SET ROLE source_file_user;
CREATE STREAM forbidden (line text) WITH (connector = 'file', path = :'dir', format = 'text', paused);
RESET ROLE;
GRANT pg_read_server_files TO source_file_user;
SET ROLE source_file_user;
CREATE STREAM allowed (line text) WITH (connector = 'file', path = :'dir', format = 'text', paused);
SELECT count(*) FROM allowed;
DROP STREAM allowed;
RESET ROLE;
DROP OWNED BY source_file_user;
DROP ROLE source_file_user;
\! rm -rf "$DIR"
