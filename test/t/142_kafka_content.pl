# What a topic may hold: aborted and open transactions, control records at its end, gaps
# and tombstones of compaction, empty partitions, records without a time, records that
# are too large; and topics that are found by a pattern.
#
# faults: O5 O6

use strict;
use warnings;
use File::Basename qw(dirname);
use lib dirname(__FILE__);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxFault;
use SxKafka;
use Test::More;
use Time::HiRes qw(time);

plan skip_all => 'no Kafka' unless $ENV{KAFKA_PORT};

my $node = SxKafka->small_node('content');
my $run = $$ . '_' . int(rand(1e6));
my $server = "brokers = '127.0.0.1:$ENV{KAFKA_PORT}'";
my $quick = '"topic.metadata.refresh.interval.ms" = 1000';

sub psql { return $node->safe_psql('postgres', $_[0]) }
sub client { return SxKafka->client(@_) }
sub poll { return ok($node->poll_query_until('postgres', $_[0]), $_[1]) }

# ---- O5: transactions

my $rounds = scale(5, 200);
my $topic = "transactions_$run";
client("create $topic 1", map { ('begin', "put $topic 0 " . $_ * 100 . ' 10', $_ % 2 ? 'abort' : 'commit') } 1 .. $rounds);
psql(qq{
	CREATE STREAM t (id bigint, off bigint OPTIONS (metadata 'offset')) WITH (connector = 'kafka', $server, topic = '$topic');
	CREATE MATERIALIZED VIEW t_rows AS SELECT id, off FROM t;});
my $good = 10 * int($rounds / 2);
poll("SELECT count(*) >= $good FROM t_rows", 'committed transactions have come');
poll("SELECT lag = 0 AND position::text::bigint = " . 11 * $rounds . " FROM streamext.partitions WHERE stream = 't'::regclass",
	'lag reaches 0 behind a control record');
is(psql('SELECT count(*), count(DISTINCT id) FROM t_rows'), "$good|$good", 'each once');
my $aborted = psql('SELECT count(*) FROM t_rows WHERE id / 100 % 2 = 1');
is($aborted, '0', 'of aborted transactions nothing is seen');

my $open = SxKafka->new_open_transaction("put $topic 0 100000 5");
client("put $topic 0 200000 5");
poll("SELECT lag > 0 FROM streamext.partitions WHERE stream = 't'::regclass", 'an open transaction holds back what is behind it');
is(psql('SELECT count(*) FROM t_rows'), $good, 'and is not seen');
$open->finish;
poll('SELECT count(*) = ' . ($good + 5) . ' FROM t_rows', 'when it is aborted, what is behind it comes');
poll("SELECT lag = 0 FROM streamext.partitions WHERE stream = 't'::regclass", 'and lag reaches 0 again');
is(psql('SELECT count(*) FROM t_rows WHERE id BETWEEN 100000 AND 100004'), '0', 'but not what was aborted');
psql("SELECT streamext.pause('t'); SELECT streamext.resume('t')");
client("put $topic 0 300000 5");
poll('SELECT count(*) = ' . ($good + 10) . ' FROM t_rows', 'goes on behind control records after a restart');
fault_row(row => 'O5', what => 'transactions, half of them aborted, one open', tried => $rounds + 1,
	lost => $good + 10 - psql('SELECT count(DISTINCT id) FROM t_rows'),
	duplicated => psql('SELECT count(*) - count(DISTINCT id) FROM t_rows'), note => "aborted records seen: $aborted");

# ---- O6: compaction, tombstones, empty and idle partitions, no time, large records

$topic = "compact_$run";
my $keys = scale(20, 500);
client("create $topic 3 cleanup.policy=compact segment.ms=100 min.cleanable.dirty.ratio=0.01 delete.retention.ms=600000 max.compaction.lag.ms=100",
	map({ "put $topic 0 0 $keys" } 1 .. 5), "tomb $topic 0 7", "empty $topic 0 8");
psql(qq{
	CREATE STREAM c (value bytea, key text OPTIONS (metadata 'key'), off bigint OPTIONS (metadata 'offset'),
		ts timestamptz OPTIONS (metadata 'timestamp'))
	WITH (connector = 'kafka', $server, topic = '$topic', format = 'raw', event_time = 'ts', watermark = '0 seconds', idle_timeout = '1 second');
	CREATE MATERIALIZED VIEW c_rows AS SELECT key, off, value IS NULL AS tombstone, length(value) AS length, ts FROM c;});
poll("SELECT count(*) = 2 FROM c_rows WHERE tombstone OR length = 0", 'tombstone and empty value have come');
is(psql('SELECT key, tombstone, length FROM c_rows WHERE tombstone OR length = 0 ORDER BY off'), "7|t|\n8|f|0",
	'a tombstone is NULL, an empty value is not');
poll("SELECT watermark IS NOT NULL FROM streamext.partitions WHERE stream = 'c'::regclass LIMIT 1",
	'empty partitions do not hold back the watermark');
is(psql("SELECT lag FROM streamext.partitions WHERE stream = 'c'::regclass AND partition = '0'"), '0', 'no lag');

# the anchor and what comes next may be compacted away while nobody reads
psql("SELECT streamext.pause('c')");
for my $try (1 .. scale(3, 20))
{
	client("put $topic 0 0 $keys", "tomb $topic 0 7", "empty $topic 0 8");
	select(undef, undef, undef, 0.5);	# segments are rolled by their age
}
client("put $topic 0 1000 1");
poll('SELECT count(*) < max(off) FROM c', 'the topic has been compacted');
psql("SELECT streamext.resume('c')");
poll("SELECT count(*) >= 1 FROM c_rows WHERE key = '1000'", 'reads on through the gaps of compaction');
is(psql("SELECT count(*) FROM (SELECT off FROM c_rows GROUP BY off HAVING count(*) > 1) d"), '0', 'nothing twice');
is(psql("SELECT count(DISTINCT key) FROM c_rows"), $keys + 1, 'every key was seen');
is(psql("SELECT count(*) FROM streamext.gaps"), '0', 'a gap of compaction is no loss');
fault_row(row => 'O6', what => 'compacted topic, tombstones, empty partitions', tried => $keys * (5 + scale(3, 20)),
	lost => 0, duplicated => 0);

$topic = "large_$run";
client("create $topic 1 max.message.bytes=10000000", "put $topic 0 1 1", "put $topic 0 2 1 60000", "put $topic 0 3 1 0 -1", "put $topic 0 4 1");
psql(qq{
	CREATE STREAM l (id bigint, ts timestamptz OPTIONS (metadata 'timestamp'))
	WITH (connector = 'kafka', $server, topic = '$topic', max_message_bytes = 50000);
	CREATE MATERIALIZED VIEW l_rows AS SELECT id, ts FROM l;});
poll('SELECT count(*) = 3 FROM l_rows', 'what is not too large has come');
is(psql('SELECT id, ts IS NULL FROM l_rows ORDER BY id'), "1|f\n3|t\n4|f", 'a record without time has none');
is(psql('SELECT "offset", convert_from(key, \'UTF8\'), value IS NULL, headers, sqlstate, message FROM streamext.dead_letters'),
	'1|2|t|{"origin": "test"}|54000|the record is larger than max_message_bytes allows: about 59 kB',
	'a dead letter without the value');
is(psql('SELECT count(*) FROM l'), '3', 'a query outside a batch leaves it out');
client("put $topic 0 5 1 60000", "put $topic 0 6 1");
poll('SELECT count(*) = 4 FROM l_rows', 'the next one');
psql("SELECT streamext.pause('l'); SELECT streamext.resume('l')");
client("put $topic 0 7 1 60000");
poll('SELECT count(*) = 3 FROM streamext.dead_letters', 'a third one');
psql("SELECT streamext.pause('l'); ALTER STREAM l OPTIONS (SET max_message_bytes '100000'); SELECT streamext.resume('l')");
client("put $topic 0 8 1 60000");
poll('SELECT count(*) = 5 FROM l_rows', 'a record that was too large serves as anchor when it no longer is');

# ---- headers that no column shows: the batch of the first letter is read again with them

$topic = "letters_$run";
client("create $topic 2", "put $topic 0 0 500", "put $topic 1 500 500");
psql(qq{
	CREATE STREAM h (id bigint) WITH (connector = 'kafka', $server, topic = '$topic', parallelism = 2, max_errors = 1000, $quick);
	CREATE MATERIALIZED VIEW h_rows AS SELECT id, 100 / (id % 100) AS q FROM h;
	CREATE MATERIALIZED VIEW h_count AS SELECT count(*) AS n, sum(id) AS sum FROM h;});
poll('SELECT n = 1000 FROM h_count', 'all records have come');
poll('SELECT count(*) = 990 FROM h_rows', 'those that can be divided by');
is(psql('SELECT sum(id) FROM h_rows'), 999 * 500 - 4500, 'each once');
is(psql('SELECT sum FROM h_count'), 999 * 500, 'and in the other view');
is(psql("SELECT count(*), count(DISTINCT convert_from(key, 'UTF8')), count(*) FILTER (WHERE headers = '{\"origin\": \"test\"}') FROM streamext.dead_letters WHERE stream = 'h'::regclass"),
	'10|10|10', 'the letters of the others have headers');
client("put $topic 0 1000 100");
poll('SELECT n = 1100 FROM h_count', 'the next ones');
is(psql("SELECT count(*) FROM streamext.dead_letters WHERE stream = 'h'::regclass AND headers IS NOT NULL"), '11', 'another letter');

# An answer holds one partition or two, so the first batch of the next helper is mostly not what was rolled back.
$topic = "many_$run";
client("create $topic 8 max.message.bytes=10000000", map({ my $p = $_; map({ "put $topic $p " . (1000 * $p + 100 * $_ + 1) . " 5 100000" } 1 .. 4), $p == 5 ? "put $topic 5 0 1" : () } 0 .. 7),
	map({ "put $topic $_ " . (1000 * $_ + 901) . " 5 100000" } 0 .. 7));
psql(qq{
	CREATE STREAM m (id bigint, part int OPTIONS (metadata 'partition'), off bigint OPTIONS (metadata 'offset'))
	WITH (connector = 'kafka', $server, topic = '$topic', "fetch.max.bytes" = 1000000, "message.max.bytes" = 1000000, $quick);
	CREATE MATERIALIZED VIEW m_rows AS SELECT part, off, 1 / id AS q FROM m;});
my ($all, $wrong, $looks) = ('f', 0, 0);
while ($all ne 't' && $looks++ < 3000)
{
	# each position says what is in the view and among the letters, at every moment
	($all, my $now) = split /\|/, psql(q{
		SELECT coalesce(sum(n), 0) = 201, count(*) FILTER (WHERE n <> coalesce(position::text::bigint, 0))
		FROM (SELECT p.position, (SELECT count(*) FROM m_rows r WHERE r.part = p.partition::int) +
			(SELECT count(*) FROM streamext.dead_letters d WHERE d.stream = 'm'::regclass AND d.partition = p.partition) AS n
			FROM streamext.partitions p WHERE p.stream = 'm'::regclass) x});
	$wrong += $now;
}
is("$all $wrong", 't 0', 'all have come, and no position was ahead of them');
is(psql('SELECT count(*), count(DISTINCT (part, off)) FROM m_rows'), '200|200', 'none lost, none twice');
is(psql("SELECT partition, headers FROM streamext.dead_letters WHERE stream = 'm'::regclass"), '5|{"origin": "test"}', 'one letter');

# ---- topics by a pattern

client("create pattern_a_$run 2", "create pattern_b_$run 1", "create other_pattern_a_$run 1",
	"put pattern_a_$run 0 0 10", "put pattern_a_$run 1 10 10", "put other_pattern_a_$run 0 900 10");
psql(qq{
	CREATE STREAM p (id bigint, topic text OPTIONS (metadata 'topic'), part int OPTIONS (metadata 'partition'))
	WITH (connector = 'kafka', $server, topic_pattern = 'pattern_[a-d]_$run', start = 'latest', $quick);
	CREATE MATERIALIZED VIEW p_rows AS SELECT id, topic, part FROM p;});
poll("SELECT count(*) = 3 FROM streamext.partitions WHERE stream = 'p'::regclass AND position IS NOT NULL", 'three partitions of two topics');
client("put pattern_b_$run 0 20 10", "create pattern_c_$run 1", "put pattern_c_$run 0 30 10");
poll('SELECT count(*) >= 20 FROM p_rows', 'a topic that comes later');
is(psql('SELECT topic, part, min(id), count(*) FROM p_rows GROUP BY 1, 2 ORDER BY 1, 2'),
	"pattern_b_$run|0|20|10\npattern_c_$run|0|30|10", 'is read from its beginning, whatever start says');
is(psql("SELECT string_agg(replace(partition, '_$run', ''), ' ' ORDER BY partition) FROM streamext.partitions WHERE stream = 'p'::regclass"),
	'pattern_a/0 pattern_a/1 pattern_b/0 pattern_c/0', 'partitions are named by topic and number');
client("delete pattern_b_$run");
poll("SELECT status ~ 'pattern_b_$run.*(not exist|deleted)' FROM streamext.pipelines WHERE pipeline = 'p'", 'a deleted topic is reported');
client("put pattern_a_$run 0 40 10", "put pattern_c_$run 0 50 10");
poll('SELECT count(*) = 40 FROM p_rows', 'the others go on');
is(psql("SELECT streamext.wait('p')"), 't', 'wait() does not wait for it');
psql("SELECT streamext.pause('p'); SELECT streamext.resume('p')");
client("put pattern_a_$run 1 60 10");
poll('SELECT count(*) = 50 FROM p_rows', 'also after a restart');
is(psql('SELECT count(DISTINCT id) FROM p_rows'), '50', 'each once');
is(psql('SELECT count(*) FROM p'), '60', 'a query outside a batch reads them all');
my ($rc, $out, $err) = $node->psql('postgres', 'INSERT INTO p (id) VALUES (1)');
like($err, qr/cannot insert into stream public.p, which reads several topics/, 'no INSERT');

$node->stop;
done_testing();
