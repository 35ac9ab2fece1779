//! The ways in, with real clients: WebSocket with paho, sockets that systemd hands over.

use crate::shared_kafka;
use crate::stage::{DEADLINE, Proxy, certificates, output, root};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

#[test]
fn paho_goes_round_over_websocket_with_and_without_tls() {
    let kafka = shared_kafka();
    kafka.topic("websocket", 1);
    let rule = "  - {name: websocket, mqtt: \"websocket/{how}\", kafka: {topic: websocket, key: \"{how}\"}}";
    let proxy = Proxy::start(&kafka.bootstrap, rule, "");
    let (script, ca) = (root().join("integration/paho_websocket.py"), certificates().join("ca.pem"));
    let python = root().join(".run/python/bin/python");
    let (script, ca) = (script.to_str().unwrap(), ca.to_str().unwrap());
    for version in ["4", "5"] {
        let (ws, wss) = (proxy.ws.port().to_string(), proxy.wss.port().to_string());
        let plain = ["127.0.0.1", &ws, version, &format!("websocket/ws{version}")].map(str::to_owned);
        let tls = ["127.0.0.1", &wss, version, &format!("websocket/wss{version}"), ca].map(str::to_owned);
        for arguments in [&plain[..], &tls[..]] {
            let mut all = vec![script];
            all.extend(arguments.iter().map(String::as_str));
            assert_eq!(output(python.to_str().unwrap(), &all), "came back\n", "{arguments:?}");
        }
    }
    assert!(proxy.metric(&["connections_opened_total", "listener=\"ws\""]) >= 2.0);
    assert!(proxy.metric(&["connections_opened_total", "listener=\"wss\""]) >= 2.0);
}

/// What systemd does: it listens, and starts the process with the socket as its descriptor 3.
const HAND_OVER: &str = "
import os, socket, sys
listener = socket.create_server(('127.0.0.1', 0))
print(listener.getsockname()[1], flush=True)
if listener.fileno() != 3:
    os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.execve(sys.argv[1], sys.argv[1:], os.environ | {'LISTEN_FDS': '1', 'LISTEN_PID': str(os.getpid())})
";

#[test]
fn a_socket_that_systemd_hands_over_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("proxy.yaml");
    let text = "listeners: [{name: handed, address: \"systemd:0\", protocol: mqtt, authentication: none}]\n\
                kafka: {bootstrap_servers: [\"127.0.0.1:1\"]}\n\
                rules: [{name: all, mqtt: \"{topic#}\", kafka: {topic: mqtt, key: \"{topic}\"}}]\n";
    std::fs::write(&settings, text).unwrap();
    let mut proxy = Command::new("python3")
        .args(["-c", HAND_OVER, env!("CARGO_BIN_EXE_mqtt-kafka-proxy"), "run", "-c"])
        .arg(&settings)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut port = String::new();
    let mut out = proxy.stdout.take().unwrap();
    while !port.ends_with('\n') {
        let mut byte = [0];
        out.read_exact(&mut byte).unwrap();
        port.push(char::from(byte[0]));
    }
    // It listens already: what comes before the proxy waits in the socket.
    let mut device = TcpStream::connect(("127.0.0.1", port.trim().parse().unwrap())).unwrap();
    device.set_read_timeout(Some(DEADLINE)).unwrap();
    device.write_all(b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01a").unwrap();
    let mut connack = [0; 4];
    let read = device.read_exact(&mut connack);
    proxy.kill().unwrap();
    proxy.wait().unwrap();
    read.unwrap();
    assert_eq!(connack, [0x20, 2, 0, 0]);
}
