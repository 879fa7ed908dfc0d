//! A file's state in the archive as text: the value of the virtual extended attribute `nacre.hsm`,
//! through which `lfs hsm_*` asks and says what it wants.

use nacre_proto::v1;
use nacre_proto::v1::hsm_request_request::Op as Asked;
use serde::{Deserialize, Serialize};

/// The attribute. Reading it gives a [`HsmDoc`], setting it takes a [`HsmWish`].
pub const XATTR_HSM: &str = "nacre.hsm";

/// What the archive has to do with a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HsmDoc {
    /// Lustre's HSM flags: EXISTS 0x01, DIRTY 0x02, RELEASED 0x04, ARCHIVED 0x08, NORELEASE 0x10,
    /// NOARCHIVE 0x20, LOST 0x40.
    pub flags: u32,
    /// The repository whose archive it is; 0: none.
    pub archive_id: u32,
    /// Raised by whatever may change bytes.
    pub data_version: u64,
    /// `s3://bucket/key` of the copy.
    pub copy: Option<String>,
    /// What is to be done, if anything.
    pub action: Option<HsmActionDoc>,
}

/// An action in the queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HsmActionDoc {
    /// Lustre's word: `ARCHIVE`, `RESTORE`, `REMOVE`.
    pub action: String,
    /// A copytool has it.
    pub started: bool,
    /// As the copytool said.
    pub bytes_done: u64,
    /// Attempts that failed.
    pub attempts: u32,
    /// Of the last of them; empty if none.
    pub error: String,
}

/// What somebody wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HsmWish {
    /// A copy in the archive.
    Archive {
        /// 0: that of the folder's repository.
        archive_id: u32,
    },
    /// The bytes back.
    Restore {},
    /// No bytes here.
    Release {},
    /// No copy in the archive.
    Remove {},
    /// Not what was asked for before.
    Cancel {},
    /// Other flags.
    Flags {
        /// To be set.
        set: u32,
        /// To be cleared.
        clear: u32,
        /// 0: unchanged.
        archive_id: u32,
    },
}

impl HsmDoc {
    /// To JSON.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a document of plain values")
    }

    /// From JSON.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }
}

impl From<v1::HsmStateResponse> for HsmDoc {
    fn from(state: v1::HsmStateResponse) -> Self {
        Self {
            flags: state.flags,
            archive_id: state.archive_id,
            data_version: state.data_version,
            copy: state.copy.map(|copy| format!("s3://{}/{}", copy.bucket, copy.key)),
            action: state.action.map(|action| HsmActionDoc {
                action: word(action.action()).to_owned(),
                started: action.started,
                bytes_done: action.bytes_done,
                attempts: action.attempts,
                error: action.error,
            }),
        }
    }
}

impl HsmWish {
    /// To JSON.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a document of plain values")
    }

    /// From JSON, to what the server is asked.
    pub(crate) fn parse(json: &[u8]) -> Result<Asked, serde_json::Error> {
        let queue = |action: v1::HsmAction, archive_id| {
            let action = action.into();
            Asked::Queue(v1::HsmQueueOp { action, archive_id, wait_ms: 0 })
        };
        Ok(match serde_json::from_slice(json)? {
            Self::Archive { archive_id } => queue(v1::HsmAction::Archive, archive_id),
            Self::Restore {} => queue(v1::HsmAction::Restore, 0),
            Self::Remove {} => queue(v1::HsmAction::Remove, 0),
            Self::Release {} => Asked::Release(v1::HsmReleaseOp {}),
            Self::Cancel {} => Asked::Cancel(v1::HsmCancelOp {}),
            Self::Flags { set, clear, archive_id } => {
                Asked::Flags(v1::HsmFlagsOp { set, clear, archive_id })
            }
        })
    }
}

/// Lustre's word for an action.
fn word(action: v1::HsmAction) -> &'static str {
    match action {
        v1::HsmAction::Unspecified => "NOOP",
        v1::HsmAction::Archive => "ARCHIVE",
        v1::HsmAction::Restore => "RESTORE",
        v1::HsmAction::Remove => "REMOVE",
        v1::HsmAction::Export => "EXPORT",
    }
}
