//! The producer id of this instance: one for all partitions, another only after Kafka refused it.

use std::{sync::Mutex, time::Duration};

use kafka_protocol::messages::{ApiKey, InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use super::{accumulator::Identity, backoff, cluster::Core, metadata};

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

    /// Waits until there is an id other than `dead`. Retries for ever, with back-off.
    pub(crate) async fn other_than(&self, dead: Option<i64>, core: &Core) {
        let _one = self.asking.lock().await;
        let mut attempt = 0;
        while self.current().is_none_or(|i| Some(i.producer_id) == dead) {
            match ask(core).await {
                Ok(identity) => *self.current.lock().expect("no code that holds this lock panics") = Some(identity),
                Err(why) => {
                    tracing::debug!(why, "no producer id yet");
                    tokio::time::sleep(backoff::wait(attempt, Duration::from_millis(50), Duration::from_secs(1))).await;
                    attempt += 1;
                }
            }
        }
    }
}

async fn ask(core: &Core) -> Result<Identity, String> {
    let connection = metadata::any_connection(core).await?;
    let version = connection
        .version(ApiKey::InitProducerId, 5)
        .ok_or("the broker is too old for idempotent producers")?;
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(i32::MAX)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    let mut call = connection
        .send::<_, InitProducerIdResponse>(ApiKey::InitProducerId, version, &request, core.settings.request_timeout)
        .map_err(|e| e.to_string())?;
    let answer = call.answer().await.map_err(|e| e.to_string())?;
    if answer.error_code != 0 {
        let code = crate::kafka::error::ErrorCode::from(answer.error_code);
        core.counters.error(code.name());
        return Err(format!("InitProducerId: {}", code.name()));
    }
    Ok(Identity {
        producer_id: answer.producer_id.0,
        epoch: answer.producer_epoch,
    })
}
