use nacre_model::{Errno, Fid};
use nacre_proto::v1;
use nacre_proto::v1::change_request::Op;

use crate::harness::{Client, Site, errno, ok, until};
use crate::holder::{Holder, opening};

const ROOT: Fid = Fid::ROOT;

async fn sequence(client: &Client) -> u64 {
    let request = v1::GrantSequenceRequest { session: client.session };
    ok(client.mds.clone().grant_sequence(request).await).unwrap().seq
}

fn now() -> v1::Timestamp {
    use nacre_node::Clock;
    nacre_node::SystemClock.now().into()
}

fn create(seq: u64, oid: u32, parent: Fid, name: &str, mode: u32) -> v1::ChangeRequest {
    let op = v1::CreateOp {
        parent: Some(parent.into()),
        name: name.to_owned().into(),
        mode,
        exclusive: true,
        ..v1::CreateOp::default()
    };
    let new_fid = Some(v1::Fid { seq, oid, ver: 0 });
    v1::ChangeRequest { new_fid, ..change(Op::Create(op)) }
}

fn change(op: Op) -> v1::ChangeRequest {
    v1::ChangeRequest { op: Some(op), time: Some(now()), ..v1::ChangeRequest::default() }
}

fn unlink(name: &str, fid: Fid) -> v1::ChangeRequest {
    let name = name.to_owned().into();
    change(Op::Unlink(v1::UnlinkOp { parent: Some(ROOT.into()), name, fid: Some(fid.into()) }))
}

fn batch(changes: Vec<v1::ChangeRequest>) -> Op {
    Op::Batch(v1::BatchOp { changes })
}

#[tokio::test]
async fn a_batch_does_what_its_changes_say_and_lists_those_that_failed() {
    let server = Site::new(0).await.start().await;
    let client = server.client("a").await;
    let seq = sequence(&client).await;
    assert_ne!(seq, sequence(&client).await);
    let (dir, file) = (Fid { seq, oid: 1, ver: 0 }, Fid { seq, oid: 2, ver: 0 });
    let changes = vec![
        create(seq, 1, ROOT, "d", 0o040_755),
        create(seq, 2, dir, "f", 0o100_644),
        create(seq, 3, ROOT, "d", 0o040_755),
        create(seq + 1_000_000, 4, ROOT, "stolen", 0o100_644),
        create(seq, 2, ROOT, "twice", 0o100_644),
        change(Op::WriteInline(v1::WriteInlineOp {
            fid: Some(file.into()),
            data: "hello".into(),
            ..v1::WriteInlineOp::default()
        })),
    ];
    let request = client.request(batch(changes));
    let done = client.send(request.clone()).await.unwrap();
    let failed = |done: &v1::ChangeResponse| -> Vec<_> {
        let errno = |failure: &v1::BatchFailure| failure.error.as_ref().unwrap().errno;
        done.failures.iter().map(|failure| (failure.index, errno(failure))).collect()
    };
    let expected = [(2, Errno::EEXIST.0), (3, Errno::EINVAL.0), (4, Errno::EIO.0)];
    assert_eq!(failed(&done), expected);
    assert_eq!(client.lookup("d").await, Ok(dir));
    assert_eq!(client.getattr(file).await.unwrap().size, 5);
    let again = client.send(request).await.unwrap();
    assert_eq!((again.replayed, failed(&again)), (1, expected.to_vec()));
    server.stop().await;
}

#[tokio::test]
async fn what_a_batch_may_not_hold_is_refused_as_a_whole() {
    let server = Site::new(0).await.start().await;
    let client = server.client("a").await;
    let seq = sequence(&client).await;
    let fid = Some(ROOT.into());
    let good = || create(seq, 1, ROOT, "f", 0o100_644);
    let size = v1::SetattrOp { fid, size: Some(1), ..v1::SetattrOp::default() };
    let mut late = good();
    late.time.as_mut().unwrap().secs += 3700;
    let bad = [
        change(batch(vec![good()])),
        change(Op::Setattr(size)),
        change(Op::SetLayout(v1::SetLayoutOp { fid, layout: None })),
        change(Op::Unlink(v1::UnlinkOp { parent: fid, name: "f".into(), fid: None })),
        v1::ChangeRequest { new_fid: None, ..good() },
        v1::ChangeRequest { time: None, ..good() },
        late,
    ];
    for bad in bad {
        let sent = client.change(batch(vec![good(), bad])).await;
        assert_eq!(errno(sent), Errno::EINVAL);
    }
    assert_eq!(errno(client.change(batch(vec![good(); 513])).await), Errno::EINVAL);
    assert_eq!(errno(client.lookup("f").await), Errno::ENOENT);
    server.stop().await;
}

#[tokio::test]
async fn victims_of_a_batch_are_recalled_kept_while_open_and_freed_after() {
    let server = Site::new(0).await.start().await;
    let client = server.client("a").await;
    let mut b = Holder::new(&server, "b").await;
    let open = b.client.create("open", 1).await.unwrap();
    let closed = client.create("closed", 0).await.unwrap();
    let other = client.clone();
    let removed = tokio::spawn(async move {
        other.change(batch(vec![unlink("closed", closed), unlink("open", open)])).await
    });
    let recall = b.recalled().await;
    assert_eq!(recall.fid, Some(open.into()));
    assert!(!removed.is_finished());
    b.give_back(&recall, Vec::new()).await.unwrap();
    assert_eq!(removed.await.unwrap().unwrap().failures, []);
    assert!(client.getattr(closed).await.is_err());
    assert_eq!(b.client.getattr(open).await.unwrap().nlink, 0);
    b.client.close(1).await.unwrap();
    // It took a lease with its look.
    let recall = b.recalled().await;
    b.give_back(&recall, Vec::new()).await.unwrap();
    until(|| async { client.getattr(open).await.is_err() }).await;
    // A name that leads elsewhere is left alone.
    let fid = client.create("closed", 0).await.unwrap();
    let wrong = client.change(batch(vec![unlink("closed", closed)])).await.unwrap();
    assert_eq!(wrong.failures.len(), 1);
    assert_eq!(client.lookup("closed").await, Ok(fid));
    server.stop().await;
}

#[tokio::test]
async fn what_a_batch_makes_is_its_makers_alone() {
    let server = Site::new(0).await.start().await;
    let mut a = Holder::with(server.client_with(opening("a")).await.unwrap()).await;
    let b = server.client("b").await;
    let seq = sequence(&a.client).await;
    let made = Fid { seq, oid: 1, ver: 0 };
    let gone = create(seq, 2, ROOT, "gone", 0o100_644);
    let removed = unlink("gone", Fid { seq, oid: 2, ver: 0 });
    let changes = vec![create(seq, 1, ROOT, "f", 0o100_644), gone, removed];
    assert_eq!(a.client.change(batch(changes)).await.unwrap().failures, []);
    let reader = tokio::spawn(async move { b.getattr(made).await });
    let recall = a.recalled().await;
    assert_eq!(recall.fid, Some(made.into()));
    a.give_back(&recall, Vec::new()).await.unwrap();
    assert_eq!(reader.await.unwrap().unwrap().nlink, 1);
    server.stop().await;
}
