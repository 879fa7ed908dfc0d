//! Everything visible, compared.

use std::collections::{BTreeMap, BTreeSet};

use nacre_model::{Errno, Fid, FileKind, ObjectId, OstIndex, ServiceError};

use super::model::{Id, Node, ROOT};
use super::{Pair, acl_bytes, time};
use crate::namespace::{ObjectState, acl, check, objects, read};
use crate::store::View;

impl Pair {
    pub(super) fn compare(&self, view: &dyn View) {
        for (id, fid) in self.fids.iter().enumerate() {
            if self.model.nodes[id].freed {
                assert_eq!(read::getattr(view, *fid).unwrap_err().errno(), Errno::ESTALE);
            } else {
                self.compare_inode(view, id, *fid);
            }
        }
        assert_eq!(check(view).unwrap(), Vec::new());
        let of = |wanted: &dyn Fn(&Node) -> bool| -> BTreeSet<Fid> {
            let nodes = self.model.nodes.iter().zip(&self.fids);
            nodes.filter(|(node, _)| wanted(node)).map(|(_, fid)| *fid).collect()
        };
        let orphans = read::orphans(view, None, usize::MAX).unwrap();
        assert_eq!(orphans.into_iter().collect::<BTreeSet<_>>(), of(&|node| node.orphan));
        let inodes = of(&|node| !node.freed).len() as u64;
        assert_eq!(read::inode_count(view).unwrap(), inodes);
        self.compare_objects(view);
    }

    fn compare_inode(&self, view: &dyn View, id: Id, fid: Fid) {
        let (node, attr) = (&self.model.nodes[id], read::getattr(view, fid).unwrap());
        assert_eq!(attr.kind, node.kind);
        assert_eq!(attr.perm, node.perm, "mode of {fid}");
        assert_eq!(attr.nlink, self.model.nlink(id), "links of {fid}");
        assert_eq!((attr.uid, attr.gid), (node.uid, node.gid));
        let times = (attr.atime, attr.mtime, attr.ctime);
        assert_eq!(times, (time(node.atime), time(node.mtime), time(node.ctime)), "{fid}");
        let mut xattrs = node.xattrs.clone();
        let acls = [(acl::ACCESS, node.access), (acl::DEFAULT, node.default)];
        xattrs.extend(
            acls.iter().filter_map(|(name, acl)| acl.map(|acl| (name.to_vec(), acl_bytes(acl)))),
        );
        let names = read::listxattr(view, fid).unwrap();
        let found: BTreeMap<Vec<u8>, Vec<u8>> = names
            .iter()
            .map(|name| (name.to_vec(), read::getxattr(view, fid, name).unwrap().to_vec()))
            .collect();
        assert_eq!(found, xattrs);
        match node.kind {
            FileKind::Directory => self.compare_directory(view, id, fid),
            FileKind::Regular => self.compare_file(view, id, fid),
            FileKind::Symlink => {
                assert_eq!(read::readlink(view, fid).unwrap(), &b"else/where"[..]);
            }
            _ => {}
        }
        if id != ROOT && attr.nlink > 0 {
            let paths = read::fid2path(view, fid).unwrap();
            let names = if self.model.is_dir(id) { 1 } else { attr.nlink };
            assert_eq!(paths.len(), usize::try_from(names).unwrap());
            for path in paths {
                let end = path
                    .split(|byte| *byte == b'/')
                    .fold(Fid::ROOT, |at, name| read::lookup(view, at, name).unwrap().fid);
                assert_eq!(end, fid);
            }
        }
    }

    fn compare_directory(&self, view: &dyn View, id: Id, fid: Fid) {
        let children = &self.model.nodes[id].children;
        let mut found = BTreeMap::new();
        let (mut cookie, mut eof) = (0, false);
        while !eof {
            let page = read::readdir(view, fid, cookie, 400, true).unwrap();
            assert!(page.eof || !page.entries.is_empty());
            for entry in page.entries {
                assert!(entry.cookie > cookie && entry.cookie < 1 << 63);
                cookie = entry.cookie;
                assert_eq!(read::listed_attr(view, entry.fid).unwrap().unwrap().kind, entry.kind);
                found.insert(entry.name.to_vec(), entry.fid);
            }
            eof = page.eof;
            if !self.model.nodes[id].orphan {
                assert_eq!(page.parent, self.fids[self.model.nodes[id].parent]);
            }
        }
        let expected: BTreeMap<Vec<u8>, Fid> =
            children.iter().map(|(name, child)| (name.clone(), self.fids[*child])).collect();
        assert_eq!(found, expected);
    }

    fn compare_file(&self, view: &dyn View, id: Id, fid: Fid) {
        let (file, seen) = (&self.model.nodes[id].file, read::layout(view, fid).unwrap());
        assert_eq!(seen.attr.size, file.size);
        assert_eq!(seen.attr.size_lazy, file.lazy);
        assert_eq!(seen.is_inline, file.live.is_empty());
        let bytes: Vec<u8> =
            (0..file.stored).map(|at| file.bytes.get(&at).copied().unwrap_or(0)).collect();
        assert_eq!(seen.inline_data, bytes);
        let layout = seen.layout.unwrap();
        assert_eq!(layout.generation, seen.attr.layout_gen);
        let live: BTreeSet<u16> = layout.objects(fid).map(|(id, _, _)| id.component).collect();
        assert_eq!(live, file.live);
    }

    /// Every object that ever had a place is in use, reserved or to be destroyed, and only one of
    /// these.
    fn compare_objects(&self, view: &dyn View) {
        let mut known = BTreeMap::new();
        objects(view, &mut |id, ost, state| {
            assert_eq!(known.insert(id, (ost, state)), None, "{id} twice");
        })
        .unwrap();
        let places: BTreeMap<ObjectId, OstIndex> =
            known.iter().map(|(id, (ost, _))| (*id, *ost)).collect();
        assert_eq!(places, self.seen);
        for (id, (_, state)) in known {
            let node = self.fids.iter().position(|fid| *fid == id.fid).unwrap();
            let node = &self.model.nodes[node];
            match state {
                ObjectState::Live => assert!(!node.freed && node.file.live.contains(&id.component)),
                ObjectState::Pending => assert!(!node.freed && node.file.pending),
                ObjectState::Doomed => {}
            }
        }
    }
}
