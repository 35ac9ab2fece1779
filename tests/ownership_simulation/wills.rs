//! Every will of every CONNECT, and how often it must have been sent in the end.

use crate::ownership::Millis;

pub struct Will {
    client: usize,
    delay: Millis,
    /// CONNACK has come: from here on it is a promise.
    answered: bool,
    /// The connection ended without DISCONNECT.
    lost_at: Option<Millis>,
    said_goodbye: bool,
    /// Whether the client came back, and how.
    returned: Option<Return>,
}

#[derive(Clone, Copy, PartialEq)]
enum Return {
    InTime,
    Late,
    ToNothing,
}

#[derive(Default)]
pub struct Wills(Vec<Will>);

impl Wills {
    pub fn add(&mut self, client: usize, delay: u32) -> u64 {
        self.0.push(Will {
            client,
            delay: Millis::from(delay) * 1000,
            answered: false,
            lost_at: None,
            said_goodbye: false,
            returned: None,
        });
        self.0.len() as u64 - 1
    }

    pub fn answered(&mut self, number: u64) {
        self.0[number as usize].answered = true;
    }

    pub fn goodbye(&mut self, number: u64) {
        self.0[number as usize].said_goodbye = true;
    }

    pub fn lost(&mut self, number: u64, at: Millis) {
        self.0[number as usize].lost_at.get_or_insert(at);
    }

    /// A client got CONNACK: what that means for the wills of its former connections.
    pub fn returned(&mut self, client: usize, present: bool, now: Millis) {
        let open = |will: &&mut Will| will.client == client && will.returned.is_none() && will.lost_at.is_some();
        for will in self.0.iter_mut().filter(open) {
            will.returned = Some(match will.lost_at {
                _ if !present => Return::ToNothing,
                Some(at) if now < at + will.delay => Return::InTime,
                _ => Return::Late,
            });
        }
    }

    /// `gave_up`: the client once left a CONNECT before its answer, which may have had any effect in between.
    /// `damaged`: what is stored of the client cannot be read, so its will may be lost.
    pub fn check(&self, sent: &[u64], gave_up: impl Fn(usize) -> bool, damaged: impl Fn(usize) -> bool) -> Result<(), String> {
        for (number, will) in self.0.iter().enumerate() {
            let count = sent.iter().filter(|payload| **payload == number as u64).count();
            let due = will.answered && will.lost_at.is_some() && !will.said_goodbye;
            let least = match will.returned {
                _ if !due || damaged(will.client) => 0,
                _ if will.delay == 0 => 1,
                _ if gave_up(will.client) => 0,
                Some(Return::ToNothing) | None => 1,
                Some(_) => 0,
            };
            let cancelled = due && will.returned == Some(Return::InTime) && will.delay > 0 && !gave_up(will.client);
            let most = if cancelled { 0 } else { 1 };
            if count < least || count > most {
                return Err(format!("will {number} was sent {count} times, not {least} to {most}"));
            }
        }
        Ok(())
    }
}
