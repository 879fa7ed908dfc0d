//! What a target folder is: the file `nacre-target.toml` that `nacre format` writes once, and the
//! lock that keeps two daemons off one folder.
//!
//! ```toml
//! format_version = 1
//! kind = "ost"
//! fsname = "nacre"
//! index = 2
//! uuid = "1a5a0a37-…"
//! mgs_nodes = ["10.0.0.1:7400"]
//! ```

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nacre_model::{ClusterMap, TargetKind};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// Name of the identity file in a target folder.
pub const IDENTITY_FILE: &str = "nacre-target.toml";
/// Name of the file that a daemon holds locked while it serves the folder.
pub const LOCK_FILE: &str = "nacre-target.lock";
/// The version of the folder's format that this program writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// What a folder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FolderKind {
    /// Configuration of the file system.
    Mgs,
    /// Metadata.
    Mdt,
    /// Objects.
    Ost,
}

impl FolderKind {
    /// The kind of target that the map knows; `None` for the MGS.
    pub const fn target(self) -> Option<TargetKind> {
        match self {
            Self::Mgs => None,
            Self::Mdt => Some(TargetKind::Mdt),
            Self::Ost => Some(TargetKind::Ost),
        }
    }
}

impl fmt::Display for FolderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mgs => "MGS",
            Self::Mdt => "MDT",
            Self::Ost => "OST",
        })
    }
}

/// The identity of one target folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Format of the folder; see [`FORMAT_VERSION`].
    pub format_version: u32,
    /// What it holds.
    pub kind: FolderKind,
    /// The file system it belongs to.
    pub fsname: String,
    /// Index among its kind; 0 for the MGS.
    pub index: u16,
    /// Made at format; no other folder may take this one's place.
    pub uuid: String,
    /// Where the MGS is, `host:port`, any of which may answer. Empty for the MGS itself.
    #[serde(default)]
    pub mgs_nodes: Vec<String>,
}

/// Why a folder cannot be formatted or served.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// There is no identity file.
    #[error("{} is not formatted: run `nacre format` on it first", .0.display())]
    NotFormatted(PathBuf),
    /// Formatting again would lose the data.
    #[error("{} is already formatted, as {what}", path.display())]
    AlreadyFormatted {
        /// The folder.
        path: PathBuf,
        /// What it is.
        what: String,
    },
    /// Something else lives there.
    #[error("{} is not empty: give an empty folder", .0.display())]
    NotEmpty(PathBuf),
    /// The identity file says something else than it must.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The identity file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The folder is of another kind than the daemon.
    #[error("{} holds {found}, not {wanted}", path.display())]
    OtherKind {
        /// The folder.
        path: PathBuf,
        /// What it holds.
        found: FolderKind,
        /// What the daemon serves.
        wanted: FolderKind,
    },
    /// Folders of two file systems were given to one daemon.
    #[error("{} belongs to file system `{found}`, not `{wanted}`", path.display())]
    OtherFsname {
        /// The folder.
        path: PathBuf,
        /// Its file system.
        found: String,
        /// The one asked for.
        wanted: String,
    },
    /// Another process has it.
    #[error("{} is being served by another process", .0.display())]
    InUse(PathBuf),
    /// A system call.
    #[error("{}", path.display())]
    Io {
        /// What it was about.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> IdentityError + '_ {
    move |source| IdentityError::Io { path: path.to_owned(), source }
}

impl Identity {
    /// A new one with a fresh uuid.
    pub fn new(kind: FolderKind, fsname: &str, index: u16, mgs_nodes: Vec<String>) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            kind,
            fsname: fsname.to_owned(),
            index,
            uuid: uuid::Uuid::new_v4().to_string(),
            mgs_nodes,
        }
    }

    /// As people call it: `nacre-OST0002`.
    pub fn name(&self) -> String {
        match self.kind {
            FolderKind::Mgs => "MGS".to_owned(),
            kind @ (FolderKind::Mdt | FolderKind::Ost) => {
                format!("{}-{kind}{:04x}", self.fsname, self.index)
            }
        }
    }

    /// Reads the identity of a folder, without locking it.
    pub fn read(folder: &Path) -> Result<Self, IdentityError> {
        let path = folder.join(IDENTITY_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(IdentityError::NotFormatted(folder.to_owned()));
            }
            Err(error) => return Err(io_at(&path)(error)),
        };
        Self::parse(&text).map_err(|reason| IdentityError::Malformed { path, reason })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let identity: Self = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        identity.check()?;
        Ok(identity)
    }

    fn check(&self) -> Result<(), String> {
        if self.format_version != FORMAT_VERSION {
            let have = self.format_version;
            return Err(format!(
                "format_version is {have}; this program knows only {FORMAT_VERSION}"
            ));
        }
        if !ClusterMap::valid_fsname(&self.fsname) {
            let name = &self.fsname;
            return Err(format!("fsname `{name}` is not 1 to 8 letters, digits, `_` or `-`"));
        }
        if self.kind != FolderKind::Mgs && self.mgs_nodes.is_empty() {
            return Err("mgs_nodes is empty: the target cannot find its MGS".to_owned());
        }
        for node in &self.mgs_nodes {
            check_address(node)?;
        }
        Ok(())
    }

    /// Writes the identity into an empty folder, making the folder if need be, durably.
    pub fn format(&self, folder: &Path) -> Result<(), IdentityError> {
        let path = folder.join(IDENTITY_FILE);
        self.check().map_err(|reason| IdentityError::Malformed { path: path.clone(), reason })?;
        match Self::read(folder) {
            Ok(old) => {
                let what = format!("{} of file system `{}`", old.name(), old.fsname);
                return Err(IdentityError::AlreadyFormatted { path: folder.to_owned(), what });
            }
            Err(IdentityError::NotFormatted(_)) => {}
            Err(other) => return Err(other),
        }
        fs::create_dir_all(folder).map_err(io_at(folder))?;
        for entry in fs::read_dir(folder).map_err(io_at(folder))? {
            let name = entry.map_err(io_at(folder))?.file_name();
            if name != "lost+found" && name != "nacre-target.toml.new" {
                return Err(IdentityError::NotEmpty(folder.to_owned()));
            }
        }
        self.store(folder)
    }

    /// Replaces the identity file, durably: for a change of `mgs_nodes`.
    pub fn store(&self, folder: &Path) -> Result<(), IdentityError> {
        let path = folder.join(IDENTITY_FILE);
        let text = toml::to_string(self).map_err(|error| IdentityError::Malformed {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        let new = folder.join("nacre-target.toml.new");
        let write = || -> io::Result<()> {
            let mut file = fs::File::create(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            fs::File::open(folder)?.sync_all()?;
            match folder.canonicalize()?.parent() {
                Some(parent) => fs::File::open(parent)?.sync_all(),
                None => Ok(()),
            }
        };
        write().map_err(io_at(&path))
    }
}

/// Whether `address` is `host:port`.
pub fn check_address(address: &str) -> Result<(), String> {
    let parts = address.rsplit_once(':');
    let good = parts.is_some_and(|(host, port)| {
        let host_good = !host.is_empty() && !host.contains(['/', '@', ' ', ',']);
        host_good && port.parse::<u16>().is_ok()
    });
    if good { Ok(()) } else { Err(format!("`{address}` is not an address: expected host:port")) }
}

/// A folder that this process alone serves, for as long as the value lives.
#[derive(Debug)]
#[must_use = "dropping it lets another process serve the folder"]
pub struct TargetFolder {
    path: PathBuf,
    identity: Identity,
    _lock: fs::File,
}

impl TargetFolder {
    /// Reads the identity, checks the kind, and takes the folder's lock.
    pub fn open(path: &Path, wanted: FolderKind) -> Result<Self, IdentityError> {
        let identity = Identity::read(path)?;
        if identity.kind != wanted {
            let found = identity.kind;
            return Err(IdentityError::OtherKind { path: path.to_owned(), found, wanted });
        }
        let lock_path = path.join(LOCK_FILE);
        let mut options = fs::File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(&lock_path).map_err(io_at(&lock_path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), identity, _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(IdentityError::InUse(path.to_owned())),
            Err(error) => Err(io_at(&lock_path)(error.into())),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ost(index: u16) -> Identity {
        Identity::new(FolderKind::Ost, "nacre", index, vec!["127.0.0.1:7400".to_owned()])
    }

    #[test]
    fn what_format_writes_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("an ost");
        ost(3).format(&folder).unwrap();
        let read = Identity::read(&folder).unwrap();
        assert_eq!((read.index, read.name().as_str()), (3, "nacre-OST0003"));
    }

    #[test]
    fn format_refuses_a_formatted_and_a_used_folder() {
        let dir = tempfile::tempdir().unwrap();
        ost(0).format(dir.path()).unwrap();
        let again = ost(1).format(dir.path()).unwrap_err();
        assert!(matches!(again, IdentityError::AlreadyFormatted { .. }), "{again}");
        let used = tempfile::tempdir().unwrap();
        fs::write(used.path().join("letter"), "dear").unwrap();
        assert!(matches!(ost(1).format(used.path()), Err(IdentityError::NotEmpty(_))));
    }

    #[test]
    fn one_folder_has_one_server() {
        let dir = tempfile::tempdir().unwrap();
        ost(0).format(dir.path()).unwrap();
        let first = TargetFolder::open(dir.path(), FolderKind::Ost).unwrap();
        let second = TargetFolder::open(dir.path(), FolderKind::Ost);
        assert!(matches!(second, Err(IdentityError::InUse(_))));
        drop(first);
        let _third = TargetFolder::open(dir.path(), FolderKind::Ost).unwrap();
        let other = TargetFolder::open(dir.path(), FolderKind::Mdt).unwrap_err();
        assert!(other.to_string().ends_with("holds OST, not MDT"), "{other}");
    }

    #[test]
    fn an_unknown_key_is_named() {
        let text = "format_version = 1\nkind = \"mgs\"\nfsname = \"n\"\nindex = 0\nuuid = \"u\"\ncolour = 1";
        let error = Identity::parse(text).unwrap_err();
        assert!(error.contains("colour"), "{error}");
    }

    #[test]
    fn addresses_are_host_and_port() {
        for good in ["localhost:1", "10.0.0.1:65535", "[::1]:7400"] {
            assert_eq!(check_address(good), Ok(()));
        }
        for bad in ["", "host", "host:", ":1", "host:70000", "a b:1", "http://h:1"] {
            assert!(check_address(bad).is_err(), "{bad}");
        }
    }
}
