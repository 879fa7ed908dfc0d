use nacre_model::{Errno, Fid, Retry};
use nacre_proto::v1;
use nacre_proto::v1::change_request::Op;

use crate::harness::{PATIENCE, Site, errno, fid_of, ok, until};

#[tokio::test]
async fn names_are_made_found_listed_renamed_and_removed() {
    let server = Site::new(0).await.start().await;
    let client = server.client("a").await;
    let fid = client.create("one", 0).await.unwrap();
    assert_eq!(client.lookup("one").await, Ok(fid));
    assert_eq!(errno(client.create("one", 0).await), Errno::EEXIST);
    let rename = v1::RenameOp {
        parent: Some(Fid::ROOT.into()),
        name: "one".into(),
        new_parent: Some(Fid::ROOT.into()),
        new_name: "two".into(),
        ..v1::RenameOp::default()
    };
    client.change(Op::Rename(rename)).await.unwrap();
    let request = v1::ReaddirRequest {
        fid: Some(Fid::ROOT.into()),
        plus: true,
        ..v1::ReaddirRequest::default()
    };
    let listing = ok(server.mds.clone().readdir(request).await).unwrap();
    let names: Vec<_> = listing.entries.iter().map(|entry| entry.name.clone()).collect();
    assert_eq!((names, listing.eof), (vec!["two".into()], true));
    assert_eq!(fid_of(listing.entries[0].attr.as_ref()), fid);
    client.unlink("two").await.unwrap();
    assert_eq!(errno(client.lookup("two").await), Errno::ENOENT);
    assert_eq!(errno(client.getattr(fid).await), Errno::ESTALE);
    server.stop().await;
}

#[tokio::test]
async fn a_change_sent_twice_happens_once() {
    let site = Site::new(0).await;
    let server = site.start().await;
    let client = server.client("a").await;
    let create = client.request(Op::Create(v1::CreateOp {
        parent: Some(Fid::ROOT.into()),
        name: "once".into(),
        mode: 0o100_644,
        exclusive: true,
        handle: 7,
        ..v1::CreateOp::default()
    }));
    let first = client.send(create.clone()).await.unwrap();
    let second = client.send(create.clone()).await.unwrap();
    assert_eq!((first.replayed, second.replayed), (0, 1));
    assert_eq!(first.attr, second.attr);

    // Also after a restart, when the handle has to be registered again.
    server.stop().await;
    let server = site.start().await;
    let back = server.client("a").await;
    assert_eq!(back.session, client.session);
    let third = ok(server.mds.clone().change(create).await).unwrap();
    assert_eq!((third.replayed, &third.attr), (1, &first.attr));
    let unlink = v1::UnlinkOp { parent: Some(Fid::ROOT.into()), name: "once".into(), fid: None };
    let unlink = v1::ChangeRequest { xid: 2, ..back.request(Op::Unlink(unlink)) };
    back.send(unlink.clone()).await.unwrap();
    assert_eq!(back.send(unlink).await.unwrap().replayed, 1, "not ENOENT");
    let fid = fid_of(first.attr.as_ref());
    assert_eq!(back.getattr(fid).await.unwrap().nlink, 0, "the handle holds it");
    back.close(7).await.unwrap();
    until(|| async { back.getattr(fid).await.is_err() }).await;
    server.stop().await;
}

#[tokio::test]
async fn an_unlinked_file_lives_until_its_last_close() {
    let server = Site::new(0).await.start().await;
    let (a, b) = (server.client("a").await, server.client("b").await);
    let fid = a.create("f", 1).await.unwrap();
    assert!(!a.open(fid, 1, true).await.unwrap().other_writers, "only itself");
    assert!(b.open(fid, 1, false).await.unwrap().other_writers);
    a.unlink("f").await.unwrap();
    a.close(1).await.unwrap();
    assert_eq!(b.getattr(fid).await.unwrap().nlink, 0);
    b.close(1).await.unwrap();
    until(|| async { b.getattr(fid).await.is_err() }).await;
    assert_eq!(errno(b.open(fid, 2, false).await), Errno::ESTALE);
    server.stop().await;
}

#[tokio::test]
async fn a_file_without_a_name_is_freed_at_close_unless_it_was_linked() {
    let server = Site::new(0).await.start().await;
    let client = server.client("a").await;
    let one = client.create("", 1).await.unwrap();
    let two = client.create("", 2).await.unwrap();
    let link =
        v1::LinkOp { fid: Some(two.into()), parent: Some(Fid::ROOT.into()), name: "kept".into() };
    client.change(Op::Link(link)).await.unwrap();
    client.close(1).await.unwrap();
    client.close(2).await.unwrap();
    until(|| async { client.getattr(one).await.is_err() }).await;
    assert_eq!(client.lookup("kept").await, Ok(two));
    server.stop().await;
}

/// Opens and unlinks race; whoever has a file open can use it, and in the end nothing is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_file_is_never_freed_however_open_and_unlink_race() {
    let server = Site::new(0).await.start().await;
    let (a, b) = (server.client("a").await, server.client("b").await);
    let (mut opened, mut missed) = (0, 0);
    for round in 0..200_u64 {
        let name = format!("f{round}");
        let fid = a.create(&name, 0).await.unwrap();
        let (unlinked, open) = tokio::join!(a.unlink(&name), b.open(fid, round + 1, false));
        unlinked.unwrap();
        if open.is_ok() {
            opened += 1;
            assert_eq!(b.getattr(fid).await.unwrap().nlink, 0, "open, so it is there");
            b.close(round + 1).await.unwrap();
        } else {
            missed += 1;
            assert_eq!(errno(open), Errno::ESTALE);
        }
        until(|| async { b.getattr(fid).await.is_err() }).await;
    }
    assert_eq!(opened + missed, 200);
    let statfs = ok(server.mds.clone().statfs(v1::StatfsRequest {}).await).unwrap();
    assert_eq!(statfs.inodes_used, 1, "the root alone");
    server.stop().await;
}

#[tokio::test]
async fn nonsense_is_refused_and_changes_nothing() {
    let server = Site::new(0).await.start().await;
    let client = server.client("a").await;
    let empty =
        v1::ChangeRequest { op: None, ..client.request(Op::Unlink(v1::UnlinkOp::default())) };
    assert_eq!(errno(client.send(empty).await), Errno::EINVAL);
    let slot = v1::ChangeRequest {
        slot: 64,
        ..client.request(Op::Unlink(v1::UnlinkOp {
            parent: Some(Fid::ROOT.into()),
            name: "x".into(),
            fid: None,
        }))
    };
    assert_eq!(errno(client.send(slot).await), Errno::EINVAL);
    assert_eq!(errno(client.create(&"n".repeat(256), 0).await), Errno::ENAMETOOLONG);
    let stranger =
        v1::ChangeRequest { session: 99, ..client.request(Op::Link(v1::LinkOp::default())) };
    let refused = client.send(stranger).await.unwrap_err();
    assert_eq!((refused.errno, refused.retry), (Errno::ESTALE, Retry::AfterRefresh));
    let other = v1::OpenSessionRequest { fsname: "other".into(), ..Default::default() };
    let opened =
        tokio::time::timeout(PATIENCE, server.mds.clone().open_session(other)).await.unwrap();
    assert_eq!(errno(ok(opened)), Errno::ENODEV);
    server.stop().await;
}
