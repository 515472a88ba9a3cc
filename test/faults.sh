# test/faults.sh: the suite of injected faults, at full size, and the table of its figures.
#
# Sourced by test/run.  It runs every test in test/t that has a line "# faults: E1 E9", one
# after the other, as they measure times.  Each test appends what it found to the file
# SX_FAULT_TABLE (test/t/SxFault.pm): fields row, what, tried, lost, duplicated, time to
# recover, note, separated by tabs.
#
#	ROWS='E1 B2'		only tests of these rows of the plan
#	SX_SEED=N		the seed of the tests; the clock's by default, and printed
#	FAULTS_MARKDOWN=FILE	writes the table there as well, for docs/reliability.md

FAULT_TABLE=		# of the run, when there was one

# fault_header NAME: the rows that a test covers, or nothing.
fault_header() { sed -n 's/^# faults: *//p' "$SX_TOP/test/t/$1.pl" | head -n 1; }

# Names of the tests to run, in the order of their numbers.
fault_files() {
	local name header row
	for name in $(test_files t pl); do
		header=$(fault_header "$name")
		[ -n "$header" ] || continue
		for row in ${ROWS:-$header}; do
			case " $header " in *" $row "*) say "$name"; break ;; esac
		done
	done
}

# Rows that were asked for and that no test has: a misspelt name must not pass as tried.
fault_unknown_rows() {
	local row name all=
	for name in $(test_files t pl); do all="$all $(fault_header "$name")"; done
	for row in ${ROWS:-}; do
		case "$all " in *" $row "*) ;; *) say "$row" ;; esac
	done
}

faults_want_kafka() { fault_files | grep -q kafka; }

# fault_missing NAME REASON: a line for each row of a test that reported no figures.
fault_missing() {
	local row
	for row in $(fault_header "$1"); do
		[ -z "${ROWS:-}" ] || case " $ROWS " in *" $row "*) ;; *) continue ;; esac
		cut -f1 "$FAULT_TABLE" | grep -qx "$row" ||
			printf '%s\t%s\t\t\t\t\t%s\n' "$row" "$1" "$2" >>"$FAULT_TABLE"
	done
}

# fault_mark_failed FIRST: lines from that one on are of a test that failed.
fault_mark_failed() {
	local failed
	read -r _ failed _ < <(tail -n 1 "$SX_SCRATCH/counts")
	[ "$failed" = 0 ] || sed -i "$1,\$ s/[^\t]*\$/FAILED &/" "$FAULT_TABLE"
}

# Before the suite, in the shell of the run: what outlives the suite.
faults_prepare() {
	FAULT_TABLE=$SX_SCRATCH/faults.tsv
	: >"$FAULT_TABLE"
	own_by_server "$FAULT_TABLE"
	export SX_FULL=1 SX_FAULT_TABLE=$FAULT_TABLE SX_SEED=${SX_SEED:-$(($(date +%s) % 1000000))}
	TEST_TIMEOUT=${FAULT_TIMEOUT:-3600}
	# a machine that is busy with other things is slow, not wrong
	export PG_TEST_TIMEOUT_DEFAULT=${PG_TEST_TIMEOUT_DEFAULT:-600}
	if faults_want_kafka; then kafka_up; fi
}

suite_faults() {
	local name row start first
	tap_prepare || { skip faults "libipc-run-perl is not installed"; return 0; }
	say "seed $SX_SEED"
	for row in $(fault_unknown_rows); do fail "no test has the row $row"; done
	for name in $(fault_files); do
		start=$SECONDS first=$(($(wc -l <"$FAULT_TABLE") + 1))
		case $name in *kafka*)
			if [ -z "$KAFKA_PORT" ]; then
				skip "$name" "$KAFKA_REASON"
				fault_missing "$name" "not tried: no Kafka"
				continue
			fi ;;
		esac
		tap_run "$name"
		say "        rows $(fault_header "$name"), $((SECONDS - start)) s"
		grep -aE '^# .* \| ' "$SX_SCRATCH/tap_$name.log" | sed 's/^#/       /'
		fault_missing "$name" "no figures"
		fault_mark_failed "$first"
	done
}

# The table, for people; sorted by row.
fault_table() {
	[ -s "$FAULT_TABLE" ] || return 0
	say "" "== what was tried, and what became of it (seed $SX_SEED)"
	fault_lines | awk -F'\t' '
		{ for (i = 1; i <= 7; i++) { cell[NR, i] = $i; if (length($i) > width[i]) width[i] = length($i) } }
		END {
			for (line = 1; line <= NR; line++) {
				text = ""
				for (i = 1; i < 7; i++)
					text = text sprintf((i >= 3 && i <= 5 ? "%" : "%-") width[i] "s  ", cell[line, i])
				print text cell[line, 7]
			}
		}'
}

fault_lines() {
	printf 'row\twhat\ttried\tlost\tduplicated\ttime to recover\tnote\n'
	sort -t "$(printf '\t')" -k1,1V -k2,2 "$FAULT_TABLE"
}

# The same as Markdown, with what the figures stand on.
fault_markdown() {
	say "PostgreSQL $("$PG_CONFIG" --version | sed 's/^PostgreSQL \([^ ]*\).*/\1/'), $(nproc) cores, seed $SX_SEED, commit $(git -C "$SX_TOP" rev-parse --short HEAD 2>/dev/null)." ""
	fault_lines | awk -F'\t' '
		{ gsub(/\|/, "\\|"); line = "|"; for (i = 1; i <= 7; i++) line = line " " $i " |"; print line }
		NR == 1 { print "|---|---|---:|---:|---:|---|---|" }'
}

# At the end of the run, whatever became of it.
faults_report() {
	[ -n "$FAULT_TABLE" ] || return 0
	fault_table
	[ -z "${FAULTS_MARKDOWN:-}" ] || fault_markdown >"$FAULTS_MARKDOWN"
}
