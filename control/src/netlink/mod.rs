//! What the node's kernel has and what Sluice puts there, by netlink.
//!
//! `inventory` is the kernel's state as plain data; `follow` keeps it true; `host_port`, `routes` and `neighbours` change
//! the kernel. Whatever they make carries the protocol number [`OURS`], so that what a killed Sluice left behind is
//! found and replaced by the next one.

use rtnetlink::Handle;
use rtnetlink::packet_route::route::RouteProtocol;

pub mod devconf;
pub mod features;
pub mod follow;
pub mod host_port;
pub mod inventory;
pub mod local;
pub mod neighbours;
pub mod programs;
pub mod routes;

/// The `rtm_protocol` and `NDA_PROTOCOL` of everything that Sluice makes: `ip route show proto 83` lists it. 83 is in
/// the range that rtnetlink(7) leaves to users, and is taken by nothing in iproute2's rt_protos.
pub const OURS: u8 = 83;

pub(crate) fn ours() -> RouteProtocol {
    RouteProtocol::from(OURS)
}

/// Why the kernel did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No socket, or no connection on it.
    #[error("cannot open a netlink socket: {0}")]
    Open(#[source] std::io::Error),
    /// The caller may not.
    #[error("not permitted to {what}: run as root, or give the capabilities CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF")]
    NotPermitted {
        /// What was tried.
        what: String,
    },
    /// The kernel refused.
    #[error("cannot {what}: {reason}")]
    Refused {
        /// What was tried.
        what: String,
        /// What the kernel said.
        reason: String,
    },
    /// An interface of the configuration is not there.
    #[error("there is no interface {name} (port `{port}`); write the one that `ip link` shows as its `interface`")]
    NoInterface {
        /// The port.
        port: String,
        /// The interface.
        name: String,
    },
    /// The host port's name is taken by something that is not Sluice's.
    #[error("interface {name} exists and is a {kind}, not a veth of ours; write another name as `host.{key}`")]
    NameTaken {
        /// The interface.
        name: String,
        /// What it is.
        kind: String,
        /// `interface` or `peer`.
        key: &'static str,
    },
    /// The host port belongs to a Sluice that lives: programs go with their process.
    #[error(
        "interface {name} is the host port of another sluice that runs in this network namespace; stop it, or write \
         other names as `host.interface` and `host.peer`"
    )]
    HostPortInUse {
        /// The interface.
        name: String,
    },
    /// A port belongs to another program.
    #[error(
        "interface {name} has an XDP program already, and its queues may be taken; stop what holds it (`ip -d link show \
         {name}` and `bpftool net` show it), or detach it with `ip link set {name} xdp off`"
    )]
    PortInUse {
        /// The interface.
        name: String,
    },
    /// The kernel runs the overlay itself.
    #[error(
        "the kernel's vxlan device {name} (VNI {vni}, UDP {port}) is up and would take the overlay's packets; \
         `ip link set {name} down`, or write another `overlay.vni` or `overlay.port`"
    )]
    KernelVxlan {
        /// The device.
        name: String,
        /// Its VNI.
        vni: u32,
        /// Its UDP port.
        port: u16,
    },
}

/// Says what was tried when a request fails.
pub(crate) trait Tried<T> {
    fn tried(self, what: impl FnOnce() -> String) -> Result<T, NetlinkError>;
}

impl<T> Tried<T> for Result<T, rtnetlink::Error> {
    fn tried(self, what: impl FnOnce() -> String) -> Result<T, NetlinkError> {
        self.map_err(|error| match os_code(&error) {
            Some(libc::EPERM | libc::EACCES) => NetlinkError::NotPermitted { what: what() },
            Some(code) => {
                NetlinkError::Refused { what: what(), reason: std::io::Error::from_raw_os_error(code).to_string() }
            }
            None => NetlinkError::Refused { what: what(), reason: error.to_string() },
        })
    }
}

impl<T> Tried<T> for std::io::Result<T> {
    fn tried(self, what: impl FnOnce() -> String) -> Result<T, NetlinkError> {
        self.map_err(|error| match error.kind() == std::io::ErrorKind::PermissionDenied {
            true => NetlinkError::NotPermitted { what: what() },
            false => NetlinkError::Refused { what: what(), reason: error.to_string() },
        })
    }
}

/// The positive errno of a refusal by the kernel.
pub(crate) fn os_code(error: &rtnetlink::Error) -> Option<i32> {
    let rtnetlink::Error::NetlinkError(message) = error else { return None };
    message.code.map(|code| code.get().wrapping_abs())
}

/// Whether the kernel said that it is there already, or is not there: what was to be reached is reached.
pub(crate) fn unless(result: Result<(), rtnetlink::Error>, fine: &[i32]) -> Result<(), rtnetlink::Error> {
    match result {
        Err(error) if os_code(&error).is_some_and(|code| fine.contains(&code)) => Ok(()),
        other => other,
    }
}

/// A connection for requests, served by a task of its own.
///
/// # Errors
/// When there is no netlink socket to be had.
pub fn connect() -> Result<Handle, NetlinkError> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(NetlinkError::Open)?;
    tokio::spawn(connection);
    Ok(handle)
}
