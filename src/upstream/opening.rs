//! From an address to a connection that may carry requests: TCP, TLS, ApiVersions, SASL, within one bound.

use std::sync::Arc;

use kafka_protocol::{
    messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse},
    protocol::{StrBytes, VersionRange},
};
use tokio::time::{Instant, timeout_at};

use super::{
    cluster::Core,
    connection::{Call, CallError, Connection},
    frame::decode,
    pumps::{read_answers, write_frames},
    security::{authenticate, renew},
    stream,
    versions::Versions,
    wire::Wire,
};

impl Connection {
    /// Connects to `address`, proves who we are and is then ready for requests. `largest` bounds one answer in bytes.
    pub(crate) async fn open(address: &str, core: &Core, largest: usize) -> Result<Self, CallError> {
        let gate = &core.security.gate;
        gate.pass(address, std::time::Instant::now()).map_err(CallError::Refused)?;
        let until = Instant::now() + core.settings.connect_timeout;
        let established = timeout_at(until, Self::establish(address, core, largest, until)).await;
        let established = established.unwrap_or_else(|_| Err(CallError::Broken("not ready within the time to connect".into())));
        match established {
            Ok(connection) => {
                gate.taken(address);
                Ok(connection)
            }
            Err(why) => {
                core.counters.disconnects.inc();
                Err(failed(address, core, why))
            }
        }
    }

    async fn establish(address: &str, core: &Core, largest: usize, until: Instant) -> Result<Self, CallError> {
        let (read, write) = stream::connect(address, &core.security).await?;
        let wire = Arc::new(Wire::new(&core.settings.client_id, &core.counters));
        let reader = tokio::spawn(read_answers(Arc::clone(&wire), read, largest));
        let writer = tokio::spawn(write_frames(Arc::clone(&wire), write));
        let mut connection = Self {
            address: address.into(),
            wire,
            versions: Versions::default(),
            tasks: vec![reader, writer],
        };
        connection.versions = connection.ask_versions(until).await?;
        if let Some(why) = connection.versions.lacking() {
            return Err(connection.wire.poison(&why));
        }
        let session = authenticate(&connection, &core.security, until).await?;
        if !connection.wire.set_ready() {
            return Err(connection.wire.poison("closed"));
        }
        core.counters.connects.inc();
        if let Some(session) = session {
            let (wire, address, security) = (
                Arc::clone(&connection.wire),
                Arc::clone(&connection.address),
                Arc::clone(&core.security),
            );
            let renewal = renew(wire, address, security, session, core.settings.connect_timeout);
            connection.tasks.push(tokio::spawn(renewal));
        }
        Ok(connection)
    }

    /// ApiVersions in version 3; a broker that does not know it answers 35 in the layout of version 0, and is asked again in that one (KIP-511).
    ///
    /// Not in version 4: it only lets features whose versions begin with 0 be told (KAFKA-17011), and no features are read here, while a broker
    /// of before 4.0 would refuse it, and each connection to it would take another round trip.
    async fn ask_versions(&self, until: Instant) -> Result<Versions, CallError> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("mqtt-kafka-proxy"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        for version in [3, 0] {
            let within = until.saturating_duration_since(Instant::now());
            let call: Call<ApiVersionsResponse> = self.send(ApiKey::ApiVersions, version, &request, within)?;
            let frame = call.frame().await?;
            // After the correlation id every version starts with the error code.
            if version > 0 && frame.get(4..6) == Some(&[0, 35]) {
                continue;
            }
            let decoded = decode(frame, ApiKey::ApiVersions, version);
            let (answer, _): (ApiVersionsResponse, _) = decoded.map_err(|why| self.wire.poison(why))?;
            if answer.error_code != 0 {
                return Err(self.wire.poison("the broker refused ApiVersions"));
            }
            self.wire.throttle(answer.throttle_time_ms);
            let offered = answer.api_keys.iter().map(|k| {
                (
                    k.api_key,
                    VersionRange {
                        min: k.min_version,
                        max: k.max_version,
                    },
                )
            });
            return Ok(Versions(offered.collect()));
        }
        Err(self.wire.poison("the broker knows no version of ApiVersions that we know"))
    }
}

/// The reason with its address. A refusal is remembered, and told once.
fn failed(address: &str, core: &Core, why: CallError) -> CallError {
    let told: Arc<str> = format!("{address}: {why}").into();
    let CallError::Refused(_) = why else {
        return match why {
            CallError::Unsendable(_) => why,
            _ => CallError::Broken(told),
        };
    };
    let news = core.security.gate.refused(address, &told, std::time::Instant::now());
    // The first reason of all is told as the state of the cluster, what comes while it is reached by who wanted the connection.
    if news && core.standing.is_away() {
        tracing::warn!(why = &*told, "a broker and we do not take each other");
    }
    CallError::Refused(told)
}
