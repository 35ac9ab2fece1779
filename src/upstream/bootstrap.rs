//! Finding a broker that answers: known ones first, then the bootstrap list, each soon after the one before it (KIP-899).
//!
//! An address that hangs costs a head start, not the connect timeout: the others are tried beside it. So brokers that went away with
//! all their addresses are left behind within seconds, however they went.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
    time::Duration,
};

use tokio::time::sleep;

use super::{
    cluster::Core,
    connection::{CallError, Connection, ORDINARY_FRAME},
};

/// How long an address is waited for before the next is tried beside it.
const HEAD_START: Duration = Duration::from_millis(250);
/// Known brokers that are tried before the bootstrap list.
const MOST_KNOWN: usize = 8;

type Attempt<'a> = Pin<Box<dyn Future<Output = Result<Connection, CallError>> + Send + 'a>>;

/// Where to look.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Among {
    /// The brokers of the last metadata, then the bootstrap list. The number turns the order, so that another comes first after a
    /// failure.
    All(usize),
    /// The bootstrap list: the cluster wants us to begin again (KIP-1102).
    Bootstrap,
}

/// A connection to any broker that answers. Takes the connect timeout and a head start for each address at most.
pub(crate) async fn any_connection(core: &Core, among: Among) -> Result<Connection, String> {
    let mut addresses = addresses(core, among).into_iter();
    let mut attempts: Vec<Attempt<'_>> = Vec::new();
    let mut faults: Vec<String> = Vec::new();
    loop {
        match addresses.next() {
            Some(address) => attempts.push(Box::pin(open(core, address))),
            None if attempts.is_empty() => break,
            None => {}
        }
        tokio::select! {
            first = first_of(&mut attempts) => match first {
                Ok(connection) => return Ok(connection),
                Err(e) => faults.push(e.to_string()),
            },
            () = sleep(HEAD_START), if addresses.len() > 0 => {}
        }
    }
    faults.dedup();
    Err(if faults.is_empty() {
        "no bootstrap server is set".to_owned()
    } else {
        faults.join("; ")
    })
}

fn addresses(core: &Core, among: Among) -> Vec<String> {
    let mut addresses: Vec<String> = Vec::new();
    if let Among::All(turn) = among {
        addresses.extend(core.all_brokers().iter().filter(|b| b.is_listed()).map(|b| b.address()));
        addresses.sort_unstable();
        let turn = turn.checked_rem(addresses.len()).unwrap_or(0);
        addresses.rotate_left(turn);
        addresses.truncate(MOST_KNOWN);
    }
    for server in &core.settings.bootstrap_servers {
        if !addresses.contains(server) {
            addresses.push(server.clone());
        }
    }
    addresses
}

async fn open(core: &Core, address: String) -> Result<Connection, CallError> {
    Connection::open(&address, core, ORDINARY_FRAME).await
}

/// The first that ends, taken out of the list; never, if there is none. Cancel-safe.
async fn first_of(attempts: &mut Vec<Attempt<'_>>) -> Result<Connection, CallError> {
    poll_fn(|context| {
        for at in 0..attempts.len() {
            if let Poll::Ready(result) = attempts[at].as_mut().poll(context) {
                drop(attempts.swap_remove(at));
                return Poll::Ready(result);
            }
        }
        Poll::Pending
    })
    .await
}
