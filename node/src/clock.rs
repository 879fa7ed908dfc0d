//! Wall-clock time. Durations and timeouts use `tokio::time`, which a simulator controls.

use std::time::{SystemTime, UNIX_EPOCH};

use nacre_model::Timestamp;

/// Where time stamps come from.
pub trait Clock: Send + Sync + 'static {
    /// Now, by the wall clock.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        from_system(SystemTime::now())
    }
}

/// A standard-library time as a [`Timestamp`]; times beyond 64-bit seconds saturate.
pub fn from_system(time: SystemTime) -> Timestamp {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => Timestamp {
            secs: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            nanos: after.subsec_nanos(),
        },
        Err(before) => {
            let before = before.duration();
            let secs = i64::try_from(before.as_secs()).map_or(i64::MIN, |secs| -secs);
            match before.subsec_nanos() {
                0 => Timestamp { secs, nanos: 0 },
                nanos => Timestamp {
                    secs: secs.saturating_sub(1),
                    nanos: Timestamp::NANOS_PER_SEC - nanos,
                },
            }
        }
    }
}
