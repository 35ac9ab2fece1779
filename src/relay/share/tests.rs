//! What wakes the task of a shared subscription, and what who returns to it may wait for.

use std::{
    pin::pin,
    task::{Context, Wake, Waker},
};

use prometheus_client::metrics::gauge::Gauge;

use super::*;
use crate::{
    ownership::Source,
    progress::Progress,
    relay::{
        budget::Budget,
        chunk::{ChunkBuilder, Parts, SourceId},
    },
};

/// One who waits, and sees how much memory is in use whenever it is woken.
struct Sees {
    budget: Arc<Budget>,
    seen: Mutex<Vec<usize>>,
}

impl Wake for Sees {
    fn wake(self: Arc<Self>) {
        self.seen.lock().unwrap().push(self.budget.used());
    }
}

/// The only message of a chunk, in the hands of a connection.
fn handed(share: &Arc<Share>, budget: &Arc<Budget>) -> Handed {
    let source = Source {
        topic: [7; 16],
        partition: 0,
    };
    let mut builder = ChunkBuilder::new(SourceId::fresh(), source, budget.clone());
    builder.push(&Parts {
        offset: 0,
        qos: QoS::AtLeastOnce,
        retain: false,
        expires: None,
        rule: 0,
        topic: "t",
        client: None,
        properties: &[],
        payload: &[7; 1_000],
    });
    let mut inner = share.lock();
    inner.state.join(1);
    let part = inner.state.begin(Progress::at(0));
    let chunk = Arc::new(builder.finish());
    inner.state.push(part, 0, Message { chunk, at: 0 });
    let (_, id, message) = inner.state.hand_out().unwrap();
    Handed {
        share: share.clone(),
        id,
        key: SubscriptionKey(1),
        chunk: message.chunk,
        at: message.at,
    }
}

/// A message that needs no acknowledgement, or is left out, is done with before its connection lets go of it. A task that looked only then
/// would find no room, and look again when something else happens.
#[test]
fn the_task_is_woken_once_the_memory_of_a_message_is_given_back() {
    for fate in [Fate::Sent(QoS::AtMostOnce), Fate::LeftOut] {
        let share = Share::new(("pool".into(), "#".into()));
        let budget = Budget::new(1024 * 1024, Gauge::default()).part(&share.wake);
        let handed = handed(&share, &budget);
        let sees = Arc::new(Sees {
            budget: budget.clone(),
            seen: Mutex::default(),
        });
        let waker = Waker::from(sees.clone());
        let mut context = Context::from_waker(&waker);
        share.send(handed.id, || ((), fate));
        assert!(pin!(share.wake.notified()).poll(&mut context).is_ready(), "others have room");
        let mut waits = pin!(share.wake.notified());
        assert!(waits.as_mut().poll(&mut context).is_pending() && budget.used() > 0);
        drop(handed);
        assert_eq!(*sees.seen.lock().unwrap(), [0], "{fate:?}");
        assert!(waits.poll(&mut context).is_ready());
    }
}

/// A stored session waits for a group that is full, and does not for one that no task asks any more.
#[tokio::test]
async fn a_group_that_refuses_is_waited_for_as_long_as_it_is_asked() {
    let share = Share::new(("pool".into(), "#".into()));
    // What is told is told; nothing comes any more.
    let begun = || share.begun(tokio::time::Instant::now());
    assert_eq!(begun().await, Err(crate::relay::placing::UNAVAILABLE));
    for (ready, outcome) in [
        (Readiness::Joining, Ok(())),
        (Readiness::Refused(REFUSED), Ok(())),
        (Readiness::Ready, Ok(())),
        (Readiness::Refused(TOO_MANY), Err(TOO_MANY)),
    ] {
        share.ready.send_replace(ready);
        assert_eq!(begun().await, outcome, "{ready:?}");
    }
    share.ready.send_replace(Readiness::Refused(REFUSED));
    share.lock().ended = true;
    assert_eq!(begun().await, Err(REFUSED));
}
