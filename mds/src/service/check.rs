//! What a client's change must look like before anything is done with it.

use nacre_model::attr::{PERM_MASK, S_IFMT};
use nacre_model::layout::FILE_BYTES_MAX;
use nacre_model::{Fid, FileKind, Layout, LayoutTemplate, Name, Timestamp};
use nacre_proto::convert::{BadMessage, name, required};
use nacre_proto::v1;
use nacre_proto::v1::change_request::Op;
use nacre_proto::{SYMLINK_BYTES_MAX, XATTR_BYTES_MAX};

/// Most OSTs that a client may ask to avoid.
const AVOID_MAX: usize = 4096;

type Checked = Result<(), BadMessage>;

/// A fid that must be there.
pub(super) fn fid(field: &'static str, wire: Option<v1::Fid>) -> Result<Fid, BadMessage> {
    Ok(required(field, wire)?.into())
}

fn range(field: &'static str, value: u64) -> BadMessage {
    BadMessage::Range { field, value }
}

fn at_most(field: &'static str, value: u64, max: u64) -> Checked {
    if value <= max { Ok(()) } else { Err(range(field, value)) }
}

fn time(wire: Option<v1::Timestamp>) -> Checked {
    wire.map(Timestamp::try_from).transpose().map(drop)
}

/// A byte range of a file: neither its end nor anything before overflows.
fn extent(offset: u64, len: u64) -> Checked {
    let end = offset.checked_add(len).ok_or(range("len", len))?;
    at_most("offset", end, FILE_BYTES_MAX)
}

fn template(wire: Option<&v1::LayoutTemplate>) -> Checked {
    wire.cloned().map(LayoutTemplate::try_from).transpose().map(drop)
}

fn avoid(list: &[u32]) -> Checked {
    at_most("avoid", list.len() as u64, AVOID_MAX as u64)?;
    list.iter().try_for_each(|ost| at_most("avoid", u64::from(*ost), u16::MAX.into()))
}

fn xattr_name(bytes: &[u8]) -> Checked {
    let len = bytes.len() as u64;
    let good = (1..=Name::BYTES_MAX).contains(&bytes.len()) && !bytes.contains(&0);
    if good { Ok(()) } else { Err(range("name", len)) }
}

/// Checks every field of the operation.
pub(super) fn change(op: &Op) -> Checked {
    match op {
        Op::Create(op) => create(op),
        Op::Link(op) => {
            fid("fid", op.fid)?;
            entry(op.parent, &op.name)
        }
        Op::Unlink(op) => entry(op.parent, &op.name),
        Op::Rmdir(op) => entry(op.parent, &op.name),
        Op::Rename(op) => {
            entry(op.parent, &op.name)?;
            entry(op.new_parent, &op.new_name)?;
            if op.noreplace && op.exchange {
                return Err(range("exchange", 1));
            }
            Ok(())
        }
        Op::Setattr(op) => setattr(op),
        Op::Setxattr(op) => {
            fid("fid", op.fid)?;
            xattr_name(&op.name)?;
            at_most("value", op.value.len() as u64, XATTR_BYTES_MAX as u64)
        }
        Op::Removexattr(op) => {
            fid("fid", op.fid)?;
            xattr_name(&op.name)
        }
        Op::WriteInline(op) => {
            fid("fid", op.fid)?;
            time(op.mtime)?;
            extent(op.offset, op.data.len() as u64)?;
            extent(op.offset, op.punch_len.unwrap_or(0))
        }
        Op::Settle(op) => {
            fid("fid", op.fid)?;
            time(op.mtime)?;
            time(op.atime)?;
            at_most("size", op.size.unwrap_or(0), FILE_BYTES_MAX)
        }
        Op::Instantiate(op) => {
            fid("fid", op.fid)?;
            avoid(&op.avoid)?;
            extent(op.offset, op.len)
        }
        Op::Promote(op) => {
            fid("fid", op.fid)?;
            avoid(&op.avoid)
        }
        Op::SetLayout(op) => {
            fid("fid", op.fid)?;
            template(op.layout.as_ref())
        }
        // No batch holds another.
        Op::Batch(op) => Err(range("changes", op.changes.len() as u64)),
    }
}

fn entry(parent: Option<v1::Fid>, bytes: &[u8]) -> Checked {
    fid("parent", parent)?;
    name(bytes).map(drop)
}

fn create(op: &v1::CreateOp) -> Checked {
    fid("parent", op.parent)?;
    if !op.name.is_empty() {
        name(&op.name)?;
    }
    FileKind::from_mode(op.mode).ok_or(range("mode", op.mode.into()))?;
    at_most("mode", (op.mode & !(S_IFMT | PERM_MASK)).into(), 0)?;
    at_most("umask", op.umask.into(), PERM_MASK.into())?;
    // A longer target is ENAMETOOLONG, which the namespace says; this bounds the log.
    at_most("target", op.target.len() as u64, 2 * SYMLINK_BYTES_MAX as u64)?;
    template(op.layout.as_ref())
}

fn setattr(op: &v1::SetattrOp) -> Checked {
    fid("fid", op.fid)?;
    at_most("perm", op.perm.unwrap_or(0).into(), PERM_MASK.into())?;
    at_most("size", op.size.unwrap_or(0), FILE_BYTES_MAX)?;
    time(op.atime)?;
    time(op.mtime)
}

/// Whether a component with that extent is touched by `[offset, offset + len)`; no length counts
/// as one byte.
pub(super) fn touched(layout: &Layout, index: usize, offset: u64, len: u64) -> bool {
    let end = offset.saturating_add(len.max(1));
    layout.components.get(index).is_some_and(|c| c.start < end && offset < c.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FID: Option<v1::Fid> = Some(v1::Fid { seq: 0x2_0000_0401, oid: 1, ver: 0 });

    #[test]
    fn what_no_correct_client_sends_is_refused() {
        let bad = [
            Op::Unlink(v1::UnlinkOp { parent: None, name: "a".into(), fid: None }),
            Op::Unlink(v1::UnlinkOp { parent: FID, name: "a/b".into(), fid: None }),
            Op::Rmdir(v1::RmdirOp { parent: FID, name: "..".into(), fid: None }),
            Op::Create(v1::CreateOp {
                parent: FID,
                name: "a".into(),
                mode: 0o644,
                ..v1::CreateOp::default()
            }),
            Op::Rename(v1::RenameOp {
                parent: FID,
                name: "a".into(),
                new_parent: FID,
                new_name: "b".into(),
                noreplace: true,
                exchange: true,
                replaced: None,
            }),
            Op::Setattr(v1::SetattrOp {
                fid: FID,
                size: Some(1 << 63),
                ..v1::SetattrOp::default()
            }),
            Op::Setattr(v1::SetattrOp {
                fid: FID,
                mtime: Some(v1::Timestamp { secs: 0, nanos: 1_000_000_000 }),
                ..v1::SetattrOp::default()
            }),
            Op::Setxattr(v1::SetxattrOp {
                fid: FID,
                name: "user.a".into(),
                value: vec![0; XATTR_BYTES_MAX + 1].into(),
                ..v1::SetxattrOp::default()
            }),
            Op::Instantiate(v1::InstantiateOp {
                fid: FID,
                offset: 1,
                len: u64::MAX,
                avoid: vec![],
            }),
            Op::Promote(v1::PromoteOp {
                fid: FID,
                avoid: vec![1 << 16],
                ..v1::PromoteOp::default()
            }),
        ];
        for op in bad {
            assert!(change(&op).is_err(), "{op:?}");
        }
        let longest = v1::UnlinkOp { parent: FID, name: vec![0xff; 255].into(), fid: None };
        assert_eq!(change(&Op::Unlink(longest)), Ok(()));
    }
}
