//! Names, directories and attributes.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::Duration;

use nacre_client::SetAttr;
use nacre_client::fuse::Grants;
use nacre_model::Fid;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, StatxFlags};

use crate::harness::Mounted;
use crate::memstate::BTIME;

#[test]
fn names_are_made_listed_renamed_and_removed() {
    let Some(mount) = Mounted::new() else { return };
    fs::create_dir(mount.path("dir")).unwrap();
    fs::write(mount.path("dir/file"), b"text").unwrap();
    symlink("dir/file", mount.path("link")).unwrap();
    fs::hard_link(mount.path("dir/file"), mount.path("hard")).unwrap();
    assert_eq!(fs::read(mount.path("link")).unwrap(), b"text");
    assert_eq!(fs::read_link(mount.path("link")).unwrap().to_str(), Some("dir/file"));
    let stat = fs::metadata(mount.path("hard")).unwrap();
    assert_eq!((stat.nlink(), stat.len()), (2, 4));

    fs::rename(mount.path("hard"), mount.path("dir/moved")).unwrap();
    let clash = rustix::fs::renameat_with(
        CWD,
        mount.path("dir/moved"),
        CWD,
        mount.path("dir/file"),
        RenameFlags::NOREPLACE,
    );
    assert_eq!(clash, Err(rustix::io::Errno::EXIST));
    let full = fs::remove_dir(mount.path("dir")).unwrap_err();
    assert_eq!(full.raw_os_error(), Some(libc::ENOTEMPTY));
    let listed: BTreeSet<_> = fs::read_dir(mount.path("dir"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(listed, BTreeSet::from(["file".to_owned(), "moved".to_owned()]));
    fs::remove_file(mount.path("dir/file")).unwrap();
    fs::remove_file(mount.path("dir/moved")).unwrap();
    fs::remove_dir(mount.path("dir")).unwrap();
    let gone = fs::metadata(mount.path("dir")).unwrap_err();
    assert_eq!(gone.raw_os_error(), Some(libc::ENOENT));
}

#[test]
fn names_of_255_bytes_and_odd_bytes_pass_and_longer_ones_are_told() {
    let Some(mount) = Mounted::new() else { return };
    let longest = "\u{7f}".repeat(255);
    fs::write(mount.path(&longest), b"").unwrap();
    assert!(fs::metadata(mount.path(&longest)).is_ok());
    let error = fs::write(mount.path(&"n".repeat(256)), b"").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG));
}

#[test]
fn a_large_directory_is_listed_without_gaps_or_repeats() {
    let Some(mount) = Mounted::new() else { return };
    list_thousands(&mount);
}

#[test]
fn listing_with_attributes_fills_the_kernels_cache() {
    let Some(mount) = Mounted::with(Grants::All, |_| {}) else { return };
    list_thousands(&mount);
    for entry in fs::read_dir(mount.root()).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().len(), 0);
    }
}

fn list_thousands(mount: &Mounted) {
    const COUNT: u32 = 3_000;
    for number in 0..COUNT {
        rustix::fs::mknodat(
            CWD,
            mount.path(&format!("entry-{number}")),
            FileType::RegularFile,
            Mode::RUSR,
            0,
        )
        .unwrap();
    }
    let listed: Vec<_> = fs::read_dir(mount.root()).unwrap().map(|e| e.unwrap()).collect();
    let names: BTreeSet<_> = listed.iter().map(fs::DirEntry::file_name).collect();
    assert_eq!((listed.len(), names.len()), (COUNT as usize, COUNT as usize));
    assert!(listed.iter().all(|entry| entry.file_type().unwrap().is_file()));
}

#[test]
fn dots_carry_the_inode_numbers_of_the_directory_and_its_parent() {
    let Some(mount) = Mounted::new() else { return };
    fs::create_dir(mount.path("dir")).unwrap();
    let dir = File::open(mount.path("dir")).unwrap();
    let entries: Vec<_> = rustix::fs::Dir::read_from(&dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().to_str().unwrap().to_owned(), entry.ino()))
        .collect();
    let own = dir.metadata().unwrap().ino();
    assert_eq!(entries, [(".".to_owned(), own), ("..".to_owned(), Fid::ROOT.ino())]);
}

#[test]
fn a_birth_time_is_told() {
    let Some(mount) = Mounted::new() else { return };
    fs::write(mount.path("file"), b"1234").unwrap();
    let wanted = StatxFlags::BTIME | StatxFlags::SIZE;
    let stat = rustix::fs::statx(CWD, mount.path("file"), AtFlags::empty(), wanted).unwrap();
    assert!(StatxFlags::from_bits_retain(stat.stx_mask).contains(wanted));
    assert_eq!((stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec), (BTIME.secs, BTIME.nanos));
    assert_eq!(stat.stx_size, 4);
}

#[test]
fn attributes_are_set_with_nanoseconds_and_ownership_drops_setuid() {
    let Some(mount) = Mounted::new() else { return };
    fs::write(mount.path("file"), b"").unwrap();
    fs::set_permissions(mount.path("file"), fs::Permissions::from_mode(0o4751)).unwrap();
    assert_eq!(fs::metadata(mount.path("file")).unwrap().mode() & 0o7777, 0o4751);
    let time = std::time::UNIX_EPOCH + Duration::new(5, 123_456_789);
    File::options().write(true).open(mount.path("file")).unwrap().set_modified(time).unwrap();
    assert_eq!(fs::metadata(mount.path("file")).unwrap().modified().unwrap(), time);
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(mount.path("file"), Some(1), Some(2)).unwrap();
        let change =
            SetAttr { uid: Some(1), gid: Some(2), kill_suidgid: true, ..SetAttr::default() };
        assert_eq!(mount.fs.seen.lock().setattr, change);
    }
}

#[test]
fn device_numbers_survive() {
    let Some(mount) = Mounted::new() else { return };
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let device = rustix::fs::makedev(259, 70_000);
    let path = mount.path("device");
    rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::RUSR, device).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().rdev(), device);
    let stat = rustix::fs::statx(CWD, &path, AtFlags::empty(), StatxFlags::BTIME).unwrap();
    assert_eq!((stat.stx_rdev_major, stat.stx_rdev_minor), (259, 70_000));
}

#[test]
fn a_file_without_a_name_is_made_and_named_later() {
    let Some(mount) = Mounted::new() else { return };
    let flags = OFlags::TMPFILE | OFlags::RDWR;
    let file = rustix::fs::open(mount.root(), flags, Mode::RUSR | Mode::WUSR).unwrap();
    rustix::io::write(&file, b"hidden").unwrap();
    assert_eq!(rustix::fs::fstat(&file).unwrap().st_nlink, 0);
    let by_number = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let named = mount.path("named");
    rustix::fs::linkat(CWD, by_number.as_str(), CWD, &named, AtFlags::SYMLINK_FOLLOW).unwrap();
    assert_eq!(fs::read(named).unwrap(), b"hidden");
}

#[test]
fn extended_attributes_are_kept_and_their_flags_obeyed() {
    use rustix::fs::XattrFlags;
    let Some(mount) = Mounted::new() else { return };
    let path = mount.path("file");
    fs::write(&path, b"").unwrap();
    let large = vec![7; 60_000];
    rustix::fs::setxattr(&path, "user.large", &large, XattrFlags::CREATE).unwrap();
    let again = rustix::fs::setxattr(&path, "user.large", b"", XattrFlags::CREATE);
    assert_eq!(again, Err(rustix::io::Errno::EXIST));
    let mut value = vec![0; 65_536];
    let len = rustix::fs::getxattr(&path, "user.large", &mut value).unwrap();
    assert_eq!(value[..len], large);
    let short = rustix::fs::getxattr(&path, "user.large", &mut value[..10]);
    assert_eq!(short, Err(rustix::io::Errno::RANGE));
    let mut names = vec![0; 100];
    let len = rustix::fs::listxattr(&path, &mut names).unwrap();
    assert_eq!(&names[..len], b"user.large\0");
    rustix::fs::removexattr(&path, "user.large").unwrap();
    let gone = rustix::fs::getxattr(&path, "user.large", &mut value);
    assert_eq!(gone, Err(rustix::io::Errno::NODATA));
}

#[test]
fn space_is_told_in_blocks() {
    let Some(mount) = Mounted::new() else { return };
    let stat = rustix::fs::statvfs(mount.root()).unwrap();
    assert_eq!(stat.f_blocks * stat.f_frsize, 40 << 30);
    assert_eq!(stat.f_bavail * stat.f_frsize, 20 << 30);
    assert_eq!((stat.f_files, stat.f_ffree, stat.f_namemax), (100, 90, 255));
}

#[test]
fn a_request_whose_task_panics_is_answered_with_eio() {
    let Some(mount) = Mounted::new() else { return };
    let error = fs::metadata(mount.path("panic")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    fs::write(mount.path("next"), b"goes on").unwrap();
}
