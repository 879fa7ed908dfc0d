//! Who does the harm: crashes, power losses, cut and slow links, each for a while, by a seed.

use std::sync::Arc;
use std::time::Duration;

use nacre_node::disk::mem::Crash;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use turmoil::Sim;

use super::faults::{Fault, Faults, Host};
use super::trace::Trace;
use super::world::{OSS_COUNT, World};

/// The first fault comes after this: the cluster is up then.
const BEGIN: Duration = Duration::from_secs(3);
/// No fault begins after this.
pub(super) const LAST_BEGIN: Duration = Duration::from_secs(20);
/// Latency of a link that is well, and of one that is slow.
const LATENCY_MAX: Duration = Duration::from_millis(4);

/// What is done to a link.
#[derive(Debug, Clone, Copy)]
enum Harm {
    /// Messages are lost.
    Cut,
    /// Messages wait.
    Hold,
    /// Messages take this long.
    Slow(Duration),
}

/// A fault in force, and how to heal it.
#[derive(Debug)]
struct Active {
    until: Duration,
    number: usize,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Down(Host),
    Link(Host, Host, Harm),
}

/// Plans and does the faults of one run.
#[derive(Debug)]
pub(super) struct Nemesis {
    rng: StdRng,
    world: Arc<World>,
    faults: Faults,
    trace: Trace,
    clients: u16,
    /// Faults in force at a time, at most.
    at_once: usize,
    next: Duration,
    active: Vec<Active>,
    healed: bool,
    count: u64,
}

impl Nemesis {
    /// By this seed.
    pub(super) fn new(
        seed: u64,
        clients: u16,
        world: Arc<World>,
        faults: Faults,
        trace: Trace,
    ) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x006e_656d_6573_6973);
        let at_once = rng.random_range(1..=3);
        let next = BEGIN + millis(&mut rng, 0, 2000);
        Self {
            rng,
            world,
            faults,
            trace,
            clients,
            at_once,
            next,
            active: Vec::new(),
            healed: false,
            count: 0,
        }
    }

    /// Whether everything is well again, for good.
    pub(super) fn healed(&self) -> bool {
        self.healed
    }

    /// Faults so far.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Heals what is due and begins what is due. To be called between two steps.
    pub(super) fn act(&mut self, sim: &mut Sim<'_>) {
        let now = sim.elapsed();
        let (due, rest) =
            std::mem::take(&mut self.active).into_iter().partition(|a| a.until <= now);
        self.active = rest;
        let due: Vec<Active> = due;
        for active in due {
            self.heal(sim, &active, now);
        }
        if now < LAST_BEGIN {
            if now >= self.next && self.active.len() < self.at_once {
                self.next = now + millis(&mut self.rng, 200, 1800);
                self.harm(sim, now);
            }
        } else if self.active.is_empty() && !self.healed {
            self.healed = true;
            self.trace.event(now, "nemesis", "all is healed");
        }
    }

    fn harm(&mut self, sim: &mut Sim<'_>, now: Duration) {
        match self.rng.random_range(0..100) {
            0..48 => self.take_down(sim, now),
            48..95 => self.hurt_link(sim, now),
            _ => {
                let client = Host::Client(self.rng.random_range(0..self.clients));
                let length = millis(&mut self.rng, 11_500, 14_000);
                self.link(sim, now, length, (client, Host::Mds), Harm::Cut);
            }
        }
    }

    fn take_down(&mut self, sim: &mut Sim<'_>, now: Duration) {
        let host = match self.rng.random_range(0..10) {
            0 => Host::Mgs,
            1..5 => Host::Mds,
            _ => Host::Oss(self.rng.random_range(0..OSS_COUNT)),
        };
        if self.active.iter().any(|a| matches!(a.what, What::Down(down) if down == host)) {
            return;
        }
        let power = host != Host::Mgs && self.rng.random_bool(0.4);
        let crash = match (power, self.rng.random_range(0..4)) {
            (false, _) => Crash::Process,
            (true, 0) => Crash::DropAll,
            (true, 1) => Crash::Prefix,
            (true, 2) => Crash::Pages,
            (true, _) => Crash::Sectors,
        };
        let keep_store = self.rng.random_bool(0.5);
        let length = millis(&mut self.rng, 50, 4000);
        self.trace.event(now, "nemesis", format_args!("{host} dies for {length:?}: {crash:?}"));
        sim.crash(host.to_string());
        self.world.crash(host, crash, self.rng.random(), keep_store);
        let number = self.faults.begin(Fault::Down { host, power }, now);
        self.begun(now + length, number, What::Down(host));
    }

    fn hurt_link(&mut self, sim: &mut Sim<'_>, now: Duration) {
        let client = Host::Client(self.rng.random_range(0..self.clients));
        let oss = Host::Oss(self.rng.random_range(0..OSS_COUNT));
        let ends = match self.rng.random_range(0..10) {
            0..3 => (client, Host::Mds),
            3..6 => (client, oss),
            6 => (client, Host::Mgs),
            7 | 8 => (Host::Mds, oss),
            _ => (Host::Mgs, oss),
        };
        let harm = match self.rng.random_range(0..3) {
            0 => Harm::Cut,
            1 => Harm::Hold,
            _ => Harm::Slow(millis(&mut self.rng, 20, 400)),
        };
        let length = millis(&mut self.rng, 100, 6000);
        self.link(sim, now, length, ends, harm);
    }

    fn link(
        &mut self,
        sim: &mut Sim<'_>,
        now: Duration,
        length: Duration,
        (a, b): (Host, Host),
        harm: Harm,
    ) {
        // Two harms of one link would heal each other.
        let taken =
            |active: &Active| matches!(active.what, What::Link(x, y, _) if (x, y) == (a, b));
        if self.active.iter().any(taken) {
            return;
        }
        self.trace.event(now, "nemesis", format_args!("{a} to {b} for {length:?}: {harm:?}"));
        let (from, to) = (a.to_string(), b.to_string());
        match harm {
            Harm::Cut => sim.partition(from, to),
            Harm::Hold => sim.hold(from, to),
            Harm::Slow(latency) => sim.set_link_latency(from, to, latency),
        }
        let number = self.faults.begin(Fault::Link(a, b), now);
        self.begun(now + length, number, What::Link(a, b, harm));
    }

    fn begun(&mut self, until: Duration, number: usize, what: What) {
        self.count += 1;
        self.active.push(Active { until, number, what });
    }

    fn heal(&mut self, sim: &mut Sim<'_>, active: &Active, now: Duration) {
        match active.what {
            What::Down(host) => sim.bounce(host.to_string()),
            What::Link(a, b, harm) => {
                let (from, to) = (a.to_string(), b.to_string());
                match harm {
                    Harm::Cut => sim.repair(from, to),
                    Harm::Hold => sim.release(from, to),
                    Harm::Slow(_) => {
                        sim.set_link_latency(from.clone(), to.clone(), Duration::ZERO);
                        sim.set_link_max_message_latency(from, to, LATENCY_MAX);
                    }
                }
            }
        }
        self.faults.end(active.number, now);
        self.trace.event(now, "nemesis", format_args!("{:?} is over", active.what));
    }
}

/// A length between two numbers of milliseconds.
fn millis(rng: &mut StdRng, min: u64, max: u64) -> Duration {
    Duration::from_millis(rng.random_range(min..max))
}
