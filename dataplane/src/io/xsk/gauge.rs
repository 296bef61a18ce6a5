//! What the kernel counts on a socket, for whoever is not its worker.
#![allow(unsafe_code, reason = "getsockopt(XDP_STATISTICS) has no safe binding")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What the kernel counts on a socket, and what the port refused. All since it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct XskStatistics {
    /// Packets dropped for another reason than the two below, such as too long for a chunk.
    pub rx_dropped: u64,
    /// Packets dropped because the rx ring was full: the worker is too slow.
    pub rx_ring_full: u64,
    /// Packets dropped (or delayed) because no frame waited: more `limits.frames`.
    pub fill_ring_empty: u64,
    /// Bad descriptors in the fill ring: a bug.
    pub rx_invalid: u64,
    /// Bad descriptors in the tx ring: a bug, and frames that never come back.
    pub tx_invalid: u64,
    /// Packets that the port refused to send (too short or long), and kicks that failed (the interface has gone).
    pub refused: u64,
}

/// A socket's statistics, readable from any thread. It keeps the socket open: drop it to free the queue.
#[derive(Debug)]
pub struct Gauge {
    pub(super) socket: OwnedFd,
    pub(super) refused: Arc<AtomicU64>,
}

impl Gauge {
    /// The counts now.
    ///
    /// # Errors
    /// What `getsockopt(XDP_STATISTICS)` says.
    pub fn statistics(&self) -> io::Result<XskStatistics> {
        // if_xdp.h struct xdp_statistics: rx_dropped, rx_invalid_descs, tx_invalid_descs, rx_ring_full,
        // rx_fill_ring_empty_descs, tx_ring_empty_descs.
        let mut counts = [0u64; 6];
        let mut bytes = size_of_val(&counts) as libc::socklen_t;
        // SAFETY: the array lives through the call and its size is given; older kernels fill less of it.
        let status = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_XDP,
                libc::XDP_STATISTICS,
                counts.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        if status != 0 {
            return Err(io::Error::last_os_error());
        }
        let [rx_dropped, rx_invalid, tx_invalid, rx_ring_full, fill_ring_empty, _] = counts;
        let refused = self.refused.load(Relaxed);
        Ok(XskStatistics { rx_dropped, rx_ring_full, fill_ring_empty, rx_invalid, tx_invalid, refused })
    }
}
