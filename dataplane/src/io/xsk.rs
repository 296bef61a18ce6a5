//! AF_XDP: one socket on one queue of an interface, and the UMEM that a worker's sockets share.
//!
//! Contract: every frame is on the pool's free list, with the worker, or [`XskPort::held`] by a port; the sum is the
//! pool's count. A port holds at most its share for reception, so several ports of one pool never starve each other.
//!
//! A packet leaves from [`HEADROOM`] into its chunk: xsk-rs has no setter for a descriptor's address, so
//! [`Port::transmit`] moves a packet whose start was trimmed or prepended ([`Pool::shift`]: +2 ns at 64 octets, +9 at
//! 512, +43 at 1450; facts/platform.md). Nothing else is copied here.
//!
//! Where the kernel copies (veth, `copy`, `skb`), a transmit is one skb per packet and ~1.4 us: the port's own code is
//! about 1 % of it. One UMEM serves sockets of several devices only in copy mode or where all of them do zero copy.
#![allow(unsafe_code, reason = "AF_XDP rings and their UMEM are memory that the kernel writes")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use xsk_rs::config::{BindFlags, Interface, LibxdpFlags, SocketConfig};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem};

use self::chunk::ETHERNET_BYTES;
use self::error::socket_error;
use super::errno::errno;
use super::{BURST, Frames, Port};
use crate::frame::{Frame, HEADROOM, Pool};
use crate::time::Nanos;

pub use self::chunk::chunk_bytes;
pub use self::error::XskError;
pub use self::gauge::{Gauge, XskStatistics};
pub use self::umem::WorkerUmem;

mod chunk;
mod error;
mod gauge;
mod umem;

/// Packets of one `sendto` where the kernel can be asked (XDP_MAX_TX_SKB_BUDGET, Linux 6.16; 32 otherwise):
/// +11 to 18 % per CPU second (facts/platform.md).
const TRANSMIT_BUDGET: u32 = 256;
/// `setsockopt` number of that option, which libc does not name yet.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;
/// A queue stays taken for a moment after its last owner has gone: how often and how long to try.
const BUSY_TRIES: u32 = 40;
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// How a socket binds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bind {
    /// The card writes into the UMEM; every port of the worker must.
    ZeroCopy,
    /// The kernel copies (native or generic program).
    Copy,
}

/// One queue of one interface.
pub struct XskPort {
    rx: RxQueue,
    tx: TxQueue,
    fill: FillQueue,
    completion: CompQueue,
    umem: Umem,
    descs: Arc<[FrameDesc]>,
    chunk_shift: u32,
    rings: usize,
    /// Most frames that wait for reception at once.
    share: usize,
    /// Frames in the fill ring, the rx ring and between.
    filled: usize,
    /// Frames in the tx ring, the completion ring and between.
    sent: usize,
    scratch: [FrameDesc; BURST],
    refused: Arc<AtomicU64>,
}

impl XskPort {
    /// A socket on `queue` of `interface`, that keeps at most `share` frames for reception. It receives nothing until
    /// [`super::steer::Steer::register`] has its descriptor. The first socket of a UMEM decides zero copy for all.
    ///
    /// # Errors
    /// See [`XskError`]; a taken queue is tried for two seconds.
    pub fn open(umem: &WorkerUmem, interface: &str, queue: u32, share: usize, bind: Bind) -> Result<Self, XskError> {
        let (tx, rx, rings) = socket(umem, interface, queue, bind)?;
        let Some((fill, completion)) = rings else {
            // Two sockets of one UMEM on one queue would share the rings; a worker has one per queue.
            return Err(XskError::QueueTaken { interface: interface.to_owned(), queue });
        };
        let rings = umem.rings.get() as usize;
        let port = Self {
            rx,
            tx,
            fill,
            completion,
            umem: umem.umem.clone(),
            descs: Arc::clone(&umem.descs),
            chunk_shift: umem.chunk_bytes.trailing_zeros(),
            rings,
            share: share.min(rings),
            filled: 0,
            sent: 0,
            scratch: [FrameDesc::default(); BURST],
            refused: Arc::default(),
        };
        port.close_on_exec();
        port.raise_budget();
        Ok(port)
    }

    /// Offers the port's share of frames for reception, so that nothing is lost before its worker's first turn.
    pub fn prime(&mut self, pool: &mut Pool) {
        self.refill(pool);
    }

    /// Frames that the port and the kernel have: waiting for reception or transmission, received and not yet taken,
    /// transmitted and not yet given back.
    #[must_use]
    pub fn held(&self) -> usize {
        self.filled + self.sent
    }

    /// What another thread reads the kernel's statistics by.
    ///
    /// # Errors
    /// Too many open files.
    pub fn gauge(&self) -> io::Result<Gauge> {
        Ok(Gauge { socket: self.as_fd().try_clone_to_owned()?, refused: Arc::clone(&self.refused) })
    }

    /// libxdp opens its sockets without it, and a child would keep the queue taken.
    fn close_on_exec(&self) {
        let _ = rustix::io::fcntl_setfd(self, rustix::io::FdFlags::CLOEXEC);
    }

    /// Older kernels refuse, and send 32 packets per call.
    fn raise_budget(&self) {
        let budget = TRANSMIT_BUDGET.min(self.rings as u32);
        // SAFETY: the value lives through the call and its size is given.
        let _ = unsafe {
            libc::setsockopt(
                self.as_raw_fd(),
                libc::SOL_XDP,
                XDP_MAX_TX_SKB_BUDGET,
                (&raw const budget).cast(),
                size_of::<u32>() as libc::socklen_t,
            )
        };
    }

    /// Offers free frames for reception, up to the share and to what the ring has room for (`produce` is
    /// all-or-nothing).
    fn refill(&mut self, pool: &mut Pool) {
        let mut want = self.share - self.filled;
        while want > 0 {
            let room = self.fill.nb_free(BURST as u32) as usize;
            let batch = want.min(room).min(BURST);
            let mut n = 0;
            while n < batch
                && let Some(frame) = pool.take()
            {
                self.scratch[n] = self.descs[frame.chunk() as usize];
                n += 1;
            }
            // SAFETY: the descriptors are this UMEM's and their frames have just left the pool's free list.
            let produced = unsafe { self.fill.produce(&self.scratch[..n]) };
            debug_assert_eq!(produced, n);
            self.filled += n;
            if n < BURST {
                return;
            }
            want -= n;
        }
    }

    /// A received packet's frame.
    fn frame(&self, desc: &FrameDesc) -> Frame {
        let chunk = desc.addr() >> self.chunk_shift;
        let start = desc.addr() - (chunk << self.chunk_shift);
        Frame::new(chunk as u32, start as u16, desc.lengths().data() as u16)
    }

    /// The descriptor by which `frame` is sent, its packet moved to where descriptors begin; `None` when it is no
    /// packet that this port may send.
    fn describe(&self, pool: &mut Pool, frame: &mut Frame) -> Option<FrameDesc> {
        let packet = ETHERNET_BYTES..=self.frame_bytes();
        let moved = usize::from(frame.start()) == HEADROOM || pool.shift(frame, HEADROOM as u16);
        if !packet.contains(&frame.len()) || !moved {
            return None;
        }
        let mut desc = self.descs[frame.chunk() as usize];
        // SAFETY: `frame` is the only one over its chunk and is borrowed mutably.
        unsafe { self.umem.data_mut(&mut desc) }.cursor().set_pos(frame.len());
        Some(desc)
    }

    /// Descriptors that the kernel has not taken from the tx ring yet.
    fn pending(&mut self) -> usize {
        self.rings - self.tx.nb_free_exact() as usize
    }

    /// Tells the kernel of packets in the tx ring, as often as it makes progress.
    fn kick(&mut self) {
        let mut pending = self.pending();
        while pending > 0 && self.tx.needs_wakeup() {
            if self.tx.wakeup().is_err() {
                // ENXIO: the interface has gone. Control watches netlink; here it only shows.
                self.refused.fetch_add(1, Relaxed);
                return;
            }
            let left = self.pending();
            if left >= pending {
                return;
            }
            pending = left;
        }
    }

    /// Gives transmitted frames back to the pool.
    fn reap(&mut self, pool: &mut Pool) {
        while self.sent > 0 {
            // SAFETY: the completion ring is this UMEM's.
            let n = unsafe { self.completion.consume(&mut self.scratch) };
            for i in 0..n {
                let frame = self.frame(&self.scratch[i]);
                pool.recycle(frame);
            }
            self.sent -= n;
            if n < BURST {
                return;
            }
        }
    }
}

impl Port for XskPort {
    fn receive(&mut self, pool: &mut Pool, _now: Nanos, into: &mut Frames) {
        let room = into.remaining_capacity();
        // SAFETY: the rx ring is this UMEM's.
        let n = unsafe { self.rx.consume(&mut self.scratch[..room]) };
        for i in 0..n {
            let frame = self.frame(&self.scratch[i]);
            into.push(frame);
        }
        self.filled -= n;
        self.refill(pool);
        // Zero-copy drivers set the flag when they ran out of frames; copy mode never does.
        if self.fill.needs_wakeup() {
            let _ = self.fill.wakeup(self.rx.fd_mut(), 0);
        }
    }

    fn transmit(&mut self, pool: &mut Pool, frames: &mut Frames) {
        let room = (self.tx.nb_free(frames.len() as u32) as usize).min(frames.len());
        let mut n = 0;
        for mut frame in frames.drain(..room) {
            if let Some(desc) = self.describe(pool, &mut frame) {
                self.scratch[n] = desc;
                n += 1;
            } else {
                self.refused.fetch_add(1, Relaxed);
                pool.recycle(frame);
            }
        }
        // SAFETY: the descriptors are this UMEM's, and their frames were moved out of `frames`: nobody else has them.
        let produced = unsafe { self.tx.produce(&self.scratch[..n]) };
        debug_assert_eq!(produced, n);
        self.sent += n;
    }

    fn flush(&mut self, pool: &mut Pool) {
        if self.sent > 0 {
            self.kick();
            self.reap(pool);
        }
    }

    fn descriptor(&self) -> Option<RawFd> {
        Some(self.as_raw_fd())
    }

    fn unfinished(&self) -> bool {
        self.sent > 0
    }

    fn frame_bytes(&self) -> usize {
        (1 << self.chunk_shift) - HEADROOM
    }
}

impl AsRawFd for XskPort {
    fn as_raw_fd(&self) -> RawFd {
        self.rx.fd().as_raw_fd()
    }
}

impl AsFd for XskPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket stays open while any of its queues lives, and `self` owns all four.
        unsafe { BorrowedFd::borrow_raw(self.as_raw_fd()) }
    }
}

type Queues = (TxQueue, RxQueue, Option<(FillQueue, CompQueue)>);

fn socket(umem: &WorkerUmem, interface: &str, queue: u32, bind: Bind) -> Result<Queues, XskError> {
    let mode = match bind {
        Bind::ZeroCopy => BindFlags::XDP_ZEROCOPY,
        Bind::Copy => BindFlags::XDP_COPY,
    };
    let config = SocketConfig::builder()
        .rx_queue_size(umem.rings)
        .tx_queue_size(umem.rings)
        .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
        .bind_flags(mode | BindFlags::XDP_USE_NEED_WAKEUP)
        .build();
    let missing = || XskError::NoInterface { interface: interface.to_owned() };
    let name: Interface = interface.parse().map_err(|_| missing())?;
    let mut tries = 0;
    loop {
        // SAFETY: the rings of this UMEM are used by ports of one worker only, one socket per interface and queue.
        let error = match unsafe { Socket::new(config, &umem.umem, &name, queue) } {
            Ok(queues) => return Ok(queues),
            Err(error) => error,
        };
        tries += 1;
        if errno(&error) != libc::EBUSY || tries == BUSY_TRIES {
            return Err(socket_error(errno(&error), interface, queue));
        }
        std::thread::sleep(BUSY_PAUSE);
    }
}
