//! One member step by step: each of the coordinator's refusals by its class, and the cases that the simulation taught us.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    kafka::error::ErrorCode,
    upstream::group::{
        embedded::Assignment,
        event::{Commit, CommitError, Committed, Tenure, TopicPartition},
        membership::{Action, Event, Membership, Phase, Rules},
        requests::{Answer, Joined, Request, Topics},
    },
};

const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(30);
const HEARTBEAT: Duration = Duration::from_secs(3);

/// A member, the clock, and what was asked and not answered yet.
struct Script {
    member: Membership,
    now: Instant,
    open: Vec<(u64, Request)>,
    outcomes: Vec<(u64, Result<(), CommitError>)>,
    hang_ups: usize,
}

fn part(partition: i32) -> TopicPartition {
    let topic = Arc::from("t");
    TopicPartition { topic, partition }
}

fn refusal(code: i16) -> Answer {
    let error = ErrorCode::from(code);
    let why = "as the test wants it".to_owned();
    Answer::Refused { error, why }
}

fn gives(partitions: &[i32]) -> Answer {
    Answer::Synced(Assignment {
        partitions: partitions.iter().map(|p| part(*p)).collect(),
        members: vec![Bytes::from_static(b"me"), Bytes::from_static(b"you")],
        partial: false,
        fingerprint: 0,
    })
}

impl Script {
    fn new() -> Self {
        Self::begin(false)
    }

    fn begin(is_static: bool) -> Self {
        let rules = Rules {
            session: SESSION,
            rebalance: REBALANCE,
            heartbeat: HEARTBEAT,
            commit: Duration::from_secs(20),
            leave: Duration::from_secs(5),
            is_static,
        };
        let now = Instant::now();
        let mut script = Self {
            member: Membership::new(rules, vec![Arc::from("t")], 1, now),
            now,
            open: Vec::new(),
            outcomes: Vec::new(),
            hang_ups: 0,
        };
        script.look();
        script
    }

    /// A member of generation 1 with partitions 0 and 1, its events taken.
    fn stable() -> (Self, Vec<Tenure>) {
        let mut script = Self::new();
        script.join(1, &[0, 1]);
        let tenures = script.fetched(&[0, 1]);
        assert_eq!(script.events().len(), 2);
        (script, tenures)
    }

    fn look(&mut self) {
        while let Some(action) = self.member.action() {
            match action {
                Action::Send { ticket, request } => self.open.push((ticket, request)),
                Action::HangUp => {
                    self.hang_ups += 1;
                    self.open.clear();
                }
                Action::Settle { call, outcome } => self.outcomes.push((call, outcome)),
            }
        }
    }

    /// Answers the one open request that `which` is about.
    fn answer(&mut self, which: impl Fn(&Request) -> bool, answer: Answer) -> Request {
        let at = self.open.iter().position(|(_, request)| which(request));
        let at = at.unwrap_or_else(|| panic!("not asked; open: {:?}", self.open));
        let (ticket, request) = self.open.remove(at);
        self.member.answer(ticket, answer, self.now);
        self.look();
        request
    }

    fn is_open(&self, which: impl Fn(&Request) -> bool) -> bool {
        self.open.iter().any(|(_, request)| which(request))
    }

    /// Time passes, in steps of the member's own deadlines.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..10_000 {
            let due = self.member.deadline().filter(|at| *at <= end);
            self.now = due.unwrap_or(end).max(self.now);
            self.member.tick(self.now);
            self.look();
            if due.is_none() {
                return;
            }
        }
        panic!("it wakes without end, {:?}", self.member.phase);
    }

    fn events(&mut self) -> Vec<Event> {
        let events = std::iter::from_fn(|| self.member.event()).collect();
        self.member.tick(self.now);
        self.look();
        events
    }

    /// From the search for the coordinator (or the join) to an assignment.
    fn join(&mut self, generation: i32, partitions: &[i32]) {
        if self.is_open(find) {
            self.answer(find, Answer::Found);
        }
        self.answer(join, joined(generation));
        self.answer(sync, gives(partitions));
    }

    fn fetched(&mut self, partitions: &[i32]) -> Vec<Tenure> {
        let told = partitions.iter().map(|p| {
            let metadata = format!("of {p}");
            (part(*p), Ok(Some(Committed { offset: 10, metadata })))
        });
        let before = self.member.events.len();
        self.answer(fetch, Answer::Fetched(told.collect()));
        match &self.member.events[before] {
            Event::Assigned(assigned) => assigned.iter().map(|a| a.tenure.clone()).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn commit(&mut self, call: u64, tenure: &Tenure, offset: i64) {
        let commit = Commit {
            tenure: tenure.clone(),
            offset,
            metadata: String::new(),
        };
        self.member.commit(call, commit, self.now);
        self.look();
    }

    /// Answers the open commit with one code for all; what it carried.
    fn committed(&mut self, code: i16) -> Vec<(i32, i64)> {
        let Some((_, Request::Commit { offsets, .. })) = self.open.iter().find(|(_, r)| commit(r)) else {
            panic!("no commit is out: {:?}", self.open)
        };
        let carried = offsets.iter().map(|(one, what)| (one.partition, what.offset)).collect();
        let codes = offsets.iter().map(|(one, _)| (one.clone(), ErrorCode::from(code))).collect();
        self.answer(commit, Answer::Committed(codes));
        carried
    }

    fn outcome(&self, call: u64) -> Option<Result<(), CommitError>> {
        self.outcomes.iter().find(|(of, _)| *of == call).map(|(_, outcome)| *outcome)
    }
}

fn joined(generation: i32) -> Answer {
    Answer::Joined(Joined {
        generation,
        member: "m".to_owned(),
        ..Joined::default()
    })
}

fn find(request: &Request) -> bool {
    matches!(request, Request::Find)
}
fn join(request: &Request) -> bool {
    matches!(request, Request::Join { .. })
}
fn sync(request: &Request) -> bool {
    matches!(request, Request::Sync { .. })
}
fn beat(request: &Request) -> bool {
    matches!(request, Request::Heartbeat { .. })
}
fn fetch(request: &Request) -> bool {
    matches!(request, Request::Fetch { .. })
}
fn commit(request: &Request) -> bool {
    matches!(request, Request::Commit { .. })
}
fn goodbye(request: &Request) -> bool {
    matches!(request, Request::Leave { .. })
}

fn lost(events: &[Event]) -> BTreeSet<i32> {
    let lost = events.iter().filter_map(|event| match event {
        Event::Lost { partitions, .. } => Some(partitions),
        _ => None,
    });
    lost.flatten().map(|one| one.partition).collect()
}

#[test]
fn a_generation_is_told_before_what_it_brings_and_offsets_come_with_it() {
    let mut script = Script::new();
    script.answer(find, Answer::Found);
    let named = Answer::NamedBy { member: "m".to_owned() };
    script.answer(join, named);
    let request = script.answer(join, joined(7));
    let asked_as = Request::Join {
        member: "m".to_owned(),
        owned: Vec::new(),
        generation: -1,
    };
    assert_eq!(request, asked_as, "KIP-394: again, with the id that the coordinator gave");
    script.answer(sync, gives(&[3]));
    script.fetched(&[3]);
    let events = script.events();
    let [Event::Generation { number: 7, members }, Event::Assigned(assigned)] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(members, &[Bytes::from_static(b"me"), Bytes::from_static(b"you")]);
    assert_eq!(assigned[0].committed.as_ref().unwrap().metadata, "of 3");
}

#[test]
fn only_what_moves_is_revoked_and_the_next_generation_waits_for_the_answer_and_its_commits() {
    let (mut script, tenures) = Script::stable();
    script.wait(HEARTBEAT);
    script.answer(beat, refusal(27));
    script.join(2, &[0]);
    let events = script.events();
    let [Event::Generation { .. }, Event::Revoked { partitions, number }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(partitions, &[part(1)]);
    // Both may still be committed.
    script.commit(1, &tenures[0], 20);
    script.commit(2, &tenures[1], 20);
    script.member.released(*number, script.now);
    script.look();
    assert!(!script.is_open(join), "a commit of what was given up is still on its way");
    script.commit(3, &tenures[1], 21);
    assert_eq!(script.outcome(3), Some(Err(CommitError::NotOwned)), "it was given up");
    script.committed(0);
    script.committed(0);
    assert_eq!((script.outcome(1), script.outcome(2)), (Some(Ok(())), Some(Ok(()))));
    let request = script.answer(join, joined(3));
    assert!(matches!(request, Request::Join { owned, generation: 2, .. } if owned == [part(0)]));
}

#[test]
fn who_does_not_give_up_in_time_loses_it_and_the_group_goes_on() {
    let (mut script, tenures) = Script::stable();
    script.wait(HEARTBEAT);
    script.answer(beat, refusal(27));
    script.join(2, &[0]);
    assert_eq!(script.events().len(), 2);
    let end = script.now + REBALANCE;
    let mut events = Vec::new();
    while !script.is_open(join) {
        assert!(script.now < end, "it waits for ever");
        script.wait(Duration::from_secs(1));
        if script.is_open(beat) {
            script.answer(beat, Answer::Done);
        }
        events.extend(script.events());
    }
    assert_eq!(lost(&events), BTreeSet::from([1]));
    script.commit(1, &tenures[1], 20);
    assert_eq!(script.outcome(1), Some(Err(CommitError::NotOwned)));
}

#[test]
fn no_generation_is_asked_for_before_the_last_was_heard_of() {
    let mut script = Script::new();
    script.join(1, &[0]);
    script.fetched(&[0]);
    script.wait(HEARTBEAT);
    script.answer(beat, refusal(27));
    assert!(!script.is_open(join), "its user is behind");
    assert_eq!(script.events().len(), 2);
    assert!(script.is_open(join));
}

#[test]
fn without_a_sign_of_life_all_is_lost_before_the_coordinator_gives_it_away() {
    let (mut script, tenures) = Script::stable();
    let last_heard = script.now;
    script.commit(1, &tenures[0], 11);
    while lost(&script.events()).is_empty() {
        script.wait(Duration::from_millis(100));
        assert!(script.now <= last_heard + SESSION + Duration::from_millis(100));
    }
    assert_eq!(script.outcome(1), Some(Err(CommitError::NotOwned)));
    assert!(!script.is_open(commit), "nothing is committed after the loss");
    script.commit(2, &tenures[0], 12);
    assert_eq!(script.outcome(2), Some(Err(CommitError::NotOwned)));
}

#[test]
fn heartbeats_alone_do_not_keep_what_a_generation_that_is_never_reached_has_given() {
    let (mut script, _) = Script::stable();
    let last_settled = script.now;
    script.wait(HEARTBEAT);
    script.answer(beat, refusal(27));
    // The JoinGroup does not arrive, or its answer does not: after the rebalance timeout the coordinator goes on without us.
    while lost(&script.events()).is_empty() {
        assert!(
            script.now <= last_settled + REBALANCE + HEARTBEAT,
            "{:?}",
            script.now - last_settled
        );
        script.wait(Duration::from_millis(500));
        if script.is_open(beat) {
            script.answer(beat, refusal(27));
        }
    }
}

#[test]
fn unknown_member_and_illegal_generation_lose_all_and_join_again() {
    for (code, member) in [(25, ""), (22, "m")] {
        let (mut script, _) = Script::stable();
        script.wait(HEARTBEAT);
        script.answer(beat, refusal(code));
        assert_eq!(lost(&script.events()), BTreeSet::from([0, 1]), "{code}");
        script.wait(Duration::from_millis(200));
        script.answer(find, Answer::Found);
        let request = script.answer(join, joined(5));
        let asked_as = Request::Join {
            member: member.to_owned(),
            owned: Vec::new(),
            generation: -2,
        };
        assert_eq!(
            request, asked_as,
            "{code}: it says something else than before, so that no commit from before counts"
        );
        script.answer(sync, gives(&[0]));
        let again = script.fetched(&[0]);
        script.commit(1, &again[0], 30);
        assert_eq!(script.committed(0), [(0, 30)]);
    }
}

#[test]
fn fenced_is_the_end() {
    type Ask = fn(&Request) -> bool;
    let whiches: [Ask; 2] = [beat, commit];
    for which in whiches {
        let (mut script, tenures) = Script::stable();
        script.commit(1, &tenures[0], 11);
        script.wait(HEARTBEAT);
        if which(&script.open[0].1) {
            script.committed(82);
        } else {
            script.answer(which, refusal(82));
        }
        let events = script.events();
        assert_eq!(lost(&events), BTreeSet::from([0, 1]));
        assert_eq!(events.last(), Some(&Event::Fenced));
        assert!(script.member.is_over());
        assert_eq!(script.outcome(1), Some(Err(CommitError::NotOwned)));
        assert_eq!(script.member.deadline(), None);
    }
}

#[test]
fn the_coordinator_moves_and_nothing_is_lost() {
    for code in [15, 16] {
        let (mut script, tenures) = Script::stable();
        script.commit(1, &tenures[0], 11);
        script.wait(HEARTBEAT);
        script.answer(beat, refusal(code));
        assert_eq!(script.hang_ups, 1, "{code}");
        script.wait(Duration::from_millis(200));
        script.answer(find, Answer::Found);
        // The same generation goes on; what had no answer goes again.
        assert_eq!(script.member.phase, Phase::Stable, "{code}");
        assert_eq!(script.committed(0), [(0, 11)]);
        assert_eq!(script.outcome(1), Some(Ok(())));
        assert!(script.events().is_empty());
    }
}

#[test]
fn each_refusal_that_passes_is_asked_again_after_a_pause() {
    type Ask = fn(&Request) -> bool;
    let cases: [(Ask, i16); 5] = [(find, 15), (find, 14), (join, 14), (join, 27), (sync, -1)];
    for (which, code) in cases {
        let mut script = Script::new();
        if !script.is_open(which) {
            script.answer(find, Answer::Found);
        }
        if !script.is_open(which) {
            script.answer(join, joined(1));
        }
        script.answer(which, refusal(code));
        assert!(!script.is_open(which), "{code}: at once");
        script.wait(Duration::from_secs(1));
        assert!(script.open.len() == 1, "{code}: {:?}", script.open);
        assert!(script.events().is_empty(), "{code}: nobody needs to know");
    }
}

#[test]
fn what_only_an_operator_can_cure_is_told_once_and_tried_slowly() {
    for code in [23, 24, 26, 30, 81] {
        let mut script = Script::new();
        script.answer(find, Answer::Found);
        script.answer(join, refusal(code));
        let events = script.events();
        assert!(
            matches!(&events[..], [Event::Refused { error, .. }] if error.code() == code),
            "{events:?}"
        );
        script.wait(Duration::from_secs(5));
        assert!(script.open.is_empty(), "{code}: too soon");
        script.wait(Duration::from_secs(6));
        script.answer(join, refusal(code));
        assert!(script.events().is_empty(), "{code}: told twice");
        script.wait(Duration::from_secs(11));
        script.join(1, &[0]);
        script.fetched(&[0]);
        assert_eq!(script.events().len(), 2, "{code}: cured");
    }
}

#[test]
fn offsets_that_are_not_stable_are_waited_for_and_those_of_others_come() {
    let mut script = Script::new();
    script.join(1, &[0, 1]);
    let told = vec![(part(0), Err(ErrorCode::from(88))), (part(1), Ok(None))];
    script.answer(fetch, Answer::Fetched(told));
    let events = script.events();
    assert!(matches!(&events[1], Event::Assigned(of) if of.len() == 1 && of[0].tenure.of == part(1) && of[0].committed.is_none()));
    assert!(!script.is_open(fetch));
    script.wait(Duration::from_millis(300));
    script.fetched(&[0]);
}

/// Partition 1 goes and comes back while its offsets are on their way: what they say was true before another had it.
#[test]
fn offsets_that_were_asked_for_an_earlier_tenure_are_not_taken_for_the_new_one() {
    let mut script = Script::new();
    script.join(1, &[0, 1]);
    script.events();
    script.wait(HEARTBEAT);
    script.answer(beat, refusal(27));
    script.join(2, &[0]);
    script.events();
    script.join(3, &[0, 1]);
    script.events();
    let tenures = script.fetched(&[0, 1]);
    assert_eq!(tenures.iter().map(|t| t.of.partition).collect::<Vec<_>>(), [0]);
    // It is asked for at once.
    let tenures = script.fetched(&[1]);
    assert_eq!(tenures.iter().map(|t| t.of.partition).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_commit_that_meets_a_new_generation_goes_again_in_it() {
    let (mut script, tenures) = Script::stable();
    script.wait(HEARTBEAT);
    script.answer(beat, refusal(27));
    assert!(script.is_open(join));
    // The group goes on, the answer to the JoinGroup is on its way.
    script.commit(1, &tenures[0], 11);
    script.committed(22);
    assert!(script.events().is_empty(), "nothing is lost");
    script.answer(join, joined(2));
    script.wait(Duration::from_secs(1));
    assert!(!script.is_open(commit), "the coordinator takes none between join and sync");
    script.answer(sync, gives(&[0, 1]));
    let sent = script.open.iter().find_map(|(_, r)| match r {
        Request::Commit { generation, .. } => Some(*generation),
        _ => None,
    });
    assert_eq!(sent, Some(2));
    assert_eq!(script.committed(0), [(0, 11)]);
    assert_eq!(script.outcome(1), Some(Ok(())));
}

#[test]
fn commits_go_one_after_the_other_the_last_of_those_that_wait_and_never_back() {
    let (mut script, tenures) = Script::stable();
    script.commit(1, &tenures[0], 11);
    script.commit(2, &tenures[0], 12);
    script.commit(3, &tenures[0], 13);
    script.commit(4, &tenures[0], 12);
    assert_eq!(script.outcome(4), Some(Err(CommitError::Backwards)));
    assert_eq!(script.committed(0), [(0, 11)]);
    assert_eq!((script.outcome(1), script.outcome(2)), (Some(Ok(())), None));
    // The first attempt fails: the later of both goes.
    script.committed(14);
    script.commit(5, &tenures[0], 14);
    script.wait(Duration::from_millis(300));
    assert_eq!(script.committed(0), [(0, 14)]);
    for call in [2, 3, 5] {
        assert_eq!(script.outcome(call), Some(Ok(())));
    }
}

#[test]
fn a_commit_that_is_refused_for_good_harms_no_other() {
    let (mut script, tenures) = Script::stable();
    script.commit(1, &tenures[0], 11);
    script.committed(0);
    script.commit(2, &tenures[0], 12);
    script.commit(3, &tenures[1], 12);
    script.committed(12);
    let too_large = CommitError::Refused(ErrorCode::from(12));
    assert_eq!(script.outcome(2), Some(Err(too_large)));
    script.committed(0);
    assert_eq!(script.outcome(3), Some(Ok(())));
    let metadata = "x".repeat(4097);
    let (tenure, offset) = (tenures[0].clone(), 20);
    script.member.commit(4, Commit { tenure, offset, metadata }, script.now);
    script.look();
    assert_eq!(script.outcome(4), Some(Err(CommitError::MetadataTooLong)));
}

#[test]
fn a_commit_without_an_answer_is_given_up_after_its_timeout() {
    let (mut script, tenures) = Script::stable();
    script.commit(1, &tenures[0], 11);
    for _ in 0..40 {
        if script.is_open(commit) {
            script.committed(14);
        }
        script.wait(Duration::from_secs(1));
        if script.is_open(beat) {
            script.answer(beat, Answer::Done);
        }
    }
    assert_eq!(script.outcome(1), Some(Err(CommitError::TimedOut)));
}

#[test]
fn a_commit_of_a_former_tenure_is_refused() {
    let (mut script, tenures) = Script::stable();
    script.wait(HEARTBEAT);
    script.answer(beat, refusal(25));
    script.events();
    script.wait(Duration::from_millis(200));
    script.join(9, &[0]);
    let fresh = script.fetched(&[0]);
    script.commit(1, &tenures[0], 50);
    assert_eq!(script.outcome(1), Some(Err(CommitError::NotOwned)));
    script.commit(2, &fresh[0], 40);
    script.committed(0);
    assert_eq!(script.outcome(2), Some(Ok(())));
}

#[test]
fn the_one_that_leads_asks_for_another_generation_when_a_topic_grows() {
    let mut script = Script::new();
    script.answer(find, Answer::Found);
    let leads = Answer::Joined(Joined {
        generation: 1,
        member: "m".to_owned(),
        leads: true,
        members: vec![(
            crate::upstream::group::assign::Candidate {
                member: "m".to_owned(),
                topics: BTreeSet::from([Arc::from("t")]),
                owned: Vec::new(),
                generation: -1,
            },
            Bytes::from_static(b"me"),
        )],
        ..Joined::default()
    });
    script.answer(join, leads);
    let known = |count| Topics::from([(Arc::from("t"), ([9; 16], count))]);
    script.answer(|r| matches!(r, Request::Count { .. }), Answer::Counted(known(2)));
    let Some((_, Request::Sync { assignments, .. })) = script.open.first().cloned() else {
        panic!("{:?}", script.open)
    };
    assert_eq!(assignments[0].1.partitions, BTreeSet::from([part(0), part(1)]));
    assert_eq!(assignments[0].1.members, [Bytes::from_static(b"me")]);
    script.answer(sync, Answer::Synced(assignments[0].1.clone()));
    script.fetched(&[0, 1]);
    script.events();
    script.member.topics(known(2), script.now);
    script.look();
    assert!(!script.is_open(join), "nothing has changed");
    script.member.topics(known(3), script.now);
    script.look();
    assert!(script.is_open(join));
}

#[test]
fn a_topic_that_is_made_anew_is_lost_and_shared_out_again() {
    let (mut script, tenures) = Script::stable();
    let known = |id| Topics::from([(Arc::from("t"), ([id; 16], 2))]);
    script.member.topics(known(1), script.now);
    script.commit(1, &tenures[0], 500);
    script.member.topics(known(2), script.now);
    script.look();
    let events = script.events();
    assert_eq!(lost(&events), BTreeSet::from([0, 1]));
    assert!(matches!(&events[..], [Event::Lost { membership: false, .. }]));
    assert_eq!(script.outcome(1), Some(Err(CommitError::NotOwned)));
    let request = script.answer(join, joined(2));
    assert!(matches!(request, Request::Join { owned, .. } if owned.is_empty()));
}

#[test]
fn a_goodbye_comes_after_the_last_commit_also_while_a_generation_is_asked_for() {
    let (mut script, tenures) = Script::stable();
    script.wait(HEARTBEAT);
    script.answer(beat, refusal(27));
    assert!(script.is_open(join));
    script.commit(1, &tenures[0], 11);
    script.member.leave(script.now);
    script.look();
    assert!(!script.is_open(goodbye));
    script.committed(0);
    script.commit(2, &tenures[0], 12);
    assert_eq!(script.outcome(2), Some(Err(CommitError::Closed)));
    script.answer(goodbye, Answer::Done);
    assert!(script.member.is_over());
    assert_eq!(script.outcome(1), Some(Ok(())));
}

#[test]
fn a_goodbye_that_nobody_hears_ends_in_time() {
    let (mut script, tenures) = Script::stable();
    script.commit(1, &tenures[0], 11);
    script.member.leave(script.now);
    script.wait(Duration::from_secs(6));
    assert!(script.member.is_over());
    assert_eq!(script.outcome(1), Some(Err(CommitError::Closed)));
}

#[test]
fn answers_to_what_was_given_up_are_not_listened_to() {
    let (mut script, _) = Script::stable();
    script.wait(HEARTBEAT);
    let (stale, _) = script.open[0].clone();
    script.answer(beat, refusal(16));
    let other = "m".to_owned();
    script.member.answer(stale, Answer::NamedBy { member: other }, script.now);
    script.member.answer(9_999, joined(77), script.now);
    assert_eq!(script.member.generation, 1);
    assert_eq!(script.member.phase, Phase::Finding);
}

#[test]
fn who_has_nothing_hears_too_that_it_is_out() {
    let mut script = Script::new();
    script.join(1, &[]);
    assert_eq!(script.events().len(), 1);
    script.wait(SESSION);
    let events = script.events();
    assert!(
        matches!(&events[..], [Event::Lost { partitions, membership: true, .. }] if partitions.is_empty()),
        "{events:?}"
    );
    script.wait(Duration::from_secs(60));
    assert!(script.events().is_empty(), "once");
}

/// The former self of a static member was to give something up and died over it; what it had is its own again, the rest nobody's.
#[test]
fn a_static_member_that_returns_to_a_generation_that_is_not_whole_asks_for_the_next() {
    for partial in [false, true] {
        let mut script = Script::begin(true);
        script.answer(find, Answer::Found);
        script.answer(join, joined(4));
        let given = Assignment {
            partitions: BTreeSet::from([part(0)]),
            partial,
            ..Assignment::default()
        };
        script.answer(sync, Answer::Synced(given.clone()));
        script.fetched(&[0]);
        script.events();
        assert_eq!(script.is_open(join), partial);
        if partial {
            script.answer(join, joined(5));
            script.answer(sync, Answer::Synced(given));
            script.events();
            assert!(
                !script.is_open(join),
                "once: now it is one of those who know what they have to give up"
            );
        }
    }
}
