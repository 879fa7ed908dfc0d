//! What the kernel keeps under leases.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::time::{Duration, Instant};

use nacre_client::fuse::{Filesystem, Grants};
use nacre_client::{Caller, CreateKind, NewNode};
use nacre_model::{Fid, Name};

use crate::harness::Mounted;

fn leased() -> Option<Mounted> {
    Mounted::with(Grants::All, |_| {})
}

impl Mounted {
    /// How often each of `ops` was asked while `work` was done.
    fn asks<const N: usize>(&self, ops: [&str; N], work: impl FnOnce()) -> [usize; N] {
        self.fs.leases.asked();
        work();
        let asked = self.fs.leases.asked();
        ops.map(|op| asked.get(op).copied().unwrap_or_default())
    }
}

#[test]
fn what_is_leased_is_asked_for_once() {
    let Some(mount) = leased() else { return };
    let (dir, file) = (mount.path("dir"), mount.path("dir/file"));
    fs::create_dir(&dir).unwrap();
    fs::write(&file, b"text").unwrap();
    symlink("file", mount.path("dir/link")).unwrap();
    let look = || {
        assert_eq!(fs::metadata(&file).unwrap().len(), 4);
        assert!(!fs::exists(mount.path("dir/missing")).unwrap());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
        assert_eq!(fs::read(mount.path("dir/link")).unwrap(), b"text");
    };
    // Reading makes the kernel ask for the time of access once more.
    look();
    look();
    let asks = mount.asks(["lookup", "getattr", "readdir", "read"], look);
    assert_eq!(asks, [0; 4]);
}

#[test]
fn what_this_machine_changes_is_seen_at_once() {
    let Some(mount) = leased() else { return };
    let file = mount.path("file");
    let listed = || fs::read_dir(mount.root()).unwrap().count();
    for round in 0..3 {
        assert!(!fs::exists(&file).unwrap());
        assert_eq!(listed(), 0);
        fs::write(&file, b"text").unwrap();
        assert_eq!(fs::metadata(&file).unwrap().len(), 4, "round {round}");
        assert_eq!(listed(), 1);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let open = File::options().read(true).write(true).open(&file).unwrap();
        open.write_all_at(b"longer text", 0).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"longer text");
        open.set_len(3).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().len(), 3);
        fs::hard_link(&file, mount.path("other")).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::nlink(&fs::metadata(&file).unwrap()), 2);
        fs::rename(mount.path("other"), mount.path("moved")).unwrap();
        assert!(!fs::exists(mount.path("other")).unwrap());
        fs::remove_file(mount.path("moved")).unwrap();
        fs::remove_file(&file).unwrap();
    }
}

#[test]
fn a_listing_with_attributes_is_complete_and_leaves_little_to_ask() {
    const COUNT: usize = 10_000;
    let Some(mount) = leased() else { return };
    fs::create_dir(mount.path("dir")).unwrap();
    let dir = inode(&fs::metadata(mount.path("dir")).unwrap());
    for number in 0..COUNT {
        let name = Name::new(format!("entry-{number}").as_bytes()).unwrap();
        let node = NewNode { kind: CreateKind::Regular, perm: 0o600, umask: 0, layout: None };
        let made = mount.fs.create(Caller::default(), dir, &name, node);
        mount.runtime.block_on(made).unwrap();
    }
    mount.runtime.block_on(mount.fs.leases.kernel().inval_inode(dir));
    let mut entries = Vec::new();
    let [lookups, getattrs, pages] = mount.asks(["lookup", "getattr", "readdir"], || {
        entries = fs::read_dir(mount.path("dir")).unwrap().map(|entry| entry.unwrap()).collect();
    });
    assert!(lookups <= 1 && getattrs <= 2, "{lookups} lookups, {getattrs} getattrs");
    let names: std::collections::BTreeSet<_> = entries.iter().map(fs::DirEntry::path).collect();
    assert_eq!((entries.len(), names.len()), (COUNT, COUNT));
    let asks = mount.asks(["lookup", "getattr"], || {
        for path in &names {
            // Not by `fs`, which asks for the time of birth too: the kernel has that from STATX only.
            assert_eq!(rustix::fs::lstat(path).unwrap().st_size, 0);
        }
    });
    // The last entry of each page bears the page's number instead.
    assert!(asks[0] <= pages && asks[1] == 0, "{asks:?} after {pages} pages");
    // Numbers that did not come back would be waited for.
    let begun = Instant::now();
    mount.runtime.block_on(mount.fs.leases.kernel().inval_names());
    assert!(begun.elapsed() < Duration::from_secs(4));
}

fn inode(stat: &fs::Metadata) -> Fid {
    Fid::from_ino(std::os::unix::fs::MetadataExt::ino(stat))
}

#[test]
fn without_a_lease_reads_go_past_the_page_cache_and_mapping_works() {
    let Some(mount) = leased() else { return };
    let path = mount.path("file");
    fs::write(&path, vec![b'a'; 10_000]).unwrap();
    mount.fs.leases.lose(inode(&fs::metadata(&path).unwrap()));
    let mut file = File::options().read(true).write(true).open(&path).unwrap();
    let mut part = [0; 100];
    let asks = mount.asks(["read"], || {
        for _ in 0..5 {
            file.read_exact(&mut part).unwrap();
        }
    });
    assert_eq!(asks, [5], "each read is a request, nothing is read ahead");
    crate::mapping::Mapping::of(&file, 10_000).write(5_000, b'x').sync();
    file.read_exact_at(&mut part, 4_950).unwrap();
    assert_eq!((part[49], part[50], part[51]), (b'a', b'x', b'a'));
}

#[test]
fn under_a_lease_content_is_kept_from_one_open_to_the_next() {
    let Some(mount) = leased() else { return };
    let path = mount.path("file");
    fs::write(&path, vec![b'a'; 100_000]).unwrap();
    fs::read(&path).unwrap();
    let asks = mount.asks(["open", "read"], || {
        assert_eq!(fs::read(&path).unwrap().len(), 100_000);
    });
    assert_eq!(asks, [1, 0]);
}

#[test]
fn a_kernel_that_cannot_forget_names_keeps_only_the_rest() {
    let Some(mount) = Mounted::with(Grants::Inodes, |_| {}) else { return };
    let path = mount.path("file");
    fs::write(&path, b"text").unwrap();
    let look = || {
        assert_eq!(fs::read(&path).unwrap(), b"text");
        assert_eq!(fs::metadata(&path).unwrap().len(), 4);
        assert!(!fs::exists(mount.path("missing")).unwrap());
        assert_eq!(fs::read_dir(mount.root()).unwrap().count(), 1);
    };
    look();
    look();
    let asks = mount.asks(["lookup", "getattr", "readdir", "read"], look);
    assert_eq!(asks, [3, 0, 0, 0]);
}

#[test]
fn the_file_system_learns_what_the_kernel_has_forgotten() {
    let Some(mount) = leased() else { return };
    let path = mount.path("file");
    fs::write(&path, b"text").unwrap();
    let fid = inode(&fs::metadata(&path).unwrap());
    let open = File::open(&path).unwrap();
    for _ in 0..3 {
        mount.runtime.block_on(mount.fs.leases.kernel().inval_names());
        assert!(fs::exists(&path).unwrap());
    }
    assert!(!mount.fs.leases.was_forgotten(fid));
    drop(open);
    fs::remove_file(&path).unwrap();
    while !mount.fs.leases.was_forgotten(fid) {
        std::thread::yield_now();
    }
}
