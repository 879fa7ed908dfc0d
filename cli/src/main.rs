//! `nacre`: every daemon, the mount, and the tools, in one program.
//!
//! Called as `lfs` or `mount.nacre` (by a link of that name) it is that program.

/// Prints to standard output. A reader that has enough, as `head` has, ends the program quietly.
macro_rules! out {
    ($($arg:tt)*) => { $crate::process::print(format_args!($($arg)*)) };
}

/// [`out!`], and a line's end.
macro_rules! outln {
    ($($arg:tt)*) => { $crate::process::print(format_args!("{}\n", format_args!($($arg)*))) };
}

mod args;
mod bench;
mod copytool;
mod daemon;
mod down;
mod format;
mod fsck;
mod lfs;
mod mount;
mod pages;
mod process;
mod repository;
mod size;
mod status;
mod up;

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};

fn main() -> ExitCode {
    let called = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&called).file_name().and_then(OsStr::to_str).unwrap_or("nacre").to_owned();
    let result = match name.as_str() {
        "lfs" => Ok(lfs::main(std::env::args_os().skip(1))),
        // The second is what mount(8) looks for to remount, since that is the type of the mount.
        "mount.nacre" | "mount.fuse.nacre" => mount::helper::main(),
        _ => run(Cli::parse().command),
    };
    result.unwrap_or_else(|error| {
        eprintln!("{name}: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up(args) => up::main(args),
        Command::Down(args) => down::main(&args),
        Command::Status(args) => status::main(&args),
        Command::Format(args) => format::main(&args),
        Command::Mgs(args) => daemon::mgs(args),
        Command::Mds(args) => daemon::mds(args),
        Command::Oss(args) => daemon::oss(args),
        Command::Mount(args) => mount::main(args),
        Command::Copytool(args) => copytool::main(args),
        Command::S3(args) => copytool::embedded(args),
        Command::Link(args) => repository::link(&args),
        Command::Unlink(args) => repository::unlink(&args),
        Command::Links(args) => repository::links(&args),
        Command::Lfs { args } => Ok(lfs::main(args.into_iter())),
        Command::Bench(args) => {
            bench::run(&args)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Fsck(args) => Ok(fsck::main(&args)),
        Command::Completions { shell } => Ok(pages::completions(shell)),
        Command::Man { dir } => pages::man(&dir),
    }
}
