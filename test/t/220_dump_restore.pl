# faults: P1
#
# A database with streams of all kinds is dumped and restored: by psql, pg_restore, two
# jobs at a time, under another name and in another cluster.  The streams come back
# stopped, with their positions and state, and go on as if nothing had been.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxFault;
use SxObjects;
use Test::More;
use Time::HiRes qw(time);

my $conf = qq{
shared_preload_libraries = 'streamext'
max_worker_processes = 40
streamext.max_workers = 32
timezone = 'UTC'
};
my $node = PostgreSQL::Test::Cluster->new('original');
$node->init;
$node->append_conf('postgresql.conf', $conf);
$node->start;
my $other = PostgreSQL::Test::Cluster->new('other');
$other->init;
$other->append_conf('postgresql.conf', $conf);
$other->start;

my $objects = SxObjects->new;
$node->safe_psql('postgres', 'CREATE DATABASE app');
$node->safe_psql('app', 'CREATE EXTENSION streamext');
$objects->make($node, 'app');
for my $round (0 .. 2)
{
	$objects->feed($node, 'app', $round);
	is($objects->step($node, 'app', $round), $round + 1 . '|50|0', "batch $round");
}
$objects->oracle($node, 'app', 'before', 150);
$objects->settled($node, 'app', 'before', 3);

# rows that no batch has taken yet travel in the logs, with rolled back and spread transactions
$node->safe_psql('app', "SELECT streamext.pause('order_sum')");
$objects->feed($node, 'app', 3);
$node->safe_psql('app', "SELECT streamext.pause(pipeline) FROM streamext.pipelines WHERE state = 'running'");
my $before = $objects->shot($node, 'app');
my $states = $objects->states($node, 'app');
my $files = "$node->{_dir}";

my $tmp = PostgreSQL::Test::Utils::tempdir();
my @dump = ('-h', $node->host, '-p', $node->port);
$node->command_ok([ 'pg_dump', @dump, '-f', "$tmp/plain.sql", 'app' ], 'pg_dump, plain');
$node->command_ok([ 'pg_dump', @dump, '-Fc', '-f', "$tmp/custom", 'app' ], 'pg_dump, custom');
$node->command_ok([ 'pg_dump', @dump, '-Fd', '-j2', '-f', "$tmp/dir", 'app' ], 'pg_dump, directory');
$node->safe_psql('app', "UPDATE streamext.pipeline SET state = 'running' WHERE name IN ('followed', 'numbers', 'lines', 'pulled')");
$node->command_ok([ 'pg_dump', @dump, '-Fc', '-f', "$tmp/running", 'app' ], 'pg_dump, while it runs');
$node->command_ok([ 'pg_dump', @dump, '-s', '-f', "$tmp/schema.sql", 'app' ], 'pg_dump, schema only');
$node->command_ok([ 'pg_dump', @dump, '-a', '-f', "$tmp/data.sql", '--disable-triggers', 'app' ], 'pg_dump, data only');
$node->safe_psql('app', "SELECT streamext.pause(pipeline) FROM streamext.pipelines WHERE state = 'running'");

# the original goes on: what the copies have to come to
$objects->step($node, 'app', 3);
my $after3 = $objects->shot($node, 'app');
$objects->feed($node, 'app', 4);
$objects->step($node, 'app', 4);
my $after4 = $objects->shot($node, 'app');
$node->safe_psql('app', "DROP STREAM q, followed, lines, numbers, pulled, wire CASCADE");

my ($tried, $lost, $slowest) = (0, 0, 0);

sub restored
{
	my ($server, $db, $what, $command) = @_;
	my $began = time();
	$server->safe_psql('postgres', "CREATE DATABASE $db");
	$server->command_ok([ @$command ], "$what: restored without an error");
	$tried++;

	is($objects->states($server, $db), $states, "$what: nothing has started") if $what !~ /running/;
	is($server->safe_psql($db, "SELECT count(*) FROM streamext.pipelines WHERE state = 'running' OR pid IS NOT NULL"), '0', "$what: nothing runs");
	is($objects->shot($server, $db), $before, "$what: positions and state are what they were");
	is($objects->step($server, $db, 3), '4|50|0', "$what: goes on with the next batch");
	is($objects->shot($server, $db), $after3, "$what: which does what it did in the original");
	$objects->feed($server, $db, 4);
	is($objects->step($server, $db, 4), '5|50|0', "$what: takes new rows");
	is($objects->shot($server, $db), $after4, "$what: ... as the original did");
	$objects->oracle($server, $db, $what, 250);
	$server->safe_psql($db, "ALTER STREAM q OPTIONS (ADD max_batch_rows '1000')");
	ok($server->safe_psql($db, 'SELECT streamext.start_all()') > 0, "$what: start_all()");
	$objects->settled($server, $db, $what, 5);
	is($server->safe_psql($db, "SELECT count(*) FROM streamext.pipelines WHERE state <> 'running' AND pipeline <> 'wire'"), '0', "$what: all run");
	$lost++ if !Test::More->builder->is_passing;
	$slowest = time() - $began if $slowest < time() - $began;

	# parts go with the whole, as they did
	my ($rc, $out, $err) = $server->psql($db, 'DROP TABLE streamext_state.gaps');
	like($err, qr/because .*gaps requires it/, "$what: state belongs to its stream");
	($rc, $out, $err) = $server->psql($db, 'DROP FUNCTION between');
	like($err, qr/depends on/, "$what: functions that are used cannot be dropped");
	$server->safe_psql($db, 'DROP STREAM q, followed, lines, numbers, pulled, wire CASCADE');
	is($server->safe_psql($db, "SELECT count(*) FROM pg_class WHERE relnamespace = 'streamext_state'::regnamespace"), '0', "$what: nothing is left after DROP");
	is($server->safe_psql($db, q{SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'streamext%'}), '0', "$what: nor a trigger");
}

my @to = ('-h', $node->host, '-p', $node->port);
my @to_other = ('-h', $other->host, '-p', $other->port);
restored($node, 'by_psql', 'plain', [ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', @to, '-f', "$tmp/plain.sql", 'by_psql' ]);
restored($other, 'elsewhere', 'custom, another cluster', [ 'pg_restore', '-e', @to_other, '-d', 'elsewhere', "$tmp/custom" ]);
restored($other, 'by_two', 'two jobs', [ 'pg_restore', '-j2', '-e', @to_other, '-d', 'by_two', "$tmp/dir" ]);
restored($other, 'it_ran', 'while running', [ 'pg_restore', '-e', @to_other, '-d', 'it_ran', "$tmp/running" ]);

# schema and data one after the other
$other->safe_psql('postgres', 'CREATE DATABASE halves');
$other->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', @to_other, '-f', "$tmp/schema.sql", 'halves' ], 'schema only: restored');
is($other->safe_psql('halves', 'SELECT count(*) FROM streamext.pipelines'), '0', '... without pipelines');
$other->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', @to_other, '-f', "$tmp/data.sql", 'halves' ], 'data only: restored');
is($objects->step($other, 'halves', 3), '4|50|0', '... and both together go on');
is($objects->shot($other, 'halves'), $after3, '... as the original did');

fault_row(row => 'P1', what => 'pg_dump and restore (plain, custom, -j2, running) into other names and clusters',
	tried => $tried, lost => $lost, duplicated => $lost, recovery => sprintf('%.1f s with the restore', $slowest),
	note => 'all kinds of streams; stopped until start_all()');
ok(!$node->log_contains('TRAP:|PANIC:|terminated by signal') && !$other->log_contains('TRAP:|PANIC:|terminated by signal'), 'no crash');
$node->stop('fast');
$other->stop('fast');
done_testing();
