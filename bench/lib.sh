# bench/lib.sh: what the benchmarks share; sourced.  A private server and a real
# Kafka in a scratch folder (test/lib.sh), settings as a careful user would have them.

. "$(dirname "${BASH_SOURCE[0]}")/../test/lib.sh"
[ "$(id -u)" != 0 ] || export STREAMEXT_CACHE=${STREAMEXT_CACHE:-/var/cache/streamext}

bench_end() {
	[ -z "${BROKER:-}" ] || "$SX_TOP/test/kafka/down" "$SX_SCRATCH/kafka" KILL
	cluster_stop
	if [ -n "${KEEP:-}" ]; then say "left: $SX_SCRATCH"; else rm -rf "$SX_SCRATCH"; fi
}

# bench_begin [SETTING …]: a database "bench" with streamext answers to "ask".
bench_begin() {
	scratch_make bench
	trap bench_end EXIT
	trap 'exit 130' INT TERM
	prepare_build && install_packages python3 maven openjdk-17-jre-headless || die "packages are missing"
	server_user
	image_make
	build_and_install || die "the build failed"
	cluster_start 'shared_buffers = 512MB' 'max_wal_size = 4GB' 'track_io_timing = off' "timezone = 'UTC'" "$@" ||
		die "the server did not start"
	export PGDATABASE=bench
	ask -d postgres -c 'CREATE DATABASE bench' && ask -c 'CREATE EXTENSION streamext' || die "no database"
	say "$(ask -c 'SELECT version()')" "$(nproc) cores, $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)" ""
}

bench_kafka() {
	BROKER=127.0.0.1:$("$SX_TOP/test/kafka/up" "$SX_SCRATCH/kafka") || { BROKER=; die "no Kafka"; }
}

# The tables of the Yahoo Streaming Benchmark, and its source.
# ysb_schema TOPIC [OPTIONS]: stream ad_events, table ads, view campaign_views.
ysb_schema() {
	ask -c 'CREATE TABLE ads (ad_id text PRIMARY KEY, campaign_id text NOT NULL)' \
		-c '\copy ads FROM PROGRAM '"'$SX_TOP/bench/ysb_produce --ads'"' CSV' -c 'ANALYZE ads' &&
	ask -c "CREATE STREAM ad_events (user_id text, page_id text, ad_id text, ad_type text, event_type text,
			event_time timestamptz, ip_address text, off bigint OPTIONS (metadata 'offset'))
			WITH (connector = 'kafka', brokers = '$BROKER', topic = '$1', format = 'json',
			event_time = 'event_time', watermark = '5 seconds', pipeline = 'ysb'${2:-})" \
		-c "CREATE MATERIALIZED VIEW campaign_views AS $YSB_QUERY"
}
YSB_QUERY="SELECT tumble(e.event_time, '10 seconds') AS w, a.campaign_id, count(*) AS n
	FROM ad_events e JOIN ads a ON a.ad_id = e.ad_id WHERE e.event_type = 'view' GROUP BY 1, 2"
