# faults: S4
# Every property of the installed librdkafka is classified, and each is accepted or refused
# by name as its class says: by superusers and others, in CREATE and ALTER of servers, streams
# and user mappings.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SxFault;

my $node = PostgreSQL::Test::Cluster->new('properties');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'streamext'");
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]) }

sql(q{
	CREATE EXTENSION streamext;
	CREATE ROLE someone LOGIN;
	GRANT USAGE ON FOREIGN SERVER streamext TO someone;
	GRANT USAGE ON FOREIGN DATA WRAPPER streamext TO someone;
	GRANT ALL ON SCHEMA public TO someone;
	CREATE TABLE given (property text, who text, value text);
	INSERT INTO given SELECT property, who, CASE WHEN "values" = 'on or off' THEN 'on' WHEN "values" ~ '^-?[0-9]+ to ' THEN substring("values" from '^-?[0-9]+')
		WHEN "values" = 'text' THEN 'x' ELSE split_part("values", '|', 1) END FROM streamext.kafka_properties();
	GRANT SELECT ON given TO PUBLIC;
	CREATE TABLE result (role name, what text, property text, state text, named boolean);
	GRANT ALL ON result TO PUBLIC;
	CREATE FUNCTION try(what text, p text, statement text) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE state text; message text;
	BEGIN
		BEGIN
			EXECUTE statement;
			RAISE EXCEPTION 'undo' USING ERRCODE = 'ZZ999';
		EXCEPTION WHEN OTHERS THEN state := SQLSTATE; message := SQLERRM;
		END;
		INSERT INTO public.result VALUES (current_user, what, p, state, strpos(message, p) > 0);
	END $$;
});

# ---------------------------------------------------------------- the list is complete
my $helper = $node->config_data('--pkglibdir') . '/streamext-kafka';
my %known = map { $_ => 1 } split /\n/, sql('SELECT property FROM given');
my @library = map { /^([a-z][\w.]*)\s*\|/ ? $1 : () } split /\n/, `'$helper' --properties`;
my @missing = grep { !$known{$_} } @library;
cmp_ok(scalar(@library), '>', 100, scalar(@library) . ' properties of librdkafka');
is(join(' ', @missing), '', 'all of them are classified');
is(sql('SELECT count(*) - count(DISTINCT property) FROM given'), '0', 'each once');

# ---------------------------------------------------------------- and enforced
foreach my $role ('postgres', 'someone')
{
	sql(qq{
		SET ROLE $role;
		CREATE SERVER s_$role FOREIGN DATA WRAPPER streamext OPTIONS (brokers 'broker.example.com:9092');
		CREATE USER MAPPING FOR $role SERVER s_$role;
		CREATE SERVER p_$role FOREIGN DATA WRAPPER streamext OPTIONS (allow_plaintext 'on');
		CREATE FOREIGN TABLE f_$role (raw bytea) SERVER p_$role OPTIONS (connector 'kafka', brokers 'b.example.com', topic 't', format 'raw', paused 'on');
		SELECT try('create server', property, format('CREATE SERVER x FOREIGN DATA WRAPPER streamext OPTIONS (%I %L)', property, value)) FROM given;
		SELECT try('alter server', property, format('ALTER SERVER s_$role OPTIONS (ADD %I %L)', property, value)) FROM given;
		SELECT try('create stream', property, format('CREATE FOREIGN TABLE x (raw bytea) SERVER p_$role OPTIONS (connector ''kafka'', brokers ''b.example.com'', topic ''t'', format ''raw'', %I %L)', property, value)) FROM given;
		SELECT try('alter stream', property, format('ALTER FOREIGN TABLE f_$role OPTIONS (ADD %I %L)', property, value)) FROM given;
		SELECT try('create mapping', property, format('CREATE USER MAPPING FOR $role SERVER streamext OPTIONS (%I %L)', property, value)) FROM given;
		SELECT try('alter mapping', property, format('ALTER USER MAPPING FOR $role SERVER s_$role OPTIONS (ADD %I %L)', property, value)) FROM given;
	});
}
my $expected = q{
	CASE WHEN g.who IN ('never', 'set by streamext') THEN 'HV00D'
		WHEN g.who LIKE '%secret' AND r.what NOT LIKE '%mapping' THEN 'HV00D'
		WHEN g.who IN ('anybody', 'superuser') AND r.what LIKE '%mapping' AND g.property <> 'ssl.certificate.pem' THEN 'HV00D'
		WHEN g.who LIKE 'superuser%' AND r.role = 'someone' THEN '42501'
		ELSE 'ZZ999' END};
is(sql("SELECT string_agg(r.role || ' ' || r.what || ' ' || r.property || ' (' || g.who || '): ' || r.state || ', not ' || $expected, E'\\n')
	FROM result r JOIN given g USING (property) WHERE r.state <> $expected"), '', 'each is accepted or refused as its class says');
is(sql("SELECT string_agg(DISTINCT property, ' ') FROM result WHERE state <> 'ZZ999' AND NOT named"), '', 'and by its name');
my $tried = sql('SELECT count(*) FROM result');
my $unknown = join ' ', map { $node->psql('postgres', "CREATE SERVER x FOREIGN DATA WRAPPER streamext OPTIONS (\"$_\" 'x')") == 0 ? $_ : () } qw(no.such.property plugin.library.path ssl.engine);
is($unknown, '', 'what nobody knows is refused');
fault_row(row => 'S4', what => 'properties of librdkafka, by two roles in six statements', tried => $tried,
	note => scalar(@library) . ' in the library, unclassified: ' . scalar(@missing) . ', by class: '
	. sql(q{SELECT string_agg(who || ' ' || n, ', ' ORDER BY n DESC) FROM (SELECT who, count(*) AS n FROM given GROUP BY 1) c}));

# ---------------------------------------------------------------- somebody else's server
# Its secrets must not be sent to brokers of the user's choice, nor in the clear.
sql(q{
	CREATE SERVER shared FOREIGN DATA WRAPPER streamext OPTIONS (brokers 'broker.example.com:9092', "security.protocol" 'sasl_ssl', "ssl.ca.location" '/etc/ssl/certs/ca.pem');
	CREATE USER MAPPING FOR PUBLIC SERVER shared OPTIONS ("sasl.username" 'app', "sasl.password" 'canary');
	GRANT USAGE ON FOREIGN SERVER shared TO someone;
});
my $stream = sub { "CREATE STREAM x (raw bytea) WITH (server = 'shared', connector = 'kafka', topic = 't', format = 'raw', paused $_[0])" };
foreach my $case ([ '', 0, 'uses it' ], [ ", brokers = 'evil.example.com'", 1, 'names other brokers' ], [ q{, "security.protocol" = 'sasl_plaintext'}, 1, 'takes the encryption away' ],
	[ q{, "ssl.ca.pem" = 'x'}, 1, 'trusts another authority' ], [ q{, "sasl.mechanism" = 'PLAIN'}, 1, 'weakens the mechanism' ], [ q{, "client.id" = 'me'}, 0, 'names itself' ])
{
	my ($rc, $out, $err) = $node->psql('postgres', 'SET ROLE someone; BEGIN; ' . $stream->($case->[0]) . '; ROLLBACK', on_error_stop => 1);
	is($rc == 0 ? 0 : $err =~ /is decided by server "shared"/ ? 1 : $err, $case->[1], "a stream on somebody's server $case->[2]");
}
# what superusers gave away with the stream, or were when they gave it
sql(q{GRANT USAGE ON FOREIGN SERVER p_postgres TO someone;
	CREATE STREAM given_away (raw bytea) WITH (server = 'p_postgres', connector = 'kafka', brokers = 'b.example.com', topic = 't', format = 'raw', paused, "ssl.key.location" = '/etc/ssl/private/key.pem')});
like(($node->psql('postgres', 'ALTER FOREIGN TABLE given_away OWNER TO someone'))[2], qr/needs an owner who is superuser/, 'files of the server are read for superusers only');
sql(q{CREATE ROLE was_super SUPERUSER; GRANT CREATE ON SCHEMA public TO was_super; GRANT USAGE ON FOREIGN SERVER p_postgres TO was_super; ALTER FOREIGN TABLE given_away OWNER TO was_super; ALTER ROLE was_super NOSUPERUSER});
like(($node->psql('postgres', 'SELECT * FROM given_away'))[2], qr/needs an owner who is superuser/, '… who still is one');

$node->stop;
done_testing();
