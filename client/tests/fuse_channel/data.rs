//! Reading and writing.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::process::Command;
use std::time::Instant;

use nacre_client::WriteFlags;
use rustix::fs::{Mode, OFlags};

use crate::harness::{Mounted, PATIENCE};

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at * 7 + at / 4096) % 251).unwrap()).collect()
}

#[test]
fn large_writes_come_in_one_piece_and_read_back() {
    let Some(mount) = Mounted::new() else { return };
    let data = pattern(5 << 20);
    fs::write(mount.path("file"), &data).unwrap();
    assert_eq!(mount.fs.seen.lock().write_max, 1 << 20, "a megabyte is one request");
    assert!(fs::read(mount.path("file")).unwrap() == data);
    let file = File::open(mount.path("file")).unwrap();
    let mut part = vec![0; 300_001];
    file.read_exact_at(&mut part, 777_777).unwrap();
    assert!(part == data[777_777..][..300_001]);
}

#[test]
fn writes_of_every_size_around_the_hand_over_read_back() {
    let Some(mount) = Mounted::new() else { return };
    let data = pattern(1 << 20);
    for len in [1, 4095, 4096, (256 << 10) - 1, 256 << 10, (256 << 10) + 1, (1 << 20) - 1] {
        fs::write(mount.path("file"), &data[..len]).unwrap();
        assert!(fs::read(mount.path("file")).unwrap() == data[..len], "{len} bytes");
    }
}

#[test]
fn writers_at_once_do_not_mix_up_their_buffers() {
    let Some(mount) = Mounted::new() else { return };
    std::thread::scope(|scope| {
        for writer in 0..8u8 {
            let path = mount.path(&format!("file-{writer}"));
            scope.spawn(move || {
                let block = vec![writer; 1 << 20];
                let mut file = File::create(&path).unwrap();
                for _ in 0..8 {
                    file.write_all(&block).unwrap();
                }
                drop(file);
                let back = fs::read(&path).unwrap();
                assert!(back.len() == 8 << 20 && back.iter().all(|byte| *byte == writer));
            });
        }
    });
}

#[test]
fn flags_of_the_descriptor_reach_each_write() {
    let Some(mount) = Mounted::new() else { return };
    let path = mount.path("file");
    fs::write(&path, b"first").unwrap();
    let mut file = File::options().append(true).open(&path).unwrap();
    file.write_all(b"second").unwrap();
    assert!(mount.fs.seen.lock().write_flags.contains(WriteFlags::APPEND));
    assert_eq!(fs::read(&path).unwrap(), b"firstsecond");
    let synced = File::options().write(true).custom_flags(libc::O_DSYNC).open(&path).unwrap();
    synced.write_all_at(b"F", 0).unwrap();
    assert_eq!(mount.fs.seen.lock().write_flags, WriteFlags::SYNC);
    let direct = File::options().write(true).custom_flags(libc::O_DIRECT).open(&path).unwrap();
    direct.write_all_at(b"D", 0).unwrap();
    assert_eq!(mount.fs.seen.lock().write_flags, WriteFlags::DIRECT);
    assert_eq!(fs::read(&path).unwrap(), b"Dirstsecond");
}

#[test]
fn opening_with_truncate_empties_the_file() {
    let Some(mount) = Mounted::new() else { return };
    fs::write(mount.path("file"), b"long text").unwrap();
    fs::write(mount.path("file"), b"new").unwrap();
    assert_eq!(fs::read(mount.path("file")).unwrap(), b"new");
}

#[test]
fn a_program_that_runs_is_neither_written_nor_emptied() {
    let Some(mount) = Mounted::new() else { return };
    let (program, path) = (fs::read("/bin/sleep").unwrap(), mount.path("program"));
    fs::write(&path, &program).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let mut running = Command::new(&path).arg("600").spawn().unwrap();
    // The last is how a program is opened for reading and for truncation at once.
    for flags in [OFlags::WRONLY, OFlags::RDWR, OFlags::RDONLY | OFlags::TRUNC] {
        let opened = rustix::fs::open(&path, flags, Mode::empty());
        assert_eq!(opened.unwrap_err(), rustix::io::Errno::TXTBSY);
        assert!(fs::read(&path).unwrap() == program);
    }
    running.kill().unwrap();
    running.wait().unwrap();
}

#[test]
fn an_unlinked_file_stays_readable_while_open() {
    let Some(mount) = Mounted::new() else { return };
    fs::write(mount.path("file"), b"still here").unwrap();
    let mut file = File::open(mount.path("file")).unwrap();
    fs::remove_file(mount.path("file")).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "still here");
    assert_eq!(file.metadata().unwrap().len(), 10);
}

#[test]
fn data_and_holes_are_sought() {
    let Some(mount) = Mounted::new() else { return };
    fs::write(mount.path("file"), b"0123456789").unwrap();
    let file = File::open(mount.path("file")).unwrap();
    assert_eq!(rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(3)), Ok(3));
    assert_eq!(rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(3)), Ok(10));
    let end = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(10));
    assert_eq!(end, Err(rustix::io::Errno::NXIO));
}

#[test]
fn space_is_allocated_and_ranges_are_copied_by_the_file_system() {
    let Some(mount) = Mounted::new() else { return };
    let data = pattern(3 << 20);
    fs::write(mount.path("from"), &data).unwrap();
    let (from, to) =
        (File::open(mount.path("from")).unwrap(), File::create(mount.path("to")).unwrap());
    let (mut at, mut into) = (1000, 0);
    let copied =
        rustix::fs::copy_file_range(&from, Some(&mut at), &to, Some(&mut into), 2 << 20).unwrap();
    assert_eq!(copied, 2 << 20);
    assert!(fs::read(mount.path("to")).unwrap() == data[1000..][..2 << 20]);
    rustix::fs::fallocate(&to, rustix::fs::FallocateFlags::empty(), 0, 4 << 20).unwrap();
    assert_eq!(fs::metadata(mount.path("to")).unwrap().len(), 4 << 20);
    let collapse = rustix::fs::FallocateFlags::COLLAPSE_RANGE;
    assert_eq!(rustix::fs::fallocate(&to, collapse, 0, 4096), Err(rustix::io::Errno::OPNOTSUPP));
}

#[test]
fn every_open_is_released_once() {
    let Some(mount) = Mounted::new() else { return };
    for round in 0..20 {
        let mut file = File::create(mount.path(&format!("file-{round}"))).unwrap();
        file.write_all(b"x").unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
    }
    // The kernel tells it on its own time, and not at all once the mount is gone.
    let until = Instant::now() + PATIENCE;
    while mount.fs.seen.lock().released < 20 && Instant::now() < until {
        std::thread::yield_now();
    }
    let seen = std::sync::Arc::clone(&mount.fs.seen);
    drop(mount);
    assert_eq!(seen.lock().released, 20);
}

#[test]
#[expect(unsafe_code, reason = "mapping a file is unsafe by nature")]
fn a_shared_mapping_is_written_back_by_page() {
    const LEN: usize = 10_000;
    let Some(mount) = Mounted::new() else { return };
    let path = mount.path("file");
    fs::write(&path, vec![b'.'; LEN]).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let (protection, fd) = (libc::PROT_READ | libc::PROT_WRITE, file.as_raw_fd());
    // SAFETY: a fresh mapping of a file that stays as long as it is; byte 5000 is within it, and
    // nothing refers to it when it is unmapped.
    unsafe {
        let start = libc::mmap(std::ptr::null_mut(), LEN, protection, libc::MAP_SHARED, fd, 0);
        assert_ne!(start, libc::MAP_FAILED);
        start.cast::<u8>().add(5000).write(b'x');
        assert_eq!(libc::msync(start, LEN, libc::MS_SYNC), 0);
        assert_eq!(libc::munmap(start, LEN), 0);
    }
    assert!(mount.fs.seen.lock().write_flags.contains(WriteFlags::PAGE_CACHE));
    let text = fs::read(&path).unwrap();
    assert_eq!((text.len(), text[5000], text[4999]), (LEN, b'x', b'.'));
}
