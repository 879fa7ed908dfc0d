//! The process that works on the folder, as whoever started it sees it.
//!
//! It writes one line for each thing it knows, the number of a command behind the word:
//!
//! ```text
//! rebuilt REASON    the store had to be thrown away
//! wrong WHY         what is there is not the state after the commands that it says it holds
//! opened N          opened, compared and checked; N commands are there, and on the disk
//! seen N            command N was acknowledged
//! synced N          command N, and all before it, were acknowledged as being on the disk
//! done              all commands asked for were carried out; it waits until its input ends
//! closed            stopped in an orderly way
//! failed WHY        what the disk said
//! ```

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::wait;

/// No round takes longer, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a process has told so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Commands found at the start.
    pub opened: Option<u64>,
    /// Why the store was thrown away.
    pub rebuilt: Option<String>,
    /// What is not as it must be.
    pub wrong: Option<String>,
    /// Last command acknowledged.
    pub seen: u64,
    /// Last command that was said to be on the disk.
    pub synced: u64,
    /// All commands were carried out.
    pub done: bool,
    /// It stopped in an orderly way.
    pub closed: bool,
    /// Why it did not.
    pub failed: Option<String>,
}

impl Told {
    fn line(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let number = || rest.parse().unwrap_or_default();
        match word {
            "rebuilt" => self.rebuilt = Some(rest.to_owned()),
            "wrong" => drop(self.wrong.get_or_insert_with(|| rest.to_owned())),
            "opened" => self.opened = Some(number()),
            "seen" => self.seen = self.seen.max(number()),
            "synced" => self.synced = self.synced.max(number()),
            "done" => self.done = true,
            "closed" => self.closed = true,
            _ => self.failed = Some(line.trim_start_matches("failed ").to_owned()),
        }
    }
}

/// A running process.
pub struct Worker {
    child: Child,
    told: Arc<Mutex<Told>>,
    ended: Arc<AtomicBool>,
}

impl Worker {
    /// Starts `program`, which works on `folder` until it has carried out `commands`; `more` are further
    /// arguments.
    pub fn start(
        program: &Path,
        folder: &Path,
        seed: u64,
        commands: u64,
        more: &[&str],
    ) -> std::io::Result<Self> {
        let mut child = Command::new(program)
            .arg(folder)
            .arg(seed.to_string())
            .arg(commands.to_string())
            .args(more)
            // A store that is cut off panics when it is closed, which is no news.
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().ok_or(std::io::ErrorKind::BrokenPipe)?;
        let (told, ended) = (Arc::<Mutex<Told>>::default(), Arc::<AtomicBool>::default());
        let (all, end) = (Arc::clone(&told), Arc::clone(&ended));
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                all.lock().line(&line);
            }
            end.store(true, Ordering::Release);
        });
        Ok(Self { child, told, ended })
    }

    /// What it has told.
    pub fn told(&self) -> Told {
        self.told.lock().clone()
    }

    /// Waits until it has told something for which `condition` holds, or has ended.
    pub fn await_told(&self, condition: impl Fn(&Told) -> bool) -> Told {
        let there = || self.ended.load(Ordering::Acquire) || condition(&self.told.lock());
        assert!(wait::until(PATIENCE, there), "hangs for {PATIENCE:?}: {:?}", self.told());
        self.told()
    }

    /// Kills it; what it has told by then. All of its files are closed afterwards.
    pub fn kill(mut self) -> Told {
        self.end();
        self.told()
    }

    /// Lets it stop in an orderly way, and waits for that.
    pub fn close(mut self) -> Told {
        drop(self.child.stdin.take());
        self.await_told(|_| false);
        self.end();
        self.told()
    }

    fn end(&mut self) {
        // It may have ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
        wait::until(PATIENCE, || self.ended.load(Ordering::Acquire));
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
