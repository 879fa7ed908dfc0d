use nacre_model::{Errno, TargetState};
use nacre_proto::v1;
use nacre_proto::v1::change_request::Op;

use crate::harness::{Client, Server, Site, errno, ok, on, until};

async fn statfs_known(server: &Server, osts: usize) {
    until(|| async {
        let statfs = ok(server.mds.clone().statfs(v1::StatfsRequest {}).await).unwrap();
        statfs.osts.iter().filter(|ost| ost.bytes_total > 0).count() == osts
    })
    .await;
}

/// A file with objects on all OSTs, 8 MiB long.
async fn striped(client: &Client, name: &str) -> nacre_model::Fid {
    let component = v1::ComponentTemplate {
        end: u64::MAX,
        stripe_count: 0,
        stripe_size: 1 << 20,
        ..v1::ComponentTemplate::default()
    };
    let op = v1::CreateOp {
        parent: Some(nacre_model::Fid::ROOT.into()),
        name: name.to_owned().into(),
        mode: 0o100_644,
        layout: Some(v1::LayoutTemplate { components: vec![component] }),
        ..v1::CreateOp::default()
    };
    let made = client.change(Op::Create(op)).await.unwrap();
    let fid = crate::harness::fid_of(made.attr.as_ref());
    client.instantiate(fid, 8 << 20).await.unwrap();
    client.settle(fid, 8 << 20).await.unwrap();
    fid
}

#[tokio::test]
async fn stripes_go_to_living_osts_and_without_any_there_is_no_space() {
    let site = Site::new(3).await;
    let server = site.start().await;
    let client = server.client("a").await;
    statfs_known(&server, 3).await;
    site.set_state(1, TargetState::Down);
    let fid = striped(&client, "f").await;
    let request = v1::GetLayoutRequest { fid: Some(fid.into()), session: 0 };
    let layout = ok(client.mds.clone().get_layout(request).await).unwrap().layout.unwrap();
    let mut osts = layout.components[0].osts.clone();
    osts.sort_unstable();
    assert_eq!(osts, [0, 2]);
    site.set_state(0, TargetState::Down);
    site.set_state(2, TargetState::Down);
    let other = client.create("g", 0).await.unwrap();
    assert_eq!(errno(client.instantiate(other, 1).await), Errno::ENOSPC);
    let pool = v1::ComponentTemplate {
        end: u64::MAX,
        stripe_count: 1,
        stripe_size: 1 << 20,
        pool: "nowhere".into(),
        ..v1::ComponentTemplate::default()
    };
    let layout = Some(v1::LayoutTemplate { components: vec![pool] });
    let set = v1::SetLayoutOp { fid: Some(other.into()), layout };
    let refused = client.change(Op::SetLayout(set)).await.unwrap_err();
    assert_eq!(refused.errno, Errno::EINVAL);
    assert!(refused.message.contains("no pool `nowhere`"), "{refused}");
    server.stop().await;
}

#[tokio::test]
async fn a_truncate_is_answered_after_the_osts_have_cut() {
    let site = Site::new(2).await;
    let server = site.start().await;
    let client = server.client("a").await;
    statfs_known(&server, 2).await;
    let fid = striped(&client, "f").await;
    client.truncate(fid, (1 << 20) + 5).await.unwrap();
    let mut sizes: Vec<u64> = site.oss.truncated.lock().iter().map(|(_, _, size)| *size).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [5, 1 << 20]);
    server.stop().await;

    // It was forgotten before the answer: a restart must not cut again what was written since.
    site.oss.truncated.lock().clear();
    let server = site.start().await;
    let client = server.client("a").await;
    client.open(fid, 1, true).await.unwrap();
    assert!(site.oss.truncated.lock().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_cut_that_failed_gives_eio_and_is_made_before_the_file_is_used_again() {
    let site = Site::new(2).await;
    let server = site.start().await;
    let client = server.client("a").await;
    statfs_known(&server, 2).await;
    let fid = striped(&client, "f").await;
    site.oss.failing.lock().insert(on(1));
    assert_eq!(errno(client.truncate(fid, 5).await), Errno::EIO);
    assert_eq!(errno(client.open(fid, 1, true).await), Errno::EIO);
    server.stop().await;

    let server = site.start().await;
    let client = server.client("a").await;
    assert_eq!(errno(client.open(fid, 1, true).await), Errno::EIO, "also after a restart");
    site.oss.failing.lock().clear();
    site.oss.truncated.lock().clear();
    let opened = client.open(fid, 1, true).await.unwrap();
    assert_eq!(opened.attr.unwrap().size, 5);
    let cut: Vec<_> = site.oss.truncated.lock().iter().map(|(ost, ..)| *ost).collect();
    assert!(cut.contains(&on(1)), "{cut:?}");
    server.stop().await;
}

#[tokio::test]
async fn objects_of_removed_files_are_destroyed_when_their_ost_is_back() {
    let site = Site::new(2).await;
    let server = site.start().await;
    let client = server.client("a").await;
    statfs_known(&server, 2).await;
    let fid = striped(&client, "f").await;
    site.set_state(1, TargetState::Down);
    client.unlink("f").await.unwrap();
    until(|| async { site.oss.destroyed.lock().len() == 1 }).await;
    server.stop().await;

    site.set_state(1, TargetState::Up);
    let server = site.start().await;
    until(|| async { site.oss.destroyed.lock().len() == 2 }).await;
    assert!(site.oss.destroyed.lock().iter().all(|(_, object)| object.fid == fid));
    server.stop().await;
}

#[tokio::test]
async fn opening_for_writing_makes_the_size_of_objects_lazy() {
    let site = Site::new(1).await;
    let server = site.start().await;
    let client = server.client("a").await;
    statfs_known(&server, 1).await;
    let fid = striped(&client, "f").await;
    assert!(!client.getattr(fid).await.unwrap().size_lazy);
    assert!(!client.open(fid, 1, false).await.unwrap().attr.unwrap().size_lazy);
    assert!(client.open(fid, 2, true).await.unwrap().attr.unwrap().size_lazy);
    let other = server.client("b").await;
    assert!(other.settle(fid, 1).await.unwrap().size_lazy, "another one is writing");
    assert!(!client.settle(fid, 1).await.unwrap().size_lazy);
    server.stop().await;
}
