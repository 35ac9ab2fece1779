"""Logs in with paho, once as each line of standard input says (JSON), and publishes once if it is let in, at QoS 1 unless that says another, or
subscribes to the topic. For each line prints "in", "refused CODE" (of CONNACK; paho has those of version 5 for 3.1.1, too), "puback CODE",
"granted QOS", "suback CODE" or "closed"."""

import json
import signal
import ssl
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties


def attempt(
    port, version, client_id, topic, value, ca=None, certificate=None, user=None, password=None, transport="tcp", source="",
    qos=1, retain=False, subscribes=False, enhanced=None,
):
    outcome = []
    api = mqtt.CallbackAPIVersion.VERSION2
    client = mqtt.Client(api, client_id=client_id, protocol=version, transport=transport, reconnect_on_failure=False)

    def end(what):
        outcome.append(what)
        client.disconnect()

    def on_connect(client, userdata, flags, reason, properties):
        if reason != 0:
            return end(f"refused {reason.value}")
        if subscribes:
            client.subscribe(topic, qos)
        else:
            client.publish(topic, value, qos, retain)

    def on_publish(client, userdata, mid, reason, properties):
        end("in" if reason == 0 else f"puback {reason.value}")

    def on_subscribe(client, userdata, mid, reasons, properties):
        code = reasons[0].value
        end(f"suback {code}" if code >= 0x80 else f"granted {code}")

    def on_disconnect(client, userdata, flags, reason, properties):
        end("closed")

    client.on_connect, client.on_publish, client.on_disconnect = on_connect, on_publish, on_disconnect
    client.on_subscribe = on_subscribe
    properties = None
    if enhanced is not None:
        # It has no answer to AUTH, so this is all that it says.
        properties = Properties(PacketTypes.CONNECT)
        properties.AuthenticationMethod, properties.AuthenticationData = "SCRAM-SHA-256", enhanced.encode()
    elif user is not None:
        client.username_pw_set(user, password)
    if ca:
        certfile, keyfile = certificate or (None, None)
        client.tls_set(ca_certs=ca, certfile=certfile, keyfile=keyfile)
    try:
        client.connect("127.0.0.1", port, bind_address=source, properties=properties)
        client.loop_forever()
    except (ssl.SSLError, ConnectionError):
        # By TLS 1.2 the handshake fails, by TLS 1.3 the first read behind it.
        outcome.append("closed")
    return outcome[0]


for line in sys.stdin:
    # A login that goes nowhere ends all of it.
    signal.alarm(60)
    print(attempt(**json.loads(line)), flush=True)
