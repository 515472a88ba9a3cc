# The connector 'function' with a worker: a function pages through a table of 10,000
# numbered rows and raises errors of many classes by chance; the worker is killed a few
# times meanwhile, and the server crashes once.  Each row must have come exactly once.
# Then: what it raises is shown and tried again, a time-out, poll_interval, run() and
# wait(), and a pause in the middle of a call.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $rows = 10_000;

my $node = PostgreSQL::Test::Cluster->new('function');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'streamext'
autovacuum = off
CONF
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE app');
$node->safe_psql('app', qq(
	CREATE EXTENSION streamext;
	CREATE TABLE api (id int PRIMARY KEY, what text);
	CREATE TABLE control (error_rate float8, page int, sqlstate text);
	INSERT INTO control VALUES (0.15, 97, NULL);
	INSERT INTO api SELECT i, 'row ' || i FROM generate_series(1, $rows) i;
	CREATE FUNCTION receive(after jsonb, max_rows int) RETURNS TABLE ("position" jsonb, id int, what text)
		LANGUAGE plpgsql SET search_path = public AS \$\$
	DECLARE c control;
	BEGIN
		SELECT * INTO c FROM control;
		IF random() < c.error_rate THEN
			RAISE EXCEPTION 'the service is away' USING ERRCODE =
				coalesce(c.sqlstate, ('{P0001,XX000,42P01,22012,23505,38000,08006}'::text[])[1 + floor(random() * 7)]);
		END IF;
		RETURN QUERY SELECT jsonb_build_object('id', a.id), a.id, a.what FROM api a
			WHERE a.id > coalesce((after ->> 'id')::int, 0) ORDER BY a.id LIMIT least(max_rows, c.page);
		IF random() < c.error_rate THEN
			RAISE EXCEPTION 'the answer was cut';
		END IF;
	END \$\$;
	CREATE STREAM s (id int, what text) WITH (connector = 'function', function = 'receive',
		poll_interval = '50 ms', batch_interval = '20 ms');
	CREATE MATERIALIZED VIEW got AS SELECT id, what FROM s;));

sub becomes
{
	my ($query, $expected, $name) = @_;
	ok($node->poll_query_until('app', $query, $expected), $name);
}

sub value { return $node->safe_psql('app', $_[0]); }

# ---------------------------------------------------------------- errors and kills
for my $part (1 .. 4)
{
	my $goal = $part * $rows / 5;
	becomes("SELECT count(*) >= $goal FROM got", 't', "$goal rows in spite of errors");
	if ($part == 2)
	{
		$node->stop('immediate');
		$node->start;
	}
	else
	{
		$node->poll_query_until('app', q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE backend_type = 'streamext worker' AND datname = 'app'));
	}
}
becomes('SELECT count(*) FROM got', $rows, 'all rows have come');
is(value('SELECT count(DISTINCT id), min(id), max(id) FROM got'), "$rows|1|$rows", 'each exactly once');
is(value(q(SELECT count(*) FROM got JOIN api USING (id, what))), $rows, 'as they were');
is(value('SELECT count(*) FROM streamext.dead_letters'), 0, 'no record was blamed');

# ---------------------------------------------------------------- what it raises
value('UPDATE control SET error_rate = 1, sqlstate = NULL');
becomes(q(SELECT state || ' ' || error_message FROM streamext.pipelines WHERE pipeline = 's'),
	'running the service is away', 'the error is shown, and it is tried again');
value('UPDATE control SET error_rate = 0');
value("INSERT INTO api VALUES ($rows + 1, 'after the error')");
becomes("SELECT count(*) FROM got WHERE id > $rows", 1, 'it goes on by itself');
becomes(q(SELECT error_message IS NULL FROM streamext.pipelines WHERE pipeline = 's'), 't',
	'the error is gone');

# ---------------------------------------------------------------- wait and run
value("INSERT INTO api SELECT i, 'more' FROM generate_series($rows + 2, $rows + 1000) i");
value(q(SELECT streamext.wait('s')));
is(value('SELECT count(*) FROM got'), $rows + 1000, 'wait() returns when nothing is left');
value(q(SELECT streamext.pause('s')));
value("INSERT INTO api SELECT i, 'more' FROM generate_series($rows + 1001, $rows + 2000) i");
value(q(SELECT streamext.run('s')));
becomes(q(SELECT state FROM streamext.pipelines WHERE pipeline = 's'), 'paused', 'run() ends');
is(value('SELECT count(*) FROM got'), $rows + 2000, 'when nothing is left');

# ---------------------------------------------------------------- a slow function
$node->safe_psql('app', q(
	CREATE FUNCTION slow(after jsonb, max_rows int) RETURNS TABLE (pos jsonb, n int)
		LANGUAGE sql BEGIN ATOMIC SELECT '1'::jsonb, 1 FROM (SELECT pg_sleep(300)) s; END;
	CREATE STREAM z (n int) WITH (connector = 'function', function = 'slow', paused);
	CREATE MATERIALIZED VIEW zv AS SELECT n FROM z;
	ALTER FUNCTION slow(jsonb, int) SET statement_timeout = '300ms';
	SELECT streamext.resume('z');));
becomes(q(SELECT error_message FROM streamext.pipelines WHERE pipeline = 'z'),
	'canceling statement due to statement timeout', 'statement_timeout of the function ends a call');
$node->safe_psql('app', q(ALTER FUNCTION slow(jsonb, int) RESET statement_timeout));
becomes(q(SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND backend_type LIKE 'streamext%' AND now() - xact_start > '1 second'),
	1, 'a worker is in a call');
my $begin = time();
$node->safe_psql('app', q(DROP STREAM z CASCADE));
cmp_ok(time() - $begin, '<', 200, 'a call in progress does not hold up DDL');
is(value('SELECT count(*) FROM got'), $rows + 2000, 'and all is well');

# ---------------------------------------------------------------- asking seldom
$node->safe_psql('app', q(
	CREATE SEQUENCE asked;
	CREATE FUNCTION empty(after jsonb, max_rows int) RETURNS TABLE (pos jsonb, n int)
		LANGUAGE plpgsql AS $$ BEGIN RAISE LOG 'asked for rows'; END $$;
	CREATE STREAM e (n int) WITH (connector = 'function', function = 'empty', poll_interval = '1 hour', paused);
	CREATE MATERIALIZED VIEW ev AS SELECT n FROM e;));
my $log = -s $node->logfile;
value(q(SELECT streamext.resume('e')));
$node->wait_for_log(qr/asked for rows/, $log);
value(q(SELECT streamext.wait('e')));
value(q(SELECT streamext.wait('e')));
my $times = () = slurp_file($node->logfile, $log) =~ /LOG:  asked for rows/g;
is($times, 3, 'an empty source is asked once, and when somebody wants to know');

$node->stop;
done_testing();
