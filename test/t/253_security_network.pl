# faults: S7 S5
# Secrets are nowhere to be found, and streams of roles that are no superusers connect only
# where streamext.allowed_hosts lets them, without learning what answers where.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IO::Socket::INET;
use IO::Select;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SxFault;

my $node = PostgreSQL::Test::Cluster->new('network');
$node->init;
$node->append_conf('postgresql.conf', qq{
shared_preload_libraries = 'streamext'
max_worker_processes = 32
log_statement = none
log_min_duration_statement = -1
log_min_error_statement = error
});
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]) }
sql(q{CREATE EXTENSION streamext; CREATE ROLE app LOGIN; CREATE ROLE other LOGIN; CREATE ROLE monitor LOGIN; GRANT pg_monitor TO monitor;
	GRANT USAGE ON FOREIGN SERVER streamext TO app; GRANT ALL ON SCHEMA public TO app;});

# Listens, and counts who comes.
my $listener = IO::Socket::INET->new(Listen => 20, LocalAddr => '127.0.0.1', Proto => 'tcp') or BAIL_OUT("cannot listen: $!");
my $port = $listener->sockport;
my $closed = do { my $s = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1'); my $p = $s->sockport; close $s; $p };
my @open;
sub visitors
{
	my $n = 0;
	while (IO::Select->new($listener)->can_read(0.05)) { push @open, $listener->accept; $n++ }
	return $n;
}

# ---------------------------------------------------------------- allowed_hosts, socket
my $stream = sub {
	my ($role, $name, $host, $p) = @_;
	sql("SET ROLE $role; CREATE STREAM $name (line text) WITH (connector = 'socket', host = '$host', port = '$p', durable = off);
		CREATE STREAM ${name}_out WITH (connector = 'null') AS SELECT line FROM $name");
};
my $status = sub { sql("SELECT status FROM streamext.pipelines WHERE pipeline = '$_[0]'") };
my $generic = q{%: could not connect (the server's log says why)%};
$stream->('app', 'near', '127.0.0.1', $port);
$stream->('app', 'closed', '127.0.0.1', $closed);
$stream->('app', 'unknown', 'no-such-host.invalid', $port);
foreach my $name ('near', 'closed', 'unknown')
{
	ok($node->poll_query_until('postgres', "SELECT status LIKE " . "'" . ($generic =~ s/'/''/gr) . "' FROM streamext.pipelines WHERE pipeline = '$name'"),
		"$name: the owner is told nothing else") or diag $status->($name);
}
my %said = map { my $s = $status->($_); $s =~ s/socket \S+: //; $s =~ s/next try in .*//; ($s => 1) } ('near', 'closed');
is(scalar(keys %said), 1, 'what listens and what does not look the same');
is(visitors(), 0, 'nobody came: this host is not allowed by default');
like(slurp_file($node->logfile), qr/stream public\.near could not connect to 127\.0\.0\.1:$port: Permission denied/, 'the log says why');

my $reload = sub { $node->append_conf('postgresql.conf', "streamext.allowed_hosts = '$_[0]'"); $node->reload };
$reload->("127.0.0.1:$closed");
$node->poll_query_until('postgres', "SELECT current_setting('streamext.allowed_hosts') = '127.0.0.1:$closed'");
$stream->('app', 'near2', '127.0.0.1', $port);
ok($node->poll_query_until('postgres', q{SELECT status LIKE '%could not connect%' FROM streamext.pipelines WHERE pipeline = 'near2'}), 'another port is not this one');
is(visitors(), 0, 'nobody came through a rule for another port');
$reload->("10.0.0.0/8, 127.0.0.0/8:$port");
ok($node->poll_query_until('postgres', q{SELECT status IS NULL FROM streamext.pipelines WHERE pipeline = 'near'}), 'a rule lets it in') or diag $status->('near');
cmp_ok(visitors(), '>', 0, 'it came');
$reload->('');
$stream->('postgres', 'root', '127.0.0.1', $port);
ok($node->poll_query_until('postgres', q{SELECT status IS NULL FROM streamext.pipelines WHERE pipeline = 'root'}), 'a superuser needs no rule');
cmp_ok(visitors(), '>', 0, 'it came');
$node->append_conf('postgresql.conf', "streamext.allowed_hosts = 'a:b'");
$node->reload;
ok($node->wait_for_log(qr/invalid value for parameter "streamext\.allowed_hosts"/), 'a rule that is none is refused');
$node->append_conf('postgresql.conf', "streamext.allowed_hosts = ''");
$node->reload;

# ---------------------------------------------------------------- secrets, with a helper
my $canary = 'canary' . int(rand(1e9));
my $kafka = sub {
	my ($role, $name) = @_;
	return "SET ROLE $role; CREATE SERVER k_$name FOREIGN DATA WRAPPER streamext OPTIONS (brokers '127.0.0.1:$port', \"security.protocol\" 'sasl_plaintext', \"sasl.mechanism\" 'PLAIN');
		CREATE USER MAPPING FOR $role SERVER k_$name OPTIONS (\"sasl.username\" 'u', \"sasl.password\" '$canary');
		CREATE STREAM $name (raw bytea OPTIONS (metadata 'raw')) WITH (server = 'k_$name', connector = 'kafka', topic = 't', format = 'raw');
		CREATE STREAM ${name}_out WITH (connector = 'null') AS SELECT * FROM $name";
};
sql('GRANT USAGE ON FOREIGN DATA WRAPPER streamext TO app; GRANT CREATE ON DATABASE postgres TO app');
sql($kafka->('postgres', 'helped'));
ok($node->poll_query_until('postgres', q{SELECT count(pid) > 0 FROM streamext.pipelines WHERE pipeline = 'helped'}), 'a worker runs');
my $helper = '';
for (1 .. 100)
{
	my $pid = sql(q{SELECT pid FROM streamext.pipelines WHERE pipeline = 'helped'});
	($helper) = split /\n/, `pgrep -P $pid streamext-kafka 2>/dev/null` if $pid;
	last if $helper;
	select(undef, undef, undef, 0.1);
}
ok($helper, 'and its helper');
cmp_ok(visitors(), '>', 0, 'which connects, for a superuser');
my $hits = 0;
my %places = map { $_ => slurp_file("/proc/$helper/$_") } qw(cmdline environ limits);
like($places{limits}, qr/Max core file size\s+0\s+0/, 'S7: no core file of the helper');
# statements that fail, or hang about, with the secret in their text
my @failing = (
	"CREATE SERVER bad FOREIGN DATA WRAPPER streamext OPTIONS (\"sasl.password\" '$canary')",
	"CREATE SERVER bad FOREIGN DATA WRAPPER streamext OPTIONS (password '$canary')",
	"ALTER SERVER k_helped OPTIONS (ADD \"sasl.password\" '$canary')",
	"CREATE USER MAPPING FOR postgres SERVER k_helped OPTIONS (\"sasl.password\" '$canary')",
	"ALTER USER MAPPING FOR postgres SERVER k_helped OPTIONS (SET \"sasl.password\" '$canary', ADD nonsense 'x')",
	"CREATE STREAM bad (raw bytea) WITH (connector = 'kafka', brokers = 'b', topic = 't', format = 'raw', \"sasl.password\" = '$canary')",
	"CREATE STREAM bad (raw bytea) WITH (connector = 'kafka', brokers = 'b', topic = 't', format = 'raw', sasl.password = '$canary')",
	"CREATE FOREIGN TABLE bad (raw bytea) SERVER streamext OPTIONS (connector 'kafka', \"ssl.key.pem\" '$canary')",
	"ALTER FOREIGN TABLE helped OPTIONS (ADD \"sasl.password\" '$canary')",
	"ALTER STREAM helped OPTIONS (ADD \"ssl.key.password\" '$canary')");
foreach my $statement (@failing)
{
	my ($rc, $out, $err) = $node->psql('postgres', $statement, on_error_stop => 1);
	isnt($rc, 0, 'S7: refused: ' . substr($statement, 0, 30)) or $hits++;
	$err =~ s/^LINE \d.*//mgs;		# the client shows its own text
	unlike($err, qr/$canary/, 'and the error does not repeat it') or $hits++;
}
like(($node->psql('postgres', $failing[0]))[2], qr/HINT:.*USER MAPPING/, 'S7: with a hint');
# in pg_stat_activity while it runs: it waits for a lock that we hold
my ($in, $out) = ('', '');
my $session = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres') ], '<', \$in, '>', \$out, '2>', \my $err2);
$in = "CREATE USER MAPPING FOR other SERVER k_helped OPTIONS (\"sasl.password\" '$canary');\n\\echo done\n";
$session->pump until $out =~ /done/;
$places{activity} = sql('SET ROLE monitor; SELECT string_agg(query, $$ $$) FROM pg_stat_activity');
like($places{activity}, qr/not shown by streamext/, 'S7: pg_stat_activity does not show such a statement');
$in = "\\q\n";
$session->finish;
foreach my $role ('app', 'other', 'monitor')
{
	$places{"$role.$_"} = sql("SET ROLE $role; SELECT coalesce(string_agg(x::text, ' '), '') FROM $_ x")
	  foreach qw(streamext.pipelines streamext.streams streamext.views streamext.partitions streamext.batches streamext.dead_letters streamext.outboxes pg_foreign_server pg_foreign_table);
}
$places{mapping} = sql(q{SET ROLE app; SELECT coalesce(string_agg(umoptions::text, ' '), '') FROM pg_user_mappings});
$places{explain} = sql(q{SELECT streamext.explain('helped_out')});
sql('CREATE TABLE public.appdata (i int); ALTER TABLE public.appdata OWNER TO app; GRANT USAGE ON FOREIGN SERVER k_helped TO app');
$places{dump} = `pg_dump -U app -d "@{[ $node->connstr('postgres') ]}" --no-sync -s -N streamext -N streamext_state 2>&1`;
$node->poll_query_until('postgres', q{SELECT coalesce(status, '') <> '' FROM streamext.pipelines WHERE pipeline = 'helped'});
$places{status} = $status->('helped');
$places{log} = slurp_file($node->logfile);
foreach my $place (sort keys %places)
{
	unlike($places{$place}, qr/$canary/, "S7: not in $place") or $hits++;
}
fault_row(row => 'S7', what => 'a canary in log, activity, processes, views, errors, dump', tried => keys(%places) + 2 * @failing, note => "hits: $hits");

# ---------------------------------------------------------------- allowed_hosts, kafka
sql(q{DROP STREAM helped CASCADE; DROP STREAM root CASCADE; DROP STREAM near CASCADE; DROP STREAM near2 CASCADE});
$node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type LIKE 'streamext worker' AND application_name ~ 'helped|root|near'});
visitors();
my $from = -s $node->logfile;
sql($kafka->('app', 'ssrf'));
ok($node->wait_for_log(qr/Kafka helper: .*127\.0\.0\.1:$port.*Permission denied/, $from), 'S5: the log says what was not allowed');
ok($node->poll_query_until('postgres', q{SELECT status LIKE '%could not connect (the server''s log says why)%' FROM streamext.pipelines WHERE pipeline = 'ssrf'}),
	'S5: the owner is told nothing else') or diag $status->('ssrf');
my $came = visitors();
is($came, 0, 'S5: and nobody came to the bootstrap address');
my ($rc, $stdout, $stderr) = $node->psql('postgres', 'SET ROLE app; SET client_min_messages = debug1; SET statement_timeout = 15000; SELECT * FROM ssrf');
unlike($stderr, qr/Permission denied|refused/i, 'S5: a peek tells nothing else, either');
is(visitors(), 0, 'S5: nor did it go there');
$reload->("localhost:1, 127.0.0.1:$port");
ok($node->poll_query_until('postgres', "SELECT current_setting('streamext.allowed_hosts') <> ''"), 'reloaded');
my $let = 0;
for (1 .. 100) { $let += visitors(); last if $let; }
cmp_ok($let, '>', 0, 'S5: with a rule it goes there');
fault_row(row => 'S5', what => 'hosts that are not allowed: sockets, brokers, ports, errors', tried => 9, note => "let through: $came");

$node->stop;
done_testing();
