//! The threads of the process: those that serve connections, and those on which handshakes stand back behind them.

use std::io;

use rustix::process::{getpriority_process, setpriority_process};
use tokio::runtime::{Builder, Runtime};

/// How far handshakes stand back (added to the nice value). A core that has enough to do gives them a tenth of its time; one that is idle, all of it.
const STAND_BACK: i32 = 10;
/// No thread stands further back.
const LEAST: i32 = 19;

/// For all that a connection does once it is there: as many threads as there are cores.
///
/// # Errors
/// The system refuses to start threads.
pub(super) fn serving() -> io::Result<Runtime> {
    Builder::new_multi_thread().enable_all().build()
}

/// For TLS handshakes, which are a thousand times as dear as a packet, and which anybody can ask for: a flood of them, or a whole fleet that
/// comes back, takes no time that connections need which are there.
///
/// # Errors
/// The system refuses to start threads.
pub(super) fn handshakes() -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .thread_name("handshakes")
        .enable_all()
        .on_thread_start(stand_back)
        .build()
}

/// On Linux this is of the calling thread alone. Refused nowhere; without it handshakes only have the same part as all else.
fn stand_back() {
    let back = getpriority_process(None).and_then(|own| setpriority_process(None, LEAST.min(own + STAND_BACK)));
    if let Err(error) = back {
        tracing::debug!(%error, "handshakes do not stand back");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_handshakes_stand_back() {
        let nice = |runtime: io::Result<Runtime>| {
            let runtime = runtime.unwrap();
            runtime
                .block_on(runtime.spawn(async { getpriority_process(None).unwrap() }))
                .unwrap()
        };
        let own = getpriority_process(None).unwrap();
        assert_eq!(nice(serving()), own);
        assert_eq!(nice(handshakes()), LEAST.min(own + STAND_BACK));
    }
}
