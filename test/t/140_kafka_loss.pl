# Records that Kafka no longer has, topics that were made anew, and partitions that are
# added: what is lost is reported, to the record where it can be counted, and nothing
# of another log is taken for the one that was read before.
#
# faults: O1 O2 O3

use strict;
use warnings;
use File::Basename qw(dirname);
use lib dirname(__FILE__);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxFault;
use SxKafka;
use Test::More;
use Time::HiRes qw(time);

plan skip_all => 'no Kafka' unless $ENV{KAFKA_PORT};

my $node = SxKafka->small_node('loss');
my $run = $$ . '_' . int(rand(1e6));

sub psql { return $node->safe_psql('postgres', $_[0]) }
sub client { return SxKafka->client(@_) }

# A stream over a topic and the table of the ids that came.
sub make_stream
{
	my ($name, $topic, $options) = @_;
	psql(qq{
		CREATE STREAM $name (id bigint, part int, off bigint OPTIONS (metadata 'offset'))
		WITH (connector = 'kafka', brokers = '127.0.0.1:$ENV{KAFKA_PORT}', topic = '$topic',
			"topic.metadata.refresh.interval.ms" = 2000 $options);
		CREATE MATERIALIZED VIEW ${name}_rows AS SELECT id, part, off FROM $name;
		CREATE UNIQUE INDEX ON streamext_state.${name}_rows (part, off, id);});
	return;
}

sub wait_rows
{
	my ($name, $n) = @_;
	ok($node->poll_query_until('postgres', "SELECT count(*) >= $n FROM ${name}_rows"), "$name: $n rows have come");
	return;
}

sub wait_stopped
{
	my ($name) = @_;
	ok($node->poll_query_until('postgres', "SELECT state = 'stopped' FROM streamext.pipelines WHERE pipeline = '$name'"),
		"$name: stopped");
	return psql("SELECT error_message FROM streamext.pipelines WHERE pipeline = '$name'");
}

# ---- O1: deleted before they were read

my $topic = "trim_$run";
client("create $topic 2", "put $topic 0 0 100", "put $topic 1 0 100");
make_stream('trimmed', $topic, '');
wait_rows('trimmed', 200);
psql("SELECT streamext.pause('trimmed')");
client("put $topic 0 100 100", "put $topic 1 100 10", "trim $topic 0 150");
psql("SELECT streamext.resume('trimmed')");
like(wait_stopped('trimmed'), qr/^offset 100 of partition 0 is not in Kafka/, 'stop: the place is named');
is(psql("SELECT count(*) FROM trimmed_rows WHERE part = 0"), '100', 'stop: nothing behind the gap was read');
psql("ALTER STREAM trimmed OPTIONS (ADD on_data_loss 'continue'); SELECT streamext.resume('trimmed')");
wait_rows('trimmed', 260);
is(psql("SELECT partition, from_offset, to_offset, records, reason FROM streamext.gaps"),
	'0|100|150|50|offset gone', 'continue: a gap, counted exactly');
is(psql("SELECT string_agg(lost::text, ' ' ORDER BY partition) FROM streamext.partitions WHERE stream = 'trimmed'::regclass"),
	'50 0', 'continue: and summed up in the view');
is(psql("SELECT count(*), count(DISTINCT (part, off)) FROM trimmed_rows"), '260|260', 'what was there came once');
ok($node->log_contains('WARNING:  .*stream public.trimmed lost records of partition 0'), 'a warning in the log');

# … while it runs: the worker is held, the records behind it go
my $lost = 0;
for my $round (1 .. scale(1, 10))
{
	my $had = psql("SELECT count(*) FROM trimmed_rows");
	my $end = 110 + 200 * ($round - 1);
	my $helper = SxKafka->helper_of($node, 'trimmed');
	kill 'STOP', $helper;
	select(undef, undef, undef, 0.5);	# the broker answers a fetch that waits for records
	client("put $topic 1 $end 200", "trim $topic 1 " . ($end + 120));
	kill 'CONT', $helper;
	wait_rows('trimmed', $had + 80);
	$lost += 200 - (psql("SELECT count(*) FROM trimmed_rows") - $had);
}
my $reported = psql("SELECT coalesce(sum(records), 0) FROM streamext.gaps WHERE partition = '1'");
is($reported, $lost, 'while it runs: lost = reported');
fault_row(row => 'O1', what => 'records deleted before they were read', tried => 1 + scale(1, 10),
	lost => 50 + $lost, duplicated => 0, note => 'reported ' . (50 + $reported));

# ---- O2: the topic is another one

my %length = (shorter => 40, equal => 100, longer => 160);
my $detected = 0;
my $tried = 0;
for my $kind (sort keys %length)
{
	$topic = "anew_${kind}_$run";
	client("create $topic 1", "put $topic 0 0 100");
	make_stream("anew_$kind", $topic, '');
	wait_rows("anew_$kind", 100);
	psql("SELECT streamext.pause('anew_$kind')");
	client("delete $topic", "create $topic 1", "put $topic 0 1000 $length{$kind}");
	psql("SELECT streamext.resume('anew_$kind')");
	my $error = wait_stopped("anew_$kind");
	like($error, qr/is not in Kafka|ends before|is not the one that was read before/, "$kind: $error");
	is(psql("SELECT count(*) FROM anew_${kind}_rows"), '100', "$kind: nothing of it was read");
	$tried++;
	$detected++ if $error;
	psql("ALTER STREAM anew_$kind OPTIONS (ADD on_data_loss 'continue'); SELECT streamext.resume('anew_$kind')");
	wait_rows("anew_$kind", 100 + $length{$kind});
	is(psql("SELECT count(*), count(DISTINCT id) FROM anew_${kind}_rows"),
		(100 + $length{$kind}) . '|' . (100 + $length{$kind}), "$kind, continue: the new topic is read from its beginning");
	like(psql("SELECT from_offset, to_offset, records, reason FROM streamext.gaps WHERE pipeline = 'anew_$kind'"),
		qr/^100\|0\|\|(truncated|topic recreated)$/, "$kind: a gap that cannot be counted");
}

# … under a helper that is connected
$topic = "anew_live_$run";
client("create $topic 1", "put $topic 0 0 100");
make_stream('anew_live', $topic, '');
wait_rows('anew_live', 100);
client("delete $topic");
ok($node->poll_query_until('postgres', "SELECT status ~ 'deleted|does not exist' FROM streamext.pipelines WHERE pipeline = 'anew_live'"),
	'a deleted topic shows in the status');
client("create $topic 1", "put $topic 0 1000 100");
my $error = wait_stopped('anew_live');
like($error, qr/is not in Kafka|ends before|is not the one that was read before/, "while connected: $error");
is(psql("SELECT count(*) FROM anew_live_rows"), '100', 'while connected: nothing of it was read');
fault_row(row => 'O2', what => 'topic created anew, shorter, equal, longer, connected', tried => $tried + 1,
	lost => 0, duplicated => 0, note => 'detected ' . ($detected + ($error ? 1 : 0)));

# the anchor is gone, the log is the same: goes on, and says so
$topic = "anchor_$run";
client("create $topic 1", "put $topic 0 0 100");
make_stream('anchor', $topic, '');
wait_rows('anchor', 100);
psql("SELECT streamext.pause('anchor')");
client("trim $topic 0 100", "put $topic 0 100 10");
psql("SELECT streamext.resume('anchor')");
wait_rows('anchor', 110);
is(psql("SELECT count(*) FROM streamext.gaps WHERE pipeline = 'anchor'"), '0', 'all that was deleted had been read: no gap');
ok($node->log_contains('no longer holds the last record that was read'), 'but a line in the log');

# another cluster behind the address
psql("SELECT streamext.pause('anchor')");
psql(q{UPDATE streamext.partition SET anchor = anchor || '{"cluster": "another"}' WHERE stream = 'anchor'::regclass});
psql("SELECT streamext.resume('anchor')");
like(wait_stopped('anchor'), qr/belong to another Kafka cluster/, 'another cluster');
psql("ALTER STREAM anchor OPTIONS (ADD on_data_loss 'continue'); SELECT streamext.resume('anchor')");
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM streamext.gaps WHERE pipeline = 'anchor' AND reason = 'other cluster'"),
	'another cluster, continue: a gap');

# fewer partitions
$topic = "fewer_$run";
client("create $topic 3", "put $topic 2 0 10");
make_stream('fewer', $topic, ", on_data_loss = 'continue'");
wait_rows('fewer', 10);
psql("SELECT streamext.pause('fewer')");
client("delete $topic", "create $topic 1");
psql("SELECT streamext.resume('fewer')");
like(wait_stopped('fewer'), qr/has 1 partitions, stream public.fewer has a position in partition [12]/, 'fewer partitions');

# ---- O3: more partitions under load

my ($partitions, $each) = (5, scale(2_000, 20_000));
$topic = "grow_$run";
client("create $topic 2");
make_stream('growing', $topic, ", start = 'latest'");
ok($node->poll_query_until('postgres', "SELECT count(*) = 2 FROM streamext.partitions WHERE stream = 'growing'::regclass"), 'two partitions');
client("put $topic 0 0 $each", "put $topic 1 0 $each");
client("grow $topic $partitions", map { "put $topic $_ 0 $each" } 2 .. $partitions - 1);
my $grown = time();
wait_rows('growing', $partitions * $each);
my $seconds = sprintf('%.1f s', time() - $grown);
is(psql("SELECT count(*), count(DISTINCT (part, id)), min(off) FROM growing_rows"),
	join('|', $partitions * $each, $partitions * $each, 0), 'new partitions are read from their beginning');
fault_row(row => 'O3', what => 'partitions 2 to 5 under load', tried => 3 * $each, lost => 0, duplicated => 0,
	recovery => $seconds);

$node->stop;
done_testing();
