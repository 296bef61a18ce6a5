//! Switches an interface's offloads off through ethtool's netlink interface (Documentation/networking/ethtool-netlink).
//!
//! A local TCP stack leaves checksums and segmentation to the device; Sluice's end of a veth would receive packets
//! with unfinished checksums (facts/platform.md, veth). No ethtool binary is needed, and no ioctl.

use std::io;

use rtnetlink::sys::{Socket, SocketAddr};

/// What the host port's kernel end must do itself. The kernel's names (`ethtool -k --show-features` prints others).
pub const UNFINISHED: &[&str] = &[
    "tx-checksum-ip-generic",
    "tx-checksum-sctp",
    "tx-scatter-gather",
    "tx-scatter-gather-fraglist",
    "tx-generic-segmentation",
    "tx-tcp-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-tcp-accecn-segmentation",
    "tx-tcp-mangleid-segmentation",
    "tx-tcp6-segmentation",
    "tx-udp-segmentation",
    "tx-sctp-segmentation",
    "tx-gre-segmentation",
    "tx-gre-csum-segmentation",
    "tx-ipxip4-segmentation",
    "tx-ipxip6-segmentation",
    "tx-udp_tnl-segmentation",
    "tx-udp_tnl-csum-segmentation",
    "tx-gso-list",
];

/// What Sluice's end must not do: a tag that the device takes out of the frame is lost to AF_XDP.
pub const TAKEN_OUT: &[&str] = &["rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"];

const NETLINK_GENERIC: isize = 16;
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const ETHTOOL_MSG_FEATURES_SET: u8 = 12;
const HEADER: u16 = 1;
const HEADER_DEV_NAME: u16 = 2;
const FEATURES_WANTED: u16 = 3;
const BITSET_BITS: u16 = 3;
const BITSET_BITS_BIT: u16 = 1;
const BIT_NAME: u16 = 2;
const NESTED: u16 = 1 << 15;
/// NLM_F_REQUEST | NLM_F_ACK.
const REQUEST_ACK: u16 = 5;
const NLMSG_ERROR: u16 = 2;

/// Switches these features of `interface` off. Names that this kernel does not have are passed over.
///
/// # Errors
/// What the kernel says.
pub fn switch_off(interface: &str, features: &[&str]) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_GENERIC)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let family = family(&socket)?;
    for feature in features {
        let bit = nest(BITSET_BITS_BIT, &string(BIT_NAME, feature));
        let wanted = nest(FEATURES_WANTED, &nest(BITSET_BITS, &bit));
        let body = [nest(HEADER, &string(HEADER_DEV_NAME, interface)), wanted].concat();
        match ask(&socket, family, ETHTOOL_MSG_FEATURES_SET, &body) {
            // ethtool's bitset parser says EOPNOTSUPP to a name that it does not know.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
            other => drop(other?),
        }
    }
    Ok(())
}

fn family(socket: &Socket) -> io::Result<u16> {
    let reply = ask(socket, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, &string(CTRL_ATTR_FAMILY_NAME, "ethtool"))?;
    // Behind the 16-octet netlink header and the 4-octet generic one.
    attribute(reply.get(20..).unwrap_or_default(), CTRL_ATTR_FAMILY_ID)
        .and_then(|value| Some(u16::from_ne_bytes(value.try_into().ok()?)))
        .ok_or_else(|| io::Error::other("the kernel has no ethtool netlink family (CONFIG_ETHTOOL_NETLINK)"))
}

/// Sends one request; gives the data message that came before the acknowledgement, if one did.
fn ask(socket: &Socket, kind: u16, command: u8, body: &[u8]) -> io::Result<Vec<u8>> {
    let mut message = Vec::new();
    message.extend(((20 + body.len()) as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(REQUEST_ACK.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([command, 1, 0, 0]);
    message.extend(body);
    socket.send(&message, 0)?;
    let mut data = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = &datagram[..];
        while let Some(length) = word(rest, 0).map(|n| n as usize).filter(|n| (16..=rest.len()).contains(n)) {
            let (message, after) = rest.split_at(length);
            rest = after.get(length.next_multiple_of(4) - length..).unwrap_or_default();
            if message.get(4..6) != Some(&NLMSG_ERROR.to_ne_bytes()) {
                data = message.to_vec();
                continue;
            }
            return match word(message, 16).map(|code| code as i32) {
                Some(0) => Ok(data),
                code => Err(io::Error::from_raw_os_error(code.unwrap_or(-libc::EPROTO).wrapping_neg())),
            };
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes)
}

fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?);
        if kind & !NESTED == wanted {
            return bytes.get(4..length);
        }
        bytes = bytes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

/// One attribute, padded.
pub(super) fn put(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::from(((4 + value.len()) as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// One attribute of attributes.
pub(super) fn nest(kind: u16, value: &[u8]) -> Vec<u8> {
    put(kind | NESTED, value)
}

fn string(kind: u16, text: &str) -> Vec<u8> {
    put(kind, &[text.as_bytes(), &[0]].concat())
}
