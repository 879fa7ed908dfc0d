//! Changes of the namespace that this client makes itself, and what they make of what it knows.

use nacre_model::Fid;
use nacre_proto::v1::change_request::Op;

use crate::cache::Changing;
use crate::mdc::Changed;
use crate::types::Caller;
use crate::{Client, Result};

impl Client {
    /// Makes a change that is about these inodes. When it was made, [`Changing::done`] takes in what
    /// became of them; when it was refused, nothing did.
    pub(crate) async fn change(
        &self,
        caller: Caller,
        about: &[Fid],
        name: &'static str,
        sync: bool,
        op: Op,
    ) -> Result<(Changed, Changing<'_>)> {
        let changing = self.inner.cache.change(about);
        match self.inner.mdc.change(name, caller, sync, op).await {
            Ok(changed) => Ok((changed, changing)),
            Err(error) => {
                if error.is_refusal() {
                    changing.done(&[]);
                }
                // Else whether it happened is not known.
                Err(error)
            }
        }
    }

    /// Makes a change of one inode.
    pub(crate) async fn change_inode(
        &self,
        caller: Caller,
        fid: Fid,
        name: &'static str,
        sync: bool,
        op: Op,
    ) -> Result<Changed> {
        let (changed, changing) = self.change(caller, &[fid], name, sync, op).await?;
        changing.done_file(fid, &changed);
        Ok(changed)
    }
}
