use std::time::Duration;

use nacre_model::Fid;

use super::contention::RECALLS_MAX;
use super::*;

mod random;

const FID: Fid = Fid { seq: 0x2_0000_0401, oid: 1, ver: 0 };
const ALONE: Others = Others { write: false, hold: false };

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Sessions 1, 2 and 3 want leases.
fn table() -> LeaseTable {
    let mut table = LeaseTable::new(100, false);
    (1..=3).for_each(|session| table.open_session(session));
    table
}

fn grant(table: &mut LeaseTable, session: u64, want: Mode) -> Option<Lease> {
    table.grant(session, FID, want, ALONE, at(0))
}

#[test]
fn readers_share_and_a_change_recalls_them_all_once() {
    let mut table = table();
    assert_eq!(grant(&mut table, 1, Mode::Shared), Some(Lease { mode: Mode::Shared, number: 101 }));
    assert_eq!(grant(&mut table, 2, Mode::Shared).map(|lease| lease.number), Some(101));
    assert_eq!(table.need(3, &[Touch::read(FID)], at(0)), Ok(()));
    table.begin(3, FID);
    let wait = table.need(3, &[Touch::change(FID)], at(0)).unwrap_err();
    let recall = |session| Recall { session, fid: FID, keep: None, number: 101 };
    assert_eq!(wait.recalls, [recall(1), recall(2)]);
    assert_eq!(table.need(3, &[Touch::change(FID)], at(1)), Err(Wait::default()), "asked already");
    assert_eq!(table.pending(1), [recall(1)]);
    assert_eq!(grant(&mut table, 1, Mode::Shared), None, "it is recalled");
    table.give_back(1, FID, None, 101);
    assert_eq!(grant(&mut table, 1, Mode::Shared), None, "a change is under way");
    table.end_session(2);
    assert_eq!(table.need(3, &[Touch::change(FID)], at(1)), Ok(()));
    table.end(3, FID);
    assert!(grant(&mut table, 1, Mode::Shared).is_some());
    assert_eq!(table.held_count(), 1);
}

#[test]
fn ones_own_lease_never_stands_in_the_way_and_exclusive_stays() {
    let mut table = table();
    assert_eq!(grant(&mut table, 1, Mode::Exclusive).unwrap().mode, Mode::Exclusive);
    assert_eq!(table.need(1, &[Touch::change(FID)], at(0)), Ok(()));
    let again = grant(&mut table, 1, Mode::Shared);
    assert_eq!(again, Some(Lease { mode: Mode::Exclusive, number: 102 }));
    assert_eq!(grant(&mut table, 2, Mode::Shared), None);
    assert!(table.others_exclusive(2, FID) && !table.others_exclusive(1, FID));
}

#[test]
fn a_reader_lets_the_holder_keep_half_and_a_change_takes_the_rest() {
    let mut table = table();
    grant(&mut table, 1, Mode::Exclusive).unwrap();
    let wait = table.need(2, &[Touch::read(FID)], at(0)).unwrap_err();
    assert_eq!(wait.recalls.first().and_then(|recall| recall.keep), Some(Mode::Shared));
    let wait = table.need(3, &[Touch::change(FID)], at(0)).unwrap_err();
    assert_eq!(wait.recalls.first().map(|recall| recall.keep), Some(None));
    table.give_back(1, FID, Some(Mode::Shared), 101);
    assert_eq!(table.need(2, &[Touch::read(FID)], at(0)), Ok(()));
    assert_eq!(table.pending(1).len(), 1, "it has not given all back");
    table.give_back(1, FID, None, 101);
    assert_eq!((table.pending(1), table.need(3, &[Touch::change(FID)], at(0))), (vec![], Ok(())));
}

#[test]
fn a_lease_that_was_given_later_than_the_returned_one_stays() {
    let mut table = table();
    let first = grant(&mut table, 1, Mode::Shared).unwrap();
    grant(&mut table, 1, Mode::Shared).unwrap();
    table.give_back(1, FID, None, first.number);
    assert_eq!(table.held(1, FID), Some(Mode::Shared));
    table.give_back(1, FID, None, first.number + 1);
    table.give_back(1, FID, None, first.number + 1);
    assert_eq!((table.held(1, FID), table.held_count()), (None, 0));
}

#[test]
fn open_files_limit_what_others_are_granted() {
    let mut table = table();
    let writer = Others { write: true, hold: true };
    let reader = Others { write: false, hold: true };
    assert_eq!(table.grant(1, FID, Mode::Shared, writer, at(0)), None);
    let shared = table.grant(1, FID, Mode::Exclusive, reader, at(0));
    assert_eq!(shared.map(|lease| lease.mode), Some(Mode::Shared));
    assert_eq!(table.grant(9, FID, Mode::Shared, ALONE, at(0)), None, "it wants no leases");
}

#[test]
fn who_does_not_give_back_is_overdue() {
    let mut table = table();
    grant(&mut table, 1, Mode::Shared).unwrap();
    table.need(2, &[Touch::change(FID)], at(5)).unwrap_err();
    assert!(table.overdue(at(15), at(10)).is_empty());
    assert_eq!(table.overdue(at(16), at(10)).into_iter().collect::<Vec<_>>(), [1]);
}

#[test]
fn an_inode_that_goes_from_hand_to_hand_gives_no_leases_for_a_while() {
    let mut table = table();
    for round in 0..=u64::from(RECALLS_MAX) {
        let lease = table.grant(1, FID, Mode::Shared, ALONE, at(round)).unwrap();
        table.need(2, &[Touch::change(FID)], at(round)).unwrap_err();
        table.give_back(1, FID, None, lease.number);
    }
    table.prune(at(500));
    assert_eq!(table.grant(1, FID, Mode::Shared, ALONE, at(1000)), None);
    table.prune(at(1200));
    assert!(table.grant(1, FID, Mode::Shared, ALONE, at(1200)).is_some());
}

#[test]
fn after_a_restart_nobody_gets_past_what_clients_may_hold() {
    let mut table = LeaseTable::new(100, true);
    table.open_session(1);
    table.open_session(2);
    assert!(table.claim(1, FID, Mode::Exclusive));
    assert!(!table.claim(2, FID, Mode::Shared), "it is somebody else's");
    assert_eq!(table.need(1, &[Touch::change(FID)], at(0)), Ok(()));
    let wait = table.need(2, &[Touch::read(FID)], at(0)).unwrap_err();
    assert_eq!(wait.recalls, [], "who knows yet");
    assert_eq!(grant(&mut table, 1, Mode::Exclusive), None);
    table.recovered();
    let wait = table.need(2, &[Touch::read(FID)], at(0)).unwrap_err();
    assert_eq!(wait.recalls.first().map(|recall| (recall.session, recall.number)), Some((1, 100)));
    table.give_back(1, FID, None, 1);
    assert_eq!(table.need(2, &[Touch::read(FID)], at(0)), Ok(()), "an old number is good enough");
    assert!(!table.claim(1, FID, Mode::Shared), "too late");
}

#[test]
fn a_freed_inode_has_no_holders() {
    let mut table = table();
    grant(&mut table, 1, Mode::Exclusive).unwrap();
    table.gone(FID);
    assert_eq!((table.held(1, FID), table.held_count()), (None, 0));
    table.end_session(1);
    assert!(!table.serves(1));
}
