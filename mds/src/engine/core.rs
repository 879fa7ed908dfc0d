//! What the applier owns, and how it carries out a group of commands.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::error::{EngineError, Poison};
use super::head::Head;
use super::machine::StateMachine;
use crate::log::{Log, LogError};
use crate::store::{Batch, MetaStore, Txn, View};

/// Term of all records while there is one voter.
pub(super) const TERM: u64 = 1;

type Answer<M> = Result<<M as StateMachine>::Outcome, ErrorOf<M>>;
type Reply<M> = oneshot::Sender<Answer<M>>;
pub(super) type ErrorOf<M> = EngineError<<M as StateMachine>::Error>;
type Built<M> = Result<<M as StateMachine>::Command, <M as StateMachine>::Error>;
pub(super) type Build<M> = Box<dyn FnOnce(&dyn View) -> Built<M> + Send>;

/// A command to be made and carried out.
pub(super) struct Submit<M: StateMachine> {
    pub(super) build: Build<M>,
    pub(super) reply: Reply<M>,
}

/// What the applier is asked for.
pub(super) enum Job<M: StateMachine> {
    Submit(Submit<M>),
    /// From now on, every batch also goes to `sink`; tells the state before the first.
    Tap {
        sink: mpsc::Sender<Arc<Batch>>,
        head: oneshot::Sender<Head>,
    },
    /// No more of that; tells the state after the last.
    Untap {
        head: oneshot::Sender<Head>,
    },
}

/// The state machine, its store and its log.
pub(super) struct Core<M: StateMachine> {
    pub(super) machine: M,
    pub(super) store: Arc<dyn MetaStore>,
    pub(super) log: Log,
    pub(super) head: Head,
    pub(super) tap: Option<mpsc::Sender<Arc<Batch>>>,
    pub(super) scratch: Vec<u8>,
}

/// A group after its commit.
pub(super) struct Done<M: StateMachine> {
    answers: Vec<(Reply<M>, Answer<M>)>,
    /// Its changes, for the tap.
    pub(super) batch: Option<Arc<Batch>>,
}

impl<M: StateMachine> Done<M> {
    /// Tells everybody.
    pub(super) fn answer(self) {
        for (reply, answer) in self.answers {
            // Whoever asked may have gone.
            drop(reply.send(answer));
        }
    }
}

impl<M: StateMachine> Core<M> {
    /// Applies a group to an overlay, writes one piece of log and one batch. The error is why
    /// the engine must stop; everybody in the group has then been told.
    pub(super) fn run(&mut self, group: Vec<Submit<M>>) -> Result<Done<M>, Arc<Poison>> {
        let store = Arc::clone(&self.store);
        let mut txn = Txn::new(&*store);
        let mut head = self.head;
        let mut answers = Vec::with_capacity(group.len());
        for Submit { build, reply } in group {
            txn.mark();
            let answer = self.one(&mut txn, &mut head, build);
            if answer.is_err() {
                txn.rollback();
            }
            answers.push((reply, answer));
        }
        let mut batch = txn.into_batch();
        let mut done = Done { answers, batch: None };
        if head == self.head {
            return self.checked(done);
        }
        match self.log.commit() {
            Ok(()) => {}
            Err(error @ LogError::NoSpace { .. }) => {
                refuse_all(&mut done, EngineError::NoSpace, &Arc::new(error));
                return Ok(done);
            }
            Err(error) => return Err(poison(done, error.into())),
        }
        head.store_in(&mut batch);
        if let Err(error) = self.store.apply(&batch) {
            return Err(poison(done, error.into()));
        }
        self.head = head;
        done.batch = self.tap.is_some().then(|| Arc::new(batch));
        self.checked(done)
    }

    /// A store that has seen damage is not served, though the group itself may be well.
    fn checked(&self, done: Done<M>) -> Result<Done<M>, Arc<Poison>> {
        match self.store.health() {
            Ok(()) => Ok(done),
            Err(error) => Err(poison(done, error.into())),
        }
    }

    fn one(
        &mut self,
        txn: &mut Txn<'_>,
        head: &mut Head,
        build: Build<M>,
    ) -> Result<M::Outcome, ErrorOf<M>> {
        let command = build(txn).map_err(EngineError::Refused)?;
        let outcome = self.machine.apply(txn, &command).map_err(EngineError::Refused)?;
        if let Err(error) = txn.check_changes() {
            return Err(EngineError::Refused(error.into()));
        }
        // What changes nothing, such as a resend, need not be remembered.
        if txn.is_changed() {
            self.scratch.clear();
            self.machine.encode(&command, &mut self.scratch);
            let pushed = self.log.push(TERM, &self.scratch);
            let index = pushed.map_err(EngineError::TooLong)?;
            *head = head.advance(index, TERM, txn);
        }
        Ok(outcome)
    }
}

/// Turns every success of the group into an error: nothing of it happened.
fn refuse_all<M: StateMachine, C>(
    done: &mut Done<M>,
    error: impl Fn(Arc<C>) -> ErrorOf<M>,
    cause: &Arc<C>,
) {
    for (_, answer) in &mut done.answers {
        if answer.is_ok() {
            *answer = Err(error(Arc::clone(cause)));
        }
    }
}

fn poison<M: StateMachine>(mut done: Done<M>, cause: Poison) -> Arc<Poison> {
    let cause = Arc::new(cause);
    refuse_all(&mut done, EngineError::Poisoned, &cause);
    done.answer();
    cause
}
