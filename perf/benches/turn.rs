//! The whole turn over the memory port: by burst, session hit or new flow, and sessions held.
//! `cargo bench -p sluice-perf --bench turn`; times are per turn, throughput per packet.
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench that cannot go on stops; criterion's macros")]

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sluice_perf::paths::Path;
use sluice_perf::rig::{FRAMES, Rig};
use sluice_perf::scene::Scene;
use sluice_perf::world;

const BURSTS: [usize; 3] = [1, 8, 64];
const SESSIONS: [u32; 2] = [1, 1_048_576];

fn turn(criterion: &mut Criterion) {
    let tables = world::tables(1).unwrap();
    let mut group = criterion.benchmark_group("turn");
    for (what, path) in [("hit", Path::VipNatHit), ("miss", Path::VipNatNewFlow)] {
        for sessions in SESSIONS {
            let mut rig = Rig::new(&tables, 1, path.room(sessions)).unwrap();
            let mut scene = Scene::new(path, sessions, &mut rig).unwrap();
            for burst in BURSTS {
                rig.limit(burst);
                group.throughput(Throughput::Elements(burst as u64));
                let id = BenchmarkId::new(format!("{what}/{sessions} sessions"), format!("burst {burst}"));
                group.bench_function(id, |b| b.iter_custom(|turns| turns_of(&mut rig, &mut scene, burst, turns)));
            }
        }
    }
    group.finish();
}

/// The time of `turns` turns; frames are written, and new flows forgotten, between rounds and outside that time.
fn turns_of(rig: &mut Rig, scene: &mut Scene, burst: usize, turns: u64) -> Duration {
    let round = u64::from(FRAMES) / burst as u64;
    let mut frame = Vec::new();
    let mut spent = Duration::ZERO;
    let mut left = turns;
    while left > 0 {
        let now = left.min(round);
        for n in 0..now * burst as u64 {
            scene.fill((left * burst as u64 + n) as u32, &mut frame);
            assert!(rig.offer(0, &frame));
        }
        let start = Instant::now();
        for _ in 0..now {
            rig.turn(0);
        }
        spent += start.elapsed();
        rig.collect(0, |_, _| {});
        scene.restore(rig).unwrap();
        left -= now;
    }
    spent
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(11).measurement_time(Duration::from_secs(2)).without_plots();
    targets = turn
}
criterion_main!(benches);
