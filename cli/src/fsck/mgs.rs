//! The MGS: its record can be read, and agrees with itself.

use nacre_mgs::store::{DiskStore, Store, StoreError};
use nacre_node::TargetFolder;

use super::report::Report;

pub(super) fn check(folder: &TargetFolder, report: &mut Report) -> anyhow::Result<()> {
    let store = DiskStore::open(folder.path())?;
    match store.load() {
        Ok(None) => report.target("MGS", "never ran".to_owned()),
        Ok(Some(state)) => {
            let (version, targets) = (state.map.version, state.map.targets.len());
            report.target("MGS", format!("map version {version}, {targets} targets"));
            if state.map.fsname != folder.identity().fsname {
                let what = format!("the map is of file system `{}`", state.map.fsname);
                report.finding("MGS", what);
            }
        }
        Err(error @ StoreError::Record(_)) => {
            report.finding("MGS", nacre_node::register::Chain(&error).to_string());
        }
        Err(error @ StoreError::Io(_)) => return Err(error.into()),
    }
    Ok(())
}
