//! INTERRUPT: a signal for the process that waits for an answer.
//!
//! ```text
//! request read by one thread ──► begin(unique) ──► waits ──► dropped
//! INTERRUPT read by another ──► interrupt(unique) ─┘
//! ```
//!
//! The two threads race: an interrupt that finds no request is kept for it, in a short list.
//! Numbers are never used twice, so what stays there can hit nobody else.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Interrupts kept for requests that have not begun.
const EARLY_MAX: usize = 1024;

/// Requests that can be interrupted.
#[derive(Debug, Clone, Default)]
pub(super) struct Interrupts(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    waiting: HashMap<u64, CancellationToken>,
    early: VecDeque<u64>,
}

impl Interrupts {
    /// Registers request `unique` for as long as the guard lives.
    pub(super) fn begin(&self, unique: u64) -> Interruptible {
        let token = CancellationToken::new();
        let mut table = self.0.lock();
        if let Some(at) = table.early.iter().position(|early| *early == unique) {
            table.early.remove(at);
            token.cancel();
        }
        table.waiting.insert(unique, token.clone());
        Interruptible { unique, token, table: self.clone() }
    }

    /// The kernel wants request `unique` to end soon.
    pub(super) fn interrupt(&self, unique: u64) {
        let mut table = self.0.lock();
        if let Some(token) = table.waiting.get(&unique) {
            token.cancel();
            return;
        }
        if table.early.len() >= EARLY_MAX {
            table.early.pop_front();
        }
        table.early.push_back(unique);
    }
}

/// A request that can be interrupted; forgotten when dropped.
#[derive(Debug)]
pub(super) struct Interruptible {
    unique: u64,
    token: CancellationToken,
    table: Interrupts,
}

impl Interruptible {
    /// Resolves when the request is interrupted.
    pub(super) const fn token(&self) -> &CancellationToken {
        &self.token
    }
}

impl Drop for Interruptible {
    fn drop(&mut self) {
        self.table.0.lock().waiting.remove(&self.unique);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_reaches_its_request_in_either_order() {
        let interrupts = Interrupts::default();
        let (first, other) = (interrupts.begin(2), interrupts.begin(4));
        interrupts.interrupt(2);
        assert!(first.token().is_cancelled() && !other.token().is_cancelled());
        interrupts.interrupt(6);
        assert!(interrupts.begin(6).token().is_cancelled(), "it came before its request");
    }

    #[test]
    fn interrupts_of_finished_requests_do_not_pile_up() {
        let interrupts = Interrupts::default();
        for unique in 0..2 * EARLY_MAX as u64 {
            interrupts.interrupt(unique);
        }
        assert_eq!(interrupts.0.lock().early.len(), EARLY_MAX);
        drop(interrupts.begin(1));
        assert!(interrupts.0.lock().waiting.is_empty());
    }
}
