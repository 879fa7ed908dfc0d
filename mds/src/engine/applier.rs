//! The one task that changes the state.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;

use super::core::{Core, Job, Submit};
use super::head::Head;
use super::machine::StateMachine;
use super::status::Status;

/// Commands carried out as one group, at most.
pub(super) const GROUP_MAX: usize = 256;

/// Runs until nobody can ask any more, the scope stops, or something fails.
pub(super) async fn run<M: StateMachine>(
    mut core: Core<M>,
    mut jobs: mpsc::Receiver<Job<M>>,
    status: Arc<Status>,
    stopped: impl Future<Output = ()>,
) {
    let _finish = status.finish_on_drop();
    tokio::pin!(stopped);
    let mut stopping = false;
    let mut arrived = Vec::with_capacity(GROUP_MAX);
    loop {
        // Cancel safe: a job that was not put into `arrived` stays in the queue.
        let count = tokio::select! {
            biased;
            () = &mut stopped, if !stopping => {
                // What was accepted is finished; nothing new comes in.
                stopping = true;
                jobs.close();
                continue;
            }
            count = jobs.recv_many(&mut arrived, GROUP_MAX) => count,
        };
        if count == 0 {
            return;
        }
        if serve(&mut core, &mut arrived, &status).await.is_err() {
            return;
        }
    }
}

struct Failed;

async fn serve<M: StateMachine>(
    core: &mut Core<M>,
    arrived: &mut Vec<Job<M>>,
    status: &Status,
) -> Result<(), Failed> {
    let mut group = Vec::with_capacity(arrived.len());
    for job in arrived.drain(..) {
        match job {
            Job::Submit(submit) => group.push(submit),
            Job::Tap { sink, head } => {
                commit(core, std::mem::take(&mut group), status).await?;
                core.tap = Some(sink);
                // A snapshot that was given up does not listen.
                let _: Result<(), Head> = head.send(core.head);
            }
            Job::Untap { head } => {
                commit(core, std::mem::take(&mut group), status).await?;
                core.tap = None;
                // A snapshot that was given up does not listen.
                let _: Result<(), Head> = head.send(core.head);
            }
        }
    }
    commit(core, group, status).await
}

async fn commit<M: StateMachine>(
    core: &mut Core<M>,
    group: Vec<Submit<M>>,
    status: &Status,
) -> Result<(), Failed> {
    if group.is_empty() {
        return Ok(());
    }
    metrics::counter!("nacre_mds_groups_total").increment(1);
    metrics::counter!("nacre_mds_commands_total").increment(group.len() as u64);
    let mut done = match core.run(group) {
        Ok(done) => done,
        Err(cause) => {
            status.poison(cause);
            return Err(Failed);
        }
    };
    if let (Some(batch), Some(tap)) = (done.batch.take(), &core.tap)
        // A full tap slows everybody down to the speed of the snapshot: memory stays bounded.
        && tap.send(batch).await.is_err()
    {
        core.tap = None;
    }
    status.applied.store(core.head.applied, Ordering::Release);
    status.dirty.notify_one();
    done.answer();
    Ok(())
}
