//! File data through the client library, against real servers in one process.

#![expect(clippy::unwrap_used, reason = "a helper that fails has found what the test looks for")]
#![expect(clippy::indexing_slicing, reason = "as above")]

mod failure;
mod model;

use std::num::{NonZeroU16, NonZeroU64};
use std::sync::Arc;

use bytes::Bytes;
use nacre_client::{Caller, Client, CreateKind, NewNode, OpenFile, OpenFlags, WriteFlags};
use nacre_model::layout::{ComponentTemplate, EOF};
use nacre_model::{LayoutTemplate, Name};

/// A component of so many stripes of 64 KiB.
fn component(end: u64, stripes: u16) -> ComponentTemplate {
    ComponentTemplate {
        end,
        stripe_count: NonZeroU16::new(stripes),
        stripe_size: NonZeroU64::new(64 << 10).unwrap(),
        stripe_index: None,
        ost_list: Vec::new(),
        pool: String::new(),
    }
}

/// Two components, the second over four OSTs.
fn layout() -> LayoutTemplate {
    LayoutTemplate { components: vec![component(256 << 10, 2), component(EOF, 4)] }
}

fn node(layout: Option<LayoutTemplate>) -> NewNode {
    NewNode { kind: CreateKind::Regular, perm: 0o644, umask: 0, layout }
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

const BOTH: OpenFlags = OpenFlags::READ.union(OpenFlags::WRITE);

async fn make(client: &Client, file: &str, layout: Option<LayoutTemplate>) -> Arc<OpenFile> {
    let (root, file) = (client.root(), name(file));
    let made = client.create_open(Caller::default(), root, &file, node(layout), BOTH);
    made.await.unwrap().1
}

async fn read(client: &Client, file: &OpenFile, offset: u64, len: u64) -> Vec<u8> {
    client.read(file, offset, len).await.unwrap().concat()
}

async fn write(client: &Client, file: &OpenFile, offset: u64, data: &[u8]) {
    let data = Bytes::copy_from_slice(data);
    client.write(file, offset, data, WriteFlags::default()).await.unwrap();
}
