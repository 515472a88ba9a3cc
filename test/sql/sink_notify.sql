-- The connector 'notify': each row becomes a notification.
SET timezone = 'UTC';
SET client_min_messages = warning;

CREATE STREAM q (id int, name text) WITH (connector = 'queue', paused);
CREATE STREAM told WITH (connector = 'notify', channel = 'Some channel') AS
    SELECT name, id FROM q ORDER BY id DESC;
SELECT streamext.explain('told');
SELECT count(*) FROM streamext.outboxes;

-- psql tells the process that notified, which is this one: cut off, as are long payloads
LISTEN "Some channel";
\o |sed 's/ received from .*//; s/x\{30,\}/xxx…/'

-- equal rows are told one by one, in the query's order; NULLs, quotes, line breaks
INSERT INTO q VALUES (1, 'a'), (1, 'a'), (2, NULL), (3, 'a "quoted" '' one'), (4, E'two\nlines €');
BEGIN;
SELECT batch_id, rows, dead_letters FROM streamext.step('q', '2024-02-01Z');
ROLLBACK;
SELECT batch_id, rows, dead_letters FROM streamext.step('q', '2024-02-01Z');
SELECT rows FROM streamext.views WHERE view = 'told'::regclass;

-- nothing to say
CREATE STREAM quiet WITH (connector = 'notify', channel = 'quiet', backfill = 'off') AS SELECT id FROM q WHERE id < 0;
INSERT INTO q VALUES (5, 'b');
SELECT batch_id, rows, dead_letters FROM streamext.step('q', '2024-02-01Z');

-- a row that is too long is a dead letter, the others are told
INSERT INTO q VALUES (6, 'short'), (7, repeat('x', 8000)), (8, 'short as well');
SELECT batch_id, rows, dead_letters FROM streamext.step('q', '2024-02-01Z');
SELECT view, sqlstate, message FROM streamext.dead_letters WHERE stream = 'q'::regclass;

-- whatever its number, a row fits or does not
INSERT INTO q SELECT 9, repeat('x', 7900 + i) FROM generate_series(1, 20) i;
SELECT batch_id, rows, dead_letters FROM streamext.step('q', '2024-02-01Z');
UNLISTEN *;
\o

-- synchronous_commit is forced on for the transaction
SET synchronous_commit = off;
INSERT INTO q VALUES (10, 'c');
BEGIN;
SELECT batch_id FROM streamext.step('q', '2024-02-01Z');
SHOW synchronous_commit;
COMMIT;
SHOW synchronous_commit;
RESET synchronous_commit;

-- what is refused
CREATE STREAM bad WITH (connector = 'notify') AS SELECT id FROM q;
CREATE STREAM bad WITH (connector = 'notify', channel = 'a123456789b123456789c123456789d123456789e123456789f123456789g123456789') AS SELECT id FROM q;
CREATE STREAM bad (id int) WITH (connector = 'notify', channel = 'x');
CREATE STREAM bad WITH (connector = 'notify', channel = 'x', rows = 3) AS SELECT id FROM q;
CREATE STREAM bad WITH (connector = 'print', rows = -1) AS SELECT id FROM q;
DROP STREAM q CASCADE;
