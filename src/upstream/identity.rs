//! The producer id of this instance: one for all partitions, another only after Kafka refused it.

use std::{sync::Mutex, time::Duration};

use kafka_protocol::messages::{ApiKey, InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use super::{
    accumulator::Identity,
    backoff,
    bootstrap::{Among, any_connection},
    cluster::Core,
    connection::Connection,
};
use crate::kafka::error::{ErrorCode, Retry};

/// The longest pause between two questions, and after one that was refused for good.
const MOST_PAUSE: Duration = Duration::from_secs(1);
const MOST_PAUSE_REFUSED: Duration = Duration::from_secs(10);

/// The id in use. Asked for when the first record is to be sent.
#[derive(Default)]
pub(crate) struct Identities {
    current: Mutex<Option<Identity>>,
    /// One asks at a time; the others find its answer.
    asking: tokio::sync::Mutex<()>,
}

impl Identities {
    pub(crate) fn current(&self) -> Option<Identity> {
        *self.current.lock().expect("no code that holds this lock panics")
    }

    /// A partition is forgotten whose latest stamps were these. Should it be known again it would begin at sequence 0: of the same epoch that
    /// would be acknowledged as known, and be nowhere. So all that begin from here on have a higher epoch, or another id.
    pub(crate) fn retire(&self, used: Option<Identity>, dead: Option<i64>) {
        let mut current = self.current.lock().expect("no code that holds this lock panics");
        let Some(ours) = *current else { return };
        if dead == Some(ours.producer_id) {
            *current = None;
        } else if let Some(used) = used.filter(|used| used.producer_id == ours.producer_id && used.epoch >= ours.epoch) {
            *current = used.epoch.checked_add(1).map(|epoch| Identity { epoch, ..ours });
        }
    }

    /// Waits until there is an id other than `dead`. Retries for ever, with back-off.
    pub(crate) async fn other_than(&self, dead: Option<i64>, core: &Core) {
        let _one = self.asking.lock().await;
        let mut link = None;
        while self.current().is_none_or(|i| Some(i.producer_id) == dead) {
            let identity = obtain(core, &mut link).await;
            *self.current.lock().expect("no code that holds this lock panics") = Some(identity);
        }
    }
}

/// Asks for an id until there is one, with back-off, another broker after each that gave none: one that is cut off from the controllers cannot, and
/// goes on to say "later". But a broker that asked for quiet on the connection (KIP-219) is asked again, and so is one that refused for good.
pub(super) async fn obtain(core: &Core, link: &mut Option<Connection>) -> Identity {
    let mut attempt = 0;
    let mut told = None;
    loop {
        let most = match ask(core, link, attempt).await {
            Ok(identity) => return identity,
            Err(Failure::Quiet(why)) => {
                tracing::debug!(why, "no producer id yet");
                MOST_PAUSE
            }
            Err(Failure::Passing(why)) => {
                tracing::debug!(why, "no producer id yet");
                *link = None;
                MOST_PAUSE
            }
            Err(Failure::Refused(code)) => {
                if told.replace(code) != Some(code) {
                    tell(code);
                }
                MOST_PAUSE_REFUSED
            }
        };
        tokio::time::sleep(backoff::wait(attempt, Duration::from_millis(50), most)).await;
        attempt += 1;
    }
}

/// Kafka gives no producer id and will not by itself: an operator must know, once, what to do. What waits for it expires.
fn tell(code: ErrorCode) {
    let remedy = match code {
        ErrorCode::CLUSTER_AUTHORIZATION_FAILED => {
            "grant the proxy's principal IDEMPOTENT_WRITE on the cluster, or WRITE on its topics (Kafka 2.8 or newer)"
        }
        _ => "see the broker's log",
    };
    tracing::warn!(
        error = code.name(),
        remedy,
        "Kafka refuses a producer id (InitProducerId): records with acks: all cannot be sent and expire until it gives one"
    );
}

/// Why there is no id.
enum Failure {
    /// Another broker is asked soon.
    Passing(String),
    /// The broker asked for quiet, and is asked again when that is over.
    Quiet(String),
    /// For good, as far as Kafka knows; asked again now and then, since rights can be granted.
    Refused(ErrorCode),
}

/// `attempt`: failures in a row before this one.
async fn ask(core: &Core, link: &mut Option<Connection>, attempt: u32) -> Result<Identity, Failure> {
    if link.as_ref().is_none_or(|l| !l.is_open()) {
        let among = Among::All(attempt as usize);
        *link = Some(any_connection(core, among).await.map_err(Failure::Passing)?);
    }
    let patience = backoff::patience(attempt, core.settings.request_timeout);
    let connection = link.as_ref().expect("opened above");
    // 6 is of two-phase commits (KIP-939), which kafka-protocol cannot write yet.
    let version = connection
        .version(ApiKey::InitProducerId, 5)
        .ok_or_else(|| Failure::Passing("the broker shares no version of InitProducerId".to_owned()))?;
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(i32::MAX)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    let mut call = connection
        .send::<_, InitProducerIdResponse>(ApiKey::InitProducerId, version, &request, patience)
        .map_err(|e| Failure::Passing(e.to_string()))?;
    let answer = call.answer().await.map_err(|e| Failure::Passing(e.to_string()))?;
    let code = ErrorCode::from(answer.error_code);
    if code.is_ok() {
        return Ok(Identity {
            producer_id: answer.producer_id.0,
            epoch: answer.producer_epoch,
        });
    }
    core.counters.error(code.name());
    Err(match code.retry() {
        Retry::Never | Retry::AfterJoin | Retry::Fatal => Failure::Refused(code),
        _ if answer.throttle_time_ms > 0 => Failure::Quiet(format!("InitProducerId: {}", code.name())),
        _ => Failure::Passing(format!("InitProducerId: {}", code.name())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(producer_id: i64, epoch: i16) -> Identity {
        Identity { producer_id, epoch }
    }

    fn after(used: Option<Identity>, dead: Option<i64>) -> Option<Identity> {
        let identities = Identities {
            current: Mutex::new(Some(identity(7, 3))),
            ..Identities::default()
        };
        identities.retire(used, dead);
        identities.current()
    }

    #[test]
    fn what_a_forgotten_partition_used_is_not_used_again() {
        let same = Some(identity(7, 3));
        assert_eq!(after(same, None), Some(identity(7, 4)));
        assert_eq!(after(Some(identity(7, 9)), None), Some(identity(7, 10)));
        assert_eq!(after(Some(identity(7, i16::MAX)), None), None, "there is no higher one");
        assert_eq!(after(None, Some(7)), None);
        // It never used this id in this epoch or a later one.
        for used in [None, Some(identity(7, 2)), Some(identity(6, 9))] {
            assert_eq!(after(used, Some(5)), same);
        }
    }
}
