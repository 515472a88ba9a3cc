# How fast a pipeline is by the rate of bad records, and how many transaction ids it takes.
# faults: B2
#
# The same number of records with 0, 0.01, 0.1, 1, 10 and 100 % of bad ones, once bad for an
# expression (1 / v, which has to be searched for) and once undecodable.  The good ones are
# all there, once; each bad one is a letter.  At 1 % the speed is not below 20 % of clean: at
# full size, where it can be told from what else the machine does.
#
#	SX_ROWS		records (default: slice 50,000, full 400,000), in batches of 50,000

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxFault;
use Test::More;
use Time::HiRes qw(time);

my $rows = $ENV{SX_ROWS} // scale(50_000, 400_000);
my $batch = 50_000;
my @rates = full() ? (0, 0.01, 0.1, 1, 10, 100) : (0, 0.1, 1, 100);
my $dir = PostgreSQL::Test::Utils::tempdir();

my $node = PostgreSQL::Test::Cluster->new('rates');
$node->init;
$node->append_conf('postgresql.conf',
	"shared_preload_libraries = 'streamext'\nmax_worker_processes = 16\nfsync = off\nautovacuum = off\nmax_wal_size = 4GB\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION streamext');

sub xid { return $node->safe_psql('postgres', 'SELECT pg_current_xact_id()::text::bigint') }

# Bad is every n-th record, so that all batches have their share.
sub run
{
	my ($kind, $rate) = @_;
	my $every = $rate > 0 ? int(100 / $rate) : 0;
	my $path = sprintf '%s/%s_%s', $dir, $kind, $rate;
	mkdir $path;
	open(my $file, '>', "$path/data") or die $!;
	my $bad = 0;
	foreach my $i (1 .. $rows)
	{
		my $is_bad = $every && $i % $every == 0;
		$bad++ if $is_bad;
		print $file $is_bad && $kind eq 'decode' ? "{\"id\": $i, \"v\": \n" : sprintf("{\"id\": %d, \"v\": %d}\n", $i, $is_bad ? 0 : 1);
	}
	close $file;
	$node->safe_psql('postgres', qq{
		CREATE TABLE t (id int, q int);
		CREATE STREAM s (id int, v int) WITH (connector = 'file', path = '$path', format = 'json', max_batch_rows = $batch,
			backpressure = 'off', max_errors = 1000000, max_errors_per_hour = 10000000, paused);
		CREATE STREAM out WITH (connector = 'table', table = 't') AS SELECT id, 1 / v AS q FROM s;
	});
	my $xid = xid();
	my $start = time();
	my ($rc, $out, $err) = $node->psql('postgres', "SELECT streamext.run('s')");
	die $err if $rc != 0;
	$node->poll_query_until('postgres', "SELECT state <> 'running' FROM streamext.pipelines") or die 'does not end';
	my $seconds = time() - $start;
	my $used = xid() - $xid - 1;
	# how long the batches themselves took, without the start of the worker
	my $busy = $node->safe_psql('postgres',
		"SELECT coalesce(extract(epoch FROM max(started_at) - min(started_at)), 0) + coalesce((array_agg((load_ms + steps_ms) / 1000 ORDER BY batch_id DESC))[1], 0) FROM streamext.batches");
	my %run = (
		rate => $rate, kind => $kind, bad => $bad, seconds => $seconds, xids => $used, speed => $busy > 0 ? $rows / $busy : 0,
		state => $node->safe_psql('postgres', 'SELECT state, error_sqlstate FROM streamext.pipelines'),
		good => $node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT id) FROM t'),
		letters => $node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT "offset") FROM streamext.dead_letters'));
	$node->safe_psql('postgres', 'DROP STREAM s CASCADE; DROP TABLE t; CHECKPOINT');
	unlink "$path/data";
	return \%run;
}

foreach my $kind (qw(expression decode))
{
	my $clean;
	foreach my $rate (@rates)
	{
		my $run = run($kind, $rate);
		my $good = $rows - $run->{bad};
		if ($rate == 100)
		{
			is($run->{state}, 'stopped|SX002', "$kind, 100 %: it is not the records' fault");
			is($run->{good}, '0|0', "$kind, 100 %: nothing is written");
		}
		else
		{
			is($run->{state}, 'paused|', "$kind, $rate %: done");
			is($run->{good}, "$good|$good", "$kind, $rate %: the good ones are there, once");
			is($run->{letters}, "$run->{bad}|$run->{bad}", "$kind, $rate %: a letter for each bad one");
		}
		$clean = $run->{speed} if $rate == 0;
		fault_row(row => 'B2', what => "$rate % bad, $kind", tried => $rows, lost => 0, duplicated => 0,
			note => sprintf('%.0f records/s (%.0f %% of clean), %d transaction ids, %.1f s', $run->{speed},
				$clean ? 100 * $run->{speed} / $clean : 0, $run->{xids}, $run->{seconds}));
		cmp_ok($run->{speed}, '>=', 0.2 * $clean, "$kind, 1 %: not below a fifth of clean") if $rate == 1 && full();
		cmp_ok($run->{xids}, '<=', 100 + 4 * $run->{bad} + 4 * $rows / $batch, "$kind, $rate %: transaction ids") if $rate < 100;
	}
}
$node->stop;
done_testing();
