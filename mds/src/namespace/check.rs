//! The offline consistency check, and all objects that the metadata knows of.
//!
//! Rows stream through in batches; the only thing held for all of them are the counts of files
//! with more names than they remember.

mod inodes;
mod objects;
mod rows;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use nacre_model::Fid;

pub use objects::{ObjectState, objects};

use super::NsError;
use crate::record::{BadRecord, Counters, Superblock, key as keys};
use crate::store::{StoreError, View};

/// Rows that are held at once.
const BATCH_ROWS: usize = 256;
/// Most findings that are listed.
pub const FINDINGS_MAX: usize = 10_000;

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// A row that cannot be read.
    #[error("row {key}: {why}")]
    Damaged {
        /// Its key, escaped.
        key: String,
        /// What is wrong.
        why: String,
    },
    /// A row of no known kind.
    #[error("rows of unknown kinds between {0:#x} and {1:#x}")]
    UnknownRows(u8, u8),
    /// An entry whose inode, or a row whose owner, does not exist.
    #[error("{what} of {fid} has nothing to belong to")]
    Dangling {
        /// Which inode, or directory.
        fid: Fid,
        /// What kind of row.
        what: &'static str,
    },
    /// An entry in a directory and its inode disagree.
    #[error("entry `{name}` of {parent}: {why}")]
    Entry {
        /// The directory.
        parent: Fid,
        /// The name, escaped.
        name: String,
        /// In what.
        why: &'static str,
    },
    /// An inode contradicts itself or its other rows.
    #[error("inode {fid}: {why}")]
    Inode {
        /// Which.
        fid: Fid,
        /// In what.
        why: &'static str,
    },
    /// An inode's count is wrong.
    #[error("inode {fid}: {what} is {is}, but should be {should}")]
    Count {
        /// Which.
        fid: Fid,
        /// Of what.
        what: &'static str,
        /// Recorded.
        is: u64,
        /// Counted.
        should: u64,
    },
    /// The number of inodes is wrong.
    #[error("{counted} inodes were found, but {recorded} are recorded")]
    InodeCount {
        /// Found.
        counted: u64,
        /// Recorded.
        recorded: u64,
    },
    /// Session and reply rows disagree.
    #[error("session {session}: {why}")]
    Session {
        /// Which.
        session: u64,
        /// In what.
        why: &'static str,
    },
    /// A work record makes no sense, or would destroy data in use.
    #[error("work {sequence}: {why}")]
    Work {
        /// Which.
        sequence: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// There may be more than what is listed.
    #[error("more than {FINDINGS_MAX} findings")]
    More,
}

/// Checks everything. An error means that the check itself could not go on.
pub fn check(view: &dyn View) -> Result<Vec<Finding>, NsError> {
    let superblock = super::rows::superblock(view)?;
    let counters = super::rows::counters(view)?;
    let mut checker =
        Checker { view, superblock, counters, findings: Vec::new(), many_links: BTreeMap::new() };
    checker.inodes()?;
    checker.entries()?;
    checker.other_rows()?;
    Ok(checker.findings)
}

struct Checker<'v> {
    view: &'v dyn View,
    superblock: Superblock,
    counters: Counters,
    findings: Vec<Finding>,
    /// Of files whose link list overflowed: recorded and counted links.
    many_links: BTreeMap<Fid, (u32, u32)>,
}

impl Checker<'_> {
    fn report(&mut self, finding: Finding) {
        match self.findings.len().cmp(&FINDINGS_MAX) {
            std::cmp::Ordering::Less => self.findings.push(finding),
            std::cmp::Ordering::Equal => self.findings.push(Finding::More),
            std::cmp::Ordering::Greater => {}
        }
    }

    fn damaged(&mut self, key: &[u8], error: &BadRecord) {
        let (key, why) = (key.escape_ascii().to_string(), error.to_string());
        self.report(Finding::Damaged { key, why });
    }

    fn inode_finding(&mut self, fid: Fid, why: &'static str) {
        self.report(Finding::Inode { fid, why });
    }

    fn count(&mut self, fid: Fid, what: &'static str, is: u64, should: u64) {
        if is != should {
            self.report(Finding::Count { fid, what, is, should });
        }
    }
}

/// Calls `each` with all rows of a kind, outside of the scan, so that it may read others.
fn for_each(view: &dyn View, kind: u8, each: &mut Each<'_>) -> Result<(), NsError> {
    let (mut from, to) = keys::all_of(kind);
    loop {
        let batch = rows_between(view, &from, &to)?;
        let Some((last, _)) = batch.last() else {
            return Ok(());
        };
        from = keys::after(last);
        for (key, value) in batch {
            each(&key, value)?;
        }
    }
}

/// What is done with a row.
type Each<'e> = dyn FnMut(&[u8], Vec<u8>) -> Result<(), NsError> + 'e;
type Rows = Vec<(Vec<u8>, Vec<u8>)>;

fn rows_between(view: &dyn View, from: &[u8], to: &[u8]) -> Result<Rows, StoreError> {
    let mut batch = Vec::with_capacity(BATCH_ROWS);
    view.scan(from, to, &mut |key, value| {
        batch.push((key.to_vec(), value.to_vec()));
        if batch.len() < BATCH_ROWS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(batch)
}
