//! Which broker coordinates a group, and whether it still does.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use kafka_protocol::messages::{ApiKey, FindCoordinatorRequest, FindCoordinatorResponse};
use tokio::time::{sleep, timeout};

use super::coordinator::{Coordinator, Fault, Identity, accepted, text, version_of};
use crate::upstream::{
    bootstrap::{Among, any_connection},
    cluster::Core,
    connection::CallError,
};

/// While there is no answer it is asked so often whether another broker is the coordinator by now.
const LOOK: Duration = Duration::from_secs(3);

/// What was asked of the coordinator, unless another broker is that before it answers. The silence of one that waits for members looks like that of
/// one that is paused or gone, and who is no member yet sends no heartbeats that would tell them apart.
pub(super) async fn unless_succeeded<T>(
    core: &Core,
    me: &Identity,
    at: &Coordinator,
    asked: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    tokio::select! {
        answer = asked => answer,
        () = succeeded(core, me, at) => Err(Fault::Call(CallError::Broken("another broker is the coordinator by now".into()))),
    }
}

async fn succeeded(core: &Core, me: &Identity, at: &Coordinator) {
    loop {
        sleep(LOOK).await;
        let found = timeout(LOOK, find(core, me)).await;
        // Who cannot tell is asked again, or another is.
        if let Ok(Ok(found)) = found
            && !found.is_at(at)
        {
            return;
        }
    }
}

/// Looks for the coordinator; versions from 4 on can ask for several at once (KIP-699).
pub(super) async fn find(core: &Core, me: &Identity) -> Result<Coordinator, Fault> {
    // Another broker after each failure: one that cannot tell may go on not to.
    let among = Among::All(me.searches.fetch_add(1, Relaxed));
    let connection = any_connection(core, among).await.map_err(|why| CallError::Broken(why.into()))?;
    // 5 brought an error of transactions (KIP-890), 6 a kind of key for share groups (KIP-932): neither is a group's of members.
    let version = version_of(&connection, ApiKey::FindCoordinator, 6)?;
    let key = text(&me.settings.group);
    let request = if version >= 4 {
        FindCoordinatorRequest::default().with_coordinator_keys(vec![key])
    } else {
        FindCoordinatorRequest::default().with_key(key)
    };
    let bound = core.settings.request_timeout;
    let answer: FindCoordinatorResponse = connection.send(ApiKey::FindCoordinator, version, &request, bound)?.answer().await?;
    let (code, node, host, port) = match answer.coordinators.into_iter().next() {
        Some(one) => (one.error_code, one.node_id, one.host, one.port),
        None if version >= 4 => return Err(Fault::Call(CallError::Unsendable("no coordinator in the answer"))),
        None => (answer.error_code, answer.node_id, answer.host, answer.port),
    };
    accepted(me, "FindCoordinator", code)?;
    let address = if host.contains(':') {
        format!("[{}]:{port}", &*host)
    } else {
        format!("{}:{port}", &*host)
    };
    Ok(Coordinator::at(node.0, address))
}
