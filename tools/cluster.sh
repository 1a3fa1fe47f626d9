#!/bin/sh
# Starts a cluster on this machine from nothing, to try it out: three nodes of Cassandra and three of pim. Prints two
# lines to chat over two of the nodes. Ctrl-C ends all of it, and its data is gone.
#
#   cluster.sh          start, and wait for Ctrl-C
#   cluster.sh CMD...   start, CMD, end; the exit status is CMD's. CMD has PIM_DATA, where the keys are, PIM_SERVERS, the
#                       nodes' URLs, and PIM_NODES, the nodes' process IDs
#
# Needs what tools/cassandra.sh needs: Linux, Java 17, and once Maven. Settings, by environment:
#   NODES       of pim and of Cassandra each, 1 to 5 (3)
#   PORT        node I of pim has the ports PORT+10*I to PORT+10*I+2 of 127.0.0.1 (7400)
#   DCS         data centres of Cassandra, in which there is one copy each, 3 or 5; 1: three copies in one (1)
#   CASSANDRA_* see tools/cassandra.sh; CASSANDRA_NET is 40 here, CASSANDRA_DATA a folder of its own
set -eu
cd "$(dirname "$0")/.."
nodes=${NODES:-3} port=${PORT:-7400} dcs=${DCS:-1} pim=$PWD/bin/pim
export CASSANDRA_NET="${CASSANDRA_NET:-40}" CASSANDRA_DCS="$dcs"
export CASSANDRA_DATA="${CASSANDRA_DATA:-/dev/shm/pim-cluster-$CASSANDRA_NET}"
die() { echo "cluster.sh: $*" >&2; exit 1; }
mkdir -p "$CASSANDRA_DATA"
exec 9>"$CASSANDRA_DATA/lock"
flock -n 9 || die "another cluster runs here; give this one a CASSANDRA_NET and a PORT of its own"
dir=$(mktemp -d "${TMPDIR:-/tmp}/pim-cluster.XXXXXX")
pids='' cassandra=''

end() {
	status=$?
	trap - EXIT
	trap '' INT TERM HUP
	for pid in $pids; do kill "$pid" 2>/dev/null || true; done
	for pid in $pids; do wait "$pid" || true; done
	exec 8>&- # until now cassandra.sh held its nodes
	if [ -n "$cassandra" ]; then wait "$cassandra" || true; fi
	rm -rf "$dir" "$CASSANDRA_DATA"
	exit $status
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

[ -x "$pim" ] || die "build pim first: make build"
echo "Starting $nodes nodes of Cassandra. That takes half a minute; the first time on a machine it takes minutes."
mkfifo "$dir/hold" "$dir/said"
setsid tools/cassandra.sh hold "$nodes" <"$dir/hold" >"$dir/said" 9>&- & # in a session of its own: a Ctrl-C is for this script
cassandra=$!
exec 8>"$dir/hold" 7<"$dir/said"
read -r said <&7 || die "Cassandra does not start"
[ "$said" = ready ] || die "Cassandra says: $said"

# all FORMAT: what printf FORMAT prints for each node's number, with commas between.
all() {
	list='' i=1
	while [ $i -le "$nodes" ]; do
		# shellcheck disable=SC2059 # a format it is
		list=$list${list:+,}$(printf "$1" "$i")
		i=$((i + 1))
	done
	echo "$list"
}
store=cql://$(all "127.0.$CASSANDRA_NET.%d")/pim
if [ "$dcs" != 1 ]; then
	replication=$(nodes=$dcs; all 'dc%d:1')
elif [ "$nodes" -ge 3 ]; then
	replication=dc1:3
else
	replication=1 # one copy: with fewer than three nodes none may fail
fi
"$pim" cluster init --store "$store" --replication "$replication"
od -An -N16 -tx1 /dev/urandom | tr -d ' \n' >"$dir/token"; chmod 600 "$dir/token"

# serve I: node I of pim, until it is ready.
serve() {
	at=$((port + 10 * $1)) join='' i=1
	while [ $i -le "$nodes" ]; do
		if [ $i != "$1" ]; then join=$join${join:+,}127.0.0.1:$((port + 10 * i + 2)); fi
		i=$((i + 1))
	done
	"$pim" serve --store "$store" --data "$dir/node$1" --keys "$2" --node "node$1" \
		--listen 127.0.0.1:$at --listen-tcp 127.0.0.1:$((at + 1)) \
		--cluster-listen 127.0.0.1:$((at + 2)) --join "$join" --cluster-token-file "$dir/token" \
		--log-level warn --drain-window 1s >"$dir/out$1" 7<&- 8>&- 9>&- &
	pids="$pids $!"
	until [ -s "$dir/out$1" ]; do
		kill -0 $! || die "node $1 of pim does not start"
		sleep 0.1
	done
}
i=1 keys=
while [ $i -le "$nodes" ]; do
	serve_i=$i
	serve "$i" "$keys" # node 1 makes the keys
	keys=$dir/node1/keys.json i=$((serve_i + 1))
done

PIM_DATA=$dir/node1 PIM_NODES=$pids
PIM_SERVERS=$(i=1; while [ $i -le "$nodes" ]; do echo "http://127.0.0.1:$((port + 10 * i))"; i=$((i + 1)); done)
export PIM_DATA PIM_NODES PIM_SERVERS
if [ $# -gt 0 ]; then
	"$@" 7<&- 8>&- 9>&-
	exit
fi
cat <<END

$nodes of each are there. To chat over two of the nodes, paste each of these lines into a terminal of its own:
  $pim chat --server http://127.0.0.1:$((port + 10)) --data $dir/node1 --as alice --to bob
  $pim chat --server http://127.0.0.1:$((port + 10 * nodes)) --data $dir/node1 --as bob --to alice

The nodes of pim are the processes$pids: kill -9 one, and chat on. Ctrl-C ends all of it.
END
wait
