//! What an OST counts.

use metrics::{Counter, Gauge, counter, gauge};
use nacre_model::OstIndex;

/// Handles of one OST's metrics, labelled `target`.
pub(crate) struct Metrics {
    /// `nacre_oss_read_bytes_total`: bytes of data sent to clients.
    pub(crate) read_bytes: Counter,
    /// `nacre_oss_write_bytes_total`: bytes of data accepted from clients.
    pub(crate) write_bytes: Counter,
    /// `nacre_oss_checksum_errors_total`: blocks on disk that did not match their checksum.
    pub(crate) checksum_errors: Counter,
    /// `nacre_oss_request_checksum_errors_total`: writes that did not arrive as they were sent.
    pub(crate) request_checksum_errors: Counter,
    /// `nacre_oss_rechecked_bytes_total`: bytes whose checksums were computed anew after a crash.
    pub(crate) rechecked_bytes: Counter,
    /// `nacre_oss_rechecked_blocks_total`: blocks among them whose checksum had to be corrected.
    pub(crate) corrected_blocks: Counter,
    /// `nacre_oss_scrubbed_bytes_total`: bytes that the scrub has verified.
    pub(crate) scrubbed_bytes: Counter,
    /// `nacre_oss_intents_total`: overwrites of clean ranges that were logged first.
    pub(crate) intents: Counter,
    /// `nacre_oss_doubtful_objects_count`: objects in doubt now.
    pub(crate) doubtful: Gauge,
    /// `nacre_oss_open_objects_count`: objects held open.
    pub(crate) open: Gauge,
    /// `nacre_oss_graves_count`: destroyed objects that are remembered.
    pub(crate) graves: Gauge,
    /// `nacre_oss_poisoned_count`: 1 after a failed sync.
    pub(crate) poisoned: Gauge,
}

impl Metrics {
    pub(crate) fn new(ost: OstIndex) -> Self {
        let target = ost.to_string();
        let count = |name: &'static str| counter!(name, "target" => target.clone());
        let level = |name: &'static str| gauge!(name, "target" => target.clone());
        Self {
            read_bytes: count("nacre_oss_read_bytes_total"),
            write_bytes: count("nacre_oss_write_bytes_total"),
            checksum_errors: count("nacre_oss_checksum_errors_total"),
            request_checksum_errors: count("nacre_oss_request_checksum_errors_total"),
            rechecked_bytes: count("nacre_oss_rechecked_bytes_total"),
            corrected_blocks: count("nacre_oss_rechecked_blocks_total"),
            scrubbed_bytes: count("nacre_oss_scrubbed_bytes_total"),
            intents: count("nacre_oss_intents_total"),
            doubtful: level("nacre_oss_doubtful_objects_count"),
            open: level("nacre_oss_open_objects_count"),
            graves: level("nacre_oss_graves_count"),
            poisoned: level("nacre_oss_poisoned_count"),
        }
    }
}
