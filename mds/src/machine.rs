//! The namespace as the engine drives it.

use bytes::Bytes;

use crate::command::{Command, Outcome};
use crate::engine::StateMachine;
use crate::error::Refusal;
use crate::namespace;
use crate::store::Txn;

/// [`namespace::apply`] behind the engine's trait.
#[derive(Debug, Clone, Copy, Default)]
pub struct Machine;

impl StateMachine for Machine {
    type Command = Command;
    type Outcome = Outcome;
    type Error = Refusal;

    fn apply(&mut self, txn: &mut Txn<'_>, command: &Command) -> Result<Outcome, Refusal> {
        Ok(namespace::apply(txn, command)?)
    }

    fn encode(&self, command: &Command, out: &mut Vec<u8>) {
        out.extend_from_slice(&command.encode());
    }

    fn decode(&self, bytes: &[u8]) -> Result<Command, Refusal> {
        Ok(Command::decode(Bytes::copy_from_slice(bytes))?)
    }
}
