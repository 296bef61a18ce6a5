//! The Internet checksum (RFC 1071) in pieces: sums of octets wherever they lie, added as if they lay one behind the other.

use super::checksum::fold;

/// A sum of 16-bit words in native order: which order it is does not matter until it is written (RFC 1071 section 2(B)).
/// It is kept in ones' complement of 64 bits, which is a multiple of that of 16, so that eight octets are one addition,
/// and turning by eight bits is swapping the octets of every word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// What [`Sum::word`] keeps.
    #[must_use]
    #[inline(always)]
    pub fn of_word(word: u16) -> Self {
        Self(u64::from(word))
    }

    /// Adds octets that lie at this offset; at an odd one every octet is the other half of its word.
    #[inline(always)]
    pub fn add(&mut self, octets: &[u8], offset: usize) {
        let mut sum = Self::default();
        let (words, rest) = octets.as_chunks::<8>();
        match octets.last_chunk::<8>() {
            Some(last) => {
                // Often there is but one word, which needs no loop.
                if let [word] = words {
                    sum.eight(u64::from_ne_bytes(*word));
                } else {
                    words.iter().for_each(|word| sum.eight(u64::from_ne_bytes(*word)));
                }
                // The octets that are left, out of the last eight; twice by four bits, for none may be.
                let known = 4 * (8 - rest.len() as u32);
                sum.eight((u64::from_le_bytes(*last) >> known >> known).to_le());
            }
            None => {
                // From the longest piece down: a copy of so few octets would be a call.
                let (long, rest) = rest.as_chunks::<4>();
                let (short, rest) = rest.as_chunks::<2>();
                let long = long.first().map_or(0, |four| u64::from(u32::from_ne_bytes(*four)));
                let short = short.first().map_or(0, |two| u64::from(u16::from_ne_bytes(*two)));
                let last = rest.first().map_or(0, |one| u64::from(u16::from_ne_bytes([*one, 0])));
                sum.eight(long + short + last);
            }
        }
        self.join(sum, offset);
    }

    /// Adds eight octets at an even offset, read in native order.
    #[inline(always)]
    pub fn eight(&mut self, octets: u64) {
        let (sum, carry) = self.0.overflowing_add(octets);
        self.0 = sum + u64::from(carry);
    }

    /// Adds a 16-bit word at an even offset.
    #[inline(always)]
    pub fn add_word(&mut self, word: u16) {
        self.eight(u64::from(word.to_be()));
    }

    /// Adds what was summed as if it began at an even offset, and begins at this one.
    #[inline(always)]
    pub fn join(&mut self, other: Self, offset: usize) {
        self.eight(other.0.rotate_left(8 * (offset as u32 & 1)));
    }

    /// Takes a word out, so often, and puts another in; all at offsets as even or odd as this one.
    #[inline(always)]
    pub fn replace(&mut self, old: [u8; 2], new: [u8; 2], times: u16, offset: usize) {
        // Taking away is adding the complement (RFC 1624).
        let change = u64::from(!u16::from_ne_bytes(old)) + u64::from(u16::from_ne_bytes(new));
        self.join(Self(change * u64::from(times)), offset);
    }

    /// Folded to one word, in native order.
    #[must_use]
    #[inline]
    pub fn word(self) -> u16 {
        fold(self.0)
    }

    /// Folded and complemented, in wire order.
    #[must_use]
    #[inline]
    pub fn checksum(self) -> [u8; 2] {
        (!self.word()).to_ne_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reference(octets: &[u8]) -> u16 {
        let sum: u32 = octets.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0))).sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        !(((sum & 0xffff) + (sum >> 16)) as u16)
    }

    proptest! {
        #[test]
        fn pieces_sum_to_the_whole(octets in prop::collection::vec(any::<u8>(), 0..300), cuts in prop::collection::vec(0usize..300, 0..4)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(octets.len())).collect();
            cuts.extend([0, octets.len()]);
            cuts.sort_unstable();
            let mut sum = Sum::default();
            for pair in cuts.windows(2) {
                sum.add(&octets[pair[0]..pair[1]], pair[0]);
            }
            // 0 and 0xffff are one number.
            let (ours, theirs) = (u16::from_be_bytes(sum.checksum()), reference(&octets));
            prop_assert!(ours == theirs || ours ^ theirs == 0xffff && (ours == 0 || theirs == 0));
            let mut whole = Sum::default();
            whole.add(&octets, 0);
            let mut joined = Sum::default();
            joined.join(whole, 1);
            joined.add(&[7], 0);
            prop_assert_eq!(u16::from_be_bytes(joined.checksum()), reference(&[&[7], &octets[..]].concat()));
        }
    }
}
