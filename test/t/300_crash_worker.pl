# faults: E1
#
# SIGKILL of the worker at random moments, again and again, while files keep coming.  The
# postmaster answers each with a crash restart of the whole server, so this is also the
# restart of everything else that streamext runs.
#
# 301_kafka_crash_worker.pl does the same with Kafka.

use strict;
use warnings;
use File::Basename qw(dirname);
use lib dirname(__FILE__);
use SxCrash;
use SxFault;
use Test::More;

my $kills = scale(6, 100);

fault_seed();
my $job = SxCrash->new(name => 'crash_worker');
$job->kill_workers($kills, scale(6_000, 100_000));
$job->wait_for_all;
my %figures = $job->check('files');
my @times = $job->recovery_times;
cmp_ok($times[-1], '<', scale(60, 10), 'the next commit comes within ' . scale(60, 10) . ' s');
fault_row(row => 'E1', what => 'worker killed, files', tried => $kills, %figures,
	recovery => $job->recovery, note => $job->load_note);

$job->{node}->stop;
done_testing();
