//! What happened, as a hash that two runs of one seed must share, and the first broken promise.

use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

/// Events shown with a broken promise.
const RECENT: usize = 60;
/// FNV-1a, 64 bits: the same on every machine and in every version of the standard library.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// The record of one run. Clones are the same record.
#[derive(Debug, Clone)]
pub(super) struct Trace {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    hash: u64,
    events: u64,
    print: bool,
    recent: VecDeque<String>,
    broken: Option<String>,
}

impl Trace {
    /// An empty one; `print` shows each event as it happens.
    pub(super) fn new(print: bool) -> Self {
        let state =
            State { hash: FNV_OFFSET, events: 0, print, recent: VecDeque::new(), broken: None };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Something happened at this time.
    pub(super) fn event(&self, at: Duration, who: &str, what: impl Display) {
        let line = format!("{:>11.6} {who}: {what}", at.as_secs_f64());
        let mut state = self.state.lock();
        for byte in line.bytes().chain([b'\n']) {
            state.hash = (state.hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        }
        state.events += 1;
        if state.print {
            println!("{line}");
        }
        state.recent.push_back(line);
        if state.recent.len() > RECENT {
            state.recent.pop_front();
        }
    }

    /// A promise was broken; the first one is kept, with what led to it.
    pub(super) fn broken(&self, at: Duration, who: &str, why: impl Display) {
        self.event(at, who, format_args!("BROKEN PROMISE: {why}"));
        let mut state = self.state.lock();
        if state.broken.is_none() {
            let events: Vec<_> = state.recent.iter().cloned().collect();
            let events = events.join("\n");
            state.broken = Some(format!("{who}: {why}\nlast events:\n{events}"));
        }
    }

    /// The first broken promise.
    pub(super) fn first_broken(&self) -> Option<String> {
        self.state.lock().broken.clone()
    }

    /// Hash and number of all events so far.
    pub(super) fn digest(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.hash, state.events)
    }
}
