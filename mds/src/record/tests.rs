//! Decoders against hostile bytes, and records as they were first written.

use bytes::Bytes;
use nacre_model::{Fid, FileKind, OstIndex, Timestamp};
use nacre_proto::v1;
use proptest::prelude::*;

use super::*;
use crate::command::{Command, Op, Origin};

const FID: Fid = Fid { seq: 0x2_0000_0400, oid: 5, ver: 0 };

fn time(secs: i64) -> Timestamp {
    Timestamp { secs, nanos: 7 }
}

fn inode() -> Inode {
    let mut file = FileBody::new(nacre_model::LayoutTemplate::built_in());
    file.components[0].osts = vec![OstIndex(3)];
    file.components[0].object_generation = 2;
    (file.is_inline, file.object_generation) = (false, 2);
    let attr = nacre_model::Attr {
        fid: FID,
        kind: FileKind::Regular,
        perm: 0o4755,
        nlink: 1,
        uid: 1000,
        gid: 100,
        rdev: 0,
        size: 1 << 40,
        blocks: 8,
        atime: time(1),
        mtime: time(-2),
        ctime: time(3),
        btime: time(4),
        size_lazy: true,
        released: false,
        layout_gen: 9,
        xattr_count: 1,
    };
    Inode {
        attr,
        links: vec![Link { parent: Fid::ROOT, name: Bytes::from_static(b"name") }],
        links_overflow: false,
        tmpfile: false,
        xattrs: XattrUse { count: 1, value_bytes: 2, name_bytes: 3 },
        body: Body::File(file),
    }
}

fn command() -> Command {
    Command {
        time: time(1),
        origin: Some(Origin { session: 1, slot: 2, xid: 3 }),
        op: Op::Change {
            uid: 4,
            gid: 5,
            op: v1::change_request::Op::Unlink(v1::UnlinkOp {
                parent: Some(Fid::ROOT.into()),
                name: Bytes::from_static(b"gone"),
                fid: None,
            }),
            new_fid: Some(FID),
            placement: vec![(1, vec![OstIndex(6), OstIndex(7)])],
            held_open: vec![FID],
            used_by_others: vec![Fid::ROOT],
        },
    }
}

fn work() -> WorkItem {
    WorkItem {
        fid: FID,
        component: 1,
        object_generation: 2,
        osts: vec![OstIndex(3), OstIndex(4)],
        kind: v1::WorkKind::Truncate,
        sizes: vec![5, 1 << 50],
    }
}

/// Valid records of every kind, for mutation.
fn valid() -> Vec<Vec<u8>> {
    let counters =
        Counters { sequences: vec![(Fid::SEQ_NORMAL, 2)], next_oid: 6, ..Default::default() };
    let superblock = Superblock {
        fsname: "nacre".into(),
        hash_key: [1, 2],
        hash_bits: 60,
        last_repository: 3,
        linked: true,
        exporting: true,
    };
    let entry = Entry { name: Bytes::from_static(b"x"), fid: FID, kind: FileKind::Fifo };
    let session = Session {
        client_uuid: "u".into(),
        incarnation: 1,
        hostname: "h".into(),
        opened: time(1),
        leases: true,
        sequences: vec![7],
    };
    let reply = Reply { xid: 1, response: v1::ChangeResponse::default(), work: vec![1, 2] };
    vec![
        inode().encode(),
        counters.encode(),
        superblock.encode(),
        entry.encode(),
        session.encode(),
        SessionId(7).encode(),
        reply.encode(),
        work().encode(),
        command().encode().to_vec(),
    ]
}

/// Decodes as everything; says how many took it.
fn decode_all(bytes: &[u8]) -> usize {
    let copy = || bytes.to_vec();
    [
        Inode::decode(FID, copy()).is_ok(),
        Counters::decode(copy()).is_ok(),
        Superblock::decode(copy()).is_ok(),
        Entry::decode(copy()).is_ok(),
        Session::decode(copy()).is_ok(),
        SessionId::decode(copy()).is_ok(),
        Reply::decode(copy()).is_ok(),
        WorkItem::decode(copy()).is_ok(),
        Command::decode(Bytes::from(copy())).is_ok(),
        decode_raw(copy()).is_ok(),
    ]
    .into_iter()
    .filter(|ok| *ok)
    .count()
}

#[test]
fn records_round_trip() {
    assert_eq!(Inode::decode(FID, inode().encode()).unwrap(), inode());
    assert_eq!(WorkItem::decode(work().encode()).unwrap(), work());
    assert_eq!(Command::decode(command().encode()).unwrap(), command());
    for bytes in valid() {
        assert!(decode_all(&bytes) >= 2, "its own decoder and the raw one");
    }
}

/// Bytes of version 1 as they stand on disks: they must be read for ever.
#[test]
fn version_1_is_read() {
    let entry = b"\x01\x0a\x01x\x12\x08\x08\x80\x88\x80\x80\x20\x10\x05\x18\x80\x20";
    let expected = Entry { name: Bytes::from_static(b"x"), fid: FID, kind: FileKind::Fifo };
    assert_eq!(Entry::decode(entry.to_vec()).unwrap(), expected);
    assert_eq!(expected.encode(), entry);
    let counters = b"\x01\x0a\x08\x08\x80\x88\x80\x80\x20\x10\x02\x10\x06\x18\x01\x20\x03\x28\x09";
    let expected = Counters {
        sequences: vec![(Fid::SEQ_NORMAL, 2)],
        next_oid: 6,
        next_session: 1,
        next_work: 3,
        inodes: 9,
    };
    assert_eq!(Counters::decode(counters.to_vec()).unwrap(), expected);
    assert_eq!(expected.encode(), counters);

    let bytes: &[u8] = b"\x01\x08\xed\x93\x02\x10\x01\x18\xe8\x07 d0\x80\x80\x80\x80\x80 8\x08\
        B\x04\x08\x01\x10\x07J\r\x08\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01\x10\x07\
        R\x04\x08\x03\x10\x07Z\x04\x08\x04\x10\x07b\x10\n\x08\x08\x87\x80\x80\x80\x20\x10\x01\
        \x12\x04namex\x01\x80\x01\x02\x88\x01\x03\xa2\x011\x08\t\x12\x13\n\x0c\x08\x80\x80\x80\x20\
        \x10\x01\x18\x80\x80\x80\x02\x12\x01\x03\x18\x02\x12\x14\n\x12\x08\xff\xff\xff\xff\xff\xff\
        \xff\xff\xff\x01\x10\x08\x18\x80\x80\x80\x02(\x010\x02";
    assert_eq!(Inode::decode(FID, bytes.to_vec()).unwrap(), inode());
    let bytes =
        b"\x01\n\x08\x08\x80\x88\x80\x80\x20\x10\x05\x10\x01\x18\x02\"\x02\x03\x04(\x032\t\x05\
        \x80\x80\x80\x80\x80\x80\x80\x02";
    assert_eq!(WorkItem::decode(bytes.to_vec()).unwrap(), work());
    let bytes =
        b"\x01\n\x04\x08\x01\x10\x07\x12\x06\x08\x01\x10\x02\x18\x03R>\n\x16\x20\x04(\x05b\x10\
        \n\x08\x08\x87\x80\x80\x80\x20\x10\x01\x12\x04gone\x12\x08\x08\x80\x88\x80\x80\x20\x10\x05\
        \x1a\x06\x08\x01\x12\x02\x06\x07\"\x08\x08\x80\x88\x80\x80\x20\x10\x05*\x08\x08\x87\x80\
        \x80\x80\x20\x10\x01";
    assert_eq!(Command::decode(Bytes::from_static(bytes)).unwrap(), command());
}

#[test]
fn a_later_version_is_refused_by_name() {
    assert_eq!(Entry::decode(vec![2, 0]), Err(BadRecord::Version(2)));
    assert_eq!(Entry::decode(Vec::new()), Err(BadRecord::Empty));
    assert_eq!(Command::decode(Bytes::new()), Err(BadCommand::Version(None)));
}

#[test]
fn keys_round_trip_and_sort_as_what_they_hold() {
    assert_eq!(key::entry_of(&key::entry(FID, 9)).unwrap(), (FID, 9));
    assert_eq!(key::xattr_of(&key::xattr(FID, b"user.a")).unwrap(), (FID, &b"user.a"[..]));
    assert_eq!(key::reply_of(&key::reply(3, 4)).unwrap(), (3, 4));
    assert_eq!(key::number_of(&key::work(5), key::kind::WORK).unwrap(), 5);
    assert!(key::xattr(FID, &[0xff; 255]) < key::xattr_end(FID));
    assert!(key::entry(FID, 255) < key::entry(FID, 256));
    assert!(key::kind::ALL.is_sorted());
}

#[test]
fn fids_run_on_into_the_next_sequence() {
    let mut counters = Counters {
        sequences: vec![(Fid::SEQ_NORMAL, 1), (Fid::SEQ_NORMAL + 9, 1)],
        next_oid: Fid::OIDS_PER_SEQ - 1,
        ..Counters::default()
    };
    assert_eq!(counters.fids_left(), u64::from(Fid::OIDS_PER_SEQ));
    let last = Fid { seq: Fid::SEQ_NORMAL, oid: Fid::OIDS_PER_SEQ - 1, ver: 0 };
    assert!(counters.is_unused(last));
    assert_eq!(counters.take_fid(), Some(last));
    assert!(!counters.is_unused(last));
    assert_eq!(counters.take_fid(), Some(Fid { seq: Fid::SEQ_NORMAL + 9, oid: 1, ver: 0 }));
    counters.next_oid = Fid::OIDS_PER_SEQ - 1;
    assert!(counters.take_fid().is_some());
    assert_eq!((counters.take_fid(), counters.fids_left()), (None, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn random_bytes_are_refused_or_read_without_panic(
        version in prop_oneof![Just(1_u8), any::<u8>()],
        mut bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        decode_all(&bytes);
        bytes.insert(0, version);
        decode_all(&bytes);
        let _ = (key::entry_of(&bytes), key::xattr_of(&bytes), key::reply_of(&bytes));
        for kind in key::kind::ALL {
            let _ = (key::fid_of(&bytes, kind), key::number_of(&bytes, kind));
        }
    }

    #[test]
    fn damaged_records_are_refused_or_read_without_panic(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = which.get(&valid()).clone();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        decode_all(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        decode_all(&bytes);
    }
}
