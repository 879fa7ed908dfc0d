//! Every interleaving of leases, recalls, evictions and fences, with two or three clients, one
//! inode and one OST; messages are reordered, and lost.
//!
//! The table of leases is the product's own. What is modelled is what stands around it: requests
//! of the server, clients, and the OST; see `state.rs` and `steps.rs`. Each mutant leaves out one
//! thing that the protocol needs, and must be found.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it")]

mod client;
mod server;
mod state;

use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::state::{Action, Bounds, Kind, Message, Mutant, Protocol, State};

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.bounds)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.client_actions(state, actions);
        self.server_actions(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        self.act(&mut next, action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("I21: whoever has it exclusively has it alone", |_, state: &State| {
                state.alone()
            }),
            Property::always(
                "I22: no write lands after its lease was given to others",
                |_, s: &State| !s.late_write,
            ),
            Property::always("nothing used under a lease is old", |_, s: &State| s.fresh()),
            Property::always("no answer is older than its question", |_, s: &State| {
                !s.stale_answer
            }),
            Property::sometimes("all of a recalled lease comes back", |_, s: &State| {
                let whole = |m: &Message| matches!(m, Message::Return { keep: None, .. });
                s.network.iter().any(whole)
            }),
            Property::sometimes(
                "a client reads what another wrote under its lease",
                |_, s: &State| {
                    let written = |m: &Message| {
                        matches!(m, Message::Reply { kind: Kind::Get, version, .. }
                        if *version > 0 && *version == s.object)
                    };
                    s.network.iter().any(written)
                },
            ),
        ]
    }
}

/// Two clients that read, change and write; recalls come twice.
const REPEATS: Bounds = Bounds { clients: 2, operations: 2, losses: 0, evictions: 0, repeats: 1 };
/// A message is lost.
const LOSSES: Bounds = Bounds { losses: 1, repeats: 0, ..REPEATS };
/// The first is evicted.
const EVICTION: Bounds = Bounds { evictions: 1, repeats: 0, ..REPEATS };
/// Three that do one thing each, and the first may be evicted.
const THREE: Bounds = Bounds { clients: 3, operations: 1, ..EVICTION };

fn check(bounds: Bounds) {
    let checker = Protocol { bounds, mutant: None }.checker().threads(2).spawn_bfs().join();
    println!("{} states", checker.unique_state_count());
    let failures = failures(&checker);
    assert!(failures.is_empty(), "{failures:?}");
}

/// Properties with a counterexample, and how it comes about.
fn failures(checker: &impl Checker<Protocol>) -> Vec<(&'static str, Vec<Action>)> {
    let discoveries = checker.discoveries().into_iter();
    let failed = discoveries.filter(|(name, _)| {
        matches!(
            checker.discovery_classification(name),
            stateright::DiscoveryClassification::Counterexample
        )
    });
    failed.map(|(name, path)| (name, path.into_actions())).collect()
}

#[test]
fn two_clients_and_recalls_that_come_twice() {
    check(REPEATS);
}

#[test]
fn two_clients_and_a_lost_message() {
    check(LOSSES);
}

#[test]
fn two_clients_and_an_eviction() {
    check(EVICTION);
}

#[test]
fn three_clients_and_an_eviction() {
    check(THREE);
}

#[test]
fn the_model_does_what_it_is_about() {
    let model = Protocol { bounds: Bounds { repeats: 0, ..REPEATS }, mutant: None };
    model.checker().spawn_bfs().join().assert_properties();
}

#[test]
fn every_mutant_is_found() {
    for mutant in Mutant::ALL {
        let found = [REPEATS, EVICTION].into_iter().find_map(|bounds| {
            let model = Protocol { bounds, mutant: Some(mutant) };
            let checker = model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures);
            let checker = checker.spawn_bfs().join();
            failures(&checker).into_iter().next()
        });
        let (property, actions) = found.unwrap_or_else(|| panic!("{mutant:?} was not found"));
        println!("{mutant:?}: not `{property}` after {} steps", actions.len());
    }
}
