-- The function of a sink may return what it likes, and leave cursors open.
SET timezone = 'UTC';
SET client_min_messages = warning;
CREATE STREAM fn_s (a int) WITH (connector = 'queue', paused);
CREATE FUNCTION fn_f(id bigint, t timestamptz) RETURNS SETOF text LANGUAGE sql AS $$ SELECT 'x' WHERE false $$;
CREATE STREAM fn_sink WITH (connector = 'function', function = 'fn_f') AS SELECT a FROM fn_s;
INSERT INTO fn_s VALUES (1), (2);
SELECT batch_id, rows FROM streamext.step('fn_s');
DROP STREAM fn_sink;

-- a cursor over the sink, over the source and over a derived stream, that outlive the batch
CREATE STREAM fn_d AS SELECT a, count(*) AS n FROM fn_s GROUP BY a;
CREATE FUNCTION fn_g(id bigint, t timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE c refcursor := 'of_sink'; d refcursor := 'of_source'; e refcursor := 'of_stream'; f refcursor := 'half_read'; r record;
BEGIN
    OPEN c FOR SELECT * FROM fn_sink;
    OPEN d FOR SELECT * FROM fn_s;
    OPEN e FOR SELECT * FROM fn_d;
    OPEN f FOR SELECT * FROM fn_d x JOIN fn_d y USING (a);
    FETCH f INTO r;
END $$;
CREATE STREAM fn_sink WITH (connector = 'function', function = 'fn_g', backfill = off) AS SELECT a FROM fn_d;
INSERT INTO fn_s VALUES (1), (2);
BEGIN;
SELECT batch_id, rows FROM streamext.step('fn_s');
SAVEPOINT a;
FETCH ALL FROM of_sink;
ROLLBACK TO a;
FETCH ALL FROM of_source;
ROLLBACK TO a;
FETCH ALL FROM of_stream;
ROLLBACK TO a;
FETCH ALL FROM half_read;
ROLLBACK TO a;
CLOSE of_sink;
INSERT INTO fn_s VALUES (3);
COMMIT;
SELECT batch_id, rows FROM streamext.step('fn_s');
SELECT streamext.resume('fn_s');
INSERT INTO fn_s VALUES (4);
SELECT streamext.wait('fn_s', '30 seconds');
SELECT state, batch_id, error_message FROM streamext.pipelines WHERE pipeline = 'fn_s';
DROP STREAM fn_s CASCADE;
DROP FUNCTION fn_f, fn_g;
