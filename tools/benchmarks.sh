#!/bin/sh
# Prints the figures of docs/benchmarks.md, one JSON object a line:
#
#	tools/benchmarks.sh [NAME...]
#
# Without a name: all workloads but sustained, sustained-conversations and idle-curve,
# which take long. With PIM_BEFORE=/path/to/an/older/pim, each workload runs against a
# server of that program and against this one, in turn; "binary" says which. The
# generator is this one's for both.
#
# DURATION (10s) is the measured time of most workloads. SUSTAINED (30m) is that of
# sustained and sustained-conversations, SUSTAINED_SLICE (1m) the length of its slices. REST (0) is for how many
# seconds nothing happens before the restarts of cold. ROUNDS (1) says how often all of it is repeated. The servers listen on PORT (7410) and the one after it. Every
# run has a fresh data directory under TMPDIR. A run that fails says why on standard
# error; the others go on, and the exit status is 1 in the end.
set -eu
usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; echo "The names: $all $long"; }

all="relay two-way two-way-ws one-way rate group group-one full conversations cold warm sync idle"
long="sustained sustained-conversations idle-curve"
case ${1:-} in -h | --help) usage; exit 0 ;; esac
for name in ${*:-$all}; do
	case " $all $long " in
	*" $name "*) ;;
	*) echo "there is no workload $name: $all $long" >&2; exit 2 ;;
	esac
done
case ${PIM_BEFORE:-} in "" | /*) ;; *) PIM_BEFORE=$PWD/$PIM_BEFORE ;; esac
if [ -n "${PIM_BEFORE:-}" ] && ! "$PIM_BEFORE" version >/dev/null; then
	echo "PIM_BEFORE=$PIM_BEFORE is no pim" >&2
	exit 2
fi
cd "$(dirname "$0")/.."
go build -o bin/pim ./cmd/pim
pim=$PWD/bin/pim
duration=${DURATION:-10s}
http=127.0.0.1:${PORT:-7410} tcp=127.0.0.1:$((${PORT:-7410} + 1))
data= pid= failed=0
trap 'stop' EXIT
trap 'exit 1' INT TERM

# start: the server $server on $data, until it takes messages.
start() {
	PIM_DEVICE_LOGINS=0 PIM_USER_LOGINS=0 PIM_CONNECTION_FRAMES=0 PIM_CONNECTION_BYTES=0 PIM_USER_STRANGERS=0 PIM_USER_MEMBERS=0 PIM_USER_BYTES=0 PIM_SHED_TARGET=0s PIM_CONSENT=false "$server" serve --data "$data" --listen $http --listen-tcp $tcp --log-level error --drain-window 0s >/dev/null &
	pid=$!
	until "$server" send --server http://$http --data "$data" --as bench --to bench ready >/dev/null 2>&1; do
		kill -0 $pid # it has not ended
		sleep 0.1
	done
}

# fresh: a server with nothing in its data directory.
fresh() {
	data=$(mktemp -d)
	start
}

# end: the server ends in good order. Its data stays.
end() {
	kill $pid
	wait $pid || true
	pid=
}

# stop: nothing is left of the server.
stop() {
	test -z "$pid" || end
	test -z "$data" || rm -rf "$data"
	data=
}

# show ARGS...: a line of JSON of pim bench ARGS. One that fails has said why.
show() {
	line=$("$pim" bench "$@" --json) || failed=1
	test -z "$line" || echo "$line" | sed "s/^{/{\"name\":\"$name\",\"binary\":\"$binary\",/"
}

# measure ARGS...: the same against the server over TCP.
measure() { show "$@" --server tcp://$tcp --metrics http://$http/metrics --data "$data"; }

# measure_ws ARGS...: the same over WebSocket.
measure_ws() { show "$@" --server http://$http --data "$data"; }

# alone ARGS...: measure, against a fresh server.
alone() { fresh; measure "$@"; stop; }

# The workloads. Each is a function of its name, with _ for -.

relay() { for w in 1 8 32; do show relay --users 1000 --window $w --duration "$duration"; done; }

two_way() { for w in 1 8 32; do alone direct --users 1000 --window $w --duration "$duration"; done; }

two_way_ws() { for w in 1 8 32; do fresh; measure_ws direct --users 1000 --window $w --duration "$duration"; stop; done; }

one_way() { for w in 1 8 32; do alone direct --one-way --users 1000 --window $w --duration "$duration"; done; }

rate() {
	alone direct --one-way --users 1000 --rate 1000 --duration "$duration"
	alone direct --users 1000 --rate 1000 --duration "$duration"
}

group() { alone group --users 200 --window 1 --duration "$duration"; }

group_one() { alone group --users 200 --senders 1 --window 8 --duration "$duration"; }

# More than the server takes: 300 pairs, and three groups of 200 in which all send.
full() {
	for w in 1 32 200; do alone direct --users 600 --window $w --duration "$duration"; done
	for w in 1 32; do alone group --users 600 --window $w --duration "$duration"; done
}

# 100,000 active conversations: each of 2,000 users talks with 100 others in turn.
# The warm-up goes through all of them once.
conversations() {
	alone direct --users 2000 --conversations 100000 --window 1 --duration "$duration" --warmup 10s
	alone direct --users 2000 --conversations 100000 --rate 5000 --duration "$duration" --warmup 25s
}

# The first message into each conversation after a restart in good order, and after SIGKILL, into short ones and long
# ones. REST seconds after the traffic; 10 or more leave the long ones at rest.
cold() {
	cold_after end
	cold_after killed
}

# killed: the server is killed. Its data stays.
killed() {
	kill -9 $pid
	wait $pid 2>/dev/null || true
	pid=
}

# cold_after HOW: the same, where the server ends by HOW.
cold_after() {
	fresh
	"$pim" bench fill --server http://$http --data "$data" --conversations 2000 --messages 20000 --seed 1 >/dev/null
	"$pim" bench fill --server http://$http --data "$data" --conversations 2000 --messages 4000000 --seed 2 >/dev/null
	sleep "${REST:-0}"
	$1
	start
	sleep 5 # what the store has to do after a start
	name="cold, $1, 10 messages each"
	measure cold --conversations 2000 --rate 200 --seed 1
	name="cold, $1, 2,000 messages each"
	measure cold --conversations 2000 --rate 200 --seed 2
	stop
}

# A store that holds five million entries already.
warm() {
	fresh
	measure fill --users 1000 --conversations 50000 --messages 5000000 --slice 10s
	sleep 5 # compactions
	measure direct --users 1000 --window 8 --duration "$duration"
	measure direct --one-way --users 1000 --window 8 --duration "$duration"
	measure direct --one-way --users 1000 --rate 1000 --duration "$duration"
	stop
}

# One new message in each conversation, and with nothing new, for one device and for 16 that ask at a time; then a long
# list.
sync() {
	for n in 100 1000 10000; do fresh; measure_ws sync --conversations $n --messages $n --syncs 100000 --duration "$duration"; stop; done
	for n in 100 1000 10000; do fresh; measure_ws sync --conversations $n --messages $n --syncs 100000 --devices 16 --duration "$duration"; stop; done
	fresh
	measure_ws sync --conversations 10000 --messages 1000000 --duration "$duration"
	stop
}

idle() {
	name="idle, WebSocket"
	fresh; measure_ws idle --users 10000 --duration "$duration"; stop
	name="idle, TCP"
	alone idle --users 10000 --duration "$duration"
}

idle_curve() { alone idle --users 10000 --duration 10m; }

# Half an hour at the highest rate that the machine holds. In the first minute the
# store's levels come into being, and what they cost; the warm-up is that minute.
sustained() { slices direct --users 600 --window 200 --warmup 1m; }

# Half an hour of 100,000 active conversations. The warm-up goes through all of them.
sustained_conversations() { slices direct --users 2000 --conversations 100000 --window 1 --warmup 10s; }

# slices ARGS...: alone, for long, in slices.
slices() { alone "$@" --duration "${SUSTAINED:-30m}" --slice "${SUSTAINED_SLICE:-1m}"; }

for _ in $(seq "${ROUNDS:-1}"); do
	for name in ${*:-$all}; do
		function=$(echo "$name" | tr - _)
		workload=$name
		if [ -n "${PIM_BEFORE:-}" ] && [ "$workload" != relay ]; then
			server=$PIM_BEFORE binary=before
			$function
		fi
		server=$pim binary=after name=$workload
		$function
	done
done
exit $failed
