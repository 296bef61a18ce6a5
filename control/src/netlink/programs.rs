//! XDP programs that are there already, and so tell of a process that holds an interface.

use std::time::Duration;

use rtnetlink::Handle;

use super::NetlinkError;
use super::inventory::Inventory;

/// How long a program may outlive its process: 20 looks, 100 ms apart.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// The first of these interfaces that has a program. A link to a program is held by its process alone, but the kernel
/// takes that of a process that was killed away a moment after it: hence the patience.
///
/// # Errors
/// What the kernel says.
pub async fn held(handle: &Handle, names: &[&str]) -> Result<Option<String>, NetlinkError> {
    let mut held = None;
    for _ in 0..TRIES {
        let now = Inventory::list(handle).await?;
        held = names.iter().filter_map(|name| now.link(name)).find(|(_, l)| l.xdp).map(|(_, l)| l.name.clone());
        if held.is_none() {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(held)
}
