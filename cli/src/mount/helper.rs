//! `mount.nacre SOURCE TARGET [-sfnv] [-o OPTIONS]`: what mount(8) calls for `-t nacre`.
//!
//! The mount lives in a background process; this one returns when it is usable. Nothing is
//! printed on success.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{ChildStderr, ChildStdout, Command, ExitCode, Stdio};

use anyhow::Context;

use super::options::Options;
use super::source::Source;

const USAGE: &str = "usage: mount.nacre HOST:PORT[,…]:/FSNAME[/SUBDIR] TARGET [-sfnv] [-o OPTIONS]";

struct Call {
    source: String,
    target: OsString,
    options: Vec<String>,
    /// `-f`: all but the mount itself.
    fake: bool,
}

/// Runs as the mount helper.
pub(crate) fn main() -> anyhow::Result<ExitCode> {
    let call = parse(std::env::args_os().skip(1))?;
    let options = Options::parse(call.options.iter().map(String::as_str))?;
    let _checked: Source = call.source.parse()?;
    if call.fake {
        return Ok(ExitCode::SUCCESS);
    }
    if options.remount {
        super::remount(call.target.as_ref(), &options)?;
        return Ok(ExitCode::SUCCESS);
    }
    in_background(&call, &options)
}

fn parse(mut args: impl Iterator<Item = OsString>) -> anyhow::Result<Call> {
    let (mut plain, mut options, mut fake) = (Vec::new(), Vec::new(), false);
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy();
        if text == "-h" || text == "--help" {
            outln!("{USAGE}");
            std::process::exit(0);
        }
        let flags = text.strip_prefix('-').filter(|flags| !flags.is_empty());
        let Some(flags) = flags else {
            plain.push(arg);
            continue;
        };
        match flags {
            "o" => {
                let list = args.next().context("-o needs options")?;
                options.push(list.to_string_lossy().into_owned());
            }
            "t" | "N" => drop(args.next()),
            flags if flags.bytes().all(|flag| b"sfnvw".contains(&flag)) => {
                fake |= flags.contains('f');
            }
            "r" => options.push("ro".to_owned()),
            other => anyhow::bail!("unknown flag -{other}\n{USAGE}"),
        }
    }
    let [source, target] = <[OsString; 2]>::try_from(plain).map_err(|_| anyhow::anyhow!(USAGE))?;
    let source = source.to_string_lossy().into_owned();
    Ok(Call { source, target, options, fake })
}

/// Starts `nacre mount` in a session of its own and waits until it is mounted or gone.
fn in_background(call: &Call, options: &Options) -> anyhow::Result<ExitCode> {
    let exe = std::env::current_exe().context("find this program")?;
    let mut command = Command::new(exe);
    command.arg0("nacre").arg("mount").arg("--announce").arg("--background");
    command.arg(&call.source);
    // It leaves this folder, so that it keeps nothing busy.
    command.arg(super::table::absolute(call.target.as_ref()).context("mount point")?);
    for list in &call.options {
        command.arg("-o").arg(list);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).current_dir("/");
    match &options.log {
        Some(path) => {
            let log = File::options().append(true).create(true).open(path);
            command.stderr(log.with_context(|| format!("open {}", path.display()))?);
        }
        None => {
            command.stderr(Stdio::piped());
        }
    }
    let mut child = command.spawn().context("start nacre mount")?;
    if let Some(stdout) = child.stdout.take()
        && announced(stdout)
    {
        return Ok(ExitCode::SUCCESS);
    }
    let status = child.wait().context("wait for nacre mount")?;
    let said = child.stderr.take().map(last_words).unwrap_or_default();
    // 32 is mount(8)'s "mount failure".
    eprintln!("mount.nacre: {} on {}: {said}", call.source, call.target.to_string_lossy());
    tracing::debug!(%status, "mount process ended");
    Ok(ExitCode::from(32))
}

fn announced(stdout: ChildStdout) -> bool {
    let mut line = String::new();
    matches!(BufReader::new(stdout).read_line(&mut line), Ok(n) if n > 0) && line.trim() == "ready"
}

/// The last line of what the process said: its error.
fn last_words(stderr: ChildStderr) -> String {
    let lines = BufReader::new(stderr).lines().map_while(Result::ok);
    lines.last().unwrap_or_else(|| "the mount process ended without a word".to_owned())
}
