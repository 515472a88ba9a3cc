# faults: E8
#
# Eight pipelines and 100 user transactions a second on the same tables, in orders that make
# deadlocks.  Four pipelines add to the rows of a table by a function, one of them in
# descending order of keys, the others in ascending; four have table sinks with a key.  Users
# update two rows of the one table and one of the other, at random.
#
# A batch that loses is rolled back and tried again, so in the end the tables are what plain
# SQL makes of the input.  Users may see 40P01 and 40001, nothing else; workers wait only 50
# ms before they look for a deadlock, so that it is mostly them who lose.  No pipeline is
# left behind.

use strict;
use warnings;
use File::Basename qw(dirname);
use lib dirname(__FILE__);
use IPC::Run qw(start);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxFault;
use Test::More;
use Time::HiRes qw(sleep);

my $seconds = scale(5, 60);
my $rate = 100;
my $keys = 100;

my $seed = fault_seed();
my $node = PostgreSQL::Test::Cluster->new('deadlocks');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'streamext'
max_worker_processes = 32
streamext.batch_history = 1000000
log_statement = none
CONF
$node->start;

sub value { my ($sql) = @_; return $node->safe_psql('postgres', $sql) }

# ---------------------------------------------------------------- the job
value(qq{
	CREATE EXTENSION streamext;
	CREATE TABLE model (stream int, id bigint, k int);
	CREATE TABLE ledger (k int PRIMARY KEY, hits bigint NOT NULL DEFAULT 0, touched bigint NOT NULL DEFAULT 0);
	CREATE TABLE latest (k int, stream int, id bigint, touched bigint NOT NULL DEFAULT 0, PRIMARY KEY (k, stream));
	INSERT INTO ledger SELECT generate_series(1, $keys);
	INSERT INTO latest SELECT k, s FROM generate_series(1, $keys) k, generate_series(5, 8) s;});
for my $i (1 .. 8)
{
	my $order = $i == 1 ? 'DESC' : 'ASC';
	value("CREATE STREAM q$i (id bigint, k int) WITH (connector = 'queue', max_batch_rows = 50)");
	value($i <= 4 ? qq{
		CREATE FUNCTION add_$i(batch_id bigint, batch_time timestamptz) RETURNS void LANGUAGE plpgsql AS \$\$
		DECLARE r record;
		BEGIN
			FOR r IN SELECT s.k, count(*) AS n FROM sink$i s GROUP BY s.k ORDER BY s.k $order LOOP
				UPDATE ledger l SET hits = hits + r.n WHERE l.k = r.k;
			END LOOP;
		END \$\$;
		CREATE STREAM sink$i WITH (connector = 'function', function = 'add_$i') AS SELECT k FROM q$i;} : qq{
		CREATE STREAM sink$i WITH (connector = 'table', table = 'latest', key = 'k, stream') AS
			SELECT k, $i AS stream, max(id) AS id FROM q$i GROUP BY k;});
}

# ---------------------------------------------------------------- the users
my $script = PostgreSQL::Test::Utils::tempdir() . '/users.sql';
append_to_file($script, <<"SQL");
\\set a random(1, $keys)
\\set b random(1, $keys)
\\set c random(1, $keys)
\\set s random(5, 8)
BEGIN;
UPDATE ledger SET touched = touched + 1 WHERE k = :a;
\\sleep 3 ms
UPDATE latest SET touched = touched + 1 WHERE k = :b AND stream = :s;
\\sleep 3 ms
UPDATE ledger SET touched = touched + 1 WHERE k = :c;
END;
SQL
my ($out, $err, $sent) = ('', '', 0);
my ($done, $deadlocks, $serialization) = (0, 0, 0);

# Users and records for some seconds.
sub load
{
	my $users = start([ 'pgbench', '-n', '-c', 20, '-R', $rate, '-T', $seconds, '--failures-detailed', '--random-seed', $seed,
		  '-f', $script, '-h', $node->host, '-p', $node->port, 'postgres' ], '<', \undef, '>', \$out, '2>', \$err);
	while ($users->pumpable)
	{
		my $rows = join '; ', map {
			my $q = $_;
			"WITH new AS (INSERT INTO model SELECT $q, i, 1 + (random() * ($keys - 1))::int FROM generate_series($sent + 1, $sent + 100) i RETURNING id, k)
			INSERT INTO q$q SELECT id, k FROM new ORDER BY id" } 1 .. 8;
		value($rows);
		$sent += 100;
		$users->pump_nb;
		sleep 0.2;
	}
	ok($users->finish, 'no user saw any other error') or diag $err;
	$done += $1 if $out =~ /transactions actually processed: (\d+)/;
	$deadlocks += $1 if $out =~ /deadlock failures: (\d+)/;
	$serialization += $1 if $out =~ /serialization failures: (\d+)/;
	$out = '';
	return;
}

# However fast or slow the machine is, there shall have been a deadlock.
sub all_deadlocks { return value("SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'") }
for (1 .. 12)
{
	load();
	last if all_deadlocks() > 0;
}
cmp_ok($done, '>', 0, "users did $done transactions");

# ---------------------------------------------------------------- the oracle
ok($node->poll_query_until('postgres',
	"SELECT count(*) = 8 AND bool_and(n >= $sent) FROM (SELECT sum(rows) AS n FROM streamext.batches GROUP BY pipeline) b"),
	'no pipeline is stuck: all records are processed');
my $lost = value("SELECT count(*) FROM ledger l LEFT JOIN (SELECT k, count(*) AS n FROM model WHERE stream <= 4 GROUP BY k) m USING (k)
	WHERE hits < coalesce(n, 0)");
my $more = value("SELECT count(*) FROM ledger l LEFT JOIN (SELECT k, count(*) AS n FROM model WHERE stream <= 4 GROUP BY k) m USING (k)
	WHERE hits > coalesce(n, 0)");
is($lost, '0', 'what functions added is not too little');
is($more, '0', '… and not too much');
is(value('SELECT count(*) FROM latest l LEFT JOIN (SELECT stream, k, max(id) AS id FROM model GROUP BY 1, 2) m USING (stream, k)
	WHERE l.id IS DISTINCT FROM m.id'), '0', 'table sinks have the last row of each key');
is(value('SELECT sum(touched) FROM ledger'), 2 * $done, 'users lost nothing in the one table');
is(value('SELECT sum(touched) FROM latest'), $done, '… or in the other');
is(value("SELECT count(*) FROM (SELECT pipeline FROM streamext.batches GROUP BY pipeline
	HAVING count(*) = max(batch_id) AND min(batch_id) = 1 AND sum(rows) = $sent) p"), '8', 'histories have no gap and count all');
is(value("SELECT count(*) FROM streamext.pipelines WHERE state = 'running' AND error_message IS NULL"), '8', 'all run, without error');
is(value('SELECT count(*) FROM streamext.dead_letters'), '0', 'no record was blamed');

my $all = all_deadlocks();
cmp_ok($all, '>', 0, "$all deadlocks");
my $pause = value('SELECT round(max(pause)::numeric, 2) FROM (
	SELECT extract(epoch FROM started_at - lag(started_at) OVER (PARTITION BY pipeline ORDER BY batch_id)) AS pause FROM streamext.batches) p');
fault_row(row => 'E8', what => '8 pipelines against users, with deadlocks', tried => $all, lost => $lost, duplicated => $more,
	recovery => "longest pause between batches $pause s", note => sprintf(
		'%d records; %d user transactions at %d/s; tried: deadlocks, of which users saw %d (40P01) and %d (40001)',
		8 * $sent, $done, $rate, $deadlocks, $serialization));

$node->stop;
done_testing();
