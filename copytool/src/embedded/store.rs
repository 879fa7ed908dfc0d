//! What the server keeps: objects, and uploads that may become some.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use md5::{Digest, Md5};
use nacre_node::tasks::Blocking;
use nacre_node::{Clock, Scope, SystemClock};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use uuid::Uuid;

use super::blobs::{Blob, Blobs, Writer, Written, read};
use super::catalogue::{Attributes, Catalogue, Object};
use crate::object::{ETag, Precondition};

/// Bytes that are read ahead of a slow client are at most twice so many.
const STREAM_BYTES: u64 = 1 << 20;
/// How many calls of the file system may be under way.
const BLOCKING_CALLS: usize = 16;

/// An upload before its completion.
#[derive(Debug, Default)]
pub(super) struct Upload {
    pub(super) key: String,
    attributes: Attributes,
    parts: BTreeMap<i32, Written>,
}

#[derive(Debug)]
struct State {
    catalogue: Catalogue,
    uploads: BTreeMap<String, Upload>,
}

/// Why a write did not happen.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// The condition does not hold.
    #[error("the condition does not hold")]
    Condition,
    /// There is no such upload, or it has another key.
    #[error("no such upload")]
    NoUpload,
    /// A part is missing, or is not the one that the client means.
    #[error("no such part")]
    NoPart,
    /// The folder cannot be used.
    #[error("the store's folder")]
    Io(#[from] io::Error),
}

#[derive(Clone)]
pub(super) struct Store {
    blobs: Blobs,
    state: Arc<Mutex<State>>,
    blocking: Blocking,
    scope: Scope,
}

impl Store {
    pub(super) fn open(dir: &Path, scope: Scope) -> io::Result<Self> {
        let catalogue = Catalogue::open(dir)?;
        let blobs = catalogue.objects().values().flat_map(|object| &object.blobs);
        let kept: std::collections::BTreeSet<_> = blobs.map(|blob| blob.name.clone()).collect();
        let blobs = Blobs::open(dir.join("blobs"), |name| kept.contains(name))?;
        let state = Arc::new(Mutex::new(State { catalogue, uploads: BTreeMap::new() }));
        Ok(Self { blobs, state, blocking: Blocking::threads(BLOCKING_CALLS), scope })
    }

    /// A new blob to write into.
    pub(super) async fn writer(&self) -> io::Result<Writer> {
        let blobs = self.blobs.clone();
        self.blocking.run(move || blobs.create()).await
    }

    /// Writes on.
    pub(super) async fn write(&self, mut writer: Writer, bytes: Bytes) -> io::Result<Writer> {
        let write = move || writer.write(&bytes).map(|()| writer);
        self.blocking.run(write).await
    }

    /// Forgets what was written and is not wanted.
    pub(super) fn discard(&self, written: Written) {
        self.blobs.remove(&[written.blob]);
    }

    pub(super) fn find(&self, key: &str) -> Option<Object> {
        self.state.lock().catalogue.objects().get(key).cloned()
    }

    /// Lets `look` see all objects by key.
    pub(super) fn look<T>(&self, look: impl FnOnce(&BTreeMap<String, Object>) -> T) -> T {
        look(self.state.lock().catalogue.objects())
    }

    /// Makes a written blob an object.
    pub(super) async fn put(
        &self,
        key: String,
        written: Written,
        attributes: Attributes,
        when: Precondition,
    ) -> Result<Object, Refused> {
        let crc32c = BASE64_STANDARD.encode(written.crc32c.to_be_bytes());
        let object = attributes.object(vec![written.blob], hex(&written.md5), Some(crc32c));
        self.change(move |state, blobs| {
            let new = object.blobs.clone();
            replace(state, blobs, &key, object, &when).inspect_err(|_| blobs.remove(&new))
        })
        .await
    }

    /// Gives an object other attributes.
    pub(super) async fn replace_attributes(
        &self,
        key: String,
        attributes: Attributes,
        when: Precondition,
    ) -> Result<Object, Refused> {
        self.change(move |state, _| {
            let old = state.catalogue.objects().get(&key).cloned();
            let mut object = old.filter(|old| holds(&when, Some(old))).ok_or(Refused::Condition)?;
            object.content_type = attributes.content_type;
            object.user = attributes.user;
            object.set_modified(SystemClock.now());
            state.catalogue.change(&key, Some(object.clone()))?;
            Ok(object)
        })
        .await
    }

    pub(super) async fn delete(&self, key: String) -> Result<(), Refused> {
        self.change(move |state, blobs| {
            if state.catalogue.objects().contains_key(&key) {
                let old = state.catalogue.change(&key, None)?;
                blobs.remove(&old.map(|old| old.blobs).unwrap_or_default());
            }
            Ok(())
        })
        .await
    }

    pub(super) fn begin(&self, key: String, attributes: Attributes) -> String {
        let id = Uuid::new_v4().simple().to_string();
        let upload = Upload { key, attributes, parts: BTreeMap::new() };
        self.state.lock().uploads.insert(id.clone(), upload);
        id
    }

    /// (key, id) of every upload under way.
    pub(super) fn uploads(&self) -> Vec<(String, String)> {
        let state = self.state.lock();
        state.uploads.iter().map(|(id, upload)| (upload.key.clone(), id.clone())).collect()
    }

    /// Makes a written blob a part; its `ETag` is the result.
    pub(super) async fn put_part(
        &self,
        id: String,
        number: i32,
        written: Written,
    ) -> Result<String, Refused> {
        self.change(move |state, blobs| {
            let Some(upload) = state.uploads.get_mut(&id) else {
                blobs.remove(&[written.blob]);
                return Err(Refused::NoUpload);
            };
            let etag = hex(&written.md5);
            if let Some(old) = upload.parts.insert(number, written) {
                blobs.remove(&[old.blob]);
            }
            Ok(etag)
        })
        .await
    }

    /// Makes an upload's parts, named by number and `ETag`, an object.
    pub(super) async fn complete(
        &self,
        id: String,
        named: Vec<(i32, String)>,
        when: Precondition,
    ) -> Result<Object, Refused> {
        self.change(move |state, blobs| {
            let upload = state.uploads.get(&id).ok_or(Refused::NoUpload)?;
            let key = upload.key.clone();
            let object = assemble(upload, &named)?;
            let object = replace(state, blobs, &key, object, &when)?;
            let parts = state.uploads.remove(&id).map(|upload| upload.parts).unwrap_or_default();
            let unnamed = parts.into_values().map(|part| part.blob);
            let unnamed: Vec<_> = unnamed.filter(|blob| !object.blobs.contains(blob)).collect();
            blobs.remove(&unnamed);
            Ok(object)
        })
        .await
    }

    pub(super) async fn abort(&self, id: String) -> Result<(), Refused> {
        self.change(move |state, blobs| {
            let upload = state.uploads.remove(&id).ok_or(Refused::NoUpload)?;
            let parts: Vec<_> = upload.parts.into_values().map(|part| part.blob).collect();
            blobs.remove(&parts);
            Ok(())
        })
        .await
    }

    /// The bytes of a range of an object that exists now, whatever becomes of it meanwhile.
    pub(super) async fn stream(
        &self,
        object: &Object,
        range: Range<u64>,
    ) -> io::Result<ReceiverStream<io::Result<Bytes>>> {
        let (blobs, of) = (self.blobs.clone(), object.blobs.clone());
        let opened = self.blocking.run(move || blobs.open_range(&of, &range)).await?;
        let (sender, receiver) = mpsc::channel(1);
        let blocking = self.blocking.clone();
        self.scope.spawn("embedded S3 body", async move {
            for (mut file, range) in opened {
                for start in range.clone().step_by(usize::try_from(STREAM_BYTES).unwrap_or(1)) {
                    let piece = start..start.saturating_add(STREAM_BYTES).min(range.end);
                    let result = blocking.run(move || (read(&mut file, &piece), file)).await;
                    file = result.1;
                    // The client has gone.
                    if sender.send(result.0).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(ReceiverStream::new(receiver))
    }

    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut State, &Blobs) -> Result<T, Refused> + Send + 'static,
    ) -> Result<T, Refused> {
        let (state, blobs) = (Arc::clone(&self.state), self.blobs.clone());
        self.blocking.run(move || change(&mut state.lock(), &blobs)).await
    }
}

/// Puts an object in the place of what has its key.
fn replace(
    state: &mut State,
    blobs: &Blobs,
    key: &str,
    mut object: Object,
    when: &Precondition,
) -> Result<Object, Refused> {
    if !holds(when, state.catalogue.objects().get(key)) {
        return Err(Refused::Condition);
    }
    object.set_modified(SystemClock.now());
    let old = state.catalogue.change(key, Some(object.clone()))?;
    blobs.remove(&old.map(|old| old.blobs).unwrap_or_default());
    Ok(object)
}

/// Whether a condition holds of what has the key.
pub(super) fn holds(when: &Precondition, object: Option<&Object>) -> bool {
    match when {
        Precondition::Always => true,
        Precondition::Absent => object.is_none(),
        Precondition::Match(etag) => object.is_some_and(|object| ETag::new(&object.etag) == *etag),
    }
}

fn assemble(upload: &Upload, named: &[(i32, String)]) -> Result<Object, Refused> {
    let mut blobs: Vec<Blob> = Vec::new();
    let mut md5 = Md5::new();
    for (number, etag) in named {
        let part = upload.parts.get(number).ok_or(Refused::NoPart)?;
        if hex(&part.md5) != *etag {
            return Err(Refused::NoPart);
        }
        md5.update(part.md5);
        blobs.push(part.blob.clone());
    }
    let etag = format!("{}-{}", hex(&md5.finalize()), named.len());
    Ok(upload.attributes.clone().object(blobs, etag, None))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len().saturating_mul(2));
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string takes everything");
    }
    text
}
