# The main job end to end: a stream over a real Kafka topic of four partitions, a
# windowed count per campaign, exact; lag, rate and watermark visible meanwhile.
#
#	SX_EVENTS	events (default 200000)

use strict;
use warnings;
use File::Basename qw(dirname);
use lib dirname(__FILE__);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxKafka;
use Test::More;

plan skip_all => 'no Kafka' unless $ENV{KAFKA_PORT};

my $events = $ENV{SX_EVENTS} // 200_000;
my $job = SxKafka->new;

$job->make_topic;
$job->produce($events);
my $node = $job->make_node('main');
$job->make_job($node);

ok($node->poll_query_until('postgres',
		q{SELECT lag IS NOT NULL AND watermark IS NOT NULL AND rows_per_second > 0 FROM streamext.pipelines}),
	'lag, rate and watermark are visible');
ok($job->wait_for($node, $events), 'all events are taken');
is($node->safe_psql('postgres', q{SELECT streamext.wait('counts')}), 't', 'wait() returns');
ok($node->poll_query_until('postgres', 'SELECT lag = 0 FROM streamext.pipelines'), 'no lag is left');
is($job->differences($node, $events), '0', 'the view equals the batch query');
is($node->safe_psql('postgres', 'SELECT late_rows FROM streamext.views'), '0', 'no row was late');
is($job->gaps($node), '0', 'batch ids have no gap');

# Nothing new: no transaction, no WAL, no snapshot.
is($node->safe_psql('postgres', q{
	SELECT count(*) FROM pg_stat_activity
	WHERE application_name LIKE 'streamext%' AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)}),
	'0', 'an idle worker holds nothing');

# More events later, and a restart of the server in between.
$node->restart;
my $before = $node->safe_psql('postgres', 'SELECT coalesce(sum(n), 0) FROM counts');
$job->produce(1000);
ok($job->wait_for($node, $events + 1000), 'goes on after a restart');
cmp_ok($node->safe_psql('postgres', 'SELECT sum(n) FROM counts'), '>', $before, 'and counts');

$node->stop;
done_testing();
