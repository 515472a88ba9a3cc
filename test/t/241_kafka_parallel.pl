# Option parallelism over Kafka: two workers share five partitions and are killed, one or both,
# while events come; then there are more workers than partitions.  A late view reads the past
# in a lane of its own and joins them.  The views are what SQL makes of the same events.
#
# faults: O1
#
#	SX_EVENTS	events in all
#	SX_SEED		of the moments

use strict;
use warnings;
use File::Basename qw(dirname);
use lib dirname(__FILE__);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxFault;
use SxKafka;
use SxPoll;
use Test::More;
use Time::HiRes qw(time usleep);

plan skip_all => 'no Kafka' unless $ENV{KAFKA_PORT};

my $kills = scale(6, 60);
my $part = int(($ENV{SX_EVENTS} // 60_000) / 3);
my $events = 3 * $part;
fault_seed();
my $job = SxKafka->new(seed => int(rand(1000)), partitions => 5);
$job->make_topic;
$job->produce($part);
my $node = $job->make_node('kafka_parallel', deadlock_timeout => '200ms');
poll_server($node);
$job->make_job($node, options => { max_batch_rows => 1000, parallelism => 2, idle_timeout => '1 day' });
$node->safe_psql('postgres', q(
	CREATE MATERIALIZED VIEW closed WITH (emit = 'final') AS
		SELECT tumble(event_time, '10 seconds') AS w, ad_type, count(*) AS n FROM events GROUP BY 1, 2;
	CREATE MATERIALIZED VIEW types AS SELECT event_type, count(*) AS n, min(event_time) AS lo, max(event_time) AS hi FROM events GROUP BY 1;));

my $workers = q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'streamext worker');
becomes("SELECT sum(rows) > 0 FROM streamext.partitions", 'it has begun');
my $producer = $job->start_producing($part, int($part / 5), 1);
my %killed = (one => 0, both => 0, helper => 0, terminated => 0);
for my $kill (1 .. $kills)
{
	my $done = answer('SELECT sum(rows) FROM streamext.partitions') // 0;
	usleep(int(rand(400_000)));
	my @pids = split ' ', answer(q(SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE backend_type = 'streamext worker')) // '';
	next unless @pids;
	my $kind = (qw(one both helper terminated))[ int(rand(4)) ];
	my $pid = $pids[ int(rand(@pids)) ];
	chomp($pid = `pgrep -P $pid` =~ s/\n.*//sr) if $kind eq 'helper';
	next unless $pid;
	$killed{$kind}++ if kill($kind eq 'terminated' ? 'TERM' : 'KILL', $kind eq 'both' ? @pids : $pid);
}
# a late view, while they run
$node->poll_query_until('postgres', 'SELECT true');
my $until = time() + 60;
usleep(50_000) until defined answer('CREATE MATERIALIZED VIEW late AS SELECT event_type, count(*) AS n, min(event_time) AS lo, max(event_time) AS hi FROM events GROUP BY 1') || time() > $until;
$producer->finish;
becomes("SELECT coalesce(sum(x.position::text::bigint), 0) >= 2 * $part FROM streamext.partitions x WHERE pipeline = 'events'", 'all is read');
becomes('SELECT count(*) = 0 FROM streamext.pipelines WHERE lane_of IS NOT NULL', 'the late view has joined');
is(answer('SELECT count(*) FROM ((TABLE late EXCEPT TABLE types) UNION ALL (TABLE types EXCEPT TABLE late)) x'), '0', 'and is like the other');
is(answer(q(SELECT string_agg(slot || ':' || partition, ' ' ORDER BY partition) FROM streamext.partitions)), '0:0 1:1 0:2 1:3 0:4', 'partitions by number');
becomes("SELECT workers = 2 FROM streamext.pipelines WHERE pipeline = 'events'", 'both run');

# more workers than partitions
$node->safe_psql('postgres', q(
	SELECT streamext.pause('events');
	ALTER STREAM events OPTIONS (SET parallelism '7');
	SELECT streamext.resume('events');));
my $rest = $job->start_producing($part, 100_000, 2);
$rest->finish;
becomes("SELECT sum(position::text::bigint) >= $events FROM streamext.partitions", 'seven workers read the rest');
becomes("SELECT streamext.wait('events', '10 seconds')", 'wait() asks all of them');
is(answer(q(SELECT string_agg(slot || ':' || partition, ' ' ORDER BY partition) FROM streamext.partitions)), '0:0 1:1 2:2 3:3 4:4', 'each partition has one');
is(answer('SELECT sum(n) FROM types'), $events, 'each event once');
is(answer('SELECT count(*) FROM ((TABLE late EXCEPT TABLE types) UNION ALL (TABLE types EXCEPT TABLE late)) x'), '0', 'the late view, too');
is(answer(q(SELECT late_rows FROM streamext.views WHERE view = 'closed'::regclass)), '0', 'no row was late');
is($job->differences($node, $part, 3), 0, 'the counts are those of a batch query');
is(answer(q(SELECT count(*) > 0 FROM closed)), 't', 'windows have closed');
fault_row(row => 'O1', what => 'workers of a parallel pipeline over Kafka killed',
	tried => join(', ', map { "$_ $killed{$_}" } sort keys %killed),
	lost => $events - answer('SELECT sum(n) FROM types'), duplicated => 0, note => "$events events");

$node->stop;
done_testing();
