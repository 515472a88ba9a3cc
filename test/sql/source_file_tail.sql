-- The connector 'file' with tail = on: a growing file, followed through rotation.
SET timezone = 'UTC';
SET client_min_messages = warning;
\getenv build_dir PG_ABS_BUILDDIR
\set dir :build_dir /source_file_tail
\setenv DIR :dir
\! rm -rf "$DIR" && mkdir "$DIR" && chmod 755 "$DIR"
\set path :dir '/app.log'

-- a file that is not there yet; then lines, the last one without its end
CREATE STREAM log (line text, file text OPTIONS (metadata 'topic'), at bigint OPTIONS (metadata 'offset'))
    WITH (connector = 'file', path = :'path', format = 'text', tail, paused, max_batch_rows = 4);
CREATE MATERIALIZED VIEW seen AS
    SELECT streamext.batch_id() AS batch, line, file, at FROM log;
SELECT batch_id, rows FROM streamext.step('seen');
\! cd "$DIR"; printf 'one\n\nthree\nfo' >app.log
SELECT batch_id, rows, bytes FROM streamext.step('seen');
SELECT batch_id, rows FROM streamext.step('seen');
SELECT lag, end_position -> 'size' AS size, position -> 'offset' AS "offset"
    FROM streamext.partitions WHERE stream = 'log'::regclass;
\! cd "$DIR"; printf 'ur\n' >>app.log
-- rolled back: the very same again, though the file has grown
BEGIN;
SELECT batch_id, rows FROM streamext.step('seen');
ROLLBACK;
\! cd "$DIR"; printf '5\n6\n7\n8\n' >>app.log
SELECT batch_id, rows FROM streamext.step('seen');
SELECT batch_id, rows FROM streamext.step('seen');
SELECT batch_id, rows FROM streamext.step('seen');
SELECT * FROM seen ORDER BY at;

-- rotated: the rest of the old one first, its last line though it has no end; a new file without bytes is no reason yet
\! cd "$DIR"; printf 'rest\nunend' >>app.log; mv app.log app.log.1; : >app.log
SELECT batch_id, rows FROM streamext.step('seen');
SELECT batch_id, rows FROM streamext.step('seen');
\! cd "$DIR"; printf 'ed' >>app.log.1
SELECT batch_id, rows FROM streamext.step('seen');
\! cd "$DIR"; printf 'new\n' >>app.log
SELECT batch_id, rows FROM streamext.step('seen');
SELECT batch_id, rows FROM streamext.step('seen');
SELECT batch_id, rows FROM streamext.step('seen');
SELECT * FROM seen WHERE batch > 3 ORDER BY batch, at;

-- rotated three times since: all of them, oldest first; not the logs of others
\! cd "$DIR"; mv app.log.1 app.log.2; echo a >>app.log; mv app.log app.log.1; echo b >app.log; sleep 0.02; mv app.log.2 app.log.3; mv app.log.1 app.log.2; mv app.log app.log.1; echo c >app.log; echo other >app.log.debug; echo other >app.logger
SELECT batch_id, rows FROM streamext.step('seen');
SELECT batch_id, rows FROM streamext.step('seen');
SELECT batch_id, rows FROM streamext.step('seen');
SELECT batch_id, rows FROM streamext.step('seen');
SELECT * FROM seen WHERE batch > 6 ORDER BY batch, at;
-- who was slow to let go of the old file: at the next rotation
\! cd "$DIR"; echo slow >>app.log.1
SELECT batch_id, rows FROM streamext.step('seen');
\! cd "$DIR"; mv app.log app.log.0; echo d >app.log
SELECT batch_id, rows FROM streamext.step('seen');
SELECT batch_id, rows FROM streamext.step('seen');
SELECT batch_id, rows FROM streamext.step('seen');
SELECT line FROM seen WHERE batch > 9 ORDER BY batch, at;
SELECT position -> 'losses' AS losses FROM streamext.partitions WHERE stream = 'log'::regclass;

-- a SELECT outside a batch reads what is there
\! cd "$DIR"; printf 'peeked\nnot' >>app.log
SELECT line, file, at FROM log ORDER BY at;
SELECT batch_id, rows FROM streamext.step('seen');

-- truncated: loss of data stops; "continue" begins the file again and counts
\! cd "$DIR"; printf 'x\n' >app.log
\set VERBOSITY terse
DO $$ BEGIN PERFORM streamext.step('seen'); EXCEPTION WHEN data_corrupted THEN RAISE WARNING '%', regexp_replace(SQLERRM, '".*/', '".../'); END $$;
\set VERBOSITY default
SELECT regexp_replace(position::text, '[0-9]{3,}', 'N', 'g') LIKE '%"losses": 0%' AS counted_none
    FROM streamext.partitions WHERE stream = 'log'::regclass;
ALTER STREAM log OPTIONS (ADD on_data_loss 'continue');
SET client_min_messages = error;
SELECT batch_id, rows FROM streamext.step('seen');
SELECT line, at FROM seen WHERE batch = 13;
-- overwritten by as many bytes and more
\! cd "$DIR"; printf 'y\nz\n' >app.log
SELECT batch_id, rows FROM streamext.step('seen');
SELECT line, at FROM seen WHERE batch = 14 ORDER BY at;
-- replaced by another file, the old one gone
\! cd "$DIR"; printf 'replaced\n' >new; mv new app.log
SELECT batch_id, rows FROM streamext.step('seen');
SELECT line, at FROM seen WHERE batch = 15 ORDER BY at;
-- a file in between was compressed before it was read
\! cd "$DIR"; rm -f app.log.*; sleep 0.02; mv app.log app.log.2; echo lost | gzip >app.log.1.gz; echo found >app.log
SELECT batch_id, rows FROM streamext.step('seen');
SELECT line, at FROM seen WHERE batch = 16 ORDER BY at;
SELECT position -> 'losses' AS losses FROM streamext.partitions WHERE stream = 'log'::regclass;
RESET client_min_messages;
SET client_min_messages = warning;
-- gone, and not there again: wait
\! cd "$DIR"; rm app.log
SELECT batch_id, rows FROM streamext.step('seen');
ALTER STREAM log OPTIONS (SET on_data_loss 'stop');
\! cd "$DIR"; echo x >app.log
\set VERBOSITY terse
DO $$ BEGIN PERFORM streamext.step('seen'); EXCEPTION WHEN data_corrupted THEN RAISE WARNING '%', left(SQLERRM, 10); END $$;
\set VERBOSITY default
DROP STREAM log CASCADE;

-- csv: a header in each file, line ends within quotes, a byte order mark
\! cd "$DIR"; rm -f *; printf '\357\273\277n,t\r\n1,"a\n' >app.log
CREATE STREAM rows (n int, t text, at bigint OPTIONS (metadata 'offset'))
    WITH (connector = 'file', path = :'path', format = 'csv', header, tail, paused, max_batch_bytes = 5);
CREATE MATERIALIZED VIEW cells AS SELECT streamext.batch_id() AS batch, n, t, at FROM rows;
SELECT batch_id, rows FROM streamext.step('cells');
\! cd "$DIR"; printf 'b"\r\n2,c\n3,d\n' >>app.log
SELECT batch_id, rows, bytes FROM streamext.step('cells');
SELECT batch_id, rows, bytes FROM streamext.step('cells');
\! cd "$DIR"; mv app.log app.log.1; printf 'n,t\n4,e\n' >app.log
SELECT batch_id, rows FROM streamext.step('cells');
SELECT batch_id, rows FROM streamext.step('cells');
SELECT * FROM cells ORDER BY batch, at;
DROP STREAM rows CASCADE;

-- the file was not there when the pipeline began, and is rotated by the time of the next look
\! cd "$DIR"; rm -f *; echo before >app.log.9
CREATE STREAM late (line text) WITH (connector = 'file', path = :'path', format = 'text', tail, paused);
CREATE MATERIALIZED VIEW lines AS SELECT streamext.batch_id() AS batch, line FROM late;
SELECT batch_id, rows FROM streamext.step('lines');
\! cd "$DIR"; echo a >app.log; mv app.log app.log.1; sleep 0.02; echo b >app.log
SELECT batch_id, rows FROM streamext.step('lines');
SELECT batch_id, rows FROM streamext.step('lines');
SELECT * FROM lines ORDER BY batch;
DROP STREAM late CASCADE;

-- what makes no sense
CREATE STREAM no (line text) WITH (connector = 'file', path = :'dir', format = 'text', tail, paused);
CREATE STREAM no (line text) WITH (connector = 'file', path = '/tmp/*.log', format = 'text', tail, paused);
CREATE STREAM no (line bytea) WITH (connector = 'file', path = :'path', format = 'raw', tail, paused);
CREATE STREAM no (line text) WITH (connector = 'file', path = :'path', format = 'text', tail, clean = 'delete', paused);
CREATE STREAM no (line text) WITH (connector = 'file', path = :'path', format = 'text', tail, max_files_per_batch = 1, paused);
CREATE STREAM yes (line text) WITH (connector = 'file', path = :'path', format = 'text', paused);
ALTER STREAM yes OPTIONS (ADD tail 'on');
DROP STREAM yes;
\! rm -rf "$DIR"
