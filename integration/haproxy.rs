//! HAProxy, as long as a test wants it.

use crate::stage::eventually;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

pub struct Haproxy(Child);

impl Haproxy {
    /// With this configuration, which is written there; it listens at these addresses.
    pub fn start(path: &Path, configuration: &str, addresses: &[SocketAddr]) -> Self {
        fs::write(path, configuration).unwrap();
        let child = Command::new("haproxy")
            .args(["-db", "-f"])
            .arg(path)
            .stdin(Stdio::null())
            .spawn()
            .expect("haproxy can be run (make test installs it)");
        let haproxy = Self(child);
        for address in addresses {
            eventually("HAProxy listens", || TcpStream::connect(address).ok());
        }
        haproxy
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
