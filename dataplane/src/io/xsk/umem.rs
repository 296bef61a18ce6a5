//! The memory that a worker's sockets share.
#![allow(unsafe_code, reason = "a UMEM is memory that the kernel writes")]

use std::io;
use std::num::NonZeroU32;
use std::ptr::NonNull;
use std::sync::Arc;

use xsk_rs::config::{FrameSize, QueueSize, UmemConfig};
use xsk_rs::{FrameDesc, Umem};

use super::error::{XskError, umem_error};
use crate::frame::{HEADROOM, Pool};

/// The UMEM that one worker's sockets share.
pub struct WorkerUmem {
    pub(super) umem: Umem,
    /// A descriptor per chunk, at [`HEADROOM`].
    pub(super) descs: Arc<[FrameDesc]>,
    pub(super) chunk_bytes: usize,
    pub(super) rings: QueueSize,
}

impl WorkerUmem {
    /// A UMEM of `frames` chunks with rings of `rings` entries, and the pool over it.
    ///
    /// # Errors
    /// No privileges, too little lockable memory, or a ring size that is no power of two.
    pub fn new(frames: NonZeroU32, chunk_bytes: usize, rings: u32) -> Result<(Self, Pool), XskError> {
        raise_memlock();
        let bytes = frames.get() as usize * chunk_bytes;
        let queue = QueueSize::new(rings).map_err(|_| XskError::Rings { rings })?;
        let other = |error: String| XskError::Other { what: "UMEM".to_owned(), source: io::Error::other(error) };
        let config = UmemConfig::builder()
            .frame_size(FrameSize::new(chunk_bytes as u32).map_err(|e| other(e.to_string()))?)
            .fill_queue_size(queue)
            .comp_queue_size(queue)
            .build()
            .map_err(|e| other(e.to_string()))?;
        let (umem, mut descs) = Umem::new(config, frames, false).map_err(|e| umem_error(&e, bytes))?;
        let base = base(&umem, &mut descs[0]);
        // SAFETY: the mapping holds `frames` chunks of `chunk_bytes` and lives as long as any clone of the UMEM, one of
        // which the pool owns. The kernel writes only to chunks that a port has put into a fill ring, of which no Frame
        // exists until the rx ring gives it back.
        let pool = unsafe { Pool::over(base, frames.get(), chunk_bytes, Box::new(umem.clone())) };
        Ok((Self { umem, descs: descs.into(), chunk_bytes, rings: queue }, pool))
    }
}

/// Start of the mapping: the first descriptor's packet lies [`HEADROOM`] into it.
fn base(umem: &Umem, first: &mut FrameDesc) -> NonNull<u8> {
    // SAFETY: the descriptor is the UMEM's own and nobody else has it yet; its packet begins HEADROOM octets into the
    // mapping, so the subtraction stays inside.
    unsafe {
        let packet = umem.data_mut(first).contents_mut().as_mut_ptr();
        NonNull::new_unchecked(packet.sub(HEADROOM))
    }
}

/// Lifts the limit on locked memory. Refused without CAP_SYS_RESOURCE, which is no harm: CAP_IPC_LOCK or the service's
/// LimitMEMLOCK is what counts then, and [`XskError::LockedMemory`] says so.
fn raise_memlock() {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the structure lives through the call.
    let _ = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) };
}
