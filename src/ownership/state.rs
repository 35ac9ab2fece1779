//! `state:<client>@<claim offset>`: what changes seldom, and the steps as they were then.
//!
//! ```json
//! {"v":1,"n":1,"owner":"proxy-2-5f1c","since":1764102345678,"connected":true,"expiry":3600,
//!  "subscriptions":[{"filter":"vehicles/+/commands","qos":1,"starts":["hBKuK8bnSVqDRrlT2pDEKQ/3@1260"]}],
//!  "will":{"topic":"vehicles/42/gone","payload":"YnllCg==","qos":1,"delay":30}}
//! ```
//! or, when the session is over, `{"v":1,"n":7,"owner":"proxy-2-5f1c","ended":1764102345678}`.
//!
//! The steps are in it because a session is handed on by *one* record: were they apart, a crash between the two would leave a state
//! whose steps are lost. A steps record under the same claim with a higher number replaces them. The end stands under the claim's own
//! key for the same reason as the state: written late by a former owner, it ends nothing of the new one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::record::{Millis, NewRecord, Record, parse};
use super::steps::{Lines, Steps, positions_from_lines, positions_to_lines};
use super::text::Source;
use super::will::{SendingText, SendingWill, StoredWill, WillText, qos};
use super::{Fault, Key, VERSION};
use crate::mqtt::{QoS, RetainHandling};

/// Session expiry interval that means "never" (§3.1.2.11.2).
pub const NEVER: u32 = u32::MAX;

/// One subscription with its options (§3.8.3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSubscription {
    /// Topic filter.
    pub filter: String,
    /// Highest QoS.
    pub qos: QoS,
    /// Not what this client published.
    pub no_local: bool,
    /// Keep the retain flag.
    pub retain_as_published: bool,
    /// Retain handling, as asked for.
    pub retain_handling: RetainHandling,
    /// Subscription identifier.
    pub id: Option<u32>,
    /// For it nothing exists below these offsets.
    pub starts: BTreeMap<Source, i64>,
}

/// A session, as its owner keeps it in memory and as it lies in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// A connection is there.
    pub connected: bool,
    /// Since when it is, or is not, by the clock of who wrote it.
    pub since: Millis,
    /// When its last connection was gone, or began if nobody told of its end; `None` if that is `since`. Kept until the next one that
    /// was let in is gone: what was not known of a session then is read from there on.
    pub left: Option<Millis>,
    /// Session expiry interval, seconds; [`NEVER`].
    pub expiry: u32,
    /// In the order they were made.
    pub subscriptions: Vec<StoredSubscription>,
    /// Of the connection that is, or was last.
    pub will: Option<StoredWill>,
    /// Wills of earlier connections whose time has come.
    pub sending: Vec<SendingWill>,
    /// What changes often.
    pub steps: Steps,
}

/// What a `state:` record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The session.
    Goes(Box<Body>),
    /// It is over since then.
    Ended(Millis),
}

impl Body {
    /// A session that begins now.
    pub fn fresh(now: Millis) -> Self {
        Self {
            connected: false,
            since: now,
            left: None,
            expiry: 0,
            subscriptions: Vec::new(),
            will: None,
            sending: Vec::new(),
            steps: Steps::default(),
        }
    }

    /// When the session is over if nobody comes back; `None` while connected or for ever.
    pub fn expires_at(&self) -> Option<Millis> {
        (!self.connected && self.expiry != NEVER).then(|| self.since + u64::from(self.expiry) * 1000)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SubscriptionText {
    filter: String,
    qos: u8,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    no_local: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    retain_as_published: bool,
    #[serde(default)]
    retain_handling: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    starts: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    v: u32,
    n: u64,
    owner: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended: Option<Millis>,
    #[serde(default)]
    since: Millis,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left: Option<Millis>,
    #[serde(default)]
    connected: bool,
    #[serde(default)]
    expiry: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    subscriptions: Vec<SubscriptionText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    will: Option<WillText>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sending: Vec<SendingText>,
    #[serde(default, skip_serializing_if = "Lines::is_empty")]
    steps: Lines,
}

impl State {
    /// As the `n`-th record of `owner` under a claim.
    ///
    /// # Errors
    /// [`Fault::TooLarge`].
    pub fn record(&self, client: &str, claim: i64, n: u64, owner: &str) -> Result<NewRecord, Fault> {
        let mut headers = vec![("v", VERSION.to_string()), ("n", n.to_string()), ("owner", owner.to_owned())];
        let mut written = Written {
            v: VERSION,
            n,
            owner: owner.to_owned(),
            ended: None,
            since: 0,
            left: None,
            connected: false,
            expiry: 0,
            subscriptions: Vec::new(),
            will: None,
            sending: Vec::new(),
            steps: Lines::default(),
        };
        match self {
            State::Ended(at) => {
                written.ended = Some(*at);
                headers.push(("ended", at.to_string()));
            }
            State::Goes(body) => {
                if !body.connected {
                    headers.push(("since", body.since.to_string()));
                }
                headers.push(("expiry", body.expiry.to_string()));
                if body.will.is_some() || !body.sending.is_empty() {
                    headers.push(("will", "1".to_owned()));
                }
                written.fill(body);
            }
        }
        NewRecord::json(Key::State(client, claim), headers, &written)
    }

    /// Reads a value: its number under its claim, and the state.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn parse(value: &[u8]) -> Result<(u64, Self), Fault> {
        let written: Written = parse(value, "a state")?;
        let n = written.n;
        if let Some(at) = written.ended {
            return Ok((n, State::Ended(at)));
        }
        Ok((n, State::Goes(Box::new(written.body()?))))
    }
}

impl Written {
    fn fill(&mut self, body: &Body) {
        self.since = body.since;
        self.left = body.left;
        self.connected = body.connected;
        self.expiry = body.expiry;
        self.subscriptions = body.subscriptions.iter().map(Into::into).collect();
        self.will = body.will.as_ref().map(Into::into);
        self.sending = body.sending.iter().map(Into::into).collect();
        self.steps = body.steps.lines();
    }

    fn body(self) -> Result<Body, Fault> {
        let subscriptions = self.subscriptions.into_iter().map(TryInto::try_into);
        Ok(Body {
            connected: self.connected,
            since: self.since,
            left: self.left,
            expiry: self.expiry,
            subscriptions: subscriptions.collect::<Result<_, _>>()?,
            will: self.will.map(TryInto::try_into).transpose()?,
            sending: self.sending.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            steps: Steps::from_lines(&self.steps)?,
        })
    }
}

impl From<&StoredSubscription> for SubscriptionText {
    fn from(subscription: &StoredSubscription) -> Self {
        Self {
            filter: subscription.filter.clone(),
            qos: subscription.qos as u8,
            no_local: subscription.no_local,
            retain_as_published: subscription.retain_as_published,
            retain_handling: subscription.retain_handling as u8,
            id: subscription.id,
            starts: positions_to_lines(&subscription.starts),
        }
    }
}

impl TryFrom<SubscriptionText> for StoredSubscription {
    type Error = Fault;

    fn try_from(text: SubscriptionText) -> Result<Self, Fault> {
        Ok(Self {
            filter: text.filter,
            qos: qos(text.qos)?,
            no_local: text.no_local,
            retain_as_published: text.retain_as_published,
            retain_handling: match text.retain_handling {
                0 => RetainHandling::Always,
                1 => RetainHandling::IfNew,
                2 => RetainHandling::Never,
                _ => return Err(Fault::Damaged("a retain handling")),
            },
            id: text.id,
            starts: positions_from_lines(&text.starts)?,
        })
    }
}

/// A state as its headers tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateHead<'a> {
    /// Its number under its claim.
    pub n: u64,
    /// Who wrote it.
    pub owner: &'a str,
    /// The session is over.
    pub ended: bool,
    /// Disconnected since; `None` while connected. Of one that is over: since then.
    pub since: Option<Millis>,
    /// Session expiry interval, seconds.
    pub expiry: u32,
    /// It has a will, or one on its way.
    pub will: bool,
}

impl<'a> StateHead<'a> {
    /// Reads the headers.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn parse(record: &Record<'a>) -> Result<Self, Fault> {
        super::seen::version(record)?;
        let ended: Option<Millis> = record.header("ended").map(super::text::number).transpose()?;
        let since = record.header("since").map(super::text::number).transpose()?;
        Ok(Self {
            n: record.number("n")?,
            owner: record.header("owner").ok_or(Fault::Damaged("owner"))?,
            ended: ended.is_some(),
            since: ended.or(since),
            expiry: if ended.is_some() { 0 } else { record.number("expiry")? },
            will: record.header("will").is_some(),
        })
    }
}
