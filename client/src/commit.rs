//! Written data on the disks of the object servers.
//!
//! Each answer of an OST bears a verifier. When a later one differs, the OST was restarted and may
//! have forgotten what was not committed: it is sent again, as long as it was kept.

use std::sync::Arc;

use bytes::Bytes;
use nacre_model::{Errno, Layout, ObjectId, OstIndex};
use nacre_proto::v1;

use crate::flush::BOUNCES_MAX;
use crate::inode::Inode;
use crate::join::join_all;
use crate::osc::{by_ost, layout_is_stale};
use crate::{Client, ClientError, Result};

impl Client {
    /// Returns when all objects of the file are on disk. What an OST has forgotten is sent again;
    /// where it cannot be, the open files are told.
    pub(crate) async fn commit(&self, inode: &Arc<Inode>) -> Result<()> {
        let landings = {
            let state = inode.state.lock();
            let suspect = state.objects.values().any(|object| object.suspect);
            if state.committed >= state.landings && !suspect {
                return Ok(());
            }
            state.landings
        };
        self.commit_all(inode).await?;
        let mut state = inode.state.lock();
        state.committed = state.committed.max(landings);
        Ok(())
    }

    async fn commit_all(&self, inode: &Arc<Inode>) -> Result<()> {
        for _ in 0..BOUNCES_MAX {
            let (groups, counts) = {
                let state = inode.state.lock();
                let objects = if state.inline { None } else { Some(&state.layout) };
                let objects = objects.into_iter().flat_map(|l: &Arc<Layout>| l.objects(inode.fid));
                let groups = by_ost(objects.map(|(id, ost, _)| (id, ost)));
                let count = |id: &ObjectId| state.objects.get(id).map_or(0, |o| o.retained.len());
                let ids = groups.values().flatten();
                let counts: Vec<_> = ids.map(|id| (*id, count(id))).collect();
                (groups, counts)
            };
            let calls = groups.iter().map(|(ost, ids)| self.inner.osc.commit(*ost, ids.clone()));
            let answers = join_all(calls).await;
            let mut again = Vec::new();
            for ((ost, ids), answer) in groups.iter().zip(answers) {
                let verifier = match answer {
                    Ok(verifier) => verifier,
                    Err(error) if layout_is_stale(&error) => {
                        inode.state.lock().layout_stale = true;
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                for id in ids {
                    let count = counts.iter().find(|(other, _)| other == id).map_or(0, |c| c.1);
                    if self.committed(inode, *id, verifier, count) {
                        again.push((*ost, *id));
                    }
                }
            }
            for (ost, id) in again {
                self.send_again(inode, ost, id).await?;
            }
            if !inode.state.lock().layout_stale {
                return Ok(());
            }
            self.refresh_layout(inode).await?;
        }
        Err(ClientError::refused(Errno::EIO, "the layout keeps changing"))
    }

    /// Takes in that an object was committed; true if what was written before must go again.
    fn committed(
        &self,
        inode: &Inode,
        id: ObjectId,
        verifier: Option<v1::Verifier>,
        count: usize,
    ) -> bool {
        let mut state = inode.state.lock();
        let Some(object) = state.objects.get_mut(&id) else { return false };
        let Some(first) = object.verifier else { return false };
        if object.suspect || verifier.is_some_and(|v| v != first) {
            object.suspect = true;
            return true;
        }
        let before = object.retained_bytes();
        object.retained.drain(..count.min(object.retained.len()));
        let freed = before.saturating_sub(object.retained_bytes());
        if object.retained.is_empty() {
            object.verifier = None;
            object.unretained = false;
        }
        drop(state);
        self.give_back_retained(freed);
        false
    }

    /// Sends what an OST may have forgotten.
    async fn send_again(&self, inode: &Inode, ost: OstIndex, id: ObjectId) -> Result<()> {
        let (retained, lost) = {
            let mut state = inode.state.lock();
            let object = state.objects.entry(id).or_default();
            object.suspect = false;
            object.verifier = None;
            (std::mem::take(&mut object.retained), std::mem::take(&mut object.unretained))
        };
        let bytes =
            |(_, data): &(u64, Vec<Bytes>)| data.iter().map(|d| d.len() as u64).sum::<u64>();
        let total: u64 = retained.iter().map(bytes).sum::<u64>();
        tracing::warn!(fid = %inode.fid, %ost, bytes = total, lost,
            "ost was restarted before a commit: sending again");
        let mut result = Ok(());
        for (offset, data) in &retained {
            result = self.inner.osc.write(ost, id, *offset, data, true).await.map(|_| ());
            if result.is_err() {
                break;
            }
        }
        self.give_back_retained(total);
        if lost {
            tracing::error!(fid = %inode.fid, %ost, "written data is lost: it was not kept");
            crate::metrics::lost_write();
            inode.state.lock().record_error(Errno::EIO);
        }
        result
    }

    /// Sends again what answers have shown to be at risk.
    pub(crate) async fn repair(&self, inode: &Arc<Inode>) -> Result<()> {
        let suspect = inode.state.lock().objects.values().any(|object| object.suspect);
        if suspect { self.commit(inode).await } else { Ok(()) }
    }
}
