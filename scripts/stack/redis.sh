#!/usr/bin/env bash
# Starts Redis on REDIS_PORT. REDIS_ARGS are further options of redis-server.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

folder=$STACK_DIR/redis
mkdir -p "$folder/data"
free redis "$REDIS_PORT" REDIS_PORT
read -ra more <<<"${REDIS_ARGS:-}"
# Never evict: a full Redis is an error that is seen, not data that is gone.
start redis redis-server --bind 127.0.0.1 --port "$REDIS_PORT" --dir "$folder/data" --daemonize no \
	--save "" --appendonly yes --appendfsync everysec --maxmemory-policy noeviction "${more[@]}"

# Any answer but "loading" will do: a password or TLS may be asked for.
answers() {
	local line
	exec 3<>"/dev/tcp/127.0.0.1/$REDIS_PORT" || return 1
	printf 'PING\r\n' >&3
	read -rt 2 line <&3 || [[ " ${more[*]} " == *" --tls-port "* ]] || return 1
	[[ $line != *LOADING* ]]
}
await redis answers
echo "redis is up on 127.0.0.1:$REDIS_PORT"
