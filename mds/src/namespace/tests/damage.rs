//! The checker finds what was damaged on purpose.

use super::*;
use crate::namespace::Finding;
use crate::record::{Counters, Record};

/// A file system with something of everything.
fn full() -> (Fixture, Fid, Fid) {
    let mut fs = Fixture::new();
    let dir = fs.make(Fid::ROOT, "dir", FileKind::Directory).unwrap();
    let file = fs.make(dir, "file", FileKind::Regular).unwrap();
    fs.setxattr(file, b"user.a", 5).unwrap();
    let fid = Some(file.into());
    let data = Bytes::from_static(b"bytes");
    fs.change(Wire::WriteInline(v1::WriteInlineOp { fid, data, ..Default::default() })).unwrap();
    let (fid, avoid) = (Some(fs.file("objects").into()), Vec::new());
    fs.change(Wire::Instantiate(v1::InstantiateOp { fid, offset: 0, len: 1, avoid })).unwrap();
    fs.assert_clean();
    (fs, dir, file)
}

fn findings(fs: &Fixture, key: Vec<u8>, value: Option<Vec<u8>>) -> Vec<Finding> {
    fs.store.apply(&Batch::from([(key, value)])).unwrap();
    check(&fs.store).unwrap()
}

fn entry_key(fs: &Fixture, parent: Fid) -> Vec<u8> {
    let listing = read::readdir(&fs.store, parent, 0, 0, false).unwrap();
    keys::entry(parent, listing.entries[0].cookie)
}

#[test]
fn a_lost_inode_is_found_through_its_entry() {
    let (fs, dir, file) = full();
    let found = findings(&fs, keys::inode(file), None);
    assert!(found.iter().any(|f| matches!(f, Finding::Entry { parent, .. } if *parent == dir)));
    assert!(found.iter().any(|f| matches!(f, Finding::InodeCount { .. })));
    let dangling = found.iter().filter(|f| matches!(f, Finding::Dangling { .. }));
    assert_eq!(dangling.count(), 2, "inline bytes and attribute: {found:?}");
}

#[test]
fn a_lost_entry_is_found_through_its_inode() {
    let (fs, dir, file) = full();
    let key = entry_key(&fs, dir);
    let found = findings(&fs, key, None);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(matches!(found[0], Finding::Inode { fid, .. } if fid == file));
}

#[test]
fn a_lost_directory_is_found_through_what_it_held() {
    let (fs, dir, _) = full();
    let found = findings(&fs, keys::inode(dir), None);
    let of_dir = |f: &Finding| matches!(f, Finding::Dangling { fid, .. } if *fid == dir);
    assert!(found.iter().any(of_dir), "{found:?}");
}

#[test]
fn wrong_counts_are_found() {
    let (fs, dir, file) = full();
    fs.edit(dir, |inode| inode.attr.nlink = 3);
    fs.edit(file, |inode| inode.attr.nlink = 2);
    fs.edit(file, |inode| inode.xattrs.value_bytes = 6);
    let found = check(&fs.store).unwrap();
    let counts = found.iter().filter(|f| matches!(f, Finding::Count { .. })).count();
    assert_eq!((counts, found.len()), (3, 3), "{found:?}");
}

#[test]
fn a_directory_that_is_its_own_ancestor_is_found() {
    let (mut fs, dir, _) = full();
    let below = fs.make(dir, "below", FileKind::Directory).unwrap();
    fs.edit(dir, |inode| inode.links[0].parent = below);
    let found = check(&fs.store).unwrap();
    let unreachable = |f: &&Finding| f.to_string().contains("cannot be reached");
    assert_eq!(found.iter().filter(unreachable).count(), 2, "{found:?}");
}

#[test]
fn stray_rows_and_damaged_ones_are_found() {
    let (fs, _, file) = full();
    let stray = Fid { oid: 99, ..file };
    for key in [keys::orphan(file), keys::orphan(stray), keys::inline(stray), vec![b'Z', 1]] {
        assert_ne!(findings(&fs, key.clone(), Some(vec![1])), [], "{key:?}");
        assert_eq!(findings(&fs, key, None), []);
    }
    for key in [keys::inode(file), entry_key(&fs, Fid::ROOT), keys::session(fs.session)] {
        let value = fs.store.get(&key).unwrap();
        let found = findings(&fs, key.clone(), Some(vec![9, 9]));
        assert!(found.iter().any(|f| matches!(f, Finding::Damaged { .. })), "{key:?}");
        assert_eq!(findings(&fs, key, value), []);
    }
}

#[test]
fn a_fid_from_the_future_and_work_on_live_objects_are_found() {
    let (fs, _, _) = full();
    let counters = Counters::decode(fs.store.get(&keys::counters()).unwrap().unwrap()).unwrap();
    let earlier = Counters { next_oid: 3, ..counters.clone() };
    let found = findings(&fs, keys::counters(), Some(earlier.encode()));
    assert_eq!(found.len(), 1, "{found:?}");
    findings(&fs, keys::counters(), Some(counters.encode()));

    let objects = read::lookup(&fs.store, Fid::ROOT, b"objects").unwrap().fid;
    let work = crate::record::WorkItem {
        fid: objects,
        component: 0,
        object_generation: 1,
        osts: vec![OstIndex(0)],
        kind: v1::WorkKind::Destroy,
        sizes: Vec::new(),
    };
    let found = findings(&fs, keys::work(0), Some(work.encode()));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(matches!(found[0], Finding::Work { sequence: 0, .. }));
}
