-- The connector 'file' as a sink: a file a batch, its name and its contents.
SET timezone = 'UTC';
SET client_min_messages = warning;
\getenv build_dir PG_ABS_BUILDDIR
\set dir :build_dir /sink_file
\setenv DIR :dir
\! rm -rf "$DIR" && mkdir "$DIR" && chmod 777 "$DIR"
\! cd "$DIR" && mkdir -m 777 csv dialect json text binary wide taken owned

-- what a batch wrote is sent after its commit: wait for it
CREATE FUNCTION sent(name regclass) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. 3000 LOOP
        PERFORM FROM streamext.outboxes WHERE sink = name AND pending > 0;
        IF NOT FOUND THEN
            RETURN 'sent';
        END IF;
        PERFORM pg_sleep(0.01);
    END LOOP;
    RETURN 'not sent';
END $$;

CREATE STREAM q (id int, name text, t timestamptz, raw bytea, j json, a text[])
    WITH (connector = 'queue', allow_special, paused);
\set csv :dir '/csv'
\set dialect :dir '/dialect/'
\set json :dir '/json'
\set text :dir '/text'
\set binary :dir '/binary'
CREATE STREAM to_csv WITH (connector = 'file', path = :'csv', format = 'csv') AS SELECT * FROM q;
CREATE STREAM to_dialect WITH (connector = 'file', path = :'dialect', format = 'csv', header, delimiter = ';',
    quote = '''', null = 'nil', encoding = 'LATIN1', prefix = 'day7.', suffix = '') AS SELECT id, name, t AS "when; it was" FROM q WHERE id <> 3;
CREATE STREAM to_json WITH (connector = 'file', path = :'json', prefix = '') AS SELECT * FROM q;
CREATE STREAM to_text WITH (connector = 'file', path = :'text', format = 'text') AS
    SELECT name FROM q WHERE name <> 'nobody' ORDER BY id DESC;
CREATE STREAM to_binary WITH (connector = 'file', path = :'binary', format = 'binary') AS SELECT * FROM q;

SELECT regexp_replace(streamext.explain('to_csv'), 'path|/.*/sink_file', '…', 'g');
SELECT sink, connector, pending, pending_bytes, last_delivered, failures FROM streamext.outboxes ORDER BY sink::text;

INSERT INTO q VALUES
    (1, 'plain', '2024-01-01 12:00Z', '\x00ff', '{"k": 1}', '{a,b}'),
    (2, 'with "quotes", comma; and ''', '2024-01-01 12:00:00.5Z', NULL, '{"k":
 [1, "a\nb"]}', '{}'),
    (3, E'two\nlines €', NULL, '', NULL, '{"NULL",NULL,"a,b"}'),
    (4, '', NULL, NULL, 'null', NULL),
    (5, 'café', NULL, NULL, NULL, NULL),
    (6, '\.', 'infinity', NULL, NULL, NULL);
SELECT batch_id, rows, dead_letters FROM streamext.step('q', '2024-02-01Z');
SELECT sink, sent(sink) FROM streamext.outboxes ORDER BY sink::text;
SELECT sink, last_delivered, delivered_at IS NOT NULL AS told FROM streamext.outboxes ORDER BY sink::text;
\! cd "$DIR" && find . -type f -printf '%M %P\n' | sort -k 2
\! cat "$DIR/csv/batch-000000000001.csv"
\! iconv -f LATIN1 -t UTF8 "$DIR/dialect/day7.000000000001"
\! cat "$DIR/json/000000000001.json"
\! cat "$DIR/text/batch-000000000001.txt"

-- they read back as the same rows
CREATE TABLE expected (id int, name text, t timestamptz, raw bytea, j json, a text[]);
CREATE TABLE got (LIKE expected);
CREATE VIEW differences AS
    SELECT * FROM (SELECT e::text FROM expected e EXCEPT ALL SELECT g::text FROM got g) missing
    UNION ALL
    SELECT * FROM (SELECT g::text FROM got g EXCEPT ALL SELECT e::text FROM expected e) too_much;
INSERT INTO expected VALUES
    (1, 'plain', '2024-01-01 12:00Z', '\x00ff', '{"k": 1}', '{a,b}'),
    (2, 'with "quotes", comma; and ''', '2024-01-01 12:00:00.5Z', NULL, '{"k":
 [1, "a\nb"]}', '{}'),
    (3, E'two\nlines €', NULL, '', NULL, '{"NULL",NULL,"a,b"}'),
    (4, '', NULL, NULL, 'null', NULL),
    (5, 'café', NULL, NULL, NULL, NULL),
    (6, '\.', 'infinity', NULL, NULL, NULL);
\set file :csv '/batch-000000000001.csv'
COPY got FROM :'file' (FORMAT csv);
SELECT * FROM differences;
TRUNCATE got;
\set file :binary '/batch-000000000001.bin'
COPY got FROM :'file' (FORMAT binary);
SELECT * FROM differences;
TRUNCATE got;
CREATE STREAM back (id int, name text, t timestamptz, a jsonb, j jsonb)
    WITH (connector = 'file', path = :'json', allow_special, paused);
SELECT id, name, t, a, j FROM back ORDER BY id;
DROP STREAM back;

-- a batch in which the sink has no rows makes no file; the next one has its own number
INSERT INTO q VALUES (7, 'nobody');
SELECT batch_id FROM streamext.step('q', '2024-02-01Z');
INSERT INTO q VALUES (8, 'somebody');
SELECT batch_id FROM streamext.step('q', '2024-02-01Z');
SELECT sink, sent(sink) FROM streamext.outboxes ORDER BY sink::text;
SELECT sink, last_delivered, delivered_at IS NOT NULL AS told FROM streamext.outboxes ORDER BY sink::text;
\! cd "$DIR/text" && ls -A && cat batch-000000000003.txt

-- rolled back: nothing is sent, and the same number is taken again
BEGIN;
INSERT INTO q VALUES (9, 'gone');
ROLLBACK;
INSERT INTO q VALUES (9, 'kept');
BEGIN;
SELECT batch_id FROM streamext.step('q', '2024-02-01Z');
SELECT sink, delivery, seq, batch_id, batch_time, convert_from(payload, 'UTF8') FROM streamext.outbox
    WHERE sink = 'to_text'::regclass;
ROLLBACK;
SELECT sink, pending FROM streamext.outboxes WHERE sink = 'to_text'::regclass;
SELECT batch_id FROM streamext.step('q', '2024-02-01Z');
SELECT sent('to_text');
\! cat "$DIR/text/batch-000000000004.txt"

-- NULL is no line of text: the record's fault, for this sink alone
INSERT INTO q VALUES (10, 'good'), (11, NULL), (12, 'good as well');
CREATE STREAM nulls WITH (connector = 'file', path = :'text', format = 'text', prefix = 'nulls-', backfill = 'off') AS SELECT name FROM q;
SELECT batch_id, dead_letters FROM streamext.step('q', '2024-02-01Z');
SELECT sent('nulls');
\! cat "$DIR/text/nulls-000000000005.txt"
SELECT view, sqlstate, message FROM streamext.dead_letters WHERE stream = 'q'::regclass;
SELECT rows, dead_letters FROM streamext.views WHERE view = 'nulls'::regclass;
\! wc -l <"$DIR/csv/batch-000000000005.csv"

-- rows and batches larger than a chunk of the outbox
\set wide :dir '/wide'
CREATE STREAM wide WITH (connector = 'file', path = :'wide', format = 'binary', backfill = 'off') AS
    SELECT id, repeat(md5(id::text), 20000 * id) AS body FROM q;
INSERT INTO q SELECT generate_series(1, 10);
BEGIN;
SELECT batch_id FROM streamext.step('wide', '2024-02-01Z');
SELECT count(*), max(seq), max(octet_length(payload)), sum(octet_length(payload)) FROM streamext.outbox WHERE sink = 'wide'::regclass;
SELECT pending, pending_bytes, oldest_pending FROM streamext.outboxes WHERE sink = 'wide'::regclass;
COMMIT;
SELECT sent('wide'), sent('to_csv');
CREATE TABLE bodies (id int, body text);
\set file :wide '/batch-000000000006.bin'
COPY bodies FROM :'file' (FORMAT binary);
SELECT count(*), count(*) FILTER (WHERE body = repeat(md5(id::text), 20000 * id)) AS right FROM bodies;
SELECT count(*) FROM streamext.outbox;

-- what is there is never overwritten; a delivery that arrived and was not noted is left as it is
\set taken :dir '/taken'
CREATE STREAM taken WITH (connector = 'file', path = :'taken', format = 'text', backfill = 'off') AS SELECT id::text FROM q;
\! cd "$DIR/taken" && echo other >batch-000000000007.txt && printf '21\n' >batch-000000000008.txt && touch -d 2020-01-01Z *.txt && chmod 666 *
INSERT INTO q VALUES (20);
SELECT batch_id FROM streamext.step('taken', '2024-02-01Z');
INSERT INTO q VALUES (21);
SELECT batch_id FROM streamext.step('taken', '2024-02-01Z');
DO $$ BEGIN
    WHILE NOT EXISTS (SELECT FROM streamext.outboxes WHERE sink = 'taken'::regclass AND failures > 0) LOOP
        PERFORM pg_sleep(0.01);
    END LOOP;
END $$;
SELECT pending, last_delivered, error_sqlstate, regexp_replace(error_message, '"/.*/', '"…/') AS error,
    retry_at > error_at AS later FROM streamext.outboxes WHERE sink = 'taken'::regclass;
-- the other sinks are not held up
SELECT sent('to_csv');
\! rm "$DIR/taken/batch-000000000007.txt"
SELECT sent('taken');
SELECT pending, last_delivered, failures, retry_at, error_sqlstate, error_message FROM streamext.outboxes WHERE sink = 'taken'::regclass;
\! cd "$DIR/taken" && ls -A && cat *7.txt && TZ=UTC ls -l --time-style=+%Y *8.txt | cut -d ' ' -f 6

-- a sink is not read, and not written by hand
SELECT id FROM to_csv;
INSERT INTO to_csv (id) VALUES (1);
CREATE MATERIALIZED VIEW again AS SELECT * FROM to_csv;

-- what is refused
CREATE STREAM bad WITH (connector = 'file') AS SELECT id FROM q;
CREATE STREAM bad WITH (connector = 'file', path = 'relative') AS SELECT id FROM q;
CREATE STREAM bad WITH (connector = 'file', path = '/nowhere/at/all') AS SELECT id FROM q;
CREATE STREAM bad WITH (connector = 'file', path = '/etc/passwd') AS SELECT id FROM q;
CREATE STREAM bad WITH (connector = 'file', path = :'csv', format = 'raw') AS SELECT id FROM q;
CREATE STREAM bad WITH (connector = 'file', path = :'csv', format = 'text') AS SELECT id, name FROM q;
CREATE STREAM bad WITH (connector = 'file', path = :'csv', format = 'json', header) AS SELECT id, name FROM q;
CREATE STREAM bad WITH (connector = 'file', path = :'csv', format = 'binary', encoding = 'UTF8') AS SELECT id, name FROM q;
CREATE STREAM bad WITH (connector = 'file', path = :'csv', format = 'binary') AS SELECT id, NULL::aclitem AS x FROM q;
CREATE STREAM bad WITH (connector = 'file', path = :'csv', prefix = '../up-') AS SELECT id FROM q;
CREATE STREAM bad WITH (connector = 'file', path = :'csv', prefix = '.hidden') AS SELECT id FROM q;
CREATE STREAM bad WITH (connector = 'file', path = :'csv', prefix = 'day1') AS SELECT id FROM q;
CREATE STREAM bad WITH (connector = 'file', path = :'csv', suffix = '.v2') AS SELECT id FROM q;
CREATE STREAM bad WITH (connector = 'file', path = :'csv', suffix = '/x') AS SELECT id FROM q;
CREATE STREAM bad WITH (connector = 'file', path = :'csv', key = 'id') AS SELECT id FROM q;
\set same :dir '/text/../csv/'
CREATE STREAM bad WITH (connector = 'file', path = :'same', format = 'csv', backfill = 'off') AS SELECT id FROM q;
CREATE STREAM bad (id int) WITH (connector = 'file', path = :'csv', prefix = 'x');

-- who may, and who may not any more
CREATE ROLE sink_file_user;
GRANT USAGE ON FOREIGN SERVER streamext TO sink_file_user;
GRANT CREATE ON SCHEMA public TO sink_file_user;
SET ROLE sink_file_user;
CREATE STREAM mine (id int) WITH (connector = 'queue', paused);
\set owned :dir '/owned'
CREATE STREAM my_files WITH (connector = 'file', path = :'owned') AS SELECT id FROM mine;
RESET ROLE;
GRANT pg_write_server_files TO sink_file_user;
SET ROLE sink_file_user;
CREATE STREAM my_files WITH (connector = 'file', path = :'owned') AS SELECT id FROM mine;
INSERT INTO mine VALUES (1);
RESET ROLE;
REVOKE pg_write_server_files FROM sink_file_user;
SET ROLE sink_file_user;
SELECT batch_id FROM streamext.step('mine', '2024-02-01Z');
RESET ROLE;
DO $$ BEGIN
    WHILE NOT EXISTS (SELECT FROM streamext.outboxes WHERE sink = 'my_files'::regclass AND failures > 0) LOOP
        PERFORM pg_sleep(0.01);
    END LOOP;
END $$;
SET ROLE sink_file_user;
SELECT sink, pending, error_sqlstate, error_message FROM streamext.outboxes;
SELECT * FROM streamext.outbox;
RESET ROLE;
GRANT pg_write_server_files TO sink_file_user;
SELECT sent('my_files');
\! cat "$DIR"/owned/*

-- dropped: what it had not sent goes with it
REVOKE pg_write_server_files FROM sink_file_user;
SET ROLE sink_file_user;
INSERT INTO mine VALUES (2);
SELECT batch_id FROM streamext.step('mine', '2024-02-01Z');
DROP STREAM my_files;
RESET ROLE;
SELECT count(*) FROM streamext.outbox;
SELECT count(*) FROM streamext.delivery d WHERE NOT EXISTS (SELECT FROM streamext.step s WHERE s.relation = d.sink);
DROP OWNED BY sink_file_user;
DROP ROLE sink_file_user;
DROP STREAM q CASCADE;
SELECT count(*) FROM streamext.outboxes;
\! find "$DIR" -name '.*'
DROP VIEW differences;
DROP TABLE expected, got, bodies;
DROP FUNCTION sent;
\! rm -rf "$DIR"
