# A lane whose one partition has much more behind its limit than the ring holds, while
# another partition has not come to its limit yet: it gets there all the same.

use strict;
use warnings;
use File::Basename qw(dirname);
use lib dirname(__FILE__);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxKafka;
use Test::More;

plan skip_all => 'no Kafka' unless $ENV{KAFKA_PORT};

my $job = SxKafka->new(partitions => 2);
$job->make_topic;
my $node = $job->make_node('ring', 'streamext.helper_memory' => q('64MB'), log_min_messages => 'debug1');

sub sql { return $node->safe_psql('postgres', $_[0]); }

sql(qq(
	CREATE STREAM k (key text OPTIONS (metadata 'key'), p int OPTIONS (metadata 'partition'), body text)
		WITH (connector = 'kafka', brokers = '127.0.0.1:$job->{port}', topic = '$job->{topic}', format = 'json');
	CREATE MATERIALIZED VIEW first AS SELECT key, p, count(*) AS n, sum(length(body)) AS bytes FROM k GROUP BY 1, 2;
	INSERT INTO k (key, body) SELECT 'key ' || i, 'x' FROM generate_series(1, 20) i;));
ok($node->poll_query_until('postgres', 'SELECT sum(n) = 20 FROM first'), 'the keys have found their partitions');
my ($near, $far) = map { sql("SELECT min(key) FROM first WHERE p = $_") } 0, 1;

# 24 MB for one of them are read, then come 32 MB for the other one
sql("INSERT INTO k (key, body) SELECT '$far', repeat('y', 100000) FROM generate_series(1, 240)");
ok($node->poll_query_until('postgres', 'SELECT sum(n) = 260 FROM first'), 'one partition is far ahead');
sql("SELECT streamext.pause('k')");
sql("INSERT INTO k (key, body) SELECT '$near', repeat('z', 100000) FROM generate_series(1, 320)");
sql("CREATE MATERIALIZED VIEW late AS SELECT key, p, count(*) AS n, sum(length(body)) AS bytes FROM k GROUP BY 1, 2; SELECT streamext.resume('late')");
ok($node->poll_query_until('postgres', q(SELECT pipeline = 'k' FROM streamext.views WHERE view = 'late'::regclass)), 'the lane gets to the limit of both')
  or diag sql('SELECT pipeline, partition, position, lag FROM streamext.partitions') . sql('SELECT pipeline, state, status, error_message FROM streamext.pipelines');
is(sql('SELECT count(*) FROM (SELECT * FROM first EXCEPT SELECT * FROM late) x'), '0', 'with the same rows');
is(sql('SELECT sum(n) FROM late'), '260', '… and no others');
sql("SELECT streamext.resume('k')");
ok($node->poll_query_until('postgres', 'SELECT (SELECT sum(n) FROM first) = 580 AND (SELECT sum(n) FROM late) = 580'), 'both go on together');

like(slurp_file($node->logfile), qr/another Kafka helper for the partitions below their limit/, 'the ring was full of what is behind a limit');
$node->stop;
done_testing();
