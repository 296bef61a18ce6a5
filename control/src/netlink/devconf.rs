//! An interface's own settings by netlink (IFLA_AF_SPEC): a container's /proc/sys is read-only, netlink is not.

use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::{Handle, LinkUnspec};

use super::features::{nest, put};
use super::{NetlinkError, Tried};

/// `net.ipv4.conf.*.forwarding` (IPV4_DEVCONF_FORWARDING in linux/ip.h).
pub const FORWARDING: u16 = 1;
/// `net.ipv4.conf.*.rp_filter`.
pub const RP_FILTER: u16 = 8;

const IFLA_INET_CONF: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;

/// Sets one IPv4 setting of the interface with this index.
///
/// # Errors
/// What the kernel says.
pub async fn set_ipv4(handle: &Handle, index: u32, key: u16, value: u32) -> Result<(), NetlinkError> {
    let settings = nest(IFLA_INET_CONF, &put(key, &value.to_ne_bytes()));
    set(handle, index, nest(libc::AF_INET as u16, &settings)).await
}

/// Keeps the interface from giving itself a link-local IPv6 address.
///
/// # Errors
/// What the kernel says; one without IPv6 does not know the setting.
pub async fn no_ipv6_address(handle: &Handle, index: u32) -> Result<(), NetlinkError> {
    let mode = put(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE]);
    set(handle, index, nest(libc::AF_INET6 as u16, &mode)).await
}

async fn set(handle: &Handle, index: u32, family: Vec<u8>) -> Result<(), NetlinkError> {
    let mut message = LinkUnspec::new_with_index(index).build();
    message.attributes.push(LinkAttribute::AfSpecUnknown(family));
    handle.link().change(message).execute().await.tried(|| format!("change the settings of interface {index}"))
}
