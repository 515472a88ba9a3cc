/* sql/streamext.sql: everything that CREATE EXTENSION streamext makes */

\echo Use "CREATE EXTENSION streamext" to load this file. \quit

-- Whatever schema the extension goes into, names mean those of pg_catalog.
SET LOCAL search_path = pg_catalog, pg_temp;

-- ---------------------------------------------------------------------
-- Schemas
-- ---------------------------------------------------------------------
CREATE SCHEMA streamext;
COMMENT ON SCHEMA streamext IS 'operating streams: functions, views and catalog of the extension streamext';
GRANT USAGE ON SCHEMA streamext TO PUBLIC;

CREATE SCHEMA streamext_state;
COMMENT ON SCHEMA streamext_state IS 'state tables and queries of continuous views, sinks and queues; written by streamext only';
GRANT USAGE ON SCHEMA streamext_state TO PUBLIC;

-- ---------------------------------------------------------------------
-- Foreign-data wrapper: a stream is a foreign table
-- ---------------------------------------------------------------------
CREATE FUNCTION streamext.fdw_handler() RETURNS fdw_handler
    AS 'MODULE_PATHNAME', 'sx_fdw_handler' LANGUAGE C STRICT;
COMMENT ON FUNCTION streamext.fdw_handler() IS 'scan, peek and insert of streams';

CREATE FUNCTION streamext.fdw_validator(options text[], catalog oid) RETURNS void
    AS 'MODULE_PATHNAME', 'sx_fdw_validator' LANGUAGE C STRICT;
COMMENT ON FUNCTION streamext.fdw_validator(text[], oid) IS 'checks the options of servers, user mappings, streams and their columns';

CREATE FOREIGN DATA WRAPPER streamext
    HANDLER streamext.fdw_handler VALIDATOR streamext.fdw_validator;
COMMENT ON FOREIGN DATA WRAPPER streamext IS 'streams: inside a batch a stream holds that batch';

CREATE SERVER streamext FOREIGN DATA WRAPPER streamext;
COMMENT ON SERVER streamext IS 'the built-in server of streams; USAGE on it allows to create streams';

CREATE FUNCTION streamext.kafka_properties(OUT property text, OUT who text, OUT "values" text) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'sx_kafka_properties_list' LANGUAGE C IMMUTABLE PARALLEL SAFE ROWS 170;
COMMENT ON FUNCTION streamext.kafka_properties() IS 'properties of librdkafka: who may give them, and which values they take';

CREATE FUNCTION streamext.host_allowed(rules text, name text, address inet, port integer) RETURNS boolean
    AS 'MODULE_PATHNAME', 'sx_host_allowed' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION streamext.host_allowed(text, text, inet, integer) IS 'would rules as those of streamext.allowed_hosts allow to connect to an address that a name leads to?';

-- ---------------------------------------------------------------------
-- Catalog.  Written by the extension's C code only; read through the views
-- further down.
-- ---------------------------------------------------------------------
CREATE SEQUENCE streamext.pipeline_id_seq AS integer;

CREATE TABLE streamext.pipeline (
    id          integer PRIMARY KEY DEFAULT nextval('streamext.pipeline_id_seq'),
    name        text NOT NULL UNIQUE,
    owner       regrole NOT NULL,
    state       text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'paused', 'stopped')),
    run_to_end  boolean NOT NULL DEFAULT false,
    failures    integer NOT NULL DEFAULT 0,
    retry_at    timestamptz,
    error_sqlstate text,
    error_message  text,
    error_at    timestamptz,
    lane_of     integer,
    lane_for    text CHECK (lane_for IN ('backfill', 'detached')),
    created_at  timestamptz NOT NULL DEFAULT now(),
    home        text
);
COMMENT ON TABLE streamext.pipeline IS 'units of work: source streams and what hangs off them, advancing together';
COMMENT ON COLUMN streamext.pipeline.state IS 'running: a worker keeps it going; paused: by a user; stopped: by an error, see error_message';
COMMENT ON COLUMN streamext.pipeline.run_to_end IS 'run() was called: pause when everything that the sources held is processed; stays set, with state paused, when that is done';
COMMENT ON COLUMN streamext.pipeline.failures IS 'errors in a row, and a start that has not proven itself yet; sets the back-off';
COMMENT ON COLUMN streamext.pipeline.retry_at IS 'not started again before this time';
COMMENT ON COLUMN streamext.pipeline.lane_of IS 'a lane: the pipeline that it follows, never ahead of it, and is merged into when it has caught up; NULL: no lane';
COMMENT ON COLUMN streamext.pipeline.lane_for IS 'backfill: a late view or sink reads the past; detached: steps that failed for themselves were taken out';
COMMENT ON COLUMN streamext.pipeline.home IS 'the cluster and database in which it runs: a pipeline that came with a dump or an upgrade has another one, and stays stopped until it is started by hand';
ALTER SEQUENCE streamext.pipeline_id_seq OWNED BY streamext.pipeline.id;

CREATE FUNCTION streamext.set_home() RETURNS trigger
    AS 'MODULE_PATHNAME', 'sx_set_home' LANGUAGE C;
COMMENT ON FUNCTION streamext.set_home() IS 'gives a new pipeline its home; one that is loaded from a dump is stopped';
REVOKE ALL ON FUNCTION streamext.set_home() FROM PUBLIC;
CREATE TRIGGER set_home BEFORE INSERT ON streamext.pipeline FOR EACH ROW EXECUTE FUNCTION streamext.set_home();

-- One row per worker of a pipeline, updated in every batch: kept small and HOT.
CREATE TABLE streamext.progress (
    pipeline    integer NOT NULL,
    slot        integer NOT NULL DEFAULT 0,
    epoch       bigint NOT NULL DEFAULT 0,
    batch_id    bigint NOT NULL DEFAULT 0,
    batch_time  timestamptz,
    first_batch_time timestamptz,
    at_end      boolean NOT NULL DEFAULT false,
    failures    integer NOT NULL DEFAULT 0,
    retry_at    timestamptz,
    PRIMARY KEY (pipeline, slot)
) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE streamext.progress IS 'last committed batch of each pipeline; its row lock and epoch fence an old worker';
COMMENT ON COLUMN streamext.progress.first_batch_time IS 'of batch 1: windows in time fire at multiples of their slide counted from it';
COMMENT ON COLUMN streamext.progress.slot IS 'which worker: 0, and with parallelism = n up to n - 1';
COMMENT ON COLUMN streamext.progress.at_end IS 'of slots above 0: all is processed that run() was called for';
COMMENT ON COLUMN streamext.progress.failures IS 'of slots above 0, as in streamext.pipeline, which has those of slot 0';
COMMENT ON COLUMN streamext.progress.retry_at IS 'likewise';
COMMENT ON COLUMN streamext.progress.epoch IS 'grows with every worker or step() that takes the pipeline';

CREATE TABLE streamext.source (
    pipeline    integer NOT NULL,
    stream      regclass NOT NULL,
    seq         integer NOT NULL,
    watermark   timestamptz,
    future_rows bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (pipeline, stream)
) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE streamext.source IS 'source streams of each pipeline';
COMMENT ON COLUMN streamext.source.seq IS 'order of creation, which is the order of arrival within a batch';
COMMENT ON COLUMN streamext.source.watermark IS 'at the end of the last batch; NULL: none yet';
COMMENT ON COLUMN streamext.source.future_rows IS 'rows whose event time was too far ahead of the clock to move the watermark';

CREATE TABLE streamext.partition (
    pipeline    integer NOT NULL,
    stream      regclass NOT NULL,
    partition   text NOT NULL,
    slot        integer NOT NULL DEFAULT 0,
    position    jsonb,
    max_event_time timestamptz,
    anchor      jsonb,
    end_position jsonb,
    lag         bigint,
    idle        boolean NOT NULL DEFAULT false,
    rows        bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (pipeline, stream, partition)
) WITH (fillfactor = 20, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE streamext.partition IS 'position of each partition, committed together with what was made of its records';
COMMENT ON COLUMN streamext.partition.position IS 'where the next batch begins: an offset, a number or what the connector needs';
COMMENT ON COLUMN streamext.partition.anchor IS 'the last record, to notice that a topic was made anew';

CREATE TABLE streamext.gap (
    pipeline    integer NOT NULL,
    stream      regclass NOT NULL,
    partition   text NOT NULL,
    from_offset bigint NOT NULL,
    to_offset   bigint NOT NULL,
    records     bigint,
    reason      text NOT NULL,
    batch_id    bigint NOT NULL,
    noted_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON streamext.gap (pipeline, stream, partition);
COMMENT ON TABLE streamext.gap IS 'records that Kafka no longer had when they were to be read, with on_data_loss = continue; committed with the position that jumps over them';

CREATE TABLE streamext.stream (
    relation    regclass PRIMARY KEY,
    kind        text NOT NULL CHECK (kind IN ('source', 'derived', 'sink')),
    created_at  timestamptz NOT NULL DEFAULT now(),
    log         regclass
);
COMMENT ON TABLE streamext.stream IS 'relations that were created as streams';
COMMENT ON COLUMN streamext.stream.log IS 'table in which a queue, table or socket keeps its records until they are processed';

CREATE SEQUENCE streamext.step_seq AS integer;

CREATE TABLE streamext.step (
    relation    regclass PRIMARY KEY,
    pipeline    integer,
    seq         integer NOT NULL DEFAULT nextval('streamext.step_seq'),
    kind        text NOT NULL CHECK (kind IN ('view', 'sink', 'stream')),
    query       regclass NOT NULL,
    state       regclass,
    strategy    text NOT NULL,
    options     jsonb NOT NULL DEFAULT '{}',
    settings    jsonb NOT NULL DEFAULT '{}',
    panes       regclass,
    first_batch bigint NOT NULL DEFAULT 1,
    delivery_offset bigint NOT NULL DEFAULT 0,
    node_of     regclass,
    created_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE streamext.step IS 'continuous views, sinks, and streams with rows of their own: what a batch runs, in order of seq';
COMMENT ON COLUMN streamext.step.pipeline IS 'NULL for a stream that keeps nothing between batches: it runs in every pipeline that reads it';
COMMENT ON COLUMN streamext.step.query IS 'the hidden view that holds the query';
COMMENT ON COLUMN streamext.step.state IS 'state table of a view or stream, target of a table sink';
COMMENT ON COLUMN streamext.step.node_of IS 'of a hidden node: the continuous view that it is a part of';
COMMENT ON COLUMN streamext.step.panes IS 'table of partial aggregates, where a query over a windowed stream is answered from panes';
COMMENT ON COLUMN streamext.step.settings IS 'TimeZone, DateStyle, IntervalStyle and search_path of the session that created it';
COMMENT ON COLUMN streamext.step.first_batch IS 'its first batch, as the pipeline counted them that it was in then';
COMMENT ON COLUMN streamext.step.delivery_offset IS 'delivery numbers of a sink are batch ids plus this: they rise when it moves to a pipeline with lower ones';
ALTER SEQUENCE streamext.step_seq OWNED BY streamext.step.seq;

CREATE SEQUENCE streamext.arrival_seq;
COMMENT ON SEQUENCE streamext.arrival_seq IS 'the upper part of numbers of arrival: grows with every batch of any pipeline that gives some';

CREATE TABLE streamext.step_progress (
    relation    regclass NOT NULL,
    slot        integer NOT NULL DEFAULT 0,
    watermark   timestamptz,
    rows        bigint NOT NULL DEFAULT 0,
    late_rows   bigint NOT NULL DEFAULT 0,
    null_time_rows bigint NOT NULL DEFAULT 0,
    dead_letters bigint NOT NULL DEFAULT 0,
    skipped_rows bigint NOT NULL DEFAULT 0,
    last_emit   timestamptz,    -- of a windowed stream in time: the last boundary that fired
    pending     boolean NOT NULL DEFAULT false,
    errors_from timestamptz,
    errors_now  bigint NOT NULL DEFAULT 0,
    errors_before bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (relation, slot)
) WITH (fillfactor = 20, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE streamext.step_progress IS 'counters and watermark of each view and sink, updated in every batch that changes them';
COMMENT ON COLUMN streamext.step_progress.slot IS 'each worker counts for itself; the watermark is that of slot 0';
COMMENT ON COLUMN streamext.step_progress.errors_now IS 'records that failed since errors_from, less than an hour ago: for max_errors_per_hour';
COMMENT ON COLUMN streamext.step_progress.errors_before IS 'records that failed in the hour before errors_from';

CREATE TABLE streamext.window_batch (
    relation    regclass NOT NULL,
    batch_id    bigint NOT NULL,
    batch_time  timestamptz NOT NULL,
    PRIMARY KEY (relation, batch_id)
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX ON streamext.window_batch (relation, batch_time, batch_id);
COMMENT ON TABLE streamext.window_batch IS 'for windowed streams in time: when the batches were whose rows are retained';

CREATE TABLE streamext.batch (
    pipeline    integer NOT NULL,
    slot        integer NOT NULL DEFAULT 0,
    batch_id    bigint NOT NULL,
    batch_time  timestamptz NOT NULL,
    started_at  timestamptz NOT NULL,
    rows        bigint NOT NULL,
    bytes       bigint NOT NULL,
    dead_letters bigint NOT NULL DEFAULT 0,
    poll_ms     real,
    load_ms     real,
    steps_ms    real,
    commit_ms   real,
    PRIMARY KEY (pipeline, slot, batch_id)
);
COMMENT ON TABLE streamext.batch IS 'history of batches; old ones are pruned (streamext.batch_history)';
COMMENT ON COLUMN streamext.batch.commit_ms IS 'how long the commit of the batch before took: its own is not known yet';

CREATE SEQUENCE streamext.dead_letter_id_seq;

CREATE TABLE streamext.dead_letter (
    id          bigint PRIMARY KEY DEFAULT nextval('streamext.dead_letter_id_seq'),
    pipeline    integer NOT NULL,
    stream      regclass NOT NULL,
    step        regclass,
    batch_id    bigint NOT NULL,
    topic       text,
    partition   text NOT NULL,
    "offset"    bigint,
    record_time timestamptz,
    key         bytea,
    value       bytea,
    headers     jsonb,
    raw_headers bytea,
    value_size  integer,
    value_sha256 bytea,
    cut         boolean NOT NULL DEFAULT false,
    sqlstate    text NOT NULL,
    message     text NOT NULL,
    attempt     integer NOT NULL DEFAULT 1,
    steps       regclass[] NOT NULL DEFAULT '{}',
    replay      boolean NOT NULL DEFAULT false,
    failed_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON streamext.dead_letter (id) WHERE replay;
COMMENT ON TABLE streamext.dead_letter IS 'records that failed, byte for byte';
COMMENT ON COLUMN streamext.dead_letter.step IS 'the view or sink that it failed in; NULL: it could not be decoded, so it failed for all, or that is gone';
COMMENT ON COLUMN streamext.dead_letter.raw_headers IS 'as the source gave them, for replay';
COMMENT ON COLUMN streamext.dead_letter.cut IS 'value, key or headers were longer than 1 MB: only the beginning is here';
COMMENT ON COLUMN streamext.dead_letter.steps IS 'who is owed the record: what replay feeds it to';
COMMENT ON COLUMN streamext.dead_letter.replay IS 'the next batch feeds it again';
ALTER SEQUENCE streamext.dead_letter_id_seq OWNED BY streamext.dead_letter.id;

-- Instead of foreign keys: pg_restore with several jobs loads the tables in any order.
CREATE FUNCTION streamext.forget() RETURNS trigger
    AS 'MODULE_PATHNAME', 'sx_forget' LANGUAGE C;
COMMENT ON FUNCTION streamext.forget() IS 'deletes what belongs to a pipeline, or to a source stream in one, with it';
REVOKE ALL ON FUNCTION streamext.forget() FROM PUBLIC;
CREATE TRIGGER forget AFTER DELETE ON streamext.pipeline FOR EACH ROW EXECUTE FUNCTION streamext.forget();
CREATE TRIGGER forget AFTER DELETE ON streamext.source FOR EACH ROW EXECUTE FUNCTION streamext.forget();

SELECT pg_catalog.pg_extension_config_dump('streamext.pipeline', '');
SELECT pg_catalog.pg_extension_config_dump('streamext.pipeline_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('streamext.progress', '');
SELECT pg_catalog.pg_extension_config_dump('streamext.source', '');
SELECT pg_catalog.pg_extension_config_dump('streamext.partition', '');
SELECT pg_catalog.pg_extension_config_dump('streamext.gap', '');
SELECT pg_catalog.pg_extension_config_dump('streamext.stream', '');
SELECT pg_catalog.pg_extension_config_dump('streamext.step', '');
SELECT pg_catalog.pg_extension_config_dump('streamext.step_seq', '');
SELECT pg_catalog.pg_extension_config_dump('streamext.arrival_seq', '');
SELECT pg_catalog.pg_extension_config_dump('streamext.step_progress', '');
SELECT pg_catalog.pg_extension_config_dump('streamext.window_batch', '');
SELECT pg_catalog.pg_extension_config_dump('streamext.batch', '');
SELECT pg_catalog.pg_extension_config_dump('streamext.dead_letter', '');
SELECT pg_catalog.pg_extension_config_dump('streamext.dead_letter_id_seq', '');

-- ---------------------------------------------------------------------
-- The mark by which the launcher knows this database; see src/worker/README.md
-- ---------------------------------------------------------------------
CREATE FUNCTION streamext.mark_database() RETURNS void
    AS 'MODULE_PATHNAME', 'sx_mark_database' LANGUAGE C STRICT;
COMMENT ON FUNCTION streamext.mark_database() IS 'lets the background workers of streamext run in this database';
REVOKE ALL ON FUNCTION streamext.mark_database() FROM PUBLIC;
SELECT streamext.mark_database();

-- ---------------------------------------------------------------------
-- Windows: in the schema chosen at CREATE EXTENSION
-- ---------------------------------------------------------------------
CREATE FUNCTION @extschema@.tumble(ts timestamptz, size interval) RETURNS timestamptz
    AS 'MODULE_PATHNAME', 'sx_tumble' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.tumble(timestamptz, interval) IS 'start of the tumbling window that holds ts, aligned to 1970-01-01 00:00 UTC';
CREATE FUNCTION @extschema@.tumble(ts timestamptz, size interval, origin timestamptz) RETURNS timestamptz
    AS 'MODULE_PATHNAME', 'sx_tumble' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.tumble(timestamptz, interval, timestamptz) IS 'start of the tumbling window that holds ts, aligned to origin';
CREATE FUNCTION @extschema@.tumble(ts timestamp, size interval) RETURNS timestamp
    AS 'MODULE_PATHNAME', 'sx_tumble' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.tumble(timestamp, interval) IS 'start of the tumbling window that holds ts, aligned to 1970-01-01 00:00';
CREATE FUNCTION @extschema@.tumble(ts timestamp, size interval, origin timestamp) RETURNS timestamp
    AS 'MODULE_PATHNAME', 'sx_tumble' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.tumble(timestamp, interval, timestamp) IS 'start of the tumbling window that holds ts, aligned to origin';
CREATE FUNCTION @extschema@.tumble(day date, size interval) RETURNS timestamp
    AS 'MODULE_PATHNAME', 'sx_tumble_date' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.tumble(date, interval) IS 'start of the tumbling window that holds the day, aligned to 1970-01-01';

CREATE FUNCTION @extschema@.hop(ts timestamptz, slide interval, size interval) RETURNS SETOF timestamptz
    AS 'MODULE_PATHNAME', 'sx_hop' LANGUAGE C IMMUTABLE PARALLEL SAFE ROWS 4;
COMMENT ON FUNCTION @extschema@.hop(timestamptz, interval, interval) IS 'starts of the hopping windows that hold ts, oldest first; one NULL for a NULL ts';
CREATE FUNCTION @extschema@.hop(ts timestamptz, slide interval, size interval, origin timestamptz) RETURNS SETOF timestamptz
    AS 'MODULE_PATHNAME', 'sx_hop' LANGUAGE C IMMUTABLE PARALLEL SAFE ROWS 4;
COMMENT ON FUNCTION @extschema@.hop(timestamptz, interval, interval, timestamptz) IS 'starts of the hopping windows that hold ts, aligned to origin';
CREATE FUNCTION @extschema@.hop(ts timestamp, slide interval, size interval) RETURNS SETOF timestamp
    AS 'MODULE_PATHNAME', 'sx_hop' LANGUAGE C IMMUTABLE PARALLEL SAFE ROWS 4;
COMMENT ON FUNCTION @extschema@.hop(timestamp, interval, interval) IS 'starts of the hopping windows that hold ts, oldest first; one NULL for a NULL ts';
CREATE FUNCTION @extschema@.hop(ts timestamp, slide interval, size interval, origin timestamp) RETURNS SETOF timestamp
    AS 'MODULE_PATHNAME', 'sx_hop' LANGUAGE C IMMUTABLE PARALLEL SAFE ROWS 4;
COMMENT ON FUNCTION @extschema@.hop(timestamp, interval, interval, timestamp) IS 'starts of the hopping windows that hold ts, aligned to origin';

CREATE FUNCTION @extschema@.cumulate(ts timestamptz, step interval, size interval) RETURNS SETOF timestamptz
    AS 'MODULE_PATHNAME', 'sx_cumulate' LANGUAGE C IMMUTABLE PARALLEL SAFE ROWS 4;
COMMENT ON FUNCTION @extschema@.cumulate(timestamptz, interval, interval) IS 'ends of the growing windows that hold ts, earliest first; one NULL for a NULL ts';
CREATE FUNCTION @extschema@.cumulate(ts timestamptz, step interval, size interval, origin timestamptz) RETURNS SETOF timestamptz
    AS 'MODULE_PATHNAME', 'sx_cumulate' LANGUAGE C IMMUTABLE PARALLEL SAFE ROWS 4;
COMMENT ON FUNCTION @extschema@.cumulate(timestamptz, interval, interval, timestamptz) IS 'ends of the growing windows that hold ts, aligned to origin';
CREATE FUNCTION @extschema@.cumulate(ts timestamp, step interval, size interval) RETURNS SETOF timestamp
    AS 'MODULE_PATHNAME', 'sx_cumulate' LANGUAGE C IMMUTABLE PARALLEL SAFE ROWS 4;
COMMENT ON FUNCTION @extschema@.cumulate(timestamp, interval, interval) IS 'ends of the growing windows that hold ts, earliest first; one NULL for a NULL ts';
CREATE FUNCTION @extschema@.cumulate(ts timestamp, step interval, size interval, origin timestamp) RETURNS SETOF timestamp
    AS 'MODULE_PATHNAME', 'sx_cumulate' LANGUAGE C IMMUTABLE PARALLEL SAFE ROWS 4;
COMMENT ON FUNCTION @extschema@.cumulate(timestamp, interval, interval, timestamp) IS 'ends of the growing windows that hold ts, aligned to origin';

CREATE FUNCTION @extschema@.session(ts timestamptz, gap interval) RETURNS timestamptz
    AS 'MODULE_PATHNAME', 'sx_session' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.session(timestamptz, interval) IS 'in GROUP BY of a continuous view: rows closer than the gap are one session; its start';
CREATE FUNCTION @extschema@.session(ts timestamp, gap interval) RETURNS timestamp
    AS 'MODULE_PATHNAME', 'sx_session' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.session(timestamp, interval) IS 'in GROUP BY of a continuous view: rows closer than the gap are one session; its start';
CREATE FUNCTION @extschema@.session_start() RETURNS timestamptz
    AS 'MODULE_PATHNAME', 'sx_session_bound' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.session_start() IS 'in a continuous view that groups by session(): start of the session, the time of its first row';
CREATE FUNCTION @extschema@.session_end() RETURNS timestamptz
    AS 'MODULE_PATHNAME', 'sx_session_bound' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.session_end() IS 'in a continuous view that groups by session(): end of the session, the latest time of a row plus its gap';

-- ---------------------------------------------------------------------
-- The batch in progress
-- ---------------------------------------------------------------------
CREATE FUNCTION streamext.batch_id() RETURNS bigint
    AS 'MODULE_PATHNAME', 'sx_batch_id' LANGUAGE C STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION streamext.batch_id() IS 'id of the batch in progress; NULL outside a batch';
CREATE FUNCTION streamext.batch_time() RETURNS timestamptz
    AS 'MODULE_PATHNAME', 'sx_batch_time' LANGUAGE C STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION streamext.batch_time() IS 'time of the batch in progress; now() outside a batch';
CREATE FUNCTION streamext.timing_out() RETURNS boolean
    AS 'MODULE_PATHNAME', 'sx_timing_out' LANGUAGE C STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION streamext.timing_out() IS 'is the function of a map_with_state stream called for a time-out or a timer, and not for a record?';
CREATE FUNCTION streamext.watermark(stream text) RETURNS timestamptz
    AS 'MODULE_PATHNAME', 'sx_watermark' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION streamext.watermark(text) IS 'watermark of a stream at the end of the last batch; -infinity while there is none';

-- ---------------------------------------------------------------------
-- What the maintenance SQL of views and sinks calls
-- ---------------------------------------------------------------------
CREATE FUNCTION streamext.on_time(window_end timestamptz, rows bigint) RETURNS boolean
    AS 'MODULE_PATHNAME', 'sx_on_time' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION streamext.on_time(timestamptz, bigint) IS 'false for rows of a window that is closed for the running view, which are counted';
CREATE FUNCTION streamext.on_time(window_end timestamp, rows bigint) RETURNS boolean
    AS 'MODULE_PATHNAME', 'sx_on_time' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION streamext.on_time(timestamp, bigint) IS 'false for rows of a window that is closed for the running view, which are counted';
CREATE FUNCTION streamext.is_late(window_end timestamptz) RETURNS boolean
    AS 'MODULE_PATHNAME', 'sx_is_late' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION streamext.is_late(timestamptz) IS 'is the window closed for the running view';
CREATE FUNCTION streamext.is_late(window_end timestamp) RETURNS boolean
    AS 'MODULE_PATHNAME', 'sx_is_late' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION streamext.is_late(timestamp) IS 'is the window closed for the running view';
CREATE FUNCTION streamext.view_watermark(state regclass) RETURNS timestamptz
    AS 'MODULE_PATHNAME', 'sx_view_watermark' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION streamext.view_watermark(regclass) IS 'watermark of the continuous view that keeps this state table; NULL while there is none';

CREATE FUNCTION streamext.closed_before(state regclass) RETURNS timestamptz
    AS 'MODULE_PATHNAME', 'sx_closed_before' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION streamext.closed_before(regclass) IS 'in a batch: watermark of the view that keeps this state table at the end of the batch before';
CREATE FUNCTION streamext.closed_by(state regclass) RETURNS timestamptz
    AS 'MODULE_PATHNAME', 'sx_closed_by' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION streamext.closed_by(regclass) IS 'in a batch: watermark of the view that keeps this state table at its end';

-- A type that no user can make a value of: bytes made up by somebody would reach the
-- aggregates' deserialisation functions, which trust them.
CREATE TYPE streamext.agg_state;
CREATE FUNCTION streamext.agg_state_in(cstring) RETURNS streamext.agg_state
    AS 'MODULE_PATHNAME', 'sx_agg_state_in' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION streamext.agg_state_in(cstring) IS 'input of streamext.agg_state: for superusers, who restore dumps';
CREATE FUNCTION streamext.agg_state_out(streamext.agg_state) RETURNS cstring
    AS 'MODULE_PATHNAME', 'sx_agg_state_out' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION streamext.agg_state_out(streamext.agg_state) IS 'output of streamext.agg_state: its bytes in hex';
CREATE TYPE streamext.agg_state (
    INPUT = streamext.agg_state_in, OUTPUT = streamext.agg_state_out,
    INTERNALLENGTH = VARIABLE, ALIGNMENT = int4, STORAGE = extended);
COMMENT ON TYPE streamext.agg_state IS 'state of an aggregate between batches; only streamext makes values of it';

CREATE FUNCTION streamext.view_time(state regclass) RETURNS timestamptz
    AS 'MODULE_PATHNAME', 'sx_view_time' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION streamext.view_time(regclass) IS 'time of the last batch of the continuous view that keeps this state table; in a batch, of that one';

CREATE FUNCTION streamext.partial_trans(internal, regprocedure, VARIADIC "any") RETURNS internal
    AS 'MODULE_PATHNAME', 'sx_partial_trans' LANGUAGE C PARALLEL RESTRICTED;
COMMENT ON FUNCTION streamext.partial_trans(internal, regprocedure, "any") IS 'transition function of streamext.partial_agg';
CREATE FUNCTION streamext.partial_final(internal) RETURNS streamext.agg_state
    AS 'MODULE_PATHNAME', 'sx_partial_final' LANGUAGE C PARALLEL RESTRICTED;
COMMENT ON FUNCTION streamext.partial_final(internal) IS 'final function of streamext.partial_agg';
CREATE AGGREGATE streamext.partial_agg(aggregate regprocedure, VARIADIC arguments "any") (
    SFUNC = streamext.partial_trans, STYPE = internal,
    FINALFUNC = streamext.partial_final, FINALFUNC_MODIFY = READ_WRITE);
COMMENT ON AGGREGATE streamext.partial_agg(regprocedure, "any") IS 'state of an aggregate over the rows of a batch, to be combined later';
CREATE FUNCTION streamext.combine_agg(aggregate regprocedure, a streamext.agg_state, b streamext.agg_state)
    RETURNS streamext.agg_state
    AS 'MODULE_PATHNAME', 'sx_combine_agg' LANGUAGE C STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION streamext.combine_agg(regprocedure, streamext.agg_state, streamext.agg_state) IS 'combines two states of an aggregate';
CREATE FUNCTION streamext.combine_trans(state streamext.agg_state, aggregate regprocedure, part streamext.agg_state)
    RETURNS streamext.agg_state
    AS 'MODULE_PATHNAME', 'sx_combine_trans' LANGUAGE C STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION streamext.combine_trans(streamext.agg_state, regprocedure, streamext.agg_state) IS 'transition function of streamext.combine_states';
CREATE AGGREGATE streamext.combine_states(aggregate regprocedure, state streamext.agg_state) (
    SFUNC = streamext.combine_trans, STYPE = streamext.agg_state);
COMMENT ON AGGREGATE streamext.combine_states(regprocedure, streamext.agg_state) IS 'combines states of an aggregate';
CREATE FUNCTION streamext.pane_cover(stream regclass, OUT level integer, OUT pane bigint) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'sx_pane_cover' LANGUAGE C STABLE STRICT ROWS 20;
COMMENT ON FUNCTION streamext.pane_cover(regclass) IS 'in a batch: the panes that make up the window of a windowed stream';
CREATE FUNCTION streamext.final_agg(aggregate regprocedure, state streamext.agg_state, result_type anyelement) RETURNS anyelement
    AS 'MODULE_PATHNAME', 'sx_final_agg' LANGUAGE C STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION streamext.final_agg(regprocedure, streamext.agg_state, anyelement) IS 'result of an aggregate for a state; the last argument gives the type';

CREATE FUNCTION streamext.kept_in(node regclass) RETURNS boolean
    AS 'MODULE_PATHNAME', 'sx_kept_in' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION streamext.kept_in(regclass) IS 'true: in a stored query, says in which node the different values of an aggregate are kept';
CREATE FUNCTION streamext.by_slot() RETURNS boolean
    AS 'MODULE_PATHNAME', 'sx_by_slot' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION streamext.by_slot() IS 'true: in a stored query, says that several workers keep its result, each in rows of its own';
CREATE FUNCTION streamext.slot() RETURNS integer
    AS 'MODULE_PATHNAME', 'sx_slot' LANGUAGE C STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION streamext.slot() IS 'which worker of its pipeline runs the batch in progress, from 0; 0 outside a batch';
CREATE FUNCTION streamext.arrival() RETURNS bigint
    AS 'MODULE_PATHNAME', 'sx_arrival' LANGUAGE C STABLE PARALLEL UNSAFE;
COMMENT ON FUNCTION streamext.arrival() IS 'in a batch: a number that grows with every call, from batch to batch too; orders the rows that a node keeps';
CREATE FUNCTION streamext.capture_changes() RETURNS trigger
    AS 'MODULE_PATHNAME', 'sx_capture_changes' LANGUAGE C;
COMMENT ON FUNCTION streamext.capture_changes() IS 'on a state table: notes what a batch changes there, for the nodes that stand on it';
REVOKE ALL ON FUNCTION streamext.capture_changes() FROM PUBLIC;
CREATE FUNCTION streamext.old_rows(state anyelement) RETURNS SETOF anyelement
    AS 'MODULE_PATHNAME', 'sx_old_rows' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 100;
COMMENT ON FUNCTION streamext.old_rows(anyelement) IS 'in a batch: rows of a state table, given as NULL of its type, that the batch has deleted or changed';
CREATE FUNCTION streamext.new_rows(state anyelement) RETURNS SETOF anyelement
    AS 'MODULE_PATHNAME', 'sx_new_rows' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 100;
COMMENT ON FUNCTION streamext.new_rows(anyelement) IS 'in a batch: rows of a state table that the batch has added, and changed ones as they are now';
CREATE FUNCTION streamext.changed_rows(state anyelement) RETURNS SETOF anyelement
    AS 'MODULE_PATHNAME', 'sx_changed_rows' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 100;
COMMENT ON FUNCTION streamext.changed_rows(anyelement) IS 'in a batch: old_rows and new_rows of a state table';
CREATE FUNCTION streamext.row_image(record) RETURNS bytea
    AS 'MODULE_PATHNAME', 'sx_row_image' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION streamext.row_image(record) IS 'the bytes of a row''s values: equal for rows in which no value differs';
CREATE FUNCTION streamext.key_hash(VARIADIC "any") RETURNS bigint
    AS 'MODULE_PATHNAME', 'sx_key_hash' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION streamext.key_hash("any") IS 'one number for a key of any columns, NULL among them; equal keys have equal numbers';
CREATE FUNCTION streamext.remember_text(function oid, VARIADIC arguments "any") RETURNS text
    AS 'MODULE_PATHNAME', 'sx_remember' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 10;
COMMENT ON FUNCTION streamext.remember_text(oid, "any") IS 'the result of a regular expression, lower() or upper(), from those seen before: what batches call in their place';
CREATE FUNCTION streamext.remember_texts(function oid, VARIADIC arguments "any") RETURNS text[]
    AS 'MODULE_PATHNAME', 'sx_remember' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 10;
COMMENT ON FUNCTION streamext.remember_texts(oid, "any") IS 'the result of a regular expression, lower() or upper(), from those seen before: what batches call in their place';
CREATE FUNCTION streamext.remember_boolean(function oid, VARIADIC arguments "any") RETURNS boolean
    AS 'MODULE_PATHNAME', 'sx_remember' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 10;
COMMENT ON FUNCTION streamext.remember_boolean(oid, "any") IS 'the result of a regular expression, lower() or upper(), from those seen before: what batches call in their place';

CREATE FUNCTION streamext.explain(name text, sizes boolean DEFAULT false) RETURNS text
    AS 'MODULE_PATHNAME', 'sx_explain' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION streamext.explain(text, boolean) IS 'how a continuous view, sink or stream is kept current: strategy, reason, key, what bounds its state, and the SQL, of each of its nodes; sizes: with rows and bytes of the state tables';


-- ---------------------------------------------------------------------
-- Sources
-- ---------------------------------------------------------------------
CREATE TABLE streamext.file_taken (
    pipeline    integer NOT NULL,
    stream      regclass NOT NULL,
    name        text NOT NULL,
    size        bigint NOT NULL,
    mtime       timestamptz NOT NULL,
    batch_id    bigint NOT NULL,
    PRIMARY KEY (pipeline, stream, name)
);
COMMENT ON TABLE streamext.file_taken IS 'files that streams of connector file have taken, as they were then';
COMMENT ON COLUMN streamext.file_taken.name IS 'within the directory; the whole path where the stream has a pattern';
COMMENT ON COLUMN streamext.file_taken.batch_id IS 'the batch that began to read it';
SELECT pg_catalog.pg_extension_config_dump('streamext.file_taken', '');

-- ---------------------------------------------------------------------
-- Sinks that send: written by the batch, sent after its commit
-- ---------------------------------------------------------------------
CREATE TABLE streamext.outbox (
    sink        regclass NOT NULL,
    delivery    bigint NOT NULL,
    seq         integer NOT NULL,
    batch_id    bigint NOT NULL,
    batch_time  timestamptz NOT NULL,
    payload     bytea NOT NULL,
    PRIMARY KEY (sink, delivery, seq)
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0,
        toast.autovacuum_vacuum_threshold = 1000, toast.autovacuum_vacuum_scale_factor = 0);
ALTER TABLE streamext.outbox ALTER COLUMN payload SET STORAGE EXTERNAL;
COMMENT ON TABLE streamext.outbox IS 'what batches wrote for sinks that send, until it has arrived; see streamext.outboxes';
COMMENT ON COLUMN streamext.outbox.delivery IS 'number of the batch''s output in this sink: the batch id, or more when the sink was in another pipeline before';
COMMENT ON COLUMN streamext.outbox.seq IS 'chunk of the delivery, from 0';
COMMENT ON COLUMN streamext.outbox.payload IS 'the bytes as they are sent, at most 1 MB';

-- Updated with every delivery: kept small and HOT.
CREATE TABLE streamext.delivery (
    sink        regclass PRIMARY KEY,
    delivered   bigint NOT NULL DEFAULT 0,
    failures    integer NOT NULL DEFAULT 0,
    retry_at    timestamptz,
    error_sqlstate text,
    error_message  text,
    error_at    timestamptz,
    delivered_at timestamptz
) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE streamext.delivery IS 'how far each sink that sends has come';
COMMENT ON COLUMN streamext.delivery.delivered IS 'the last delivery that has arrived; 0: none yet';
COMMENT ON COLUMN streamext.delivery.failures IS 'errors in a row; sets the back-off';
COMMENT ON COLUMN streamext.delivery.retry_at IS 'not tried again before this time';
SELECT pg_catalog.pg_extension_config_dump('streamext.outbox', '');
SELECT pg_catalog.pg_extension_config_dump('streamext.delivery', '');

-- ---------------------------------------------------------------------
-- Operating functions
-- ---------------------------------------------------------------------
CREATE FUNCTION streamext.pause(name text) RETURNS void
    AS 'MODULE_PATHNAME', 'sx_pause' LANGUAGE C STRICT;
COMMENT ON FUNCTION streamext.pause(text) IS 'stops a pipeline after its running batch; give the name of a pipeline, or of a stream, view or sink in it';

CREATE FUNCTION streamext.resume(name text) RETURNS void
    AS 'MODULE_PATHNAME', 'sx_resume' LANGUAGE C STRICT;
COMMENT ON FUNCTION streamext.resume(text) IS 'lets a paused or stopped pipeline run from where it was';

CREATE FUNCTION streamext.run(name text) RETURNS void
    AS 'MODULE_PATHNAME', 'sx_run' LANGUAGE C STRICT;
COMMENT ON FUNCTION streamext.run(text) IS 'processes what the sources hold now, in batches, then pauses';

CREATE FUNCTION streamext.start_all() RETURNS integer
    AS 'MODULE_PATHNAME', 'sx_start_all' LANGUAGE C STRICT;
COMMENT ON FUNCTION streamext.start_all() IS 'resumes every paused or stopped pipeline of the caller, also after a restored dump; returns how many';

CREATE FUNCTION streamext.adopt() RETURNS void
    AS 'MODULE_PATHNAME', 'sx_adopt' LANGUAGE C STRICT;
COMMENT ON FUNCTION streamext.adopt() IS 'lets pipelines run in this data directory, which is a copy of another one or was moved; takes effect at once';
REVOKE ALL ON FUNCTION streamext.adopt() FROM PUBLIC;

CREATE FUNCTION streamext.step(name text, at timestamptz DEFAULT NULL,
        OUT batch_id bigint, OUT batch_time timestamptz, OUT rows bigint, OUT bytes bigint, OUT dead_letters bigint)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'sx_step' LANGUAGE C CALLED ON NULL INPUT;
COMMENT ON FUNCTION streamext.step(text, timestamptz) IS 'runs one batch of a paused pipeline in the caller''s transaction, with the given batch time; no row when there is nothing to do';

CREATE FUNCTION streamext.wait(name text, timeout interval DEFAULT '1 minute') RETURNS boolean
    AS 'MODULE_PATHNAME', 'sx_wait' LANGUAGE C STRICT;
COMMENT ON FUNCTION streamext.wait(text, interval) IS 'waits until everything that the sources held at the call is processed, or run() has come to its end; false when the time is over. Old versions of rows cannot be pruned while it waits: wait for long in a loop of short waits with COMMIT between them';

CREATE FUNCTION streamext.reset(name text) RETURNS void
    AS 'MODULE_PATHNAME', 'sx_reset' LANGUAGE C STRICT;
COMMENT ON FUNCTION streamext.reset(text) IS 'takes a paused pipeline back to the start of what its sources still hold and empties its views and the state of its streams; a queue forgets what was processed, sinks keep what they have';

CREATE FUNCTION streamext.replay_dead_letters(stream text, filter text DEFAULT NULL) RETURNS bigint
    AS 'MODULE_PATHNAME', 'sx_replay_dead_letters' LANGUAGE C CALLED ON NULL INPUT;
COMMENT ON FUNCTION streamext.replay_dead_letters(text, text) IS 'feeds dead letters of a stream, view or sink again, each exactly once; filter: a condition on columns of streamext.dead_letters; returns how many were marked for the next batch';

CREATE FUNCTION streamext.delete_dead_letters(stream text, filter text DEFAULT NULL) RETURNS bigint
    AS 'MODULE_PATHNAME', 'sx_delete_dead_letters' LANGUAGE C CALLED ON NULL INPUT;
COMMENT ON FUNCTION streamext.delete_dead_letters(text, text) IS 'deletes dead letters of a stream, view or sink; filter: a condition on columns of streamext.dead_letters; returns how many';

CREATE FUNCTION streamext.worker_status(pipeline integer, slot integer DEFAULT 0, OUT pid integer, OUT started timestamptz,
        OUT rows_per_second double precision, OUT batches bigint, OUT status text,
        OUT rate_limit double precision, OUT target double precision, OUT rate_reason text)
    AS 'MODULE_PATHNAME', 'sx_worker_status_row' LANGUAGE C STRICT;
COMMENT ON FUNCTION streamext.worker_status(integer, integer) IS 'what a worker of a pipeline says about itself; NULLs when none runs, or it is not yours to see';

CREATE FUNCTION streamext.pid_rates(at_ms bigint[], elements bigint[], processing_ms bigint[], scheduling_ms bigint[],
        batch_interval_ms bigint, kp double precision DEFAULT 1.0, ki double precision DEFAULT 0.2,
        kd double precision DEFAULT 0.0, min_rate double precision DEFAULT 100)
    RETURNS SETOF double precision
    AS 'MODULE_PATHNAME', 'sx_pid_rates' LANGUAGE C IMMUTABLE PARALLEL SAFE CALLED ON NULL INPUT;
COMMENT ON FUNCTION streamext.pid_rates(bigint[], bigint[], bigint[], bigint[], bigint, double precision, double precision, double precision, double precision)
    IS 'rows per second that backpressure = ''pid'' would allow after each batch of a series; NULL where a batch gives no new rate';

CREATE FUNCTION streamext.detach(name text) RETURNS void
    AS 'MODULE_PATHNAME', 'sx_detach' LANGUAGE C STRICT;
COMMENT ON FUNCTION streamext.detach(text) IS 'takes a view or sink out of its pipeline, with what it shares state with, into a stopped one of its own; resume() lets it catch up and join again';

-- ---------------------------------------------------------------------
-- Event triggers: catalog rows come and go with their relations
-- ---------------------------------------------------------------------
CREATE FUNCTION streamext.feed_stream() RETURNS trigger
    AS 'MODULE_PATHNAME', 'sx_feed_stream' LANGUAGE C;
COMMENT ON FUNCTION streamext.feed_stream() IS 'copies new rows of a table into the log of the stream that follows it';
REVOKE ALL ON FUNCTION streamext.feed_stream() FROM PUBLIC;

CREATE FUNCTION streamext.on_ddl_end() RETURNS event_trigger
    AS 'MODULE_PATHNAME', 'sx_on_ddl_end' LANGUAGE C;
COMMENT ON FUNCTION streamext.on_ddl_end() IS 'registers a stream that was created as a foreign table';

CREATE FUNCTION streamext.on_drop() RETURNS event_trigger
    AS 'MODULE_PATHNAME', 'sx_on_drop' LANGUAGE C;
COMMENT ON FUNCTION streamext.on_drop() IS 'forgets streams and views that were dropped';

CREATE EVENT TRIGGER streamext_ddl_end ON ddl_command_end WHEN TAG IN ('CREATE FOREIGN TABLE')
    EXECUTE FUNCTION streamext.on_ddl_end();
CREATE EVENT TRIGGER streamext_drop ON sql_drop
    EXECUTE FUNCTION streamext.on_drop();

-- ---------------------------------------------------------------------
-- Views.  Each shows what the reader owns; pg_monitor sees everything.  They are security
-- barriers, or a function in the reader's WHERE would be shown what the view leaves out.
-- ---------------------------------------------------------------------
CREATE FUNCTION streamext.may_see(owner oid) RETURNS boolean
    AS 'MODULE_PATHNAME', 'sx_may_see' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION streamext.may_see(oid) IS 'may the current user see a pipeline of this owner?';

CREATE VIEW streamext.streams WITH (security_barrier) AS
    SELECT s.relation AS stream, s.kind,
           (SELECT option_value FROM pg_catalog.pg_options_to_table(f.ftoptions) WHERE option_name = 'connector') AS connector,
           (SELECT option_value FROM pg_catalog.pg_options_to_table(f.ftoptions) WHERE option_name = 'format') AS format,
           coalesce((SELECT array_agg(p.name ORDER BY p.id) FROM streamext.source x JOIN streamext.pipeline p ON p.id = x.pipeline
                     WHERE x.stream = s.relation),
                    (SELECT ARRAY[p.name] FROM streamext.step x JOIN streamext.pipeline p ON p.id = x.pipeline
                     WHERE x.relation = s.relation)) AS pipelines,
           c.relowner::regrole AS owner, s.created_at
    FROM streamext.stream s
         JOIN pg_catalog.pg_class c ON c.oid = s.relation
         LEFT JOIN pg_catalog.pg_foreign_table f ON f.ftrelid = s.relation
    WHERE streamext.may_see(c.relowner);
COMMENT ON VIEW streamext.streams IS 'streams: sources, derived streams and sinks';
COMMENT ON COLUMN streamext.streams.pipelines IS 'pipelines that read the source, or run the sink';

CREATE VIEW streamext.pipelines WITH (security_barrier) AS
    SELECT p.name AS pipeline, p.owner, CASE WHEN p.state <> 'running' OR p.lane_of IS NULL THEN p.state
                WHEN p.lane_for = 'backfill' THEN 'backfilling' ELSE 'catching up' END AS state, w.pid,
           CASE WHEN w.pid IS NOT NULL OR p.state = 'running' THEN w.status END AS status,
           g.batch_id, g.batch_time, w.rows_per_second, w.rate_limit, w.target, w.rate_reason,
           t.lag, t.watermark, t.watermark_stream, t.watermark_partition,
           n.views, n.sinks, p.failures, p.retry_at, p.error_sqlstate, p.error_message, p.error_at, p.created_at, p.id,
           o.name AS lane_of, p.lane_for, g.slots AS parallelism, w.workers
    FROM streamext.pipeline p
         LEFT JOIN streamext.pipeline o ON o.id = p.lane_of
         CROSS JOIN LATERAL (
            SELECT sum(g.batch_id)::bigint AS batch_id, max(g.batch_time) AS batch_time, count(*)::integer AS slots
            FROM streamext.progress g WHERE g.pipeline = p.id) g
         CROSS JOIN LATERAL (
            SELECT min(w.pid) FILTER (WHERE g.slot = 0) AS pid, count(w.pid)::integer AS workers,
                   coalesce(min(w.status) FILTER (WHERE g.slot = 0), min(w.status),
                            CASE WHEN count(*) > 1 AND count(w.pid) < count(*) AND p.state = 'running' THEN
                                 format('%s of %s workers run', count(w.pid), count(*))
                                 || coalesce(': ' || p.error_message, '') END) AS status,
                   sum(w.rows_per_second) AS rows_per_second, sum(w.rate_limit) AS rate_limit,
                   max(w.target) AS target, min(w.rate_reason) AS rate_reason
            FROM streamext.progress g CROSS JOIN LATERAL streamext.worker_status(g.pipeline, g.slot) w
            WHERE g.pipeline = p.id) w
         CROSS JOIN LATERAL (
            SELECT count(*) FILTER (WHERE kind = 'view') AS views, count(*) FILTER (WHERE kind = 'sink') AS sinks
            FROM streamext.step s WHERE s.pipeline = p.id) n
         CROSS JOIN LATERAL (
            SELECT (SELECT sum(x.lag)::bigint FROM streamext.partition x WHERE x.pipeline = p.id) AS lag,
                   CASE WHEN bool_and(s.watermark IS NOT NULL) THEN min(s.watermark) END AS watermark,
                   (array_agg(s.stream ORDER BY s.watermark NULLS FIRST))[1] AS watermark_stream,
                   (array_agg(h.partition ORDER BY s.watermark NULLS FIRST))[1] AS watermark_partition
            FROM streamext.source s
                 LEFT JOIN LATERAL (
                    SELECT x.partition FROM streamext.partition x
                    WHERE x.pipeline = s.pipeline AND x.stream = s.stream AND NOT x.idle
                    ORDER BY x.max_event_time NULLS FIRST LIMIT 1) h ON true
            WHERE s.pipeline = p.id
              AND EXISTS (SELECT FROM pg_catalog.pg_foreign_table f, pg_catalog.pg_options_to_table(f.ftoptions) o
                          WHERE f.ftrelid = s.stream AND o.option_name = 'watermark')) t
    WHERE streamext.may_see(p.owner);
COMMENT ON VIEW streamext.pipelines IS 'pipelines: state, progress, lag, watermark and the last error';
COMMENT ON COLUMN streamext.pipelines.status IS 'what the worker has to say, for instance that a broker cannot be reached; or why none runs';
COMMENT ON COLUMN streamext.pipelines.state IS 'running, paused by a user, stopped by an error (see error_message); of a lane that runs: backfilling or catching up';
COMMENT ON COLUMN streamext.pipelines.batch_id IS 'of the last batch; with several workers, how many all of them have run';
COMMENT ON COLUMN streamext.pipelines.parallelism IS 'workers that it shall have, each with its own partitions; what follows from all of them is for the first, whose pid this is';
COMMENT ON COLUMN streamext.pipelines.workers IS '… and that it has at the moment';
COMMENT ON COLUMN streamext.pipelines.lane_of IS 'the pipeline that this one is merged into when it has caught up; NULL: it is no lane';
COMMENT ON COLUMN streamext.pipelines.lane_for IS 'backfill: a late view or sink reads the past; detached: what failed for itself while the others went on';
COMMENT ON COLUMN streamext.pipelines.rate_limit IS 'rows per second that back-pressure or max_rate allow now; NULL: no limit';
COMMENT ON COLUMN streamext.pipelines.target IS 'milliseconds that a batch should take at most: target_latency or batch_interval; NULL with backpressure = ''off''';
COMMENT ON COLUMN streamext.pipelines.rate_reason IS 'what set the limit: pid, max_rate, or adaptive with the length of the last batch; NULL: no limit';
COMMENT ON COLUMN streamext.pipelines.lag IS 'records that the sources held and no batch had taken when the last batch ran; NULL when not known';
COMMENT ON COLUMN streamext.pipelines.watermark_partition IS 'the partition that holds the watermark back most';

CREATE VIEW streamext.partitions WITH (security_barrier) AS
    SELECT p.name AS pipeline, x.stream, x.partition, x.position, x.end_position, x.lag,
           x.max_event_time, s.watermark, x.idle, x.rows,
           coalesce((SELECT sum(g.records) FROM streamext.gap g
                     WHERE g.pipeline = x.pipeline AND g.stream = x.stream AND g.partition = x.partition), 0)::bigint AS lost,
           x.slot
    FROM streamext.partition x
         JOIN streamext.source s USING (pipeline, stream)
         JOIN streamext.pipeline p ON p.id = x.pipeline
    WHERE streamext.may_see(p.owner);
COMMENT ON VIEW streamext.partitions IS 'each partition: committed position, end, lag, highest event time';
COMMENT ON COLUMN streamext.partitions.position IS 'where the next batch begins';
COMMENT ON COLUMN streamext.partitions.watermark IS 'of the stream';
COMMENT ON COLUMN streamext.partitions.slot IS 'which of several workers has read it: 0, unless the pipeline has parallelism > 1';
COMMENT ON COLUMN streamext.partitions.lost IS 'records that were lost, as far as they could be counted; see streamext.gaps';

CREATE VIEW streamext.gaps WITH (security_barrier) AS
    SELECT p.name AS pipeline, g.stream, g.partition, g.from_offset, g.to_offset, g.records, g.reason, g.batch_id, g.noted_at
    FROM streamext.gap g
         JOIN streamext.pipeline p ON p.id = g.pipeline
    WHERE streamext.may_see(p.owner);
COMMENT ON VIEW streamext.gaps IS 'records of Kafka streams that were lost, with on_data_loss = continue';
COMMENT ON COLUMN streamext.gaps.from_offset IS 'where the pipeline had to go on';
COMMENT ON COLUMN streamext.gaps.to_offset IS 'where it went on: the oldest record that there was';
COMMENT ON COLUMN streamext.gaps.records IS 'offsets in between, where both are of one log; else NULL: not known';
COMMENT ON COLUMN streamext.gaps.reason IS 'offset gone: deleted by retention or by hand; truncated, topic recreated, other cluster: the log is not the one that was read before';
COMMENT ON COLUMN streamext.gaps.batch_id IS 'the batch before the gap, or the one that was committed with it';

CREATE VIEW streamext.batches WITH (security_barrier) AS
    SELECT p.name AS pipeline, b.batch_id, b.batch_time, b.started_at, b.rows, b.bytes, b.dead_letters,
           b.poll_ms, b.load_ms, b.steps_ms,
           lead(b.commit_ms) OVER (PARTITION BY b.pipeline, b.slot ORDER BY b.batch_id) AS commit_ms, b.slot
    FROM streamext.batch b
         JOIN streamext.pipeline p ON p.id = b.pipeline
    WHERE streamext.may_see(p.owner);
COMMENT ON VIEW streamext.batches IS 'the last batches of each pipeline, with the time of each phase in milliseconds';
COMMENT ON COLUMN streamext.batches.slot IS 'which of several workers ran it; each counts its batches';
COMMENT ON COLUMN streamext.batches.commit_ms IS 'NULL for the newest batch: known when the next one has run';

CREATE FUNCTION streamext.state_bound(step regclass) RETURNS text
    AS 'MODULE_PATHNAME', 'sx_state_bound' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION streamext.state_bound(regclass) IS 'what keeps the state of a continuous view or stream from growing; NULL when it is not the caller''s';
CREATE FUNCTION streamext.state_oldest(step regclass) RETURNS timestamptz
    AS 'MODULE_PATHNAME', 'sx_state_oldest' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION streamext.state_oldest(regclass) IS 'oldest window, or time of the oldest change of a key, in the state of a continuous view or stream';
CREATE FUNCTION streamext.state_rows(state_table regclass) RETURNS bigint
    AS 'MODULE_PATHNAME', 'sx_state_rows' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION streamext.state_rows(regclass) IS 'exactly how many rows a state table has, which reads it whole';

CREATE VIEW streamext.state WITH (security_barrier) AS
    SELECT coalesce(s.node_of, s.relation) AS relation, CASE WHEN s.node_of IS NOT NULL THEN s.relation END AS node,
           p.name AS pipeline, s.strategy, t.state_table,
           greatest(c.reltuples::bigint, pg_catalog.pg_stat_get_live_tuples(c.oid), 0) AS rows,
           pg_catalog.pg_total_relation_size(c.oid) AS bytes, pg_catalog.pg_relation_size(c.oid) AS heap_bytes,
           pg_catalog.pg_indexes_size(c.oid) AS index_bytes,
           coalesce(pg_catalog.pg_total_relation_size(nullif(c.reltoastrelid, 0)), 0) AS toast_bytes,
           CASE WHEN t.state_table = s.state THEN streamext.state_oldest(s.relation) END AS oldest,
           pg_catalog.pg_stat_get_dead_tuples(c.oid) AS dead_rows,
           pg_catalog.pg_stat_get_last_autovacuum_time(c.oid) AS last_autovacuum,
           streamext.state_bound(s.relation) AS bounded_by
    FROM streamext.step s
         JOIN streamext.pipeline p ON p.id = s.pipeline
         CROSS JOIN LATERAL (
            SELECT s.state AS state_table WHERE s.kind <> 'sink'
            UNION
            SELECT s.panes
            UNION
            SELECT d.objid::regclass
            FROM pg_catalog.pg_depend d
            WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
              AND d.refobjid = s.relation AND d.deptype = 'i') t
         JOIN pg_catalog.pg_class c ON c.oid = t.state_table AND c.relkind = 'r'
    WHERE streamext.may_see(p.owner);
COMMENT ON VIEW streamext.state IS 'what continuous views, their nodes and streams keep between batches: a row for each state table';
COMMENT ON COLUMN streamext.state.node IS 'the hidden node of the view; NULL: its own rows';
COMMENT ON COLUMN streamext.state.rows IS 'an estimate from the server''s statistics; streamext.state_rows(state_table) counts';
COMMENT ON COLUMN streamext.state.oldest IS 'its oldest window, or when the key that has waited longest was changed; read from the table';
COMMENT ON COLUMN streamext.state.bounded_by IS 'what keeps it from growing, or that nothing does';

CREATE VIEW streamext.views WITH (security_barrier) AS
    SELECT s.relation AS view, s.kind, p.name AS pipeline, s.strategy, s.state AS state_table,
           g.rows, g.late_rows + coalesce(n.late_rows, 0) AS late_rows,
           g.null_time_rows + coalesce(n.null_time_rows, 0) AS null_time_rows,
           g.dead_letters, g.skipped_rows, g.watermark,
           s.first_batch, s.options, s.created_at,
           CASE WHEN p.state <> 'running' OR p.lane_of IS NULL THEN p.state
                WHEN p.lane_for = 'backfill' THEN 'backfilling' ELSE 'catching up' END AS state,
           (SELECT sum(x.lag)::bigint FROM streamext.partition x WHERE x.pipeline = p.id) AS lag, p.error_message
    FROM streamext.step s
         CROSS JOIN LATERAL (
            SELECT sum(g.rows)::bigint AS rows, sum(g.late_rows)::bigint AS late_rows,
                   sum(g.null_time_rows)::bigint AS null_time_rows, sum(g.dead_letters)::bigint AS dead_letters,
                   sum(g.skipped_rows)::bigint AS skipped_rows, min(g.watermark) FILTER (WHERE g.slot = 0) AS watermark
            FROM streamext.step_progress g WHERE g.relation = s.relation) g
         JOIN streamext.pipeline p ON p.id = s.pipeline
         LEFT JOIN (
            SELECT o.node_of, sum(o_g.late_rows)::bigint AS late_rows, sum(o_g.null_time_rows)::bigint AS null_time_rows
            FROM streamext.step o JOIN streamext.step_progress o_g USING (relation)
            WHERE o.node_of IS NOT NULL AND NOT o.options ? 'set' GROUP BY 1) n ON n.node_of = s.relation
    WHERE streamext.may_see(p.owner) AND s.node_of IS NULL;
COMMENT ON VIEW streamext.views IS 'continuous views, sinks, and streams that keep state: strategy, counters and state table of each';
COMMENT ON COLUMN streamext.views.state IS 'of its pipeline; backfilling or catching up while it has one of its own beside that which it joins';
COMMENT ON COLUMN streamext.views.lag IS 'records that its pipeline has not processed yet; NULL when not known';
COMMENT ON COLUMN streamext.views.error_message IS 'why its pipeline is stopped or tried again; NULL when all is well';
COMMENT ON COLUMN streamext.views.rows IS 'rows that its batches wrote';
COMMENT ON COLUMN streamext.views.late_rows IS 'pairs of row and window that came too late, for the view and each of its nodes';
COMMENT ON COLUMN streamext.views.null_time_rows IS 'rows without event time, which belong to no window';

CREATE VIEW streamext.dead_letters WITH (security_barrier) AS
    SELECT d.id, p.name AS pipeline, d.stream, d.step AS view, d.batch_id, d.topic, d.partition, d."offset",
           d.record_time, d.key, d.value, d.headers, d.sqlstate, d.message, d.failed_at,
           d.attempt, d.replay, d.value_size, d.value_sha256
    FROM streamext.dead_letter d
         LEFT JOIN streamext.pipeline p ON p.id = d.pipeline
         JOIN pg_catalog.pg_class c ON c.oid = d.stream
    WHERE pg_catalog.pg_has_role(c.relowner, 'USAGE') OR pg_catalog.pg_has_role(p.owner::oid, 'USAGE');
COMMENT ON VIEW streamext.dead_letters IS 'records that failed, byte for byte; only the owners of the stream and of the pipeline see them';
COMMENT ON COLUMN streamext.dead_letters.view IS 'the view, sink or stream that it failed in; NULL: it could not be decoded, so it failed for all';
COMMENT ON COLUMN streamext.dead_letters.value IS 'the record''s bytes, or its row as JSON where it has none; the first megabyte when it is longer';
COMMENT ON COLUMN streamext.dead_letters.attempt IS 'how often it has failed';
COMMENT ON COLUMN streamext.dead_letters.replay IS 'replay_dead_letters() was called: the next batch feeds it again';
COMMENT ON COLUMN streamext.dead_letters.value_size IS 'length of the whole value';
COMMENT ON COLUMN streamext.dead_letters.value_sha256 IS 'hash of the whole value, where only its beginning was kept';

CREATE VIEW streamext.outboxes WITH (security_barrier) AS
    SELECT d.sink, s.strategy AS connector, o.pending, o.pending_bytes, o.oldest_pending,
           nullif(d.delivered, 0) AS last_delivered, d.delivered_at, d.failures, d.retry_at,
           d.error_sqlstate, d.error_message, d.error_at
    FROM streamext.delivery d
         JOIN streamext.step s ON s.relation = d.sink
         JOIN pg_catalog.pg_class c ON c.oid = d.sink
         CROSS JOIN LATERAL (
            SELECT count(*) FILTER (WHERE o.seq = 0) AS pending,
                   coalesce(sum(pg_catalog.octet_length(o.payload)), 0)::bigint AS pending_bytes,
                   min(o.batch_time) AS oldest_pending
            FROM streamext.outbox o WHERE o.sink = d.sink AND o.delivery > d.delivered) o
    WHERE streamext.may_see(c.relowner);
COMMENT ON VIEW streamext.outboxes IS 'sinks that send what a batch wrote after its commit: what is waiting, and why';
COMMENT ON COLUMN streamext.outboxes.pending IS 'deliveries that have not arrived yet: batches that wrote something';
COMMENT ON COLUMN streamext.outboxes.oldest_pending IS 'time of the oldest batch that is waiting';
COMMENT ON COLUMN streamext.outboxes.last_delivered IS 'batch id of the last delivery that has arrived';
COMMENT ON COLUMN streamext.outboxes.failures IS 'errors in a row; 0 when all is well';
COMMENT ON COLUMN streamext.outboxes.retry_at IS 'when it is tried again';

-- Whatever ALTER DEFAULT PRIVILEGES the installing role has.
REVOKE ALL ON ALL TABLES IN SCHEMA streamext FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA streamext FROM PUBLIC;
GRANT SELECT ON streamext.streams, streamext.pipelines, streamext.partitions, streamext.gaps, streamext.batches,
    streamext.views, streamext.state, streamext.dead_letters, streamext.outboxes TO PUBLIC;
