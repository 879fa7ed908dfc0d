//! The copytool: takes actions from the coordinator and carries them out.
//!
//! ```text
//! take ─► begin ─► move bytes, a sign of life every two seconds ─► end
//! ```
//!
//! What the buckets have is found out by sweeps, which come with the actions: at most one of each
//! repository at a time, beside all actions.
//!
//! It is a client like any other: it reads files under leases, and is fenced when it is silent.
//! Whatever it was at when it died is given to another.

mod buckets;
mod export;
mod file;
mod found;
mod job;
mod sweep;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nacre_client::{Client, ClientError};
use nacre_node::Scope;
use nacre_proto::v1::{HsmAction, HsmTakeResponse, HsmWork, SweepWork};
use tokio::task::{Id, JoinSet};

use crate::budget::MemoryBudget;
use crate::location::Endpoint;
use crate::retry::Patience;
use buckets::Buckets;
use job::Job;
use sweep::Sweep;

/// Before the coordinator is asked again when it did not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// What a copytool works with.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Where the buckets are.
    pub endpoint: Endpoint,
    /// How often and how long S3 is asked.
    pub patience: Patience,
    /// A folder of its own: what it must remember over a crash.
    pub state: PathBuf,
    /// File data held at a time, in bytes, over all actions.
    pub memory_bytes: u32,
    /// Restores at a time, at most 64.
    pub restores: u32,
    /// Other actions at a time, at most 64.
    pub others: u32,
    /// Pieces of one file under way at a time.
    pub pieces: usize,
}

/// What all actions share.
struct Agent {
    client: Client,
    buckets: Buckets,
}

/// Works until the scope stops; what is under way then is given up, and given to others.
pub async fn run(client: Client, config: AgentConfig, scope: &Scope) {
    let budget = MemoryBudget::new(config.memory_bytes);
    let buckets = Buckets::new(&config, budget);
    let agent = Arc::new(Agent { client, buckets });
    let mut work = Work { limits: (config.restores, config.others), ..Work::default() };
    while !scope.is_stopped() {
        let asking = agent.take(work.room(), work.cookies());
        tokio::select! {
            () = scope.stopped() => {}
            () = work.one_ends(), if !work.jobs.is_empty() => {}
            taken = asking, if work.has_room() => match taken {
                Ok(taken) => {
                    taken.work.into_iter().for_each(|taken| work.start(&agent, taken));
                    taken.sweep.into_iter().for_each(|sweep| work.start_sweep(&agent, sweep));
                }
                Err(error) => {
                    tracing::debug!(%error, "the coordinator does not answer");
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
}

impl Agent {
    async fn take(
        &self,
        (restores, others): (u32, u32),
        working: Vec<u64>,
    ) -> Result<HsmTakeResponse, ClientError> {
        self.client.hsm_take(restores, others, working).await
    }
}

/// What is under way.
#[derive(Default)]
struct Work {
    /// Restores, and others.
    limits: (u32, u32),
    jobs: JoinSet<()>,
    /// What each of them is at that carries out an action.
    taken: HashMap<Id, (u64, HsmAction)>,
    /// Which repository each of the others sweeps.
    swept: HashMap<Id, u32>,
}

impl Work {
    fn room(&self) -> (u32, u32) {
        let is_restore = |taken: &&(u64, HsmAction)| taken.1 == HsmAction::Restore;
        let restores = self.taken.values().filter(is_restore).count();
        let others = self.taken.len().saturating_sub(restores);
        let left =
            |limit: u32, used: usize| limit.saturating_sub(u32::try_from(used).unwrap_or(u32::MAX));
        (left(self.limits.0, restores), left(self.limits.1, others))
    }

    fn has_room(&self) -> bool {
        self.room() != (0, 0)
    }

    fn cookies(&self) -> Vec<u64> {
        self.taken.values().map(|(cookie, _)| *cookie).collect()
    }

    fn start(&mut self, agent: &Arc<Agent>, taken: HsmWork) {
        let Some(fid) = taken.fid else { return };
        let (cookie, action) = (taken.cookie, taken.action());
        let job = Job { agent: Arc::clone(agent), cookie, action, fid: fid.into() };
        let task = self.jobs.spawn(job.run());
        self.taken.insert(task.id(), (cookie, action));
    }

    /// A sweep of a repository that is being swept here is given out again once that has ended.
    fn start_sweep(&mut self, agent: &Arc<Agent>, work: SweepWork) {
        let Some(repository) = work.repository else { return };
        let id = repository.id;
        if self.swept.values().any(|swept| *swept == id) {
            return;
        }
        let (number, after) = (work.sweep, work.after);
        let sweep = Sweep { agent: Arc::clone(agent), repository, number, after };
        let task = self.jobs.spawn(sweep.run());
        self.swept.insert(task.id(), id);
    }

    async fn one_ends(&mut self) {
        let id = match self.jobs.join_next_with_id().await {
            Some(Ok((id, ()))) => id,
            Some(Err(error)) => {
                tracing::error!(%error, "an action or a sweep panicked");
                error.id()
            }
            None => return,
        };
        self.taken.remove(&id);
        self.swept.remove(&id);
    }
}
