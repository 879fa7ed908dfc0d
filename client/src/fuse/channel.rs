//! Reader threads: from the device to tasks.
//!
//! ```text
//! /dev/fuse ──┬─ queue 0 ─ thread ─ decode ─ poll once ──┬─ ready ────────► answer, on the same queue
//!             └─ queue N ─ thread ─ …                    └─ task ─► … ─► answer
//! ```
//!
//! How many requests are under way is up to the kernel: each process waits for one, and readahead
//! and the like are bounded by what INIT agreed on. Bytes of writes are bounded here.

use std::io;
use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use nacre_model::Errno;
use nacre_node::Scope;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};

use super::abi::input::{InHeader, ReleaseIn};
use super::abi::opcode::Opcode;
use super::answer::{Answer, Body};
use super::buffer::BufferPool;
use super::device::{Closed, Device, Transport};
use super::fs::Filesystem;
use super::metrics::{self, InFlight};
use super::reply::Reply;
use super::request::{Op, decode};
use super::session::Session;

/// Payload of writes that were read and not answered yet, in bytes. When it is reached the next
/// write waits, and with it its reader.
const WRITE_BYTES_MAX: usize = 256 << 20;
/// Reader threads, however many cores there are.
const READERS_MAX: usize = 16;

/// What all readers of a mount share.
struct Shared<F: Filesystem> {
    session: Arc<Session<F>>,
    runtime: Handle,
    scope: Scope,
    pool: BufferPool,
    writes: Arc<Semaphore>,
    /// Another process will serve what comes from now on.
    leaving: Arc<AtomicBool>,
}

impl<F: Filesystem> Clone for Shared<F> {
    fn clone(&self) -> Self {
        Self {
            session: Arc::clone(&self.session),
            runtime: self.runtime.clone(),
            scope: self.scope.clone(),
            pool: self.pool.clone(),
            writes: Arc::clone(&self.writes),
            leaving: Arc::clone(&self.leaving),
        }
    }
}

/// Running readers.
#[derive(Debug)]
pub(super) struct Readers {
    ends: mpsc::Receiver<Closed>,
    leaving: Arc<AtomicBool>,
}

impl Readers {
    /// Begins to serve. Must be called within a tokio runtime, which will run the requests.
    pub(super) fn start<F: Filesystem>(
        queues: Vec<Arc<Device>>,
        session: Arc<Session<F>>,
        pool: BufferPool,
        scope: Scope,
    ) -> io::Result<Self> {
        let (tell, ends) = mpsc::channel(queues.len().max(1));
        let leaving = Arc::new(AtomicBool::new(false));
        let shared = Shared {
            session,
            runtime: Handle::current(),
            scope,
            pool,
            writes: Arc::new(Semaphore::new(WRITE_BYTES_MAX)),
            leaving: Arc::clone(&leaving),
        };
        for (index, queue) in queues.into_iter().enumerate() {
            let (shared, tell) = (shared.clone(), tell.clone());
            let queue: Arc<dyn Transport> = queue;
            std::thread::Builder::new().name(format!("fuse-{index}")).spawn(move || {
                let end = shared.read(&queue);
                // Nobody listens any more: the mount was given up.
                let _told = tell.blocking_send(end);
            })?;
        }
        Ok(Self { ends, leaving })
    }

    /// What comes from now on is left unanswered: the kernel will send it to the next process.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// Waits until no further request will come, and says why.
    ///
    /// # Cancel safety
    /// Safe: it may be called again, but for readers whose end was received.
    pub(super) async fn ended(&mut self) -> Closed {
        let mut why = Closed::Unmounted;
        while let Some(end) = self.ends.recv().await {
            if !matches!(end, Closed::Unmounted) {
                why = end;
            }
        }
        why
    }
}

/// Queues of a mount.
pub(super) fn reader_count() -> usize {
    std::thread::available_parallelism().map_or(2, NonZeroUsize::get).clamp(2, READERS_MAX)
}

impl<F: Filesystem> Shared<F> {
    /// One thread's life.
    fn read(&self, queue: &Arc<dyn Transport>) -> Closed {
        let _timers_and_tasks = self.runtime.enter();
        let mut buffer = self.pool.get();
        loop {
            let len = match queue.receive(buffer.space()) {
                Ok(len) => len,
                Err(end) => return end,
            };
            if self.leaving.load(Ordering::Acquire) {
                continue;
            }
            let Some(request) = decode(buffer.message(len), self.session.negotiated.flags) else {
                tracing::error!(len, "request without a header");
                continue;
            };
            let reply = Reply::new(Arc::clone(queue), request.header.unique);
            match request.op {
                Err(errno) => refuse(&request.header, reply, errno),
                Ok(Op::Destroy) => reply.none(),
                Ok(Op::Forget(nodes)) => {
                    self.session.forgets(&nodes);
                    reply.none();
                }
                Ok(Op::Interrupt { unique }) => {
                    self.session.interrupts.interrupt(unique);
                    reply.none();
                }
                Ok(Op::Release(args)) => self.release(&request.header, args, reply),
                Ok(Op::Opendir) => self.opendir(&request.header, reply),
                Ok(Op::Releasedir(args)) => {
                    let begun = self.session.begin();
                    self.session.finish(reply, begun, Ok(self.session.releasedir(&args)));
                }
                Ok(op) => {
                    let data = buffer.take(request.payload);
                    self.begin(&request.header, op, data, reply);
                }
            }
        }
    }

    /// Makes a task of a request.
    fn begin(&self, header: &InHeader, op: Op, data: Bytes, reply: Reply) {
        let name = Opcode::from_number(header.opcode).map_or("unknown", Opcode::name);
        let call = self.session.call(header, &op);
        let session = Arc::clone(&self.session);
        let bytes = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let permit = (bytes > 0).then(|| self.admit(bytes));
        let in_flight = InFlight::begin(name);
        let (traces, unique) = (op.leaves_traces(), header.unique);
        let own = Arc::clone(&session);
        let work = async move {
            let begun = session.begin();
            let answer = session.answer(call, op, data).await;
            in_flight.answered(Answer::errno(&answer));
            session.finish(reply, begun, answer);
            drop(permit);
        };
        if traces {
            self.run(async move { own.fs.carry(unique, work).await });
        } else {
            self.run(work);
        }
    }

    /// Closes a file. Nobody waits for it, but until it is answered the inode stays in memory, and
    /// as long as one without names does, the mount cannot be made read-only. What a lock on it
    /// stands in the way of is waited for: should this process die, the next must do it.
    fn release(&self, header: &InHeader, args: ReleaseIn, reply: Reply) {
        let call = self.session.call(header, &Op::Release(args));
        let file = self.session.closing(args.fh);
        let mut reply = Some(reply);
        if call.flock_close.is_none()
            && let Some(reply) = reply.take()
        {
            reply.send(Ok(Body::default()));
        }
        let session = Arc::clone(&self.session);
        let in_flight = InFlight::begin(Opcode::Release.name());
        self.run(async move {
            let begun = session.begin();
            let answer = session.release(&call, &args, file).await;
            in_flight.answered(Answer::errno(&answer));
            if let Some(reply) = reply {
                session.finish(reply, begun, answer);
            }
        });
    }

    /// What is ready at once is done here: handing it over to another thread would take longer
    /// than most answers from memory. The rest becomes a task.
    fn run(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut work = Box::pin(work);
        let mut context = Context::from_waker(Waker::noop());
        let first = AssertUnwindSafe(|| work.as_mut().poll(&mut context));
        match std::panic::catch_unwind(first) {
            Ok(Poll::Ready(())) => {}
            // The task polls it again at once, so nothing that happened meanwhile is missed.
            Ok(Poll::Pending) => self.scope.spawn_light(&self.runtime, work),
            // It was told already, and the request is answered with EIO.
            Err(_panic) => tracing::error!("request panicked"),
        }
    }

    /// Nobody has to be asked.
    fn opendir(&self, header: &InHeader, reply: Reply) {
        let begun = self.session.begin();
        let answer = self.session.opendir(self.session.nodes.fid(header.nodeid));
        self.session.finish(reply, begun, Ok(answer));
    }

    /// Room for the payload of one write; waits on this thread, not on the runtime's.
    fn admit(&self, bytes: u32) -> Option<tokio::sync::OwnedSemaphorePermit> {
        metrics::written(bytes);
        let writes = Arc::clone(&self.writes);
        match Arc::clone(&writes).try_acquire_many_owned(bytes) {
            Ok(permit) => Some(permit),
            Err(_) => self.runtime.block_on(writes.acquire_many_owned(bytes)).ok(),
        }
    }
}

/// Answers what cannot be carried out.
fn refuse(header: &InHeader, reply: Reply, errno: Errno) {
    if errno == Errno::EINVAL {
        tracing::warn!(opcode = header.opcode, len = header.len, "request not understood");
    }
    reply.send(Err(errno));
}
