//! Files of users and keys that change, and places of those that wait.

use std::{
    pin::pin,
    sync::Mutex,
    task::{Context, Wake},
};

use tokio::sync::{Notify, oneshot::error::TryRecvError};

use super::*;
use crate::{
    auth,
    metrics::Metrics,
    relay::{budget::Budget, line::Turn},
};

fn parse(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

#[test]
fn each_chain_reads_a_changed_file_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.txt");
    fs::write(&path, "one").unwrap();
    let chains = [Held::new(path.clone(), "one".to_owned()), Held::new(path.clone(), "one".to_owned())];
    let start = Instant::now();
    chains.iter().for_each(|held| refresh(held, start, parse));
    fs::write(&path, "another").unwrap();
    chains.iter().for_each(|held| refresh(held, start + LOOK_AGAIN / 2, parse));
    assert_eq!(
        chains.each_ref().map(|held| held.get().to_string()),
        ["one", "one"],
        "not looked at yet"
    );
    chains.iter().for_each(|held| refresh(held, start + LOOK_AGAIN, parse));
    assert_eq!(chains.each_ref().map(|held| held.get().to_string()), ["another", "another"]);
}

#[test]
fn what_could_not_be_used_is_read_again_although_it_looks_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.txt");
    fs::write(&path, "new").unwrap();
    let held = Held::new(path, "old".to_owned());
    let start = Instant::now();
    refresh(&held, start, |_| Err("cannot be used".to_owned()));
    assert_eq!(*held.get(), "old");
    refresh(&held, start + LOOK_AGAIN, parse);
    assert_eq!(*held.get(), "new");
    refresh(&held, start + LOOK_AGAIN * 2, |_| panic!("it is as it was read"));
}

/// Time and length do not always tell: SIGHUP does.
#[test]
fn a_file_that_looks_the_same_is_read_anew_on_demand() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.txt");
    let write = |text: &str| {
        fs::write(&path, text).unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(UNIX_EPOCH).unwrap();
    };
    let line = |user: &str| auth::passwords::entry(user, b"s3cret").unwrap();
    write(&line("a"));
    let users = || Held::new(path.clone(), Passwords::parse(&line("a")).unwrap());
    let chain = || Arc::new(Chain::new(vec![(Method::Passwords(users()), auth::Binding::Any)]));
    let access = Access {
        chain: Some(chain()),
        listeners: [("own".to_owned(), chain())].into(),
        ..Access::default()
    };
    read_anew(&access);
    write(&line("b"));
    read_anew(&access);
    for listener in ["own", "other"] {
        let chain = access.chain(listener).unwrap();
        let Some(Method::Passwords(users)) = chain.methods().next() else {
            panic!("no password file")
        };
        assert!(users.get().knows("b") && !users.get().knows("a"), "{listener}");
    }
}

#[test]
fn a_file_that_is_gone_leaves_its_last_reading() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.txt");
    let held = Held::new(path.clone(), "old".to_owned());
    let start = Instant::now();
    refresh(&held, start, parse);
    assert_eq!(*held.get(), "old");
    fs::write(&path, "back").unwrap();
    refresh(&held, start + LOOK_AGAIN, parse);
    assert_eq!(*held.get(), "back");
}

/// Else a flood of clients that connect and leave would fill the places of those who wait.
#[tokio::test]
async fn who_has_left_before_its_turn_keeps_no_place() {
    let logins = Arc::new(Logins::new(KeySets::start(&[], &Metrics::new().outside), LoginServers::default()));
    let all = all_turns(&logins).await;
    let mailbox = Arc::new(Mailbox::new(Arc::default(), Budget::new(0, Default::default())));
    let chain = Arc::new(Chain::new(vec![]));
    let begin = || {
        let (tell, begun) = oneshot::channel();
        logins.begin(chain.clone(), (vec![], HERE), tell, mailbox.clone());
        begun
    };
    let (left, stays): (Vec<_>, Vec<_>) = (0..3).map(|_| (begin(), begin())).unzip();
    let waiting = async |count| {
        while logins.line.waiting() != count {
            tokio::task::yield_now().await;
        }
    };
    waiting(6).await;
    drop(left);
    let freed = tokio::time::timeout(Duration::from_secs(20), waiting(3)).await;
    assert!(freed.is_ok(), "their places are never free");
    drop(all);
    for begun in stays {
        assert!(begun.await.unwrap().is_err(), "there is no such method in an empty list");
    }
}

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Nobody else has one as long as these are held.
async fn all_turns(logins: &Logins) -> Vec<Turn> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut turns = vec![];
    for _ in 0..cores {
        turns.push(logins.line.turn(HERE).await.unwrap());
    }
    turns
}

/// A SCRAM message from an address, in the line.
fn begin_from(logins: &Arc<Logins>, from: &str) -> oneshot::Receiver<Begun> {
    let (tell, begun) = oneshot::channel();
    let mailbox = Arc::new(Mailbox::new(Arc::default(), Budget::new(0, Default::default())));
    logins.begin(Arc::new(Chain::new(vec![])), (vec![], from.parse().unwrap()), tell, mailbox);
    begun
}

/// A customer of IPv6 has more addresses than there are places.
#[tokio::test]
async fn a_flood_from_one_network_is_refused_when_it_has_its_part_and_nobody_else_is() {
    let logins = Arc::new(Logins::new(KeySets::start(&[], &Metrics::new().outside), LoginServers::default()));
    let all = all_turns(&logins).await;
    let flood: Vec<_> = (0..1000).map(|n| begin_from(&logins, &format!("2001:db8::{n:x}"))).collect();
    let other = begin_from(&logins, "2001:db8:0:1::1");
    // It is the last that was begun: all have a place by then, or are refused.
    while !logins.line.has(network_of("2001:db8:0:1::1".parse().unwrap())) {
        tokio::task::yield_now().await;
    }
    let waiting = logins.line.waiting() - 1;
    assert!(waiting < 250, "{waiting}");
    drop(all);
    let reason = |begun: Begun| match begun {
        Err(Verdict::Refused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(other.await.unwrap()), ReasonCode::BadAuthenticationMethod, "it was asked");
    let mut busy = 0;
    for begun in flood {
        busy += usize::from(reason(begun.await.unwrap()) == ReasonCode::ServerBusy);
    }
    assert_eq!(busy, 1000 - waiting);
}

/// What who is woken finds, in the very moment.
struct Woken {
    begun: Mutex<oneshot::Receiver<Begun>>,
    found: Mutex<Option<TryRecvError>>,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        *self.found.lock().unwrap() = self.begun.lock().unwrap().try_recv().err();
    }
}

/// A connection on which a client authenticates again looks when its mailbox is rung, and only then.
#[test]
fn a_question_that_ended_by_a_panic_is_over_before_the_mailbox_is_rung() {
    let (tell, begun) = oneshot::channel();
    let wake = Arc::new(Notify::new());
    let mailbox = Mailbox::new(wake.clone(), Budget::new(0, Default::default()));
    let woken = Arc::new(Woken {
        begun: Mutex::new(begun),
        found: Mutex::default(),
    });
    let mut rung = pin!(wake.notified());
    assert!(rung.as_mut().poll(&mut Context::from_waker(&woken.clone().into())).is_pending());
    answer(tell, None, &mailbox);
    assert_eq!(*woken.found.lock().unwrap(), Some(TryRecvError::Closed));
}
