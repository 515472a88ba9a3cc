# Windows in time under a running worker: rows come in while the worker is terminated and
# killed and the server stopped hard.  Boundaries go on by timer, so each row must be in
# exactly one tumbling window and in exactly eight sliding ones, whether those are read row
# by row or answered from panes.  In the end the windows become empty, once, and the
# pipeline is quiet.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $rounds = 12;
my $node = PostgreSQL::Test::Cluster->new('windows');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'streamext'
max_worker_processes = 16
restart_after_crash = on
CONF
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE app');
$node->safe_psql('app', q(
	CREATE EXTENSION streamext;
	CREATE STREAM q (id bigint) WITH (connector = 'queue');
	CREATE STREAM tumbling WITH (window = '300 milliseconds', slide = '300 milliseconds') AS SELECT id FROM q;
	CREATE STREAM sliding WITH (window = '800 milliseconds', slide = '100 milliseconds') AS SELECT id FROM q;
	CREATE STREAM in_one WITH (connector = 'table', table = 'one') AS SELECT id, streamext.batch_id() AS batch FROM tumbling;
	CREATE STREAM in_eight WITH (connector = 'table', table = 'eight') AS SELECT id, streamext.batch_id() AS batch FROM sliding;
	CREATE STREAM by_panes WITH (connector = 'table', table = 'panes') AS SELECT id % 10 AS k, count(*) AS n, sum(id) AS s FROM sliding GROUP BY id % 10;
	CREATE STREAM b (id bigint) WITH (connector = 'queue', batch_interval = '100 milliseconds');
	CREATE STREAM intervals WITH (window = '300 milliseconds', slide = '300 milliseconds') AS SELECT id FROM b;
	CREATE STREAM in_one_b WITH (connector = 'table', table = 'one_b') AS SELECT id, streamext.batch_id() AS batch FROM intervals;
	CREATE STREAM counting WITH (connector = 'table', table = 'counts') AS SELECT count(*) AS n FROM tumbling;));
like($node->safe_psql('app', "SELECT streamext.explain('by_panes')"), qr/answered from panes/, 'the aggregate is kept in panes');

sub becomes
{
	my ($query, $expected, $name) = @_;
	ok($node->poll_query_until('app', $query, $expected), $name);
}

sub worker
{
	return $node->safe_psql('app', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'streamext worker' ORDER BY random() LIMIT 1");
}

sub disturb
{
	my ($round) = @_;
	my $pid = worker();
	if ($round == 4 || $round == 9)
	{
		$node->stop('immediate');
		$node->start;
	}
	elsif ($round == 6 && $pid)
	{
		kill 'KILL', $pid;
		$node->poll_query_until('app', 'SELECT true');
	}
	elsif ($pid)
	{
		$node->safe_psql('app', "SELECT pg_terminate_backend($pid)");
	}
}

my $rows = 0;
for my $round (1 .. $rounds)
{
	# the next round begins when rows of this one have gone through a window
	for my $part (1 .. 4)
	{
		$node->safe_psql('app', sprintf('INSERT INTO %s SELECT generate_series(%d, %d)', $_, $rows + 1, $rows + 25)) for 'q', 'b';
		$rows += 25;
	}
	becomes("SELECT max(id) > $rows - 100 FROM one", 't', "round $round: windows fire");
	disturb($round);
}

becomes("SELECT count(*) = 8 * $rows FROM eight", 't', 'every row went through its windows');
is($node->safe_psql('app', 'SELECT count(*), count(DISTINCT id), min(id), max(id) FROM one'), "$rows|$rows|1|$rows",
	'each row was in one tumbling window');
is($node->safe_psql('app', 'SELECT count(*), min(n), max(n) FROM (SELECT count(*) AS n, count(DISTINCT batch) FROM eight GROUP BY id) x'),
	"$rows|8|8", 'each row was in eight sliding windows');
is($node->safe_psql('app', 'SELECT sum(n), sum(s) FROM panes'), 8 * $rows . '|' . 8 * $rows * ($rows + 1) / 2,
	'so it was in the panes');
is($node->safe_psql('app', 'SELECT sum(n) FROM counts'), $rows, 'counted once');

# The windows become empty, which is a result, too; then there is no timer any more.
becomes("SELECT n = 0 FROM counts ORDER BY ctid DESC LIMIT 1", 't', 'the tumbling window has become empty');
becomes("SELECT NOT EXISTS (SELECT FROM streamext.window_batch WHERE relation <> 'intervals'::regclass)", 't', 'nothing is retained');
becomes("SELECT count(*) >= $rows FROM one_b", 't', 'with batch_interval, every row went through its window');
is($node->safe_psql('app', 'SELECT count(*), count(DISTINCT id) FROM one_b'), "$rows|$rows", 'and through one alone');
is($node->safe_psql('app', q(
	SELECT count(*) FROM streamext.batches WHERE pipeline = 'b' AND mod((extract(epoch FROM batch_time) * 1000000)::bigint, 100000) <> 0)), '0',
	'its batches have the times of intervals');
$node->safe_psql('app', 'DROP STREAM b CASCADE');
my $batches = $node->safe_psql('app', 'SELECT batch_id FROM streamext.pipelines');
$node->safe_psql('app', "SELECT streamext.wait('q')");
is($node->safe_psql('app', 'SELECT batch_id FROM streamext.pipelines'), $batches, 'no batch without data any more');
is($node->safe_psql('app', 'SELECT count(*) FROM streamext_state.by_panes_panes'), '0', 'no pane is left');

# Batch times are boundaries: those of the first batch plus multiples of 100 milliseconds.
is($node->safe_psql('app', q(
	SELECT count(*) FROM (SELECT DISTINCT batch FROM eight) e JOIN streamext.batches b ON b.batch_id = e.batch
	CROSS JOIN (SELECT first_batch_time AS t FROM streamext.progress) p
	WHERE mod((extract(epoch FROM b.batch_time - p.t) * 1000000)::bigint, 100000) <> 0)), '0', 'windows fire at boundaries');

$node->stop;
done_testing();
