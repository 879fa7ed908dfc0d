//! Keeps a stock of fid sequences, which the MGS hands out.

use std::sync::Arc;
use std::time::Duration;

use nacre_model::Fid;
use nacre_node::net::Net;
use nacre_node::{Scope, mgc};
use nacre_proto::status::from_status;
use nacre_proto::v1;

use crate::command::Op;
use crate::namespace::read;
use crate::shared::Shared;

/// Fids in stock below which more are asked for: two sequences, for clients get whole ones.
const LOW_WATER: u64 = 2 * Fid::OIDS_PER_SEQ as u64;
/// Sequences asked for at a time.
const SEQUENCES: u32 = 4;
/// Between two looks at the stock.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two attempts while there is nothing at all.
const URGENT_PAUSE: Duration = Duration::from_millis(50);
const CALL_DEADLINE: Duration = Duration::from_secs(2);

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    pub(crate) net: Arc<dyn Net>,
    pub(crate) mgs_nodes: Vec<String>,
    pub(crate) index: u16,
    pub(crate) uuid: String,
}

/// Watches the stock as long as the scope lives.
pub(crate) fn start(shared: &Arc<Shared>, asker: Asker, scope: &Scope) {
    let shared = Arc::clone(shared);
    scope.spawn("fid-sequences", async move {
        let mut complained = false;
        loop {
            let left = match read::statistics(shared.view()) {
                Ok(statistics) => statistics.fids_left,
                Err(error) => {
                    tracing::error!(%error, "fids in stock are not known");
                    return;
                }
            };
            if left < LOW_WATER {
                match refill(&shared, &asker).await {
                    Ok(()) => complained = false,
                    Err(error) if !complained => {
                        tracing::info!(fids_left = left, error, "no fid sequences yet");
                        complained = true;
                    }
                    Err(_) => {}
                }
            }
            tokio::time::sleep(if left == 0 { URGENT_PAUSE } else { PAUSE }).await;
        }
    });
}

async fn refill(shared: &Shared, asker: &Asker) -> Result<(), String> {
    let mut last = "no mgs address".to_owned();
    for address in &asker.mgs_nodes {
        match ask(shared, asker, address).await {
            Ok(range) => {
                let op = Op::AddSequences { first: range.first, count: range.count };
                let added = shared.submit(op).await.map_err(|error| error.to_string())?;
                drop(added);
                tracing::info!(first = range.first, count = range.count, "fid sequences");
                return Ok(());
            }
            Err(error) => last = format!("mgs {address}: {error}"),
        }
    }
    Err(last)
}

async fn ask(
    shared: &Shared,
    asker: &Asker,
    address: &str,
) -> Result<v1::AllocateSequencesResponse, String> {
    let request = v1::AllocateSequencesRequest {
        fsname: shared.fsname.clone(),
        mdt_index: asker.index.into(),
        mdt_uuid: asker.uuid.clone(),
        count: SEQUENCES,
    };
    let mut client = mgc::client(&asker.net, address).map_err(|error| error.to_string())?;
    match tokio::time::timeout(CALL_DEADLINE, client.allocate_sequences(request)).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(from_status(&status).message),
        Err(_) => Err(format!("no answer in {CALL_DEADLINE:?}")),
    }
}
