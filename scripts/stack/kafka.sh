#!/usr/bin/env bash
# Starts one Kafka, broker and controller in one process (KRaft), on KAFKA_PORT
# and KAFKA_CONTROLLER_PORT.
#
#   KAFKA_HEAP          Java heap, 128m
#   KAFKA_PROPERTIES    further lines of server.properties; the last line wins
#   KAFKA_FORMAT        further options of the formatter, such as --add-scram
#   KAFKA_JAVA          further options of the Java machine
set -euo pipefail
. "$(dirname "$0")/lib.sh"

folder=$STACK_DIR/kafka
jars=$(jars kafka)
mkdir -p "$folder/data"
free kafka "$KAFKA_PORT" KAFKA_PORT
free kafka "$KAFKA_CONTROLLER_PORT" KAFKA_CONTROLLER_PORT
cat >"$folder/server.properties" <<END
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$KAFKA_CONTROLLER_PORT
listeners=PLAINTEXT://127.0.0.1:$KAFKA_PORT,CONTROLLER://127.0.0.1:$KAFKA_CONTROLLER_PORT
advertised.listeners=PLAINTEXT://127.0.0.1:$KAFKA_PORT
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$folder/data
# A topic that nobody made is a mistake, not an empty journal.
auto.create.topics.enable=false
# What follows fits a developer's machine: one broker, few threads, no waiting
# for others.
num.network.threads=2
num.io.threads=4
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=2
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.cleaner.dedupe.buffer.size=4194304
${KAFKA_PROPERTIES:-}
END

read -ra more <<<"${KAFKA_JAVA:-}"
java=(java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:MaxMetaspaceSize=160m -Xshare:auto
	-Djava.awt.headless=true "${more[@]}" -cp "$stack_scripts/jars:$jars/*")
if [[ ! -f $folder/data/meta.properties ]]; then
	id=$(head -c 16 /dev/urandom | base64 | tr '+/' 'ab' | tr -d '=')
	# Kafka takes an id that begins with a dash for an option.
	read -ra format <<<"${KAFKA_FORMAT:-}"
	"${java[@]}" -Xmx128m kafka.tools.StorageTool format -t "$id" -c "$folder/server.properties" "${format[@]}" \
		>>"$folder/log" 2>&1 || {
		tail -n 20 "$folder/log" >&2
		fail "cannot format Kafka's data folder $folder/data"
	}
fi
heap=${KAFKA_HEAP:-128m}
began=$(log_size "$folder/log")
start kafka "${java[@]}" "-Xms$heap" "-Xmx$heap" kafka.Kafka "$folder/server.properties"
await kafka logged "$folder/log" "$began" "Kafka Server started"
await kafka listening "$KAFKA_PORT"
echo "kafka is up on 127.0.0.1:$KAFKA_PORT"
