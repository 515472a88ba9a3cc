# DDL against a pipeline at full load: it waits for the running batch and is never
# half of a deadlock with it, whatever is dropped or altered.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('ddl');
$node->init;
$node->append_conf('postgresql.conf', qq{
shared_preload_libraries = 'streamext'
max_worker_processes = 32
deadlock_timeout = 100ms
});
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION streamext');

my @ddl = (
	'DROP STREAM s CASCADE',
	'DROP MATERIALIZED VIEW v; DROP STREAM s CASCADE',
	'DROP TABLE t CASCADE; DROP STREAM s CASCADE',
	q{ALTER STREAM s OPTIONS (ADD max_batch_rows '1000'); DROP STREAM s CASCADE},
	'ALTER TABLE t ADD COLUMN c int; DROP STREAM s CASCADE',
	q{SELECT streamext.pause('s'); DROP STREAM s CASCADE},
	'DROP SCHEMA x CASCADE');

for my $round (1 .. 3)
{
	for my $ddl (@ddl)
	{
		$node->safe_psql('postgres', q{
			CREATE SCHEMA IF NOT EXISTS x;
			SET search_path = x, public;
			CREATE TABLE IF NOT EXISTS t AS SELECT i AS k, i % 7 AS name FROM generate_series(0, 9999) i;
			BEGIN;
			CREATE STREAM s (value bigint, "timestamp" timestamptz)
				WITH (connector = 'rate', rows_per_second = 2000000, event_time = 'timestamp', watermark = '1 second');
			CREATE MATERIALIZED VIEW v AS
				SELECT tumble("timestamp", '1 second') AS w, t.name, count(*) FROM s JOIN t ON t.k = value % 10000 GROUP BY 1, 2;
			CREATE MATERIALIZED VIEW v2 AS SELECT value % 10 AS d, count(*) FROM s GROUP BY 1;
			COMMIT;
		});
		$node->poll_query_until('postgres', 'SELECT count(*) = 1 AND min(batch_id) > 3 FROM streamext.pipelines')
		  or BAIL_OUT('the pipeline does not run');
		my ($rc, $out, $err) = $node->psql('postgres', "SET search_path = x, public; $ddl");
		is($err =~ /ERROR.*/ ? $& : '', '', "round $round: $ddl");
	}
}
is($node->safe_psql('postgres', 'SELECT count(*) FROM streamext.pipelines'), '0', 'nothing is left');
unlike(slurp_file($node->logfile), qr/deadlock detected/, 'no deadlock');

$node->stop;
done_testing();
