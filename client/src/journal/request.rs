//! What a request of the kernel leaves behind until it is answered.
//!
//! A request that changes something runs within one of these ([`Request::carry`]). Whatever must
//! outlive the process if the answer does not get out is noted for it, and forgotten when it is
//! dropped: after the answer. When the kernel sends the request again to the next process, that
//! finds there what the first has begun.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::{Entry, Journal, RESENT, Record};

tokio::task_local! {
    static CURRENT: Arc<Request>;
}

/// A request that is being carried out.
#[derive(Debug)]
pub(crate) struct Request {
    number: u64,
    /// It has begun a change that must not be made twice.
    changed: AtomicBool,
    /// What the process before had noted for it.
    before: Mutex<Vec<(Record, Entry)>>,
    kept: Mutex<Vec<Kept>>,
    journal: Journal,
}

/// Entries, and what must stay taken as long as they stand.
struct Kept {
    _entry: Entry,
    _with: Box<dyn Send>,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kept")
    }
}

impl Request {
    /// The request that the current task carries out, if it is one that leaves something behind.
    pub(crate) fn current() -> Option<Arc<Self>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// Its number, or 0: for what is noted by the way.
    pub(crate) fn current_number() -> u64 {
        CURRENT.try_with(|request| request.number).unwrap_or_default()
    }

    /// Whether the process before has sent the change that the current request makes: names may
    /// lead already where the change makes them lead.
    pub(crate) fn may_be_done() -> bool {
        let change = |record: &Record| matches!(record, Record::Change { .. }).then_some(());
        Self::current().is_some_and(|request| request.had_before(change).is_some())
    }

    /// Carries out a request of the kernel.
    pub(crate) async fn carry(journal: Journal, number: u64, work: impl Future<Output = ()>) {
        let before = Mutex::new(journal.take_of(number));
        let kept = Mutex::default();
        let (number, changed) = (number & !RESENT, AtomicBool::new(false));
        let request = Arc::new(Self { number, changed, before, kept, journal });
        CURRENT.scope(request, work).await;
    }

    /// What the process before had noted, once.
    pub(crate) fn take_before<T>(&self, pick: impl Fn(&Record) -> Option<T>) -> Option<(T, Entry)> {
        let mut before = self.before.lock();
        let at = before.iter().position(|(record, _)| pick(record).is_some())?;
        let (record, entry) = before.swap_remove(at);
        Some((pick(&record)?, entry))
    }

    /// Whether the process before had noted something like that.
    pub(crate) fn had_before<T>(&self, pick: impl Fn(&Record) -> Option<T>) -> Option<T> {
        self.before.lock().iter().find_map(|(record, _)| pick(record))
    }

    /// Whether this is its first change.
    pub(crate) fn begins_change(&self) -> bool {
        !self.changed.swap(true, Ordering::AcqRel)
    }

    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn note(&self, record: Record) -> Entry {
        self.journal.put(record)
    }

    /// Keeps an entry, and what goes with it, until the request is answered. The entry goes first.
    pub(crate) fn keep(&self, entry: Entry, with: impl Send + 'static) {
        self.kept.lock().push(Kept { _entry: entry, _with: Box::new(with) });
    }
}
