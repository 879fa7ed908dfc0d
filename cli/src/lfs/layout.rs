//! Layouts of files on the mount, through the virtual attributes.

use std::path::Path;

use nacre_client::layout_json::{LayoutDoc, XATTR_FID, XATTR_LAYOUT};
use nacre_model::{Errno, Fid};
use rustix::fs::XattrFlags;
use rustix::io::Errno as Os;

use super::error::LfsError;

/// A layout document is never larger: 16 components of at most 2000 OSTs each.
const DOC_BYTES_MAX: usize = 1 << 20;

/// The layout of a file, or the default of a folder.
pub(crate) fn get(path: &Path) -> Result<LayoutDoc, LfsError> {
    let json = value(path, XATTR_LAYOUT)?;
    LayoutDoc::parse(&json)
        .map_err(|error| LfsError::new(Errno::EIO, format!("{}: {error}", path.display())))
}

/// Sets the layout of an empty file, or the default of a folder.
pub(crate) fn set(path: &Path, doc: &LayoutDoc) -> Result<(), LfsError> {
    rustix::fs::lsetxattr(path, XATTR_LAYOUT, &doc.to_json(), XattrFlags::empty())
        .map_err(|error| explained(path, error))
}

/// Removes the default of a folder.
pub(crate) fn remove(path: &Path) -> Result<(), LfsError> {
    rustix::fs::lremovexattr(path, XATTR_LAYOUT).map_err(|error| explained(path, error))
}

/// The fid of anything.
pub(crate) fn fid(path: &Path) -> Result<Fid, LfsError> {
    let text = value(path, XATTR_FID)?;
    String::from_utf8_lossy(&text).parse().map_err(|error: nacre_model::fid::BadFid| {
        LfsError::new(Errno::EIO, format!("{}: {error}", path.display()))
    })
}

fn value(path: &Path, name: &str) -> Result<Vec<u8>, LfsError> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match rustix::fs::lgetxattr(path, name, buffer.as_mut_slice()) {
            Ok(len) => {
                buffer.truncate(len);
                return Ok(buffer);
            }
            Err(Os::RANGE) if buffer.len() < DOC_BYTES_MAX => buffer.resize(DOC_BYTES_MAX, 0),
            Err(error) => return Err(explained(path, error)),
        }
    }
}

/// An error of the attribute, in the words of what was asked for.
fn explained(path: &Path, error: Os) -> LfsError {
    let shown = path.display();
    let text = match error {
        Os::OPNOTSUPP | Os::NODATA => format!("{shown} is not on a Nacre file system"),
        Os::BUSY | Os::EXIST => {
            format!("{shown} has data or objects already: its layout cannot be changed")
        }
        Os::INVAL => format!("{shown}: the file system does not take this layout"),
        Os::NOSPC => format!("{shown}: fewer OSTs can be had than the layout asks for"),
        _ => return LfsError::at(path, error),
    };
    let errno = match error {
        Os::NODATA => Errno::EOPNOTSUPP,
        Os::BUSY => Errno::EEXIST,
        other => Errno(other.raw_os_error()),
    };
    LfsError::new(errno, text)
}
