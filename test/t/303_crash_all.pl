# faults: E4
#
# kill -9 of the postmaster and all of its processes at one moment, with batches that commit
# asynchronously, which is the default, and synchronously.  What was committed asynchronously
# may be taken back, together with the positions: it is read again.

use strict;
use warnings;
use File::Basename qw(dirname);
use lib dirname(__FILE__);
use SxCrash;
use SxFault;
use Test::More;

my $kills = scale(3, 20);
my $records = scale(3_000, 20_000);

fault_seed();
foreach my $sync (qw(off on))
{
	my $job = SxCrash->new(name => "crash_all_$sync", batch => 10, options => { synchronous_commit => $sync });
	my $done = 0;
	for (1 .. $kills)
	{
		$job->publish($records / $kills);
		$job->worker;
		$job->random_moment(0.3);
		$done += $job->kill_all;
		$job->start;
	}
	is($done, $kills, "synchronous_commit $sync: everything was killed $kills times");
	$job->wait_for_all;
	my %figures = $job->check("synchronous_commit $sync");
	my $back = $job->batches_taken_back;
	is($back, '0', 'what was committed synchronously stays') if $sync eq 'on';
	fault_row(row => 'E4', what => "kill -9 of all, synchronous_commit $sync", tried => $kills, %figures,
		recovery => $job->recovery, note => $job->load_note . "; $back batches taken back and run again");
	$job->{node}->stop;
}
done_testing();
