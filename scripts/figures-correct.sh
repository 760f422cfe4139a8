#!/usr/bin/env bash
# Measures what `tegami correct --repair` does to live messages: a server with some
# million operations, 200 messages a second, three times without and with it. Prints
# send to ack p50 of both, their ratio, and how long the correction took. The
# argument says what the server stands on: `data`, a folder, or `hybrid`: Kafka,
# HBase and Redis, on servers of its own in STACK_DIR, which it removes. The
# machine should do nothing else. Needs bin/tegami and python3.
set -euo pipefail
cd "$(dirname "$0")/.."
data=$(mktemp -d)
address=127.0.0.1:${PORT:-7470} admin=127.0.0.1:${ADMIN_PORT:-7471}
finish() {
	if [[ -n ${server:-} ]]; then kill "$server" && wait "$server" || true; fi
	[[ -z ${STACK_DIR:-} ]] || WIPE=1 scripts/stack/down.sh redis hbase kafka >/dev/null
	rm -rf "$data"
}
case ${1:-data} in
data) unset STACK_DIR && on=(--data "$data") ;;
hybrid)
	export STACK_DIR=${STACK_DIR:-$data/stack}
	# What a server in use runs with, not the quick compiler and little memory of tests.
	export HBASE_JAVA=${HBASE_JAVA:--XX:TieredStopAtLevel=4} HBASE_HEAP=${HBASE_HEAP:-2g}
	;;
*) echo "unknown: $1" >&2 && exit 2 ;;
esac
trap finish EXIT
if [[ ${1:-data} == hybrid ]]; then
	scripts/stack/up.sh redis hbase kafka >/dev/null
	. "$STACK_DIR/stack.env"
	cat >"$data/tegami.yaml" <<-END
		data: {dir: "$data", shards: 64}
		store: {kind: hybrid}
		kafka: {brokers: "$KAFKA_BROKERS", topic: figures, allow_one_broker: true}
		hbase: {zookeeper: "$HBASE_ZK", prefix: figures_, regions: 4}
		redis: {addresses: "$REDIS_ADDR", prefix: figures}
	END
	on=(--config "$data/tegami.yaml")
	bin/tegami admin schema apply "${on[@]}" >/dev/null
fi
bin/tegami serve "${on[@]}" --listen "$address" --admin "$admin" --set audit.rate=0 >"$data/log" 2>&1 &
server=$!
until curl -fs "http://$admin/readyz" >/dev/null; do
	kill -0 $server
	sleep 0.1
done
bench() {
	bin/tegami bench "$@" --url="http://$address" --admin="http://$admin" --admin-token="$(cat "$data/admin.token")" --output=json
}
p50() { # the first argument is the seed: each run has users of its own
	bench rate --rate=200 --users=200 --duration=40s --seed="$1" | python3 -c 'import json, sys; print(json.load(sys.stdin)["messages"]["ack"]["p50"])'
}
bench saturation --users=2000 --duration="${FILL:-60s}" >/dev/null
for run in 1 2 3; do
	without=$(p50 "${run}1")
	began=$(date +%s)
	bin/tegami correct "${on[@]}" --admin "$admin" --repair >"$data/report" &
	correction=$!
	with=$(p50 "${run}2")
	wait $correction
	python3 -c "print('p50 %s -> %s: %.2f x; correction %d s' % ($without, $with, $with / $without, $(date +%s) - $began))"
	head -n 1 "$data/report"
done
