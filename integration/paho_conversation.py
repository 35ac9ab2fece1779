"""Asks or answers over MQTT 5 with paho: host port "answerer" FILTER, or host port "asker" FILTER ASK_TOPIC.

Prints "subscribed", then each message as topic|payload|response topic|correlation data in hex|content type|payload format|expiry|user properties.
The answerer sends "re: PAYLOAD" to the response topic with the correlation data. The asker publishes one question once it is subscribed.
"""

import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

host, port, role, topic_filter = sys.argv[1:5]


def on_connect(client, userdata, flags, reason, properties):
    if reason != 0:
        sys.exit(f"CONNACK {reason}")
    client.subscribe(topic_filter, 1)


def on_subscribe(client, userdata, mid, reasons, properties):
    if any(reason.is_failure for reason in reasons):
        sys.exit(f"SUBACK {reasons}")
    print("subscribed", flush=True)
    if role == "asker":
        question = Properties(PacketTypes.PUBLISH)
        question.ResponseTopic = topic_filter
        question.CorrelationData = b"\x00\xff|7"
        question.ContentType = "text/question"
        question.PayloadFormatIndicator = 1
        question.MessageExpiryInterval = 600
        question.UserProperty = [("unit", "°C"), ("unit", "K"), ("Ünit", "")]
        client.publish(sys.argv[5], "how warm?", 1, properties=question)


def on_message(client, userdata, message):
    got = message.properties
    correlation = getattr(got, "CorrelationData", None)
    words = [
        message.topic,
        message.payload.decode(),
        getattr(got, "ResponseTopic", "-"),
        correlation.hex() if correlation is not None else "-",
        getattr(got, "ContentType", "-"),
        getattr(got, "PayloadFormatIndicator", "-"),
        getattr(got, "MessageExpiryInterval", "-"),
        ",".join(f"{name}={value}" for name, value in getattr(got, "UserProperty", [])),
    ]
    print("|".join(map(str, words)), flush=True)
    if role == "answerer" and hasattr(got, "ResponseTopic"):
        answer = Properties(PacketTypes.PUBLISH)
        if correlation is not None:
            answer.CorrelationData = correlation
        answer.UserProperty = ("from", "answerer")
        client.publish(got.ResponseTopic, "re: " + message.payload.decode(), 1, properties=answer)


def on_publish(client, userdata, mid, reason, properties):
    if reason.is_failure:
        sys.exit(f"PUBACK {reason}")


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=role, protocol=mqtt.MQTTv5)
client.on_connect, client.on_subscribe, client.on_message, client.on_publish = on_connect, on_subscribe, on_message, on_publish
client.connect(host, int(port))
client.loop_forever()
