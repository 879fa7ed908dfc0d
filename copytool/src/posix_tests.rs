//! Attributes go out and come back; what others wrote is read as FSx reads it.

use proptest::prelude::*;

use super::*;

fn meta(pairs: &[(&str, &str)]) -> ObjectMeta {
    let user = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    ObjectMeta { content_type: None, user }
}

fn leaf(pairs: &[(&str, &str)]) -> Result<Imported, MetaError> {
    decode(KeyKind::Leaf, &meta(pairs))
}

#[test]
fn a_file_is_written_in_the_form_that_fsx_reads() {
    let posix = PosixMeta {
        kind: FileKind::File,
        permissions: 0o644,
        uid: 1000,
        gid: 100,
        atime: Timestamp { secs: 1, nanos: 5 },
        mtime: Timestamp { secs: -1, nanos: 999_999_999 },
    };
    let expected = meta(&[
        ("user-agent", "aws-fsx-lustre"),
        ("file-owner", "1000"),
        ("file-group", "100"),
        ("file-permissions", "0100644"),
        ("file-atime", "1000000005ns"),
        ("file-mtime", "-1ns"),
    ]);
    let encoded = posix.encode(&ObjectMeta::default()).unwrap();
    assert_eq!(encoded.user, expected.user);
    let mode = |kind, permissions| {
        let encoded = PosixMeta { kind, permissions, ..posix }.encode(&ObjectMeta::default());
        encoded.unwrap().user["file-permissions"].clone()
    };
    assert_eq!(mode(FileKind::Directory, 0o755), "0040755");
    assert_eq!(mode(FileKind::Symlink, 0o777), "0120777");
    assert_eq!(mode(FileKind::File, 0o7777), "0103777", "setuid stays at home");
}

#[test]
fn an_object_that_says_nothing_leaves_everything_to_the_importer() {
    let imported = leaf(&[]).unwrap();
    assert_eq!(imported.kind, FileKind::File);
    assert_eq!((imported.permissions, imported.uid, imported.gid), (None, None, None));
    assert_eq!((imported.atime, imported.mtime), (None, None));
}

#[test]
fn the_slash_of_the_key_beats_the_type_in_the_mode() {
    let file = meta(&[("file-permissions", "0100664")]);
    let directory = decode(KeyKind::Directory, &file).unwrap();
    assert_eq!((directory.kind, directory.permissions), (FileKind::Directory, Some(0o664)));
    let link = leaf(&[("file-permissions", "0120777")]).unwrap();
    assert_eq!(link.kind, FileKind::Symlink);
    let file = leaf(&[("file-permissions", "0040755")]).unwrap();
    assert_eq!((file.kind, file.permissions), (FileKind::File, Some(0o755)));
}

#[test]
fn modes_without_a_type_are_read_and_setuid_is_dropped() {
    assert_eq!(leaf(&[("file-permissions", "644")]).unwrap().permissions, Some(0o644));
    assert_eq!(leaf(&[("file-permissions", "0106755")]).unwrap().permissions, Some(0o2755));
    assert_eq!(leaf(&[("file-permissions", "01777")]).unwrap().permissions, Some(0o1777));
}

#[test]
fn times_without_ns_are_milliseconds() {
    let imported = leaf(&[("file-mtime", "1700000000123"), ("file-atime", "-1500ns")]).unwrap();
    let nanos = 123_000_000;
    assert_eq!(imported.mtime, Some(Timestamp { secs: 1_700_000_000, nanos }));
    assert_eq!(imported.atime, Some(Timestamp { secs: -1, nanos: 999_998_500 }));
}

#[test]
fn keys_are_found_in_any_case_and_foreign_ones_are_kept() {
    let mut object = meta(&[("File-Owner", "7"), ("User-Agent", "other"), ("Colour", "blue")]);
    object.content_type = Some("text/plain".into());
    let imported = decode(KeyKind::Leaf, &object).unwrap();
    assert_eq!(imported.uid, Some(7));
    assert_eq!(imported.foreign.user, meta(&[("colour", "blue")]).user);
    let posix = PosixMeta {
        kind: FileKind::File,
        permissions: 0o600,
        uid: 0,
        gid: 0,
        atime: Timestamp::default(),
        mtime: Timestamp::default(),
    };
    let encoded = posix.encode(&imported.foreign).unwrap();
    assert_eq!(encoded.content_type.as_deref(), Some("text/plain"));
    assert_eq!(encoded.user["colour"], "blue");
    assert_eq!(encoded.user.len(), OURS.len() + 1);
}

#[test]
fn odd_values_are_errors_that_name_the_field() {
    let odd = [
        (OWNER, "-1"),
        (OWNER, "+1"),
        (OWNER, "4294967295"),
        (OWNER, "4294967296"),
        (GROUP, ""),
        (GROUP, "staff"),
        (PERMISSIONS, "0888"),
        (PERMISSIONS, "rwx"),
        (PERMISSIONS, "01000000"),
        (PERMISSIONS, "-644"),
        (ATIME, "ns"),
        (ATIME, "1.5"),
        (MTIME, "--1ns"),
        (MTIME, "99999999999999999999999999999999999999999"),
        (MTIME, "170141183460469231731687303715884105727"),
    ];
    for (field, value) in odd {
        let expected = MetaError::Malformed { field, value: value.to_owned() };
        assert_eq!(leaf(&[(field, value)]), Err(expected));
    }
    let pipe = leaf(&[("file-permissions", "0010644")]).unwrap_err();
    assert_eq!(pipe, MetaError::NoObjectType { bits: 0o010_000 });
    assert_eq!(pipe.code(), ReportCode::S3ObjectTypeMismatch);
}

#[test]
fn metadata_beyond_what_s3_stores_is_refused() {
    let foreign = meta(&[("colour", &"x".repeat(2000))]);
    let posix = leaf(&[]).map(|imported| PosixMeta {
        kind: imported.kind,
        permissions: 0,
        uid: 0,
        gid: 0,
        atime: Timestamp::default(),
        mtime: Timestamp::default(),
    });
    assert!(matches!(posix.unwrap().encode(&foreign), Err(MetaError::TooLarge { .. })));
}

fn times() -> impl Strategy<Value = Timestamp> {
    (any::<i64>(), 0..Timestamp::NANOS_PER_SEC).prop_map(|(secs, nanos)| Timestamp { secs, nanos })
}

proptest! {
    #[test]
    fn attributes_survive_the_way_there_and_back(
        kind in prop_oneof![Just(FileKind::File), Just(FileKind::Directory), Just(FileKind::Symlink)],
        permissions in 0..=PERMISSION_BITS,
        uid in 0..u32::MAX,
        gid in 0..u32::MAX,
        atime in times(),
        mtime in times(),
    ) {
        // Bits 0o2000 and 0o1000 are in the range, 0o4000 is beyond it.
        let posix = PosixMeta { kind, permissions, uid, gid, atime, mtime };
        let key = match kind {
            FileKind::Directory => KeyKind::Directory,
            FileKind::File | FileKind::Symlink => KeyKind::Leaf,
        };
        let back = decode(key, &posix.encode(&ObjectMeta::default()).unwrap()).unwrap();
        prop_assert_eq!(back.kind, kind);
        prop_assert_eq!(back.permissions, Some(permissions));
        prop_assert_eq!((back.uid, back.gid), (Some(uid), Some(gid)));
        prop_assert_eq!((back.atime, back.mtime), (Some(atime), Some(mtime)));
        prop_assert!(back.foreign.user.is_empty());
    }

    #[test]
    fn no_metadata_panics(field in 0..OURS.len(), value in ".{0,60}") {
        let _ = decode(KeyKind::Leaf, &meta(&[(OURS[field], &value)]));
    }
}
