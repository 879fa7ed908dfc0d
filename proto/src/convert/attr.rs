use nacre_model::attr::PERM_MASK;
use nacre_model::{Attr, Fid, FileKind, Timestamp};

use super::{BadMessage, required};
use crate::v1;

impl From<Fid> for v1::Fid {
    fn from(fid: Fid) -> Self {
        Self { seq: fid.seq, oid: fid.oid, ver: fid.ver }
    }
}

impl From<v1::Fid> for Fid {
    fn from(wire: v1::Fid) -> Self {
        Self { seq: wire.seq, oid: wire.oid, ver: wire.ver }
    }
}

impl From<Timestamp> for v1::Timestamp {
    fn from(time: Timestamp) -> Self {
        Self { secs: time.secs, nanos: time.nanos }
    }
}

impl TryFrom<v1::Timestamp> for Timestamp {
    type Error = BadMessage;

    fn try_from(wire: v1::Timestamp) -> Result<Self, BadMessage> {
        let value = u64::from(wire.nanos);
        Self::new(wire.secs, wire.nanos).ok_or(BadMessage::Range { field: "nanos", value })
    }
}

impl From<Attr> for v1::Attr {
    fn from(attr: Attr) -> Self {
        Self {
            fid: Some(attr.fid.into()),
            mode: attr.kind.mode_bits() | attr.perm,
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            rdev: attr.rdev,
            size: attr.size,
            blocks: attr.blocks,
            atime: Some(attr.atime.into()),
            mtime: Some(attr.mtime.into()),
            ctime: Some(attr.ctime.into()),
            btime: Some(attr.btime.into()),
            size_lazy: attr.size_lazy,
            layout_gen: attr.layout_gen,
            xattr_count: attr.xattr_count,
            released: attr.released,
        }
    }
}

impl TryFrom<v1::Attr> for Attr {
    type Error = BadMessage;

    fn try_from(wire: v1::Attr) -> Result<Self, BadMessage> {
        let value = u64::from(wire.mode);
        Ok(Self {
            fid: required("fid", wire.fid)?.into(),
            kind: FileKind::from_mode(wire.mode)
                .ok_or(BadMessage::Range { field: "mode", value })?,
            perm: wire.mode & PERM_MASK,
            nlink: wire.nlink,
            uid: wire.uid,
            gid: wire.gid,
            rdev: wire.rdev,
            size: wire.size,
            blocks: wire.blocks,
            atime: required("atime", wire.atime)?.try_into()?,
            mtime: required("mtime", wire.mtime)?.try_into()?,
            ctime: required("ctime", wire.ctime)?.try_into()?,
            btime: required("btime", wire.btime)?.try_into()?,
            size_lazy: wire.size_lazy,
            layout_gen: wire.layout_gen,
            xattr_count: wire.xattr_count,
            released: wire.released,
        })
    }
}
