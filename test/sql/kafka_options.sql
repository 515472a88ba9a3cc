-- Options of Kafka streams that are checked without a broker.

-- topics, by name or by pattern
CREATE STREAM k (id bigint) WITH (connector = 'kafka', brokers = 'localhost:1', paused);
CREATE STREAM k (id bigint) WITH (connector = 'kafka', brokers = 'localhost:1', topic = 'a', topic_pattern = 'a.*', paused);
CREATE STREAM k (id bigint) WITH (connector = 'kafka', brokers = 'localhost:1', topic_pattern = 'a(', paused);
CREATE STREAM k (id bigint) WITH (connector = 'file', path = '/tmp', topic_pattern = 'a');
CREATE STREAM k (id bigint) WITH (connector = 'kafka', brokers = 'localhost:1', topic_pattern = 'orders_\d+', paused);
INSERT INTO k VALUES (1);
DROP STREAM k;

-- what goes to other hosts is encrypted, unless the server says that it need not be
CREATE STREAM k (id bigint) WITH (connector = 'kafka', brokers = 'kafka.example:9092', topic = 'a', paused);
CREATE STREAM k (id bigint) WITH (connector = 'kafka', brokers = 'localhost:1, [2001:db8::1]:9092', topic = 'a', paused);
CREATE STREAM k (id bigint) WITH (connector = 'kafka', brokers = 'PLAINTEXT://127.evil.example:9092', topic = 'a', paused);
CREATE STREAM k (id bigint) WITH (connector = 'kafka', brokers = 'localhost.evil.example', topic = 'a', paused);
CREATE STREAM k (id bigint) WITH (connector = 'kafka', brokers = 'kafka.example:9092', topic = 'a', "security.protocol" = 'sasl_plaintext', paused);
CREATE STREAM k (id bigint) WITH (connector = 'kafka', brokers = 'kafka.example:9092', topic = 'a', allow_plaintext, paused);
CREATE STREAM k1 (id bigint) WITH (connector = 'kafka', brokers = 'localhost:1, 127.0.0.1, [::1]:1, 127.0.0.2:9092', topic = 'a', paused);
CREATE STREAM k2 (id bigint) WITH (connector = 'kafka', brokers = 'kafka.example:9093', topic = 'a', "security.protocol" = 'ssl', paused);
CREATE SERVER far FOREIGN DATA WRAPPER streamext OPTIONS (brokers 'kafka.example:9092', allow_plaintext 'maybe');
CREATE SERVER far FOREIGN DATA WRAPPER streamext OPTIONS (brokers 'kafka.example:9092', allow_plaintext 'on');
CREATE STREAM k3 (id bigint) WITH (connector = 'kafka', server = 'far', topic = 'a', paused);

-- loss of data
CREATE STREAM k4 (id bigint) WITH (connector = 'kafka', brokers = 'localhost:1', topic = 'a', on_data_loss = 'shrug', paused);
CREATE STREAM k4 (id bigint) WITH (connector = 'kafka', brokers = 'localhost:1', topic = 'a', on_data_loss = 'continue', paused);
SELECT * FROM streamext.gaps;

DROP STREAM k1, k2, k3, k4;
DROP SERVER far;
