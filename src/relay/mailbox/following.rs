//! Who waits for the end of whom: a CONNECT is not taken before all is told of the connection that had its client id.
//!
//! Told as a sequence of events why it takes over whom that one waited for. The first is in a long turn, with a DISCONNECT unread; the second
//! waits for it, and is told to end as the third enters: it has nothing to say, and ends at once. Did the third wait for the second only, its
//! CONNECT would be with the store before the end of the first, which would be taken for one without goodbye.

use std::sync::Arc;

use super::Mailbox;

impl Mailbox {
    /// Has its connection told of the end of a former one, and of those that this waits for. False: all of them have ended.
    pub fn follow(&self, former: Arc<Self>) -> bool {
        let mut next = Some(former);
        while let Some(former) = next {
            let mut inner = former.lock();
            if !inner.closed {
                inner.followers.push(self.wake.clone());
                drop(inner);
                self.lock().former = Some(former);
                return true;
            }
            next = inner.former.clone();
        }
        false
    }

    /// Whether its connection still waits for the end of another.
    pub fn follows(&self) -> bool {
        let former = self.lock().former.take();
        match former {
            Some(former) if !former.is_closed() => {
                self.lock().former = Some(former);
                true
            }
            Some(former) => self.follow(former),
            None => false,
        }
    }

    /// Whose end its connection waits for, if that has not ended.
    pub fn former(&self) -> Option<Arc<Self>> {
        self.lock().former.clone().filter(|former| !former.is_closed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::{budget::Budget, registry::Registry};
    use tokio::sync::Notify;

    fn mailbox() -> (Arc<Mailbox>, Arc<Notify>) {
        let wake = Arc::new(Notify::new());
        (Arc::new(Mailbox::new(wake.clone(), Budget::new(0, Default::default()))), wake)
    }

    fn is_rung(wake: &Notify) -> bool {
        use std::task::{Context, Waker};
        let notified = std::pin::pin!(wake.notified());
        notified.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_third_waits_for_the_first_though_the_second_has_ended() {
        let registry = Registry::default();
        let [(first, _), (second, _), (third, wake)] = [mailbox(), mailbox(), mailbox()];
        assert!(registry.enter("a", &first).is_none());
        assert!(second.follow(registry.enter("a", &second).unwrap()));
        assert!(third.follow(registry.enter("a", &third).unwrap()) && third.follows());
        assert!(!is_rung(&wake));
        second.close();
        registry.leave("a", &second);
        assert!(is_rung(&wake), "it is to look again");
        assert!(third.follows(), "the first is still there");
        first.close();
        registry.leave("a", &first);
        assert!(is_rung(&wake) && !third.follows());
    }

    /// Who comes in between has ended before the third enters.
    #[test]
    fn who_leaves_before_its_former_leaves_the_place_to_that() {
        let registry = Registry::default();
        let [(first, _), (second, _), (third, wake)] = [mailbox(), mailbox(), mailbox()];
        registry.enter("a", &first);
        assert!(second.follow(registry.enter("a", &second).unwrap()));
        second.close();
        registry.leave("a", &second);
        assert!(third.follow(registry.enter("a", &third).expect("the first is still there")));
        first.close();
        registry.leave("a", &first);
        assert!(is_rung(&wake) && !third.follows());
        third.close();
        registry.leave("a", &third);
        assert!(registry.enter("a", &mailbox().0).is_none(), "nobody is left behind");
    }
}
