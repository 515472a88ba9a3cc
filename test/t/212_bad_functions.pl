# What a user's function can do to a worker, and records that are large or strange.
# faults: B5 B6 B8
#
# B8: each kind of misbehaviour in a pipeline of its own, under a role of its own.  The
# server and all other sessions live on, the pipeline does what the policy says, and the
# others are not held up.
# B5: a value of 100 MB, one with 10,000 headers' worth of columns, a key of 1 MB.
# B6: infinity, the year 9999, a time before 1970, NaN: no watermark moves, no sum is spoilt.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxFault;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $node = PostgreSQL::Test::Cluster->new('functions');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'streamext'
max_worker_processes = 32
streamext.max_workers = 20
fsync = off
max_stack_depth = 1MB
CONF
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION streamext;
	CREATE ROLE worker LOGIN;
	CREATE ROLE boss SUPERUSER;
	GRANT USAGE ON FOREIGN SERVER streamext TO worker;
	CREATE SCHEMA w AUTHORIZATION worker;
});
my $started = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');
my $session = $node->background_psql('postgres');
$session->query_safe('CREATE TEMP TABLE still_here AS SELECT 1 AS x');

# name, body of f(i int) for i = 7, options, state of the pipeline, SQLSTATE of letter or stop
my @cases = (
	[ 'RAISE', q{RAISE 'seven'}, '', 'running', 'P0001' ],
	[ 'infinite loop', q{LOOP NULL; END LOOP}, q{step_timeout = '2 s',}, 'running', '57014' ],
	[ 'pg_sleep', q{PERFORM pg_sleep(1000)}, q{step_timeout = '2 s',}, 'running', '57014' ],
	[ 'recursion', q{PERFORM w.f_%n(i)}, '', 'running', '54001' ],
	[ 'a string of 2 GB', q{PERFORM length(repeat('x', 1073741824) || repeat('x', 1073741824))}, '', 'running', '54000' ],
	[ 'an array of 10 GB', q{PERFORM array_fill(1::int8, ARRAY[1300000000])}, '', 'running', '54000' ],
	[ 'COMMIT', q{COMMIT}, '', 'stopped', '2D000' ],
	[ 'SET ROLE of a superuser', q{SET ROLE boss}, '', 'stopped', '42501' ],
	[ 'a missing table', q{INSERT INTO w.nowhere VALUES (i)}, '', 'stopped', '42P01' ],
	[ 'a table of somebody else', q{PERFORM 1 FROM streamext.dead_letter}, '', 'stopped', '42501' ],
	[ 'terminates itself', q{PERFORM pg_terminate_backend(pg_backend_pid())}, '', 'running', '' ],
	[ 'RESET ROLE', q{RESET ROLE; IF current_user <> 'worker' THEN RAISE 'I am %', current_user; END IF}, '', 'running', 'none' ],
	[ 'CREATE TEMP TABLE', q{CREATE TEMP TABLE IF NOT EXISTS mine (x int); INSERT INTO mine VALUES (i)}, '', 'running', 'none' ],
	[ 'search_path', q{SET search_path = w; SET DateStyle = 'German'}, '', 'running', 'none' ]);

my $sql = '';
foreach my $n (0 .. $#cases)
{
	my ($name, $body, $options) = @{ $cases[$n] };
	$body =~ s/%n/$n/g;
	$sql .= qq{
		CREATE FUNCTION w.f_$n(i int) RETURNS int LANGUAGE plpgsql AS \$\$ BEGIN IF i = 7 THEN $body; END IF; RETURN i; END \$\$;
		CREATE STREAM w.s_$n (i int) WITH (connector = 'queue', $options pipeline = 'p_$n');
		CREATE STREAM w.o_$n WITH (connector = 'table', table = 'w.t_$n') AS SELECT w.f_$n(i) AS i FROM w.s_$n;
		INSERT INTO w.s_$n SELECT generate_series(1, 20);
	};
}
$node->safe_psql('postgres', "SET client_min_messages = error; SET SESSION AUTHORIZATION worker; $sql");
my $survived = 0;
foreach my $n (0 .. $#cases)
{
	my ($name, undef, undef, $state, $code) = @{ $cases[$n] };
	my $want = $state eq 'stopped' ? "stopped|$code|0|0" : $code eq 'none' ? 'running||20|0' : "running||19|1";

	if ($code eq '')
	{
		# kills its worker each time: the pipeline backs off, and everybody else lives
		ok($node->poll_query_until('postgres', "SELECT failures >= 3 FROM streamext.pipelines WHERE pipeline = 'p_$n'"), "$name: it backs off");
		$survived++;
		$node->safe_psql('postgres', "SELECT streamext.pause('p_$n')");
		next;
	}
	my $ok = $node->poll_query_until('postgres', qq{SELECT concat_ws('|', state, coalesce(error_sqlstate, ''), (SELECT count(*) FROM w.t_$n),
		(SELECT count(*) FROM streamext.dead_letters d WHERE d.pipeline = 'p_$n' AND d.sqlstate = '$code' AND convert_from(value, 'UTF8') = '{"i":7}'))
		FROM streamext.pipelines WHERE pipeline = 'p_$n'}, $want);
	$survived++ if $ok;
	ok($ok, "$name: $want") or diag($node->safe_psql('postgres',
		"SELECT state, error_sqlstate, error_message, (SELECT count(*) FROM w.t_$n) FROM streamext.pipelines WHERE pipeline = 'p_$n'")
		. $node->safe_psql('postgres', "SELECT sqlstate, message FROM streamext.dead_letters WHERE pipeline = 'p_$n'"));
}
is($session->query_safe('SELECT x FROM still_here'), '1', 'other sessions live');
is($node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'), $started, 'and so does the server');
my $log = slurp_file($node->logfile);
unlike($log, qr/was terminated by signal|PANIC/, 'nothing crashed');
unlike($log, qr/ERROR:  seven/, 'what a function says of a record is not in the log');
my $lines = () = $log =~ /ERROR:  (?:permission denied|relation "w.nowhere"|invalid transaction termination)/g;
cmp_ok($lines, '<=', 4, 'a reason is in the log once, not once per retry');
fault_row(row => 'B8', what => 'functions that misbehave', tried => scalar @cases, lost => 0, duplicated => 0,
	note => "$survived as they should, other sessions dropped 0");

# ---- B5: large records
sub peak_mb
{
	my ($pid) = @_;
	open(my $status, '<', "/proc/$pid/status") or return 0;
	my ($peak) = map { /^VmHWM:\s+(\d+)/ ? $1 : () } <$status>;
	return int(($peak // 0) / 1024);
}

mkdir "$dir/large";
my $size = scale(20, 100) * 1024 * 1024;
open(my $file, '>', "$dir/large/a") or die $!;
print $file '{"i": 1, "t": "small"}', "\n";
print $file '{"i": 2, "t": "', 'x' x $size, '"}', "\n";
print $file '{"i": 3, ', join(', ', map { "\"h$_\": $_" } 1 .. 10_000), ', "t": "many"}', "\n";
print $file '{"i": 4, "k": "', join('', map { chr(97 + rand(26)) } 1 .. 1024 * 1024), '", "t": "key"}', "\n";
print $file '{"i": 5, "t": "', 'y' x $size, "\n";
print $file '{"i": 6, "t": "small"}', "\n";
close $file;
$node->safe_psql('postgres', qq{
	CREATE TABLE large_rows (i int, n int, k text);
	CREATE INDEX ON large_rows (k);
	BEGIN;
	CREATE STREAM large (i int, t text, k text) WITH (connector = 'file', path = '$dir/large', format = 'json', max_batch_bytes = 1000000000);
	CREATE STREAM large_out WITH (connector = 'table', table = 'large_rows') AS SELECT i, length(t) AS n, k FROM large;
	COMMIT;
});
is($node->safe_psql('postgres', "SELECT streamext.wait('large')"), 't', 'large records are processed') or diag
  $node->safe_psql('postgres', "SELECT state, error_message FROM streamext.pipelines WHERE pipeline = 'large'");
# 64 MB is what the JSON decoder takes
my $too_long = $size > 64 * 1024 * 1024;
is($node->safe_psql('postgres', "SELECT string_agg(i || ':' || n, ' ' ORDER BY i) FROM large_rows"),
	$too_long ? '1:5 3:4 6:5' : "1:5 2:$size 3:4 6:5", 'those that can be');
is($node->safe_psql('postgres', q{SELECT string_agg("offset" || ' ' || sqlstate || ' ' || length(value) || ' ' || value_size, ', ' ORDER BY "offset")
	FROM streamext.dead_letters WHERE stream = 'large'::regclass}),
	($too_long ? '2 54000 1048576 ' . ($size + 17) . ', ' : '') . '4 54000 1048576 ' . (1024 * 1024 + 29) . ', 5 '
	  . ($too_long ? '54000' : '22P02') . ' 1048576 ' . ($size + 15), 'the others are letters, cut');
is($node->safe_psql('postgres', q{SELECT encode(value_sha256, 'hex') FROM streamext.dead_letters WHERE stream = 'large'::regclass AND "offset" = 5}),
	$node->safe_psql('postgres', qq|SELECT encode(sha256(convert_to('{"i": 5, "t": "' \|\| repeat('y', $size), 'UTF8')), 'hex')|), 'with the hash of the whole');
is($node->safe_psql('postgres', "SET client_min_messages = error; SELECT streamext.replay_dead_letters('large')"), '0', 'and cannot be fed again');
my $peak = peak_mb($node->safe_psql('postgres', "SELECT pid FROM streamext.pipelines WHERE pipeline = 'large'"));
fault_row(row => 'B5', what => sprintf('value of %d MB, 10,000 fields, key of 1 MB', $size / 1024 / 1024), tried => 6, lost => 0, duplicated => 0,
	note => "peak memory of the worker $peak MB");

# ---- B6: strange times and numbers
mkdir "$dir/times";
open($file, '>', "$dir/times/a") or die $!;
print $file qq{{"a": 1, "ts": "2024-01-01T00:00:30Z"}\n};
print $file qq{{"a": $_->[0], "ts": $_->[1]}\n} foreach [ 1, '"infinity"' ], [ 1, '"-infinity"' ], [ 1, '"9999-12-31T23:59:59Z"' ],
  [ '"NaN"', '"2024-01-01T00:00:31Z"' ], [ '"Infinity"', '"2024-01-01T00:00:31Z"' ], [ 1, 'null' ], [ 1, '"1969-12-31T23:59:59.999Z"' ], [ 1, '"0001-01-01T00:00:00Z"' ];
close $file;
open($file, '>', "$dir/times/b") or die $!;
print $file qq{{"a": 2, "ts": "2024-01-01T00:00:40Z"}\n};
close $file;
utime 1_700_000_000, 1_700_000_000, "$dir/times/a";
$node->safe_psql('postgres', qq{
	BEGIN;
	CREATE STREAM times (a float8, ts timestamptz) WITH (connector = 'file', path = '$dir/times', format = 'json',
		event_time = 'ts', watermark = '0 s', max_files_per_batch = 1);
	CREATE MATERIALIZED VIEW per_minute AS SELECT tumble(ts, '1 minute') AS w, sum(a) AS s, count(*) AS n FROM times GROUP BY 1;
	CREATE MATERIALIZED VIEW total AS SELECT sum(a) AS s FROM times;
	COMMIT;
});
$node->safe_psql('postgres', "SELECT streamext.wait('times')");
is($node->safe_psql('postgres', "SET timezone = 'UTC'; SELECT watermark FROM streamext.pipelines WHERE pipeline = 'times'"), '2024-01-01 00:00:40+00', 'the watermark is that of ordinary times');
is($node->safe_psql('postgres', "SET timezone = 'UTC'; SELECT s, n FROM per_minute WHERE w = '2024-01-01 00:00Z'"), '3|2', 'the window is intact');
is($node->safe_psql('postgres', 'SELECT s FROM total'), '7', 'and so is the sum of all');
is($node->safe_psql('postgres', "SELECT sum(late_rows) FROM streamext.views WHERE view IN ('per_minute'::regclass, 'total'::regclass)"), '0', 'nothing is late');
fault_row(row => 'B6', what => 'infinity, year 9999, before 1970, NaN', tried => 9, lost => 0, duplicated => 0, note => 'late rows 0, sums intact');
$session->quit;
$node->stop;
done_testing();
