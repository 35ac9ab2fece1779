//! Signals, and what `/readyz` says over the process's life.

use std::future::pending;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::admin::Ready;
use crate::upstream::State;

/// The signals that this process hears. Heard from [`Signals::new`] on, so one that comes while the rooms are being
/// built is not lost.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
}

impl Signals {
    /// # Errors
    /// The system refuses.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reload: signal(SignalKind::hangup())?,
        })
    }

    /// Until SIGTERM or SIGINT; its name. Cancel-safe. Each SIGHUP calls `read_anew`.
    pub(super) async fn end(&mut self, read_anew: impl Fn()) -> &'static str {
        loop {
            tokio::select! {
                Some(()) = self.terminate.recv() => return "SIGTERM",
                Some(()) = self.interrupt.recv() => return "SIGINT",
                Some(()) = self.reload.recv() => {
                    tracing::info!("SIGHUP: certificates, users, keys and lookup tables are read again; what has changed in the configuration needs a restart");
                    read_anew();
                }
                else => pending().await,
            }
        }
    }
}

/// Tells `ready` of each change of the cluster's state and of what the relay `waits_for`, until `ending` is set: then it is not ready, and stays
/// so.
pub(super) async fn tell_readiness(
    mut cluster: watch::Receiver<State>,
    mut waits_for: watch::Receiver<Option<&'static str>>,
    mut ending: watch::Receiver<bool>,
    ready: watch::Sender<Ready>,
) {
    let mut told = None;
    loop {
        let state = cluster.borrow_and_update().clone();
        log_change(&mut told, &state);
        ready.send_replace(match state {
            State::Ready => match *waits_for.borrow_and_update() {
                Some(what) => Ready::No(what.to_owned()),
                None => Ready::Yes,
            },
            State::Connecting { why } => Ready::No(format!("Kafka is not reached: {why}")),
            State::Unfit { why } => Ready::No(format!("Kafka is reached, but: {why}")),
        });
        tokio::select! {
            _ = ending.wait_for(|ending| *ending) => break,
            changed = cluster.changed() => if changed.is_err() { break },
            // An error: it has said its last, and what it said holds.
            Ok(()) = waits_for.changed() => {}
        }
    }
    ready.send_replace(Ready::No("the proxy is ending".to_owned()));
}

/// Of which kind the last state was that was told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Ready,
    Away,
    Unfit,
}

/// One line for each event: there and away, not for each new reason why it is still away, and none before the first attempt
/// has ended.
fn log_change(told: &mut Option<Told>, state: &State) {
    let now = match state {
        State::Ready => Told::Ready,
        State::Connecting { .. } if *state == State::not_yet() => return,
        State::Connecting { .. } => Told::Away,
        State::Unfit { .. } => Told::Unfit,
    };
    if told.replace(now) == Some(now) {
        return;
    }
    match state {
        State::Ready => tracing::info!("Kafka is reached; ready"),
        State::Connecting { why } => tracing::warn!(why, "Kafka is not reached; not ready"),
        // Each reason has a line of its own.
        State::Unfit { .. } => tracing::warn!("Kafka is reached, but the proxy's state topics are not as they must be; not ready"),
    }
}

/// Resolves once `ending` is set, or whoever would set it is gone.
pub(super) async fn ended(mut ending: watch::Receiver<bool>) {
    let _ = ending.wait_for(|ending| *ending).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn readiness_follows_kafka_until_the_end() {
        let (cluster, states) = watch::channel(State::Connecting {
            why: "connection refused".to_owned(),
        });
        let (end, ending) = watch::channel(false);
        let (wait, waits) = watch::channel(Some("it is being read"));
        let (ready, mut seen) = watch::channel(Ready::No("starting".to_owned()));
        let told = tokio::spawn(tell_readiness(states, waits, ending, ready));
        seen.wait_for(|r| matches!(r, Ready::No(why) if why.contains("connection refused")))
            .await
            .unwrap();
        cluster.send_replace(State::Unfit {
            why: "t: one replica".to_owned(),
        });
        seen.wait_for(|r| matches!(r, Ready::No(why) if why == "Kafka is reached, but: t: one replica"))
            .await
            .unwrap();
        cluster.send_replace(State::Ready);
        seen.wait_for(|r| matches!(r, Ready::No(why) if why.contains("being read")))
            .await
            .unwrap();
        wait.send_replace(None);
        seen.wait_for(|r| *r == Ready::Yes).await.unwrap();
        end.send_replace(true);
        told.await.unwrap();
        assert!(matches!(&*seen.borrow(), Ready::No(why) if why.contains("ending")));
    }
}
