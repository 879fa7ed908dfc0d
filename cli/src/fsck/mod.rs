//! `nacre fsck`: the offline check of a cluster's folders.
//!
//! Each target is checked by itself; then what the metadata knows of objects is held against
//! what is on the OSTs. Objects that nobody knows are orphans; objects that a work record will
//! destroy, or that a crash kept from being removed, are on their way out and no finding.

mod mdt;
mod mgs;
mod ost;
mod report;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use nacre_model::{ObjectId, OstIndex};
use nacre_node::{FolderKind, Identity, TargetFolder};

use report::Report;

/// Arguments of `nacre fsck`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code: 0 all is well, 1 there are findings, 2 the check could not run."
)]
pub(crate) struct FsckArgs {
    /// A target folder, or a folder of target folders such as that of `nacre up`. May be given
    /// several times.
    #[arg(long, value_name = "DIR", required = true)]
    dir: Vec<PathBuf>,
    /// Do not read and verify file data, only its headers.
    #[arg(long)]
    quick: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What metadata says of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// It holds data, or may soon.
    Live,
    /// It shall be destroyed.
    Doomed,
}

/// What metadata says of all objects of each OST.
type KnownObjects = BTreeMap<OstIndex, BTreeMap<ObjectId, Known>>;

/// Checks; a check that cannot run is code 2.
pub(crate) fn main(args: &FsckArgs) -> ExitCode {
    match check(args) {
        Ok(report) => {
            out!("{}", if args.json { report.json() } else { report.text() });
            if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(1) }
        }
        Err(error) => {
            eprintln!("nacre fsck: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn check(args: &FsckArgs) -> anyhow::Result<Report> {
    let folders = lock_all(&args.dir)?;
    let mut report = Report::default();
    let mut known: Option<KnownObjects> = None;
    for folder in &folders {
        match folder.identity().kind {
            FolderKind::Mgs => mgs::check(folder, &mut report)?,
            FolderKind::Mdt => known = Some(mdt::check(folder, &mut report)?),
            FolderKind::Ost => {}
        }
    }
    for folder in folders.iter().filter(|folder| folder.identity().kind == FolderKind::Ost) {
        ost::check(folder, known.as_ref(), !args.quick, &mut report)?;
    }
    if known.is_none() {
        report.note("no MDT among the folders: orphans were not looked for");
    }
    Ok(report)
}

/// Locks every target below the given folders: nobody may serve one meanwhile.
fn lock_all(dirs: &[PathBuf]) -> anyhow::Result<Vec<TargetFolder>> {
    let mut folders = Vec::new();
    for dir in dirs {
        for target in targets_in(dir)? {
            let kind = Identity::read(&target)?.kind;
            folders.push(TargetFolder::open(&target, kind)?);
        }
    }
    anyhow::ensure!(!folders.is_empty(), "no target folder was found");
    let fsname = folders.first().map(|folder| folder.identity().fsname.clone());
    let strange = folders.iter().find(|f| Some(&f.identity().fsname) != fsname.as_ref());
    if let Some(strange) = strange {
        let name = &strange.identity().fsname;
        anyhow::bail!("{} is of another file system, `{name}`", strange.path().display());
    }
    folders.sort_by_key(|folder| (folder.identity().kind as u8, folder.identity().index));
    Ok(folders)
}

/// The folder itself if it is a target, else the targets in it.
fn targets_in(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let is_target = |path: &Path| path.join(nacre_node::identity::IDENTITY_FILE).exists();
    if is_target(dir) {
        return Ok(vec![dir.to_owned()]);
    }
    let mut targets = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry.with_context(|| dir.display().to_string())?.path();
        // The mount point may be among them, and its server gone: even a stat would wait for it.
        let mounted = crate::mount::table::at(&path).context("read the mount table")?;
        if mounted.is_some_and(|mounted| mounted.fs_type == crate::mount::table::FS_TYPE) {
            continue;
        }
        if path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) && is_target(&path) {
            targets.push(path);
        }
    }
    targets.sort_unstable();
    Ok(targets)
}
