//! A folder and a bucket that follow each other: the bucket is a map here, and what a copytool does
//! to it is done at once.

mod random;

use std::collections::BTreeMap;

use nacre_proto::v1::hsm_record_op::Op as Hsm;
use nacre_proto::v1::{ExportedObject, HsmAction, ImportResult};

use super::*;
use crate::namespace::export;
use crate::record::HsmFlags;

const BOTH: v1::RepositoryPolicy = v1::RepositoryPolicy { new: true, changed: true, deleted: true };
const NONE: v1::RepositoryPolicy =
    v1::RepositoryPolicy { new: false, changed: false, deleted: false };

/// A file system whose root is linked.
struct Pair {
    fs: Fixture,
    /// `ETag`s by key.
    bucket: BTreeMap<String, String>,
    etags: u64,
    conflicts: usize,
}

impl Pair {
    fn new(import: v1::RepositoryPolicy, export: v1::RepositoryPolicy) -> Self {
        let mut pair = Self { fs: Fixture::new(), bucket: BTreeMap::new(), etags: 0, conflicts: 0 };
        pair.hsm(Hsm::Link(v1::Repository {
            path: "/".into(),
            bucket: "b".into(),
            prefix: "p/".into(),
            import: Some(import),
            export: Some(export),
            ..Default::default()
        }));
        pair
    }

    fn hsm(&mut self, op: Hsm) -> Outcome {
        self.fs.op(Op::Hsm { op }).unwrap()
    }

    fn etag(&mut self) -> String {
        self.etags += 1;
        self.etags.to_string()
    }

    /// Carries out all exports that wait, one step of one of them at a time.
    fn export(&mut self) {
        for step in 0.. {
            assert!(step < 300, "exports come to no end");
            let waiting = read::actions(&self.fs.store, 0, usize::MAX).unwrap();
            // The newest first: whatever comes first must not matter.
            let Some((_, action)) = waiting.last() else { return };
            assert_eq!(action.action(), HsmAction::Export);
            let fids: Vec<(u64, Fid)> = waiting
                .iter()
                .rev()
                .map(|(cookie, action)| (*cookie, action.fid.unwrap().into()))
                .collect();
            if !fids.iter().any(|(cookie, fid)| self.export_step(*cookie, *fid)) {
                self.make_way(fids[0].1);
            }
        }
    }

    /// All exports wait for each other.
    fn make_way(&mut self, fid: Fid) {
        let owner = export::plan(&self.fs.store, fid).unwrap().blocked[0];
        self.bring_home(owner);
    }

    /// Restores a file.
    fn bring_home(&mut self, owner: Fid) {
        let (fid, action) = (Some(owner.into()), HsmAction::Restore.into());
        let queue = v1::HsmQueueRecord { fid, action, archive_id: 0 };
        let cookie = self.hsm(Hsm::Queue(queue)).cookie;
        self.hsm(Hsm::BeginRestore(v1::HsmBeginRestoreRecord { cookie, placement: vec![] }));
        let row = read::hsm(&self.fs.store, owner).unwrap();
        let copy = row.row.copy.unwrap();
        let lost = self.bucket.get(&copy.key) != Some(&copy.etag);
        let failure =
            lost.then(|| v1::HsmFailure { code: "S3ObjectNotFound".into(), ..Default::default() });
        let inline_data = vec![b'1'; usize::try_from(row.attr.size).unwrap()].into();
        self.hsm(Hsm::End(v1::HsmEndRequest {
            cookie,
            inline_data,
            failure,
            ..Default::default()
        }));
        if lost {
            // What nobody has any more is in nobody's way.
            let fid = Some(owner.into());
            let cut = v1::SetattrOp { fid, size: Some(0), ..Default::default() };
            self.fs.change(Wire::Setattr(cut)).unwrap();
        }
    }

    /// False if another file must come first.
    fn export_step(&mut self, cookie: u64, fid: Fid) -> bool {
        let mut after = 0;
        while export::plan(&self.fs.store, fid).unwrap().descend {
            let descend = v1::HsmDescendRecord { fid: Some(fid.into()), cookie: after };
            after = self.hsm(Hsm::Descend(descend)).cookie;
        }
        let plan = export::plan(&self.fs.store, fid).unwrap();
        assert!(plan.puts.is_empty() || plan.deletes.is_empty());
        if !plan.blocked.is_empty() {
            return false;
        }
        let file = read::hsm(&self.fs.store, fid).ok();
        let mut end = v1::HsmEndRequest { cookie, ..Default::default() };
        for put in plan.puts {
            let released = file.as_ref().is_some_and(|file| file.attr.released);
            let there =
                |key: &String, etag: &String| self.bucket.get(key).is_some_and(|e| e == etag);
            let lost = match &put.source {
                Some(source) => !there(&source.key, &source.etag),
                None => released,
            };
            if lost {
                let copy = file.as_ref().and_then(|file| file.row.copy.clone());
                assert!(!released || copy.is_none_or(|copy| !there(&copy.key, &copy.etag)));
                end.failure = Some(v1::HsmFailure {
                    code: "S3ObjectNotFound".into(),
                    retry: put.source.is_some(),
                    errno: Errno::EIO.0,
                    ..Default::default()
                });
                break;
            }
            let etag = self.etag();
            self.bucket.insert(put.key.clone(), etag.clone());
            end.put.push(ExportedObject {
                repository: put.repository,
                bucket: put.bucket,
                key: put.key,
                etag,
                size: file.as_ref().map_or(0, |file| file.attr.size),
                data_version: file.as_ref().map_or(0, |file| file.data_version),
                state: plan.state,
                ..Default::default()
            });
        }
        for object in plan.deletes {
            if self.bucket.get(&object.key) == Some(&object.etag) {
                self.bucket.remove(&object.key);
            }
            end.deleted.push(object);
        }
        self.hsm(Hsm::End(end));
        self.fs.assert_clean();
        true
    }

    fn imported(key: &str, etag: Option<&String>) -> v1::ImportedObject {
        let path = key.strip_prefix("p/").unwrap();
        let mode = if path.ends_with('/') { 0o040_000 } else { 0o100_000 };
        v1::ImportedObject {
            path: path.trim_end_matches('/').to_owned(),
            key: key.to_owned(),
            gone: etag.is_none(),
            mode,
            etag: etag.cloned().unwrap_or_default(),
            size: if mode == 0o100_000 && etag.is_some() { 9 } else { 0 },
            mtime: Some(v1::Timestamp { secs: 7, nanos: 0 }),
            ..Default::default()
        }
    }

    /// Lists the bucket, and imports what is not as it is known.
    fn sweep(&mut self) -> Vec<ImportResult> {
        let known = read::known_objects(&self.fs.store, 1, ("", ""), usize::MAX).unwrap();
        let known: BTreeMap<_, _> = known.into_iter().collect();
        let mut objects = Vec::new();
        for (key, etag) in &self.bucket {
            if known.get(key).is_none_or(|known| known.etag != *etag) {
                objects.push(Self::imported(key, Some(etag)));
            }
        }
        let missing = known.keys().filter(|key| !self.bucket.contains_key(*key));
        objects.extend(missing.map(|key| Self::imported(key, None)));
        self.import(objects)
    }

    fn import(&mut self, objects: Vec<v1::ImportedObject>) -> Vec<ImportResult> {
        let waited = tree(&self.fs.store).into_values().chain([Fid::ROOT]);
        let results = self
            .hsm(Hsm::Import(v1::HsmImportRecord {
                repository: 1,
                all: false,
                time: Some(v1::Timestamp { secs: self.fs.now + 1, nanos: 0 }),
                objects,
                waited: waited.map(Into::into).collect(),
            }))
            .imports;
        self.conflicts += results.iter().filter(|r| **r == ImportResult::Conflict).count();
        self.fs.assert_clean();
        results
    }

    fn keys(&self) -> Vec<&str> {
        self.bucket.keys().map(String::as_str).collect()
    }

    /// The keys that the tree stands for.
    fn keys_of_tree(&self) -> Vec<String> {
        let keys = tree(&self.fs.store).into_iter().map(|(path, fid)| {
            let is_dir = read::getattr(&self.fs.store, fid).unwrap().kind == FileKind::Directory;
            format!("p/{path}{}", if is_dir { "/" } else { "" })
        });
        let mut keys: Vec<String> = keys.collect();
        keys.sort_unstable();
        keys
    }

    fn fid(&self, path: &str) -> Fid {
        read::resolve(&self.fs.store, path).unwrap().expect(path).fid
    }

    fn rename(&mut self, from: (Fid, &str), to: (Fid, &str)) -> Result<Outcome, NsError> {
        self.fs.change(Wire::Rename(v1::RenameOp {
            parent: Some(from.0.into()),
            name: Bytes::copy_from_slice(from.1.as_bytes()),
            new_parent: Some(to.0.into()),
            new_name: Bytes::copy_from_slice(to.1.as_bytes()),
            ..Default::default()
        }))
    }

    fn write(&mut self, fid: Fid) -> Result<Outcome, NsError> {
        let (fid, data) = (Some(fid.into()), Bytes::from_static(b"123456789"));
        self.fs.change(Wire::WriteInline(v1::WriteInlineOp { fid, data, ..Default::default() }))
    }

    fn flags(&self, path: &str) -> HsmFlags {
        read::hsm(&self.fs.store, self.fid(path)).unwrap().flags
    }
}

/// All paths but the root's.
fn tree(view: &dyn View) -> BTreeMap<String, Fid> {
    let mut found = BTreeMap::new();
    let mut folders = vec![(String::new(), Fid::ROOT)];
    while let Some((path, fid)) = folders.pop() {
        for entry in read::readdir(view, fid, 0, usize::MAX, false).unwrap().entries {
            let name = String::from_utf8(entry.name.to_vec()).unwrap();
            let path = if path.is_empty() { name } else { format!("{path}/{name}") };
            if entry.kind == FileKind::Directory {
                folders.push((path.clone(), entry.fid));
            }
            found.insert(path, entry.fid);
        }
    }
    found
}

#[test]
fn the_bucket_follows_the_tree() {
    let mut pair = Pair::new(NONE, BOTH);
    let folder = pair.fs.make(Fid::ROOT, "d", FileKind::Directory).unwrap();
    let below = pair.fs.make(folder, "e", FileKind::Directory).unwrap();
    let file = pair.fs.make(below, "f", FileKind::Regular).unwrap();
    pair.write(file).unwrap();
    pair.export();
    assert_eq!(pair.keys(), ["p/d/", "p/d/e/", "p/d/e/f"]);
    assert_eq!(pair.flags("/d/e/f"), HsmFlags::EXISTS | HsmFlags::ARCHIVED);
    let before = pair.bucket.clone();
    pair.export();
    assert_eq!(pair.bucket, before, "nothing has changed");
    // Everything below a folder has other keys when it is moved.
    pair.rename((Fid::ROOT, "d"), (Fid::ROOT, "g")).unwrap();
    pair.export();
    assert_eq!(pair.keys(), ["p/g/", "p/g/e/", "p/g/e/f"]);
    // Each name has an object.
    pair.fs.link(file, "h").unwrap();
    pair.export();
    assert_eq!(pair.keys(), ["p/g/", "p/g/e/", "p/g/e/f", "p/h"]);
    pair.fs.unlink("h").unwrap();
    pair.export();
    assert_eq!(pair.keys(), ["p/g/", "p/g/e/", "p/g/e/f"]);
    assert_eq!(pair.flags("/g/e/f"), HsmFlags::EXISTS | HsmFlags::ARCHIVED);
}

#[test]
fn a_released_file_is_renamed_without_its_bytes_and_keeps_them_whatever_is_deleted() {
    let mut pair = Pair::new(NONE, BOTH);
    let file = pair.fs.file("a");
    pair.write(file).unwrap();
    pair.fs.link(file, "b").unwrap();
    pair.export();
    pair.hsm(Hsm::Release(v1::HsmFileRecord { fid: Some(file.into()) }));
    pair.rename((Fid::ROOT, "a"), (Fid::ROOT, "c")).unwrap();
    pair.export();
    assert_eq!(pair.keys(), ["p/b", "p/c"]);
    for name in ["b", "c"] {
        let copy = read::hsm(&pair.fs.store, file).unwrap().row.copy.unwrap();
        assert!(pair.bucket.get(&copy.key) == Some(&copy.etag), "before {name} goes: {copy:?}");
        if name == "b" {
            pair.fs.unlink("b").unwrap();
            pair.export();
            assert_eq!(pair.keys(), ["p/c"]);
        }
    }
}

#[test]
fn an_object_whose_name_another_file_has_now_is_not_deleted() {
    let mut pair = Pair::new(NONE, BOTH);
    for name in ["a", "b"] {
        let file = pair.fs.file(name);
        pair.write(file).unwrap();
    }
    pair.export();
    pair.rename((Fid::ROOT, "b"), (Fid::ROOT, "a")).unwrap();
    let waiting = read::actions(&pair.fs.store, 0, 10).unwrap();
    assert!(!waiting.is_empty());
    pair.export();
    assert_eq!(pair.keys(), ["p/a"]);
    pair.fs.unlink("a").unwrap();
    pair.fs.make(Fid::ROOT, "a", FileKind::Directory).unwrap();
    pair.export();
    assert_eq!(pair.keys(), ["p/a/"], "a file's key is another than a folder's");
}

#[test]
fn only_what_the_policy_says_is_exported() {
    let mut pair = Pair::new(NONE, v1::RepositoryPolicy { new: true, ..NONE });
    let file = pair.fs.file("a");
    pair.write(file).unwrap();
    pair.export();
    let before = pair.bucket.clone();
    pair.write(file).unwrap();
    pair.fs.unlink("a").unwrap();
    pair.export();
    assert_eq!(pair.bucket, before);
    assert_eq!(pair.sweep(), [], "what was deleted here only is known");
}

#[test]
fn objects_become_released_files_with_their_folders() {
    let mut pair = Pair::new(BOTH, BOTH);
    for key in ["p/x/y/f", "p/d/", "p/g"] {
        let etag = pair.etag();
        pair.bucket.insert(key.to_owned(), etag);
    }
    assert_eq!(pair.sweep(), [ImportResult::Done; 3]);
    let imported = HsmFlags::EXISTS | HsmFlags::ARCHIVED | HsmFlags::RELEASED;
    assert_eq!((pair.flags("/x/y/f"), pair.flags("/g")), (imported, imported));
    let attr = read::getattr(&pair.fs.store, pair.fid("/g")).unwrap();
    assert_eq!((attr.size, attr.perm, attr.mtime.secs, attr.blocks), (9, 0o755, 7, 1));
    let before = pair.bucket.clone();
    pair.export();
    assert_eq!(pair.bucket, before, "an import is not exported");
    assert_eq!(pair.sweep(), []);
    // Changed there, deleted there.
    let etag = pair.etag();
    pair.bucket.insert("p/g".to_owned(), etag);
    pair.bucket.remove("p/x/y/f");
    pair.bucket.remove("p/d/");
    assert_eq!(pair.sweep(), [ImportResult::Done; 3]);
    assert_eq!(tree(&pair.fs.store).into_keys().collect::<Vec<_>>(), ["g", "x", "x/y"]);
    // A key that something else stands in the way of.
    let etag = pair.etag();
    pair.bucket.insert("p/g/below".to_owned(), etag);
    assert_eq!(pair.sweep(), [ImportResult::TypeMismatch]);
}

#[test]
fn a_file_that_changed_here_is_not_overwritten_unless_only_imports_are_on() {
    for export in [BOTH, NONE] {
        let mut pair = Pair::new(BOTH, export);
        let etag = pair.etag();
        pair.bucket.insert("p/f".to_owned(), etag);
        pair.sweep();
        let file = pair.fid("/f");
        pair.fs
            .change(Wire::Setattr(v1::SetattrOp {
                fid: Some(file.into()),
                size: Some(0),
                ..Default::default()
            }))
            .unwrap();
        assert!(pair.flags("/f").contains(HsmFlags::DIRTY));
        let etag = pair.etag();
        pair.bucket.insert("p/f".to_owned(), etag.clone());
        let result = pair.sweep();
        if export == BOTH {
            assert_eq!(result, [ImportResult::Later], "its export comes first, and finds out");
            pair.export();
            assert_ne!(pair.bucket["p/f"], etag);
            assert_eq!(pair.sweep(), []);
        } else {
            assert_eq!(result, [ImportResult::Overwritten]);
            assert!(pair.flags("/f").contains(HsmFlags::RELEASED));
        }
    }
}

#[test]
fn what_was_learned_after_the_listing_is_newer_than_it() {
    let mut pair = Pair::new(BOTH, BOTH);
    let file = pair.fs.file("f");
    pair.write(file).unwrap();
    let early = pair.fs.now;
    pair.export();
    let mut object = Pair::imported("p/f", None);
    let outcome = pair.hsm(Hsm::Import(v1::HsmImportRecord {
        repository: 1,
        time: Some(v1::Timestamp { secs: early, nanos: 0 }),
        objects: vec![object.clone()],
        waited: vec![Fid::ROOT.into(), file.into()],
        all: false,
    }));
    assert_eq!(outcome.imports, [ImportResult::Later]);
    object.key = "p/other".into();
    assert_eq!(pair.import(vec![object]), [ImportResult::Unchanged], "of that nothing is known");
    assert_eq!(pair.keys_of_tree(), ["p/f"]);
}

#[test]
fn a_linked_folder_stays_where_it_is() {
    let mut fs = Fixture::new();
    let above = fs.make(Fid::ROOT, "a", FileKind::Directory).unwrap();
    fs.make(above, "b", FileKind::Directory).unwrap();
    let (path, bucket) = ("/a/b".to_owned(), "x".to_owned());
    let link = v1::Repository { path, bucket, ..Default::default() };
    fs.op(Op::Hsm { op: Hsm::Link(link) }).unwrap();
    let mut pair = Pair { fs, bucket: BTreeMap::new(), etags: 0, conflicts: 0 };
    assert_eq!(errno(pair.rename((Fid::ROOT, "a"), (Fid::ROOT, "c"))), Errno::EBUSY);
    assert_eq!(errno(pair.rename((above, "b"), (Fid::ROOT, "c"))), Errno::EBUSY);
    let (parent, name) = (Some(above.into()), Bytes::from_static(b"b"));
    let rmdir = v1::RmdirOp { parent, name, fid: None };
    assert_eq!(errno(pair.fs.change(Wire::Rmdir(rmdir.clone()))), Errno::EBUSY);
    pair.hsm(Hsm::Unlink(v1::HsmUnlinkRecord { id: 1 }));
    pair.fs.change(Wire::Rmdir(rmdir)).unwrap();
}

#[test]
fn a_file_whose_object_was_removed_by_hand_stays() {
    let mut pair = Pair::new(BOTH, NONE);
    let etag = pair.etag();
    pair.bucket.insert("p/f".to_owned(), etag);
    pair.sweep();
    let file = pair.fid("/f");
    pair.bring_home(file);
    let fid = Some(file.into());
    let remove = v1::HsmQueueRecord { fid, action: HsmAction::Remove.into(), archive_id: 0 };
    let cookie = pair.hsm(Hsm::Queue(remove)).cookie;
    pair.bucket.clear();
    pair.hsm(Hsm::End(v1::HsmEndRequest { cookie, ..Default::default() }));
    assert_eq!(pair.sweep(), []);
    assert_eq!(pair.fid("/f"), file);
}

#[test]
fn a_folder_that_is_linked_again_keeps_the_bytes_that_it_has() {
    let mut pair = Pair::new(BOTH, BOTH);
    let file = pair.fs.file("f");
    pair.write(file).unwrap();
    pair.export();
    pair.hsm(Hsm::Unlink(v1::HsmUnlinkRecord { id: 1 }));
    while pair.hsm(Hsm::ForgetKnown(v1::HsmUnlinkRecord { id: 1 })).cookie != 0 {}
    let path = "/".to_owned();
    let link = v1::Repository {
        path,
        bucket: "b".into(),
        prefix: "p/".into(),
        batch_import: true,
        ..Default::default()
    };
    assert_eq!(pair.hsm(Hsm::Link(link)).cookie, 2);
    let etag = pair.bucket["p/f"].clone();
    let outcome = pair.hsm(Hsm::Import(v1::HsmImportRecord {
        repository: 2,
        all: true,
        time: Some(v1::Timestamp { secs: pair.fs.now + 1, nanos: 0 }),
        objects: vec![Pair::imported("p/f", Some(&etag))],
        waited: vec![Fid::ROOT.into(), file.into()],
    }));
    assert_eq!(outcome.imports, [ImportResult::Done]);
    assert_eq!(pair.flags("/f"), HsmFlags::EXISTS | HsmFlags::ARCHIVED);
    pair.fs.assert_clean();
}
