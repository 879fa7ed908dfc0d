//! The holder: keeps a mount while the process that serves it comes and goes
//! (`docs/adr/0016-holder-of-the-mount.md`).
//!
//! ```text
//! nacre mount ─ holder: descriptors of /dev/fuse, the journal; serves nothing
//!    └─ nacre mount --held ─ the daemon: mounts by these descriptors, and serves
//! ```
//!
//! When the daemon dies the kernel's requests stay, for the descriptors are still open; the next
//! daemon asks for those that were not answered. SIGUSR2 makes one daemon hand over to the next,
//! which may be of a newer program; SIGTERM ends the mount.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use nacre_client::Journal;
use nacre_client::fuse::Queues;
use rustix::fs::MemfdFlags;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use rustix::process::Signal;
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};

use super::table;
use crate::args::ChildArgs;
use crate::process;

/// Exit code of a daemon that has left everything to the next one.
pub(super) const HANDED_OVER: i32 = 75;
/// So many daemons may die within [`WHILE`]; then whatever kills them will kill the next.
const DEATHS_MAX: usize = 20;
const WHILE: Duration = Duration::from_secs(60);
/// So many are replaced at once, the others after a pause.
const DEATHS_AT_ONCE: usize = 6;
const PAUSE: Duration = Duration::from_millis(250);
/// Descriptors that are passed on: the journal and a queue for each reader.
const DESCRIPTORS_MAX: usize = 64;

/// What a daemon gets from its holder.
pub(super) struct Legacy {
    pub(super) journal: Journal,
    pub(super) queues: Queues,
}

/// Keeps a mount until it is unmounted.
pub(super) fn main(child: ChildArgs, target: &Path) -> anyhow::Result<ExitCode> {
    if child.supervised {
        process::follow_parent()?;
    }
    process::name_holder();
    let holder = Holder::new(target)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(holder.keep())
}

struct Holder {
    exe: PathBuf,
    target: PathBuf,
    queues: Queues,
    journal: File,
    deaths: Deaths,
}

/// Why a daemon ended, as far as it decides what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The mount is gone, or never came to be.
    End,
    /// It was asked to make room.
    Replace,
    /// It died.
    Mourn,
}

/// What the holder is told by signals.
struct Asked {
    terminate: Signals,
    interrupt: Signals,
    replace: Signals,
}

impl Holder {
    fn new(target: &Path) -> anyhow::Result<Self> {
        let journal = rustix::fs::memfd_create("nacre-journal", MemfdFlags::CLOEXEC)?;
        Ok(Self {
            // Now: later it may have been replaced, and the next daemon shall be of what is there.
            exe: std::env::current_exe().context("find this program")?,
            target: target.to_owned(),
            queues: Queues::open().context("open /dev/fuse")?,
            journal: journal.into(),
            deaths: Deaths::default(),
        })
    }

    async fn keep(mut self) -> anyhow::Result<ExitCode> {
        let mut asked = Asked {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            replace: signal(SignalKind::user_defined2())?,
        };
        let mut first = true;
        loop {
            let mut daemon = self.start(first)?;
            first = false;
            let mut stopping = false;
            let status = loop {
                let signal = tokio::select! {
                    status = daemon.wait() => break status.context("wait for the daemon")?,
                    _ = asked.terminate.recv() => Signal::TERM,
                    _ = asked.interrupt.recv() => Signal::TERM,
                    _ = asked.replace.recv() => Signal::USR2,
                };
                stopping |= signal == Signal::TERM;
                if let Some(pid) = daemon.id() {
                    process::send_signal(pid, signal);
                }
            };
            let next = if stopping { Next::End } else { self.after(status) };
            match next {
                Next::End => return Ok(self.end(status)),
                Next::Replace => say("the daemon has handed over"),
                Next::Mourn => {
                    let Some(pause) = self.deaths.another(Instant::now()) else {
                        say(&format!(
                            "{DEATHS_MAX} daemons died within {WHILE:?}, the last with {status}: \
                             giving the mount up"
                        ));
                        return Ok(self.end(status));
                    };
                    say(&format!("the daemon ended with {status}: another one takes over"));
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    fn after(&self, status: ExitStatus) -> Next {
        if status.code() == Some(HANDED_OVER) {
            Next::Replace
        } else if status.success() || !Journal::was_served(&self.journal) {
            Next::End
        } else {
            Next::Mourn
        }
    }

    /// A mount that its daemon could not take away gives errors from now on.
    fn end(&self, status: ExitStatus) -> ExitCode {
        if status.success() {
            return ExitCode::SUCCESS;
        }
        let ours = |mounted: &table::Mounted| mounted.fs_type == table::FS_TYPE;
        if Journal::was_served(&self.journal)
            && table::at(&self.target).is_ok_and(|mounted| mounted.as_ref().is_some_and(ours))
            && let Err(error) = super::unmount_lazily(&self.target)
        {
            say(&format!("{error:#}"));
        }
        ExitCode::FAILURE
    }

    /// Starts a daemon. The first says when it serves, to whom the holder was asked by.
    fn start(&self, first: bool) -> anyhow::Result<tokio::process::Child> {
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let mut fds: Vec<BorrowedFd<'_>> = vec![self.journal.as_fd()];
        fds.extend(self.queues.fds().iter().map(AsFd::as_fd));
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        anyhow::ensure!(control.push(SendAncillaryMessage::ScmRights(&fds)), "too many queues");
        rustix::net::sendmsg(&ours, &[IoSlice::new(&[0])], &mut control, SendFlags::empty())
            .context("pass the descriptors on")?;
        let mut command = Command::new(&self.exe);
        command.arg0("nacre");
        for arg in std::env::args_os().skip(1) {
            let once = arg == "--background" || arg == "--supervised";
            if !once && (first || arg != "--announce") {
                command.arg(arg);
            }
        }
        command.arg("--held").stdin(Stdio::from(theirs));
        if !first {
            command.stdout(Stdio::null());
        }
        let mut command = tokio::process::Command::from(command);
        command.spawn().context("start the daemon")
    }
}

/// Takes what the holder has sent, on standard input.
pub(super) fn receive() -> anyhow::Result<Legacy> {
    let stdin = std::io::stdin();
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    rustix::net::recvmsg(&stdin, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)
        .context("--held is for the holder of a mount")?;
    let mut fds: VecDeque<OwnedFd> = VecDeque::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    let journal = fds.pop_front().context("no descriptors came")?;
    Ok(Legacy { journal: Journal::take_up(journal.into())?, queues: Queues::from_fds(fds.into()) })
}

/// Daemons that died of late.
#[derive(Debug, Default)]
struct Deaths(VecDeque<Instant>);

impl Deaths {
    /// One more. How long to wait before the next is started; `None`: it would die too.
    fn another(&mut self, now: Instant) -> Option<Duration> {
        self.0.retain(|death| now.saturating_duration_since(*death) < WHILE);
        self.0.push_back(now);
        let count = self.0.len();
        let pause = if count > DEATHS_AT_ONCE { PAUSE } else { Duration::ZERO };
        (count < DEATHS_MAX).then_some(pause)
    }
}

/// A line in the log of the mount.
fn say(line: &str) {
    // Nobody may be listening any more.
    let _ = writeln!(std::io::stderr(), "nacre mount: {line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daemons_that_die_too_fast_are_not_replaced_for_ever() {
        let mut deaths = Deaths::default();
        let at = |seconds| Instant::now() + Duration::from_secs(seconds);
        for death in 1..DEATHS_MAX {
            let pause = deaths.another(at(0)).unwrap();
            assert_eq!(pause.is_zero(), death <= DEATHS_AT_ONCE, "{death}");
        }
        assert_eq!(deaths.another(at(1)), None);
        assert_eq!(deaths.another(at(70)), Some(Duration::ZERO), "that was long ago");
    }
}
