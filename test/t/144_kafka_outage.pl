# Brokers that are away: all of them for a while, each in turn, a partition without
# leader, slow answers, errors.  No error reaches the pipeline, status tells what is
# wrong, nobody spins, and everything goes on by itself, each record once.
#
# With librdkafka's mock cluster of three brokers; the whole size adds a real broker that
# is killed, and stays away, under load.
#
# faults: O4

use strict;
use warnings;
use File::Basename qw(dirname);
use lib dirname(__FILE__);
use IPC::Run qw(run start);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxFault;
use SxKafka;
use Test::More;
use Time::HiRes qw(time);

plan skip_all => 'no Kafka' unless $ENV{KAFKA_PORT};

my $tests = dirname(__FILE__) . '/..';
my $mock = $PostgreSQL::Test::Utils::tmp_check . '/mock';
run([ 'cc', '-O1', '-o', $mock, "$tests/kafka/mock.c", '-lrdkafka' ]) or BAIL_OUT('cannot build mock');

# ---- the mock cluster

my ($in, $out) = ('', '');
my $cluster = start([ $mock, 3, 'm=3' ], '<', \$in, '>', \$out, '2>', '/dev/null');
$cluster->pump until $out =~ /\n/;
(my $brokers = $out) =~ s/\s+$//;
my $broker = bless { brokers => $brokers }, 'SxKafka';

sub mock
{
	for my $command (@_)
	{
		($in, $out) = ("$command\n", '');
		$cluster->pump until $out =~ /\n/;
		$out =~ /^ok/ or BAIL_OUT("$command: $out");
	}
	return;
}

my $node = SxKafka->small_node('outage');
sub psql { return $node->safe_psql('postgres', $_[0]) }
sub poll { return ok($node->poll_query_until('postgres', $_[0]), $_[1]) }

sub make_stream
{
	my ($name, $topic, $where) = @_;
	psql(qq{
		CREATE STREAM $name (id bigint, part int) WITH (connector = 'kafka', brokers = '$where', topic = '$topic',
			"topic.metadata.refresh.interval.ms" = 2000);
		CREATE MATERIALIZED VIEW ${name}_rows AS SELECT id, part FROM $name;});
	return;
}

my %put = (0 => 0, 1 => 0, 2 => 0);
sub put
{
	my ($n, @parts) = @_;
	$broker->client(map { "put m $_ $put{$_} $n" } @parts);
	$put{$_} += $n foreach @parts;
	return;
}
sub total { return $put{0} + $put{1} + $put{2} }

# Seconds until all that was put has come.
sub all_come
{
	my ($what) = @_;
	my $start = time();
	ok($node->poll_query_until('postgres', 'SELECT count(*) >= ' . total() . ' FROM m_rows'), $what);
	return sprintf('%.1f', time() - $start);
}

make_stream('m', 'm', $brokers);
put(100, 0, 1, 2);
all_come('three brokers');
my $worker = psql("SELECT pid FROM streamext.pipelines WHERE pipeline = 'm'");

# all down
mock('down 1', 'down 2', 'down 3');
poll("SELECT status ~ '^disconnected since 20' FROM streamext.pipelines WHERE pipeline = 'm'", 'status: disconnected since');
note psql("SELECT status FROM streamext.pipelines WHERE pipeline = 'm'");
my $down = scale(6, 300);
my $until = time() + 30;
select(undef, undef, undef, 0.1) until SxKafka->helper_of($node, 'm') || time() > $until;
my @pids = ($worker, SxKafka->helper_of($node, 'm'));
my ($before, $start) = (SxKafka->cpu_seconds(@pids), time());
select(undef, undef, undef, 1) while time() < $start + $down;
is(join(' ', $worker, SxKafka->helper_of($node, 'm')), "@pids", 'worker and helper are the same all the while');
my $cpu = 100 * (SxKafka->cpu_seconds(@pids) - $before) / (time() - $start);
cmp_ok($cpu, '<', scale(20, 1), sprintf('%.2f %% of a CPU while they are down', $cpu));
is(psql("SELECT state, failures, error_message IS NULL, status ~ '^disconnected since' FROM streamext.pipelines WHERE pipeline = 'm'"),
	'running|0|t|t', 'no error');
mock('up 1', 'up 2', 'up 3');
put(100, 0, 1, 2);
my $resumed = all_come('goes on when they are back');
poll("SELECT status IS NULL FROM streamext.pipelines WHERE pipeline = 'm'", 'and the status is clean');
is(psql("SELECT pid FROM streamext.pipelines WHERE pipeline = 'm'"), $worker, 'the worker is the same');
fault_row(row => 'O4', what => "all brokers down for $down s", tried => 1, lost => 0, duplicated => 0,
	recovery => "$resumed s", note => sprintf('CPU while down %.2f %%', $cpu));

# each in turn, under load
my $slowest = 0;
for my $round (1 .. scale(1, 5))
{
	for my $n (1 .. 3)
	{
		my @others = grep { $_ != $n - 1 } 0 .. 2;
		mock("leader m $_ " . ($_ + 1)) foreach 0 .. 2;
		put(50, 0, 1, 2);
		mock("down $n");
		mock('leader m ' . ($n - 1) . ' ' . ($n % 3 + 1));	# as an election would
		put(50, 0, 1, 2);
		my $took = all_come("broker $n down, the next one leads");
		$slowest = $took if $took > $slowest;
		mock("up $n");
	}
}
fault_row(row => 'O4', what => 'each broker down in turn, with a new leader', tried => 3 * scale(1, 5), lost => 0,
	duplicated => 0, recovery => "$slowest s");

# a partition without leader
mock('leader m 1 -1');
put(50, 0, 2);
all_come('a partition without leader: the others go on');
mock('leader m 1 2');
put(50, 1);
$resumed = all_come('it goes on with a leader');
fault_row(row => 'O4', what => 'a partition without leader', tried => 1, lost => 0, duplicated => 0, recovery => "$resumed s");

# slow answers, and errors
mock(map { "rtt $_ 2000" } 1 .. 3);
put(20, 0, 1, 2);
my $slow = all_come('answers that take 2 seconds');
mock(map { "rtt $_ 0" } 1 .. 3);
my $rounds = scale(3, 30);
for my $round (1 .. $rounds)
{
	# not the leader, unavailable, a broken connection; and metadata
	mock('error 1 2 6', 'error 1 2 56', 'error 1 1 -195', 'error 3 1 -195');
	put(scale(50, 200), 0, 1, 2);
}
my $failing = all_come('fetches that fail');
is(psql('SELECT count(*), count(DISTINCT (part, id)) FROM m_rows'), total() . '|' . total(), 'each record once');
is(psql("SELECT state, failures, error_message IS NULL, pid = $worker FROM streamext.pipelines WHERE pipeline = 'm'"),
	'running|0|t|t', 'no error, the same worker');
fault_row(row => 'O4', what => 'answers after 2 s', tried => 60, lost => 0, duplicated => 0, recovery => "$slow s");
fault_row(row => 'O4', what => 5 * $rounds . ' fetches fail, ' . $rounds . ' of them with the connection', tried => 3 * $rounds * scale(50, 200),
	lost => total() - psql('SELECT count(DISTINCT (part, id)) FROM m_rows'),
	duplicated => psql('SELECT count(*) - count(DISTINCT (part, id)) FROM m_rows'), recovery => "$failing s");
is(psql('SELECT count(*) FROM streamext.gaps'), '0', 'nothing was taken for a loss');

# ---- a real broker, killed under load

if (full())
{
	my $dir = $PostgreSQL::Test::Utils::tmp_check . '/kafka';
	run([ "$tests/kafka/up", $dir ], '>', \my $port) or BAIL_OUT('no broker');
	chomp $port;
	my $real = SxKafka->new(port => $port, topic => 'r');
	my $each = 20_000;
	$rounds = 5;
	$real->client('create r 2');
	make_stream('r', 'r', "127.0.0.1:$port");
	my @recovery;
	for my $round (0 .. $rounds - 1)
	{
		$real->client("put r 0 " . $round * $each . " $each", "put r 1 " . $round * $each . " $each");
		run([ "$tests/kafka/down", $dir, $round % 2 ? 'TERM' : 'KILL' ]);
		poll("SELECT status ~ '^disconnected since' FROM streamext.pipelines WHERE pipeline = 'r'", 'disconnected');
		run([ "$tests/kafka/up", $dir ], '>', \$port) or BAIL_OUT('no broker again');
		my $back = time();
		poll('SELECT count(*) >= ' . 2 * $each * ($round + 1) . ' FROM r_rows', "restart $round");
		push @recovery, time() - $back;
	}
	@recovery = sort { $a <=> $b } @recovery;
	fault_row(row => 'O4', what => 'a real broker killed and started again', tried => $rounds,
		lost => 2 * $each * $rounds - psql('SELECT count(DISTINCT (part, id)) FROM r_rows'),
		duplicated => psql('SELECT count(*) - count(DISTINCT (part, id)) FROM r_rows'),
		recovery => sprintf('%.1f s', $recovery[-1]));
	is(psql('SELECT count(*), count(DISTINCT (part, id)) FROM r_rows'), join('|', (2 * $each * $rounds) x 2), 'each record once');
	is(psql("SELECT failures, error_message IS NULL FROM streamext.pipelines WHERE pipeline = 'r'"), '0|t', 'no error');
	run([ "$tests/kafka/down", $dir, 'KILL' ]);
}

$node->stop;
$cluster->kill_kill;
done_testing();
