#!/usr/bin/env bash
# Stops servers that up.sh started.
#
#   scripts/stack/down.sh [redis] [hbase] [kafka] [etcd]     all of them by default
#
# Data and logs stay; with WIPE=1 they go too. GRACEFUL=1 lets each server end
# by itself instead of killing it, which takes HBase about half a minute.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

(($#)) || set -- "${stack_services[@]}"
check_services "$@"

pids=()
for service; do
	(
		stop "$service" "${GRACEFUL:-}"
		if [[ -n ${WIPE:-} ]]; then rm -rf "${STACK_DIR:?}/$service"; fi
	) &
	pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid"; done
write_env
