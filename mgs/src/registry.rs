//! The rules of membership: pure. Each request makes a next [`State`] from the one before; who
//! calls makes it durable before anybody sees it.

use std::collections::BTreeMap;
use std::time::Duration;

use nacre_model::{ClusterMap, Fid, MdtIndex, OstIndex, Target, TargetKind, TargetState};

use crate::error::MgsError;
use crate::state::{SequenceRange, State, TargetKey};

/// A server that is silent for so long is down.
pub const SILENCE_MAX: Duration = Duration::from_secs(3);
/// Most sequences of one allocation.
pub const SEQUENCES_MAX: u32 = 1024;
/// Most addresses of one server.
pub const ADDRESSES_MAX: usize = 8;
/// Most targets of one server.
pub const SERVER_TARGETS_MAX: usize = 256;
/// Most pools of a file system.
pub const POOLS_MAX: usize = 1024;

/// A server's request to be in the map.
#[derive(Debug, Clone)]
pub struct Registration {
    /// Where peers reach it.
    pub addresses: Vec<String>,
    /// Kind, index and uuid of what it serves.
    pub targets: Vec<(TargetKey, String)>,
    /// Of the process.
    pub boot_id: u64,
}

/// When each target was last heard of, by a clock that only goes forward.
pub type Heard = BTreeMap<TargetKey, Duration>;

/// What a change of a pool does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolChange {
    /// Makes an empty one.
    New,
    /// Adds members.
    Add,
    /// Removes members.
    Remove,
    /// Removes an empty one.
    Destroy,
}

/// Brings targets in. The map's version rises only if something in it changes.
pub fn register(state: &State, request: &Registration) -> Result<State, MgsError> {
    check_registration(state, request)?;
    let mut next = state.clone();
    for (key, uuid) in &request.targets {
        let rebooted = next.boots.insert(*key, request.boot_id) != Some(request.boot_id);
        let target = next.map.targets.entry(*key).or_insert_with(|| Target {
            kind: key.0,
            index: key.1,
            uuid: uuid.clone(),
            state: TargetState::Down,
            addresses: Vec::new(),
            epoch: 0,
            no_create: false,
        });
        if rebooted || target.addresses != request.addresses {
            target.epoch = target.epoch.saturating_add(1);
            target.addresses.clone_from(&request.addresses);
        }
        target.state = TargetState::Up;
    }
    Ok(raised(state, next))
}

fn check_registration(state: &State, request: &Registration) -> Result<(), MgsError> {
    let limits = [
        ("addresses of a server", request.addresses.len(), ADDRESSES_MAX),
        ("targets of a server", request.targets.len(), SERVER_TARGETS_MAX),
    ];
    for (what, len, max) in limits {
        if !(1..=max).contains(&len) {
            return Err(MgsError::Limit { what, max });
        }
    }
    for address in &request.addresses {
        nacre_node::identity::check_address(address).map_err(MgsError::Address)?;
    }
    for ((kind, index), uuid) in &request.targets {
        if *kind == TargetKind::Mdt && *index != 0 {
            return Err(MgsError::MdtIndex(*index));
        }
        if let Some(known) = state.map.targets.get(&(*kind, *index))
            && known.uuid != *uuid
        {
            return Err(MgsError::UuidTaken {
                kind: *kind,
                index: *index,
                fsname: state.map.fsname.clone(),
                registered: known.uuid.clone(),
                offered: uuid.clone(),
            });
        }
    }
    Ok(())
}

/// A heartbeat: `None` when the server must register (again).
pub fn heartbeat(state: &State, keys: &[TargetKey], boot_id: u64, stopping: bool) -> Option<State> {
    let known = |key| state.boots.get(key) == Some(&boot_id);
    if keys.is_empty() || !keys.iter().all(known) {
        return None;
    }
    let mut next = state.clone();
    let new_state = if stopping { TargetState::Down } else { TargetState::Up };
    for key in keys {
        if let Some(target) = next.map.targets.get_mut(key) {
            target.state = new_state;
        }
    }
    Some(raised(state, next))
}

/// Calls those down that have been silent for too long. One never heard of counts from `heard`'s
/// start, which is that of this process.
pub fn expire(state: &State, heard: &Heard, now: Duration) -> State {
    let mut next = state.clone();
    for (key, target) in &mut next.map.targets {
        let last = heard.get(key).copied().unwrap_or_default();
        if now.saturating_sub(last) >= SILENCE_MAX {
            target.state = TargetState::Down;
        }
    }
    raised(state, next)
}

/// Gives the next `count` sequences to an MDT.
pub fn allocate_sequences(
    state: &State,
    mdt: MdtIndex,
    uuid: &str,
    count: u32,
) -> Result<(State, SequenceRange), MgsError> {
    if !(1..=SEQUENCES_MAX).contains(&count) {
        let max = usize::try_from(SEQUENCES_MAX).unwrap_or(usize::MAX);
        return Err(MgsError::Limit { what: "sequences of one allocation", max });
    }
    let no_target = MgsError::NoTarget { kind: TargetKind::Mdt, index: mdt.0 };
    let target = state.map.mdt(mdt).ok_or(no_target)?;
    if target.uuid != uuid {
        return Err(MgsError::UuidTaken {
            kind: TargetKind::Mdt,
            index: mdt.0,
            fsname: state.map.fsname.clone(),
            registered: target.uuid.clone(),
            offered: uuid.to_owned(),
        });
    }
    let range = SequenceRange { first: state.next_sequence(), count: count.into(), mdt };
    if range.first.saturating_add(range.count) > Fid::SEQ_END {
        return Err(MgsError::NoSequences);
    }
    let mut next = state.clone();
    match next.sequences.last_mut() {
        Some(last) if last.mdt == mdt => last.count = last.count.saturating_add(range.count),
        Some(_) | None => next.sequences.push(range),
    }
    Ok((next, range))
}

/// `lfs pool_*`.
pub fn change_pool(
    state: &State,
    change: PoolChange,
    pool: &str,
    osts: &[OstIndex],
) -> Result<State, MgsError> {
    for ost in osts {
        if state.map.ost(*ost).is_none() {
            return Err(MgsError::NoTarget { kind: TargetKind::Ost, index: ost.0 });
        }
    }
    let mut next = state.clone();
    let pools = &mut next.map.pools;
    let no_pool = || MgsError::NoPool(pool.to_owned());
    match change {
        PoolChange::New if pools.contains_key(pool) => {
            return Err(MgsError::PoolExists(pool.to_owned()));
        }
        PoolChange::New if pools.len() >= POOLS_MAX => {
            return Err(MgsError::Limit { what: "pools", max: POOLS_MAX });
        }
        PoolChange::New => {
            pools.insert(pool.to_owned(), Vec::new());
        }
        PoolChange::Add => {
            add_members(pool, pools.get_mut(pool).ok_or_else(no_pool)?, osts)?;
        }
        PoolChange::Remove => {
            let members = pools.get_mut(pool).ok_or_else(no_pool)?;
            if let Some(ost) = osts.iter().find(|ost| !members.contains(ost)) {
                return Err(MgsError::NotInPool { ost: *ost, pool: pool.to_owned() });
            }
            members.retain(|member| !osts.contains(member));
        }
        PoolChange::Destroy => {
            if !pools.get(pool).ok_or_else(no_pool)?.is_empty() {
                return Err(MgsError::PoolBusy(pool.to_owned()));
            }
            pools.remove(pool);
        }
    }
    Ok(raised(state, next))
}

fn add_members(pool: &str, members: &mut Vec<OstIndex>, osts: &[OstIndex]) -> Result<(), MgsError> {
    for ost in osts {
        if members.contains(ost) {
            return Err(MgsError::InPool { ost: *ost, pool: pool.to_owned() });
        }
        members.push(*ost);
    }
    members.sort_unstable();
    Ok(())
}

/// Opens or closes a target for new objects.
pub fn set_no_create(state: &State, key: TargetKey, no_create: bool) -> Result<State, MgsError> {
    let mut next = state.clone();
    let missing = MgsError::NoTarget { kind: key.0, index: key.1 };
    next.map.targets.get_mut(&key).ok_or(missing)?.no_create = no_create;
    Ok(raised(state, next))
}

/// `next` with a higher map version if its map differs.
fn raised(before: &State, mut next: State) -> State {
    let differs = |a: &ClusterMap, b: &ClusterMap| a != b;
    if differs(&before.map, &next.map) {
        next.map.version = before.map.version.saturating_add(1);
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    const OST1: TargetKey = (TargetKind::Ost, 1);
    const MDT0: TargetKey = (TargetKind::Mdt, 0);

    fn server(key: TargetKey, uuid: &str, address: &str, boot_id: u64) -> Registration {
        let targets = vec![(key, uuid.to_owned())];
        Registration { addresses: vec![address.to_owned()], targets, boot_id }
    }

    fn with_ost() -> State {
        register(&State::new("nacre"), &server(OST1, "u", "h:1", 10)).unwrap()
    }

    #[test]
    fn registering_again_changes_nothing_and_a_move_raises_epoch_and_version() {
        let first = with_ost();
        assert_eq!((first.map.version, first.map.targets[&OST1].epoch), (2, 1));
        let again = register(&first, &server(OST1, "u", "h:1", 10)).unwrap();
        assert_eq!(again, first);
        let moved = register(&first, &server(OST1, "u", "h:2", 10)).unwrap();
        assert_eq!((moved.map.version, moved.map.targets[&OST1].epoch), (3, 2));
        let rebooted = register(&moved, &server(OST1, "u", "h:2", 11)).unwrap();
        assert_eq!((rebooted.map.version, rebooted.map.targets[&OST1].epoch), (4, 3));
    }

    #[test]
    fn another_folder_cannot_take_a_target_s_place() {
        let error = register(&with_ost(), &server(OST1, "v", "h:9", 12)).unwrap_err();
        assert!(matches!(error, MgsError::UuidTaken { .. }), "{error}");
    }

    #[test]
    fn silence_means_down_and_a_heartbeat_means_up() {
        let state = with_ost();
        let heard = Heard::from([(OST1, Duration::from_secs(10))]);
        let early = expire(&state, &heard, Duration::from_millis(12_999));
        assert_eq!(early, state);
        let down = expire(&state, &heard, Duration::from_secs(13));
        assert_eq!(down.map.targets[&OST1].state, TargetState::Down);
        assert_eq!(down.map.version, state.map.version + 1);
        let back = heartbeat(&down, &[OST1], 10, false).unwrap();
        assert_eq!(back.map.targets[&OST1].state, TargetState::Up);
        assert_eq!(back.map.targets[&OST1].epoch, state.map.targets[&OST1].epoch);
    }

    #[test]
    fn a_heartbeat_of_another_process_must_register_first() {
        let state = with_ost();
        assert_eq!(heartbeat(&state, &[OST1], 11, false), None);
        assert_eq!(heartbeat(&state, &[MDT0], 10, false), None);
        let stopped = heartbeat(&state, &[OST1], 10, true).unwrap();
        assert_eq!(stopped.map.targets[&OST1].state, TargetState::Down);
    }

    #[test]
    fn sequences_are_given_once() {
        let state = register(&with_ost(), &server(MDT0, "m", "h:3", 1)).unwrap();
        let (state, a) = allocate_sequences(&state, MdtIndex(0), "m", 16).unwrap();
        let (state, b) = allocate_sequences(&state, MdtIndex(0), "m", 1).unwrap();
        assert_eq!((a.first, b.first), (Fid::SEQ_NORMAL, Fid::SEQ_NORMAL + 16));
        assert_eq!(state.next_sequence(), Fid::SEQ_NORMAL + 17);
        assert!(allocate_sequences(&state, MdtIndex(0), "x", 1).is_err());
        assert!(allocate_sequences(&state, MdtIndex(0), "m", 0).is_err());
    }

    #[test]
    fn pools_have_lustre_s_rules() {
        use PoolChange::{Add, Destroy, New, Remove};
        let state = with_ost();
        let one = [OstIndex(1)];
        let state = change_pool(&state, New, "fast", &[]).unwrap();
        assert!(matches!(change_pool(&state, New, "fast", &[]), Err(MgsError::PoolExists(_))));
        let absent = change_pool(&state, Add, "fast", &[OstIndex(9)]);
        assert!(matches!(absent, Err(MgsError::NoTarget { index: 9, .. })));
        let state = change_pool(&state, Add, "fast", &one).unwrap();
        assert!(matches!(change_pool(&state, Add, "fast", &one), Err(MgsError::InPool { .. })));
        assert!(matches!(change_pool(&state, Destroy, "fast", &[]), Err(MgsError::PoolBusy(_))));
        let state = change_pool(&state, Remove, "fast", &one).unwrap();
        let state = change_pool(&state, Destroy, "fast", &[]).unwrap();
        assert!(matches!(change_pool(&state, Remove, "fast", &one), Err(MgsError::NoPool(_))));
    }
}
