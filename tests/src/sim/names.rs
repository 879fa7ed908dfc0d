//! What a worker does to the names of its folder.

use std::num::{NonZeroU16, NonZeroU64};
use std::time::Duration;

use nacre_client::{Caller, ClientError, RenameFlags};
use nacre_model::layout::{ComponentTemplate, EOF};
use nacre_model::{Fid, FileKind, LayoutTemplate, Name};
use rand::Rng;

use super::content::Content;
use super::net::now;
use super::session::{Broken, Step, name};
use super::tree::{Change, Seen};
use super::worker::{FOLDERS, Worker};

impl Worker {
    /// The folder that a path is in, and its last name.
    fn resolve(&self, path: &str) -> Step<(Fid, Name)> {
        let Some((folder, file)) = path.split_once('/') else {
            return Ok((self.folder, name(path)?));
        };
        let known = self.tree.names().get(folder).and_then(|(_, fid)| *fid);
        let fid = known.ok_or_else(|| Broken(format!("folder {folder} is not known")))?;
        Ok((fid, name(file)?))
    }

    pub(super) async fn create(&mut self) -> Step {
        let path = self.some_path();
        if self.tree.names().contains_key(&path) {
            return Ok(());
        }
        let (folder, last) = self.resolve(&path)?;
        let layout = self.some_layout();
        let begun = now();
        let made = self.session.create(folder, &last, layout).await;
        self.session.done(&format!("create {path}"), begun, &made)?;
        let fid = made.as_ref().ok().map(|file| file.fid());
        let change = Change::Make(path.clone(), FileKind::Regular, fid);
        let Some(file) = self.renamed("create", begun, change, made).await? else { return Ok(()) };
        let fid = file.fid();
        self.files.insert(fid, Content::default());
        let bytes = self.some_bytes();
        let sync = self.rng.random_bool(0.3);
        let begun = now();
        let filled = self.session.fill(file, &bytes, sync).await;
        let what = format!("fill {path} with {} bytes, sync {sync}", bytes.len());
        self.written(&what, fid, begun, vec![bytes], sync, filled)
    }

    fn some_layout(&mut self) -> Option<LayoutTemplate> {
        let striped = ComponentTemplate {
            end: EOF,
            stripe_count: NonZeroU16::new(self.rng.random_range(1..5)),
            stripe_size: NonZeroU64::new(64 << 10)?,
            stripe_index: None,
            ost_list: Vec::new(),
            pool: String::new(),
        };
        self.rng.random_bool(0.3).then(|| LayoutTemplate { components: vec![striped] })
    }

    pub(super) async fn rename(&mut self) -> Step {
        let Some((from, fid)) = self.some_file() else { return Ok(()) };
        let to = self.some_path();
        let same = self.tree.names().get(&to).is_some_and(|(_, there)| *there == Some(fid));
        if same {
            return Ok(());
        }
        let (source, target) = (self.resolve(&from)?, self.resolve(&to)?);
        let begun = now();
        let client = &self.session.client;
        let ends = ((source.0, &source.1), (target.0, &target.1));
        let flags = RenameFlags::empty();
        let renamed = client.rename(Caller::default(), ends.0, ends.1, flags).await;
        self.session.done(&format!("rename {from} to {to}"), begun, &renamed)?;
        self.renamed("rename", begun, Change::Rename(from, to), renamed).await.map(|_| ())
    }

    pub(super) async fn unlink(&mut self) -> Step {
        let Some((path, _)) = self.some_file() else { return Ok(()) };
        let (folder, last) = self.resolve(&path)?;
        let begun = now();
        let gone = self.session.client.unlink(Caller::default(), folder, &last).await;
        self.session.done(&format!("unlink {path}"), begun, &gone)?;
        self.renamed("unlink", begun, Change::Remove(path), gone).await.map(|_| ())
    }

    pub(super) async fn make_folder(&mut self) -> Step {
        let path = format!("d{}", self.rng.random_range(0..FOLDERS));
        if self.tree.names().contains_key(&path) {
            return Ok(());
        }
        let begun = now();
        let made = self.session.mkdir(self.folder, &name(&path)?).await;
        self.session.done(&format!("mkdir {path}"), begun, &made)?;
        let change = Change::Make(path, FileKind::Directory, made.as_ref().ok().copied());
        self.renamed("mkdir", begun, change, made).await.map(|_| ())
    }

    pub(super) async fn remove_folder(&mut self) -> Step {
        let path = format!("d{}", self.rng.random_range(0..FOLDERS));
        let names = self.tree.names();
        let used = names.keys().any(|name| name.starts_with(&format!("{path}/")));
        if used || !names.contains_key(&path) {
            return Ok(());
        }
        let begun = now();
        let last = name(&path)?;
        let gone = self.session.client.rmdir(Caller::default(), self.folder, &last).await;
        self.session.done(&format!("rmdir {path}"), begun, &gone)?;
        self.renamed("rmdir", begun, Change::Remove(path), gone).await.map(|_| ())
    }

    /// Takes in what became of a change of names; gives back what it brought if it was made for
    /// sure.
    async fn renamed<T>(
        &mut self,
        what: &str,
        begun: Duration,
        change: Change,
        result: Result<T, ClientError>,
    ) -> Step<Option<T>> {
        if self.session.faults.mds_power_loss_after(self.checked).is_some() {
            // What it was made upon may be lost, and so may it be.
            self.after_power_loss(Some(&change)).await?;
            return Ok(None);
        }
        match result {
            Ok(brought) => {
                self.tree.done(now(), &change);
                Ok(Some(brought))
            }
            Err(error) => {
                self.session.excuse(what, begun, &error)?;
                self.check_names(Some(&change), false).await?;
                Ok(None)
            }
        }
    }

    pub(super) async fn sync_names(&mut self) -> Step {
        let begun = now();
        let synced = self.session.client.fsyncdir(self.folder).await;
        self.session.done("fsyncdir", begun, &synced)?;
        if self.session.faults.mds_power_loss_after(self.checked).is_some() {
            return self.after_power_loss(None).await;
        }
        match synced {
            Ok(()) => self.tree.synced(),
            Err(error) => self.session.excuse("fsyncdir", begun, &error)?,
        }
        Ok(())
    }

    /// If the metadata server has lost power: which of the last changes are there still?
    pub(super) async fn after_power_loss(&mut self, under_way: Option<&Change>) -> Step {
        while self.session.faults.mds_power_loss_after(self.checked).is_some() {
            self.check_names(under_way, true).await?;
        }
        Ok(())
    }

    /// Compares all names with the model.
    pub(super) async fn check_names(&mut self, under_way: Option<&Change>, lossy: bool) -> Step {
        let (begun, checked) = (now(), self.checked);
        let seen = self.all_names().await;
        self.session.done("list", begun, &seen)?;
        let seen = match seen {
            Ok(seen) => seen,
            Err(error) if lossy => {
                // A folder may have been lost while it was looked at.
                let stale = self.session.faults.mds_power_loss_after(begun).is_some();
                return if stale { Ok(()) } else { self.session.excuse("list", begun, &error) };
            }
            Err(error) => return self.session.excuse("list", begun, &error),
        };
        let loss = self.session.faults.mds_power_loss_after(checked);
        if loss.is_some() && !lossy {
            return Box::pin(self.after_power_loss(under_way)).await;
        }
        if self.session.faults.mds_power_loss_after(begun).is_some() {
            return Ok(());
        }
        let compared = self.tree.check(now(), &seen, loss, under_way);
        compared.map_err(|why| Broken(format!("names: {why}")))?;
        self.checked = now();
        for (kind, fid) in seen.values() {
            if *kind == FileKind::Regular {
                self.files.entry(*fid).or_default();
            }
        }
        Ok(())
    }

    async fn all_names(&self) -> Result<Seen, ClientError> {
        let mut seen = Seen::new();
        for entry in self.session.list(self.folder).await? {
            let path = String::from_utf8_lossy(entry.name.as_bytes()).into_owned();
            if entry.kind == FileKind::Directory {
                for inner in self.session.list(entry.fid).await? {
                    let last = String::from_utf8_lossy(inner.name.as_bytes()).into_owned();
                    seen.insert(format!("{path}/{last}"), (inner.kind, inner.fid));
                }
            }
            seen.insert(path, (entry.kind, entry.fid));
        }
        Ok(seen)
    }
}
