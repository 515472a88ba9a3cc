# Encryption and authentication against a broker with SASL_SSL: what goes wrong shows in
# the status, no secret shows anywhere, and every mistake is mended by ALTER SERVER or
# ALTER USER MAPPING while the worker runs.
#
# faults: O7

use strict;
use warnings;
use File::Basename qw(dirname);
use lib dirname(__FILE__);
use IPC::Run qw(run);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SxFault;
use SxKafka;
use Test::More;
use Time::HiRes qw(time);

plan skip_all => 'no Kafka' unless $ENV{KAFKA_PORT};

my $tests = dirname(__FILE__) . '/../kafka';
my $dir = $PostgreSQL::Test::Utils::tmp_check . '/kafka';
my $secret = 'canary-' . int(rand(1e9));
my $wrong = 'canary-wrong-' . int(rand(1e9));

mkdir $dir;
run([ "$tests/certs", "$dir/certs" ]) or BAIL_OUT('no certificates');
append_to_file("$dir/password", "$secret\n");
run([ "$tests/up", $dir ], '>', \my $port) or BAIL_OUT('no broker');
chomp $port;
my ($good, $expired, $other_name, $elsewhere) = split ' ', slurp_file("$dir/ports");
my ($ca, $other_ca) = map { slurp_file("$dir/certs/$_.pem") } qw(ca other_ca);

my $broker = bless { brokers => "127.0.0.1:$port" }, 'SxKafka';
my $put = 0;
sub put { $broker->client("put t 0 $put 10"); $put += 10; return }

my $node = SxKafka->small_node('secure', 'streamext.max_workers' => 16, log_statement => 'none');
sub psql { return $node->safe_psql('postgres', $_[0]) }

# As a superuser: others are told less of what answers where (253_security_network).
psql(q{CREATE ROLE app LOGIN SUPERUSER; GRANT CREATE ON SCHEMA public TO app; GRANT USAGE ON FOREIGN DATA WRAPPER streamext TO app});
sub app { return $node->safe_psql('postgres', $_[0], extra_params => [ '-U', 'app' ]) }

sub make_stream
{
	my ($name, $brokers, $options, $mapping) = @_;
	app("CREATE SERVER $name FOREIGN DATA WRAPPER streamext OPTIONS (brokers '$brokers', $options);"
		. ($mapping ? "CREATE USER MAPPING FOR app SERVER $name OPTIONS ($mapping);" : '')
		. qq{CREATE STREAM $name (id bigint) WITH (connector = 'kafka', server = '$name', topic = 't');
			CREATE MATERIALIZED VIEW ${name}_rows AS SELECT id FROM $name;});
	return;
}

my $cases = 0;
sub wait_status
{
	my ($name, $pattern, $what) = @_;
	$cases++;
	my $since = $name eq 'elsewhere' ? '' : '^disconnected since .*';
	ok($node->poll_query_until('postgres', "SELECT status ~* '$since($pattern)' FROM streamext.pipelines WHERE pipeline = '$name'"),
		"$what: status") or diag psql("SELECT status, error_message FROM streamext.pipelines WHERE pipeline = '$name'");
	note psql("SELECT status FROM streamext.pipelines WHERE pipeline = '$name'");
	return;
}

my $slowest = 0;
sub wait_rows
{
	my ($name, $what) = @_;
	my $start = time();
	ok($node->poll_query_until('postgres', "SELECT count(*) >= $put FROM ${name}_rows"), $what)
	  or diag psql("SELECT status, error_message FROM streamext.pipelines WHERE pipeline = '$name'");
	$slowest = time() - $start if time() - $start > $slowest;
	return;
}

$broker->client('create t 1');
put();

my $ssl = qq{"security.protocol" 'ssl'};
my $sasl = qq{"security.protocol" 'sasl_ssl', "ssl.ca.pem" '$ca'};

make_stream('plain', "localhost:$good", qq{$sasl, "sasl.mechanism" 'PLAIN'}, qq{"sasl.username" 'alice', "sasl.password" '$secret'});
my ($code, $said_out, $warning) = $node->psql('postgres',
	qq{CREATE SERVER probe FOREIGN DATA WRAPPER streamext OPTIONS (brokers 'localhost:1', $sasl, "sasl.mechanism" 'SCRAM-SHA-512');
		CREATE STREAM probe (id bigint) WITH (connector = 'kafka', server = 'probe', topic = 't', paused)}, extra_params => [ '-U', 'app' ]);
my $scram_works = $warning !~ /cannot authenticate by SCRAM with brokers of Kafka 4.0 or later/;
make_stream('scram', "localhost:$good", qq{$sasl, "sasl.mechanism" 'SCRAM-SHA-256'}, qq{"sasl.username" 'bob', "sasl.password" '$wrong'});
make_stream('wrong', "localhost:$good", qq{$sasl, "sasl.mechanism" 'PLAIN'}, qq{"sasl.username" 'alice', "sasl.password" '$wrong'});
make_stream('bad_ca', "localhost:$expired", qq{$ssl, "ssl.ca.pem" '$other_ca'});
make_stream('expired', "localhost:$expired", qq{$ssl, "ssl.ca.pem" '$ca'});
make_stream('other_name', "localhost:$other_name", qq{$ssl, "ssl.ca.pem" '$ca'});
make_stream('no_tls', "localhost:$port", qq{$ssl, "ssl.ca.pem" '$ca'});
make_stream('no_name', 'kafka.streamext.invalid:9093', $ssl);
make_stream('refused', '127.0.0.1:1', $ssl);
make_stream('elsewhere', "127.0.0.1:$elsewhere", q{"client.id" 'x'});

wait_rows('plain', 'SASL PLAIN over TLS');
wait_status('scram', 'authentication', 'SCRAM, wrong password');
wait_status('wrong', 'authentication', 'PLAIN, wrong password');
wait_status('bad_ca', 'certificate', 'certificate of an unknown authority');
wait_status('expired', 'certificate', 'certificate that has expired');
wait_status('other_name', 'certificate', 'certificate of another host');
wait_status('no_tls', 'ssl|disconnected while|handshake', 'a listener without TLS');
wait_status('no_name', 'resolve', 'a name that does not exist');
wait_status('refused', 'refused', 'a port where nobody is');
wait_status('elsewhere', 'refused', 'brokers advertised where nobody is');

# mended while it runs
my $pids = psql("SELECT string_agg(pid::text, ' ' ORDER BY pipeline) FROM streamext.pipelines WHERE pipeline IN ('plain')");
app(qq{ALTER USER MAPPING FOR app SERVER scram OPTIONS (SET "sasl.password" '$secret');
	ALTER USER MAPPING FOR app SERVER wrong OPTIONS (SET "sasl.password" '$secret');
	ALTER SERVER bad_ca OPTIONS (SET brokers 'localhost:$other_name', SET "ssl.ca.pem" '$ca');
	ALTER SERVER no_tls OPTIONS (SET "security.protocol" 'plaintext');
	ALTER SERVER refused OPTIONS (SET brokers 'localhost:$port', SET "security.protocol" 'plaintext')});
SKIP:
{
	skip 'this librdkafka cannot do SCRAM with this Kafka', 1 unless $scram_works;
	wait_rows('scram', 'SCRAM, password mended by ALTER USER MAPPING');
}
wait_rows('wrong', 'PLAIN, password mended by ALTER USER MAPPING');
wait_rows('no_tls', 'protocol mended by ALTER SERVER');
wait_rows('refused', 'address mended by ALTER SERVER');
wait_status('bad_ca', 'certificate', 'the right authority, but another host');
is(psql("SELECT string_agg(pid::text, ' ' ORDER BY pipeline) FROM streamext.pipelines WHERE pipeline IN ('plain')"), $pids,
	'the worker of another server is not disturbed');

# writing, too
app('INSERT INTO plain VALUES (1000)');
$put++;
wait_rows('wrong', 'what is written over SASL comes back');
my ($rc, $out, $err) = $node->psql('postgres', "SET streamext.insert_timeout = '2s'; INSERT INTO other_name VALUES (1)", extra_params => [ '-U', 'app' ]);
like($err, qr/could not send 1 of 1 records of stream public.other_name.*certificate/s, 'writing to a broker that is not trusted');

# a password that changes at run time
if (full())
{
	run([ "$tests/down", $dir, 'KILL' ]);
	unlink "$dir/password";
	append_to_file("$dir/password", "$secret-new\n");
	run([ "$tests/up", $dir ], '>', \my $again) or BAIL_OUT('no broker again');
	wait_status('plain', 'authentication', 'password changed at the broker');
	$broker->client('put t 0 500 10');
	$put += 10;
	wait_rows('refused', 'a stream without password goes on after the broker was killed');
	app(qq{ALTER USER MAPPING FOR app SERVER plain OPTIONS (SET "sasl.password" '$secret-new')});
	wait_rows('plain', 'the new password is taken');
	is(psql('SELECT count(*), count(DISTINCT id) FROM plain_rows'), "$put|$put", 'each once');
}

# to a host that is not this one, nothing goes in the clear unless the server says so
($rc, $out, $err) = $node->psql('postgres',
	q{CREATE SERVER far FOREIGN DATA WRAPPER streamext OPTIONS (brokers '127.0.0.1:9092, 192.0.2.1:9092');
	  CREATE STREAM far (id bigint) WITH (connector = 'kafka', server = 'far', topic = 't', paused)}, extra_params => [ '-U', 'app' ]);
like($err, qr/stream public.far would talk to "192.0.2.1" without encryption/, 'no plaintext to another host');
app(q{ALTER SERVER far OPTIONS (ADD "security.protocol" 'sasl_plaintext')});
($rc, $out, $err) = $node->psql('postgres', q{CREATE STREAM far (id bigint) WITH (connector = 'kafka', server = 'far', topic = 't', paused)},
	extra_params => [ '-U', 'app' ]);
like($err, qr/without encryption/, 'no password in the clear, either');
app(q{ALTER SERVER far OPTIONS (DROP "security.protocol", ADD allow_plaintext 'on');
	CREATE STREAM far (id bigint) WITH (connector = 'kafka', server = 'far', topic = 't', paused)});
pass('allow_plaintext = on');

is(psql("SELECT count(*) FROM streamext.pipelines WHERE error_message IS NOT NULL"), '0', 'none of it was an error');
$node->stop;

# the canary
my $leaks = () = slurp_file($node->logfile) =~ /canary-/g;
my $said = () = $err =~ /canary-/g;
is($leaks + $said, 0, 'no secret in the log');
fault_row(row => 'O7', what => 'DNS, refused, elsewhere, TLS, SASL: status names it, mended at run time', tried => $cases,
	lost => 0, duplicated => 0, recovery => sprintf('%.1f s', $slowest), note => "secrets in the log: $leaks");

run([ "$tests/down", $dir, 'KILL' ]);
done_testing();
