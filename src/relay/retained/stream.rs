//! Retained messages on their way to one connection: walks over the store, one for each subscription that gets them, and what each step gives.
//!
//! A walk holds a name and no messages, so it may be of any length; it goes on as far as the client's window and socket allow. Messages of the
//! log wait behind it: they are newer.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use tokio::sync::oneshot::error::TryRecvError;

use super::{
    Retained, Starts,
    asked::Asked,
    body::Body,
    store::{Content, Entry, Place},
    walk::{Found, From},
};
use crate::session::SubscriptionKey;

/// Names that one step looks at, at most: so long the store is locked.
const LOOKS: usize = 256;

/// A walk over the retained messages of one subscription.
#[derive(Debug)]
pub struct Stream {
    /// The subscription.
    pub key: SubscriptionKey,
    filter: Box<str>,
    from: From,
    /// Only entries of a version above the first and up to the second: those above have come, or come, in another way.
    versions: (u64, u64),
    /// What comes as an ordinary message is left out. `None`: the subscription is older than this SUBSCRIBE, and gets all.
    starts: Option<Arc<Starts>>,
    late: bool,
    next: Option<Next>,
}

/// Retained messages that a subscription would miss, told by the tail.
#[derive(Debug)]
pub struct Late {
    /// The subscription.
    pub key: SubscriptionKey,
    /// Of which topic; `None`: of more than are kept apart.
    pub topic: Option<Box<str>>,
    /// Versions: above the first, up to the second.
    pub versions: (u64, u64),
    /// Where the subscription starts.
    pub starts: Arc<Starts>,
}

/// A message whose turn it is.
#[derive(Debug)]
enum Next {
    Here(Message),
    /// Its body is read from the log. `None`: it is no longer there.
    Asked(Asked<Option<Message>>),
}

/// One retained message.
#[derive(Clone, Debug)]
pub struct Message {
    /// MQTT topic.
    pub topic: String,
    /// Index of its rule.
    pub rule: usize,
    /// Where its record lies.
    pub place: Place,
    /// The rest.
    pub body: Arc<Body>,
}

/// What a step gives.
#[derive(Debug)]
pub enum Step {
    /// A message. It stays next until [`Stream::taken`].
    Message(Message),
    /// Nothing yet; the connection is woken.
    Wait,
    /// Nothing yet, but there may be: others should have their turn first.
    Pause,
    /// Nothing more.
    End,
}

impl Stream {
    /// All that `filter` matches, as of a version.
    pub fn new(key: SubscriptionKey, filter: &str, version: u64, starts: Option<Arc<Starts>>) -> Self {
        Self {
            key,
            filter: filter.into(),
            from: From::default(),
            versions: (0, version),
            starts,
            late: false,
            next: None,
        }
    }

    /// Without all up to a topic, which has been given; nothing, if that is empty.
    pub fn behind(self, topic: &str) -> Self {
        let from = match topic {
            "" => From::default(),
            topic => From::Behind(topic.to_owned()),
        };
        Self { from, ..self }
    }

    /// The filter that it walks by.
    pub fn filter(&self) -> &str {
        &self.filter
    }

    /// Whether it gives what a SUBSCRIBE asked for, and not what came late.
    pub fn is_walk(&self) -> bool {
        !self.late
    }

    /// Whether its subscription is older than the SUBSCRIBE.
    pub fn is_again(&self) -> bool {
        self.starts.is_none()
    }

    /// What came late, of a subscription with this filter.
    pub fn late(late: Late, filter: &str) -> Self {
        Self {
            key: late.key,
            filter: late.topic.unwrap_or_else(|| filter.into()),
            from: From::default(),
            versions: late.versions,
            starts: Some(late.starts),
            late: true,
            next: None,
        }
    }

    /// The next message. `wake` is called when a body has come.
    pub fn step(&mut self, retained: &Arc<Retained>, now: Instant, wake: impl FnOnce() + Send + 'static) -> Step {
        match self.next.take() {
            Some(Next::Here(message)) => self.show(message),
            Some(Next::Asked(asked)) => self.answered(asked),
            None => self.walk(retained, now, wake),
        }
    }

    fn show(&mut self, message: Message) -> Step {
        self.next = Some(Next::Here(message.clone()));
        Step::Message(message)
    }

    fn answered(&mut self, mut asked: Asked<Option<Message>>) -> Step {
        match asked.answer() {
            Ok(Some(message)) => self.show(message),
            Err(TryRecvError::Empty) => {
                self.next = Some(Next::Asked(asked));
                Step::Wait
            }
            Ok(None) | Err(TryRecvError::Closed) => Step::Pause,
        }
    }

    fn walk(&mut self, retained: &Arc<Retained>, now: Instant, wake: impl FnOnce() + Send + 'static) -> Step {
        let store = retained.store();
        let (topic, entry) = match store.next(&self.filter, &self.from, LOOKS) {
            Found::End => return Step::End,
            Found::Pause(from) => {
                self.from = from;
                return Step::Pause;
            }
            Found::Next(topic, entry) => (topic, entry),
        };
        self.from = From::Behind(topic.to_owned());
        let ordinary = self
            .starts
            .as_ref()
            .is_some_and(|starts| starts.covers(store.origin(entry.order), entry.order));
        if ordinary || !self.is_due(entry, now) {
            return Step::Pause;
        }
        let (topic, version, place, rule) = (topic.to_owned(), entry.version, entry.place, entry.rule);
        match &entry.content {
            Content::Cleared => Step::Pause,
            Content::Here(body) => {
                let (rule, body) = (rule as usize, body.clone());
                self.show(Message { topic, rule, place, body })
            }
            Content::Elsewhere => {
                drop(store);
                let retained = retained.clone();
                let message = async move { retained.follow(topic, (version, place, rule)).await };
                self.next = Some(Next::Asked(Asked::ask(message, wake)));
                Step::Wait
            }
        }
    }

    fn is_due(&self, entry: &Entry, now: Instant) -> bool {
        let (mut above, upto) = self.versions;
        if self.late {
            above = above.max(self.starts.as_ref().and_then(|starts| starts.version()).unwrap_or(0));
        }
        entry.version > above && entry.version <= upto && entry.expires.is_none_or(|end| end > now)
    }

    /// Leaves out what another walk gives. False: nothing is left.
    fn begin_above(&mut self, version: u64) -> bool {
        self.versions.0 = self.versions.0.max(version);
        self.versions.0 < self.versions.1
    }

    /// The message that was shown is in the client's hands, or never will be.
    pub fn taken(&mut self) {
        self.next = None;
    }
}

impl Retained {
    /// Whether a walk would find anything, as far as one step looks.
    pub fn has_any(&self, filter: &str) -> bool {
        !matches!(self.store().next(filter, &From::default(), LOOKS), Found::End)
    }
}

/// The walks of one connection, one after the other.
#[derive(Debug, Default)]
pub struct Streams(VecDeque<Stream>);

impl Streams {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the walk of a SUBSCRIBE, which gives all up to its version. A subscription that is asked for again begins anew.
    ///
    /// What came late since then stays. It may come before the walk is here: a SUBSCRIBE takes its version, the tail reads a message and tells
    /// the seat, which sits already, and only then the SUBSCRIBE is granted.
    pub fn begin(&mut self, stream: Stream) {
        let (key, version) = (stream.key, stream.versions.1);
        self.0
            .retain_mut(|other| other.key != key || other.late && other.begin_above(version));
        self.0.push_back(stream);
    }

    /// Adds one beside others of its subscription.
    pub fn add(&mut self, stream: Stream) {
        self.0.push_back(stream);
    }

    /// Ends those of a subscription.
    pub fn end(&mut self, key: SubscriptionKey) {
        self.0.retain(|stream| stream.key != key);
    }

    /// The first whose subscription is not among `pending`.
    pub fn first(&mut self, pending: &[SubscriptionKey]) -> Option<&mut Stream> {
        self.0.iter_mut().find(|stream| !pending.contains(&stream.key))
    }

    /// Takes out the first of a subscription.
    pub fn finish(&mut self, key: SubscriptionKey) {
        if let Some(at) = self.0.iter().position(|stream| stream.key == key) {
            self.0.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn late(versions: (u64, u64)) -> Stream {
        let (key, starts) = (SubscriptionKey(1), Arc::default());
        let topic = Some("a".into());
        Stream::late(
            Late {
                key,
                topic,
                versions,
                starts,
            },
            "#",
        )
    }

    /// Found by a publisher and a subscriber at two instances, once in some thousand tries.
    #[test]
    fn what_came_late_before_the_walk_of_its_subscribe_stays() {
        let mut streams = Streams::default();
        for versions in [(3, 4), (8, 9), (2, 7)] {
            streams.add(late(versions));
        }
        streams.begin(Stream::new(SubscriptionKey(2), "#", 10, None));
        streams.begin(Stream::new(SubscriptionKey(1), "#", 5, None));
        let left: Vec<_> = streams.0.iter().map(|stream| (stream.key.0, stream.versions)).collect();
        assert_eq!(left, [(1, (8, 9)), (1, (5, 7)), (2, (0, 10)), (1, (0, 5))]);
    }
}
