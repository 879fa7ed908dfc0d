//! What is mounted here, from `/proc/self/mountinfo`.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The type that Nacre's mounts have.
pub(crate) const FS_TYPE: &str = "fuse.nacre";

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mounted {
    pub(crate) target: PathBuf,
    pub(crate) fs_type: String,
    pub(crate) source: String,
}

/// All mounts, in the order they were made: of two at one place the later one is seen.
pub(crate) fn read() -> io::Result<Vec<Mounted>> {
    let text = std::fs::read("/proc/self/mountinfo")?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(parse_line).collect())
}

/// The mount whose target is exactly `target`, an absolute path.
pub(crate) fn at(target: &Path) -> io::Result<Option<Mounted>> {
    Ok(read()?.into_iter().rev().find(|mounted| mounted.target == target))
}

fn parse_line(line: &[u8]) -> Option<Mounted> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let dash = fields.iter().position(|field| *field == b"-")?;
    let target = PathBuf::from(OsString::from_vec(unescape(fields.get(4)?)));
    let text =
        |at: usize| fields.get(at).map(|f| String::from_utf8_lossy(&unescape(f)).into_owned());
    Some(Mounted { target, fs_type: text(dash + 1)?, source: text(dash + 2)? })
}

/// Takes back the kernel's `\040` for a space.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let code = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) if byte == b'\\' => {
                out.push(code);
                rest = tail.get(3..).unwrap_or_default();
            }
            Some(_) | None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
}

/// An absolute path without links as far as it exists. The last part is not touched: it may be
/// a mount whose server is dead.
pub(crate) fn absolute(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if name.as_bytes() != b".." => {
            Ok(parent.canonicalize().unwrap_or_else(|_| parent.to_owned()).join(name))
        }
        _ => path.canonicalize(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_a_space_and_optional_fields_is_read() {
        let line =
            b"36 35 98:0 / /mnt/my\\040files rw,noatime shared:1 master:2 - fuse.nacre h:1:/fs rw";
        let mounted = parse_line(line).unwrap();
        assert_eq!(mounted.target, Path::new("/mnt/my files"));
        assert_eq!((mounted.fs_type.as_str(), mounted.source.as_str()), ("fuse.nacre", "h:1:/fs"));
        assert_eq!(parse_line(b""), None);
    }
}
