//! The configuration against the machine: interfaces, queues, cores, and addresses that the kernel owns.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use toml::Spanned;

use super::{port, resolvers, value};
use crate::diagnostic::Findings;
use crate::file::{self, File};
use crate::machine::Machine;
use crate::model::{Config, Port};
use crate::words::nearest;

pub(crate) fn check(file: &File, config: &Config, machine: &dyn Machine, found: &mut Findings<'_>) {
    if config.ports.is_empty() {
        found.error(&(0..0), "there is no [[port]]", "add one: `[[port]]` and below it `interface = \"eth0\"`");
    }
    for (at, port) in file.port.iter().zip(&config.ports) {
        interface(at, port, machine, found);
    }
    cores(file, machine, found);
    let kernel = machine.addresses();
    let owned = |ip: IpAddr| kernel.contains(&ip);
    resolvers::on_machine(file, owned, found);
    for (ip, key, at) in ours(file) {
        if owned(ip) {
            found.error(
                &at,
                format!("`{key}` has {ip}, which this machine's kernel owns"),
                format!("remove it with `ip addr del`, or write another: the kernel would answer for {ip}"),
            );
        }
    }
}

fn interface(at: &Spanned<file::Port>, port: &Port, machine: &dyn Machine, found: &mut Findings<'_>) {
    let known = machine.interfaces();
    if !known.contains(&port.interface) {
        let remedy = match nearest(&port.interface, known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("this machine has {}", known.join(", ")),
        };
        found.error(&port::interface_place(at), format!("there is no interface {}", port.interface), remedy);
        return;
    }
    let Some(count) = machine.queues(&port.interface) else { return };
    let default = at.span();
    let written = value::each(&at.get_ref().queues);
    let wanted = port.queues.iter().max().map_or(0, |last| last.saturating_add(1));
    for (n, queue) in port.queues.iter().enumerate().filter(|(_, queue)| **queue >= count) {
        let span = written.get(n).map_or_else(|| default.clone(), Spanned::span);
        found.error(
            &span,
            format!("{} has no receive queue {queue}", port.interface),
            queues_remedy(&port.interface, count, wanted),
        );
    }
}

fn queues_remedy(interface: &str, count: u32, wanted: u32) -> String {
    let has: Vec<_> = (0..count.min(8)).map(|queue| queue.to_string()).collect();
    let dots = if count > 8 { ", ..." } else { "" };
    format!("write `queues = [{}{dots}]`, or try `ethtool -L {interface} combined {wanted}`", has.join(", "))
}

fn cores(file: &File, machine: &dyn Machine, found: &mut Findings<'_>) {
    let Some(workers) = &file.workers else { return };
    let online = machine.cores();
    for core in value::each(&workers.get_ref().cores) {
        let known = usize::try_from(*core.get_ref()).is_ok_and(|core| online.contains(&core));
        if !known {
            let list: Vec<_> = online.iter().take(64).map(usize::to_string).collect();
            found.error(
                &core.span(),
                format!("`cores` has {}, and this machine has no such core online", core.get_ref()),
                format!("write some of {}", list.join(", ")),
            );
        }
    }
}

/// SNAT addresses and static VIPs, which the packet path alone must answer for (design.md section 2).
fn ours(file: &File) -> Vec<(IpAddr, &'static str, Range<usize>)> {
    let snat = file.snat.as_ref().map(Spanned::get_ref);
    let underlay =
        snat.map(|snat| value::each(&snat.underlay)).unwrap_or_default().iter().map(|ip| ("snat.underlay", ip));
    let overlay = snat.map(|snat| value::each(&snat.overlay)).unwrap_or_default().iter().map(|ip| ("snat.overlay", ip));
    let vips = file.service.iter().filter_map(|at| at.get_ref().vip.as_ref()).map(|vip| ("service.vip", vip));
    let all = underlay.chain(overlay).chain(vips);
    all.filter_map(|(key, text)| {
        let given = text.get_ref();
        let ip = given.parse().or_else(|_| given.parse::<SocketAddr>().map(|vip| vip.ip())).ok()?;
        Some((ip, key, text.span()))
    })
    .collect()
}
