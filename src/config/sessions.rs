//! `sessions`: how long they outlive their connections, and who may take them over.

use std::time::Duration;

use crate::{
    relay::{SharedKind, StoreSettings},
    session,
};

use super::tree::Node;
use super::walk::{Keys, Section, Walk};

const SESSIONS: Keys = Keys {
    known: &["expiry", "takeover", "instance_timeout", "damaged", "shared", "group_prefix"],
    later: &[],
};
const EXPIRY: Keys = Keys {
    known: &["default", "max"],
    later: &[],
};
/// Between two checkpoints.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);
/// Bytes of `sessions.group_prefix`.
const LONGEST_PREFIX: usize = 100;
const HOUR: u32 = 3600;
const WEEK: u32 = 7 * 24 * HOUR;

impl Walk<'_> {
    /// `sessions`: with `expiry` they are stored, without they end with their connections, on one instance. `session` learns how long.
    pub(super) fn sessions(&mut self, node: &Node, session: &mut session::Settings) -> Option<StoreSettings> {
        let section = self.section(node, "sessions", &SESSIONS)?;
        let takeover = self.optional(&section, "takeover");
        let Some(expiry) = self.optional(&section, "expiry") else {
            let words = [("global", true), ("local", false)];
            let global = takeover.and_then(|n| self.choice(n, "sessions.takeover", &words, &[]));
            let global = takeover.filter(|_| global == Some(true));
            for node in ["instance_timeout", "damaged"]
                .map(|name| section.get(name))
                .into_iter()
                .chain([global])
                .flatten()
            {
                self.fault(
                    node.place,
                    "this says something of stored sessions, and there are none",
                    "give `sessions.expiry`, for example {default: 1h, max: 7d}",
                );
            }
            return None;
        };
        session.expiry = self.expiry(expiry);
        let words = [("global", false), ("local", true)];
        let local_takeover = takeover.and_then(|n| self.choice(n, "sessions.takeover", &words, &[]));
        Some(StoreSettings {
            // `kafka.topics` says them.
            topic: String::new(),
            state_topics: Vec::new(),
            retained: None,
            instance_timeout: self.instance_timeout(&section),
            checkpoint_every: CHECKPOINT_EVERY,
            local_takeover: local_takeover.unwrap_or(false),
            fresh_if_damaged: self.damaged(&section),
        })
    }

    /// Of `sessions`, what shared subscriptions are made with: the group prefix, and what groups those are.
    pub(super) fn shared(&mut self, node: &Node) -> (Option<String>, SharedKind) {
        // What is wrong with the section as a whole is told once, also when it is looked at twice.
        let Some(section) = self.section(node, "sessions", &SESSIONS) else {
            return (None, SharedKind::default());
        };
        let kinds = [
            ("consumer-group", SharedKind::ConsumerGroup),
            ("share-group", SharedKind::ShareGroup),
        ];
        let kind = self.optional(&section, "shared");
        let kind = kind.and_then(|n| self.choice(n, "sessions.shared", &kinds, &[]));
        let prefix = self.optional(&section, "group_prefix").and_then(|n| self.group_prefix(n));
        (prefix, kind.unwrap_or_default())
    }

    fn group_prefix(&mut self, node: &Node) -> Option<String> {
        let text = self.text(node, "sessions.group_prefix")?;
        if text.len() > LONGEST_PREFIX || text.contains(char::is_control) {
            self.fault(
                node.place,
                "`sessions.group_prefix` is too long, or has control characters",
                "it is in front of the names of consumer groups: 100 bytes at most",
            );
        }
        Some(text)
    }

    /// `sessions.expiry`: whole seconds in the protocol (§3.1.2.11.2).
    fn expiry(&mut self, node: &Node) -> Option<session::Expiry> {
        let section = self.section(node, "sessions.expiry", &EXPIRY)?;
        let mut seconds = |key: &str, name: &str, default: u32| match self.optional(&section, key) {
            Some(node) => {
                let range = Duration::ZERO..=Duration::from_secs(u64::from(u32::MAX - 1));
                let duration = self.duration(node, name, range)?;
                Some(u32::try_from(duration.as_secs()).expect("the range is that of the field"))
            }
            None => Some(default),
        };
        let max = seconds("max", "sessions.expiry.max", WEEK);
        let default = seconds("default", "sessions.expiry.default", HOUR.min(max.unwrap_or(WEEK)));
        let (max, default) = (max?, default?);
        if default > max {
            self.fault(
                node.place,
                "`sessions.expiry.default` is longer than `max`",
                "give at most as much as `max`",
            );
        }
        Some(session::Expiry { default, max })
    }

    /// The session timeout of the group of instances; brokers allow 6 s and more unless set otherwise.
    fn instance_timeout(&mut self, section: &Section<'_>) -> Duration {
        let range = Duration::from_secs(1)..=Duration::from_secs(300);
        self.optional(section, "instance_timeout")
            .and_then(|n| self.duration(n, "sessions.instance_timeout", range))
            .unwrap_or(Duration::from_secs(15))
    }

    fn damaged(&mut self, section: &Section<'_>) -> bool {
        let words = [("refuse", false), ("fresh", true)];
        self.optional(section, "damaged")
            .and_then(|n| self.choice(n, "sessions.damaged", &words, &[]))
            .unwrap_or(false)
    }
}
