# Every kind of bad input, first, in the middle and last in a batch, under each policy.
# faults: B1
#
# Each file is a batch of good records with one that is bad in its own way.  on_error =
# dead_letter: exactly one letter, byte for byte, with the right SQLSTATE; skip: counted;
# stop: the error names the record, and nothing of its batch has happened.  All the good
# neighbours are there, once.  What is no error must be none.
#
#	SX_ROWS		records of a batch (default: slice 100, full 10,000)

use strict;
use warnings;

use Digest::SHA;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxFault;
use Test::More;

my $rows = $ENV{SX_ROWS} // scale(100, 10_000);

my $lone = '{"id": -1, "t": "\\ud800"}';
my $long = join '', map { chr(97 + int(rand(26))) . chr(65 + int(rand(26))) } 1 .. 6000;

# name, record, SQLSTATE ('' : no error).  The record has id -1.
my @cases = (
	[ 'truncated', '{"id": -1, "t": "x', '22P02' ],
	[ 'trailing garbage', '{"id": -1} xyz', '22P02' ],
	[ 'two documents', '{"id": -1}{"id": -2}', '22P02' ],
	[ 'NaN in JSON', '{"id": -1, "f8": NaN}', '22P02' ],
	[ 'single quotes', "{'id': -1}", '22P02' ],
	[ 'no JSON', 'x', '22P02' ],
	[ 'a scalar', '7', '22P02' ],
	[ 'an array', '[1]', '22P02' ],
	[ 'byte order mark', "\xef\xbb\xbf{\"id\": -1}", '' ],
	[ 'NUL escape in text', '{"id": -1, "t": "a\\u0000b"}', '22P05' ],
	[ 'NUL escape in jsonb', '{"id": -1, "j": {"a": "\\u0000"}}', '22P05' ],
	[ 'NUL escape in json', '{"id": -1, "js": {"a": "\\u0000"}}', '22P05' ],
	[ 'lone high surrogate', $lone, '22P02' ],
	[ 'lone low surrogate', '{"id": -1, "t": "\\udc00"}', '22P02' ],
	[ 'NUL byte', "{\"id\": -1, \"t\": \"a\0b\"}", '22021' ],
	[ 'byte ff', "{\"id\": -1, \"t\": \"a\xff\"}", '22021' ],
	[ 'overlong c0 80', "{\"id\": -1, \"t\": \"a\xc0\x80\"}", '22021' ],
	[ 'surrogate ed a0 80', "{\"id\": -1, \"t\": \"a\xed\xa0\x80\"}", '22021' ],
	[ 'truncated e2 82', "{\"id\": -1, \"t\": \"a\xe2\x82\"}", '22021' ],
	[ 'int4 3e9', '{"id": -1, "i4": 3000000000}', '22003' ],
	[ 'int8 2^63', '{"id": -1, "i8": 9223372036854775808}', '22003' ],
	[ 'int8 + 1', '{"id": -1, "i8": 9223372036854775807}', '22003' ],
	[ 'float8 1e400', '{"id": -1, "f8": 1e400}', '22003' ],
	[ 'numeric(5,2) 123456', '{"id": -1, "n": 123456}', '22003' ],
	[ 'jsonb 1e131071', '{"id": -1, "j": 1e131071}', '22003' ],
	[ 'jsonb 1e200000', '{"id": -1, "j": 1e200000}', '22003' ],
	[ 'int "abc"', '{"id": -1, "i4": "abc"}', '22P02' ],
	[ 'int 1.5', '{"id": -1, "i4": 1.5}', '22P02' ],
	[ 'int true', '{"id": -1, "i4": true}', '22P02' ],
	[ 'int {}', '{"id": -1, "i4": {}}', '22P02' ],
	[ 'missing fields', '{"id": -1}', '' ],
	[ 'duplicate keys', '{"id": 0, "id": -1}', '22030' ],
	[ 'February 30', '{"id": -1, "ts": "2023-02-30T00:00:00Z"}', '22008' ],
	[ 'month 13', '{"id": -1, "ts": "2023-13-01T00:00:00Z"}', '22008' ],
	[ 'year 0', '{"id": -1, "ts": "0000-01-01T00:00:00Z"}', '22008' ],
	[ 'year 294277', '{"id": -1, "ts": "294277-01-01T00:00:00Z"}', '22008' ],
	[ 'time zone', '{"id": -1, "ts": "2023-01-01 00:00:00 Nowhere/Here"}', '22007' ],
	[ '23:59:60', '{"id": -1, "ts": "2023-01-01T23:59:60Z"}', '' ],
	[ '24:00:00', '{"id": -1, "ts": "2023-01-01T24:00:00Z"}', '' ],
	[ 'infinity', '{"id": -1, "ts": "infinity"}', '22008' ],
	[ 'numeric NaN', '{"id": -1, "n": "NaN"}', '22023' ],
	[ 'nesting 500', '{"id": -1, "j": ' . ('[' x 500) . (']' x 500) . '}', '' ],
	[ 'nesting 100,000', '{"id": -1, "j": ' . ('[' x 100_000) . (']' x 100_000) . '}', '54000' ],
	[ 'varchar(3)', '{"id": -1, "vc": "long"}', '22001' ],
	[ 'NOT NULL of the stream', '{"id": null}', '23502' ],
	[ 'NOT NULL of the target', '{"id": -1, "t": "null"}', '23502' ],
	[ 'CHECK', '{"id": -1, "i4": -5}', '23514' ],
	[ 'UNIQUE', '{"id": 0}', '23505' ],
	[ 'enum', '{"id": -1, "m": "bad"}', '22P02' ],
	[ 'uuid', '{"id": -1, "u": "12345"}', '22P02' ],
	[ '1/0', '{"id": -1, "i8": 0}', '22012' ],
	[ 'btree key', "{\"id\": -1, \"k\": \"$long\"}", '54000' ],
	[ 'RAISE', '{"id": -1, "t": "raise"}', 'P0001' ],
	[ 'ASSERT', '{"id": -1, "t": "assert"}', 'P0004' ]);

my $dir = PostgreSQL::Test::Utils::tempdir();
mkdir "$dir/$_" foreach qw(dead_letter skip stop);

# One file a batch, in the order of their numbers; the UNIQUE case repeats id 0 of file 0.
my @files;
my $id = 1;
foreach my $case (@cases)
{
	foreach my $place ('first', 'middle', 'last')
	{
		my $at = $place eq 'first' ? 0 : $place eq 'last' ? $rows - 1 : int($rows / 2);
		my $text = '';
		foreach my $i (0 .. $rows - 1)
		{
			$text .= $i == $at ? "$case->[1]\n" : '{"id": ' . $id++ . ", \"i8\": 1, \"must\": 1}\n";
		}
		push @files, { case => $case, place => $place, at => $at + 1, text => $text };
	}
}
my $good = $id - 1;

sub write_file
{
	my ($policy, $n) = @_;
	my $path = sprintf '%s/%s/%06d', $dir, $policy, $n;
	open(my $file, '>:raw', $path) or die "$path: $!";
	print $file $n < 0 ? "{\"id\": 0}\n" : $files[$n]{text};
	close $file;
	utime 1_700_000_000 + $n, 1_700_000_000 + $n, $path;
	return $path;
}

my $node = PostgreSQL::Test::Cluster->new('bad');
$node->init(extra => [ '--encoding', 'UTF8', '--locale', 'C' ]);
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'streamext'\nmax_worker_processes = 16\nfsync = off\n");
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION streamext;
	CREATE TYPE mood AS ENUM ('fine');
	CREATE FUNCTION raises(t text) RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		IF t = 'raise' THEN RAISE 'no such text'; END IF;
		ASSERT t IS DISTINCT FROM 'assert';
		RETURN t;
	END $$;
	CREATE FUNCTION step_all(name text) RETURNS bigint LANGUAGE plpgsql AS $$
	DECLARE n bigint := 0;
	BEGIN
		LOOP
			PERFORM streamext.step(name, '2024-01-01Z');
			EXIT WHEN NOT FOUND;
			n := n + 1;
		END LOOP;
		RETURN n;
	END $$;
});

sub make_stream
{
	my ($policy) = @_;
	$node->safe_psql('postgres', qq{
		CREATE TABLE t_$policy (id int UNIQUE, i4 int CHECK (i4 > 0), i8 bigint, z bigint, f8 float8, n numeric,
			ts timestamptz, t text, vc text, u uuid, m mood, j jsonb, js json, k text, must int NOT NULL);
		CREATE INDEX ON t_$policy (k);
		BEGIN;
		CREATE STREAM $policy (id int NOT NULL, i4 int, i8 bigint, f8 float8, n numeric(5,2), ts timestamptz, t text,
				vc varchar(3), u uuid, m mood, j jsonb, js json, k text)
			WITH (connector = 'file', path = '$dir/$policy', format = 'json', strict = on, on_error = '$policy',
				max_files_per_batch = 1, max_batch_rows = 1000000, paused);
		CREATE STREAM to_$policy WITH (connector = 'table', table = 't_$policy')
			AS SELECT id, i4, i8 + 1 AS i8, 1 / i8 AS z, f8, n, ts, raises(t) AS t, vc, u, m, j, js, k,
				CASE WHEN t = 'null' THEN NULL ELSE 1 END AS must
			FROM $policy;
		COMMIT;
	});
	return;
}

# Which batches had no error, by what was written for them: rows with id -1 or NULL.
my @ok = grep { $files[$_]{case}[2] eq '' } 0 .. $#files;

sub ids
{
	my ($policy) = @_;
	return $node->safe_psql('postgres',
		"SELECT count(*) FILTER (WHERE id > 0), count(DISTINCT id) FILTER (WHERE id > 0), count(*) FILTER (WHERE id = -1),
			count(*) FILTER (WHERE id = 0) FROM t_$policy");
}

my $lost = 0;
my $duplicated = 0;

sub check_ids
{
	my ($policy) = @_;
	my ($n, $distinct, $minus, $zero) = split /\|/, ids($policy);
	is($n, $good, "$policy: every good record is there");
	is($distinct, $n, "$policy: once");
	is($zero, 1, "$policy: the first of two equal keys");
	$lost += $good - $distinct;
	$duplicated += $n - $distinct;
	return;
}

foreach my $policy (qw(dead_letter skip))
{
	make_stream($policy);
	$node->safe_psql('postgres', "ALTER TABLE t_$policy DROP CONSTRAINT t_${policy}_id_key;
		CREATE UNIQUE INDEX ON t_$policy (id) WHERE id >= 0");
	write_file($policy, $_) foreach -1 .. $#files;
	is($node->safe_psql('postgres', "SELECT step_all('$policy')"), @files + 1, "$policy: a batch a file");
	check_ids($policy);
}
is($node->safe_psql('postgres', "SELECT count(*) FROM t_dead_letter WHERE id = -1"), scalar @ok, 'what is no error is none');
is($node->safe_psql('postgres', "SELECT dead_letters, skipped_rows FROM streamext.views WHERE view = 'to_skip'::regclass"),
	'0|' . (@files - @ok), 'skip: counted');

my @letters = map { [ split /\|/ ] } split /\n/, $node->safe_psql('postgres',
	"SELECT d.topic, d.sqlstate, d.\"offset\", encode(sha256(d.value), 'hex'), message FROM streamext.dead_letters d ORDER BY d.id");
is(scalar @letters, @files - @ok, 'one letter a bad record, and no other');
my %letter = map { $_->[0] => $_ } @letters;
my $wrong = 0;
foreach my $n (0 .. $#files)
{
	my $file = $files[$n];
	my ($name, $record, $state) = @{ $file->{case} };
	my $letter = $letter{ sprintf '%06d', $n };
	next if $state eq '' && !$letter;
	my $right = $letter && $letter->[1] =~ /^(?:$state)$/ && $letter->[3] eq unpack('H*', Digest::SHA::sha256($record));
	$wrong++ if !$right;
	ok($right, "$name, $file->{place}: SQLSTATE $state and the same bytes")
	  or diag($letter ? "@$letter" : 'no letter');
}

# stop: the error names the record, the position is before it, and nothing was written.
# A few places in the slice, all of them in full size.
make_stream('stop');
$node->safe_psql('postgres', "ALTER TABLE t_stop DROP CONSTRAINT t_stop_id_key; CREATE UNIQUE INDEX ON t_stop (id) WHERE id >= 0");
write_file('stop', -1);
$node->safe_psql('postgres', "SELECT step_all('stop')");
my $stopped = 0;
my $tried = 0;
my $before = $node->safe_psql('postgres', 'SELECT count(*) FROM t_stop');
foreach my $n (0 .. $#files)
{
	my $file = $files[$n];
	my $state = $file->{case}[2];
	next if $state eq '' || (!full() && $n % 3 != int($n / 3) % 3);
	my $path = write_file('stop', $n);
	my ($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT streamext.step('stop', '2024-01-01Z')");
	my $after = $node->safe_psql('postgres', "SELECT count(*) FROM t_stop");
	my $right = $rc != 0 && $after == $before &&
	  ($err =~ /ERROR:\s+(?:$state): record at file "\d+" offset (\d+) of stream \S+ failed/);
	$stopped++ if $right;
	$tried++;
	ok($right, "stop: $file->{case}[0], $file->{place}") or diag(substr($err, 0, 400));
	unlink $path;
}

fault_row(row => 'B1', what => 'bad input', tried => scalar(@cases) . " inputs x 3 places x 3 policies, $rows records a batch",
	lost => $lost, duplicated => $duplicated, note => sprintf('%d letters wrong, %d of %d stops right', $wrong, $stopped, $tried));
$node->stop;
done_testing();
