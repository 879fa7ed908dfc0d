//! What makes a folder an MDT: chosen once, at the first start, and needed again whenever the
//! store has to be rebuilt from the log's beginning.
//!
//! | offset | bytes | what (little endian) |
//! |---|---|---|
//! | 0 | 8 | `NACREMDT` |
//! | 8 | 4 | version: 1 |
//! | 12 | 16 | key of the name hash |
//! | 28 | 8 | birth of the root directory, seconds |
//! | 36 | 4 | birth, nanoseconds |
//! | 40 | 4 | crc32c of all before |

use std::io;
use std::path::Path;

use nacre_model::Timestamp;
use nacre_node::Disk;

use crate::namespace::{self, NsError, read};
use crate::store::{MetaStore, StoreError};

const FILE: &str = "mdt-format";
const NEW_FILE: &str = "mdt-format.new";
const MAGIC: [u8; 8] = *b"NACREMDT";
const VERSION: u32 = 1;
const BYTES: usize = 44;

/// The file system's first rows, as far as they are not the same for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// Secret of the name hash.
    pub hash_key: [u64; 2],
    /// Birth of the root directory.
    pub born: Timestamp,
}

/// The folder cannot be made, or is none, of an MDT.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The disk.
    #[error("{FILE}")]
    Io(#[source] io::Error),
    /// Not what was written there.
    #[error("{FILE} is damaged, or of a later version")]
    Damaged,
    /// The first rows cannot be written.
    #[error("format the metadata store")]
    Store(#[from] StoreError),
    /// The store cannot be read.
    #[error("metadata store")]
    Namespace(#[from] NsError),
    /// The store belongs elsewhere.
    #[error("the store is of file system `{found}`, the folder of `{wanted}`")]
    OtherFileSystem {
        /// Of the store.
        found: String,
        /// Of the folder.
        wanted: String,
    },
}

/// Makes sure that the store has the first rows of the file system: those that the folder was made
/// with, or else `fresh`.
pub fn prepare(
    disk: &dyn Disk,
    store: &dyn MetaStore,
    fsname: &str,
    fresh: Format,
) -> Result<(), FormatError> {
    match read::fsname(store) {
        Ok(found) if found == fsname => return Ok(()),
        Ok(found) => {
            return Err(FormatError::OtherFileSystem { found, wanted: fsname.to_owned() });
        }
        Err(NsError::NotFormatted) => {}
        Err(error) => return Err(error.into()),
    }
    let format = if let Some(format) = load(disk)? {
        format
    } else {
        save(disk, fresh).map_err(FormatError::Io)?;
        fresh
    };
    store.apply(&namespace::format(fsname, format.hash_key, format.born))?;
    Ok(())
}

/// Whether the folder has been served before.
pub(crate) fn exists(disk: &dyn Disk) -> Result<bool, FormatError> {
    disk.exists(Path::new(FILE)).map_err(FormatError::Io)
}

fn load(disk: &dyn Disk) -> Result<Option<Format>, FormatError> {
    let file = match disk.open(Path::new(FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FormatError::Io(error)),
    };
    let mut bytes = [0; BYTES + 1];
    let len = file.read_at(&mut bytes, 0).map_err(FormatError::Io)?;
    let bytes = bytes.get(..len).unwrap_or_default();
    decode(bytes).map(Some).ok_or(FormatError::Damaged)
}

fn save(disk: &dyn Disk, format: Format) -> io::Result<()> {
    let file = disk.create(Path::new(NEW_FILE))?;
    file.set_len(0)?;
    file.write_at(&encode(format), 0)?;
    file.sync_data()?;
    disk.rename(Path::new(NEW_FILE), Path::new(FILE))?;
    disk.sync_dir(Path::new(""))
}

fn encode(format: Format) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_le_bytes());
    for half in format.hash_key {
        out.extend_from_slice(&half.to_le_bytes());
    }
    out.extend_from_slice(&format.born.secs.to_le_bytes());
    out.extend_from_slice(&format.born.nanos.to_le_bytes());
    let checksum = crc32c::crc32c(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

fn decode(bytes: &[u8]) -> Option<Format> {
    let (body, checksum) = bytes.split_last_chunk::<4>()?;
    if bytes.len() != BYTES || crc32c::crc32c(body) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let rest = body.strip_prefix(&MAGIC)?.strip_prefix(&VERSION.to_le_bytes())?;
    let (low, rest) = rest.split_first_chunk()?;
    let (high, rest) = rest.split_first_chunk()?;
    let (secs, rest) = rest.split_first_chunk()?;
    let nanos = rest.first_chunk()?;
    Some(Format {
        hash_key: [u64::from_le_bytes(*low), u64::from_le_bytes(*high)],
        born: Timestamp::new(i64::from_le_bytes(*secs), u32::from_le_bytes(*nanos))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_or_a_wrong_length_is_damage() {
        let format = Format { hash_key: [1, u64::MAX], born: Timestamp { secs: -5, nanos: 999 } };
        let bytes = encode(format);
        assert_eq!(decode(&bytes), Some(format));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert_eq!(decode(&bad), None, "byte {at}");
            assert_eq!(decode(&bytes[..at]), None, "{at} bytes");
        }
    }
}
