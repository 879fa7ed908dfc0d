//! What clients see of each other: names at once, data once it was closed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nacre_client::{Caller, ClientError};
use nacre_model::{Errno, Fid, ServiceError};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::content::Content;
use super::faults::Faults;
use super::net::now;
use super::session::{Broken, Session, Step, name};

/// Between two operations, in milliseconds.
const PAUSE_MS: u64 = 250;
/// Bytes of a file that is shown to others.
const SIZES: [usize; 4] = [100, 9000, 30_000, 150_000];

/// Where a file that was shown to everybody stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Acknowledged, and nobody has touched it since.
    There,
    /// Somebody is removing it, or has failed to.
    Unsure,
    /// Its removal was begun and acknowledged at these times.
    Gone(Duration, Duration),
}

/// A file that was shown to everybody.
#[derive(Debug, Clone)]
struct Item {
    fid: Fid,
    state: State,
    content: Content,
    /// Begun and acknowledged.
    made: (Duration, Duration),
    synced: bool,
}

impl Item {
    /// Whether a power loss may have taken its name.
    fn may_be_lost(&self, faults: &Faults) -> bool {
        !self.synced && faults.mds_may_forget(self.made.0, self.made.1)
    }

    fn must_be_there(&self, faults: &Faults) -> bool {
        self.state == State::There && !self.may_be_lost(faults)
    }

    /// Removed, and no power loss may have brought it back.
    fn must_be_gone(&self, faults: &Faults) -> bool {
        match self.state {
            State::Gone(begun, acked) => !faults.mds_may_forget(begun, acked),
            State::There | State::Unsure => false,
        }
    }
}

/// What clients tell each other, in no simulated time. Clones are the same board.
#[derive(Debug, Clone, Default)]
pub(super) struct Board {
    items: Arc<Mutex<BTreeMap<String, Item>>>,
}

/// A client's part in the shared folder.
#[derive(Debug)]
pub(super) struct Sharer {
    session: Session,
    rng: StdRng,
    folder: Fid,
    board: Board,
    next: u32,
}

impl Sharer {
    /// In the folder that all have.
    pub(super) fn new(session: Session, folder: Fid, board: Board, seed: u64) -> Self {
        Self { session, rng: StdRng::seed_from_u64(seed), folder, board, next: 0 }
    }

    /// Works until then.
    pub(super) async fn work(&mut self, until: Duration) -> Step {
        while now() < until {
            match self.rng.random_range(0..10) {
                0..3 => self.publish().await?,
                3..7 => self.look().await?,
                7 | 8 => self.list().await?,
                _ => self.remove().await?,
            }
            let pause = self.rng.random_range(0..PAUSE_MS);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        Ok(())
    }

    /// Everything is as the board says: to be called when all faults are healed.
    pub(super) async fn check_all(&mut self) -> Step {
        self.list().await?;
        let all: Vec<String> = self.board.items.lock().keys().cloned().collect();
        for item in all {
            self.look_at(&item).await?;
        }
        Ok(())
    }

    async fn publish(&mut self) -> Step {
        let text = format!("c{}-{}", self.session.index, self.next);
        self.next += 1;
        let size = SIZES.get(self.rng.random_range(0..SIZES.len())).copied().unwrap_or_default();
        let mut bytes = vec![0; size];
        self.rng.fill(bytes.as_mut_slice());
        let sync = self.rng.random_bool(0.4);
        let begun = now();
        let made = self.session.create(self.folder, &name(&text)?, None).await;
        self.session.done(&format!("publish {text}"), begun, &made)?;
        let file = match made {
            Ok(file) => file,
            Err(error) => return self.excuse("publish", begun, &error),
        };
        let (fid, acked) = (file.fid(), now());
        let filled = self.session.fill(file, &bytes, sync).await;
        self.session.done(&format!("fill {text} {fid} sync {sync}"), begun, &filled)?;
        if let Err(error) = filled {
            return self.excuse("fill", begun, &error);
        }
        let mut content = Content::default();
        content.wrote(begun, now(), bytes);
        if sync {
            content.synced();
        }
        let item = Item { fid, state: State::There, content, made: (begun, acked), synced: sync };
        self.board.items.lock().insert(text, item);
        Ok(())
    }

    /// The metadata server may have lost the file while it was worked on.
    fn excuse(&self, what: &str, begun: Duration, error: &ClientError) -> Step {
        let lost = self.session.faults.mds_power_loss_after(begun).is_some();
        if lost { Ok(()) } else { self.session.excuse(what, begun, error) }
    }

    fn some_item(&mut self, is: impl Fn(&Item) -> bool) -> Option<String> {
        let items = self.board.items.lock();
        let all: Vec<&String> = items.iter().filter(|(_, i)| is(i)).map(|(n, _)| n).collect();
        let at = (!all.is_empty()).then(|| self.rng.random_range(0..all.len()))?;
        all.get(at).map(|name| (*name).clone())
    }

    async fn look(&mut self) -> Step {
        match self.some_item(|_| true) {
            Some(text) => self.look_at(&text).await,
            None => Ok(()),
        }
    }

    async fn look_at(&mut self, text: &str) -> Step {
        let Some(before) = self.board.items.lock().get(text).cloned() else { return Ok(()) };
        let begun = now();
        let found = self.session.client.lookup(self.folder, &name(text)?).await;
        self.session.done(&format!("look at {text}"), begun, &found)?;
        let faults = &self.session.faults;
        let Some(item) = self.board.items.lock().get(text).cloned() else { return Ok(()) };
        match found {
            Ok(_) if before.must_be_gone(faults) => {
                Err(Broken(format!("{text} is there, but was removed")))
            }
            Ok(attr) if attr.fid != item.fid => {
                Err(Broken(format!("{text} is {}, must be {}", attr.fid, item.fid)))
            }
            Ok(_) => self.read(text, &item).await,
            Err(error) if error.errno() == Errno::ENOENT => {
                if item.must_be_there(faults) {
                    return Err(Broken(format!("{text} is not there, but was acknowledged")));
                }
                Ok(())
            }
            Err(error) => self.excuse("lookup", begun, &error),
        }
    }

    async fn read(&mut self, text: &str, item: &Item) -> Step {
        let begun = now();
        let read = self.session.read(item.fid).await;
        self.session.done(&format!("read {text} {}", item.fid), begun, &read)?;
        let mut items = self.board.items.lock();
        let Some(current) = items.get_mut(text) else { return Ok(()) };
        let faults = &self.session.faults;
        match read {
            Ok(bytes) => {
                let compared = current.content.check(&bytes, faults, now());
                compared.map_err(|why| Broken(format!("{text} {}: {why}", item.fid)))
            }
            // Whoever removed it may have been quicker.
            Err(_) if !current.must_be_there(faults) => Ok(()),
            Err(error) => {
                drop(items);
                self.excuse("read", begun, &error)
            }
        }
    }

    async fn list(&mut self) -> Step {
        let before = self.board.items.lock().clone();
        let begun = now();
        let listed = self.session.list(self.folder).await;
        self.session.done("list all", begun, &listed)?;
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) => return self.excuse("list all", begun, &error),
        };
        let seen: BTreeMap<String, Fid> = listed
            .into_iter()
            .map(|entry| (String::from_utf8_lossy(entry.name.as_bytes()).into_owned(), entry.fid))
            .collect();
        let faults = &self.session.faults;
        let after = self.board.items.lock();
        for (text, item) in &before {
            let there = seen.contains_key(text);
            let still = after.get(text).is_some_and(|item| item.must_be_there(faults));
            if item.must_be_there(faults) && still && !there {
                return Err(Broken(format!("{text} is not listed, but was acknowledged")));
            }
            if item.must_be_gone(faults) && there {
                return Err(Broken(format!("{text} is listed, but was removed")));
            }
        }
        Ok(())
    }

    async fn remove(&mut self) -> Step {
        let Some(text) = self.some_item(|item| item.state == State::There) else { return Ok(()) };
        self.set(&text, State::Unsure);
        let begun = now();
        let gone = self.session.client.unlink(Caller::default(), self.folder, &name(&text)?).await;
        self.session.done(&format!("remove {text}"), begun, &gone)?;
        match gone {
            Ok(()) => {
                self.set(&text, State::Gone(begun, now()));
                Ok(())
            }
            Err(error) => {
                let items = self.board.items.lock();
                let faults = &self.session.faults;
                let lost = items.get(&text).is_some_and(|item| item.may_be_lost(faults));
                drop(items);
                if lost { Ok(()) } else { self.excuse("remove", begun, &error) }
            }
        }
    }

    fn set(&self, text: &str, state: State) {
        if let Some(item) = self.board.items.lock().get_mut(text) {
            item.state = state;
        }
    }
}
