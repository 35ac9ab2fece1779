//! The custodian of partitions of the retained topic: the member of the group of instances that they are assigned to. It writes what the
//! log lacks (`store::duties`).
//!
//! A membership may be lost without a word, and who has lost it may not know yet: so for a moment two may write. Nothing of what either
//! writes can take a newer message away: what is written once more says as of which record that was so. What is left to chance: one who is paused between its look at the log and its write for longer
//! than [`removal_delay`](crate::relay::RetainedSettings::removal_delay) brings a message back that was overtaken, if the
//! newer one has gone meanwhile. It is there until the next one is retained.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::Notify, time::timeout};

use super::{
    Retained,
    mapped::{AS_OF, HEADER, Mapped},
    store::{Duty, Look, What},
};
use crate::{
    audit::cut,
    kafka::{Header, RecordFields, fetched::RecordView},
    mapping::partition_for_key,
    relay::inbound::now_ms,
    upstream::{AppendError, Appender, GroupEvent, GroupSettings, Outcome, Receipts, State, Topic, TopicPartition, WriteOptions},
};

/// Between two walks over all that is known, at least.
const PAUSE: Duration = Duration::from_secs(1);
/// So much longer than a walk takes is the pause behind it: walks cost two hundredths of a core.
const PAUSES: u32 = 50;
/// Names that are looked at under one lock.
const STEP: usize = 1_000;
/// How long the log may take to give a message.
const PATIENCE: Duration = Duration::from_secs(10);

/// Name and value.
type OwnHeader = (Box<str>, Option<Box<[u8]>>);

/// What a record says of a message: which it is, and as of which record it is written once more.
struct Said {
    mapped: String,
    as_of: Option<String>,
}

/// A message as it lies in the log.
struct Copy {
    value: Box<[u8]>,
    headers: Vec<OwnHeader>,
}

impl Retained {
    /// Whether this instance looks after a partition from now on.
    pub fn look_after(&self, partition: i32, mine: bool) {
        self.custody.send_if_modified(|all| match mine {
            true => all.insert(partition),
            false => all.remove(&partition),
        });
    }
}

/// The membership of an instance that stores no sessions; others bring their own.
pub(super) async fn join(retained: Arc<Retained>, group: String) {
    // While Kafka refuses us, nobody beside the loop over its metadata needs to try.
    let _ = retained.cluster.state().wait_for(|state| *state == State::Ready).await;
    let mut group = retained.cluster.join(GroupSettings {
        group,
        topics: vec![retained.settings.topic.clone()],
        ..GroupSettings::default()
    });
    let lose = |all: &[TopicPartition]| all.iter().for_each(|of| retained.look_after(of.partition, false));
    while let Some(event) = group.next().await {
        match event {
            GroupEvent::Assigned(all) => all.iter().for_each(|one| retained.look_after(one.tenure.of.partition, true)),
            GroupEvent::Revoked(revocation) => lose(revocation.partitions()),
            GroupEvent::Lost { partitions, .. } => lose(&partitions),
            GroupEvent::Refused { error, why } => {
                tracing::error!(
                    error = error.name(),
                    why,
                    "the group of instances refuses this one: retained messages that are gone stay in their topic"
                );
            }
            GroupEvent::Generation { .. } | GroupEvent::Fenced => {}
        }
    }
}

/// Runs until it is aborted.
pub(super) async fn run(retained: Arc<Retained>) {
    let news = Arc::<Notify>::default();
    let mut custodian = Custodian {
        appender: retained.cluster.appender(),
        receipts: Receipts::new(news.clone()),
        news,
        retained,
    };
    let mut custody = custodian.retained.custody.subscribe();
    while custody.wait_for(|mine| !mine.is_empty()).await.is_ok() {
        let looked = custodian.walk().await;
        tokio::time::sleep(PAUSE.max(looked * PAUSES)).await;
    }
}

struct Custodian {
    retained: Arc<Retained>,
    appender: Appender,
    receipts: Arc<Receipts>,
    news: Arc<Notify>,
}

impl Custodian {
    /// Looks at all that is known and does what is to be done; how long the looking took.
    async fn walk(&mut self) -> Duration {
        let (mut behind, mut looked) = (None, Duration::ZERO);
        loop {
            let (topic, loaded) = {
                let progress = self.retained.progress.borrow();
                (progress.topic.clone(), progress.loaded)
            };
            // While it is read, what wins is not known.
            let Some(topic) = topic.filter(|_| loaded) else { return looked };
            let began = Instant::now();
            let duties;
            (duties, behind) = self.look(behind.as_deref(), began);
            looked += began.elapsed();
            self.fulfil(&topic, duties).await;
            if behind.is_none() {
                return looked;
            }
            tokio::task::yield_now().await;
        }
    }

    fn look(&self, behind: Option<&str>, now: Instant) -> (Vec<Duty>, Option<Box<str>>) {
        let retained = &self.retained;
        let mine: BTreeSet<i32> = retained.custody.borrow().clone();
        let look = Look {
            mine: &mine,
            now,
            second: retained.second(),
            delay: u32::try_from(retained.settings.removal_delay.as_secs()).unwrap_or(u32::MAX),
        };
        retained.store().duties(behind, STEP, &look)
    }

    async fn fulfil(&mut self, topic: &Arc<Topic>, duties: Vec<Duty>) {
        let mut open = 0;
        for duty in &duties {
            let mapped = self.mapped(duty);
            let appended = match duty.what {
                What::Remove => {
                    let said = Said { mapped, as_of: None };
                    self.append(topic, (duty, &said), None, std::iter::empty()).await
                }
                What::Clear => match self.still_owed(duty).await {
                    Some(as_of) => {
                        let said = Said {
                            mapped,
                            as_of: Some(as_of.to_string()),
                        };
                        self.append(topic, (duty, &said), Some(b""), std::iter::empty()).await
                    }
                    None => false,
                },
                What::Again { expires } => self.again(topic, (duty, mapped), expires).await,
            };
            open += usize::from(appended);
        }
        self.appender.kick();
        let mut told = Vec::new();
        while told.len() < open {
            self.news.notified().await;
            self.receipts.take(&mut told);
        }
        let failed = told.iter().find(|receipt| !matches!(receipt.outcome, Outcome::Stored { .. }));
        if let Some(receipt) = failed {
            tracing::warn!(outcome = ?receipt.outcome, "retained messages could not be tidied up; it is tried again");
        }
    }

    /// Whether a message is to be written once more also by what is in the log by now, and as of which record. What was retained since may be
    /// newer.
    async fn still_owed(&self, duty: &Duty) -> Option<i64> {
        match timeout(PATIENCE, self.retained.caught_up(&[&duty.topic])).await {
            Ok(Some(_)) => self.retained.store().is_owed(duty),
            Ok(None) | Err(_) => None,
        }
    }

    /// Writes a message once more, unless something has come since; whether it is on its way.
    async fn again(&mut self, topic: &Arc<Topic>, (duty, mapped): (&Duty, String), expires: Option<Instant>) -> bool {
        let retained = self.retained.clone();
        let copy = |record: &RecordView<'_>| Copy::of(record, &duty.topic, &mapped, expires);
        let copy = match timeout(PATIENCE, retained.record(duty.place, copy)).await {
            Ok(Some(copy)) => copy.flatten(),
            // Kafka says nothing: it is tried again.
            Ok(None) | Err(_) => return false,
        };
        let Some(as_of) = self.still_owed(duty).await else { return false };
        let Some(copy) = copy else {
            tracing::error!(
                topic = &*cut(&duty.topic),
                "a retained message is in force that the log has no longer: an instance that starts does not know it"
            );
            retained.store().forgive(duty);
            return false;
        };
        let headers = copy.headers.iter().map(|(name, value)| (&**name, value.as_deref()));
        let as_of = Some(as_of.to_string());
        self.append(topic, (duty, &Said { mapped, as_of }), Some(&copy.value), headers)
            .await
    }

    /// Which message a duty is about.
    fn mapped(&self, duty: &Duty) -> String {
        let origin = self.retained.store().origin(duty.order).clone();
        let mapped = Mapped {
            topic: &origin.topic,
            id: origin.id,
            partition: duty.order.partition,
            offset: duty.order.offset,
        };
        mapped.to_string()
    }

    /// Appends a record that says which message it is about; whether there will be a receipt.
    async fn append<'a, H>(&mut self, topic: &Arc<Topic>, (duty, said): (&'a Duty, &'a Said), value: Option<&'a [u8]>, headers: H) -> bool
    where
        H: Iterator<Item = Header<'a>> + Clone,
    {
        let as_of = said.as_of.iter().map(|as_of| (AS_OF, Some(as_of.as_bytes())));
        let own = std::iter::once(("mqtt.mapped", Some(said.mapped.as_bytes()))).chain(as_of);
        let fields = RecordFields {
            timestamp: now_ms(),
            key: Some(duty.topic.as_bytes()),
            value,
            headers: own.chain(headers),
        };
        let partition = partition_for_key(duty.topic.as_bytes(), topic.partitions.len() as u32) as usize;
        loop {
            let waiter = Some((&self.receipts, 0));
            match self.appender.append(topic, partition, &fields, WriteOptions::default(), waiter) {
                Ok(()) => break,
                Err(AppendError::MemoryFull) => self.appender.memory_available().await,
                Err(AppendError::Closed | AppendError::NoPartition | AppendError::TooLarge) => return false,
            }
        }
        let metrics = &self.retained.metrics.retained;
        match duty.what {
            What::Remove => metrics.tombstones.inc(),
            What::Clear | What::Again { .. } => metrics.repeated.inc(),
        };
        true
    }
}

impl Copy {
    /// `None`: it is another record.
    fn of(record: &RecordView<'_>, topic: &str, mapped: &str, expires: Option<Instant>) -> Option<Self> {
        let is_it = record
            .headers()
            .any(|(name, value)| name == HEADER && value == Some(mapped.as_bytes()));
        let value = record.value.filter(|_| is_it && record.key == Some(topic.as_bytes()))?;
        let left = expires.map(|end| end.saturating_duration_since(Instant::now()).as_secs_f64().ceil().to_string());
        let header = |(name, value): (&[u8], Option<&[u8]>)| {
            let name = std::str::from_utf8(name)
                .ok()
                .filter(|name| name.as_bytes() != HEADER && *name != AS_OF)?;
            let value = match (name, &left) {
                // It counts from when the record is written.
                ("mqtt.expiry", Some(left)) => Some(left.as_bytes()),
                _ => value,
            };
            Some((name.into(), value.map(Into::into)))
        };
        Some(Self {
            value: value.into(),
            headers: record.headers().filter_map(header).collect(),
        })
    }
}
