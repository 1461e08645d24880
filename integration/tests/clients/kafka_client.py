"""What a client of another language reads and writes, with kafka-python, whose partitioner is Java's.

kafka_client.py read HOST:PORT TOPIC: prints one JSON object for each message of the topic, its headers.
kafka_client.py write HOST:PORT TOPIC: writes one message for each line of standard input, which is its key.
kafka_client.py headers HOST:PORT TOPIC: writes one message for each line of standard input, which has its headers as
name=value, both in hexadecimal, for they need not be text.
"""
import json
import sys

from kafka import KafkaConsumer, KafkaProducer, TopicPartition


class Name(str):
    """The name of a header that goes as these bytes."""

    def encode(self, *_):
        return bytes.fromhex(self)


what, server, topic = sys.argv[1:4]
if what == "headers":
    producer = KafkaProducer(bootstrap_servers=server)
    for line in sys.stdin:
        pairs = [pair.split("=") for pair in line.split()]
        headers = [(Name(name), bytes.fromhex(value)) for name, value in pairs]
        producer.send(topic, value=b"x", headers=headers, partition=0).get(timeout=30)
elif what == "write":
    producer = KafkaProducer(bootstrap_servers=server)
    sent = [producer.send(topic, key=line.strip().encode(), value=b"x") for line in sys.stdin]
    for each in sent:
        each.get(timeout=30)
else:
    consumer = KafkaConsumer(bootstrap_servers=server, group_id=None)
    partitions = [TopicPartition(topic, n) for n in consumer.partitions_for_topic(topic)]
    ends = consumer.end_offsets(partitions)
    consumer.assign(partitions)
    consumer.seek_to_beginning()
    left = {each for each in partitions if ends[each] > 0}
    while left:
        for partition, records in consumer.poll(timeout_ms=1000).items():
            for record in records:
                headers = {name: value.decode() for name, value in record.headers}
                print(json.dumps({**headers, "key": record.key.decode()}))
                if record.offset + 1 >= ends[partition]:
                    left.discard(partition)
