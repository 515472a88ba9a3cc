# What a pipeline at its highest rate leaves behind: state tables stay near the size of
# what is alive in them, updates are HOT, the history of batches is pruned.  An old snapshot
# of somebody else makes tables grow, as any table; when it has ended they become small again.
#
# faults: P4

use strict;
use warnings;
use File::Basename qw(dirname);
use lib dirname(__FILE__);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxFault;
use Test::More;
use Time::HiRes qw(time usleep);

my $seconds = scale(6, 600);
my $node = PostgreSQL::Test::Cluster->new('bloat');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'streamext'
wal_level = logical
max_worker_processes = 16
streamext.batch_history = 100
CONF
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION streamext;
	CREATE STREAM ticks (value bigint, "timestamp" timestamptz) WITH (connector = 'rate', rows_per_second = 1000000, max_batch_rows = 10000);
	CREATE MATERIALIZED VIEW sums AS SELECT value % 10000 AS k, count(*) AS n, max(value) AS last FROM ticks GROUP BY 1;
	CREATE FUNCTION keep_sum(state bigint, k bigint, value bigint[]) RETURNS bigint LANGUAGE sql
		AS 'SELECT coalesce(state, 0) + (SELECT sum(v)::bigint FROM unnest(value) v)';
	CREATE STREAM kept WITH (update_state = 'keep_sum', key = 'k', changed_only = true) AS SELECT value % 500 AS k, value FROM ticks;
	CREATE STREAM away WITH (connector = 'null') AS SELECT * FROM kept;});
$node->poll_query_until('postgres', 'SELECT count(*) = 10000 FROM sums') or BAIL_OUT('the job does not run');
my @tables = split /\n/, $node->safe_psql('postgres', q{SELECT state_table FROM streamext.views WHERE state_table IS NOT NULL ORDER BY 1});
is(scalar @tables, 2, 'two state tables');
like($node->safe_psql('postgres', "SELECT reloptions FROM pg_class WHERE oid = '$_'::regclass"), qr/fillfactor.*autovacuum_vacuum_scale_factor/,
	"$_ is made for updates") foreach @tables;

my %file = map { $_ => $node->data_dir . '/' . $node->safe_psql('postgres', "SELECT pg_relation_filepath('$_')") }
	@tables, 'streamext.progress', 'streamext.step_progress';

# What lives in a table, as a table of its own.
sub live_size
{
	my ($table) = @_;
	my $size = $node->safe_psql('postgres', "CREATE TABLE live AS SELECT * FROM $table; SELECT pg_relation_size('live')");
	$node->safe_psql('postgres', 'DROP TABLE live');
	return $size;
}

# The limit of the plan, and for small tables some pages.
my $limit = 3;
sub allowed { return ($_[1] // $limit) * live_size($_[0]) + 128 * 1024 }

# In a slice of a few seconds autovacuum may come by once, whose ANALYZE has snapshots, but not again.
my $limit_at_rate = scale(10, $limit);

# The sizes of the files, ten times a second.  The server is not asked: each session has a
# snapshot, and so keeps as many versions of a row as there are batches in its life.
sub watch_files
{
	my ($seconds) = @_;
	my %sizes;
	my $end = time + $seconds;
	while (time < $end)
	{
		push @{ $sizes{$_} }, -s $file{$_} foreach keys %file;
		usleep(100_000);
	}
	return map { my @sorted = sort { $a <=> $b } @{ $sizes{$_} }; $_ => { median => $sorted[@sorted / 2], most => $sorted[-1] } } keys %sizes;
}

# So many batches, however long they take.
sub wait_for_batches
{
	my ($n, $pipeline) = @_;
	my $from = $node->safe_psql('postgres', "SELECT batch_id FROM streamext.pipelines WHERE pipeline = '$pipeline'");
	$node->poll_query_until('postgres', "SELECT batch_id >= $from + $n FROM streamext.pipelines WHERE pipeline = '$pipeline'") or BAIL_OUT('no batches');
	return;
}

sub measure
{
	my ($what, $is_limited) = @_;
	$node->safe_psql('postgres', 'SELECT pg_stat_reset()');
	my $batches = $node->safe_psql('postgres', 'SELECT batch_id FROM streamext.pipelines');
	my %size = watch_files($seconds);
	wait_for_batches(50, 'ticks');
	$batches = $node->safe_psql('postgres', 'SELECT batch_id FROM streamext.pipelines') - $batches;
	for my $table (sort keys %file)
	{
		my ($hot, $updates) = split /\|/, $node->safe_psql('postgres', qq{
			SELECT round(100.0 * n_tup_hot_upd / greatest(n_tup_upd, 1), 1), n_tup_upd FROM pg_stat_all_tables WHERE relid = '$table'::regclass});
		my $note = sprintf('%d kB (most %d), of which live %d kB; HOT %s %% of %d updates; %d batches in %d s', $size{$table}{median} / 1024,
			$size{$table}{most} / 1024, live_size($table) / 1024, $hot, $updates, $batches, $seconds);
		note "$what, $table: $note";
		fault_row(row => 'P4', what => "$table, $what", tried => 1, note => $note);
		next if !$is_limited;
		cmp_ok($size{$table}{median}, '<=', allowed($table, $limit_at_rate), "$what: $table stays small");
		cmp_ok($hot, '>=', 90, "$what: its updates are HOT");
	}
	return;
}

# VACUUM, as autovacuum does it once a minute, until the tables are as small as they ought to
# be.  Nothing else helps but the batches that go on.  Gives the seconds that it took.
sub becomes_small
{
	my ($name, @which) = @_;
	my $began = time;
	my $left = 180;
	my %allowed = map { $_ => allowed($_) } @which;
	while ((my @big = grep { -s $file{$_} > $allowed{$_} } @which) && time < $began + $left)
	{
		$node->safe_psql('postgres', "VACUUM $_") foreach @big;
	}
	my $took = time - $began;
	cmp_ok($took, '<', $left, $name);
	return $took;
}

# Sessions of this test have left their mark.
wait_for_batches(100, 'ticks');
becomes_small('state tables are small to begin with', @tables);
measure('at the highest rate', 1);

my $reader = $node->background_psql('postgres');
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
measure('beside an open snapshot', 0);
cmp_ok(-s $file{$_}, '>', allowed($_), "beside a snapshot $_ is large") foreach @tables;
# (its clock ran out meanwhile)
$reader->set_query_timer_restart;
$reader->query_safe('COMMIT');
$reader->quit;
my $took = becomes_small('when the snapshot has gone, tables become small again', @tables);
fault_row(row => 'P4', what => 'state tables, when the snapshot has gone', tried => 1, recovery => sprintf('%.1f s', $took), note => 'at most three times what lives');

is($node->safe_psql('postgres', 'SELECT sum(n) = max(last) + 1 FROM sums'), 't', 'nothing lost, nothing twice');

# Many small batches: their history is pruned.
$node->safe_psql('postgres', q{
	SELECT streamext.pause('ticks');
	CREATE STREAM small (value bigint, "timestamp" timestamptz) WITH (connector = 'rate', rows_per_second = 5000, max_batch_rows = 10);
	CREATE MATERIALIZED VIEW n_small AS SELECT count(*) AS n FROM small;});
ok($node->poll_query_until('postgres', q{SELECT batch_id > 600 FROM streamext.pipelines WHERE pipeline = 'small'}), 'many batches');
cmp_ok($node->safe_psql('postgres', q{SELECT count(*) FROM streamext.batches WHERE pipeline = 'small'}), '<=', 100 + 256, 'old ones are pruned from the history');
is($node->safe_psql('postgres', q{SELECT max(batch_id) - min(batch_id) + 1 - count(*) FROM streamext.batches WHERE pipeline = 'small'}), '0', '... without a gap');

# One transaction id a batch.
my ($xids, $batches) = split /\|/, $node->safe_psql('postgres', q{SELECT pg_current_xact_id()::text::bigint, batch_id FROM streamext.pipelines WHERE pipeline = 'small'});
wait_for_batches(300, 'small');
my ($xids2, $batches2) = split /\|/, $node->safe_psql('postgres', q{SELECT pg_current_xact_id()::text::bigint, batch_id FROM streamext.pipelines WHERE pipeline = 'small'});
cmp_ok(($xids2 - $xids) / ($batches2 - $batches), '<', 1.3, 'a batch takes one transaction id');

$node->stop;
done_testing();
