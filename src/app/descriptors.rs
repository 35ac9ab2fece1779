//! Open files: each connection is one, and most systems give a process 1,024 until it asks for more.
//!
//! The soft limit is raised to the hard one, as far as it is of use. What the hard limit does not allow is told once, at the start,
//! and not by the first device that cannot be accepted.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files besides the devices' connections: to brokers, of scrapes, of the runtime and the logs.
const OTHERS: u64 = 256;

/// Sees to it that so many connections may be open, or tells how many may.
pub(super) fn make_room(connections: u32) {
    let needed = u64::from(connections) + OTHERS;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let mut allowed = current;
    if let Some(wanted) = raised(current, maximum, needed) {
        let limit = Rlimit {
            current: Some(wanted),
            maximum,
        };
        // Refused only by a stricter rule of the system; then the limit is what it was.
        if setrlimit(Resource::Nofile, limit).is_ok() {
            allowed = Some(wanted);
        }
    }
    if let Some(files) = allowed.filter(|files| *files < needed) {
        tracing::warn!(
            files,
            connections,
            "the system lets the process open fewer files than `limits.connections`; raise it (ulimit -n, LimitNOFILE=) or lower that"
        );
    }
}

/// The soft limit to ask for; `None`: it is enough, or can be no more. A limit that is `None` is none.
fn raised(soft: Option<u64>, hard: Option<u64>, needed: u64) -> Option<u64> {
    let wanted = needed.min(hard.unwrap_or(u64::MAX));
    soft.filter(|soft| *soft < wanted).map(|_| wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_raised_as_far_as_it_is_of_use() {
        for (soft, hard, wanted) in [
            (Some(1_024), Some(1_048_576), Some(100_256)),
            (Some(1_024), Some(4_096), Some(4_096)),
            (Some(1_024), None, Some(100_256)),
            (Some(4_096), Some(4_096), None),
            (Some(1_048_576), Some(1_048_576), None),
            (None, None, None),
        ] {
            assert_eq!(raised(soft, hard, 100_256), wanted, "{soft:?} {hard:?}");
        }
    }
}
