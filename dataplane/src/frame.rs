//! Frames and the pool that they lie in.
//!
//! A frame is one contiguous chunk of the pool with a packet somewhere inside: moving a packet between ports moves
//! the frame, stripping or prepending headers moves its start. A [`Frame`] is not `Clone`, so that a packet cannot be
//! in two places; whoever holds one gives it back with [`Pool::recycle`]. Frame conservation (free + in flight =
//! total) is asserted by the tests of every port.
#![allow(unsafe_code, reason = "chunks of a UMEM are shared with the kernel, so no reference may span more than one")]

use std::any::Any;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

/// Offset at which a port places received data, so that outer headers can be prepended. AF_XDP's own headroom
/// (XDP_PACKET_HEADROOM, 256) in every mode.
pub const HEADROOM: usize = 256;

/// A packet in a chunk of a [`Pool`].
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    chunk: u32,
    start: u16,
    len: u16,
}

impl Frame {
    /// A frame over `chunk` whose packet is `len` octets from `start`; the pool checks bounds on access.
    #[must_use]
    pub fn new(chunk: u32, start: u16, len: u16) -> Self {
        Self { chunk, start, len }
    }

    /// Number of its chunk in the pool.
    #[must_use]
    pub fn chunk(&self) -> u32 {
        self.chunk
    }

    /// Offset of the packet in the chunk.
    #[must_use]
    pub fn start(&self) -> u16 {
        self.start
    }

    /// Octets of packet.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Takes it out of a place that will not be looked at again; what stays there is no chunk of any pool.
    #[must_use]
    #[inline]
    pub fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new(u32::MAX, 0, 0))
    }

    /// Whether it holds no octet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Strips `n` octets from the front; `false` (unchanged) when there are fewer.
    #[must_use]
    pub fn trim_front(&mut self, n: u16) -> bool {
        if self.len < n {
            return false;
        }
        self.start += n;
        self.len -= n;
        true
    }

    /// Makes room for `n` octets in front; `false` (unchanged) when the chunk has none.
    #[must_use]
    pub fn prepend(&mut self, n: u16) -> bool {
        if self.start < n {
            return false;
        }
        self.start -= n;
        self.len += n;
        true
    }

    /// Sets the packet's end, within the chunk; the pool checks bounds on access.
    pub fn set_len(&mut self, len: u16) {
        self.len = len;
    }

    /// Where the packet is, to restore it later with [`Frame::restore`].
    #[must_use]
    pub fn extent(&self) -> (u16, u16) {
        (self.start, self.len)
    }

    /// Puts start and length back to what [`Frame::extent`] said.
    pub fn restore(&mut self, (start, len): (u16, u16)) {
        self.start = start;
        self.len = len;
    }
}

/// Chunks of equal size, and the list of free ones (last in, first out: the warmest first).
pub struct Pool {
    base: NonNull<u8>,
    chunk_bytes: usize,
    free: Vec<u32>,
    count: u32,
    /// Keeps the memory alive.
    _owner: Box<dyn Any + Send>,
}

/// Heap memory of a pool, taken out of its Box so that the pool's pointer is the only one to it.
struct Heap(NonNull<[u8]>);

// SAFETY: the memory is plain octets, freed once, wherever that happens.
unsafe impl Send for Heap {}

impl Drop for Heap {
    fn drop(&mut self) {
        // SAFETY: `heap` leaked exactly this box, and the pool that used it is gone.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

// SAFETY: `base` points into memory that `_owner` (which is Send) keeps alive and that nothing but the pool and the
// kernel touches; the pool itself is moved whole to its worker's thread.
unsafe impl Send for Pool {}

impl Pool {
    /// A pool on the heap, for memory and pcap ports. `chunk_bytes` is at most 65535.
    #[must_use]
    pub fn heap(count: u32, chunk_bytes: usize) -> Self {
        let memory = NonNull::from(Box::leak(vec![0u8; count as usize * chunk_bytes].into_boxed_slice()));
        Self::build(memory.cast(), count, chunk_bytes, Box::new(Heap(memory)))
    }

    /// A pool over foreign memory such as a UMEM, kept alive by `owner`.
    ///
    /// # Safety
    /// `base` must point to `count * chunk_bytes` readable and writable octets that live as long as `owner`, and
    /// whatever else writes there (the kernel) must leave a chunk alone while a [`Frame`] over it exists or it is free.
    #[must_use]
    pub unsafe fn over(base: NonNull<u8>, count: u32, chunk_bytes: usize, owner: Box<dyn Any + Send>) -> Self {
        Self::build(base, count, chunk_bytes, owner)
    }

    fn build(base: NonNull<u8>, count: u32, chunk_bytes: usize, owner: Box<dyn Any + Send>) -> Self {
        assert!(chunk_bytes <= usize::from(u16::MAX) && chunk_bytes > HEADROOM);
        Self { base, chunk_bytes, free: (0..count).rev().collect(), count, _owner: owner }
    }

    /// Octets of a chunk.
    #[must_use]
    pub fn chunk_bytes(&self) -> usize {
        self.chunk_bytes
    }

    /// Longest packet that fits behind the headroom.
    #[must_use]
    pub fn packet_bytes(&self) -> usize {
        self.chunk_bytes - HEADROOM
    }

    /// Free chunks.
    #[must_use]
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// All chunks.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// An empty frame behind the headroom; `None` when all are in use.
    pub fn take(&mut self) -> Option<Frame> {
        self.free.pop().map(|chunk| Frame::new(chunk, HEADROOM as u16, 0))
    }

    /// A frame that holds a copy of `bytes`; `None` when all are in use or `bytes` is too long.
    pub fn take_copy(&mut self, bytes: &[u8]) -> Option<Frame> {
        if bytes.len() > self.packet_bytes() {
            return None;
        }
        let mut frame = self.take()?;
        frame.set_len(bytes.len() as u16);
        self.bytes_mut(&mut frame).copy_from_slice(bytes);
        Some(frame)
    }

    /// Gives a frame back.
    pub fn recycle(&mut self, frame: Frame) {
        // `free` was made with room for every chunk, so this never allocates.
        self.free.push(frame.chunk);
    }

    /// The packet.
    #[must_use]
    #[inline(always)]
    pub fn bytes(&self, frame: &Frame) -> &[u8] {
        let offset = self.offset(frame);
        // SAFETY: `offset` checked that the range lies in the pool's memory; the frame is the only one over its
        // chunk (frames are not Clone), it is borrowed shared, and the kernel leaves its chunk alone (see `over`).
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(offset), frame.len()) }
    }

    /// The packet, to be changed.
    #[must_use]
    #[inline(always)]
    pub fn bytes_mut(&mut self, frame: &mut Frame) -> &mut [u8] {
        let offset = self.offset(frame);
        // SAFETY: as in `bytes`; frame and pool are borrowed mutably, so no other reference exists.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr().add(offset), frame.len()) }
    }

    /// Moves the packet inside its chunk so that it begins at `start`; `false` (unchanged) when it does not fit.
    pub fn shift(&mut self, frame: &mut Frame, start: u16) -> bool {
        let (from, len) = (frame.start, frame.len);
        if usize::from(start) + usize::from(len) > self.chunk_bytes {
            return false;
        }
        frame.restore((0, self.chunk_bytes as u16));
        let chunk = self.bytes_mut(frame);
        chunk.copy_within(usize::from(from)..usize::from(from) + usize::from(len), usize::from(start));
        frame.restore((start, len));
        true
    }

    /// Asks the processor to fetch the packet's first line.
    #[inline]
    pub fn prefetch(&self, frame: &Frame) {
        let offset = (frame.chunk as usize).wrapping_mul(self.chunk_bytes).wrapping_add(usize::from(frame.start));
        prefetch(self.base.as_ptr().wrapping_add(offset));
    }

    #[inline(always)]
    fn offset(&self, frame: &Frame) -> usize {
        let end = usize::from(frame.start) + usize::from(frame.len);
        assert!(frame.chunk < self.count && end <= self.chunk_bytes, "a frame outside its chunk");
        frame.chunk as usize * self.chunk_bytes + usize::from(frame.start)
    }
}

/// Asks the processor to fetch the line at `address`, which need not be valid.
#[inline]
pub fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of any address has no effect that a program can see and cannot fault.
    unsafe {
        core::arch::x86_64::_mm_prefetch(address.cast(), core::arch::x86_64::_MM_HINT_T0);
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: PRFM of any address has no effect that a program can see and cannot fault.
    unsafe {
        core::arch::asm!("prfm pldl1keep, [{0}]", in(reg) address, options(nostack, preserves_flags));
    }
}

/// Asks the kernel to put huge pages behind memory that has not been written yet: a table of many megabytes that is
/// read at random otherwise misses the page tables' cache as often as its own lines. Where the kernel does not want to,
/// nothing changes.
pub fn huge_pages<T>(memory: &mut [MaybeUninit<T>]) {
    const HUGE: usize = 2 << 20;
    let start = memory.as_mut_ptr().cast::<u8>();
    let skipped = start.align_offset(HUGE);
    let whole = size_of_val(memory).saturating_sub(skipped) / HUGE * HUGE;
    if whole > 0 {
        // SAFETY: the range lies inside `memory`, and this advice changes no contents.
        unsafe { libc::madvise(start.add(skipped).cast(), whole, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shifted_packet_keeps_its_octets() {
        let mut pool = Pool::heap(2, 2048);
        let mut frame = pool.take_copy(&[1, 2, 3, 4, 5]).unwrap();
        assert!(frame.trim_front(2));
        assert!(frame.prepend(10) && frame.trim_front(10));
        assert!(pool.shift(&mut frame, 7));
        assert_eq!(pool.bytes(&frame), [3, 4, 5]);
        assert!(!pool.shift(&mut frame, 2046));
        pool.recycle(frame);
        assert_eq!(pool.free(), 2);
    }

    #[test]
    fn room_that_is_not_there_is_refused() {
        let mut frame = Frame::new(0, 40, 10);
        assert!(!frame.prepend(41) && !frame.trim_front(11));
        assert!(frame.prepend(40));
        assert_eq!(frame.extent(), (0, 50));
    }
}
