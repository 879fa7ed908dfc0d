//! The MDT: its rows agree with each other, and say what objects there are.

use std::sync::Arc;

use anyhow::Context;
use nacre_mds::namespace::{ObjectState, check as check_rows, objects};
use nacre_mds::offline;
use nacre_node::{OsDisk, TargetFolder};

use super::report::Report;
use super::{Known, KnownObjects};

pub(super) fn check(folder: &TargetFolder, report: &mut Report) -> anyhow::Result<KnownObjects> {
    let name = folder.identity().name();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build().context("start the runtime")?;
    let disk = Arc::new(OsDisk::new(folder.path()));
    let fsname = folder.identity().fsname.clone();
    let Some(recovered) = runtime.block_on(offline::recover(disk, &fsname))? else {
        report.target(&name, "never ran".to_owned());
        return Ok(KnownObjects::new());
    };
    let view = recovered.view();
    for finding in check_rows(view).context("check the metadata")? {
        report.finding(&name, finding.to_string());
    }
    let mut known = KnownObjects::new();
    objects(view, &mut |id, ost, state| {
        let known = known.entry(ost).or_default();
        match state {
            ObjectState::Live | ObjectState::Pending => {
                known.insert(id, Known::Live);
            }
            // What is alive elsewhere in the metadata wins.
            ObjectState::Doomed => {
                known.entry(id).or_insert(Known::Doomed);
            }
        }
    })
    .context("list objects")?;
    let count: usize = known.values().map(std::collections::BTreeMap::len).sum();
    report.target(&name, format!("{} commands, {count} objects", recovered.applied()));
    Ok(known)
}
