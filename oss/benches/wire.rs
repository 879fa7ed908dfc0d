//! Reading and writing through the service, eight requests of 1 MiB in flight on loopback.
#![expect(missing_docs, reason = "made by macros")]
#![expect(clippy::unnecessary_wraps, reason = "fields of messages are optional")]

use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nacre_model::checksum::Crc32c;
use nacre_node::net::Channel;
use nacre_node::{FolderKind, Identity, Net, OsDisk, Scope, SystemClock, TcpNet};
use nacre_oss::{OssConfig, OstFolder, Server};
use nacre_proto::v1;
use nacre_proto::v1::oss_client::OssClient;

const LEN: u32 = 1 << 20;
/// Bytes of the object that is gone over.
const SPAN: u64 = 64 << 20;
const IN_FLIGHT: usize = 8;
const CHANNELS: usize = 4;

async fn start(folder: &std::path::Path, scope: Scope) -> Vec<OssClient<Channel>> {
    let net: Arc<dyn Net> = Arc::new(TcpNet);
    let mut config = OssConfig::new("127.0.0.1:0", Arc::clone(&net), Arc::new(SystemClock), 1);
    config.osts.push(OstFolder {
        identity: Identity::new(FolderKind::Ost, "nacre", 0, Vec::new()),
        disk: Arc::new(OsDisk::new(folder)),
    });
    let server = Server::bind(config).await.expect("listens");
    let address = server.local_addr().to_string();
    tokio::spawn(server.serve(scope));
    let client = |_| {
        let channel = nacre_node::net::channel(&net, &address).expect("an address");
        OssClient::new(channel)
            .max_decoding_message_size(nacre_proto::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(nacre_proto::MESSAGE_BYTES_MAX)
    };
    (0..CHANNELS).map(client).collect()
}

fn header() -> Option<v1::ObjectHeader> {
    Some(v1::ObjectHeader::default())
}

fn object() -> Option<v1::ObjectId> {
    let fid = Some(v1::Fid { seq: 0x2_0000_0401, oid: 1, ver: 0 });
    Some(v1::ObjectId { fid, component: 0, stripe: 0, generation: 0 })
}

/// Goes over the object once.
async fn go_over(clients: &[OssClient<Channel>], data: Option<&Bytes>) {
    let mut tasks = tokio::task::JoinSet::new();
    for (number, offset) in (0..SPAN).step_by(LEN as usize).enumerate() {
        if tasks.len() == IN_FLIGHT {
            tasks.join_next().await;
        }
        let mut client = clients.get(number % CHANNELS).expect("in range").clone();
        let data = data.cloned();
        tasks.spawn(async move {
            if let Some(data) = data {
                let crc32c = Crc32c::of(&data).0;
                let (header, object) = (header(), object());
                let request =
                    v1::WriteRequest { header, object, offset, data, crc32c, sync: false };
                client.write(request).await.expect("writes");
            } else {
                let request =
                    v1::ReadRequest { header: header(), object: object(), offset, len: LEN };
                let read = client.read(request).await.expect("reads").into_inner();
                assert_eq!(Crc32c::of(&read.data).0, read.crc32c);
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

fn wire(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder for the bench");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let scope = Scope::new();
    let clients = runtime.block_on(start(folder.path(), scope.clone()));
    let data: Bytes =
        (0..LEN).map(|i| (i.wrapping_mul(i) >> 5).to_le_bytes()[0]).collect::<Vec<_>>().into();
    let mut group = c.benchmark_group("through the wire");
    group.throughput(Throughput::Bytes(SPAN)).sample_size(10);
    group.bench_function("write", |b| b.iter(|| runtime.block_on(go_over(&clients, Some(&data)))));
    group.bench_function("read", |b| b.iter(|| runtime.block_on(go_over(&clients, None))));
    group.finish();
    drop(clients);
    runtime.block_on(scope.join());
}

criterion_group!(benches, wire);
criterion_main!(benches);
