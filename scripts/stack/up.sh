#!/usr/bin/env bash
# Starts servers as local processes, and returns when they are ready.
#
#   scripts/stack/up.sh [redis] [hbase] [kafka] [etcd]     all of them by default
#
# What runs already is left alone. lib.sh lists the variables: STACK_DIR, the
# ports, and those of each server in its own script.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

(($#)) || set -- "${stack_services[@]}"
check_services "$@"

# One stack at a time installs and fetches, one server's jars after another's.
# The lock must not be inherited by a server.
mkdir -p "$STACK_CACHE"
(
	if command -v flock >/dev/null; then flock 9; fi
	"$stack_root/scripts/requirements.sh" "$@" 9>&-
	for service; do
		case $service in hbase | kafka) jars "$service" >/dev/null 9>&- ;; esac
	done
) 9>"$STACK_CACHE/lock"

started=() pids=()
for service; do
	if running "$service"; then
		echo "$service is up already"
		continue
	fi
	mkdir -p "$STACK_DIR/$service"
	"$stack_scripts/$service.sh" &
	started+=("$service") pids+=($!)
done
failed=()
for i in "${!pids[@]}"; do
	wait "${pids[i]}" || failed+=("${started[i]}")
done
write_env
if ((${#failed[@]})); then
	# What did not become ready is not left behind half alive.
	for service in "${failed[@]}"; do stop "$service" >/dev/null; done
	write_env
	fail "not ready: ${failed[*]}"
fi

if [[ -n ${STACK_OWNER:-} && ${#started[@]} -gt 0 ]]; then
	follow_owner "$STACK_OWNER" "$STACK_DIR" "$stack_scripts/down.sh" "${started[@]}"
fi
