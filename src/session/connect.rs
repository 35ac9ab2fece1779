//! From CONNECT to CONNACK (§3.1, §3.2): what the session itself must refuse, and what it remembers of the client.

use std::fmt;
use std::time::Instant;

use zeroize::Zeroizing;

use super::ending::connack_reason;
use super::enhanced::Enhanced;
use super::{Cause, Close, Expiry, Open, Options, Output, OwnedWill, Phase, Session};
use crate::mqtt::{ConnAck, ConnAckProperties, Connect, Packet, PacketId, ReasonCode, Version};

/// What the client said about itself, already bounded by our own settings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    /// QoS 1 and 2 messages that may be open towards the client.
    pub(super) receive_maximum: u16,
    /// Bytes of the largest packet it takes.
    pub(super) maximum_packet_size: u32,
    /// Highest alias it takes.
    pub(super) topic_alias_maximum: u16,
    /// Reason strings are welcome on every packet (§3.1.2.11.7).
    pub(super) problem_information: bool,
    clean_start: bool,
    /// Session expiry interval, seconds, as we keep it.
    pub(super) expiry: u32,
    /// What CONNECT said, if it did.
    wanted_expiry: Option<u32>,
    /// Seconds; 0 is off.
    keep_alive: u16,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            receive_maximum: u16::MAX,
            maximum_packet_size: u32::MAX,
            topic_alias_maximum: 0,
            problem_information: true,
            clean_start: true,
            expiry: 0,
            wanted_expiry: None,
            keep_alive: 0,
        }
    }
}

impl Peer {
    /// CONNECT had a session expiry above zero, so DISCONNECT may have one.
    pub(super) fn asked_for_expiry(&self) -> bool {
        self.wanted_expiry.is_some_and(|seconds| seconds > 0)
    }
}

/// User name and password, kept from CONNECT until its answer; of enhanced authentication what is kept longer.
pub(super) struct Credentials {
    username: Option<Box<str>>,
    password: Option<Zeroizing<Box<[u8]>>>,
    /// Of a client that has named an authentication method.
    pub(super) enhanced: Option<Enhanced>,
}

impl Credentials {
    /// CONNECT is answered.
    fn forget(&mut self) {
        // A password does not stay behind in freed memory longer than it must: it is overwritten with its drop.
        (self.username, self.password) = (None, None);
    }
}

/// What the relay adds to a CONNECT it accepts.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Needed exactly if [`Session::client_id`] is empty: an identifier no other client has [MQTT-3.1.3-6].
    pub assigned_client_id: Option<String>,
    /// A session that goes on (session present); `None` begins one.
    pub present: Option<Present>,
    /// It outlives its connection: QoS 2 steps leave only when the relay lets them.
    pub stored: bool,
    /// The last word of enhanced authentication, for CONNACK.
    pub authentication_data: Option<Vec<u8>>,
}

impl fmt::Debug for Accepted {
    /// Without the data of enhanced authentication.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepted")
            .field("assigned_client_id", &self.assigned_client_id)
            .field("present", &self.present)
            .field("stored", &self.stored)
            .field("authentication_data", &self.authentication_data.as_ref().map(|_| "…"))
            .finish()
    }
}

/// What a session that goes on has from before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Present {
    /// Filters and what they were granted, each once, in the order they were made.
    pub subscriptions: Vec<(Box<str>, Options)>,
    /// Filters of stored subscriptions that are left out, since the client has no right to them by now.
    pub denied: Vec<Box<str>>,
    /// Packet ids of QoS 2 messages of the client that were taken, or begun to be: it repeats PUBLISH or PUBREL. Only if stored.
    pub received: Vec<PacketId>,
    /// Messages open towards the client, in the order in which they were sent. Only if stored.
    pub open: Vec<Open>,
}

impl Session {
    /// CONNECT as the first packet.
    pub(super) fn connect(&mut self, connect: &Connect<'_>, now: Instant) {
        self.version = connect.version;
        self.phase = Phase::Offered;
        self.peer = self.peer_of(connect);
        if let Err((reason, detail)) = check(connect, self.settings.retain_available) {
            return self.end(reason, detail, now);
        }
        if connect.will.as_ref().is_some_and(|will| !self.settings.topic_fits(will.topic)) {
            return self.end(ReasonCode::TopicNameInvalid, "the will's topic is over the limits", now);
        }
        self.client_id = connect.client_id.into();
        self.will = connect.will.as_ref().map(|will| Box::new(OwnedWill::copy(will)));
        let properties = &connect.properties;
        let method = properties.authentication_method;
        if connect.username.is_some() || connect.password.is_some() || method.is_some() {
            let credentials = Credentials {
                username: connect.username.map(Into::into),
                password: connect.password.map(|password| Zeroizing::new(password.into())),
                enhanced: method.map(|method| Enhanced::new(method, properties.authentication_data)),
            };
            self.credentials = Some(Box::new(credentials));
        }
        self.outputs.push_back(Output::Connect);
    }

    fn peer_of(&self, connect: &Connect<'_>) -> Peer {
        let properties = &connect.properties;
        Peer {
            receive_maximum: properties
                .receive_maximum
                .unwrap_or(u16::MAX)
                .min(self.settings.send_maximum)
                .max(1),
            maximum_packet_size: properties.maximum_packet_size.unwrap_or(u32::MAX),
            topic_alias_maximum: properties.topic_alias_maximum.unwrap_or(0).min(self.settings.topic_alias_maximum),
            problem_information: properties.request_problem_information.unwrap_or(true),
            clean_start: connect.clean_start,
            expiry: self.expiry_of(connect),
            wanted_expiry: properties.session_expiry_interval,
            keep_alive: connect.keep_alive,
        }
    }

    fn expiry_of(&self, connect: &Connect<'_>) -> u32 {
        let Some(Expiry { default, max }) = self.settings.expiry else {
            return 0;
        };
        let wanted = match connect.version {
            Version::V5 => connect.properties.session_expiry_interval.unwrap_or(0),
            // [MQTT-3.1.2-6] of 3.1.1: a clean session ends with its connection.
            _ if connect.clean_start => 0,
            _ => default,
        };
        wanted.min(max)
    }

    /// Session expiry interval, seconds: what CONNECT asked for, as far as the settings allow.
    pub fn expiry(&self) -> u32 {
        self.peer.expiry
    }

    /// User name of the CONNECT, until it is answered.
    pub fn username(&self) -> Option<&str> {
        self.credentials.as_ref()?.username.as_deref()
    }

    /// Password of the CONNECT, until it is answered.
    pub fn password(&self) -> Option<&[u8]> {
        self.credentials.as_ref()?.password.as_ref().map(|password| &***password)
    }

    /// Whether CONNECT asked for a clean start (a clean session in 3.x).
    pub fn clean_start(&self) -> bool {
        self.peer.clean_start
    }

    /// Answers CONNECT with success. Without an identifier for a client that sent none, it is refused with 0x85; a client that does
    /// not take a packet of the size of our CONNACK, with 0x95. So ask [`Session::is_live`] afterwards.
    pub fn accept(&mut self, accepted: Accepted, now: Instant) {
        if self.phase != Phase::Offered {
            return;
        }
        let assigned = self.client_id.is_empty();
        if assigned {
            match accepted.assigned_client_id {
                Some(id) if !id.is_empty() => self.client_id = id.into(),
                _ => return self.refuse(ReasonCode::ClientIdentifierNotValid, now),
            }
        }
        if let Some(credentials) = &mut self.credentials {
            credentials.forget();
        }
        self.credentials.take_if(|credentials| credentials.enhanced.is_none());
        let server_keep_alive = self.server_keep_alive();
        let seconds = server_keep_alive.unwrap_or(self.peer.keep_alive);
        self.timer.keep_alive(seconds, now);
        // Still offered: a client that cannot take CONNACK never was connected, so it gets no DISCONNECT [MQTT-3.2.0-1] and leaves no will.
        let present = accepted.present.is_some();
        if !self.send_connack(assigned, present, server_keep_alive, accepted.authentication_data.as_deref()) {
            return self.end(ReasonCode::PacketTooLarge, "the client's maximum packet size is below CONNACK", now);
        }
        self.phase = Phase::Live;
        let present = accepted.present.unwrap_or_default();
        if accepted.stored {
            self.go_on(&present, now);
        }
        self.subscriptions.restore(present.subscriptions);
    }

    /// Answers CONNECT with an error and ends the session. The will is forgotten: the connection never was one.
    pub fn refuse(&mut self, reason: ReasonCode, _now: Instant) {
        if self.phase != Phase::Offered {
            return;
        }
        self.send_connack_refusal(connack_reason(reason), None);
        self.will = None;
        self.close(Close {
            reason,
            cause: Cause::Outside,
            detail: "connection refused",
        });
    }

    /// The keep alive the client must use instead of its own (§3.2.2.3.14). 3.x cannot be told one, so its own counts.
    fn server_keep_alive(&self) -> Option<u16> {
        let maximum = self.settings.keep_alive_max.filter(|_| self.version == Version::V5)?;
        let maximum = u16::try_from(maximum.as_secs()).unwrap_or(u16::MAX).max(1);
        (self.peer.keep_alive == 0 || self.peer.keep_alive > maximum).then_some(maximum)
    }

    /// False if the client does not take it. CONNACK says honestly what a session of this release is (nothing is retained if no rule allows
    /// it), and nothing that holds without being said: a client may take no more than a few bytes.
    fn send_connack(&mut self, assigned: bool, session_present: bool, server_keep_alive: Option<u16>, data: Option<&[u8]>) -> bool {
        // Out of the way of the borrow of `send`.
        let mut credentials = self.credentials.take();
        let enhanced = credentials.as_mut().and_then(|credentials| credentials.enhanced.as_mut());
        let method = enhanced.map(|enhanced| {
            enhanced.data = Box::default();
            &*enhanced.method
        });
        let client_id = std::mem::take(&mut self.client_id);
        let aliases = self.settings.topic_alias_maximum;
        let properties = ConnAckProperties {
            // Said where the client would otherwise believe another (§3.2.2.3.2); one that asked for none knows that it is 0.
            session_expiry_interval: Some(self.peer.expiry).filter(|&ours| ours != self.peer.wanted_expiry.unwrap_or(0)),
            receive_maximum: Some(self.settings.receive_maximum),
            retain_available: (!self.settings.retain_available).then_some(false),
            maximum_packet_size: Some(self.settings.maximum_packet_size),
            assigned_client_identifier: assigned.then_some(&*client_id),
            topic_alias_maximum: Some(aliases).filter(|&maximum| maximum > 0),
            server_keep_alive,
            // [MQTT-4.12.0-5]
            authentication_method: method,
            authentication_data: data.filter(|_| method.is_some()),
            ..Default::default()
        };
        let connack = ConnAck {
            session_present,
            reason: ReasonCode::Success,
            properties,
        };
        let sent = self.send(&Packet::ConnAck(connack));
        (self.client_id, self.credentials) = (client_id, credentials);
        sent
    }
}

/// What no relay could accept.
fn check(connect: &Connect<'_>, retain_available: bool) -> Result<(), (ReasonCode, &'static str)> {
    if connect.client_id.is_empty() && connect.version == Version::V31 {
        return Err((ReasonCode::ClientIdentifierNotValid, "3.1 needs a client id"));
    }
    // [MQTT-3.1.3-8]
    if connect.client_id.is_empty() && connect.version == Version::V311 && !connect.clean_start {
        return Err((ReasonCode::ClientIdentifierNotValid, "an empty client id needs a clean session"));
    }
    // [MQTT-3.2.2-13]
    if !retain_available && connect.will.as_ref().is_some_and(|will| will.retain) {
        return Err((ReasonCode::RetainNotSupported, "no rule allows retained messages"));
    }
    Ok(())
}
