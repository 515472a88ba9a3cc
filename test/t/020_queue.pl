# Queue streams under concurrency: eight sessions insert 100,000 rows in transactions
# that commit out of order, a third of the transactions is rolled back, others hold
# their rows for a while; batches run meanwhile, and the server crashes once.  Every
# committed row must have been counted, once.  Then: a long transaction delays its own
# rows only, prepared transactions, two pipelines, an idle queue that writes no WAL.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxQuiet;
use Test::More;

my $sessions = 8;
my $rows_per_session = 12_500;
my $seed = $ENV{SEED} // int(rand(1_000_000));
diag("seed $seed");

my $node = PostgreSQL::Test::Cluster->new('queue');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'streamext'
max_worker_processes = 16
max_prepared_transactions = 4
autovacuum = off
CONF
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE app');
$node->safe_psql('app', q(
	CREATE EXTENSION streamext;
	CREATE TABLE expected (id bigint);
	CREATE STREAM q (id bigint, what text) WITH (connector = 'queue', max_batch_rows = 700);
	CREATE MATERIALIZED VIEW got AS SELECT id, count(*) AS n FROM q GROUP BY id;));

sub becomes
{
	my ($query, $expected, $name) = @_;
	ok($node->poll_query_until('app', $query, $expected), $name);
}

# One session's transactions, as a script: sizes, order of ends and savepoints by chance.
sub session_script
{
	my ($session) = @_;
	my ($id, $left, $sql) = ($session * 1_000_000, $rows_per_session, '');
	while ($left > 0)
	{
		my $n = 1 + int(rand(200));
		$n = $left if $n > $left;
		my $last = $id + $n - 1;
		$sql .= "BEGIN;\nINSERT INTO q SELECT i, 'row ' || i FROM generate_series($id, $last) i;\n"
		  . "INSERT INTO expected SELECT generate_series($id, $last);\n";
		$sql .= "SAVEPOINT a;\nINSERT INTO q VALUES (-$id, 'gone');\nROLLBACK TO a;\n" if rand() < 0.3;
		$sql .= 'SELECT pg_sleep(' . rand(0.02) . ");\n" if rand() < 0.3;
		$sql .= rand() < 1 / 3 ? "ROLLBACK;\n" : "COMMIT;\n";
		$id += $n;
		$left -= $n;
	}
	return $sql;
}

sub start_sessions
{
	my @running;
	for my $s (@_)
	{
		my $file = PostgreSQL::Test::Utils::tempdir() . "/session_$s.sql";
		append_to_file($file, session_script($s));
		push @running,
		  IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('app'), '-f', $file ],
			'>', \my $out, '2>', \my $err);
	}
	return @running;
}

my $differences = q(
	SELECT count(*) FROM (SELECT id, count(*) AS n FROM expected GROUP BY id) e
	FULL JOIN got USING (id, n) WHERE e.n IS DISTINCT FROM got.n);

# ---------------------------------------------------------------- out of order
srand($seed);
$_->finish for start_sessions(1 .. $sessions);
ok($node->safe_psql('app', q(SELECT streamext.wait('q'))), 'wait() returns');
my $committed = $node->safe_psql('app', 'SELECT count(*) FROM expected');
cmp_ok($committed, '>', 0, "$committed rows were committed");
is($node->safe_psql('app', 'SELECT coalesce(sum(n), 0) FROM got'), $committed, 'as many were counted');
is($node->safe_psql('app', $differences), '0', 'each of them once');

# ---------------------------------------------------------------- with a crash
my @running = start_sessions(11 .. 14);
$node->poll_query_until('app', "SELECT count(*) > $committed FROM expected");
$node->stop('immediate');
eval { $_->finish } for @running;
$node->start;
$node->safe_psql('app', q(SELECT streamext.wait('q')));
becomes($differences, '0', 'after a crash, too, each committed row was counted once');

# ---------------------------------------------------------------- a long transaction
my $long = $node->background_psql('app');
$long->query_safe(q(BEGIN; INSERT INTO q VALUES (-1, 'long'); INSERT INTO expected VALUES (-1);));
$node->safe_psql('app', q(INSERT INTO q VALUES (-2, 'short'); INSERT INTO expected VALUES (-2);));
becomes('SELECT n FROM got WHERE id = -2', '1', 'a long transaction does not hold up the rows of others');
is($node->safe_psql('app', 'SELECT count(*) FROM got WHERE id = -1'), '0', 'its own are not there');
$long->query_safe('COMMIT');
becomes('SELECT n FROM got WHERE id = -1', '1', 'they come when it commits');
$long->quit;

# ---------------------------------------------------------------- two phases
$node->safe_psql('app', q(BEGIN; INSERT INTO q VALUES (-3, 'prepared'); PREPARE TRANSACTION 'p';));
$node->safe_psql('app', q(INSERT INTO q VALUES (-4, 'after')));
becomes('SELECT n FROM got WHERE id = -4', '1', 'nor does a prepared transaction');
is($node->safe_psql('app', 'SELECT count(*) FROM got WHERE id = -3'), '0', 'which is not there');
$node->safe_psql('app', q(COMMIT PREPARED 'p'));
becomes('SELECT n FROM got WHERE id = -3', '1', 'until it is committed');

# ---------------------------------------------------------------- trimming
# Every 1,000 rows or so: what is left is no more than a few batches' rows.
becomes('SELECT count(*) < 5000 FROM streamext_state.q_log', 't', 'processed rows leave the log');

# ---------------------------------------------------------------- idle
cmp_ok(idle_wal($node, 'app'), '<', 1000, 'an idle queue writes no WAL');
is( $node->safe_psql('app',
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'streamext worker' AND backend_xmin IS NOT NULL"),
	'0', 'and holds no snapshot');

$node->stop;
done_testing();
