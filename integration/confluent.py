"""Confluent's own client and its serializers, beside a registry. FORMAT is avro, json or protobuf.

read FORMAT BOOTSTRAP REGISTRY TOPIC COUNT [SCHEMA MESSAGE]      prints the key and the value of so many records, as JSON
write FORMAT BOOTSTRAP REGISTRY TOPIC KEY JSON SCHEMA [MESSAGE]   registers the schema and writes one record with it

Of Protobuf SCHEMA and MESSAGE say which class reads or writes, as protoc makes it.
"""

import json
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

from confluent_kafka import Consumer, Producer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, dual_schema_id_deserializer, topic_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

command, form, bootstrap, registry, topic = sys.argv[1:6]
schemas = SchemaRegistryClient({"url": registry})
context = SerializationContext(topic, MessageField.VALUE)


class AsText(SchemaRegistryClient):
    """Registers this text. Confluent's registry makes text of the descriptors that its serializer registers; that of the tests gives back
    what it got."""

    def __init__(self, text):
        super().__init__({"url": registry})
        self.text = text

    def register_schema_full_response(self, subject_name, schema, normalize_schemas=False):
        return super().register_schema_full_response(subject_name, Schema(self.text, "PROTOBUF"), normalize_schemas)


def compiled(schema, name):
    """The class of a message, and its place among those of its file."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "schema.proto").write_text(schema)
        subprocess.run(["protoc", f"--proto_path={folder}", f"--descriptor_set_out={folder}/set", "schema.proto"], check=True)
        file = descriptor_pb2.FileDescriptorSet.FromString(Path(folder, "set").read_bytes()).file[0]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = pool.FindMessageTypeByName(name)
    return message_factory.GetMessageClass(found), [message.name for message in file.message_type].index(found.name)


def serializer(schema, name=None):
    if form == "avro":
        return AvroSerializer(schemas, schema)
    if form == "json":
        return JSONSerializer(schema, schemas)
    kind, _ = compiled(schema, name)
    serialize = ProtobufSerializer(kind, AsText(schema))
    return lambda value, context: serialize(json_format.ParseDict(value, kind()), context)


def deserializer(schema=None, name=None):
    if form == "avro":
        return AvroDeserializer(schemas)
    if form == "json":
        return JSONDeserializer(None, schema_registry_client=schemas)
    kind, place = compiled(schema, name)

    def unframed(data, context, schema_id):
        payload = dual_schema_id_deserializer(data, context, schema_id)
        # The class would take any message for its own.
        if schema_id.message_indexes != [place]:
            sys.exit(f"not of the message {name}: {schema_id.message_indexes}")
        return payload

    settings = {"schema.id.deserializer": unframed, "subject.name.strategy": topic_subject_name_strategy}
    deserialize = ProtobufDeserializer(kind, settings)
    return lambda data, context: json_format.MessageToDict(deserialize(data, context))


if command == "write":
    key, value = sys.argv[6:8]
    serialize = serializer(*sys.argv[8:])
    failed = []
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(topic, serialize(json.loads(value), context), key, on_delivery=lambda error, _: error and failed.append(error))
    producer.flush(30)
    sys.exit(f"not stored: {failed}" if failed else 0)

deserialize = deserializer(*sys.argv[7:])
consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": str(uuid.uuid4()), "auto.offset.reset": "earliest"})
consumer.subscribe([topic])
for _ in range(int(sys.argv[6])):
    message = consumer.poll(30)
    if message is None or message.error():
        sys.exit(f"no record: {message and message.error()}")
    print(message.key().decode(), json.dumps(deserialize(message.value(), context), sort_keys=True))
consumer.close()
