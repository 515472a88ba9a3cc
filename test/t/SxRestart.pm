# SxRestart.pm: a job in database "app" whose worker is terminated and whose server is
# stopped at once, again and again, while rows come.

package SxRestart;

use strict;
use warnings;
use Exporter qw(import);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(restart_node restart_rounds);

# A server with that database; the seed of the run is printed, and set.
sub restart_node
{
	my ($name) = @_;
	my $seed = $ENV{SEED} // int(rand(1_000_000));
	srand($seed);
	diag("seed $seed");

	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init;
	$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'streamext'
max_worker_processes = 16
timezone = 'UTC'
CONF
	$node->start;
	$node->safe_psql('postgres', 'CREATE DATABASE app');
	return $node;
}

# So many rounds: feed(first, last) adds 200 rows and at most "spread" more, numbered so;
# then something is stopped.  How many rows there were in all.
sub restart_rounds
{
	my ($node, $rounds, $spread, $feed) = @_;
	my $rows = 0;
	for my $round (1 .. $rounds)
	{
		my $n = 200 + int(rand($spread));
		$feed->($rows + 1, $rows + $n);
		$rows += $n;
		if ($round % 4 == 0)
		{
			$node->stop('immediate');
			$node->start;
		}
		else
		{
			$node->poll_query_until('app', 'SELECT count(*) = 1 FROM streamext.pipelines WHERE pid IS NOT NULL');
			$node->safe_psql('app', 'SELECT pg_terminate_backend(pid) FROM streamext.pipelines WHERE pid IS NOT NULL');
		}
	}
	return $rows;
}

1;
