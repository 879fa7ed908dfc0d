use std::time::Duration;

use nacre_model::{Errno, Fid, Retry};
use nacre_proto::v1;
use nacre_proto::v1::session_down::Event;

use crate::harness::{Client, PATIENCE, Site, errno, ok, until};
use crate::holder::opening;

fn whole(fid: Fid, mode: v1::LockMode) -> v1::HeldLock {
    v1::HeldLock {
        fid: Some(fid.into()),
        kind: v1::LockKind::Posix as i32,
        mode: mode as i32,
        owner: 1,
        start: 0,
        end: u64::MAX,
        pid: 42,
    }
}

/// The next thing on the stream that is no heartbeat.
async fn next(down: &mut tonic::Streaming<v1::SessionDown>) -> Option<Event> {
    let read = async {
        loop {
            match down.message().await.ok()??.event? {
                Event::Beat(_) => {}
                event @ (Event::LockGranted(_) | Event::Evicted(_) | Event::Recall(_)) => {
                    return Some(event);
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("something comes")
}

/// Heartbeats of `client` while something is waited for.
async fn beating<T>(
    client: &Client,
    beats: &tokio::sync::mpsc::Sender<v1::SessionUp>,
    wait: impl Future<Output = T>,
) -> T {
    let beating = async {
        loop {
            beats.send(v1::SessionUp { session: client.session, beat: 2 }).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = beating => unreachable!("it beats for ever"),
        waited = wait => waited,
    }
}

#[tokio::test]
async fn a_waiting_lock_is_granted_over_the_stream() {
    let server = Site::new(0).await.start().await;
    let (a, b) = (server.client("a").await, server.client("b").await);
    let fid = a.create("f", 0).await.unwrap();
    let write = whole(fid, v1::LockMode::Write);
    assert_eq!(a.lock(write, None).await, Ok(true));
    assert_eq!(errno(b.lock(write, None).await), Errno::EAGAIN);
    let (_beats, mut down) = b.stream().await;
    assert_eq!(b.lock(write, Some(5)).await, Ok(false));
    let test = v1::TestLockRequest { session: b.session, lock: Some(write) };
    let conflict = ok(b.mds.clone().test_lock(test).await).unwrap().conflict;
    assert_eq!(conflict.map(|lock| (lock.pid, lock.end)), Some((42, u64::MAX)));
    assert_eq!(a.lock(whole(fid, v1::LockMode::Unlock), None).await, Ok(true));
    assert_eq!(next(&mut down).await, Some(Event::LockGranted(v1::LockGranted { cookie: 5 })));
    let cancel = v1::CancelLockRequest { session: b.session, cookie: 5 };
    assert!(ok(b.mds.clone().cancel_lock(cancel).await).unwrap().was_granted);
    server.stop().await;
}

#[tokio::test]
async fn a_silent_client_is_evicted_and_what_it_held_goes_to_others() {
    let mut site = Site::new(0).await;
    site.lease = Duration::from_millis(400);
    let server = site.start().await;
    let (a, b) = (server.client("a").await, server.client("b").await);
    let fid = a.create("f", 1).await.unwrap();
    a.unlink("f").await.unwrap();
    let write = whole(fid, v1::LockMode::Write);
    a.lock(write, None).await.unwrap();
    let (beats, mut down) = b.stream().await;
    assert_eq!(b.lock(write, Some(1)).await, Ok(false));
    let granted = beating(&b, &beats, next(&mut down)).await;
    assert_eq!(granted, Some(Event::LockGranted(v1::LockGranted { cookie: 1 })));
    let refused = a.create("g", 0).await.unwrap_err();
    assert_eq!((refused.errno, refused.retry), (Errno::ESTALE, Retry::AfterRefresh));
    until(|| async { b.getattr(fid).await.is_err() }).await;

    // Coming back as if nothing had happened is refused; coming back as a new one is not.
    let handle = v1::OpenHandle { handle: 1, fid: Some(fid.into()), write: true };
    let same = v1::OpenSessionRequest {
        client_uuid: "a".into(),
        handles: vec![handle],
        ..Default::default()
    };
    let refused = server.client_with(same).await.map(drop).unwrap_err();
    assert_eq!((refused.errno, refused.retry), (Errno::ESTALE, Retry::AfterRefresh));
    let anew =
        v1::OpenSessionRequest { client_uuid: "a".into(), incarnation: 1, ..Default::default() };
    let anew = server.client_with(anew).await.unwrap();
    assert_ne!(anew.session, a.session);
    anew.create("g", 0).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn who_inherits_a_session_is_told_what_it_holds_and_waits_for_nothing() {
    let server = Site::new(0).await.start().await;
    let a = server.client_with(opening("a")).await.unwrap();
    let b = server.client("b").await;
    let fid = a.create("f", 7).await.unwrap();
    let other = b.create("g", 1).await.unwrap();
    let (own, wanted) = (whole(fid, v1::LockMode::Write), whole(other, v1::LockMode::Write));
    a.lock(own, None).await.unwrap();
    b.lock(wanted, None).await.unwrap();
    assert_eq!(a.lock(wanted, Some(1)).await, Ok(false), "it waits");

    let mut request = v1::OpenSessionRequest { inherits: true, ..opening("a") };
    request.fsname = "test".into();
    let estate = ok(a.mds.clone().open_session(request).await).unwrap();
    assert_eq!((estate.session, &estate.handles[..]), (a.session, &[7][..]));
    assert_eq!(estate.locks, [own]);
    let leased = estate.leases_held.iter().find(|lease| lease.fid == Some(fid.into())).unwrap();
    assert_eq!(leased.mode(), v1::LeaseMode::Exclusive);
    assert!(leased.number > 0);
    let unlock = v1::HeldLock { mode: v1::LockMode::Unlock as i32, ..wanted };
    b.lock(unlock, None).await.unwrap();
    assert_eq!(b.lock(wanted, None).await, Ok(true), "nobody waits for it any more");

    let nobody = v1::OpenSessionRequest { inherits: true, ..opening("c") };
    let refused = server.client_with(nobody).await.map(drop).unwrap_err();
    assert_eq!(refused.errno, Errno::ESTALE);
    server.stop().await;
}

#[tokio::test]
async fn a_closed_session_leaves_nothing() {
    let server = Site::new(0).await.start().await;
    let (a, b) = (server.client("a").await, server.client("b").await);
    let fid = a.create("f", 1).await.unwrap();
    let write = whole(fid, v1::LockMode::Write);
    a.lock(write, None).await.unwrap();
    a.unlink("f").await.unwrap();
    let goodbye = v1::CloseSessionRequest { session: a.session };
    ok(a.mds.clone().close_session(goodbye).await).unwrap();
    until(|| async { b.getattr(fid).await.is_err() }).await;
    assert_eq!(b.lock(write, None).await, Ok(true));
    assert_eq!(errno(a.close(1).await), Errno::ESTALE);
    server.stop().await;
}

#[tokio::test]
async fn after_a_restart_clients_take_back_what_they_held() {
    let mut site = Site::new(0).await;
    site.lease = Duration::from_secs(2);
    let server = site.start().await;
    let (a, b) = (server.client("a").await, server.client("b").await);
    let kept = a.create("kept", 1).await.unwrap();
    let lost = b.create("lost", 1).await.unwrap();
    a.unlink("kept").await.unwrap();
    b.unlink("lost").await.unwrap();
    let write = whole(kept, v1::LockMode::Write);
    a.lock(write, None).await.unwrap();
    server.stop().await;

    let server = site.start().await;
    let c = server.client("c").await;
    let early = c.lock(whole(lost, v1::LockMode::Write), None).await.unwrap_err();
    assert_eq!((early.errno, early.retry), (Errno::EAGAIN, Retry::SameTarget), "who knows yet");
    let (beats, mut down) = c.stream().await;
    assert_eq!(c.lock(whole(lost, v1::LockMode::Write), Some(1)).await, Ok(false));
    assert_eq!(c.lock(write, Some(2)).await, Ok(false));
    let back = v1::OpenSessionRequest {
        client_uuid: "a".into(),
        handles: vec![v1::OpenHandle { handle: 1, fid: Some(kept.into()), write: true }],
        locks: vec![write],
        ..Default::default()
    };
    let back = server.client_with(back).await.unwrap();
    assert_eq!(back.session, a.session);
    assert_eq!(c.getattr(lost).await.unwrap().nlink, 0, "b may still come back");

    // b does not: the window closes without it.
    let (beats_of_a, _down_of_a) = back.stream().await;
    let waited = async {
        let granted = next(&mut down).await;
        assert_eq!(granted, Some(Event::LockGranted(v1::LockGranted { cookie: 1 })));
        until(|| async { c.getattr(lost).await.is_err() }).await;
    };
    beating(&back, &beats_of_a, beating(&c, &beats, waited)).await;
    assert_eq!(c.getattr(kept).await.unwrap().nlink, 0, "a has it open");
    assert_eq!(errno(c.lock(write, None).await), Errno::EAGAIN, "a has it locked");
    server.stop().await;
}
