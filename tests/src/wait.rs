//! Bounded waits on conditions: there are no other pauses in the tests.

use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(10);

/// Waits until `condition` holds, at most `limit`; says whether it does.
pub fn until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        poll();
    }
}

/// Waits until `attempt` gives a value, at most `limit`.
pub fn for_some<T>(limit: Duration, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let mut got = None;
    until(limit, || {
        got = attempt();
        got.is_some()
    });
    got
}

#[expect(clippy::disallowed_methods, reason = "the one place where waits on conditions poll")]
fn poll() {
    std::thread::sleep(POLL);
}
