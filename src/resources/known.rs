//! Answers about logins that are still good. No password is kept, only a code of what was asked, under a key of this process.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_lc_rs::{hmac, rand::SystemRandom};
use tokio::time::Instant;

use crate::auth::Decision;

/// Answers that are known at a time. With identities and claims each has some 300 bytes.
const MOST: usize = 20_000;
/// Of these so many may let nobody in: anybody can have the server asked about what nobody has, and must not take the room of those who are let in.
const MOST_REFUSALS: usize = MOST / 2;
/// When there is no room, what is over is looked for no sooner again.
const SWEEP_AGAIN: Duration = Duration::from_secs(1);

/// What was asked.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Question([u8; 32]);

/// The answers.
pub(super) struct Known {
    /// `None`: the system gave no randomness, so nothing is known.
    secret: Option<hmac::Key>,
    answers: Mutex<Answers>,
}

#[derive(Default)]
struct Answers {
    by_question: HashMap<Question, (Decision, Instant)>,
    /// Those among them that let nobody in.
    refusals: usize,
    swept: Option<Instant>,
}

impl Answers {
    fn has_room(&self, decision: &Decision) -> bool {
        self.by_question.len() < MOST && (lets_in(decision) || self.refusals < MOST_REFUSALS)
    }

    fn insert(&mut self, question: Question, decision: Decision, until: Instant) {
        self.refusals += usize::from(!lets_in(&decision));
        self.by_question.insert(question, (decision, until));
    }

    fn forget(&mut self, question: &Question) {
        let former = self.by_question.remove(question);
        self.refusals -= usize::from(former.is_some_and(|(decision, _)| !lets_in(&decision)));
    }

    /// Forgets what is over, not too often.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|last| now.saturating_duration_since(last) < SWEEP_AGAIN) {
            return;
        }
        self.swept = Some(now);
        self.by_question.retain(|_, (_, until)| now < *until);
        self.refusals = self.by_question.values().filter(|(decision, _)| !lets_in(decision)).count();
    }
}

fn lets_in(decision: &Decision) -> bool {
    matches!(decision, Decision::Allow { .. })
}

impl Default for Known {
    fn default() -> Self {
        Self {
            secret: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok(),
            answers: Mutex::default(),
        }
    }
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Known({} answers)", self.answers().by_question.len())
    }
}

impl Known {
    /// A question's code.
    pub(super) fn key(&self, question: &[u8]) -> Option<Question> {
        let code = hmac::sign(self.secret.as_ref()?, question);
        Some(Question(code.as_ref().try_into().ok()?))
    }

    /// Its answer, if it is known at `now`.
    pub(super) fn get(&self, question: &Option<Question>, now: Instant) -> Option<Decision> {
        let answers = self.answers();
        let (decision, until) = answers.by_question.get(question.as_ref()?)?;
        (now < *until).then(|| decision.clone())
    }

    /// Remembers an answer, if there is room and it has a lifetime.
    pub(super) fn put(&self, question: Option<Question>, decision: &Decision, now: Instant, lifetime: Duration) {
        let Some(question) = question else {
            return;
        };
        let mut answers = self.answers();
        // Whatever becomes of the new answer, the former one is no more.
        answers.forget(&question);
        if lifetime.is_zero() {
            return;
        }
        if !answers.has_room(decision) {
            answers.sweep(now);
        }
        if answers.has_room(decision) {
            answers.insert(question, decision.clone(), now + lifetime);
        }
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_known_for_its_time_and_its_question() {
        let (known, now, second) = (Known::default(), Instant::now(), Duration::from_secs(1));
        let key = |text: &str| known.key(text.as_bytes());
        known.put(key("a"), &Decision::Deny, now, second);
        known.put(key("b"), &Decision::Ignore, now, Duration::ZERO);
        assert_eq!(known.get(&key("a"), now), Some(Decision::Deny));
        assert_eq!(known.get(&key("a"), now + second), None);
        assert_eq!(known.get(&key("b"), now), None);
        known.put(key("a"), &allow(), now, Duration::ZERO);
        assert_eq!(known.get(&key("a"), now), None, "the former answer is no more");
        assert_eq!(Known::default().get(&key("a"), now), None, "each process has a key of its own");
    }

    fn allow() -> Decision {
        Decision::Allow {
            identity: None,
            claims: Default::default(),
            expires: None,
        }
    }

    #[test]
    fn what_is_known_is_bounded() {
        let (known, now, minute) = (Known::default(), Instant::now(), Duration::from_secs(60));
        let key = |n: usize| known.key(&n.to_le_bytes());
        for n in 0..MOST + 10 {
            known.put(key(n), &allow(), now, minute);
        }
        assert_eq!(known.answers().by_question.len(), MOST);
        known.put(key(0), &Decision::Ignore, now, minute);
        assert_eq!(known.get(&key(0), now), Some(Decision::Ignore), "what is there is replaced");
        known.put(key(MOST), &allow(), now + minute, minute);
        assert_eq!(known.answers().by_question.len(), 1, "what is over makes room");
    }

    #[test]
    fn refusals_leave_room_for_who_is_let_in() {
        let (known, now, minute) = (Known::default(), Instant::now(), Duration::from_secs(60));
        let key = |n: usize| known.key(&n.to_le_bytes());
        for n in 0..2 * MOST {
            let refusal = if n % 2 == 0 { Decision::Deny } else { Decision::Ignore };
            known.put(key(n), &refusal, now, minute);
        }
        assert_eq!(known.answers().by_question.len(), MOST_REFUSALS);
        let first = 2 * MOST;
        for n in first..first + MOST - MOST_REFUSALS {
            known.put(key(n), &allow(), now, minute);
            assert_eq!(known.get(&key(n), now), Some(allow()));
        }
        known.put(key(0), &allow(), now, minute);
        assert_eq!(known.get(&key(0), now), Some(allow()), "in the place of its refusal");
        known.put(key(0), &Decision::Deny, now, minute);
        known.put(key(first), &Decision::Deny, now, minute);
        assert_eq!(known.get(&key(0), now), Some(Decision::Deny));
        assert_eq!(known.get(&key(first), now), None, "who is let in no more is forgotten, room or not");
        known.put(key(4 * MOST), &Decision::Deny, now + minute, minute);
        let answers = known.answers();
        assert_eq!((answers.by_question.len(), answers.refusals), (1, 1));
    }
}
