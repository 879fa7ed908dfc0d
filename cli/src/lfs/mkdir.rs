//! `lfs mkdir`.

use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use clap::Args;

use super::error::LfsError;

/// Arguments of `lfs mkdir`.
#[derive(Debug, Args)]
pub(crate) struct MkdirArgs {
    /// MDT to make it on; only 0 so far.
    #[arg(
        short = 'i',
        long,
        value_name = "INDEX",
        default_value_t = 0,
        allow_hyphen_values = true
    )]
    mdt_index: i32,
    /// MDTs to spread it over; only 1 so far.
    #[arg(
        short = 'c',
        long,
        value_name = "COUNT",
        default_value_t = 1,
        allow_hyphen_values = true
    )]
    mdt_count: i32,
    /// Permissions, octal, before the umask.
    #[arg(short, long, default_value = "777")]
    mode: String,
    /// Make parents too, and do not mind folders that exist.
    #[arg(short, long)]
    parents: bool,
    /// Folders.
    #[arg(required = true)]
    dirs: Vec<PathBuf>,
}

/// Makes folders.
pub(crate) fn run(args: &MkdirArgs) -> Result<(), LfsError> {
    if !matches!(args.mdt_index, 0 | -1) {
        let text = format!("-i {}: there is one MDT, with index 0", args.mdt_index);
        return Err(LfsError::invalid(text));
    }
    if !(-1..=1).contains(&args.mdt_count) {
        let text = format!("-c {}: there is one MDT", args.mdt_count);
        return Err(LfsError::invalid(text));
    }
    let mode = u32::from_str_radix(&args.mode, 8).ok().filter(|mode| *mode <= 0o7777);
    let mode = mode.ok_or_else(|| {
        LfsError::invalid(format!("-m {}: not an octal mode up to 7777", args.mode))
    })?;
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(args.parents).mode(mode);
    args.dirs.iter().try_for_each(|dir| builder.create(dir).map_err(|e| LfsError::at(dir, e)))
}
