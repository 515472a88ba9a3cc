# Crashes at random moments lose nothing and repeat nothing: SIGKILL of the worker,
# immediate shutdown, SIGKILL of the postmaster, while events keep coming.
#
# Each crash falls into a chunk of events that is being produced and processed.
#
#	SX_KILLS	of each kind (default 3)
#	SX_EVENTS	events (default 90000), SX_RATE events per second (default 10000)
#	SX_SEED		of the events and of the moments

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

my $kills = $ENV{SX_KILLS} // 3;
my $events = $ENV{SX_EVENTS} // 90_000;
my $rate = $ENV{SX_RATE} // 10_000;
my $seed = $ENV{SX_SEED} // time() % 1_000_000;
my $job = SxKafka->new(seed => $seed);

diag "seed $seed, $kills crashes of each kind";
srand($seed);
$job->make_topic;
my $node = $job->make_node('crash', fsync => 'on', log_min_messages => 'warning');
$job->make_job($node, options => { max_batch_rows => 2000 });

# true once the server answers
sub alive
{
	# psql may end before it has read its input, which IPC::Run raises.
	my ($rc) = eval { $node->psql('postgres', 'SELECT 1', on_error_stop => 0, timeout => 20) };
	return defined $rc && $rc == 0;
}

sub poll_until_alive
{
	my $until = time() + 120;
	while (time() < $until)
	{
		return 1 if alive();
	}
	return 0;
}

# A moment: some batches more, then a random wait within the next one.
sub batches
{
	my ($rc, $out) = eval { $node->psql('postgres', 'SELECT batch_id FROM streamext.pipelines', timeout => 20) };
	return $out || 0;
}

sub random_moment
{
	my $target = batches() + 1 + int(rand(4));
	my $until = time() + 10;
	while (time() < $until && batches() < $target) { }
	select(undef, undef, undef, rand(0.05));
}

sub start_again
{
	for my $try (1 .. 50)
	{
		return 1 if $node->start(fail_ok => 1);
		$node->{_pid} = undef;		# a stale pid file is not a running server
		select(undef, undef, undef, 0.2);
	}
	return 0;
}

my %crash = (
	worker => sub {
		my ($rc, $pid) = $node->psql('postgres', 'SELECT pid FROM streamext.pipelines', timeout => 20);
		return 0 unless $pid;
		kill 'KILL', $pid;
		return 1;
	},
	immediate => sub {
		$node->stop('immediate');
		return start_again();
	},
	postmaster => sub {
		$node->kill9;
		return start_again();
	});

my $chunk = int($events / (3 * $kills));
$events = $chunk * 3 * $kills;
my @order = sort { rand() <=> 0.5 } (('worker') x $kills, ('immediate') x $kills, ('postmaster') x $kills);
my $done = 0;
my @recovery;

for my $kind (@order)
{
	my $producer = $job->start_producing($chunk, $rate, $done);
	random_moment();
	my $before = batches();
	my $tries = 0;
	until ($crash{$kind}->())
	{
		BAIL_OUT("cannot crash: $kind") if $tries++ > 200;
		select(undef, undef, undef, 0.05);
	}
	my $start = time();
	poll_until_alive() or BAIL_OUT("the server did not come back after $kind");
	my $until = time() + 60;
	while (batches() <= $before && time() < $until) { }
	push @recovery, time() - $start;
	$producer->finish;
	$done++;
}

is($done, 3 * $kills, 'crashed as often as meant');
@recovery = sort { $a <=> $b } @recovery;
diag sprintf('time to the next commit: median %.1f s, longest %.1f s', $recovery[ @recovery / 2 ], $recovery[-1]);
ok($job->wait_for($node, $events), 'all events are taken');
is($job->differences($node, $chunk, 3 * $kills), '0', 'nothing lost, nothing twice');
is($node->safe_psql('postgres', 'SELECT late_rows FROM streamext.views'), '0', 'no row was late');
is($job->gaps($node), '0', 'batch ids have no gap');
is($node->safe_psql('postgres', 'SELECT count(*) FROM streamext.dead_letters'), '0', 'no record was left out');

$node->stop;
done_testing();
