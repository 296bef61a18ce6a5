//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624 equation 3).
//!
//! An update never repairs: it adds the difference of what changed, so a wrong checksum stays exactly as wrong.

use super::{put, word};

/// The ones' complement sum of `bytes` on top of `sum`, not folded; an odd last octet counts as a high one.
#[must_use]
#[inline]
pub fn sum(bytes: &[u8], sum: u64) -> u64 {
    let mut total = sum;
    let mut quads = bytes.chunks_exact(4);
    for quad in &mut quads {
        total += u64::from(u32::from_be_bytes([quad[0], quad[1], quad[2], quad[3]]));
    }
    match *quads.remainder() {
        [a, b, c] => total + u64::from(u16::from_be_bytes([a, b])) + (u64::from(c) << 8),
        [a, b] => total + u64::from(u16::from_be_bytes([a, b])),
        [a] => total + (u64::from(a) << 8),
        _ => total,
    }
}

/// Folds a sum to 16 bits; its complement is the checksum.
#[must_use]
#[inline]
pub fn fold(sum: u64) -> u16 {
    // A half added to the other, on top of the carry that the same addition has in the lower half: end around.
    let half = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    (half.wrapping_add(half.rotate_left(16)) >> 16) as u16
}

/// What changed in a packet: old words out, new words in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Delta(u64);

impl Delta {
    /// A 16-bit word became another.
    #[must_use]
    #[inline]
    pub fn word(self, old: u16, new: u16) -> Self {
        Self(self.0 + u64::from(!old) + u64::from(new))
    }

    /// A 32-bit word became another.
    #[must_use]
    #[inline]
    pub fn long(self, old: u32, new: u32) -> Self {
        Self(self.0 + u64::from(!old) + u64::from(new))
    }

    /// A TTL above 0 became one less, beside a protocol that stays: whatever they are, the difference is the same.
    #[must_use]
    #[inline(always)]
    pub fn hop(self) -> Self {
        Self(self.0 + 0xfeff)
    }

    /// The checksum after the change.
    #[must_use]
    #[inline]
    pub fn apply(self, checksum: u16) -> u16 {
        !fold(self.0 + u64::from(!checksum))
    }

    /// Updates the checksum at `at`.
    #[inline]
    pub fn update(self, bytes: &mut [u8], at: usize) {
        let checksum = self.apply(word(bytes, at));
        put(bytes, at, checksum.to_be_bytes());
    }

    /// Updates a UDP checksum over IPv4 at `at`: 0 means none and stays, and a computed 0 is sent as ones (RFC 768).
    #[inline]
    pub fn update_udp(self, bytes: &mut [u8], at: usize) {
        let before = word(bytes, at);
        if before != 0 {
            let after = match self.apply(before) {
                0 => 0xffff,
                sum => sum,
            };
            put(bytes, at, after.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_update_is_what_a_full_computation_gives(mut bytes in prop::collection::vec(any::<u8>(), 12..80), new: u32) {
            // A zero sum has two forms in ones' complement; real headers are never all zero.
            bytes[0] = 0x45;
            let checksum = !fold(sum(&bytes, 0));
            let delta = Delta::default().long(super::super::long(&bytes, 4), new);
            put(&mut bytes, 4, new.to_be_bytes());
            prop_assert_eq!(delta.apply(checksum), !fold(sum(&bytes, 0)));
        }

        #[test]
        fn a_wrong_checksum_stays_as_wrong(mut bytes in prop::collection::vec(any::<u8>(), 12..80), new: u32, error in 1u16..0xffff) {
            bytes[0] = 0x45;
            let right = !fold(sum(&bytes, 0));
            let wrong = !fold(u64::from(!right) + u64::from(error));
            let delta = Delta::default().long(super::super::long(&bytes, 4), new);
            put(&mut bytes, 4, new.to_be_bytes());
            prop_assert_ne!(delta.apply(wrong), !fold(sum(&bytes, 0)));
        }
    }

    #[test]
    fn no_udp_checksum_stays_none_and_zero_is_sent_as_ones() {
        let mut none = [0, 0];
        Delta::default().word(1, 2).update_udp(&mut none, 0);
        assert_eq!(none, [0, 0]);
        // 0x0001 complemented is 0xfffe; adding 1 makes 0xffff, whose complement is 0.
        let mut some = [0, 1];
        Delta(1).update_udp(&mut some, 0);
        assert_eq!(some, [0xff, 0xff]);
    }
}
