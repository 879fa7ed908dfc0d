//! One operation below a folder, and what came of it.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::XattrFlags;

use crate::map::Map;
use crate::ops::{How, Op, SLOTS};

/// Bytes that a mapping kept over steps covers.
const MAPPED: usize = 3 << 20;

/// A file kept open, and a mapping of it.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) file: File,
    map: Option<Map>,
}

/// Files kept open over steps.
pub(crate) type Slots = [Option<Open>; SLOTS];

/// What an operation gave.
#[derive(PartialEq, Eq)]
pub(crate) enum Value {
    Done,
    Bytes(Vec<u8>),
    Text(String),
    Names(BTreeSet<String>),
    Stat { mode: u32, nlink: u64, size: u64 },
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Text(text) => f.write_str(text),
            Self::Names(names) => write!(f, "{names:?}"),
            Self::Stat { mode, nlink, size } => write!(f, "{mode:o}, {nlink} links, {size} bytes"),
        }
    }
}

impl Value {
    fn stat(metadata: &Metadata) -> Self {
        let size = if metadata.is_dir() { 0 } else { metadata.size() };
        Self::Stat { mode: metadata.mode(), nlink: metadata.nlink(), size }
    }
}

/// Carries an operation out. A slot that is empty is EBADF.
pub(crate) fn perform(root: &Path, slots: &mut Slots, op: &Op) -> io::Result<Value> {
    let at = |path: &String| root.join(path);
    match op {
        Op::Write { path, at: offset, data } => {
            let file =
                OpenOptions::new().write(true).create(true).truncate(false).open(at(path))?;
            file.write_all_at(&data.bytes(), *offset)?;
        }
        Op::Replace { path, data } => fs::write(at(path), data.bytes())?,
        Op::Append { path, data } => {
            let mut file = OpenOptions::new().append(true).open(at(path))?;
            file.write_all(&data.bytes())?;
        }
        Op::Create { path } => {
            OpenOptions::new().write(true).create_new(true).open(at(path))?;
        }
        Op::Truncate { path, len } => truncate(&at(path), *len)?,
        Op::Read { path } => return fs::read(at(path)).map(Value::Bytes),
        Op::MapRead { path } => return map_whole(&File::open(at(path))?),
        Op::Stat { path } | Op::StatAll { path } => {
            return fs::symlink_metadata(at(path)).map(|metadata| Value::stat(&metadata));
        }
        Op::Chmod { path, mode } => fs::set_permissions(at(path), Permissions::from_mode(*mode))?,
        Op::Rename { from, to } => rename(&at(from), &at(to))?,
        Op::Unlink { path } => fs::remove_file(at(path))?,
        Op::Link { from, to } => fs::hard_link(at(from), at(to))?,
        Op::Mkdir { path } => fs::create_dir(at(path))?,
        Op::Rmdir { path } => fs::remove_dir(at(path))?,
        Op::List { path } => return list(&at(path)),
        Op::Symlink { path, target } => symlink(target, at(path))?,
        Op::Readlink { path } => {
            let target = fs::read_link(at(path))?;
            return Ok(Value::Text(target.display().to_string()));
        }
        Op::Setxattr { .. } | Op::Getxattr { .. } | Op::Removexattr { .. } => {
            return xattr(root, op);
        }
        Op::Open { .. }
        | Op::Close { .. }
        | Op::HandleWrite { .. }
        | Op::HandleRead { .. }
        | Op::HandleMap { .. }
        | Op::HandleStat { .. }
        | Op::HandleTruncate { .. }
        | Op::HandleSync { .. } => return handle(root, slots, op),
    }
    Ok(Value::Done)
}

fn truncate(path: &Path, len: u64) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.set_len(len)
}

/// The kernel does not look up a directory that was moved elsewhere, and below which something is
/// open here, while it renames between directories: it says ESTALE until somebody looked.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let renamed = fs::rename(from, to);
    if renamed.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::ESTALE)) {
        let _looked = (fs::symlink_metadata(from), fs::symlink_metadata(to));
        return fs::rename(from, to);
    }
    renamed
}

fn list(path: &Path) -> io::Result<Value> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        assert!(names.insert(name.clone()), "{name} was listed twice in {}", path.display());
    }
    Ok(Value::Names(names))
}

fn map_whole(file: &File) -> io::Result<Value> {
    let len = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    if len == 0 {
        return Ok(Value::Bytes(Vec::new()));
    }
    Map::new(file, len)?.read(len).map(Value::Bytes)
}

fn xattr(root: &Path, op: &Op) -> io::Result<Value> {
    match op {
        Op::Setxattr { path, name, value } => {
            let path = root.join(path);
            rustix::fs::setxattr(path, *name, value.as_bytes(), XattrFlags::empty())?;
        }
        Op::Getxattr { path, name } => {
            let mut value = [0; 64];
            let len = rustix::fs::getxattr(root.join(path), *name, &mut value)?;
            return Ok(Value::Bytes(value[..len].to_vec()));
        }
        Op::Removexattr { path, name } => rustix::fs::removexattr(root.join(path), *name)?,
        other => panic!("{other:?} is not about extended attributes"),
    }
    Ok(Value::Done)
}

fn handle(root: &Path, slots: &mut Slots, op: &Op) -> io::Result<Value> {
    if let Op::Open { slot, path, how } = op {
        slots[*slot] = None;
        let mut options = OpenOptions::new();
        match how {
            How::Read => options.read(true),
            How::Both => options.read(true).write(true),
            How::Append => options.read(true).append(true),
        };
        // A directory would open for reading.
        let file = options.custom_flags(libc::O_NOFOLLOW).open(root.join(path))?;
        if file.metadata()?.is_file() {
            slots[*slot] = Some(Open { file, map: None });
        }
        return Ok(Value::Done);
    }
    let slot = match op {
        Op::Close { slot }
        | Op::HandleWrite { slot, .. }
        | Op::HandleRead { slot }
        | Op::HandleMap { slot }
        | Op::HandleStat { slot }
        | Op::HandleTruncate { slot, .. }
        | Op::HandleSync { slot } => *slot,
        other => panic!("{other:?} is not about an open file"),
    };
    let open = slots[slot].as_mut().ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?;
    match op {
        Op::HandleWrite { at, data, .. } => open.file.write_all_at(&data.bytes(), *at)?,
        Op::HandleRead { .. } => return read_all(&open.file),
        Op::HandleMap { .. } => return open.read_map(),
        Op::HandleStat { .. } => return open.file.metadata().map(|m| Value::stat(&m)),
        Op::HandleTruncate { len, .. } => open.file.set_len(*len)?,
        Op::HandleSync { .. } => open.file.sync_all()?,
        _ => slots[slot] = None,
    }
    Ok(Value::Done)
}

/// From the start to the end that reads find, not to the size that `fstat` says.
fn read_all(file: &File) -> io::Result<Value> {
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 256 << 10]);
    loop {
        let len = file.read_at(&mut buffer, bytes.len() as u64)?;
        if len == 0 {
            return Ok(Value::Bytes(bytes));
        }
        bytes.extend_from_slice(&buffer[..len]);
    }
}

impl Open {
    /// What a mapping made some steps ago shows, to the end of the file.
    fn read_map(&mut self) -> io::Result<Value> {
        let map = match self.map.take() {
            Some(map) => map,
            None => Map::new(&self.file, MAPPED)?,
        };
        let len = usize::try_from(self.file.metadata()?.len()).unwrap_or(usize::MAX);
        let bytes = map.read(len);
        self.map = Some(map);
        bytes.map(Value::Bytes)
    }
}
