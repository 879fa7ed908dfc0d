//! When all is over: the metadata and the objects as they lie on the disks.

use std::collections::BTreeMap;

use nacre_mds::namespace::{self, ObjectState};
use nacre_mds::store::View;
use nacre_model::{ObjectId, OstIndex};
use nacre_node::disk::mem::MemDisk;
use nacre_oss::check::{self as objects, Finding};

use super::world::World;

/// Findings shown of each kind.
const SHOWN: usize = 5;

/// Everything that must not be. `leaks`: whether objects that the metadata does not know of are
/// among it, which a power loss of the metadata server may leave.
pub(super) fn check(world: &World, leaks: bool) -> Result<(), String> {
    let store = world.store();
    let view: &dyn View = &*store;
    let findings = namespace::check(view).map_err(|error| format!("namespace check: {error}"))?;
    if !findings.is_empty() {
        let shown: Vec<_> = findings.iter().take(SHOWN).map(ToString::to_string).collect();
        return Err(format!("namespace: {}", shown.join("; ")));
    }
    let mut known: BTreeMap<(OstIndex, ObjectId), ObjectState> = BTreeMap::new();
    namespace::objects(view, &mut |id, ost, state| {
        known.insert((ost, id), state);
    })
    .map_err(|error| format!("objects of the namespace: {error}"))?;
    let doomed = known.values().filter(|state| **state == ObjectState::Doomed).count();
    if doomed > 0 {
        return Err(format!("{doomed} objects are still to be destroyed"));
    }
    for (index, disk) in (0_u16..).zip(&world.osts) {
        ost(OstIndex(index), disk, &known, leaks)?;
    }
    Ok(())
}

fn ost(
    index: OstIndex,
    disk: &MemDisk,
    known: &BTreeMap<(OstIndex, ObjectId), ObjectState>,
    leaks: bool,
) -> Result<(), String> {
    let mut wrong = Vec::new();
    let summary = objects::check(disk, true, |finding| match finding {
        Finding::Object(object) => {
            if !object.corrupt.is_empty() {
                wrong.push(format!("{} is corrupt at {:?}", object.id, object.corrupt));
            }
            if leaks && !object.destroyed && !known.contains_key(&(index, object.id)) {
                wrong.push(format!("{} is of no file", object.id));
            }
        }
        Finding::Leftover(_) => {}
        Finding::Stranger(path) => wrong.push(format!("{path} does not belong")),
    });
    summary.map_err(|error| format!("{index}: {}", super::session::chain(&error)))?;
    if wrong.is_empty() {
        return Ok(());
    }
    wrong.truncate(SHOWN);
    Err(format!("{index}: {}", wrong.join("; ")))
}
