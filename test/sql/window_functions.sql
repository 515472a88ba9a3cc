-- tumble() and hop(): [start, start + size), aligned to 1970-01-01 00:00 UTC.
SET timezone = 'UTC';

-- a time on a boundary belongs to the window that begins there
SELECT ts, tumble(ts, '10 seconds') FROM (VALUES
    (timestamptz '2024-01-01 00:00:00'), ('2024-01-01 00:00:09.999999'), ('2024-01-01 00:00:10'),
    ('1969-12-31 23:59:59.5'), ('1970-01-01 00:00:00'), ('infinity'), ('-infinity'), (NULL)) v(ts);

-- origin; timestamp and date; nothing depends on TimeZone
SELECT tumble(timestamptz '2024-01-01 00:00:07', '10 seconds', '2024-01-01 00:00:03');
SELECT tumble(timestamptz '2024-01-01 00:00:01', '10 seconds', '2024-01-01 00:00:03');
SELECT tumble(timestamp '2024-01-01 13:00', '1 day'), tumble(date '2024-05-05', '7 days');
SET timezone = 'America/New_York';
SELECT tumble(timestamptz '2024-03-10 12:00+00', '1 day') AT TIME ZONE 'UTC' AS start;
SET timezone = 'UTC';

-- as date_bin() has it, wherever that is defined
SELECT count(*) FROM generate_series(timestamptz '1960-01-01', '1980-01-01', '17 hours 13 minutes') ts
WHERE tumble(ts, '37 minutes') <> date_bin('37 minutes', ts, '1970-01-01');

SELECT hop(timestamptz '2024-01-01 00:00:07', '5 seconds', '12 seconds');
SELECT * FROM hop(timestamp '1969-12-31 23:59:57', '5 seconds', '10 seconds');
SELECT * FROM hop(timestamptz '2024-01-01 00:00:07', '5 seconds', '5 seconds', '2024-01-01 00:00:01');
SELECT hop(NULL::timestamptz, '5 seconds', '10 seconds') IS NULL AS one_null_row;

-- every window that is given holds the time, and none is left out
SELECT count(*) FROM generate_series(timestamptz '1969-12-31', '1970-01-02', '3 minutes 7 seconds') ts,
    LATERAL (SELECT array_agg(h ORDER BY h) AS a FROM hop(ts, '4 minutes', '11 minutes') h) x,
    LATERAL (SELECT array_agg(w ORDER BY w) AS b
             FROM generate_series(timestamptz '1969-12-30', '1970-01-03', '4 minutes') w
             WHERE w <= ts AND ts < w + interval '11 minutes') y
WHERE a IS DISTINCT FROM b;

SELECT tumble(timestamptz '2024-01-01', '1 month');
SELECT tumble(timestamptz '2024-01-01', '0 seconds');
SELECT tumble(timestamptz '2024-01-01', '-1 day 1 hour');
SELECT tumble(timestamptz '4713-01-01 BC', '10000 days', '4712-01-01 BC');
SELECT tumble(timestamptz '2024-01-01', '1 day', 'infinity');
SELECT hop(timestamptz '2024-01-01', '10 seconds', '5 seconds');
SELECT hop(timestamptz '2024-01-01', '1 month', '2 months');

-- outside a batch
SELECT streamext.batch_id() IS NULL AS no_batch, streamext.batch_time() = now() AS now;
SELECT streamext.watermark('pg_class');
SELECT streamext.on_time(timestamptz '2024-01-01', 1);
