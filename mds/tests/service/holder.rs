//! A client that takes leases, and gives them back when and how a test says.

use std::sync::Arc;
use std::time::Duration;

use nacre_model::Fid;
use nacre_proto::status::RemoteError;
use nacre_proto::v1;
use nacre_proto::v1::session_down::Event;
use tokio::sync::mpsc;

use crate::harness::{Client, PATIENCE, Server, ok};

/// A session with leases, its stream, and recalls as they come.
pub(crate) struct Holder {
    pub(crate) client: Client,
    recalls: mpsc::Receiver<v1::RecallItem>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

pub(crate) fn opening(uuid: &str) -> v1::OpenSessionRequest {
    v1::OpenSessionRequest { client_uuid: uuid.to_owned(), leases: true, ..Default::default() }
}

impl Holder {
    pub(crate) async fn new(server: &Server, uuid: &str) -> Self {
        Self::with(server.client_with(opening(uuid)).await.unwrap()).await
    }

    pub(crate) async fn with(client: Client) -> Self {
        let (beats, mut down) = client.stream().await;
        let (tx, recalls) = mpsc::channel(1024);
        let session = client.session;
        let beat = tokio::spawn(async move {
            while beats.send(v1::SessionUp { session, beat: 2 }).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let listen = tokio::spawn(async move {
            while let Ok(Some(message)) = down.message().await {
                if let Some(Event::Recall(recall)) = message.event {
                    for item in recall.items {
                        if tx.send(item).await.is_err() {
                            return;
                        }
                    }
                }
            }
        });
        Self { client, recalls, tasks: vec![beat, listen] }
    }

    /// The next recall.
    pub(crate) async fn recalled(&mut self) -> v1::RecallItem {
        tokio::time::timeout(PATIENCE, self.recalls.recv()).await.expect("a recall comes").unwrap()
    }

    /// Recalls that have come already.
    pub(crate) fn recalled_already(&mut self) -> usize {
        std::iter::from_fn(|| self.recalls.try_recv().ok()).count()
    }

    pub(crate) async fn give_back(
        &self,
        recall: &v1::RecallItem,
        handles: Vec<v1::OpenHandle>,
    ) -> Result<(), RemoteError> {
        give_back(&self.client, recall, handles).await
    }

    /// Answers every recall from here on, after `before` is done.
    pub(crate) fn obey<F>(mut self, before: impl Fn(Fid) -> F + Send + 'static) -> Obedient
    where
        F: Future<Output = ()> + Send,
    {
        let client = self.client.clone();
        let own = client.clone();
        let task = tokio::spawn(async move {
            while let Some(recall) = self.recalls.recv().await {
                before(recall.fid.unwrap().into()).await;
                if give_back(&own, &recall, Vec::new()).await.is_err() {
                    return;
                }
            }
        });
        Obedient { client, _task: Arc::new(Aborting(task)) }
    }
}

pub(crate) async fn give_back(
    client: &Client,
    recall: &v1::RecallItem,
    handles: Vec<v1::OpenHandle>,
) -> Result<(), RemoteError> {
    let lease = v1::ReturnedLease { fid: recall.fid, keep: recall.keep, number: recall.number };
    let request = v1::ReturnLeasesRequest { session: client.session, leases: vec![lease], handles };
    ok(client.mds.clone().return_leases(request).await).map(drop)
}

struct Aborting(tokio::task::JoinHandle<()>);

impl Drop for Aborting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A client that gives everything back as soon as it is asked.
#[derive(Clone)]
pub(crate) struct Obedient {
    pub(crate) client: Client,
    _task: Arc<Aborting>,
}
