//! Random steps, and how each is done on both sides.

use proptest::prelude::*;

use super::model::Acl;

/// One step. `usize` picks an inode among those that were made, `u8` a name.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Names(NameStep),
    Attributes(AttributeStep),
    Data(DataStep),
    Reap { node: usize },
    ForgetWork,
    Resend,
    Evict,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum NameStep {
    Create { dir: usize, name: u8, kind: u8, perm: u32, umask: u32, id: u32, exclusive: bool },
    TmpFile { dir: usize },
    Link { node: usize, dir: usize, name: u8 },
    Remove { dir: usize, name: u8, rmdir: bool, held: bool },
    Rename { from: (usize, u8), to: (usize, u8), flag: u8, held: bool },
}

#[derive(Debug, Clone, Copy)]
pub(super) enum AttributeStep {
    Chmod { node: usize, perm: u32 },
    Chown { node: usize, uid: u32, gid: u32 },
    Utimes { node: usize, atime: i64, mtime: Option<i64> },
    SetXattr { node: usize, name: u8, len: usize, flag: u8 },
    RemoveXattr { node: usize, name: u8 },
    SetAcl { node: usize, default: bool, acl: Option<Acl> },
}

#[derive(Debug, Clone, Copy)]
pub(super) enum DataStep {
    Truncate { node: usize, size: u64, kill: bool, others: bool },
    Write { node: usize, offset: u64, len: usize, kill: bool },
    Punch { node: usize, offset: u64, len: u64 },
    Instantiate { node: usize, offset: u64, len: u64 },
    Promote { node: usize, commit: bool },
    Settle { node: usize, size: u64, exact: bool, others: bool },
    MarkLazy { node: usize },
    SetLayout { node: usize },
}

fn acl() -> impl Strategy<Value = Option<Acl>> {
    let named = prop::option::of((0_u32..8, 0_u32..8));
    let acl = (0_u32..8, named, 0_u32..8, 0_u32..8).prop_map(|(owner, named, group, other)| Acl {
        owner,
        named,
        group,
        other,
    });
    prop::option::weighted(0.8, acl)
}

fn names() -> impl Strategy<Value = NameStep> {
    let (node, name, held) = (0_usize..256, 0_u8..12, any::<bool>);
    let perm = prop_oneof![0_u32..0o10000, Just(0o2775), Just(0o644)];
    let umask = prop_oneof![Just(0_u32), Just(0o22), Just(0o77)];
    prop_oneof![
        8 => (node.clone(), name.clone(), 0_u8..8, perm, umask, 0_u32..3, any::<bool>()).prop_map(
            |(dir, name, kind, perm, umask, id, exclusive)| {
                NameStep::Create { dir, name, kind, perm, umask, id, exclusive }
            }
        ),
        1 => node.clone().prop_map(|dir| NameStep::TmpFile { dir }),
        3 => (node.clone(), node.clone(), name.clone())
            .prop_map(|(node, dir, name)| NameStep::Link { node, dir, name }),
        5 => (node.clone(), name.clone(), held(), held())
            .prop_map(|(dir, name, rmdir, held)| NameStep::Remove { dir, name, rmdir, held }),
        8 => ((node.clone(), name.clone()), (node, name), 0_u8..4, held())
            .prop_map(|(from, to, flag, held)| NameStep::Rename { from, to, flag, held }),
    ]
}

fn attributes() -> impl Strategy<Value = AttributeStep> {
    let node = 0_usize..256;
    prop_oneof![
        (node.clone(), 0_u32..0o10000).prop_map(|(node, perm)| AttributeStep::Chmod { node, perm }),
        (node.clone(), 0_u32..3, 0_u32..3).prop_map(|(node, uid, gid)| AttributeStep::Chown {
            node,
            uid,
            gid
        }),
        (node.clone(), -5_i64..5, prop::option::of(-5_i64..5))
            .prop_map(|(node, atime, mtime)| AttributeStep::Utimes { node, atime, mtime }),
        (node.clone(), 0_u8..5, 0_usize..9, 0_u8..3)
            .prop_map(|(node, name, len, flag)| AttributeStep::SetXattr { node, name, len, flag }),
        (node.clone(), 0_u8..5).prop_map(|(node, name)| AttributeStep::RemoveXattr { node, name }),
        (node, any::<bool>(), acl()).prop_map(|(node, default, acl)| AttributeStep::SetAcl {
            node,
            default,
            acl
        }),
    ]
}

fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0_u64..20,
        1 => 16_370_u64..16_390,
        1 => (64_u64 << 20) - 2..(64 << 20) + 2,
        1 => i64::MAX as u64 - 2..i64::MAX as u64 + 2,
    ]
}

fn data() -> impl Strategy<Value = DataStep> {
    let node = 0_usize..256;
    prop_oneof![
        (node.clone(), offset(), any::<bool>(), any::<bool>())
            .prop_map(|(node, size, kill, others)| DataStep::Truncate { node, size, kill, others }),
        (node.clone(), offset(), 0_usize..20, any::<bool>())
            .prop_map(|(node, offset, len, kill)| DataStep::Write { node, offset, len, kill }),
        (node.clone(), offset(), 0_u64..20).prop_map(|(node, offset, len)| DataStep::Punch {
            node,
            offset,
            len
        }),
        (node.clone(), offset(), offset()).prop_map(|(node, offset, len)| DataStep::Instantiate {
            node,
            offset,
            len
        }),
        (node.clone(), any::<bool>()).prop_map(|(node, commit)| DataStep::Promote { node, commit }),
        (node.clone(), any::<bool>()).prop_map(|(node, commit)| DataStep::Promote { node, commit }),
        (node.clone(), 0_u64..1 << 30, any::<bool>(), any::<bool>())
            .prop_map(|(node, size, exact, others)| DataStep::Settle { node, size, exact, others }),
        node.clone().prop_map(|node| DataStep::MarkLazy { node }),
        node.prop_map(|node| DataStep::SetLayout { node }),
    ]
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => names().prop_map(Step::Names),
        5 => attributes().prop_map(Step::Attributes),
        6 => data().prop_map(Step::Data),
        1 => (0_usize..256).prop_map(|node| Step::Reap { node }),
        1 => Just(Step::ForgetWork),
        1 => Just(Step::Resend),
        1 => Just(Step::Evict),
    ]
}
