# A view or sink that fails for itself is taken out of its pipeline and stopped, with the
# reason; the others go on.  Mended and resumed it catches up and joins again, with every
# row once.
#
# faults: L2
#
#	SX_SEED		of the moments

use strict;
use warnings;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use FindBin;
use lib $FindBin::RealBin;
use SxFault;
use SxPoll;

my $runs = scale(1, 5);
fault_seed();

my $stop_file = PostgreSQL::Test::Utils::tempdir() . '/stop';
my $node = PostgreSQL::Test::Cluster->new('detach');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'streamext'
max_worker_processes = 32
restart_after_crash = on
deadlock_timeout = 200ms
CONF
$node->start;
poll_server($node);
$node->safe_psql('postgres', q(
	CREATE EXTENSION streamext;
	CREATE ROLE app LOGIN;
	GRANT USAGE ON FOREIGN SERVER streamext TO app;
	GRANT CREATE ON SCHEMA public TO app;
	CREATE TABLE lookup (k int, name text);
	INSERT INTO lookup SELECT i, 'name ' || i FROM generate_series(0, 6) i;
	CREATE TABLE target (id bigint);
	GRANT SELECT ON lookup TO app;
	GRANT INSERT ON target TO app;
	CREATE TABLE written (id bigint);
	GRANT ALL ON written TO app;
	SET ROLE app;
	CREATE FUNCTION add(state bigint, k int, id bigint[]) RETURNS bigint IMMUTABLE
		RETURN coalesce(state, 0) + cardinality(id);
	CREATE STREAM q (id bigint) WITH (connector = 'queue', max_batch_rows = 300, max_errors = 5);
	CREATE MATERIALIZED VIEW healthy AS SELECT id % 7 AS k, count(*) AS n FROM q GROUP BY 1;
	CREATE STREAM sink WITH (connector = 'table', table = 'target') AS SELECT id FROM q;
	CREATE MATERIALIZED VIEW joined AS SELECT name, count(*) AS n FROM q JOIN lookup ON k = id % 7 GROUP BY 1;
	CREATE STREAM totals WITH (update_state = 'add', key = 'k') AS SELECT (id % 3)::int AS k, id FROM q;
	CREATE STREAM of_totals WITH (connector = 'table', table = 'last_totals') AS SELECT k, state FROM totals;
	CREATE MATERIALIZED VIEW tops AS SELECT totals.k, max(state) AS top FROM totals JOIN lookup ON lookup.k = totals.k GROUP BY 1;));

my ($host, $port) = ($node->host, $node->port);

sub write_queue
{
	my $sql = q(SET ROLE app; WITH n AS (SELECT coalesce(max(id), 0) AS at FROM written),
		w AS (INSERT INTO written SELECT at + i FROM n, generate_series(1, 200) i RETURNING *)
		INSERT INTO q SELECT * FROM w);
	while (!-e $stop_file)
	{
		system("psql -X -q -h '$host' -p $port -d postgres -c \"$sql\" >/dev/null 2>&1");
		usleep(5_000);
	}
}

my $writer = fork() // die "fork: $!";
if ($writer == 0)
{
	write_queue();
	POSIX::_exit(0);
}

# what breaks whom, and how it is mended
my %trouble = (
	sink => [ 'REVOKE INSERT ON target FROM app', 'GRANT INSERT ON target TO app', 'permission denied for table target' ],
	joined => [ 'REVOKE SELECT ON lookup FROM app', 'GRANT SELECT ON lookup TO app', 'permission denied for table lookup' ]);

sub crash
{
	my ($pipeline) = @_;
	my $pid = answer("SELECT pid FROM streamext.pipelines WHERE pipeline = '$pipeline' AND pid IS NOT NULL");
	kill('KILL', $pid) if $pid;
	return;
}

becomes('SELECT sum(n) > 1000 FROM healthy', 'it runs');
for my $run (1 .. $runs)
{
	for my $who (sort keys %trouble)
	{
		my ($break, $mend, $reason) = @{ $trouble{$who} };
		my $log_from = -s $node->logfile;

		$node->safe_psql('postgres', $break);
		becomes("SELECT p.state = 'stopped' AND p.lane_of = 'q' AND p.error_message = '$reason' AND p.error_sqlstate = '42501' "
			. "FROM streamext.pipelines p JOIN streamext.views v ON v.pipeline = p.pipeline WHERE v.view = '$who'::regclass",
			"$who is detached with the reason");
		becomes("SELECT state = 'stopped' FROM streamext.views WHERE view = 'tops'::regclass", 'and so is what reads the same table')
		  if $who eq 'joined';
		my $n = answer('SELECT sum(n) FROM healthy');
		becomes("SELECT sum(n) > $n + 1000 FROM healthy", 'the others go on');
		# two views fail with one reason, which need not be said twice
		my $said = () = slurp_file($node->logfile, $log_from) =~ /ERROR:  \Q$reason\E/g;
		ok($said == 1 || ($who eq 'joined' && $said == 2), 'the reason is in the log, not with every try');
		is(answer("SELECT state FROM streamext.pipelines WHERE pipeline = 'q'"), 'running', 'the pipeline runs');
		if ($who eq 'joined')
		{
			is(answer("SELECT string_agg(view::text, ' ' ORDER BY view::text) FROM streamext.views WHERE pipeline = (SELECT pipeline FROM streamext.views WHERE view = 'tops'::regclass)"),
				'of_totals tops totals', 'what shares state went along');
		}
		crash('q');
		becomes("SELECT sum(n) > $n + 2000 FROM healthy", 'also after a crash');
		$node->safe_psql('postgres', $mend);
		foreach my $view ($who eq 'joined' ? qw(joined tops) : $who)
		{
			becomes("SELECT true FROM streamext.resume('$view')", "$view is resumed");
		}
		usleep(int(rand(100_000)));
		crash($who);
		becomes("SELECT count(*) = 0 FROM streamext.pipelines WHERE lane_of IS NOT NULL", "$who has joined again");
	}
}

# records that fail in one view only: the circuit breaker takes out that view
$node->safe_psql('postgres', q(
	SET ROLE app;
	CREATE MATERIALIZED VIEW fussy WITH (backfill = off) AS SELECT 1000 / (id % 2) AS x, count(*) FROM q GROUP BY 1;));
becomes("SELECT state = 'stopped' AND error_sqlstate = 'SX002' FROM streamext.views v JOIN streamext.pipelines p USING (pipeline, state) WHERE view = 'fussy'::regclass",
	'max_errors detaches the view that trips it');
is(answer('SELECT count(*) FROM streamext.dead_letters'), '0', 'its records are no dead letters');
$node->safe_psql('postgres', 'DROP MATERIALIZED VIEW fussy');
is(answer('SELECT count(*) FROM streamext.pipelines'), '1', 'dropping it drops its lane');

# a table that a crash would empty
$node->safe_psql('postgres', 'ALTER TABLE target SET UNLOGGED');
becomes("SELECT state = 'stopped' FROM streamext.views WHERE view = 'sink'::regclass", 'a sink whose target has become unlogged is detached');
is(answer("SELECT state FROM streamext.pipelines WHERE pipeline = 'q'"), 'running', '… and the pipeline runs');
$node->safe_psql('postgres', "ALTER TABLE target SET LOGGED; SELECT streamext.resume('sink')");
becomes("SELECT count(*) = 0 FROM streamext.pipelines WHERE lane_of IS NOT NULL", '… until it is mended');

# everything at the end
append_to_file($stop_file, 'stop');
waitpid($writer, 0);
becomes('SELECT (SELECT sum(n) FROM healthy) = (SELECT count(*) FROM written)', 'all has come');
my $lost = answer('SELECT count(*) FROM (SELECT id FROM written EXCEPT ALL SELECT id FROM target) x');
my $duplicated = answer('SELECT count(*) FROM (SELECT id FROM target EXCEPT ALL SELECT id FROM written) x');
is("$lost $duplicated", '0 0', 'the sink has every row once');
is(answer("SELECT count(*) FROM (SELECT name, n FROM joined EXCEPT SELECT 'name ' || id % 7, count(*) FROM written GROUP BY 1) x"), '0', 'the join equals the batch SQL');
is(answer("SELECT count(*) FROM (SELECT k, state FROM streamext_state.totals EXCEPT SELECT (id % 3)::int, count(*) FROM written GROUP BY 1) x"), '0', 'the state is that of all rows');
is(answer("SELECT count(*) FROM (SELECT k, top FROM tops EXCEPT SELECT (id % 3)::int, count(*) FROM written GROUP BY 1) x"), '0', 'so is the view on it');

# a pipeline of which all is broken stops as a whole
$node->safe_psql('postgres', q(
	SET ROLE app;
	CREATE STREAM alone (id bigint) WITH (connector = 'queue');
	CREATE MATERIALIZED VIEW lonely AS SELECT name FROM alone JOIN lookup ON k = id;
	RESET ROLE; REVOKE SELECT ON lookup FROM app; SET ROLE app;
	INSERT INTO alone VALUES (1);));
becomes("SELECT state = 'stopped' AND error_message ~ 'lookup' FROM streamext.pipelines WHERE pipeline = 'alone'", 'alone: the pipeline stops');
is(answer("SELECT count(*) FROM streamext.pipelines WHERE lane_of = 'alone'"), '0', '… and nothing is detached');
unlike(slurp_file($node->logfile), qr/deadlock detected/, 'no deadlock');

fault_row(row => 'L2', what => 'a sink and a join lose a privilege under load, are detached, mended and join again; server killed twice each time',
	tried => 2 * $runs, lost => $lost, duplicated => $duplicated, note => 'of the sink; join and keyed state are compared with the batch SQL, too');
$node->stop;
done_testing();
