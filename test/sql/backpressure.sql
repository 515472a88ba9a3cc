-- Back-pressure: the PID estimator number by number, options, and what step() does.
SET timezone = 'UTC';
SET client_min_messages = warning;

-- ---------------------------------------------------------------------
-- pid_rates, against the formula written down in PL/pgSQL
-- ---------------------------------------------------------------------
CREATE FUNCTION formula(at_ms bigint[], elements bigint[], processing bigint[], scheduling bigint[],
        batch_interval bigint, kp float8, ki float8, kd float8, min_rate float8) RETURNS SETOF float8 LANGUAGE plpgsql AS $$
DECLARE
    latest_time bigint; latest_rate float8; latest_error float8;
    speed float8; error float8; historical float8; change float8;
BEGIN
    FOR i IN 1 .. coalesce(array_length(at_ms, 1), 0) LOOP
        IF elements[i] = 0 OR processing[i] = 0 OR at_ms[i] <= coalesce(latest_time, -1) THEN
            RETURN NEXT NULL;
            CONTINUE;
        END IF;
        speed := elements[i]::float8 / processing[i] * 1000;
        IF latest_time IS NULL THEN
            latest_time := at_ms[i]; latest_rate := speed; latest_error := 0;
            RETURN NEXT NULL;
            CONTINUE;
        END IF;
        error := latest_rate - speed;
        historical := scheduling[i] * speed / batch_interval;
        change := (error - latest_error) / ((at_ms[i] - latest_time) / 1000.0::float8);
        latest_rate := greatest(latest_rate - kp * error - ki * historical - kd * change, min_rate);
        latest_error := error;
        latest_time := at_ms[i];
        RETURN NEXT latest_rate;
    END LOOP;
END $$;

-- a recorded series: batches of a second; load rises, falls; nothing came (9, 10), a batch of
-- no time (14), a clock that was set back (18, 19) or stood still (23), and the floor (27 to 30)
CREATE TABLE series (i int PRIMARY KEY, at_ms bigint, elements bigint, processing_ms bigint, scheduling_ms bigint);
INSERT INTO series VALUES
    (1, 1000, 1000, 400, 3), (2, 2010, 1200, 520, 12), (3, 3020, 1850, 810, 0), (4, 4900, 3000, 1870, 30),
    (5, 7300, 4100, 2380, 910), (6, 9250, 3333, 1940, 2310), (7, 10900, 2100, 1650, 3260), (8, 12100, 1500, 1180, 3910),
    (9, 12110, 0, 4, 4000), (10, 12120, 0, 0, 3800), (11, 13200, 900, 870, 4090), (12, 13950, 610, 700, 3970),
    (13, 14600, 480, 333, 3700), (14, 14610, 7, 0, 3350), (15, 15400, 777, 780, 3370), (16, 16300, 1024, 890, 3190),
    (17, 17100, 1300, 790, 2600), (18, 16000, 9000, 500, 100), (19, 17099, 9000, 500, 100), (20, 18050, 2222, 940, 2000),
    (21, 19000, 2600, 930, 1500), (22, 20000, 2900, 910, 800), (23, 20000, 5000, 100, 0), (24, 21000, 3100, 870, 90),
    (25, 22000, 3100, 860, 0), (26, 23000, 3600, 880, 0), (27, 26000, 150, 3000, 5200), (28, 31000, 90, 5000, 9000),
    (29, 38000, 100, 7000, 20000), (30, 39000, 1, 900, 40000), (31, 40000, 100, 30, 2000), (32, 41000, 5000, 310, 0),
    (33, 42000, 7000, 420, 0), (34, 43000, 7, 1, 0), (35, 9223372036854775807, 1000000000000, 60000, 0);

CREATE FUNCTION compare(batch_interval bigint, kp float8, ki float8, kd float8, min_rate float8,
        OUT batches bigint, OUT rates bigint, OUT floors bigint, OUT wrong bigint) LANGUAGE sql AS $$
    WITH a AS (SELECT array_agg(at_ms ORDER BY i) AS at, array_agg(elements ORDER BY i) AS e,
                      array_agg(processing_ms ORDER BY i) AS p, array_agg(scheduling_ms ORDER BY i) AS s FROM series)
    SELECT count(*), count(r), count(*) FILTER (WHERE r = min_rate), count(*) FILTER (WHERE r IS DISTINCT FROM f)
    FROM a, ROWS FROM (streamext.pid_rates(at, e, p, s, batch_interval, kp, ki, kd, min_rate),
                       formula(at, e, p, s, batch_interval, kp, ki, kd, min_rate)) AS x(r, f)
$$;
SELECT * FROM compare(1000, 1.0, 0.2, 0.0, 100);
SELECT * FROM compare(2000, 1.0, 0.2, 0.0, 100);
SELECT * FROM compare(200, 0.7, 0.35, 0.1, 12.5);
SELECT * FROM compare(1000, 0, 0, 0, 1);
SELECT * FROM compare(1000, 0.5, 0, 2.5, 1e-6);

-- the defaults are Spark's
SELECT count(*) AS same FROM
    (SELECT array_agg(at_ms ORDER BY i) AS at, array_agg(elements ORDER BY i) AS e,
            array_agg(processing_ms ORDER BY i) AS p, array_agg(scheduling_ms ORDER BY i) AS s FROM series) a,
    ROWS FROM (streamext.pid_rates(at, e, p, s, 1000), streamext.pid_rates(at, e, p, s, 1000, 1.0, 0.2, 0.0, 100)) AS x(a, b)
    WHERE x.a IS NOT DISTINCT FROM x.b;

-- some by hand: 500/s processed, half an interval late: 500 − 0.2 × 0.5 × 500; then the floor; then up again
SELECT * FROM streamext.pid_rates(ARRAY[1000, 2000, 3000, 4000], ARRAY[500, 500, 50, 900], ARRAY[1000, 1000, 1000, 1000],
                                  ARRAY[0, 500, 0, 0], 1000) WITH ORDINALITY AS r(rate, n);
-- batches that do not count leave the next one as it is, the first among them
SELECT * FROM streamext.pid_rates(ARRAY[-1, 0, 1, 2, 2, 3], ARRAY[9, 0, 9, 9, 9, 9], ARRAY[1, 1, 1, 0, -1, 1], ARRAY[0, 0, 0, 0, 0, 0], 1000)
    WITH ORDINALITY AS r(rate, n);
SELECT count(*) FROM streamext.pid_rates('{}', '{}', '{}', '{}', 1000);
-- in the select list, and stopped early
SELECT streamext.pid_rates(ARRAY[1, 2, 3], ARRAY[1000, 1000, 1000], ARRAY[1, 1, 1], ARRAY[0, 0, 0], 1) LIMIT 2;

-- what makes no sense
SELECT streamext.pid_rates(ARRAY[1, 2], ARRAY[1], ARRAY[1, 2], ARRAY[1, 2], 1000);
SELECT streamext.pid_rates(ARRAY[1, 2], ARRAY[1, 2], ARRAY[1, 2], '{}', 1000);
SELECT streamext.pid_rates(ARRAY[1, NULL], ARRAY[1, 2], ARRAY[1, 2], ARRAY[1, 2], 1000);
SELECT streamext.pid_rates(ARRAY[[1, 2]], ARRAY[1, 2], ARRAY[1, 2], ARRAY[1, 2], 1000);
SELECT streamext.pid_rates(NULL, ARRAY[1], ARRAY[1], ARRAY[1], 1000);
SELECT streamext.pid_rates(ARRAY[1], ARRAY[1], ARRAY[1], ARRAY[1], NULL);
SELECT streamext.pid_rates(ARRAY[1], ARRAY[1], ARRAY[1], ARRAY[1], 1000, kd => NULL);
SELECT streamext.pid_rates(ARRAY[1], ARRAY[1], ARRAY[1], ARRAY[1], 0);
SELECT streamext.pid_rates(ARRAY[1], ARRAY[1], ARRAY[1], ARRAY[1], 1000, kp => -1);
SELECT streamext.pid_rates(ARRAY[1], ARRAY[1], ARRAY[1], ARRAY[1], 1000, ki => 'NaN');
SELECT streamext.pid_rates(ARRAY[1], ARRAY[1], ARRAY[1], ARRAY[1], 1000, kd => 'Infinity');
SELECT streamext.pid_rates(ARRAY[1], ARRAY[1], ARRAY[1], ARRAY[1], 1000, min_rate => 0);

-- ---------------------------------------------------------------------
-- Options
-- ---------------------------------------------------------------------
\set VERBOSITY default
CREATE STREAM s (value bigint) WITH (connector = 'rate', backpressure = 'on');
CREATE STREAM s (value bigint) WITH (connector = 'rate', max_rate = 0);
CREATE STREAM s (value bigint) WITH (connector = 'rate', max_rate = '1.5');
CREATE STREAM s (value bigint) WITH (connector = 'rate', target_latency = '0');
CREATE STREAM s (value bigint) WITH (connector = 'rate', target_latency = '1 month');
CREATE STREAM s (value bigint) WITH (connector = 'rate', batch_interval = '1 s', backpressure = 'pid', pid_integral = '-0.1');
CREATE STREAM s (value bigint) WITH (connector = 'rate', batch_interval = '1 s', backpressure = 'pid', pid_proportional = 'NaN');
CREATE STREAM s (value bigint) WITH (connector = 'rate', batch_interval = '1 s', backpressure = 'pid', pid_derived = '1x');
CREATE STREAM s (value bigint) WITH (connector = 'rate', batch_interval = '1 s', backpressure = 'pid', pid_min_rate = 0);
-- ... that do not go together
CREATE STREAM s (value bigint) WITH (connector = 'rate', backpressure = 'pid');
CREATE STREAM s (value bigint) WITH (connector = 'rate', backpressure = 'pid', batch_interval = '0');
CREATE STREAM s (a text) WITH (connector = 'file', format = 'text', path = '/nowhere', backpressure = 'pid',
    batch_interval = '1 s', max_files_per_batch = 1);
CREATE STREAM s (a text) WITH (connector = 'file', format = 'text', path = '/nowhere', target_latency = '1 s', max_files_per_batch = 1);
CREATE STREAM s (value bigint) WITH (connector = 'rate', pid_min_rate = 5);
CREATE STREAM s (value bigint) WITH (connector = 'rate', backpressure = 'off', target_latency = '1 s');
CREATE STREAM s (value bigint) WITH (connector = 'rate', backpressure = 'pid', batch_interval = '1 s', target_latency = '1 s');
-- ... of two streams of a pipeline: one may give them for both, and they must agree
CREATE STREAM a (value bigint) WITH (connector = 'rate', pipeline = 'both', paused, batch_interval = '1 s');
CREATE STREAM b (value bigint) WITH (connector = 'rate', pipeline = 'both', backpressure = 'pid', pid_min_rate = '0.5', max_rate = 1000);
CREATE STREAM c (value bigint) WITH (connector = 'rate', pipeline = 'both', max_rate = 999);
CREATE STREAM c (value bigint) WITH (connector = 'rate', pipeline = 'both', backpressure = 'off');
ALTER STREAM a OPTIONS (SET batch_interval '0');
ALTER STREAM b OPTIONS (SET backpressure 'adaptive');
ALTER STREAM b OPTIONS (SET backpressure 'adaptive', DROP pid_min_rate, ADD target_latency '100 ms');
ALTER STREAM a OPTIONS (SET batch_interval '0');
DROP STREAM a, b;

-- ---------------------------------------------------------------------
-- step(): what a batch holds does not depend on how fast anything is
-- ---------------------------------------------------------------------
CREATE STREAM ticks (value bigint) WITH (connector = 'rate', rows_per_second = 100000, paused, max_batch_rows = 3000,
    target_latency = '1 ms', max_rate = 1);
CREATE FUNCTION slowly(bigint) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    IF $1 = 0 THEN PERFORM pg_sleep(0.05); END IF;
    RETURN $1;
END $$;
CREATE STREAM out WITH (connector = 'null') AS SELECT slowly(value) AS v FROM ticks;
SELECT batch_id, rows FROM streamext.step('ticks', '2024-01-01 00:00:00Z');
SELECT batch_id, rows FROM streamext.step('ticks', '2024-01-01 00:00:01Z');
SELECT batch_id, rows FROM streamext.step('ticks', '2024-01-01 00:00:01Z');
SELECT batch_id, rows FROM streamext.step('ticks', '2024-01-01 00:00:01Z');
-- what is shown while no worker runs
SELECT rate_limit, target, rate_reason FROM streamext.pipelines WHERE pipeline = 'ticks';
DROP STREAM out;
DROP STREAM ticks;

DROP FUNCTION slowly, compare, formula;
DROP TABLE series;
