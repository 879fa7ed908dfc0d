//! The engine under a toy machine: a map of names to numbers, and a counter.

use std::sync::Arc;

use nacre_model::{Effect, Errno, Retry, ServiceError};
use nacre_node::disk::mem::MemDisk;
use nacre_node::tasks::{Blocking, Scope};

use super::*;
use crate::store::{MemStore, StoreError, Txn};

/// Adds `amount` to the number of `name`; resending the same `xid` gives the first answer.
#[derive(Debug, Clone, PartialEq)]
struct Add {
    name: u8,
    amount: u64,
    xid: u64,
}

struct Toy;

#[derive(Debug, thiserror::Error)]
enum ToyError {
    #[error("amount 13 is refused")]
    Unlucky,
    #[error("bad bytes")]
    Bytes,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ServiceError for ToyError {
    fn errno(&self) -> Errno {
        Errno::EINVAL
    }
    fn retry(&self) -> Retry {
        Retry::Never
    }
    fn effect(&self) -> Effect {
        Effect::None
    }
}

fn number(bytes: Option<Vec<u8>>) -> u64 {
    bytes.map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap()))
}

impl StateMachine for Toy {
    type Command = Add;
    type Outcome = u64;
    type Error = ToyError;

    fn apply(&mut self, txn: &mut Txn<'_>, add: &Add) -> Result<u64, ToyError> {
        let reply = [&[2][..], &add.xid.to_be_bytes()].concat();
        if let Some(answer) = txn.get(&reply)? {
            return Ok(number(Some(answer)));
        }
        let key = vec![1, add.name];
        let sum = number(txn.get(&key)?) + add.amount;
        txn.put(key, sum.to_le_bytes().to_vec());
        if add.amount == 13 {
            return Err(ToyError::Unlucky);
        }
        txn.put(reply, sum.to_le_bytes().to_vec());
        Ok(sum)
    }

    fn encode(&self, add: &Add, out: &mut Vec<u8>) {
        out.push(add.name);
        out.extend_from_slice(&add.amount.to_le_bytes());
        out.extend_from_slice(&add.xid.to_le_bytes());
    }

    fn decode(&self, bytes: &[u8]) -> Result<Add, ToyError> {
        let at = |at: usize| {
            let chunk = bytes.get(at..).and_then(|b| b.first_chunk()).ok_or(ToyError::Bytes)?;
            Ok::<_, ToyError>(u64::from_le_bytes(*chunk))
        };
        Ok(Add { name: *bytes.first().ok_or(ToyError::Bytes)?, amount: at(1)?, xid: at(9)? })
    }
}

fn config(disk: &MemDisk, store: &Arc<MemStore>) -> EngineConfig {
    let (disk, store) = (Arc::new(disk.clone()), Arc::clone(store));
    let mut config = EngineConfig::new(disk, store, Blocking::Inline, Scope::new());
    config.applier = Applier::Task;
    config.log.segment_bytes = 16 << 10;
    config
}

fn add(name: u8, amount: u64, xid: u64) -> Add {
    Add { name, amount, xid }
}

async fn open(disk: &MemDisk, store: &Arc<MemStore>) -> (Engine<Toy>, Scope) {
    let config = config(disk, store);
    let scope = config.scope.clone();
    (Engine::open(config, Toy).await.unwrap(), scope)
}

#[tokio::test]
async fn answers_are_seen_by_readers_and_replayed_after_a_restart() {
    let (disk, store) = (MemDisk::default(), Arc::new(MemStore::default()));
    let (engine, scope) = open(&disk, &store).await;
    for xid in 0..1000 {
        engine.submit(add(7, 1, xid), false).await.unwrap();
        assert_eq!(number(engine.view().get(&[1, 7]).unwrap()), xid + 1);
    }
    let refused = engine.submit(add(7, 13, 5000), false).await.unwrap_err();
    assert!(matches!(refused, EngineError::Refused(ToyError::Unlucky)));
    assert_eq!(number(engine.view().get(&[1, 7]).unwrap()), 1000);
    assert_eq!(engine.applied(), 1000);
    let head = Head::load(engine.view()).unwrap();
    drop(engine);
    scope.join().await;

    let fresh = Arc::new(MemStore::default());
    let (engine, _scope) = open(&disk, &fresh).await;
    assert_eq!(Head::load(engine.view()).unwrap(), head);
    assert_eq!(engine.submit(add(7, 1, 500), false).await.unwrap(), 501, "a resend");
    assert_eq!(engine.applied(), 1000);
}
