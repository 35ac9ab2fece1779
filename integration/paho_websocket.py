"""A round trip with paho over WebSocket: host port version(4|5) topic [ca]. With a CA over TLS. Publishes at QoS 1 to what it has
subscribed to, and prints "came back" when all of it has."""

import sys

import paho.mqtt.client as mqtt

host, port, version, topic = sys.argv[1:5]
# From a packet in one small frame to one of many reads.
payloads = [b"x" * size for size in (1, 124, 60_000, 400_000)]
left = list(payloads)


def on_connect(client, userdata, flags, reason, properties):
    if reason != 0:
        sys.exit(f"CONNACK {reason}")
    client.subscribe(topic, 1)


def on_subscribe(client, userdata, mid, reasons, properties):
    if any(reason.is_failure for reason in reasons):
        sys.exit(f"SUBACK {reasons}")
    for payload in payloads:
        client.publish(topic, payload, 1)


def on_message(client, userdata, message):
    left.remove(message.payload)
    if not left:
        print("came back", flush=True)
        client.disconnect()


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"{topic}-{version}", protocol=int(version), transport="websockets")
client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
if len(sys.argv) > 5:
    client.tls_set(ca_certs=sys.argv[5])
client.connect(host, int(port))
client.loop_forever()
