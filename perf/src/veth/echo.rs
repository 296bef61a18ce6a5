//! The plain echo: what AF_XDP costs when nothing is asked of the packets. The same port, pool and thread as a worker's;
//! MACs are swapped, and the frame goes back.

use std::num::NonZeroU32;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::Result;
use sluice_config::model::{Idle, XdpMode};
use sluice_dataplane::counters::Counter;
use sluice_dataplane::frame::Pool;
use sluice_dataplane::idle::{self, Turn};
use sluice_dataplane::io::steer::{Side, Steer};
use sluice_dataplane::io::xsk::{Bind, WorkerUmem, XskPort};
use sluice_dataplane::io::{Frames, Port as _};
use sluice_dataplane::tables::Steering;
use sluice_dataplane::time::Nanos;
use sluice_dataplane::wake::Waker;

use super::subject::{CORE, FRAMES, RINGS, VIP};
use super::wire::{INTERFACE, pin};

/// Name of its thread.
pub(super) const THREAD: &str = "echo";
const CHUNK: usize = 2048;

/// An echo that runs until it is dropped.
pub(super) struct Echo {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// The program goes with it.
    _steer: Steer,
}

impl Echo {
    pub(super) fn start() -> Result<Self> {
        let frames = NonZeroU32::new(FRAMES).unwrap_or(NonZeroU32::MIN);
        let (umem, mut pool) = WorkerUmem::new(frames, CHUNK, RINGS)?;
        let share = pool.count() / 2;
        let mut port = XskPort::open(&umem, INTERFACE, 0, share, Bind::Copy)?;
        port.prime(&mut pool);
        let mut steer = Steer::load(INTERFACE, Side::Wire { arp: true })?;
        steer.register(0, &port)?;
        steer.set(&Steering { addresses: vec![VIP.0.into()], ..Steering::default() })?;
        steer.attach(XdpMode::Copy, 1500)?;
        let (waker, stop) = (Waker::new()?, Arc::new(AtomicBool::new(false)));
        let mut turns = Turns { port, pool, frames: Frames::new() };
        let asked = Arc::clone(&stop);
        let run = move || {
            // Elsewhere it is measured as well, less evenly.
            let _ = pin(CORE);
            idle::run(&mut turns, Idle::Adaptive, &waker, &asked, &Counter::default());
        };
        let thread = std::thread::Builder::new().name(THREAD.to_owned()).spawn(run)?;
        Ok(Self { stop, thread: Some(thread), _steer: steer })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

struct Turns {
    port: XskPort,
    pool: Pool,
    frames: Frames,
}

impl Turn for Turns {
    fn turn(&mut self, now: Nanos) -> usize {
        let Self { port, pool, frames } = self;
        port.receive(pool, now, frames);
        let came = frames.len();
        for frame in &mut *frames {
            if let Some((to, from)) = pool.bytes_mut(frame).get_mut(..12).map(|macs| macs.split_at_mut(6)) {
                to.swap_with_slice(from);
            }
        }
        port.transmit(pool, frames);
        // No room in the ring: dropped, as a worker does.
        frames.drain(..).for_each(|frame| pool.recycle(frame));
        port.flush(pool);
        came
    }

    fn waiting(&self) -> bool {
        false
    }

    fn unfinished(&self) -> bool {
        self.port.unfinished()
    }

    fn flush(&mut self) {
        self.port.flush(&mut self.pool);
    }

    fn descriptors(&self) -> Vec<RawFd> {
        self.port.descriptor().into_iter().collect()
    }
}
