# Streams of changes under a running worker that is terminated and killed, on a server that is
# stopped hard: sinks with a key are equal to their views all the same, and each closed
# window comes exactly once.  A change that a sink refuses becomes a dead letter, and view and
# sink go without that record.  What was dumped and restored goes on.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $rounds = 8;
my $node = PostgreSQL::Test::Cluster->new('changes');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'streamext'
max_worker_processes = 16
restart_after_crash = on
client_min_messages = error
CONF
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE app');
$node->safe_psql('app', q(
	CREATE EXTENSION streamext;
	CREATE STREAM q (id bigint, k int, x int, ts timestamptz)
		WITH (connector = 'queue', event_time = 'ts', watermark = '1 second');
	CREATE TABLE all_rows (id bigint, k int, x int, ts timestamptz);
	CREATE MATERIALIZED VIEW m AS SELECT k, count(*) AS n, sum(x) AS s FROM q GROUP BY k HAVING sum(x) % 3 <> 0;
	CREATE MATERIALIZED VIEW d AS SELECT k, count(DISTINCT x) AS n FROM q GROUP BY k;
	CREATE MATERIALIZED VIEW f WITH (emit = 'final') AS SELECT tumble(ts, '10 s') AS w, count(*) AS n FROM q GROUP BY 1;
	CREATE STREAM mc WITH (changes) AS TABLE m;
	CREATE STREAM dc WITH (changes) AS TABLE d;
	CREATE STREAM fc WITH (changes) AS TABLE f;
	CREATE STREAM m_copy WITH (connector = 'table', table = 'm2', key = 'k') AS SELECT k, n, s FROM mc;
	CREATE STREAM d_copy WITH (connector = 'table', table = 'd2', key = 'k') AS SELECT k, n FROM dc;
	CREATE STREAM f_log WITH (connector = 'table', table = 'f2') AS SELECT op, w, n FROM fc;));

sub worker
{
	return $node->safe_psql('app', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'streamext worker' LIMIT 1");
}

sub disturb
{
	my ($round) = @_;
	my $pid = worker();
	if ($round == 3)
	{
		$node->stop('immediate');
		$node->start;
	}
	elsif ($round == 5 && $pid)
	{
		kill 'KILL', $pid;
		$node->poll_query_until('app', 'SELECT true');
	}
	elsif ($pid)
	{
		$node->safe_psql('app', "SELECT pg_terminate_backend($pid)");
	}
}

my $same = q(SELECT count(*) FROM (
	(TABLE m EXCEPT ALL TABLE m2) UNION ALL (TABLE m2 EXCEPT ALL TABLE m)) a, (SELECT) b
	UNION ALL SELECT count(*) FROM ((TABLE d EXCEPT ALL TABLE d2) UNION ALL (TABLE d2 EXCEPT ALL TABLE d)) a
	UNION ALL SELECT count(*) FROM ((TABLE f EXCEPT ALL SELECT w, n FROM f2) UNION ALL (SELECT w, n FROM f2 EXCEPT ALL TABLE f)) a);

for my $round (1 .. $rounds)
{
	for my $part (1 .. 4)
	{
		my $from = ($round * 4 + $part) * 300;
		$node->safe_psql('app', qq(
			WITH r AS (INSERT INTO all_rows SELECT i, i % 11, (i * 7 + $round) % 13, timestamptz '2026-01-01Z' + i * interval '20 ms'
				FROM generate_series($from, $from + 299) i RETURNING *)
			INSERT INTO q SELECT * FROM r));
		disturb($round) if $part == 2;
	}
}
$node->poll_query_until('app', "SELECT streamext.wait('q')") or die 'did not catch up';
is($node->safe_psql('app', $same), "0\n0\n0", 'sinks are equal to their views');
is($node->safe_psql('app', q(SELECT count(*) FROM ((TABLE m EXCEPT ALL SELECT k, count(*), sum(x) FROM all_rows GROUP BY k HAVING sum(x) % 3 <> 0)
	UNION ALL (SELECT k, count(*), sum(x) FROM all_rows GROUP BY k HAVING sum(x) % 3 <> 0 EXCEPT ALL TABLE m)) x)), '0',
	'the view is equal to its query');
cmp_ok($node->safe_psql('app', 'SELECT count(*) FROM f2'), '>', 10, 'windows have closed');
is($node->safe_psql('app', "SELECT count(*), count(DISTINCT w) FROM f2 WHERE op = 'insert'"),
	$node->safe_psql('app', 'SELECT count(*), count(*) FROM f'), 'each closed window came once');

# a change that the sink refuses
$node->safe_psql('app', 'ALTER TABLE d2 ADD CHECK (k < 1000)');
$node->safe_psql('app', q(INSERT INTO q VALUES (1, 2000, 1, '2026-02-01Z'), (2, 5, 1000, '2026-02-01Z')));
$node->poll_query_until('app', "SELECT streamext.wait('q')");
is($node->safe_psql('app', $same), "0\n0\n0", 'they still are when a sink has refused a record');
is($node->safe_psql('app', 'SELECT view, sqlstate FROM streamext.dead_letters'), 'd_copy|23514', 'which is a dead letter of the sink');
is($node->safe_psql('app', 'SELECT count(*) FROM d WHERE k = 2000'), '0', 'and not in the view');

# one that comes late goes on from where it is
$node->safe_psql('app', q(
	BEGIN;
	CREATE STREAM late WITH (changes) AS TABLE d;
	CREATE STREAM late_copy WITH (connector = 'table', table = 'd3', key = 'k') AS SELECT k, n FROM late;
	INSERT INTO d3 TABLE d;
	COMMIT;
	INSERT INTO q SELECT i, i % 20, i, '2026-02-02Z' FROM generate_series(1, 100) i));
$node->poll_query_until('app', "SELECT streamext.wait('q')");
is($node->safe_psql('app', 'SELECT count(*) FROM ((TABLE d EXCEPT ALL TABLE d3) UNION ALL (TABLE d3 EXCEPT ALL TABLE d)) x'), '0',
	'a late stream of changes begins with the next batch');

# dump and restore
$node->safe_psql('app', "SELECT streamext.pause('q')");
my $dump = $node->data_dir . '/../app.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('app') ], 'dumped');
$node->safe_psql('postgres', 'DROP DATABASE app WITH (FORCE)');
$node->safe_psql('postgres', 'CREATE DATABASE app');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, $node->connstr('app') ], 'restored');
$node->safe_psql('app', q(SELECT streamext.resume('q');
	INSERT INTO q SELECT i, i % 9, i % 5, '2026-02-03Z' FROM generate_series(1, 100) i));
$node->poll_query_until('app', "SELECT streamext.wait('q')");
is($node->safe_psql('app', $same), "0\n0\n0", 'after a restore they go on');

$node->stop;
done_testing();
