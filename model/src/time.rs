//! Points in time as POSIX stores them.

/// Seconds and nanoseconds since the epoch. Seconds may be negative; `0 <= nanos < 10^9`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp {
    /// Whole seconds since 1970-01-01 UTC, rounded down.
    pub secs: i64,
    /// Nanoseconds past `secs`.
    pub nanos: u32,
}

impl Timestamp {
    /// Nanoseconds in a second: the exclusive bound of `nanos`.
    pub const NANOS_PER_SEC: u32 = 1_000_000_000;

    /// `None` when `nanos` is out of range.
    pub const fn new(secs: i64, nanos: u32) -> Option<Self> {
        if nanos < Self::NANOS_PER_SEC { Some(Self { secs, nanos }) } else { None }
    }
}
