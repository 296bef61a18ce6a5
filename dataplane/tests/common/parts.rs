//! Datagrams over IPv4 in fragments.

use etherparse::Ipv4Header;

/// The datagram in `frame` in fragments with this identification, cut behind each of `cuts` octets (multiples of 8) of
/// what follows the IP header.
pub fn split(frame: &[u8], id: u16, cuts: &[usize]) -> Vec<Vec<u8>> {
    let (header, payload) = Ipv4Header::from_slice(&frame[14..]).unwrap();
    let bounds: Vec<usize> = [0].iter().chain(cuts).copied().chain([payload.len()]).collect();
    let part = |window: &[usize]| {
        let mut header = header.clone();
        header.identification = id;
        header.dont_fragment = false;
        header.fragment_offset = ((window[0] / 8) as u16).try_into().unwrap();
        header.more_fragments = window[1] < payload.len();
        header.set_payload_len(window[1] - window[0]).unwrap();
        header.header_checksum = header.calc_header_checksum();
        [&frame[..14], &header.to_bytes()[..], &payload[window[0]..window[1]]].concat()
    };
    bounds.windows(2).map(part).collect()
}

/// The datagram that fragments (in any order) make up; each has a right header checksum and the same addresses.
pub fn join(fragments: &[Vec<u8>]) -> Vec<u8> {
    let mut parts: Vec<(u16, Ipv4Header, &[u8])> = fragments
        .iter()
        .map(|frame| {
            let (header, payload) = Ipv4Header::from_slice(&frame[14..]).unwrap();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            (header.fragment_offset.value(), header, payload)
        })
        .collect();
    parts.sort_by_key(|(offset, ..)| *offset);
    let (_, mut header, _) = parts[0].clone();
    let mut payload = vec![];
    for (offset, part, octets) in &parts {
        assert_eq!(usize::from(*offset) * 8, payload.len(), "a gap");
        let same = |h: &Ipv4Header| (h.source, h.destination, h.identification, h.time_to_live);
        assert_eq!(same(part), same(&header));
        payload.extend(*octets);
    }
    header.more_fragments = false;
    header.set_payload_len(payload.len()).unwrap();
    header.header_checksum = header.calc_header_checksum();
    [&fragments[0][..14], &header.to_bytes()[..], &payload].concat()
}
