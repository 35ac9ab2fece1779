//! The audit log as an operator gets it: lines of JSON.
#![allow(clippy::unwrap_used)] // Test code, though not in a test function.

use std::cell::RefCell;
use std::io;
use std::sync::{Arc, Mutex, Once};

use serde_json::Value;

/// What was logged.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

thread_local! {
    static OF_THREAD: RefCell<Option<Log>> = const { RefCell::new(None) };
}

/// The thread listens as long as it lives.
pub struct Listening(());

impl Drop for Listening {
    fn drop(&mut self) {
        OF_THREAD.set(None);
    }
}

impl Log {
    /// Listens until the guard goes. The runtime of a test is this one thread.
    ///
    /// All threads have one subscriber, which writes to the log of the thread: with one for each a thread that has none could be the first to come
    /// by a line's place in the code, and then nobody would be told of it.
    pub fn listen() -> (Self, Listening) {
        static ALL: Once = Once::new();
        ALL.call_once(|| {
            let of_thread = || OF_THREAD.with_borrow(Clone::clone).unwrap_or_default();
            let lines = tracing_subscriber::fmt().json().flatten_event(true).with_writer(of_thread);
            lines.init();
        });
        let log = Self::default();
        OF_THREAD.set(Some(log.clone()));
        (log, Listening(()))
    }

    /// The lines of one event and one client.
    pub fn told(&self, event: &str, client: &str) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines
            .filter(|line| line["target"] == "audit" && line["event"] == event && line["client"] == client)
            .collect()
    }

    /// There is one, and it has all that an operator asks for.
    #[track_caller]
    pub fn assert_told(&self, event: &str, client: &str, identity: &str, topic: &str, reason: &str) {
        let told = self.told(event, client);
        let line = told.iter().find(|line| line["reason"] == reason);
        let line = line.unwrap_or_else(|| panic!("no {event} of {client} for {reason}: {told:#?}"));
        assert_eq!(
            (line["identity"].as_str(), line["topic"].as_str()),
            (Some(identity), Some(topic)),
            "{line}"
        );
        assert!(line["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    }
}
