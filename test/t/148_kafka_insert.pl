# INSERT into a Kafka stream when it cannot be done: the answer is clear and comes in
# time, and a cancel is obeyed at once.

use strict;
use warnings;
use File::Basename qw(dirname);
use IPC::Run qw(start);
use lib dirname(__FILE__);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxKafka;
use Test::More;
use Time::HiRes qw(time);

plan skip_all => 'no Kafka' unless $ENV{KAFKA_PORT};

my $node = SxKafka->small_node('insert');
my $run = $$ . '_' . int(rand(1e6));
my $brokers = "127.0.0.1:$ENV{KAFKA_PORT}";

$node->safe_psql('postgres', qq{
	CREATE STREAM away (id bigint) WITH (connector = 'kafka', brokers = '127.0.0.1:1', topic = 't');
	CREATE STREAM missing (id bigint) WITH (connector = 'kafka', brokers = '$brokers', topic = 'missing_$run');
	CREATE STREAM there (id bigint) WITH (connector = 'kafka', brokers = '$brokers', topic = 'there_$run')});
SxKafka->client("create there_$run 1");

# SQL; a pattern for its error; the seconds it may take
sub refused
{
	my ($sql, $pattern, $seconds, $what) = @_;
	my $start = time();
	my ($rc, $stdout, $err) = $node->psql('postgres', $sql);
	my $took = time() - $start;
	like($err, $pattern, $what);
	cmp_ok($took, '<', $seconds, sprintf('%s: after %.1f s', $what, $took));
	return;
}

refused(q{SET streamext.insert_timeout = '2s'; INSERT INTO away VALUES (1)},
	qr/could not send 1 of 1 records of stream public.away: .*\nDETAIL:  .*Connection refused\nHINT:  streamext.insert_timeout/,
	150, 'brokers that are not there');

# statement_timeout does not count while a transaction commits; a cancel does
my ($out, $err) = ('', '');
my $start = time();
my $psql = start([ 'psql', '-X', '-d', $node->connstr('postgres'), '-c', q{SET streamext.insert_timeout = '5min'}, '-c', 'INSERT INTO away VALUES (1)' ], '>', \$out, '2>', \$err);
my $waits = q{FROM pg_stat_activity WHERE query LIKE 'INSERT INTO away%' AND wait_event_type = 'Extension'};
ok($node->poll_query_until('postgres', "SELECT count(*) > 0 $waits"), 'it waits');
$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) $waits");
$psql->finish;
like($err, qr/canceling statement due to user request/, 'a cancel is obeyed');
cmp_ok(time() - $start, '<', 150, 'before its time is over');

refused(q{SET streamext.insert_timeout = '5min'; INSERT INTO missing VALUES (1)}, qr/topic "missing_\w+" of stream public.missing does not exist/, 150, 'a topic that is not there');
refused(q{SELECT * FROM missing}, qr/could not read topic "missing_\w+" of stream public.missing: topic does not exist/, 15,
	'reading a topic that is not there');
refused(q{SET streamext.insert_timeout = '5min'; INSERT INTO there SELECT 1 FROM missing}, qr/does not exist/, 150, 'and writing what was read from it');

$node->safe_psql('postgres', 'INSERT INTO there SELECT generate_series(1, 1000)');
is($node->safe_psql('postgres', 'SELECT count(*), sum(id) FROM there'), '1000|500500', 'a topic that is there');

$node->stop;
done_testing();
