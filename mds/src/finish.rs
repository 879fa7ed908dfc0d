//! Requests that are carried out to their end though the client went away.

use std::pin::Pin;
use std::task::{Context, Poll};

use nacre_node::Scope;

/// A future that runs in place, and goes on as a task of its scope when it is dropped halfway.
///
/// A change that has reached the log must also be followed up here: handles registered, objects
/// cut. A broken connection drops the request's future at any await point.
pub(crate) struct Finish<F: Future<Output: Send> + Send + 'static> {
    work: Option<Pin<Box<F>>>,
    scope: Scope,
}

impl<F: Future<Output: Send> + Send + 'static> Finish<F> {
    pub(crate) fn new(scope: &Scope, work: F) -> Self {
        Self { work: Some(Box::pin(work)), scope: scope.clone() }
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for Finish<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let work = self.work.as_mut().expect("not polled again after it was ready");
        let polled = work.as_mut().poll(cx);
        if polled.is_ready() {
            self.work = None;
        }
        polled
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for Finish<F> {
    fn drop(&mut self) {
        // Without a runtime the process is ending, and what is in the log is found at the next start.
        if let Some(work) = self.work.take()
            && tokio::runtime::Handle::try_current().is_ok()
        {
            self.scope.spawn_to_end("finish-request", async move {
                drop(work.await);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_begun_is_finished_though_nobody_waits() {
        let scope = Scope::new();
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let (done_tx, done) = tokio::sync::oneshot::channel();
        let mut work = Box::pin(Finish::new(&scope, async move {
            wait.await.unwrap();
            done_tx.send(7).unwrap();
        }));
        let first = tokio::time::timeout(std::time::Duration::ZERO, &mut work).await;
        assert!(first.is_err(), "it waits");
        drop(work);
        go.send(()).unwrap();
        assert_eq!(done.await, Ok(7));
        scope.join().await;
    }
}
