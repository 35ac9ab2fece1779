//! `run` as a process: it listens without Kafka, says that it is not ready, and ends with signals. Kafka is a port that
//! refuses.

// clippy.toml allows it in test functions; the functions they share are not seen as such.
#![allow(clippy::unwrap_used)]

mod program;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use program::{Program, address, get};

/// After which a test gives up; what it waits for takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

struct Running {
    program: Program,
    seen: Vec<String>,
    /// In the order in which they were told: listeners, then admin.
    addresses: Vec<SocketAddr>,
    _folder: tempfile::TempDir,
}

impl Running {
    /// Starts it and waits for `ports` ports.
    fn start(listener: &str, ports: usize) -> Self {
        Self::start_under("", listener, ports)
    }

    /// The same behind shell commands that come first.
    fn start_under(first: &str, listener: &str, ports: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        files(folder.path());
        let program = Program::start(folder.path(), first, listener, "127.0.0.1:1");
        Self::of(program, folder, ports)
    }

    /// With these settings beside its listeners and Kafka.
    fn configured(listeners: &str, ports: usize, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        files(folder.path());
        let text = format!(
            "listeners: [{listeners}]\nkafka: {{bootstrap_servers: [\"127.0.0.1:1\"]}}\n\
             rules: [{{name: all, mqtt: a, kafka: {{topic: mqtt}}}}]\n{more}\n"
        );
        std::fs::write(folder.path().join("proxy.yaml"), text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-kafka-proxy"));
        command
            .args(["run", "--log-format", "json"])
            .current_dir(folder.path())
            .env_remove("RUST_LOG");
        Self::of(Program::spawn(&mut command), folder, ports)
    }

    /// A program that was started in its folder.
    fn of(program: Program, folder: tempfile::TempDir, ports: usize) -> Self {
        let mut running = Self {
            program,
            seen: vec![],
            addresses: vec![],
            _folder: folder,
        };
        for _ in 0..ports {
            let line = running.line_with("\"address\":\"");
            running.addresses.push(address(&line).unwrap());
        }
        running
    }

    /// The next log line that holds `words`.
    fn line_with(&mut self, words: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.program.log.recv_timeout(left) else {
                panic!("no line with {words} in {:#?}", self.seen)
            };
            self.seen.push(line.clone());
            if line.contains(words) {
                return line;
            }
        }
    }

    fn signal(&self, name: &str) {
        // The shell's own: a small system has no program of that name.
        let sent = Command::new("bash")
            .args(["-c", &format!("kill -s {name} {}", self.program.process.id())])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Waits for the end: the log ends with the process.
    fn ended_code(mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        while self
            .program
            .log
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            .is_ok()
        {}
        assert!(Instant::now() < deadline, "it does not end: {:#?}", self.seen);
        self.program.process.wait().unwrap().code()
    }

    /// The answer of the admin port.
    fn get(&self, path: &str) -> String {
        get(self.addresses[1], path, PATIENCE)
    }
}

/// What listeners may name.
fn files(folder: &Path) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("server.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("server.key"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(folder.join("users.txt"), "# nobody yet\n").unwrap();
}

#[test]
fn it_listens_without_kafka_and_says_why_it_is_not_ready() {
    let mut running = Running::start("protocol: mqtt", 2);
    assert!(
        running.seen[0].contains("starting") && running.seen[0].contains(env!("CARGO_PKG_VERSION")),
        "{:?}",
        running.seen
    );
    let listening = running.seen.iter().find(|line| line.contains("listening")).unwrap();
    assert!(
        listening.contains("\"listener\":\"one\"") && listening.contains("\"protocol\":\"mqtt\""),
        "{listening}"
    );
    let told = match running.seen.iter().find(|line| line.contains("Kafka is not reached")) {
        Some(line) => line.clone(),
        None => running.line_with("Kafka is not reached"),
    };
    assert!(told.contains("127.0.0.1:1: "), "{told}");
    TcpStream::connect(running.addresses[0]).unwrap();
    assert!(running.get("/healthz").starts_with("HTTP/1.1 200"));
    let ready = running.get("/readyz");
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("Kafka"), "{ready}");
    running.signal("HUP");
    running.line_with("SIGHUP: certificates, users, keys and lookup tables are read again");
    assert!(running.get("/healthz").starts_with("HTTP/1.1 200"), "SIGHUP ends nothing");
    running.signal("TERM");
    running.line_with("no more connections are taken");
    assert_eq!(running.ended_code(), Some(0));
}

/// Also those that do not look changed: time and length do not always tell.
#[test]
fn sighup_has_all_files_read_at_once_and_ends_nothing() {
    let listener = "protocol: mqtts, tls: {certificate: server.pem, key: server.key}, \
                    authentication: [{method: password_file, file: users.txt}]";
    let mut running = Running::start(listener, 2);
    for _ in 0..2 {
        running.signal("HUP");
        running.line_with("SIGHUP: certificates, users, keys and lookup tables are read again");
        let (certificates, users) = ("certificates were read again", "users or keys were read again");
        let first = running.line_with(" were read again");
        running.line_with(if first.contains(users) { certificates } else { users });
    }
    assert!(running.get("/healthz").starts_with("HTTP/1.1 200"));
    running.signal("TERM");
    assert_eq!(running.ended_code(), Some(0));
}

/// At the start, of each listener, whether it is written there or for all.
#[test]
fn a_listener_that_lets_everybody_in_is_told() {
    const LIST: &str = "authentication: [{method: password_file, file: users.txt}]";
    const NONE: &str = "authentication: none";
    let listener = |name: &str, more: &str| format!("{{name: {name}, address: \"127.0.0.1:0\", protocol: mqtt{more}}}");
    let (own, none) = (format!(", {LIST}"), format!(", {NONE}"));
    for (listeners, more, open) in [
        ([listener("one", ""), listener("two", "")], NONE, &["one", "two"][..]),
        ([listener("one", &own), listener("two", "")], NONE, &["two"]),
        ([listener("one", &own), listener("two", &none)], "", &["two"]),
        ([listener("one", ""), listener("two", &none)], LIST, &["two"]),
        ([listener("one", &own), listener("two", &own)], "", &[]),
        ([listener("one", &own), listener("two", &own)], NONE, &[]),
        ([listener("one", ""), listener("two", "")], LIST, &[]),
    ] {
        let listeners = listeners.join(", ");
        // It listens at both: by then it has told.
        let running = Running::configured(&listeners, 2, more);
        let told: Vec<_> = running.seen.iter().filter(|line| line.contains("`authentication: none`")).collect();
        assert_eq!(told.len(), open.len(), "{listeners} {more}: {told:#?}");
        for (line, name) in told.into_iter().zip(open) {
            assert!(
                line.contains("\"level\":\"WARN\"") && line.contains(&format!("\"listener\":\"{name}\"")),
                "{line}"
            );
        }
    }
}

/// It is one method of a list, and the others are asked first.
#[test]
fn a_listener_that_lets_in_who_shows_nothing_is_told() {
    let listener = |name: &str, more: &str| format!("{{name: {name}, address: \"127.0.0.1:0\", protocol: mqtt{more}}}");
    let listeners = [
        listener("one", ""),
        listener("two", ", authentication: [{method: certificate}, {method: anonymous}]"),
    ];
    let more = "authentication: [{method: password_file, file: users.txt}]";
    let running = Running::configured(&listeners.join(", "), 2, more);
    let told: Vec<_> = running.seen.iter().filter(|line| line.contains("`method: anonymous`")).collect();
    assert!(told.len() == 1 && told[0].contains("\"listener\":\"two\""), "{:#?}", running.seen);
}

/// What `check` warns of, with its place; not hundreds of lines of it.
#[test]
fn warnings_of_the_configuration_are_logged_at_the_start() {
    for (rules, told, more) in [(0, 0, None), (1, 1, None), (20, 20, None), (23, 20, Some("\"more\":3"))] {
        let folder = tempfile::tempdir().unwrap();
        let good = "  - {name: good, mqtt: \"good/{x}\", kafka: {topic: good, key: \"{x}\"}}\n";
        let rule = |i| format!("  - {{name: r{i}, mqtt: \"a{i}/+/{{x#}}\", kafka: {{topic: t{i}, key: \"{{x}}\"}}}}\n");
        let text = format!(
            "listeners: [{{name: one, address: \"127.0.0.1:0\", protocol: mqtt, authentication: none}}]\nkafka: {{bootstrap_servers: [\"127.0.0.1:1\"]}}\n\
             rules:\n{good}{}",
            (0..rules).map(rule).collect::<String>()
        );
        std::fs::write(folder.path().join("proxy.yaml"), text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-kafka-proxy"));
        command
            .args(["run", "--log-format", "json"])
            .current_dir(folder.path())
            .env_remove("RUST_LOG");
        // It listens: by then it has told.
        let running = Running::of(Program::spawn(&mut command), folder, 1);
        let warnings = |words: &str| -> Vec<&String> {
            let is_one = |line: &&String| line.contains("\"level\":\"WARN\"") && line.contains(words);
            running.seen.iter().filter(is_one).collect()
        };
        let own = warnings("the configuration: records of other producers reach no subscriber");
        assert_eq!(own.len(), told, "{:#?}", running.seen);
        for (i, line) in own.iter().enumerate() {
            let place = format!("\"line\":{},\"column\":", i + 5);
            assert!(line.contains(&place) && line.contains("\"remedy\":\""), "no {place}: {line}");
        }
        let rest = warnings("the configuration has more warnings");
        assert_eq!(rest.len(), usize::from(more.is_some()), "{:#?}", running.seen);
        assert!(rest.iter().all(|line| more.is_some_and(|more| line.contains(more))), "{rest:?}");
    }
}

/// The soft limit is raised; what the hard one does not allow is told at the start.
#[test]
fn open_files_are_asked_for_and_a_limit_that_is_too_low_is_told() {
    let mut running = Running::start_under("ulimit -Sn 64; ulimit -Hn 1000; ", "protocol: mqtt", 2);
    let told = match running.seen.iter().find(|line| line.contains("fewer files")) {
        Some(line) => line.clone(),
        None => running.line_with("fewer files"),
    };
    assert!(told.contains("\"files\":1000") && told.contains("\"connections\":100000"), "{told}");
    assert!(
        running.get("/metrics").contains("\nprocess_max_fds 1000\n"),
        "raised to what is allowed"
    );
}

#[test]
fn ctrl_c_ends_it_too() {
    let running = Running::start("protocol: mqtt", 2);
    running.signal("INT");
    assert_eq!(running.ended_code(), Some(0));
}

/// A clean start is accepted while Kafka is away, and a version 5 client is told why it has to go [§3.14.2.1].
#[test]
fn clients_are_told_that_it_ends() {
    const CONNECT: &[u8] = &[0x10, 14, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 60, 0, 0, 1, b'a'];
    const SERVER_SHUTTING_DOWN: u8 = 0x8B;
    let running = Running::start("protocol: mqtt", 2);
    let mut client = TcpStream::connect(running.addresses[0]).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(CONNECT).unwrap();
    let mut head = [0; 2];
    client.read_exact(&mut head).unwrap();
    let mut connack = vec![0; usize::from(head[1])];
    client.read_exact(&mut connack).unwrap();
    assert_eq!((head[0], connack[1]), (0x20, 0), "accepted: {connack:?}");
    running.signal("TERM");
    let mut rest = vec![];
    client.read_to_end(&mut rest).unwrap();
    assert_eq!((rest.first(), rest.get(2)), (Some(&0xE0), Some(&SERVER_SHUTTING_DOWN)), "{rest:x?}");
    assert_eq!(running.ended_code(), Some(0));
}

/// A handshake that does not go on is in flight for as long as `connect_timeout`; nobody has to wait for it.
#[test]
fn a_second_signal_ends_it_at_once() {
    let mut running = Running::start("protocol: mqtts, tls: {certificate: server.pem, key: server.key}", 2);
    let _silent = TcpStream::connect(running.addresses[0]).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !running
        .get("/metrics")
        .lines()
        .any(|line| line.contains("listener=\"one\"") && line.contains("connections") && line.ends_with(" 1"))
    {
        assert!(
            Instant::now() < deadline,
            "the connection is not counted: {}",
            running.get("/metrics")
        );
        std::thread::yield_now();
    }
    running.signal("TERM");
    running.line_with("no more connections are taken");
    running.signal("TERM");
    assert_eq!(running.ended_code(), Some(75));
}

/// Runs it with a listener that it cannot have; the exit code and the only line.
fn refused(listener: &str, more: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path());
    let text = format!(
        "listeners: [{{name: one, {listener}}}]\nauthentication: none\nkafka: {{bootstrap_servers: [\"127.0.0.1:1\"]}}\n\
         rules: [{{name: all, mqtt: a, kafka: {{topic: mqtt}}}}]\n{more}\n"
    );
    std::fs::write(folder.path().join("proxy.yaml"), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-kafka-proxy"));
    let output = command
        .arg("run")
        .current_dir(folder.path())
        .env_remove("RUST_LOG")
        .output()
        .unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(err.lines().count(), 1, "{err}");
    (output.status.code(), err)
}

#[test]
fn a_port_that_is_taken_is_one_line_and_71() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let (code, line) = refused(&format!("address: \"{address}\", protocol: mqtt"), "");
    assert_eq!(code, Some(71), "{line}");
    assert!(
        line.contains("\"one\"") && line.contains(&format!("{address} is in use; ")),
        "{line}"
    );
    // So is that of the admin listener.
    let (code, line) = refused(
        "address: \"127.0.0.1:0\", protocol: mqtt",
        &format!("admin: {{address: \"{address}\"}}"),
    );
    assert_eq!(code, Some(71), "{line}");
    assert!(
        line.contains("admin: ") && line.contains(&format!("{address} is in use; ")),
        "{line}"
    );
}

#[test]
fn a_certificate_that_cannot_be_used_is_one_line_and_64() {
    for (certificate, key, words) in [
        ("gone.pem", "server.key", "gone.pem cannot be read: "),
        ("/", "server.key", "cannot be read: "),
        ("server.key", "server.key", "holds no certificate"),
        ("server.pem", "server.pem", "holds no private key"),
    ] {
        let tls = format!("protocol: mqtts, tls: {{certificate: \"{certificate}\", key: \"{key}\"}}");
        let (code, line) = refused(&format!("address: \"127.0.0.1:0\", {tls}"), "");
        assert_eq!(code, Some(64), "{line}");
        assert!(line.contains("\"one\"") && line.contains(words) && line.contains("; "), "{line}");
    }
}

/// What systemd does for `ListenStream=` with a path: it listens, and starts the process with the socket as its descriptor 3.
#[test]
fn a_unix_socket_that_systemd_hands_over_is_served_and_left_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (settings, path) = (folder.path().join("proxy.yaml"), folder.path().join("mqtt.sock"));
    let text = "listeners: [{name: handed, address: \"systemd:0\", protocol: mqtt, authentication: none}]\n\
                kafka: {bootstrap_servers: [\"127.0.0.1:1\"]}\n\
                rules: [{name: all, mqtt: \"{topic#}\", kafka: {topic: mqtt, key: \"{topic}\"}}]\n";
    std::fs::write(&settings, text).unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    let run = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" run -c \"$1\"";
    let process = Command::new("bash")
        .args(["-c", run, env!("CARGO_BIN_EXE_mqtt-kafka-proxy")])
        .arg(&settings)
        .stdin(OwnedFd::from(listener))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (_, log) = channel();
    let mut program = Program { process, log };
    // It listens already: what comes before the proxy waits in the socket.
    let mut device = UnixStream::connect(&path).unwrap();
    device.set_read_timeout(Some(PATIENCE)).unwrap();
    device.write_all(b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01a").unwrap();
    let mut connack = [0; 4];
    device.read_exact(&mut connack).unwrap();
    assert_eq!(connack, [0x20, 2, 0, 0]);
    drop(device);
    let kill = format!("kill -s TERM {}", program.process.id());
    assert!(Command::new("bash").args(["-c", &kill]).status().unwrap().success());
    assert!(program.process.wait().unwrap().success());
    assert!(path.exists(), "who has handed it over goes on listening there");
}

/// A full disk, and a reader that has stopped: the log is lost, and nobody who is served.
#[test]
fn a_stderr_that_takes_nothing_ends_nobody_and_holds_up_nobody() {
    let (stuck, _reader) = UnixStream::pair().unwrap();
    stuck.set_nonblocking(true).unwrap();
    while (&stuck).write(&[b'x'; 4096]).is_ok() {}
    stuck.set_nonblocking(false).unwrap();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for stderr in [OwnedFd::from(full), OwnedFd::from(stuck)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let users = "vin42:$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc\n";
        std::fs::write(folder.path().join("users.txt"), users).unwrap();
        let text = format!(
            "listeners: [{{name: all, address: \"unix:{}\", protocol: mqtt}}]\nkafka: {{bootstrap_servers: [\"127.0.0.1:1\"]}}\n\
             authentication: [{{method: password_file, file: users.txt}}]\nrules: [{{name: all, mqtt: a, kafka: {{topic: mqtt}}}}]\n",
            path.display()
        );
        std::fs::write(folder.path().join("proxy.yaml"), text).unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_mqtt-kafka-proxy"))
            .arg("run")
            .current_dir(folder.path())
            .stderr(Stdio::from(stderr))
            .spawn()
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        let connect = || loop {
            match UnixStream::connect(&path) {
                Ok(stream) => return stream,
                Err(e) => assert!(Instant::now() < deadline, "{e}"),
            }
            // The interval of this bounded poll.
            std::thread::sleep(Duration::from_millis(20));
        };
        for _ in 0..30 {
            let mut stream = connect();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream
                .write_all(b"\x10\x18\0\x04MQTT\x04\xc2\0\0\0\x01a\0\x05vin42\0\x02no")
                .unwrap();
            let mut answer = [0; 4];
            stream.read_exact(&mut answer).expect("it is answered");
            assert!(answer[..3] == [0x20, 2, 0] && answer[3] > 0, "{answer:x?}");
        }
        assert!(program.try_wait().unwrap().is_none(), "it goes on");
        program.kill().unwrap();
        program.wait().unwrap();
    }
}
