//! A worker's thread: turn after turn, and what it does when there is nothing to do.
//!
//! Contract: the clock is read once per turn. With [`Idle::Adaptive`], after 50 us of empty turns the worker says that
//! it sleeps, looks once more at its rings and its mailbox, and waits on its sockets and its alarm clock for at most
//! 10 ms; whoever makes work for it wakes it ([`Waker::wake`]), so a handed packet waits microseconds, not 10 ms.
#![allow(unsafe_code, reason = "ports lend raw descriptors, which poll wants borrowed")]

use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};
use sluice_config::model::Idle;

use crate::counters::Counter;
use crate::io::Port;
use crate::time::Nanos;
use crate::wake::Waker;
use crate::worker::Worker;

/// Empty turns before a worker sleeps.
const SPIN: u64 = 50_000;
/// Longest sleep: a worker that nobody wakes still sweeps its sessions.
const SLEEP: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
/// The same while transmits are unfinished, which no descriptor tells of.
const SHORT_SLEEP: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
/// Bounds of what a stopping worker still does: bursts it takes, milliseconds it waits for its transmits.
const LAST_TURNS: usize = 64;
const LAST_FLUSHES: usize = 50;

/// What the thread needs of a worker.
pub trait Turn {
    /// One burst; returns the packets that it took.
    fn turn(&mut self, now: Nanos) -> usize;
    /// Whether work waits that no descriptor tells of.
    fn waiting(&self) -> bool;
    /// Whether a port still transmits.
    fn unfinished(&self) -> bool;
    /// Kicks and reaps transmits.
    fn flush(&mut self);
    /// What to wait on for packets; the same, and open, as long as the worker lives.
    fn descriptors(&self) -> Vec<RawFd>;
}

impl<P: Port> Turn for Worker<P> {
    fn turn(&mut self, now: Nanos) -> usize {
        Self::turn(self, now)
    }

    fn waiting(&self) -> bool {
        Self::waiting(self)
    }

    fn unfinished(&self) -> bool {
        Self::unfinished(self)
    }

    fn flush(&mut self) {
        Self::flush(self);
    }

    fn descriptors(&self) -> Vec<RawFd> {
        Self::descriptors(self).collect()
    }
}

/// Turns `worker` until `stop`, then takes what is still in its rings and finishes its transmits. `sleeps` counts.
pub fn run(worker: &mut impl Turn, idle: Idle, waker: &Waker, stop: &AtomicBool, sleeps: &Counter) {
    let descriptors = worker.descriptors();
    let mut poll_set = poll_set(&descriptors, waker);
    let mut busy = clock();
    while !stop.load(Ordering::Relaxed) {
        let now = clock();
        if worker.turn(now) > 0 {
            busy = now;
        } else if idle == Idle::Spin {
            std::hint::spin_loop();
        } else if now.0.saturating_sub(busy.0) >= SPIN {
            sleeps.add(1);
            if sleep(worker, waker, stop, &mut poll_set) {
                busy = clock();
            }
        }
    }
    finish(worker);
}

/// CLOCK_MONOTONIC.
#[must_use]
pub fn clock() -> Nanos {
    let now = clock_gettime(ClockId::Monotonic);
    Nanos(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
}

/// Sleeps until there is work or 10 ms are over; returns whether there is work.
fn sleep(worker: &mut impl Turn, waker: &Waker, stop: &AtomicBool, poll_set: &mut [PollFd<'_>]) -> bool {
    worker.flush();
    waker.fall_asleep();
    // Work that came before this look is seen by it; whoever makes work after it sees the flag and writes the eventfd.
    let mut work = worker.waiting() || stop.load(Ordering::Relaxed);
    if !work {
        let limit = if worker.unfinished() { &SHORT_SLEEP } else { &SLEEP };
        // An interrupted sleep (EINTR) is only a short one.
        work = poll(poll_set, Some(limit)).is_ok_and(|ready| ready > 0);
    }
    waker.awake();
    work
}

fn poll_set<'a>(descriptors: &'a [RawFd], waker: &'a Waker) -> Vec<PollFd<'a>> {
    let borrow = |fd: &RawFd| {
        // SAFETY: `Turn::descriptors` promises that they stay open while the worker lives, which outlives the loop.
        let fd = unsafe { BorrowedFd::borrow_raw(*fd) };
        PollFd::from_borrowed_fd(fd, PollFlags::IN)
    };
    let alarm = PollFd::from_borrowed_fd(waker.as_fd(), PollFlags::IN);
    descriptors.iter().map(borrow).chain([alarm]).collect()
}

fn finish(worker: &mut impl Turn) {
    for _ in 0..LAST_TURNS {
        if worker.turn(clock()) == 0 {
            break;
        }
    }
    for _ in 0..LAST_FLUSHES {
        worker.flush();
        if !worker.unfinished() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::ring::{Giver, Label, Taker, ring};

    /// A worker that takes handed packets and notes when.
    struct Inbox {
        taker: Taker,
        turns: Arc<AtomicU64>,
        taken_at: Arc<AtomicU64>,
    }

    impl Turn for Inbox {
        fn turn(&mut self, _now: Nanos) -> usize {
            self.turns.fetch_add(1, Ordering::Relaxed);
            match self.taker.take(|_, _| ()) {
                Some(()) => {
                    self.taken_at.store(clock().0, Ordering::Release);
                    1
                }
                None => 0,
            }
        }

        fn waiting(&self) -> bool {
            !self.taker.is_empty()
        }

        fn unfinished(&self) -> bool {
            false
        }

        fn flush(&mut self) {}

        fn descriptors(&self) -> Vec<RawFd> {
            Vec::new()
        }
    }

    struct Thread {
        giver: Giver,
        waker: Arc<Waker>,
        stop: Arc<AtomicBool>,
        turns: Arc<AtomicU64>,
        taken_at: Arc<AtomicU64>,
        join: Option<std::thread::JoinHandle<u64>>,
    }

    impl Thread {
        fn start(idle: Idle) -> Self {
            let (giver, taker) = ring(8, 64);
            let waker = Arc::new(Waker::new().unwrap());
            let (stop, turns, taken_at) = (Arc::default(), Arc::default(), Arc::default());
            let mut inbox = Inbox { taker, turns: Arc::clone(&turns), taken_at: Arc::clone(&taken_at) };
            let (w, s): (Arc<Waker>, Arc<AtomicBool>) = (Arc::clone(&waker), Arc::clone(&stop));
            let join = std::thread::spawn(move || {
                let sleeps = Counter::default();
                run(&mut inbox, idle, &w, &s, &sleeps);
                sleeps.get()
            });
            Self { giver, waker, stop, turns, taken_at, join: Some(join) }
        }

        /// Hands a packet over; returns how long it took to be taken.
        fn hand(&mut self) -> u64 {
            self.taken_at.store(0, Ordering::Release);
            let given = clock().0;
            assert!(self.giver.give(Label::default(), b"packet"));
            self.giver.commit();
            self.waker.wake();
            loop {
                match self.taken_at.load(Ordering::Acquire) {
                    0 => std::thread::yield_now(),
                    taken => return taken.saturating_sub(given),
                }
            }
        }

        /// Stops the worker; returns how often it slept.
        fn stop(&mut self) -> u64 {
            self.stop.store(true, Ordering::Relaxed);
            self.waker.wake();
            self.join.take().unwrap().join().unwrap()
        }
    }

    #[test]
    fn a_packet_handed_to_a_sleeping_worker_is_taken_within_a_millisecond() {
        let mut thread = Thread::start(Idle::Adaptive);
        let mut waits: Vec<u64> = (0..201)
            .map(|_| {
                std::thread::sleep(std::time::Duration::from_millis(1));
                thread.hand()
            })
            .collect();
        let slept = thread.stop();
        waits.sort_unstable();
        println!("median {} us, worst {} us, slept {slept} times", waits[100] / 1000, waits[200] / 1000);
        assert!(slept >= 150, "slept {slept} times: the packets were not handed to a sleeping worker");
        assert!(waits[100] < 1_000_000, "median {} ns", waits[100]);
    }

    #[test]
    fn an_idle_adaptive_worker_turns_about_a_hundred_times_a_second_and_a_spinning_one_never_sleeps() {
        let mut adaptive = Thread::start(Idle::Adaptive);
        let mut spinning = Thread::start(Idle::Spin);
        std::thread::sleep(std::time::Duration::from_millis(30));
        let before = adaptive.turns.load(Ordering::Relaxed);
        std::thread::sleep(std::time::Duration::from_millis(300));
        let turns = adaptive.turns.load(Ordering::Relaxed) - before;
        assert!((5..=60).contains(&turns), "{turns} turns in 300 ms");
        assert!(adaptive.stop() >= 5);
        assert!(spinning.turns.load(Ordering::Relaxed) > 1000);
        assert_eq!(spinning.stop(), 0);
    }

    #[test]
    fn a_stopping_worker_takes_what_was_handed_to_it() {
        let mut thread = Thread::start(Idle::Adaptive);
        thread.stop.store(true, Ordering::Relaxed);
        assert!(thread.giver.give(Label::default(), b"last"));
        thread.giver.commit();
        thread.stop();
        assert_ne!(thread.taken_at.load(Ordering::Acquire), 0);
    }
}
