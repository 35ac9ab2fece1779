//! A browser: MQTT.js over WebSocket and TLS in headless Chromium.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use crate::stage::{DEADLINE, certificates, output, root};

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

/// One login after the other in one page, each as `integration/browser.html` takes it; what became of each.
pub fn told_by_browser(logins: &[serde_json::Value]) -> Vec<String> {
    let page = fs::read_to_string(root().join("integration/browser.html")).unwrap();
    let (tell, told) = channel();
    let site = site(page.replace("PLAN", &serde_json::Value::from(logins).to_string()), tell);
    let profile = tempfile::tempdir().unwrap();
    let _browser = Browser::open(profile.path(), site);
    let said = told.recv_timeout(DEADLINE);
    let log = || fs::read_to_string(profile.path().join("log")).unwrap_or_default();
    let said = said.unwrap_or_else(|_| panic!("the page told nothing: {}", log()));
    said.lines().map(str::to_owned).collect()
}
