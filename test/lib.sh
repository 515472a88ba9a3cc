# test/lib.sh: what the test runner, the demo and the benchmarks share.
#
# Sourced, not run.  Everything happens in one scratch folder:
#
#	image/		a private copy of the server's programs, with links to its libraries
#				and share files; streamext is installed there.  The server's binaries
#				find their files relative to themselves, so the installed server stays
#				as it is, and no rights to write to it are needed.
#	data/		the cluster
#	socket/		its Unix socket, the only way in
#	source/		a copy of the tests, readable for the server's user
#
# A server does not run as root: as root it runs as the user postgres.

SX_TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
SX_SCRATCH=
SX_SERVER_USER=

say() { printf "%s\n" "$@"; }
die() { printf '%s\n' "$*" >&2; exit 1; }

# ------------------------------------------------------------------ packages

have_package() { dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

# Names of the given packages that are not installed.
missing_packages() {
	local p
	for p in "$@"; do
		have_package "$p" || printf '%s ' "$p"
	done
}

as_admin() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

can_install() {
	command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }
}

# Installs what is missing of the given packages.  Says what it does.  Fails when
# it cannot, and leaves it to the caller how bad that is.
install_packages() {
	local missing drop_in=
	missing=$(missing_packages "$@")
	[ -n "$missing" ] || return 0
	if ! can_install; then
		say "missing packages, and no right to install them: $missing" >&2
		return 1
	fi
	say "installing through apt: $missing"

	# A new server package makes and starts a cluster "main": not here.
	if [[ " $missing" =~ \ postgresql-[0-9]+\  ]]; then
		drop_in=/etc/postgresql-common/createcluster.d/streamext-test.conf
		say "(without the cluster \"main\" that the package would make and start)"
		as_admin mkdir -p "${drop_in%/*}"
		say 'create_main_cluster = false' | as_admin tee "$drop_in" >/dev/null
	fi
	# shellcheck disable=SC2086
	as_admin env DEBIAN_FRONTEND=noninteractive sh -c '
		apt-get -qq update &&
		apt-get -qq -y -o Dpkg::Use-Pty=0 install --no-install-recommends "$@"' apt $missing </dev/null >"$SX_SCRATCH/apt.log" 2>&1
	local rc=$?
	[ -z "$drop_in" ] || as_admin rm -f "$drop_in"
	[ $rc = 0 ] || { tail -n 15 "$SX_SCRATCH/apt.log" >&2; return 1; }
}

# Sets PG_CONFIG to a server of 15 to 18 whose headers are there, or to nothing.
find_server() {
	local c v
	for c in ${PG_CONFIG:-$(ls -d /usr/lib/postgresql/*/bin/pg_config 2>/dev/null | sort -rV) pg_config}; do
		command -v "$c" >/dev/null || continue
		v=$("$c" --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/')
		[ "$v" -ge 15 ] 2>/dev/null && [ "$v" -le 18 ] || continue
		[ -e "$("$c" --pgxs)" ] && [ -x "$("$c" --bindir)/postgres" ] || continue
		export PG_CONFIG=$c PG_MAJOR=$v
		return 0
	done
	return 1
}

# What has to be there to build and to run a server; sets PG_CONFIG and PG_MAJOR.
prepare_build() {
	if ! find_server; then
		PG_MAJOR=15
		unset PG_CONFIG
		install_packages postgresql-$PG_MAJOR postgresql-server-dev-$PG_MAJOR || return 1
		find_server || { say "no PostgreSQL 15 to 18 with its headers found" >&2; return 1; }
	fi
	command -v dpkg-query >/dev/null || return 0
	install_packages gcc g++ make libc6-dev librdkafka-dev libsimdjson-dev
}

# ------------------------------------------------------------------ scratch folder

# scratch_make NAME: a new scratch folder that the server's user can reach.
scratch_make() {
	local base
	for base in "${TMPDIR:-/tmp}" /tmp; do
		SX_SCRATCH=$(mktemp -d "$base/streamext-$1.XXXXXX") || die "no scratch folder in $base"
		chmod 755 "$SX_SCRATCH"
		# The name of a Unix socket holds 107 bytes, and others must get there.
		if [ ${#SX_SCRATCH} -lt 80 ] && { [ "$(id -u)" != 0 ] || setpriv --reuid=65534 --clear-groups test -x "$SX_SCRATCH"; }; then
			return 0
		fi
		rmdir "$SX_SCRATCH"
	done
	die "no scratch folder that another user can reach: set TMPDIR"
}

# Runs a command as the user that the server runs as.
as_server() {
	if [ -n "$SX_SERVER_USER" ]; then
		(cd "$SX_SCRATCH" && exec runuser -u "$SX_SERVER_USER" -- "$@")
	else
		"$@"
	fi
}

server_user() {
	[ "$(id -u)" = 0 ] || return 0
	id postgres >/dev/null 2>&1 || die "run as root, but there is no user postgres that the server could run as"
	SX_SERVER_USER=postgres
}

own_by_server() {
	[ -z "$SX_SERVER_USER" ] || chown -R "$SX_SERVER_USER" "$@"
}

# ------------------------------------------------------------------ build and image

# link_all FROM TO: links to everything in FROM, what is streamext's excepted.
link_all() {
	local f
	mkdir -p "$2"
	for f in "$1"/*; do
		case ${f##*/} in streamext*|bitcode|pgxs|extension) continue ;; esac
		ln -s "$f" "$2/"
	done
}

# Makes the private server in $SX_SCRATCH/image; sets SX_BIN.
image_make() {
	local image=$SX_SCRATCH/image bin share
	bin=$("$PG_CONFIG" --bindir)
	share=$("$PG_CONFIG" --sharedir)
	mkdir -p "$image$bin"
	cp "$bin"/* "$image$bin/"
	link_all "$("$PG_CONFIG" --pkglibdir)" "$image$("$PG_CONFIG" --pkglibdir)"
	link_all "$share" "$image$share"
	link_all "$share/extension" "$image$share/extension"
	export SX_BIN=$image$bin
}

# Builds streamext and installs it into the image.
build_and_install() {
	local log=$SX_SCRATCH/build.log
	if ! make -C "$SX_TOP" --no-print-directory all bench install \
		PG_CONFIG="$PG_CONFIG" DESTDIR="$SX_SCRATCH/image" >"$log" 2>&1; then
		grep -nE '(error|warning): |\*\*\*|undefined (reference|symbol)' "$log" | head -n 20 >&2
		tail -n 5 "$log" >&2
		return 1
	fi
}

# ------------------------------------------------------------------ cluster

# The sanitizers' run-time library has to be loaded before everything else, and to
# be the first to start (asan_first.c).
sanitizer_environment() {
	local first=$SX_SCRATCH/asan_first.so
	[ -n "${SANITIZE:-}" ] || return 0
	mkdir -p "$SX_SCRATCH/sanitizer"
	own_by_server "$SX_SCRATCH/sanitizer"
	[ -e "$first" ] || gcc -shared -fPIC -Wl,-z,initfirst -o "$first" "$SX_TOP/test/asan_first.c"
	printf '%s\n' "LD_PRELOAD=$(gcc -print-file-name=libasan.so):$first" \
		"ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0:abort_on_error=1:log_path=$SX_SCRATCH/sanitizer/report" \
		"UBSAN_OPTIONS=print_stacktrace=1"
}

# cluster_start [SETTING …]: a new cluster with the library preloaded, waiting
# until it answers; sets PGHOST, PGPORT, PGUSER.
cluster_start() {
	local data=$SX_SCRATCH/data socket=$SX_SCRATCH/socket
	mkdir -p "$data" "$socket"
	chmod 700 "$data"
	own_by_server "$data" "$socket"
	as_server "$SX_BIN/initdb" -D "$data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync \
		>"$SX_SCRATCH/initdb.log" 2>&1 || { tail -n 10 "$SX_SCRATCH/initdb.log" >&2; return 1; }
	export PGHOST=$socket PGPORT=${SX_PORT:-5432} PGUSER=postgres
	{
		say "shared_preload_libraries = 'streamext'"
		say "listen_addresses = ''"
		say "unix_socket_directories = '$socket'"
		say "port = $PGPORT"
		say "max_worker_processes = 32"
		say "log_line_prefix = '%m [%p] %b %d '"
		printf '%s\n' "$@"
	} | as_server sh -c "cat >> '$data/postgresql.conf'"
	: >"$SX_SCRATCH/server.log"
	own_by_server "$SX_SCRATCH/server.log"
	# shellcheck disable=SC2046
	as_server env $(sanitizer_environment) "$SX_BIN/pg_ctl" -D "$data" -l "$SX_SCRATCH/server.log" -w -t 60 \
		start >/dev/null </dev/null || { tail -n 20 "$SX_SCRATCH/server.log" >&2; return 1; }
}

# Stops the cluster of a scratch folder, the current one by default.
cluster_stop() {
	local SX_SCRATCH=${1:-$SX_SCRATCH}
	[ -e "$SX_SCRATCH/data/postmaster.pid" ] || return 0
	as_server "$SX_BIN/pg_ctl" -D "$SX_SCRATCH/data" -m fast -w -t 60 stop >/dev/null 2>&1 ||
		as_server "$SX_BIN/pg_ctl" -D "$SX_SCRATCH/data" -m immediate -w -t 60 stop >/dev/null 2>&1
}

# One answer from a database, bare.
ask() { "$SX_BIN/psql" -XAtq -v ON_ERROR_STOP=1 "$@"; }

# poll_until SECONDS COMMAND …: until the command succeeds.
poll_until() {
	local end=$((SECONDS + $1)) pause=0.1
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep $pause
	done
}
