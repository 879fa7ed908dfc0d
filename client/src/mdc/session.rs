//! The session with the MDS: opened, kept alive, opened again when the server was restarted.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nacre_model::{Errno, Fid, Retry};
use nacre_proto::status::{RemoteError, from_status};
use nacre_proto::v1;
use nacre_proto::v1::session_down::Event;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

use super::Mdc;
use super::slots::Slots;
use crate::cache::Event as CacheEvent;
use crate::journal::Record;
use crate::{ClientError, Result};

const BEAT: Duration = Duration::from_secs(1);
/// No word from the server for this long: the stream is made anew.
const STREAM_SILENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(200);
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is looked whether leases may still be used.
const WATCH: Duration = Duration::from_millis(250);
/// Heartbeats without an echo that are remembered.
const BEATS_MAX: usize = 16;

/// A session as the server confirmed it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: u64,
    pub(crate) root: Fid,
    /// Bytes of a file that live in its inode.
    pub(crate) inline_max: u64,
    pub(super) slots: Arc<Slots>,
    /// Of the server's process: another one after a restart.
    pub(crate) boot_id: u64,
    /// Without a word for so long the server ends the session.
    lease: Duration,
}

impl Session {
    /// Nobody asks again for what the process before has noted: its slot is free.
    pub(crate) fn give_up(&self, record: &Record) {
        if let Record::Change { slot, xid, .. } = record {
            drop(self.slots.again(*slot, *xid));
        }
    }

    /// Before the first one.
    pub(super) fn none() -> Self {
        let slots = Slots::new(1, 0, BTreeMap::new());
        Self { id: 0, root: Fid::ROOT, inline_max: 0, slots, boot_id: 0, lease: Duration::ZERO }
    }
}

/// Lock requests that wait for their grant.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    by_cookie: Mutex<BTreeMap<u64, (v1::HeldLock, oneshot::Sender<()>)>>,
}

/// Heartbeats of one stream that were not echoed yet.
#[derive(Debug, Default)]
struct Beats {
    last: u64,
    sent: VecDeque<(u64, Instant)>,
}

impl Beats {
    fn next(&mut self) -> u64 {
        self.last = self.last.wrapping_add(1);
        if self.sent.len() >= BEATS_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back((self.last, Instant::now()));
        self.last
    }

    /// When that one was sent.
    fn echoed(&mut self, beat: u64) -> Option<Instant> {
        while let Some((number, sent)) = self.sent.pop_front() {
            if number == beat {
                return Some(sent);
            }
        }
        None
    }
}

/// Why the stream ended.
enum Ended {
    /// It broke, or the server is another one than it was.
    Broken,
    Evicted,
}

impl Mdc {
    /// Opens the session, or opens it again and claims what is held. The same session comes back
    /// with its slots unless the server has forgotten it.
    pub(super) async fn reopen(&self) -> Result<()> {
        let _one = self.reopening.lock().await;
        self.reopen_locked().await
    }

    async fn reopen_locked(&self) -> Result<()> {
        let leases_held = self.cache.claims();
        let inherits = self.inherits.load(Ordering::Acquire);
        let request = {
            let held = self.held.lock();
            v1::OpenSessionRequest {
                fsname: self.fsname.clone(),
                client_uuid: self.client_uuid.clone(),
                incarnation: self.incarnation.load(Ordering::Acquire),
                hostname: self.hostname.clone(),
                handles: held.wire_handles(),
                locks: held.wire_locks(),
                leases: self.leases,
                leases_held,
                inherits,
            }
        };
        let mut mds = self.peers.mds()?;
        let op = "open session";
        let begun = Instant::now();
        let response = tokio::time::timeout(OPEN_TIMEOUT, mds.open_session(request))
            .await
            .map_err(|_| ClientError::MdsSilent { op })?
            .map_err(|status| ClientError::Mds { op, source: from_status(&status) })?
            .into_inner();
        let root = nacre_proto::convert::required("root", response.root)?.into();
        let incarnation = self.incarnation.load(Ordering::Acquire);
        let mut session = self.session.write();
        let same = session.id == response.session;
        if !same && !inherits {
            let lost = self.cache.begin(response.session);
            self.lost(lost);
        }
        let left = if inherits { self.take_over(&response)? } else { BTreeMap::new() };
        self.journal.change_header(|header| {
            (header.boot, header.incarnation) = (response.mds_boot_id, incarnation);
        });
        if same && session.boot_id == response.mds_boot_id {
            drop(session);
            self.confirmed(begun);
            return Ok(());
        }
        self.session_id.store(response.session, Ordering::Release);
        let slots = if same {
            Arc::clone(&session.slots)
        } else {
            Slots::new(response.slots, self.journal.first_number(), left)
        };
        *session = Arc::new(Session {
            id: response.session,
            root,
            inline_max: response.inline_max.into(),
            slots,
            boot_id: response.mds_boot_id,
            lease: Duration::from_millis(response.lease_ms.into()),
        });
        drop(session);
        self.confirmed(begun);
        Ok(())
    }

    /// Asks the server whether it still knows the session, and opens it again if not. Returns the
    /// session in force: `thought` itself when all is well.
    pub(super) async fn verify(&self, thought: &Arc<Session>) -> Arc<Session> {
        let _one = self.reopening.lock().await;
        let current = self.session();
        if !Arc::ptr_eq(&current, thought) {
            return current;
        }
        let mut result = self.reopen_locked().await;
        if let Err(ClientError::Mds { source, .. }) = &result
            && source.errno == Errno::ESTALE
        {
            self.evicted(&source.message);
            result = self.reopen_locked().await;
        }
        if let Err(error) = result {
            tracing::debug!(%error, "session not verified");
        }
        self.session()
    }

    /// Waits for a lock: registered first, so that a grant cannot come too early.
    pub(crate) async fn lock(self: &Arc<Self>, lock: v1::HeldLock, wait: bool) -> Result<()> {
        let cookie = if wait { self.next_cookie.fetch_add(1, Ordering::Relaxed) } else { 0 };
        let (tx, rx) = oneshot::channel();
        let mut guard = None;
        if wait {
            self.waiters.by_cookie.lock().insert(cookie, (lock, tx));
            guard = Some(Waiting { mdc: Arc::clone(self), cookie, done: false });
        }
        let response = self
            .call("lock", |mut mds, session| async move {
                let lock = Some(lock);
                let request = v1::LockRequest { session: session.id, lock, wait, cookie };
                mds.lock(request).await
            })
            .await;
        let granted = match response {
            Ok(response) => response.granted,
            Err(error) => {
                if let Some(guard) = guard.as_mut() {
                    guard.done = true;
                }
                return Err(error);
            }
        };
        if !granted && wait {
            // An eviction drops the sender.
            rx.await.map_err(|_| ClientError::refused(Errno::ENOLCK, "client was evicted"))?;
        } else if !granted {
            return Err(ClientError::refused(Errno::EAGAIN, "lock is held by another"));
        }
        if let Some(guard) = guard.as_mut() {
            guard.done = true;
        }
        Ok(())
    }
}

/// Takes a waiting request back when it is dropped before its grant.
struct Waiting {
    mdc: Arc<Mdc>,
    cookie: u64,
    done: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let waiter = self.mdc.waiters.by_cookie.lock().remove(&self.cookie);
        if self.done {
            return;
        }
        let (mdc, cookie) = (Arc::clone(&self.mdc), self.cookie);
        let lock = waiter.map(|(lock, _)| lock);
        self.mdc.scope.spawn_to_end("cancel-lock", async move {
            if let Err(error) = mdc.cancel_lock(cookie, lock).await {
                tracing::warn!(cookie, %error, "a lock request was not taken back");
            }
        });
    }
}

impl Mdc {
    async fn cancel_lock(self: &Arc<Self>, cookie: u64, lock: Option<v1::HeldLock>) -> Result<()> {
        let response = self
            .call("cancel lock", |mut mds, session| async move {
                mds.cancel_lock(v1::CancelLockRequest { session: session.id, cookie }).await
            })
            .await?;
        // The grant was under way: what nobody waits for is given back.
        if response.was_granted
            && let Some(lock) = lock
        {
            let lock = v1::HeldLock { mode: v1::LockMode::Unlock as i32, ..lock };
            self.lock(lock, false).await?;
        }
        Ok(())
    }

    pub(super) fn evicted(&self, reason: &str) {
        if self.leaving.load(Ordering::Acquire) {
            return;
        }
        tracing::error!(reason, "evicted by the mds: unwritten data and locks are lost");
        self.incarnation.fetch_add(1, Ordering::AcqRel);
        self.evictions.fetch_add(1, Ordering::AcqRel);
        self.held.lock().forget();
        self.waiters.by_cookie.lock().clear();
        let lost = self.cache.begin(0);
        self.lost(lost);
    }

    /// What was held is void. Whoever takes care of that is told without waiting: nothing is
    /// answered by it any more.
    fn lost(&self, fids: Vec<Fid>) {
        self.tell(CacheEvent::Lost(fids));
    }

    fn tell(&self, event: CacheEvent) {
        let events = self.events.clone();
        self.scope.spawn("lease-event", async move {
            // Nobody listens any more when the client is ending.
            drop(events.send(event).await);
        });
    }

    /// The server has said that it heard what was sent at `sent`.
    fn confirmed(&self, sent: Instant) {
        let lease = self.session().lease;
        *self.confirmed.lock() = sent;
        if sent.elapsed() < trusted(lease) {
            self.cache.resume();
        }
    }

    /// Stops the use of leases when they may be gone.
    fn watch_confirmation(&self) {
        let lease = self.session().lease;
        let confirmed = *self.confirmed.lock();
        if !lease.is_zero() && confirmed.elapsed() >= trusted(lease) {
            self.suspend();
        }
    }

    /// The server has not been heard of for so long that leases must not be used any more.
    fn suspend(&self) {
        if self.leases && self.cache.suspend() {
            tracing::warn!("mds is silent: nothing is answered from the cache until it is back");
            self.tell(CacheEvent::Suspended);
        }
    }

    /// Lock requests whose grant may have been lost with a stream are made again.
    async fn ask_again_for_locks(&self, session: &Session) {
        let waiting: Vec<_> = {
            let waiters = self.waiters.by_cookie.lock();
            waiters.iter().map(|(cookie, (lock, _))| (*cookie, *lock)).collect()
        };
        for (cookie, lock) in waiting {
            let Ok(mut mds) = self.peers.mds() else { return };
            let lock = Some(lock);
            let request = v1::LockRequest { session: session.id, lock, wait: true, cookie };
            let answer = tokio::time::timeout(OPEN_TIMEOUT, mds.lock(request)).await;
            if let Ok(Ok(answer)) = answer
                && answer.get_ref().granted
            {
                self.granted(cookie);
            }
        }
    }

    fn granted(&self, cookie: u64) {
        if let Some((_, tx)) = self.waiters.by_cookie.lock().remove(&cookie) {
            // The waiter may have gone this very moment; its guard then asks the server.
            let _ = tx.send(());
        }
    }

    async fn run_stream(&self) -> Result<Ended, RemoteError> {
        let session = self.session();
        let broken = |message: String| RemoteError {
            errno: Errno::EIO,
            retry: Retry::SameTarget,
            effect: nacre_model::Effect::None,
            message,
        };
        let mut mds = self.peers.mds().map_err(|error| broken(error.to_string()))?;
        let (up, beats) = mpsc::channel(4);
        let first = v1::SessionUp { session: session.id, beat: 0 };
        up.send(first).await.map_err(|_| broken("stream".to_owned()))?;
        let opening = mds.session(ReceiverStream::new(beats));
        let mut down = match tokio::time::timeout(STREAM_SILENCE, opening).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return Err(from_status(&status)),
            Err(_) => return Err(broken("no answer".to_owned())),
        };
        self.ask_again_for_locks(&session).await;
        let mut tick = tokio::time::interval(BEAT);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut beats = Beats::default();
        let mut heard = Instant::now();
        loop {
            let message = tokio::select! {
                message = down.message() => message,
                _ = tick.tick() => {
                    let silent = heard.elapsed() > STREAM_SILENCE;
                    let beat = beats.next();
                    let sent = up.try_send(v1::SessionUp { session: session.id, beat });
                    if silent || matches!(sent, Err(mpsc::error::TrySendError::Closed(_))) {
                        return Ok(Ended::Broken);
                    }
                    continue;
                }
            };
            heard = Instant::now();
            match message.map_err(|status| from_status(&status))? {
                Some(message) if message.mds_boot_id != session.boot_id => {
                    return Ok(Ended::Broken);
                }
                Some(v1::SessionDown { event: Some(Event::LockGranted(grant)), .. }) => {
                    self.granted(grant.cookie);
                }
                Some(v1::SessionDown { event: Some(Event::Evicted(evicted)), .. }) => {
                    self.evicted(&evicted.reason);
                    return Ok(Ended::Evicted);
                }
                Some(v1::SessionDown { event: Some(Event::Beat(echo)), .. }) => {
                    if let Some(sent) = beats.echoed(echo.beat) {
                        self.confirmed(sent);
                    }
                }
                Some(v1::SessionDown { event: Some(Event::Recall(recall)), .. }) => {
                    // Nobody listens any more when the client is ending.
                    drop(self.events.send(CacheEvent::Recall(recall)).await);
                }
                Some(v1::SessionDown { event: None, .. }) => {}
                None => return Ok(Ended::Broken),
            }
        }
    }
}

/// How long leases are used without a word from the server: two thirds of the time after which it
/// gives them to others. The rest is for clocks and for what is on its way.
fn trusted(lease: Duration) -> Duration {
    lease * 2 / 3
}

/// Keeps the session alive for as long as the scope lives.
pub(super) fn keep(mdc: &Arc<Mdc>) {
    let watcher = Arc::clone(mdc);
    mdc.scope.spawn("lease-watch", async move {
        loop {
            tokio::time::sleep(WATCH).await;
            watcher.watch_confirmation();
        }
    });
    let keeper = Arc::clone(mdc);
    mdc.scope.spawn("session-keeper", async move {
        loop {
            match keeper.run_stream().await {
                Ok(Ended::Evicted) => {}
                Ok(Ended::Broken) => tracing::debug!("session stream broke"),
                Err(error) => tracing::debug!(%error, "session stream broke"),
            }
            if keeper.leaving.load(Ordering::Acquire) {
                return;
            }
            loop {
                tokio::time::sleep(PAUSE).await;
                match keeper.reopen().await {
                    Ok(()) => break,
                    Err(ClientError::Mds { source, .. }) if source.errno == Errno::ESTALE => {
                        keeper.evicted(&source.message);
                    }
                    Err(error) => keeper.note_silence(&error.to_string()),
                }
            }
            keeper.note_answer();
        }
    });
}
