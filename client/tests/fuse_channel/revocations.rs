//! Leases that are revoked: the kernel sees what is new, and nothing that is old stays.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use nacre_client::fuse::Grants;
use nacre_model::Fid;

use crate::harness::Mounted;
use crate::mapping::Mapping;

fn leased() -> Option<Mounted> {
    Mounted::with(Grants::All, |_| {})
}

fn fid(path: &Path) -> Fid {
    Fid::from_ino(fs::metadata(path).unwrap().ino())
}

/// Tells each round of changes, when it is done.
#[derive(Default)]
struct Rounds(AtomicU32);

impl Rounds {
    const END: u32 = 300;

    /// Does `look` with the last round that was done before, until the last is.
    fn watch(&self, look: impl Fn(u32)) {
        loop {
            let done = self.0.load(Ordering::SeqCst);
            look(done);
            if done == Self::END {
                return;
            }
        }
    }
}

#[test]
fn nothing_old_is_seen_while_leases_come_and_go() {
    let Some(mount) = leased() else { return };
    let (path, at) = (mount.path("file"), |round: u32| mount.path(&format!("name-{round}")));
    fs::write(&path, 0u32.to_ne_bytes()).unwrap();
    fs::write(at(0), b"").unwrap();
    let (file, open) = (fid(&path), File::open(&path).unwrap());
    let rounds = Rounds::default();
    std::thread::scope(|scope| {
        scope.spawn(|| rounds.watch(|done| assert!(perm(&path) >= done)));
        scope.spawn(|| {
            rounds.watch(|done| assert!(open.metadata().unwrap().mode() & 0o777 >= done));
        });
        scope.spawn(|| {
            rounds.watch(|done| {
                let mut seen = [0; 4];
                open.read_exact_at(&mut seen, 0).unwrap();
                assert!(u32::from_ne_bytes(seen) >= done);
            });
        });
        scope.spawn(|| {
            rounds.watch(|done| assert!(done == 0 || !fs::exists(at(done - 1)).unwrap()));
        });
        scope.spawn(|| {
            rounds.watch(|done| {
                for entry in fs::read_dir(mount.root()).unwrap() {
                    let _name = entry.unwrap().file_name();
                }
                assert!(done == 0 || !fs::exists(at(done - 1)).unwrap());
            });
        });
        for round in 1..=Rounds::END {
            mount.revoke(&[Fid::ROOT, file]);
            mount.chmod(file, round);
            mount.overwrite(file, Vec::leak(round.to_ne_bytes().to_vec()));
            mount.rename(&format!("name-{}", round - 1), &format!("name-{round}"));
            mount.fs.leases.gain(Fid::ROOT);
            mount.fs.leases.gain(file);
            rounds.0.store(round, Ordering::SeqCst);
        }
    });
}

fn perm(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

#[test]
fn attributes_are_seen_as_they_are_after_a_revocation() {
    let Some(mount) = leased() else { return };
    let path = mount.path("file");
    fs::write(&path, b"text").unwrap();
    let (file, open) = (fid(&path), File::open(&path).unwrap());
    for number in 0..0o100 {
        mount.revoke(&[file]);
        mount.chmod(file, number);
        mount.fs.leases.gain(file);
        assert_eq!(open.metadata().unwrap().mode() & 0o777, number);
        assert_eq!(perm(&path), number);
    }
}

#[test]
fn names_are_seen_as_they_are_after_a_revocation() {
    let Some(mount) = leased() else { return };
    fs::write(mount.path("one"), b"1").unwrap();
    fs::write(mount.path("two"), b"2").unwrap();
    let listed = || {
        let names = fs::read_dir(mount.root()).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let look = || {
        let [one, two, three] = ["one", "two", "three"].map(|name| fs::read(mount.path(name)).ok());
        (one, two, three, listed())
    };
    look();
    assert_eq!(
        look(),
        (Some(b"1".into()), Some(b"2".into()), None, vec!["one".into(), "two".into()])
    );

    mount.revoke(&[Fid::ROOT]);
    mount.rename("two", "three");
    mount.rename("one", "two");
    mount.fs.leases.gain(Fid::ROOT);
    assert_eq!(
        look(),
        (None, Some(b"1".into()), Some(b"2".into()), vec!["three".into(), "two".into()])
    );
}

#[test]
fn content_is_seen_as_it_is_after_a_revocation_by_open_files_and_mappings_too() {
    let Some(mount) = leased() else { return };
    let path = mount.path("file");
    fs::write(&path, b"old old ").unwrap();
    let open = File::options().read(true).write(true).open(&path).unwrap();
    let mapped = Mapping::of(&open, 8);
    let mut text = [0; 8];
    open.read_exact_at(&mut text, 0).unwrap();
    assert_eq!((mapped.read(0), &text), (b'o', b"old old "));
    let file = fid(&path);
    mount.revoke(&[file]);
    mount.overwrite(file, b"new");
    mount.fs.leases.gain(file);
    open.read_exact_at(&mut text, 0).unwrap();
    assert_eq!((mapped.read(0), &text), (b'n', b"new old "));
    assert_eq!(fs::read(&path).unwrap(), b"new old ");
}

#[test]
fn changed_pages_of_a_mapping_are_written_back_by_a_revocation() {
    let Some(mount) = leased() else { return };
    let path = mount.path("file");
    fs::write(&path, b"old old ").unwrap();
    let open = File::options().read(true).write(true).open(&path).unwrap();
    let (file, mapped) = (fid(&path), Mapping::of(&open, 8));
    mapped.write(4, b'O');
    mount.revoke(&[file]);
    mount.overwrite(file, b"new");
    mount.fs.leases.gain(file);
    assert_eq!(mapped.read(4), b'O');
    assert_eq!(fs::read(&path).unwrap(), b"new Old ");
}

#[test]
fn a_file_opened_under_a_lease_that_is_gone_keeps_no_pages() {
    let Some(mount) = leased() else { return };
    let path = mount.path("file");
    fs::write(&path, b"old").unwrap();
    let (file, open) = (fid(&path), File::open(&path).unwrap());
    mount.revoke(&[file]);
    for text in [b"one", b"two", b"six"] {
        mount.overwrite(file, text);
        let mut seen = [0; 3];
        open.read_exact_at(&mut seen, 0).unwrap();
        assert_eq!(&seen, text);
    }
    // What it read without one does not count under the next.
    mount.overwrite(file, b"ten");
    mount.fs.leases.gain(file);
    let mut seen = [0; 3];
    open.read_exact_at(&mut seen, 0).unwrap();
    assert_eq!(&seen, b"ten");
    assert_eq!(fs::read(&path).unwrap(), b"ten");
}

#[test]
fn a_large_file_is_read_through_a_descriptor_whose_lease_is_gone() {
    let Some(mount) = leased() else { return };
    let path = mount.path("file");
    let data: Vec<u8> = (0..8 << 20).map(|at: u32| (at % 251) as u8).collect();
    fs::write(&path, &data).unwrap();
    let open = File::open(&path).unwrap();
    mount.revoke(&[fid(&path)]);
    let mut back = vec![0; data.len()];
    open.read_exact_at(&mut back, 0).unwrap();
    assert!(back == data);
}

#[test]
fn attributes_that_were_overtaken_are_not_kept() {
    let Some(mount) = leased() else { return };
    let path = mount.path("file");
    fs::write(&path, b"text").unwrap();
    let (file, open) = (fid(&path), File::open(&path).unwrap());
    let stat = || assert!(open.metadata().unwrap().is_file());
    for (tell, perm) in [(true, 0o123), (false, 0o456)] {
        mount.revoke(&[file]);
        mount.fs.leases.gain(file);
        mount.overtake(("getattr", tell), stat, &[file], || mount.chmod(file, perm));
        assert_eq!(open.metadata().unwrap().mode() & 0o777, perm);
    }
}

#[test]
fn a_name_that_was_overtaken_is_not_kept() {
    let Some(mount) = leased() else { return };
    fs::write(mount.path("one"), b"1").unwrap();
    for (tell, from, to) in [(true, "one", "two"), (false, "two", "three")] {
        let there = |name| fs::exists(mount.path(name)).unwrap();
        mount.revoke(&[Fid::ROOT]);
        mount.fs.leases.gain(Fid::ROOT);
        let look = || assert!(there(from));
        mount.overtake(("lookup", tell), look, &[Fid::ROOT], || mount.rename(from, to));
        assert!(!there(from) && there(to));
        mount.revoke(&[Fid::ROOT]);
        mount.fs.leases.gain(Fid::ROOT);
        let look = || assert!(!there(from));
        mount.overtake(("lookup", tell), look, &[Fid::ROOT], || mount.rename(to, from));
        assert!(there(from) && !there(to));
        mount.revoke(&[Fid::ROOT]);
        mount.rename(from, to);
    }
}

#[test]
fn a_listing_that_was_overtaken_is_not_kept() {
    let Some(mount) = leased() else { return };
    for name in ["one", "two", "zoo"] {
        fs::write(mount.path(name), name).unwrap();
    }
    let (one, root) = (fid(&mount.path("one")), fs::read_dir(mount.root()).unwrap().count());
    assert_eq!(root, 3);
    // What is renamed meanwhile may be listed under both names.
    let list = || assert!(fs::read_dir(mount.root()).unwrap().count() >= 3);
    for (tell, from, to, mode) in [(true, "one", "new", 0o123), (false, "new", "one", 0o456)] {
        mount.revoke(&[Fid::ROOT, one]);
        mount.fs.leases.gain(Fid::ROOT);
        mount.fs.leases.gain(one);
        mount.overtake(("readdir", tell), list, &[Fid::ROOT, one], || {
            mount.rename(from, to);
            mount.chmod(one, mode);
        });
        assert!(!fs::exists(mount.path(from)).unwrap());
        assert_eq!(perm(&mount.path(to)), mode);
        assert_eq!(fs::read_dir(mount.root()).unwrap().count(), 3);
    }
}

#[test]
fn pages_that_were_overtaken_are_not_kept() {
    let Some(mount) = leased() else { return };
    let path = mount.path("file");
    fs::write(&path, b"old").unwrap();
    let (file, open) = (fid(&path), File::open(&path).unwrap());
    let read = || {
        let mut seen = [0; 3];
        open.read_exact_at(&mut seen, 0).unwrap();
    };
    mount.overtake(("read", true), read, &[file], || mount.overwrite(file, b"new"));
    let mut seen = [0; 3];
    open.read_exact_at(&mut seen, 0).unwrap();
    assert_eq!(&seen, b"new");
}
