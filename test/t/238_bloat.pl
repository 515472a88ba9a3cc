# What a pipeline at its highest rate leaves behind: state tables stay near the size of
# what is alive in them, updates are HOT, the history of batches is pruned.  An old snapshot
# of somebody else makes tables grow, as any table, and they stop growing when it ends.
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
use Time::HiRes qw(time);

my $seconds = scale(6, 120);
my $node = PostgreSQL::Test::Cluster->new('bloat');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'streamext'
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

sub wait_for_seconds
{
	my $end = time + shift;
	$node->poll_query_until('postgres', "SELECT clock_timestamp() >= to_timestamp($end)");
	return;
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
	my ($what, $limit) = @_;
	$node->safe_psql('postgres', 'SELECT pg_stat_reset()');
	my $batches = $node->safe_psql('postgres', 'SELECT batch_id FROM streamext.pipelines');
	wait_for_seconds($seconds);
	wait_for_batches(50, 'ticks');
	$batches = $node->safe_psql('postgres', 'SELECT batch_id FROM streamext.pipelines') - $batches;
	for my $table (@tables, 'streamext.progress', 'streamext.step_progress')
	{
		my ($size, $live, $hot, $updates) = split /\|/, $node->safe_psql('postgres', qq{
			CREATE TABLE live AS SELECT * FROM $table;
			SELECT pg_relation_size('$table'), pg_relation_size('live'), round(100.0 * n_tup_hot_upd / greatest(n_tup_upd, 1), 1), n_tup_upd
			FROM pg_stat_all_tables WHERE relid = '$table'::regclass;
			DROP TABLE live;});
		my $note = sprintf('%d kB, of which live %d kB; HOT %s %% of %d updates; %d batches in %d s', $size / 1024, $live / 1024, $hot, $updates, $batches, $seconds);
		note "$what, $table: $note";
		fault_row(row => 'P4', what => "$table, $what", tried => 1, note => $note);
		next if !$limit;
		# Each batch writes every row anew, and whatever has a snapshot for the length of some
		# batches (autovacuum's ANALYZE, the statement above) keeps as many versions of them.
		# Without HOT, or beside an open snapshot, it is sixty times what lives.
		cmp_ok($size, '<=', 10 * $live + 128 * 1024, "$what: $table stays small");
		cmp_ok($hot, '>=', 90, "$what: its updates are HOT");
	}
	return;
}

wait_for_seconds(2);
wait_for_batches(20, 'ticks');
measure('at the highest rate', 1);

my $reader = $node->background_psql('postgres');
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
measure('beside an open snapshot', 0);
$reader->quit;

# Room is used again, or given back: no more growth.
my $total = 'SELECT sum(pg_relation_size(state_table)) FROM streamext.views';
$node->safe_psql('postgres', "VACUUM $_") foreach @tables;
my $before = $node->safe_psql('postgres', $total);
wait_for_seconds($seconds);
# the room that they need without a snapshot is theirs, had it let them grow little
my $room = 0;
foreach my $table (@tables)
{
	$room += 10 * $node->safe_psql('postgres', "CREATE TABLE live AS SELECT * FROM $table; SELECT pg_relation_size('live')") + 128 * 1024;
	$node->safe_psql('postgres', 'DROP TABLE live');
}
cmp_ok($node->safe_psql('postgres', $total), '<=', $before * 1.1 > $room ? $before * 1.1 : $room, 'when the snapshot has gone the tables grow no more');

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
