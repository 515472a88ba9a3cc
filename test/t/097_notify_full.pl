# A limit of the server that is met at the commit, as a queue of NOTIFY that is full, is no
# record's fault: the batch is tried again, no record becomes a dead letter and nothing is
# skipped, and with room again each row is there and each notification came, once.

use strict;
use warnings;
use IPC::Run qw(run);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $library = "$dir/full_at_commit.so";
my $full = "$dir/full";
my $config = $ENV{PG_CONFIG} // 'pg_config';

run([ 'sh', '-c', "cc -O1 -shared -fPIC -o '$library' -I\$($config --includedir-server) full_at_commit.c" ])
  or BAIL_OUT('cannot build full_at_commit.c');

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'streamext'\nmax_worker_processes = 16");
$node->start;
append_to_file($full, '');
$node->safe_psql('postgres', qq{
	CREATE EXTENSION streamext;
	CREATE FUNCTION full_at_commit(text, int) RETURNS int AS '$library' LANGUAGE C VOLATILE;
	CREATE TABLE kept (v int);
	BEGIN;
	CREATE STREAM q (v int) WITH (connector = 'queue');
	CREATE STREAM told WITH (connector = 'notify', channel = 'told') AS SELECT v FROM q;
	CREATE STREAM keep WITH (connector = 'table', table = 'kept') AS SELECT full_at_commit('$full', v) AS v FROM q;
	COMMIT;});
my $listener = $node->background_psql('postgres');
$listener->query_safe('LISTEN told');
$node->safe_psql('postgres', 'INSERT INTO q SELECT generate_series(1, 5)');

ok($node->poll_query_until('postgres', q{SELECT failures >= 3 AND state = 'running' AND error_sqlstate = '53000'
	AND error_message = 'too many notifications in the NOTIFY queue' FROM streamext.pipelines}), 'it is tried again, and the status says why')
  or diag $node->safe_psql('postgres', 'SELECT state, failures, error_sqlstate, error_message FROM streamext.pipelines');
is($node->safe_psql('postgres', 'SELECT (SELECT count(*) FROM kept), (SELECT count(*) FROM streamext.dead_letters)'), '0|0',
	'nothing is written, and no record is blamed');
my $said = () = slurp_file($node->logfile) =~ /ERROR:  too many notifications/g;
is($said, 1, 'the log says it once');

unlink $full;
ok($node->poll_query_until('postgres', 'SELECT count(*) = 5 FROM kept'), 'with room it goes on by itself');
is($node->safe_psql('postgres', 'SELECT string_agg(v::text, $$ $$ ORDER BY v) FROM kept'), '1 2 3 4 5', 'each row is there once');
is($node->safe_psql('postgres', 'SELECT count(*) FROM streamext.dead_letters'), '0', 'still no dead letter');
my $heard = $listener->query_safe('SELECT 1');
my $notes = () = $heard =~ /Asynchronous notification "told"/g;
is($notes, 5, 'each notification came once');
ok($node->poll_query_until('postgres', 'SELECT failures = 0 AND error_message IS NULL FROM streamext.pipelines'), 'and the status is clean');
$listener->quit;
$node->stop;
done_testing();
