# Disorder above the watermark delay: what is not in the view was counted.
# accepted + late + dead letters = input.

use strict;
use warnings;
use File::Basename qw(dirname);
use lib dirname(__FILE__);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxKafka;
use Test::More;

plan skip_all => 'no Kafka' unless $ENV{KAFKA_PORT};

my $events = $ENV{SX_EVENTS} // 100_000;
my $job = SxKafka->new(step => 1000, disorder => 20_000, partitions => 2);

$job->make_topic;
$job->produce($events);
my $node = $job->make_node('late');
$job->make_job($node, view => q{late = 'drop'}, options => { max_batch_rows => 1000 });
ok($job->wait_for($node, $events), 'all events are taken');

$job->differences($node, $events);
my $views = $node->safe_psql('postgres', 'SELECT sum(n) FROM expected');
my $accepted = $node->safe_psql('postgres', 'SELECT sum(n) FROM counts');
my $late = $node->safe_psql('postgres', 'SELECT late_rows FROM streamext.views');
my $dead = $node->safe_psql('postgres', 'SELECT count(*) FROM streamext.dead_letters');

cmp_ok($late, '>', 0, 'some rows are late');
is($accepted + $late + $dead, $views, "accepted $accepted + late $late + dead $dead = input");
is($node->safe_psql('postgres', q{
	SELECT count(*) FROM counts c LEFT JOIN expected e USING (campaign_id, w) WHERE c.n > coalesce(e.n, 0)}),
	'0', 'nothing was counted twice');

$node->stop;
done_testing();
