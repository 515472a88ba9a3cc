# faults: P1 P2
#
# pg_upgrade takes a cluster with streams of all kinds to a new one: nothing runs while it
# works, streams come up stopped and go on where they were.  Then the modes of the server
# in which nothing may run: binary upgrade (postgres -b) and single user.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IPC::Run;
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
my ($old, $new) = map { PostgreSQL::Test::Cluster->new($_) } qw(old new);
foreach ($old, $new)
{
	$_->init;
	$_->append_conf('postgresql.conf', $conf);
}
$old->start;
my $objects = SxObjects->new;
$old->safe_psql('postgres', 'CREATE DATABASE app');
$old->safe_psql('app', 'CREATE EXTENSION streamext');
$objects->make($old, 'app');
foreach my $round (0 .. 2)
{
	$objects->feed($old, 'app', $round);
	$objects->step($old, 'app', $round);
}
$objects->settled($old, 'app', 'before', 3);
$old->safe_psql('app', "SELECT streamext.pause('order_sum')");
$objects->feed($old, 'app', 3);
$old->safe_psql('app', "SELECT streamext.resume('numbers')");
my $before = $objects->shot($old, 'app');

# what the next batch has to come to, undone again
my $after3 = $old->safe_psql('app', 'SELECT 1') && do {
	my $copy = 'copy';
	$old->safe_psql('postgres', "CREATE DATABASE $copy TEMPLATE app");
	is($objects->step($old, $copy, 3), '4|50|0', 'a copy of the database goes on, too');
	$objects->oracle($old, $copy, 'copy', 200);
	is($old->safe_psql($copy, q{SELECT count(*) FROM streamext.pipelines WHERE pid IS NOT NULL}), '0', '... but not by itself');
	my $shot = $objects->shot($old, $copy);
	$old->safe_psql('postgres', "DROP DATABASE $copy");
	$shot;
};
$old->stop('fast');

# ------------------------------------------------------------------ pg_upgrade
my $bindir = $old->config_data('--bindir');
my @upgrade = ('pg_upgrade', '--no-sync', '-d', $old->data_dir, '-D', $new->data_dir, '-b', $bindir, '-B', $bindir,
	'-s', $new->host, '-p', $old->port, '-P', $new->port);
my $began = time();
chdir PostgreSQL::Test::Utils::tempdir();
command_ok([ @upgrade, '--check' ], 'pg_upgrade --check');
command_ok([@upgrade], 'pg_upgrade');
$new->start;
my $took = time() - $began;
ok($new->poll_query_until('app', "SELECT count(*) = 0 FROM streamext.pipelines WHERE state = 'running'"), 'no pipeline starts by itself');
is($new->safe_psql('app', "SELECT count(*) FROM streamext.pipelines WHERE error_message LIKE 'came from another database%'") > 0, 1, '... and says why');
is($new->safe_psql('app', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'streamext worker'"), '0', '... so no worker runs');
is($objects->shot($new, 'app'), $before, 'positions and state are what they were');
is($objects->step($new, 'app', 3), '4|50|0', 'the next batch');
is($objects->shot($new, 'app'), $after3, '... does what it did in the old cluster');
$objects->feed($new, 'app', 4);
is($objects->step($new, 'app', 4), '5|50|0', 'takes new rows');
$objects->oracle($new, 'app', 'upgraded', 250);
$new->safe_psql('app', 'SELECT streamext.start_all()');
$objects->settled($new, 'app', 'upgraded', 5);
fault_row(row => 'P1', what => 'pg_upgrade', tried => 1, lost => 0, duplicated => 0,
	recovery => sprintf('%.1f s', $took), note => 'stopped until start_all()') if Test::More->builder->is_passing;

# ------------------------------------------------------------------ no workers
$new->safe_psql('app', 'CHECKPOINT');
$new->stop('immediate');

my $log = PostgreSQL::Test::Utils::tempdir() . '/b.log';
command_ok([ 'pg_ctl', '-D', $new->data_dir, '-l', $log, '-o', "-b", '-w', 'start' ], 'postgres -b starts');
$new->_update_pid(1);
is($new->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'streamext%'"), '0', '... without any process of ours');
is($new->safe_psql('app', 'SELECT count(*) > 0 FROM number_sum'), 't', '... and views can be read');
command_ok([ 'pg_ctl', '-D', $new->data_dir, '-m', 'fast', '-w', 'stop' ], '... and stops');
$new->_update_pid(0);

my @batches;
foreach my $time (1, 2)
{
	my ($in, $out, $err) = ("SELECT sum(batch_id) AS batches FROM streamext.progress\n", '', '');
	IPC::Run::run([ 'postgres', '--single', '-D', $new->data_dir, 'app' ], '<', \$in, '>', \$out, '2>', \$err);
	unlike($err, qr/FATAL|PANIC|TRAP/, 'single-user mode starts');
	push @batches, $out =~ /batches = "(\d+)"/;
}
is($batches[1], $batches[0], '... reads the catalog, and runs nothing');
fault_row(row => 'P2', what => 'postgres -b and single-user mode', tried => 2, lost => 0, duplicated => 0, note => 'no process of streamext');

$new->start;
ok($new->poll_query_until('app', "SELECT count(*) > 0 FROM streamext.pipelines WHERE pid IS NOT NULL"), 'started as usual, it all runs again');
ok(!$new->log_contains('TRAP:|PANIC:|terminated by signal'), 'no crash');
$new->stop('fast');
done_testing();
