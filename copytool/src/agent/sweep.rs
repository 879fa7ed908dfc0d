//! A sweep: a bucket is listed, and what differs from what the MDS knows is looked at closely.
//!
//! ```text
//! list ─► page ─► what is wanted, and what is missing ─► HEAD each ─► import
//!   └─ the next page, meanwhile ─► …
//! ```
//!
//! The listing alone decides nothing: what it does not have, though the MDS knows of it, is asked
//! for by its key before it is called gone.

use std::sync::Arc;

use futures_util::future::try_join_all;
use nacre_client::ClientError;
use nacre_model::{Errno, ServiceError};
use nacre_node::register::Chain;
use nacre_proto::v1;
use nacre_proto::v1::ImportResult;
use parking_lot::Mutex;

use super::Agent;
use super::buckets::BucketError;
use super::found::{Found, Refusal, find};
use crate::bucket::{Bucket, LIST_KEYS_MAX, Listing, PROBE_NAME};
use crate::error::S3Error;
use crate::object::{Listed, Page};
use crate::report::ReportCode;

/// Keys that are looked at at a time.
const LOOKS_MAX: usize = 64;
/// Objects that are imported with one request.
const IMPORT_MAX: usize = 500;
/// Missing keys in an answer about a page. Of an answer with so many, the rest of the page is
/// asked about anew.
const MISSING_MAX: usize = 1000;

/// A sweep of a repository.
pub(super) struct Sweep {
    pub(super) agent: Arc<Agent>,
    pub(super) repository: v1::Repository,
    pub(super) number: u64,
    /// The key that an earlier copytool has come to; empty: the beginning.
    pub(super) after: String,
}

/// Why a sweep breaks off.
#[derive(Debug, thiserror::Error)]
enum SweepError {
    /// The MDS did not do its part, or wants no more of it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// S3 did not do its part.
    #[error(transparent)]
    S3(#[from] S3Error),
    /// The bucket cannot be used.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// What is missing cannot be told.
    #[error("the bucket is not listed in the order of its keys")]
    Unordered,
}

/// A page of the listing, as the MDS is told.
#[derive(Debug, PartialEq, Eq)]
struct Leaf {
    after: String,
    /// Its last key; empty: there is no further page.
    last: String,
    /// Ascending by key.
    objects: Vec<Listed>,
    /// How the listing goes on.
    next: Option<String>,
}

impl Sweep {
    pub(super) async fn run(self) {
        let refused = Mutex::new(0_u64);
        let error = match self.sweep(&refused).await {
            Ok(()) => String::new(),
            Err(error) if error.is_over() => {
                tracing::debug!(sweep = self.number, %error, "not wanted any more");
                return;
            }
            Err(error) => {
                let chain = Chain(&error).to_string();
                tracing::info!(sweep = self.number, error = chain, "the sweep breaks off");
                chain
            }
        };
        let refused = *refused.lock();
        let end = v1::SweepEndRequest { session: 0, sweep: self.number, refused, error };
        if let Err(error) = self.agent.client.sweep_end(end).await {
            tracing::debug!(sweep = self.number, %error, "what became of it is not wanted any more");
        }
    }

    async fn sweep(&self, refused: &Mutex<u64>) -> Result<(), SweepError> {
        // Without the prefix: nothing is written, so nothing need be tried.
        let mover = self.agent.buckets.mover(&self.repository.bucket, None).await?;
        let (bucket, prefix) = (mover.bucket(), self.repository.prefix.as_str());
        let (listing, from) = (Listing::Below(prefix), self.after.as_str());
        let first = bucket.list_after(listing, from, LIST_KEYS_MAX).await?;
        let mut leaf = full(bucket, prefix, from, from, first).await?;
        loop {
            let (last, next) = (leaf.last.clone(), leaf.next.take());
            let listed = async {
                let Some(next) = next else { return Ok::<_, SweepError>(None) };
                let page = bucket.list(listing, Some(&next), LIST_KEYS_MAX).await?;
                Ok(Some(full(bucket, prefix, from, &last, page).await?))
            };
            // Whatever the one comes to, the other ends: a page is done whole if it can be.
            let (worked, listed) = tokio::join!(self.work_on(bucket, leaf, refused), listed);
            worked?;
            match listed? {
                Some(next) => leaf = next,
                None => return Ok(()),
            }
        }
    }

    /// Tells the MDS of a page, and finds out what it wants to know.
    async fn work_on(
        &self,
        bucket: &Bucket,
        mut leaf: Leaf,
        refused: &Mutex<u64>,
    ) -> Result<(), SweepError> {
        loop {
            let answer = self.agent.client.sweep_page(leaf.request(self.number)).await?;
            let rest = rest(&answer.missing);
            let objects = self.look(bucket, keys(&leaf, &answer), refused).await?;
            for batch in objects.chunks(IMPORT_MAX) {
                self.import(answer.time, batch, refused).await?;
            }
            // Of an answer about other keys than those asked for no rest is asked.
            let Some(after) = rest.filter(|after| *after > leaf.after) else { return Ok(()) };
            leaf.objects.retain(|object| object.key > after);
            leaf.after = after;
        }
    }

    /// Looks at what has these keys.
    async fn look(
        &self,
        bucket: &Bucket,
        keys: Vec<String>,
        refused: &Mutex<u64>,
    ) -> Result<Vec<v1::ImportedObject>, SweepError> {
        let prefix = self.repository.prefix.as_str();
        let lanes = LOOKS_MAX.min(keys.len());
        let keys = Mutex::new(keys.into_iter());
        let next = || keys.lock().next();
        let lanes = (0..lanes).map(async |_| {
            let mut objects = Vec::new();
            while let Some(key) = next() {
                match find(bucket, prefix, &key).await? {
                    Found::Object(object) => objects.push(object),
                    Found::Refused(refusal) => self.refuse(&key, &refusal, refused),
                    Found::Unsettled => {}
                }
            }
            Ok::<_, SweepError>(objects)
        });
        Ok(try_join_all(lanes).await?.into_iter().flatten().collect())
    }

    async fn import(
        &self,
        time: u64,
        batch: &[v1::ImportedObject],
        refused: &Mutex<u64>,
    ) -> Result<(), SweepError> {
        let (sweep, objects) = (self.number, batch.to_vec());
        let request = v1::ImportRequest { session: 0, sweep, time, objects };
        let response = self.agent.client.import(request).await?;
        let bucket = &self.repository.bucket;
        for (object, result) in batch.iter().zip(response.results()) {
            let key = &object.key;
            match result {
                ImportResult::Unspecified
                | ImportResult::Unchanged
                | ImportResult::Done
                | ImportResult::Overwritten
                | ImportResult::Later => {}
                ImportResult::Conflict => {
                    tracing::warn!(bucket, key, "conflict: changed on both sides, the file wins");
                }
                ImportResult::TypeMismatch => {
                    let code = ReportCode::S3ObjectTypeMismatch;
                    tracing::info!(bucket, key, %code, "not imported");
                    count(refused);
                }
            }
        }
        Ok(())
    }

    fn refuse(&self, key: &str, refusal: &Refusal, refused: &Mutex<u64>) {
        let (bucket, code) = (&self.repository.bucket, refusal.code());
        tracing::info!(bucket, key, %code, error = %Chain(refusal), "not imported");
        count(refused);
    }
}

fn count(refused: &Mutex<u64>) {
    let mut refused = refused.lock();
    *refused = refused.saturating_add(1);
}

/// Goes on listing until there is something on the page, or nothing more in the bucket.
///
/// `after` is where the page before ended. Keys up to `from` were swept before: a server that does
/// not know how to begin behind a key lists them again.
async fn full(
    bucket: &Bucket,
    prefix: &str,
    from: &str,
    after: &str,
    mut page: Page,
) -> Result<Leaf, SweepError> {
    loop {
        page.objects.retain(|object| object.key.as_str() > from);
        if !page.objects.is_empty() {
            break;
        }
        let Some(next) = page.next.take() else { break };
        page = bucket.list(Listing::Below(prefix), Some(&next), LIST_KEYS_MAX).await?;
    }
    Leaf::new(prefix, after, page)
}

impl Leaf {
    /// Without what is nobody's file: the repository's own folder, and what probes leave for a
    /// moment.
    fn new(prefix: &str, after: &str, page: Page) -> Result<Self, SweepError> {
        let mut objects = page.objects;
        let ordered = objects.is_sorted_by(|one, other| one.key < other.key);
        if !ordered || objects.first().is_some_and(|first| first.key.as_str() <= after) {
            return Err(SweepError::Unordered);
        }
        let last = objects.last().filter(|_| page.next.is_some());
        let last = last.map(|last| last.key.clone()).unwrap_or_default();
        objects.retain(|object| {
            let name = object.key.strip_prefix(prefix).unwrap_or(&object.key);
            !name.is_empty() && !name.starts_with(PROBE_NAME)
        });
        Ok(Self { after: after.to_owned(), last, objects, next: page.next })
    }

    fn request(&self, sweep: u64) -> v1::SweepPageRequest {
        let listed = self.objects.iter().map(|object| v1::ListedObject {
            key: object.key.clone(),
            etag: object.etag.as_ref().map(|etag| etag.as_str().to_owned()).unwrap_or_default(),
            size: object.size,
        });
        v1::SweepPageRequest {
            session: 0,
            sweep,
            after: self.after.clone(),
            last: self.last.clone(),
            listed: listed.collect(),
        }
    }
}

/// What is to be looked at, each key once.
fn keys(leaf: &Leaf, answer: &v1::SweepPageResponse) -> Vec<String> {
    let wanted = answer.wanted.iter().filter_map(|index| {
        let object = leaf.objects.get(usize::try_from(*index).ok()?)?;
        Some(object.key.clone())
    });
    let mut keys: Vec<_> = wanted.chain(answer.missing.iter().cloned()).collect();
    // Also brings directories before what is in them.
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Up to which key an answer goes that has as many missing keys as it can have.
fn rest(missing: &[String]) -> Option<String> {
    missing.iter().max().filter(|_| missing.len() >= MISSING_MAX).cloned()
}

impl SweepError {
    /// The MDS wants no more of it.
    fn is_over(&self) -> bool {
        matches!(self, Self::Client(error)
            if matches!(error.errno(), Errno::ECANCELED | Errno::ENOENT | Errno::ESTALE))
    }
}

#[cfg(test)]
mod tests {
    use nacre_node::Scope;

    use super::*;
    use crate::object::{ETag, ObjectMeta, Precondition, Tier};
    use crate::testing;

    const PREFIX: &str = "p/";

    fn page(keys: &[&str], next: Option<&str>) -> Page {
        let objects = keys.iter().map(|key| Listed {
            key: (*key).to_owned(),
            size: 7,
            etag: Some(ETag::new("\"e\"")),
            last_modified: None,
            tier: Tier::Online,
        });
        let next = next.map(str::to_owned);
        Page { objects: objects.collect(), common_prefixes: Vec::new(), next }
    }

    fn leaf(after: &str, page: Page) -> Result<v1::SweepPageRequest, SweepError> {
        Ok(Leaf::new(PREFIX, after, page)?.request(3))
    }

    fn listed(request: &v1::SweepPageRequest) -> Vec<&str> {
        request.listed.iter().map(|object| object.key.as_str()).collect()
    }

    #[test]
    fn the_last_page_goes_to_the_end_and_others_to_their_last_key() {
        let probe = "p/.nacre-probe-1";
        let request = leaf("", page(&["p/", probe, "p/a", "p/b"], Some("on"))).unwrap();
        assert_eq!((request.after.as_str(), request.last.as_str()), ("", "p/b"));
        assert_eq!(listed(&request), ["p/a", "p/b"]);
        let object = request.listed.first().unwrap();
        assert_eq!((object.etag.as_str(), object.size), ("e", 7));
        let request = leaf("p/b", page(&["p/c"], None)).unwrap();
        assert_eq!((request.after.as_str(), request.last.as_str()), ("p/b", ""));
        // The page's end counts, whether or not its last object does.
        let request = leaf("", page(&["p/", probe], Some("on"))).unwrap();
        assert_eq!((request.last.as_str(), request.listed.len()), (probe, 0));
    }

    #[test]
    fn a_listing_in_another_order_is_not_believed() {
        for (after, keys) in [("", ["p/b", "p/a"]), ("", ["p/a", "p/a"]), ("p/a", ["p/a", "p/b"])] {
            let result = leaf(after, page(&keys, None));
            assert!(matches!(result, Err(SweepError::Unordered)), "{after} {keys:?}");
        }
    }

    #[test]
    fn what_is_wanted_and_what_is_missing_is_looked_at_once_and_in_order() {
        let leaf = Leaf::new(PREFIX, "", page(&["p/a", "p/b", "p/d"], None)).unwrap();
        let answer = v1::SweepPageResponse {
            wanted: vec![2, 0, 17],
            missing: vec!["p/d".into(), "p/c".into()],
            time: 1,
        };
        assert_eq!(keys(&leaf, &answer), ["p/a", "p/c", "p/d"]);
    }

    #[test]
    fn only_an_answer_that_is_full_is_asked_for_its_rest() {
        let mut missing: Vec<_> = (0..MISSING_MAX).map(|index| format!("p/{index:04}")).collect();
        assert_eq!(rest(&missing).as_deref(), Some("p/0999"));
        missing.pop();
        assert_eq!(rest(&missing), None);
    }

    #[tokio::test]
    async fn pages_that_bring_nothing_new_are_passed_over() {
        let (scope, dir) = (Scope::new(), tempfile::tempdir().unwrap());
        let bucket = testing::bucket(&scope, dir.path()).await;
        let meta = ObjectMeta::default();
        for key in ["p/a", "p/b"] {
            bucket.put(key, "".into(), &meta, &Precondition::Always).await.unwrap();
        }
        let first = bucket.list(Listing::Below(PREFIX), None, 1).await.unwrap();
        let empty = Page { next: first.next, ..Page::default() };
        let leaf = full(&bucket, PREFIX, "", "p/a", empty).await.unwrap();
        assert_eq!(listed(&leaf.request(1)), ["p/b"]);
        assert_eq!((leaf.last.as_str(), leaf.next), ("", None));
        // Of a server that begins with the first key, whatever it is asked.
        let first = bucket.list(Listing::Below(PREFIX), None, 1).await.unwrap();
        let leaf = full(&bucket, PREFIX, "p/a", "p/a", first).await.unwrap();
        assert_eq!(listed(&leaf.request(1)), ["p/b"]);
        scope.join().await;
    }
}
