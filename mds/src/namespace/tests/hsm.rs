//! Files and the archive: Lustre's states and rules, and what becomes of objects.

use nacre_proto::v1::HsmAction;
use nacre_proto::v1::hsm_record_op::Op as Hsm;

use super::*;
use crate::record::HsmFlags;

const SIZE: u64 = 100_000;

fn hsm(fs: &mut Fixture, op: Hsm) -> Result<Outcome, NsError> {
    fs.op(Op::Hsm { op })
}

fn queue(fs: &mut Fixture, fid: Fid, action: HsmAction) -> Result<u64, NsError> {
    let (fid, action) = (Some(fid.into()), action.into());
    Ok(hsm(fs, Hsm::Queue(v1::HsmQueueRecord { fid, action, archive_id: 1 }))?.cookie)
}

fn release(fs: &mut Fixture, fid: Fid) -> Result<Outcome, NsError> {
    hsm(fs, Hsm::Release(v1::HsmFileRecord { fid: Some(fid.into()) }))
}

fn flags(fs: &Fixture, fid: Fid) -> HsmFlags {
    read::hsm(&fs.store, fid).unwrap().flags
}

fn set_flags(fs: &mut Fixture, fid: Fid, set: u32, clear: u32) -> Result<Outcome, NsError> {
    let fid = Some(fid.into());
    hsm(fs, Hsm::Flags(v1::HsmSetFlagsRecord { fid, set, clear, archive_id: 0 }))
}

/// A file with objects, written and closed.
fn written(fs: &mut Fixture, name: &str) -> Fid {
    let file = fs.make(Fid::ROOT, name, FileKind::Regular).unwrap();
    let fid = Some(file.into());
    let op = v1::InstantiateOp { fid, offset: 0, len: SIZE, avoid: Vec::new() };
    fs.change(Wire::Instantiate(op)).unwrap();
    settle(fs, file);
    file
}

fn settle(fs: &mut Fixture, file: Fid) {
    let (fid, size) = (Some(file.into()), Some(SIZE));
    let mtime = Some(v1::Timestamp { secs: 9, nanos: 0 });
    let op = v1::SettleOp { fid, size, mtime, exact: true, ..Default::default() };
    fs.change(Wire::Settle(op)).unwrap();
}

fn copy_of(fs: &Fixture, fid: Fid) -> v1::HsmCopy {
    let file = read::hsm(&fs.store, fid).unwrap();
    let (bucket, key) = ("b".to_owned(), "k".to_owned());
    let (size, data_version) = (file.attr.size, file.data_version);
    v1::HsmCopy { bucket, key, size, data_version, ..Default::default() }
}

fn end(fs: &mut Fixture, end: v1::HsmEndRequest) -> Result<Outcome, NsError> {
    hsm(fs, Hsm::End(end))
}

fn archive(fs: &mut Fixture, fid: Fid) {
    let cookie = queue(fs, fid, HsmAction::Archive).unwrap();
    let copy = Some(copy_of(fs, fid));
    end(fs, v1::HsmEndRequest { cookie, copy, ..Default::default() }).unwrap();
}

fn failed(code: &str, retry: bool) -> v1::HsmFailure {
    v1::HsmFailure { code: code.to_owned(), retry, ..Default::default() }
}

fn is_sound(fs: &Fixture) {
    assert_eq!(check(&fs.store).unwrap(), []);
}

#[test]
fn a_file_goes_to_the_archive_and_comes_back_with_the_same_bytes_version() {
    let mut fs = Fixture::new();
    let file = written(&mut fs, "f");
    let before = read::hsm(&fs.store, file).unwrap();
    assert_eq!(before.flags, HsmFlags::empty());
    let cookie = queue(&mut fs, file, HsmAction::Archive).unwrap();
    assert_eq!(flags(&fs, file).bits(), 0x01);
    assert_eq!(queue(&mut fs, file, HsmAction::Archive).unwrap(), cookie, "one request is enough");
    is_sound(&fs);
    let copy = Some(copy_of(&fs, file));
    end(&mut fs, v1::HsmEndRequest { cookie, copy, ..Default::default() }).unwrap();
    assert_eq!(flags(&fs, file).bits(), 0x09);
    assert_eq!(queue(&mut fs, file, HsmAction::Archive).unwrap(), 0, "nothing is left to do");

    let outcome = release(&mut fs, file).unwrap();
    assert!(!outcome.work.is_empty(), "its objects go");
    let released = read::hsm(&fs.store, file).unwrap();
    assert_eq!(released.flags.bits(), 0x0d);
    assert!(released.attr.released);
    assert_eq!((released.attr.size, released.attr.blocks), (SIZE, 1));
    assert_eq!(released.attr.mtime, before.attr.mtime);
    assert!(release(&mut fs, file).is_ok(), "released twice is released");
    is_sound(&fs);

    let cookie = queue(&mut fs, file, HsmAction::Restore).unwrap();
    let placement = vec![v1::PlacementRecord { component: 0, osts: vec![3] }];
    let begin = Hsm::BeginRestore(v1::HsmBeginRestoreRecord { cookie, placement });
    let shown = hsm(&mut fs, begin).unwrap().response.layout.unwrap();
    assert_eq!(shown.components[0].osts, [3]);
    let placed = |fs: &Fixture| {
        let layout = read::layout(&fs.store, file).unwrap().layout.unwrap();
        layout.components[0].osts.clone()
    };
    assert!(placed(&fs).is_empty(), "nobody sees them before they are filled");
    is_sound(&fs);
    end(&mut fs, v1::HsmEndRequest { cookie, ..Default::default() }).unwrap();
    let after = read::hsm(&fs.store, file).unwrap();
    assert_eq!(after.flags.bits(), 0x09);
    assert_eq!(placed(&fs), [OstIndex(3)]);
    assert_eq!((after.attr.size, after.data_version), (SIZE, before.data_version));
    assert!(!after.attr.released);
    is_sound(&fs);
    release(&mut fs, file).unwrap();
}

#[test]
fn small_files_come_back_into_the_inode() {
    let mut fs = Fixture::new();
    let file = fs.make(Fid::ROOT, "f", FileKind::Regular).unwrap();
    let (fid, data) = (Some(file.into()), Bytes::from_static(b"bytes"));
    let op = v1::WriteInlineOp { fid, data, ..Default::default() };
    fs.change(Wire::WriteInline(op)).unwrap();
    archive(&mut fs, file);
    release(&mut fs, file).unwrap();
    let view = read::layout(&fs.store, file).unwrap();
    assert!(view.inline_data.is_empty() && !view.is_inline, "no zeros in place of bytes");
    let cookie = queue(&mut fs, file, HsmAction::Restore).unwrap();
    let begin = v1::HsmBeginRestoreRecord { cookie, placement: Vec::new() };
    assert_eq!(hsm(&mut fs, Hsm::BeginRestore(begin)).unwrap().response.layout, None);
    let short = Bytes::from_static(b"byte");
    let request = v1::HsmEndRequest { cookie, inline_data: short, ..Default::default() };
    assert!(end(&mut fs, request).is_err(), "a restore of another length is none");
    let inline_data = Bytes::from_static(b"bytes");
    end(&mut fs, v1::HsmEndRequest { cookie, inline_data, ..Default::default() }).unwrap();
    assert_eq!(read::layout(&fs.store, file).unwrap().inline_data, "bytes");
    is_sound(&fs);
}

#[test]
fn bytes_that_are_not_here_cannot_be_changed_but_all_can_be_cut() {
    let mut fs = Fixture::new();
    let file = written(&mut fs, "f");
    archive(&mut fs, file);
    release(&mut fs, file).unwrap();
    let fid = Some(file.into());
    let data = Bytes::from_static(b"x");
    let write = Wire::WriteInline(v1::WriteInlineOp { fid, data, ..Default::default() });
    let instantiate =
        Wire::Instantiate(v1::InstantiateOp { fid, offset: 0, len: 1, avoid: Vec::new() });
    let promote = Wire::Promote(v1::PromoteOp { fid, ..Default::default() });
    let size = |size| Wire::Setattr(v1::SetattrOp { fid, size, ..Default::default() });
    for op in [write, instantiate, promote, size(Some(1))] {
        assert!(matches!(fs.change(op), Err(NsError::Released(_))));
    }
    let perm = Some(0o600);
    fs.change(Wire::Setattr(v1::SetattrOp { fid, perm, ..Default::default() })).unwrap();
    assert_eq!(flags(&fs, file).bits(), 0x0d, "chmod neither restores nor dirties");
    fs.change(size(Some(0))).unwrap();
    assert_eq!(flags(&fs, file).bits(), 0x0b);
    is_sound(&fs);
}

#[test]
fn a_write_during_the_archive_leaves_the_file_dirty() {
    let mut fs = Fixture::new();
    let file = written(&mut fs, "f");
    let cookie = queue(&mut fs, file, HsmAction::Archive).unwrap();
    let copy = Some(copy_of(&fs, file));
    settle(&mut fs, file);
    assert_eq!(flags(&fs, file).bits(), 0x03);
    end(&mut fs, v1::HsmEndRequest { cookie, copy, ..Default::default() }).unwrap();
    assert_eq!(flags(&fs, file).bits(), 0x0b);
    assert!(matches!(release(&mut fs, file), Err(NsError::Hsm { .. })));
    archive(&mut fs, file);
    assert_eq!(flags(&fs, file).bits(), 0x09);
    fs.op(Op::MarkLazy { fid: file }).unwrap();
    assert_eq!(flags(&fs, file).bits(), 0x0b, "who opens it for writing may write");
}

#[test]
fn a_copy_of_a_file_that_somebody_may_be_writing_does_not_make_it_clean() {
    let mut fs = Fixture::new();
    let file = written(&mut fs, "f");
    fs.op(Op::MarkLazy { fid: file }).unwrap();
    archive(&mut fs, file);
    assert_eq!(flags(&fs, file).bits(), 0x0b);
    settle(&mut fs, file);
    archive(&mut fs, file);
    assert_eq!(flags(&fs, file).bits(), 0x09);
}

#[test]
fn actions_that_flags_forbid_are_refused() {
    let mut fs = Fixture::new();
    let file = written(&mut fs, "f");
    assert!(release(&mut fs, file).is_err(), "there is no copy");
    set_flags(&mut fs, file, 0x20, 0).unwrap();
    assert!(queue(&mut fs, file, HsmAction::Archive).is_err());
    set_flags(&mut fs, file, 0, 0x20).unwrap();
    assert_eq!(queue(&mut fs, file, HsmAction::Restore).unwrap(), 0, "the bytes are here");
    assert_eq!(queue(&mut fs, file, HsmAction::Remove).unwrap(), 0, "there is nothing");
    for (set, clear) in [(0x02, 0), (0x04, 0), (0x40, 0), (0x80, 0)] {
        assert!(set_flags(&mut fs, file, set, clear).is_err(), "{set:#x}");
    }
    archive(&mut fs, file);
    set_flags(&mut fs, file, 0x10, 0).unwrap();
    assert!(release(&mut fs, file).is_err());
    set_flags(&mut fs, file, 0, 0x10).unwrap();
    release(&mut fs, file).unwrap();
    assert!(queue(&mut fs, file, HsmAction::Remove).is_err(), "the only bytes");
    let cookie = queue(&mut fs, file, HsmAction::Restore).unwrap();
    let failure = Some(failed("S3ObjectNotFound", false));
    end(&mut fs, v1::HsmEndRequest { cookie, failure, ..Default::default() }).unwrap();
    assert_eq!(flags(&fs, file).bits(), 0x4d);
    assert!(matches!(queue(&mut fs, file, HsmAction::Restore), Err(NsError::Lost(_))));
    is_sound(&fs);
}

#[test]
fn failures_are_tried_again_so_often_and_leave_nothing_behind() {
    let mut fs = Fixture::new();
    let file = written(&mut fs, "f");
    let cookie = queue(&mut fs, file, HsmAction::Archive).unwrap();
    let busy =
        v1::HsmEndRequest { cookie, failure: Some(failed("S3Error", true)), ..Default::default() };
    for _ in 1..crate::namespace::hsm::ATTEMPTS_MAX {
        assert_eq!(end(&mut fs, busy.clone()).unwrap().cookie, cookie);
    }
    assert_eq!(end(&mut fs, busy.clone()).unwrap().cookie, 0);
    assert_eq!(flags(&fs, file), HsmFlags::empty());
    assert_eq!(end(&mut fs, busy).unwrap().cookie, 0, "told late");
    is_sound(&fs);

    archive(&mut fs, file);
    release(&mut fs, file).unwrap();
    let cookie = queue(&mut fs, file, HsmAction::Restore).unwrap();
    let placement = vec![v1::PlacementRecord { component: 0, osts: vec![3] }];
    let begin = Hsm::BeginRestore(v1::HsmBeginRestoreRecord { cookie, placement });
    hsm(&mut fs, begin.clone()).unwrap();
    let again = hsm(&mut fs, begin).unwrap();
    assert_eq!(again.work.len(), 1, "what the attempt before reserved goes");
    let canceled = hsm(&mut fs, Hsm::Cancel(v1::HsmFileRecord { fid: Some(file.into()) }));
    assert_eq!(canceled.unwrap().work.len(), 1);
    assert_eq!(flags(&fs, file).bits(), 0x0d);
    assert_eq!(read::actions(&fs.store, 0, 10).unwrap(), []);
    is_sound(&fs);
}

#[test]
fn an_unlink_takes_the_action_and_what_it_reserved_along() {
    let mut fs = Fixture::new();
    let file = written(&mut fs, "f");
    archive(&mut fs, file);
    release(&mut fs, file).unwrap();
    let cookie = queue(&mut fs, file, HsmAction::Restore).unwrap();
    let placement = vec![v1::PlacementRecord { component: 0, osts: vec![3] }];
    hsm(&mut fs, Hsm::BeginRestore(v1::HsmBeginRestoreRecord { cookie, placement })).unwrap();
    let (parent, name) = (Some(Fid::ROOT.into()), Bytes::from_static(b"f"));
    let unlink = v1::UnlinkOp { parent, name, fid: None };
    assert_eq!(fs.change(Wire::Unlink(unlink)).unwrap().work.len(), 1);
    let late = v1::HsmEndRequest { cookie, ..Default::default() };
    assert_eq!(end(&mut fs, late).unwrap().cookie, 0, "what it brings is nobody's");
    is_sound(&fs);
}

#[test]
fn repositories_do_not_overlap() {
    let mut fs = Fixture::new();
    let mut link = |path: &str, bucket: &str, prefix: &str| {
        let (path, bucket, prefix) = (path.to_owned(), bucket.to_owned(), prefix.to_owned());
        hsm(&mut fs, Hsm::Link(v1::Repository { path, bucket, prefix, ..Default::default() }))
            .map(|outcome| outcome.cookie)
    };
    assert_eq!(link("/a/b", "x", "p/").unwrap(), 1);
    assert!(link("/", "y", "").is_err(), "the root holds all others");
    assert!(link("/a", "y", "").is_err() && link("/a/b/c", "y", "").is_err());
    assert!(link("/c", "x", "").is_err() && link("/c", "x", "p/q/").is_err());
    assert_eq!(link("/a/bc", "x", "q/").unwrap(), 2, "a name that begins alike is another");
    for bad in ["", "a", "/a/", "//", "/a/../b"] {
        assert!(link(bad, "z", "").is_err(), "{bad}");
    }
    for number in 3..=8 {
        assert_eq!(link(&format!("/{number}"), &format!("n{number}"), "").unwrap(), number);
    }
    assert!(link("/9", "n9", "").is_err(), "eight are enough");
    let (found, below) = read::repository_of(&fs.store, "a/b/c/d").unwrap().unwrap();
    assert_eq!((found.id, below), (1, "c/d"));
    assert_eq!(read::repository_of(&fs.store, "a/bb").unwrap(), None);
    hsm(&mut fs, Hsm::Unlink(v1::HsmUnlinkRecord { id: 1 })).unwrap();
    assert_eq!(read::repository_of(&fs.store, "a/b/c").unwrap(), None);
}
