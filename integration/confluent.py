"""Confluent's own client and its Avro serializers, beside a registry.

read BOOTSTRAP REGISTRY TOPIC COUNT           prints the key and the value of so many records, as JSON
write BOOTSTRAP REGISTRY TOPIC KEY SCHEMA JSON   registers the schema and writes one record with it
"""

import json
import sys
import uuid

from confluent_kafka import Consumer, Producer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

command, bootstrap, registry, topic = sys.argv[1:5]
schemas = SchemaRegistryClient({"url": registry})
context = SerializationContext(topic, MessageField.VALUE)

if command == "write":
    key, schema, value = sys.argv[5:8]
    serialize = AvroSerializer(schemas, schema)
    failed = []
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(topic, serialize(json.loads(value), context), key, on_delivery=lambda error, _: error and failed.append(error))
    producer.flush(30)
    sys.exit(f"not stored: {failed}" if failed else 0)

deserialize = AvroDeserializer(schemas)
consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": str(uuid.uuid4()), "auto.offset.reset": "earliest"})
consumer.subscribe([topic])
for _ in range(int(sys.argv[5])):
    message = consumer.poll(30)
    if message is None or message.error():
        sys.exit(f"no record: {message and message.error()}")
    print(message.key().decode(), json.dumps(deserialize(message.value(), context), sort_keys=True))
consumer.close()
