use super::*;

const DIR: &str = "d";

fn disk() -> MemDisk {
    let disk = MemDisk::new(1 << 20);
    disk.create_dir(Path::new(DIR)).unwrap();
    disk.sync_dir(Path::new("")).unwrap();
    disk
}

fn bytes(disk: &MemDisk, path: &str) -> io::Result<Vec<u8>> {
    let file = disk.open(Path::new(path))?;
    let mut all = vec![0; usize::try_from(file.len()?).unwrap()];
    let got = file.read_at(&mut all, 0)?;
    assert_eq!(got, all.len());
    Ok(all)
}

#[test]
fn a_power_cut_leaves_what_was_synced_and_nothing_else() {
    let disk = disk();
    let file = disk.create(Path::new("d/a")).unwrap();
    file.write_at(b"kept", 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new(DIR)).unwrap();
    file.write_at(b"lost", 2).unwrap();
    disk.create(Path::new("d/b")).unwrap().sync_data().unwrap();
    assert_eq!(bytes(&disk, "d/a").unwrap(), b"kelost");

    disk.crash(Crash::DropAll, 0);

    assert_eq!(bytes(&disk, "d/a").unwrap(), b"kept");
    assert_eq!(disk.list(Path::new(DIR)).unwrap(), ["a"]);
    assert_eq!(file.write_at(b"x", 0).unwrap_err().raw_os_error(), Some(libc::EIO));
}

#[test]
fn a_process_crash_keeps_everything() {
    let disk = disk();
    disk.create(Path::new("d/a")).unwrap().write_at(b"here", 0).unwrap();
    disk.crash(Crash::Process, 0);
    assert_eq!(bytes(&disk, "d/a").unwrap(), b"here");
}

#[test]
fn a_folder_that_was_never_synced_takes_its_files_with_it() {
    let disk = MemDisk::default();
    disk.create_dir(Path::new("p/q")).unwrap();
    disk.create(Path::new("p/q/a")).unwrap().sync_data().unwrap();
    disk.sync_dir(Path::new("p/q")).unwrap();
    disk.sync_dir(Path::new("p")).unwrap();
    disk.crash(Crash::DropAll, 0);
    assert!(!disk.exists(Path::new("p/q/a")).unwrap());
}

#[test]
fn a_folder_moves_with_what_was_synced_in_it_and_a_cut_undoes_it_as_a_whole() {
    let root = Path::new("");
    for seed in 0..20 {
        let disk = disk();
        disk.sync_dir(root).unwrap();
        disk.create(Path::new("d/a")).unwrap().sync_data().unwrap();
        disk.sync_dir(Path::new(DIR)).unwrap();
        disk.create(Path::new("d/b")).unwrap();
        disk.rename_dir(Path::new(DIR), Path::new("e")).unwrap();
        assert_eq!(disk.list(Path::new("e")).unwrap(), ["a", "b"]);
        assert!(disk.remove_dir(Path::new("e")).is_err(), "not empty");
        disk.crash(Crash::Pages, seed);
        let names = disk.list(root).unwrap();
        assert!(names == [DIR] || names == ["e"], "{names:?}");
        let place = Path::new(&names[0]);
        assert_eq!(disk.list(place).unwrap()[0], "a");

        if names == [DIR] {
            disk.rename_dir(place, Path::new("e")).unwrap();
        }
        disk.sync_dir(root).unwrap();
        disk.crash(Crash::DropAll, seed);
        assert_eq!(disk.list(root).unwrap(), ["e"]);
        assert_eq!(disk.list(Path::new("e")).unwrap()[0], "a");
    }
}

#[test]
fn a_rename_is_seen_whole_or_not_at_all() {
    for seed in 0..50 {
        let disk = disk();
        for (name, text) in [("d/old", b"1"), ("d/new", b"2")] {
            let file = disk.create(Path::new(name)).unwrap();
            file.write_at(text, 0).unwrap();
            file.sync_data().unwrap();
        }
        disk.sync_dir(Path::new(DIR)).unwrap();
        disk.rename(Path::new("d/new"), Path::new("d/old")).unwrap();
        disk.crash(Crash::Sectors, seed);
        let names = disk.list(Path::new(DIR)).unwrap();
        match bytes(&disk, "d/old").unwrap().as_slice() {
            b"1" => assert_eq!(names, ["new", "old"]),
            other => assert_eq!((other, names.len()), (&b"2"[..], 1)),
        }
    }
}

#[test]
fn a_prefix_keeps_changes_in_their_order() {
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let disk = disk();
        let file = disk.create(Path::new("d/a")).unwrap();
        disk.sync_dir(Path::new(DIR)).unwrap();
        for n in 0..10_u8 {
            file.write_at(&[n; 3], u64::from(n) * 3).unwrap();
        }
        disk.crash(Crash::Prefix, seed);
        let got = bytes(&disk, "d/a").unwrap();
        let whole: Vec<u8> = (0..10_u8).flat_map(|n| [n; 3]).collect();
        assert!(whole.starts_with(&got));
        lengths.insert(got.len());
    }
    assert!(lengths.len() > 10, "torn at many places: {lengths:?}");
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let run = |seed| {
        let disk = disk();
        let file = disk.create(Path::new("d/a")).unwrap();
        disk.sync_dir(Path::new(DIR)).unwrap();
        file.write_at(&vec![7; 20_000], 100).unwrap();
        disk.crash(Crash::Sectors, seed);
        bytes(&disk, "d/a").unwrap()
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}

#[test]
fn holes_and_reserved_space_are_told_from_data() {
    let disk = disk();
    let file = disk.create(Path::new("d/a")).unwrap();
    file.allocate(0, 16_384, true).unwrap();
    assert_eq!((file.len().unwrap(), file.blocks().unwrap()), (16_384, 32));
    assert_eq!(file.seek_data(0).unwrap(), None);
    file.write_at(b"x", 9000).unwrap();
    assert_eq!(file.seek_data(0).unwrap(), Some(8192));
    assert_eq!(file.seek_hole(8192).unwrap(), Some(12_288));
    file.punch(8000, 1001).unwrap();
    assert_eq!(file.read_at(&mut [1; 2], 9000).unwrap(), 2);
    let mut byte = [1];
    file.read_at(&mut byte, 9000).unwrap();
    assert_eq!(byte, [0]);
    file.set_len(100).unwrap();
    assert_eq!(file.blocks().unwrap(), 8);
}

#[test]
fn a_full_disk_says_so_and_a_removal_makes_room() {
    let disk = disk();
    let file = disk.create(Path::new("d/a")).unwrap();
    file.write_at(&vec![1; 1 << 20], 0).unwrap();
    let other = disk.create(Path::new("d/b")).unwrap();
    assert_eq!(other.write_at(b"x", 0).unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    disk.remove(Path::new("d/a")).unwrap();
    other.write_at(b"x", 0).unwrap();
    assert_eq!(disk.space().unwrap().bytes_free, (1 << 20) - 4096);
}

#[test]
fn power_goes_at_the_call_that_was_named() {
    let disk = disk();
    let file = disk.create(Path::new("d/a")).unwrap();
    disk.power_off_at(disk.calls() + 1);
    file.write_at(b"x", 0).unwrap();
    assert!(file.write_at(b"y", 1).is_err());
    assert!(disk.list(Path::new(DIR)).is_err());
    disk.crash(Crash::Process, 0);
    assert_eq!(bytes(&disk, "d/a").unwrap(), b"x");
}
