//! What the channel counts.

use std::time::Instant;

use nacre_model::Errno;

/// Requests of the kernel that are not answered yet.
const IN_FLIGHT: &str = "nacre_mount_requests_count";
/// Time from reading a request to its answer, by operation and errno.
const DURATION: &str = "nacre_mount_op_duration_seconds";
/// Payload of writes.
const WRITTEN: &str = "nacre_mount_write_bytes_total";

/// Counts the payload of a write.
pub(super) fn written(bytes: u32) {
    metrics::counter!(WRITTEN).increment(u64::from(bytes));
}

/// Counts one request for as long as it lives.
#[derive(Debug)]
pub(super) struct InFlight {
    op: &'static str,
    since: Instant,
}

impl InFlight {
    pub(super) fn begin(op: &'static str) -> Self {
        metrics::gauge!(IN_FLIGHT).increment(1.0);
        Self { op, since: Instant::now() }
    }

    /// `errno`: `None` when it succeeded.
    pub(super) fn answered(&self, errno: Option<Errno>) {
        let errno = errno.map_or("0", |errno| errno.symbol().unwrap_or("other"));
        metrics::histogram!(DURATION, "op" => self.op, "errno" => errno)
            .record(self.since.elapsed().as_secs_f64());
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        metrics::gauge!(IN_FLIGHT).decrement(1.0);
    }
}
