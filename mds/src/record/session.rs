//! Sessions, and the replies kept for their resends.

use nacre_model::Timestamp;
use nacre_proto::convert::required;
use nacre_proto::v1;

use super::{BadRecord, Record, decode_message, encode_message};

/// A client's session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Of the mount.
    pub client_uuid: String,
    /// Raised at every eviction.
    pub incarnation: u64,
    /// For people.
    pub hostname: String,
    /// When it began.
    pub opened: Timestamp,
    /// It may hold leases: after a restart it is waited for.
    pub leases: bool,
    /// Fid sequences that are its own, the newest last.
    pub sequences: Vec<u64>,
}

impl Record for Session {
    fn encode(&self) -> Vec<u8> {
        encode_message(&v1::SessionRecord {
            client_uuid: self.client_uuid.clone(),
            incarnation: self.incarnation,
            hostname: self.hostname.clone(),
            opened: Some(self.opened.into()),
            leases: self.leases,
            sequences: self.sequences.clone(),
        })
    }

    fn decode(bytes: Vec<u8>) -> Result<Self, BadRecord> {
        let wire: v1::SessionRecord = decode_message(bytes)?;
        Ok(Self {
            client_uuid: wire.client_uuid,
            incarnation: wire.incarnation,
            hostname: wire.hostname,
            opened: required("opened", wire.opened)?.try_into()?,
            leases: wire.leases,
            sequences: wire.sequences,
        })
    }
}

/// The session that a mount has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionId(pub u64);

impl Record for SessionId {
    fn encode(&self) -> Vec<u8> {
        encode_message(&v1::SessionIdRecord { session: self.0 })
    }

    fn decode(bytes: Vec<u8>) -> Result<Self, BadRecord> {
        Ok(Self(decode_message::<v1::SessionIdRecord>(bytes)?.session))
    }
}

/// The last reply of a slot.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// Of which request.
    pub xid: u64,
    /// What it was answered.
    pub response: v1::ChangeResponse,
    /// Work records that it left, some of which may be done since.
    pub work: Vec<u64>,
}

impl Record for Reply {
    fn encode(&self) -> Vec<u8> {
        encode_message(&v1::ReplyRecord {
            xid: self.xid,
            response: Some(self.response.clone()),
            work: self.work.clone(),
        })
    }

    fn decode(bytes: Vec<u8>) -> Result<Self, BadRecord> {
        let wire: v1::ReplyRecord = decode_message(bytes)?;
        Ok(Self { xid: wire.xid, response: required("response", wire.response)?, work: wire.work })
    }
}
