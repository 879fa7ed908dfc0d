//! Pages that the kernel got without a lease.
//!
//! A file that was opened under a lease is read and written through the page cache until it is
//! closed, also when the lease is gone. What is read or written then must not stay: nobody would
//! say when it is out of date. Before each `read` the kernel asks for the attributes, and drops its
//! pages by itself if the size is another; if not, the pages go before it is answered. What only a
//! mapping sees is dropped a moment later.
//!
//! To tell the kernel to drop pages makes it pass over the size in an answer that is on its way,
//! and the `read` that asked would end where the file ended before. So they are dropped before an
//! answer only if it says what the kernel knows, and else when nobody has asked for a while. (That
//! the kernel drops pages if the mtime is another is not enough: what was written is seen by
//! others before the server knows when that was.)

use std::collections::HashMap;
use std::time::{Duration, Instant};

use nacre_model::Fid;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::known::Known;
use super::notifier::Notifier;

/// How long pages without a lease may stay after the last question, if only a mapping sees them.
const PAUSE: Duration = Duration::from_millis(10);
/// And how long at most, however many questions come.
const STAY_MAX: Duration = Duration::from_secs(1);

/// Inodes that have such pages, or will when an answer is written.
#[derive(Debug, Default)]
pub(super) struct Unleased {
    marks: Mutex<Marks>,
    some: Notify,
}

#[derive(Debug, Default)]
struct Marks {
    by_fid: HashMap<Fid, Mark>,
    count: u64,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    /// Of the last page.
    number: u64,
    /// When the first page came.
    since: Instant,
    /// When something was asked or answered last.
    used: Instant,
}

impl Mark {
    fn is_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.used) >= PAUSE
            || now.saturating_duration_since(self.since) >= STAY_MAX
    }
}

impl Unleased {
    /// To be called before the answer is written: the page is locked until then, and the kernel
    /// waits for it before it drops it.
    pub(super) fn mark(&self, fid: Fid) {
        let now = Instant::now();
        let mut marks = self.marks.lock();
        marks.count = marks.count.saturating_add(1);
        let number = marks.count;
        let mark = marks.by_fid.entry(fid).or_insert(Mark { number, since: now, used: now });
        (mark.number, mark.used) = (number, now);
        drop(marks);
        self.some.notify_one();
    }

    /// Whether `fid` has any.
    pub(super) fn has(&self, fid: Fid) -> bool {
        self.marks.lock().by_fid.contains_key(&fid)
    }

    /// The kernel is about to be told how long `fid` is.
    pub(super) async fn answering(&self, fid: Fid, size: u64, known: &Known, kernel: &Notifier) {
        {
            let mut marks = self.marks.lock();
            let Some(mark) = marks.by_fid.get_mut(&fid) else { return };
            mark.used = Instant::now();
        }
        // It stays marked, so that the next question is treated alike.
        if known.size(fid) == Some(size) {
            kernel.inval_pages(fid, size).await;
        }
    }

    async fn drop_pages(&self, fid: Fid, number: u64, kernel: &Notifier) {
        kernel.inval_inode(fid).await;
        let mut marks = self.marks.lock();
        // What was marked meanwhile may have come too late for the kernel.
        if marks.by_fid.get(&fid).is_some_and(|mark| mark.number == number) {
            marks.by_fid.remove(&fid);
        }
    }

    /// Drops them again and again.
    ///
    /// # Cancel safety
    /// Safe: what is marked stays marked.
    pub(super) async fn keep_dropping(&self, kernel: &Notifier) {
        loop {
            if self.marks.lock().by_fid.is_empty() {
                self.some.notified().await;
            }
            tokio::time::sleep(PAUSE).await;
            let now = Instant::now();
            let due: Vec<_> = {
                let marks = self.marks.lock();
                let due = marks.by_fid.iter().filter(|(_, mark)| mark.is_due(now));
                due.map(|(fid, mark)| (*fid, mark.number)).collect()
            };
            for (fid, number) in due {
                self.drop_pages(fid, number, kernel).await;
            }
        }
    }
}
