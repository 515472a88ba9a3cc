CREATE EXTENSION streamext;

CREATE TABLE ads (ad_id bigint PRIMARY KEY, campaign text NOT NULL);
INSERT INTO ads SELECT i, 'campaign ' || i % 4 FROM generate_series(0, 99) i;

-- a source: numbers and times, 5,000 a second
CREATE STREAM ticks (value bigint, "timestamp" timestamptz)
    WITH (connector = 'rate', rows_per_second = 5000, batch_interval = '50 milliseconds',
          event_time = 'timestamp', watermark = '1 second');

-- a derived stream: what an ad server would send
CREATE STREAM ad_events AS
    SELECT value % 100 AS ad_id, (ARRAY['view', 'click', 'purchase'])[1 + value % 3] AS event_type,
           "timestamp" AS event_time
    FROM ticks;

-- the windowed table: always current
CREATE MATERIALIZED VIEW views_per_campaign AS
    SELECT tumble(e.event_time, '2 seconds') AS w, a.campaign, count(*) AS views
    FROM ad_events e JOIN ads a ON a.ad_id = e.ad_id
    WHERE e.event_type = 'view'
    GROUP BY 1, 2;
