//! What a coordinator may answer to signs of life. There is none: its answers are made here.

use kafka_protocol::messages::share_group_heartbeat_response::{Assignment, TopicPartitions};
use uuid::Uuid;

use super::*;
use crate::upstream::{Cluster, Settings};

const TOPIC: Uuid = Uuid::from_u128(7);

/// A member in epoch 5 that has two partitions, and what its user hears.
async fn member() -> (Cluster, Task, mpsc::Receiver<ShareEvent>) {
    let cluster = Cluster::start(Settings {
        // Nobody listens there.
        bootstrap_servers: vec!["127.0.0.1:1".to_owned()],
        ..Settings::default()
    });
    let (events, mut heard) = mpsc::channel(4);
    let settings = Arc::new(GroupSettings::default());
    let (_, topics) = watch::channel(vec!["t".to_owned()]);
    let mut task = Task::new(Arc::clone(&cluster.core), settings, topics, (Arc::default(), events));
    task.beat();
    let topic = TopicPartitions::default().with_topic_id(TOPIC).with_partitions(vec![0, 1]);
    let assignment = Assignment::default().with_topic_partitions(vec![topic]);
    task.answered(answer(accepted(5).with_assignment(Some(assignment)))).await;
    assert!(matches!(heard.try_recv(), Ok(ShareEvent::Joined)));
    (cluster, task, heard)
}

fn accepted(epoch: i32) -> ShareGroupHeartbeatResponse {
    ShareGroupHeartbeatResponse::default()
        .with_member_epoch(epoch)
        .with_heartbeat_interval_ms(700)
}

fn coordinator() -> Option<Coordinator> {
    Some(Coordinator::at(1, "127.0.0.1:1".to_owned()))
}

fn answer(answer: ShareGroupHeartbeatResponse) -> Option<Beat> {
    Some((coordinator(), Ok(answer)))
}

fn refusal(error: ErrorCode) -> Option<Beat> {
    Some((coordinator(), Err(Fault::Refused(error, error.name().to_owned()))))
}

fn both() -> BTreeSet<Place> {
    BTreeSet::from([(TOPIC, 0), (TOPIC, 1)])
}

#[tokio::test]
async fn who_is_not_known_or_fenced_joins_anew_at_once_and_goes_on_with_what_it_has() {
    for error in [ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::FENCED_MEMBER_EPOCH] {
        let (_cluster, mut task, mut heard) = member().await;
        assert_eq!(task.answered(refusal(error)).await, Duration::ZERO, "{error:?}");
        // Locks are the brokers' that lead: what is acquired can still be acknowledged.
        assert_eq!((task.epoch, &task.assigned), (JOIN, &both()), "{error:?}");
        assert!(task.coordinator.is_some(), "it has answered: it is the one");
        // Refused once more before it is back, it comes after a while, and later each time.
        let pauses = [task.answered(refusal(error)).await, task.answered(refusal(error)).await];
        assert!(
            pauses.iter().all(|pause| *pause >= Duration::from_millis(80) && *pause < BEAT),
            "{pauses:?}"
        );
        assert!(pauses[0] < pauses[1], "{pauses:?}");
        // The first answer to one that joins may have no assignment yet: that is no assignment of nothing.
        task.answered(answer(accepted(6))).await;
        assert_eq!((task.epoch, task.failures, &task.assigned), (6, 0, &both()));
        assert_eq!(task.answered(answer(accepted(6))).await, Duration::from_millis(700));
        assert!(heard.try_recv().is_err(), "the user need not know");
        // And the next time at once again.
        assert_eq!(task.answered(refusal(error)).await, Duration::ZERO);
    }
}

#[tokio::test]
async fn when_another_coordinates_the_group_it_is_looked_for_and_told_the_same_epoch() {
    // NOT_COORDINATOR; COORDINATOR_NOT_AVAILABLE.
    for error in [ErrorCode::from(16), ErrorCode::from(15)] {
        let (_cluster, mut task, mut heard) = member().await;
        for _ in 0..10 {
            let pause = task.answered(refusal(error)).await;
            assert!(pause >= Duration::from_millis(80) && pause <= BEAT.mul_f64(1.2), "{pause:?}");
            assert!(task.coordinator.is_none());
            assert_eq!((task.epoch, &task.assigned), (5, &both()));
        }
        assert_eq!(task.answered(answer(accepted(5))).await, Duration::from_millis(700));
        assert!(task.coordinator.is_some() && heard.try_recv().is_err());
    }
}

/// The coordinator assigns a partition with a sign of life, and the connection breaks before its answer is here: it would not say so again.
#[tokio::test]
async fn the_assignment_of_an_answer_that_is_lost_is_asked_for_again() {
    for lost in [
        refusal(ErrorCode::from(15)),
        Some((None, Err(Fault::Call(CallError::Broken("lost".into()))))),
    ] {
        let (_cluster, mut task, _heard) = member().await;
        assert_eq!(task.names(), None, "it is known");
        task.answered(lost).await;
        assert_eq!((task.epoch, task.names()), (5, Some(vec!["t".to_owned()])));
        task.answered(answer(accepted(6))).await;
        assert_eq!((task.epoch, task.names()), (6, None));
    }
}

#[tokio::test]
async fn one_that_must_not_join_is_told_once_and_goes_on_asking() {
    // No right to the group; a group of another type has its name.
    for error in [ErrorCode::from(30), ErrorCode::GROUP_ID_NOT_FOUND] {
        let (_cluster, mut task, mut heard) = member().await;
        for _ in 0..3 {
            assert!(task.answered(refusal(error)).await > Duration::ZERO);
        }
        assert!(matches!(heard.try_recv(), Ok(ShareEvent::Refused)), "{error:?}");
        assert!(heard.try_recv().is_err(), "{error:?}");
        // A group that is not there may have been deleted meanwhile: it can only be joined.
        let epoch = if error == ErrorCode::GROUP_ID_NOT_FOUND { JOIN } else { 5 };
        assert_eq!(task.epoch, epoch);
    }
}

#[tokio::test]
async fn nobody_joins_for_nothing_and_topics_are_named_until_the_coordinator_has_taken_them() {
    let cluster = Cluster::start(Settings {
        bootstrap_servers: vec!["127.0.0.1:1".to_owned()],
        ..Settings::default()
    });
    let (topics, wanted) = watch::channel(Vec::new());
    let (events, _heard) = mpsc::channel(4);
    let mut task = Task::new(Arc::clone(&cluster.core), Arc::default(), wanted, (Arc::default(), events));
    task.beat();
    assert!(task.beats.is_empty(), "the coordinator would refuse it");
    topics.send_replace(vec!["t".to_owned()]);
    task.beat();
    assert_eq!(task.beats.len(), 1);
    task.answered(refusal(ErrorCode::from(15))).await;
    assert_ne!(task.naming, task.named, "it does not know them");
    task.answered(answer(accepted(1))).await;
    assert_eq!(task.naming, task.named);
    topics.send_replace(vec!["t".to_owned(), "u".to_owned()]);
    task.beat();
    // What they bring is asked for soon.
    let assigned =
        Assignment::default().with_topic_partitions(vec![TopicPartitions::default().with_topic_id(TOPIC).with_partitions(vec![0])]);
    assert!(task.answered(answer(accepted(1).with_assignment(Some(assigned)))).await < Duration::from_millis(700));
    assert_eq!(task.answered(answer(accepted(1))).await, Duration::from_millis(700));
}
