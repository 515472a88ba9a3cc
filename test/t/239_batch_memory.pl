# What a worker keeps from batch to batch must not grow with their number: the memory that
# contexts of streamext use is looked at after some hundred small batches, and again after
# many more.  A leak of one small string a batch is far above the limit.

use strict;
use warnings;

use File::Basename qw(dirname);
use IPC::Run qw(run start);
use lib dirname(__FILE__);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxKafka;
use Test::More;

my $warm = 200;
my $batches = 800;
my $limit = 8 * 1024;	# 800 batches that each lose the least possible chunk lose 19 kB

my $node = PostgreSQL::Test::Cluster->new('batch_memory');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'streamext'\nmax_worker_processes = 32\nstreamext.max_workers = 20\n");
$node->start;

# The same keys again and again, so that nothing grows for good reasons.
$node->safe_psql('postgres', q{
	CREATE EXTENSION streamext;
	SET client_min_messages = error;
	CREATE FUNCTION total(state bigint, k int, v bigint[]) RETURNS bigint LANGUAGE sql AS
		'SELECT (coalesce(state, 0) + (SELECT sum(x) FROM unnest(v) x)) % 1000';
	CREATE FUNCTION number(INOUT state bigint, k int, v bigint, OUT n bigint) LANGUAGE plpgsql AS
		'BEGIN state := (coalesce(state, 0) + v) % 1000; n := state; END';
	CREATE TABLE sides (k int PRIMARY KEY, name text);
	INSERT INTO sides SELECT i, 'n' || i FROM generate_series(0, 9) i;
	CREATE TABLE target (k int, v bigint);});

# One pipeline for each kind of step: which leaks is in the test's name.
my %steps = (
	merge => q{CREATE MATERIALIZED VIEW %s AS SELECT k, count(*) AS n, sum(v) AS s, avg(v) AS a FROM %s GROUP BY k;},
	latest => q{CREATE MATERIALIZED VIEW %s AS SELECT DISTINCT ON (k) k, v FROM %s ORDER BY k, v DESC;},
	table => q{CREATE STREAM %s WITH (connector = 'table', table = 'target') AS SELECT k, v FROM %s WHERE v < 0;},
	state => q{CREATE STREAM %1$s_s WITH (update_state = 'total', key = 'k', changed_only) AS SELECT k, v FROM %2$s;
		CREATE STREAM %1$s WITH (connector = 'null') AS SELECT * FROM %1$s_s;},
	map => q{CREATE STREAM %1$s_s WITH (map_with_state = 'number', key = 'k') AS SELECT k, v FROM %2$s;
		CREATE STREAM %1$s WITH (connector = 'null') AS SELECT * FROM %1$s_s;},
	arrival => q{CREATE STREAM %1$s_s WITH (window = '10 batches', slide = '2 batches') AS SELECT k, count(*) AS n FROM %2$s GROUP BY k;
		CREATE STREAM %1$s WITH (connector = 'null') AS SELECT * FROM %1$s_s;},
	with_table => q{CREATE STREAM %1$s_s AS SELECT name, v FROM %2$s JOIN sides USING (k);
		CREATE MATERIALIZED VIEW %1$s AS SELECT name, max(v) AS v FROM %1$s_s GROUP BY name;},
	nested => q{CREATE MATERIALIZED VIEW %s AS SELECT n > 100 AS many, count(*) AS keys FROM (SELECT k, count(*) AS n FROM %s GROUP BY k) d GROUP BY 1;},
	distinct => q{CREATE MATERIALIZED VIEW %s AS SELECT count(DISTINCT k) AS keys FROM %s;},
	top => q{CREATE MATERIALIZED VIEW %s AS SELECT k, v FROM (SELECT k, v, row_number() OVER (PARTITION BY k ORDER BY v DESC) AS r
		FROM (SELECT k, v %% 5 AS v FROM %s GROUP BY 1, 2) d) e WHERE r <= 2;},
	bad => q{CREATE MATERIALIZED VIEW %s AS SELECT k, sum(100 / (v %% 50)) AS n FROM %s GROUP BY k;},
);

# Bytes in use in the contexts of streamext in the worker of a pipeline, by name.
sub used
{
	my ($pipeline) = @_;
	my $pid = $node->safe_psql('postgres', "SELECT pid FROM streamext.pipelines WHERE pipeline = '$pipeline'");
	my $start = -s $node->logfile;
	$node->safe_psql('postgres', "SELECT pg_log_backend_memory_contexts($pid)");
	my $log = '';
	for (1 .. 600)
	{
		$log = slurp_file($node->logfile, $start);
		last if $log =~ /Grand total: \d+ bytes in/;
		$node->safe_psql('postgres', 'SELECT pg_sleep(0.05)');
	}
	my %used;
	my @above;
	while ($log =~ /level: (\d+); ([^:]+): \d+ total in \d+ blocks; \d+ free \(\d+ chunks\); (\d+) used/g)
	{
		my ($level, $name, $bytes) = ($1, $2, $3);
		$#above = $level - 1;
		$above[$level] = $name;
		$used{$name} += $bytes if grep { defined && /^streamext/ } @above;
	}
	return \%used;
}

# The memory of a pipeline between its batches: a source that never rests may be met within
# one, and the least of some looks is the one that was not.
sub at_rest
{
	my ($pipeline) = @_;
	my ($least, $bytes);
	for (1 .. 15)
	{
		my $used = used($pipeline);
		my $sum = 0;
		$sum += $_ foreach values %$used;
		($least, $bytes) = ($used, $sum) if !defined $bytes || $sum < $bytes;
	}
	return $least;
}

sub wait_for_batch
{
	my ($pipeline, $batch) = @_;
	return $node->poll_query_until('postgres', "SELECT batch_id >= $batch FROM streamext.pipelines WHERE pipeline = '$pipeline'");
}

# The sources: columns, options.  Two rows make a batch, but for what has its own pace.
my $data = $node->basedir . '/in';
mkdir $data;
my $mock = "${PostgreSQL::Test::Utils::tmp_check}/mock";
run([ 'cc', '-O1', '-o', $mock, dirname(__FILE__) . '/../kafka/mock.c', '-lrdkafka' ]) or BAIL_OUT('cannot build mock');
my ($in, $out) = ('', '');
my $cluster = start([ $mock, 1, 'm=1' ], '<', \$in, '>', \$out, '2>', '/dev/null');
$cluster->pump until $out =~ /\n/;
(my $brokers = $out) =~ s/\s+$//;
my $broker = bless { brokers => $brokers }, 'SxKafka';

# Records for so many batches, to each source that makes none by itself.
my $given = 0;
sub feed
{
	my ($n) = @_;
	$node->safe_psql('postgres', "INSERT INTO s_$_ SELECT i % 10, i % 100 FROM generate_series(1, 2 * $n) i") foreach sort keys %steps;
	append_to_file("$data/$given.new", join('', map { "{\"k\": @{[$_ % 10]}, \"v\": @{[$_ % 100]}}\n" } 1 .. 2 * $n));
	rename("$data/$given.new", "$data/$given.json") or BAIL_OUT($!);
	$broker->client("put m 0 $given @{[2 * $n]}");
	$given += 2 * $n;
	return;
}

my $kv = 'k int, v bigint';
my %sources = (
	rate => ['value bigint, "timestamp" timestamptz', "connector = 'rate', rows_per_second = 100"],
	queue => [$kv, "connector = 'queue'"],
	file => [$kv, "connector = 'file', path = '$data/*.json', format = 'json'"],
	kafka => ['id bigint, part int', "connector = 'kafka', brokers = '$brokers', topic = 'm'"],
);
my %mapped = (rate => '(value % 10)::int AS k, value % 100 AS v', kafka => '(id % 10)::int AS k, id % 100 AS v');

# All of them side by side, each a pipeline of its own, and each with an end, for the sake of
# the others; the queues' records come in two portions.
my @cases = ((map { [ $_, 'queue' ] } sort keys %steps), (map { [ 'merge', $_ ] } qw(rate file kafka)));
for my $case (@cases)
{
	my ($kind, $source) = @$case;
	my $name = $source eq 'queue' ? $kind : $source;
	my ($columns, $options) = @{ $sources{$source} };
	my $steps = sprintf($steps{$kind}, "v_$name", "r_$name") =~ s/%%/%/gr;
	push @$case, $name;
	is($node->psql('postgres', qq{
		SET client_min_messages = error;
		CREATE STREAM s_$name ($columns) WITH ($options, max_batch_rows = 2, max_errors = 1000000, max_errors_per_hour = 1000000, pipeline = 'p_$name', paused);
		CREATE STREAM r_$name AS SELECT @{[$mapped{$source} // 'k, v']} FROM s_$name;
		$steps
		SELECT streamext.resume('p_$name')}), 0, "$name: made");
}
feed($warm);

my (%before, %first);
for my $name (map { $_->[2] } @cases)
{
	ok(wait_for_batch("p_$name", $warm), "$name: runs");
	$before{$name} = at_rest("p_$name");
	$first{$name} = $node->safe_psql('postgres', "SELECT batch_id FROM streamext.pipelines WHERE pipeline = 'p_$name'");
}
feed($batches);
for my $name (map { $_->[2] } @cases)
{
	ok(wait_for_batch("p_$name", $first{$name} + $batches), "$name: goes on");
	my $after = at_rest("p_$name");
	my %growth = map { $_ => $after->{$_} - ($before{$name}{$_} // 0) } keys %$after;
	my $growth = 0;
	$growth += $_ foreach values %growth;
	cmp_ok($after->{'streamext pipeline'} // 0, '>', 0, "$name: its memory is seen");
	cmp_ok($growth, '<', $limit, "$name: no growth over $batches batches") or
		diag(join("\n", map { "$_: $growth{$_}" } grep { $growth{$_} > 0 } sort keys %growth));
	$node->safe_psql('postgres', "SELECT streamext.pause('p_$name')");
}

$cluster->kill_kill;
$node->stop;
done_testing();
