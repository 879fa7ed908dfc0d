//! The object servers' client: at most so many requests at a time to each OST, and no waiting for
//! one that is known to be dead.
//!
//! In a scratch file system nobody else has a dead OST's data, so EIO comes at once. A connection
//! that breaks is tried once more and no further. A server that falls silent is told by the
//! connection, whose pings it does not answer within 3 s; slow work behind a live connection is
//! not silence, and is waited for. For a moment after a failure nobody else waits.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use nacre_model::checksum::Crc32c;
use nacre_model::{Effect, Errno, ObjectId, OstIndex, Retry};
use nacre_node::Peers;
use nacre_node::net::Channel;
use nacre_proto::status::{RemoteError, from_status};
use nacre_proto::v1;
use nacre_proto::v1::oss_client::OssClient;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tonic::{Response, Status};

use crate::{ClientError, Result};

/// Requests to one OST at a time.
const IN_FLIGHT: usize = 8;
/// A silent OST is not waited for again before this has passed.
const SILENT_PAUSE: Duration = Duration::from_secs(1);
/// One that refuses connections is not tried again before this has passed.
const REFUSED_PAUSE: Duration = Duration::from_millis(50);
/// An OST that knows a newer map than this client: the new map is on its way.
const MAP_WAIT: Duration = Duration::from_millis(250);
/// An attempt that failed sooner than this may have met an old connection: it is made again.
const STALE_CONNECTION: Duration = Duration::from_millis(1500);
/// How long somebody waits for what would merely be nice to know.
const HINT_WAIT: Duration = Duration::from_secs(1);
/// And does not wait again for this long.
const HINT_PAUSE: Duration = Duration::from_secs(5);

/// Talks to all OSTs for one mount.
#[derive(Debug)]
pub(crate) struct Osc {
    peers: Peers,
    osts: Mutex<BTreeMap<OstIndex, Arc<Ost>>>,
    deadline: Duration,
    session: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Ost {
    permits: Semaphore,
    dead: Mutex<Option<Dead>>,
    /// It was too slow for a hint; not asked for one before this.
    slow_until: Mutex<Option<Instant>>,
}

#[derive(Debug, Clone)]
struct Dead {
    /// Nobody tries before this.
    until: Instant,
    cause: RemoteError,
}

/// Whether waiting for a dead OST is worth it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Data is wanted: as long as the server lives, up to the deadline.
    Data,
    /// It would be nice to know: not for long.
    Hint,
}

impl Osc {
    /// `session`: of this client with the MDS, as it changes.
    pub(crate) fn new(peers: Peers, deadline: Duration, session: Arc<AtomicU64>) -> Self {
        Self { peers, osts: Mutex::default(), deadline, session }
    }

    /// OSTs that failed a moment ago: new objects had better be elsewhere.
    pub(crate) fn failed(&self) -> Vec<u32> {
        let now = Instant::now();
        let recent = |dead: &Dead| now < dead.until + Duration::from_secs(2);
        let osts = self.osts.lock();
        osts.iter()
            .filter(|(_, ost)| ost.dead.lock().as_ref().is_some_and(recent))
            .map(|(index, _)| index.0.into())
            .collect()
    }

    fn ost(&self, index: OstIndex) -> Arc<Ost> {
        let mut osts = self.osts.lock();
        Arc::clone(osts.entry(index).or_insert_with(|| {
            Arc::new(Ost {
                permits: Semaphore::new(IN_FLIGHT),
                dead: Mutex::default(),
                slow_until: Mutex::default(),
            })
        }))
    }

    fn header(&self, index: OstIndex) -> (v1::ObjectHeader, String) {
        let map = self.peers.map();
        let target = map.as_ref().and_then(|map| map.ost(index));
        let server = target.and_then(|target| target.addresses.first().cloned());
        let header = v1::ObjectHeader {
            ost_index: index.0.into(),
            target_epoch: target.map_or(0, |target| target.epoch),
            map_version: map.as_ref().map_or(0, |map| map.version),
            session: self.session.load(Ordering::Acquire),
            capability: Bytes::new(),
        };
        (header, server.unwrap_or_else(|| "(no address)".to_owned()))
    }

    /// Calls an OST. EIO when it does not answer.
    async fn call<T, F, Fut>(
        &self,
        op: &'static str,
        index: OstIndex,
        patience: Patience,
        call: F,
    ) -> Result<T>
    where
        F: Fn(OssClient<Channel>, v1::ObjectHeader) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let started = Instant::now();
        // Kept over all attempts: what was begun in a session that has ended must not be done in
        // the next.
        let session = self.session.load(Ordering::Acquire);
        let ost = self.ost(index);
        if patience == Patience::Hint && ost.slow_until.lock().is_some_and(|t| started < t) {
            return Err(self.failed_call(index, unreachable("slow a moment ago".to_owned())));
        }
        let permit = ost.permits.acquire().await.expect("the semaphore is never closed");
        // After the wait for a permit: the queue behind a dead OST empties at once.
        let known = ost.dead.lock().clone();
        let result = match known {
            Some(dead) if Instant::now() < dead.until => Err(dead.cause),
            Some(_) | None => self.attempt(op, (index, session), &ost, patience, &call).await,
        };
        drop(permit);
        crate::metrics::ost_call(op, started.elapsed(), result.is_ok());
        result.map_err(|source| self.failed_call(index, source))
    }

    fn failed_call(&self, index: OstIndex, source: RemoteError) -> ClientError {
        let (header, server) = self.header(index);
        ClientError::Ost { ost: index, server, epoch: header.target_epoch, source }
    }

    async fn attempt<T, F, Fut>(
        &self,
        op: &'static str,
        (index, session): (OstIndex, u64),
        ost: &Ost,
        patience: Patience,
        call: &F,
    ) -> Result<T, RemoteError>
    where
        F: Fn(OssClient<Channel>, v1::ObjectHeader) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let started = Instant::now();
        let allowed = match patience {
            Patience::Data => self.deadline,
            Patience::Hint => HINT_WAIT,
        };
        let mut broken = false;
        let mut repeats = 0;
        loop {
            let (header, _) = self.header(index);
            let header = v1::ObjectHeader { session, ..header };
            let client = self.peers.oss(index).map_err(|error| unreachable(error.to_string()))?;
            let version = header.map_version;
            let cause = match timeout_at(started + allowed, call(client, header)).await {
                Ok(Ok(response)) => {
                    if ost.dead.lock().take().is_some() {
                        tracing::info!(ost = %index, "ost answers again");
                    }
                    return Ok(response.into_inner());
                }
                Ok(Err(status)) => {
                    let error = from_status(&status);
                    if status.details().is_empty() && error.retry != Retry::Never {
                        unreachable(error.message)
                    } else {
                        // The server's own answer. Another map, or another try, may help.
                        repeats += 1;
                        let again = repeats <= 3
                            && match error.retry {
                                Retry::Never => false,
                                Retry::SameTarget => true,
                                Retry::AfterRefresh => self.newer_map(version).await,
                            };
                        if again {
                            continue;
                        }
                        return Err(error);
                    }
                }
                Err(_) if patience == Patience::Hint => {
                    *ost.slow_until.lock() = Some(Instant::now() + HINT_PAUSE);
                    return Err(unreachable(format!("no answer within {allowed:?}")));
                }
                Err(_) => unreachable(format!("no answer within {allowed:?}")),
            };
            let quick = started.elapsed() < STALE_CONNECTION;
            if quick && !broken {
                broken = true;
                continue;
            }
            let pause = if quick { REFUSED_PAUSE } else { SILENT_PAUSE };
            self.declare_dead(op, index, ost, pause, &cause);
            return Err(cause);
        }
    }

    /// Waits a moment for a map that is newer than `version`.
    async fn newer_map(&self, version: u64) -> bool {
        let mut map = self.peers.watch();
        let newer = map.wait_for(|map| map.as_ref().is_some_and(|map| map.version > version));
        matches!(tokio::time::timeout(MAP_WAIT, newer).await, Ok(Ok(_)))
    }

    fn declare_dead(
        &self,
        op: &'static str,
        index: OstIndex,
        ost: &Ost,
        pause: Duration,
        cause: &RemoteError,
    ) {
        let dead = Dead { until: Instant::now() + pause, cause: cause.clone() };
        let before = ost.dead.lock().replace(dead);
        if before.is_none() {
            let (header, server) = self.header(index);
            let epoch = header.target_epoch;
            tracing::error!(
                ost = %index, %server, epoch, op, cause = %cause,
                "ost does not answer: its data is EIO until it does"
            );
        }
    }

    /// Writes `data` (1 byte to 4 MiB in all) at `offset` of an object.
    pub(crate) async fn write(
        &self,
        ost: OstIndex,
        object: ObjectId,
        offset: u64,
        data: &[Bytes],
        sync: bool,
    ) -> Result<v1::WriteResponse> {
        let data = join(data);
        let crc32c = Crc32c::of(&data).0;
        self.call("write", ost, Patience::Data, |mut oss, header| {
            let request = v1::WriteRequest {
                header: Some(header),
                object: Some(object.into()),
                offset,
                data: data.clone(),
                crc32c,
                sync,
            };
            async move { oss.write(request).await }
        })
        .await
    }

    /// Reads up to `len` bytes (1 byte to 4 MiB), their checksum verified: fewer only at the end
    /// of the object. The second value is the object's size.
    pub(crate) async fn read(
        &self,
        ost: OstIndex,
        object: ObjectId,
        offset: u64,
        len: u32,
    ) -> Result<(Bytes, u64)> {
        let mut last = None;
        // Damage on the way is worth one more try; damage on the disk is the server's to tell.
        for _ in 0..2 {
            let response = self
                .call("read", ost, Patience::Data, |mut oss, header| async move {
                    let header = Some(header);
                    let object = Some(object.into());
                    oss.read(v1::ReadRequest { header, object, offset, len }).await
                })
                .await?;
            let intact = Crc32c::of(&response.data).0 == response.crc32c;
            if intact && response.data.len() as u64 <= u64::from(len) {
                return Ok((response.data, response.object_size));
            }
            crate::metrics::damaged();
            let (_, server) = self.header(ost);
            tracing::error!(%ost, %server, %object, offset, len, "data was damaged on the way");
            last = Some(ClientError::Damaged { ost, server, fid: object.fid });
        }
        Err(last.expect("the loop ran"))
    }

    pub(crate) async fn commit(
        &self,
        ost: OstIndex,
        objects: Vec<ObjectId>,
    ) -> Result<Option<v1::Verifier>> {
        let objects: Vec<v1::ObjectId> = objects.into_iter().map(Into::into).collect();
        self.call("commit", ost, Patience::Data, |mut oss, header| {
            let header = Some(header);
            let request = v1::CommitRequest { header, objects: objects.clone() };
            async move { oss.commit(request).await }
        })
        .await
        .map(|response| response.verifier)
    }

    /// What objects of one OST look like, in order.
    pub(crate) async fn stat(
        &self,
        ost: OstIndex,
        objects: &[ObjectId],
        patience: Patience,
    ) -> Result<Vec<v1::ObjectStat>> {
        let wire: Vec<v1::ObjectId> = objects.iter().map(|id| (*id).into()).collect();
        let response = self
            .call("stat", ost, patience, |mut oss, header| {
                let header = Some(header);
                let request = v1::StatRequest { header, objects: wire.clone() };
                async move { oss.stat(request).await }
            })
            .await?;
        let value = response.stats.len() as u64;
        if response.stats.len() != objects.len() {
            return Err(nacre_proto::convert::BadMessage::Range { field: "stats", value }.into());
        }
        Ok(response.stats)
    }

    pub(crate) async fn punch(
        &self,
        ost: OstIndex,
        object: ObjectId,
        offset: u64,
        len: u64,
    ) -> Result<v1::PunchResponse> {
        self.call("punch", ost, Patience::Data, |mut oss, header| async move {
            let object = Some(object.into());
            oss.punch(v1::PunchRequest { header: Some(header), object, offset, len }).await
        })
        .await
    }

    pub(crate) async fn allocate(
        &self,
        ost: OstIndex,
        object: ObjectId,
        offset: u64,
        len: u64,
        grow: bool,
    ) -> Result<v1::AllocateResponse> {
        self.call("allocate", ost, Patience::Data, |mut oss, header| async move {
            let object = Some(object.into());
            let header = Some(header);
            oss.allocate(v1::AllocateRequest { header, object, offset, len, grow }).await
        })
        .await
    }

    pub(crate) async fn seek(
        &self,
        ost: OstIndex,
        object: ObjectId,
        offset: u64,
        hole: bool,
    ) -> Result<v1::SeekResponse> {
        self.call("seek", ost, Patience::Data, |mut oss, header| async move {
            let object = Some(object.into());
            oss.seek(v1::SeekRequest { header: Some(header), object, offset, hole }).await
        })
        .await
    }
}

fn unreachable(message: String) -> RemoteError {
    RemoteError { errno: Errno::EIO, retry: Retry::Never, effect: Effect::Unknown, message }
}

/// One buffer of them; without a copy when there is just one.
pub(crate) fn join(segments: &[Bytes]) -> Bytes {
    match segments {
        [] => Bytes::new(),
        [one] => one.clone(),
        many => {
            let mut all = BytesMut::with_capacity(many.iter().map(Bytes::len).sum());
            for segment in many {
                all.extend_from_slice(segment);
            }
            all.freeze()
        }
    }
}

/// Objects by the OST they are on.
pub(crate) fn by_ost(
    objects: impl IntoIterator<Item = (ObjectId, OstIndex)>,
) -> BTreeMap<OstIndex, Vec<ObjectId>> {
    let mut out: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (object, ost) in objects {
        out.entry(ost).or_default().push(object);
    }
    out
}

/// Whether an OST says that the object set is not the file's any more.
pub(crate) fn layout_is_stale(error: &ClientError) -> bool {
    matches!(error, ClientError::Ost { source, .. } if source.errno == Errno::ESTALE)
}
