# bench/lib.sh: what the benchmarks share; sourced.  A private server and a real
# Kafka in a scratch folder (test/lib.sh), settings as a careful user would have them.

#
# A benchmark says what it has measured by "note", round by round, and ends with "report": medians
# as a table in Markdown, and with JSON=FILE all of it; with TABLE=FILE the table is appended there.
#
#	bench_begin; bench_kafka
#	pairs 5 bare_round job_round	# functions that each note one round of one series
#	report ysb bare

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

# ------------------------------------------------------------------ rounds and figures

# Pids of the Kafka helpers of this server.
helpers() {
	ps -o pid=,comm= -e | awk '$2 ~ /^streamext-kafka/ { print $1 }' | while read -r pid; do
		[ "$(readlink "/proc/$pid/cwd" 2>/dev/null)" = "$SX_SCRATCH/data" ] && say "$pid"
	done
}

# Waits until the helper of the only Kafka stream rests (docs/kafka.md): another one has taken
# the place of the one at work, after a minute of silence and one or two more.
await_rest() {
	local first now
	first=$(helpers)
	for _ in $(seq 600); do
		now=$(helpers)
		[ "$now" != "$first" ] && [ "$(wc -w <<<"$now")" = 1 ] && return
		sleep 1
	done
	die "the Kafka helper does not come to rest"
}

# note SERIES NAME=VALUE …: one round of a series.
note() { python3 "$SX_TOP/bench/figures.py" note "$SX_SCRATCH/rounds" "$@"; }

# report BENCH [BASE [COLUMNS]]: medians of what was noted; beside series BASE the paired ratios of
# events_s (events a second) and cpu_m (CPU seconds a million events), where they are noted.
report() {
	local settings
	settings=$(ask -c "SELECT string_agg(name || ' = ' || current_setting(name), ', ' ORDER BY name)
		FROM pg_settings WHERE source IN ('configuration file', 'database') AND name !~ 'socket|listen|log_|port|Zone|lc_|dynamic|search'")
	say ""
	python3 "$SX_TOP/bench/figures.py" report "$SX_SCRATCH/rounds" "bench=$1" "base=${2:-}" "show=${3:-}" "json=${JSON:-}" "table=${TABLE:-}" \
		"commit=$(git -C "$SX_TOP" rev-parse --short HEAD 2>/dev/null)" "server=$(ask -c 'SHOW server_version')" \
		"librdkafka=$(library_version librdkafka1)" "simdjson=$(library_version 'libsimdjson[0-9]*')" "kafka=${BROKER:+$(kafka_version)}" \
		"settings=$settings" "arguments=${BENCH_ARGUMENTS:-}" "seed=${SEED:-1}"
}

library_version() { dpkg-query -W -f='${Version}\n' "$1" 2>/dev/null | head -n 1; }
kafka_version() { sed -n 's/^kafka_version=//p' "$SX_TOP/test/kafka/common.sh"; }

# pairs ROUNDS COMMAND COMMAND …: all commands in each round, in turn in this order and in the other
# one, so that what changes on the machine meanwhile meets all of them.
pairs() {
	local rounds=$1 round order command
	shift
	for round in $(seq "$rounds"); do
		order=("$@")
		if [ $((round % 2)) = 0 ]; then
			order=()
			for command in "$@"; do order=("$command" ${order[0]+"${order[@]}"}); done
		fi
		for command in "${order[@]}"; do $command || die "round $round of $command failed"; done
	done
}

# ------------------------------------------------------------------ CPU

# What each process of the server has spent so far; for cpu_since.
cpu_now() { python3 "$SX_TOP/bench/figures.py" cpu "$(head -n 1 "$SX_SCRATCH/data/postmaster.pid")"; }

# cpu_since BEFORE: "worker=S helper=S walwriter=S … total=S" in seconds; figures.py says what is what.
cpu_since() { python3 "$SX_TOP/bench/figures.py" spent "$1" "$(cpu_now)"; }

# cpu_of KIND SPENT: one of them.
cpu_of() { sed -E "s/.*\b$1=([0-9.]+).*/\1/" <<<"$2"; }

# ------------------------------------------------------------------ the job and the bare consumer

# bare_round TOPIC [NAME=VALUE …]: a bare librdkafka consumer of the topic, as series "bare".
bare_round() {
	local out
	out=$("$SX_TOP/bench/bare_consumer" "$BROKER" "$@") || return 1
	# shellcheck disable=SC2046
	note bare $(sed -E 's|^([0-9]+) records, [0-9]+ bytes, ([0-9.]+) s, ([0-9]+) records/s, ([0-9.]+) CPU.*|events=\1 seconds=\2 events_s=\3 cpu_m=\4|' <<<"$out")
}

# await PIPELINE: until what its sources hold now is processed.  In short transactions: the snapshot
# of one long wait() would keep all old versions of rows in their pages.
await() { ask -c "DO 'BEGIN LOOP COMMIT; EXIT WHEN streamext.wait(''$1'', ''1 second''); END LOOP; END'"; }

# job_round SERIES PIPELINE EVENTS (in short transactions, as await): runs a paused pipeline over what its sources hold, EVENTS events,
# and notes events_s from resume() until all are processed, warm_s the same from the first batch (without
# start-up), CPU seconds a million events in all (cpu_m) and of the larger parts, WAL bytes an event.
# The session that waits is not counted.
job_round() {
	local cpu spent wal began seconds session
	ask -c CHECKPOINT
	wal=$(ask -c 'SELECT pg_current_wal_insert_lsn()')
	cpu=$(cpu_now)
	began=$(date +%s.%N)
	session=$(PGOPTIONS="-c statement_timeout=${RUN_TIMEOUT:-600}s" ask -F ' ' -c "SELECT FROM streamext.resume('$2')" -c "DO 'BEGIN LOOP COMMIT; EXIT WHEN (SELECT sum(rows) >= $3 FROM streamext.batches WHERE pipeline = ''$2''); PERFORM pg_sleep(0.02); END LOOP; END'" \
		-c "SELECT extract(epoch FROM clock_timestamp()), x[14]::int + x[15]::int FROM string_to_array(pg_read_file('/proc/self/stat'), ' ') x") || return 1
	session=${session##*$'\n'}
	seconds=$(awk -v a="$began" -v b="${session% *}" 'BEGIN { print b - a }')
	spent=$(cpu_since "$cpu")
	# shellcheck disable=SC2046
	note "$1" $(ask -F ' ' -c "SELECT 'batches=' || count(*), 'warm_s=' || round(($3 / greatest(0.001, extract(epoch FROM
			max(started_at + (load_ms + steps_ms + coalesce(commit_ms, 0)) * interval '1 ms') - min(started_at))))::numeric) FROM streamext.batches WHERE pipeline = '$2'") \
		"wal_b=$(ask -c "SELECT (pg_current_wal_insert_lsn() - '$wal') / $3")" \
		$(awk -v n="$3" -v s="$seconds" -v spent="$spent" -v session="${session#* }" -v hz="$(getconf CLK_TCK)" 'BEGIN {
			split(spent, parts, " ")
			for (i in parts) { split(parts[i], x, "="); cpu[x[1]] = x[2] * 1e6 / n }
			session *= 1e6 / n / hz
			if (session > cpu["ended"]) session = cpu["ended"]
			cpu["ended"] -= session; cpu["total"] -= session
			printf "events=%d seconds=%.3f events_s=%.0f cpu_m=%.3f worker_m=%.3f helper_m=%.3f", n, s, n / s, cpu["total"], cpu["worker"], cpu["helper"]
			printf " wal_m=%.3f io_m=%.3f ended_m=%.3f", cpu["walwriter"], cpu["checkpointer"] + cpu["bgwriter"] + cpu["autovacuum"], cpu["ended"] }')
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
