//! Files of users and keys that change, and places of those that wait.

use super::*;
use crate::{auth, metrics::Metrics, relay::budget::Budget};

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
    let _all = logins.turns.acquire_many(logins.turns.available_permits() as u32).await.unwrap();
    let mailbox = Arc::new(Mailbox::new(Arc::default(), Budget::new(0, Default::default())));
    let chain = Arc::new(Chain::new(vec![]));
    let begin = || {
        let (tell, begun) = oneshot::channel();
        logins.begin(chain.clone(), vec![], tell, mailbox.clone());
        begun
    };
    let (left, stays): (Vec<_>, Vec<_>) = (0..3).map(|_| (begin(), begin())).unzip();
    let waiting = async |count| {
        while logins.waiting.load(Relaxed) != count {
            tokio::task::yield_now().await;
        }
    };
    waiting(6).await;
    drop(left);
    let freed = tokio::time::timeout(Duration::from_secs(20), waiting(3)).await;
    assert!(freed.is_ok(), "their places are never free");
    assert_eq!(stays.len(), 3);
}
