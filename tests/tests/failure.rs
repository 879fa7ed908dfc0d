//! Servers that die, fall silent, come back, or are added; disks that lie.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nacre_tests::{Cluster, Role, Shape, wait};

const PATIENCE: Duration = Duration::from_secs(30);
const MIB: usize = 1 << 20;

/// One stripe on the named OST.
fn file_on(cluster: &Cluster, ost: u16, name: &str, content: &[u8]) -> PathBuf {
    let path = cluster.mnt().join(name);
    let (index, text) = (ost.to_string(), path.display().to_string());
    cluster.nacre(&["lfs", "setstripe", "-i", &index, "-c", "1", &text]).expect("setstripe");
    let mut file = OpenOptions::new().write(true).open(&path).expect("setstripe made the file");
    file.write_all(content).and_then(|()| file.sync_all()).expect("write");
    path
}

/// Reads past the page cache, which would answer for a dead server.
fn read_direct(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path)?;
    file.read_to_end(&mut bytes).map(|_| bytes)
}

fn pattern(bytes: usize, salt: u8) -> Vec<u8> {
    (0..bytes).map(|at| u8::try_from(at % 251).unwrap_or(0) ^ salt).collect()
}

fn assert_eio(result: std::io::Result<Vec<u8>>, within: Duration, began: Instant) {
    let took = began.elapsed();
    let error = result.expect_err("the server of this file is gone");
    assert_eq!(error.raw_os_error(), Some(libc::EIO), "{error}");
    assert!(took <= within, "EIO came after {took:?}, allowed are {within:?}");
}

#[test]
fn reads_of_a_dead_oss_give_eio_at_once_and_all_else_goes_on() {
    let mut cluster = Cluster::start(Shape::default());
    cluster.announce("WARN");
    cluster.announce("ost does not answer");
    let lives = file_on(&cluster, 0, "lives", &pattern(MIB, 1));
    let dies = file_on(&cluster, 1, "dies", &pattern(MIB, 2));
    let doomed = file_on(&cluster, 3, "doomed", &pattern(MIB, 3));
    cluster.kill(Role::Oss(1));
    let began = Instant::now();
    assert_eio(read_direct(&dies), Duration::from_secs(1), began);
    assert_eq!(read_direct(&lives).expect("its server lives"), pattern(MIB, 1));

    let began = Instant::now();
    for entry in fs::read_dir(cluster.mnt()).expect("list") {
        entry.and_then(|entry| entry.metadata()).expect("stat needs no OSS that is dead");
    }
    fs::remove_file(&doomed).expect("rm of a file on a dead OSS");
    rustix::fs::statvfs(cluster.mnt()).expect("df");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let fresh = |number: u32| {
        let path = cluster.mnt().join(format!("fresh{number}"));
        fs::write(&path, pattern(MIB, 4))
            .is_ok_and(|()| File::open(&path).is_ok_and(|f| f.sync_all().is_ok()))
    };
    // The map says within a second or two that the OSTs are gone.
    let mut number = 0;
    let placed = wait::until(PATIENCE, || {
        number += 1;
        fresh(number)
    });
    assert!(placed, "new files go to the living OSTs");

    cluster.start_daemon(Role::Oss(1)).expect("it comes back");
    let back = wait::until(PATIENCE, || read_direct(&dies).is_ok_and(|b| b == pattern(MIB, 2)));
    assert!(back, "a server that returned is used again without any action");
    cluster.finish();
}

#[test]
fn reads_of_a_silent_oss_give_eio_within_five_seconds() {
    let mut cluster = Cluster::start(Shape::default());
    cluster.announce("WARN");
    cluster.announce("ost does not answer");
    let lives = file_on(&cluster, 0, "lives", &pattern(MIB, 1));
    let silent = file_on(&cluster, 1, "silent", &pattern(MIB, 2));
    cluster.freeze(Role::Oss(1));
    let began = Instant::now();
    let result = read_direct(&silent);
    assert_eio(result, Duration::from_secs(5), began);
    assert_eq!(read_direct(&lives).expect("its server lives"), pattern(MIB, 1));
    cluster.thaw(Role::Oss(1));
    let back = wait::until(PATIENCE, || read_direct(&silent).is_ok_and(|b| b == pattern(MIB, 2)));
    assert!(back, "a server that answers again is used again without any action");
    cluster.finish();
}

#[test]
fn applications_wait_for_the_metadata_server_and_go_on() {
    let mut cluster = Cluster::start(Shape::default());
    cluster.announce("WARN");
    let before = cluster.mnt().join("before");
    fs::write(&before, b"written before").expect("write");
    cluster.kill(Role::Mds);
    let path = cluster.mnt().join("meanwhile");
    let waiting = std::thread::spawn(move || {
        let began = Instant::now();
        fs::write(&path, b"written meanwhile").map(|()| began.elapsed())
    });
    wait::until(Duration::from_secs(10), || waiting.is_finished());
    assert!(!waiting.is_finished(), "nobody can have acknowledged this");
    cluster.start_daemon(Role::Mds).expect("it comes back");
    let took = waiting.join().expect("no panic").expect("a pause, never an error");
    assert!(took >= Duration::from_secs(9), "{took:?}");
    assert_eq!(fs::read(cluster.mnt().join("meanwhile")).expect("read"), b"written meanwhile");
    assert_eq!(fs::read(&before).expect("read"), b"written before");
    cluster.finish();
}

#[test]
fn mounted_clients_do_without_the_management_server() {
    let mut cluster = Cluster::start(Shape::default());
    cluster.announce("WARN");
    cluster.kill(Role::Mgs);
    for number in 0..20 {
        let path = cluster.mnt().join(format!("f{number}"));
        fs::write(&path, pattern(200_000, 5)).expect("write");
        assert_eq!(fs::read(&path).expect("read"), pattern(200_000, 5));
    }
    cluster.start_daemon(Role::Mgs).expect("it comes back");
    cluster.finish();
}

#[test]
fn a_flipped_bit_on_an_ost_gives_eio_and_never_wrong_bytes() {
    let mut cluster = Cluster::start(Shape { oss: 1, osts: 1, ..Shape::default() });
    cluster.announce("WARN");
    cluster.announce("ERROR");
    let content = pattern(MIB, 6);
    let path = file_on(&cluster, 0, "rots", &content);
    // Cleanly stopped, so that no block is in doubt.
    cluster.stop(Role::Oss(0)).expect("SIGTERM");
    let object = data_files(&cluster.ost_dir(0)).into_iter().max_by_key(|(_, len)| *len);
    let (object, len) = object.expect("the object is a file");
    assert!(len >= MIB as u64, "{} has {len} bytes", object.display());
    let file = OpenOptions::new().read(true).write(true).open(&object).expect("open the object");
    let mut byte = [0];
    file.read_exact_at(&mut byte, 300_000).expect("read");
    file.write_all_at(&[byte[0] ^ 0x10], 300_000).expect("flip");
    file.sync_all().expect("sync");
    cluster.start_daemon(Role::Oss(0)).expect("it comes back");
    let back = wait::for_some(PATIENCE, || {
        let error = read_direct(&path).err()?;
        // While the server is not back yet, EIO would prove nothing.
        let mut head = vec![0; 65_536];
        let mut file = File::open(&path).ok()?;
        file.seek(SeekFrom::Start(0)).ok()?;
        file.read_exact(&mut head).ok()?;
        assert_eq!(head, content[..65_536]);
        Some(error)
    });
    assert_eq!(back.expect("an error").raw_os_error(), Some(libc::EIO));
    drop(file);
    // The check must find it too.
    cluster.stop_all().expect("SIGTERM");
    let found = cluster.fsck().expect_err("fsck finds the damaged block");
    assert!(!found.to_string().contains("unrecognized"), "{found:#}");
}

/// Files of a folder and below, with their lengths, but for the folder's own papers.
fn data_files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("list").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(data_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "d") {
            found.push((path.clone(), entry.metadata().map_or(0, |metadata| metadata.len())));
        }
    }
    found
}

#[test]
fn a_full_ost_refuses_the_writer_and_leaves_the_rest_working() {
    let mut cluster = Cluster::start(Shape { oss: 2, osts: 2, ..Shape::default() });
    cluster.announce("WARN");
    cluster.announce("written data is lost");
    // Its disk becomes a small one.
    cluster.stop(Role::Oss(1)).expect("SIGTERM");
    let dir = cluster.ost_dir(1);
    let small = SmallDisk::under(&dir, "24m");
    cluster.start_daemon(Role::Oss(1)).expect("it comes back");
    let path = cluster.mnt().join("large");
    let text = path.display().to_string();
    cluster.nacre(&["lfs", "setstripe", "-i", "1", "-c", "1", &text]).expect("setstripe");
    let mut file = OpenOptions::new().write(true).open(&path).expect("open");
    let mut result = Ok(());
    for _ in 0..64 {
        result = result.and_then(|()| file.write_all(&pattern(MIB, 7)));
    }
    let error = result.and_then(|()| file.sync_all()).expect_err("64 MiB do not fit");
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error}");
    drop(file);
    let other = file_on(&cluster, 0, "fits", &pattern(MIB, 8));
    assert_eq!(read_direct(&other).expect("read"), pattern(MIB, 8));
    fs::remove_file(&path).expect("rm");
    let again = wait::until(PATIENCE, || {
        let path = cluster.mnt().join("again");
        let _ = fs::remove_file(&path);
        let text = path.display().to_string();
        cluster.nacre(&["lfs", "setstripe", "-i", "1", "-c", "1", &text]).is_ok()
            && fs::write(&path, pattern(MIB, 9)).is_ok()
            && File::open(&path).is_ok_and(|file| file.sync_all().is_ok())
    });
    assert!(again, "space of removed files can be used again");
    cluster.stop_all().expect("SIGTERM");
    drop(small);
}

/// A memory file system of a limited size over a folder, with the folder's content.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn under(folder: &Path, size: &str) -> Self {
        let copy = folder.with_extension("copy");
        run("cp", &["-a", &folder.display().to_string(), &copy.display().to_string()]);
        let (option, target) = (format!("size={size}"), folder.display().to_string());
        run("mount", &["-t", "tmpfs", "-o", &option, "nacre-test", &target]);
        let disk = Self(folder.to_owned());
        run("cp", &["-a", &format!("{}/.", copy.display()), &target]);
        disk
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = std::process::Command::new(program).args(arguments).output().expect(program);
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}
