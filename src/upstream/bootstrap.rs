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
    /// The brokers of the last metadata and the bootstrap list, known ones first. The number turns the order, so that another comes first.
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

/// The one whose turn it is, unless it cannot be reached.
pub(crate) fn first(core: &Core, among: Among) -> Option<String> {
    addresses(core, among).into_iter().next()
}

fn addresses(core: &Core, among: Among) -> Vec<String> {
    let bootstrap = &core.settings.bootstrap_servers;
    let Among::All(turn) = among else { return bootstrap.clone() };
    let mut known: Vec<String> = core.all_brokers().iter().filter(|b| b.is_listed()).map(|b| b.address()).collect();
    known.sort_unstable();
    // A broker that is late may know of no other than itself: those of the list have their turn, too.
    let mut addresses = joined(known, bootstrap);
    let turn = turn.checked_rem(addresses.len()).unwrap_or(0);
    addresses.rotate_left(turn);
    addresses.truncate(MOST_KNOWN);
    joined(addresses, bootstrap)
}

/// Behind these addresses those of the list that are not among them.
fn joined(mut addresses: Vec<String>, bootstrap: &[String]) -> Vec<String> {
    for server in bootstrap {
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
