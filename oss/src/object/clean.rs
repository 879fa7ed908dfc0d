//! Making durable, and making clean.

use std::collections::BTreeSet;
use std::sync::Arc;

use nacre_model::ObjectId;

use super::block_end;
use super::files::{Files, folder};
use super::header::Header;
use super::range_lock::Mode;
use super::slot::Slot;
use super::store::{Absent, ObjectStore};
use crate::error::OssError;

/// Objects that one round of cleaning takes at most.
const ROUND_MAX: usize = 1024;

/// An object on its way to be clean.
struct Job {
    slot: Arc<Slot>,
    files: Arc<Files>,
    /// What makes it clean, once it is durable.
    header: Header,
    /// As many changes are covered.
    changes: u64,
}

impl ObjectStore {
    /// Makes durable everything that was acknowledged of these objects. Those that do not exist
    /// are passed over.
    ///
    /// Their checksums need not be durable: what is in doubt is checked anew after a crash.
    ///
    /// # Errors
    /// After a failed sync the target is poisoned: this and every later call fails.
    pub fn commit(&self, ids: &[ObjectId]) -> Result<(), OssError> {
        self.check_poison()?;
        let mut folders = BTreeSet::new();
        let mut named = Vec::new();
        for &id in ids {
            let Some(held) = self.enter(id, (0, 0), Mode::Shared, Absent::Pass)? else { continue };
            let slot = Arc::clone(&held.slot);
            drop(held);
            let known = slot.present(|present| {
                let due = present.synced < present.changes;
                (due.then(|| Arc::clone(&present.files)), present.changes, present.named)
            });
            let Some((files, changes, has_name)) = known else { continue };
            if let Some(files) = files {
                self.sealed(files.sync_data().map_err(OssError::at("sync data", id)))?;
                slot.present(|present| present.synced = present.synced.max(changes));
            }
            if !has_name {
                folders.insert(folder(id));
                named.push(slot);
            }
        }
        self.sync_folders(&folders)?;
        for slot in named {
            slot.present(|present| present.named = true);
        }
        // A sync that failed meanwhile may have taken what this one was to cover.
        self.check_poison()
    }

    /// Makes clean what has been in doubt since before the last call; how many objects that were.
    pub fn clean_round(&self) -> Result<usize, OssError> {
        let ids = self.slots.take_doubtful(ROUND_MAX, true);
        self.slots.next_round();
        let count = ids.len();
        self.clean_all(ids)?;
        self.sealed(self.intents.compact())?;
        self.metrics.doubtful.set(gauge(self.slots.doubtful_count() as u64));
        self.metrics.open.set(gauge(self.slots.count() as u64));
        let (gone, replaced) = self.graves.counts();
        self.metrics.graves.set(gauge(gone.saturating_add(replaced)));
        Ok(count)
    }

    /// Makes everything clean, and says so in the log: the next start need not look for doubt.
    pub fn close(&self) -> Result<(), OssError> {
        loop {
            let ids = self.slots.take_doubtful(ROUND_MAX, false);
            if ids.is_empty() {
                break;
            }
            self.clean_all(ids)?;
        }
        if self.walk_is_due() {
            return Ok(());
        }
        self.sealed(self.intents.close())
    }

    /// Makes objects clean together. On an error those not yet clean stay in doubt.
    fn clean_all(&self, ids: Vec<ObjectId>) -> Result<(), OssError> {
        let mut begun = Vec::new();
        let mut result = Ok(());
        for id in ids {
            match self.check_poison().and_then(|()| self.begin_clean(id)) {
                Ok(job) => begun.extend(job),
                Err(error) => {
                    self.slots.doubt(id);
                    result = Err(error);
                }
            }
        }
        let many = !begun.is_empty() && begun.len() >= self.options.sync_all_from;
        let together = if many { self.finish_together(&begun) } else { Ok(false) };
        for job in &begun {
            let finished = match &together {
                Ok(true) => Ok(()),
                Ok(false) => self.finish_clean(job),
                Err(_) => Err(OssError::Poisoned),
            };
            match finished {
                Ok(()) => self.retire(job),
                Err(error) => {
                    self.still_in_doubt(job);
                    result = Err(error);
                }
            }
        }
        together.and(result)
    }

    /// From here on whoever overwrites what the header will call clean logs it first.
    fn begin_clean(&self, id: ObjectId) -> Result<Option<Job>, OssError> {
        let Some(slot) = self.slots.get(id) else { return Ok(None) };
        self.recheck(&slot, 0, u64::MAX)?;
        // Nobody is in the middle of a change.
        let held = slot.hold_all();
        let epoch = self.verifier().epoch;
        let begun = slot.present(|present| {
            if !present.doubtful || !present.unchecked.is_empty() {
                // Distrusted since: a later round.
                if present.doubtful {
                    self.slots.doubt(id);
                }
                return None;
            }
            present.version += 1;
            present.clean_end = block_end(present.size);
            present.doubtful = false;
            present.intents = 0;
            let logged = std::mem::take(&mut present.logged);
            present.retiring.insert_all(&logged);
            let header = Header {
                id,
                version: present.version,
                size: present.size,
                clean_end: present.clean_end,
                mtime: present.mtime,
                owner: present.owner,
                epoch,
            };
            let (files, changes) = (Arc::clone(&present.files), present.changes);
            Some(Job { slot: Arc::clone(&slot), files, header, changes })
        });
        let Some(Some(job)) = begun else { return Ok(None) };
        self.intents.begin_retiring(id);
        drop(held);
        Ok(Some(job))
    }

    fn finish_clean(&self, job: &Job) -> Result<(), OssError> {
        let (id, files) = (job.header.id, &job.files);
        let sync_meta =
            || self.sealed(files.sync_meta().map_err(OssError::at("sync checksums", id)));
        self.check_poison()?;
        self.sealed(files.sync_data().map_err(OssError::at("sync data", id)))?;
        sync_meta()?;
        self.sync_folders(&BTreeSet::from([folder(id)]))?;
        files.write_header(&job.header).map_err(OssError::at("write header", id))?;
        sync_meta()
    }

    /// The same for many, with two syncs of everything. `false`: this disk cannot.
    fn finish_together(&self, jobs: &[Job]) -> Result<bool, OssError> {
        let sync = || {
            point!("oss::disk::sync_all");
            self.disk.sync_all()
        };
        match sync() {
            Err(error) if error.kind() == std::io::ErrorKind::Unsupported => return Ok(false),
            result => self.sealed(result.map_err(OssError::disk("sync file system")))?,
        }
        for job in jobs {
            let at = OssError::at("write header", job.header.id);
            job.files.write_header(&job.header).map_err(at)?;
        }
        self.sealed(sync().map_err(OssError::disk("sync file system")))?;
        Ok(true)
    }

    /// The object is clean: what the log named of it before is void.
    fn retire(&self, job: &Job) {
        job.slot.present(|present| {
            present.synced = present.synced.max(job.changes);
            present.named = true;
            present.retiring.clear();
        });
        self.intents.retire(job.header.id);
    }

    /// What the log names stays named; what lies beyond the old header's clean end is in doubt by
    /// it.
    fn still_in_doubt(&self, job: &Job) {
        job.slot.present(|present| present.doubtful = true);
        self.slots.doubt(job.header.id);
    }

    /// Makes room for one more open object, if there is none.
    pub(crate) fn make_room(&self) -> Result<(), OssError> {
        while self.slots.is_full() && !self.slots.shrink() {
            // Those that nobody uses are in doubt: none may be let go of before it is clean.
            self.check_poison()?;
            let ids = self.slots.take_doubtful(ROUND_MAX, false);
            if ids.is_empty() {
                // All in use this very moment; they are as many as there are disk threads.
                break;
            }
            self.clean_all(ids)?;
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge shows counts far below 2^53")]
fn gauge(count: u64) -> f64 {
    count as f64
}
