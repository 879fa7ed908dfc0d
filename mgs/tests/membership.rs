//! Servers come, go and move, over real sockets.

use std::sync::Arc;
use std::time::Duration;

use nacre_mgs::store::MemStore;
use nacre_model::map::Deployment;
use nacre_model::{OstIndex, TargetKind, TargetState};
use nacre_node::register::{JoinError, join};
use nacre_node::tasks::Blocking;
use nacre_node::{MapWatch, Membership, Net, Scope, TargetId, TcpNet};

const PATIENCE: Duration = Duration::from_secs(20);

async fn free_address() -> String {
    let listener = TcpNet.listen("127.0.0.1:0").await.expect("loopback");
    listener.local_addr().expect("bound").to_string()
}

fn start_mgs(address: &str, store: &Arc<MemStore>) -> (Scope, tokio::task::JoinHandle<()>) {
    let scope = Scope::new();
    let config = nacre_mgs::Config {
        fsname: "nacre".to_owned(),
        deployment: Deployment::Scratch,
        listen: address.to_owned(),
        net: Arc::new(TcpNet),
        store: Arc::clone(store) as Arc<dyn nacre_mgs::store::Store>,
        blocking: Blocking::threads(1),
    };
    let own = scope.clone();
    (scope, tokio::spawn(async move { nacre_mgs::run(config, own).await.expect("mgs") }))
}

fn member(mgs: &str, index: u16, uuid: &str) -> Membership {
    Membership {
        mgs_nodes: vec![mgs.to_owned()],
        fsname: "nacre".to_owned(),
        server: "oss".to_owned(),
        addresses: vec![format!("127.0.0.1:{}", 1000 + index)],
        targets: vec![TargetId { kind: TargetKind::Ost, index, uuid: uuid.to_owned() }],
        boot_id: u64::from(index),
    }
}

async fn wait_state(map: &mut MapWatch, index: u16, wanted: TargetState) {
    let has = |target: &nacre_model::Target| target.state == wanted;
    let waiting =
        map.wait_for(|map| map.as_ref().and_then(|map| map.ost(OstIndex(index))).is_some_and(has));
    tokio::time::timeout(PATIENCE, waiting).await.expect("in time").expect("watching");
}

#[tokio::test]
async fn a_server_waits_for_its_mgs_and_outlives_it() {
    let address = free_address().await;
    let store = Arc::new(MemStore::default());
    let oss = Scope::new();
    let joining = {
        let (oss, member) = (oss.clone(), member(&address, 1, "u1"));
        tokio::spawn(async move { join(Arc::new(TcpNet), member, &oss).await })
    };
    let (mgs, run) = start_mgs(&address, &store);
    let mut map = tokio::time::timeout(PATIENCE, joining).await.unwrap().unwrap().unwrap();
    wait_state(&mut map, 1, TargetState::Up).await;
    let version = map.borrow().as_ref().unwrap().version;
    mgs.join().await;
    tokio::time::timeout(PATIENCE, run).await.expect("watchers do not hold the mgs up").unwrap();

    let (mgs, _run) = start_mgs(&address, &store);
    let other = Scope::new();
    let late = join(Arc::new(TcpNet), member(&address, 2, "u2"), &other).await.unwrap();
    assert!(late.borrow().as_ref().unwrap().version > version, "versions never go back");
    wait_state(&mut map, 2, TargetState::Up).await;
    other.join().await;
    wait_state(&mut map, 2, TargetState::Down).await;
    mgs.join().await;
    oss.join().await;
}

#[tokio::test]
async fn a_second_folder_of_the_same_index_is_turned_away() {
    let address = free_address().await;
    let (mgs, _run) = start_mgs(&address, &Arc::default());
    let scope = Scope::new();
    join(Arc::new(TcpNet), member(&address, 1, "u1"), &scope).await.unwrap();
    let error = join(Arc::new(TcpNet), member(&address, 1, "u2"), &scope).await.unwrap_err();
    assert!(
        matches!(&error, JoinError::Refused { reason, .. }
        if reason.message.contains("format it with a free --index")),
        "{error:?}"
    );
    scope.join().await;
    mgs.join().await;
}
