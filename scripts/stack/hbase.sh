#!/usr/bin/env bash
# Starts HBase standalone: master, region server and ZooKeeper in one process, on
# ZK_PORT, HBASE_MASTER_PORT and HBASE_REGIONSERVER_PORT.
#
#   HBASE_HEAP     Java heap, 256m
#   HBASE_HSYNC    true: its write-ahead log is synced for each write
#   HBASE_SITE     further <property> elements of hbase-site.xml
#   HBASE_JAVA     further options of the Java machine
#   HBASE_REGIONSERVER_BIND
#                  the loopback address that the region server listens on,
#                  127.0.0.1. What it tells clients stays localhost: with another
#                  address, such as 127.0.0.2, something else stands before it.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

folder=$STACK_DIR/hbase
jars=$(jars hbase)
bind=${HBASE_REGIONSERVER_BIND:-127.0.0.1}
mkdir -p "$folder/conf" "$folder/data" "$folder/tmp"
free hbase "$ZK_PORT" ZK_PORT
free hbase "$HBASE_MASTER_PORT" HBASE_MASTER_PORT
free hbase "$HBASE_REGIONSERVER_PORT" HBASE_REGIONSERVER_PORT "$bind"

property() { echo "  <property><name>$1</name><value>$2</value></property>"; }
{
	echo '<configuration>'
	property hbase.rootdir "file://$folder/data/hbase"
	property hbase.tmp.dir "$folder/tmp"
	property hbase.cluster.distributed false
	# The file system without checksum files: its flush is a write, so that
	# what was acknowledged survives the end of the process.
	property fs.file.impl org.apache.hadoop.fs.RawLocalFileSystem
	property hbase.unsafe.stream.capability.enforce false
	property hbase.wal.provider filesystem
	property hbase.wal.hsync "${HBASE_HSYNC:-false}"
	property hbase.procedure.store.region.wal.hsync "${HBASE_HSYNC:-false}"
	property hbase.localcluster.assign.random.ports false
	property hbase.zookeeper.quorum 127.0.0.1
	property hbase.zookeeper.property.clientPort "$ZK_PORT"
	property hbase.zookeeper.property.dataDir "$folder/data/zookeeper"
	property hbase.master.hostname localhost
	property hbase.regionserver.hostname localhost
	property hbase.unsafe.regionserver.hostname localhost
	property hbase.master.ipc.address 127.0.0.1
	property hbase.regionserver.ipc.address "$bind"
	property hbase.master.port "$HBASE_MASTER_PORT"
	property hbase.regionserver.port "$HBASE_REGIONSERVER_PORT"
	property hbase.master.info.port -1
	property hbase.regionserver.info.port -1
	# A process that is paused, or starved, for a while must not lose its
	# session with ZooKeeper: standalone, the region server then ends for good
	# while the process lives on.
	property zookeeper.session.timeout 90000
	property zookeeper.session.timeout.localHBaseCluster 90000
	property hbase.zookeeper.property.tickTime 2000
	property hbase.zookeeper.property.minSessionTimeout 4000
	property hbase.zookeeper.property.maxSessionTimeout 180000
	# What follows fits a developer's machine.
	property hbase.regionserver.handler.count 8
	property hbase.regionserver.metahandler.count 4
	property hbase.master.wait.on.regionservers.interval 200
	property hbase.master.wait.on.regionservers.timeout 1000
	property hbase.server.thread.wakefrequency 1000
	property hbase.hregion.memstore.flush.size 33554432
	property hbase.hstore.blockingStoreFiles 30
	property hfile.block.cache.size 0.2
	property hbase.regionserver.global.memstore.size 0.3
	property hbase.ipc.server.allocator.max.buffer.count 64
	property hbase.regionserver.maxlogs 16
	property hbase.regionserver.hlog.blocksize 33554432
	echo "${HBASE_SITE:-}"
	echo '</configuration>'
} >"$folder/conf/hbase-site.xml"

# HBase and Hadoop look into the JDK's insides, which Java 17 and later allow
# by name only.
open=()
for module in java.lang java.lang.reflect java.io java.nio java.net java.util java.util.concurrent sun.nio.ch sun.security.action; do
	open+=(--add-opens "java.base/$module=ALL-UNNAMED")
done
open+=(--add-exports java.base/jdk.internal.misc=ALL-UNNAMED --add-exports java.base/jdk.internal.ref=ALL-UNNAMED
	--add-exports java.security.jgss/sun.security.krb5=ALL-UNNAMED)

heap=${HBASE_HEAP:-256m}
read -ra more <<<"${HBASE_JAVA:-}"
began=$(log_size "$folder/log")
start hbase java "-Xms$heap" "-Xmx$heap" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
	-XX:MaxDirectMemorySize=64m -XX:MaxMetaspaceSize=192m "${open[@]}" \
	-Djava.net.preferIPv4Stack=true -Djava.awt.headless=true -Dhbase.log.dir="$folder" -Dhadoop.home.dir=/ "${more[@]}" \
	-cp "$folder/conf:$stack_scripts/jars:$jars/*" org.apache.hadoop.hbase.master.HMaster start
await hbase logged "$folder/log" "$began" "Master has completed initialization"
await hbase listening "$HBASE_REGIONSERVER_PORT" "$bind"
echo "hbase is up; its ZooKeeper is on 127.0.0.1:$ZK_PORT"
