//! From Kafka's receipts to the session's answers.
//!
//! A PUBLISH may make several records; it is answered when the last of them has its receipt, by the worst outcome:
//! unknown before refused before stored. What a refusal means is the rule's to say (`on_error`).

use super::Shared;
use crate::{
    kafka::error::ErrorCode,
    mapping::{OnError, RuleId},
    mqtt::ReasonCode,
    session::{Answer, Ticket},
    upstream::{Outcome, Receipt},
};

/// The tickets of one connection that wait for more than one receipt.
#[derive(Debug, Default)]
pub struct Answers {
    several: Vec<Several>,
}

#[derive(Debug)]
struct Several {
    ticket: Ticket,
    missing: usize,
    worst: Answer,
}

/// What goes with a record into the cluster and comes back with its receipt: the session's ticket and the rule.
pub fn waiter(ticket: Ticket, rule: RuleId) -> u64 {
    (u64::from(ticket.0) << 32) | u64::from(rule.0)
}

/// Marks what goes with a record that nobody asks after. No rule has so high a number.
const UNASKED: u64 = 1 << 31;

/// Goes with a record that nobody asks after: a loss is counted by its rule, and others of its session must not overtake it.
pub fn unasked(rule: RuleId) -> u64 {
    UNASKED | u64::from(rule.0)
}

/// The rule of a record that nobody asks after.
pub fn rule_of_unasked(waiter: u64) -> Option<RuleId> {
    (waiter & UNASKED != 0).then_some(RuleId((waiter & (UNASKED - 1)) as u32))
}

fn open(waiter: u64) -> (Ticket, RuleId) {
    (Ticket((waiter >> 32) as u32), RuleId(waiter as u32))
}

impl Answers {
    /// Notes that a ticket waits for `records` receipts.
    pub fn expect(&mut self, ticket: Ticket, records: usize) {
        if records > 1 {
            self.several.push(Several {
                ticket,
                missing: records,
                worst: Answer::Acked,
            });
        }
    }

    /// The answer that a receipt completes, if it does.
    pub(super) fn receive(&mut self, receipt: &Receipt, shared: &Shared) -> Option<(Ticket, Answer)> {
        let (ticket, rule) = open(receipt.ticket);
        self.complete(ticket, judge(receipt.outcome, rule, shared))
    }

    /// The same for a record that never reached the cluster.
    pub fn complete(&mut self, ticket: Ticket, answer: Answer) -> Option<(Ticket, Answer)> {
        let Some(at) = self.several.iter().position(|s| s.ticket == ticket) else {
            return Some((ticket, answer));
        };
        let entry = &mut self.several[at];
        entry.missing -= 1;
        if rank(&answer) > rank(&entry.worst) {
            entry.worst = answer;
        }
        (entry.missing == 0)
            .then(|| self.several.swap_remove(at))
            .map(|done| (ticket, done.worst))
    }
}

fn rank(answer: &Answer) -> u8 {
    match answer {
        Answer::Acked => 0,
        Answer::Refused { .. } => 1,
        Answer::Unknown => 2,
    }
}

/// A QoS 2 message of a stored session that will never be in Kafka; `None`: no rule maps it any more, though one did.
pub(super) fn refusal(code: Option<ErrorCode>, shared: &Shared) -> Answer {
    let (reason, why) = code.map_or((ReasonCode::TopicNameInvalid, "unmapped"), |code| (reason(code), code.name()));
    shared.metrics.refused(why);
    Answer::Refused {
        reason,
        reason_string: Some(why),
    }
}

/// What a receipt means for the device.
fn judge(outcome: Outcome, rule: RuleId, shared: &Shared) -> Answer {
    let code = match outcome {
        Outcome::Stored { .. } => return Answer::Acked,
        Outcome::Unknown | Outcome::Expired { .. } => {
            shared.metrics.refused("kafka_unavailable");
            return Answer::Unknown;
        }
        Outcome::Refused(code) => code,
    };
    shared.metrics.refused(code.name());
    let name = &shared.rules.rule(rule).name;
    if shared.said.first(&format!("{name}: {}", code.name())) {
        tracing::error!(rule = name, error = code.name(), "Kafka refuses records of this rule (said once)");
    }
    match shared.rules.rule(rule).on_error {
        OnError::Skip => {
            shared.rule_counters[rule.0 as usize].dropped(code.name());
            Answer::Acked
        }
        // Of a dead letter: there is no place for this one.
        OnError::Reject | OnError::DeadLetter => Answer::Refused {
            reason: reason(code),
            reason_string: Some(code.name()),
        },
    }
}

/// The reason code of a refusal for good (product contract, "Meaning of the qualities of service").
fn reason(code: ErrorCode) -> ReasonCode {
    match code {
        ErrorCode::TOPIC_AUTHORIZATION_FAILED | ErrorCode::CLUSTER_AUTHORIZATION_FAILED => ReasonCode::NotAuthorized,
        ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => ReasonCode::PacketTooLarge,
        _ => ReasonCode::ImplementationSpecificError,
    }
}
