# A pipeline at work whose owner changes, whose functions are replaced, and whose owner's
# things are dropped: the worker comes back as the new owner, and sees the new function.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('owners');
$node->init;
$node->append_conf('postgresql.conf', qq{
shared_preload_libraries = 'streamext'
max_worker_processes = 16
});
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION streamext;
	CREATE ROLE ann LOGIN;
	CREATE ROLE ben LOGIN;
	GRANT ALL ON SCHEMA public TO ann, ben;
	GRANT USAGE ON FOREIGN SERVER streamext TO ann, ben;
	SET ROLE ann;
	CREATE TABLE orders (id int, k text);
	CREATE STREAM q (id int, k text) WITH (connector = 'table', table = 'orders');
	CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM q;
	CREATE FUNCTION said(INOUT state int, k text, id int, OUT word text) LANGUAGE sql AS $$ SELECT 1, 'old'::text $$;
	CREATE STREAM words WITH (map_with_state = 'said', key = 'k') AS SELECT k, id FROM q;
	CREATE STREAM heard WITH (connector = 'table', table = 'heard_t') AS SELECT word, current_user::text AS who FROM words;
	GRANT INSERT ON heard_t TO ben;
});

my $n = 0;

sub insert_and_see
{
	my ($expected, $what) = @_;
	$n++;
	$node->safe_psql('postgres', "INSERT INTO orders VALUES ($n, 'k')");
	ok($node->poll_query_until('postgres', "SELECT n = $n FROM counted"), "$what: a row comes");
	is($node->safe_psql('postgres', 'SELECT word, who FROM heard_t ORDER BY ctid DESC LIMIT 1'), $expected, "$what: $expected");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM heard_t'), "$n", '... once');
}

insert_and_see('old|ann', 'as created');
$node->safe_psql('postgres', q{CREATE OR REPLACE FUNCTION said(INOUT state int, k text, id int, OUT word text) LANGUAGE sql AS $$ SELECT 2, 'new'::text $$});
insert_and_see('new|ann', 'function replaced');
$node->safe_psql('postgres', 'ALTER FUNCTION said RENAME TO told');
insert_and_see('new|ann', 'function renamed');
$node->safe_psql('postgres', 'ALTER STREAM q OWNER TO ben');
insert_and_see('new|ben', 'given away');
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT usename, ',') FROM pg_stat_activity WHERE backend_type = 'streamext worker'}), 'ben',
	'the worker is the new owner');
my ($rc, $out, $err) = $node->psql('postgres', 'DROP ROLE ben');
like($err, qr/cannot be dropped because some objects depend on it/, 'the role cannot be dropped');
$node->safe_psql('postgres', 'GRANT INSERT ON heard_t TO ann; REASSIGN OWNED BY ben TO ann');
insert_and_see('new|ann', 'reassigned');

# a dump without owners: all belongs to who restores, pipelines as well
$node->safe_psql('postgres', 'CREATE DATABASE copy');
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
my @to = ('-h', $node->host, '-p', $node->port);
$node->command_ok([ 'pg_dump', @to, '-Fc', '-O', '-f', $dump, 'postgres' ], 'pg_dump --no-owner');
$node->command_ok([ 'pg_restore', @to, '-O', '-d', 'copy', $dump ], 'pg_restore --no-owner');
# the first INSERT into a followed table binds everything again
$node->safe_psql('copy', "INSERT INTO orders VALUES (100, 'k')");
is($node->safe_psql('copy', 'SELECT owner FROM streamext.pipelines'), $node->safe_psql('copy', 'SELECT current_user'), 'pipelines belong to the owner of their streams');
is($node->safe_psql('copy', 'SELECT state FROM streamext.pipelines'), 'stopped', '... and are stopped');
$node->safe_psql('copy', 'SELECT streamext.start_all()');
ok($node->poll_query_until('copy', 'SELECT n = ' . ($n + 1) . ' FROM counted'), '... and count the row that came before start_all()');

$node->safe_psql('postgres', 'DROP OWNED BY ann CASCADE');
is($node->safe_psql('postgres', 'SELECT count(*) FROM streamext.pipeline'), '0', 'DROP OWNED takes the pipeline');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'streamext worker' AND datname = 'postgres'}), '... and its worker');
ok(!$node->log_contains('TRAP:|PANIC:|terminated by signal|deadlock detected'), 'no crash, no deadlock');
$node->stop('fast');
done_testing();
