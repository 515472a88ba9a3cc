# faults: E9
#
# The worker is killed again and again, as in 300_crash_worker.pl, while a CHECKPOINT is
# asked for every 100 ms: each crash finds another place to start recovery from.

use strict;
use warnings;
use File::Basename qw(dirname);
use lib dirname(__FILE__);
use IPC::Run qw(start);
use SxCrash;
use SxFault;
use Test::More;

my $kills = scale(3, 100);

fault_seed();
my $job = SxCrash->new(name => 'checkpoint_storm', batch => 40);
my $node = $job->{node};
my $psql = sprintf 'psql -XAtq -h %s -p %d -d postgres -c CHECKPOINT', $node->host, $node->port;
my $storm = start([ 'sh', '-c', "while :; do $psql; sleep 0.1; done" ], '<', \undef, '>', '/dev/null', '2>', '/dev/null');
$job->kill_workers($kills, scale(3_000, 100_000));
$storm->kill_kill;
$job->wait_for_all;
my %figures = $job->check('checkpoints');
my $checkpoints = $job->log_lines(qr/checkpoint starting: immediate force wait/);
cmp_ok($checkpoints, '>=', scale(1, $kills), "$checkpoints checkpoints");
fault_row(row => 'E9', what => 'worker killed in a storm of checkpoints', tried => $kills, %figures,
	recovery => $job->recovery, note => $job->load_note . "; $checkpoints checkpoints");

$node->stop;
done_testing();
