//! A browser: MQTT.js over WebSocket and TLS in headless Chromium, with right and wrong credentials.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::SystemTime;

use aws_lc_rs::signature::Ed25519KeyPair;

use crate::access::{proxy, token};
use crate::shared_kafka;
use crate::stage::{DEADLINE, Proxy, certificates, output, root};

const TOPIC: &str = "browser";

/// Chromium without a window, with a profile of its own that trusts the development CA and nobody else whom the system does not.
struct Browser(Child);

impl Browser {
    fn open(profile: &Path, page: SocketAddr) -> Self {
        let store = profile.join(".pki/nssdb");
        fs::create_dir_all(&store).unwrap();
        let (store, ca) = (format!("sql:{}", store.display()), certificates().join("ca.pem"));
        output("certutil", &["-N", "--empty-password", "-d", &store]);
        let ca = ca.to_str().unwrap();
        output("certutil", &["-A", "-d", &store, "-t", "C,,", "-n", "development", "-i", ca]);
        let child = Command::new("chromium")
            // The sandbox is for pages of strangers, and cannot be had as root.
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--no-first-run", "--disable-background-networking"])
            .arg(format!("--user-data-dir={}", profile.join("profile").display()))
            .arg(format!("http://{page}/"))
            .env("HOME", profile)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(profile.join("log")).unwrap())
            .spawn()
            .expect("chromium (make test installs it)");
        Self(child)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Has the page and MQTT.js, and sends on what the page tells.
fn site(page: String, told: Sender<String>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let page = Arc::new(page);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (page, told) = (Arc::clone(&page), told.clone());
            // A browser opens connections that it may need.
            std::thread::spawn(move || serve(stream, &page, &told));
        }
    });
    address
}

fn serve(mut stream: TcpStream, page: &str, told: &Sender<String>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        if !reader.read_line(&mut head).is_ok_and(|read| read > 0) {
            return;
        }
        let line = head.lines().last().unwrap_or_default().to_ascii_lowercase();
        length = line
            .strip_prefix("content-length:")
            .map_or(length, |number| number.trim().parse().unwrap_or(0));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap_or_default();
    let (kind, content) = match head.split(' ').nth(1) {
        Some("/") => ("text/html", page.as_bytes().to_vec()),
        Some("/mqtt.js") => {
            let bundle = fs::read(root().join(".run/mqttjs/package/dist/mqtt.min.js"));
            ("text/javascript", bundle.expect("MQTT.js (make test fetches it)"))
        }
        Some("/told") => {
            let _ = told.send(String::from_utf8_lossy(&body).into_owned());
            ("text/plain", vec![])
        }
        _ => ("text/plain", vec![]),
    };
    let length = content.len();
    let _ = write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    let _ = stream.write_all(&content);
}

/// One login after the other in one page; what became of each.
fn told_by_browser(proxy: &Proxy, logins: &[(u8, Option<&str>, Option<&str>)]) -> Vec<String> {
    let plan: Vec<_> = logins
        .iter()
        .map(|(version, user, password)| {
            serde_json::json!({
                "url": format!("wss://localhost:{}/mqtt", proxy.wss.port()),
                "version": version, "user": user, "password": password,
                "topic": format!("{TOPIC}/{}", if *user == Some("any") { "tok7" } else { "vin42" }),
            })
        })
        .collect();
    let page = fs::read_to_string(root().join("integration/browser.html")).unwrap();
    let (tell, told) = channel();
    let site = site(page.replace("PLAN", &serde_json::Value::from(plan).to_string()), tell);
    let profile = tempfile::tempdir().unwrap();
    let _browser = Browser::open(profile.path(), site);
    let said = told.recv_timeout(DEADLINE);
    let log = || fs::read_to_string(profile.path().join("log")).unwrap_or_default();
    let said = said.unwrap_or_else(|_| panic!("the page told nothing: {}", log()));
    said.lines().map(str::to_owned).collect()
}

#[test]
fn a_browser_goes_round_with_right_credentials_and_is_told_what_is_wrong_with_others() {
    let kafka = shared_kafka();
    kafka.topic(TOPIC, 1);
    let key = Ed25519KeyPair::generate().unwrap();
    let proxy = proxy(&kafka, TOPIC, &key);
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let (good, old) = (token(&key, "tok7", now + 3600), token(&key, "tok7", now - 60));
    let forged = token(&Ed25519KeyPair::generate().unwrap(), "tok7", now + 3600);
    // What 3.1.1 and 5 call bad user name or password, and not authorized.
    for (version, bad, none) in [(4, "refused 4", "refused 5"), (5, "refused 134", "refused 135")] {
        let (logins, wanted): (Vec<_>, Vec<_>) = [
            ((version, Some("vin42"), Some("s3cret")), "came back"),
            ((version, Some("any"), Some(good.as_str())), "came back"),
            ((version, Some("vin42"), Some("wrong")), bad),
            ((version, Some("vin43"), Some("s3cret")), bad),
            ((version, Some("any"), Some(old.as_str())), bad),
            ((version, Some("any"), Some(forged.as_str())), bad),
            ((version, Some("any"), Some("eyJ.eyJ.x")), bad),
            ((version, None, None), none),
        ]
        .into_iter()
        .unzip();
        assert_eq!(told_by_browser(&proxy, &logins), wanted, "version {version}");
    }
    let mut stored = kafka.consume(TOPIC, "%k|%s");
    stored.sort_unstable();
    assert_eq!(stored, ["tok7|browser 4", "tok7|browser 5", "vin42|browser 4", "vin42|browser 5"]);
    assert!(proxy.metric(&["connections_opened_total", "listener=\"wss\""]) >= 16.0);
}
