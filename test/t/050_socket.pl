# The connector socket against a server in this script: order and framing, reconnecting,
# records that are too long, two pipelines, what stops and starts a receiver, back-pressure,
# acknowledgements, durable = off, NOTHING open while it waits.

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxQuiet;
use Test::More;

my $timeout = $PostgreSQL::Test::Utils::timeout_default;

my $node = PostgreSQL::Test::Cluster->new('socket');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'streamext'
streamext.allowed_hosts = 'localhost, 127.0.0.0/8, [::1]'
max_worker_processes = 32
autovacuum = off
CONF
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE app');
$node->safe_psql('app', 'CREATE EXTENSION streamext');

sub sql { return $node->safe_psql('app', $_[0]); }

sub becomes
{
	my ($query, $expected, $name) = @_;
	ok($node->poll_query_until('app', $query, $expected), $name);
}

# ---------------------------------------------------------------- a server
sub listener
{
	my ($port) = @_;
	return IO::Socket::INET->new(
		LocalAddr => '127.0.0.1', LocalPort => $port // 0, Listen => 5,
		ReuseAddr => 1, Timeout => $timeout) || die "cannot listen: $@";
}

# A port where nobody listens.
sub free_port
{
	my $listener = listener();
	my $port = $listener->sockport;
	$listener->close;
	return $port;
}

sub accepted
{
	my ($listener) = @_;
	my $peer = $listener->accept || die 'nobody has connected';
	$peer->autoflush(1);
	return $peer;
}

sub can_read { return IO::Select->new($_[0])->can_read($_[1] // $timeout); }

# One line from the peer.
sub line
{
	my ($peer) = @_;
	my $text = '';
	while ($text !~ /\n\z/)
	{
		can_read($peer) or die "no line, only '$text'";
		sysread($peer, $text, 1, length $text) or return $text;
	}
	return $text;
}

# What is in a stream's view, in order of arrival.
sub lines { return sql("SELECT coalesce(string_agg(line, '|' ORDER BY no), '') FROM $_[0]"); }

sub view_of
{
	my ($stream, $options) = @_;
	sql(qq(CREATE STREAM $stream (line text, no bigint OPTIONS (metadata 'offset'), at timestamptz OPTIONS (metadata 'timestamp'))
			WITH (connector = 'socket', host = '127.0.0.1', $options);
		CREATE MATERIALIZED VIEW ${stream}_all AS SELECT line, no, at FROM $stream));
}

my $pids = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'streamext receiver'";

# ---------------------------------------------------------------- lines
my $listener = listener();
my $port = $listener->sockport;
view_of('a', "port = $port");
my $peer = accepted($listener);
print $peer "one\ntwo\r\n\n\r\nthr";
becomes('SELECT count(*) FROM a_all', '4', 'what comes is there, in whole lines');
print $peer "ee\n" . join('', map { "line $_\n" } 1 .. 1000);
becomes('SELECT count(*) FROM a_all', '1005', 'a line may come in pieces');
like(lines('a_all'), qr/^one\|two\|\|\|three\|line 1\|line 2\|/, 'LF and CRLF; empty lines are records');
is(sql(q(SELECT string_agg(line, ',' ORDER BY no) = string_agg('line ' || i, ',' ORDER BY i)
		FROM (SELECT row_number() OVER (ORDER BY no) AS i, * FROM a_all WHERE line ~ '^line') x)), 't', 'in order');
is(sql("SELECT min(no), max(no), bool_and(at > now() - interval '10 minutes') FROM a_all"), '1|1005|t', 'numbers and times');
is(sql("SELECT status FROM streamext.pipelines WHERE pipeline = 'a'"), '', 'nothing is wrong');

# ---------------------------------------------------------------- the peer goes and comes
print $peer 'the last';
$peer->close;
becomes("SELECT line FROM a_all WHERE no = 1006", 'the last', 'a last line without its end is a record');
$peer = accepted($listener);
print $peer "again\n";
becomes('SELECT line FROM a_all WHERE no = 1007', 'again', 'the receiver has connected again');
$listener->close;
$peer->close;
becomes("SELECT status ~ 'refused, next try in' FROM streamext.pipelines WHERE pipeline = 'a'", 't', 'without a server the status says so');
$listener = listener($port);
$peer = accepted($listener);
print $peer "back\n";
becomes('SELECT line FROM a_all WHERE no = 1008', 'back', 'when it is there again, so are we');
becomes("SELECT status IS NULL FROM streamext.pipelines WHERE pipeline = 'a'", 't', 'and the status is empty');

# ---------------------------------------------------------------- idle
is( sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'streamext %' AND backend_xmin IS NOT NULL"),
	'0', 'nothing holds a snapshot while it waits');
becomes('SELECT count(*) FROM streamext_state.a_log', '1', 'processed records leave the log, all but the last');
cmp_ok(idle_wal($node, 'app'), '<', 1000, 'an idle socket writes no WAL');
is(sql('SELECT count(*) FROM a'), '0', 'outside a batch the stream shows what is not processed');

# ---------------------------------------------------------------- pause, alter, off, drop
sub gone
{
	my ($peer, $name) = @_;
	ok(can_read($peer, $PostgreSQL::Test::Utils::timeout_default) && !sysread($peer, my $data, 1), $name);
}
sql("SELECT streamext.pause('a')");
gone($peer, 'pause() ends the connection');
is(sql($pids), '0', '… and the receiver');
sql("SELECT streamext.resume('a')");
$peer = accepted($listener);
print $peer "resumed\n";
becomes('SELECT line FROM a_all WHERE no = 1009', 'resumed', 'resume() begins it anew');
my $other = listener();
sql('ALTER STREAM a OPTIONS (SET port \'' . $other->sockport . '\')');
gone($peer, 'so does ALTER');
$peer = accepted($other);
print $peer "altered\n";
becomes('SELECT line FROM a_all WHERE no = 1010', 'altered', 'with what was altered');
$node->append_conf('postgresql.conf', 'streamext.enabled = off');
$node->reload;
gone($peer, 'streamext.enabled = off ends it');
$node->append_conf('postgresql.conf', 'streamext.enabled = on');
$node->reload;
$peer = accepted($other);
print $peer "on\n";
becomes('SELECT line FROM a_all WHERE no = 1011', 'on', 'and on begins it');

# ---------------------------------------------------------------- two pipelines
sql("CREATE MATERIALIZED VIEW a_count WITH (pipeline = 'second') AS SELECT count(*) AS n FROM a");
print $peer map { "both $_\n" } 1 .. 500;
becomes("SELECT count(*) FROM a_all WHERE line ~ '^both'", '500', 'one pipeline reads the stream');
becomes('SELECT n >= 500 FROM a_count', 't', 'and so does another');
is(sql($pids), '1', 'with one receiver');
sql("SELECT streamext.pause('second')");
print $peer map { "slow $_\n" } 1 .. 100;
becomes("SELECT count(*) FROM a_all WHERE line ~ '^slow'", '100', 'one may be paused');
is(sql('SELECT count(*) FROM a'), '100', 'the log keeps what it has not processed');
my $n = sql('SELECT n FROM a_count');
is(sql("SELECT rows FROM streamext.step('second')"), '100', 'step() takes it from the log');
is(sql('SELECT n FROM a_count'), $n + 100, 'so nothing is missing');
sql("SELECT streamext.pause('second'); CREATE STREAM other (i int) WITH (connector = 'queue', pipeline = 'third');
	CREATE MATERIALIZED VIEW other_all WITH (pipeline = 'third') AS SELECT a.line FROM a UNION ALL SELECT o.i::text FROM other o");
print $peer "third\n";
becomes("SELECT count(*) FROM other_all WHERE line = 'third'", '1', 'a new pipeline begins with what the log holds');
sql("CREATE MATERIALIZED VIEW other_only WITH (pipeline = 'third', backfill = off) AS SELECT i FROM other;
	DROP VIEW other_all, a_count");
print $peer map { "after $_\n" } 1 .. 100;
becomes("SELECT count(*) FROM a_all WHERE line ~ '^after'", '100', 'a pipeline in which nothing reads the stream any more');
becomes('SELECT count(*) FROM streamext_state.a_log', '1', 'does not hold up the log');
sql('DROP VIEW a_all');
gone($peer, 'without any reader there is no connection');
sql('DROP STREAM a CASCADE');
is(sql("SELECT to_regclass('streamext_state.a_log') IS NULL"), 't', 'the log is dropped with it');

# ---------------------------------------------------------------- length-prefixed
$listener = listener();
sql(sprintf(q(CREATE STREAM b (x int, no bigint OPTIONS (metadata 'offset'), bytes bytea OPTIONS (metadata 'raw'))
	WITH (connector = 'socket', host = '127.0.0.1', port = %d, framing = 'length', format = 'json');
	CREATE MATERIALIZED VIEW b_all AS SELECT x, no, bytes FROM b), $listener->sockport));
$peer = accepted($listener);
sub frames { return join '', map { pack('N/a', $_) } @_; }
my $data = frames('{"x": 1}', "{\"x\":\n2}", 'no json', '', '{"x": null}');
syswrite($peer, substr($data, 0, 6));
syswrite($peer, substr($data, 6));
becomes('SELECT count(*) FROM b_all', '3', 'length-prefixed records');
is(sql("SELECT string_agg(coalesce(x::text, 'null'), ',' ORDER BY no) FROM b_all"), '1,2,null', 'with line ends in them');
is(sql(q(SELECT string_agg(convert_from(value, 'UTF8'), ',' ORDER BY "offset") FROM streamext.dead_letters)), 'no json,',
	'what is no JSON is a dead letter');
print $peer frames('{"x": 3}') . pack('N', 100) . 'cut off';
$peer->close;
$peer = accepted($listener);
print $peer frames('{"x": 4}');
becomes('SELECT max(x) FROM b_all', '4', 'a record that was cut off is no record');
ok($node->log_contains('ended in the middle of a record'), 'and is logged');
sql('DROP STREAM b CASCADE');

# ---------------------------------------------------------------- too long
$listener = listener();
view_of('c', 'port = ' . $listener->sockport . ', max_record_bytes = 1000');
$peer = accepted($listener);
print $peer 'x' x 1000 . "\r\n" . 'y' x 1001 . "\nbehind\n";
becomes('SELECT count(*) FROM c_all', '1', 'a record of max_record_bytes is taken');
becomes("SELECT status ~ 'longer than max_record_bytes' FROM streamext.pipelines WHERE pipeline = 'c'",
	't', 'a longer one ends the connection, and the status says so');
$peer->close;
$peer = accepted($listener);
print $peer "fine\n";
becomes('SELECT line FROM c_all WHERE no = 2', 'fine', 'the next connection begins anew');
sql('DROP STREAM c CASCADE');

# ---------------------------------------------------------------- back-pressure
$listener = listener();
view_of('d', 'port = ' . $listener->sockport . ', max_log_rows = 1000');
sql("CREATE MATERIALIZED VIEW d_slow WITH (pipeline = 'slow') AS SELECT count(*) AS n FROM d");
$peer = accepted($listener);
sql("SELECT streamext.pause('slow')");
my $sent = 0;
$peer->blocking(0);
while (IO::Select->new($peer)->can_write(3))
{
	my $batch = join '', map { sprintf("%0100d\n", $_) } $sent + 1 .. $sent + 100;
	my $written = 0;
	while ($written < length $batch && IO::Select->new($peer)->can_write(3))
	{
		my $n = syswrite($peer, $batch, length($batch) - $written, $written);
		$written += $n if defined $n;
	}
	last if $written < length $batch;
	$sent += 100;
	last if $sent > 1_000_000;
}
cmp_ok($sent, '<', 1_000_000, "a full log stops the peer (after $sent records)");
cmp_ok(sql('SELECT count(*) FROM streamext_state.d_log'), '<', 70_000, 'the log is bounded');
becomes("SELECT status ~ 'waits for pipeline \"slow\"' FROM streamext.pipelines WHERE pipeline = 'd'", 't', 'the status says why');
sql("SELECT streamext.resume('slow')");
becomes("SELECT n >= $sent - 1 FROM d_slow", 't', 'when the pipeline goes on, so does the peer');
is(sql('SELECT count(*) = max(no) AND count(*) = count(DISTINCT line) FROM d_all'), 't', 'nothing was lost or came twice');
sql('DROP STREAM d CASCADE');

# ---------------------------------------------------------------- acknowledgements
$listener = listener();
view_of('e', 'port = ' . $listener->sockport . ', ack');
$peer = accepted($listener);
is(line($peer), "0\n", 'with ack the peer is told what is in the log');
print $peer "1\n2\n3\n";
is(line($peer), "3\n", 'and after each commit');
print $peer "4\n5 is not com";
is(line($peer), "4\n", 'a line that is not complete does not count');
$peer->close;
$peer = accepted($listener);
is(line($peer), "4\n", 'a new connection begins with what was logged');
print $peer "5\n6\n";
is(line($peer), "6\n", '… and goes on');
becomes('SELECT count(*) FROM e_all', '6', 'all of it was processed');
is(lines('e_all'), '1|2|3|4|5|6', 'once');

# ---------------------------------------------------------------- the receiver is killed
my $pid = sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'streamext receiver'");
sql("SELECT pg_terminate_backend($pid)");
gone($peer, 'a receiver that was terminated');
$peer = accepted($listener);
is(line($peer), "6\n", '… has a successor');
becomes($pids, '1', '… which is alone');

# ---------------------------------------------------------------- reset
sql("SELECT streamext.pause('e'); SELECT streamext.reset('e'); SELECT streamext.resume('e')");
$peer = accepted($listener);
is(line($peer), "6\n", 'numbers go on after reset()');
print $peer "7\n";
is(line($peer), "7\n", '… with the records');
becomes('SELECT max(no) FROM e_all', '7', '… which are processed');
sql('DROP STREAM e CASCADE');
gone($peer, 'DROP STREAM ends the connection');

# ---------------------------------------------------------------- durable = off
$listener = listener();
view_of('f', 'port = ' . $listener->sockport . ', durable = off');
$peer = accepted($listener);
print $peer map { "$_\n" } 1 .. 1000;
becomes('SELECT count(*) FROM f_all', '1000', 'durable = off: the worker reads the socket');
is(sql("SELECT to_regclass('streamext_state.f_log') IS NULL"), 't', 'without a log');
becomes($pids, '0', 'and without a receiver');
$peer->close;
$peer = accepted($listener);
print $peer "more\n";
becomes('SELECT line FROM f_all WHERE no = 1001', 'more', 'it reconnects as well');
is(sql("SELECT streamext.wait('f')"), 't', 'wait() returns');
sql("SELECT streamext.pause('f')");
gone($peer, 'and pause() ends it');
my $session = $node->background_psql('app');
$session->{stdin} .= "SELECT rows FROM streamext.step('f');\n\\echo done\n";
$session->{run}->pump_nb;
$peer = accepted($listener);
print $peer "step 1\nstep 2\n";
pump_until($session->{run}, $session->{timeout}, \$session->{stdout}, qr/done/);
like($session->{stdout}, qr/^2$/m, 'step() connects, takes what comes and goes');
$session->quit;
$listener->close;
like(($node->psql('app', 'SELECT * FROM f'))[2], qr/holds nothing outside a batch/, 'there is nothing to peek at');

# ---------------------------------------------------------------- an owner without superuser
$listener = listener();
sql(qq(CREATE ROLE bob LOGIN; GRANT USAGE ON FOREIGN SERVER streamext TO bob; CREATE SCHEMA bob AUTHORIZATION bob));
$node->safe_psql('app', sprintf(q(SET ROLE bob;
	CREATE STREAM bob.g (line text) WITH (connector = 'socket', host = 'localhost', port = %d);
	CREATE MATERIALIZED VIEW bob.g_all AS SELECT line, count(*) AS n FROM bob.g GROUP BY line), $listener->sockport));
$peer = accepted($listener);
print $peer "hello\nhello\n";
becomes('SELECT n FROM bob.g_all', '2', 'the stream of a role that is no superuser, and a name for a host');
is(sql("SELECT usename FROM pg_stat_activity WHERE backend_type = 'streamext receiver'"), 'bob', 'runs as its owner');
like(($node->psql('app', "SET ROLE bob; INSERT INTO streamext_state.g_log VALUES (99, now(), 'x')"))[2],
	qr/is written by streamext only/, 'who cannot write to the log');
sql('ALTER FOREIGN TABLE bob.g OWNER TO CURRENT_USER; GRANT SELECT ON bob.g TO bob');
becomes("SELECT string_agg(usename, ',') FROM pg_stat_activity WHERE backend_type = 'streamext receiver'",
	$node->safe_psql('postgres', 'SELECT current_user'), 'another owner, another receiver');
sql('DROP STREAM f CASCADE; DROP EXTENSION streamext CASCADE');
becomes("SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('streamext receiver', 'streamext worker')", '0',
	'DROP EXTENSION leaves no receiver');

ok(!$node->log_contains('terminated by signal|PANIC|TRAP:'), 'nothing crashed');
$node->stop;
done_testing();
