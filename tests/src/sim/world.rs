//! The simulated cluster: one MGS, one MDS, two OSSs of two OSTs each, on disks that outlive them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nacre_client::ClientConfig;
use nacre_mds::MdsConfig;
use nacre_mds::engine::Applier;
use nacre_mds::store::{Gathered, MemStore};
use nacre_model::map::Deployment;
use nacre_node::disk::mem::{Crash, MemDisk};
use nacre_node::tasks::Blocking;
use nacre_node::{Disk, FolderKind, Identity, Net, Scope};
use nacre_oss::{OssConfig, OstFolder};
use parking_lot::Mutex;
use turmoil::Sim;

use super::faults::{Host, OSTS_PER_OSS};
use super::net::{PORT, SimClock, SimNet};

/// Name of the file system.
pub(super) const FSNAME: &str = "nacre";
/// Object servers.
pub(super) const OSS_COUNT: u16 = 2;
const DISK_BYTES: u64 = 4 << 30;

/// What differs from seed to seed, other than the faults.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Of everything random in the servers.
    pub(super) seed: u64,
    /// Clients.
    pub(super) clients: u16,
    /// Bytes of a file that live in its inode.
    pub(super) inline_max: u32,
    /// How often the object stores make clean what is in doubt.
    pub(super) clean_interval: Duration,
}

/// What outlives the processes.
#[derive(Debug)]
pub(super) struct World {
    shape: Shape,
    /// Log and snapshots of the MDT.
    pub(super) mdt: MemDisk,
    store: Mutex<Arc<MemStore>>,
    mgs: Arc<nacre_mgs::store::MemStore>,
    /// Of each OST, in order.
    pub(super) osts: Vec<MemDisk>,
    mdt_identity: Identity,
    ost_identities: Vec<Identity>,
    boots: AtomicU64,
}

impl World {
    /// Empty disks.
    pub(super) fn new(shape: Shape) -> Arc<Self> {
        let mgs = || vec![address(Host::Mgs)];
        let count = OSS_COUNT * OSTS_PER_OSS;
        Arc::new(Self {
            shape,
            mdt: MemDisk::new(DISK_BYTES),
            store: Mutex::default(),
            mgs: Arc::default(),
            osts: (0..count).map(|_| MemDisk::new(DISK_BYTES)).collect(),
            mdt_identity: Identity::new(FolderKind::Mdt, FSNAME, 0, mgs()),
            ost_identities: (0..count)
                .map(|index| Identity::new(FolderKind::Ost, FSNAME, index, mgs()))
                .collect(),
            boots: AtomicU64::new(0),
        })
    }

    /// The metadata store as it is now.
    pub(super) fn store(&self) -> Arc<MemStore> {
        Arc::clone(&self.store.lock())
    }

    /// What a process leaves behind when it dies, or its machine's power fails. Without
    /// `keep_store` the metadata store, an index of the log, is lost as well.
    pub(super) fn crash(&self, host: Host, crash: Crash, seed: u64, keep_store: bool) {
        match host {
            Host::Mds => {
                self.mdt.crash(crash, seed);
                if !keep_store {
                    *self.store.lock() = Arc::default();
                }
            }
            Host::Oss(oss) => {
                for index in osts_of(oss) {
                    if let Some(disk) = self.osts.get(usize::from(index)) {
                        disk.crash(crash, seed.wrapping_add(index.into()));
                    }
                }
            }
            Host::Mgs | Host::Client(_) => {}
        }
    }

    /// Puts the servers into a simulation.
    pub(super) fn populate(self: &Arc<Self>, sim: &mut Sim<'_>) {
        let world = Arc::clone(self);
        sim.host(Host::Mgs.to_string(), move || {
            let config = world.mgs_config();
            async move { Ok(nacre_mgs::run(config, Scope::new()).await?) }
        });
        let world = Arc::clone(self);
        sim.host(Host::Mds.to_string(), move || {
            let config = world.mds_config();
            async move { Ok(nacre_mds::run(config, Scope::new()).await?) }
        });
        for oss in 0..OSS_COUNT {
            let world = Arc::clone(self);
            sim.host(Host::Oss(oss).to_string(), move || {
                let config = world.oss_config(oss);
                async move { Ok(nacre_oss::server::run(config, Scope::new()).await?) }
            });
        }
    }

    /// Another number at each start of a process.
    fn boot(&self) -> u64 {
        self.boots.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn mgs_config(&self) -> nacre_mgs::Config {
        nacre_mgs::Config {
            fsname: FSNAME.to_owned(),
            deployment: Deployment::Scratch,
            listen: everywhere(),
            net: Arc::new(SimNet),
            store: Arc::clone(&self.mgs) as Arc<dyn nacre_mgs::store::Store>,
            blocking: Blocking::Inline,
        }
    }

    fn mds_config(&self) -> MdsConfig {
        let mut seed = [0; 32];
        let parts = [self.shape.seed, self.boot(), 0, 0];
        for (to, from) in seed.iter_mut().zip(parts.iter().flat_map(|part| part.to_le_bytes())) {
            *to = from;
        }
        let mut config = MdsConfig::new(
            self.mdt_identity.clone(),
            &everywhere(),
            Arc::new(SimNet),
            Arc::new(SimClock),
            Arc::new(self.mdt.clone()),
            // What has not been handed down is lost with the process.
            Arc::new(Gathered::new(self.store())),
        );
        config.advertise = vec![address(Host::Mds)];
        config.blocking = Blocking::Inline;
        config.applier = Applier::Task;
        config.inline_max = self.shape.inline_max;
        config.seed = seed;
        config
    }

    fn oss_config(&self, oss: u16) -> OssConfig {
        let net: Arc<dyn Net> = Arc::new(SimNet);
        let boot = self.boot();
        let mut config = OssConfig::new(&everywhere(), net, Arc::new(SimClock), boot);
        config.server = Host::Oss(oss).to_string();
        config.advertise = vec![address(Host::Oss(oss))];
        config.io_threads = None;
        config.clean_interval = self.shape.clean_interval;
        for index in osts_of(oss) {
            let at = usize::from(index);
            if let (Some(identity), Some(disk)) = (self.ost_identities.get(at), self.osts.get(at)) {
                let disk: Arc<dyn Disk> = Arc::new(disk.clone());
                config.osts.push(OstFolder { identity: identity.clone(), disk });
            }
        }
        config
    }

    /// Settings of a client.
    pub(super) fn client_config(&self, client: u16) -> ClientConfig {
        let mut config = ClientConfig::new(
            Arc::new(SimNet),
            Arc::new(SimClock),
            Scope::new(),
            vec![address(Host::Mgs)],
            FSNAME,
        );
        config.client_uuid = format!("{}-{}", Host::Client(client), self.shape.seed);
        config.hostname = Host::Client(client).to_string();
        // What the workers expect of a close: that an eviction loses only what is open.
        config.sync_on_close = true;
        config
    }
}

fn osts_of(oss: u16) -> std::ops::Range<u16> {
    oss * OSTS_PER_OSS..(oss + 1) * OSTS_PER_OSS
}

fn everywhere() -> String {
    format!("0.0.0.0:{PORT}")
}

fn address(host: Host) -> String {
    format!("{host}:{PORT}")
}
