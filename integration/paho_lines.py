"""Publishes each line of standard input at QoS 1 with paho over WebSocket and TLS, all on one connection: port client_id topic ca
[certificate key]. Ends with 0 once each is acknowledged."""

import sys
import threading

import paho.mqtt.client as mqtt

port, client_id, topic, ca, *pair = sys.argv[1:]
certificate, key = pair or (None, None)
let_in = threading.Event()


def on_connect(client, userdata, flags, reason, properties):
    if reason == 0:
        let_in.set()


api = mqtt.CallbackAPIVersion.VERSION2
client = mqtt.Client(api, client_id=client_id, transport="websockets", reconnect_on_failure=False)
client.on_connect = on_connect
client.tls_set(ca_certs=ca, certfile=certificate, keyfile=key)
client.connect("127.0.0.1", int(port))
client.loop_start()
if not let_in.wait(60):
    sys.exit("it was not let in")
for message in [client.publish(topic, line.strip(), 1) for line in sys.stdin]:
    message.wait_for_publish(60)
    if not message.is_published():
        sys.exit("a message was not acknowledged")
client.disconnect()
client.loop_stop()
