//! The way of a client to some instance, over connections that break and that others take over.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::super::Greeting;
use crate::load::client::{Client, Event, Version};
use crate::stage::DEADLINE;

/// Receive maximum. With more in flight a client that leaves now and then would get again and again what it has no time to answer.
const WINDOW: u16 = 8;

/// Finds an instance again whenever it has none.
pub(super) struct Line {
    pub(super) at: SocketAddr,
    pub(super) name: String,
    pub(super) version: Version,
    connection: Option<Client>,
    /// Nothing was said on it yet.
    fresh: bool,
    /// Kafka has its session from its first CONNACK on.
    stored: bool,
}

impl Line {
    pub(super) fn new(at: SocketAddr, name: &str, version: Version) -> Self {
        Self {
            at,
            name: name.to_owned(),
            version,
            connection: None,
            fresh: false,
            stored: false,
        }
    }

    /// Whether the connection is another than when this was last asked.
    pub(super) async fn connect(&mut self) -> bool {
        let begun = Instant::now();
        while self.connection.is_none() {
            assert!(begun.elapsed() < DEADLINE, "{} is let in nowhere", self.name);
            let Ok((client, present)) = greet(self.at, &self.name, self.version).await else {
                // The interval of this bounded poll.
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            assert!(present || !self.stored, "the session of {} is lost", self.name);
            (self.connection, self.fresh, self.stored) = (Some(client), true, true);
        }
        std::mem::take(&mut self.fresh)
    }

    /// Its connection goes on without it.
    pub(super) fn leave(&mut self) -> Option<Client> {
        self.connection.take()
    }

    /// Has another connection before the former one has ended; what came on that, which the takeover ended.
    pub(super) async fn overlap(&mut self) -> Vec<Event> {
        let (Some(mut former), name) = (self.leave(), self.name.clone()) else {
            return Vec::new();
        };
        let (mut last, version) = (Vec::new(), self.version);
        let hearing = async {
            loop {
                match former.next_within(DEADLINE).await {
                    Ok(Event::Disconnect(reason)) => break assert_eq!(reason, 0x8e, "{name}"),
                    Ok(event) => last.push(event),
                    // 3.1.1 has no word for it.
                    Err(error) if version == Version::V4 && error.kind() != io::ErrorKind::TimedOut => return,
                    Err(error) => panic!("{name}: {error} and no 0x8E"),
                }
            }
            let behind = former.next_within(DEADLINE).await;
            let ended = behind.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::TimedOut);
            assert!(ended, "{name}: {behind:?} behind 0x8E");
        };
        let again = async {
            self.connect().await;
            // It is for the next to ask to say what is open.
            self.fresh = true;
        };
        tokio::join!(hearing, again);
        last
    }

    pub(super) fn client(&mut self) -> &mut Client {
        self.connection.as_mut().expect("it is connected")
    }

    /// Sends what is queued. A connection that breaks by that is gone.
    pub(super) async fn flush(&mut self) {
        if let Some(client) = &mut self.connection
            && client.flush().await.is_err()
        {
            self.connection = None;
        }
    }
}

/// A connection and whether its session was there; an error if it was not let in, for whatever reason.
async fn greet(at: SocketAddr, name: &str, version: Version) -> io::Result<(Client, bool)> {
    let greeting = Greeting {
        window: Some(WINDOW),
        ..Greeting::staying(name)
    };
    let mut client = Client::open(at, version).await?;
    let connect = match version {
        Version::V5 => greeting.encode(),
        // Clean session 0, no keep alive.
        Version::V4 => {
            let length = name.len() as u8;
            [&[0x10, 12 + length, 0, 4][..], b"MQTT", &[4, 0, 0, 0, 0, length], name.as_bytes()].concat()
        }
    };
    client.output.extend_from_slice(&connect);
    client.flush().await?;
    match client.next_within(DEADLINE).await? {
        Event::ConnAck {
            accepted: true, present, ..
        } => Ok((client, present)),
        other => Err(io::Error::other(format!("{other:?}"))),
    }
}
