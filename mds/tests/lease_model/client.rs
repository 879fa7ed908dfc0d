//! Clients, and the network between.

use nacre_mds::leases::Mode;

use crate::state::{Action, End, FID, Kind, Message, Mutant, Protocol, State};

impl Protocol {
    pub(crate) fn client_actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (session, client) in (0_u64..).zip(&state.clients) {
            let exclusive = client.lease.is_some_and(|(mode, _)| mode == Mode::Exclusive);
            if client.operations > 0 && !client.silent && client.recalled.is_none() {
                if client.asked.is_none() && client.kept.is_none() {
                    actions.push(Action::Ask(session, Kind::Get));
                    actions.push(Action::Ask(session, Kind::Change));
                }
                if exclusive && client.kept.is_none() {
                    actions.push(Action::WriteUnderLease(session));
                }
            }
            if client.kept.is_some_and(|(_, on_its_way)| !on_its_way) {
                actions.push(Action::Flush(session));
            }
            let flushed = client.kept.is_none() || self.is(Mutant::ReturnsBeforeFlush);
            if client.recalled.is_some() && flushed {
                actions.push(Action::GiveBack(session));
            }
            if session == 0 && !client.silent && state.evictions > 0 {
                actions.push(Action::FallSilent(session));
            }
        }
        for message in &state.network {
            actions.push(Action::Deliver(*message));
            // A write to an OST is sent until it is answered, on a connection in order.
            if state.losses > 0 && !matches!(message, Message::Write { .. }) {
                actions.push(Action::Lose(*message));
            }
        }
    }

    pub(crate) fn act(&self, state: &mut State, action: Action) {
        match action {
            Action::Ask(session, kind) => {
                let done = state.done;
                let client = state.client(session);
                client.operations -= 1;
                client.asked = Some((kind, done));
                state.network.insert(Message::Ask { session, kind });
            }
            Action::WriteUnderLease(session) => {
                state.last += 1;
                // Its application is told at once.
                state.done = state.last;
                let version = state.last;
                let client = state.client(session);
                client.operations -= 1;
                client.known = version;
                client.kept = Some((version, false));
            }
            Action::Flush(session) => {
                if let Some((version, on_its_way)) = &mut state.client(session).kept {
                    *on_its_way = true;
                    let version = *version;
                    state.network.insert(Message::Write { session, version });
                }
            }
            Action::GiveBack(session) => {
                if let Some((keep, number)) = state.client(session).recalled.take() {
                    state.network.insert(Message::Return { session, keep, number });
                }
            }
            Action::FallSilent(session) => state.client(session).silent = true,
            Action::Lose(message) => {
                state.network.remove(&message);
                state.losses -= 1;
                // Whoever asked gives up, and may ask again.
                if let Message::Ask { session, .. } | Message::Reply { session, .. } = message {
                    state.client(session).asked = None;
                }
            }
            Action::Deliver(message) => {
                state.network.remove(&message);
                self.deliver(state, message);
            }
            server @ (Action::Step(_)
            | Action::RecallAgain(_)
            | Action::Evict(_)
            | Action::Fence(_)
            | Action::Release(_)
            | Action::Land(..)) => self.serve(state, server),
        }
    }

    fn deliver(&self, state: &mut State, message: Message) {
        match message {
            Message::Ask { session, kind } => self.arrive(state, session, kind),
            Message::Reply { session, kind, version, lease } => {
                self.reply(state, session, kind, version, lease);
            }
            Message::Recall { session, keep, number } => {
                let client = state.client(session);
                client.overtaken = client.overtaken.max(number);
                let kept = client.recalled.map_or(keep, |(before, _)| before.min(keep));
                client.recalled = Some((kept, client.overtaken));
                if let Some((mode, own)) = client.lease
                    && own <= number
                {
                    client.lease = keep.map(|keep| (mode.min(keep), own));
                    if client.lease.is_none() {
                        client.known = 0;
                    }
                }
            }
            Message::Return { session, keep, number } => {
                if state.end(session) == End::Alive {
                    let all = self.is(Mutant::ReturnIgnoresNumber);
                    let number = if all { u64::MAX } else { number };
                    state.table.give_back(session, FID, keep, number);
                }
            }
            Message::Write { session, version } => {
                if !state.fenced.contains(&session) {
                    state.writing.insert((session, version));
                }
            }
        }
    }

    fn reply(
        &self,
        state: &mut State,
        session: u64,
        kind: Kind,
        version: u8,
        lease: Option<(Mode, u64)>,
    ) {
        let Some((asked, done)) = state.client(session).asked else { return };
        if asked != kind {
            return;
        }
        state.stale_answer |= version < done;
        if kind == Kind::Change {
            state.done = state.done.max(version);
        }
        let believes = self.is(Mutant::BelievesOvertaken);
        let client = state.client(session);
        client.asked = None;
        if let Some((mode, number)) = lease
            && (number > client.overtaken || believes)
        {
            client.lease = Some((mode, number));
            client.known = version;
        } else if client.lease.is_some() {
            // Its own change: what it knows goes on.
            client.known = client.known.max(version);
        }
    }
}
