# faults: S5
# A real broker advertises itself under another name than the one that it was found by:
# streamext.allowed_hosts holds for that, too.

use strict;
use warnings;
use File::Basename qw(dirname);
use lib dirname(__FILE__);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxFault;
use SxKafka;
use Test::More;

plan skip_all => 'no Kafka' unless $ENV{KAFKA_PORT};

my $job = SxKafka->new(partitions => 1);
$job->make_topic;
$job->produce(1000);

my $node = PostgreSQL::Test::Cluster->new('advertised');
$node->init;
$node->append_conf('postgresql.conf', qq{
shared_preload_libraries = 'streamext'
max_worker_processes = 32
streamext.allowed_hosts = 'localhost:$job->{port}'
});
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]) }
sql(qq{CREATE EXTENSION streamext; CREATE ROLE app LOGIN; GRANT USAGE ON FOREIGN SERVER streamext TO app; GRANT ALL ON SCHEMA public TO app;
	SET ROLE app;
	CREATE STREAM e (raw bytea OPTIONS (metadata 'raw')) WITH (connector = 'kafka', brokers = 'localhost:$job->{port}', topic = '$job->{topic}', format = 'raw');
	CREATE MATERIALIZED VIEW n AS SELECT count(*) AS n FROM e;});
# the bootstrap connection answers, and tells of 127.0.0.1, which no rule names
ok($node->wait_for_log(qr/Kafka helper: .*127\.0\.0\.1:$job->{port}\/\d+.*Permission denied/), 'the advertised address is not allowed');
is(sql('SELECT n FROM n'), '0', 'and nothing was read from it');
like(sql(q{SELECT status FROM streamext.pipelines}), qr/could not connect \(the server's log says why\)|^$/, 'its owner is told no more');
$node->append_conf('postgresql.conf', "streamext.allowed_hosts = 'localhost:$job->{port}, 127.0.0.1:$job->{port}'");
$node->reload;
ok($node->poll_query_until('postgres', 'SELECT n = 1000 FROM n'), 'with a rule for it, everything is read');
fault_row(row => 'S5', what => 'broker that advertises an address that is not allowed', tried => 1, note => 'let through: 0');

$node->stop;
done_testing();
