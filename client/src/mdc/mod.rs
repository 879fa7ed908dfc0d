//! The metadata server's client: a session, changes that happen exactly once, reads that are
//! repeated until somebody answers.
//!
//! A change takes a slot and an xid and keeps both until it is answered, however often it must be
//! sent. The one who waits may give up, the slot may not: the change then goes on by itself.

mod estate;
mod handover;
mod held;
mod session;
mod slots;
mod traced;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nacre_model::{Attr, Errno, Fid, Layout, Retry};
use nacre_node::net::Channel;
use nacre_node::{Peers, Scope};
use nacre_proto::status::{RemoteError, from_status};
use nacre_proto::v1;
use nacre_proto::v1::mds_client::MdsClient;
use parking_lot::{Mutex, RwLock};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Response, Status};

pub(crate) use estate::Estate;
pub(crate) use held::{Told, wire_lock};
pub(crate) use session::Session;

use crate::cache::{Cache, Effect, Event, Recalls};
use crate::journal::{Journal, Record};
use crate::types::Caller;
use crate::{ClientConfig, ClientError, Result};
use handover::Handover;
use held::Held;
use session::Waiters;
use traced::Taken;

/// One attempt is given up after this and made again: its connection may hang.
const ATTEMPT: Duration = Duration::from_secs(20);
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// Recalls that were received and not looked at yet.
const EVENTS: usize = 64;

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
    pub(crate) cache: Arc<Cache>,
    /// Whether leases are asked for.
    leases: bool,
    events: mpsc::Sender<Event>,
    /// Of the session in force, for whoever has no use for the rest of it.
    session_id: Arc<AtomicU64>,
    /// When the newest message was sent that the server is known to have heard.
    confirmed: Mutex<Instant>,
    waiters: Waiters,
    silent: AtomicBool,
    /// The MDS has answered before: its silence is news.
    answered: AtomicBool,
    /// The session is being closed: that it ends is no eviction.
    leaving: AtomicBool,
    evictions: AtomicU64,
    pub(super) journal: Journal,
    /// The session is another process's, and was not taken over yet.
    inherits: AtomicBool,
    estate: Mutex<Estate>,
    next_handle: AtomicU64,
    next_cookie: AtomicU64,
}

/// What a change brought.
#[derive(Debug, Clone)]
pub(crate) struct Changed {
    /// Of the inode that it was about.
    pub(crate) attr: Option<Attr>,
    pub(crate) layout: Option<Layout>,
    /// On that inode.
    pub(crate) lease: Option<v1::Lease>,
    /// Of a create: it was not there before.
    pub(crate) made: bool,
    /// Of the directories whose names it changed.
    pub(crate) directories: Vec<Attr>,
}

impl Changed {
    /// What became of the directories, for [`crate::cache::Changing::done`].
    pub(crate) fn of_directories(&self) -> impl Iterator<Item = (Fid, Effect<'_>)> {
        self.directories.iter().map(|attr| (attr.fid, Effect::Attr(attr)))
    }

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
    pub(crate) async fn connect(
        config: &ClientConfig,
        peers: Peers,
        cache: Arc<Cache>,
        before: &[Record],
    ) -> Result<(Arc<Self>, Recalls)> {
        let (events, recalls) = mpsc::channel(EVENTS);
        let journal = config.journal.clone();
        let (header, inherited) = (journal.header(), journal.inherited());
        let uuid = header.map(|header| uuid::Uuid::from_u128(header.uuid).to_string());
        let incarnation = inherited.map_or(1, |header| header.incarnation.max(1));
        let first = journal.first_number().saturating_add(1);
        let mdc = Arc::new(Self {
            peers,
            scope: config.scope.clone(),
            fsname: config.fsname.clone(),
            client_uuid: uuid.unwrap_or_else(|| config.client_uuid.clone()),
            hostname: config.hostname.clone(),
            deadline: config.mds_deadline,
            incarnation: AtomicU64::new(incarnation),
            session: RwLock::new(Arc::new(Session::none())),
            reopening: tokio::sync::Mutex::new(()),
            held: Mutex::new(estate::open_files(before)),
            cache,
            leases: config.leases,
            events,
            session_id: Arc::default(),
            confirmed: Mutex::new(Instant::now()),
            waiters: Waiters::default(),
            silent: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            evictions: AtomicU64::new(0),
            journal,
            inherits: AtomicBool::new(inherited.is_some()),
            estate: Mutex::default(),
            next_handle: AtomicU64::new(first),
            next_cookie: AtomicU64::new(first),
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
            if let ClientError::Mds { source, .. } = &error
                && source.errno == Errno::ESTALE
                && mdc.inherits.swap(false, Ordering::AcqRel)
            {
                mdc.evicted(&source.message);
                continue;
            }
            mdc.note_silence(&error.to_string());
            tokio::time::sleep(PAUSE_MAX).await;
        }
        mdc.note_answer();
        session::keep(&mdc);
        Ok((mdc, recalls))
    }

    pub(crate) fn session(&self) -> Arc<Session> {
        Arc::clone(&self.session.read())
    }

    /// The number of the session in force, now and later.
    pub(crate) fn session_id(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.session_id)
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
        if self.silent.swap(true, Ordering::AcqRel) {
            return;
        }
        if self.answered.load(Ordering::Acquire) {
            tracing::warn!(mds = %self.address(), cause, "mds is not answering, waiting for it");
        } else {
            tracing::info!(mds = %self.address(), cause, "mds does not answer yet, waiting for it");
        }
    }

    /// From now on the end of the session is what is wanted.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    fn note_answer(&self) {
        self.answered.store(true, Ordering::Release);
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
        let Some(taken) = traced::take(&session.slots, &op, until).await else {
            return Err(silent);
        };
        let work = Arc::clone(self).carry_out(op_name, session, taken, caller, sync, op);
        let work = Handover::new(&self.scope, work);
        let result = tokio::time::timeout_at(until, work).await.unwrap_or(Err(silent));
        crate::metrics::mds_call(op_name, started.elapsed(), &result);
        result
    }

    async fn carry_out(
        self: Arc<Self>,
        op_name: &'static str,
        session: Arc<Session>,
        taken: Taken,
        caller: Caller,
        sync: bool,
        op: v1::change_request::Op,
    ) -> Result<Changed> {
        let request = v1::ChangeRequest {
            session: session.id,
            slot: taken.slot.index,
            xid: taken.slot.xid,
            uid: caller.uid,
            gid: caller.gid,
            sync,
            op: Some(op),
            time: None,
            new_fid: None,
        };
        let send = |mut mds: MdsClient<Channel>, _: Arc<Session>| {
            let request = request.clone();
            async move { mds.change(request).await }
        };
        let response = self.persist(op_name, session, None, send).await?;
        taken.answered();
        let directories = response.directories.into_iter().map(Attr::try_from);
        Ok(Changed {
            attr: response.attr.map(TryInto::try_into).transpose()?,
            layout: response.layout.map(TryInto::try_into).transpose()?,
            lease: response.lease,
            made: response.made,
            directories: directories.collect::<Result<_, _>>()?,
        })
    }

    /// Attributes, the lease that came with them, and whether another client may be writing.
    pub(crate) async fn getattr(
        self: &Arc<Self>,
        fid: Fid,
    ) -> Result<(Attr, Option<v1::Lease>, bool)> {
        let response = self
            .call("getattr", |mut mds, session| async move {
                let request = v1::GetattrRequest { fid: Some(fid.into()), session: session.id };
                mds.getattr(request).await
            })
            .await?;
        let attr = nacre_proto::convert::required("attr", response.attr)?;
        Ok((attr.try_into()?, response.lease, response.other_writers))
    }
}
