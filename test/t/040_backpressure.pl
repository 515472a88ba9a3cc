# Back-pressure under load: a source that is three times too fast for its sink.  With
# Spark's estimator batches begin at most three intervals late, and in time again five
# batches after the load has fallen; adaptive control keeps batches within their target
# and lets go as soon; max_rate holds at any moment, with several sources and with
# whole files, too.  Batch times are multiples of the interval, without catching up.
#
# The load falls by making the sink fast, as a change of the source would start another
# worker.  All figures are from streamext.batches, so that it does not matter how long
# this script takes to look.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'streamext'
max_worker_processes = 16
CONF
$node->start;

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub becomes
{
	my ($query, $name) = @_;
	ok($node->poll_query_until('postgres', $query), $name);
}

# What is asked of times may fail when the machine is busy with something else for a moment:
# then it is looked at again.  What is wrong is wrong each time.
sub meets
{
	my ($name, $code) = @_;
	my $met;
	for (1 .. 5)
	{
		last if $met = $code->();
	}
	ok($met, $name);
	return;
}

# Waits until so many more batches have been run; returns the batch before them.
sub batches
{
	my ($pipeline, $n, $name) = @_;
	my $from = sql("SELECT batch_id FROM streamext.pipelines WHERE pipeline = '$pipeline'");
	becomes("SELECT batch_id >= $from + $n FROM streamext.pipelines WHERE pipeline = '$pipeline'", $name);
	return $from;
}

# Makes the sink fast, waits for so many batches begun since; the first of them.
sub load_falls
{
	my ($pipeline, $n) = @_;
	my $at = sql('UPDATE speed SET ms = 0 RETURNING clock_timestamp()');
	my $since = "FROM streamext.batches WHERE pipeline = '$pipeline' AND started_at > '$at'";
	becomes("SELECT count(*) >= $n $since", 'the load falls');
	return sql("SELECT min(batch_id) $since");
}

sql(q{
	CREATE EXTENSION streamext;
	CREATE TABLE speed (ms float8);
	INSERT INTO speed VALUES (2);
	CREATE FUNCTION slow(v bigint) RETURNS bigint LANGUAGE plpgsql AS $$
		BEGIN
			PERFORM pg_sleep((SELECT ms / 1000 FROM public.speed));
			RETURN v;
		END $$;

	-- how late a batch began: it is due one interval after the batch before
	CREATE FUNCTION delays(p text, every interval,
			OUT batch_id bigint, OUT rows bigint, OUT late interval, OUT behind_time interval) RETURNS SETOF record
		LANGUAGE sql AS $$
		SELECT batch_id, rows, greatest(started_at - (lag(batch_time) OVER w + every), '0'), started_at - batch_time
		FROM streamext.batches WHERE pipeline = p WINDOW w AS (ORDER BY batch_id) $$;

	-- batches that began with more rows done before them than the rate and a second's worth allow;
	-- own: their own rows count, as well
	CREATE FUNCTION beyond(p text, rate float8, own boolean) RETURNS bigint LANGUAGE sql AS $$
		SELECT count(*) FROM (
			SELECT sum(rows) OVER w - CASE WHEN own THEN 0 ELSE rows END AS done,
				   extract(epoch FROM started_at - first_value(started_at) OVER w) AS seconds
			FROM streamext.batches WHERE pipeline = p WINDOW w AS (ORDER BY batch_id)) b
		WHERE done > rate * seconds + rate $$;
});

# ---------------------------------------------------------------- pid
sql(q{
	CREATE STREAM ticks (value bigint)
		WITH (connector = 'rate', rows_per_second = 1500, batch_interval = '200 ms', backpressure = 'pid', pid_min_rate = 50);
	CREATE STREAM sink WITH (connector = 'null') AS SELECT slow(value) AS v FROM ticks;});
batches('ticks', 5, 'pid: batches run');
my ($from, $first, $settled);
meets('batches begin at most three intervals late', sub {
	$from = batches('ticks', 25, '... and settle');
	my $late = sql("SELECT count(*) FILTER (WHERE late > '600 ms') || ' ' || count(*) FILTER (WHERE behind_time > '600 ms')
		FROM delays('ticks', '200 ms') WHERE batch_id > $from AND batch_id <= $from + 25");
	diag(sql("SELECT * FROM delays('ticks', '200 ms') WHERE batch_id > $from")) if $late ne '0 0';
	return $late eq '0 0';
});
note(sql("SELECT 'rows ' || min(rows) || ' to ' || max(rows) || ', at most ' || max(late) || ' late'
	FROM delays('ticks', '200 ms')"));
is(sql("SELECT rate_limit < 1500 AND rate_limit >= 50 AND target = 200 AND rate_reason = 'pid' AND lag > 0
	FROM streamext.pipelines WHERE pipeline = 'ticks'"), 't', 'streamext.pipelines shows rate, target and reason');

meets('five batches after the load has fallen they begin within their interval, with what the source gives in one', sub {
	sql('UPDATE speed SET ms = 2');
	batches('ticks', 10, 'the load is high');
	$first = load_falls('ticks', 12);
	note(sql("SELECT string_agg(rows || ' rows ' || late, ', ' ORDER BY batch_id) FROM delays('ticks', '200 ms') WHERE batch_id >= $first"));
	return sql("SELECT count(*) FILTER (WHERE late > '200 ms' AND batch_id >= $first + 5) = 0
			AND max(rows) FILTER (WHERE batch_id <= $first + 5) >= 300
		FROM delays('ticks', '200 ms') WHERE batch_id BETWEEN $first AND $first + 11") eq 't';
});
sql('DROP STREAM ticks CASCADE');

# ---------------------------------------------------------------- adaptive
sql(q{
	UPDATE speed SET ms = 2;
	CREATE STREAM ticks (value bigint)
		WITH (connector = 'rate', rows_per_second = 1500, target_latency = '250 ms');
	CREATE STREAM sink WITH (connector = 'null') AS SELECT slow(value) AS v FROM ticks;});
batches('ticks', 8, 'adaptive: batches run');
meets('a batch takes no longer than target_latency, and is no shorter than need be', sub {
	$from = batches('ticks', 20, '... and settle');
	($settled, my $ms) = split /\|/, sql("SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY rows),
			percentile_disc(0.5) WITHIN GROUP (ORDER BY load_ms + steps_ms)
		FROM streamext.batches WHERE pipeline = 'ticks' AND batch_id > $from AND batch_id <= $from + 20");
	return $ms <= 250 && $settled >= 20;
});
note(sql("SELECT string_agg(rows || ' rows ' || round(steps_ms) || ' ms', ', ' ORDER BY batch_id) FROM streamext.batches
	WHERE pipeline = 'ticks' AND batch_id <= $from + 20"));
becomes("SELECT rate_limit < 1500 AND target = 250 AND rate_reason ~ '^adaptive: last batch took 0[.][1-9] s'
	FROM streamext.pipelines WHERE pipeline = 'ticks'", 'streamext.pipelines shows rate, target and reason')
  or diag(sql("SELECT rate_limit, target, rate_reason FROM streamext.pipelines"));

meets('batches grow with the next five', sub {
	sql('UPDATE speed SET ms = 2');
	batches('ticks', 20, 'the load is high');
	my $before = sql("SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY rows) FROM streamext.batches
		WHERE pipeline = 'ticks' AND batch_id > (SELECT max(batch_id) FROM streamext.batches WHERE pipeline = 'ticks') - 10");
	$first = load_falls('ticks', 6);
	my $most = sql("SELECT max(rows) FROM streamext.batches WHERE pipeline = 'ticks' AND batch_id BETWEEN $first AND $first + 5");
	return $most >= 8 * $before;
});
note(sql("SELECT string_agg(rows || ' rows ' || round(steps_ms) || ' ms', ', ' ORDER BY batch_id) FROM streamext.batches
	WHERE pipeline = 'ticks' AND batch_id BETWEEN $first AND $first + 5"));
becomes("SELECT lag < 300 FROM streamext.pipelines WHERE pipeline = 'ticks'", 'the pipeline catches up');
sql('DROP STREAM ticks CASCADE');

# a pipeline within its target: no batch is held back for long
sql(q{
	CREATE STREAM ticks (value bigint) WITH (connector = 'rate', rows_per_second = 10000000, max_batch_rows = 10000);
	CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM ticks;});
batches('ticks', 6, 'a fast pipeline runs');
is(sql("SELECT count(*) > 0 FROM streamext.batches WHERE pipeline = 'ticks' AND batch_id <= 6 AND rows = 10000"),
	't', '... with the largest batches at once');
is(sql("SELECT rate_limit IS NULL AND rate_reason IS NULL AND target = 1000 FROM streamext.pipelines WHERE pipeline = 'ticks'"),
	't', '... and without a limit')
  or diag(sql("SELECT rate_limit, target, rate_reason FROM streamext.pipelines"));
sql('DROP STREAM ticks CASCADE');

# ---------------------------------------------------------------- max_rate
for my $more ('', ", batch_interval = '300 ms'", ", backpressure = 'off'")
{
	sql(qq{
		CREATE STREAM ticks (value bigint) WITH (connector = 'rate', rows_per_second = 50000, max_rate = 2000$more);
		CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM ticks;});
	becomes('SELECT n >= 6000 FROM counted', "max_rate$more: rows come");
	is(sql("SELECT beyond('ticks', 2000, true)"), '0', '... and never more than it allows')
	  or diag(sql("SELECT * FROM streamext.batches"));
	is(sql("SELECT rate_limit || ' ' || rate_reason FROM streamext.pipelines WHERE pipeline = 'ticks'"),
		'2000 max_rate', '... which streamext.pipelines shows');
	cmp_ok(sql("SELECT sum(rows) / extract(epoch FROM max(started_at) - min(started_at)) FROM streamext.batches WHERE pipeline = 'ticks'"),
		'>', 200, '... and not so much less');
	sql('DROP STREAM ticks CASCADE');
}

# two sources share it, and one that has little leaves its share to the other
sql(q{
	CREATE STREAM fast (value bigint) WITH (connector = 'rate', pipeline = 'both', rows_per_second = 50000, max_rate = 2000);
	CREATE STREAM quick (value bigint) WITH (connector = 'rate', pipeline = 'both', rows_per_second = 40000);
	CREATE STREAM tiny (value bigint) WITH (connector = 'rate', pipeline = 'both', rows_per_second = 10);
	CREATE MATERIALIZED VIEW counted AS SELECT stream, count(*) AS n FROM
		(SELECT 'fast' AS stream FROM fast UNION ALL SELECT 'quick' FROM quick UNION ALL SELECT 'tiny' FROM tiny) s GROUP BY 1;});
becomes('SELECT sum(n) >= 6000 FROM counted', 'several sources: rows come');
is(sql("SELECT beyond('both', 2000, true)"), '0', '... and together never more than max_rate')
  or diag(sql("SELECT * FROM streamext.batches"));
cmp_ok(sql("SELECT min(n) / max(n)::float8 FROM counted WHERE stream <> 'tiny'"), '>', 0.8, '... in equal shares');
is(sql("SELECT n BETWEEN 5 AND 1000 FROM counted WHERE stream = 'tiny'"), 't', '... but for who has little');
cmp_ok(sql("SELECT sum(rows) / extract(epoch FROM max(started_at) - min(started_at)) FROM streamext.batches WHERE pipeline = 'both'"),
	'>', 200, '... and they are not held up');
sql('DROP STREAM fast, quick, tiny CASCADE');

# whole files are not cut: the next one waits
my $dir = PostgreSQL::Test::Utils::tempdir();
chmod 0755, $dir;
append_to_file("$dir/$_.txt", "line\n" x 1000) for 1 .. 5;
sql(qq{
	CREATE STREAM lines (line text) WITH (connector = 'file', format = 'text', path = '$dir', max_files_per_batch = 1, max_rate = 1000);
	CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM lines;});
becomes('SELECT n = 5000 FROM counted', 'whole files: rows come');
is(sql("SELECT beyond('lines', 1000, false)"), '0', '... and the next file waits until the rate holds')
  or diag(sql("SELECT * FROM streamext.batches"));
is(sql("SELECT count(*) FROM streamext.batches WHERE pipeline = 'lines' AND rows = 1000"), '5', '... each of them whole');
sql('DROP STREAM lines CASCADE');

# ---------------------------------------------------------------- batch times
sql(q{
	CREATE STREAM ticks (value bigint) WITH (connector = 'rate', rows_per_second = 1000, batch_interval = '200 ms', max_batch_rows = 300);
	CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM ticks;});
batches('ticks', 3, 'batch_interval: batches run');
sql("SELECT streamext.pause('ticks'), streamext.resume('ticks')") for 1 .. 5;
batches('ticks', 3, '... and go on after restarts within an interval');
sql("SELECT streamext.pause('ticks')");
my $paused = sql('SELECT clock_timestamp()');
becomes("SELECT clock_timestamp() > '$paused'::timestamptz + '2 s'", 'ten intervals are missed');
my $resumed = sql("SELECT clock_timestamp() - interval '200 ms' FROM streamext.resume('ticks')");
batches('ticks', 8, 'batches run again');
is(sql("SELECT count(*) FROM streamext.batches WHERE batch_time > '$paused' AND batch_time < '$resumed'"),
	'0', 'no batch is run for an interval that was missed');
is(sql("SELECT max(rows) FROM streamext.batches WHERE batch_time > '$resumed'"), '300', '... and those that catch up are bounded');
is(sql("SELECT count(*) FROM streamext.batches WHERE extract(epoch FROM batch_time) * 1000 % 200 <> 0"),
	'0', 'batch times are multiples of the interval');
is(sql("SELECT count(*) FROM (SELECT batch_time - lag(batch_time) OVER (ORDER BY batch_id) AS d FROM streamext.batches) b WHERE d < '200 ms'"),
	'0', '... and each is behind the one before');

$node->stop;
done_testing();
