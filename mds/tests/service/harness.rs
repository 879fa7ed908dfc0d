//! A metadata server with its store and disk in memory, over real sockets, beside fake OSTs.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nacre_mds::engine::Applier;
use nacre_mds::store::{MemStore, MetaStore, Txn};
use nacre_mds::{MdsConfig, command, namespace};
use nacre_model::map::Deployment;
use nacre_model::{ClusterMap, Errno, Fid, OstIndex, Target, TargetKind, TargetState, Timestamp};
use nacre_node::disk::mem::MemDisk;
use nacre_node::net::Channel;
use nacre_node::net::{Connection, Listener, Net};
use nacre_node::tasks::Blocking;
use nacre_node::{FolderKind, Identity, Scope, SystemClock, TcpNet};
use nacre_proto::status::{RemoteError, from_status};
use nacre_proto::v1;
use nacre_proto::v1::change_request::Op;
use nacre_proto::v1::mds_client::MdsClient;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::fake_oss::{FakeOss, FakeState};

/// Nothing in these tests takes so long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// TCP with a listener that is there before the server asks for it.
struct BoundNet(Mutex<Option<Box<dyn Listener>>>);

impl std::fmt::Debug for BoundNet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BoundNet")
    }
}

#[tonic::async_trait]
impl Net for BoundNet {
    async fn connect(&self, address: &str) -> io::Result<Connection> {
        TcpNet.connect(address).await
    }
    async fn listen(&self, _address: &str) -> io::Result<Box<dyn Listener>> {
        Ok(self.0.lock().take().unwrap())
    }
}

/// What outlives a server.
pub(crate) struct Site {
    pub(crate) lease: Duration,
    pub(crate) exclusive_directories: bool,
    pub(crate) oss: Arc<FakeState>,
    disk: Arc<MemDisk>,
    store: Arc<MemStore>,
    map: watch::Sender<Option<Arc<ClusterMap>>>,
    oss_scope: Scope,
    identity: Identity,
}

impl Site {
    /// A formatted MDT with fids, and so many OSTs that answer.
    pub(crate) async fn new(count: u16) -> Self {
        let oss = Arc::new(FakeState::default());
        let listener = TcpNet.listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let oss_scope = Scope::new();
        let fake = v1::oss_server::OssServer::new(FakeOss(Arc::clone(&oss)));
        let routes = tonic::service::Routes::new(fake);
        let serving = nacre_node::net::serve(listener, routes, oss_scope.clone());
        oss_scope.spawn_to_end("fake oss", async move { serving.await.unwrap() });
        let target = |index| Target {
            kind: TargetKind::Ost,
            index,
            uuid: format!("ost{index}"),
            state: TargetState::Up,
            addresses: vec![address.clone()],
            epoch: 1,
            no_create: false,
        };
        let targets = (0..count).map(|index| ((TargetKind::Ost, index), target(index))).collect();
        let map = ClusterMap {
            version: 1,
            fsname: "test".to_owned(),
            deployment: Deployment::Scratch,
            targets,
            pools: BTreeMap::new(),
            default_layout: None,
        };
        let (map, _) = watch::channel(Some(Arc::new(map)));
        let identity = Identity::new(FolderKind::Mdt, "test", 0, Vec::new());
        let store = Arc::new(MemStore::default());
        store.apply(&namespace::format("test", [1, 2], Timestamp::default())).unwrap();
        let mut txn = Txn::new(&*store);
        let command = command::Command {
            time: Timestamp::default(),
            origin: None,
            op: command::Op::AddSequences { first: Fid::SEQ_NORMAL, count: 4 },
        };
        namespace::apply(&mut txn, &command).unwrap();
        let batch = txn.into_batch();
        store.apply(&batch).unwrap();
        Self {
            lease: Duration::from_secs(10),
            exclusive_directories: false,
            oss,
            disk: Arc::new(MemDisk::new(1 << 30)),
            store,
            map,
            oss_scope,
            identity,
        }
    }

    pub(crate) fn change_map(&self, change: impl FnOnce(&mut ClusterMap)) {
        self.map.send_modify(|map| {
            let mut next = map.as_deref().unwrap().clone();
            next.version += 1;
            change(&mut next);
            *map = Some(Arc::new(next));
        });
    }

    pub(crate) fn set_state(&self, ost: u16, state: TargetState) {
        self.change_map(|map| {
            map.targets.get_mut(&(TargetKind::Ost, ost)).unwrap().state = state;
        });
    }

    /// Starts a server on it.
    pub(crate) async fn start(&self) -> Server {
        let listener = TcpNet.listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let net: Arc<dyn Net> = Arc::new(BoundNet(Mutex::new(Some(listener))));
        let scope = Scope::new();
        let mut config = MdsConfig::new(
            self.identity.clone(),
            "bound",
            Arc::clone(&net),
            Arc::new(SystemClock),
            Arc::clone(&self.disk) as _,
            Arc::clone(&self.store) as _,
        );
        config.blocking = Blocking::Inline;
        config.applier = Applier::Task;
        config.lease = self.lease;
        config.exclusive_directories = self.exclusive_directories;
        config.map = Some(self.map.subscribe());
        let (ended_tx, ended) = tokio::sync::oneshot::channel();
        let own = scope.clone();
        Scope::new().spawn_to_end("mds", async move {
            ended_tx.send(nacre_mds::run(config, own).await).unwrap();
        });
        let channel = nacre_node::net::channel(&net, &address).unwrap();
        Server { scope, ended, mds: MdsClient::new(channel) }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.oss_scope.stop();
    }
}

/// A running server.
pub(crate) struct Server {
    scope: Scope,
    ended: tokio::sync::oneshot::Receiver<Result<(), nacre_mds::server::RunError>>,
    pub(crate) mds: MdsClient<Channel>,
}

impl Server {
    pub(crate) async fn stop(self) {
        self.scope.stop();
        tokio::time::timeout(PATIENCE, self.ended).await.unwrap().unwrap().unwrap();
    }

    pub(crate) async fn client(&self, uuid: &str) -> Client {
        self.client_with(v1::OpenSessionRequest {
            client_uuid: uuid.to_owned(),
            ..v1::OpenSessionRequest::default()
        })
        .await
        .unwrap()
    }

    pub(crate) async fn client_with(
        &self,
        request: v1::OpenSessionRequest,
    ) -> Result<Client, RemoteError> {
        let mut mds = self.mds.clone();
        let request = v1::OpenSessionRequest { fsname: "test".to_owned(), ..request };
        let opened = ok(mds.open_session(request).await)?;
        assert_eq!(Fid::from(opened.root.unwrap()), Fid::ROOT);
        Ok(Client { session: opened.session, mds, xid: Arc::new(AtomicU64::new(0)) })
    }
}

/// A session.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) session: u64,
    pub(crate) mds: MdsClient<Channel>,
    xid: Arc<AtomicU64>,
}

pub(crate) fn ok<T>(result: Result<tonic::Response<T>, tonic::Status>) -> Result<T, RemoteError> {
    result.map(tonic::Response::into_inner).map_err(|status| from_status(&status))
}

pub(crate) fn errno<T: std::fmt::Debug>(result: Result<T, RemoteError>) -> Errno {
    result.unwrap_err().errno
}

pub(crate) fn fid_of(attr: Option<&v1::Attr>) -> Fid {
    attr.unwrap().fid.unwrap().into()
}

impl Client {
    pub(crate) fn request(&self, op: Op) -> v1::ChangeRequest {
        v1::ChangeRequest {
            session: self.session,
            xid: self.xid.fetch_add(1, Ordering::Relaxed) + 1,
            op: Some(op),
            ..v1::ChangeRequest::default()
        }
    }

    pub(crate) async fn send(
        &self,
        request: v1::ChangeRequest,
    ) -> Result<v1::ChangeResponse, RemoteError> {
        let sent = self.mds.clone().change(request).await;
        ok(sent)
    }

    pub(crate) async fn change(&self, op: Op) -> Result<v1::ChangeResponse, RemoteError> {
        self.send(self.request(op)).await
    }

    /// Makes a file; with a handle that is not 0 it is open for writing.
    pub(crate) async fn create(&self, name: &str, handle: u64) -> Result<Fid, RemoteError> {
        let op = v1::CreateOp {
            parent: Some(Fid::ROOT.into()),
            name: name.to_owned().into(),
            mode: 0o100_644,
            exclusive: true,
            handle,
            handle_write: handle != 0,
            ..v1::CreateOp::default()
        };
        Ok(fid_of(self.change(Op::Create(op)).await?.attr.as_ref()))
    }

    pub(crate) async fn unlink(&self, name: &str) -> Result<v1::ChangeResponse, RemoteError> {
        let parent = Some(Fid::ROOT.into());
        self.change(Op::Unlink(v1::UnlinkOp { parent, name: name.to_owned().into(), fid: None }))
            .await
    }

    pub(crate) async fn lookup(&self, name: &str) -> Result<Fid, RemoteError> {
        let parent = Some(Fid::ROOT.into());
        let request =
            v1::LookupRequest { parent, name: name.to_owned().into(), session: self.session };
        let found = ok(self.mds.clone().lookup(request).await)?;
        Ok(fid_of(found.attr.as_ref()))
    }

    pub(crate) async fn getattr(&self, fid: Fid) -> Result<v1::Attr, RemoteError> {
        let request = v1::GetattrRequest { fid: Some(fid.into()), session: self.session };
        Ok(ok(self.mds.clone().getattr(request).await)?.attr.unwrap())
    }

    pub(crate) async fn open(
        &self,
        fid: Fid,
        handle: u64,
        write: bool,
    ) -> Result<v1::OpenResponse, RemoteError> {
        let request =
            v1::OpenRequest { session: self.session, handle, fid: Some(fid.into()), write };
        ok(self.mds.clone().open(request).await)
    }

    pub(crate) async fn close(&self, handle: u64) -> Result<(), RemoteError> {
        let request = v1::CloseRequest { session: self.session, handles: vec![handle] };
        ok(self.mds.clone().close(request).await).map(drop)
    }

    pub(crate) async fn instantiate(
        &self,
        fid: Fid,
        len: u64,
    ) -> Result<v1::ChangeResponse, RemoteError> {
        let op = v1::InstantiateOp { fid: Some(fid.into()), offset: 0, len, avoid: vec![] };
        self.change(Op::Instantiate(op)).await
    }

    pub(crate) async fn truncate(&self, fid: Fid, size: u64) -> Result<(), RemoteError> {
        let op =
            v1::SetattrOp { fid: Some(fid.into()), size: Some(size), ..v1::SetattrOp::default() };
        self.change(Op::Setattr(op)).await.map(drop)
    }

    /// Grows a file of objects, as a client does that has written there.
    pub(crate) async fn settle(&self, fid: Fid, size: u64) -> Result<v1::Attr, RemoteError> {
        let op = v1::SettleOp {
            fid: Some(fid.into()),
            size: Some(size),
            exact: true,
            ..v1::SettleOp::default()
        };
        Ok(self.change(Op::Settle(op)).await?.attr.unwrap())
    }

    pub(crate) async fn lock(
        &self,
        lock: v1::HeldLock,
        cookie: Option<u64>,
    ) -> Result<bool, RemoteError> {
        let request = v1::LockRequest {
            session: self.session,
            lock: Some(lock),
            wait: cookie.is_some(),
            cookie: cookie.unwrap_or(0),
        };
        Ok(ok(self.mds.clone().lock(request).await)?.granted)
    }

    /// The session's stream, and the sender of heartbeats.
    pub(crate) async fn stream(
        &self,
    ) -> (tokio::sync::mpsc::Sender<v1::SessionUp>, tonic::Streaming<v1::SessionDown>) {
        let (tx, rx) = tokio::sync::mpsc::channel(16);
        tx.send(v1::SessionUp { session: self.session, beat: 1 }).await.unwrap();
        let up = tokio_stream::wrappers::ReceiverStream::new(rx);
        let down = ok(self.mds.clone().session(up).await).unwrap();
        (tx, down)
    }
}

/// Waits until `condition` holds.
pub(crate) async fn until<F: Future<Output = bool>>(mut condition: impl FnMut() -> F) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the condition comes true");
}

/// All objects that work has reached on an OST.
pub(crate) fn on(ost: u16) -> OstIndex {
    OstIndex(ost)
}
