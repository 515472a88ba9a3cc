# The library and its SQL objects are of different versions: a package was installed and
# the database not updated yet, or updated while the server still has the library with
# which it started.  Nothing runs, what is called says what to do, nothing crashes; once
# they agree the pipelines go on where they were.  The other versions exist in this test
# only.
#
# faults: P3

use strict;
use warnings;
use File::Basename qw(dirname);
use lib dirname(__FILE__);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxFault;
use Test::More;

chomp(my $share = `pg_config --sharedir`);
my $extension = "$share/extension";
plan skip_all => 'the folder of extensions cannot be written to' unless -w $extension;
my ($version) = slurp_file("$extension/streamext.control") =~ /default_version = '([^']+)'/;

# Version "old" lacks a function, version "next" has one more, and its script drops something.
my %scripts = (
	"$version--next" => q{CREATE FUNCTION streamext.test_only() RETURNS integer LANGUAGE sql RETURN 1;
		CREATE VIEW streamext.test_view AS SELECT 1 AS c; DROP VIEW streamext.test_view;},
	"next--$version" => q{DROP FUNCTION streamext.test_only();},
	"$version--old" => q{DROP FUNCTION streamext.adopt();},
	"old--$version" => q{CREATE FUNCTION streamext.adopt() RETURNS void AS 'MODULE_PATHNAME', 'sx_adopt' LANGUAGE C STRICT;
		REVOKE ALL ON FUNCTION streamext.adopt() FROM PUBLIC;});
sub write_script
{
	my ($path, $sql) = @_;
	open(my $file, '>', "$extension/streamext--$path.sql") or die "$path: $!";
	print $file $sql;
	close $file;
	return;
}
write_script($_, $scripts{$_}) foreach keys %scripts;
END { unlink map { "$extension/streamext--$_.sql" } keys %scripts if $extension; }

my $node = PostgreSQL::Test::Cluster->new('versions');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'streamext'
max_worker_processes = 16
CONF
$node->start;

my $job = q{
	CREATE STREAM ticks (value bigint, "timestamp" timestamptz) WITH (connector = 'rate', rows_per_second = 100000);
	CREATE MATERIALIZED VIEW counted AS SELECT value % 10 AS k, count(*) AS n, max(value) AS last FROM ticks GROUP BY 1;};
my $exact = 'SELECT sum(n) = max(last) + 1 FROM counted';
my $workers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'streamext worker'";

sub runs
{
	my ($name) = @_;
	my $n = $node->safe_psql('postgres', 'SELECT max(batch_id) FROM streamext.pipelines');
	ok($node->poll_query_until('postgres', "SELECT max(batch_id) > $n + 1 FROM streamext.pipelines"), $name);
	is($node->safe_psql('postgres', $exact), 't', "$name: nothing lost, nothing twice");
	return;
}

# Nothing runs, everything says why, and what is not ours goes on.
sub refuses
{
	my ($other) = @_;
	ok($node->poll_query_until('postgres', $workers, '0'), "$other: the workers leave");
	my $n = $node->safe_psql('postgres', 'SELECT batch_id FROM streamext.pipelines');
	for my $statement ('CREATE STREAM more (v int) WITH (connector = \'queue\')', q{SELECT streamext.pause('ticks')},
		q{SELECT * FROM streamext.step('ticks')}, 'DROP STREAM ticks CASCADE', 'DROP VIEW counted',
		'CREATE MATERIALIZED VIEW more AS SELECT count(*) FROM ticks')
	{
		my ($rc, $out, $err) = $node->psql('postgres', $statement);
		like($err, qr/ERROR:  the library of streamext is version \Q$version\E, its objects in this database are version $other\n.*\n?HINT:  Run ALTER EXTENSION streamext UPDATE/,
			"$other: refused: $statement");
	}
	like($node->safe_psql('postgres', 'SELECT status FROM streamext.pipelines'),
		qr/the library of streamext is version \Q$version\E, its objects here are version $other: run ALTER EXTENSION/, "$other: the status says so");
	is($node->safe_psql('postgres', 'SELECT state FROM streamext.pipelines'), 'running', "$other: the pipeline is not stopped for it");
	is($node->safe_psql('postgres', 'CREATE TABLE mine (v int); DROP TABLE mine; ' . $exact), 't', "$other: other tables can be dropped, views can be read");
	$node->restart;
	ok($node->poll_query_until('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'streamext scheduler'", '1'), "$other: restarted");
	$node->wait_for_log(qr/pipelines do not run: the library of streamext is version \Q$version\E, its objects in database "postgres" are version $other/);
	is($node->safe_psql('postgres', $workers), '0', "$other: ... it is the same, and the log says so");
	is($node->safe_psql('postgres', 'SELECT batch_id FROM streamext.pipelines'), $n, "$other: no batch was run");
	return;
}

$node->safe_psql('postgres', 'CREATE EXTENSION streamext');
$node->safe_psql('postgres', $job);
$node->poll_query_until('postgres', 'SELECT batch_id > 2 FROM streamext.pipelines');
runs('as installed');
my $rounds = scale(1, 5);
for my $round (1 .. $rounds)
{
	for my $other ('next', 'old')
	{
		$node->safe_psql('postgres', "ALTER EXTENSION streamext UPDATE TO '$other'");
		refuses($other) if $round == 1;
		$node->safe_psql('postgres', 'ALTER EXTENSION streamext UPDATE');
		runs("updated from $other");
	}
}
is($node->safe_psql('postgres', q{SELECT failures || ' ' || coalesce(error_message, '') FROM streamext.pipelines}), '0 ', 'no failure was counted');

# An update that is rolled back, and one while another database has the right version.
$node->safe_psql('postgres', q{BEGIN; ALTER EXTENSION streamext UPDATE TO 'next'; ROLLBACK});
runs('after an update that was rolled back');
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', q{CREATE EXTENSION streamext; ALTER EXTENSION streamext UPDATE TO 'old'});
runs('beside a database that is not updated');
$node->safe_psql('other', 'DROP EXTENSION streamext CASCADE');
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'streamext scheduler'"),
	'an extension of another version can be dropped');

ok(!$node->log_contains('TRAP:|PANIC:|terminated by signal'), 'no crash in the log');
fault_row(row => 'P3', what => 'ALTER EXTENSION UPDATE under load; library older and newer than its objects', tried => 2 * $rounds,
	lost => 0, duplicated => 0);
$node->stop;
done_testing();
