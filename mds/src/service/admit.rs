//! From a client's change to a command: everything that the applier must know and the namespace
//! must not find out by itself.
//!
//! All of this runs on the applier, over the newest state: whoever opens, writes or unlinks the
//! same file comes wholly before or wholly after.

use std::sync::Arc;

use nacre_model::layout::ComponentTemplate;
use nacre_model::{ClusterMap, Fid, FileKind, LayoutTemplate, OstIndex};
use nacre_proto::v1;
use nacre_proto::v1::change_request::Op as Wire;
use parking_lot::Mutex;

use super::check::touched;
use super::{batch, touch};
use crate::command::{Command, Op, Origin};
use crate::error::Refusal;
use crate::leases::{Lease, Mode, Touch};
use crate::namespace::{NsError, read};
use crate::opens::OpenTable;
use crate::placement::{PlacementError, Wish};
use crate::recalls;
use crate::record::{Counters, Record, key};
use crate::shared::Shared;
use crate::store::View;

/// What admission has noted in the open table, to be settled after the outcome.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Nobody had them open: opens of them wait.
    pub(super) leaving: Vec<Fid>,
    /// Somebody had them open.
    pub(super) held: Vec<Fid>,
    /// A handle registered for the file that is expected to be made or found.
    pub(super) opened: Option<Fid>,
    /// A lease on the inode that is expected to be made: nobody else can know it yet.
    pub(super) made: Option<(Fid, Lease)>,
    /// The same of a batch, by the number of the change.
    pub(super) made_in_batch: Vec<(u32, Fid)>,
}

impl Marks {
    /// An inode is about to lose a name.
    pub(super) fn victim(&mut self, shared: &Shared, fid: Fid) {
        let held = shared.opens.lock().held_or_leaving(fid);
        if held { self.held.push(fid) } else { self.leaving.push(fid) }
    }
}

/// One change on its way to the applier.
pub(super) struct Admission {
    pub(super) shared: Arc<Shared>,
    pub(super) origin: Origin,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) op: Wire,
    /// What its names led to when leases were recalled.
    pub(super) led: Vec<Touch>,
    pub(super) marks: Arc<Mutex<Marks>>,
}

impl Admission {
    /// The command. Errors of lookups are not told: the namespace, which also knows of resends,
    /// says what is wrong.
    pub(super) fn command(mut self, view: &dyn View) -> Result<Command, Refusal> {
        if !touch::still(view, &self.op, &self.led) {
            return Err(Refusal::Moved);
        }
        let mut marks = Marks::default();
        let mut used_by_others = Vec::new();
        let mut placement = Vec::new();
        if let Wire::Create(op) = &mut self.op {
            if let Some(parent) = op.parent {
                default_layout(&self.shared, view, parent.into(), op);
            }
            create(&self.shared, view, self.origin.session, op, &mut marks);
        }
        if let Wire::Batch(op) = &mut self.op {
            let session = self.origin.session;
            used_by_others = batch::admit(&self.shared, view, session, op, &mut marks);
        }
        match &self.op {
            Wire::Unlink(op) => self.victim(view, op.parent, &op.name, &mut marks),
            Wire::Rmdir(op) => self.victim(view, op.parent, &op.name, &mut marks),
            Wire::Rename(op) if !op.exchange => {
                self.victim(view, op.new_parent, &op.new_name, &mut marks);
            }
            Wire::Settle(_) | Wire::Setattr(_) => {
                let opens = self.shared.opens.lock();
                used_by_others.extend(self::used_by_others(&opens, self.origin.session, &self.op));
            }
            Wire::Instantiate(op) => {
                if let Some(fid) = op.fid {
                    let range = (op.offset, op.len);
                    placement = place_range(&self.shared, view, fid.into(), range, &op.avoid)?;
                }
            }
            Wire::Promote(op) if !op.commit => placement = self.promote(view, op)?,
            Wire::Create(_)
            | Wire::Rename(_)
            | Wire::Link(_)
            | Wire::Setxattr(_)
            | Wire::Removexattr(_)
            | Wire::WriteInline(_)
            | Wire::Promote(_)
            | Wire::SetLayout(_)
            | Wire::Batch(_) => {}
        }
        let held_open = marks.held.clone();
        *self.marks.lock() = marks;
        let op = Op::Change {
            uid: self.uid,
            gid: self.gid,
            op: self.op,
            new_fid: None,
            placement,
            held_open,
            used_by_others,
        };
        Ok(Command { time: self.shared.clock.now(), origin: Some(self.origin), op })
    }

    fn victim(&self, view: &dyn View, parent: Option<v1::Fid>, name: &[u8], marks: &mut Marks) {
        let Some(parent) = parent.map(Fid::from) else { return };
        if let Ok(Some(fid)) = read::lookup_fid(view, parent, name) {
            marks.victim(&self.shared, fid);
        }
    }

    fn promote(
        &self,
        view: &dyn View,
        op: &v1::PromoteOp,
    ) -> Result<Vec<(u16, Vec<OstIndex>)>, Refusal> {
        match op.fid.and_then(|fid| read::getattr(view, fid.into()).ok()) {
            // Inline bytes all lie in the first component.
            Some(attr) if attr.kind == FileKind::Regular => {
                place(&self.shared, view, attr.fid, &[0], &op.avoid)
            }
            Some(_) | None => Ok(Vec::new()),
        }
    }
}

/// Chooses OSTs for components of a file.
fn place(
    shared: &Shared,
    view: &dyn View,
    fid: Fid,
    components: &[usize],
    avoid: &[u32],
) -> Result<Vec<(u16, Vec<OstIndex>)>, Refusal> {
    if components.is_empty() {
        return Ok(Vec::new());
    }
    let template = read::template(view, fid)?;
    let map = shared.osts.map().ok_or(PlacementError::NoMap)?;
    let avoid: Vec<OstIndex> =
        avoid.iter().filter_map(|ost| u16::try_from(*ost).ok()).map(OstIndex).collect();
    let candidates = shared.osts.candidates(&map);
    let mut placement = Vec::with_capacity(components.len());
    for index in components {
        let component = template.components.get(*index);
        let component = component.ok_or(NsError::Inconsistent { fid, what: "template" })?;
        let wish = Wish { avoid: &avoid, ..wish(&map, component)? };
        let chosen = shared.placer.lock().place(&wish, &candidates)?;
        let index =
            u16::try_from(*index).map_err(|_| NsError::Inconsistent { fid, what: "component" })?;
        placement.push((index, chosen));
    }
    Ok(placement)
}

/// Chooses OSTs for those components that a range touches and that have none.
pub(super) fn place_range(
    shared: &Shared,
    view: &dyn View,
    fid: Fid,
    (offset, len): (u64, u64),
    avoid: &[u32],
) -> Result<Vec<(u16, Vec<OstIndex>)>, Refusal> {
    let Some(layout) = read::layout(view, fid).ok().and_then(|file| file.layout) else {
        return Ok(Vec::new());
    };
    let components = layout.components.iter().enumerate();
    let wanted: Vec<usize> = components
        .filter(|(index, component)| {
            !component.instantiated() && touched(&layout, *index, offset, len)
        })
        .map(|(index, _)| index)
        .collect();
    place(shared, view, fid, &wanted, avoid)
}

/// The inode whose data or size the change is about, if other sessions use it so that it matters:
/// see [`Op::Change`].
pub(super) fn used_by_others(opens: &OpenTable, session: u64, op: &Wire) -> Option<Fid> {
    let (fid, used) = if let Wire::Settle(op) = op {
        let fid = Fid::from(op.fid?);
        (fid, opens.others_write(session, fid))
    } else if let Wire::Setattr(op) = op {
        let fid = Fid::from(op.fid?);
        (fid, op.size == Some(0) && opens.others_hold(session, fid))
    } else {
        return None;
    };
    used.then_some(fid)
}

/// A component's wish, with the members of its pool.
fn wish<'a>(
    map: &'a ClusterMap,
    component: &'a ComponentTemplate,
) -> Result<Wish<'a>, PlacementError> {
    let pool = match component.pool.as_str() {
        "" => None,
        name => {
            let members = map.pools.get(name);
            Some((name, members.ok_or_else(|| PlacementError::NoPool(name.to_owned()))?.as_slice()))
        }
    };
    Ok(Wish {
        stripe_count: component.stripe_count.map(std::num::NonZeroU16::get),
        stripe_index: component.stripe_index,
        ost_list: &component.ost_list,
        pool,
        avoid: &[],
    })
}

/// Whether the file system has the pools and OSTs that a template names.
pub(super) fn exists(map: &ClusterMap, template: &LayoutTemplate) -> Result<(), PlacementError> {
    let known: Vec<_> = map.osts().map(|(index, _)| index).collect();
    for component in &template.components {
        let wish = wish(map, component)?;
        for ost in wish.ost_list.iter().chain(&wish.stripe_index).copied() {
            if !known.contains(&ost) {
                return Err(PlacementError::NoOst { ost, of: "in this file system".to_owned() });
            }
            if let Some((pool, members)) = wish.pool
                && !members.contains(&ost)
            {
                return Err(PlacementError::NoOst { ost, of: format!("in pool `{pool}`") });
            }
        }
    }
    Ok(())
}

/// A new file in a directory without a default of its own gets the cluster's, if it has one.
pub(super) fn default_layout(shared: &Shared, view: &dyn View, parent: Fid, op: &mut v1::CreateOp) {
    let regular = FileKind::from_mode(op.mode) == Some(FileKind::Regular);
    if !regular || op.layout.is_some() {
        return;
    }
    let Some(template) = shared.osts.map().and_then(|map| map.default_layout.clone()) else {
        return;
    };
    if let Ok(None) = read::default_template(view, parent) {
        op.layout = Some(template.into());
    }
}

/// Registers the handle of a create that also opens, for the file that it will find or make, and
/// notes the lease on what it will make.
fn create(shared: &Shared, view: &dyn View, session: u64, op: &v1::CreateOp, marks: &mut Marks) {
    if op.handle == 0 && !shared.leases.lock().serves(session) {
        return;
    }
    let Some(parent) = op.parent.map(Fid::from) else { return };
    let found = match op.name.as_ref() {
        b"" => None,
        name => read::lookup_fid(view, parent, name).ok().flatten(),
    };
    let fid = match found {
        // EEXIST, unless it is a resend: then the outcome says what to open.
        Some(_) if op.exclusive => return,
        Some(fid) => fid,
        None => {
            let Some(fid) = next_fid(view) else { return };
            let directory = FileKind::from_mode(op.mode) == Some(FileKind::Directory);
            let only_told = directory && !shared.exclusive_directories;
            let want = if only_told { Mode::Shared } else { Mode::Exclusive };
            marks.made = recalls::grant(shared, session, fid, want).map(|lease| (fid, lease));
            fid
        }
    };
    if op.handle != 0 {
        let registered = shared.opens.lock().register(session, op.handle, fid, op.handle_write);
        marks.opened = matches!(registered, Ok(true)).then_some(fid);
    }
}

/// The fid that the namespace will give to the next inode.
fn next_fid(view: &dyn View) -> Option<Fid> {
    let row = view.get(&key::counters()).ok()??;
    Counters::decode(row).ok()?.take_fid()
}
