# Commands on a database and on the extension while pipelines run at full load: DROP,
# CREATE … TEMPLATE, ALTER … RENAME and SET TABLESPACE of the database, DROP and CREATE
# EXTENSION.  None of them is refused because of our processes, none waits for long, and
# the pipelines go on where they were.
#
# faults: P10

use strict;
use warnings;
use File::Basename qw(dirname);
use lib dirname(__FILE__);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxFault;
use Test::More;
use Time::HiRes qw(time);

my $node = PostgreSQL::Test::Cluster->new('databases');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'streamext'
max_worker_processes = 16
allow_in_place_tablespaces = on
CONF
$node->start;

my $processes = "SELECT count(*) FROM pg_stat_activity WHERE backend_type IN "
  . "('streamext worker', 'streamext scheduler', 'streamext receiver')";
my $job = q{
	CREATE EXTENSION streamext;
	CREATE STREAM ticks (value bigint, "timestamp" timestamptz) WITH (connector = 'rate', rows_per_second = 1000000);
	CREATE MATERIALIZED VIEW counted AS SELECT value % 100 AS k, count(*) AS n, max(value) AS last FROM ticks GROUP BY 1;};

# Every value once: as many as the highest says.
my $exact = 'SELECT sum(n) = max(last) + 1 FROM counted';

sub make_app
{
	$node->safe_psql('postgres', 'CREATE DATABASE app');
	$node->safe_psql('app', $job);
	runs('app', 'the job runs');
	return;
}

# Batches are being committed.
sub runs
{
	my ($db, $name) = @_;
	my $n = $node->safe_psql($db, 'SELECT coalesce(max(batch_id), 0) FROM streamext.pipelines');
	ok($node->poll_query_until($db, "SELECT max(batch_id) > $n + 2 FROM streamext.pipelines"), $name);
	return;
}

# No error, and how long it took.
my $longest = 0;
my $tried = 0;
sub works
{
	my ($sql, $db) = @_;
	my $began = time;
	my ($rc, $out, $err) = $node->psql($db // 'postgres', $sql);
	my $took = time - $began;
	is($err =~ /(?:ERROR|FATAL).*/ ? $& : '', '', $sql);
	$longest = $took if $took > $longest;
	$tried++;
	return;
}

make_app();
$node->safe_psql('postgres', q{CREATE TABLESPACE other LOCATION ''});
for my $round (1 .. scale(1, 10))
{
	works('CREATE DATABASE copy TEMPLATE app');
	is($node->safe_psql('copy', $exact), 't', 'the copy is of one moment');
	is($node->safe_psql('copy', 'SELECT status FROM streamext.pipelines'),
		'streamext.enabled is not set for this database: run ALTER DATABASE … SET streamext.enabled = on, and reload',
		'... whose pipelines do not run, and say why');
	runs('app', 'the original goes on');
	works('DROP DATABASE copy');

	works('CREATE DATABASE copy TEMPLATE app STRATEGY file_copy');
	works('DROP DATABASE copy WITH (FORCE)');

	works('ALTER DATABASE app RENAME TO app2');
	runs('app2', 'renamed it goes on');
	works('ALTER DATABASE app2 RENAME TO app');

	works('ALTER DATABASE app SET TABLESPACE other');
	runs('app', 'moved it goes on');
	works('ALTER DATABASE app SET TABLESPACE pg_default');
	is($node->safe_psql('app', $exact), 't', 'nothing lost, nothing twice');

	works('DROP EXTENSION streamext CASCADE', 'app');
	ok($node->poll_query_until('postgres', $processes, '0'), 'no process is left without the extension');
	works($job, 'app');
	runs('app', 'created anew it runs');

	works('DROP DATABASE app');
	is($node->safe_psql('postgres', $processes), '0', 'nor one without the database');
	make_app();
	works('DROP DATABASE app WITH (FORCE)');
	is($node->safe_psql('postgres', $processes), '0', '... dropped with force');
	make_app();
}

# Refused for another reason, it leaves everything as it was.
my $session = $node->background_psql('app');
$session->query('SELECT 1');
my ($rc, $out, $err) = $node->psql('postgres', 'DROP DATABASE app');
like($err, qr/is being accessed by other users/, 'a session of a user stands in the way, as ever');
unlike($err, qr/There are [2-9]/, '... our processes do not');
runs('app', '... and the pipelines go on');
$session->quit;

# Somebody who may not drop it does not disturb it either.
$node->safe_psql('postgres', 'CREATE ROLE nobody LOGIN');
my $pid = $node->safe_psql('app', 'SELECT pid FROM streamext.pipelines');
($rc, $out, $err) = $node->psql('postgres', 'DROP DATABASE app', extra_params => [ '-U', 'nobody' ]);
like($err, qr/must be owner/, 'who does not own it may not drop it');
is($node->safe_psql('app', 'SELECT pid FROM streamext.pipelines'), $pid, '... nor stop its workers');

# A drop rolled back, and a transaction that creates the extension and is rolled back.
works('BEGIN; DROP EXTENSION streamext CASCADE; ROLLBACK', 'app');
runs('app', 'after a drop that was rolled back it goes on');
$node->safe_psql('postgres', 'CREATE DATABASE empty');
works("BEGIN; $job; ROLLBACK", 'empty');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE datname = 'empty'"), '0',
	'an extension that was rolled back has no process');

is($node->safe_psql('app', $exact), 't', 'nothing lost, nothing twice in the end');
works('DROP DATABASE app');
ok($node->poll_query_until('postgres', $processes, '0'), 'all is gone');
cmp_ok($longest, '<', scale(60, 10), 'no command took long');
ok(!$node->log_contains('TRAP:|PANIC:|terminated by signal'), 'no crash in the log');
fault_row(row => 'P10', what => 'DROP, TEMPLATE, RENAME, SET TABLESPACE, DROP EXTENSION under load',
	tried => $tried, lost => 0, duplicated => 0, recovery => sprintf('longest command %.1f s', $longest));

$node->stop('fast');
done_testing();
