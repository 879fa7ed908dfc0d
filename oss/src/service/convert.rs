//! What a request may say.

use nacre_model::ObjectId;
use nacre_proto::DATA_BYTES_MAX;
use nacre_proto::convert::{BadMessage, required};
use nacre_proto::v1;

use crate::error::OssError;
use crate::object::{ObjectInfo, Verifier};

/// Most objects in one request.
const OBJECTS_MAX: usize = 4096;

pub(super) fn object(wire: Option<v1::ObjectId>) -> Result<ObjectId, OssError> {
    Ok(required("object", wire)?.try_into()?)
}

pub(super) fn objects(wire: Vec<v1::ObjectId>) -> Result<Vec<ObjectId>, OssError> {
    if wire.len() > OBJECTS_MAX {
        let value = wire.len() as u64;
        return Err(BadMessage::Range { field: "objects", value }.into());
    }
    wire.into_iter().map(|id| Ok(ObjectId::try_from(id)?)).collect()
}

/// Length of data in one request or reply.
pub(super) fn data_len(field: &'static str, len: usize) -> Result<u32, OssError> {
    let value = len as u64;
    match u32::try_from(len) {
        Ok(short) if (1..=DATA_BYTES_MAX).contains(&len) => Ok(short),
        Ok(_) | Err(_) => Err(BadMessage::Range { field, value }.into()),
    }
}

pub(super) fn verifier(verifier: Verifier) -> v1::Verifier {
    v1::Verifier { boot_id: verifier.boot_id, epoch: verifier.epoch }
}

pub(super) fn stat(info: Option<ObjectInfo>) -> v1::ObjectStat {
    let Some(info) = info else { return v1::ObjectStat::default() };
    v1::ObjectStat {
        exists: true,
        size: info.size,
        blocks: info.blocks,
        mtime: Some(info.mtime.into()),
    }
}
