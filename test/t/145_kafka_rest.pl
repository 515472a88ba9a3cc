# A stream that has been silent for a while is read by a helper that stands still: it hardly
# runs, a record comes at once all the same, and each of them comes once while helpers follow
# one another, are killed, or find new partitions.
#
# faults: P11

use strict;
use warnings;
use File::Basename qw(dirname);
use lib dirname(__FILE__);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxFault;
use SxKafka;
use Test::More;
use Time::HiRes qw(time usleep);

plan skip_all => 'no Kafka' unless $ENV{KAFKA_PORT};

my $seed = $ENV{SX_SEED} // 1;
srand($seed);
note "seed $seed";
my $node = SxKafka->small_node('rest', 'streamext.kafka_rest_after' => "'1s'", log_min_messages => 'debug1');
my $run = $$ . '_' . int(rand(1e6));
my $server = "brokers = '127.0.0.1:$ENV{KAFKA_PORT}'";
my $topic = "rest_$run";
my $put = 0;					# records so far, their ids count from 0

sub psql { return $node->safe_psql('postgres', $_[0]) }
sub poll { return ok($node->poll_query_until('postgres', $_[0]), $_[1]) }

# Records for random partitions, in one go; sometimes in a transaction, whose end is no record.
sub put
{
	my ($n, $partitions) = @_;
	my @commands = map { "put $topic " . int(rand($partitions)) . ' ' . $put++ . ' 1' } 1 .. $n;
	SxKafka->client(rand() < 0.4 ? ('begin', @commands, 'commit') : @commands);
}

sub helper { return SxKafka->helper_of($node, 's') }

# How often the threads of a process have gone to sleep by themselves.
sub sleeps
{
	my $n = 0;
	for my $file (glob("/proc/$_[0]/task/*/status"))
	{
		open(my $status, '<', $file) or next;
		$n += /^voluntary_ctxt_switches:\s*(\d+)/ ? $1 : 0 for <$status>;
	}
	return $n;
}

# Waits for a line of the log that was not there when this was last called.
my $read = 0;
sub logged
{
	my ($what, $name) = @_;
	my $found = eval { $read = $node->wait_for_log($what, $read); 1 };
	return ok($found, $name);
}

SxKafka->client("create $topic 3");
psql(qq{
	CREATE STREAM s (id bigint, part int OPTIONS (metadata 'partition'), off bigint OPTIONS (metadata 'offset'))
	WITH (connector = 'kafka', $server, topic = '$topic', format = 'json', idle_timeout = '1 second');
	CREATE MATERIALIZED VIEW s_rows AS SELECT id, part, off FROM s;
	CREATE MATERIALIZED VIEW s_count AS SELECT part, count(*) AS n, sum(id) AS sum FROM s GROUP BY part;});

# ---- three partitions without a record

logged(qr/helper of stream public.s rests$/, 'rests when nothing comes');
my $resting = helper();
isnt($resting, 0, 'there is a helper');

# it goes on for a moment whenever a request has ended
my $calm = 0;
for my $look (1 .. 40)
{
	my $before = sleeps($resting);
	usleep(300_000);
	$calm++ if sleeps($resting) == $before;
}
cmp_ok($calm, '>=', 5, "nothing of it runs for as long as $calm of 40 looks");
is(helper(), $resting, 'it is the same one');

put(1, 3);
poll('SELECT count(*) = 1 FROM s_rows', 'a record comes');
logged(qr/helper of stream public.s rests no more$/, 'then a usual helper follows');
isnt(helper(), $resting, 'which is another one');
logged(qr/helper of stream public.s rests$/, 'and a resting one again, behind records');
SxKafka->client('begin', "put $topic 0 " . $put++ . ' 1', "put $topic 1 " . $put++ . ' 1', 'commit');
logged(qr/helper of stream public.s rests no more$/, 'a usual one takes over behind the end of a transaction');
poll("SELECT count(*) = 3 AND sum(lag) = 0 FROM streamext.partitions WHERE stream = 's'::regclass", 'no lag');

# ---- records now and then: every kind of moment

for my $round (1 .. scale(25, 300))
{
	# within one, while a relief is made ready, or at rest
	usleep(int(rand((200_000, 3_000_000, 7_000_000)[$round % 3])));
	put(1 + int(rand(4)), 3);
	if ($round % 8 == 0)
	{
		my $helper = helper();
		kill 'KILL', $helper if $helper;
	}
	psql("SELECT streamext.pause('s'); SELECT streamext.resume('s')") if $round % 11 == 0;
}
poll("SELECT count(*) >= $put FROM s_rows", 'all have come');
is(psql('SELECT count(*), count(DISTINCT id), count(DISTINCT (part, off)) FROM s_rows'), "$put|$put|$put", 'each once');
is(psql('SELECT sum(n), sum(sum) FROM s_count'), "$put|" . $put * ($put - 1) / 2, 'also in the counts');
cmp_ok(scalar(() = slurp_file($node->logfile) =~ /rests$/gm), '>=', 4, 'helpers have rested in between');

# ---- while it rests

$read = -s $node->logfile;
logged(qr/helper of stream public.s rests$/, 'rests once more');
is(psql("SELECT streamext.wait('s')"), 't', 'wait() knows where the topic ends');
$read = -s $node->logfile;
logged(qr/helper of stream public.s rests$/, 'rests after it');
kill 'KILL', helper();
put(3, 3);
poll("SELECT count(*) = $put FROM s_rows", 'killed while it rests, it is replaced');

psql("SELECT streamext.pause('s'); SELECT streamext.resume('s')");
$read = -s $node->logfile;
logged(qr/helper of stream public.s rests$/, 'a new worker comes to rest, too');
SxKafka->client("grow $topic 4", "put $topic 3 " . $put++ . ' 1');
poll("SELECT count(*) = $put FROM s_rows", 'a partition that is added while it rests is found');
is(psql('SELECT count(*), count(DISTINCT id) FROM s_rows'), "$put|$put", 'each once');

$read = -s $node->logfile;
logged(qr/helper of stream public.s rests$/, 'rests with four partitions');
put(40, 4);
poll("SELECT count(*) = $put FROM s_rows", 'records of all of them come');
is(psql('SELECT count(*), count(DISTINCT id) FROM s_rows'), "$put|$put", 'each once');
is(psql("SELECT count(*) FROM streamext.partitions WHERE stream = 's'::regclass AND lag <> 0"), '0', 'nothing is left');

# ---- a user's word

psql(qq{
	ALTER STREAM s OPTIONS (ADD "fetch.wait.max.ms" '400');});
my $from = $read = -s $node->logfile;
put(5, 4);
poll("SELECT count(*) = $put FROM s_rows", 'reads with other properties');
psql(qq{
	CREATE STREAM later (id bigint) WITH (connector = 'kafka', $server, topic = '$topic', format = 'json');
	CREATE MATERIALIZED VIEW n_later AS SELECT count(*) AS n FROM later;});
logged(qr/helper of stream public.later rests$/, 'another stream, silent for less long, comes to rest');
unlike(substr(slurp_file($node->logfile), $from), qr/helper of stream public.s rests$/m,
	'who says how long a request waits has a helper that does not rest');

fault_row(row => 'P11', what => 'helpers that rest, killed and replaced', tried => $put,
	lost => $put - psql('SELECT count(DISTINCT id) FROM s_rows'),
	duplicated => psql('SELECT count(*) - count(DISTINCT id) FROM s_rows'));

$node->stop;
done_testing();
