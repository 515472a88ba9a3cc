-- The queries of Nexmark as continuous views, in the words of PostgreSQL.  Where SQL leaves ties open,
-- they are ordered.  "-- NAME batch" is the batch SQL where the view's own text cannot be that.
-- Read by bench/nexmark.

-- q0 pass through
SELECT auction, bidder, price, date_time, extra FROM bid
-- q1 currency conversion
SELECT auction, bidder, 0.908 * price AS price, date_time, extra FROM bid
-- q2 selection
SELECT auction, price FROM bid WHERE auction % 123 = 0
-- q3 local item suggestion
SELECT p.name, p.city, p.state, a.id FROM auction a JOIN person p ON a.seller = p.id
WHERE a.category = 10 AND p.state IN ('OR', 'ID', 'CA')
-- q4 average price for a category
SELECT category, avg(final) AS avg
FROM (SELECT a.category, max(b.price) AS final FROM auction a JOIN bid b ON b.auction = a.id AND b.date_time BETWEEN a.date_time AND a.expires
      GROUP BY a.id, a.category) q GROUP BY category
-- q5 hot items
WITH c AS (SELECT auction, hop(date_time, '2 s', '10 s') AS w, count(*) AS num FROM bid GROUP BY 1, 2)
SELECT c.auction, c.w, c.num FROM c JOIN (SELECT w, max(num) AS mx FROM c GROUP BY w) m USING (w) WHERE c.num >= m.mx
-- q6 average selling price by seller
SELECT seller, auction, avg(price) OVER (PARTITION BY seller ORDER BY date_time, auction ROWS BETWEEN 10 PRECEDING AND CURRENT ROW) AS avg
FROM (SELECT DISTINCT ON (a.id) a.id AS auction, a.seller, b.price, b.date_time
      FROM auction a JOIN bid b ON b.auction = a.id AND b.date_time BETWEEN a.date_time AND a.expires
      ORDER BY a.id, b.price DESC, b.date_time, b.bidder) w
-- q7 highest bid
SELECT b.auction, b.bidder, b.price, b.date_time
FROM (SELECT auction, bidder, price, date_time, tumble(date_time, '10 s') AS w FROM bid) b
JOIN (SELECT tumble(date_time, '10 s') AS w, max(price) AS mp FROM bid GROUP BY 1) m ON b.price = m.mp AND b.w = m.w
-- q8 monitor new users
SELECT p.id, p.name, p.w FROM (SELECT DISTINCT id, name, tumble(date_time, '10 s') AS w FROM person) p
JOIN (SELECT DISTINCT seller, tumble(date_time, '10 s') AS w FROM auction) a ON p.id = a.seller AND p.w = a.w
-- q9 winning bids
SELECT * FROM (SELECT a.id, a.item_name, a.seller, b.bidder, b.price, b.date_time AS bid_time,
      row_number() OVER (PARTITION BY a.id ORDER BY b.price DESC, b.date_time, b.bidder) AS rn
      FROM auction a JOIN bid b ON b.auction = a.id AND b.date_time BETWEEN a.date_time AND a.expires) q WHERE rn <= 1
-- q10 log by day and minute
SELECT auction, bidder, price, date_time, extra, to_char(date_time, 'YYYY-MM-DD') AS dt, to_char(date_time, 'HH24:MI') AS hm FROM bid
-- q11 user sessions
SELECT bidder, count(*) AS n, session_start()::timestamp AS s, session_end()::timestamp AS e FROM bid GROUP BY bidder, session(date_time, '10 s')
-- q11 batch
SELECT bidder, count(*) AS n, min(date_time) AS s, max(date_time) + interval '10 s' AS e
FROM (SELECT *, count(*) FILTER (WHERE begins) OVER (PARTITION BY bidder ORDER BY date_time RANGE UNBOUNDED PRECEDING) AS i
      FROM (SELECT *, date_time > lag(date_time) OVER (PARTITION BY bidder ORDER BY date_time) + interval '10 s' AS begins FROM bid) b) c
GROUP BY bidder, i
-- q12 processing-time windows
SELECT bidder, count(*) AS n, tumble(streamext.batch_time(), '10 s') AS w FROM bid GROUP BY 1, 3
-- q12 batch
SELECT bidder, count(*) AS n, tumble(bt, '10 s') AS w FROM nexmark.bid_times GROUP BY 1, 3
-- q13 bounded side input join
SELECT b.auction, b.bidder, b.price, b.date_time, s.value FROM bid b JOIN nexmark.side_input s ON s.key = b.auction % 10000
-- q14 calculation
SELECT auction, bidder, 0.908 * price AS price,
       CASE WHEN extract(hour FROM date_time) BETWEEN 8 AND 18 THEN 'dayTime'
            WHEN extract(hour FROM date_time) <= 6 OR extract(hour FROM date_time) >= 20 THEN 'nightTime' ELSE 'otherTime' END AS t,
       date_time, length(extra) - length(replace(extra, 'c', '')) AS c_counts
FROM bid WHERE 0.908 * price > 1000000 AND 0.908 * price < 50000000
-- q15 bidding statistics
SELECT to_char(date_time, 'YYYY-MM-DD') AS d, count(*) AS n, count(*) FILTER (WHERE price < 10000) AS r1,
       count(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS r2, count(*) FILTER (WHERE price >= 1000000) AS r3,
       count(DISTINCT bidder) AS b, count(DISTINCT bidder) FILTER (WHERE price < 10000) AS b1,
       count(DISTINCT bidder) FILTER (WHERE price >= 10000 AND price < 1000000) AS b2, count(DISTINCT bidder) FILTER (WHERE price >= 1000000) AS b3,
       count(DISTINCT auction) AS a, count(DISTINCT auction) FILTER (WHERE price < 10000) AS a1,
       count(DISTINCT auction) FILTER (WHERE price >= 10000 AND price < 1000000) AS a2, count(DISTINCT auction) FILTER (WHERE price >= 1000000) AS a3
FROM bid GROUP BY 1
-- q16 channel statistics
SELECT channel, to_char(date_time, 'YYYY-MM-DD') AS d, max(to_char(date_time, 'HH24:MI')) AS m, count(*) AS n,
       count(*) FILTER (WHERE price < 10000) AS r1, count(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS r2,
       count(*) FILTER (WHERE price >= 1000000) AS r3,
       count(DISTINCT bidder) AS b, count(DISTINCT bidder) FILTER (WHERE price < 10000) AS b1,
       count(DISTINCT bidder) FILTER (WHERE price >= 10000 AND price < 1000000) AS b2, count(DISTINCT bidder) FILTER (WHERE price >= 1000000) AS b3,
       count(DISTINCT auction) AS a, count(DISTINCT auction) FILTER (WHERE price < 10000) AS a1,
       count(DISTINCT auction) FILTER (WHERE price >= 10000 AND price < 1000000) AS a2, count(DISTINCT auction) FILTER (WHERE price >= 1000000) AS a3
FROM bid GROUP BY 1, 2
-- q17 auction statistics
SELECT auction, to_char(date_time, 'YYYY-MM-DD') AS d, count(*) AS n, count(*) FILTER (WHERE price < 10000) AS r1,
       count(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS r2, count(*) FILTER (WHERE price >= 1000000) AS r3,
       min(price) AS mi, max(price) AS ma, avg(price) AS av, sum(price) AS su FROM bid GROUP BY 1, 2
-- q18 last bid
SELECT auction, bidder, price, channel, url, date_time, extra
FROM (SELECT *, row_number() OVER (PARTITION BY bidder, auction ORDER BY date_time DESC, extra, price) AS rn FROM bid) b WHERE rn <= 1
-- q19 ten highest bids of an auction
SELECT * FROM (SELECT auction, bidder, price, date_time,
      row_number() OVER (PARTITION BY auction ORDER BY price DESC, date_time, bidder) AS rn FROM bid) b WHERE rn <= 10
-- q20 bids with their auction
SELECT b.auction, b.bidder, b.price, b.channel, b.url, b.date_time, a.item_name, a.category
FROM bid b JOIN auction a ON b.auction = a.id WHERE a.category = 10
-- q21 channel id
SELECT auction, bidder, price, channel,
       CASE lower(channel) WHEN 'apple' THEN '0' WHEN 'google' THEN '1' WHEN 'facebook' THEN '2' WHEN 'baidu' THEN '3'
            ELSE substring(url FROM '(?:&|^)channel_id=([^&]*)') END AS channel_id
FROM bid WHERE substring(url FROM '(?:&|^)channel_id=([^&]*)') IS NOT NULL OR lower(channel) IN ('apple', 'google', 'facebook', 'baidu')
-- q22 directories of the URL
SELECT auction, bidder, price, channel, split_part(url, '/', 4) AS d1, split_part(url, '/', 5) AS d2, split_part(url, '/', 6) AS d3 FROM bid
