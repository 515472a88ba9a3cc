# The helper program is killed under load: no other session notices, nothing is lost,
# nothing repeated.
#
#	SX_KILLS	(default 6), half of them SIGKILL, half SIGABRT

use strict;
use warnings;
use File::Basename qw(dirname);
use lib dirname(__FILE__);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxKafka;
use Test::More;
use Time::HiRes qw(time);

plan skip_all => 'no Kafka' unless $ENV{KAFKA_PORT};

my $kills = $ENV{SX_KILLS} // 6;
my $events = $ENV{SX_EVENTS} // 100_000;
my $job = SxKafka->new;

$job->make_topic;
my $node = $job->make_node('helper');
$job->make_job($node, options => { max_batch_rows => 1000 });
my $session = $node->background_psql('postgres');
my $me = $session->query_safe('SELECT pg_backend_pid()');
my $producer = $job->start_producing($events, $ENV{SX_RATE} // 6_000);

# The helper is the child of the worker.
sub helper
{
	my $worker = $node->safe_psql('postgres', 'SELECT pid FROM streamext.pipelines');
	return 0 unless $worker;
	my $children = slurp_file("/proc/$worker/task/$worker/children") // '';
	return (split ' ', $children)[0] // 0;
}

my $killed = 0;
my %seen;
my $until = time() + 300;
while ($killed < $kills && time() < $until)
{
	my $pid = helper();
	next if !$pid || $seen{$pid};
	my $batch = $node->safe_psql('postgres', 'SELECT batch_id FROM streamext.pipelines');
	$node->poll_query_until('postgres', "SELECT batch_id > $batch FROM streamext.pipelines");
	$killed++ if kill($killed % 2 ? 'ABRT' : 'KILL', $pid);
	$seen{$pid} = 1;
}
$producer->finish;

is($killed, $kills, "the helper was killed $kills times");
ok($job->wait_for($node, $events), 'all events are taken');
is($job->differences($node, $events), '0', 'nothing lost, nothing twice');
is($job->gaps($node), '0', 'batch ids have no gap');
is($session->query_safe('SELECT pg_backend_pid()'), $me, 'another session lived through it');
$session->quit;

$node->stop;
done_testing();
