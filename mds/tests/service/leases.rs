use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nacre_model::{Errno, Fid};
use nacre_proto::v1;
use nacre_proto::v1::LeaseMode;
use nacre_proto::v1::change_request::Op;
use parking_lot::Mutex;

use crate::harness::{Client, PATIENCE, Site, errno, fid_of, ok, on, until};
use crate::holder::{Holder, give_back, opening};

const ROOT: Fid = Fid::ROOT;

async fn look(client: &Client, name: &str) -> v1::LookupResponse {
    let request = v1::LookupRequest {
        parent: Some(ROOT.into()),
        name: name.to_owned().into(),
        session: client.session,
    };
    ok(client.mds.clone().lookup(request).await).unwrap()
}

async fn ask(client: &Client, fid: Fid) -> v1::GetattrResponse {
    let request = v1::GetattrRequest { fid: Some(fid.into()), session: client.session };
    ok(client.mds.clone().getattr(request).await).unwrap()
}

async fn make(client: &Client, name: &str) -> v1::ChangeResponse {
    let op = v1::CreateOp {
        parent: Some(ROOT.into()),
        name: name.to_owned().into(),
        mode: 0o100_644,
        exclusive: true,
        ..v1::CreateOp::default()
    };
    client.change(Op::Create(op)).await.unwrap()
}

async fn write(client: &Client, fid: Fid, data: &str) -> v1::ChangeResponse {
    let data = data.to_owned().into();
    let op = v1::WriteInlineOp { fid: Some(fid.into()), data, ..v1::WriteInlineOp::default() };
    // A slot of its own: it goes beside whatever else the client does.
    let request = v1::ChangeRequest { slot: 1, ..client.request(Op::WriteInline(op)) };
    client.send(request).await.unwrap()
}

fn mode(lease: Option<v1::Lease>) -> LeaseMode {
    lease.map_or(LeaseMode::Unspecified, |lease| lease.mode())
}

/// Something that waits for a lease, and must not be done before.
struct Pending<T>(tokio::task::JoinHandle<T>);

impl<T: Send + 'static> Pending<T> {
    fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }
    async fn done(self) -> T {
        tokio::time::timeout(PATIENCE, self.0).await.expect("it is done").unwrap()
    }
}

#[tokio::test]
async fn a_change_waits_until_leases_on_the_directory_and_the_file_are_back() {
    let server = Site::new(0).await.start().await;
    let b = server.client("b").await;
    let fid = b.create("f", 0).await.unwrap();
    let mut a = Holder::new(&server, "a").await;
    let found = look(&a.client, "f").await;
    assert_eq!(mode(found.lease), LeaseMode::Shared);
    assert_eq!(mode(found.parent_lease), LeaseMode::Shared);
    let last = found.lease.unwrap().number;
    assert!(found.parent_lease.unwrap().number < last);

    let other = b.clone();
    let unlink = Pending::new(async move { other.unlink("f").await });
    let first = a.recalled().await;
    assert_eq!((first.fid, first.keep()), (Some(ROOT.into()), LeaseMode::Unspecified));
    assert_eq!(first.number, last, "the highest so far");
    let while_waiting = look(&a.client, "f").await;
    assert_eq!(mode(while_waiting.parent_lease), LeaseMode::Unspecified);
    a.give_back(&first, Vec::new()).await.unwrap();
    let second = a.recalled().await;
    assert_eq!(second.fid, Some(fid.into()));
    assert!(!unlink.0.is_finished());
    a.give_back(&second, Vec::new()).await.unwrap();
    unlink.done().await.unwrap();
    assert!(look(&a.client, "f").await.absent);
    server.stop().await;
}

#[tokio::test]
async fn an_absent_name_is_known_under_the_lease_of_its_directory() {
    let server = Site::new(0).await.start().await;
    let b = server.client("b").await;
    assert_eq!(errno(b.lookup("f").await), Errno::ENOENT, "it takes no leases");
    let mut a = Holder::new(&server, "a").await;
    let absent = look(&a.client, "f").await;
    assert_eq!((absent.absent, mode(absent.parent_lease)), (true, LeaseMode::Shared));
    let other = b.clone();
    let create = Pending::new(async move { other.create("f", 0).await });
    let recall = a.recalled().await;
    assert!(!create.0.is_finished());
    a.give_back(&recall, Vec::new()).await.unwrap();
    let fid = create.done().await.unwrap();
    assert_eq!(fid_of(look(&a.client, "f").await.attr.as_ref()), fid);
    server.stop().await;
}

#[tokio::test]
async fn the_maker_has_its_file_alone_and_flushes_before_others_read_it() {
    let server = Site::new(0).await.start().await;
    let b = server.client("b").await;
    let mut a = Holder::new(&server, "a").await;
    let made = make(&a.client, "f").await;
    assert!(made.made);
    assert_eq!(mode(made.lease), LeaseMode::Exclusive);
    let fid = fid_of(made.attr.as_ref());
    assert_eq!(mode(write(&a.client, fid, "12").await.lease), LeaseMode::Exclusive);

    let reader = b.clone();
    let read = Pending::new(async move { reader.getattr(fid).await });
    let recall = a.recalled().await;
    assert_eq!(recall.keep(), LeaseMode::Shared);
    // What it has still to write meets nobody.
    assert_eq!(mode(write(&a.client, fid, "1234").await.lease), LeaseMode::Unspecified);
    assert!(!read.0.is_finished());
    a.give_back(&recall, Vec::new()).await.unwrap();
    assert_eq!(read.done().await.unwrap().size, 4);
    assert_eq!(a.recalled_already(), 0, "two readers share");
    assert_eq!(mode(ask(&a.client, fid).await.lease), LeaseMode::Shared);
    server.stop().await;
}

#[tokio::test]
async fn a_file_that_was_opened_under_a_lease_outlives_its_name() {
    let server = Site::new(0).await.start().await;
    let b = server.client("b").await;
    let mut a = Holder::new(&server, "a").await;
    let fid = fid_of(make(&a.client, "f").await.attr.as_ref());
    let other = b.clone();
    let unlink = Pending::new(async move { other.unlink("f").await });
    let recall = loop {
        let recall = a.recalled().await;
        if recall.fid == Some(fid.into()) {
            break recall;
        }
        a.give_back(&recall, Vec::new()).await.unwrap();
    };
    let handle = v1::OpenHandle { handle: 7, fid: Some(fid.into()), write: false };
    a.give_back(&recall, vec![handle]).await.unwrap();
    unlink.done().await.unwrap();
    assert_eq!(a.client.getattr(fid).await.unwrap().nlink, 0);
    let asked = ask(&a.client, fid).await;
    assert_eq!(mode(asked.lease), LeaseMode::Shared);
    // It may be open again under that lease: asked before the inode goes.
    a.client.close(7).await.unwrap();
    let recall = a.recalled().await;
    assert!(b.getattr(fid).await.is_ok());
    a.give_back(&recall, Vec::new()).await.unwrap();
    until(|| async { b.getattr(fid).await.is_err() }).await;
    server.stop().await;
}

#[tokio::test]
async fn a_file_that_another_writes_gives_no_lease_until_it_is_closed() {
    let server = Site::new(0).await.start().await;
    let mut a = Holder::new(&server, "a").await;
    let b = Holder::new(&server, "b").await;
    let fid = fid_of(make(&b.client, "f").await.attr.as_ref());
    let opened = b.client.open(fid, 1, true).await.unwrap();
    assert_eq!(mode(opened.lease), LeaseMode::Exclusive);
    let gone = v1::RecallItem { fid: Some(fid.into()), keep: 0, number: u64::MAX };
    b.give_back(&gone, Vec::new()).await.unwrap();
    let asked = ask(&a.client, fid).await;
    assert_eq!((asked.other_writers, mode(asked.lease)), (true, LeaseMode::Unspecified));
    let reader = a.client.open(fid, 2, false).await.unwrap();
    assert_eq!(mode(reader.lease), LeaseMode::Unspecified);
    assert_eq!(mode(ask(&b.client, fid).await.lease), LeaseMode::Shared, "a reader has it open");
    b.client.close(1).await.unwrap();
    assert_eq!(mode(ask(&a.client, fid).await.lease), LeaseMode::Shared);
    // Opening for writing takes it from the reader.
    let writer = b.client.clone();
    let open = Pending::new(async move { writer.open(fid, 3, true).await });
    let recall = a.recalled().await;
    assert_eq!(recall.keep(), LeaseMode::Unspecified);
    a.give_back(&recall, Vec::new()).await.unwrap();
    assert_eq!(mode(open.done().await.unwrap().lease), LeaseMode::Shared);
    server.stop().await;
}

#[tokio::test]
async fn a_listing_waits_for_nobody_and_leaves_out_what_others_have_alone() {
    let server = Site::new(0).await.start().await;
    let mut a = Holder::new(&server, "a").await;
    let b = Holder::new(&server, "b").await;
    let own = fid_of(make(&b.client, "own").await.attr.as_ref());
    let theirs = fid_of(make(&a.client, "theirs").await.attr.as_ref());
    let request = v1::ReaddirRequest {
        fid: Some(ROOT.into()),
        plus: true,
        session: b.client.session,
        ..v1::ReaddirRequest::default()
    };
    let listing = ok(b.client.mds.clone().readdir(request).await).unwrap();
    assert_eq!(mode(listing.lease), LeaseMode::Shared);
    let found: BTreeMap<Fid, _> = listing
        .entries
        .iter()
        .map(|entry| (entry.fid.unwrap().into(), (entry.attr.is_some(), mode(entry.lease))))
        .collect();
    assert_eq!(found[&own], (true, LeaseMode::Exclusive));
    assert_eq!(found[&theirs], (false, LeaseMode::Unspecified));
    assert_eq!(a.recalled_already(), 0);
    server.stop().await;
}

#[tokio::test]
async fn who_does_not_answer_a_recall_is_evicted() {
    let mut site = Site::new(2).await;
    site.lease = Duration::from_millis(600);
    let server = site.start().await;
    let mut a = Holder::new(&server, "a").await;
    let b = Holder::new(&server, "b").await;
    let fid = fid_of(make(&a.client, "f").await.attr.as_ref());
    site.oss.failing.lock().insert(on(1));
    let attr = b.client.getattr(fid).await.unwrap();
    assert_eq!(attr.size, 0);
    // Fenced before others go on; who does not answer is told later.
    assert!(site.oss.fenced.lock().contains(&(on(0), a.client.session)));
    site.oss.failing.lock().clear();
    let told = || async { site.oss.fenced.lock().contains(&(on(1), a.client.session)) };
    until(told).await;
    a.recalled().await;
    let refused = a.client.create("g", 0).await.unwrap_err();
    assert_eq!(refused.errno, Errno::ESTALE);
    assert_eq!(mode(ask(&b.client, fid).await.lease), LeaseMode::Shared);
    server.stop().await;
}

#[tokio::test]
async fn after_a_restart_leases_are_claimed_and_nobody_gets_past_them() {
    let mut site = Site::new(0).await;
    site.lease = Duration::from_secs(2);
    let server = site.start().await;
    let a = Holder::new(&server, "a").await;
    let b = Holder::new(&server, "b").await;
    let made = make(&a.client, "f").await;
    let fid = fid_of(made.attr.as_ref());
    drop((a, b));
    server.stop().await;

    let server = site.start().await;
    let b = Holder::with(server.client_with(opening("b")).await.unwrap()).await;
    let reader = b.client.clone();
    let read = Pending::new(async move { reader.getattr(fid).await });
    let held =
        v1::HeldLease { fid: Some(fid.into()), mode: LeaseMode::Exclusive.into(), number: 0 };
    let back = v1::OpenSessionRequest { leases_held: vec![held], ..opening("a") };
    let mut a = Holder::with(server.client_with(back).await.unwrap()).await;
    let recall = a.recalled().await;
    assert!(recall.number > made.lease.unwrap().number, "numbers ascend over restarts");
    assert_eq!(mode(write(&a.client, fid, "late").await.lease), LeaseMode::Unspecified);
    assert!(!read.0.is_finished());
    a.give_back(&recall, Vec::new()).await.unwrap();
    assert_eq!(read.done().await.unwrap().size, 4);
    server.stop().await;
}

#[tokio::test]
async fn after_a_restart_those_who_do_not_come_back_are_waited_for_no_longer_than_a_lease_time() {
    let mut site = Site::new(0).await;
    site.lease = Duration::from_millis(800);
    let server = site.start().await;
    let a = Holder::new(&server, "a").await;
    let b = server.client("b").await;
    make(&a.client, "f").await;
    drop(a);
    drop(b);
    server.stop().await;
    let server = site.start().await;
    let begun = tokio::time::Instant::now();
    let b = Holder::with(server.client_with(opening("b")).await.unwrap()).await;
    b.client.unlink("f").await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(400), "it was waited for");
    server.stop().await;
}

#[tokio::test]
async fn a_recall_that_went_to_a_broken_stream_is_sent_again() {
    let server = Site::new(0).await.start().await;
    let a = server.client_with(opening("a")).await.unwrap();
    let fid = fid_of(make(&a, "f").await.attr.as_ref());
    let b = server.client("b").await;
    let read = Pending::new(async move { b.getattr(fid).await });
    let mut a = Holder::with(a).await;
    let recall = a.recalled().await;
    a.give_back(&recall, Vec::new()).await.unwrap();
    read.done().await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn clients_that_take_each_others_files_do_not_wait_for_each_other() {
    let server = Site::new(0).await.start().await;
    let mut clients = Vec::new();
    for (uuid, name) in [("a", "of-a"), ("b", "of-b")] {
        let holder = Holder::new(&server, uuid).await;
        let fid = fid_of(make(&holder.client, name).await.attr.as_ref());
        let own = holder.client.clone();
        // Before it gives its file back it writes what it kept.
        clients.push(holder.obey(move |recalled| {
            let own = own.clone();
            async move {
                if recalled == fid {
                    write(&own, fid, "kept").await;
                }
            }
        }));
    }
    for _ in 0..20 {
        let (a, b) = (clients[0].client.clone(), clients[1].client.clone());
        let rename = |from: &str, to: &str| {
            Op::Rename(v1::RenameOp {
                parent: Some(ROOT.into()),
                name: from.to_owned().into(),
                new_parent: Some(ROOT.into()),
                new_name: to.to_owned().into(),
                exchange: true,
                ..v1::RenameOp::default()
            })
        };
        let (one, two) = (rename("of-a", "of-b"), rename("of-b", "of-a"));
        let first = Pending::new(async move { a.change(one).await });
        let second = Pending::new(async move { b.change(two).await });
        first.done().await.unwrap();
        second.done().await.unwrap();
    }
    server.stop().await;
}

/// Permission bits that are set last: the test counts them up, from beyond what a file is made with.
const LAST: u32 = 1200;

/// What a client believes of one inode under its leases.
type Believed = Arc<Mutex<BTreeMap<Fid, (u64, u32)>>>;

#[tokio::test]
async fn nothing_that_is_used_under_a_lease_is_older_than_a_finished_change() {
    let server = Site::new(0).await.start().await;
    let writer = server.client("writer").await;
    let fid = writer.create("f", 0).await.unwrap();
    let done = Arc::new(AtomicU32::new(0));
    let mut readers = Vec::new();
    for uuid in ["a", "b"] {
        let mut holder = Holder::new(&server, uuid).await;
        let client = holder.client.clone();
        let believed: Believed = Arc::default();
        // The highest number that a recall has named: replies up to it bring no lease.
        let overtaken = Arc::new(Mutex::new(0_u64));
        let (cache, mark, own) = (Arc::clone(&believed), Arc::clone(&overtaken), client.clone());
        let obey = tokio::spawn(async move {
            loop {
                let recall = holder.recalled().await;
                {
                    let mut mark = mark.lock();
                    *mark = recall.number.max(*mark);
                    cache.lock().remove(&recall.fid.unwrap().into());
                }
                give_back(&own, &recall, Vec::new()).await.unwrap();
            }
        });
        let (done, client) = (Arc::clone(&done), client);
        let read = tokio::spawn(async move {
            let (mut hits, mut last) = (0_u32, 0);
            while last != LAST {
                let before = done.load(Ordering::SeqCst);
                let known = believed.lock().get(&fid).copied();
                last = if let Some((_, value)) = known {
                    hits += 1;
                    tokio::task::yield_now().await;
                    value
                } else {
                    let asked = ask(&client, fid).await;
                    let value = asked.attr.unwrap().mode & 0o7777;
                    let mark = overtaken.lock();
                    if let Some(lease) = asked.lease
                        && lease.number > *mark
                    {
                        believed.lock().insert(fid, (lease.number, value));
                    }
                    value
                };
                assert!(last >= before, "{last} was read after {before} was done");
            }
            hits
        });
        readers.push((read, obey));
    }
    for value in 1000..=LAST {
        let op = v1::SetattrOp { fid: Some(fid.into()), perm: Some(value), ..Default::default() };
        writer.change(Op::Setattr(op)).await.unwrap();
        done.store(value, Ordering::SeqCst);
        if value % 10 == 0 {
            // Out of the pause that contention brings, leases are given again.
            tokio::time::sleep(Duration::from_millis(110)).await;
        }
    }
    for (read, obey) in readers {
        let hits = tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap();
        assert!(hits > 0, "leases were of use");
        obey.abort();
    }
    server.stop().await;
}

#[tokio::test]
async fn an_access_time_is_told_without_asking_anybody() {
    let server = Site::new(0).await.start().await;
    let b = server.client("b").await;
    let fid = b.create("f", 0).await.unwrap();
    let mut a = Holder::new(&server, "a").await;
    assert_eq!(mode(ask(&a.client, fid).await.lease), LeaseMode::Shared);
    let atime = Some(v1::Timestamp { secs: 7, nanos: 0 });
    let op = v1::SettleOp { fid: Some(fid.into()), atime, ..v1::SettleOp::default() };
    let settled = b.change(Op::Settle(op)).await.unwrap();
    assert_eq!(settled.attr.unwrap().atime, atime);
    assert_eq!(a.recalled_already(), 0);
    server.stop().await;
}

#[tokio::test]
async fn whoever_changes_names_alone_has_the_directory_alone_where_that_is_switched_on() {
    let mut site = Site::new(0).await;
    site.exclusive_directories = true;
    let server = site.start().await;
    let mut a = Holder::new(&server, "a").await;
    let b = server.client("b").await;
    assert_eq!(mode(look(&a.client, "f").await.parent_lease), LeaseMode::Shared);
    make(&a.client, "f").await;
    assert_eq!(mode(look(&a.client, "g").await.parent_lease), LeaseMode::Exclusive);
    let reader = Pending::new(async move { b.lookup("g").await });
    let recall = a.recalled().await;
    assert_eq!((recall.fid, recall.keep()), (Some(ROOT.into()), LeaseMode::Shared));
    a.give_back(&recall, Vec::new()).await.unwrap();
    assert_eq!(errno(reader.done().await), Errno::ENOENT);
    server.stop().await;
}
