//! `nacre format`.

use std::process::ExitCode;

use nacre_node::{FolderKind, Identity};

use crate::args::FormatArgs;

/// Formats one folder.
pub(crate) fn main(args: &FormatArgs) -> anyhow::Result<ExitCode> {
    let kind = if args.mgs {
        FolderKind::Mgs
    } else if args.mdt {
        FolderKind::Mdt
    } else {
        FolderKind::Ost
    };
    let index = args.index.unwrap_or(0);
    if kind == FolderKind::Mdt && index != 0 {
        anyhow::bail!("--index {index}: one MDT is supported so far, with index 0");
    }
    let mgs_nodes = if kind == FolderKind::Mgs { Vec::new() } else { args.mgsnode.clone() };
    let identity = Identity::new(kind, &args.fsname, index, mgs_nodes);
    identity.format(&args.dir)?;
    outln!("{} is now {} of file system `{}`", args.dir.display(), identity.name(), args.fsname);
    Ok(ExitCode::SUCCESS)
}
