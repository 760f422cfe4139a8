"""Reads the topic of events to its end and prints what is in it, as JSON.

    consumer.py --brokers 127.0.0.1:9092 --topic tegami.events.v1 --partitions 12 --proto api/proto

It knows nothing of Tegami but the published .proto: an independent witness.
"""

import argparse
import importlib
import json
import pathlib
import sys
import tempfile

from grpc_tools import protoc
from kafka import KafkaConsumer, TopicPartition
from kafka.partitioner.default import murmur2

PROTO = "tegami/events/v1/events.proto"


def compile_events(proto: pathlib.Path):
    """Returns the module that protoc makes of the .proto."""
    folder = tempfile.mkdtemp()
    if protoc.main(["protoc", f"-I{proto}", f"--python_out={folder}", str(proto / PROTO)]) != 0:
        sys.exit("protoc failed")
    sys.path.insert(0, folder)
    return importlib.import_module("tegami.events.v1.events_pb2")


def read(brokers: str, topic: str):
    """Yields every record of the topic, up to where it ends now."""
    consumer = KafkaConsumer(bootstrap_servers=brokers.split(","), enable_auto_commit=False)
    partitions = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic)]
    consumer.assign(partitions)
    ends = consumer.end_offsets(partitions)
    consumer.seek_to_beginning(*partitions)
    while any(consumer.position(p) < end for p, end in ends.items()):
        for records in consumer.poll(timeout_ms=1000).values():
            yield from records
    consumer.close()


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--brokers", required=True)
    arguments.add_argument("--topic", required=True)
    arguments.add_argument("--proto", required=True, type=pathlib.Path)
    arguments.add_argument("--partitions", required=True, type=int)
    options = arguments.parse_args()
    events = compile_events(options.proto)

    newest = {}  # by user: the highest (generation, offset, index) seen
    counts = {}  # by user: how many of each kind, each event once
    total = misplaced = 0
    for record in read(options.brokers, options.topic):
        event = events.Event.FromString(record.value)
        total += 1
        if event.user.encode() != record.key or murmur2(record.key) % 2**31 % options.partitions != record.partition:
            misplaced += 1
        position = (event.generation, event.offset, event.index)
        if position <= newest.get(event.user, (0, -1, 0)):
            continue  # seen before
        newest[event.user] = position
        kinds = counts.setdefault(event.user, {})
        kind = event.WhichOneof("kind")
        kinds[kind] = kinds.get(kind, 0) + 1
    json.dump({"events": total, "misplaced": misplaced, "users": counts}, sys.stdout)


if __name__ == "__main__":
    main()
