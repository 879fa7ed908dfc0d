//! Which uploads are under way, so that none stays behind unseen and paid for after a crash.
//!
//! The file has one line of JSON for each change:
//!
//! | Line | Durable | Means |
//! |---|---|---|
//! | `{"begun":{"key":…,"upload_id":…}}` | before the first part is sent | to be aborted |
//! | `{"ended":{"upload_id":…}}` | some time | completed or aborted |
//!
//! A line that cannot be read was torn by a loss of power, before anybody was told that it is
//! durable, and counts for nothing. An end that is lost costs one abort of an upload that is not
//! there. Between an upload's beginning and its line lies
//! the answer of S3; what dies there shows only in [`Bucket::list_uploads`], where that works.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use nacre_node::disk::{Disk, DiskFile};
use nacre_node::tasks::Blocking;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::bucket::Bucket;
use crate::error::S3Error;
use crate::object::PendingUpload;

/// Ended uploads that the file may hold before it is rewritten.
const ENDED_MAX: usize = 1024;

/// Remembers uploads from their beginning to their end.
#[async_trait]
pub trait Intents: Send + Sync + 'static {
    /// An upload was begun. It is remembered, whatever happens, once this returns.
    async fn begun(&self, upload: &PendingUpload) -> io::Result<()>;
    /// An upload was completed or aborted.
    async fn ended(&self, upload: &PendingUpload) -> io::Result<()>;
    /// Uploads that were begun and not ended.
    fn pending(&self) -> Vec<PendingUpload>;
}

/// Aborts what was under way when the process died. To be called before there are new uploads;
/// how many there were is the result.
pub async fn abort_orphans(bucket: &Bucket, intents: &dyn Intents) -> Result<usize, OrphanError> {
    let pending = intents.pending();
    for upload in &pending {
        bucket.abort_upload(upload).await?;
        intents.ended(upload).await?;
    }
    Ok(pending.len())
}

/// Why an upload stays behind; the next start tries again.
#[derive(Debug, thiserror::Error)]
pub enum OrphanError {
    /// S3 does not abort it.
    #[error(transparent)]
    S3(#[from] S3Error),
    /// That it was aborted cannot be written down.
    #[error("upload intents")]
    File(#[from] io::Error),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Begun { key: String, upload_id: String },
    Ended { upload_id: String },
}

struct Log {
    file: Arc<dyn DiskFile>,
    bytes: u64,
    /// By upload id.
    pending: BTreeMap<String, String>,
    ended: usize,
}

/// Intents in a file, one for each repository.
#[derive(Clone)]
pub struct FileIntents {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    log: Arc<Mutex<Log>>,
    blocking: Blocking,
}

impl FileIntents {
    /// Reads the file, which need not exist, and rewrites it. Blocks.
    pub fn open(disk: Arc<dyn Disk>, path: &Path, blocking: Blocking) -> io::Result<Self> {
        let text = if disk.exists(path)? { read(&*disk.open(path)?)? } else { Vec::new() };
        let log = Arc::new(Mutex::new(rewrite(&*disk, path, replay(&text))?));
        Ok(Self { disk, path: path.to_owned(), log, blocking })
    }

    async fn change(
        &self,
        change: impl FnOnce(&mut Log) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let this = self.clone();
        let change = move || {
            let mut log = this.log.lock();
            change(&mut log)?;
            if log.ended > ENDED_MAX {
                *log = rewrite(&*this.disk, &this.path, log.pending.clone())?;
            }
            Ok(())
        };
        self.blocking.run(change).await
    }
}

#[async_trait]
impl Intents for FileIntents {
    async fn begun(&self, upload: &PendingUpload) -> io::Result<()> {
        let PendingUpload { key, upload_id } = upload.clone();
        self.change(move |log| {
            log.append(&Line::Begun { key: key.clone(), upload_id: upload_id.clone() })?;
            log.file.sync_data()?;
            log.pending.insert(upload_id, key);
            Ok(())
        })
        .await
    }

    async fn ended(&self, upload: &PendingUpload) -> io::Result<()> {
        let upload_id = upload.upload_id.clone();
        self.change(move |log| {
            log.append(&Line::Ended { upload_id: upload_id.clone() })?;
            log.pending.remove(&upload_id);
            log.ended = log.ended.saturating_add(1);
            Ok(())
        })
        .await
    }

    fn pending(&self) -> Vec<PendingUpload> {
        let log = self.log.lock();
        let uploads = log.pending.iter();
        let upload = |(id, key): (&String, &String)| PendingUpload {
            key: key.clone(),
            upload_id: id.clone(),
        };
        uploads.map(upload).collect()
    }
}

impl Log {
    fn append(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.file.write_at(&text, self.bytes)?;
        let more = u64::try_from(text.len()).map_err(io::Error::other)?;
        self.bytes = self.bytes.saturating_add(more);
        Ok(())
    }
}

fn read(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let mut text = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
    let got = file.read_at(&mut text, 0)?;
    text.truncate(got);
    Ok(text)
}

fn replay(text: &[u8]) -> BTreeMap<String, String> {
    let mut pending = BTreeMap::new();
    for line in text.split(|byte| *byte == b'\n') {
        match serde_json::from_slice(line) {
            Ok(Line::Begun { key, upload_id }) => pending.insert(upload_id, key),
            Ok(Line::Ended { upload_id }) => pending.remove(&upload_id),
            Err(_) => None,
        };
    }
    pending
}

/// Replaces the file by one that has only what is pending.
fn rewrite(disk: &dyn Disk, path: &Path, pending: BTreeMap<String, String>) -> io::Result<Log> {
    let new = path.with_extension("new");
    let file = disk.create(&new)?;
    file.set_len(0)?;
    let mut log = Log { file, bytes: 0, pending, ended: 0 };
    for (upload_id, key) in log.pending.clone() {
        log.append(&Line::Begun { key, upload_id })?;
    }
    log.file.sync_data()?;
    disk.rename(&new, path)?;
    disk.sync_dir(path.parent().unwrap_or(Path::new("")))?;
    Ok(log)
}

#[cfg(test)]
mod tests {
    use nacre_node::disk::mem::{Crash, MemDisk};

    use super::*;

    fn upload(name: &str) -> PendingUpload {
        PendingUpload { key: format!("p/{name}"), upload_id: name.to_owned() }
    }

    fn open(disk: &Arc<MemDisk>) -> FileIntents {
        let disk = Arc::clone(disk) as Arc<dyn Disk>;
        FileIntents::open(disk, Path::new("intents"), Blocking::Inline).unwrap()
    }

    fn disk() -> Arc<MemDisk> {
        Arc::new(MemDisk::new(64 << 20))
    }

    #[tokio::test]
    async fn what_was_begun_and_not_ended_is_known_after_a_restart() {
        let disk = disk();
        let intents = open(&disk);
        for name in ["a", "b", "c"] {
            intents.begun(&upload(name)).await.unwrap();
        }
        intents.ended(&upload("b")).await.unwrap();
        let expected = [upload("a"), upload("c")];
        assert_eq!(intents.pending(), expected);
        assert_eq!(open(&disk).pending(), expected);
    }

    #[tokio::test]
    async fn no_loss_of_power_forgets_an_upload_that_was_begun() {
        for crash in Crash::POWER {
            for seed in 0..50 {
                let disk = disk();
                let intents = open(&disk);
                for name in ["a", "b", "c"] {
                    intents.begun(&upload(name)).await.unwrap();
                }
                for name in ["a", "b"] {
                    intents.ended(&upload(name)).await.unwrap();
                }
                disk.crash(crash, seed);
                let again = open(&disk);
                assert!(again.pending().contains(&upload("c")), "{crash:?} {seed}");
                again.begun(&upload("d")).await.unwrap();
                let pending = open(&disk).pending();
                assert!(pending.contains(&upload("d")), "{crash:?} {seed}");
            }
        }
    }

    #[tokio::test]
    async fn the_file_does_not_grow_with_what_has_ended() {
        let disk = disk();
        let intents = open(&disk);
        intents.begun(&upload("stays")).await.unwrap();
        for number in 0..5 * ENDED_MAX {
            let name = number.to_string();
            intents.begun(&upload(&name)).await.unwrap();
            intents.ended(&upload(&name)).await.unwrap();
        }
        let bytes = disk.open(Path::new("intents")).unwrap().len().unwrap();
        assert!(bytes < 256 << 10, "{bytes}");
        assert_eq!(open(&disk).pending(), [upload("stays")]);
    }
}
