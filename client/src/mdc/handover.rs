//! Work that must come to its end whether or not somebody waits for it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use nacre_node::Scope;
use tokio::runtime::Handle;

/// Runs in the task that waits for it, which costs nothing; when that gives up, in one of its own.
pub(super) struct Handover<F>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    work: Option<Pin<Box<F>>>,
    scope: Scope,
    runtime: Handle,
}

impl<F> Handover<F>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    /// To be called within a runtime: the one that takes the work over.
    pub(super) fn new(scope: &Scope, work: F) -> Self {
        let runtime = Handle::current();
        Self { work: Some(Box::pin(work)), scope: scope.clone(), runtime }
    }
}

impl<F> Future for Handover<F>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Some(work) = self.work.as_mut() else { return Poll::Pending };
        let output = std::task::ready!(work.as_mut().poll(cx));
        self.work = None;
        Poll::Ready(output)
    }
}

impl<F> Drop for Handover<F>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn drop(&mut self) {
        let Some(work) = self.work.take() else { return };
        if std::thread::panicking() {
            return;
        }
        self.scope.spawn_light(&self.runtime, async move {
            // Nobody waits for the output any more.
            drop(work.await);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn work_that_nobody_waits_for_any_more_comes_to_its_end() {
        let (scope, go, done) = (Scope::new(), Arc::new(Notify::new()), Arc::new(Notify::new()));
        let work = Handover::new(&scope, {
            let (go, done) = (Arc::clone(&go), Arc::clone(&done));
            async move {
                go.notified().await;
                done.notify_one();
            }
        });
        let waited = tokio::time::timeout(std::time::Duration::ZERO, work).await;
        assert!(waited.is_err());
        go.notify_one();
        done.notified().await;
    }
}
