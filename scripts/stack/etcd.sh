#!/usr/bin/env bash
# Starts one etcd on ETCD_PORT and ETCD_PEER_PORT.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

folder=$STACK_DIR/etcd
client=http://127.0.0.1:$ETCD_PORT
peer=http://127.0.0.1:$ETCD_PEER_PORT
mkdir -p "$folder/data"
chmod 700 "$folder/data"
free etcd "$ETCD_PORT" ETCD_PORT
free etcd "$ETCD_PEER_PORT" ETCD_PEER_PORT
start etcd etcd --name stack --data-dir "$folder/data" \
	--listen-client-urls "$client" --advertise-client-urls "$client" \
	--listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "stack=$peer"

healthy() { curl --silent --max-time 2 --noproxy '*' "$client/health" | grep '"true"' >/dev/null; }
await etcd healthy
echo "etcd is up on 127.0.0.1:$ETCD_PORT"
