//! The metadata server's client: a session, changes that happen exactly once, reads that are
//! repeated until somebody answers.
//!
//! A change takes a slot and an xid and keeps both until it is answered, however often it must be
//! sent. It runs in a task of its own: the one who waits may give up, the slot may not.

mod held;
mod session;
mod slots;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nacre_model::{Attr, Errno, Fid, Layout, Retry};
use nacre_node::{Peers, Scope};
use nacre_proto::status::{RemoteError, from_status};
use nacre_proto::v1;
use nacre_proto::v1::mds_client::MdsClient;
use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Response, Status};

pub(crate) use held::wire_lock;
pub(crate) use session::Session;

use crate::types::Caller;
use crate::{ClientConfig, ClientError, Result};
use held::Held;
use session::Waiters;
use slots::Slot;

/// One attempt is given up after this and made again: its connection may hang.
const ATTEMPT: Duration = Duration::from_secs(20);
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Talks to the MDS for one mount.
#[derive(Debug)]
pub(crate) struct Mdc {
    peers: Peers,
    scope: Scope,
    fsname: String,
    client_uuid: String,
    hostname: String,
    deadline: Duration,
    incarnation: AtomicU64,
    session: RwLock<Arc<Session>>,
    /// One at a time opens the session again.
    reopening: tokio::sync::Mutex<()>,
    pub(crate) held: Mutex<Held>,
    waiters: Waiters,
    silent: AtomicBool,
    /// The client has said goodbye: the end of its session is no eviction.
    pub(crate) parting: AtomicBool,
    evictions: AtomicU64,
    next_handle: AtomicU64,
    next_cookie: AtomicU64,
}

/// What a change brought.
#[derive(Debug, Clone)]
pub(crate) struct Changed {
    /// Of the inode that it was about.
    pub(crate) attr: Option<Attr>,
    pub(crate) layout: Option<Layout>,
}

impl Changed {
    /// The attributes, where every answer must have them.
    pub(crate) fn attr(self) -> Result<Attr> {
        Ok(nacre_proto::convert::required("attr", self.attr)?)
    }
}

/// What became of one attempt.
enum Attempt<T> {
    Answered(T),
    Refused(RemoteError),
    /// Nobody is there, or something broke on the way.
    Broken(String),
}

impl Mdc {
    /// Opens the session; waits for the MDS as long as connecting may take.
    pub(crate) async fn connect(config: &ClientConfig, peers: Peers) -> Result<Arc<Self>> {
        let mdc = Arc::new(Self {
            peers,
            scope: config.scope.clone(),
            fsname: config.fsname.clone(),
            client_uuid: config.client_uuid.clone(),
            hostname: config.hostname.clone(),
            deadline: config.mds_deadline,
            incarnation: AtomicU64::new(1),
            session: RwLock::new(Arc::new(Session::none())),
            reopening: tokio::sync::Mutex::new(()),
            held: Mutex::default(),
            waiters: Waiters::default(),
            silent: AtomicBool::new(false),
            parting: AtomicBool::new(false),
            evictions: AtomicU64::new(0),
            next_handle: AtomicU64::new(1),
            next_cookie: AtomicU64::new(1),
        });
        let until = Instant::now() + config.connect_deadline;
        while let Err(error) = mdc.reopen().await {
            if Instant::now() >= until {
                tracing::error!(%error, "no session with the mds");
                return Err(ClientError::Unreachable {
                    fsname: config.fsname.clone(),
                    role: "mds",
                    addresses: mdc.address(),
                });
            }
            mdc.note_silence(&error.to_string());
            tokio::time::sleep(PAUSE_MAX).await;
        }
        mdc.note_answer();
        session::keep(&mdc);
        Ok(mdc)
    }

    pub(crate) fn session(&self) -> Arc<Session> {
        Arc::clone(&self.session.read())
    }

    /// How often this client was evicted: what it cached before is void.
    pub(crate) fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Acquire)
    }

    /// A fresh number for an open handle.
    pub(crate) fn new_handle(&self) -> u64 {
        self.next_handle.fetch_add(1, Ordering::Relaxed)
    }

    fn address(&self) -> String {
        let map = self.peers.map();
        let target = map.as_ref().and_then(|map| map.mdt(nacre_model::MdtIndex(0)));
        let address = target.and_then(|target| target.addresses.first().cloned());
        address.unwrap_or_else(|| "(no address in the cluster map)".to_owned())
    }

    fn note_silence(&self, cause: &str) {
        if !self.silent.swap(true, Ordering::AcqRel) {
            tracing::warn!(mds = %self.address(), cause, "mds is not answering, waiting for it");
        }
    }

    fn note_answer(&self) {
        if self.silent.swap(false, Ordering::AcqRel) {
            tracing::info!(mds = %self.address(), "mds answers again");
        }
    }

    async fn attempt<T, F, Fut>(&self, call: &F, session: &Arc<Session>) -> Attempt<T>
    where
        F: Fn(MdsClient<Channel>, Arc<Session>) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let client = match self.peers.mds() {
            Ok(client) => client,
            Err(error) => return Attempt::Broken(error.to_string()),
        };
        match tokio::time::timeout(ATTEMPT, call(client, Arc::clone(session))).await {
            Ok(Ok(response)) => Attempt::Answered(response.into_inner()),
            Ok(Err(status)) => {
                let error = from_status(&status);
                // A status without details is the transport's, not the server's.
                let broken = status.details().is_empty() && error.retry != Retry::Never;
                if broken { Attempt::Broken(error.message) } else { Attempt::Refused(error) }
            }
            Err(_) => Attempt::Broken("no answer".to_owned()),
        }
    }

    /// Sends until there is an answer that stands. `until`: give up then.
    async fn persist<T, F, Fut>(
        self: &Arc<Self>,
        op: &'static str,
        mut session: Arc<Session>,
        until: Option<Instant>,
        call: F,
    ) -> Result<T>
    where
        F: Fn(MdsClient<Channel>, Arc<Session>) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let mut pause = PAUSE_MIN;
        loop {
            match self.attempt(&call, &session).await {
                Attempt::Answered(response) => {
                    self.note_answer();
                    return Ok(response);
                }
                Attempt::Refused(source) => {
                    self.note_answer();
                    if source.errno == Errno::ESTALE && source.retry == Retry::AfterRefresh {
                        // Either the server does not know the session, or the file's layout is
                        // not what was thought. The session tells which.
                        let current = self.verify(&session).await;
                        if Arc::ptr_eq(&current, &session) || current.id != session.id {
                            return Err(ClientError::Mds { op, source });
                        }
                        session = current;
                    } else if source.retry == Retry::Never {
                        return Err(ClientError::Mds { op, source });
                    }
                }
                Attempt::Broken(cause) => {
                    self.note_silence(&cause);
                    crate::metrics::mds_resend(op);
                }
            }
            if until.is_some_and(|until| Instant::now() + pause >= until) {
                tracing::error!(op, mds = %self.address(), "mds did not answer in time");
                return Err(ClientError::MdsSilent { op });
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.scope.stopped() => return Err(ClientError::MdsSilent { op }),
            }
            pause = pause.saturating_mul(2).min(PAUSE_MAX);
            let current = self.session();
            if current.id == session.id {
                session = current;
            }
        }
    }

    /// A request that changes nothing, or that may be sent twice without harm.
    pub(crate) async fn call<T, F, Fut>(self: &Arc<Self>, op: &'static str, call: F) -> Result<T>
    where
        F: Fn(MdsClient<Channel>, Arc<Session>) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let started = Instant::now();
        let until = started + self.deadline;
        let mut session = self.session();
        loop {
            let result = self.persist(op, Arc::clone(&session), Some(until), &call).await;
            let current = self.session();
            let evicted = current.id != session.id;
            let stale = matches!(&result, Err(ClientError::Mds { source, .. })
                if source.errno == Errno::ESTALE);
            if evicted && stale {
                session = current;
                continue;
            }
            crate::metrics::mds_call(op, started.elapsed(), &result);
            return result;
        }
    }

    /// Makes a change, exactly once. ETIMEDOUT when no answer came by the deadline: it is then
    /// carried to its end in the background.
    ///
    /// # Cancel safety
    /// Safe: once sent, the change goes on without the one who asked.
    pub(crate) async fn change(
        self: &Arc<Self>,
        op_name: &'static str,
        caller: Caller,
        sync: bool,
        op: v1::change_request::Op,
    ) -> Result<Changed> {
        let started = Instant::now();
        let until = started + self.deadline;
        let silent = ClientError::MdsSilent { op: op_name };
        let session = self.session();
        let Ok(slot) = tokio::time::timeout_at(until, session.slots.take()).await else {
            return Err(silent);
        };
        let (tx, rx) = tokio::sync::oneshot::channel();
        let mdc = Arc::clone(self);
        self.scope.spawn_to_end("change", async move {
            let result = mdc.carry_out(op_name, session, slot, caller, sync, op).await;
            // Nobody may be waiting any more.
            let _ = tx.send(result);
        });
        let result = match tokio::time::timeout_at(until, rx).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(silent),
        };
        crate::metrics::mds_call(op_name, started.elapsed(), &result);
        result
    }

    async fn carry_out(
        self: Arc<Self>,
        op_name: &'static str,
        session: Arc<Session>,
        slot: Slot,
        caller: Caller,
        sync: bool,
        op: v1::change_request::Op,
    ) -> Result<Changed> {
        let request = v1::ChangeRequest {
            session: session.id,
            slot: slot.index,
            xid: slot.xid,
            uid: caller.uid,
            gid: caller.gid,
            sync,
            op: Some(op),
        };
        let send = |mut mds: MdsClient<Channel>, _: Arc<Session>| {
            let request = request.clone();
            async move { mds.change(request).await }
        };
        let response = self.persist(op_name, session, None, send).await?;
        drop(slot);
        Ok(Changed {
            attr: response.attr.map(TryInto::try_into).transpose()?,
            layout: response.layout.map(TryInto::try_into).transpose()?,
        })
    }

    /// Attributes, and whether another client may be writing.
    pub(crate) async fn getattr(self: &Arc<Self>, fid: Fid) -> Result<(Attr, bool)> {
        let response = self
            .call("getattr", |mut mds, session| async move {
                let request = v1::GetattrRequest { fid: Some(fid.into()), session: session.id };
                mds.getattr(request).await
            })
            .await?;
        let attr = nacre_proto::convert::required("attr", response.attr)?;
        Ok((attr.try_into()?, response.other_writers))
    }
}
