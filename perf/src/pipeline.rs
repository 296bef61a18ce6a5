//! Nanoseconds per packet of the whole turn, by path and sessions.
//!
//! A run is some rounds of 4096 packets. Between rounds, and outside the time that is taken, every frame of the pool is
//! written anew and offered to the memory port; in the time that is taken the worker turns 64 times on bursts of 64. So
//! a frame has left the first-level cache when its turn comes, as one that a card wrote has. What is left of the
//! harness, moving frames through the port, is measured with turns that do nothing else, and subtracted.
//! A run's figure is the median of its rounds, so that a round in which the kernel ran something else does not count.

use std::time::{Duration, Instant};

use anyhow::Result;
use sluice_dataplane::frame::Pool;
use sluice_dataplane::io::memory::MemoryPort;
use sluice_dataplane::io::{BURST, Frames};

use crate::calibration::Calibration;
use crate::hub;
use crate::names;
use crate::paths::Path;
use crate::report::Row;
use crate::rig::{CHUNK, FRAMES, Rig, null_turn};
use crate::scene::{Counted, Scene};
use crate::world;

const TURNS: u32 = FRAMES / BURST as u32;

/// Measures a path: `runs` runs after one that warms up.
///
/// # Errors
/// When packets do not go the way that the path is named for.
pub fn measure(path: Path, sessions: u32, runs: u32) -> Result<Row> {
    let tables = match (path, path.names()) {
        (Path::Hub, _) => hub::tables()?,
        (_, Some(names)) => world::tables_with(path.workers(), names::zones(names))?,
        (_, None) => world::tables(path.workers())?,
    };
    let mut rig = Rig::new(&tables, path.workers(), path.room(sessions))?;
    let mut scene = Scene::new(path, sessions, &mut rig)?;
    let mut frame = Vec::new();
    scene.fill(0, &mut frame);
    let frame_bytes = frame.len();
    scene.restore(&mut rig)?;
    let mut harness = Harness::new(path);
    let mut gross = Vec::new();
    for run in 0..=runs {
        let before = Counted::of(&rig, path);
        let spent = median((0..rounds(path)).map(|round| one_round(&mut rig, path, &mut scene, round)));
        let packets = u64::from(rounds(path) * FRAMES);
        scene.check(&rig, before, packets)?;
        scene.restore(&mut rig)?;
        harness.run(rounds(path));
        if run > 0 {
            gross.push(per(spent, units(path)));
        }
    }
    let net = gross.iter().map(|ns| (ns - harness.ns).max(0.0)).collect();
    Ok(Row::new(path.name(), sessions, frame_bytes, net))
}

/// Nanoseconds per load of the calibration loop, as a row.
#[must_use]
pub fn calibrate(runs: u32) -> Row {
    let mut calibration = Calibration::default();
    calibration.run();
    Row::new("calibration", 0, 0, (0..runs).map(|_| calibration.run()).collect())
}

/// Rounds of a run: enough to meet a quarter of a million sessions, and few enough that new flows find room.
fn rounds(path: Path) -> u32 {
    if path.begins_flows() { 16 } else { 64 }
}

/// What a round's time is divided by: packets, or turns where there are none.
fn units(path: Path) -> u32 {
    if path == Path::Idle { TURNS } else { FRAMES }
}

fn one_round(rig: &mut Rig, path: Path, scene: &mut Scene, round: u32) -> Duration {
    let mut frame = Vec::with_capacity(CHUNK);
    for n in 0..FRAMES {
        scene.fill(round * FRAMES + n, &mut frame);
        if !frame.is_empty() {
            rig.offer(0, &frame);
        }
    }
    let start = Instant::now();
    for _ in 0..TURNS {
        rig.turn(0);
        // A turn takes half a burst from the others' rings at most.
        for worker in 1..path.workers() {
            rig.turn(worker);
            rig.turn(worker);
        }
    }
    let spent = start.elapsed();
    rig.collect(path.sender(), |_, _| {});
    spent
}

fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn per(spent: Duration, units: u32) -> f64 {
    spent.as_nanos() as f64 / f64::from(units)
}

/// The same frames and port without a worker.
struct Harness {
    path: Path,
    port: MemoryPort,
    pool: Pool,
    /// The least that a packet has cost so far, ns.
    ns: f64,
}

impl Harness {
    fn new(path: Path) -> Self {
        let ns = if path == Path::Idle { 0.0 } else { f64::INFINITY };
        Self { path, port: MemoryPort::with_room(FRAMES as usize), pool: Pool::heap(FRAMES, CHUNK), ns }
    }

    fn run(&mut self, rounds: u32) {
        if self.path == Path::Idle {
            return;
        }
        let spent = median((0..rounds).map(|_| self.round()));
        self.ns = self.ns.min(per(spent, FRAMES));
    }

    fn round(&mut self) -> Duration {
        while let Some(frame) = self.pool.take() {
            self.port.offer(frame);
        }
        let mut frames = Frames::new();
        let start = Instant::now();
        for _ in 0..TURNS {
            null_turn(&mut self.port, &mut self.pool, &mut frames, self.path.leaves());
        }
        let spent = start.elapsed();
        while let Some(frame) = self.port.sent() {
            self.pool.recycle(frame);
        }
        spent
    }
}
