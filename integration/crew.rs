//! A shared subscription whose members stay while brokers come and go, and who coordinates its group.

use crate::load::client::{Client, Event, Version};
use crate::load::ledger::Stamp;
use crate::stage::{Proxy, eventually};
use crate::wire::coordinated_groups;
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use tokio::task::JoinSet;

/// Connections that take part.
const MEMBERS: u32 = 3;

/// What all members together were given.
#[derive(Default)]
struct Taken {
    /// Publisher and number.
    once: HashSet<(u32, u64)>,
    again: u64,
}

/// The members, who acknowledge whatever comes.
pub struct Crew {
    name: String,
    taken: Arc<Mutex<Taken>>,
    /// They end with it.
    members: JoinSet<()>,
}

impl Crew {
    /// Returns once what is published is for them.
    pub async fn begin(proxy: &Proxy, name: &str, filter: &str) -> Self {
        let (taken, mut members) = (Arc::<Mutex<Taken>>::default(), JoinSet::new());
        for number in 0..MEMBERS {
            let mut client = Client::connect(proxy.mqtt, Version::V5, &format!("{name}-{number}")).await.unwrap();
            assert_eq!(client.subscribe(&format!("$share/{name}/{filter}"), 1).await.unwrap(), 1);
            let taken = Arc::clone(&taken);
            members.spawn(async move { take(client, &taken).await.unwrap() });
        }
        eventually("a member of the group", || {
            (proxy.metric(&["shared_memberships"]) == 1.0).then_some(())
        });
        let name = name.to_owned();
        Self { name, taken, members }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    fn count(&self) -> u64 {
        self.taken.lock().unwrap().once.len() as u64
    }

    /// Waits until messages have come since now.
    pub fn goes_on(&self) {
        let before = self.count();
        eventually("the shared subscription goes on", || (self.count() > before + 500).then_some(()));
    }

    /// Waits until they have all of so many messages. What was not committed when a coordinator went may come again.
    pub async fn account(mut self, messages: u64) {
        eventually("none is lost", || (self.count() == messages).then_some(()));
        let again = self.taken.lock().unwrap().again;
        println!("{}: {messages} messages, {again} of them came again", self.name);
        assert!(self.members.try_join_next().is_none(), "all have stayed");
    }
}

async fn take(mut client: Client, taken: &Mutex<Taken>) -> std::io::Result<()> {
    loop {
        let event = client.next().await?;
        if let Event::Publish { payload, .. } = &event {
            let stamp = Stamp::read(payload).expect("of the load");
            let mut taken = taken.lock().unwrap();
            if !taken.once.insert((stamp.client, stamp.sequence)) {
                taken.again += 1;
            }
        }
        client.answer(&event)?;
        client.flush().await?;
    }
}

/// The node that coordinates the group of a shared subscription of this name, of brokers that all live.
pub fn coordinator(bootstrap: &str, name: &str) -> Option<String> {
    let prefix = format!("mqtt-{name}-");
    let place = bootstrap
        .split(',')
        .position(|broker| coordinated_groups(broker).iter().any(|group| group.starts_with(&prefix)));
    place.map(|place| (place + 1).to_string())
}
