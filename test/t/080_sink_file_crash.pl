# Files of a sink hold each row exactly once, whatever is killed and when: the worker, the
# scheduler, which sends, or the whole server.  A file that was seen once does not change.
#
# Then what a sink in trouble does: errors are shown and tried again, after a restart
# too, other sinks go on, and a pipeline that is too far ahead waits.
#
#	SX_KILLS	crashes (default 10)
#	SX_BATCHES	batches (default 200), of 100 rows
#	SX_SEED		of the moments

use strict;
use warnings;

use Digest::MD5;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $kills = $ENV{SX_KILLS} // 10;
my $batches = $ENV{SX_BATCHES} // 200;
my $seed = $ENV{SX_SEED} // time() % 1_000_000;
my $rows = $batches * 100;
srand($seed);
diag sprintf('seed %d, %d crashes, %d batches', $seed, $kills, $batches);

my $dir = PostgreSQL::Test::Utils::tempdir() . '/out';
my $other = PostgreSQL::Test::Utils::tempdir() . '/other';
mkdir $_ or die "mkdir $_: $!" for $dir, $other;

my $node = PostgreSQL::Test::Cluster->new('sink');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'streamext'
max_worker_processes = 16
restart_after_crash = on
autovacuum = off
CONF
$node->start;

# true once the server answers
sub alive
{
	my ($rc) = eval { $node->psql('postgres', 'SELECT 1', on_error_stop => 0, timeout => 20) };
	return defined $rc && $rc == 0;
}

sub becomes
{
	my ($query, $name) = @_;
	ok($node->poll_query_until('postgres', $query), $name);
}

sub answer
{
	my ($query) = @_;
	my ($rc, $out) = eval { $node->psql('postgres', $query, timeout => 20) };
	return $out;
}

$node->safe_psql('postgres', qq(
	CREATE EXTENSION streamext;
	CREATE STREAM q (id bigint, body text) WITH (connector = 'queue', max_batch_rows = 100);
	CREATE STREAM files WITH (connector = 'file', path = '$dir', format = 'csv') AS
		SELECT streamext.batch_id() AS batch, id, body FROM q;
	CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM q;));

# ---------------------------------------------------------------- crashes
sub start_again
{
	for my $try (1 .. 50)
	{
		return 1 if $node->start(fail_ok => 1);
		$node->{_pid} = undef;    # a stale pid file is not a running server
		usleep(200_000);
	}
	return 0;
}

sub kill_process
{
	my ($type) = @_;
	my $pid = answer("SELECT pid FROM pg_stat_activity WHERE backend_type = 'streamext $type'");
	return 0 unless $pid;
	return kill('KILL', $pid);
}

my %crash = (
	worker => sub { kill_process('worker') },
	scheduler => sub { kill_process('scheduler') },
	immediate => sub { $node->stop('immediate'); return start_again() });
my @kinds = map { (qw(worker immediate scheduler))[ $_ % 3 ] } 0 .. $kills - 1;

my %seen;    # digest of each file when it was first seen
my $changed = 0;

sub look_at_files
{
	for my $file (glob "$dir/*")
	{
		my $digest = Digest::MD5::md5_hex(slurp_file($file));
		$changed++ if defined $seen{$file} && $seen{$file} ne $digest;
		$seen{$file} //= $digest;
	}
}

my ($done, $inserted) = (0, 0);
for my $kind (@kinds)
{
	my $to = int($rows * ($done + 1) / $kills);
	$node->safe_psql('postgres', sprintf(
		q(INSERT INTO q SELECT i, repeat('x', 40) FROM generate_series(%d, %d) i), $inserted + 1, $to));
	$inserted = $to;

	# some files more, then a random moment
	my $goal = scalar(keys %seen) + 1 + int(rand($batches / $kills / 2));
	my $until = time() + 10;
	look_at_files() while time() < $until && scalar(keys %seen) < $goal && !usleep(2000);
	usleep(int(rand(30_000)));
	my $tries = 0;
	until ($crash{$kind}->())
	{
		BAIL_OUT("cannot crash: $kind") if $tries++ > 400;
		usleep(50_000);
	}
	$until = time() + 4 * $PostgreSQL::Test::Utils::timeout_default;
	until (alive())
	{
		BAIL_OUT("the server did not come back after $kind") if time() > $until;
		usleep(100_000);
	}
	$done++;
}
is($done, $kills, 'crashed as often as meant');

becomes("SELECT n = $rows FROM counted", 'all rows are processed');
becomes('SELECT pending = 0 AND last_delivered = batch_id FROM streamext.outboxes, streamext.pipelines',
	'and all of them are sent');
look_at_files();
is($changed, 0, 'no file that was seen has changed');

opendir(my $handle, $dir) or die;
my @names = sort grep { !/^\.\.?$/ } readdir($handle);
closedir($handle);
is(join(' ', grep { /^\./ } @names), '', 'no temporary file remains');

my (%count, $wrong_batch);
for my $name (@names)
{
	my ($batch) = $name =~ /^batch-0*(\d+)\.csv$/ or next;
	for my $line (split /\n/, slurp_file("$dir/$name"))
	{
		my ($in, $id) = split /,/, $line;
		$wrong_batch++ if $in != $batch;
		$count{$id}++;
	}
}
is(scalar(grep { !$count{$_} } 1 .. $rows), 0, 'no row is lost');
is(scalar(grep { $_ != 1 } values %count), 0, 'no row is there twice');
is($wrong_batch, undef, 'each row is in the file of its batch');
is(scalar(@names), $node->safe_psql('postgres', 'SELECT batch_id FROM streamext.pipelines'), 'a file a batch');
cmp_ok(scalar(@names), '>=', $batches, scalar(@names) . ' batches');
is($node->safe_psql('postgres', 'SELECT count(*) FROM streamext.outbox'), '0', 'the outbox is empty');

# ---------------------------------------------------------------- leftovers
$node->stop('fast');
append_to_file("$dir/.batch-000000999999.csv.tmp", "half");
append_to_file("$dir/.batch-99.csv.tmp", "not one of ours");
append_to_file("$dir/.other-000000999999.csv.tmp", "not one of this sink");
$node->start;
$node->safe_psql('postgres', q(INSERT INTO q VALUES (0, 'one more')));
becomes("SELECT n = $rows + 1 FROM counted", 'one more batch');
becomes('SELECT pending = 0 FROM streamext.outboxes', 'is sent');
ok(!-e "$dir/.batch-000000999999.csv.tmp", 'what a killed sender left is removed');
ok(-e "$dir/.batch-99.csv.tmp" && -e "$dir/.other-000000999999.csv.tmp", 'other files are left alone');
unlink "$dir/.batch-99.csv.tmp", "$dir/.other-000000999999.csv.tmp";

# ---------------------------------------------------------------- a sink in trouble
$node->safe_psql('postgres', qq(
	CREATE STREAM others WITH (connector = 'file', path = '$other', backfill = 'off') AS SELECT id FROM q;));
my $log_start = -s $node->logfile;
rename $dir, "$dir.away" or die;
$node->safe_psql('postgres', q(INSERT INTO q VALUES (-1, 'trouble')));
becomes(q(SELECT failures >= 3 AND error_sqlstate = '58P01' AND pending > 0 AND retry_at > error_at
	FROM streamext.outboxes WHERE sink = 'files'::regclass), 'an error is shown, and it is tried again');
becomes(q(SELECT pending = 0 AND last_delivered IS NOT NULL FROM streamext.outboxes WHERE sink = 'others'::regclass),
	'another sink goes on');
my @lines = slurp_file($node->logfile, $log_start) =~ /(could not send batch.*)/g;
is(scalar(@lines), 1, 'the log tells it once');
like($lines[0], qr/batch \d+ of sink public\.files: could not create file .* No such file or directory/, 'with the reason');

$node->restart;
becomes(q(SELECT failures >= 4 FROM streamext.outboxes WHERE sink = 'files'::regclass), 'after a restart it is tried on');
rename "$dir.away", $dir or die;
becomes(q(SELECT pending = 0 AND failures = 0 AND error_message IS NULL FROM streamext.outboxes WHERE sink = 'files'::regclass),
	'once the directory is back, all is sent');
like(slurp_file((sort glob "$dir/*")[-1]), qr/,-1,trouble/, 'the row is there');

# ---------------------------------------------------------------- half dropped
# A DROP that is not committed yet holds the sink's rows; the sender does not wait for it.
rename $dir, "$dir.away" or die;
$node->safe_psql('postgres', q(INSERT INTO q VALUES (-2, 'kept')));
becomes(q(SELECT failures > 0 FROM streamext.outboxes WHERE sink = 'files'::regclass), 'a sink in trouble');
my $scheduler = q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'streamext scheduler');
my $pid = $node->safe_psql('postgres', $scheduler);
my $session = $node->background_psql('postgres');
$session->query_safe('BEGIN');
$session->query_safe('DROP STREAM files');
rename "$dir.away", $dir or die;
my $until = time() + 4 * $PostgreSQL::Test::Utils::timeout_default;
usleep(10_000) until slurp_file((sort glob "$dir/*")[-1]) =~ /,-2,kept/ or time() > $until;
$session->query_safe('ROLLBACK');
$session->quit;
becomes(q(SELECT pending = 0 AND failures = 0 FROM streamext.outboxes WHERE sink = 'files'::regclass),
	'a DROP that was rolled back leaves a sink that is sent');
like(slurp_file((sort glob "$dir/*")[-1]), qr/,-2,kept/, 'with the row that was waiting');
is($node->safe_psql('postgres', $scheduler), $pid, 'the scheduler went through it');

# ---------------------------------------------------------------- too far ahead
rename $dir, "$dir.away" or die;
$node->safe_psql('postgres', q(ALTER STREAM q OPTIONS (SET max_batch_rows '1')));
$node->safe_psql('postgres', q(INSERT INTO q SELECT -i, 'many' FROM generate_series(1000, 2299) i));
becomes(q(SELECT status LIKE 'sink public.files is behind: could not create file%' FROM streamext.pipelines), 'the pipeline waits');
my $pending = $node->safe_psql('postgres', q(SELECT pending FROM streamext.outboxes WHERE sink = 'files'::regclass));
cmp_ok($pending, '>', 1000, "$pending batches wait to be sent");
cmp_ok($pending, '<', 1010, 'and no more');
rename "$dir.away", $dir or die;
becomes(q(SELECT n = ) . ($rows + 3 + 1300) . q( FROM counted), 'once the sink has caught up the pipeline goes on');
becomes(q(SELECT bool_and(pending = 0 AND failures = 0) FROM streamext.outboxes), 'and all is sent');
becomes(q(SELECT status IS NULL FROM streamext.pipelines), 'and says so no more');

$node->stop;
done_testing();
