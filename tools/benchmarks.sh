#!/bin/sh
# Prints the figures of docs/benchmarks.md, one JSON object a line. Each workload
# gets a fresh server on a fresh data directory. About six minutes.
set -eu
cd "$(dirname "$0")/.."
go build -o bin/pim ./cmd/pim
duration=${DURATION:-10s}
http=127.0.0.1:7410 tcp=127.0.0.1:7411

# with_server ARGS...: pim bench ARGS against a fresh server.
with_server() {
	data=$(mktemp -d)
	./bin/pim serve --data "$data" --listen $http --listen-tcp $tcp --log-level warn --drain-window 0s >/dev/null &
	pid=$!
	until ./bin/pim send --server http://$http --data "$data" --as bench --to bench ready >/dev/null 2>&1; do sleep 0.1; done
	./bin/pim bench "$@" --data "$data" --duration "$duration" --json || true
	kill $pid
	wait $pid || true
	rm -rf "$data"
}

for w in 1 8 32; do
	./bin/pim bench relay --users 1000 --window $w --duration "$duration" --json
	with_server direct --server tcp://$tcp --metrics http://$http/metrics --users 1000 --window $w
	with_server direct --server http://$http --users 1000 --window $w
done
with_server direct --server http://$http --users 1000 --rate 1000
with_server group --server http://$http --users 200 --group-size 200 --window 1
with_server idle --server http://$http --users 10000
with_server idle --server tcp://$tcp --metrics http://$http/metrics --users 10000
with_server sync --server http://$http --conversations 10000 --messages 1000000
