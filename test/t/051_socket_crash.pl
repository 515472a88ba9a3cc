# The socket's log under crashes.  A server sends numbered lines at full speed; meanwhile
# processes of PostgreSQL are killed and the server is stopped immediately.  The peer is
# told what was logged (ack = on) and goes on behind that after each reconnect, so in the
# end every number must have been counted, once.  A second stream has a peer that does not
# listen and goes on with the next number: it may have gaps, where lines were on their way
# when a process died, but nothing twice and nothing that was in the log may be missing.
#
#	SX_LINES	lines at least (200,000); the peers go on until the last kill
#	SX_KILLS	kills of the pipeline's worker (8); a quarter as many immediate stops

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use POSIX qw(_exit WNOHANG);
use Test::More;
use Time::HiRes qw(sleep time);

my $lines = $ENV{SX_LINES} // 200_000;
my $kills = $ENV{SX_KILLS} // 8;
my $stops = int(($kills + 3) / 4);
my $seed = $ENV{SEED} // int(rand(1_000_000));
srand($seed);
diag("seed $seed: $lines lines, $kills kills, $stops immediate stops");

my $node = PostgreSQL::Test::Cluster->new('socket_crash');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'streamext'
max_worker_processes = 16
restart_after_crash = on
CONF
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE app');
$node->safe_psql('app', 'CREATE EXTENSION streamext');

# ---------------------------------------------------------------- the two peers
# Each is a process of its own, so that nothing here holds it up.  It ends when everything
# was acknowledged, or sent; it writes what it has done into a file.
my $dir = PostgreSQL::Test::Utils::tempdir();
my %child;

sub start_peer
{
	my ($name, $serve) = @_;
	my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 5, ReuseAddr => 1)
	  || die "cannot listen: $@";
	my $pid = fork() // die "fork: $!";
	if ($pid == 0)
	{
		$SIG{PIPE} = 'IGNORE';
		eval { $serve->($listener, "$dir/$name"); };
		append_to_file("$dir/$name", "died: $@\n") if $@;
		_exit(0);
	}
	$child{$name} = $pid;
	my $port = $listener->sockport;
	$listener->close;
	return $port;
}

# The number of the last line: it grows while processes are being killed.
my $last = $lines;

sub more_than
{
	my ($sent) = @_;
	$last += 10_000 if $sent >= $last && !-e "$dir/enough";
	return $last > $sent;
}

# Lines from, from + 1, … as one piece.
sub piece
{
	my ($from, $n) = @_;
	$n = $last - $from + 1 if $from + $n > $last + 1;
	return join('', map { "$_\n" } $from .. $from + $n - 1);
}

# Sends, reads acknowledgements, and begins behind the last one after a reconnect.
sub careful_peer
{
	my ($listener, $file) = @_;
	my ($connections, $acked, $resent) = (0, 0, 0);
	my $furthest = 0;
	while (more_than($acked))
	{
		my $peer = $listener->accept or next;
		$peer->blocking(0);
		$connections++;
		my ($next, $out, $in, $greeted) = (0, '', '', 0);
		my $io = IO::Select->new($peer);
		CONNECTION: while (more_than($acked))
		{
			if ($greeted && $out eq '' && more_than($next - 1))
			{
				$out = piece($next, 2000);
				$next = $next + 2000 > $last ? $last + 1 : $next + 2000;
				$furthest = $next - 1 if $next - 1 > $furthest;
			}
			my ($r, $w) = IO::Select->select($io, $out ne '' ? $io : undef, undef, 10);
			if ($r && @$r)
			{
				my $n = sysread($peer, $in, 4096, length $in);
				last CONNECTION if defined $n ? $n == 0 : !$!{EAGAIN};
				while ($in =~ s/^(\d+)\n//)
				{
					die "acknowledged $1 after $acked" if $1 < $acked;
					$acked = $1;
					next if $greeted;
					$greeted = 1;
					$next = $acked + 1;
					$resent += $furthest - $acked if $furthest > $acked;
				}
			}
			if ($w && @$w)
			{
				my $n = syswrite($peer, $out);
				last CONNECTION if !defined $n && !$!{EAGAIN};
				substr($out, 0, $n, '') if $n;
			}
		}
		$peer->close;
	}
	append_to_file($file, "acked $acked connections $connections resent $resent\n");
}

# Sends each line once, whatever becomes of it.
sub careless_peer
{
	my ($listener, $file) = @_;
	my ($connections, $next) = (0, 1);
	while (more_than($next - 1))
	{
		my $peer = $listener->accept or next;
		$connections++;
		while (more_than($next - 1))
		{
			my $out = piece($next, 500);
			$next = $next + 500 > $last ? $last + 1 : $next + 500;
			last if !defined syswrite($peer, $out);
			sleep(0.002);
		}
		$peer->close;
	}
	append_to_file($file, "sent $last connections $connections\n");
}

my $careful = start_peer('careful', \&careful_peer);
my $careless = start_peer('careless', \&careless_peer);

$node->safe_psql('app', qq(
	CREATE STREAM careful (line text) WITH (connector = 'socket', host = '127.0.0.1', port = $careful,
		ack, max_batch_rows = 5000);
	CREATE MATERIALIZED VIEW careful_counts AS SELECT line, count(*) AS n FROM careful GROUP BY line;
	CREATE STREAM careless (line text, no bigint OPTIONS (metadata 'offset'))
		WITH (connector = 'socket', host = '127.0.0.1', port = $careless, max_batch_rows = 5000);
	CREATE MATERIALIZED VIEW careless_all AS SELECT line, no FROM careless;));

# ---------------------------------------------------------------- the killing
# The answer, undef while the server is down.  psql may be gone before it was given the
# query, which IPC::Run takes for a reason to die.
sub ask
{
	my ($query) = @_;
	my ($rc, $out) = eval { $node->psql('app', $query) };
	return defined $rc && $rc == 0 ? $out : undef;
}

my $highest_rss = 0;

# Private memory of the receivers, in kB.
sub note_memory
{
	for my $pid (split /\n/, ask("SELECT pid FROM pg_stat_activity WHERE backend_type = 'streamext receiver'") // '')
	{
		open my $status, '<', "/proc/$pid/status" or next;
		while (<$status>)
		{
			$highest_rss = $1 if /^RssAnon:\s+(\d+)/ && $1 > $highest_rss;
		}
	}
}

sub up_again
{
	my $deadline = time() + $PostgreSQL::Test::Utils::timeout_default;
	while (!defined ask('SELECT true'))
	{
		die 'the server does not come back' if time() > $deadline;
		sleep(0.05);
	}
}

# Lines processed so far by the careful stream.
sub progress
{
	return ask("SELECT position ->> 'seq' FROM streamext.partition WHERE stream = 'careful'::regclass") || 0;
}

my @events = ((('kill') x $kills), (('stop') x $stops));
@events = sort { rand() <=> 0.5 } @events;
my ($killed, $stopped) = (0, 0);
my $start = time();
for my $event (@events)
{
	# spread over the lines; then at any moment
	my $target = progress() + int($lines / (@events + 2));
	my $deadline = time() + 60;
	while (time() < $deadline && progress() < $target)
	{
		note_memory();
		sleep(0.02);
	}
	sleep(rand(0.1));
	if ($event eq 'stop')
	{
		$node->stop('immediate');
		$node->start;
		$stopped++;
	}
	else
	{
		my $pid;
		for (1 .. 200)
		{
			$pid = ask("SELECT pid FROM pg_stat_activity WHERE backend_type = 'streamext worker' ORDER BY random() LIMIT 1");
			last if $pid;
			sleep(0.05);
		}
		$killed++ if $pid && kill 'KILL', $pid;
	}
	up_again();
}
append_to_file("$dir/enough", 'yes');

for my $deadline (time() + 10 * $PostgreSQL::Test::Utils::timeout_default)
{
	while (time() < $deadline && grep { !-s "$dir/$_" } keys %child)
	{
		note_memory();
		sleep(0.1);
	}
}
my $seconds = sprintf('%.1f', time() - $start);
my %report = map { $_ => -s "$dir/$_" ? slurp_file("$dir/$_") : 'nothing' } keys %child;
diag("$seconds s, $killed kills, $stopped stops; careful: $report{careful}"
	  . "careless: $report{careless}receivers took at most $highest_rss kB");

is($killed, $kills, "$kills workers were killed");
is($stopped, $stops, "$stops times PostgreSQL was stopped immediately");
my ($acked) = $report{careful} =~ /^acked (\d+) /;
cmp_ok($acked // 0, '>=', $lines, 'every line was acknowledged');
ok($node->safe_psql('app', "SELECT streamext.wait('careful', '5 minutes')"), 'and processed');
is( $node->safe_psql('app', 'SELECT count(*), sum(n), min(line::int), max(line::int) FROM careful_counts'),
	"$acked|$acked|1|$acked", 'each line exactly once');

# The other peer: what is in the log is in the view, in order, once.
my ($sent) = $report{careless} =~ /^sent (\d+) /;
cmp_ok($sent // 0, '>=', $lines, 'the other peer has sent everything');
$node->poll_query_until('app', "SELECT count(*) FROM streamext_state.careless_log l JOIN careless_all a ON a.no = l.seq AND a.line = '$sent'", '1')
  or diag('the last line has not come');
my ($n, $numbers, $distinct, $whole, $highest) = split /\|/, $node->safe_psql('app', q(
	SELECT count(*), count(DISTINCT no), count(DISTINCT line), count(*) FILTER (WHERE line ~ '^\d+$'), max(no) FROM careless_all));
diag("of $sent lines that were sent once, $n were logged");
is($numbers, $n, 'of what was sent once, nothing is counted twice');
is($distinct, $n, '… no line is there twice');
is($highest, $n, '… and nothing that was logged is missing: numbers have no gap');
is($whole, $n, '… or was cut in pieces');
is( $node->safe_psql('app', 'SELECT count(*) FROM (SELECT line::int - lag(line::int) OVER (ORDER BY no) AS d FROM careless_all) x WHERE d < 1'),
	'0', '… or is out of order');
SKIP:
{
	skip 'the sanitizers keep what is freed', 1 if $ENV{SANITIZE};
	cmp_ok($highest_rss, '<', 64 * 1024, 'memory of the receivers is bounded');
}

for my $pid (values %child)
{
	kill 'KILL', $pid if waitpid($pid, WNOHANG) == 0;
}
$node->stop;
done_testing();
