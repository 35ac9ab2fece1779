//! The processes that a test or a benchmark plays with: a real Kafka, the proxy's binary, and free ports for both.
//!
//! Kafka is kept by the script `integration/kafka/kafka`. It hangs on our end of a pipe, so it goes when we go, however that is.

// The tests and the benchmark each use a part of it.
#![allow(dead_code)]

use crate::machine::Beside;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The longest that any single condition may take to come true on a loaded machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

static FOLDERS: AtomicU32 = AtomicU32::new(0);

/// The project's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A folder of this process under `target/tmp`. It stays: logs of a failed run are wanted.
fn folder(what: &str) -> PathBuf {
    let number = FOLDERS.fetch_add(1, Relaxed);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{what}-{}-{number}", std::process::id()));
    fs::create_dir_all(&path).expect("target/tmp can be written");
    path
}

/// An address that nothing listens on, and that nobody gets before it is used: each call gives another one, below the ports that the system
/// gives to connections.
pub fn free_address() -> SocketAddr {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    eventually("a free port", || {
        let place = std::process::id().wrapping_mul(97).wrapping_add(TRIED.fetch_add(1, Relaxed)) % 1_600;
        let address = SocketAddr::from(([127, 0, 0, 1], 31_100 + place as u16));
        TcpListener::bind(address).is_ok().then_some(address)
    })
}

/// Several of them.
pub fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    [(); N].map(|()| free_address())
}

/// A port from which a Kafka of so many nodes finds all it needs: brokers from it on, controllers ten above. Below the ports that the
/// system gives to connections: one of those could take the place of a broker that is about to start, or to start again.
pub fn free_base(nodes: u16) -> u16 {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    eventually("free ports for Kafka", || {
        // Each call begins elsewhere, and so does each process.
        let place = std::process::id().wrapping_mul(97).wrapping_add(TRIED.fetch_add(1, Relaxed)) % 550;
        let base = 20_000 + 20 * place as u16;
        (0..nodes).all(|node| free(base + node) && free(base + node + 10)).then_some(base)
    })
}

/// Waits until `condition` gives a value; panics with `what` after [`DEADLINE`].
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        // The interval of this bounded poll.
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether `condition` comes to hold within [`DEADLINE`]. Other tasks of the runtime go on meanwhile.
pub async fn comes_to_hold(mut condition: impl FnMut() -> bool) -> bool {
    let polled = tokio::time::timeout(DEADLINE, async {
        while !condition() {
            // The interval of this bounded poll.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    polled.await.is_ok()
}

/// Development certificates, made once for this process by `certs/make`.
pub fn certificates() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let path = folder("certs");
        let status = Command::new(root().join("certs/make"))
            .arg(&path)
            .status()
            .expect("certs/make can be run");
        assert!(status.success(), "certs/make: {status}");
        // Of all proxies, as of the instances behind one balancer.
        let keys = output("openssl", &["rand", "-base64", "48"]);
        fs::write(path.join("tickets"), keys).expect("the folder was just made");
        path
    })
}

/// Runs a program to its end; panics unless it ends with 0. Returns its standard output.
pub fn output(program: &str, arguments: &[&str]) -> String {
    output_of(Command::new(program).args(arguments))
}

fn output_of(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error} (make test installs it)"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// For so long a [`Kafka::start`] locks a message of a share group, unless its lock is renewed.
pub const LOCK: Duration = Duration::from_secs(2);

/// A real Apache Kafka.
pub struct Kafka {
    folder: PathBuf,
    script: Child,
    /// host:port of each node, with commas between.
    pub bootstrap: String,
    /// Of the script, whenever it is run for this Kafka.
    environment: Environment,
    /// Its test is one of several, unless it is [for all](Self::for_all).
    beside: Option<Beside>,
}

type Environment = &'static [(&'static str, &'static str)];

/// What whoever runs the tests has set may be meant for one Kafka of theirs, and these are many.
fn script(environment: Environment) -> Command {
    let mut script = Command::new(root().join("integration/kafka/kafka"));
    script.env_remove("KAFKA_HEAP_OPTS").env_remove("KAFKA_SETSID");
    script.envs(environment.iter().copied());
    script
}

impl Kafka {
    /// One node on a free port, whose locks of share groups run out soon.
    pub fn start() -> Self {
        let lock = LOCK.as_millis();
        let locks = [
            "group.share.min.record.lock.duration.ms=1000",
            &format!("group.share.record.lock.duration.ms={lock}"),
        ];
        Self::start_with(free_base(1), 1, &locks)
    }

    /// So many nodes (1 or 3) whose brokers listen on `base` and above.
    pub fn start_on(base: u16, nodes: u16) -> Self {
        Self::start_with(base, nodes, &[])
    }

    /// The same with broker settings of its own, as `name=value`.
    pub fn start_with(base: u16, nodes: u16, settings: &[&str]) -> Self {
        Self::start_as(&[], base, nodes, settings, &[])
    }

    /// The same with SCRAM users, as the script wants them.
    pub fn start_for(base: u16, nodes: u16, settings: &[&str], users: &[&str]) -> Self {
        Self::start_as(&[], base, nodes, settings, users)
    }

    /// One node of the oldest release that is supported, with broker settings of its own.
    pub fn start_oldest(base: u16, settings: &[&str]) -> Self {
        Self::start_as(&["--oldest"], base, 1, settings, &[])
    }

    /// One node on a free port with as much memory as Kafka's own start script gives it, most of it for what is new: with the little that it has
    /// elsewhere it stands still for a collection about each second under load, and those are the 99th percentile of all who wait for it. In the
    /// session of the tests: who stands back there stands back behind this Kafka, too. Whoever measures beside it has the machine alone by other
    /// means.
    pub fn start_in_full() -> Self {
        const IN_FULL: Environment = &[("KAFKA_HEAP_OPTS", "-Xms1g -Xmx1g -Xmn768m"), ("KAFKA_SETSID", "no")];
        let mut kafka = Self::start_in(IN_FULL, &[], free_base(1), 1, &[], &[]);
        kafka.beside = None;
        kafka
    }

    fn start_as(release: &[&str], base: u16, nodes: u16, settings: &[&str], users: &[&str]) -> Self {
        Self::start_in(&[], release, base, nodes, settings, users)
    }

    fn start_in(environment: Environment, release: &[&str], base: u16, nodes: u16, settings: &[&str], users: &[&str]) -> Self {
        let beside = Some(Beside::others());
        let folder = folder("kafka");
        let errors = File::create(folder.join("script.log")).expect("the folder was just made");
        let mut script = script(environment)
            .args(release)
            .arg("--dir")
            .arg(&folder)
            .args(["hold", "--port", &base.to_string(), "--nodes", &nodes.to_string()])
            .args(settings.iter().flat_map(|setting| ["--set", *setting]))
            .args(users.iter().flat_map(|user| ["--user", *user]))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .expect("the Kafka script can be run");
        let mut bootstrap = String::new();
        let output = script.stdout.take().expect("its output is a pipe");
        BufReader::new(output).read_line(&mut bootstrap).expect("its output can be read");
        let bootstrap = bootstrap.trim().to_owned();
        let why = || fs::read_to_string(folder.join("script.log")).unwrap_or_default();
        assert!(!bootstrap.is_empty(), "Kafka did not start: {}", why());
        Self {
            folder,
            script,
            bootstrap,
            environment,
            beside,
        }
    }

    /// It outlives its test.
    pub fn for_all(mut self) -> Self {
        self.beside = None;
        self
    }

    /// Runs a command of the script on this Kafka.
    /// What it prints is returned.
    pub fn command(&self, arguments: &[&str]) -> String {
        output_of(script(self.environment).arg("--dir").arg(&self.folder).args(arguments))
    }

    /// Creates a topic.
    pub fn topic(&self, name: &str, partitions: u32) {
        self.command(&["topic", name, &partitions.to_string()]);
    }

    /// Writes one record by `kcat`; a header is `name=value`.
    pub fn produce(&self, topic: &str, key: &str, headers: &[&str], value: &str) {
        let headers = headers.iter().flat_map(|header| ["-H", *header]);
        let mut kcat = Command::new("kcat")
            .args(["-P", "-b", &self.bootstrap, "-t", topic, "-k", key])
            .args(headers)
            .stdin(Stdio::piped())
            .spawn()
            .expect("kcat can be run");
        kcat.stdin
            .take()
            .expect("its input is a pipe")
            .write_all(value.as_bytes())
            .expect("kcat reads");
        assert!(kcat.wait().expect("kcat ends").success(), "kcat wrote to {topic}");
    }

    /// All records of a topic as lines of `format` (kcat's), up to its end at this moment.
    pub fn consume(&self, topic: &str, format: &str) -> Vec<String> {
        let text = output(
            "kcat",
            &[
                "-C",
                "-q",
                "-e",
                "-b",
                &self.bootstrap,
                "-t",
                topic,
                "-o",
                "beginning",
                "-f",
                &format!("{format}\n"),
            ],
        );
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}

/// The proxy's binary with a configuration of its own.
pub struct Proxy {
    child: Child,
    log: PathBuf,
    /// The plain listener.
    pub mqtt: SocketAddr,
    /// The TLS listener (certificates of [`certificates`], no client certificate).
    pub tls: SocketAddr,
    /// WebSocket, path `/mqtt`.
    pub ws: SocketAddr,
    /// WebSocket over TLS, with the same certificate. Nobody is asked for one, if the test does not say so: browsers give up then.
    pub wss: SocketAddr,
    /// Metrics, health, readiness.
    pub admin: SocketAddr,
}

/// A configuration in a folder of its own.
struct Written {
    settings: PathBuf,
    mqtt: SocketAddr,
    tls: SocketAddr,
    ws: SocketAddr,
    wss: SocketAddr,
    admin: SocketAddr,
}

impl Proxy {
    /// Starts it and waits until it is ready. `rules` is the YAML list under `rules:`, `kafka` what stands
    /// under `kafka:` beside the servers, as ", producer: {…}".
    pub fn start(bootstrap: &str, rules: &str, kafka: &str) -> Self {
        Self::start_in(&[], bootstrap, rules, kafka)
    }

    /// The same with variables in its environment.
    pub fn start_in(environment: &[(&str, &str)], bootstrap: &str, rules: &str, kafka: &str) -> Self {
        let mut proxy = Self::launch_in(environment, bootstrap, rules, kafka);
        proxy.becomes_ready();
        proxy
    }

    /// The same with a certificate and key of its own.
    pub fn start_as(pair: &[String; 2], bootstrap: &str, rules: &str) -> Self {
        Self::start_edited(bootstrap, rules, |mut text| {
            for (name, own) in ["server.pem", "server.key"].iter().zip(pair) {
                text = text.replace(&certificates().join(name).display().to_string(), own);
            }
            text
        })
    }

    /// The same whose TLS listeners let nobody in without a certificate of this authority that is not on this list (paths of both).
    pub fn start_requiring(own: &[String; 2], bootstrap: &str, rules: &str) -> Self {
        let [ca, crl] = own;
        let former = format!("client_ca: \"{}\", client_auth: optional", certificates().join("ca.pem").display());
        let asked = format!("client_ca: \"{ca}\", client_crl: \"{crl}\", client_auth: required");
        Self::start_edited(bootstrap, rules, |text| {
            let wss = "protocol: wss, tls: {";
            assert!(text.contains(&former) && text.contains(wss), "{text}");
            text.replace(&former, &asked).replace(wss, &format!("{wss}{asked}, "))
        })
    }

    /// The same with another text of its configuration.
    pub fn start_edited(bootstrap: &str, rules: &str, edit: impl FnOnce(String) -> String) -> Self {
        let written = Self::written(bootstrap, rules, "");
        let text = fs::read_to_string(&written.settings).expect("it was just written");
        fs::write(&written.settings, edit(text)).expect("it can be written again");
        let mut proxy = Self::run(&[], &written);
        proxy.becomes_ready();
        proxy
    }

    /// Starts it with a file that somebody else has written, with these listeners and no others, and waits until it is ready.
    pub fn start_from(settings: &Path, mqtt: SocketAddr, admin: SocketAddr) -> Self {
        let nothing = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut proxy = Self::run(
            &[],
            &Written {
                settings: settings.to_owned(),
                mqtt,
                admin,
                tls: nothing,
                ws: nothing,
                wss: nothing,
            },
        );
        proxy.becomes_ready();
        proxy
    }

    /// Waits until it is ready.
    pub fn becomes_ready(&mut self) {
        eventually("the proxy is ready", || {
            self.assert_running();
            (self.get("/readyz").ok()?.0 == 200).then_some(())
        });
    }

    /// Starts it and waits until it listens.
    pub fn launch(bootstrap: &str, rules: &str, kafka: &str) -> Self {
        Self::launch_in(&[], bootstrap, rules, kafka)
    }

    /// The same with variables in its environment.
    pub fn launch_in(environment: &[(&str, &str)], bootstrap: &str, rules: &str, kafka: &str) -> Self {
        Self::run(environment, &Self::written(bootstrap, rules, kafka))
    }

    /// A configuration file, and where its listeners are to be.
    fn written(bootstrap: &str, rules: &str, kafka: &str) -> Written {
        let folder = folder("proxy");
        let [mqtt, tls, ws, wss, admin] = free_addresses();
        let certs = certificates().display();
        let bootstrap = bootstrap
            .split(',')
            .map(|server| format!("\"{server}\""))
            .collect::<Vec<_>>()
            .join(", ");
        // As many replicas as there are brokers to hold them.
        let brokers = bootstrap.split(',').count();
        let topics = format!(", topics: {{replication: {brokers}}}");
        let topics = if kafka.contains("topics:") { "" } else { &topics };
        // It must be written. In a list, so that who shows a name or a password where none is asked for is refused.
        let access = if rules.contains("authentication:") {
            ""
        } else {
            "authentication: [{method: anonymous}]\n"
        };
        let pair = format!("certificate: \"{certs}/server.pem\", key: \"{certs}/server.key\", ticket_keys: \"file:{certs}/tickets\"");
        let asking = format!("client_ca: \"{certs}/ca.pem\", client_auth: optional");
        let text = format!(
            "listeners:\n  \
               - {{name: tcp, address: \"{mqtt}\", protocol: mqtt}}\n  \
               - {{name: tls, address: \"{tls}\", protocol: mqtts, tls: {{{pair}, {asking}}}}}\n  \
               - {{name: ws, address: \"{ws}\", protocol: ws}}\n  \
               - {{name: wss, address: \"{wss}\", protocol: wss, tls: {{{pair}}}}}\n\
             admin: {{address: \"{admin}\"}}\n\
             {access}kafka: {{bootstrap_servers: [{bootstrap}]{kafka}{topics}}}\nrules:\n{rules}\n",
        );
        let settings = folder.join("proxy.yaml");
        fs::write(&settings, text).expect("the folder was just made");
        Written {
            settings,
            mqtt,
            tls,
            ws,
            wss,
            admin,
        }
    }

    /// `check --online` of such a configuration: its exit code, and all that it said.
    pub fn check_online(bootstrap: &str, rules: &str, kafka: &str) -> (i32, String) {
        Self::check_online_in(&[], bootstrap, rules, kafka)
    }

    /// The same with variables in its environment.
    pub fn check_online_in(environment: &[(&str, &str)], bootstrap: &str, rules: &str, kafka: &str) -> (i32, String) {
        let written = Self::written(bootstrap, rules, kafka);
        let output = Command::new(env!("CARGO_BIN_EXE_mqtt-kafka-proxy"))
            .args(["check", "--online", "-c"])
            .arg(&written.settings)
            .envs(environment.iter().copied())
            .output()
            .expect("the proxy can be run");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code().expect("it ends by itself"),
            String::from_utf8(said).expect("it speaks UTF-8"),
        )
    }

    fn run(environment: &[(&str, &str)], written: &Written) -> Self {
        let Written {
            settings,
            mqtt,
            tls,
            ws,
            wss,
            admin,
        } = written;
        let log = settings.with_file_name("log");
        let child = Self::spawn(environment, settings, &log);
        let mut proxy = Self {
            child,
            log,
            mqtt: *mqtt,
            tls: *tls,
            ws: *ws,
            wss: *wss,
            admin: *admin,
        };
        proxy.listens();
        proxy
    }

    fn spawn(environment: &[(&str, &str)], settings: &Path, log: &Path) -> Child {
        let output = File::options()
            .append(true)
            .create(true)
            .open(log)
            .expect("the folder was made for it");
        Command::new(env!("CARGO_BIN_EXE_mqtt-kafka-proxy"))
            .args(["run", "-c"])
            .arg(settings)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file can be cloned"))
            .stderr(output)
            .spawn()
            .expect("the proxy can be run")
    }

    fn listens(&mut self) {
        eventually("the proxy listens", || {
            self.assert_running();
            TcpStream::connect(self.mqtt).ok()
        });
    }

    /// Runs it again after [`Proxy::kill`], at the same addresses, and waits until it listens.
    pub fn start_again(&mut self) {
        self.child = Self::spawn(&[], &self.configuration(), &self.log);
        self.listens();
    }

    /// Whether its process has ended.
    pub fn is_dead(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_some()
    }

    fn assert_running(&mut self) {
        if let Some(status) = self.child.try_wait().expect("a child can be asked") {
            panic!("the proxy ended: {status}\n{}", self.log());
        }
    }

    /// Its configuration file.
    pub fn configuration(&self) -> PathBuf {
        self.log.with_file_name("proxy.yaml")
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks the admin listener: status and body.
    pub fn get(&self, path: &str) -> io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(self.admin)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .ok_or(io::ErrorKind::InvalidData)?;
        Ok((status, body.to_owned()))
    }

    /// The sum over all series of `/metrics` whose name and labels contain each of `words`.
    pub fn metric(&self, words: &[&str]) -> f64 {
        let (status, text) = self.get("/metrics").expect("the admin listener answers");
        assert_eq!(status, 200, "/metrics");
        let mut found = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter(|line| words.iter().all(|word| line.contains(word)))
            .peekable();
        assert!(found.peek().is_some(), "no metric with {words:?} in\n{text}");
        found.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// SIGKILL: it says goodbye to nobody.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }

    /// SIGHUP: it reads all its files anew, and fetches key sets.
    pub fn reads_anew(&self) {
        self.signal("HUP");
    }

    fn signal(&self, name: &str) {
        // The shell's own: a small system has no program of that name.
        output("bash", &["-c", &format!("kill -{name} {}", self.child.id())]);
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        eventually("the proxy ends after SIGTERM", || {
            self.child.try_wait().expect("a child can be asked")
        })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("---- log of the proxy ({})\n{}", self.log.display(), self.log());
        }
    }
}
