//! `lfs hsm_*`: what the archive has to do with files.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use clap::Args;
use nacre_client::hsm_json::{HsmDoc, HsmWish, XATTR_HSM};
use nacre_model::Errno;
use rustix::fs::XattrFlags;

use super::error::LfsError;

/// Flags, and Lustre's words: for showing, and for `hsm_set` and `hsm_clear`.
const FLAGS: [(u32, &str); 7] = [
    (0x04, "released"),
    (0x01, "exists"),
    (0x02, "dirty"),
    (0x08, "archived"),
    (0x10, "never_release"),
    (0x20, "never_archive"),
    (0x40, "lost_from_hsm"),
];

/// Longest document that is read.
const DOC_BYTES_MAX: usize = 64 << 10;

/// Arguments of `lfs hsm_state` and `lfs hsm_action`.
#[derive(Debug, Args)]
pub(crate) struct FilesArgs {
    /// Files on a mount.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// Arguments of `lfs hsm_archive`, `hsm_restore`, `hsm_release`, `hsm_remove` and `hsm_cancel`.
#[derive(Debug, Args)]
pub(crate) struct RequestArgs {
    /// Number of the archive [default: that of the folder's data repository].
    #[arg(short, long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    archive: u32,
    /// A file with one path on each line.
    #[arg(short = 'l', long, value_name = "FILE")]
    filelist: Option<PathBuf>,
    /// Files on a mount.
    #[arg(required_unless_present = "filelist")]
    files: Vec<PathBuf>,
}

/// Arguments of `lfs hsm_set` and `lfs hsm_clear`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "one for each flag of lfs")]
pub(crate) struct FlagsArgs {
    /// Must not be released.
    #[arg(long)]
    norelease: bool,
    /// Must not be archived.
    #[arg(long)]
    noarchive: bool,
    /// Differs from its copy.
    #[arg(long)]
    dirty: bool,
    /// The archive has something of it.
    #[arg(long)]
    exists: bool,
    /// The archive has a whole copy.
    #[arg(long)]
    archived: bool,
    /// The archive has lost its copy.
    #[arg(long)]
    lost: bool,
    /// Number of the archive (`hsm_set` only).
    #[arg(short = 'i', long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    archive_id: u32,
    /// Files on a mount.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

impl FlagsArgs {
    fn bits(&self) -> u32 {
        let flags = [
            (self.exists, 0x01),
            (self.dirty, 0x02),
            (self.archived, 0x08),
            (self.norelease, 0x10),
            (self.noarchive, 0x20),
            (self.lost, 0x40),
        ];
        flags.iter().filter(|(given, _)| *given).map(|(_, bit)| bit).sum()
    }
}

/// Prints flags.
pub(crate) fn state(args: &FilesArgs) -> Result<(), LfsError> {
    for path in &args.files {
        let doc = read(path)?;
        outln!("{}: {}", path.display(), show(&doc));
    }
    Ok(())
}

fn show(doc: &HsmDoc) -> String {
    let mut line = format!("(0x{:08x})", doc.flags);
    for (_, word) in FLAGS.iter().filter(|(bit, _)| doc.flags & bit != 0) {
        line.push(' ');
        line.push_str(word);
    }
    if doc.archive_id != 0 {
        let _ = write!(line, ", archive_id:{}", doc.archive_id);
    }
    line
}

/// Prints what is under way.
pub(crate) fn action(args: &FilesArgs) -> Result<(), LfsError> {
    for path in &args.files {
        let doc = read(path)?;
        let path = path.display();
        match &doc.action {
            None => outln!("{path}: NOOP"),
            Some(action) => {
                let state = if action.started { "running" } else { "waiting" };
                let bytes = action.bytes_done;
                outln!("{path}: {} {state} ({bytes} bytes moved)", action.action);
                if !action.error.is_empty() {
                    outln!("{path}: attempt {} failed: {}", action.attempts, action.error);
                }
            }
        }
    }
    Ok(())
}

/// Sets flags.
pub(crate) fn set(args: &FlagsArgs) -> Result<(), LfsError> {
    if args.bits() == 0 && args.archive_id == 0 {
        return Err(LfsError::invalid("no flag is given"));
    }
    let wish = HsmWish::Flags { set: args.bits(), clear: 0, archive_id: args.archive_id };
    args.files.iter().try_for_each(|path| ask(path, &wish))
}

/// Clears flags.
pub(crate) fn clear(args: &FlagsArgs) -> Result<(), LfsError> {
    if args.bits() == 0 {
        return Err(LfsError::invalid("no flag is given"));
    }
    let wish = HsmWish::Flags { set: 0, clear: args.bits(), archive_id: 0 };
    args.files.iter().try_for_each(|path| ask(path, &wish))
}

pub(crate) fn archive(args: &RequestArgs) -> Result<(), LfsError> {
    request(args, &HsmWish::Archive { archive_id: args.archive })
}

pub(crate) fn restore(args: &RequestArgs) -> Result<(), LfsError> {
    request(args, &HsmWish::Restore {})
}

pub(crate) fn release(args: &RequestArgs) -> Result<(), LfsError> {
    request(args, &HsmWish::Release {})
}

pub(crate) fn remove(args: &RequestArgs) -> Result<(), LfsError> {
    request(args, &HsmWish::Remove {})
}

pub(crate) fn cancel(args: &RequestArgs) -> Result<(), LfsError> {
    request(args, &HsmWish::Cancel {})
}

/// Asks for all files, whatever becomes of some; the last error is the command's.
fn request(args: &RequestArgs, wish: &HsmWish) -> Result<(), LfsError> {
    let mut files = args.files.clone();
    if let Some(list) = &args.filelist {
        let opened = std::fs::File::open(list).map_err(|error| LfsError::at(list, error))?;
        for line in BufReader::new(opened).lines() {
            let line = line.map_err(|error| LfsError::at(list, error))?;
            files.extend((!line.is_empty()).then(|| PathBuf::from(line)));
        }
    }
    let mut result = Ok(());
    for path in &files {
        if let Err(error) = ask(path, wish)
            && let Err(before) = std::mem::replace(&mut result, Err(error))
        {
            eprintln!("lfs: {before}");
        }
    }
    result
}

fn ask(path: &Path, wish: &HsmWish) -> Result<(), LfsError> {
    rustix::fs::setxattr(path, XATTR_HSM, &wish.to_json(), XattrFlags::empty())
        .map_err(|error| LfsError::at(path, error))
}

fn read(path: &Path) -> Result<HsmDoc, LfsError> {
    let mut json = vec![0; DOC_BYTES_MAX];
    let len = rustix::fs::getxattr(path, XATTR_HSM, &mut json[..])
        .map_err(|error| LfsError::at(path, error))?;
    json.truncate(len);
    HsmDoc::parse(&json)
        .map_err(|error| LfsError::new(Errno::EIO, format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_shown_as_lustre_shows_them() {
        let mut doc =
            HsmDoc { flags: 0x0d, archive_id: 1, data_version: 0, copy: None, action: None };
        assert_eq!(show(&doc), "(0x0000000d) released exists archived, archive_id:1");
        (doc.flags, doc.archive_id) = (0, 0);
        assert_eq!(show(&doc), "(0x00000000)");
    }
}
