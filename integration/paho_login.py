"""Logs in and publishes once at QoS 1 with paho: host port version(4|5) user password topic. Prints "CONNACK code" or "PUBACK code"."""

import sys

import paho.mqtt.client as mqtt

host, port, version, user, password, topic = sys.argv[1:7]


def on_connect(client, userdata, flags, reason, properties):
    if reason != 0:
        print(f"CONNACK {reason.value}", flush=True)
        sys.exit(1)
    client.publish(topic, f"paho {version}", 1)


def on_publish(client, userdata, mid, reason, properties):
    print(f"PUBACK {reason.value}", flush=True)
    client.disconnect()


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"login-{version}", protocol=int(version))
client.username_pw_set(user, password)
client.on_connect, client.on_publish = on_connect, on_publish
client.connect(host, int(port))
client.loop_forever()
