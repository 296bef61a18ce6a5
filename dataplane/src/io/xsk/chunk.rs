//! How large a chunk must be: a packet always lies in one.

use super::XskError;

/// Ethernet header, octets; the kernel never completes a shorter packet.
pub(super) const ETHERNET_BYTES: usize = 14;
/// An 802.1Q tag, octets.
const VLAN_BYTES: usize = 4;
/// Chunk sizes, and the longest packet in each (design.md section 2): the headroom, and 64 octets for what a worker
/// adds at either end.
const LONGEST: [(usize, usize); 2] = [(2048, 1728), (4096, 3776)];

/// Octets of a chunk for ports of at most this MTU.
///
/// # Errors
/// [`XskError::Mtu`] above 3758.
pub fn chunk_bytes(mtu: usize) -> Result<usize, XskError> {
    let packet = mtu + ETHERNET_BYTES + VLAN_BYTES;
    LONGEST.iter().find(|(_, longest)| packet <= *longest).map(|(chunk, _)| *chunk).ok_or(XskError::Mtu { mtu })
}

/// Largest MTU that the largest chunk holds.
pub(super) const fn max_mtu() -> usize {
    LONGEST[1].1 - ETHERNET_BYTES - VLAN_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_grow_with_the_mtu_and_what_fits_none_is_refused() {
        assert_eq!(chunk_bytes(1500).unwrap(), 2048);
        assert_eq!(chunk_bytes(1710).unwrap(), 2048);
        assert_eq!(chunk_bytes(1711).unwrap(), 4096);
        assert_eq!(chunk_bytes(3758).unwrap(), 4096);
        assert_eq!(
            chunk_bytes(9000).unwrap_err().to_string(),
            "MTU 9000 does not fit: a packet must lie in one chunk, so 3758 is the most; \
             set it with `ip link set dev INTERFACE mtu 3758` or less"
        );
    }
}
