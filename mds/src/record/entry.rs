//! Directory entries.

use bytes::Bytes;
use nacre_model::{Fid, FileKind, Name};
use nacre_proto::convert::{BadMessage, required};
use nacre_proto::v1;

use super::{BadRecord, Record, decode_message, encode_message};

/// One name in a directory. Its cookie is in its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: Bytes,
    /// What it names.
    pub fid: Fid,
    /// What that is.
    pub kind: FileKind,
}

impl Record for Entry {
    fn encode(&self) -> Vec<u8> {
        encode_message(&v1::EntryRecord {
            name: self.name.clone(),
            fid: Some(self.fid.into()),
            mode: self.kind.mode_bits(),
        })
    }

    fn decode(bytes: Vec<u8>) -> Result<Self, BadRecord> {
        let wire: v1::EntryRecord = decode_message(bytes)?;
        Name::new(&wire.name).map_err(BadMessage::from)?;
        let value = wire.mode.into();
        Ok(Self {
            name: wire.name,
            fid: required("fid", wire.fid)?.into(),
            kind: FileKind::from_mode(wire.mode)
                .ok_or(BadMessage::Range { field: "mode", value })?,
        })
    }
}
