# SxKafka.pm: the main job over a real Kafka, for the tests named *kafka*.
#
# Makes a topic with events of the Yahoo Streaming Benchmark, the job that counts
# them, and the oracle: the same SELECT over a table loaded with the same events.

package SxKafka;

use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use IPC::Run qw(run start);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $tests = abs_path(dirname(__FILE__) . '/..');
my $tools;						# known once the test runs

sub new
{
	my ($class, %args) = @_;
	my $self = {
		port => $ENV{KAFKA_PORT},
		seed => $ENV{SX_SEED} // 1,
		step => 100,
		disorder => 2000,
		partitions => 4,
		%args
	};
	$self->{topic} //= 'events_' . $$ . '_' . int(rand(1e6));
	bless $self, $class;
	$tools = $PostgreSQL::Test::Utils::tmp_check;
	$self->build;
	note "topic $self->{topic}, seed $self->{seed}";
	return $self;
}

# client(@commands): topics and records, see test/kafka/client.c.  In an object, of its
# broker; else of KAFKA_PORT.
sub client
{
	my ($self, @commands) = @_;
	my $tool = $PostgreSQL::Test::Utils::tmp_check . '/kafka_client';
	my $brokers = ref $self && $self->{brokers} || '127.0.0.1:' . (ref $self ? $self->{port} : $ENV{KAFKA_PORT});
	my @properties = ref $self && $self->{properties} ? map { ('-X', $_) } @{ $self->{properties} } : ();

	-x $tool or run([ 'cc', '-O1', '-o', $tool, "$tests/kafka/client.c", '-lrdkafka' ])
	  or BAIL_OUT('cannot build the client');
	run([ $tool, $brokers, @properties, @commands ], '>', \my $out, '2>', \my $error)
	  or BAIL_OUT("client @commands: failed");
	return;
}

# Commands in a transaction that stays open until finish(), which aborts it.
sub new_open_transaction
{
	my ($class, @commands) = @_;
	my $tool = $PostgreSQL::Test::Utils::tmp_check . '/kafka_client';
	my $in = '';
	my $out = '';
	my $handle = start([ $tool, "127.0.0.1:$ENV{KAFKA_PORT}", 'begin', @commands, 'wait', 'abort' ], '<', \$in, '>', \$out);
	$handle->pump until $out =~ /waiting/;
	return $handle;
}

# A server with the library preloaded, small and quick to start.
sub small_node
{
	my ($class, $name, %config) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	my %settings = (shared_preload_libraries => "'streamext'", max_worker_processes => 32,
		timezone => "'UTC'", %config);

	$node->init;
	$node->append_conf('postgresql.conf', join('', map { "$_ = $settings{$_}\n" } sort keys %settings));
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION streamext');
	return $node;
}

# The helper program of a pipeline's worker: the worker's child, or 0.
sub helper_of
{
	my ($class, $node, $pipeline) = @_;
	my $worker = $node->safe_psql('postgres', "SELECT pid FROM streamext.pipelines WHERE pipeline = '$pipeline'");
	return 0 unless $worker && open(my $file, '<', "/proc/$worker/task/$worker/children");
	my $children = <$file> // '';
	return (split ' ', $children)[0] // 0;
}

# Seconds of CPU that processes have used.
sub cpu_seconds
{
	my ($class, @pids) = @_;
	my $ticks = 0;
	for my $pid (grep { $_ } @pids)
	{
		open(my $file, '<', "/proc/$pid/stat") or next;
		my $line = <$file>;
		$line =~ s/^.*\) //;
		my @field = split ' ', $line;
		$ticks += $field[11] + $field[12];
	}
	return $ticks / 100;
}

# The generator of events, built where this test may write.
sub build
{
	my ($self) = @_;
	$self->{produce} = "$tools/ysb_produce";
	return if -x $self->{produce};
	my $bench = "$tests/../bench";
	run([ 'cc', '-O2', '-o', $self->{produce}, "$bench/ysb_produce.c", "$bench/output.c", '-lrdkafka', '-lpthread' ])
	  or BAIL_OUT('cannot build ysb_produce');
}

sub make_topic
{
	my ($self, @config) = @_;
	run([ "$tests/kafka/topic", $self->{port}, 'create', $self->{topic}, $self->{partitions}, @config ])
	  or BAIL_OUT('cannot create the topic');
}

# Chunk n of events goes on in event time where chunk n - 1 of that size ended.
sub event_arguments
{
	my ($self, $count, $chunk) = @_;
	$chunk //= 0;
	return ('--count', $count, '--seed', $self->{seed} + $chunk, '--step', $self->{step},
		'--start', 1700000000000 + int($chunk * $count * $self->{step} / 1000),
		'--disorder', $self->{disorder});
}

sub produce
{
	my ($self, $count, @more) = @_;
	run([ $self->{produce}, '--topic', $self->{topic}, '--brokers', "127.0.0.1:$self->{port}",
		  $self->event_arguments($count), @more ], '>', \my $out)
	  or BAIL_OUT('cannot produce');
}

sub start_producing
{
	my ($self, $count, $rate, $chunk) = @_;
	return start([ $self->{produce}, '--topic', $self->{topic}, '--brokers', "127.0.0.1:$self->{port}",
		  $self->event_arguments($count, $chunk), '--rate', $rate ], '>', \my $out);
}

# A server with the library preloaded, and the table of ads.
sub make_node
{
	my ($self, $name, %config) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	my %settings = (
		shared_preload_libraries => "'streamext'",
		max_worker_processes => 32,
		shared_buffers => "'256MB'",
		max_wal_size => "'2GB'",
		restart_after_crash => 'on',
		log_min_messages => 'warning',
		%config);

	$node->init;
	$node->append_conf('postgresql.conf', join('', map { "$_ = $settings{$_}\n" } sort keys %settings));
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION streamext; CREATE TABLE ads (ad_id text PRIMARY KEY, campaign_id text)');
	my ($ads, $err);
	run([ $self->{produce}, '--ads' ], '>', \$ads) or BAIL_OUT('no ads');
	$node->safe_psql('postgres', "COPY ads FROM STDIN (FORMAT csv);\n$ads\\.\n");
	return $node;
}

my $query = q{SELECT a.campaign_id, tumble(e.event_time, '10 seconds') AS w, count(*) AS n
	FROM %s e JOIN ads a ON a.ad_id = e.ad_id WHERE e.event_type = 'view' GROUP BY 1, 2};

# options: of the stream; view: WITH of the view
sub make_job
{
	my ($self, $node, %args) = @_;
	my $options = join '', map { ", $_ = '$args{options}{$_}'" } sort keys %{ $args{options} // {} };
	my $with = $args{view} ? "WITH ($args{view})" : '';

	$node->safe_psql('postgres', qq{
		CREATE STREAM events (user_id text, page_id text, ad_id text, ad_type text, event_type text,
			event_time timestamptz, ip_address text)
		WITH (connector = 'kafka', brokers = '127.0.0.1:$self->{port}', topic = '$self->{topic}', format = 'json',
			timestamp_format = 'ms', event_time = 'event_time', watermark = '5 seconds' $options);
		CREATE MATERIALIZED VIEW counts $with AS } . sprintf($query, 'events'));
}

# Everything that was produced is committed: positions add up to the count.
sub wait_for
{
	my ($self, $node, $count) = @_;
	return $node->poll_query_until('postgres',
		"SELECT coalesce(sum(position::text::bigint), 0) >= $count FROM streamext.partitions");
}

# Rows by which the view differs from the batch query over the same events.
sub differences
{
	my ($self, $node, $count, $chunks) = @_;
	my $file = "$tools/events_$self->{topic}.json";

	$node->safe_psql('postgres', 'CREATE UNLOGGED TABLE raw (line text)');
	for my $chunk (0 .. ($chunks // 1) - 1)
	{
		run([ $self->{produce}, '--file', $file, $self->event_arguments($count, $chunk) ], '>', \my $out)
		  or BAIL_OUT('cannot write the events');
		$node->safe_psql('postgres', qq{COPY raw FROM '$file' (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')});
	}
	$node->safe_psql('postgres', qq{
		CREATE UNLOGGED TABLE batch AS SELECT j->>'ad_id' AS ad_id, j->>'event_type' AS event_type,
			to_timestamp((j->>'event_time')::numeric / 1000) AS event_time
		FROM raw, LATERAL (SELECT line::json AS j) x;
		CREATE TABLE expected AS } . sprintf($query, 'batch'));
	unlink $file;
	my $differ = $node->safe_psql('postgres', q{
		SELECT count(*) FROM ((TABLE expected EXCEPT ALL TABLE counts) UNION ALL (TABLE counts EXCEPT ALL TABLE expected)) d});
	note $node->safe_psql('postgres', q{
		SELECT format('expected %s rows, sum %s; view %s rows, sum %s', (SELECT count(*) FROM expected),
			(SELECT sum(n) FROM expected), (SELECT count(*) FROM counts), (SELECT sum(n) FROM counts))});
	return $differ;
}

# Batch ids without gap, as far back as the history goes.
sub gaps
{
	my ($self, $node) = @_;
	return $node->safe_psql('postgres', q{
		SELECT coalesce(max(batch_id) - min(batch_id) + 1, 0) - count(*) FROM streamext.batches});
}

1;
