# A standby takes over under load, with a file source that both servers can read: a
# synchronous one, and an asynchronous one that is behind by what the primary could not
# send any more.  Positions and rows are in the same WAL, so what is lost of both is read
# again: nothing is missing and nothing is there twice.
#
# faults: E6

use strict;
use warnings;
use File::Basename qw(dirname);
use lib dirname(__FILE__);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxFault;
use Test::More;
use Time::HiRes qw(time usleep);

fault_seed();
my $rounds = scale(1, 5);
my $files = scale(150, 400);
my $lines = 200;

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'streamext'
max_worker_processes = 16
CONF
$primary->start;
$primary->backup('base');
my $number = 0;

# Files appear by renaming, each with its own lines: {"id": …, "k": …}.
sub write_file
{
	my ($folder, $n) = @_;
	open(my $file, '>', "$folder/.part") or die;
	print $file map { my $id = $n * $lines + $_; qq({"id": $id, "k": ) . ($id % 50) . "}\n" } 0 .. $lines - 1;
	close $file;
	rename "$folder/.part", "$folder/f$n.json";
	return;
}

sub failover
{
	my ($mode) = @_;
	my $name = $mode . ++$number;
	my $folder = PostgreSQL::Test::Utils::tempdir();
	my $old = PostgreSQL::Test::Cluster->new("p$name");
	my $new = PostgreSQL::Test::Cluster->new("s$name");

	$old->init_from_backup($primary, 'base');
	$old->append_conf('postgresql.conf', 'synchronous_commit = on');
	$old->start;
	$old->backup('own');
	$new->init_from_backup($old, 'own', has_streaming => 1);
	$new->append_conf('postgresql.conf', "primary_conninfo = '" . $old->connstr . " application_name=standby'");
	$new->start;
	if ($mode eq 'sync')
	{
		$old->append_conf('postgresql.conf', "synchronous_standby_names = 'standby'");
		$old->reload;
	}
	$old->poll_query_until('postgres', "SELECT state = 'streaming' FROM pg_stat_replication") or die;
	$old->safe_psql('postgres', qq{
		CREATE EXTENSION streamext;
		CREATE STREAM lines (id bigint, k int) WITH (connector = 'file', path = '$folder', format = 'json',
			max_files_per_batch = 3);
		CREATE TABLE kept (id bigint, batch bigint);
		CREATE STREAM keep WITH (connector = 'table', table = 'kept') AS SELECT id, streamext.batch_id() AS batch FROM lines;
		CREATE MATERIALIZED VIEW sums AS SELECT k, count(*) AS n, sum(id) AS s FROM lines GROUP BY k;});

	# Half of the files before the primary dies, the others while and after it does.
	my $written = 0;
	my $die_at = int($files / 2) + int(rand($files / 4));
	my $walsender;
	while ($written < $die_at)
	{
		write_file($folder, $written++);
		usleep(8_000);
		next if $mode eq 'sync' || $written != int($files / 4);

		# From here on nothing reaches the standby.
		$old->poll_query_until('postgres', 'SELECT count(*) > 0 FROM kept') or die;
		$walsender = $old->safe_psql('postgres', 'SELECT pid FROM pg_stat_replication');
		kill 'STOP', $walsender;
	}
	$old->poll_query_until('postgres', 'SELECT batch_id > 20 FROM streamext.pipelines');
	my $before = $old->safe_psql('postgres', 'SELECT batch_id FROM streamext.pipelines');
	$old->stop('immediate', fail_ok => 1);
	kill 'CONT', $walsender if $walsender;

	$new->poll_query_until('postgres', 'SELECT count(*) > 0 FROM pg_stat_wal_receiver', 'f') or die;
	# What was received may end within a record: promotion replays what is whole.
	my $fell = time;
	$new->promote;
	my $at = $new->safe_psql('postgres', "SELECT coalesce(max(batch_id), 0) FROM streamext.batches WHERE started_at < to_timestamp($fell)");
	write_file($folder, $written++) while $written < $files;
	$new->poll_query_until('postgres', "SELECT batch_id > $at FROM streamext.pipelines");
	my $took = time - $fell;
	my $all = $files * $lines;
	ok($new->poll_query_until('postgres', "SELECT count(DISTINCT id) >= $all FROM kept"), "$name: every line arrives");

	my ($lost, $twice) = split /\|/, $new->safe_psql('postgres',
		"SELECT $all - count(DISTINCT id), count(*) - count(DISTINCT id) FROM kept");
	is($lost, 0, "$name: nothing is lost");
	is($twice, 0, "$name: nothing is there twice");
	is($new->safe_psql('postgres', qq{
		SELECT count(*) FROM (SELECT i % 50 AS k, count(*) AS n, sum(i) AS s FROM generate_series(0, $all - 1) i GROUP BY 1
			EXCEPT TABLE sums) d}), 0, "$name: the view equals the batch query");
	is($new->safe_psql('postgres', 'SELECT max(batch_id) - min(batch_id) + 1 - count(*) FROM streamext.batches'), 0,
		"$name: batch ids have no gap");
	if ($mode eq 'sync')
	{
		note "primary was at batch $before, standby began at $at";
	}
	else
	{
		cmp_ok($at, '<', $before, "$name: the standby really was behind");
	}
	$new->stop('fast');
	$_->clean_node foreach ($old, $new);
	return ($lost, $twice, $took, $before - $at);
}

for my $mode ('sync', 'async')
{
	my ($lost, $twice, @took, $behind) = (0, 0);
	for (1 .. $rounds)
	{
		my ($l, $t, $s, $b) = failover($mode);
		$lost += $l;
		$twice += $t;
		push @took, $s;
		$behind += $b;
	}
	@took = sort { $a <=> $b } @took;
	fault_row(row => 'E6', what => "standby promoted under load, $mode", tried => $rounds, lost => $lost, duplicated => $twice,
		recovery => sprintf('%.1f s (most %.1f s)', $took[ $#took / 2 ], $took[-1]),
		note => $mode eq 'async' ? "$behind batches were lost with the primary and run again" : '');
}
$primary->stop;
done_testing();
