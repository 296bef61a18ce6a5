//! How a sleeping worker is woken: a flag that says it sleeps, and an eventfd written only then.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};

use rustix::event::{EventfdFlags, eventfd};

/// One worker's alarm clock, shared with everyone who makes work for it.
#[derive(Debug)]
pub struct Waker {
    sleeping: AtomicBool,
    eventfd: OwnedFd,
}

impl Waker {
    /// A waker whose worker is awake.
    ///
    /// # Errors
    /// What `eventfd(2)` says, such as too many open files.
    pub fn new() -> std::io::Result<Self> {
        let eventfd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { sleeping: AtomicBool::new(false), eventfd })
    }

    /// Says that the worker is about to sleep. It must look at every source of work once more after this and before
    /// it polls: the fence orders its flag before that look, as [`Waker::wake`]'s orders new work before its flag.
    pub fn fall_asleep(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Says that the worker is awake again, and empties the eventfd.
    pub fn awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
        let mut count = [0u8; 8];
        // Nothing to read (EAGAIN) is the usual case: the worker woke for a packet.
        let _ = rustix::io::read(&self.eventfd, &mut count);
    }

    /// Wakes the worker if it sleeps; call after the new work is visible. No system call when it is awake.
    pub fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) {
            // A full eventfd (EAGAIN) is readable, which is all that is wanted.
            let _ = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
        }
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}
