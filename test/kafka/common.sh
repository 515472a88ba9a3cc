# common.sh: what up, down and topic share; sourced by them.
#
# The jars of Apache Kafka come from Maven once and stay in a cache folder, so
# that a second run needs no network.

kafka_version=4.3.1
kafka_cache="${STREAMEXT_CACHE:-${HOME:-/tmp}/.cache/streamext}/kafka-$kafka_version"

die() {
	echo "$(basename "$0"): $*" >&2
	exit 1
}

# Fills the cache; prints nothing.  Exit code 3 of the scripts means "Kafka can't
# be had here", which tests take as a reason to skip.
kafka_jars() {
	[ -e "$kafka_cache/complete" ] && return
	command -v java >/dev/null || { echo "no java" >&2; exit 3; }
	command -v mvn >/dev/null || { echo "no mvn" >&2; exit 3; }
	local build
	build=$(mktemp -d)
	cat >"$build/pom.xml" <<-POM
	<project xmlns="http://maven.apache.org/POM/4.0.0">
	  <modelVersion>4.0.0</modelVersion>
	  <groupId>streamext.test</groupId>
	  <artifactId>kafka</artifactId>
	  <version>1</version>
	  <dependencies>
	    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$kafka_version</version></dependency>
	    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$kafka_version</version></dependency>
	    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
	  </dependencies>
	</project>
	POM
	mkdir -p "$kafka_cache"
	if ! mvn -B -q -f "$build/pom.xml" dependency:copy-dependencies \
		-DincludeScope=runtime -DoutputDirectory="$kafka_cache" >"$build/log" 2>&1; then
		tail -n 5 "$build/log" >&2
		rm -rf "$build"
		exit 3
	fi
	rm -rf "$build"
	touch "$kafka_cache/complete"
}

kafka_java() {
	local heap=$1
	shift
	java "-Xmx$heap" -XX:+UseSerialGC -cp "$kafka_cache/*" \
		-Dorg.slf4j.simpleLogger.defaultLogLevel=warn "$@"
}
