//! Keeps an [`Inventory`] true: subscribe, list everything, follow, list again.
//!
//! Neighbour messages are applied as they come. Messages on links, addresses and routes are hints only: everything is
//! listed again [`QUIET`] after the first of them, because the kernel does not tell of routes that vanish with their
//! link. Everything is listed again every [`AGAIN`] in any case, which also mends what an overrun socket lost.

use std::time::Duration;

use futures_util::StreamExt;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::{MulticastGroup, new_multicast_connection};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::NetlinkError;
use super::inventory::{Inventory, read_neighbour};

/// From a hint to the listing.
const QUIET: Duration = Duration::from_millis(20);

/// From one listing to the next without hints.
const AGAIN: Duration = Duration::from_secs(30);

/// Starts following; the first listing is done when this returns.
///
/// # Errors
/// When the kernel does not let us subscribe or list.
pub async fn follow() -> Result<watch::Receiver<Inventory>, NetlinkError> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
        MulticastGroup::Neigh,
    ];
    let (connection, handle, mut messages) = new_multicast_connection(&groups).map_err(NetlinkError::Open)?;
    tokio::spawn(connection);
    let (sender, receiver) = watch::channel(Inventory::list(&handle).await?);
    tokio::spawn(async move {
        let mut list_at = Instant::now() + AGAIN;
        loop {
            tokio::select! {
                message = messages.next() => {
                    let Some((message, _)) = message else {
                        tracing::error!("the netlink connection ended; routes and neighbours are no longer followed");
                        return;
                    };
                    let NetlinkPayload::InnerMessage(message) = message.payload else { continue };
                    if !apply(&sender, &message) {
                        list_at = list_at.min(Instant::now() + QUIET);
                    }
                }
                () = sleep_until(list_at) => {
                    list_at = Instant::now() + AGAIN;
                    match Inventory::list(&handle).await {
                        Ok(fresh) => { sender.send_if_modified(|now| change(now, fresh)); }
                        Err(error) => tracing::warn!(%error, "listing the kernel's state failed; it is tried again"),
                    }
                }
                () = sender.closed() => return,
            }
        }
    });
    Ok(receiver)
}

fn change(now: &mut Inventory, fresh: Inventory) -> bool {
    let changed = *now != fresh;
    *now = fresh;
    changed
}

/// Takes a neighbour message in; `false` for all others, after which everything must be listed.
fn apply(sender: &watch::Sender<Inventory>, message: &RouteNetlinkMessage) -> bool {
    let (entry, is_new) = if let RouteNetlinkMessage::NewNeighbour(message) = message {
        (read_neighbour(message), true)
    } else if let RouteNetlinkMessage::DelNeighbour(message) = message {
        (read_neighbour(message), false)
    } else {
        return false;
    };
    let Some((key, neighbour)) = entry else { return true };
    sender.send_if_modified(|now| match is_new {
        true => now.neighbours.insert(key, neighbour) != Some(neighbour),
        false => now.neighbours.remove(&key).is_some(),
    });
    true
}
