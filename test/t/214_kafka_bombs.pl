# Record batches that no client would make: what unpacks to much more than it is, and what was
# damaged on the broker's disk.
# faults: B4 B5
#
# SX_CASES: numbers of those to try, with commas.
#
# Each kind in a topic and pipeline of its own, between good records.  The broker may refuse
# it, the record may become a row or a letter, or the pipeline may stop and say why; other
# sessions live on, other pipelines go on, and nothing is taken twice.  The memory that
# helper and worker took at most is reported.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use IPC::Run qw(run);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxFault;
use Test::More;
use Time::HiRes qw(time usleep);

plan skip_all => 'no Kafka' unless $ENV{KAFKA_PORT};

my $tests = abs_path(dirname(__FILE__) . '/..');
my $dir = PostgreSQL::Test::Utils::tempdir();
my $mb = 1024 * 1024;
run([ "$tests/kafka/up", "$dir/kafka" ], '>', \my $port, '2>', \my $err) or plan skip_all => 'no Kafka of our own';
chomp $port;

sub batch
{
	my ($out, $said);
	return run([ 'python3', "$tests/kafka/batch.py", @_ ], '>', \$out, '2>', \$said) ? $out : undef;
}

my $bomb = scale(300, 1024) * $mb;
# name, arguments of produce, damage
my @cases = (
	[ 'gzip bomb', [ 'gzip', $bomb ] ],
	[ 'zstd bomb', [ 'zstd', $bomb ] ],
	[ 'lz4 bomb', [ 'lz4', scale(100, 250) * $mb ] ],
	[ 'snappy bomb', [ 'snappy', 20 * $mb ] ],
	[ 'corrupt CRC', [ 'gzip', 1000 ], 'crc' ],
	[ 'wrong codec', [ 'gzip', 1000 ], 'codec' ],
	[ 'gzip cut short', [ 'gzip', 100_000 ], 'short' ],
	[ 'batch cut short', [ 'none', 1000 ], 'short' ],
	[ 'a million records claimed', [ 'none', 1000 ], 'count' ],
	[ 'value of 30 MB, key of 1 MB, 10,000 headers', [ 'gzip', 30 * $mb, $mb, 10_000 ] ]);

my %only = map { $_ => 1 } split /,/, $ENV{SX_CASES} // '';

my $node = PostgreSQL::Test::Cluster->new('bombs');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'streamext'\nmax_worker_processes = 40\nstreamext.max_workers = 24\nfsync = off\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION streamext');
my $started = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');
# its time is that of the whole test
my $session = $node->background_psql('postgres', timeout => 3600);
$session->query_safe('CREATE TEMP TABLE still_here AS SELECT 1 AS x');

sub peak_mb
{
	my ($pid) = @_;
	open(my $status, '<', "/proc/$pid/status") or return 0;
	my ($peak) = map { /^VmHWM:\s+(\d+)/ ? $1 : () } <$status>;
	return int(($peak // 0) / 1024);
}

sub outcome
{
	my ($n) = @_;
	return $node->safe_psql('postgres', "SELECT state, (SELECT count(*) FROM r_$n WHERE i IS NOT NULL), (SELECT count(DISTINCT i) FROM r_$n),
		(SELECT count(*) FROM streamext.dead_letters WHERE pipeline = 's_$n'), failures,
		replace(coalesce(error_sqlstate || ' ' || left(error_message, 150), status, ''), '|', '/') FROM streamext.pipelines WHERE pipeline = 's_$n'");
}

my $dropped = 0;
foreach my $n (0 .. $#cases)
{
	my ($name, $produce, $damage) = @{ $cases[$n] };
	next if %only && !$only{$n};
	next if $name eq 'gzip cut short' && !full() && !%only;	# half a minute of CPU time
	my $topic = "bomb_$n";
	run([ "$tests/kafka/topic", $port, 'create', $topic, 1, 'max.message.bytes=20000000', 'retention.ms=-1' ]) or die 'no topic';
	defined batch('produce', $port, $topic, 'json', 1, 10) or die 'cannot produce';
	my $sent = batch('produce', $port, $topic, @$produce);
	if (!defined $sent)
	{
		pass("$name: the broker refuses it");
		fault_row(row => 'B4', what => $name, tried => 1, lost => 0, duplicated => 0, note => 'refused by the broker');
		next;
	}
	if ($damage)
	{
		batch('damage', "$dir/kafka/data/$topic-0/00000000000000000000.log", $damage) // die 'cannot damage';
	}
	batch('produce', $port, $topic, 'json', 11, 10);
	$node->safe_psql('postgres', qq{
		BEGIN;
		CREATE TABLE r_$n (i int, k int, h int);
		CREATE STREAM s_$n (i int, key bytea OPTIONS (metadata 'key'), h jsonb OPTIONS (metadata 'headers'))
			WITH (connector = 'kafka', brokers = '127.0.0.1:$port', topic = '$topic', format = 'json');
		CREATE STREAM o_$n WITH (connector = 'table', table = 'r_$n') AS SELECT i, length(key) AS k, length(h::text) AS h FROM s_$n;
		COMMIT;
	});
	my ($helper, $worker, $last) = (0, 0, '');
	# until it stops or all is there: three deaths of a helper take a minute of CPU time
	my $until = time() + 4 * $PostgreSQL::Test::Utils::timeout_default;
	while (time() < $until)
	{
		my $pid = $node->safe_psql('postgres', "SELECT pid FROM streamext.pipelines WHERE pipeline = 's_$n'");
		if ($pid)
		{
			my $peak = peak_mb($pid);
			$worker = $peak if $peak > $worker;
			my $children = eval { slurp_file("/proc/$pid/task/$pid/children") } // '';
			foreach my $child (split ' ', $children)
			{
				$peak = peak_mb($child);
				$helper = $peak if $peak > $helper;
			}
		}
		$last = outcome($n);
		last if $last =~ /^stopped/ || $last =~ /^running\|20\|20\|1\|/ || ($damage && $last =~ /^running\|20\|/);
		usleep(200_000);
	}
	my ($state, $rows, $distinct, $letters, $failures, $text) = split /\|/, $last, 6;
	diag "$name: $last";
	$dropped++ if !eval { $session->query_safe('SELECT x FROM still_here') eq '1' };
	is($rows, $distinct, "$name: nothing twice");
	cmp_ok($rows, '>=', 10, "$name: what came before it is there");
	ok($rows == 20 || ($state eq 'stopped' && $text ne ''), "$name: it goes on, or says why not");
	cmp_ok($helper, '<=', 600, "$name: the helper's memory is bounded");
	cmp_ok($worker, '<=', 300, "$name: and so is the worker's");
	fault_row(row => $n == $#cases ? 'B5' : 'B4', what => $name, tried => 1, lost => 0, duplicated => $rows - $distinct,
		note => "$state, $rows of 20 good ones, $letters letters; helper $helper MB, worker $worker MB; $text");
	$node->safe_psql('postgres', "SELECT streamext.pause('s_$n')");
}
is($dropped, 0, 'other sessions dropped: 0');

# ---- a dead letter that is fed again is the record that it was
run([ "$tests/kafka/topic", $port, 'create', 'identity', 3 ]) or die 'no topic';
foreach my $i (0 .. 5)
{
	run([ 'kcat', '-P', '-b', "127.0.0.1:$port", '-t', 'identity', '-p', $i % 3, '-k', "key $i", '-H', "a=b$i", '-H', 'c=', '-e' ], '<', \"{\"i\": $i}") or die 'no record';
}
$node->safe_psql('postgres', qq{
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN RAISE 'not yet'; END \$\$;
	CREATE TABLE good (i int, p int, o bigint, k text, h jsonb, ts timestamptz, t text, raw bytea);
	CREATE TABLE fed (LIKE good);
	CREATE TRIGGER refuse BEFORE INSERT ON fed FOR EACH ROW EXECUTE FUNCTION refuse();
	BEGIN;
	CREATE STREAM id_s (i int, p int OPTIONS (metadata 'partition'), o bigint OPTIONS (metadata 'offset'), k text OPTIONS (metadata 'key'),
			h jsonb OPTIONS (metadata 'headers'), ts timestamptz OPTIONS (metadata 'timestamp'), t text OPTIONS (metadata 'topic'), raw bytea OPTIONS (metadata 'raw'))
		WITH (connector = 'kafka', brokers = '127.0.0.1:$port', topic = 'identity', format = 'json');
	CREATE STREAM id_good WITH (connector = 'table', table = 'good') AS SELECT * FROM id_s;
	CREATE STREAM id_fed WITH (connector = 'table', table = 'fed') AS SELECT * FROM id_s;
	COMMIT;
});
ok($node->poll_query_until('postgres', 'SELECT count(*) = 6 FROM good'), 'one sink has the records');
is($node->safe_psql('postgres', "SELECT count(*), bool_and(headers ->> 'a' = 'b' || (convert_from(value, 'UTF8')::jsonb ->> 'i')) FROM streamext.dead_letters WHERE view = 'id_fed'::regclass"), '6|t', 'the other one refuses them');
is($node->safe_psql('postgres', "DROP TRIGGER refuse ON fed; SELECT streamext.replay_dead_letters('id_s')"), '6', 'they are fed again');
ok($node->poll_query_until('postgres', 'SELECT count(*) = 6 FROM fed'), 'and arrive');
is($node->safe_psql('postgres', 'SELECT count(*) FROM (SELECT * FROM good EXCEPT ALL SELECT * FROM fed) x'), '0', 'with partition, offset, key, headers, time and topic');
is($node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'), $started, 'the server has not crashed');
$session->quit;
$node->stop;
run([ "$tests/kafka/down", "$dir/kafka", 'KILL' ]);
done_testing();
