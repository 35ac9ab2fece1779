//! Producer ids that nobody has used, a few kept ready once one was asked for.

use std::sync::{Arc, OnceLock};

use tokio::sync::{Mutex, mpsc};

use crate::upstream::{accumulator::Identity, cluster::Core, identity::obtain};

/// Ids kept ready. One that is left unused at the end costs Kafka nothing.
const READY: usize = 64;

/// See the head of the file.
#[derive(Default)]
pub(crate) struct Spare {
    ready: OnceLock<Mutex<mpsc::Receiver<Identity>>>,
}

impl Spare {
    /// The next one; waits as long as Kafka gives none.
    pub(super) async fn take(&self, core: &Arc<Core>) -> Identity {
        let ready = self.ready.get_or_init(|| {
            let (sender, ready) = mpsc::channel(READY);
            core.spawn(fill(Arc::clone(core), sender));
            Mutex::new(ready)
        });
        match ready.lock().await.recv().await {
            Some(identity) => identity,
            // The client was shut down: nobody waits for long any more.
            None => std::future::pending().await,
        }
    }
}

async fn fill(core: Arc<Core>, ready: mpsc::Sender<Identity>) {
    let mut link = None;
    while let Ok(place) = ready.reserve().await {
        place.send(obtain(&core, &mut link).await);
    }
}
