//! 802.1Q tags (IEEE 802.1Q, 802.1ad): off before parsing, on again before they leave.

use super::{put, word};
use crate::verdict::DropReason;

/// Octets of one tag.
const TAG: usize = 4;
/// Tags that are understood: a service tag and a customer tag.
const MOST: usize = 2;
/// Both Ethernet addresses.
const ADDRESSES: usize = 12;

/// Whether an Ethernet type announces a tag: customer (802.1Q), service (802.1ad), and what came before that.
#[must_use]
#[inline]
pub fn is_tag(ether_type: u16) -> bool {
    matches!(ether_type, 0x8100 | 0x88a8 | 0x9100)
}

/// Keeps a frame's tags in `tags` and moves its addresses up against what is tagged; the caller takes the octets
/// that it returns off the front.
///
/// # Errors
/// A third tag, one with the reserved number, or a frame that ends inside one.
pub fn untag(frame: &mut [u8], tags: &mut [u8; MOST * TAG]) -> Result<u8, DropReason> {
    let count = (0..=MOST).take_while(|n| is_tag(word(frame, ADDRESSES + n * TAG))).count();
    // Priority and drop bits are above the number; 4095 is nobody's (IEEE 802.1Q table 9-2).
    let reserved = (0..count).any(|n| word(frame, ADDRESSES + n * TAG + 2) & 0xfff == 0xfff);
    if count > MOST || reserved {
        return Err(DropReason::TagDepth);
    }
    let octets = count * TAG;
    let given = frame.get(ADDRESSES..ADDRESSES + octets).ok_or(DropReason::Truncated)?;
    tags[..octets].copy_from_slice(given);
    frame.copy_within(..ADDRESSES, octets);
    Ok(octets as u8)
}

/// Puts tags back into a frame to whose front their octets were added.
pub fn tag(frame: &mut [u8], tags: &[u8]) {
    if frame.len() < ADDRESSES + tags.len() {
        return;
    }
    frame.copy_within(tags.len()..tags.len() + ADDRESSES, 0);
    match tags {
        [a, b, c, d] => put(frame, ADDRESSES, [*a, *b, *c, *d]),
        _ => frame[ADDRESSES..ADDRESSES + tags.len()].copy_from_slice(tags),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_come_off_and_go_on_again() {
        let addresses: Vec<u8> = (1..=12).collect();
        for tags in [&[0x81, 0, 0, 5][..], &[0x88, 0xa8, 0, 7, 0x81, 0, 0x20, 5]] {
            let frame = [&addresses[..], tags, &[8, 0, 0x45]].concat();
            let (mut work, mut kept) = (frame.clone(), [0; 8]);
            let octets = usize::from(untag(&mut work, &mut kept).unwrap());
            assert_eq!(work[octets..], [&addresses[..], &[8, 0, 0x45]].concat());
            tag(&mut work, &kept[..octets]);
            assert_eq!(work, frame);
        }
    }

    #[test]
    fn three_tags_and_half_a_tag_are_refused() {
        let three = [&[0; 12][..], &[0x81, 0, 0, 5].repeat(3)].concat();
        assert_eq!(untag(&mut three.clone(), &mut [0; 8]), Err(DropReason::TagDepth));
        let nobodys = [&[0; 12][..], &[0x81, 0, 0xff, 0xff, 8, 0]].concat();
        assert_eq!(untag(&mut nobodys.clone(), &mut [0; 8]), Err(DropReason::TagDepth));
        assert_eq!(untag(&mut three[..15].to_vec(), &mut [0; 8]), Err(DropReason::Truncated));
    }
}
