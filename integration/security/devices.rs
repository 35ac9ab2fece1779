//! Devices that publish one number after the other, each over one connection, for as long as the test wants it.

use crate::stage::root;
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

/// One of them.
pub struct Device {
    client: Child,
    /// Gives how many it was told to publish.
    tells: JoinHandle<u32>,
    enough: Arc<AtomicBool>,
}

impl Device {
    /// mosquitto, over TLS. It trusts an authority, and may show a certificate (paths of it and its key).
    pub fn mosquitto(at: SocketAddr, topic: &str, ca: &str, pair: Option<&[String; 2]>) -> Self {
        let (port, id) = (at.port().to_string(), id(topic));
        let mut mosquitto = Command::new("mosquitto_pub");
        mosquitto.args([
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "--cafile",
            ca,
            "-i",
            &id,
            "-q",
            "1",
            "-t",
            topic,
            "-l",
        ]);
        if let Some([certificate, key]) = pair {
            mosquitto.args(["--cert", certificate, "--key", key]);
        }
        Self::start(&mut mosquitto)
    }

    /// The same of paho, over WebSocket and TLS.
    pub fn paho(at: SocketAddr, topic: &str, ca: &str, pair: Option<&[String; 2]>) -> Self {
        let mut python = Command::new(root().join(".run/python/bin/python"));
        python
            .arg(root().join("integration/paho_lines.py"))
            .args([&at.port().to_string(), &id(topic), topic, ca])
            .args(pair.into_iter().flatten());
        Self::start(&mut python)
    }

    fn start(command: &mut Command) -> Self {
        let client = command.stdin(Stdio::piped()).spawn();
        let mut client = client.unwrap_or_else(|error| panic!("{command:?}: {error} (make test installs it)"));
        let mut lines = client.stdin.take().expect("its input is a pipe");
        let enough = Arc::new(AtomicBool::new(false));
        let until = enough.clone();
        let tells = spawn(move || {
            let mut count = 0;
            while !until.load(Ordering::Relaxed) {
                writeln!(lines, "{count}").expect("it goes on");
                count += 1;
                // The load: some hundred messages a second of each.
                sleep(Duration::from_millis(2));
            }
            count
        });
        Self { client, tells, enough }
    }

    /// Once all that it was told is acknowledged: how many that were.
    pub fn end(mut self) -> u32 {
        self.enough.store(true, Ordering::Relaxed);
        let count = self.tells.join().expect("it took all");
        let status = self.client.wait().expect("a child can be waited for");
        assert!(status.success(), "{status}");
        count
    }
}

/// The client id of who publishes there.
fn id(topic: &str) -> String {
    topic.replace('/', "-")
}
