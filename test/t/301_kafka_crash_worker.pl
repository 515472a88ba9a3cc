# faults: E1
#
# SIGKILL of the worker at random moments, again and again, while records keep coming into a
# topic with 4 partitions of a real Kafka.  Its helper program, which has read ahead, dies
# with it.

use strict;
use warnings;
use File::Basename qw(dirname);
use lib dirname(__FILE__);
use SxCrash;
use SxFault;
use Test::More;

plan skip_all => 'no Kafka' unless $ENV{KAFKA_PORT};

my $kills = scale(4, 100);

fault_seed();
my $job = SxCrash->new(name => 'crash_kafka', kafka => $ENV{KAFKA_PORT});
$job->kill_workers($kills, scale(4_000, 100_000));
$job->wait_for_all;
my %figures = $job->check('Kafka');
my @times = $job->recovery_times;
cmp_ok($times[-1], '<', scale(60, 10), 'the next commit comes within ' . scale(60, 10) . ' s');
fault_row(row => 'E1', what => 'worker killed, Kafka, 4 partitions', tried => $kills, %figures,
	recovery => $job->recovery, note => $job->load_note);

$job->{node}->stop;
done_testing();
