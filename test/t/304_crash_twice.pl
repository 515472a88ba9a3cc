# faults: E5
#
# The double fault: a second crash while the first is being recovered from.  In turn it hits
# the server's recovery (kill -9 of all processes while the WAL is replayed) and streamext's
# own (SIGKILL of the worker that has just been started, before or during its first batch).

use strict;
use warnings;
use File::Basename qw(dirname);
use lib dirname(__FILE__);
use PostgreSQL::Test::Utils;
use SxCrash;
use SxFault;
use Test::More;

my $tries = scale(4, 20);
my $records = scale(4_000, 20_000);
my ($server, $worker, $in_recovery) = (0, 0, 0);

fault_seed();
my $job = SxCrash->new(name => 'crash_twice', conf => { checkpoint_timeout => "'1h'", max_wal_size => "'1GB'" });
$job->value('CREATE TABLE ballast (id bigint PRIMARY KEY)');

# How far has the server come that is starting, by what it logged since then?
sub recovery_begun { return slurp_file($job->{node}->logfile, $_[0]) =~ /redo starts/ }
sub recovery_done { return slurp_file($job->{node}->logfile, $_[0]) =~ /ready to accept connections/ }

# With enough in the WAL that recovery takes a while.  Did the second crash come too late, then
# at once after the beginning of the redo, and with twice as much to replay.
sub crash_in_recovery
{
	my $ballast = 150_000;
	my $within = 0;
	for my $attempt (0 .. 4)
	{
		$job->value("TRUNCATE ballast; INSERT INTO ballast SELECT generate_series(1, $ballast)");
		$job->kill_all;
		my $log_start = -s $job->{node}->logfile;
		$job->begin_start;
		$job->until_some('recovery', sub { recovery_begun($log_start) || recovery_done($log_start) });
		$job->random_moment(0.15) if $attempt == 0;
		$job->kill_all;
		$within = !recovery_done($log_start);
		$job->start;
		last if $within;
		$ballast *= 2;
	}
	$server++;
	$in_recovery++ if $within;
	return;
}

sub crash_new_worker
{
	my $pid = $job->worker;
	$job->kill_worker($pid);
	$pid = $job->worker($pid);
	$job->random_moment(0.02);
	$worker += $job->kill_worker($pid);
	$job->worker($pid);
	return;
}

for my $i (1 .. $tries)
{
	$job->publish($records / $tries);
	$job->worker;
	$job->random_moment(0.3);
	if ($i % 2) { crash_in_recovery() } else { crash_new_worker() }
}
is($server + $worker, $tries, "crashed twice $tries times");
is($in_recovery, $server, "the $server second crashes of the server came during recovery");
$job->wait_for_all;
my %figures = $job->check('double fault');
fault_row(row => 'E5', what => 'crash during recovery', tried => $tries, %figures, recovery => $job->recovery,
	note => $job->load_note . "; $in_recovery while the WAL was replayed, $worker of a worker just started");

$job->{node}->stop;
done_testing();
