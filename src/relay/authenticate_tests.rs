//! Files of users and keys that change, and places of those that wait.

use std::{
    pin::{Pin, pin},
    sync::Mutex,
    task::{Context, Wake, Waker},
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
        listeners: [("own".to_owned(), Some(chain()))].into(),
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
    let logins = logins();
    let all = all_turns(&logins).await;
    let mailbox = Arc::new(Mailbox::new(Arc::default(), Budget::new(0, Default::default())));
    let chain = Arc::new(Chain::new(vec![]));
    let begin = || {
        let (tell, begun) = oneshot::channel();
        logins.begin(chain.clone(), (vec![], HERE), tell, mailbox.clone());
        begun
    };
    let (left, stays): (Vec<_>, Vec<_>) = (0..3).map(|_| (begin(), begin())).unzip();
    until("all wait", || logins.line.waiting() == 6).await;
    drop(left);
    until("their places are free", || logins.line.waiting() == 3).await;
    drop(all);
    for begun in stays {
        assert!(soon(begun).await.unwrap().is_err(), "there is no such method in an empty list");
    }
}

/// What does not hang.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what)
        .await
        .expect("it comes to an end")
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
    assert!(waited.is_ok(), "it never comes that {what}");
}

/// So many are asked at a time, whatever the machine has.
const TURNS: usize = 2;

/// Logins without servers.
fn logins() -> Arc<Logins> {
    let mut logins = Logins::new(KeySets::start(&[], &Metrics::new().outside), LoginServers::default());
    logins.line = Line::new(TURNS);
    Arc::new(logins)
}

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Nobody else has one as long as these are held.
async fn all_turns(logins: &Logins) -> Vec<Turn> {
    let mut turns = vec![];
    for _ in 0..TURNS {
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
    let logins = logins();
    let all = all_turns(&logins).await;
    let flood: Vec<_> = (0..1000).map(|n| begin_from(&logins, &format!("2001:db8::{n:x}"))).collect();
    let other = begin_from(&logins, "2001:db8:0:1::1");
    // It is the last that was begun: all have a place by then, or are refused.
    until("the last has a place", || {
        logins.line.has(network_of("2001:db8:0:1::1".parse().unwrap()))
    })
    .await;
    assert_eq!(logins.line.waiting() - 1, SHARE_ALONE);
    drop(all);
    let refused = |begun: Begun| match begun {
        Err(Verdict::Refused { reason, why }) => (reason, why),
        other => panic!("{other:?}"),
    };
    let (reason, _) = refused(soon(other).await.unwrap());
    assert_eq!(reason, ReasonCode::BadAuthenticationMethod, "it was asked");
    let mut busy = 0;
    for begun in flood {
        busy += usize::from(refused(soon(begun).await.unwrap()) == (ReasonCode::ServerBusy, "too_many_logins_of_address"));
    }
    assert_eq!(busy, 1000 - SHARE_ALONE);
}

/// Places that a network has which is alone: 128 for each turn.
const SHARE_ALONE: usize = 256;

/// What the server has said would be lost to those who came meanwhile.
#[tokio::test]
async fn who_has_been_asked_about_is_not_refused_for_those_who_came_meanwhile() {
    let logins = logins();
    let all = all_turns(&logins).await;
    // A server that is not there: it is `Unable` at once, which is heard in another turn.
    let chain = Arc::new(Chain::new(vec![(Method::Http(0), auth::Binding::Any)]));
    let shown = Shown {
        client: "c".to_owned(),
        username: Some("vin42".to_owned()),
        password: None,
        certificate: None,
        address: Some((HERE, 1883).into()),
    };
    let (tell, decided) = oneshot::channel();
    logins.ask(chain, shown, tell);
    until("it waits", || logins.line.waiting() == 1).await;
    // Of its own network as many as may be, and of others so many that nobody new from there would have a place.
    let mut flood: Vec<_> = std::iter::from_fn(|| place_of_who_waits(&logins, HERE)).collect();
    assert_eq!(flood.len(), SHARE_ALONE - 1);
    drop(all);
    // In this very moment its turn has come, and nothing of it has run.
    for n in 0..250 {
        flood.extend(std::iter::from_fn(|| place_of_who_waits(&logins, [10, 0, 0, n].into())));
    }
    assert!(place_of_who_waits(&logins, HERE).is_none());
    let given = logins.line.given();
    until("it waits again", || logins.line.given() > given).await;
    drop(flood);
    match soon(decided).await.unwrap() {
        Verdict::Refused { why, .. } => assert_eq!(why, "login_server_unavailable"),
        other => panic!("{other:?}"),
    }
}

type Waits = Pin<Box<dyn Future<Output = Result<Turn, &'static str>>>>;

/// Somebody who waits in line, and does nothing when it is called; `None`: there is no place for it.
fn place_of_who_waits(logins: &Arc<Logins>, from: IpAddr) -> Option<Waits> {
    let line = logins.line.clone();
    let mut waits: Waits = Box::pin(async move { line.turn(from).await });
    let is_refused = waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
    (!is_refused).then_some(waits)
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
