# A late view and a late sink over a Kafka stream: read from the topic's start in a lane,
# merged while events still come, with kills of both workers and of the helper programs.
# Every event is in each of them once.
#
# faults: L1
#
#	SX_EVENTS	events in all, half of them before the first late view
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
use Time::HiRes qw(usleep);

plan skip_all => 'no Kafka' unless $ENV{KAFKA_PORT};

my $runs = scale(1, 5);
my $events = $ENV{SX_EVENTS} // 100_000;
my $half = int($events / 2);
fault_seed();
my $job = SxKafka->new(seed => int(rand(1000)), partitions => 3);
$job->make_topic;
$job->produce($half);
my $node = $job->make_node('kafka_late', deadlock_timeout => '200ms');
poll_server($node);
$job->make_job($node, options => { max_batch_rows => 2000 });

becomes("SELECT sum(rows) > $half / 10 FROM streamext.partitions", 'the pipeline has begun');
my %killed = (lane => 0, shared => 0, helper => 0, server => 0);
my $lanes = q(SELECT count(*) FROM streamext.pipelines WHERE lane_of IS NOT NULL);
my $before = $half;
my ($lost, $duplicated) = (0, 0);
for my $run (1 .. $runs)
{
	my $chunk = int($half / $runs);
	my $producer = $job->start_producing($chunk, int($chunk / 4), $run);
	$node->safe_psql('postgres', qq(
		CREATE TABLE sunk_$run (user_id text, event_time timestamptz, n bigint);
		CREATE MATERIALIZED VIEW late_$run AS SELECT event_type, count(*) AS n, min(event_time) AS lo, max(event_time) AS hi FROM events GROUP BY 1;
		CREATE STREAM sink_$run WITH (connector = 'table', table = 'sunk_$run') AS SELECT user_id, event_time, 1::bigint AS n FROM events;));
	is(answer($lanes), '2', "run $run: both are in lanes");
	for my $fault (1 .. 6)
	{
		usleep(int(rand(300_000)));
		my $kind = (qw(lane lane shared helper server))[ int(rand(5)) ];
		my $name = $kind eq 'shared' ? 'events' : $fault % 2 ? "late_$run" : "sink_$run";
		my $pid = answer("SELECT pid FROM streamext.pipelines WHERE pipeline = '$name' AND pid IS NOT NULL") or next;
		my $signal = $kind eq 'server' || $kind eq 'helper' ? 'KILL' : 'TERM';
		chomp($pid = `pgrep -P $pid` =~ s/\n.*//sr) if $kind eq 'helper';
		$killed{$kind}++ if $pid && kill($signal, $pid);
	}
	$producer->finish;
	$before += $chunk;
	becomes("SELECT ($lanes) = 0", "run $run: merged");
	becomes("SELECT (SELECT sum(n) FROM late_$run) >= $before", "run $run: all has come");
	is(answer("SELECT sum(n) FROM late_$run"), $before, "run $run: the view has each event once");
	my $more = answer("SELECT sum(n) FROM sunk_$run") - $before;
	$more < 0 ? ($lost -= $more) : ($duplicated += $more);
	is(answer("SELECT sum(n) FROM sunk_$run"), $before, "run $run: the sink has each event once");
	is(answer("SELECT count(*) FROM (SELECT * FROM late_$run EXCEPT SELECT * FROM late_1) x"), '0', "run $run: equal to the first late view");
}
unlike(slurp_file($node->logfile), qr/deadlock detected/, 'no deadlock');

# as far as a pipeline that stands still, and merged into it
$node->safe_psql('postgres', q(
	SELECT streamext.pause('events');
	CREATE MATERIALIZED VIEW after AS SELECT event_type, count(*) AS n FROM events GROUP BY 1;
	SELECT streamext.resume('after');));
becomes(q(SELECT state = 'paused' AND pipeline = 'events' FROM streamext.views WHERE view = 'after'::regclass), 'a lane is merged into a paused pipeline');
is(answer('SELECT sum(n) FROM after'), $before, '… with everything that one had read');

fault_row(row => 'L1', what => 'late view and sink over a Kafka stream, workers, helpers and the server killed',
	tried => "$runs runs, kills: " . join(', ', map { "$_ $killed{$_}" } sort keys %killed),
	lost => $lost, duplicated => $duplicated, note => "$before events");
$node->stop;
done_testing();
