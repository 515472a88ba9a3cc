# The server stops within seconds though a broker does not answer: one at a port that
# refuses, one that takes connections and never says a word; with workers, a receiver and
# sessions that peek.  Cancels and terminations of all our processes do no harm.
#
# faults: P8 S9

use strict;
use warnings;
use File::Basename qw(dirname);
use lib dirname(__FILE__);
use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxFault;
use Test::More;
use Time::HiRes qw(time);

fault_seed();
my $silent = IO::Socket::INET->new(Listen => 64, LocalAddr => '127.0.0.1') or die;
my $closed = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1') or die;
my ($silent_port, $closed_port) = ($silent->sockport, $closed->sockport);
close $closed;

my $node = PostgreSQL::Test::Cluster->new('shutdown');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'streamext'
max_worker_processes = 16
CONF
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION streamext');
for my $port ($silent_port, $closed_port)
{
	$node->safe_psql('postgres', qq{
		CREATE STREAM k$port (v int) WITH (connector = 'kafka', brokers = '127.0.0.1:$port', topic = 't', format = 'json');
		CREATE MATERIALIZED VIEW n$port AS SELECT count(*) AS n FROM k$port;
		CREATE STREAM s$port (v int) WITH (connector = 'socket', host = '127.0.0.1', port = '$port', format = 'json');
		CREATE MATERIALIZED VIEW m$port AS SELECT count(*) AS n FROM s$port;});
}
$node->safe_psql('postgres', q{
	CREATE STREAM ticks (value bigint, "timestamp" timestamptz) WITH (connector = 'rate', rows_per_second = 1000);
	CREATE MATERIALIZED VIEW counted AS SELECT value % 10 AS k, count(*) AS n, max(value) AS last FROM ticks GROUP BY 1;});

my $all = "SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('streamext worker', 'streamext receiver')";

sub up
{
	my ($name) = @_;
	ok($node->poll_query_until('postgres', $all, '7'), "$name: five workers and two receivers");
	ok($node->poll_query_until('postgres', q{SELECT count(*) >= 2 FROM streamext.pipelines WHERE pipeline <> 'ticks' AND status IS NOT NULL AND state = 'running'}),
		"$name: those who cannot connect, or hear nothing, say so")
	  or diag $node->safe_psql('postgres', 'SELECT pipeline, state, pid, status, error_message FROM streamext.pipelines');
	return;
}

# Helper programs of this server that are left.
sub helpers
{
	my $data = $node->data_dir;
	my $n = 0;
	for my $comm (glob('/proc/[0-9]*/comm'))
	{
		open(my $file, '<', $comm) or next;
		my $name = <$file> // '';
		(my $cwd = $comm) =~ s/comm$/cwd/;
		$n++ if $name =~ /^streamext-kafka/ && (readlink($cwd) // '') eq $data;
	}
	return $n;
}

my %longest;
for my $round (1 .. scale(1, 5))
{
	for my $mode ('fast', 'smart', 'immediate')
	{
		up("round $round");
		my @sessions;
		if ($mode ne 'smart')
		{
			# Peeks that wait for the broker.
			@sessions = map { $node->background_psql('postgres', on_error_stop => 0) } 1 .. 2;
			$sessions[0]->query_until(qr/peek/, "\\echo peek\nSELECT count(*) FROM k$silent_port;\n");
			$sessions[1]->query_until(qr/peek/, "\\echo peek\nSELECT count(*) FROM k$closed_port;\n");
		}
		my $began = time;
		$node->stop($mode);
		my $took = time - $began;
		cmp_ok($took, '<', scale(30, 5), "round $round: $mode shutdown takes no time");
		$longest{$mode} = $took if $took > ($longest{$mode} // 0);
		eval { $_->{run}->kill_kill } foreach @sessions;
		my $left = helpers();
		for (my $until = time + 5; $left && time < $until; $left = helpers()) { select(undef, undef, undef, 0.1) }
		is($left, 0, "round $round: no helper program is left");
		$node->start;
	}
}
fault_row(row => 'P8', what => "shutdown $_, brokers silent and refusing", tried => scale(1, 5),
	recovery => sprintf('at most %.1f s', $longest{$_})) foreach ('fast', 'smart', 'immediate');

# ---------------------------------------------------------------- cancel and terminate
up('signals');
$node->safe_psql('postgres', 'CREATE ROLE signaller LOGIN; GRANT pg_signal_backend TO signaller');
my $tried = 0;
for (1 .. scale(40, 1000))
{
	my $function = rand() < 0.5 ? 'pg_cancel_backend' : 'pg_terminate_backend';
	$tried += $node->safe_psql('postgres', qq{
		SELECT count($function(pid)) FROM (SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'streamext%' ORDER BY random() LIMIT 2) p});
}
# pg_signal_backend is refused at processes of superusers, and that is what these are.
my ($rc, $out, $err) = $node->psql('postgres', q{SELECT pg_terminate_backend(pid) FROM streamext.pipelines WHERE pid IS NOT NULL},
	extra_params => [ '-U', 'signaller' ]);
my $n = $node->safe_psql('postgres', 'SELECT sum(n) FROM counted');
ok($node->poll_query_until('postgres', "SELECT sum(n) > $n FROM counted"), 'after them all it goes on');
is($node->safe_psql('postgres', 'SELECT sum(n) = max(last) + 1 FROM counted'), 't', 'nothing lost, nothing twice');
is($node->safe_psql('postgres', q{SELECT count(*) FROM streamext.pipelines WHERE state <> 'running'}), '0', 'no pipeline was stopped by them');
is($node->safe_psql('postgres', 'SELECT count(*) FROM streamext.dead_letters'), '0', 'no record was blamed for them');
up('after signals');
ok(!$node->log_contains('TRAP:|PANIC:|terminated by signal (6|11)'), 'no crash in the log');
fault_row(row => 'S9', what => 'cancels and terminations of all processes', tried => $tried, lost => 0, duplicated => 0);

$node->stop;
done_testing();
