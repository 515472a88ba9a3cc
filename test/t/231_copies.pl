# Copies of a data directory: a base backup, a copy by cp, a directory that was moved, a
# restored archive.  None of them runs pipelines until streamext.adopt(); a standby that is
# promoted does, and so does whatever has no marker file yet.
#
# faults: P9

use strict;
use warnings;
use File::Basename qw(dirname);
use lib dirname(__FILE__);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxFault;
use Test::More;

my $processes = "SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('streamext worker', 'streamext scheduler')";
my $launchers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'streamext launcher'";
my $copied = 'this data directory is a copy, or was moved: streamext.adopt() lets pipelines run here';

my $node = PostgreSQL::Test::Cluster->new('original');
$node->init(allows_streaming => 1, has_archiving => 1);
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'streamext'
max_worker_processes = 16
wal_keep_size = '512MB'
CONF
$node->start;

my $marker = $node->data_dir . '/streamext.home';
ok(!-e $marker, 'no marker file without the extension');
$node->safe_psql('postgres', 'CREATE EXTENSION streamext');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_file('streamext.home', true) WHERE size IS NOT NULL}),
	'the first extension makes it');
$node->safe_psql('postgres', q{
	CREATE STREAM inbox (v int) WITH (connector = 'queue');
	CREATE MATERIALIZED VIEW received AS SELECT count(*) AS n, sum(v) AS s FROM inbox;
	CREATE STREAM idle (v int) WITH (connector = 'queue', paused);
	CREATE MATERIALIZED VIEW none AS SELECT count(*) AS n FROM idle;
	INSERT INTO inbox VALUES (1), (2);});
ok($node->poll_query_until('postgres', 'SELECT n FROM received', '2'), 'the original runs');

sub ours
{
	my ($server, $name) = @_;
	my $n = $server->safe_psql('postgres', 'SELECT n FROM received');
	$server->safe_psql('postgres', 'INSERT INTO inbox VALUES (10)');
	ok($server->poll_query_until('postgres', "SELECT n > $n FROM received"), $name);
	return;
}

# Has looked, and leaves the pipelines alone.
sub stays_still
{
	my ($server, $name) = @_;
	ok($server->poll_query_until('postgres', $launchers, '1'), "$name: the launcher is there");
	ok($server->poll_query_until('postgres', q{SELECT status FROM streamext.pipelines WHERE pipeline = 'inbox'}, $copied),
		"$name: its status says what to do");
	is($server->safe_psql('postgres', $processes), '0', "$name: nothing runs");
	is($server->safe_psql('postgres', q{SELECT status FROM streamext.pipelines WHERE pipeline = 'idle'}), '',
		"$name: what was paused needs no explanation");
	ok($server->log_contains('this data directory is a copy'), "$name: the log says so");
	my $n = $server->safe_psql('postgres', 'INSERT INTO inbox VALUES (100); SELECT n FROM received');
	$server->reload;
	is($server->safe_psql('postgres', 'SELECT n FROM received'), $n, "$name: no batch was run");
	return;
}

# A second server in a copy of the first one's directory.
sub server_of
{
	my ($name, $copy) = @_;
	my $server = PostgreSQL::Test::Cluster->new($name);
	$copy->($server);
	$server->append_conf('postgresql.conf', 'port = ' . $server->port . "\nunix_socket_directories = '" . $server->host . "'\narchive_mode = off\n");
	return $server;
}

sub cp
{
	my ($from, $to) = @_;
	mkdir $to->basedir;
	system_or_bail('cp', '-a', $from->data_dir, $to->data_dir);
	unlink $to->data_dir . '/postmaster.pid';
	return;
}

# ---------------------------------------------------------------- plain restarts
$node->restart;
ours($node, 'a restart changes nothing');
$node->stop('immediate');
$node->start;
ours($node, 'nor does a crash');
my ($rc, $out, $err) = $node->psql('postgres', 'SELECT streamext.adopt()');
like($err, qr/NOTICE:  pipelines run in this data directory already/, 'the original needs no adoption');

# ---------------------------------------------------------------- base backup, beside the original
$node->backup('base');
my $clone = server_of('clone', sub { $_[0]->init_from_backup($node, 'base') });
$clone->start;
stays_still($clone, 'base backup');
ours($node, 'beside it the original goes on');
$clone->restart;
stays_still($clone, 'base backup, restarted');
$clone->stop('immediate');
$clone->start;
stays_still($clone, 'base backup, after a crash');

($rc, $out, $err) = $clone->psql('postgres', q{CREATE ROLE nobody LOGIN});
($rc, $out, $err) = $clone->psql('postgres', 'SELECT streamext.adopt()', extra_params => [ '-U', 'nobody' ]);
like($err, qr/permission denied for function adopt/, 'not everybody may adopt');
$clone->safe_psql('postgres', 'CREATE DATABASE second');
($rc, $out, $err) = $clone->psql('second', 'CREATE EXTENSION streamext');
like($err, qr/WARNING:  pipelines do not run: this data directory is a copy/, 'an extension made in a copy says that it will not run');
$clone->safe_psql('postgres', 'DROP DATABASE second');

$clone->safe_psql('postgres', 'SELECT streamext.adopt()');
ours($clone, 'adopted it runs');
$clone->restart;
ours($clone, '... and after a restart');
$clone->stop;

# ---------------------------------------------------------------- cp -a
$node->stop;
my $moved = server_of('moved', sub { cp($node, $_[0]) });
$moved->start;
stays_still($moved, 'cp -a');
$moved->safe_psql('postgres', 'SELECT streamext.adopt()');
ours($moved, 'cp -a, adopted');

# What is renamed in place is the same directory.
$moved->stop;
rename $moved->data_dir, $moved->basedir . '/elsewhere';
rename $moved->basedir . '/elsewhere', $moved->data_dir;
$moved->start;
ours($moved, 'a directory that was renamed runs');

# ---------------------------------------------------------------- a marker that is damaged or gone
$moved->stop;
open(my $file, '>', $moved->data_dir . '/streamext.home');
close $file;
$moved->start;
stays_still($moved, 'a marker file that is empty');
$moved->stop;
unlink $moved->data_dir . '/streamext.home';
$moved->start;
ours($moved, 'without a marker, as pg_upgrade leaves it, it runs');
ok(-e $moved->data_dir . '/streamext.home', '... and has one now');
$moved->safe_psql('postgres', 'DROP EXTENSION streamext CASCADE');
ok($moved->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_file('streamext.home', true) WHERE size IS NOT NULL}),
	'the last extension takes it along');
$moved->stop;

# ---------------------------------------------------------------- restored from the archive
$node->start;
ours($node, 'the original is as it was');
$node->safe_psql('postgres', 'SELECT pg_switch_wal()');
my $last = $node->safe_psql('postgres', "SELECT pg_walfile_name(pg_current_wal_lsn() - 16777216)");
$node->poll_query_until('postgres', "SELECT last_archived_wal >= '$last' FROM pg_stat_archiver");
my $restored = server_of('restored', sub { $_[0]->init_from_backup($node, 'base', has_restoring => 1, standby => 0) });
$restored->start;
$restored->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');
stays_still($restored, 'restored from the archive');
$restored->safe_psql('postgres', 'SELECT streamext.adopt()');
ours($restored, 'restored, adopted');
$restored->stop;

# ---------------------------------------------------------------- standby
my $standby = server_of('standby', sub { $_[0]->init_from_backup($node, 'base', has_streaming => 1) });
$standby->start;
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', $launchers), '0', 'nothing runs on a standby');
is($standby->safe_psql('postgres', q{SELECT status FROM streamext.pipelines WHERE pipeline = 'inbox'}),
	'this server is a standby: pipelines run on the primary', '... and its status says so');
for my $statement ('SELECT streamext.adopt()', q{SELECT streamext.pause('inbox')}, q{SELECT * FROM streamext.step('idle')},
	'INSERT INTO inbox VALUES (1)', 'CREATE STREAM more (v int) WITH (connector = \'queue\')')
{
	($rc, $out, $err) = $standby->psql('postgres', $statement);
	like($err, qr/ERROR:  cannot .*(during recovery|read-only transaction)/, "refused on a standby: $statement");
}
like($standby->safe_psql('postgres', 'SELECT n FROM received'), qr/^\d+$/, 'views can be read there');
($rc, $out, $err) = $standby->psql('postgres', 'SELECT count(*) FROM inbox');
is($rc, 0, 'and streams peeked at') or diag $err;
$standby->restart;
is($standby->safe_psql('postgres', $launchers), '0', '... also after a restart');
$standby->promote;
ours($standby, 'promoted it runs');
$standby->restart;
ours($standby, '... and after a restart');
ours($node, 'the old primary, left alone, goes on as well: that is for who promotes to prevent');

ok(!$_->log_contains('TRAP:|PANIC:|terminated by signal'), 'no crash in the log of ' . $_->name)
  foreach ($node, $clone, $moved, $restored, $standby);
fault_row(row => 'P9', what => 'base backup, cp -a, restored archive, started beside the original', tried => 3,
	lost => 0, duplicated => 0, note => 'none ran before adopt()');
$_->stop foreach ($standby, $node);
done_testing();
