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
    swept: Option<Instant>,
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

    /// Remembers an answer, if there is room.
    pub(super) fn put(&self, question: Option<Question>, decision: &Decision, now: Instant, lifetime: Duration) {
        let Some(question) = question.filter(|_| !lifetime.is_zero()) else {
            return;
        };
        let mut answers = self.answers();
        if answers.by_question.len() >= MOST {
            let rested = answers.swept.is_none_or(|last| now.saturating_duration_since(last) >= SWEEP_AGAIN);
            if rested {
                answers.swept = Some(now);
                answers.by_question.retain(|_, (_, until)| now < *until);
            }
        }
        if answers.by_question.len() < MOST || answers.by_question.contains_key(&question) {
            answers.by_question.insert(question, (decision.clone(), now + lifetime));
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
        assert_eq!(Known::default().get(&key("a"), now), None, "each process has a key of its own");
    }

    #[test]
    fn what_is_known_is_bounded() {
        let (known, now, minute) = (Known::default(), Instant::now(), Duration::from_secs(60));
        let key = |n: usize| known.key(&n.to_le_bytes());
        for n in 0..MOST + 10 {
            known.put(key(n), &Decision::Deny, now, minute);
        }
        assert_eq!(known.answers().by_question.len(), MOST);
        known.put(key(0), &Decision::Ignore, now, minute);
        assert_eq!(known.get(&key(0), now), Some(Decision::Ignore), "what is there is replaced");
        known.put(key(MOST), &Decision::Deny, now + minute, minute);
        assert_eq!(known.answers().by_question.len(), 1, "what is over makes room");
    }
}
