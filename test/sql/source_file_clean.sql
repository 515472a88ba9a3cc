-- The connector 'file': what becomes of files that were taken (option clean), and of those that cannot be read.
SET timezone = 'UTC';
SET client_min_messages = warning;
\getenv build_dir PG_ABS_BUILDDIR
\set dir :build_dir /source_file_clean
\set archive :build_dir /source_file_clean_done
\setenv DIR :dir
\setenv ARCHIVE :archive
\! rm -rf "$DIR" "$ARCHIVE" && mkdir "$DIR" "$ARCHIVE" && chmod 777 "$DIR" "$ARCHIVE"

-- delete: at the poll after the commit, when the file was taken whole
\! cd "$DIR"; seq 1 5 >a; seq 6 7 >b; touch -d '2024-01-01Z' a; touch -d '2024-01-02Z' b
CREATE STREAM s (n int) WITH (connector = 'file', path = :'dir', format = 'csv', max_batch_rows = 3, clean = 'delete', paused);
CREATE MATERIALIZED VIEW got AS SELECT streamext.batch_id() AS batch, n FROM s;
SELECT batch_id, rows FROM streamext.step('got', '2024-02-01Z');
\! ls "$DIR"
SELECT batch_id, rows FROM streamext.step('got', '2024-02-01Z');
\! ls "$DIR"
-- not what our own transaction has taken
BEGIN;
SELECT batch_id, rows FROM streamext.step('got', '2024-02-01Z');
\! ls "$DIR"
SELECT batch_id, rows FROM streamext.step('got', '2024-02-01Z');
\! ls "$DIR"
ROLLBACK;
SELECT batch_id, rows FROM streamext.step('got', '2024-02-01Z');
SELECT batch_id, rows FROM streamext.step('got', '2024-02-01Z');
\! ls "$DIR"
SELECT count(*) FROM streamext.file_taken WHERE stream = 's'::regclass;
SELECT batch, array_agg(n ORDER BY n) FROM got GROUP BY 1 ORDER BY 1;
-- the name is free again
\! cd "$DIR"; echo 8 >a
SELECT batch_id, rows FROM streamext.step('got', '2024-02-01Z');
-- one that changed after it was taken stays, and is reported
\! cd "$DIR"; echo 9 >>a
SELECT batch_id, rows FROM streamext.step('got', '2024-02-01Z');
\! ls "$DIR"
SELECT array_agg(n ORDER BY n) FROM got WHERE batch > 3;

-- several pipelines: the slowest decides
\! cd "$DIR"; rm -f *; echo 10 >c
CREATE MATERIALIZED VIEW slow WITH (pipeline = 'slow') AS SELECT n FROM s;
SELECT streamext.pause('slow');
SELECT batch_id, rows FROM streamext.step('got', '2024-02-01Z');
SELECT batch_id, rows FROM streamext.step('got', '2024-02-01Z');
\! ls "$DIR"
SELECT batch_id, rows FROM streamext.step('slow', '2024-02-01Z');
SELECT batch_id, rows FROM streamext.step('got', '2024-02-01Z');
\! ls "$DIR"
SELECT batch_id, rows FROM streamext.step('slow', '2024-02-01Z');
SELECT p.name, f.name FROM streamext.file_taken f JOIN streamext.pipeline p ON p.id = f.pipeline WHERE f.stream = 's'::regclass AND f.name = 'c';
DROP STREAM s CASCADE;

-- archive: never over another file
\! cd "$DIR"; rm -f *; echo 1 >a; echo here >"$ARCHIVE/a"; echo here >"$ARCHIVE/a.1"
\set pattern :dir '/[ab]'
CREATE STREAM s (n int) WITH (connector = 'file', path = :'pattern', format = 'csv', max_files_per_batch = 1,
    clean = 'archive', archive_path = :'archive', paused);
CREATE MATERIALIZED VIEW got AS SELECT n FROM s;
SELECT batch_id, rows FROM streamext.step('got', '2024-02-01Z');
SELECT batch_id, rows FROM streamext.step('got', '2024-02-01Z');
\! ls "$DIR"; cd "$ARCHIVE"; head -v a*
SELECT count(*) FROM streamext.file_taken WHERE stream = 's'::regclass;
-- where it cannot be moved: it waits, is not taken again, and is moved later
\! mv "$ARCHIVE" "$ARCHIVE.away"; echo 2 >"$DIR/b"
SELECT batch_id, rows FROM streamext.step('got', '2024-02-01Z');
SET client_min_messages = error;
SELECT batch_id, rows FROM streamext.step('got', '2024-02-01Z');
SET client_min_messages = warning;
\! ls "$DIR"; mv "$ARCHIVE.away" "$ARCHIVE"
SELECT batch_id, rows FROM streamext.step('got', '2024-02-01Z');
\! ls "$DIR"; ls "$ARCHIVE"
SELECT * FROM got ORDER BY n;
DROP STREAM s CASCADE;

-- a crash between the removal and the commit leaves the row: it goes, once the folder has changed
\! cd "$DIR"; rm -f *; echo 1 >a; touch -d '2024-01-01Z' a
CREATE STREAM s (n int) WITH (connector = 'file', path = :'dir', format = 'csv', clean = 'delete', paused);
CREATE MATERIALIZED VIEW got AS SELECT n FROM s;
SELECT batch_id, rows FROM streamext.step('got', '2024-02-01Z');
\! rm "$DIR/a"; touch -d '2023-01-01Z' "$DIR"
SELECT batch_id, rows FROM streamext.step('got', '2024-02-01Z');
SELECT count(*) FROM streamext.file_taken WHERE stream = 's'::regclass;
\! touch "$DIR"
SELECT batch_id, rows FROM streamext.step('got', '2024-02-01Z');
SELECT count(*) FROM streamext.file_taken WHERE stream = 's'::regclass;
DROP STREAM s CASCADE;

-- a file that was taken in part and is gone, or shorter: loss of data
\! cd "$DIR"; rm -f *; seq 1 9 >a
CREATE STREAM s (n int) WITH (connector = 'file', path = :'dir', format = 'csv', max_batch_rows = 5, paused);
CREATE MATERIALIZED VIEW got AS SELECT n FROM s;
SELECT batch_id, rows FROM streamext.step('got', '2024-02-01Z');
\! cd "$DIR"; seq 1 6 >a
\set VERBOSITY terse
DO $$ BEGIN PERFORM streamext.step('got', '2024-02-01Z'); EXCEPTION WHEN data_corrupted THEN RAISE WARNING '%', regexp_replace(SQLERRM, '".*/', '".../'); END $$;
\! rm "$DIR/a"
DO $$ BEGIN PERFORM streamext.step('got', '2024-02-01Z'); EXCEPTION WHEN data_corrupted THEN RAISE WARNING '%', regexp_replace(SQLERRM, '".*/', '".../'); END $$;
\set VERBOSITY default
ALTER STREAM s OPTIONS (ADD on_data_loss 'continue');
\! echo 10 >"$DIR/b"
SET client_min_messages = error;
SELECT batch_id, rows FROM streamext.step('got', '2024-02-01Z');
SET client_min_messages = warning;
SELECT position FROM streamext.partition WHERE stream = 's'::regclass;
SELECT array_agg(n ORDER BY n) FROM got;
DROP STREAM s CASCADE;

-- a file that cannot be read waits until it can be, and a folder
\! cd "$DIR"; rm -f *; echo 1 >a; echo 2 >b; chmod 0 a; touch -d '2024-01-01Z' a
CREATE STREAM s (n int) WITH (connector = 'file', path = :'dir', format = 'csv', max_files_per_batch = 1, paused);
CREATE MATERIALIZED VIEW got AS SELECT streamext.batch_id() AS batch, n FROM s;
SELECT batch_id, rows FROM streamext.step('got', '2024-02-01Z');
SELECT batch_id, rows FROM streamext.step('got', '2024-02-01Z');
\! cd "$DIR"; chmod 644 a; chmod 0 .
SELECT batch_id, rows FROM streamext.step('got', '2024-02-01Z');
\! chmod 777 "$DIR"
SELECT batch_id, rows FROM streamext.step('got', '2024-02-01Z');
SELECT batch_id, rows FROM streamext.step('got', '2024-02-01Z');
SELECT * FROM got ORDER BY batch;
DROP STREAM s CASCADE;

-- options that do not go together
CREATE STREAM s (n int) WITH (connector = 'file', path = :'dir', format = 'csv', clean = 'archive', paused);
CREATE STREAM s (n int) WITH (connector = 'file', path = :'dir', format = 'csv', clean = 'archive', archive_path = 'done', paused);
CREATE STREAM s (n int) WITH (connector = 'file', path = :'dir', format = 'csv', clean = 'archive', archive_path = '/nonexistent/done', paused);
\! echo 1 >"$DIR/a"
CREATE STREAM s (n int) WITH (connector = 'file', path = '/tmp', format = 'csv', clean = 'archive', archive_path = '/etc/passwd', paused);
CREATE STREAM s (n int) WITH (connector = 'file', path = :'dir', format = 'csv', clean = 'archive', archive_path = :'dir', paused);
\set pattern :build_dir '/*/*.csv'
CREATE STREAM s (n int) WITH (connector = 'file', path = :'pattern', format = 'csv', clean = 'archive', archive_path = :'archive', paused);
CREATE STREAM s (n int) WITH (connector = 'file', path = :'dir', format = 'csv', archive_path = :'archive', paused);
CREATE STREAM s (n int) WITH (connector = 'file', path = '/proc/self', format = 'csv', clean = 'archive', archive_path = :'archive', paused);
CREATE STREAM s (n int) WITH (connector = 'file', path = :'dir', format = 'csv', clean = 'sometimes', paused);

-- who may
CREATE ROLE source_file_clean_user;
GRANT USAGE ON FOREIGN SERVER streamext TO source_file_clean_user;
GRANT CREATE ON SCHEMA public TO source_file_clean_user;
GRANT pg_read_server_files TO source_file_clean_user;
SET ROLE source_file_clean_user;
CREATE STREAM s (n int) WITH (connector = 'file', path = :'dir', format = 'csv', clean = 'delete', paused);
RESET ROLE;
GRANT pg_write_server_files TO source_file_clean_user;
SET ROLE source_file_clean_user;
CREATE STREAM s (n int) WITH (connector = 'file', path = :'dir', format = 'csv', clean = 'delete', paused);
CREATE MATERIALIZED VIEW got AS SELECT n FROM s;
SELECT batch_id, rows FROM streamext.step('got', '2024-02-01Z');
SELECT batch_id, rows FROM streamext.step('got', '2024-02-01Z');
\! ls "$DIR"
DROP STREAM s CASCADE;
RESET ROLE;
DROP OWNED BY source_file_clean_user;
DROP ROLE source_file_clean_user;
\! rm -rf "$DIR" "$ARCHIVE"
