#!/usr/bin/env bash
# Starts a cluster of local processes, with the servers of scripts/stack behind
# it, and returns when every node is ready.
#
#   scripts/cluster/up.sh [NODE ...]     the nodes of CLUSTER_NODES by default
#
# What runs already is left alone. lib.sh lists the variables. On a terminal it
# then shows a line with the state of every node, again and again, until Enter is
# pressed; the cluster goes on.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

read -ra wanted <<<"$CLUSTER_NODES"
(($# == 0)) || wanted=("$@")
for node in "${wanted[@]}"; do check_node "$node"; done
for node in "${wanted[@]}"; do running "$node" || free_ports "$node"; done
[[ -x $CLUSTER_BINARY ]] || fail "there is no $CLUSTER_BINARY: make build"

# Whatever is started here goes with the cluster; what ran before stays.
for service in redis hbase kafka etcd; do
	processes=$STACK_DIR running "$service" || echo "$service" >>"$CLUSTER_DIR/servers"
done
"$cluster_root/scripts/stack/up.sh"
write_secrets
write_config
tegami admin schema apply >"$CLUSTER_DIR/schema.log" 2>&1 || {
	cat "$CLUSTER_DIR/schema.log" >&2
	fail "topics and tables are not as they should be"
}

started=()
for node in "${wanted[@]}"; do
	if running "$node"; then
		echo "$node is up already"
		continue
	fi
	start_node "$node"
	started+=("$node")
done
write_env
# show puts the state of every node into the last line of a terminal.
show() { [[ ! -t 1 ]] || printf '\r\033[K%s' "$(status_line)"; }
for node in "${started[@]}"; do
	end=$((SECONDS + CLUSTER_WAIT))
	until ready "$node" >/dev/null; do
		show
		running "$node" || {
			tail -n 20 "$CLUSTER_DIR/$node/log" >&2
			fail "$node died while it started; its log is $CLUSTER_DIR/$node/log"
		}
		((SECONDS < end)) || fail "$node was not ready after $CLUSTER_WAIT s (CLUSTER_WAIT); its log is $CLUSTER_DIR/$node/log"
		sleep 0.2
	done
	[[ ! -t 1 ]] || printf '\r\033[K'
	echo "$node is up, for operators on 127.0.0.1:$(port "$node" admin)"
done

if [[ -n ${CLUSTER_OWNER:-} && ${#started[@]} -gt 0 ]]; then
	follow_owner "$CLUSTER_OWNER" "$CLUSTER_DIR" "$cluster_scripts/down.sh"
fi

# shellcheck source=/dev/null
. "$CLUSTER_DIR/cluster.env"
program=${CLUSTER_BINARY#"$cluster_root/"}
cat <<END

Clients connect to ${GATEWAYS//,/ and }. All addresses are in ${CLUSTER_DIR#"$cluster_root/"}/cluster.env.

  $program cluster status --watch --config ${config#"$cluster_root/"}
  $program register alice --server http://${GATEWAYS%%,*}
  make node-down NODE=talk-2
  make node-up NODE=talk-2
  make cluster-down

END
if [[ -t 0 && -t 1 ]]; then
	echo "Enter leaves this; the cluster goes on."
	while show; do
		code=0
		read -rst 1 || code=$?
		((code > 128)) || break # no more time passed: Enter, or the terminal is gone
	done
	printf '\r\033[K'
fi
