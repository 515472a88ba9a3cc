# SxCrash.pm: a job that is crashed again and again, and the oracle that it is held to.
#
# The input is a list of records (id, key k, number s of the record within its key, amount),
# made from the seed and written both into the source and, as a model, into a file that the
# server sees at the end only.  The source is a folder of files that appear while the job
# runs, cut in the middle by batches, or a topic with 4 partitions of a real Kafka.
#
# The job uses each kind of step that keeps something: a table sink (copied), a continuous
# view (totals), a stream with keyed state that tells of records out of order (checked, with
# the sink out_of_order).  check() compares all of them with plain SQL over the model:
#
#	1 set		no id is missing, none is there that was not sent
#	2 multiset	no id is there twice
#	3 order		within a key, s grows by one with each record
#	4 state		totals and the keyed state are what SQL makes of the model
#	5 progress	positions and rows of the history add up to the number of records
#	6 history	batch ids have no gap, and each batch has the rows that it says it has

package SxCrash;

use strict;
use warnings;
use IPC::Run qw(run);
use POSIX qw(uname);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $tests = $ENV{SX_TESTS} // '.';

# name; keys, batch: rows a batch at most; kafka: port; conf: of the server; options: of the stream
sub new
{
	my ($class, %args) = @_;
	my $self = bless {
		keys => 300,
		batch => 50,
		conf => {},
		options => {},
		sent => 0,
		files => 0,
		crashes => [],
		last => {},
		%args
	}, $class;
	my $dir = PostgreSQL::Test::Utils::tempdir();
	$self->{input} = "$dir/input";
	$self->{model} = "$dir/model.csv";
	mkdir $self->{input} or die "mkdir $self->{input}: $!";
	$self->{topic} = "$self->{name}_$$" . '_' . int(rand(1e6)) if $self->{kafka};
	$self->make_server;
	$self->make_job;
	return $self;
}

# Processes that lose their parent become ours, so that we can collect what was killed: a
# dead postmaster that nobody has collected keeps the next one from starting.
sub adopt_orphans
{
	my %prctl = (x86_64 => 157, aarch64 => 167);
	my $number = $prctl{ (uname())[4] };
	syscall($number, 36, 1, 0, 0, 0) if $number;	# PR_SET_CHILD_SUBREAPER
	return;
}

sub make_server
{
	my ($self) = @_;
	adopt_orphans();
	my %settings = (
		shared_preload_libraries => "'streamext'",
		max_worker_processes => 32,
		restart_after_crash => 'on',
		log_min_messages => 'warning',
		'streamext.batch_history' => 1_000_000,
		%{ $self->{conf} });
	my $node = PostgreSQL::Test::Cluster->new($self->{name});

	$node->init;
	$node->append_conf('postgresql.conf', join('', map { "$_ = $settings{$_}\n" } sort keys %settings));
	$node->start;
	$self->{node} = $node;
	return;
}

sub make_job
{
	my ($self) = @_;
	my %options = (format => 'json', max_batch_rows => $self->{batch}, %{ $self->{options} });

	if ($self->{kafka})
	{
		run([ "$tests/kafka/topic", $self->{kafka}, 'create', $self->{topic}, 4 ]) or BAIL_OUT('cannot create the topic');
		%options = (%options, connector => 'kafka', brokers => "127.0.0.1:$self->{kafka}", topic => $self->{topic});
	}
	else
	{
		%options = (%options, connector => 'file', path => $self->{input});
	}
	my $with = join ', ', map { "$_ = '$options{$_}'" } sort keys %options;
	$self->{node}->safe_psql('postgres', qq{
		CREATE EXTENSION streamext;
		CREATE STREAM ev (id bigint, k text, s bigint, amount numeric) WITH ($with, paused);
		CREATE FUNCTION in_order(INOUT state bigint, k text, id bigint, s bigint, OUT key text, OUT wanted bigint, OUT got bigint)
		LANGUAGE plpgsql AS 'BEGIN
			IF s IS DISTINCT FROM coalesce(state, 0) + 1 THEN key := k; wanted := coalesce(state, 0) + 1; got := s; END IF;
			state := s;
		END';
		CREATE MATERIALIZED VIEW totals AS
			SELECT k, count(*) AS n, sum(amount) AS total, min(s) AS lo, max(s) AS hi FROM ev GROUP BY k;
		CREATE STREAM checked WITH (map_with_state = 'in_order', key = 'k') AS SELECT k, id, s FROM ev;
		CREATE STREAM out_of_order_sink WITH (connector = 'table', table = 'out_of_order') AS SELECT * FROM checked;
		CREATE STREAM copied_sink WITH (connector = 'table', table = 'copied') AS
			SELECT streamext.batch_id() AS batch, id, k, s, amount FROM ev;
		SELECT streamext.resume('ev');});
	return;
}

# ---------------------------------------------------------------- input

# The next n records appear in the source.
sub publish
{
	my ($self, $n) = @_;
	my (@json, @csv);
	for my $id ($self->{sent} + 1 .. $self->{sent} + $n)
	{
		my $k = 'k' . int(rand($self->{keys}));
		my $s = ++$self->{last}{$k};
		my $amount = int(rand(100_000)) / 100;
		push @json, ($self->{kafka} ? "$k|" : '') . qq({"id":$id,"k":"$k","s":$s,"amount":$amount}\n);
		push @csv, "$id,$k,$s,$amount\n";
	}
	append_to_file($self->{model}, join('', @csv));
	if ($self->{kafka}) { $self->produce(join('', @json)) }
	else { $self->write_files(@json) }
	$self->{sent} += $n;
	return;
}

sub produce
{
	my ($self, $lines) = @_;
	run([ 'kcat', '-P', '-b', "127.0.0.1:$self->{kafka}", '-t', $self->{topic}, '-K', '|',
		  '-X', 'enable.idempotence=true' ], '<', \$lines) or BAIL_OUT('cannot produce');
	return;
}

# As files of some hundred records, each complete when it gets its name.
sub write_files
{
	my ($self, @lines) = @_;
	while (my @piece = splice(@lines, 0, 50 + int(rand(400))))
	{
		my $name = sprintf('%06d.json', ++$self->{files});
		append_to_file("$self->{input}/.$name", join('', @piece));
		rename "$self->{input}/.$name", "$self->{input}/$name" or die "rename $name: $!";
	}
	return;
}

# ---------------------------------------------------------------- looking

# The answer, or nothing while there is no server to give one (within the seconds).
sub answer
{
	my ($self, $sql, $seconds) = @_;
	my $node = $self->{node};
	my $out = '';
	eval {
		run([ 'timeout', $seconds // 20, 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-h', $node->host, '-p', $node->port,
			  '-d', 'postgres', '-c', $sql ], '<', \undef, '>', \$out, '2>', '/dev/null');
	};
	chomp $out;
	return $out;
}

# Waits until the code gives something, and gives that.
sub until_some
{
	my ($self, $what, $code) = @_;
	my $until = time() + 4 * $PostgreSQL::Test::Utils::timeout_default;
	while (1)
	{
		my $some = $code->();
		return $some if $some;
		BAIL_OUT("waited in vain for $what") if time() > $until;
		sleep 0.02;
	}
}

sub worker
{
	my ($self, $other_than) = @_;
	return $self->until_some('a worker', sub {
		my $pid = $self->answer('SELECT pid FROM streamext.pipelines WHERE pid IS NOT NULL');
		return $pid && $pid != ($other_than // 0) ? $pid : undef;
	});
}

# Some moment within the given seconds from now.
sub random_moment
{
	my ($self, $most) = @_;
	sleep rand($most);
	return;
}

# ---------------------------------------------------------------- crashes

# Remembers when, to find the next commit after it in the history.
sub crashed
{
	my ($self) = @_;
	push @{ $self->{crashes} }, { at => time(), sent => $self->{sent}, batch => $self->{seen} // 0 };
	return;
}

# The last batch that another session could see: a crash may take it back, when commits
# are not flushed at once, and then it must come again.
sub see
{
	my ($self) = @_;
	$self->{seen} = $self->answer('SELECT batch_id FROM streamext.pipelines') || 0;
	return;
}

# SIGKILL of the worker: the postmaster restarts all processes.
sub kill_worker
{
	my ($self, $pid) = @_;
	return 0 if !kill('KILL', $pid);
	$self->crashed;
	return 1;
}

# Kills the worker so often, at random moments, while the records come; gives how often.
sub kill_workers
{
	my ($self, $kills, $records) = @_;
	my ($pid, $done) = (0, 0);
	for my $i (1 .. $kills)
	{
		$self->publish(int($records * $i / $kills) - int($records * ($i - 1) / $kills));
		$pid = $self->worker($pid);
		$self->random_moment(0.3);
		$done += $self->kill_worker($pid);
	}
	$self->worker($pid);
	is($done, $kills, "the worker was killed $kills times");
	is($self->log_lines(qr/background worker "streamext worker" .* was terminated by signal 9/), $kills, 'as the log says');
	return;
}

sub postmaster
{
	my ($self) = @_;
	open(my $file, '<', $self->{node}->data_dir . '/postmaster.pid') or return 0;
	my $pid = <$file>;
	close $file;
	return int($pid // 0);
}

# Processes whose parent is the given one.
sub children
{
	my ($self, $parent) = @_;
	my @pids;
	foreach my $stat (glob '/proc/[0-9]*/stat')
	{
		open(my $file, '<', $stat) or next;
		my $line = <$file> // '';
		close $file;
		push @pids, $1 if $line =~ /^(\d+) \(.*\) \S (\d+) / && $2 == $parent;
	}
	return @pids;
}

# SIGKILL of the postmaster and all that it has started, at one moment.
sub kill_all
{
	my ($self) = @_;
	my $postmaster = $self->postmaster;
	$self->see;
	return 0 if !$postmaster || !kill('STOP', $postmaster);
	my @pids = ($self->children($postmaster), $postmaster);
	kill('KILL', @pids);
	$self->crashed;
	waitpid($_, 0) foreach @pids;
	$self->until_some('the end of the postmaster', sub { $self->is_dead($postmaster) });
	$self->{node}{_pid} = undef;
	return 1;
}

sub is_dead
{
	my ($self, $pid) = @_;
	open(my $file, '<', "/proc/$pid/stat") or return 1;
	my $line = <$file> // '';
	return $line =~ /\) Z / || $line eq '';
}

sub stop_immediately
{
	my ($self) = @_;
	$self->see;
	$self->crashed;
	$self->{node}->stop('immediate');
	return 1;
}

sub start
{
	my ($self) = @_;
	$self->until_some('a start of the server', sub {
		return 1 if $self->{node}->start(fail_ok => 1);
		$self->{node}{_pid} = undef;	# a stale pid file is not a running server
		return 0;
	});
	return;
}

# Begins to start the server and does not wait for it to answer.  While the process that was
# killed has not been collected by its parent, its lock file is respected.
sub begin_start
{
	my ($self) = @_;
	my $node = $self->{node};
	my $command = 'pg_ctl -W -s -D ' . $node->data_dir . ' -l ' . $node->logfile . ' start </dev/null >/dev/null 2>&1';
	return $self->until_some('a postmaster', sub {
		my $pid = $self->postmaster;
		return $pid if $pid && !$self->is_dead($pid);
		system($command);
		return 0;
	});
}

# ---------------------------------------------------------------- the end

# Everything that was sent is committed.
sub wait_for_all
{
	my ($self) = @_;
	my $node = $self->{node};
	return ok($node->poll_query_until('postgres',
		"SELECT coalesce(sum(rows), 0) >= $self->{sent} FROM streamext.batches"), "all $self->{sent} records are processed");
}

sub value
{
	my ($self, $sql) = @_;
	return $self->{node}->safe_psql('postgres', $sql);
}

# The oracle; gives what is lost and what is there more than once.
sub check
{
	my ($self, $name) = @_;
	my $n = $self->{sent};

	$self->value(qq{
		CREATE UNLOGGED TABLE expected (id bigint PRIMARY KEY, k text, s bigint, amount numeric);
		COPY expected FROM '$self->{model}' (FORMAT csv);});
	my $lost = $self->value('SELECT count(*) FROM expected e WHERE NOT EXISTS (SELECT FROM copied c WHERE c.id = e.id)');
	my $twice = $self->value('SELECT count(*) - count(DISTINCT id) FROM copied');
	is($lost, '0', "$name: 1, no record is lost");
	is($twice, '0', "$name: 2, none is there twice");
	is($self->value('SELECT count(*) FROM ((TABLE expected EXCEPT ALL SELECT id, k, s, amount FROM copied)
		UNION ALL (SELECT id, k, s, amount FROM copied EXCEPT ALL TABLE expected)) d'), '0', "$name: 2, the rows are those that were sent");
	is($self->value('SELECT count(*) FROM out_of_order'), '0', "$name: 3, keys are in order");
	is($self->value('SELECT count(*) FROM (SELECT k, max(s) AS state FROM expected GROUP BY k) e
		FULL JOIN streamext_state.checked c USING (k) WHERE c.state IS DISTINCT FROM e.state'), '0', "$name: 4, the state of each key is the last one");
	is($self->value(q{
		WITH model AS (SELECT k, count(*) AS n, sum(amount) AS total, min(s) AS lo, max(s) AS hi FROM expected GROUP BY k)
		SELECT count(*) FROM ((TABLE model EXCEPT ALL TABLE totals) UNION ALL (TABLE totals EXCEPT ALL TABLE model)) d}),
		'0', "$name: 4, the view is what its query gives");
	is($self->positions, $n, "$name: 5, positions add up to the input");
	is($self->value('SELECT count(*) = max(batch_id) AND min(batch_id) = 1
			AND max(batch_id) = (SELECT batch_id FROM streamext.pipelines) AND sum(rows) = ' . $n . ' FROM streamext.batches'),
		't', "$name: 6, the history has no gap and counts all");
	is($self->value('SELECT count(*) FROM (SELECT batch AS batch_id, count(*) AS n FROM copied GROUP BY 1) c
		FULL JOIN (SELECT batch_id, rows FROM streamext.batches WHERE rows > 0) b USING (batch_id) WHERE n IS DISTINCT FROM rows'),
		'0', "$name: 6, each batch has the rows that it says");
	is($self->value('SELECT count(*) FROM streamext.dead_letters'), '0', "$name: no record was left out");
	return (lost => $lost, duplicated => $twice);
}

# How many records the committed positions say have been read.
sub positions
{
	my ($self) = @_;
	return $self->value($self->{kafka} ?
		'SELECT sum(position::text::bigint) FROM streamext.partitions' : 'SELECT sum(rows) FROM streamext.partitions');
}

# A query over the crashes, each with its moment and the number of records sent before.
sub over_crashes
{
	my ($self, $sql) = @_;
	my $values = join ', ', map { sprintf '(%.6f, %d, %d)', $_->{at}, $_->{sent}, $_->{batch} } @{ $self->{crashes} };
	return $self->value("WITH crash (at, sent, batch_id) AS (VALUES $values) $sql");
}

# Seconds from each crash to the commit of the next batch that began after it, sorted.
sub recovery_times
{
	my ($self) = @_;
	return split /\n/, $self->over_crashes(q{
		SELECT round((b.done - crash.at)::numeric, 3)
		FROM crash CROSS JOIN LATERAL (
			SELECT extract(epoch FROM started_at) + (load_ms + steps_ms + coalesce(commit_ms, 0)) / 1000 AS done
			FROM streamext.batches WHERE extract(epoch FROM started_at) > crash.at ORDER BY batch_id LIMIT 1) b
		ORDER BY 1});
}

sub recovery
{
	my ($self) = @_;
	my @times = $self->recovery_times;
	return '' if !@times;
	return sprintf 'median %.2f s, most %.2f s', $times[ @times / 2 ], $times[-1];
}

# How many crashes came while records were waiting or in a batch.
sub crashes_under_load
{
	my ($self) = @_;
	return $self->over_crashes(q{
		SELECT count(*) FROM crash WHERE sent > (
			SELECT coalesce(sum(rows), 0) FROM streamext.batches WHERE extract(epoch FROM started_at) < crash.at)});
}

# How many crashes took back the batch that had been seen: it began again after the crash.
sub batches_taken_back
{
	my ($self) = @_;
	return $self->over_crashes(q{
		SELECT count(*) FROM crash JOIN streamext.batches b USING (batch_id) WHERE extract(epoch FROM b.started_at) > crash.at});
}

# For the table: how hard it was.
sub load_note
{
	my ($self) = @_;
	return sprintf '%d records, %d batches; %d crashes with records waiting', $self->{sent},
	  $self->value('SELECT max(batch_id) FROM streamext.batches'), $self->crashes_under_load;
}

# Lines of the server's log that match.
sub log_lines
{
	my ($self, $pattern) = @_;
	my @found = slurp_file($self->{node}->logfile) =~ /$pattern/g;
	return scalar @found;
}

1;
