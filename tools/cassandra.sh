#!/bin/sh
# Runs Apache Cassandra on 127.0.0.1, .2, .3 … from the jars of Maven Central: for tests, on one machine (Linux).
#
#   cassandra.sh install          fetch the jars (once; needs Maven)
#   cassandra.sh start [N]        N nodes (3) with empty disks; returns when all of them serve CQL
#   cassandra.sh stop             kill all nodes that start began
#   cassandra.sh run [N] CMD...   install, start, CMD, stop; the exit status is CMD's
#   cassandra.sh hold [N]         install, start, print "ready", wait until standard input ends, stop; so the nodes end
#                                 with whoever holds the other end of a pipe, also if he is killed; the nodes' logs
#                                 are in CASSANDRA_DIR/logs then, until the next hold ends
#   cassandra.sh node I begin|ready|kill|term|pause|resume|log|pid
#                                 one node; begin keeps its disk, ready waits for it
#   cassandra.sh nodetool I ...   nodetool on node I
#   cassandra.sh status           pid, memory and CPU of each node
#
# Needs Java 17 and Maven. Settings, by environment:
#   CASSANDRA_DIR      where the jars are kept, from run to run (~/.cache/pim-cassandra)
#   CASSANDRA_DATA     where the nodes live: node1, node2 … (/dev/shm/pim-cassandra, so that no disk slows the
#                      tests; what a killed process had written stays there all the same)
#   CASSANDRA_NET      0 to 200: the nodes are at 127.0.NET.1, .2 … (0), with ports for JMX of their own
#   CASSANDRA_FAR      node I tells the other nodes that it is at 127.0.NET.(I+FAR), where something must pass on to
#                      127.0.NET.I what comes, at port 7000 (0: they know it by its own address)
#   CASSANDRA_VERSION  5.0.9
#   CASSANDRA_HEAP     of each node (256m; 192m is enough for light tests)
#   CASSANDRA_DCS      data centres; nodes go to them in turn (1)
#   CASSANDRA_YAML     lines to put behind the generated cassandra.yaml
#   CASSANDRA_JVM      more options for the JVM (-XX:TieredStopAtLevel=1: halves what a start costs; set it to
#                      something else, such as -XX:+UseSerialGC, to measure)
set -eu

dir=${CASSANDRA_DIR:-$HOME/.cache/pim-cassandra}
data=${CASSANDRA_DATA:-/dev/shm/pim-cassandra}
version=${CASSANDRA_VERSION:-5.0.9}
heap=${CASSANDRA_HEAP:-256m}
dcs=${CASSANDRA_DCS:-1}
net=${CASSANDRA_NET:-0}
far=${CASSANDRA_FAR:-0}
jars=$dir/jars-$version
archive=$dir/classes-$version.jsa
wait_s=120

die() { echo "cassandra.sh: $*" >&2; exit 1; }

# ---- the jars ---------------------------------------------------------------

install() {
	command -v java >/dev/null || die "Java 17 is missing: apt-get install openjdk-17-jre-headless"
	java -version 2>&1 | grep -q 'version "17[."]' ||
		die "Cassandra needs Java 17, and java is $(java -version 2>&1 | head -1): apt-get install openjdk-17-jre-headless, and put its bin first in PATH"
	if [ -f "$jars/.complete" ]; then return; fi
	command -v mvn >/dev/null || die "Maven is missing: apt-get install maven"
	exec 9>"$dir/lock"
	flock 9
	if [ -f "$jars/.complete" ]; then
		exec 9>&-
		return
	fi
	rm -rf "$jars" "$jars.part" # of an install that was interrupted: Maven takes a part of a file for the file
	cat >"$dir/pom.xml" <<-POM
		<project xmlns="http://maven.apache.org/POM/4.0.0">
		  <modelVersion>4.0.0</modelVersion>
		  <groupId>pim</groupId><artifactId>cassandra</artifactId><version>1</version><packaging>pom</packaging>
		  <dependencies>
		    <dependency>
		      <groupId>org.apache.cassandra</groupId><artifactId>cassandra-all</artifactId><version>$version</version>
		    </dependency>
		  </dependencies>
		</project>
	POM
	mvn -B -ntp -q -f "$dir/pom.xml" \
		org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
		-DincludeScope=runtime -DoutputDirectory="$jars.part" >"$dir/mvn.log" 2>&1 ||
		{ tail -20 "$dir/mvn.log" >&2; die "Maven could not fetch Cassandra from Maven Central; with a mirror, name it in ~/.m2/settings.xml, then: tools/cassandra.sh install"; }
	# An archive of the classes that a node loads, which a JVM writes at its end: it halves the time to start.
	rm -f "$archive"
	mv "$jars.part" "$jars"
	start 1
	finish 1 TERM
	rm -rf "$data"/node*
	touch "$jars/.complete"
	exec 9>&-
}

# ---- one node ---------------------------------------------------------------

# configure I N writes the files of node I of N.
configure() {
	home=$data/node$1
	mkdir -p "$home"
	# Evenly spaced tokens, so that every node knows its place without asking.
	token=$(awk -v i="$1" -v n="$2" 'BEGIN { printf "%.0f", -9223372036854775808 + (i - 0.5) * (18446744073709551616 / n) }')
	cat >"$home/cassandra.yaml" <<-YAML
		cluster_name: pim-test
		partitioner: org.apache.cassandra.dht.Murmur3Partitioner
		num_tokens: 1
		initial_token: $token
		listen_address: 127.0.$net.$1
		broadcast_address: 127.0.$net.$(($1 + far))
		rpc_address: 127.0.$net.$1
		start_native_transport: true
		storage_port: 7000
		native_transport_port: 9042
		endpoint_snitch: GossipingPropertyFileSnitch
		dynamic_snitch: false
		seed_provider:
		  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
		    parameters:
		      - seeds: "$(seq -s, -f 127.0.$net.%g $((far + 1)) $((far + $2)))"
		auto_bootstrap: false
		hinted_handoff_enabled: true
		auto_snapshot: false

		# An acknowledged write is on the disks of a quorum. Writes that arrive during an fsync share the next.
		commitlog_sync: batch
		commitlog_segment_size: 16MiB
		commitlog_total_space: 256MiB
		max_mutation_size: 8MiB

		# Lightweight transactions with fewer rounds than v1, the default.
		paxos_variant: v2

		storage_compatibility_mode: NONE
		sstable:
		  selected_format: bti
		memtable:
		  configurations:
		    default:
		      class_name: TrieMemtable
		memtable_allocation_type: offheap_objects
		memtable_heap_space: 64MiB
		memtable_offheap_space: 64MiB
		key_cache_size: 0MiB
		counter_cache_size: 0MiB
		file_cache_size: 32MiB
		networking_cache_size: 32MiB
		concurrent_reads: 16
		concurrent_writes: 32
		concurrent_counter_writes: 2
		concurrent_materialized_view_writes: 2
		concurrent_compactors: 1
		native_transport_max_threads: 64

		# Notice a dead node earlier than with the default of 8.
		phi_convict_threshold: 5
	YAML
	printf '%s\n' "${CASSANDRA_YAML:-}" >>"$home/cassandra.yaml"
	printf 'dc=dc%d\nrack=r1\n' $((($1 - 1) % dcs + 1)) >"$home/cassandra-rackdc.properties"
	cat >"$home/logback.xml" <<-XML
		<configuration>
		  <appender name="OUT" class="ch.qos.logback.core.ConsoleAppender">
		    <encoder><pattern>%d{HH:mm:ss.SSS} %-5level %logger{0} %msg%n</pattern></encoder>
		  </appender>
		  <root level="INFO"><appender-ref ref="OUT"/></root>
		</configuration>
	XML
}

# alive I: does node I run? The file of a node that was killed may name another process by now.
alive() {
	[ -f "$data/node$1/pid" ] && grep -qF "$data/node$1/cassandra.yaml" "/proc/$(cat "$data/node$1/pid")/cmdline" 2>/dev/null
}

# What Cassandra needs of Java 17: as in its own conf/jvm17-server.options.
modules="-Djdk.attach.allowAttachSelf=true -Djava.security.manager=allow
	--add-exports java.base/jdk.internal.misc=ALL-UNNAMED
	--add-exports java.management.rmi/com.sun.jmx.remote.internal.rmi=ALL-UNNAMED
	--add-exports java.rmi/sun.rmi.registry=ALL-UNNAMED
	--add-exports java.rmi/sun.rmi.server=ALL-UNNAMED
	--add-exports java.sql/java.sql=ALL-UNNAMED
	--add-exports java.base/java.lang.ref=ALL-UNNAMED
	--add-exports jdk.unsupported/sun.misc=ALL-UNNAMED
	--add-exports jdk.attach/sun.tools.attach=ALL-UNNAMED
	--add-opens java.base/java.lang.module=ALL-UNNAMED
	--add-opens java.base/jdk.internal.loader=ALL-UNNAMED
	--add-opens java.base/jdk.internal.ref=ALL-UNNAMED
	--add-opens java.base/jdk.internal.reflect=ALL-UNNAMED
	--add-opens java.base/jdk.internal.math=ALL-UNNAMED
	--add-opens java.base/jdk.internal.module=ALL-UNNAMED
	--add-opens java.base/jdk.internal.util.jar=ALL-UNNAMED
	--add-opens jdk.management/com.sun.management.internal=ALL-UNNAMED
	--add-opens java.base/sun.nio.ch=ALL-UNNAMED
	--add-opens java.base/java.io=ALL-UNNAMED
	--add-opens java.base/java.lang.reflect=ALL-UNNAMED
	--add-opens java.base/java.lang=ALL-UNNAMED
	--add-opens java.base/java.util=ALL-UNNAMED"

# begin I starts the JVM of node I, on what is on its disk. See ready.
begin() {
	home=$data/node$1
	[ -f "$home/cassandra.yaml" ] || die "node $1 was never configured"
	if alive "$1"; then die "node $1 is running"; fi
	if [ -f "$archive" ]; then cds=-XX:SharedArchiveFile=$archive; else cds=-XX:ArchiveClassesAtExit=$archive; fi
	cd "$home"
	nohup java \
		-Xms"$heap" -Xmx"$heap" -XX:+UseSerialGC -Xss256k -XX:MaxDirectMemorySize=256m -XX:-UsePerfData \
		-XX:+ExitOnOutOfMemoryError -Xshare:auto $cds -Xlog:cds=off -Xlog:cds+dynamic=off \
		$modules \
		-Dio.netty.tryReflectionSetAccessible=true \
		-Dcassandra.config="file://$home/cassandra.yaml" \
		-Dcassandra.storagedir="$home/data" \
		-Dcassandra-rackdc.properties="file://$home/cassandra-rackdc.properties" \
		-Dcassandra.logdir="$home" \
		-Dlogback.configurationFile="file://$home/logback.xml" \
		-Dcassandra-foreground=yes \
		-Dcassandra.jmx.local.port="$(jmx "$1")" \
		-Dcassandra.ring_delay_ms=5000 \
		-Dcassandra.skip_wait_for_gossip_to_settle=0 \
		-Dcassandra.consistent.rangemovement=false \
		-Dcassandra.superuser_setup_delay_ms=0 \
		-Dcassandra.available_processors=2 \
		${CASSANDRA_JVM:--XX:TieredStopAtLevel=1} \
		-cp "$jars/*" org.apache.cassandra.service.CassandraDaemon >>"$home/log" 2>&1 </dev/null 9>&- &
	echo $! >"$home/pid"
	cd - >/dev/null
	until alive "$1" || ! kill -0 $! 2>/dev/null; do sleep 0.05; done # for a moment it is this shell
}

# ready I waits until node I serves CQL.
ready() {
	tries=0
	until listens "$1"; do
		alive "$1" || { tail -40 "$data/node$1/log" >&2; die "node $1 died"; }
		tries=$((tries + 1))
		[ $tries -lt $((wait_s * 5)) ] || { tail -40 "$data/node$1/log" >&2; die "node $1 is not ready after $wait_s s"; }
		sleep 0.2
	done
}

# listens I: does anything listen at port 9042 of node I?
listens() {
	hex=$(printf '%02X%02X007F:2352' "$1" "$net")
	grep -qi "^ *[0-9]*: $hex 00000000:0000 0A" /proc/net/tcp || grep -qi "0000000000000000FFFF0000$hex .* 0A" /proc/net/tcp6
}

# jmx I prints the port for JMX of node I.
jmx() { if [ "$net" = 0 ]; then echo $((7199 + $1)); else echo $((10000 + net * 8 + $1)); fi; }

# finish I SIGNAL ends node I and waits for its end.
finish() {
	alive "$1" || return 0
	pid=$(cat "$data/node$1/pid")
	kill -"$2" "$pid"
	while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
	rm -f "$data/node$1/pid"
}

# ---- all nodes --------------------------------------------------------------

nodes() { for f in "$data"/node*/cassandra.yaml; do [ -f "$f" ] && basename "$(dirname "$f")" | tr -dc 0-9 && echo; done; }

start() {
	[ -d "$jars" ] || die "run install first"
	stop
	rm -rf "$data"/node*
	for i in $(seq "$1"); do configure "$i" "$1"; done
	# All at once, and each of them a seed: so none waits for another.
	for i in $(seq "$1"); do begin "$i"; done
	for i in $(seq "$1"); do ready "$i"; done
}

# keep_logs copies the nodes' logs to where they stay.
keep_logs() {
	mkdir -p "$dir/logs"
	for i in $(nodes); do cp "$data/node$i/log" "$dir/logs/node$i.log" 2>/dev/null || true; done
}

stop() { for i in $(nodes); do finish "$i" KILL; done; }

status() {
	for i in $(nodes); do
		if alive "$i"; then
			pid=$(cat "$data/node$i/pid")
			echo "node $i: pid $pid, $(awk '/VmRSS/ {print int($2 / 1024)}' "/proc/$pid/status") MiB, CPU $(ps -o cputimes= -p "$pid" | tr -d ' ') s"
		else
			echo "node $i: down"
		fi
	done
}

node() {
	case $2 in
	begin) begin "$1" ;;
	ready) ready "$1" ;;
	kill) finish "$1" KILL ;;
	term) finish "$1" TERM ;;
	pause) kill -STOP "$(cat "$data/node$1/pid")" ;;
	resume) kill -CONT "$(cat "$data/node$1/pid")" ;;
	log) cat "$data/node$1/log" ;;
	pid) cat "$data/node$1/pid" ;;
	*) die "what is $2?" ;;
	esac
}

mkdir -p "$dir" "$data"
cmd=${1:-}
[ $# -eq 0 ] || shift
case $cmd in
install) install ;;
start) start "${1:-3}" ;;
stop) stop ;;
status) status ;;
node) node "$@" ;;
nodetool)
	i=$1
	shift
	java -cp "$jars/*" $modules -XX:TieredStopAtLevel=1 -Dcassandra.storagedir="$data" -Duser.home="$data" \
		-Dlogback.configurationFile="file://$data/node$i/logback.xml" org.apache.cassandra.tools.NodeTool -p "$(jmx "$i")" "$@"
	;;
hold)
	trap 'stop; keep_logs; rm -rf "$data"/node*; rmdir "$data"' EXIT
	trap 'exit 1' INT TERM
	trap '' PIPE # who waits for "ready" may be gone
	install
	start "${1:-3}"
	echo ready || true
	cat >/dev/null
	;;
run)
	n=3
	case $1 in [1-9]) n=$1; shift ;; esac
	install
	trap stop EXIT INT TERM
	start "$n"
	"$@"
	;;
*) sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
