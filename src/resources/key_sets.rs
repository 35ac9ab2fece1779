//! Key sets by URL: each has a task that fetches it anew before it is old, and sooner when a token names a key that is not in it.
//!
//! A login that brings such a token waits for the next set, if that can begin at once. Nobody has proved anything by then, so attempts are
//! [`apart`](KeySetSettings::apart), however many tokens name keys that do not exist, and only [`MOST_WAITING`] logins wait.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Response, StatusCode};
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::freshness::lifetime;
use crate::{
    auth::{Fetched, jwt::KeySet},
    metrics::OutsideCounters,
    upstream::{
        backoff,
        http::{HttpClient, HttpSettings, OF_KEY_SETS},
    },
};

/// Bound of one attempt, and of the wait of a login for it.
const PATIENCE: Duration = Duration::from_secs(5);
/// As [`KeySetSettings::apart`] in use.
pub const APART: Duration = Duration::from_secs(10);
/// Logins that wait for keys at a time. Others are refused, and come again.
const MOST_WAITING: usize = 256;
/// Whatever a server says, it is asked no sooner again by the clock.
const SOONEST: Duration = Duration::from_secs(60);
/// The wait after the first failure, and the longest.
const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(60);
/// Bytes of the largest set. Keys have some 400, with certificates a few thousand.
const LARGEST: usize = 1 << 20;

/// A key set by URL.
#[derive(Clone, Debug)]
pub struct KeySetSettings {
    /// Where it is.
    pub http: HttpSettings,
    /// How old it may become. A server that names a shorter time (`Cache-Control`) has its way, down to a minute.
    pub refresh: Duration,
    /// Between two attempts that tokens with unknown keys cause.
    pub apart: Duration,
    /// Where tokens find it.
    pub keys: Arc<Fetched>,
}

/// All key sets of the process, and their tasks.
#[derive(Debug)]
pub struct KeySets {
    sets: Vec<Watched>,
    /// For logins that wait.
    places: Semaphore,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Watched {
    keys: Arc<Fetched>,
    attempts: watch::Receiver<Attempts>,
    /// Asks for another attempt.
    wish: Arc<Notify>,
    apart: Duration,
}

/// How far a task is.
#[derive(Clone, Copy, Debug)]
struct Attempts {
    /// When the last one began.
    began: Instant,
    /// It goes on.
    running: bool,
    /// How many have ended, in whichever way.
    ended: u64,
}

impl KeySets {
    /// Begins to fetch.
    pub fn start(settings: &[KeySetSettings], counters: &OutsideCounters) -> Self {
        let mut tasks = JoinSet::new();
        let sets = settings.iter().map(|settings| {
            let began = Instant::now();
            let (tell, attempts) = watch::channel(Attempts {
                began,
                running: true,
                ended: 0,
            });
            let wish = Arc::<Notify>::default();
            tasks.spawn(keep(settings.clone(), tell, wish.clone(), counters.clone()));
            Watched {
                keys: settings.keys.clone(),
                attempts,
                wish,
                apart: settings.apart,
            }
        });
        Self {
            sets: sets.collect(),
            places: Semaphore::new(MOST_WAITING),
            _tasks: tasks,
        }
    }

    /// How many attempts have ended, at all sets. To be asked before a token is looked at, for [`newer`](Self::newer).
    pub fn ended(&self) -> u64 {
        self.sets.iter().map(|set| set.attempts.borrow().ended).sum()
    }

    /// Whether there may be more in these sets than when `ended` was asked for. Waits for the next attempt, as far as one is under way or may
    /// begin now. Where one may not begin yet it will when it may, for those who come then.
    pub async fn newer(&self, of: impl Iterator<Item = &Arc<Fetched>>, ended: u64) -> bool {
        // One ended while the token was looked at, perhaps a moment after its key was not there.
        if self.ended() != ended {
            return true;
        }
        let mut awaited = Vec::new();
        for keys in of {
            awaited.extend(self.sets.iter().find(|set| Arc::ptr_eq(&set.keys, keys)).and_then(Watched::wished));
        }
        let Ok(_place) = self.places.try_acquire() else { return false };
        if awaited.is_empty() {
            return false;
        }
        let all = async {
            for (mut attempts, ended) in awaited {
                // An error: the process ends.
                let _ = attempts.wait_for(|now| now.ended > ended).await;
            }
        };
        timeout(PATIENCE, all).await.is_ok()
    }

    /// Asks for all of them anew.
    pub fn refresh(&self) {
        self.sets.iter().for_each(|set| set.wish.notify_one());
    }
}

impl Watched {
    /// Asks for another attempt unless one is under way. What to wait for if that is soon: until so many have ended.
    fn wished(&self) -> Option<(watch::Receiver<Attempts>, u64)> {
        let attempts = self.attempts.clone();
        let now = *attempts.borrow();
        if !now.running {
            self.wish.notify_one();
        }
        let soon = now.running || now.began.elapsed() >= self.apart;
        soon.then_some((attempts, now.ended))
    }
}

/// Keeps one set fresh, for ever.
async fn keep(settings: KeySetSettings, tell: watch::Sender<Attempts>, wish: Arc<Notify>, counters: OutsideCounters) {
    let client = client(&settings);
    let url = client.url();
    if !url.is_tls() {
        tracing::warn!(%url, "a key set by http://: whoever is on the way to it can make any identity");
    }
    let (mut failures, mut told) = (0, None);
    loop {
        let began = Instant::now();
        tell.send_modify(|attempts| (attempts.began, attempts.running) = (began, true));
        let wait = match ask(&client).await {
            Ok((keys, lifetime)) => {
                if told.take().is_some() || settings.keys.get().is_none() {
                    tracing::info!(%url, keys = keys.len(), "a key set was fetched");
                }
                settings.keys.set(keys);
                counters.key_set_fetches.inc();
                failures = 0;
                // Instances that were started together do not ask together.
                useful(lifetime, settings.refresh).mul_f64(1.0 - 0.2 * backoff::fraction())
            }
            Err(why) => {
                if told.as_ref() != Some(&why) {
                    tracing::error!(%url, why, "a key set cannot be fetched; the last one stays in force");
                }
                told = Some(why);
                counters.key_set_failures.inc();
                failures += 1;
                backoff::wait(failures - 1, FIRST, MOST)
            }
        };
        tell.send_modify(|attempts| (attempts.running, attempts.ended) = (false, attempts.ended + 1));
        tokio::select! {
            () = sleep(wait) => {}
            () = wish.notified() => sleep_until(began + settings.apart).await,
        }
    }
}

/// How old a set may become for which its server names a lifetime.
fn useful(lifetime: Option<Duration>, refresh: Duration) -> Duration {
    lifetime.unwrap_or(refresh).clamp(SOONEST.min(refresh), refresh)
}

fn client(settings: &KeySetSettings) -> HttpClient {
    // It is asked for so rarely that no connection is kept.
    HttpClient::new(settings.http.clone(), OF_KEY_SETS, LARGEST, 0)
}

/// Fetches a set once: how many keys it has.
///
/// # Errors
/// There is no answer within five seconds, or none that can be used: in words for an operator.
pub async fn fetch(settings: &KeySetSettings) -> Result<usize, String> {
    ask(&client(settings)).await.map(|(keys, _)| keys.len())
}

/// The set, and how long it may be used if that is said.
async fn ask(client: &HttpClient) -> Result<(KeySet, Option<Duration>), String> {
    let request = client
        .request(Method::GET)
        .body(Full::default())
        .expect("its parts were checked when the URL was read");
    let answer = timeout(PATIENCE, client.ask(request)).await;
    let answer = answer.unwrap_or_else(|_| Err(format!("does not answer within {} s", PATIENCE.as_secs())))?;
    let lifetime = lifetime(answer.headers());
    // A megabyte of JSON takes its time.
    let read = tokio::task::spawn_blocking(move || read(&answer)).await;
    Ok((read.unwrap_or_else(|_| Err("closed by us".to_owned()))?, lifetime))
}

fn read(answer: &Response<Bytes>) -> Result<KeySet, String> {
    match answer.status() {
        StatusCode::OK => {}
        status => return Err(format!("answers {}: check `authentication[].jwks`", status.as_u16())),
    }
    let text = std::str::from_utf8(answer.body()).map_err(|_| "what it answers is no text".to_owned())?;
    KeySet::parse(text).map_err(|why| format!("what it answers {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_may_shorten_what_is_set_and_not_lengthen_it() {
        let useful = |said: Option<u64>| useful(said.map(Duration::from_secs), Duration::from_secs(3600)).as_secs();
        for (said, expected) in [(None, 3600), (Some(300), 300), (Some(0), 60), (Some(86_400), 3600)] {
            assert_eq!(useful(said), expected, "{said:?}");
        }
    }
}
