//! What the metadata server counts.
//!
//! - `nacre_mds_op_duration_seconds{op,errno}`: requests by operation and outcome (`OK` or the
//!   symbol of the errno), from arrival to reply.
//! - `nacre_mds_sessions_count`, `nacre_mds_open_handles_count`, `nacre_mds_locks_count`,
//!   `nacre_mds_lock_waiters_count`: what clients hold now.
//! - `nacre_mds_evictions_total`: sessions ended because their client was silent, or did not give
//!   back a lease.
//! - `nacre_mds_leases_count`: leases that clients hold.
//! - `nacre_mds_recalls_total`: leases that were recalled.
//! - `nacre_mds_recall_wait_seconds`: requests that waited for leases to be given back, how long.
//! - `nacre_mds_work_records_count`: changes whose work on OSTs is not known to be done.
//! - `nacre_mds_exports_waiting_count`, `nacre_mds_oldest_export_seconds`: changes that linked buckets
//!   do not have yet, and for how long the oldest has waited.
//! - `nacre_mds_imported_total{result}`: objects that were looked at closely, by what became of them.
//! - `nacre_mds_destroyed_objects_total`: objects whose destruction OSTs have confirmed.

use std::time::Duration;

use nacre_model::Errno;

/// A request was answered.
pub(crate) fn operation(op: &'static str, errno: Option<Errno>, took: Duration) {
    let errno = errno.map_or("OK", |errno| errno.symbol().unwrap_or("other"));
    metrics::histogram!("nacre_mds_op_duration_seconds", "op" => op, "errno" => errno).record(took);
}

/// What clients hold now.
pub(crate) struct Held {
    pub(crate) sessions: usize,
    pub(crate) handles: usize,
    pub(crate) locks: usize,
    pub(crate) lock_waiters: usize,
    pub(crate) leases: usize,
}

/// Sets the gauges.
pub(crate) fn held(held: &Held) {
    metrics::gauge!("nacre_mds_sessions_count").set(float(held.sessions));
    metrics::gauge!("nacre_mds_open_handles_count").set(float(held.handles));
    metrics::gauge!("nacre_mds_locks_count").set(float(held.locks));
    metrics::gauge!("nacre_mds_lock_waiters_count").set(float(held.lock_waiters));
    metrics::gauge!("nacre_mds_leases_count").set(float(held.leases));
}

/// Exports that wait.
pub(crate) fn exports((waiting, oldest): (u64, Duration)) {
    let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
    metrics::gauge!("nacre_mds_exports_waiting_count").set(waiting);
    metrics::gauge!("nacre_mds_oldest_export_seconds").set(oldest);
}

/// An object was imported, or not.
pub(crate) fn imported(result: &'static str) {
    metrics::counter!("nacre_mds_imported_total", "result" => result).increment(1);
}

/// Clients were too silent.
pub(crate) fn evicted(count: usize) {
    metrics::counter!("nacre_mds_evictions_total").increment(count as u64);
}

/// Leases were recalled.
pub(crate) fn recalls(count: usize) {
    if count > 0 {
        metrics::counter!("nacre_mds_recalls_total").increment(count as u64);
    }
}

/// A request had to wait for leases of others.
pub(crate) fn recall_wait(took: Duration) {
    metrics::histogram!("nacre_mds_recall_wait_seconds").record(took);
}

/// Work that a pass of the worker left.
pub(crate) fn work_records(count: usize) {
    metrics::gauge!("nacre_mds_work_records_count").set(float(count));
}

/// Objects are gone.
pub(crate) fn destroyed(count: usize) {
    metrics::counter!("nacre_mds_destroyed_objects_total").increment(count as u64);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is read by people")]
fn float(count: usize) -> f64 {
    count as f64
}
