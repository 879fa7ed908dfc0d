//! The server: requests step by step, evictions; and the OST.

use std::time::Duration;

use nacre_mds::leases::{Mode, Others, Touch};

use crate::state::{
    Action, End, FID, Kind, Message, Mutant, NOW, Protocol, Request, Stage, State, pair,
};

impl Protocol {
    pub(crate) fn server_actions(&self, state: &State, actions: &mut Vec<Action>) {
        for request in &state.requests {
            actions.push(Action::Step(request.clone()));
        }
        for (session, client) in (0_u64..).zip(&state.clients) {
            let recall = |message: &Message| matches!(message, Message::Recall { session: to, .. } if *to == session);
            let pending = !state.table.pending(session).is_empty();
            let lost = client.recalled.is_none() && !state.network.iter().any(recall);
            if state.end(session) == End::Alive && pending && lost && state.repeats > 0 {
                actions.push(Action::RecallAgain(session));
            }
            let unheard = client.silent || self.is(Mutant::UsesWhileSilent);
            match state.end(session) {
                // All are alike: it is always the first that is evicted.
                End::Alive if session == 0 && state.evictions > 0 && unheard => {
                    actions.push(Action::Evict(session));
                }
                End::Evicted if !state.fenced.contains(&session) => {
                    actions.push(Action::Fence(session));
                    if self.is(Mutant::ReleasesBeforeFence) {
                        actions.push(Action::Release(session));
                    }
                }
                End::Evicted => {
                    let inside = state.writing.iter().any(|(writer, _)| *writer == session);
                    if !inside || self.is(Mutant::FenceDoesNotWait) {
                        actions.push(Action::Release(session));
                    }
                }
                End::Alive | End::Released => {}
            }
        }
        for (session, version) in &state.writing {
            actions.push(Action::Land(*session, *version));
        }
    }

    pub(crate) fn arrive(&self, state: &mut State, session: u64, kind: Kind) {
        if state.end(session) != End::Alive {
            return;
        }
        if kind == Kind::Change && !self.is(Mutant::NoGuard) {
            state.table.begin(session, FID);
        }
        state.requests.insert(Request { session, kind, stage: Stage::Arrived, lease: None });
    }

    pub(crate) fn serve(&self, state: &mut State, action: Action) {
        match action {
            Action::Step(request) => self.step(state, &request),
            Action::RecallAgain(session) => {
                state.repeats -= 1;
                let pending = state.table.pending(session);
                state.send_recalls(pending);
            }
            Action::Evict(session) => {
                state.evictions -= 1;
                *state.end_mut(session) = End::Evicted;
            }
            Action::Fence(session) => {
                state.fenced.insert(session);
            }
            Action::Release(session) => {
                state.table.end_session(session);
                *state.end_mut(session) = End::Released;
                // What it kept is lost; so is what nobody else was told of.
                state.client(session).kept = None;
                let truth = state.truth();
                state.done = state.done.min(truth);
                for (_, done) in state.clients.iter_mut().filter_map(|c| c.asked.as_mut()) {
                    *done = (*done).min(truth);
                }
            }
            Action::Land(session, version) => {
                state.writing.remove(&(session, version));
                state.object = version;
                state.late_write |= state.end(session) == End::Released;
                let client = state.client(session);
                if client.kept.is_some_and(|(kept, _)| kept == version) {
                    client.kept = None;
                }
            }
            Action::Ask(..)
            | Action::WriteUnderLease(_)
            | Action::Flush(_)
            | Action::GiveBack(_)
            | Action::FallSilent(_)
            | Action::Deliver(_)
            | Action::Lose(_) => unreachable!("of clients"),
        }
    }

    fn step(&self, state: &mut State, request: &Request) {
        state.requests.remove(request);
        let mut next = request.clone();
        match request.stage {
            Stage::Arrived => {
                let weak = self.is(Mutant::ChangeLeavesShared);
                let touch = match request.kind {
                    Kind::Change if !weak => Touch::change(FID),
                    Kind::Change | Kind::Get => Touch::read(FID),
                };
                let skip = request.kind == Kind::Get && self.is(Mutant::ReadsDoNotWait);
                match state.table.need(request.session, &[touch], NOW) {
                    Ok(()) => next.stage = Stage::Free,
                    Err(_) if skip => next.stage = Stage::Free,
                    Err(wait) => state.send_recalls(wait.recalls),
                }
                // The pauses of contended inodes are no matter of safety.
                state.table.prune(NOW + Duration::from_secs(3600));
                if next.stage == Stage::Free
                    && next.kind == Kind::Change
                    && self.is(Mutant::GuardEndsEarly)
                {
                    state.table.end(request.session, FID);
                }
            }
            Stage::Free if self.is(Mutant::GrantAfterRead) && request.kind == Kind::Get => {
                next.stage = Stage::Read(state.truth());
            }
            Stage::Free => {
                next.lease = grant(state, request);
                next.stage = Stage::Granted;
            }
            Stage::Granted => {
                self.answer(state, request, None);
                return;
            }
            Stage::Read(version) => {
                let lease = grant(state, request);
                self.answer(state, &Request { lease, ..request.clone() }, Some(version));
                return;
            }
        }
        state.requests.insert(next);
    }

    fn answer(&self, state: &mut State, request: &Request, read: Option<u8>) {
        let Request { session, kind, lease, .. } = *request;
        // The command of an ended session is refused where changes are applied.
        let refused = state.end(session) == End::Released;
        if kind == Kind::Change {
            if !refused {
                state.last += 1;
                state.inode = state.last;
            }
            if !self.is(Mutant::NoGuard) && !self.is(Mutant::GuardEndsEarly) {
                state.table.end(session, FID);
            }
        }
        if !refused {
            let version = read.unwrap_or(state.truth());
            state.network.insert(Message::Reply { session, kind, version, lease });
        }
    }
}

fn grant(state: &mut State, request: &Request) -> Option<(Mode, u64)> {
    let want = match request.kind {
        Kind::Get => Mode::Shared,
        Kind::Change => Mode::Exclusive,
    };
    pair(state.table.grant(request.session, FID, want, Others::default(), NOW))
}
