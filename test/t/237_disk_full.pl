# A full disk: the tablespace of a state table (53100), and pg_wal, which is a PANIC that
# the server comes back from.  With room again everything goes on, nothing is lost and
# nothing is there twice.  The disks are small file systems in a mount namespace of our
# own; where that is not permitted the test is skipped.
#
# faults: P6

use strict;
use warnings;

# This very test again, with the right to mount: before the test's output is set up.
BEGIN
{
	if (!$ENV{SX_IN_NAMESPACE})
	{
		my @unshare = ('unshare', '--user', '--map-current-user', '--keep-caps', '--mount');
		if (system("@unshare mount -t tmpfs -o size=1m tmpfs /mnt >/dev/null 2>&1") != 0)
		{
			print "1..0 # SKIP mounting is not permitted here\n";
			exit 0;
		}
		$ENV{SX_IN_NAMESPACE} = 1;
		exec(@unshare, $^X, $0) or die "cannot run unshare: $!";
	}
}

use File::Basename qw(dirname);
use lib dirname(__FILE__);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxFault;
use Test::More;

my $base = PostgreSQL::Test::Utils::tempdir();
sub small_disk
{
	my ($name, $megabytes) = @_;
	mkdir "$base/$name" or die;
	system_or_bail('mount', '-t', 'tmpfs', '-o', "size=${megabytes}m,mode=0700", 'tmpfs', "$base/$name");
	return "$base/$name";
}

my $node = PostgreSQL::Test::Cluster->new('full');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'streamext'
max_worker_processes = 16
restart_after_crash = on
max_wal_size = '64MB'
min_wal_size = '32MB'
wal_recycle = off
CONF
$node->start;
my $tables = small_disk('tables', 16);
my $input = "$base/input";
mkdir $input or die;
$node->safe_psql('postgres', qq{CREATE TABLESPACE small LOCATION '$tables'});
$node->safe_psql('postgres', qq{
	CREATE EXTENSION streamext;
	CREATE STREAM lines (id bigint, pad text) WITH (connector = 'file', path = '$input', format = 'json', max_files_per_batch = 2);
	CREATE TABLE kept (id bigint, pad text) TABLESPACE small;
	CREATE STREAM keep WITH (connector = 'table', table = 'kept') AS SELECT id, repeat(md5(id::text), 20) AS pad FROM lines;
	CREATE MATERIALIZED VIEW sums AS SELECT id % 100 AS k, count(*) AS n, sum(id) AS s FROM lines GROUP BY 1;});

my $lines = 0;
sub write_files
{
	for (1 .. shift)
	{
		open(my $file, '>', "$input/.part") or die;
		print $file map { '{"id": ' . $lines++ . "}\n" } 1 .. 500;
		close $file;
		rename "$input/.part", "$input/f$lines.json";
	}
	return;
}

sub becomes
{
	my ($query, $expected, $name) = @_;
	ok($node->poll_query_until('postgres', $query, $expected), $name)
	  or diag $node->safe_psql('postgres', 'SELECT pipeline, state, pid, status, error_message FROM streamext.pipelines');
	return;
}

my ($lost, $twice);
sub exact
{
	my ($name) = @_;
	becomes("SELECT count(DISTINCT id) >= $lines FROM kept", 't', "$name: it goes on, and everything arrives");
	($lost, $twice) = split /\|/, $node->safe_psql('postgres', "SELECT $lines - count(DISTINCT id), count(*) - count(DISTINCT id) FROM kept");
	is("$lost $twice", '0 0', "$name: nothing is lost, nothing is there twice");
	is($node->safe_psql('postgres', qq{SELECT count(*) FROM (SELECT i % 100 AS k, count(*) AS n, sum(i) AS s
		FROM generate_series(0, $lines - 1) i GROUP BY 1 EXCEPT TABLE sums) d}), '0', "$name: the view equals the batch query");
	return;
}

my $rounds = scale(1, 5);
for my $round (1 .. $rounds)
{
	# ------------------------------------------------------------ tablespace
	write_files(4);
	exact("round $round, before");
	write_files(90);
	becomes(q{SELECT state || ' ' || error_sqlstate FROM streamext.pipelines}, 'running 53100', "round $round: a full disk is tried again");
	like($node->safe_psql('postgres', 'SELECT error_message FROM streamext.pipelines'), qr/No space left/, "round $round: ... and the status says so");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM streamext.dead_letters'), '0', "round $round: no record is blamed");
	system_or_bail('mount', '-o', 'remount,size=' . (16 + 36 * $round) . 'm', $tables);
	exact("round $round, tablespace");
	fault_row(row => 'P6', what => 'disk of a sink table full (53100)', tried => $rounds, lost => $lost, duplicated => $twice) if $round == $rounds;
}

# ---------------------------------------------------------------- pg_wal
system_or_bail('mount', '-o', 'remount,size=600m', $tables);
$node->stop;
my $wal = small_disk('wal', 96);
system_or_bail('sh', '-c', "mv '" . $node->data_dir . "'/pg_wal/* '$wal/' && rmdir '" . $node->data_dir . "'/pg_wal && ln -s '$wal' '" . $node->data_dir . "'/pg_wal");
$node->start;
write_files(4);
exact('pg_wal moved');
for my $round (1 .. $rounds)
{
	# Somebody else's file takes the room; then the batches need more than is left.
	system('sh', '-c', "head -c 200000000 /dev/zero > '$wal/ballast' 2>/dev/null");
	write_files(60);
	my $log_at = -s $node->logfile;
	ok($node->wait_for_log(qr/PANIC:.*No space left|FATAL:.*No space left/, $round == 1 ? 0 : $log_at), "pg_wal full $round: the server goes down");
	unlink "$wal/ballast";

	# It restarts by itself, or was shut down when recovery found no room either.
	for (1 .. 600)
	{
		last if $node->psql('postgres', 'SELECT 1') == 0;
		if (!-e $node->data_dir . '/postmaster.pid')
		{
			$node->{_pid} = undef;
			$node->start(fail_ok => 1);
		}
		select(undef, undef, undef, 0.5);
	}
	exact("pg_wal full $round");
}
fault_row(row => 'P6', what => 'pg_wal full (PANIC)', tried => $rounds, lost => $lost, duplicated => $twice);

$node->stop;
system('umount', '-l', $tables, $wal);
done_testing();
