//! Subscribers: connections that subscribe to one filter and keep a ledger each.

use super::client::{Client, Event, Version};
use super::ledger::{Ledger, Stamp};
use super::publish::epoch;
use hdrhistogram::Histogram;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How often a subscriber that hears nothing looks how many messages are wanted.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Who subscribes to what.
#[derive(Clone, Debug)]
pub struct Audience {
    /// Where.
    pub address: SocketAddr,
    /// By which protocol.
    pub version: Version,
    /// Connections.
    pub clients: u32,
    /// The filter; `{}` stands for the number of the subscriber.
    pub filter: String,
    /// The QoS asked for.
    pub qos: u8,
    /// Messages that each takes without an answer, in version 5; `None`: as many as come.
    pub receive_maximum: Option<u16>,
    /// The client ids: this and the number.
    pub name: String,
    /// How long a connection may wait for its next message.
    pub patience: Duration,
}

/// What one subscriber received.
#[derive(Debug)]
pub struct Received {
    /// Order and completeness.
    pub ledger: Ledger,
    /// Microseconds from due at the publisher (same machine, same clock) to here.
    pub latency: Histogram<u64>,
}

/// Subscribers whose SUBACK has come.
pub struct Seated {
    audience: Audience,
    clients: Vec<Client>,
}

/// Connects and subscribes all. A refused filter is an error.
pub async fn seat(audience: &Audience) -> io::Result<Seated> {
    let mut clients = Vec::new();
    for number in 0..audience.clients {
        let id = format!("{}{number}", audience.name);
        let mut client = Client::connect_taking(audience.address, audience.version, &id, audience.receive_maximum).await?;
        let granted = client
            .subscribe(&audience.filter.replace("{}", &number.to_string()), audience.qos)
            .await?;
        if granted >= 0x80 {
            return Err(io::Error::other(format!("{} was refused with 0x{granted:02x}", audience.filter)));
        }
        clients.push(client);
    }
    Ok(Seated {
        audience: audience.clone(),
        clients,
    })
}

impl Seated {
    /// The connections themselves.
    pub fn into_clients(self) -> Vec<Client> {
        self.clients
    }

    /// Receives until each subscriber has `messages`. One that waits longer than its patience ends with what it has.
    pub async fn receive(self, messages: u64) -> io::Result<Vec<Received>> {
        self.receive_up_to(Arc::new(AtomicU64::new(messages))).await
    }

    /// The same, where the number may become smaller while it goes on.
    pub async fn receive_up_to(self, messages: Arc<AtomicU64>) -> io::Result<Vec<Received>> {
        let mut tasks = JoinSet::new();
        for client in self.clients {
            tasks.spawn(receive(client, Arc::clone(&messages), self.audience.patience));
        }
        let mut all = Vec::new();
        while let Some(one) = tasks.join_next().await {
            all.push(one.map_err(io::Error::other)??);
        }
        Ok(all)
    }
}

async fn receive(mut client: Client, messages: Arc<AtomicU64>, patience: Duration) -> io::Result<Received> {
    let latency = Histogram::new_with_max(600_000_000, 3).expect("the bounds of the histogram are legal");
    let mut received = Received {
        ledger: Ledger::default(),
        latency,
    };
    let mut heard = Instant::now();
    while received.ledger.received < messages.load(Relaxed) && heard.elapsed() < patience {
        match timeout(LOOK_AGAIN, client.read_more()).await {
            Ok(read) => read?,
            Err(_) => continue,
        }
        heard = Instant::now();
        while let Some(event) = client.buffered()? {
            if let Event::Publish { payload, .. } = &event {
                received.ledger.observe(payload);
                if let Some(stamp) = Stamp::read(payload) {
                    received
                        .latency
                        .saturating_record((epoch().as_micros() as u64).saturating_sub(stamp.micros));
                }
            }
            if let Event::Disconnect(reason) = event {
                return Err(io::Error::other(format!("DISCONNECT 0x{reason:02x}")));
            }
            client.answer(&event)?;
        }
        client.flush().await?;
    }
    Ok(received)
}
