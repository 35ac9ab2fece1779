//! From a SUBSCRIBE to what must be asked of Kafka, and from its answers to what is granted. What lies in between is `placing`.

use std::{collections::HashMap, sync::Arc, time::Instant};

use tokio::task::AbortHandle;

use super::{
    chunk::SourceId,
    desk::Desk,
    granting::Granted,
    hub::Seat,
    lookouts::Lookouts,
    placing::place as place_wishes,
    retained::Stream,
    share::{self, SharedSeat},
};
use crate::{
    audit::cut,
    mapping::{KafkaTopics, Source, Unmapped},
    mqtt::{QoS, ReasonCode, Subscribe, SubscribeFilter, topic},
    ownership::Source as StoredSource,
    session::{Requested, Session, SubscriptionKey, Ticket},
};

/// A SUBSCRIBE that waits for Kafka.
#[derive(Debug)]
pub struct Asked {
    ticket: Ticket,
    /// What each filter gets if nothing more is in its way.
    reasons: Vec<ReasonCode>,
    /// The task that places its wishes. Aborted, it gives back the seats that it has taken.
    pub placing: AbortHandle,
}

/// One filter of a SUBSCRIBE on its way.
#[derive(Debug)]
pub struct Wish {
    /// Its place in the packet.
    pub place: usize,
    /// The session's name for it.
    pub key: SubscriptionKey,
    /// The filter; of a shared subscription with its `$share`.
    pub filter: Box<str>,
    /// What the client asked for.
    pub granted: QoS,
    /// What must be read for it. Empty: it is read already.
    pub sources: Vec<Source>,
    /// Kafka topics of those that come otherwise: the session goes on there when they do.
    pub awaited: Vec<Box<str>>,
    /// Of a shared subscription: unacknowledged messages that the client takes.
    pub shared: Option<usize>,
    /// It gets retained messages.
    pub retained: bool,
}

/// From which offset on a subscription gets the records of a source.
#[derive(Clone, Copy, Debug)]
pub struct StartAt {
    /// The subscription.
    pub key: SubscriptionKey,
    /// The partition.
    pub source: SourceId,
    /// The same, as it is stored.
    pub place: StoredSource,
    /// First offset that belongs to it.
    pub offset: i64,
}

/// What became of a SUBSCRIBE.
#[derive(Debug)]
pub struct Subscribed {
    /// Of the SUBSCRIBE.
    pub ticket: Ticket,
    /// For each wish that was refused, its place and why: a label of the metrics. The client is told 0x83, or 0x97 beyond what there is of shared subscriptions.
    pub refused: Vec<(usize, &'static str)>,
    /// All that it asked for.
    pub keys: Vec<SubscriptionKey>,
    /// The seats of those that were granted.
    pub seats: Vec<(SubscriptionKey, Vec<Seat>)>,
    /// Where they start.
    pub starts: Vec<StartAt>,
    /// The same of shared subscriptions, which start where their groups are.
    pub shared: Vec<(SubscriptionKey, SharedSeat)>,
    /// The retained messages of those that get them.
    pub retained: Vec<Stream>,
}

impl Subscribed {
    pub fn nothing(ticket: Ticket) -> Self {
        Self {
            ticket,
            refused: Vec::new(),
            keys: Vec::new(),
            seats: Vec::new(),
            starts: Vec::new(),
            shared: Vec::new(),
            retained: Vec::new(),
        }
    }
}

/// Bytes that a share name may have: it is a part of a group's id.
const MAX_SHARE_NAME: usize = 200;

impl Desk {
    /// Takes a SUBSCRIBE the session has just entered. It is answered at once if nothing must be asked of Kafka.
    pub(super) fn subscribe(&mut self, session: &mut Session, subscribe: &Subscribe<'_>, ticket: Ticket, now: Instant) {
        let mut reasons = Vec::with_capacity(session.requested(ticket).len());
        let mut wishes = Vec::new();
        for (place, (filter, requested)) in subscribe.filters.iter().zip(session.requested(ticket)).enumerate() {
            let reason = match requested {
                Requested::Subscribe { .. } if !self.may_keep(session.client_id(), filter.filter, filter.qos, now) => {
                    self.refuse_filter(ReasonCode::NotAuthorized, ReasonCode::NotAuthorized.name())
                }
                Requested::Subscribe { key, new } => {
                    let retained = self.shared.gets_retained(filter, *new);
                    let most = session.receive_maximum();
                    self.wish(place, (filter, retained), *key, most, &mut wishes)
                }
                Requested::Refused(reason) => *reason,
                Requested::Removed { .. } | Requested::Denied | Requested::NotFound => ReasonCode::UnspecifiedError,
            };
            reasons.push(reason);
        }
        self.count_refused(session.requested(ticket));
        let beyond = session.beyond(ticket);
        if beyond > 0 {
            self.shared.metrics.refused_times(ReasonCode::QuotaExceeded.name(), beyond);
        }
        if wishes.is_empty() {
            let answer = Subscribed::nothing(ticket);
            return self.grant(session, Granted { answer, reasons }, now);
        }
        self.stir(now);
        let lookouts = self.lookouts(HashMap::new()).cloned();
        let shared = &self.shared;
        self.outbound.pending.extend(wishes.iter().map(|w| w.key));
        let placing = tokio::spawn(place_wishes(
            (shared.hub.clone(), shared.shares.clone()),
            shared.retained.clone(),
            (self.mailbox.clone(), lookouts),
            ticket,
            wishes,
            shared.settings.delivery_timeout,
        ));
        self.asked.push(Asked {
            ticket,
            reasons,
            placing: placing.abort_handle(),
        });
    }

    /// What one filter of a SUBSCRIBE gets if all goes well; a wish if Kafka must be asked first.
    fn wish(
        &mut self,
        place: usize,
        (filter, retained): (&SubscribeFilter<'_>, bool),
        key: SubscriptionKey,
        receive_maximum: usize,
        wishes: &mut Vec<Wish>,
    ) -> ReasonCode {
        // In 3.x the codec knows nothing of shared subscriptions, and looks no further.
        let shared = match topic::parse_share(filter.filter) {
            Ok(shared) if shared.is_none_or(|shared| shared.name.len() <= MAX_SHARE_NAME) => shared,
            _ => return self.refuse_filter(ReasonCode::TopicFilterInvalid, "share_name"),
        };
        let plain = shared.map_or(filter.filter, |shared| shared.filter);
        let granted = granted(filter.qos);
        let wish = |(sources, awaited)| Wish {
            place,
            key,
            filter: filter.filter.into(),
            granted: filter.qos,
            sources,
            awaited,
            shared: shared.map(|_| receive_maximum),
            retained,
        };
        // It may have nothing yet, if it goes on in topics that are away.
        let away = self.tenancy.as_deref().is_some_and(|tenancy| tenancy.is_waiting(key));
        if away || self.seats.contains_key(&key) {
            // Its seats are granted what it asks for once that is answered: it may be refused for its retained messages.
            // Its retained messages are sent once more [MQTT-3.8.4-4].
            if retained {
                wishes.push(wish((Vec::new(), Vec::new())));
            }
            return granted;
        }
        if self.shares.as_ref().is_some_and(|shares| shares.seats.contains_key(&key)) {
            return granted;
        }
        match self.shared.rules.sources(plain) {
            // The proxy's own state is nobody's to read, whatever the filter puts into a rule's Kafka topic.
            Ok(sources) if sources.iter().any(|source| self.is_state(&source.kafka_topics)) => {
                self.refuse_filter(ReasonCode::ImplementationSpecificError, "state_topic")
            }
            Ok(sources) => {
                let (sources, awaited) = match shared {
                    None => self.leave_to_session(sources, key),
                    Some(_) => (sources, Vec::new()),
                };
                wishes.push(wish((sources, awaited)));
                granted
            }
            Err(unmapped) => {
                let refusal = self.refuse_filter(ReasonCode::TopicFilterInvalid, "unmapped");
                tracing::debug!(filter = &*cut(filter.filter), why = "unmapped", "a filter gets no messages");
                if unmapped == Unmapped::Drop { granted } else { refusal }
            }
        }
    }

    /// Without those that come by the session, which waits for their topics; and the names of topics that do, of those that have holes.
    fn leave_to_session(&mut self, mut sources: Vec<Source>, key: SubscriptionKey) -> (Vec<Source>, Vec<Box<str>>) {
        let mut awaited = Vec::new();
        if let Some(tenancy) = self.tenancy.as_deref_mut() {
            sources.retain(|source| match &source.kafka_topics {
                KafkaTopics::One(name) => !tenancy.waits_too(name, key),
                KafkaTopics::Like(pattern) => {
                    awaited.extend(tenancy.waits_along(pattern, key));
                    true
                }
            });
        }
        (sources, awaited)
    }

    /// The proxy's own state is nobody's to read. Names with holes leave it out by themselves.
    fn is_state(&self, topics: &KafkaTopics) -> bool {
        matches!(topics, KafkaTopics::One(name) if self.shared.is_state_topic(name))
    }

    /// What looks out for Kafka topics that come later, if rules read any by names with holes. `places`: where the session stands.
    pub(super) fn lookouts(&mut self, places: HashMap<StoredSource, i64>) -> Option<&Arc<Lookouts>> {
        let hub = &self.shared.hub;
        if self.lookouts.is_none() && hub.rules.reads_patterns() {
            self.lookouts = Some(Lookouts::new(hub.clone(), self.mailbox.clone(), places));
        }
        self.lookouts.as_ref()
    }

    /// What the session refuses by itself: of a packet that may have a hundred thousand filters, nearly all for one reason.
    fn count_refused(&self, requested: &[Requested]) {
        for run in requested.chunk_by(|one, next| one == next) {
            if let Requested::Refused(reason) = run[0] {
                self.shared.metrics.refused_times(reason.name(), run.len());
            }
        }
    }

    fn refuse_filter(&self, reason: ReasonCode, why: &'static str) -> ReasonCode {
        self.shared.metrics.refused(why);
        reason
    }

    /// Kafka's side of a SUBSCRIBE is done. If the session is stored the answer rests on its being written.
    pub(super) fn subscribed(&mut self, session: &mut Session, answer: Subscribed, now: Instant) {
        let Some(at) = self.asked.iter().position(|asked| asked.ticket == answer.ticket) else {
            return;
        };
        let Asked { mut reasons, .. } = self.asked.swap_remove(at);
        for (place, why) in &answer.refused {
            reasons[*place] = self.refuse_filter(share::reason(why), why);
        }
        self.grant(session, Granted { answer, reasons }, now);
    }
}

/// What SUBACK says of a QoS.
fn granted(qos: QoS) -> ReasonCode {
    match qos {
        QoS::AtMostOnce => ReasonCode::Success,
        QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
        QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
    }
}
