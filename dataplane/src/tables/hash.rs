//! Keyed hashing. Every hash of something that a packet can choose is keyed, so that nobody outside can aim at one
//! bucket.
//!
//! SipHash-1-3 (Aumasson and Bernstein 2012) over one or two 64-bit words, the same function as the `siphasher`
//! crate's over their little-endian octets (a test holds it to that), unrolled so that several packets' hashes
//! overlap in the processor.

use crate::wire::name;

/// A 128-bit hash key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HashKey {
    k0: u64,
    k1: u64,
}

#[derive(Clone, Copy)]
struct State([u64; 4]);

impl State {
    #[inline(always)]
    fn round(self) -> Self {
        let [mut a, mut b, mut c, mut d] = self.0;
        a = a.wrapping_add(b);
        c = c.wrapping_add(d);
        b = b.rotate_left(13) ^ a;
        d = d.rotate_left(16) ^ c;
        a = a.rotate_left(32);
        c = c.wrapping_add(b);
        a = a.wrapping_add(d);
        b = b.rotate_left(17) ^ c;
        d = d.rotate_left(21) ^ a;
        c = c.rotate_left(32);
        Self([a, b, c, d])
    }

    #[inline(always)]
    fn absorb(self, word: u64) -> Self {
        let [a, b, c, d] = self.0;
        let Self([a, b, c, d]) = Self([a, b, c, d ^ word]).round();
        Self([a ^ word, b, c, d])
    }

    #[inline(always)]
    fn finish(self) -> u64 {
        let [a, b, c, d] = self.0;
        let Self([a, b, c, d]) = Self([a, b, c ^ 0xff, d]).round().round().round();
        a ^ b ^ c ^ d
    }
}

impl HashKey {
    /// From 16 octets.
    #[must_use]
    pub fn new(key: [u8; 16]) -> Self {
        let word = |i: usize| u64::from_le_bytes(std::array::from_fn(|j| key[i + j]));
        Self { k0: word(0), k1: word(8) }
    }

    #[inline(always)]
    fn start(self) -> State {
        State([
            self.k0 ^ 0x736f_6d65_7073_6575,
            self.k1 ^ 0x646f_7261_6e64_6f6d,
            self.k0 ^ 0x6c79_6765_6e65_7261,
            self.k1 ^ 0x7465_6462_7974_6573,
        ])
    }

    /// Of one word.
    #[must_use]
    #[inline]
    pub fn one(self, word: u64) -> u64 {
        self.start().absorb(word).absorb(8 << 56).finish()
    }

    /// Of two words.
    #[must_use]
    #[inline]
    pub fn two(self, first: u64, second: u64) -> u64 {
        self.start().absorb(first).absorb(second).absorb(16 << 56).finish()
    }

    /// Of words: equal to [`HashKey::bytes`] of their little-endian octets.
    #[must_use]
    #[inline]
    pub fn words(self, words: impl Iterator<Item = u64>) -> u64 {
        let (state, count) = words.fold((self.start(), 0u64), |(state, count), word| (state.absorb(word), count + 1));
        state.absorb(count << 59).finish()
    }

    /// Of octets; not for the packet path.
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> u64 {
        let mut state = self.start();
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            state = state.absorb(u64::from_le_bytes(std::array::from_fn(|i| word[i])));
        }
        let mut last = (bytes.len() as u64) << 56;
        for (i, octet) in words.remainder().iter().enumerate() {
            last |= u64::from(*octet) << (8 * i);
        }
        state.absorb(last).finish()
    }
}

/// A key for hashes that stay inside a worker: places in its session tables. Whoever cannot see them cannot learn the key,
/// so multiplications, 64 by 64 bits to 128 and folded, do what takes SipHash ninety instructions. Every word goes through
/// two of them: through one alone, words in equal steps (the ports of one client) lie on a lattice, which some keys bring
/// into a few buckets. What is visible (which backend answers) is chosen with [`HashKey`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MixKey {
    mixed: [u64; 4],
    before: [u64; 2],
    shown: [u64; 2],
}

impl MixKey {
    #[inline(always)]
    fn fold(a: u64, b: u64) -> u64 {
        let product = u128::from(a) * u128::from(b);
        (product >> 64) as u64 ^ product as u64
    }

    /// Of one word.
    #[must_use]
    #[inline]
    pub fn one(self, word: u64) -> u64 {
        let [a, b, c, d] = self.mixed;
        Self::fold(Self::fold(word ^ a, b) ^ c, d)
    }

    /// Of two words.
    #[must_use]
    #[inline]
    pub fn two(self, first: u64, second: u64) -> u64 {
        let [a, b, c, d] = self.mixed;
        Self::fold(Self::fold(first ^ a, second ^ b) ^ c, d)
    }

    /// Of three words.
    #[must_use]
    #[inline]
    pub fn three(self, first: u64, second: u64, third: u64) -> u64 {
        let [e, f] = self.before;
        self.one(Self::fold(first ^ e, second ^ f) ^ third)
    }

    /// What tells a flow with this hash from others on the wire: a digest with a key of its own, so that the hash itself
    /// stays inside.
    #[must_use]
    #[inline]
    pub fn entropy(self, hash: u64) -> u16 {
        let [g, h] = self.shown;
        Self::fold(hash ^ g, h) as u16
    }
}

impl From<HashKey> for MixKey {
    fn from(key: HashKey) -> Self {
        // Odd, so that no bit of a word is lost in a multiplication.
        let word = |n| key.one(n) | 1;
        Self { mixed: [1, 2, 3, 4].map(word), before: [5, 6].map(word), shown: [7, 8].map(word) }
    }
}

/// A key for the hashes of names, which stay inside their table as those of [`MixKey`] stay in theirs: of a name one sees
/// only whether it is there. Letters of either case are one: the bit that tells them apart is set everywhere, and what else
/// that makes alike is told apart by comparing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NameKey {
    seed: u64,
    mixed: [u64; 3],
}

impl NameKey {
    /// The bit of a letter's case, in every octet.
    const CASE: u64 = 0x2020_2020_2020_2020;

    /// Of the words of a name ([`crate::wire::name::words`]).
    #[must_use]
    #[inline(always)]
    pub fn start(&self) -> Naming<'_> {
        Naming { key: self, state: self.seed }
    }

    /// Of a name in wire form.
    #[must_use]
    #[inline]
    pub fn name(&self, wire: &[u8]) -> u64 {
        let mut naming = self.start();
        name::words(wire).for_each(|word| naming.word(word));
        naming.finish()
    }
}

impl From<HashKey> for NameKey {
    fn from(key: HashKey) -> Self {
        let word = |n| key.one(n) | 1;
        Self { seed: key.one(9), mixed: [10, 11, 12].map(word) }
    }
}

/// The hash of a name on its way.
#[derive(Clone, Copy)]
pub struct Naming<'a> {
    key: &'a NameKey,
    state: u64,
}

impl Naming<'_> {
    /// Its next word.
    #[inline(always)]
    pub fn word(&mut self, word: u64) {
        let [a, ..] = self.key.mixed;
        self.state = MixKey::fold(self.state ^ (word | NameKey::CASE), a);
    }

    /// Of all of them.
    #[must_use]
    #[inline(always)]
    pub fn finish(self) -> u64 {
        let [_, b, c] = self.key.mixed;
        MixKey::fold(self.state ^ b, c)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::Hasher;

    use proptest::prelude::*;
    use siphasher::sip::SipHasher13;

    use super::*;

    proptest! {
        #[test]
        fn it_is_the_reference_function(key: [u8; 16], bytes: Vec<u8>, a: u64, b: u64) {
            let reference = |bytes: &[u8]| {
                let mut hasher = SipHasher13::new_with_key(&key);
                hasher.write(bytes);
                hasher.finish()
            };
            let ours = HashKey::new(key);
            prop_assert_eq!(ours.bytes(&bytes), reference(&bytes));
            prop_assert_eq!(ours.one(a), reference(&a.to_le_bytes()));
            let two: Vec<u8> = [a.to_le_bytes(), b.to_le_bytes()].concat();
            prop_assert_eq!(ours.two(a, b), reference(&two));
            let words = bytes.as_chunks::<8>().0;
            let octets = words.as_flattened();
            prop_assert_eq!(ours.words(words.iter().map(|w| u64::from_le_bytes(*w))), reference(octets));
        }
    }

    /// Clients one after the other, in whatever word they differ and by whatever step, spread over buckets as random ones
    /// would: of 16,384 in as many buckets 37 in 100 stay empty (1/e), and none gets a dozen or two.
    #[test]
    fn mixed_hashes_of_neighbours_spread() {
        const MANY: u64 = 1 << 14;
        let hashes: [fn(MixKey, u64) -> u64; 6] = [
            |key, n| key.one(n),
            |key, n| key.two(n, 7),
            |key, n| key.two(7, n),
            |key, n| key.three(n, 7, 9),
            |key, n| key.three(7, n, 9),
            |key, n| key.three(7, 9, n),
        ];
        let mut buckets = vec![0u8; MANY as usize];
        for seed in 0..60u16 {
            let mut octets = [0; 16];
            octets[..2].copy_from_slice(&seed.to_le_bytes());
            let key = MixKey::from(HashKey::new(octets));
            for (which, hash) in hashes.iter().enumerate() {
                for step in [0, 16, 32, 44] {
                    let half = u32::from(seed % 2) * 32;
                    buckets.fill(0);
                    (0..MANY).for_each(|n| buckets[(hash(key, n << step) >> half) as usize % MANY as usize] += 1);
                    let empty = buckets.iter().filter(|n| **n == 0).count();
                    let most = buckets.iter().max().copied().unwrap_or_default();
                    assert!(
                        (5_300..6_900).contains(&empty) && most < 24,
                        "seed {seed}, hash {which}, step {step}: {empty} empty, most {most}"
                    );
                }
            }
        }
    }
}
