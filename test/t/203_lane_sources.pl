# Lanes over sources that regress tests cannot have: a socket's log, a file that is
# followed through rotation, a table, and a queue with transactions that overlap.

use strict;
use warnings;
use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('lanes');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'streamext'
max_worker_processes = 32
CONF
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION streamext');

sub sql { return $node->safe_psql('postgres', $_[0]); }

sub becomes
{
	my ($query, $expected, $name) = @_;
	ok($node->poll_query_until('postgres', $query, $expected), $name);
}

# A view over the stream that comes late; it ends with the same rows as "first_…".
sub late_equals
{
	my ($stream, $name) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', "CREATE MATERIALIZED VIEW late_$stream AS SELECT * FROM $stream");
	is($rc, 0, "$name: created") or diag $err;
	like($err, qr/reads the past in a pipeline of its own/, "$name: in a lane");
	is(sql("SELECT streamext.wait('late_$stream', '30 seconds')"), 't', "$name: caught up");
	is(sql("SELECT pipeline FROM streamext.views WHERE view = 'late_$stream'::regclass"), $stream, "$name: and joined");
	return $err;
}

sub is_equal
{
	my ($stream, $rows, $name) = @_;
	is(sql("SELECT count(*) FROM late_$stream"), $rows, "$name: rows");
	is(sql("SELECT count(*) FROM (SELECT * FROM first_$stream EXCEPT ALL SELECT * FROM late_$stream) x"), '0', "$name: equal");
	return;
}

# ---------------------------------------------------------------- a socket
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 5, ReuseAddr => 1, Timeout => 40)
  or die "cannot listen: $@";
my $port = $listener->sockport;
sql(qq(
	CREATE STREAM s (line text, no bigint OPTIONS (metadata 'offset')) WITH (connector = 'socket', host = '127.0.0.1', port = '$port', format = 'text', max_batch_rows = 7);
	CREATE MATERIALIZED VIEW keeper WITH (pipeline = 'keeper') AS SELECT line FROM s WHERE false;
	SELECT streamext.pause('keeper');
	CREATE MATERIALIZED VIEW first_s AS SELECT * FROM s;));
my $peer = $listener->accept or die 'nobody has connected';
$peer->autoflush(1);
print $peer "line $_\n" foreach 1 .. 50;
becomes('SELECT count(*) FROM first_s', '50', 'socket: received');
late_equals('s', 'socket');
print $peer "line $_\n" foreach 51 .. 60;
becomes('SELECT count(*) FROM late_s', '60', 'socket: goes on in the shared pipeline');
is_equal('s', '60', 'socket');
sql('DROP STREAM s CASCADE');

# ---------------------------------------------------------------- a tail that is rotated
my $dir = PostgreSQL::Test::Utils::tempdir();
my $log = "$dir/app.log";
append_to_file($log, join('', map { "a$_\n" } 1 .. 20));
sql(qq(
	CREATE STREAM t (line text) WITH (connector = 'file', path = '$log', tail = on, format = 'text', max_batch_rows = 7);
	CREATE MATERIALIZED VIEW first_t AS SELECT * FROM t;));
becomes('SELECT count(*) FROM first_t', '20', 'tail: read');
my ($rc, $out, $err) = $node->psql('postgres', q(
	BEGIN;
	CREATE MATERIALIZED VIEW slow_t AS SELECT * FROM t;
	SELECT streamext.pause('slow_t');
	COMMIT));
rename($log, "$log.1") or die "rename: $!";
append_to_file($log, join('', map { "b$_\n" } 1 .. 15));
becomes('SELECT count(*) FROM first_t', '35', 'tail: rotated');
append_to_file($log, "b16\n");
sql(q(SELECT streamext.resume('slow_t')));
is(sql(q(SELECT streamext.wait('slow_t', '30 seconds'))), 't', 'tail: the lane follows through the rotation');
becomes('SELECT count(*) FROM slow_t', '36', 'tail: all rows');
is(sql('SELECT count(*) FROM (SELECT * FROM first_t EXCEPT ALL SELECT * FROM slow_t) x'), '0', 'tail: equal');
like(late_equals('t', 'tail'), qr/rotated since/, 'tail: what was rotated does not come back, and that is said');
is(sql('SELECT count(*) FROM late_t'), '16', 'tail: the file at hand does');
sql('DROP STREAM t CASCADE');

# ---------------------------------------------------------------- a table
sql(q(
	CREATE TABLE events (id int, what text);
	CREATE STREAM e (id int, what text) WITH (connector = 'table', table = 'events', max_batch_rows = 7);
	CREATE MATERIALIZED VIEW keeper WITH (pipeline = 'keeper') AS SELECT id FROM e WHERE false;
	SELECT streamext.pause('keeper');
	CREATE MATERIALIZED VIEW first_e AS SELECT * FROM e;
	INSERT INTO events SELECT i, 'event ' || i FROM generate_series(1, 50) i;));
becomes('SELECT count(*) FROM first_e', '50', 'table: read');
late_equals('e', 'table');
is_equal('e', '50', 'table');
sql('DROP STREAM e CASCADE');

# ---------------------------------------------------------------- a queue, and transactions that overlap
sql(q(
	CREATE STREAM q (id int) WITH (connector = 'queue', max_batch_rows = 7);
	CREATE MATERIALIZED VIEW keeper WITH (pipeline = 'keeper') AS SELECT id FROM q WHERE false;
	SELECT streamext.pause('keeper');
	CREATE MATERIALIZED VIEW first_q AS SELECT * FROM q;));
my $long = $node->background_psql('postgres');
$long->query_safe('BEGIN; INSERT INTO q SELECT generate_series(1, 10)');
sql('INSERT INTO q SELECT generate_series(11, 40)');
becomes('SELECT count(*) FROM first_q', '30', 'queue: what is committed is read');
late_equals('q', 'queue, while a transaction is open');
$long->query_safe('COMMIT');
$long->quit;
becomes('SELECT count(*) FROM late_q', '40', 'queue: the rows of that transaction come once');
is_equal('q', '40', 'queue');

# a lane that is in the past, and a server that goes down with it
sql(q(
	BEGIN;
	CREATE MATERIALIZED VIEW slow_q AS SELECT * FROM q;
	SELECT streamext.pause('slow_q');
	COMMIT));
is(sql(q(SELECT count(batch_id) FROM streamext.step('slow_q'))), '1', 'one batch of the lane');
$node->stop('immediate');
$node->start;
sql(q(SELECT streamext.resume('slow_q')));
is(sql(q(SELECT streamext.wait('slow_q', '30 seconds'))), 't', 'after a crash the lane goes on');
is(sql('SELECT count(*) || \' \' || count(DISTINCT id) FROM slow_q'), '40 40', '… with each row once');

# start_all, run
sql(q(
	SELECT streamext.pause('q');
	CREATE MATERIALIZED VIEW last_q AS SELECT * FROM q;));
is(sql(q(SELECT state || ' ' || pipeline FROM streamext.views WHERE view = 'last_q'::regclass)), 'paused last_q', 'a lane is as paused as its pipeline');
sql(q(SELECT streamext.run('last_q')));
becomes(q(SELECT state || ' ' || pipeline FROM streamext.views WHERE view = 'last_q'::regclass), 'paused q', 'run() of a lane ends with the merge, also into a paused pipeline');
is(sql('SELECT count(*) FROM last_q'), '40', '… with all rows');

$node->stop;
done_testing();
