# faults: S2 S3 S5 S6 S8 S10
# What a role that may create streams, and others, can try against the rest: names that
# shadow ours, objects made before the extension, files and names of any form, changes of
# role within a batch, other people's pipelines.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SxFault;

my $node = PostgreSQL::Test::Cluster->new('security');
$node->init;
$node->append_conf('postgresql.conf', qq{
shared_preload_libraries = 'streamext'
max_worker_processes = 32
});
$node->start;

sub sql { return $node->safe_psql('postgres', $_[0]) }

# The SQLSTATE of a statement, '' when it works; the roles are set by SET ROLE.
sub state_of
{
	my ($role, $sql) = @_;
	my ($rc, $out, $err) = $node->psql('postgres',
		"\\set VERBOSITY verbose\nSET ROLE $role;\n$sql", on_error_stop => 1);
	return $err =~ /ERROR:\s+(\w{5}):/ ? $1 : $rc == 0 ? '' : $err;
}

# ---------------------------------------------------------------- S3
# Objects that are there before CREATE EXTENSION: it must stop, not take them over.
my @before = (
	'CREATE SCHEMA streamext', 'CREATE SCHEMA streamext_state',
	'CREATE FOREIGN DATA WRAPPER streamext',
	q{CREATE FUNCTION public.tumble(ts timestamptz, size interval) RETURNS timestamptz LANGUAGE sql AS 'SELECT $1'},
	q{CREATE FUNCTION public.hop(ts timestamp, slide interval, size interval) RETURNS SETOF timestamp LANGUAGE sql AS 'SELECT $1'});
my $taken_over = 0;
foreach my $statement (@before)
{
	my ($rc, $out, $err) = $node->psql('postgres', "BEGIN; $statement; CREATE EXTENSION streamext; COMMIT;");
	$taken_over++ if $err !~ /already exists/;
	is($err =~ /already exists/ ? 1 : $err, 1, "S3: refused after $statement");
}
fault_row(row => 'S3', what => 'objects made before CREATE EXTENSION', tried => scalar(@before),
	note => "taken over: $taken_over");

# ---------------------------------------------------------------- S2
# The attacker makes a function and an operator for every one of pg_catalog that takes
# ordinary types, and types by the names that casts use, where everybody's search_path looks.
sql(q{
	CREATE ROLE attacker; CREATE ROLE victim;
	CREATE TABLE public.hits (name text, role name);
	GRANT INSERT, SELECT ON public.hits TO PUBLIC;
	GRANT ALL ON SCHEMA public TO PUBLIC;
	SET ROLE attacker;
	CREATE FUNCTION public.hit() RETURNS void LANGUAGE plpgsql SECURITY INVOKER AS
		$$ BEGIN INSERT INTO public.hits VALUES (current_setting('application_name'), current_user); END $$;
});
my $types = q{('{int2, int4, int8, text, name, bool, oid, regclass, regprocedure, regrole, timestamptz, timestamp, date, interval, jsonb, json, numeric, float8, float4, bytea, xid8, pg_snapshot, tid, xid, regtype, inet, _text, _int8, _oid, _int4, record, "char"}'::regtype[]::oid[])};
my $limit = scale(700, 100_000);
sql(qq{
	SET ROLE attacker;
	SET check_function_bodies = off;
	DO \$do\$
	DECLARE r record; n int := 0;
	BEGIN
		FOR r IN SELECT p.proname, pg_get_function_identity_arguments(p.oid) AS args, p.proretset, p.prorettype::regtype AS ret
			FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND p.prorettype = ANY $types
			AND NOT EXISTS (SELECT FROM unnest(p.proargtypes) t WHERE t <> ALL $types)
			AND p.proname NOT LIKE '%\\_in' AND p.proname NOT LIKE '%send' AND p.proname NOT LIKE '%recv'
			ORDER BY (p.proname IN ('count', 'pg_has_role', 'now', 'clock_timestamp', 'octet_length', 'pg_options_to_table', 'array_position', 'timezone', 'unnest', 'set_config')) DESC, p.oid LIMIT $limit
		LOOP
			BEGIN
				EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS %s%s LANGUAGE plpgsql AS \$f\$ BEGIN PERFORM public.hit(); RETURN%s; END \$f\$',
					r.proname, r.args, CASE WHEN r.proretset THEN 'SETOF ' ELSE '' END, r.ret, CASE WHEN r.proretset THEN '' ELSE ' NULL' END);
			EXCEPTION WHEN OTHERS THEN NULL;
			END;
		END LOOP;
		FOR r IN SELECT o.oprname, o.oprleft::regtype AS l, o.oprright::regtype AS r, o.oprresult::regtype AS ret
			FROM pg_operator o WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND o.oprkind = 'b'
			AND o.oprleft = ANY $types AND o.oprright = ANY $types AND o.oprresult = ANY $types LIMIT $limit
		LOOP
			n := n + 1;
			BEGIN
				EXECUTE format('CREATE FUNCTION public.op_%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS \$f\$ BEGIN PERFORM public.hit(); RETURN NULL; END \$f\$', n, r.l, r.r, r.ret);
				EXECUTE format('CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = public.op_%s)', r.oprname, r.l, r.r, n);
			EXCEPTION WHEN OTHERS THEN NULL;
			END;
		END LOOP;
	END \$do\$;
	CREATE FUNCTION public.row_hit(text, record) RETURNS text LANGUAGE plpgsql AS \$\$ BEGIN PERFORM public.hit(); RETURN \$1; END \$\$;
	CREATE AGGREGATE public.count(record) (SFUNC = public.row_hit, STYPE = text);
	CREATE DOMAIN public.regclass AS int; CREATE DOMAIN public.regprocedure AS int; CREATE DOMAIN public.bigint AS text;
});
my $names = sql(q{SELECT (SELECT count(*) FROM pg_proc WHERE proowner = 'attacker'::regrole)
	+ (SELECT count(*) FROM pg_operator WHERE oprowner = 'attacker'::regrole) + (SELECT count(*) FROM pg_type WHERE typowner = 'attacker'::regrole AND typtype = 'd')});
cmp_ok($names, '>', 400, "S2: $names names shadow those of pg_catalog");

sql(q{TRUNCATE hits; CREATE EXTENSION streamext;
	CREATE SCHEMA v AUTHORIZATION victim; GRANT USAGE ON FOREIGN SERVER streamext TO victim, attacker;});

my $job = q{
	CREATE STREAM s (k int, t text, x float8, d date, ts timestamptz, "at" timestamp) WITH (connector = 'queue', paused, event_time = 'ts', watermark = '1 second');
	CREATE MATERIALIZED VIEW merged AS SELECT k, count(*), sum(k), avg(x), stddev(x), min(t), max(t) FROM s GROUP BY k;
	CREATE MATERIALIZED VIEW windowed WITH (late = 'dead_letter', retention = '1 hour') AS SELECT tumble(ts, '1 minute') AS w, count(*) FROM s GROUP BY 1;
	CREATE MATERIALIZED VIEW final WITH (emit = 'final') AS SELECT tumble(ts, '1 minute') AS w, count(*) FROM s GROUP BY 1;
	CREATE MATERIALIZED VIEW slow WITH (emit = '1 second') AS SELECT k, count(*) FROM s GROUP BY 1;
	CREATE MATERIALIZED VIEW rows AS SELECT * FROM s;
	CREATE STREAM w WITH (window = '3 batches') AS SELECT k, x FROM s;
	CREATE STREAM w_sum AS SELECT k, count(*), sum(x), stddev(x) FROM w GROUP BY k;
	CREATE STREAM w_out WITH (connector = 'table', table = 'w_t') AS SELECT * FROM w_sum;
	CREATE STREAM long WITH (window = '16 batches') AS SELECT k, x FROM s;
	CREATE STREAM long_out WITH (connector = 'table', table = 'long_t') AS SELECT k, count(*), sum(x), max(x), stddev(x) FROM long GROUP BY k;
	CREATE STREAM keyed WITH (connector = 'table', table = 'k_t', key = 'k') AS SELECT k, t, x FROM s;
	CREATE STREAM nothing WITH (connector = 'null') AS SELECT * FROM s;
	CREATE STREAM told WITH (connector = 'notify', channel = 'c') AS SELECT k FROM s;
	CREATE FUNCTION running(INOUT state bigint, k int, x float8, OUT n bigint) LANGUAGE plpgsql AS $$ BEGIN state := coalesce(state, 0) + 1; n := state; END $$;
	CREATE STREAM m WITH (map_with_state = 'running', key = 'k', idle_timeout = '1 minute') AS SELECT k, x FROM s;
	CREATE STREAM m_out WITH (connector = 'null') AS SELECT * FROM m;
	CREATE STREAM once WITH (deduplicate = 'k', within = '10 seconds') AS SELECT k, ts FROM s;
	CREATE STREAM once_out WITH (connector = 'null') AS SELECT * FROM once;
};
my $run = q{
	INSERT INTO s VALUES (1, 'a', 1, '2024-01-01', '2024-01-01 00:00:00Z', '2024-01-01'), (2, 'b', 2, '2024-01-02', '2024-01-01 00:02:00Z', '2024-01-01');
	SELECT * FROM streamext.step('s', '2024-01-01 00:00:00Z');
	INSERT INTO s VALUES (1, 'c', 3, '2024-01-01', '2024-01-01 00:03:00Z', '2024-01-01'), (3, 'z', 2, '2024-01-02', '2023-01-01 00:02:00Z', '2024-01-01');
	SELECT * FROM streamext.step('s', '2024-01-01 00:00:05Z');
	INSERT INTO s VALUES (1, 'c', 3, '2024-01-01', '2024-01-01 00:03:00Z', '2024-01-01');
	SELECT * FROM streamext.step('s', '2024-01-01 00:01:05Z');
	SELECT * FROM streamext.step('s', '2024-01-01 02:01:05Z');
	SELECT * FROM merged; SELECT * FROM windowed; SELECT * FROM final; SELECT * FROM slow; SELECT * FROM w; SELECT * FROM w_sum;
	SELECT streamext.explain(x) FROM (VALUES ('merged'), ('windowed'), ('long_out'), ('keyed'), ('m'), ('once')) t(x);
	SELECT * FROM streamext.pipelines; SELECT * FROM streamext.views; SELECT * FROM streamext.streams; SELECT * FROM streamext.batches;
	SELECT * FROM streamext.partitions; SELECT * FROM streamext.dead_letters; SELECT * FROM streamext.outboxes;
	SELECT streamext.watermark('s'), streamext.batch_time(), streamext.batch_id();
	SELECT streamext.resume('s'); SELECT streamext.wait('s'); SELECT streamext.pause('s');
	SELECT streamext.reset('s');
	SELECT * FROM streamext.step('s');
	SELECT streamext.start_all(); SELECT streamext.pause('s');
	ALTER STREAM s ADD COLUMN more text; ALTER STREAM s RENAME COLUMN more TO most; ALTER STREAM s OPTIONS (ADD max_rate '100');
};
# LOGIN is what a worker before 17 wants of its owner
sql('ALTER ROLE victim LOGIN; ALTER ROLE attacker LOGIN');
sql("SET ROLE victim; SET search_path = v, public; $job; $run");
sql("CREATE SCHEMA su; SET search_path = su, public; $job; $run");
# the functions and views with a path that puts the attacker's names first
sql("SET ROLE victim; SET search_path = public, pg_catalog; SELECT * FROM streamext.pipelines; SELECT * FROM streamext.views;
	SELECT * FROM streamext.dead_letters; SELECT streamext.pause('v.s'); SELECT * FROM streamext.step('v.s'); SELECT streamext.reset('v.s');
	SELECT streamext.explain('v.merged'); INSERT INTO v.s (k) VALUES ('1'::int4);");
# '1'::int4 above and the values are the victim's own text; ours must have made no hit
my $hits = sql("SELECT count(*) FROM hits WHERE role <> 'attacker'");
is($hits, '0', 'S2: nothing of the attacker ran as another role');
is(sql(q{SELECT count(*) FROM streamext.pipelines WHERE error_message IS NOT NULL}), '0', 'S2: and all pipelines work');
is(state_of('victim', 'SET search_path = public, pg_catalog; CREATE MATERIALIZED VIEW v.x AS SELECT k FROM v.s'), '0A000',
	'S2: a search_path that shadows pg_catalog is not stored');
fault_row(row => 'S2', what => 'names that shadow those of pg_catalog', tried => $names, note => "hits: $hits");

# ---------------------------------------------------------------- S5
my $folder = PostgreSQL::Test::Utils::tempdir();
chmod 0777, $folder;
my $data = $node->data_dir;
sql("GRANT pg_read_server_files, pg_write_server_files TO victim; DROP OWNED BY attacker CASCADE; GRANT USAGE ON FOREIGN SERVER streamext TO attacker; GRANT ALL ON SCHEMA public TO attacker");
append_to_file("$folder/secret", "secret\n");
mkdir "$folder/in"; chmod 0777, "$folder/in";
symlink("$folder/secret", "$folder/in/link.txt");
system('mkfifo', "$folder/in/pipe.txt");
append_to_file("$folder/in/plain.txt", "plain\n");
chmod 0644, "$folder/in/plain.txt", "$folder/secret";
my $file = sub { "CREATE STREAM public.f (line text) WITH (connector = 'file', path = '$_[0]', format = 'text', paused" . ($_[1] // '') . ')' };
my @files = (
	[ 'attacker', $file->('/etc/passwd'), '42501', 'without pg_read_server_files' ],
	[ 'victim', $file->($data), '42501', 'the data directory' ],
	[ 'victim', $file->("$data/global"), '42501', 'a folder in it' ],
	[ 'victim', $file->("$data/pg_hba.conf", ', tail'), '42501', 'a file in it' ],
	[ 'victim', $file->("$data/*.conf"), '42501', 'a pattern in it' ],
	[ 'victim', $file->('/*/*'), '42501', 'a pattern that may lead there' ],
	[ 'victim', $file->("$folder/../in"), '22023', 'a path with ..' ],
	[ 'postgres', $file->("$data/log", ", clean = 'delete'"), '42501', 'cleaning up there, also a superuser' ],
	[ 'victim', "CREATE STREAM public.f WITH (connector = 'file', path = '$data') AS SELECT k FROM v.s", '42501', 'a sink there' ],
	[ 'victim', $file->('relative'), '22023', 'a relative path' ]);
symlink($data, "$folder/to_data");
push @files, [ 'victim', $file->("$folder/to_data"), '42501', 'a link to it' ];
my $let_in = 0;
foreach my $case (@files)
{
	my $state = state_of($case->[0], $case->[1]);
	is($state, $case->[2], "S5: $case->[3]");
	$let_in++ if $state eq '';
}
sql("SET ROLE victim; SET search_path = v; CREATE STREAM f (line text) WITH (connector = 'file', path = '$folder/in', format = 'text', paused);
	CREATE MATERIALIZED VIEW lines AS SELECT line FROM f");
sql(q{SELECT streamext.step('v.f')});
is(sql('SELECT string_agg(line, $$,$$) FROM v.lines'), 'plain', 'S5: links and pipes in the folder are not read');
$let_in++ if sql('SELECT count(*) FROM v.lines') ne '1';
fault_row(row => 'S5', what => 'files: rights, data directory, links, pipes, ..', tried => @files + 2, note => "let in: $let_in");

# ---------------------------------------------------------------- S6
# Every name a stream has, in hostile forms; the job is run and dropped.
my @ugly = ('a"b', "a'b", 'a\\b', "a\nb", '$1', '%s %I', 'select', "a;DROP TABLE public.hits;--", '/* x', 'Ä' x 31 . 'x',
	'ä' x 32, ' ', "tab\there", '$$', 'a.b', "quote''d", 'E\'', 'now()');
my $broken = 0;
foreach my $name (@ugly)
{
	my $id = sub { my $s = $_[0]; $s =~ s/"/""/g; "\"$s\"" };
	my $lit = sub { my $s = $_[0]; $s =~ s/'/''/g; "'$s'" };
	my ($schema, $stream) = ($id->("s$name"), $id->($name));
	my $qualified = "$schema.$stream";
	my $view = $id->("v$name");
	my ($rc, $out, $err) = $node->psql('postgres', qq{
		SET client_min_messages = error;
		CREATE SCHEMA $schema; SET search_path = $schema, public;
		CREATE TABLE $schema.${\ $id->("t$name")} ($stream text, n bigint);
		CREATE UNIQUE INDEX ON $schema.${\ $id->("t$name")} ($stream) NULLS NOT DISTINCT;
		CREATE STREAM $qualified ($stream text, ts timestamptz) WITH (connector = 'queue', paused, pipeline = ${\ $lit->("p$name")}, event_time = 'ts', watermark = '1 second');
		CREATE MATERIALIZED VIEW $schema.$view WITH (late = 'dead_letter') AS SELECT tumble(ts, '1 minute') AS ${\ $id->("w$name")}, $stream, count(*) AS ${\ $id->("c$name")}, stddev(length($stream)) AS ${\ $id->("d$name")} FROM $qualified GROUP BY 1, 2;
		CREATE STREAM $schema.${\ $id->("k$name")} WITH (connector = 'table', table = ${\ $lit->($schema . '.' . $id->("t$name"))}, key = ${\ $lit->($stream)}) AS SELECT $stream, count(*) AS n FROM $qualified GROUP BY 1;
		CREATE STREAM $schema.${\ $id->("x$name")} WITH (window = '2 batches') AS SELECT $stream FROM $qualified;
		CREATE FUNCTION $schema.${\ $id->("f$name")}(INOUT state int, k text, OUT ${\ $id->("o$name")} int) LANGUAGE sql AS 'SELECT coalesce(state, 0) + 1, 1';
		CREATE STREAM $schema.${\ $id->("m$name")} WITH (map_with_state = ${\ $lit->($schema . '.' . $id->("f$name"))}, key = ${\ $lit->($stream)}) AS SELECT $stream FROM $qualified;
		CREATE STREAM $schema.${\ $id->("n$name")} WITH (connector = 'null') AS SELECT * FROM $schema.${\ $id->("m$name")};
		INSERT INTO $qualified VALUES ('x', '2024-01-01Z'), (${\ $lit->($name)}, '2024-01-01Z');
		SELECT rows FROM streamext.step(${\ $lit->("p$name")});
		INSERT INTO $qualified VALUES (${\ $lit->($name)}, '2023-01-01Z');
		SELECT rows FROM streamext.step(${\ $lit->("p$name")});
		SELECT 'kept ' || sum(${\ $id->("c$name")}) FROM $schema.$view WHERE $stream = ${\ $lit->($name)};
		SELECT streamext.reset(${\ $lit->("p$name")});
		SELECT length(streamext.explain(${\ $lit->("$schema.$view")})) > 0;
		ALTER STREAM $qualified ADD COLUMN ${\ $id->("z$name")} int;
		DROP SCHEMA $schema CASCADE;
	});
	my $good = $rc == 0 && $out =~ /kept [12]/;
	ok($good, 'S6: name ' . join(' ', map { sprintf '%02x', ord } split //, $name)) or diag "$err\n$out";
	$broken++ if !$good;
}
is(sql('SELECT count(*) FROM public.hits'), '0', 'S6: nothing was dropped');
fault_row(row => 'S6', what => 'hostile names in every place', tried => scalar(@ugly), note => "broken: $broken");

# ---------------------------------------------------------------- S8
# What runs within a batch is the owner and cannot become anybody else.
sql(q{GRANT ALL ON SCHEMA public TO PUBLIC; CREATE TABLE public.ran (place text, cur name, ses name); GRANT ALL ON public.ran TO PUBLIC;
	SET ROLE victim; SET search_path = v;
	CREATE FUNCTION log(place text) RETURNS boolean LANGUAGE plpgsql AS
		$$ BEGIN INSERT INTO public.ran VALUES (place, current_user, session_user); RETURN true; END $$;
	CREATE FUNCTION climb(how text) RETURNS text LANGUAGE plpgsql AS
		$$ BEGIN EXECUTE how; RETURN 'done: ' || current_user; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END $$;
	CREATE FUNCTION on_write() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM v.log('trigger'); RETURN NEW; END $$;
	CREATE FUNCTION checked(i int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM v.log('domain'); RETURN true; END $$;
	CREATE FUNCTION fast(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM v.log('index or generated'); RETURN i; END $$;
	CREATE FUNCTION policy() RETURNS boolean LANGUAGE plpgsql STABLE AS $$ BEGIN PERFORM v.log('policy'); RETURN true; END $$;
	CREATE DOMAIN dom AS int CHECK (v.checked(VALUE));
	CREATE TABLE target (k dom, how text, role text, ses text, d boolean DEFAULT v.log('default'), g int GENERATED ALWAYS AS (v.fast(3)) STORED);
	CREATE INDEX ON target (v.fast(length(how)));
	ALTER TABLE target ENABLE ROW LEVEL SECURITY; ALTER TABLE target FORCE ROW LEVEL SECURITY;
	CREATE POLICY p ON target USING (v.policy()) WITH CHECK (v.policy());
	CREATE TRIGGER t BEFORE INSERT ON target FOR EACH ROW EXECUTE FUNCTION on_write();
	CREATE STREAM climbers (k int, how text) WITH (connector = 'queue', paused);
	CREATE STREAM climbed WITH (connector = 'table', table = 'target') AS SELECT k, how, climb(how) AS role, session_user::text AS ses FROM climbers;
});
my @climbs = ('RESET ROLE', 'SET ROLE postgres', 'SET SESSION AUTHORIZATION postgres', 'RESET SESSION AUTHORIZATION', 'SET ROLE NONE',
	'SET LOCAL ROLE postgres', q{SET session_replication_role = replica}, q{COPY (SELECT 1) TO PROGRAM 'true'},
	q{UPDATE streamext.pipeline SET owner = 10}, q{ALTER ROLE victim SUPERUSER});
my $values = join(', ', map { my $s = $_; $s =~ s/'/''/g; "(1, '$s')" } @climbs);
sql("INSERT INTO v.climbers VALUES $values");
# stepped by a superuser first, whose session must lend nothing
sql(q{SELECT rows FROM streamext.step('v.climbers')});
is(sql(q{SELECT count(*) FROM v.target WHERE role LIKE 'done: %' AND role <> 'done: victim'}), '0', 'S8: stepped by a superuser, nobody becomes somebody else');
is(sql(q{SELECT string_agg(DISTINCT cur, ',') FROM public.ran}), 'victim', 'S8: all that is attached to the target runs as the owner');
is(sql(q{SELECT string_agg(DISTINCT place, ', ' ORDER BY place) FROM public.ran}), 'default, domain, index or generated, policy, trigger', 'S8: and all of it ran');
sql("TRUNCATE public.ran, v.target; INSERT INTO v.climbers VALUES $values; SELECT streamext.resume('v.climbers')");
$node->poll_query_until('postgres', 'SELECT count(*) > 0 FROM v.target') or diag sql('TABLE streamext.pipeline');
is(sql(q{SELECT count(*) FROM v.target WHERE ses <> 'victim' OR (role LIKE 'done: %' AND role <> 'done: victim')}), '0', 'S8: by the worker, neither');
is(sql(q{SELECT count(*) FROM public.ran WHERE cur <> 'victim' OR ses <> 'victim'}), '0', 'S8: the session is the owner as well');
sql(q{SELECT streamext.pause('v.climbers')});
my $strangers = sql(q{SELECT count(*) FROM public.ran WHERE cur <> 'victim'});
fault_row(row => 'S8', what => 'changes of role in a batch; triggers, defaults, domains, indexes, policies', tried => 2 * @climbs + 10, note => "ran as others: $strangers");

# ---------------------------------------------------------------- S10
sql('CREATE ROLE monitor LOGIN; GRANT pg_monitor TO monitor; CREATE ROLE nobody LOGIN');
is(sql(q{SELECT count(*) FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
	WHERE c.relnamespace IN ('streamext'::regnamespace, 'streamext_state'::regnamespace) AND c.relkind IN ('r', 'v', 'S', 'p')
	AND a.grantee = 0 AND a.privilege_type <> 'SELECT'}), '0', 'S10: PUBLIC may write to nothing');
is(sql(q{SELECT count(*) FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
	WHERE c.relnamespace = 'streamext'::regnamespace AND c.relkind = 'r' AND a.grantee = 0}), '0', 'S10: and read no table');
is(sql(q{SELECT string_agg(p.oid::regprocedure::text, ' ') FROM pg_proc p WHERE prosecdef AND pronamespace = 'streamext'::regnamespace}), '', 'S10: no SECURITY DEFINER function');
is(sql('SET ROLE nobody; SELECT (SELECT count(*) FROM streamext.pipelines) + (SELECT count(*) FROM streamext.streams) + (SELECT count(*) FROM streamext.views)
	+ (SELECT count(*) FROM streamext.batches) + (SELECT count(*) FROM streamext.partitions) + (SELECT count(*) FROM streamext.dead_letters)'), '0', 'S10: nobody sees nothing');
cmp_ok(sql('SET ROLE monitor; SELECT count(*) FROM streamext.pipelines'), '>', 3, 'S10: pg_monitor sees all pipelines');
is(sql('SET ROLE monitor; SELECT count(*) FROM streamext.dead_letters'), '0', 'S10: but no record');
cmp_ok(sql('SELECT count(*) FROM streamext.dead_letters'), '>', 0, 'S10: of which there are some');
my @foreign = (
	(map { [ "SELECT streamext.$_('v.s')", '42501' ] } qw(pause resume run reset step wait)),
	[ "SELECT streamext.explain('v.merged')", '42501' ], [ 'DROP STREAM v.s', '42501' ], [ 'DROP MATERIALIZED VIEW v.merged', '42501' ],
	[ "ALTER STREAM v.s OPTIONS (ADD max_rate '1')", '42501' ], [ 'ALTER STREAM v.s RENAME TO mine', '42501' ],
	[ 'INSERT INTO v.s (k) VALUES (1)', '42501' ], [ 'SELECT * FROM v.s', '42501' ], [ 'SELECT * FROM v.merged', '42501' ],
	[ 'CREATE INDEX ON v.merged (k)', '42501' ], [ 'SELECT * FROM streamext_state.merged', '42501' ],
	[ 'SELECT * FROM streamext_state.s_log', '42501' ], [ 'DELETE FROM streamext.pipeline', '42501' ], [ 'SELECT * FROM streamext.progress', '42501' ],
	[ 'SELECT streamext.mark_database()', '42501' ], [ "SELECT nextval('streamext.step_seq')", '42501' ],
	[ "CREATE TABLE streamext_state.x (i int)", '42501' ], [ "CREATE FUNCTION streamext.x() RETURNS int LANGUAGE sql AS 'SELECT 1'", '42501' ],
	[ "CREATE STREAM public.x (i int) WITH (connector = 'rate')", '42501' ],
	[ 'CREATE SERVER x FOREIGN DATA WRAPPER streamext', '42501' ],
	[ q{SELECT streamext.final_agg('stddev(numeric)'::regprocedure, '\x00'::streamext.agg_state, NULL::numeric)}, '42501' ],
	[ q{SELECT streamext.combine_agg('stddev(numeric)'::regprocedure, decode('00', 'hex')::text::streamext.agg_state, NULL)}, '42501' ],
	[ q{SELECT streamext.final_agg('stddev(numeric)'::regprocedure, '\x00'::bytea, NULL::numeric)}, '42883' ],
	[ q{CREATE CAST (bytea AS streamext.agg_state) WITHOUT FUNCTION}, '42501' ],
	[ q{SELECT (jsonb_populate_record(NULL::streamext_state.merged, '{"stddev": "\\\\x00"}')).*}, '42501' ]);
my $done = 0;
sql('GRANT USAGE ON SCHEMA v TO nobody, attacker');
foreach my $case (@foreign)
{
	my $state = state_of('nobody', $case->[0]);
	is($state, $case->[1], "S10: $case->[0]");
	$done++ if $state eq '';
}
is(sql(q{SET ROLE nobody; SELECT count(pid) FROM generate_series(1, 20) i, streamext.worker_status(i)}), '0', 'S10: nor what workers say');
# a function in WHERE must not be shown rows that the view leaves out
is(sql(q{SET ROLE attacker; CREATE FUNCTION public.leak(bytea) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS
	$$ BEGIN INSERT INTO public.ran VALUES ('leak', current_user, ''); RETURN true; END $$;
	SELECT count(*) FROM streamext.dead_letters WHERE public.leak(value)}), '0', 'S10: no letters of others');
is(sql(q{SELECT count(*) FROM public.ran WHERE place = 'leak'}), '0', 'S10: nor by a function in WHERE');
fault_row(row => 'S10', what => 'statements on what belongs to others', tried => @foreign + 9, note => "done: $done");

# ---------------------------------------------------------------- tables of state
my @writes = ('INSERT INTO streamext_state.merged (k) VALUES (1)', 'UPDATE streamext_state.merged SET k = 1', 'DELETE FROM streamext_state.s_log',
	'TRUNCATE streamext_state.merged', 'COPY streamext_state.merged FROM STDIN', 'ALTER TABLE streamext_state.merged ADD COLUMN x int',
	'ALTER TABLE streamext_state.merged RENAME TO x', 'ALTER TABLE streamext_state.merged SET SCHEMA v',
	'CREATE TRIGGER x BEFORE INSERT ON streamext_state.merged FOR EACH ROW EXECUTE FUNCTION v.on_write()',
	'CREATE RULE x AS ON INSERT TO streamext_state.merged DO INSTEAD NOTHING', 'CREATE POLICY x ON streamext_state.merged USING (false)',
	'ALTER TABLE streamext_state.merged ENABLE ROW LEVEL SECURITY', 'CREATE TABLE v.child () INHERITS (streamext_state.merged)',
	'ALTER TABLE streamext_state.merged OWNER TO attacker', 'MERGE INTO streamext_state.merged m USING (SELECT 1 AS i) x ON m.k = x.i WHEN MATCHED THEN DELETE',
	'WITH d AS (DELETE FROM streamext_state.merged RETURNING 1) SELECT * FROM d');
is(state_of('victim', $_), '42501', "state: $_") foreach @writes;
is(state_of('victim', $_), '', "state: $_") foreach ('SELECT * FROM streamext_state.merged', 'ALTER TABLE streamext_state.merged ALTER k SET STATISTICS 10',
	'ANALYZE streamext_state.merged', 'CREATE INDEX ON v.merged (k)');

$node->stop;
done_testing();
