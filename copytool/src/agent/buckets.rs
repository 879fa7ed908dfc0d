//! The buckets that actions have named so far, each probed once.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nacre_node::OsDisk;
use nacre_node::tasks::Blocking;
use tokio::sync::Mutex;

use super::AgentConfig;
use crate::bucket::Bucket;
use crate::budget::MemoryBudget;
use crate::intents::{FileIntents, Intents, abort_orphans};
use crate::location::{BucketUrl, Endpoint, UrlError};
use crate::mover::Mover;
use crate::retry::Patience;

/// Movers by the bucket's name.
pub(super) struct Buckets {
    endpoint: Endpoint,
    patience: Patience,
    state: PathBuf,
    budget: MemoryBudget,
    pieces: usize,
    known: Mutex<BTreeMap<String, Known>>,
}

struct Known {
    mover: Mover,
    intents: Arc<FileIntents>,
    /// What the endpoint can do has been tried, or that it may not be tried.
    probed: bool,
}

/// A bucket cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum BucketError {
    /// It is none.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// What is under way there cannot be written down.
    #[error("upload intents")]
    Intents(#[from] io::Error),
}

impl Buckets {
    pub(super) fn new(config: &AgentConfig, budget: MemoryBudget) -> Self {
        Self {
            endpoint: config.endpoint.clone(),
            patience: config.patience.clone(),
            state: config.state.clone(),
            budget,
            pieces: config.pieces,
            known: Mutex::default(),
        }
    }

    /// The mover of a bucket. Uploads that an earlier life left behind there are aborted first.
    /// With the prefix of a repository, where this copytool may write, the endpoint is probed once.
    pub(super) async fn mover(
        &self,
        bucket: &str,
        prefix: Option<&str>,
    ) -> Result<Mover, BucketError> {
        let mut known = self.known.lock().await;
        if let Some(found) = known.get(bucket).filter(|found| found.probed || prefix.is_none()) {
            return Ok(found.mover.clone());
        }
        let url: BucketUrl = format!("s3://{bucket}/{}", prefix.unwrap_or("")).parse()?;
        let mut used = Bucket::new(&self.endpoint, url, self.patience.clone());
        if let Some(prefix) = prefix {
            match used.clone().probe().await {
                Ok(probed) => used = probed,
                // Without what it finds out everything works, only more carefully.
                Err(error) => {
                    tracing::warn!(%error, bucket, prefix, "not everything is allowed there");
                }
            }
        }
        let intents = match known.remove(bucket) {
            Some(before) => before.intents,
            None => self.take_up(&used, bucket).await?,
        };
        let pending: Arc<dyn Intents> = Arc::clone(&intents) as Arc<dyn Intents>;
        let mover = Mover::new(used, self.budget.clone(), pending, self.pieces);
        let probed = prefix.is_some();
        known.insert(bucket.to_owned(), Known { mover: mover.clone(), intents, probed });
        Ok(mover)
    }

    /// Reads what was under way when the last life ended, and aborts it.
    async fn take_up(&self, used: &Bucket, bucket: &str) -> io::Result<Arc<FileIntents>> {
        std::fs::create_dir_all(&self.state)?;
        let disk = Arc::new(OsDisk::new(&self.state));
        // The name of a bucket is also that of a file.
        let name = format!("{bucket}.intents");
        let intents = FileIntents::open(disk, Path::new(&name), Blocking::threads(1))?;
        match abort_orphans(used, &intents).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, bucket, "aborted uploads of an earlier life"),
            Err(error) => tracing::warn!(%error, bucket, "uploads of an earlier life remain"),
        }
        Ok(Arc::new(intents))
    }
}
