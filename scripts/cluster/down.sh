#!/usr/bin/env bash
# Stops nodes of a cluster that up.sh started: each drains, within a minute.
#
#   scripts/cluster/down.sh [NODE ...]     all of them by default, and the servers
#                                          of scripts/stack that were started for them
#
# Data and logs stay; with WIPE=1 they go too, if all is stopped.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

for node; do check_node "$node"; done

# halt NODE... stops nodes side by side.
halt() {
	local node pid pids=()
	for node; do
		stop "$node" graceful &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do wait "$pid"; done
}

if (($#)); then
	for node; do
		running "$node" || echo "$node is not up"
	done
	halt "$@"
	[[ ! -d $secrets ]] || write_env # else there is no cluster
	exit
fi

# Gateways and workers first: nobody sends while the talk nodes store what they
# have.
mapfile -t all < <(nodes)
front=() talk=()
for node in "${all[@]}"; do
	if [[ $node == talk-* ]]; then talk+=("$node"); else front+=("$node"); fi
done
halt "${front[@]}"
halt "${talk[@]}"
if [[ -f $CLUSTER_DIR/servers ]]; then
	mapfile -t servers < <(sort -u "$CLUSTER_DIR/servers")
	"$cluster_root/scripts/stack/down.sh" "${servers[@]}"
	rm -f "$CLUSTER_DIR/servers"
elif [[ -n ${WIPE:-} ]]; then
	echo "The servers ran before: what the cluster wrote into them stays. make stack-down WIPE=1 removes it."
fi
rm -f "$CLUSTER_DIR/cluster.env"
if [[ -n ${WIPE:-} ]]; then rm -rf "${CLUSTER_DIR:?}"; fi
