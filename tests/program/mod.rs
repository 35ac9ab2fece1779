//! The program itself, as a process with a folder of its own.
#![allow(dead_code)] // Each test binary uses its part.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// A process; it is killed with this.
pub struct Program {
    pub process: Child,
    /// Its log, line by line; ends with the process.
    pub log: Receiver<String>,
}

impl Program {
    /// `run` with one listener and this Kafka server, behind shell commands that come first.
    pub fn start(folder: &Path, first: &str, listener: &str, kafka: &str) -> Self {
        let access = if listener.contains("authentication:") {
            ""
        } else {
            "authentication: none\n"
        };
        let text = format!(
            "listeners: [{{name: one, address: \"127.0.0.1:0\", {listener}}}]\n{access}\
             admin: {{address: \"127.0.0.1:0\"}}\n\
             kafka: {{bootstrap_servers: [\"{kafka}\"]}}\n\
             rules: [{{name: all, mqtt: \"{{topic#}}\", kafka: {{topic: mqtt, key: \"{{topic}}\"}}}}]\n"
        );
        std::fs::write(folder.join("proxy.yaml"), text).unwrap();
        let run = format!("{first}exec '{}' run --log-format json", env!("CARGO_BIN_EXE_mqtt-kafka-proxy"));
        Self::spawn(Command::new("bash").args(["-c", &run]).current_dir(folder).env_remove("RUST_LOG"))
    }

    /// A command that logs to stderr.
    pub fn spawn(command: &mut Command) -> Self {
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        let (tell, log) = channel();
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        Self { process, log }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended already where the test came that far.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The address that a log line tells, of a listener or of the admin port.
pub fn address(line: &str) -> Option<SocketAddr> {
    let text = line.split("\"address\":\"").nth(1)?.split('"').next()?;
    Some(text.parse().unwrap())
}

/// The answer of the admin port.
pub fn get(admin: SocketAddr, path: &str, patience: Duration) -> String {
    let mut socket = TcpStream::connect(admin).unwrap();
    socket.set_read_timeout(Some(patience)).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}
