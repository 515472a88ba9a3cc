# The connector 'table' with a worker: several sessions insert into a table, in
# transactions that commit out of order, some rolled back and some prepared, while the
# server crashes once.  Every committed row must have come exactly once, and two streams
# over one table see the same.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $sessions = 4;
my $rows_per_session = 5_000;
my $seed = $ENV{SEED} // int(rand(1_000_000));
diag("seed $seed");
srand($seed);

my $node = PostgreSQL::Test::Cluster->new('table');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'streamext'
max_prepared_transactions = 20
CONF
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE app');
$node->safe_psql('app', q(
	CREATE EXTENSION streamext;
	CREATE TABLE orders (id int, what text) PARTITION BY HASH (id);
	CREATE TABLE orders_0 PARTITION OF orders FOR VALUES WITH (MODULUS 2, REMAINDER 0);
	CREATE TABLE orders_1 PARTITION OF orders FOR VALUES WITH (MODULUS 2, REMAINDER 1);
	INSERT INTO orders SELECT -i, 'old' FROM generate_series(1, 100) i;
	CREATE STREAM s (id int, what text) WITH (connector = 'table', table = 'orders', start = 'earliest', max_batch_rows = 300);
	CREATE STREAM t (id int) WITH (connector = 'table', table = 'orders_1', start = 'earliest');
	CREATE MATERIALIZED VIEW got AS SELECT id, count(*) AS n FROM s GROUP BY id;
	CREATE MATERIALIZED VIEW got_1 AS SELECT id, count(*) AS n FROM t GROUP BY id;));

sub becomes
{
	my ($query, $expected, $name) = @_;
	ok($node->poll_query_until('app', $query, $expected), $name);
}

sub session_script
{
	my ($session) = @_;
	my ($id, $left, $sql, $prepared) = ($session * 1_000_000, $rows_per_session, '', 0);
	while ($left > 0)
	{
		my $n = 1 + int(rand(100));
		$n = $left if $n > $left;
		my $last = $id + $n - 1;
		$sql .= "BEGIN;\nINSERT INTO orders SELECT i, 'row ' || i FROM generate_series($id, $last) i;\n";
		$sql .= "SAVEPOINT a;\nINSERT INTO orders VALUES (-$id, 'gone');\nROLLBACK TO a;\n" if rand() < 0.3;
		$sql .= 'SELECT pg_sleep(' . rand(0.02) . ");\n" if rand() < 0.3;
		my $end = rand();
		if ($end < 0.1 && $prepared < 3)
		{
			$prepared++;
			$sql .= "PREPARE TRANSACTION 'p$session-$prepared';\n";
		}
		else { $sql .= $end < 0.4 ? "ROLLBACK;\n" : "COMMIT;\n"; }
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

my $different = q(
	SELECT (SELECT count(*) FROM (SELECT id, count(*) AS n FROM orders GROUP BY id) e
			FULL JOIN got USING (id, n) WHERE e.n IS NULL OR got.n IS NULL) +
		   (SELECT count(*) FROM (SELECT id, count(*) AS n FROM orders_1 GROUP BY id) e
			FULL JOIN got_1 USING (id, n) WHERE e.n IS NULL OR got_1.n IS NULL));

becomes('SELECT count(*) FROM got', 100, 'the rows that were there');
$_->finish for start_sessions(1 .. $sessions);
becomes($different, 0, 'each committed row once');

my @running = start_sessions($sessions + 1 .. 2 * $sessions);
$node->poll_query_until('app', q(SELECT count(*) > 0 FROM got WHERE id > 5000000));
$node->stop('immediate');
$_->finish for @running;
$node->start;
becomes($different, 0, 'after a crash of the server too');

my @prepared = split /\n/, $node->safe_psql('app', 'SELECT gid FROM pg_prepared_xacts ORDER BY gid');
cmp_ok(scalar(@prepared), '>', 0, 'some transactions are prepared');
my $commit = 1;
for my $gid (@prepared)
{
	$node->safe_psql('app', ($commit ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$gid'");
	$commit = !$commit;
}
becomes($different, 0, 'rows of prepared transactions come when they commit');
$node->safe_psql('app', 'INSERT INTO orders VALUES (0)');
becomes('SELECT n FROM got WHERE id = 0', 1, 'and the worker is still there');
is($node->safe_psql('app', q(SELECT count(*) FROM streamext.pipelines WHERE error_message IS NOT NULL)),
	0, 'without errors');

$node->stop;
done_testing();
