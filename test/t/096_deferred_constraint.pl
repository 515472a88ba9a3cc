# A deferred constraint of a sink's table speaks when the step runs, so the record that
# violates it becomes a dead letter and does not stop the pipeline at the commit.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'streamext'\nmax_worker_processes = 16");
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION streamext;
	CREATE TABLE t (k int UNIQUE DEFERRABLE INITIALLY DEFERRED);
	BEGIN;
	CREATE STREAM q (k int) WITH (connector = 'queue');
	CREATE STREAM s WITH (connector = 'table', table = 't') AS SELECT k FROM q;
	COMMIT;
	INSERT INTO q VALUES (1), (2), (1), (3);
});
is($node->safe_psql('postgres', q{SELECT streamext.wait('q')}), 't', 'the batch is processed');
is($node->safe_psql('postgres', 'SELECT string_agg(k::text, $$ $$ ORDER BY k) FROM t'), '1 2 3', 'each key is there once');
is($node->safe_psql('postgres', 'SELECT count(*) FROM streamext.dead_letters'), '1', 'the second record of a key is a dead letter');
is($node->safe_psql('postgres', 'SELECT state FROM streamext.pipelines'), 'running', 'the pipeline runs on');
$node->stop;
done_testing();
