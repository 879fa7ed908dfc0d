//! What an OST does by itself: making clean what is in doubt, finding doubt after a crash, the
//! scrub.

use std::time::Duration;

use nacre_model::ObjectId;
use nacre_node::Scope;
use nacre_node::register::Chain;

use crate::error::OssError;
use crate::service::{Ost, Osts};

/// Starts the tasks of all OSTs.
pub(crate) fn start(
    osts: &Osts,
    clean_interval: Duration,
    scrub_bytes_per_second: Option<u64>,
    scope: &Scope,
) {
    for ost in osts.0.values() {
        scope.spawn("clean", clean(ost.clone(), clean_interval));
        scope.spawn("after-crash", after_crash(ost.clone()));
        if let Some(rate) = scrub_bytes_per_second {
            scope.spawn("scrub", scrub(ost.clone(), rate.max(1)));
        }
    }
}

/// Makes everything clean, so that the next start finds nothing in doubt.
pub(crate) async fn close(osts: &Osts) {
    for (index, ost) in osts.0.iter() {
        let closed = ost.run(crate::object::ObjectStore::close).await;
        if let Err(error) = closed {
            tracing::warn!(ost = %index, error = %Chain(&error), "not all is clean at the stop");
        }
    }
}

async fn clean(ost: Ost, interval: Duration) {
    let mut complained = false;
    loop {
        tokio::time::sleep(interval).await;
        match ost.run(crate::object::ObjectStore::clean_round).await {
            Ok(_) => complained = false,
            Err(OssError::Poisoned) => return,
            Err(error) if !complained => {
                complained = true;
                tracing::warn!(error = %Chain(&error), "cannot make objects clean, trying on");
            }
            Err(_) => {}
        }
    }
}

/// Finds every object that a crash left in doubt and computes its checksums anew. Looks at each
/// object's header, and reads data of those in doubt only.
async fn after_crash(ost: Ost) {
    if !ost.store.walk_is_due() {
        return;
    }
    let mut objects = 0u64;
    for folder in 0..=u8::MAX {
        let walked = ost.run(move |store| -> Result<u64, OssError> {
            let (ids, leftovers) = store.list(folder)?;
            for &id in &ids {
                store.recheck_object(id)?;
            }
            for id in leftovers {
                store.remove_leftover(id)?;
            }
            Ok(ids.len() as u64)
        });
        match walked.await {
            Ok(count) => objects += count,
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "cannot recheck all objects after a crash");
                return;
            }
        }
    }
    ost.store.walk_done();
    tracing::info!(objects, "rechecked what the last stop left in doubt");
}

/// Verifies all objects, over and over, at no more than `rate` bytes a second.
async fn scrub(ost: Ost, rate: u64) {
    loop {
        for folder in 0..=u8::MAX {
            // Once a folder at least, that an empty OST costs nothing.
            tokio::time::sleep(Duration::from_secs(1)).await;
            match ost.run(move |store| store.list(folder)).await {
                Ok((ids, _)) => {
                    for id in ids {
                        scrub_object(&ost, id, rate).await;
                    }
                }
                Err(error) => tracing::warn!(error = %Chain(&error), "scrub: cannot list"),
            }
        }
    }
}

async fn scrub_object(ost: &Ost, id: ObjectId, rate: u64) {
    let mut at = 0;
    loop {
        let next = match ost.run(move |store| store.scrub_step(id, at)).await {
            Ok(Some(next)) => next,
            // Counted and logged where it was found.
            Err(OssError::Corrupt { end, .. }) => end,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(object = %id, error = %Chain(&error), "scrub: cannot read");
                return;
            }
        };
        let nanos = u128::from(next - at) * 1_000_000_000 / u128::from(rate);
        let pause = u64::try_from(nanos).unwrap_or(u64::MAX);
        tokio::time::sleep(Duration::from_nanos(pause)).await;
        at = next;
    }
}
