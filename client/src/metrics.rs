//! What the client counts: `nacre_client_*`.

use std::time::Duration;

use nacre_model::ServiceError;

use crate::ClientError;

/// A call to the MDS came to its end.
pub(crate) fn mds_call<T>(op: &'static str, took: Duration, result: &Result<T, ClientError>) {
    let errno = match result {
        Ok(_) => "ok",
        Err(error) => error.errno().symbol().unwrap_or("other"),
    };
    metrics::histogram!("nacre_client_mds_call_duration_seconds", "op" => op, "errno" => errno)
        .record(took.as_secs_f64());
}

/// A request to the MDS must be sent again.
pub(crate) fn mds_resend(op: &'static str) {
    metrics::counter!("nacre_client_mds_resends_total", "op" => op).increment(1);
}

/// A call to an OST came to its end.
pub(crate) fn ost_call(op: &'static str, took: Duration, ok: bool) {
    let result = if ok { "ok" } else { "error" };
    metrics::histogram!("nacre_client_ost_call_duration_seconds", "op" => op, "result" => result)
        .record(took.as_secs_f64());
}

/// Bytes that applications read, and wrote.
pub(crate) fn read_bytes(bytes: u64) {
    metrics::counter!("nacre_client_read_bytes_total").increment(bytes);
}

/// Bytes that applications wrote.
pub(crate) fn written_bytes(bytes: u64) {
    metrics::counter!("nacre_client_written_bytes_total").increment(bytes);
}

/// Bytes read that had been fetched ahead.
pub(crate) fn readahead_hit_bytes(bytes: u64) {
    metrics::counter!("nacre_client_readahead_hit_bytes_total").increment(bytes);
}

/// Bytes fetched ahead.
pub(crate) fn readahead_bytes(bytes: u64) {
    metrics::counter!("nacre_client_readahead_bytes_total").increment(bytes);
}

/// Bytes written by applications and not yet answered.
pub(crate) fn dirty_bytes(bytes: u64) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge, and far below 2^53")]
    metrics::gauge!("nacre_client_dirty_bytes").set(bytes as f64);
}

/// Bytes answered by OSTs and not committed that are kept to be sent again.
pub(crate) fn retained_bytes(bytes: u64) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge, and far below 2^53")]
    metrics::gauge!("nacre_client_retained_bytes").set(bytes as f64);
}

/// Data that was accepted and then lost.
pub(crate) fn lost_write() {
    metrics::counter!("nacre_client_lost_writes_total").increment(1);
}

/// The MDS asked for leases back.
pub(crate) fn recalled(count: usize) {
    metrics::counter!("nacre_client_recalled_leases_total").increment(count as u64);
}

/// Leases held.
pub(crate) fn leases(count: usize) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge, and far below 2^53")]
    metrics::gauge!("nacre_client_leases_count").set(count as f64);
}

/// Data that came back damaged.
pub(crate) fn damaged() {
    metrics::counter!("nacre_client_checksum_errors_total").increment(1);
}
