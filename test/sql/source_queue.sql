-- The connector 'queue': rows of any session, once each.  What needs several sessions
-- is in specs/source_queue_order.spec and t/020_queue.pl.
SET timezone = 'UTC';
SET client_min_messages = warning;
CREATE STREAM jobs (id int NOT NULL, what text, tags text[], no bigint OPTIONS (metadata 'offset'))
    WITH (connector = 'queue', max_batch_rows = 3, paused);
CREATE MATERIALIZED VIEW done AS
    SELECT streamext.batch_id() AS batch, id, what, tags FROM jobs;

-- nothing there: nothing to do
SELECT batch_id, rows FROM streamext.step('done');

-- INSERT and COPY; what is rolled back never was
INSERT INTO jobs (id, what) VALUES (1, 'one'), (2, 'two');
BEGIN;
INSERT INTO jobs (id) VALUES (100);
ROLLBACK;
BEGIN;
INSERT INTO jobs (id, what) VALUES (3, NULL);
SAVEPOINT a;
INSERT INTO jobs (id) VALUES (101);
ROLLBACK TO a;
COMMIT;
COPY jobs (id, what, tags) FROM stdin;
4	four	{x,y}
5	five	\N
\.
SELECT id, what, tags, no > 0 AS numbered FROM jobs ORDER BY no;

-- in order of insertion, in batches of three
SELECT batch_id, rows FROM streamext.step('done');
SELECT id FROM jobs ORDER BY no;
BEGIN;
SELECT batch_id, rows FROM streamext.step('done');
ROLLBACK;
SELECT batch_id, rows FROM streamext.step('done');
SELECT batch_id, rows FROM streamext.step('done');
SELECT * FROM done ORDER BY id;

-- the caller's own rows are not there before it has committed
BEGIN;
INSERT INTO jobs (id) VALUES (6);
SELECT batch_id, rows FROM streamext.step('done');
COMMIT;
SELECT batch_id, rows FROM streamext.step('done');

-- a batch that writes to a queue: the rows come in the next one
CREATE STREAM echo (id int) WITH (connector = 'queue', pipeline = 'jobs', paused);
CREATE MATERIALIZED VIEW echoed WITH (backfill = off) AS SELECT streamext.batch_id() AS batch, id FROM echo;
CREATE FUNCTION say_it() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO echo VALUES (new.id);
    RETURN NULL;
END $$;
SELECT format('CREATE TRIGGER say AFTER INSERT ON %s FOR EACH ROW EXECUTE FUNCTION say_it()', state)
FROM streamext.step WHERE relation = 'done'::regclass \gexec
INSERT INTO jobs (id) VALUES (7);
SELECT batch_id, rows FROM streamext.step('done');
SELECT batch_id, rows FROM streamext.step('done');
SELECT batch_id, rows FROM streamext.step('done');
SELECT * FROM echoed;

-- NOT NULL; who may insert
INSERT INTO jobs (what) VALUES ('no id');
UPDATE jobs SET id = 0;
CREATE ROLE source_queue_user;
SET ROLE source_queue_user;
INSERT INTO jobs (id) VALUES (8);
RESET ROLE;
GRANT INSERT ON jobs TO source_queue_user;
SET ROLE source_queue_user;
INSERT INTO jobs (id) VALUES (8);
INSERT INTO streamext_state.jobs_log (id) VALUES (9);
RESET ROLE;
SELECT batch_id, rows FROM streamext.step('done');

-- processed rows leave the log; what a reader has not seen stays
SELECT count(*) < 9 AS trimmed FROM streamext_state.jobs_log;
DROP TABLE streamext_state.jobs_log;
DROP STREAM jobs CASCADE;
DROP STREAM echo CASCADE;
SELECT count(*) FROM pg_class WHERE relname IN ('jobs_log', 'echo_log');
DROP FUNCTION say_it;
DROP ROLE source_queue_user;
