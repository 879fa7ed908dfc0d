//! Tasks: named, owned by a scope, their panics told.

use std::future::Future;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Owns tasks: they are asked to stop, and waited for, together.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Scope {
    /// A scope of its own.
    pub fn new() -> Self {
        Self::default()
    }

    /// A scope that stops when this one does, and may stop earlier.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { stop: self.stop.child_token(), tasks: self.tasks.clone() }
    }

    /// Runs `work` until it ends or the scope stops, whichever is first.
    ///
    /// # Cancel safety
    /// `work` is dropped at an await point when the scope stops: what must be finished belongs
    /// into [`Scope::spawn_to_end`].
    pub fn spawn<F>(&self, name: &'static str, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.spawn_to_end(name, async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = work => {}
            }
        });
    }

    /// Runs `work` to its end; it watches [`Scope::stopped`] itself.
    pub fn spawn_to_end<F>(&self, name: &'static str, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let task = tokio::spawn(work);
        self.tasks.spawn(async move {
            if let Err(error) = task.await
                && error.is_panic()
            {
                tracing::error!(task = name, %error, "task panicked");
            }
        });
    }

    /// Runs `work` to its end on `runtime`, which need not be the caller's.
    ///
    /// For work that comes by the ten thousand: no second task watches it, so a panic shows only
    /// in what `work` drops, which must then say so to whoever waits.
    pub fn spawn_light<F>(&self, runtime: &Handle, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn_on(work, runtime);
    }

    /// Runs `work` to its end on a thread of its own, so that it may block; it watches
    /// [`Scope::stopped`] itself. To be called within a runtime, whose timers it uses.
    pub fn spawn_thread<F>(&self, name: &'static str, work: F) -> std::io::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = tokio::runtime::Handle::current();
        let (ended, wait) = tokio::sync::oneshot::channel();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            runtime.block_on(work);
            // It cannot be sent if the runtime is gone, and with it whoever waits.
            let _: Result<(), ()> = ended.send(());
        })?;
        self.tasks.spawn(async move {
            if wait.await.is_err() {
                tracing::error!(thread = name, "thread panicked");
            }
        });
        Ok(())
    }

    /// Resolves when the scope is asked to stop.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Whether the scope was asked to stop.
    pub fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Asks every task to stop.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Asks every task to stop and waits for all.
    pub async fn join(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Where blocking calls run.
#[derive(Debug, Clone)]
pub enum Blocking {
    /// On tokio's blocking threads, at most so many at a time.
    Threads(Arc<Semaphore>),
    /// In place: for a simulator, whose disk does not block.
    Inline,
}

impl Blocking {
    /// At most `threads` calls at a time.
    pub fn threads(threads: usize) -> Self {
        Self::Threads(Arc::new(Semaphore::new(threads)))
    }

    /// Runs `call` and waits for its result.
    ///
    /// # Cancel safety
    /// Once begun, the call runs to its end though nobody waits any more.
    pub async fn run<T, F>(&self, call: F) -> T
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let semaphore = match self {
            Self::Inline => return call(),
            Self::Threads(semaphore) => Arc::clone(semaphore),
        };
        let permit = semaphore.acquire_owned().await.expect("the semaphore is never closed");
        let task = tokio::task::spawn_blocking(move || {
            let result = call();
            drop(permit);
            result
        });
        match task.await {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}
