//! Time as the packet path knows it: nanoseconds on a monotonic clock that the caller reads once per turn.

/// Nanoseconds since an arbitrary start, never backwards.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Nanos(pub u64);

impl Nanos {
    /// Length of a session tick.
    pub const TICK: u64 = 2_000_000_000;

    /// From whole seconds.
    #[must_use]
    pub fn from_seconds(seconds: u64) -> Self {
        Self(seconds * 1_000_000_000)
    }

    /// The coarse session clock: 2-second ticks modulo 4096, so that half a wrap (4096 s) exceeds every time-out.
    #[must_use]
    pub fn tick(self) -> Tick {
        Tick((self.0 / Self::TICK) as u16 & Tick::MASK)
    }
}

/// A 12-bit coarse time; only differences modulo the wrap mean anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tick(pub u16);

impl Tick {
    /// Bits that a tick has.
    pub const MASK: u16 = 0x0fff;

    /// Ticks from `earlier` to `self`, modulo the wrap.
    #[must_use]
    pub fn since(self, earlier: Self) -> u16 {
        self.0.wrapping_sub(earlier.0) & Self::MASK
    }

    /// The later of two ticks that are less than half a wrap apart.
    #[must_use]
    pub fn or_later(self, other: Self) -> Self {
        if other.since(self) <= Self::MASK / 2 { other } else { self }
    }
}
