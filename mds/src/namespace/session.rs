//! Sessions, and fid sequences.

use nacre_model::Fid;

use super::NsError;
use super::apply::range;
use super::ctx::Ctx;
use super::rows;
use crate::record::{Record, Session, SessionId, key as keys};

/// Most bytes of a client's uuid and of its host's name.
const TEXT_BYTES_MAX: usize = 255;

/// Sequences of a session that are remembered as its own: a client uses one up before the next.
const SEQUENCES_MAX: usize = 16;

/// Opens the session of a mount. The same mount and incarnation get the same session; a later
/// incarnation ends the one before.
pub(super) fn open(
    ctx: &mut Ctx<'_, '_>,
    (uuid, hostname): (&str, &str),
    incarnation: u64,
    leases: bool,
) -> Result<u64, NsError> {
    for (field, text) in [("client_uuid", uuid), ("hostname", hostname)] {
        if text.len() > TEXT_BYTES_MAX {
            return Err(range(field, text.len() as u64));
        }
    }
    if uuid.is_empty() {
        return Err(range("client_uuid", 0));
    }
    if let Some(SessionId(old)) = rows::row(ctx.txn, &keys::session_of_uuid(uuid))?
        && let Some(session) = rows::row::<Session>(ctx.txn, &keys::session(old))?
    {
        let current = session.incarnation;
        match incarnation.cmp(&current) {
            std::cmp::Ordering::Equal => {
                if session.leases != leases {
                    ctx.txn.put(keys::session(old), Session { leases, ..session }.encode());
                }
                return Ok(old);
            }
            std::cmp::Ordering::Less => {
                return Err(NsError::OldIncarnation { got: incarnation, current });
            }
            std::cmp::Ordering::Greater => close(ctx, old)?,
        }
    }
    let opened = ctx.time;
    let counters = ctx.counters()?;
    let id = counters.next_session;
    counters.next_session = id.checked_add(1).ok_or(NsError::UsedUp("session number"))?;
    let (client_uuid, hostname) = (uuid.to_owned(), hostname.to_owned());
    let session =
        Session { client_uuid, incarnation, hostname, opened, leases, sequences: Vec::new() };
    ctx.txn.put(keys::session(id), session.encode());
    ctx.txn.put(keys::session_of_uuid(uuid), SessionId(id).encode());
    Ok(id)
}

/// Ends a session and forgets its replies. One that does not exist has ended already.
pub(super) fn close(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<(), NsError> {
    let Some(session) = rows::row::<Session>(ctx.txn, &keys::session(id))? else {
        return Ok(());
    };
    let of_uuid = keys::session_of_uuid(&session.client_uuid);
    if rows::row(ctx.txn, &of_uuid)? == Some(SessionId(id)) {
        ctx.txn.remove(of_uuid);
    }
    ctx.txn.remove(keys::session(id));
    let (from, to) = (keys::reply(id, 0), keys::reply(id, u32::MAX));
    for key in rows::keys_between(ctx.txn, &from, &to, usize::MAX)? {
        ctx.txn.remove(key);
    }
    Ok(())
}

/// Gives a session a sequence that nobody else uses: the last in stock, never the one in use here.
pub(super) fn grant_sequence(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<u64, NsError> {
    let row = rows::row::<Session>(ctx.txn, &keys::session(id))?;
    let mut session = row.ok_or(NsError::NoSession(id))?;
    let seq = ctx.counters()?.take_sequence().ok_or(NsError::NoFids)?;
    session.sequences.push(seq);
    if session.sequences.len() > SEQUENCES_MAX {
        session.sequences.remove(0);
    }
    ctx.txn.put(keys::session(id), session.encode());
    Ok(seq)
}

/// Takes sequences from the MGS, which gives none twice. What is known already is passed over, so
/// that a repeated command does no harm.
pub(super) fn add_sequences(ctx: &mut Ctx<'_, '_>, first: u64, count: u32) -> Result<(), NsError> {
    let end = first.saturating_add(u64::from(count));
    if count == 0 || first < Fid::SEQ_NORMAL || end > Fid::SEQ_END {
        return Err(range("first", first));
    }
    let counters = ctx.counters()?;
    let known = counters
        .sequences
        .iter()
        .any(|(known, count)| first < known.saturating_add(u64::from(*count)) && *known < end);
    if !known {
        if counters.sequences.is_empty() {
            counters.next_oid = 1;
        }
        counters.sequences.push((first, count));
    }
    Ok(())
}
