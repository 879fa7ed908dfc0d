//! An object store on the folder: what each byte of its objects may be after a cut.

use std::path::Path;
use std::sync::Arc;

use nacre_model::checksum::Crc32c;
use nacre_model::{Fid, ObjectId, OstIndex};
use nacre_node::{OsDisk, SystemClock};
use nacre_oss::{ObjectStore, OssError, StoreOptions};
use rand::Rng;
use rand::rngs::StdRng;

/// Objects of the load.
const OBJECTS: u32 = 4;
/// No object is longer.
const BYTES_MAX: usize = 48 << 10;

/// Opens the store in a folder, as an OST does.
pub fn open(folder: &Path, boot_id: u64) -> Result<ObjectStore, OssError> {
    // The kernel does not pass `syncfs` on to a FUSE folder, but says that it was done.
    let options =
        StoreOptions { sync_all_from: usize::MAX, ..StoreOptions::new(OstIndex(0), boot_id) };
    ObjectStore::open(Arc::new(OsDisk::new(folder)), Arc::new(SystemClock), options)
}

fn id(oid: u32) -> ObjectId {
    let fid = Fid { seq: Fid::SEQ_NORMAL, oid, ver: 0 };
    ObjectId { fid, component: 0, stripe: 0, generation: 0 }
}

/// One object: its bytes after each operation since it was last made durable, that state first.
#[derive(Debug, Clone)]
struct Object {
    since: Vec<Vec<u8>>,
}

impl Object {
    fn now(&self) -> Vec<u8> {
        self.since.last().cloned().unwrap_or_default()
    }

    fn committed(&mut self) {
        self.since = vec![self.now()];
    }

    /// Whether the bytes may be what a cut left.
    fn check(&self, found: &[u8]) -> anyhow::Result<()> {
        let sizes = || self.since.iter().map(Vec::len);
        let (least, most) = (sizes().min().unwrap_or(0), sizes().max().unwrap_or(0));
        let size = found.len();
        anyhow::ensure!((least..=most).contains(&size), "{size} bytes, not {least} to {most}");
        for (at, byte) in found.iter().enumerate() {
            // Where there was nothing at some time, a hole may show.
            let was = |state: &Vec<u8>| state.get(at).copied().unwrap_or(0) == *byte;
            anyhow::ensure!(self.since.iter().any(was), "byte {at} is {byte}, which it never was");
        }
        Ok(())
    }
}

/// All objects of the load, as they were acknowledged.
#[derive(Debug)]
pub struct Objects {
    all: Vec<(ObjectId, Object)>,
}

impl Default for Objects {
    fn default() -> Self {
        let empty = || Object { since: vec![Vec::new()] };
        Self { all: (1..=OBJECTS).map(|oid| (id(oid), empty())).collect() }
    }
}

impl Objects {
    /// Works until the disk fails, or `operations` are done. Says how many.
    pub fn work(&mut self, store: &ObjectStore, rng: &mut StdRng, operations: u64) -> u64 {
        for done in 0..operations {
            if self.step(store, rng).is_err() {
                return done;
            }
        }
        operations
    }

    fn step(&mut self, store: &ObjectStore, rng: &mut StdRng) -> Result<(), OssError> {
        if rng.random_ratio(1, 8) {
            store.clean_round()?;
            return Ok(());
        }
        let at = rng.random_range(0..self.all.len());
        let Some((id, object)) = self.all.get_mut(at) else { return Ok(()) };
        let mut bytes = object.now();
        match rng.random_range(0..8) {
            0..4 => {
                let (from, len) =
                    (rng.random_range(0..BYTES_MAX / 2), rng.random_range(1..BYTES_MAX / 2));
                let mut data = vec![0; len];
                rng.fill(data.as_mut_slice());
                bytes.resize(bytes.len().max(from + len), 0);
                bytes.splice(from..from + len, data.iter().copied());
                object.since.push(bytes);
                store.write(*id, from as u64, &data, Crc32c::of(&data))?;
            }
            4 => {
                bytes.resize(rng.random_range(0..BYTES_MAX), 0);
                let size = bytes.len() as u64;
                object.since.push(bytes);
                if store.truncate(*id, size)?.is_none() {
                    // There is no such object, and this does not make it.
                    object.since.pop();
                }
            }
            5 => {
                let (from, len) = (rng.random_range(0..BYTES_MAX / 2), BYTES_MAX / 4);
                bytes.iter_mut().skip(from).take(len).for_each(|byte| *byte = 0);
                object.since.push(bytes);
                store.punch(*id, from as u64, len as u64)?;
            }
            _ => {
                store.commit(&[*id])?;
                object.committed();
            }
        }
        Ok(())
    }

    /// Reads everything, which verifies every checksum. What is found is what is there from now
    /// on, and is made durable.
    pub fn check(&mut self, store: &ObjectStore) -> anyhow::Result<()> {
        for (id, object) in &mut self.all {
            let read = store.read(*id, 0, u32::try_from(BYTES_MAX)?)?;
            object.check(&read.data).map_err(|error| error.context(format!("object {id}")))?;
            object.since.push(read.data.to_vec());
        }
        let ids: Vec<ObjectId> = self.all.iter().map(|(id, _)| *id).collect();
        store.commit(&ids)?;
        self.all.iter_mut().for_each(|(_, object)| object.committed());
        Ok(())
    }
}
