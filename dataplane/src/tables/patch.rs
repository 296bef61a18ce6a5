//! A few services that changed among many: the numbered tables before, with those alone replaced. Whatever could reach
//! further (backends of several services, tunnels, something that is left out) is compiled as a whole.

use std::sync::Arc;

use sluice_config::model::{Service, Shared};

use super::ids::Ids;
use super::tunnel::Kind;
use super::{Before, Numbered, Tables, Ways, fresh};
use crate::time::Nanos;

/// What [`super::services`] would make, where that can be told from the tables before.
pub(super) fn patched(
    shared: &Shared,
    ways: &Ways,
    before: &Before<'_>,
    ids: &mut Ids,
    now: Nanos,
) -> Option<Numbered> {
    let tables = before.whole?;
    let Changes { gone, come, order } = changes(tables, shared)?;
    if gone.iter().copied().chain(come.iter().map(|(_, service)| *service)).any(is_tunnelled) {
        return None;
    }
    let mut all = Numbered {
        services: tables.services.to_vec(),
        order,
        backends: tables.backends.to_vec(),
        protocols: tables.protocols.to_vec(),
        tunnels: tables.tunnels.to_vec(),
        left_out: Vec::new(),
    };
    for service in gone {
        let number = tables.service_number(service.key)?;
        for (member, _) in &tables.service(number)?.members {
            take(&mut all, *member)?;
        }
        *all.services.get_mut(usize::from(number))? = None;
    }
    for (at, service) in come {
        let number = ids.service(service.key, now).ok()?;
        let entry = fresh(number, service, shared, before, ways, (ids, now), &mut all);
        let shares = |(member, _): &(u32, u16)| all.backends.get(*member as usize).is_none_or(is_shared);
        if !all.left_out.is_empty() || entry.members.iter().any(shares) {
            return None;
        }
        all.put_service(number, entry);
        *all.order.get_mut(at)? = number;
    }
    all.trim();
    Some(all)
}

fn is_shared(backend: &Option<super::BackendEntry>) -> bool {
    backend.is_none_or(|backend| backend.shared)
}

/// Takes a backend out that no other service has.
fn take(all: &mut Numbered, member: u32) -> Option<()> {
    let place = all.backends.get_mut(member as usize)?;
    place.filter(|backend| !backend.shared)?;
    *place = None;
    *all.protocols.get_mut(member as usize)? = 0;
    Some(())
}

fn is_tunnelled(service: &Arc<Service>) -> bool {
    Kind::of(service.mode, service.key.ip.is_ipv6()).is_some()
}

/// What is different between two lists of services.
struct Changes<'a> {
    /// Those of the tables that are not there any more as they were.
    gone: Vec<&'a Arc<Service>>,
    /// Those that are new or other ones, with their places.
    come: Vec<(usize, &'a Arc<Service>)>,
    /// Numbers of all, 0 for those that have none yet.
    order: Vec<u16>,
}

/// Both lists are sorted by key. Nearly all services are the same allocations, and are not looked at.
fn changes<'a>(tables: &'a Tables, shared: &'a Shared) -> Option<Changes<'a>> {
    let (old, new) = (&tables.desired.shared.services, &shared.services);
    let mut changes = Changes { gone: Vec::new(), come: Vec::new(), order: Vec::with_capacity(new.len()) };
    let mut at = 0;
    for service in new {
        let known = |at: usize| old.get(at..).and_then(<[_]>::first);
        while known(at).is_some_and(|known| !Arc::ptr_eq(known, service) && known.key <= service.key) {
            changes.gone.extend(known(at));
            at += 1;
        }
        if known(at).is_some_and(|known| Arc::ptr_eq(known, service)) {
            changes.order.push(*tables.order.get(at)?);
            at += 1;
        } else {
            changes.come.push((changes.order.len(), service));
            changes.order.push(0);
        }
    }
    changes.gone.extend(old.iter().skip(at));
    Some(changes)
}
