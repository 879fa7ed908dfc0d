//! Channels to the targets of the map: found by index, reused, remade when an address changes.

use std::collections::HashMap;
use std::sync::Arc;

use nacre_model::{ClusterMap, OstIndex, TargetKind};
use nacre_proto::MESSAGE_BYTES_MAX;
use nacre_proto::v1::mds_client::MdsClient;
use nacre_proto::v1::oss_client::OssClient;
use parking_lot::Mutex;

use crate::mgc::MapWatch;
use crate::net::{self, Channel, Net};

/// Channels to one server's address, used in turn: one HTTP/2 connection is one task's work.
const DATA_CHANNELS: usize = 4;

/// Why a target cannot be addressed.
#[derive(Debug, thiserror::Error)]
pub enum NoPeer {
    /// The MGS has not been heard of yet.
    #[error("no cluster map yet")]
    NoMap,
    /// The map does not have it.
    #[error("{kind:?} {index:#06x} is not in the cluster map")]
    NoTarget {
        /// MDT or OST.
        kind: TargetKind,
        /// Its index.
        index: u16,
    },
    /// Its address cannot be used.
    #[error("address of {kind:?} {index:#06x}")]
    Address {
        /// MDT or OST.
        kind: TargetKind,
        /// Its index.
        index: u16,
        /// What is wrong with it.
        #[source]
        source: tonic::transport::Error,
    },
}

/// Finds servers by what they serve.
#[derive(Debug, Clone)]
pub struct Peers {
    net: Arc<dyn Net>,
    map: MapWatch,
    channels: Arc<Mutex<HashMap<String, Channels>>>,
}

#[derive(Debug)]
struct Channels {
    data: Vec<Channel>,
    next: usize,
}

impl Peers {
    /// Over this network, by this map.
    pub fn new(net: Arc<dyn Net>, map: MapWatch) -> Self {
        Self { net, map, channels: Arc::default() }
    }

    /// The newest map.
    pub fn map(&self) -> Option<Arc<ClusterMap>> {
        self.map.borrow().clone()
    }

    /// Follows the map.
    pub fn watch(&self) -> MapWatch {
        self.map.clone()
    }

    /// A client of the MDS.
    pub fn mds(&self) -> Result<MdsClient<Channel>, NoPeer> {
        let channel = self.channel(TargetKind::Mdt, 0)?;
        Ok(MdsClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// A client of the OSS that has this OST.
    pub fn oss(&self, ost: OstIndex) -> Result<OssClient<Channel>, NoPeer> {
        let channel = self.channel(TargetKind::Ost, ost.0)?;
        Ok(OssClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }

    fn channel(&self, kind: TargetKind, index: u16) -> Result<Channel, NoPeer> {
        let map = self.map().ok_or(NoPeer::NoMap)?;
        let target = map.targets.get(&(kind, index));
        let address = target
            .and_then(|target| target.addresses.first())
            .ok_or(NoPeer::NoTarget { kind, index })?;
        let mut channels = self.channels.lock();
        if !channels.contains_key(address) {
            let make = || net::channel(&self.net, address);
            let data = (0..DATA_CHANNELS)
                .map(|_| make())
                .collect::<Result<_, _>>()
                .map_err(|source| NoPeer::Address { kind, index, source })?;
            // Addresses that no target has any more are dropped with their connections.
            let in_use = |a: &String| map.targets.values().any(|t| t.addresses.contains(a));
            channels.retain(|address, _| in_use(address));
            channels.insert(address.clone(), Channels { data, next: 0 });
        }
        let entry = channels.get_mut(address).ok_or(NoPeer::NoTarget { kind, index })?;
        entry.next = entry.next.wrapping_add(1);
        let at = entry.next % DATA_CHANNELS;
        entry.data.get(at).cloned().ok_or(NoPeer::NoTarget { kind, index })
    }
}
