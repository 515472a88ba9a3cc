# The connector print: rows of a batch in the server's log, after its commit.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('print');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'streamext'
max_worker_processes = 16
CONF
$node->start;
$node->safe_psql('postgres', q(
	CREATE EXTENSION streamext;
	SET timezone = 'Asia/Tokyo';
	CREATE STREAM q (id int, name text) WITH (connector = 'queue', paused);
	CREATE STREAM shown WITH (connector = 'print') AS SELECT * FROM q WHERE id > 0;
	CREATE SCHEMA "Other";
	CREATE STREAM "Other"."Two
lines" WITH (connector = 'print', rows = 2) AS SELECT id FROM q ORDER BY id DESC;));
like($node->safe_psql('postgres', q(SELECT streamext.explain('shown'))),
	qr/^Strategy: print\nReason: the first 10 rows of each batch go into the server's log/m, 'explain() says so');

my $start = -s $node->logfile;

# Runs a batch and gives what it printed.
sub batch
{
	my ($insert) = @_;
	my $from = -s $node->logfile;
	$node->safe_psql('postgres', "$insert; SELECT streamext.step('q', '2024-02-01Z')");
	$node->poll_query_until('postgres', 'SELECT sum(pending) = 0 FROM streamext.outboxes') or die;
	return slurp_file($node->logfile, $from);
}

# Lines after the first are indented in the log.
my $log = batch(q(INSERT INTO q VALUES (1, 'one'), (2, E'"quoted"\nlines'), (3, NULL)));
like($log, qr/LOG:  sink public\.shown, batch 1, 2024-02-01 09:00:00\+09: 3 rows
\t\{"id":1,"name":"one"\}
\t\{"id":2,"name":"\\"quoted\\"\\nlines"\}
\t\{"id":3,"name":null\}\n/, 'a header and the rows');
like($log, qr/LOG:  sink "Other"\."Two
\tlines", batch 1, 2024-02-01 09:00:00\+09: 3 rows
\t\{"id":3\}
\t\{"id":2\}
\t\.\.\. 1 more\n/, 'no more than the option says, in order');

$log = batch(q(INSERT INTO q SELECT i, 'row' FROM generate_series(1, 12) i));
like($log, qr/batch 2, [^\n]*: 12 rows\n(\t\{[^\n]*\}\n){10}\t\.\.\. 2 more\n/, 'ten rows by default');
$log = batch(q(INSERT INTO q VALUES (0, 'none')));
like($log, qr/sink public\.shown, batch 3, [^\n]*: 0 rows\n(?!\t)/, 'a header for a batch without rows');
$log = batch(q(INSERT INTO q VALUES (1, repeat('é', 100000))));
like($log, qr/batch 4, [^\n]*: 1 row\n\t\{"id":1,"name":"(é)+\.\.\.\n/, 'a long row is cut between characters');
cmp_ok(length($log), '<', 20000, 'and short');

$node->safe_psql('postgres', q(BEGIN; INSERT INTO q VALUES (5, 'five'); COMMIT; BEGIN; SELECT streamext.step('q'); ROLLBACK));
$log = batch('SELECT');
my @times = slurp_file($node->logfile, $start) =~ /(sink public\.shown, batch 5,)/g;
is(scalar(@times), 1, 'what was rolled back is not printed');

# ---------------------------------------------------------------- notify, from a worker
my $session = $node->background_psql('postgres');
$session->query_safe('LISTEN c');
$node->safe_psql('postgres', q(
	CREATE STREAM told WITH (connector = 'notify', channel = 'c', backfill = 'off') AS SELECT id FROM q;
	INSERT INTO q SELECT 7 FROM generate_series(1, 3);
	SELECT streamext.resume('q')));
$node->safe_psql('postgres', q(SELECT streamext.wait('q')));
my $heard = $session->query('SELECT 1');
my @told = $heard =~ /"c" with payload "(\{"batch_id":6,"seq":\d,"row":\{"id":7\}\})"/g;
is(scalar(@told), 3, 'a running pipeline notifies, equal rows one by one') or diag $heard;
$session->quit;
is($node->safe_psql('postgres', q(SELECT setting FROM pg_settings WHERE name = 'synchronous_commit')), 'on', 'and nobody else is affected');

$node->stop;
done_testing();
