# Dead letters are fed again exactly once, whatever is killed meanwhile.
# faults: B1
#
# A view fails for one record in ten until it is mended.  Letters are marked in pieces while
# records go on coming and the worker is killed, which restarts the server.
#
#	SX_KILLS	(default: slice 3, full 15)

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxFault;
use Test::More;
use Time::HiRes qw(usleep);

my $kills = $ENV{SX_KILLS} // scale(3, 15);
my $pieces = scale(20, 60);
fault_seed();

my $node = PostgreSQL::Test::Cluster->new('replay');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'streamext'
max_worker_processes = 16
restart_after_crash = on
CONF
$node->start;

# Until the server answers.
sub answer
{
	my ($query) = @_;
	foreach (1 .. 400)
	{
		my ($rc, $out) = eval { $node->psql('postgres', $query, timeout => 20) };
		return $out if defined $rc && $rc == 0;
		usleep(50_000);
	}
	die "no answer to $query";
}

$node->safe_psql('postgres', q{
	CREATE EXTENSION streamext;
	CREATE TABLE mend (broken boolean);
	INSERT INTO mend VALUES (true);
	CREATE FUNCTION divide(i int) RETURNS int STABLE LANGUAGE sql AS $$ SELECT CASE WHEN broken THEN 1 / (i % 10) ELSE 1 END FROM mend $$;
	BEGIN;
	CREATE STREAM s (i int) WITH (connector = 'queue', max_batch_rows = 500);
	CREATE STREAM out WITH (connector = 'table', table = 'rows') AS SELECT i, divide(i) AS q FROM s;
	CREATE MATERIALIZED VIEW n AS SELECT count(*) AS n FROM s;
	COMMIT;
	INSERT INTO s SELECT generate_series(1, 10000);
});
is($node->safe_psql('postgres', q{SELECT streamext.wait('s')}), 't', 'all is processed');
is($node->safe_psql('postgres', q{SELECT count(*) FROM streamext.dead_letters}), '1000', 'one in ten is a letter');
$node->safe_psql('postgres', 'UPDATE mend SET broken = false');

my $killed = 0;
foreach my $piece (0 .. $pieces - 1)
{
	answer("SELECT streamext.replay_dead_letters('s', 'id % $pieces = $piece')");
	answer("INSERT INTO s SELECT " . (10_000 + $piece * 100) . " + generate_series(1, 100)");
	next if $killed >= $kills || $piece % int($pieces / $kills);
	my $pid = answer("SELECT pid FROM streamext.pipelines");
	usleep(int(rand(100_000)));
	$killed++ if $pid && kill('KILL', $pid);
}
my $all = 10_000 + 100 * $pieces;
$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM streamext.dead_letters WHERE replay") or diag('letters are left');
answer(q{SELECT streamext.wait('s', '1 minute')});
my ($rows, $distinct) = split /\|/, answer('SELECT count(*), count(DISTINCT i) FROM rows');
is($rows, $all, 'each record is there');
is($distinct, $all, 'once');
is(answer('SELECT n FROM n'), $all, 'the other view has not seen the letters');
is(answer('SELECT count(*) FROM streamext.dead_letters'), '0', 'and no letter is left');
is($killed, $kills, 'the worker was killed');
fault_row(row => 'B1', what => 'replay of 1,000 dead letters, worker killed', tried => $killed, lost => $all - $distinct, duplicated => $rows - $distinct);
$node->stop;
done_testing();
