//! What an archive knows of files, and what it shall do. The messages of record.proto are the rows.

use bitflags::bitflags;
use nacre_proto::v1;

use super::{BadRecord, Record, decode_message, encode_message};

bitflags! {
    /// Lustre's HSM flags of a file. A file without any has no HSM row.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct HsmFlags: u32 {
        /// The archive has, or is being given, a copy of some version.
        const EXISTS = 0x01;
        /// The bytes here may differ from the copy.
        const DIRTY = 0x02;
        /// The bytes are only in the archive.
        const RELEASED = 0x04;
        /// There is a whole copy.
        const ARCHIVED = 0x08;
        /// Must not be released.
        const NORELEASE = 0x10;
        /// Must not be archived.
        const NOARCHIVE = 0x20;
        /// The copy has gone from the archive.
        const LOST = 0x40;
    }
}

/// Rows that are a message as it is.
macro_rules! message_rows {
    ($($message:ty),+) => {
        $(impl Record for $message {
            fn encode(&self) -> Vec<u8> {
                encode_message(self)
            }

            fn decode(bytes: Vec<u8>) -> Result<Self, BadRecord> {
                decode_message(bytes)
            }
        })+
    };
}

message_rows!(
    v1::HsmRecord,
    v1::HsmActionRecord,
    v1::Repository,
    v1::ExportRecord,
    v1::KnownRecord
);
