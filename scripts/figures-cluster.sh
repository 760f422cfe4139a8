#!/usr/bin/env bash
# Measures what docs/performance.md reports of gateways and talk nodes, on servers
# and nodes of its own in a folder that it removes. Arguments name what to measure,
# all of it when there are none:
#
#   split  a gateway and a talk node against one process that does all, at RATE
#          messages a second (1000): processor time for each delivered message of
#          all Tegami processes, and the latencies of both
#   move   the slowest acks while shards change between two talk nodes
#
# The machine should do nothing else. Needs bin/tegami, curl and python3.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d) # results, and what outlives a cluster
export CLUSTER_DIR=$work/cluster STACK_DIR=$work/stack CLUSTER_PORT=${CLUSTER_PORT:-7800}
# What a server in use runs with, not the quick compiler and little memory of tests.
export HBASE_JAVA=${HBASE_JAVA:--XX:TieredStopAtLevel=4} HBASE_HEAP=${HBASE_HEAP:-2g}
tegami=bin/tegami rate=${RATE:-1000}
[[ $# -gt 0 ]] || set -- split move

down() { WIPE=1 scripts/cluster/down.sh >/dev/null; }
finish() {
	down || true # there may be none
	WIPE=1 scripts/stack/down.sh >/dev/null || true
	rm -rf "$work"
}
trap finish EXIT

# up NODE... starts a cluster of these nodes.
up() {
	scripts/cluster/up.sh "$@" >/dev/null
	. "$CLUSTER_DIR/cluster.env"
}

# cpu ADMIN prints the seconds that a process has had a processor.
cpu() { curl -fsS "http://$1/metrics" | sed -n 's/^process_cpu_seconds_total //p'; }

# at_gateway SCENARIO... measures the cluster. Its further processor time, of
# the talk nodes, goes to $work/others: a line when the measuring begins,
# a line when it ends.
at_gateway() {
	local admin
	"$tegami" bench "$@" --output=json --url="http://$GATEWAYS" --admin="http://$ADMINS" --admin-token="$ADMIN_TOKEN" \
		2> >(while read -r line; do
			echo "$line" >&2
			[[ $line != measuring* ]] || for admin in ${TALK_ADMINS//,/ }; do cpu "$admin"; done >"$work/others.before"
		done) >"$work/result.json"
	for admin in ${TALK_ADMINS//,/ }; do cpu "$admin"; done >"$work/others.after"
}

# print TITLE FILE [OTHERS] prints one line of a result, the processor time of
# further processes added.
print() {
	python3 - "$@" <<-'END'
		import json, sys
		title, result = sys.argv[1], json.load(open(sys.argv[2]))
		m, faults = result["messages"], result["faults"]
		cpu = m["serverCpuMicros"]
		if len(sys.argv) > 3:
		    total = [sum(map(float, open(sys.argv[3] + end).read().split())) for end in (".before", ".after")]
		    cpu += (total[1] - total[0]) * 1e6 / (m["deliveredPerSecond"] * m["seconds"])
		show = lambda l: "%.2f / %.2f / %.1f ms" % (l["p50"], l["p99"], l["max"])
		print("%s: %.0f delivered a second, %.0f µs of processor time each; ack p50 / p99 / max %s, delivery %s; faults %s" % (
		    title, m["deliveredPerSecond"], cpu, show(m["ack"]), show(m["delivery"]), faults))
	END
}

for what in "$@"; do
	echo "== $what"
	case $what in
	split)
		for ((i = 0; i < ${RUNS:-3}; i++)); do
			up gateway-1 talk-1
			# The same servers and settings, without etcd, with journal and tables apart.
			sed -e 's/cluster\./alone./; s/cluster_/alone_/; s/prefix: cluster$/prefix: alone/; s/group: cluster/group: alone/; /^cluster:/,$d' \
				"$CLUSTER_DIR/tegami.yaml" >"$work/alone.yaml"
			at_gateway rate --rate="$rate" --seed=$((i + 1))
			print "gateway and talk node" "$work/result.json" "$work/others"
			down
			scripts/stack/up.sh >/dev/null
			"$tegami" admin schema apply --config "$work/alone.yaml" >/dev/null
			"$tegami" bench rate --rate="$rate" --seed=$((i + 1)) --server-flag="--config=$work/alone.yaml" --output=json >"$work/result.json"
			print "one process" "$work/result.json"
		done
		;;
	move)
		up gateway-1 talk-1 talk-2
		at_gateway rate --rate="$rate" --users=200 --duration=60s &
		measuring=$!
		sleep 10
		for ((shard = 0; shard < 20; shard++)); do
			for node in talk-1 talk-2; do
				"$tegami" cluster move "$shard" "$node" --config "$CLUSTER_DIR/tegami.yaml" >/dev/null
				sleep 1
			done
		done
		wait $measuring
		print "while $shard shards were told to go to either node" "$work/result.json" "$work/others"
		;;
	*)
		echo "unknown: $what" >&2
		exit 2
		;;
	esac
done
