# faults: E3
#
# pg_ctl stop -m immediate at random moments under load, and start: recovery from the WAL.

use strict;
use warnings;
use File::Basename qw(dirname);
use lib dirname(__FILE__);
use SxCrash;
use SxFault;
use Test::More;

my $stops = scale(3, 50);
my $records = scale(3_000, 50_000);

fault_seed();
my $job = SxCrash->new(name => 'crash_immediate', batch => 10);	# so that there is work at any moment
for (1 .. $stops)
{
	$job->publish($records / $stops);
	$job->worker;
	$job->random_moment(0.3);
	$job->stop_immediately;
	$job->start;
}
$job->wait_for_all;
my %figures = $job->check('immediate');
fault_row(row => 'E3', what => 'pg_ctl stop -m immediate', tried => $stops, %figures, recovery => $job->recovery,
	note => $job->load_note . sprintf('; %d batches taken back and run again', $job->batches_taken_back));

$job->{node}->stop;
done_testing();
