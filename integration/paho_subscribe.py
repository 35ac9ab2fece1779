"""Subscribes with paho: host port version(4|5) qos count filter. Prints "subscribed", then each message as topic|qos|payload|properties."""

import sys

import paho.mqtt.client as mqtt

host, port, version, qos, count, topic_filter = sys.argv[1:7]
left = int(count)


def on_connect(client, userdata, flags, reason, properties):
    if reason != 0:
        sys.exit(f"CONNACK {reason}")
    client.subscribe(topic_filter, int(qos))


def on_subscribe(client, userdata, mid, reasons, properties):
    if any(reason.is_failure for reason in reasons):
        sys.exit(f"SUBACK {reasons}")
    print("subscribed", flush=True)


def on_message(client, userdata, message):
    global left
    user = getattr(message.properties, "UserProperty", []) if message.properties else []
    pairs = ",".join(f"{name}={value}" for name, value in user)
    print(f"{message.topic}|{message.qos}|{message.payload.decode()}|{pairs}", flush=True)
    left -= 1
    if left == 0:
        client.disconnect()


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"paho-{version}", protocol=int(version))
client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
client.connect(host, int(port))
client.loop_forever()
