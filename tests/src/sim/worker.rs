//! A worker in a folder of its own: random operations, each checked against a model.

use std::collections::BTreeMap;
use std::time::Duration;

use nacre_model::{Fid, FileKind};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::content::{Certainty, Content};
use super::net::now;
use super::session::{Broken, Session, Step};
use super::tree::Tree;

const FILES: u32 = 8;
pub(super) const FOLDERS: u32 = 3;
/// Between two operations, in milliseconds.
const PAUSE_MS: u64 = 120;

/// One worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) session: Session,
    pub(super) rng: StdRng,
    pub(super) folder: Fid,
    pub(super) tree: Tree,
    pub(super) files: BTreeMap<Fid, Content>,
    /// Names were compared last at this time: power losses before it have been dealt with.
    pub(super) checked: Duration,
    /// Operations that came to their end.
    pub(super) done: u64,
}

impl Worker {
    /// In a new, empty folder.
    pub(super) fn new(session: Session, folder: Fid, seed: u64) -> Self {
        Self {
            session,
            rng: StdRng::seed_from_u64(seed),
            folder,
            tree: Tree::new(now()),
            files: BTreeMap::new(),
            checked: now(),
            done: 0,
        }
    }

    /// Works until then.
    pub(super) async fn work(&mut self, until: Duration) -> Step {
        while now() < until {
            self.step().await?;
            self.done += 1;
            let pause = self.rng.random_range(0..PAUSE_MS);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        Ok(())
    }

    async fn step(&mut self) -> Step {
        self.after_power_loss(None).await?;
        match self.rng.random_range(0..100) {
            0..20 => self.create().await,
            20..45 => self.change().await,
            45..60 => self.look().await,
            60..72 => self.rename().await,
            72..80 => self.unlink().await,
            80..86 => self.make_folder().await,
            86..90 => self.remove_folder().await,
            90..95 => self.check_names(None, false).await,
            _ => self.sync_names().await,
        }
    }

    /// Everything is there: to be called when all faults are healed.
    pub(super) async fn check_all(&mut self) -> Step {
        self.check_names(None, false).await?;
        let files: Vec<(String, Fid)> = self.all_files();
        for (path, fid) in files {
            self.compare(&path, fid).await?;
        }
        Ok(())
    }

    fn all_files(&self) -> Vec<(String, Fid)> {
        let names = self.tree.names().iter();
        let file = |(path, (kind, fid)): (&String, &(FileKind, Option<Fid>))| {
            let fid = (*kind == FileKind::Regular).then_some(*fid)?;
            Some((path.clone(), fid?))
        };
        names.filter_map(file).collect()
    }

    pub(super) fn some_file(&mut self) -> Option<(String, Fid)> {
        let files = self.all_files();
        let count = files.len();
        (count > 0).then(|| files.into_iter().nth(self.rng.random_range(0..count)))?
    }

    /// A path that a file may have: in the folder, or in one below it.
    pub(super) fn some_path(&mut self) -> String {
        let file = format!("f{}", self.rng.random_range(0..FILES));
        let folder = format!("d{}", self.rng.random_range(0..FOLDERS));
        let inside = self.rng.random_bool(0.4) && self.tree.names().contains_key(&folder);
        if inside { format!("{folder}/{file}") } else { file }
    }

    async fn look(&mut self) -> Step {
        let Some((path, fid)) = self.some_file() else { return Ok(()) };
        self.compare(&path, fid).await
    }

    /// Reads a file and compares it; false if it could not be read, which was excused.
    pub(super) async fn compare(&mut self, path: &str, fid: Fid) -> Step {
        let begun = now();
        let read = self.session.read(fid).await;
        self.session.done(&format!("read {path} {fid}"), begun, &read)?;
        let lost = self.session.faults.mds_power_loss_after(self.checked).is_some();
        match read {
            Ok(bytes) => {
                let content = self.files.entry(fid).or_default();
                let compared = content.check(&bytes, &self.session.faults, now());
                compared.map_err(|why| Broken(format!("{path} {fid}: {why}")))?;
            }
            // It may be gone.
            Err(_) if lost => {}
            Err(error) => self.session.excuse(&format!("read {path}"), begun, &error)?,
        }
        Ok(())
    }

    /// Whether a file's content is known exactly, if need be after a look.
    pub(super) async fn certain(&mut self, path: &str, fid: Fid) -> Step<bool> {
        let exact = |worker: &Self| {
            let content = worker.files.get(&fid);
            content.is_some_and(|c| c.certainty(&worker.session.faults) == Certainty::Exact)
        };
        if !exact(self) {
            self.compare(path, fid).await?;
        }
        let lost = self.session.faults.mds_power_loss_after(self.checked).is_some();
        Ok(exact(self) && !lost)
    }
}
