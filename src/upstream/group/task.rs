//! The task of one membership: carries the state machine's requests out, and time, answers and wishes in.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::sleep_until,
};

use super::{
    MOST_RELEASES,
    coordinator::{self, Coordinator, Identity},
    event::{Commit, CommitError, GroupEvent, Revocation},
    membership::{Action, Event, Membership, Rules},
    requests::{Answer, Topics},
    settings::GroupSettings,
};
use crate::upstream::{
    cluster::Core,
    topics::{TopicState, Topics as AllTopics},
};

/// Commits without an outcome beyond which no further calls are taken.
const MOST_CALLS: usize = 10_000;

/// What the user wants.
#[derive(Debug)]
pub(super) enum Command {
    Commit(Vec<(Commit, oneshot::Sender<Result<(), CommitError>>)>),
    /// The topics whose partitions it wants from now on.
    Subscribe(BTreeSet<Arc<str>>),
    Leave(oneshot::Sender<()>),
}

/// What the task holds beside the state machine.
struct Task {
    core: Arc<Core>,
    identity: Arc<Identity>,
    coordinator: Option<Arc<Coordinator>>,
    asked: JoinSet<(u64, Answer, Option<Coordinator>)>,
    /// Who waits for the outcome of a commit.
    calls: HashMap<u64, oneshot::Sender<Result<(), CommitError>>>,
    next_call: u64,
    goodbye: Option<oneshot::Sender<()>>,
    released: mpsc::Sender<u64>,
}

/// The clock, as tokio has it: a test may have stopped it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Runs until the membership is over, its user has dropped it, or the client stops.
pub(super) async fn run(
    core: Arc<Core>,
    settings: Arc<GroupSettings>,
    (events, halts): (mpsc::Sender<GroupEvent>, watch::Sender<bool>),
    mut commands: mpsc::Receiver<Command>,
) {
    let (released, mut releases) = mpsc::channel(MOST_RELEASES);
    let mut changed = core.changed.subscribe();
    let mut machine = begin(&core, &settings);
    let mut task = Task {
        identity: Arc::new(Identity::new(settings)),
        core,
        coordinator: None,
        asked: JoinSet::new(),
        calls: HashMap::new(),
        next_call: 0,
        goodbye: None,
        released,
    };
    machine.topics(snapshot(&task.core, &machine.watched()), now());
    while !machine.is_over() {
        task.act(&mut machine);
        halts.send_if_modified(|halted| std::mem::replace(halted, machine.is_halted()) != machine.is_halted());
        let deadline = machine.deadline().map(tokio::time::Instant::from_std);
        tokio::select! {
            Some(answered) = task.asked.join_next() => task.answered(&mut machine, answered),
            Ok(room) = events.reserve(), if machine.has_events() => {
                if let Some(event) = machine.event() {
                    room.send(task.told(event));
                }
                // Who waited for it to be taken goes on.
                machine.tick(now());
            }
            Some(command) = commands.recv(), if task.calls.len() < MOST_CALLS => task.obey(&mut machine, command),
            Some(number) = releases.recv() => machine.released(number, now()),
            Ok(()) = changed.changed() => machine.topics(snapshot(&task.core, &machine.watched()), now()),
            () = sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)), if deadline.is_some() => machine.tick(now()),
            // Dropped by its user.
            () = events.closed(), if task.goodbye.is_none() => return,
        }
    }
    task.act(&mut machine);
    // The last words: lost, fenced. Nobody hears them who said goodbye.
    while let Some(event) = machine.event().filter(|_| task.goodbye.is_none()) {
        if events.send(task.told(event)).await.is_err() {
            return;
        }
    }
}

fn begin(core: &Core, settings: &GroupSettings) -> Membership {
    let rules = Rules {
        session: settings.session_timeout,
        rebalance: settings.rebalance_timeout,
        heartbeat: settings.heartbeat_interval,
        commit: settings.commit_timeout,
        leave: core.settings.request_timeout,
        is_static: settings.instance.is_some(),
    };
    let topics: BTreeSet<Arc<str>> = settings.topics.iter().map(|topic| Arc::from(&**topic)).collect();
    let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), &settings.group);
    Membership::new(rules, topics.into_iter().collect(), seed, now())
}

impl Task {
    /// Carries out what the state machine wants.
    fn act(&mut self, machine: &mut Membership) {
        while let Some(action) = machine.action() {
            match action {
                Action::Send { ticket, request } => {
                    let (core, identity) = (Arc::clone(&self.core), Arc::clone(&self.identity));
                    let at = self.coordinator.clone();
                    self.asked.spawn(async move {
                        let (answer, found) = coordinator::ask(&core, &identity, at.as_deref(), request).await;
                        (ticket, answer, found)
                    });
                }
                Action::HangUp => {
                    self.coordinator = None;
                    self.asked.abort_all();
                }
                Action::Settle { call, outcome } => {
                    if let Some(reply) = self.calls.remove(&call) {
                        // Who has given up waiting does not hear it.
                        let _ = reply.send(outcome);
                    }
                }
            }
        }
    }

    fn answered(&mut self, machine: &mut Membership, answered: Result<(u64, Answer, Option<Coordinator>), tokio::task::JoinError>) {
        // Those that were hung up on end as cancelled.
        let Ok((ticket, answer, found)) = answered else { return };
        if let Some(coordinator) = found {
            self.coordinator = Some(Arc::new(coordinator));
        }
        machine.answer(ticket, answer, now());
    }

    fn obey(&mut self, machine: &mut Membership, command: Command) {
        match command {
            Command::Commit(commits) => {
                for (commit, reply) in commits {
                    self.next_call += 1;
                    self.calls.insert(self.next_call, reply);
                    machine.commit(self.next_call, commit, now());
                }
            }
            Command::Subscribe(topics) => {
                machine.subscribe(topics, now());
                machine.topics(snapshot(&self.core, &machine.watched()), now());
            }
            Command::Leave(reply) => {
                self.goodbye = Some(reply);
                machine.leave(now());
            }
        }
    }

    fn told(&self, event: Event) -> GroupEvent {
        match event {
            Event::Generation { number, size, members } => GroupEvent::Generation { number, size, members },
            Event::Assigned(assigned) => GroupEvent::Assigned(assigned),
            Event::Revoked { partitions, number } => GroupEvent::Revoked(Revocation::new(partitions, number, self.released.clone())),
            Event::Lost {
                partitions,
                membership,
                why,
            } => {
                tracing::info!(
                    group = self.identity.settings.group,
                    partitions = partitions.len(),
                    membership,
                    why,
                    "lost in the group"
                );
                GroupEvent::Lost {
                    partitions,
                    membership,
                    why,
                }
            }
            Event::Refused { error, why } => {
                tracing::warn!(
                    group = self.identity.settings.group,
                    error = error.name(),
                    why,
                    "refused by the group's coordinator"
                );
                GroupEvent::Refused { error, why }
            }
            Event::Fenced => GroupEvent::Fenced,
        }
    }
}

/// What is known of topics; those that are new are asked for.
pub(super) fn snapshot(core: &Core, names: &BTreeSet<Arc<str>>) -> Topics {
    let known = names.iter().filter_map(|name| match look_up(core, &core.topics, name) {
        TopicState::Ready(topic) => {
            let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
            Some((Arc::clone(name), (*topic.id.as_bytes(), count)))
        }
        TopicState::Missing | TopicState::Unknown => None,
    });
    known.collect()
}

fn look_up(core: &Core, topics: &AllTopics, name: &str) -> TopicState {
    let (state, new) = topics.look_up(name);
    if new {
        core.refresh.notify_one();
    }
    state
}

/// The same once it is known of each whether it exists, or after the request timeout.
pub(super) async fn count(core: &Core, names: Vec<Arc<str>>) -> Topics {
    let names: BTreeSet<Arc<str>> = names.into_iter().collect();
    let mut changed = core.changed.subscribe();
    let all_known = async {
        while names
            .iter()
            .any(|name| matches!(look_up(core, &core.topics, name), TopicState::Unknown))
        {
            if changed.changed().await.is_err() {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(core.settings.request_timeout, all_known).await;
    snapshot(core, &names)
}
