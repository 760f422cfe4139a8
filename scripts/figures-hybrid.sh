#!/usr/bin/env bash
# Measures what docs/performance.md reports of Kafka, HBase and Redis, on servers
# of its own in STACK_DIR, which it removes. Arguments name what to measure, all of
# it when there are none:
#
#   writebehind  from a full journal into both stores
#   restart      after SIGKILL, with 100,000 records that no store has
#   pages        100 readers of old operations, who pause 5 seconds and a second
#   rate         300 messages a second, three times
#   stopped      the same while HBase is stopped, three times
#
# BENCH_FLAGS are further flags of `tegami bench`.
set -euo pipefail
cd "$(dirname "$0")/.."

export STACK_DIR=${STACK_DIR:-$(mktemp -d)}
tegami=bin/tegami
# The stack starts HBase with the JVM's quick compiler alone and little memory, for
# tests. What is measured is what a server in use runs with.
export HBASE_JAVA=${HBASE_JAVA:--XX:TieredStopAtLevel=4} HBASE_HEAP=${HBASE_HEAP:-2g}
read -ra flags <<<"${BENCH_FLAGS:-}"
[[ $# -gt 0 ]] || set -- writebehind restart pages rate stopped

trap 'WIPE=1 scripts/stack/down.sh redis hbase kafka >/dev/null' EXIT
up() { scripts/stack/up.sh "$@" >/dev/null; }

# configure writes the configuration of a server with topic and tables of its
# own, and makes them.
configure() {
	up redis hbase kafka
	. "$STACK_DIR/stack.env"
	run=figures$((++runs))
	config=$STACK_DIR/$run.yaml
	cat >"$config" <<-END
		data: {shards: 64}
		store: {kind: hybrid}
		kafka: {brokers: "$KAFKA_BROKERS", topic: $run, allow_one_broker: true}
		hbase: {zookeeper: "$HBASE_ZK", prefix: ${run}_, regions: 4}
		redis: {addresses: "$REDIS_ADDR", prefix: $run}
	END
	"$tegami" admin schema apply --config "$config" >/dev/null
}
runs=0

bench() { "$tegami" bench "$@" --server-flag="--config=$config" "${flags[@]}"; }

# while_stopped runs bench, and stops HBase when the users are there.
while_stopped() {
	bench "$@" 2> >(while read -r line; do
		echo "$line" >&2
		[[ $line != "warming up" ]] || WIPE='' scripts/stack/down.sh hbase >/dev/null
	done)
}

for what in "$@"; do
	echo "== $what"
	case $what in
	writebehind)
		go test -tags stores -run '^$' -bench WriteBehindFromAFullJournal -benchtime 1x -count "${RUNS:-3}" ./actors/node
		;;
	restart)
		configure
		bench restart --records=100000 --users=2000 \
			--server-flag=--set=store.write_age=1h --server-flag=--set=store.write_records=1000000
		;;
	pages)
		for think in 5s 1s; do
			configure
			bench pages --rate=300 --think="$think" --warmup=20s # the JVM compiles meanwhile
		done
		;;
	rate | stopped)
		for ((i = 0; i < ${RUNS:-3}; i++)); do
			configure
			if [[ $what == rate ]]; then
				bench rate --rate=300 --warmup=8s
			else
				while_stopped rate --rate=300 --warmup=8s
			fi
		done
		;;
	*)
		echo "unknown: $what" >&2
		exit 2
		;;
	esac
done
