# faults: E7
#
# Two workers of one pipeline.  The worker is stopped (SIGSTOP) at a random moment, the
# server is made to believe that it is gone (two_workers.c), and the scheduler starts another
# one.  Then the old one goes on (SIGCONT), with the records and positions that it has in
# memory.
#
#	stopped between two batches		the new one goes on; the old one's next batch finds
#									another epoch, commits nothing, and it leaves
#	stopped within a batch			the new one waits for the lock of the progress row;
#									the old one commits this batch and then is fenced
#
# A worker that is stopped while it holds something that the whole server needs for a moment
# is let go on and stopped again.

use strict;
use warnings;
use File::Basename qw(dirname);
use lib dirname(__FILE__);
use IPC::Run qw(run);
use PostgreSQL::Test::Utils;
use SxCrash;
use SxFault;
use Test::More;
use Time::HiRes qw(sleep time);

my $tries = scale(4, 50);
my $records = scale(8_000, 100_000);
my $library = PostgreSQL::Test::Utils::tempdir() . '/two_workers.so';
my $config = $ENV{PG_CONFIG} // 'pg_config';

run([ 'sh', '-c', "cc -O1 -shared -fPIC -o '$library' -I\$($config --includedir-server) -I../src two_workers.c" ])
  or BAIL_OUT('cannot build two_workers.c');

fault_seed();
my $job = SxCrash->new(name => 'two_workers', batch => 20, conf => { log_min_messages => 'debug1' });
$job->value("CREATE FUNCTION hide_worker(integer, bigint) RETURNS boolean AS '$library' LANGUAGE C");
my $size = $job->value(q(SELECT size FROM pg_shmem_allocations WHERE name = 'streamext'));
my ($between, $within, $again) = (0, 0, 0);

# Stops the worker where others can go on; gives its pid.
sub stop_worker
{
	while (1)
	{
		my $pid = $job->worker;
		$job->random_moment(0.1);
		kill('STOP', $pid) or next;
		return $pid if $job->answer("SELECT hide_worker($pid, $size)", 5) eq 't';
		kill('CONT', $pid);
		$again++;
	}
}

# What of the two it is, by what the new worker does: commits something behind the given
# batch, or waits for a lock.
sub see_what_happens
{
	my ($new, $before) = @_;
	my $what = $job->until_some('the new worker', sub {
		$job->answer(qq{
			SELECT CASE WHEN wait_event_type = 'Lock' THEN 'within'
				WHEN (SELECT batch_id FROM streamext.pipelines) > $before THEN 'between' END
			FROM pg_stat_activity WHERE pid = $new});
	});
	$what eq 'within' ? $within++ : $between++;
	return;
}

sub gone { my ($pid) = @_; return $job->until_some('the end of the old worker', sub { !kill(0, $pid) }) }

for my $i (1 .. $tries)
{
	my $before = $job->value('SELECT batch_id FROM streamext.pipelines');
	$job->publish($records / $tries / 2);
	$job->until_some('a batch', sub { $job->value('SELECT batch_id FROM streamext.pipelines') > $before });
	my $old = stop_worker();
	my $new = $job->worker($old);
	my $seen = $job->value('SELECT batch_id FROM streamext.pipelines');
	$job->publish($records / $tries / 4);	# it has something to commit that is behind what was seen
	see_what_happens($new, $seen);
	kill('CONT', $old);
	$job->publish($records / $tries / 4);
	gone($old);
}
is($between + $within, $tries, "two workers, $tries times");
$job->wait_for_all;
my %figures = $job->check('two workers');
my $fenced = $job->log_lines(qr/has another holder/);
is($fenced, $tries, 'the old one was fenced each time');
is($job->log_lines(qr/terminated by signal/), 0, 'nobody crashed');
fault_row(row => 'E7', what => 'two workers of one pipeline', tried => $tries, %figures,
	note => "$job->{sent} records; $fenced old workers fenced; stopped between batches $between, within a batch $within, within a critical section $again (again)");

$job->{node}->stop;
done_testing();
