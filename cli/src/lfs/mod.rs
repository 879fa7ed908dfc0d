//! `lfs`: layouts, pools and servers, with Lustre's words and forms.
//!
//! Layouts are read and set through virtual extended attributes of the mount, so that the
//! kernel's permission checks hold. What is about the cluster is asked of the MGS and MDS that
//! the mount's source names.

pub(crate) mod cluster;
mod df;
mod error;
mod fid;
mod find;
mod getstripe;
mod glob;
mod hsm;
mod layout;
mod layout_yaml;
mod mkdir;
mod pool;
mod servers;
mod setstripe;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use error::LfsError;

/// Shows and changes layouts, pools and servers of a mounted Nacre file system.
#[derive(Debug, Parser)]
#[command(name = "lfs", version, arg_required_else_help = true)]
pub(crate) struct Lfs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a file with a layout, or set the default layout of a folder.
    Setstripe(setstripe::SetstripeArgs),
    /// Show the layout of files, and the default layout of folders.
    Getstripe(getstripe::GetstripeArgs),
    /// Show space, or inodes, of each target.
    #[command(disable_help_flag = true)]
    Df(df::DfArgs),
    /// Find files by the tests of find(1), and by layout.
    #[command(disable_help_flag = true)]
    Find(find::FindArgs),
    /// Show the fid of files.
    #[command(name = "path2fid")]
    Path2fid(fid::Path2fidArgs),
    /// Show the paths of fids.
    #[command(name = "fid2path")]
    Fid2path(fid::Fid2pathArgs),
    /// List the OSTs.
    Osts(servers::ListArgs),
    /// List the MDTs.
    Mdts(servers::ListArgs),
    /// Ask servers whether they answer.
    Check(servers::CheckArgs),
    /// Make folders.
    Mkdir(mkdir::MkdirArgs),
    /// Show what the archive has of files.
    #[command(name = "hsm_state")]
    HsmState(hsm::FilesArgs),
    /// Show what is being done for files.
    #[command(name = "hsm_action")]
    HsmAction(hsm::FilesArgs),
    /// Set flags of files.
    #[command(name = "hsm_set")]
    HsmSet(hsm::FlagsArgs),
    /// Clear flags of files.
    #[command(name = "hsm_clear")]
    HsmClear(hsm::FlagsArgs),
    /// Ask for copies in the archive.
    #[command(name = "hsm_archive")]
    HsmArchive(hsm::RequestArgs),
    /// Ask for the bytes of released files.
    #[command(name = "hsm_restore")]
    HsmRestore(hsm::RequestArgs),
    /// Give up the bytes of archived files here.
    #[command(name = "hsm_release")]
    HsmRelease(hsm::RequestArgs),
    /// Ask for the copies to be removed from the archive.
    #[command(name = "hsm_remove")]
    HsmRemove(hsm::RequestArgs),
    /// Cancel what was asked for.
    #[command(name = "hsm_cancel")]
    HsmCancel(hsm::RequestArgs),
    /// Make an empty pool of OSTs.
    #[command(name = "pool_new")]
    PoolNew(pool::PoolArgs),
    /// Add OSTs to a pool.
    #[command(name = "pool_add")]
    PoolAdd(pool::MembersArgs),
    /// Remove OSTs from a pool.
    #[command(name = "pool_remove")]
    PoolRemove(pool::MembersArgs),
    /// Remove an empty pool.
    #[command(name = "pool_destroy")]
    PoolDestroy(pool::PoolArgs),
    /// List pools, or the OSTs of one.
    #[command(name = "pool_list")]
    PoolList(pool::ListArgs),
}

/// Runs with arguments that do not contain the program's own name.
pub(crate) fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let lfs = Lfs::parse_from(std::iter::once(OsString::from("lfs")).chain(args));
    let (name, result) = run(lfs.command);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lfs {name}: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(command: Command) -> (&'static str, Result<(), LfsError>) {
    match command {
        Command::Setstripe(args) => ("setstripe", setstripe::run(&args)),
        Command::Getstripe(args) => ("getstripe", getstripe::run(&args)),
        Command::Df(args) => ("df", df::run(&args)),
        Command::Find(args) => ("find", find::run(&args)),
        Command::Path2fid(args) => ("path2fid", fid::path2fid(&args)),
        Command::Fid2path(args) => ("fid2path", fid::fid2path(&args)),
        Command::Osts(args) => ("osts", servers::osts(&args)),
        Command::Mdts(args) => ("mdts", servers::mdts(&args)),
        Command::Check(args) => ("check", servers::check(&args)),
        Command::Mkdir(args) => ("mkdir", mkdir::run(&args)),
        Command::HsmState(args) => ("hsm_state", hsm::state(&args)),
        Command::HsmAction(args) => ("hsm_action", hsm::action(&args)),
        Command::HsmSet(args) => ("hsm_set", hsm::set(&args)),
        Command::HsmClear(args) => ("hsm_clear", hsm::clear(&args)),
        Command::HsmArchive(args) => ("hsm_archive", hsm::archive(&args)),
        Command::HsmRestore(args) => ("hsm_restore", hsm::restore(&args)),
        Command::HsmRelease(args) => ("hsm_release", hsm::release(&args)),
        Command::HsmRemove(args) => ("hsm_remove", hsm::remove(&args)),
        Command::HsmCancel(args) => ("hsm_cancel", hsm::cancel(&args)),
        Command::PoolNew(args) => ("pool_new", pool::new(&args)),
        Command::PoolAdd(args) => ("pool_add", pool::add(&args)),
        Command::PoolRemove(args) => ("pool_remove", pool::remove(&args)),
        Command::PoolDestroy(args) => ("pool_destroy", pool::destroy(&args)),
        Command::PoolList(args) => ("pool_list", pool::list(&args)),
    }
}
