# Random bytes through everything that reads what others have written.
# faults: B3
#
# Records of JSON, CSV and text are changed at random (bits, bytes put in and taken out,
# pieces doubled, containers opened), some come again with other digits, and all go through
# a real worker, which decodes every column.  Each record is a row or a letter: none is lost,
# nothing crashes, and the worker's memory does not grow.  The ring and the frames of the
# Kafka helper are read by fuzz_ring.c under AddressSanitizer; with SANITIZE=1 the whole
# server is.
#
#	SX_ROWS		changed records a format (default: slice 4,000, full 70,000)
#	SX_SEED		of the changes

use strict;
use warnings;

use IPC::Run qw(run);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxFault;
use Test::More;

my $seed = fault_seed();
my $rows = $ENV{SX_ROWS} // scale(4_000, 70_000);
my $per_file = 2_000;
my $dir = PostgreSQL::Test::Utils::tempdir();

my %good = (
	json => [
		'{"i": 12345, "f": -1.5e3, "n": 12.50, "ts": "2024-01-01T00:00:00.5Z", "d": "2024-02-29", "b": true, "t": "caf\u00e9 \ud83d\ude00", "j": {"a": [1, null, {"b": "c"}]}, "x": "\\\\x00ff"}',
		'{"x": null, "j": [], "t": "", "b": false, "i": -9223372036854775808}',
		'{"skip": {"deep": [[[[1]]]]}, "i": 1, "ts": "2023-11-14 22:13:20+01"}' ],
	csv => [ '12345,-1.5e3,12.50,2024-01-01 00:00:00.5+00,2024-02-29,t,"caf ""x"" , y","{""a"": [1]}",\x00ff', ',,,,,,,,', '1,2,3,infinity,epoch,f,\\N,null,' ],
	text => [ 'any line of text', "caf\xc3\xa9", '' ]);

sub change
{
	my ($record) = @_;
	foreach my $i (1 .. int(rand(4)))
	{
		my $at = int(rand(length($record) + 1));
		my $how = int(rand(6));
		if ($how == 0 && $at < length $record) { substr($record, $at, 1) = chr(ord(substr($record, $at, 1)) ^ (1 << int(rand(8)))) }
		elsif ($how == 1) { substr($record, $at, 0) = chr(int(rand(256))) }
		elsif ($how == 2) { substr($record, $at, int(rand(6))) = '' if $at < length $record }
		elsif ($how == 3) { substr($record, $at, 0) = substr($record, int(rand(length($record) + 1)), int(rand(20))) }
		elsif ($how == 4) { $record =~ s/([:,] ?)/int(rand(4)) ? $1 : $1 . ('{', '[')[int(rand(2))]/ge }
		else { substr($record, $at, 0) = ('"', '{', '[', '\\', "\0", "\xff", '\\u', '1e999999', '}')[int(rand(9))] }
	}
	$record =~ tr/\n\r/ab/;
	return $record;
}

my $node = PostgreSQL::Test::Cluster->new('fuzz');
$node->init(extra => [ '--encoding', 'UTF8', '--locale', 'C' ]);
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'streamext'\nmax_worker_processes = 16\nfsync = off\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION streamext');
my $started = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');

sub resident_kb
{
	my ($pid) = @_;
	open(my $status, '<', "/proc/$pid/status") or return 0;
	my ($kb) = map { /^VmRSS:\s+(\d+)/ ? $1 : () } <$status>;
	return $kb // 0;
}

sub write_file
{
	my ($format, $n, $count) = @_;
	open(my $file, '>:raw', "$dir/.new") or die $!;
	foreach my $i (1 .. $count)
	{
		# CSV and JSON have blank lines that count for nothing, and quotes that span lines
		my $record = change($good{$format}[int(rand(3))]);
		$record = "x$record" if $format ne 'text' && $record =~ /^\s*$/;
		$record .= '"' if $format eq 'csv' && ($record =~ tr/"//) % 2;
		print $file "$record\n";
		next if rand() < 0.8;
		$record =~ tr/1-8/2-9/;
		print $file "$record\n" x 2;
	}
	close $file;
	rename "$dir/.new", "$dir/$format/$n" or die $!;
	return;
}

my $tried = 0;
my $lost = 0;
foreach my $format (qw(json csv text))
{
	mkdir "$dir/$format";
	my $columns = $format eq 'text' ? 't text' : 'i bigint, f float8, n numeric, ts timestamptz, d date, b boolean, t text, j jsonb, x bytea';
	$node->safe_psql('postgres', qq{
		BEGIN;
		CREATE STREAM $format ($columns, off bigint OPTIONS (metadata 'offset'), file text OPTIONS (metadata 'topic'))
			WITH (connector = 'file', path = '$dir/$format', format = '$format', max_errors = 1000000, max_errors_per_hour = 100000000);
		CREATE STREAM ${format}_out WITH (connector = 'table', table = '${format}_rows') AS SELECT *, length(t) AS n_t FROM $format;
		COMMIT;
	});
	my ($first, $last) = (0, 0);
	my $files = int(($rows + $per_file - 1) / $per_file);
	foreach my $n (1 .. $files)
	{
		write_file($format, sprintf('%06d', $n), $per_file);
		is($node->safe_psql('postgres', "SELECT streamext.wait('$format')"), 't', "$format, file $n") or last;
		my $pid = $node->safe_psql('postgres', "SELECT pid FROM streamext.pipelines WHERE pipeline = '$format'");
		$first = resident_kb($pid) if $n == ($files > 6 ? 5 : 1);
		$last = resident_kb($pid);
	}
	my ($read, $written, $letters) = split /\|/, $node->safe_psql('postgres', "SELECT (SELECT sum(rows) FROM streamext.batches WHERE pipeline = '$format'),
		(SELECT count(*) FROM ${format}_rows), (SELECT count(*) FROM streamext.dead_letters WHERE pipeline = '$format')");
	is($written + $letters, $read, "$format: each record is a row or a letter");
	is($node->safe_psql('postgres', "SELECT count(*) FROM (SELECT file, off FROM ${format}_rows UNION ALL SELECT topic, \"offset\" FROM streamext.dead_letters WHERE pipeline = '$format') x
		GROUP BY file, off HAVING count(*) > 1"), '', "$format: once");
	cmp_ok($read, '>=', $files * $per_file * 0.9, "$format: the records are records");
	is($node->safe_psql('postgres', "SELECT state FROM streamext.pipelines WHERE pipeline = '$format'"), 'running', "$format: it runs on");
	cmp_ok($last - $first, '<', 20_000, "$format: the worker's memory does not grow") if !$ENV{SANITIZE};
	$tried += $read;
	$lost += $read - $written - $letters;
	# and back again: they fail again, each once
	my $marked = $node->safe_psql('postgres', "SELECT streamext.replay_dead_letters('$format')");
	is($marked, $letters, "$format: all letters can be fed again");
	is($node->safe_psql('postgres', "SELECT streamext.wait('$format')"), 't', "$format: they are");
	$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM streamext.dead_letters WHERE pipeline = '$format' AND replay");
	is($node->safe_psql('postgres', "SELECT count(*), min(attempt), max(attempt) FROM streamext.dead_letters WHERE pipeline = '$format'"),
		$letters > 0 ? "$letters|2|2" : '0||', "$format: and failed again, each once");
	diag $node->safe_psql('postgres', "SELECT sqlstate || ' ' || count(*) FROM streamext.dead_letters WHERE pipeline = '$format' GROUP BY sqlstate ORDER BY 1") =~ tr/\n/,/r;
	diag "$format: $read records, $letters letters, memory $first to $last kB";
}
is($node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'), $started, 'the server has not crashed');

# ---- the helper's ring and frames
my $program = "$dir/fuzz_ring";
my @flags = qw(-std=gnu11 -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all);
my $rounds = scale(3_000, 60_000);
my $source = -d '../src' ? '../src' : $ENV{SX_SOURCE};
if (defined $source && run([ 'cc', @flags, "-I$source", '-o', $program, 'fuzz_ring.c' ], '>', \my $out, '2>', \my $err))
{
	my $ok = run([ $program, $rounds, $seed ], '>', \my $said, '2>', \my $report);
	ok($ok, 'the ring and the frames of a helper gone mad') or diag(substr($report, 0, 3000));
	chomp $said;
	fault_row(row => 'B3', what => 'ring and frames of the helper, ASan and UBSan', tried => $rounds, lost => 0, duplicated => 0, note => $said);
}
else
{
	fail('fuzz_ring.c cannot be built');
	diag $err // 'no sources';
}
fault_row(row => 'B3', what => 'random changes of JSON, CSV and text' . ($ENV{SANITIZE} ? ', ASan and UBSan' : ''), tried => $tried, lost => $lost, duplicated => 0,
	note => "crashes 0, seed $seed");
$node->stop;
done_testing();
