//! TLS as others see it, by OpenSSL's client: what is not spoken, over WebSocket neither, and sessions that go on at another instance.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::balancer::Balancer;
use crate::publish::rule;
use crate::shared_kafka;
use crate::stage::{Proxy, certificates, eventually, output};

/// OpenSSL's client, which trusts who signs the proxy's certificate.
fn client(at: SocketAddr, more: &[&str]) -> Command {
    let mut client = Command::new("openssl");
    client
        .args(["s_client", "-connect", &at.to_string(), "-verify_return_error", "-CAfile"])
        .arg(certificates().join("ca.pem"))
        .args(more);
    client
}

/// All that it said, if it ended well, or else.
fn said(output: Output) -> Result<String, String> {
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if output.status.success() { Ok(said) } else { Err(said) }
}

/// Tries a handshake, and no more; what OpenSSL says of it if it came about, or else.
fn handshake(at: SocketAddr, more: &[&str]) -> Result<String, String> {
    said(client(at, more).stdin(Stdio::null()).output().expect("openssl can be run"))
}

/// Kafka is of no use here, and is not there.
fn proxy() -> Proxy {
    Proxy::launch("127.0.0.1:1", &rule("tls"), "")
}

/// The listeners that speak it.
fn listeners(proxy: &Proxy) -> [(&'static str, SocketAddr); 2] {
    [("tls", proxy.tls), ("wss", proxy.wss)]
}

#[test]
fn no_old_version_is_spoken() {
    let proxy = proxy();
    for (name, at) in listeners(&proxy) {
        for version in ["-tls1", "-tls1_1"] {
            // OpenSSL itself speaks them only at this level; it is the proxy that says no.
            let said = handshake(at, &[version, "-cipher", "ALL:@SECLEVEL=0"]).expect_err(version);
            assert!(said.contains("SSL alert number"), "{name} {version}: {said}");
        }
        for version in ["-tls1_2", "-tls1_3"] {
            let said = handshake(at, &[version]).unwrap_or_else(|said| panic!("{name} {version}: {said}"));
            assert!(said.contains("Compression: NONE"), "{name}: {said}");
            if version == "-tls1_2" {
                for words in ["Secure Renegotiation IS supported", "Extended master secret: yes"] {
                    assert!(said.contains(words), "{name}: no {words}: {said}");
                }
            }
        }
    }
}

/// OpenSSL's client takes that for the end of the connection.
#[test]
fn a_client_that_wants_another_handshake_within_the_connection_is_told_no() {
    let proxy = proxy();
    for (name, at) in listeners(&proxy) {
        let mut openssl = client(at, &["-tls1_2"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("openssl can be run");
        // Its letter for that. The pipe stays open, or it would end by itself.
        let mut keys = openssl.stdin.take().expect("its input is a pipe");
        keys.write_all(b"R\n").expect("it reads");
        let said = said(openssl.wait_with_output().expect("it ends")).expect_err("it ends as if nothing were wrong");
        for words in ["RENEGOTIATING", "no renegotiation"] {
            assert!(said.contains(words), "{name}: no {words}: {said}");
        }
    }
}

/// Certificates with RSA keys, of a server and a device: paths of each and its key. With one of EC no cipher that needs RSA can come about anyway.
fn rsa(folder: &Path) -> [[String; 2]; 2] {
    let text = |path: &Path| path.display().to_string();
    let [ca, ca_key] = ["ca.pem", "ca.key"].map(|name| text(&certificates().join(name)));
    let extensions = text(&folder.join("extensions"));
    let names = "basicConstraints=critical,CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n";
    std::fs::write(&extensions, names).expect("the folder is ours");
    ["server", "device"].map(|name| {
        let [pem, key, request] = ["pem", "key", "csr"].map(|kind| text(&folder.join(format!("{name}.{kind}"))));
        let subject = format!("/CN={name}");
        let asked = [
            "req", "-newkey", "rsa:2048", "-nodes", "-subj", &subject, "-keyout", &key, "-out", &request,
        ];
        output("openssl", &asked);
        let signed = [
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-set_serial",
            "7",
            "-days",
            "2",
        ];
        output("openssl", &[&signed[..], &["-extfile", &extensions, "-out", &pem]].concat());
        [pem, key]
    })
}

/// Each cipher that OpenSSL knows is offered alone, to a server with an EC key and one with an RSA key.
#[test]
fn only_ciphers_with_forward_secrecy_and_authenticated_encryption_are_taken() {
    let proxy = proxy();
    let kafka = shared_kafka();
    kafka.topic("tls-rsa", 1);
    let folder = tempfile::tempdir().expect("a folder for certificates");
    let [server, device] = rsa(folder.path());
    let with_rsa = Proxy::start_as(&server, &kafka.bootstrap, &rule("tls-rsa"));
    let known = output("openssl", &["ciphers", "-s", "-tls1_2", "ALL:COMPLEMENTOFALL:@SECLEVEL=0"]);
    let known: Vec<&str> = known.trim().split(':').filter(|name| !name.starts_with("TLS_")).collect();
    assert!(
        known.contains(&"AES128-SHA") && known.len() > 30,
        "weak ones are among them: {known:?}"
    );
    for (_, at) in listeners(&proxy) {
        takes_strong_ciphers_only(at, &known, "ECDHE-ECDSA-");
    }
    for (_, at) in listeners(&with_rsa) {
        takes_strong_ciphers_only(at, &known, "ECDHE-RSA-");
    }
    let shown = ["-tls1_2", "-cert", &device[0], "-key", &device[1]];
    let said = handshake(with_rsa.tls, &shown).expect("the certificate of the device is good");
    assert!(said.contains("Client Certificate Types: "), "it is asked for one: {said}");
}

/// `kind`: with which the names of all begin that are taken.
fn takes_strong_ciphers_only(at: SocketAddr, known: &[&str], kind: &str) {
    let offer = |name: &str| handshake(at, &["-tls1_2", "-cipher", &format!("{name}:@SECLEVEL=0")]);
    let tried = known.iter().map(|&name| (name, offer(name)));
    let (taken, refused): (Vec<_>, Vec<_>) = tried.partition(|(_, tried)| tried.is_ok());
    let is_strong = |name: &str| {
        name.starts_with(kind)
            && ["-AES128-GCM-", "-AES256-GCM-", "-CHACHA20-"]
                .iter()
                .any(|kind| name.contains(kind))
    };
    let taken: Vec<_> = taken.iter().map(|(name, _)| *name).collect();
    let strong: Vec<_> = known.iter().copied().filter(|name| is_strong(name)).collect();
    assert!(strong.len() >= 2 && taken == strong, "taken: {taken:?}; strong: {strong:?}");
    for (name, tried) in refused {
        let said = tried.expect_err("refused");
        assert!(said.contains("alert handshake failure"), "{name}: {said}");
    }
    for (suite, is_taken) in [
        ("TLS_AES_128_GCM_SHA256", true),
        ("TLS_AES_256_GCM_SHA384", true),
        ("TLS_CHACHA20_POLY1305_SHA256", true),
        ("TLS_AES_128_CCM_SHA256", false),
        ("TLS_AES_128_CCM_8_SHA256", false),
    ] {
        assert_eq!(handshake(at, &["-tls1_3", "-ciphersuites", suite]).is_ok(), is_taken, "{suite}");
    }
}

/// A connection of OpenSSL that stays open.
struct Held(Child);

impl Held {
    fn open(balancer: &Balancer, version: &str, session: [&str; 2]) -> Self {
        let mut child = Command::new("openssl")
            .args(["s_client", "-connect", &balancer.tls.to_string(), version])
            .args(session)
            .arg("-CAfile")
            .arg(certificates().join("ca.pem"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl can be run");
        let mut out = child.stdout.take().expect("its output is a pipe");
        // All that it says at first, so that it never waits for us.
        let mut said = [0; 1];
        let mut text = Vec::new();
        while !text.ends_with(b"Verify return code: ") && out.read(&mut said).expect("it can be read") == 1 {
            text.push(said[0]);
        }
        std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
        let held = Self(child);
        let text = String::from_utf8_lossy(&text).into_owned();
        let kind = if session[0] == "-sess_in" {
            "Reused, TLSv1."
        } else {
            "New, TLSv1."
        };
        assert!(text.contains(kind), "{version} {session:?}: {text}");
        held
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The first connection stays open, so the balancer gives the second one to the other instance.
#[test]
fn a_session_of_one_instance_goes_on_at_the_other() {
    let kafka = shared_kafka();
    kafka.topic("tls-resumed", 1);
    let [a, b] = [(); 2].map(|()| Proxy::start(&kafka.bootstrap, &rule("tls-resumed"), ""));
    let balancer = Balancer::start(&[&a, &b]);
    let opened = || [&a, &b].map(|proxy| proxy.metric(&["connections_opened_total", "\"tls\""]));
    let folder = tempfile::tempdir().expect("a folder for sessions");
    for version in ["-tls1_2", "-tls1_3"] {
        let before = opened();
        let session = folder.path().join(version);
        let file = session.to_str().expect("a path in UTF-8");
        let _first = Held::open(&balancer, version, ["-sess_out", file]);
        eventually("its session is there", || {
            std::fs::metadata(&session).ok().filter(|meta| meta.len() > 0)
        });
        let _second = Held::open(&balancer, version, ["-sess_in", file]);
        assert_eq!(opened(), before.map(|count| count + 1.0), "{version}: one at each");
    }
}
