# faults: S1 S9
# A pipeline under load whose owner loses a right: the batch fails with 42501, the position
# stays, and after the right is back everything is there once.  And: a member of
# pg_signal_backend cancels and terminates workers at random; nothing is lost or repeated.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(usleep time);
use Test::More;
use SxFault;

my $node = PostgreSQL::Test::Cluster->new('rights');
$node->init;
$node->append_conf('postgresql.conf', qq{
shared_preload_libraries = 'streamext'
max_worker_processes = 32
log_min_messages = warning
});
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]) }
fault_seed();

my $folder = PostgreSQL::Test::Utils::tempdir();
mkdir "$folder/in";
chmod 0755, $folder, "$folder/in";
system('chmod', '-R', 'a+rX', $folder);

sql(q{
	CREATE EXTENSION streamext;
	CREATE ROLE app LOGIN; CREATE ROLE groupie; GRANT groupie TO app;
	CREATE ROLE db_owner; CREATE SCHEMA a AUTHORIZATION db_owner; CREATE SCHEMA job AUTHORIZATION app;
	CREATE TABLE a.names AS SELECT i AS k, 'n' || i AS name FROM generate_series(0, 99) i;
	CREATE TABLE a.plain (v bigint, name text); CREATE TABLE a.keyed (k bigint PRIMARY KEY, n bigint);
	CREATE FUNCTION a.twice(bigint) RETURNS bigint LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN 2 * $1; END $$;
	REVOKE ALL ON FUNCTION a.twice(bigint) FROM PUBLIC;
	GRANT USAGE ON SCHEMA a TO app; GRANT SELECT ON a.names TO app; GRANT INSERT ON a.plain TO app;
	GRANT SELECT, INSERT, UPDATE ON a.keyed TO app; GRANT EXECUTE ON FUNCTION a.twice(bigint) TO app;
	GRANT USAGE ON FOREIGN SERVER streamext TO app; GRANT pg_read_server_files TO app;
	CREATE TABLE a.through_group (v bigint); GRANT INSERT ON a.through_group TO groupie;
	SET ROLE app; SET search_path = job;
	CREATE STREAM s (v bigint) WITH (connector = 'queue');
	CREATE STREAM plain WITH (connector = 'table', table = 'a.plain') AS SELECT v, n.name FROM s JOIN a.names n ON n.k = v % 100;
	CREATE STREAM keyed WITH (connector = 'table', table = 'a.keyed', key = 'k') AS SELECT v % 10 AS k, max(v) AS n FROM s GROUP BY 1;
	CREATE STREAM grouped WITH (connector = 'table', table = 'a.through_group') AS SELECT v FROM s;
	CREATE MATERIALIZED VIEW sums AS SELECT v % 10 AS k, count(*) AS n, sum(a.twice(v)) AS s FROM s GROUP BY 1;
});
sql("SET ROLE app; SET search_path = job; CREATE STREAM f (v bigint) WITH (connector = 'file', path = '$folder/in', format = 'csv', pipeline = 'files');
	CREATE MATERIALIZED VIEW from_files WITH (pipeline = 'files') AS SELECT count(*) AS n, sum(v) AS s FROM f");
sql('CREATE TABLE public.truth (v bigint)');

my $sent = 0;
sub feed
{
	my ($n) = @_;
	my ($from, $to) = ($sent, $sent + $n - 1);
	sql("INSERT INTO job.s SELECT generate_series($from, $to); INSERT INTO public.truth SELECT generate_series($from, $to)");
	$sent += $n;
	my $name = "$folder/in/.f$from";
	append_to_file($name, join('', map { "$_\n" } $from .. $to));
	chmod 0644, $name;
	rename($name, "$folder/in/f$from.csv");
	return;
}
my $oracle = q{SELECT concat_ws(' ',
	(SELECT count(*) - count(DISTINCT v) FROM a.plain), (SELECT count(*) FROM (SELECT v FROM public.truth EXCEPT SELECT v FROM a.plain) x),
	(SELECT count(*) - count(DISTINCT v) FROM a.through_group), (SELECT count(*) FROM (SELECT v FROM public.truth EXCEPT SELECT v FROM a.through_group) x),
	(SELECT count(*) FROM (SELECT k, n, s FROM job.sums EXCEPT SELECT v % 10, count(*), sum(2 * v) FROM public.truth GROUP BY 1) x),
	(SELECT count(*) FROM (SELECT v % 10, max(v) FROM public.truth GROUP BY 1 EXCEPT SELECT k, n FROM a.keyed) x),
	(SELECT count(*) FROM (SELECT count(*), sum(v) FROM public.truth EXCEPT SELECT n, s FROM job.from_files) x))};
sub settled { return $node->poll_query_until('postgres', $oracle, '0 0 0 0 0 0 0') }

# What stopped is resumed, as an operator would after the GRANT.
sub resume_stopped
{
	sql(q{SELECT streamext.resume(pipeline) FROM streamext.pipelines WHERE state = 'stopped'});
	return;
}

feed(500);
ok(settled(), 'everything is there') or diag sql($oracle) . sql('TABLE streamext.pipeline');

my $loss = q{SELECT count(*) > 0 FROM streamext.pipelines WHERE error_sqlstate = '42501'};
my @cases = (
	[ 'SELECT on a joined table', 'REVOKE SELECT ON a.names FROM app', 'GRANT SELECT ON a.names TO app' ],
	[ 'INSERT on a target', 'REVOKE INSERT ON a.plain FROM app', 'GRANT INSERT ON a.plain TO app' ],
	[ 'UPDATE on a target with a key', 'REVOKE UPDATE ON a.keyed FROM app', 'GRANT UPDATE ON a.keyed TO app' ],
	[ 'SELECT on a target with a key', 'REVOKE SELECT ON a.keyed FROM app', 'GRANT SELECT ON a.keyed TO app' ],
	[ 'EXECUTE on a function', 'REVOKE EXECUTE ON FUNCTION a.twice(bigint) FROM app', 'GRANT EXECUTE ON FUNCTION a.twice(bigint) TO app' ],
	[ 'membership that gives INSERT', 'REVOKE groupie FROM app', 'GRANT groupie TO app' ],
	[ 'USAGE on the server', 'REVOKE USAGE ON FOREIGN SERVER streamext FROM app', 'GRANT USAGE ON FOREIGN SERVER streamext TO app' ],
	[ 'pg_read_server_files', 'REVOKE pg_read_server_files FROM app', 'GRANT pg_read_server_files TO app' ],
	[ 'ownership of a policy-guarded target', 'ALTER TABLE a.plain ENABLE ROW LEVEL SECURITY', 'ALTER TABLE a.plain DISABLE ROW LEVEL SECURITY' ],
	[ 'ownership of the function', 'ALTER FUNCTION a.twice(bigint) OWNER TO db_owner; REVOKE ALL ON FUNCTION a.twice(bigint) FROM app', 'GRANT EXECUTE ON FUNCTION a.twice(bigint) TO app' ],
	[ 'the right to be superuser', 'ALTER ROLE app SUPERUSER; REVOKE INSERT ON a.through_group FROM groupie; ALTER ROLE app NOSUPERUSER', 'GRANT INSERT ON a.through_group TO groupie' ],
	[ 'LOGIN', 'ALTER ROLE app NOLOGIN', 'ALTER ROLE app LOGIN', 'start' ]);
my $wrong = 0;
my $slowest = 0;
foreach my $case (@cases)
{
	my ($what, $revoke, $grant, $needs_start) = @$case;
	my $before = $sent;
	feed(200);
	sql($revoke);
	# LOGIN counts when a worker starts
	sql(q{SELECT streamext.pause('job.s'), streamext.pause('files')}) if $needs_start;
	sql(q{SELECT streamext.resume('job.s'), streamext.resume('files')}) if $needs_start;
	feed(200);
	my $failed = $needs_start
	  ? $node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM streamext.pipelines WHERE failures > 0 OR error_sqlstate IS NOT NULL})
	  : $node->poll_query_until('postgres', $loss);
	ok($failed, "without $what it fails") or diag sql('SELECT name, state, error_sqlstate, error_message FROM streamext.pipeline');
	feed(100);
	sql($grant);
	my $began = time();
	resume_stopped();
	my $right = settled();
	$slowest = time() - $began if time() - $began > $slowest;
	ok($right, "with $what again, everything is there once") or diag sql($oracle) . sql('TABLE streamext.pipeline');
	$wrong++ if !$failed || !$right;
}
fault_row(row => 'S1', what => 'rights of the owner taken away under load', tried => scalar(@cases), lost => 0 + ($wrong > 0), duplicated => 0,
	recovery => sprintf('%.1f s', $slowest), note => "cases that went wrong: $wrong");

# ---------------------------------------------------------------- S9
sql('CREATE ROLE signaller LOGIN; GRANT pg_signal_backend, pg_read_all_stats TO signaller');
my $signals = scale(60, 1000);
my ($done, $refused) = (0, 0);
my $began = time();
my $feeds = 0;
while ($done < $signals)
{
	my $call = rand() < 0.5 ? 'pg_cancel_backend' : 'pg_terminate_backend';
	my $got = sql("SET ROLE signaller; SELECT count(*) FILTER (WHERE $call(pid)) FROM pg_stat_activity WHERE backend_type LIKE 'streamext%' AND usename = 'app'");
	$done += $got;
	feed(50) if $feeds++ % 5 == 0;
	usleep(1000 * (5 + rand(40)));
	last if time() - $began > scale(60, 900);
}
my $protected = 0;
foreach my $type ('launcher', 'scheduler')
{
	my ($rc, $out, $err) = $node->psql('postgres',
		"SET ROLE signaller; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'streamext $type%'", on_error_stop => 1);
	$protected++ if $err =~ /must be a (superuser|member of the role)|permission denied/;
}
is($protected, 2, 'launcher and scheduler are a superuser\'s');
$began = time();
# the back-off of many failures need not be waited for
resume_stopped();
sql(q{SELECT streamext.resume(pipeline) FROM streamext.pipelines});
ok(settled(), "after $done signals everything is there once") or diag sql($oracle) . sql('TABLE streamext.pipeline');
fault_row(row => 'S9', what => 'cancel and terminate by a member of pg_signal_backend', tried => $done, lost => (split / /, sql($oracle))[1],
	duplicated => (split / /, sql($oracle))[0], recovery => sprintf('%.1f s', time() - $began));
unlike(slurp_file($node->logfile), qr/PANIC|was terminated by signal/, 'no crash');

$node->stop;
done_testing();
