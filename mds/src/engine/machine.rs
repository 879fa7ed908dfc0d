//! What the engine drives.

use nacre_model::ServiceError;

use crate::store::{StoreError, Txn};

/// A pure, sequential state machine over the store.
///
/// Everything that is not deterministic is in the command, so that the same commands in the
/// same order always give the same state.
pub trait StateMachine: Send + 'static {
    /// A change.
    type Command: Send + 'static;
    /// What a change gives.
    type Outcome: Send + 'static;
    /// Why a change is refused.
    type Error: ServiceError + From<StoreError> + Send + Sync + 'static;

    /// Changes the state, or refuses: what it did to `txn` before an error is taken back, and
    /// the command does not enter the log.
    fn apply(
        &mut self,
        txn: &mut Txn<'_>,
        command: &Self::Command,
    ) -> Result<Self::Outcome, Self::Error>;

    /// Appends the bytes of a command to `out`, at least one.
    fn encode(&self, command: &Self::Command, out: &mut Vec<u8>);

    /// The command that [`StateMachine::encode`] wrote, by this release or an older one.
    fn decode(&self, bytes: &[u8]) -> Result<Self::Command, Self::Error>;
}
