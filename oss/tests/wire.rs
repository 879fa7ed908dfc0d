//! The service through the wire: a server on a free port, a client of its own.
#![expect(clippy::unwrap_used, reason = "a helper that fails has found what the test looks for")]
#![expect(clippy::unnecessary_wraps, reason = "fields of messages are optional")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nacre_model::checksum::Crc32c;
use nacre_model::{Errno, Retry};
use nacre_node::net::Channel;
use nacre_node::{FolderKind, Identity, OsDisk, Scope, SystemClock, TcpNet};
use nacre_oss::{OssConfig, OstFolder, Server};
use nacre_proto::status::{RemoteError, from_status};
use nacre_proto::v1;
use nacre_proto::v1::oss_client::OssClient;

struct Running {
    client: OssClient<Channel>,
    scope: Scope,
    server: tokio::task::JoinHandle<()>,
}

fn config(folders: &[&Path], boot_id: u64) -> OssConfig {
    let mut config =
        OssConfig::new("127.0.0.1:0", Arc::new(TcpNet), Arc::new(SystemClock), boot_id);
    config.osts = folders
        .iter()
        .zip(0..)
        .map(|(folder, index)| OstFolder {
            identity: Identity::new(FolderKind::Ost, "nacre", index, Vec::new()),
            disk: Arc::new(OsDisk::new(*folder)),
        })
        .collect();
    config
}

async fn start(folders: &[&Path], boot_id: u64) -> Running {
    let server = Server::bind(config(folders, boot_id)).await.unwrap();
    let scope = Scope::new();
    let net: Arc<dyn nacre_node::Net> = Arc::new(TcpNet);
    let channel = nacre_node::net::channel(&net, &server.local_addr().to_string()).unwrap();
    let client = OssClient::new(channel)
        .max_decoding_message_size(nacre_proto::MESSAGE_BYTES_MAX)
        .max_encoding_message_size(nacre_proto::MESSAGE_BYTES_MAX);
    let own = scope.clone();
    let server = tokio::spawn(async move { server.serve(own).await.unwrap() });
    Running { client, scope, server }
}

impl Running {
    async fn stop(self) {
        drop(self.client);
        self.scope.join().await;
        self.server.await.unwrap();
    }
}

fn header(ost_index: u32) -> Option<v1::ObjectHeader> {
    Some(v1::ObjectHeader { ost_index, ..v1::ObjectHeader::default() })
}

fn object(oid: u32) -> Option<v1::ObjectId> {
    let fid = Some(v1::Fid { seq: 0x2_0000_0401, oid, ver: 0 });
    Some(v1::ObjectId { fid, component: 0, stripe: 0, generation: 1 })
}

fn write(ost: u32, oid: u32, offset: u64, data: &Bytes) -> v1::WriteRequest {
    v1::WriteRequest {
        header: header(ost),
        object: object(oid),
        offset,
        data: data.clone(),
        crc32c: Crc32c::of(data).0,
        sync: false,
    }
}

fn read(ost: u32, oid: u32, offset: u64, len: u32) -> v1::ReadRequest {
    v1::ReadRequest { header: header(ost), object: object(oid), offset, len }
}

fn refused<T: std::fmt::Debug>(result: Result<T, tonic::Status>) -> RemoteError {
    from_status(&result.unwrap_err())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_is_read_and_survives_a_restart() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let paths: Vec<_> = folders.iter().map(tempfile::TempDir::path).collect();
    let data: Bytes = (0u32..4 << 20).map(|i| (i.wrapping_mul(i) >> 5).to_le_bytes()[0]).collect();
    let mut running = start(&paths, 1).await;
    let client = &mut running.client;
    for ost in [0, 1] {
        let written = client.write(write(ost, 7, 4096, &data)).await.unwrap().into_inner();
        assert_eq!(written.object_size, 4096 + (4 << 20));
        assert_eq!(written.verifier, Some(v1::Verifier { boot_id: 1, epoch: 0 }));
        assert!(written.blocks >= 8192, "{}", written.blocks);
        let got = client.read(read(ost, 7, 4096, 4 << 20)).await.unwrap().into_inner();
        assert_eq!(got.crc32c, Crc32c::of(&data).0);
        assert!(got.data == data);
        let commit = v1::CommitRequest { header: header(ost), objects: vec![object(7).unwrap()] };
        client.commit(commit).await.unwrap();
    }
    running.stop().await;
    let mut running = start(&paths, 2).await;
    let client = &mut running.client;
    let got = client.read(read(1, 7, 0, 8192)).await.unwrap().into_inner();
    assert!(got.data[..4096].iter().all(|&byte| byte == 0) && got.data[4096..] == data[..4096]);
    let stat = v1::StatRequest {
        header: header(0),
        objects: vec![object(7).unwrap(), object(8).unwrap()],
    };
    let stats = client.stat(stat).await.unwrap().into_inner().stats;
    assert_eq!((stats[0].exists, stats[0].size), (true, 4096 + (4 << 20)));
    assert!(!stats[1].exists);
    let seek = v1::SeekRequest { header: header(0), object: object(7), offset: 0, hole: false };
    let found = client.seek(seek).await.unwrap().into_inner();
    assert_eq!((found.found, found.offset), (true, 4096));
    let space = v1::OstStatfsRequest { header: header(0) };
    let space = client.ost_statfs(space).await.unwrap().into_inner();
    assert!(space.bytes_total > space.bytes_free && space.bytes_available > 0);
    running.stop().await;
}

#[tokio::test]
async fn nonsense_is_refused_with_what_is_wrong_about_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = start(&[folder.path()], 1).await;
    let client = &mut running.client;
    let data = Bytes::from_static(b"nacre");
    let error = refused(client.write(write(9, 1, 0, &data)).await);
    assert_eq!((error.errno, error.retry), (Errno::ENODEV, Retry::AfterRefresh));
    let error = refused(client.write(write(70_000, 1, 0, &data)).await);
    assert_eq!(error.errno, Errno::EINVAL);
    for len in [0, u32::MAX] {
        let error = refused(client.read(read(0, 1, 0, len)).await);
        assert_eq!(error.errno, Errno::EINVAL);
        assert!(error.message.contains("`len`"), "{}", error.message);
    }
    assert_eq!(refused(client.write(write(0, 1, 0, &Bytes::new())).await).errno, Errno::EINVAL);
    let bare = v1::WriteRequest { header: None, ..write(0, 1, 0, &data) };
    assert_eq!(refused(client.write(bare).await).errno, Errno::EINVAL);
    let nobody = v1::WriteRequest { object: None, ..write(0, 1, 0, &data) };
    assert_eq!(refused(client.write(nobody).await).errno, Errno::EINVAL);
    assert_eq!(refused(client.write(write(0, 1, u64::MAX, &data)).await).errno, Errno::EFBIG);
    let changed = v1::WriteRequest { crc32c: 1, ..write(0, 1, 0, &data) };
    assert_eq!(refused(client.write(changed).await).retry, Retry::SameTarget);
    let many = v1::StatRequest { header: header(0), objects: vec![object(1).unwrap(); 4097] };
    assert_eq!(refused(client.stat(many).await).errno, Errno::EINVAL);
    running.stop().await;
}

#[tokio::test]
async fn a_destroyed_object_is_stale_and_a_second_destroy_is_fine() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = start(&[folder.path()], 1).await;
    let client = &mut running.client;
    let data = Bytes::from_static(b"nacre");
    client.write(write(0, 1, 0, &data)).await.unwrap();
    let destroy = v1::DestroyRequest {
        header: header(0),
        objects: vec![object(1).unwrap()],
        tombstone: true,
    };
    client.destroy(destroy.clone()).await.unwrap();
    client.destroy(destroy).await.unwrap();
    let error = refused(client.read(read(0, 1, 0, 10)).await);
    assert_eq!((error.errno, error.retry), (Errno::ESTALE, Retry::AfterRefresh));
    assert_eq!(refused(client.write(write(0, 1, 0, &data)).await).errno, Errno::ESTALE);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_doubt_is_made_clean_by_and_by() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&[folder.path()], 1);
    config.clean_interval = Duration::from_millis(1);
    let server = Server::bind(config).await.unwrap();
    let (osts, scope) = (server.osts(), Scope::new());
    let own = scope.clone();
    let serving = tokio::spawn(async move { server.serve(own).await });
    let store = Arc::clone(&osts.0.values().next().unwrap().store);
    let id = "200000401-7-0.0.0.1".parse().unwrap();
    store.write(id, 0, b"nacre", Crc32c::of(b"nacre")).unwrap();
    assert_eq!(store.doubtful(), 1);
    tokio::time::timeout(Duration::from_secs(20), async {
        while store.doubtful() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();
    scope.join().await;
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn nothing_of_a_fenced_session_is_carried_out_not_even_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = start(&[folder.path()], 1).await;
    let data = Bytes::from_static(b"late");
    let of = |session, mut request: v1::WriteRequest| {
        request.header = Some(v1::ObjectHeader { session, ..request.header.unwrap() });
        request
    };
    running.client.write(of(7, write(0, 1, 0, &data))).await.unwrap();
    let fence = v1::FenceRequest { header: header(0), session: 7 };
    running.client.fence(fence.clone()).await.unwrap();
    running.client.fence(fence).await.unwrap();
    for boot in 2..4 {
        let refused = running.client.write(of(7, write(0, 1, 0, &data))).await.unwrap_err();
        let refused = from_status(&refused);
        assert_eq!((refused.errno, refused.retry), (Errno::EIO, Retry::Never));
        assert!(refused.message.contains("was evicted"), "{}", refused.message);
        running.client.write(of(8, write(0, 1, 0, &data))).await.unwrap();
        running.client.write(write(0, 1, 0, &data)).await.unwrap();
        running.stop().await;
        running = start(&[folder.path()], boot).await;
    }
    running.stop().await;
}
