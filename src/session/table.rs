//! The table of what a client wants to hear, and the SUBSCRIBEs and UNSUBSCRIBEs that wait for their answer.

use std::collections::HashMap;

use super::{Message, Taken, Ticket};
use crate::mqtt::{PacketId, QoS, ReasonCode, RetainHandling};

/// SUBSCRIBEs and UNSUBSCRIBEs of one client that may wait for an answer before its socket is left unread.
const UNANSWERED_MAXIMUM: usize = 16;

/// Room for so many subscriptions is kept, whatever becomes of them.
const SPARE: usize = 32;

/// Bytes of filters for each subscription that a client may have. They share them, so one that has few may have long ones.
const FILTER: usize = 256;

/// Names a subscription of one session; never used again after its UNSUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionKey(pub u32);

/// One topic filter with its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// For [`Message::subscriptions`]; survives a SUBSCRIBE that replaces the options [MQTT-3.8.4-3].
    pub key: SubscriptionKey,
    /// Topic filter.
    pub filter: Box<str>,
    /// What was granted; `None` until the first answer.
    pub options: Option<Options>,
    /// SUBSCRIBEs for it without an answer.
    asked: u32,
    /// The latest of those that were granted: the answers need not come in the order of the SUBSCRIBEs.
    granted: Option<Ticket>,
}

/// What a subscription was granted (§3.8.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Highest QoS.
    pub qos: QoS,
    /// Not what this client published.
    pub no_local: bool,
    /// Retain flag as published.
    pub retain_as_published: bool,
    /// When retained messages are sent.
    pub retain_handling: RetainHandling,
    /// Sent with each message.
    pub subscription_id: Option<u32>,
}

/// What the session made of one filter of a SUBSCRIBE or UNSUBSCRIBE, in the packet's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requested {
    /// SUBSCRIBE: ask the rules.
    Subscribe {
        /// Of the table entry.
        key: SubscriptionKey,
        /// False if it replaces the options of one that exists.
        new: bool,
    },
    /// SUBSCRIBE: the session refuses it whatever the relay answers.
    Refused(ReasonCode),
    /// UNSUBSCRIBE: it is gone.
    Removed {
        /// It was known by.
        key: SubscriptionKey,
    },
    /// UNSUBSCRIBE: it is stored, and was left out when the session went on, since the client has no right to it: see [`super::Present::denied`].
    Denied,
    /// UNSUBSCRIBE: there was none.
    NotFound,
}

impl Requested {
    /// The subscription that a SUBSCRIBE asks for.
    pub fn subscribes(&self) -> Option<SubscriptionKey> {
        match self {
            Self::Subscribe { key, .. } => Some(*key),
            _ => None,
        }
    }
}

/// A SUBSCRIBE or UNSUBSCRIBE without its answer.
#[derive(Debug)]
pub(super) struct Pending {
    ticket: Ticket,
    pub(super) packet_id: PacketId,
    subscribe: bool,
    pub(super) requested: Vec<Requested>,
    /// So many filters behind those are beyond what a client may have.
    pub(super) beyond: usize,
    /// Of a SUBSCRIBE: what was asked for, beside `requested`.
    pub(super) options: Vec<Options>,
}

/// The client's subscriptions, ordered by key.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    /// Keys only grow, so the vector stays ordered by appending.
    table: Vec<Subscription>,
    next_key: u32,
    next_ticket: u32,
    pending: Vec<Pending>,
    /// Identifiers of the subscriptions that the message in hand matched; kept for its memory.
    matched_ids: Vec<u32>,
}

/// What the matching subscriptions make of a message.
pub(super) struct Matched {
    pub(super) qos: QoS,
    pub(super) retain: bool,
}

impl Subscriptions {
    /// Whether the client should wait before it asks for more.
    pub(super) fn is_busy(&self) -> bool {
        self.pending.len() >= UNANSWERED_MAXIMUM
    }

    fn index(&self, key: SubscriptionKey) -> Option<usize> {
        self.table.binary_search_by_key(&key, |subscription| subscription.key).ok()
    }

    /// Joins the options of all subscriptions a message matched; their identifiers are left in `matched_ids`.
    pub(super) fn matched(&mut self, message: &Message<'_>, client_id: &str) -> Result<Matched, Taken> {
        self.matched_ids.clear();
        let own = message.publisher == Some(client_id);
        let (mut granted, mut keep_retain, mut existed) = (None, false, false);
        for &key in message.subscriptions {
            let Some(options) = self.index(key).and_then(|index| self.table[index].options) else {
                continue;
            };
            existed = true;
            // [MQTT-3.8.3-3]
            if own && options.no_local {
                continue;
            }
            granted = granted.max(Some(options.qos as u8));
            keep_retain |= options.retain_as_published;
            self.matched_ids.extend(options.subscription_id);
        }
        let granted = match granted {
            Some(0) => QoS::AtMostOnce,
            Some(1) => QoS::AtLeastOnce,
            Some(_) => QoS::ExactlyOnce,
            None if existed => return Err(Taken::NoLocal),
            None => return Err(Taken::NotSubscribed),
        };
        let qos = if (message.qos as u8) < granted as u8 {
            message.qos
        } else {
            granted
        };
        // [MQTT-3.3.1-8], [MQTT-3.3.1-12], [MQTT-3.3.1-13]
        Ok(Matched {
            qos,
            retain: message.retained || message.retain && keep_retain,
        })
    }

    /// The identifiers found by [`Subscriptions::matched`], lent out while the session encodes.
    pub(super) fn take_matched_ids(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.matched_ids)
    }

    pub(super) fn put_matched_ids(&mut self, ids: Vec<u32>) {
        self.matched_ids = ids;
    }

    /// Where the filters of one packet are in the table, found in one walk over it: thousands of filters beside thousands of
    /// subscriptions, each looked for by itself, would cost a device little and everybody else much.
    fn places<'a>(&self, filters: impl Iterator<Item = &'a str>) -> HashMap<&'a str, Option<usize>> {
        let mut places: HashMap<_, _> = filters.map(|filter| (filter, None)).collect();
        for (index, known) in self.table.iter().enumerate() {
            if let Some(place) = places.get_mut(&*known.filter) {
                *place = Some(index);
            }
        }
        places
    }

    /// Enters the filters of a SUBSCRIBE, in its order, up to `maximum` subscriptions, and 256 bytes of filters for each of them (at least 64 KiB);
    /// of those that are refused already, the reason.
    pub(super) fn request<'a, F>(&mut self, filters: F, maximum: usize) -> Vec<Requested>
    where
        F: Iterator<Item = Result<&'a str, ReasonCode>> + Clone,
    {
        let mut places = self.places(filters.clone().flatten());
        let most = maximum.saturating_mul(FILTER).max(usize::from(u16::MAX));
        let held: usize = self.table.iter().map(|known| known.filter.len()).sum();
        let mut room = most.saturating_sub(held);
        let enter = |filter: Result<&'a str, ReasonCode>| match filter {
            Ok(filter) => self.enter(filter, places.entry(filter).or_default(), maximum, &mut room),
            Err(reason) => Requested::Refused(reason),
        };
        filters.map(enter).collect()
    }

    /// `room`: bytes of filters that there may still be.
    fn enter(&mut self, filter: &str, place: &mut Option<usize>, maximum: usize, room: &mut usize) -> Requested {
        if let Some(index) = *place {
            let known = &mut self.table[index];
            known.asked += 1;
            return Requested::Subscribe {
                key: known.key,
                new: known.options.is_none(),
            };
        }
        if self.table.len() >= maximum || filter.len() > *room {
            return Requested::Refused(ReasonCode::QuotaExceeded);
        }
        *room -= filter.len();
        *place = Some(self.table.len());
        let key = SubscriptionKey(self.next_key);
        self.next_key += 1;
        self.table.push(Subscription {
            key,
            filter: filter.into(),
            options: None,
            asked: 1,
            granted: None,
        });
        Requested::Subscribe { key, new: true }
    }

    /// Takes the filters of an UNSUBSCRIBE out, in its order [MQTT-3.10.4-1].
    pub(super) fn remove<'a>(&mut self, filters: impl Iterator<Item = &'a str> + Clone) -> Vec<Requested> {
        let mut places = self.places(filters.clone());
        let mut goes = vec![false; self.table.len()];
        let take = |filter| match places.get_mut(filter).and_then(Option::take) {
            Some(index) => {
                goes[index] = true;
                Requested::Removed {
                    key: self.table[index].key,
                }
            }
            None => Requested::NotFound,
        };
        let requested = filters.map(take).collect();
        let mut goes = goes.into_iter();
        self.table.retain(|_| !goes.next().unwrap_or(false));
        self.give_room_back();
        requested
    }

    /// Takes out what nobody has been granted and nobody waits for.
    pub(super) fn forget_refused(&mut self) {
        self.table.retain(|known| known.options.is_some() || known.asked > 0);
        self.give_room_back();
    }

    /// A thousand subscriptions that were refused, or given up, have taken 48 KiB, and their client may stay for years.
    fn give_room_back(&mut self) {
        if self.table.capacity() > SPARE.max(4 * self.table.len()) {
            self.table.shrink_to_fit();
        }
    }

    /// All subscriptions, ordered by key.
    pub(super) fn all(&self) -> &[Subscription] {
        &self.table
    }

    /// What became of the filters of one unanswered packet.
    pub(super) fn requested(&self, ticket: Ticket) -> &[Requested] {
        self.pending
            .iter()
            .find(|pending| pending.ticket == ticket)
            .map_or(&[], |pending| &pending.requested)
    }

    /// What an unanswered SUBSCRIBE asked for.
    pub(super) fn asked_options(&self, ticket: Ticket) -> &[Options] {
        self.pending
            .iter()
            .find(|pending| pending.ticket == ticket)
            .map_or(&[], |pending| &pending.options)
    }

    /// Enters the subscriptions of a session that goes on, before any other.
    pub(super) fn restore(&mut self, subscriptions: Vec<(Box<str>, Options)>) {
        for (filter, options) in subscriptions {
            let key = SubscriptionKey(self.next_key);
            self.next_key += 1;
            self.table.push(Subscription {
                key,
                filter,
                options: Some(options),
                asked: 0,
                granted: None,
            });
        }
    }

    /// How many filters of it are beyond what a client may have.
    pub(super) fn beyond(&self, ticket: Ticket) -> usize {
        let pending = self.pending.iter().find(|pending| pending.ticket == ticket);
        pending.map_or(0, |pending| pending.beyond)
    }

    /// Remembers a SUBSCRIBE with its options, or an UNSUBSCRIBE, until its answer.
    pub(super) fn push(&mut self, packet_id: PacketId, requested: Vec<Requested>, options: Option<Vec<Options>>, beyond: usize) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket = self.next_ticket.wrapping_add(1);
        self.pending.push(Pending {
            ticket,
            packet_id,
            subscribe: options.is_some(),
            requested,
            beyond,
            options: options.unwrap_or_default(),
        });
        ticket
    }

    pub(super) fn take_pending(&mut self, ticket: Ticket, subscribe: bool) -> Option<Pending> {
        let index = self
            .pending
            .iter()
            .position(|pending| pending.ticket == ticket && pending.subscribe == subscribe)?;
        Some(self.pending.remove(index))
    }

    /// Notes that a SUBSCRIBE is granted. False: a later one for the same filter was before, and its options stay; or the subscription is gone.
    pub(super) fn grant(&mut self, key: SubscriptionKey, ticket: Ticket) -> bool {
        let Some(index) = self.index(key) else { return false };
        let granted = &mut self.table[index].granted;
        // Tickets go round; few wait at a time.
        let is_latest = granted.is_none_or(|former| ticket.0.wrapping_sub(former.0) < u32::MAX / 2);
        if is_latest {
            *granted = Some(ticket);
        }
        is_latest
    }

    /// Enters the relay's answer to one filter of a SUBSCRIBE and returns what SUBACK says about it. After the last of them comes
    /// [`Subscriptions::forget_refused`].
    pub(super) fn decide(&mut self, ticket: Ticket, requested: Requested, options: Options, answer: ReasonCode) -> ReasonCode {
        let key = match requested {
            Requested::Subscribe { key, .. } => key,
            Requested::Refused(reason) => return reason,
            Requested::Removed { .. } | Requested::Denied | Requested::NotFound => return ReasonCode::UnspecifiedError,
        };
        let granted = match answer {
            ReasonCode::Success => Some(QoS::AtMostOnce),
            ReasonCode::GrantedQoS1 if options.qos != QoS::AtMostOnce => Some(QoS::AtLeastOnce),
            ReasonCode::GrantedQoS1 | ReasonCode::GrantedQoS2 => Some(options.qos),
            _ => None,
        };
        let is_latest = granted.is_some() && self.grant(key, ticket);
        // Gone if an UNSUBSCRIBE overtook the answer; the client is told both, in its order.
        if let Some(index) = self.index(key) {
            let entry = &mut self.table[index];
            entry.asked -= 1;
            // A refused change leaves what was granted before.
            if let Some(qos) = granted.filter(|_| is_latest) {
                entry.options = Some(Options { qos, ..options });
            }
        }
        granted.map_or(suback_reason(answer), granted_reason)
    }
}

fn granted_reason(qos: QoS) -> ReasonCode {
    match qos {
        QoS::AtMostOnce => ReasonCode::Success,
        QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
        QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
    }
}

/// The errors of SUBACK (§3.9.3); the encoder turns all of them into 0x80 for 3.x.
fn suback_reason(reason: ReasonCode) -> ReasonCode {
    use ReasonCode::*;
    match reason {
        UnspecifiedError | ImplementationSpecificError | NotAuthorized | TopicFilterInvalid | PacketIdentifierInUse | QuotaExceeded => {
            reason
        }
        SharedSubscriptionsNotSupported | SubscriptionIdentifiersNotSupported | WildcardSubscriptionsNotSupported => reason,
        _ => UnspecifiedError,
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
