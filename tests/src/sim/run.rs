//! One seed from start to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use nacre_client::{Client, ClientError};
use nacre_model::{Errno, Fid, ServiceError};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use turmoil::Sim;

use super::end;
use super::faults::{Faults, Host, OSTS_PER_OSS};
use super::nemesis::Nemesis;
use super::net::now;
use super::session::{Broken, Session, Step, chain, name};
use super::shared::{Board, Sharer};
use super::trace::Trace;
use super::worker::Worker;
use super::world::{OSS_COUNT, Shape, World};

/// Workers stop then; the nemesis may still have to heal what it has done last.
const WORK_UNTIL: Duration = Duration::from_secs(26);
/// After the last fault is healed, every operation ends within this.
const LIVELY: Duration = Duration::from_secs(30);
/// From the last fault to the final look: whatever broke is mended then.
const SETTLED: Duration = Duration::from_secs(6);
/// For objects of files that are gone to go, too.
const QUIET: Duration = Duration::from_secs(8);
const TICK: Duration = Duration::from_millis(2);

/// What one seed came to.
#[derive(Debug)]
pub struct Outcome {
    /// Of everything that happened.
    pub hash: u64,
    /// In one line.
    pub summary: String,
    /// The promise that was broken, and what led to it.
    pub broken: Option<String>,
}

/// What clients share with the loop that drives them.
#[derive(Debug, Clone)]
struct Common {
    seed: u64,
    world: Arc<World>,
    faults: Faults,
    trace: Trace,
    board: Board,
    /// When all faults were healed, in milliseconds; 0: not yet.
    healed_ms: Arc<AtomicU64>,
    operations: Arc<AtomicU64>,
    /// Clients that are through.
    through: Arc<AtomicU64>,
}

/// Runs one seed; at most one in a process, or they disturb each other's randomness.
pub fn run(seed: u64, print: bool) -> Outcome {
    let mut rng = StdRng::seed_from_u64(seed);
    let shape = Shape {
        seed,
        clients: rng.random_range(2..=3),
        inline_max: if rng.random_bool(0.5) { 16 << 10 } else { 4 << 10 },
        clean_interval: Duration::from_millis(rng.random_range(300..5000)),
    };
    let common = Common {
        seed,
        world: World::new(shape),
        faults: Faults::default(),
        trace: Trace::new(print),
        board: Board::default(),
        healed_ms: Arc::default(),
        operations: Arc::default(),
        through: Arc::default(),
    };
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .epoch(SystemTime::UNIX_EPOCH)
        .simulation_duration(Duration::from_secs(3600))
        .tick_duration(TICK)
        .min_message_latency(Duration::ZERO)
        .max_message_latency(Duration::from_millis(4))
        .tcp_capacity(1 << 16)
        .enable_random_order()
        .build();
    common.world.populate(&mut sim);
    for index in 0..shape.clients {
        let common = common.clone();
        sim.client(Host::Client(index).to_string(), async move {
            client(&common, index).await;
            Ok(())
        });
    }
    let faults = drive(&mut sim, &common, shape.clients);
    finish(&mut sim, &common, faults)
}

/// Steps until all clients are through, or a promise is broken; faults that there were.
fn drive(sim: &mut Sim<'_>, common: &Common, clients: u16) -> u64 {
    let Common { seed, world, faults, trace, .. } = common.clone();
    let mut nemesis = Nemesis::new(seed, clients, world, faults, trace);
    while common.trace.first_broken().is_none() {
        if let Err(error) = sim.step() {
            common.trace.broken(sim.elapsed(), "server", format_args!("ended: {error:?}"));
        }
        nemesis.act(sim);
        let now = sim.elapsed();
        let healed = &common.healed_ms;
        if nemesis.healed() && healed.load(Ordering::Relaxed) == 0 {
            healed.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        if common.through.load(Ordering::Relaxed) == u64::from(clients) {
            break;
        }
        let since = Duration::from_millis(healed.load(Ordering::Relaxed)).max(WORK_UNTIL);
        if nemesis.healed() && now > since + LIVELY {
            let why = format_args!("clients have not come to an end {LIVELY:?} after all was well");
            common.trace.broken(now, "liveness", why);
        }
    }
    nemesis.count()
}

/// Lets the servers work off what is left, kills them and looks at their disks.
fn finish(sim: &mut Sim<'_>, common: &Common, faults: u64) -> Outcome {
    let until = sim.elapsed() + QUIET;
    while common.trace.first_broken().is_none() && sim.elapsed() < until {
        if let Err(error) = sim.step() {
            common.trace.broken(sim.elapsed(), "server", format_args!("ended: {error:?}"));
        }
    }
    if common.trace.first_broken().is_none() {
        let leaks = common.faults.mds_power_loss_after(Duration::ZERO).is_none();
        if let Err(why) = end::check(&common.world, leaks) {
            common.trace.broken(sim.elapsed(), "disks", why);
        }
    }
    let (hash, events) = common.trace.digest();
    let operations = common.operations.load(Ordering::Relaxed);
    let summary = format!(
        "{:.1} s simulated, {operations} operations, {faults} faults, {events} events",
        sim.elapsed().as_secs_f64()
    );
    Outcome { hash, summary, broken: common.trace.first_broken() }
}

/// One client from start to end.
async fn client(common: &Common, index: u16) {
    let who = Host::Client(index).to_string();
    match life(common, index, &who).await {
        Ok(()) => {
            common.trace.event(now(), &who, "through");
            common.through.fetch_add(1, Ordering::Relaxed);
        }
        Err(Broken(why)) => common.trace.broken(now(), &who, why),
    }
}

async fn life(common: &Common, index: u16, who: &str) -> Step {
    let failed = |what: &str, error: ClientError| Broken(format!("{what}: {}", chain(&error)));
    let config = common.world.client_config(index);
    let client = Client::connect(config).await.map_err(|error| failed("connect", error))?;
    let session = |part: &str| {
        let who = format!("{who}.{part}");
        let (faults, trace) = (common.faults.clone(), common.trace.clone());
        Session::new(client.clone(), index, who, faults, trace)
    };
    let own = session("own");
    own.event("connected");
    wait_for_osts(&client).await.map_err(|error| failed("statfs", error))?;
    let folder = own.mkdir(client.root(), &name(&format!("own{index}"))?).await;
    let folder = folder.map_err(|error| failed("mkdir", error))?;
    let common_folder = shared_folder(&own).await?;
    // All of this is to be there whatever happens.
    client.fsyncdir(folder).await.map_err(|error| failed("fsyncdir", error))?;
    let seed = common.seed ^ (u64::from(index + 1) << 40);
    let mut worker = Worker::new(own, folder, seed);
    let mut sharer = Sharer::new(session("shared"), common_folder, common.board.clone(), !seed);
    tokio::try_join!(worker.work(WORK_UNTIL), sharer.work(WORK_UNTIL))?;
    common.operations.fetch_add(worker.done, Ordering::Relaxed);
    wait_until_well(common).await;
    worker.check_all().await?;
    sharer.check_all().await?;
    client.disconnect().await.map_err(|error| failed("disconnect", error))
}

/// Files can be written when the MDS has seen all OSTs.
async fn wait_for_osts(client: &Client) -> Result<(), ClientError> {
    let all = usize::from(OSS_COUNT * OSTS_PER_OSS);
    while client.statfs().await?.osts.iter().filter(|ost| ost.up).count() < all {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// The folder that all clients have: the first makes it.
async fn shared_folder(session: &Session) -> Step<Fid> {
    let (root, shared) = (session.client.root(), name("shared")?);
    match session.mkdir(root, &shared).await {
        Ok(fid) => Ok(fid),
        Err(error) if error.errno() == Errno::EEXIST => {
            let found = session.client.lookup(root, &shared).await;
            found.map(|attr| attr.fid).map_err(|error| Broken(chain(&error)))
        }
        Err(error) => Err(Broken(chain(&error))),
    }
}

async fn wait_until_well(common: &Common) {
    loop {
        let healed = Duration::from_millis(common.healed_ms.load(Ordering::Relaxed));
        if !healed.is_zero() && now() > healed + SETTLED {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
