//! `sluice check`: exactly what loading does, and what the configuration can carry.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::process::ExitCode;

use serde_json::{Value, json};
use sluice_config::model::{
    Admission, Config, Gateway, Isolation, NetworkMode, OverlayAgent, OverlayNetwork, Service, Snat,
};
use sluice_config::{ConfigErrors, Diagnostic, Linux, Loaded};

use super::{ConfigFile, answer, answer_json, complain, with_causes};
use crate::static_zones::left_out;

/// Most agents that are named; JSON has all of them.
const AGENTS_LISTED: usize = 20;

#[derive(Debug, clap::Args)]
pub(super) struct Check {
    #[command(flatten)]
    config: ConfigFile,
    /// Do not compare with this machine's interfaces, queues, cores and addresses.
    #[arg(long)]
    offline: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) fn run(&self) -> ExitCode {
        let loaded = sluice_config::load_file(&self.config.config);
        let checked = loaded.and_then(|loaded| match self.offline {
            true => Ok(loaded),
            false => loaded.check_machine(&Linux).map(|()| loaded),
        });
        let said = match (self.json, &checked) {
            (true, Ok(loaded)) => answer_json(&valid(loaded)),
            (true, Err(errors)) => answer_json(&refused(errors)),
            (false, Ok(loaded)) => answer(&self.sentences(loaded)),
            (false, Err(errors)) => {
                complain(&format!("the configuration is refused\n\n{errors}"));
                Ok(())
            }
        };
        match (said, checked) {
            (Ok(()), Ok(_)) => ExitCode::SUCCESS,
            (Ok(()), Err(_)) => ExitCode::from(1),
            (Err(error), _) => {
                complain(&with_causes(&error));
                ExitCode::from(1)
            }
        }
    }

    fn sentences(&self, loaded: &Loaded) -> String {
        let config = &loaded.config;
        let mut text = String::new();
        for warning in &loaded.warnings {
            let _ = writeln!(text, "{warning}\n");
        }
        for sentence in left_out(config) {
            let _ = writeln!(text, "not served: {sentence}\n");
        }
        let workers = config.ports.first().map_or(0, |p| p.queues.len());
        let _ = writeln!(
            text,
            "{}: right: {} port(s), {workers} worker(s), {} static service(s), {} Marathon(s){}{}",
            self.config.config.display(),
            config.ports.len(),
            config.services.len(),
            config.marathons.len(),
            if config.mesos.is_some() { ", Mesos" } else { "" },
            if self.offline { ", not compared with this machine" } else { "" },
        );
        for ceiling in ceilings(config) {
            let Ceiling { address, family, side, backend, destination } = ceiling;
            let of = |Flows { flows, per_worker }: Flows, whom: &str| {
                let share = if workers > 1 { format!(", {per_worker} on each worker") } else { String::new() };
                format!("{flows} flows per {whom}{share}")
            };
            let masqueraded =
                destination.map_or_else(String::new, |flows| format!("; masqueraded {}", of(flows, "destination")));
            let backend = of(backend, "backend");
            let _ = writeln!(text, "SNAT {address} ({family}, {side}): one address serves {backend}{masqueraded}");
        }
        if is_masquerading(config) {
            let most = config.limits.masquerade;
            let _ = writeln!(
                text,
                "masquerading: {most} flows of containers on each worker, and {most} from outside (limits.masquerade)"
            );
        }
        let quota = config.snat.quota.map_or_else(|| "an eighth of them".to_owned(), |quota| quota.to_string());
        if !(config.snat.underlay.is_empty() && config.snat.underlay6.is_empty() && config.snat.overlay.is_empty()) {
            let _ = writeln!(text, "SNAT quota: a client that holds {quota} gets none of the last eighth of the ports");
        }
        for OverlayNetwork { name, mode, .. } in enforced(config) {
            let outside = match mode {
                NetworkMode::Direct => "agents send between their containers without it",
                NetworkMode::Hub => "agents that do not run `sluice agent` send between their containers without it",
            };
            let _ = writeln!(text, "network {name}: groups hold for what passes Sluice; {outside}");
        }
        let agents = direct(config);
        for (agent, networks) in agents.iter().take(AGENTS_LISTED) {
            let networks = networks.join(", ");
            let _ = writeln!(text, "agent {agent}: direct: groups do not hold between its containers in {networks}");
        }
        if let more @ 1.. = agents.len().saturating_sub(AGENTS_LISTED) {
            let _ = writeln!(text, "and {more} more agents of the file likewise");
        }
        for Bound { service, asked, per_worker, in_all } in bounds(config) {
            let _ = writeln!(
                text,
                "{service}: `sessions = {asked}` is {per_worker} on each of {workers} workers, {in_all} in all"
            );
        }
        text
    }
}

/// Networks whose groups are enforced.
fn enforced(config: &Config) -> impl Iterator<Item = &OverlayNetwork> {
    let networks = config.overlay.iter().flat_map(|overlay| &overlay.networks);
    networks.filter(|network| network.isolation == Isolation::Enforced)
}

/// Agents that the file knows, which therefore have no lease and are not known to run `sluice agent`, with their networks in
/// which groups would have to hold between their containers.
fn direct(config: &Config) -> Vec<(Ipv4Addr, Vec<&str>)> {
    let names: Vec<&str> = enforced(config).map(|network| network.name.as_str()).collect();
    let agents = config.overlay.iter().flat_map(|overlay| overlay.agents.iter().map(|agent| (overlay.vtep, agent)));
    let of = |agent: &OverlayAgent| {
        let has = |name: &&str| agent.subnets.contains_key(*name) || agent.subnets6.contains_key(*name);
        (agent.ip, names.iter().copied().filter(has).collect::<Vec<_>>())
    };
    let others = agents.filter(|(own, agent)| agent.vtep_ip != own.addr()).map(|(_, agent)| of(agent));
    others.filter(|(_, networks)| !networks.is_empty()).collect()
}

/// What a service's `sessions` come to on these workers, where that is not what was asked for.
struct Bound {
    service: String,
    asked: u32,
    per_worker: u32,
    in_all: u64,
}

fn bounds(config: &Config) -> Vec<Bound> {
    let workers = config.ports.first().map_or(1, |p| p.queues.len());
    let bound = |service: &Service| {
        let asked = service.admission.sessions?;
        let per_worker = Admission::part(asked, workers);
        let in_all = u64::from(per_worker) * workers as u64;
        (in_all != u64::from(asked)).then(|| Bound { service: service.key.to_string(), asked, per_worker, in_all })
    };
    config.services.iter().filter_map(bound).collect()
}

struct Ceiling {
    address: String,
    family: &'static str,
    side: &'static str,
    backend: Flows,
    /// Masqueraded ones.
    destination: Option<Flows>,
}

/// Flows to one backend or destination.
#[derive(Clone, Copy)]
struct Flows {
    flows: usize,
    /// Of them on the worker that has the fewest.
    per_worker: usize,
}

fn is_masquerading(config: &Config) -> bool {
    config.overlay.as_ref().is_some_and(|overlay| overlay.gateway == Gateway::Masqueraded)
}

/// A SNAT port is unique per SNAT address, port, backend and protocol (design.md section 4).
fn ceilings(config: &Config) -> Vec<Ceiling> {
    let snat = &config.snat;
    let workers = config.ports.first().map_or(1, |p| p.queues.len());
    let of = |counts: fn(u16) -> bool| Flows {
        flows: snat.ports.clone().filter(|port| counts(*port)).count(),
        per_worker: snat.fewest(workers, counts),
    };
    let halves = is_masquerading(config);
    let backend = if halves { of(|port| !Snat::is_masqueraded(port)) } else { of(|_| true) };
    let masqueraded = halves.then(|| of(Snat::is_masqueraded));
    let underlay = snat.underlay.iter().map(|a| (a.to_string(), "IPv4", "underlay"));
    let underlay6 = snat.underlay6.iter().map(|a| (a.to_string(), "IPv6", "underlay"));
    let overlay = snat.overlay.iter().map(|a| (a.to_string(), "IPv4", "overlay"));
    let overlay6 = snat.overlay6.iter().map(|a| (a.to_string(), "IPv6", "overlay"));
    let all = underlay.chain(underlay6).chain(overlay).chain(overlay6);
    let ceiling = |(address, family, side)| {
        let destination = masqueraded.filter(|_| side == "underlay");
        Ceiling { address, family, side, backend, destination }
    };
    all.map(ceiling).collect()
}

fn valid(loaded: &Loaded) -> Value {
    let ceiling = |c: Ceiling| {
        json!({
            "address": c.address, "family": c.family, "side": c.side, "flows_per_backend": c.backend.flows,
            "flows_per_backend_and_worker": c.backend.per_worker,
            "masqueraded_flows_per_destination": c.destination.map(|d| d.flows),
            "masqueraded_flows_per_destination_and_worker": c.destination.map(|d| d.per_worker),
        })
    };
    let bound =
        |b: Bound| json!({ "service": b.service, "asked": b.asked, "per_worker": b.per_worker, "in_all": b.in_all });
    json!({
        "valid": true,
        "errors": [],
        "warnings": loaded.warnings.iter().map(diagnostic).collect::<Vec<_>>(),
        "not_served": left_out(&loaded.config),
        "snat": ceilings(&loaded.config).into_iter().map(ceiling).collect::<Vec<_>>(),
        "direct": direct(&loaded.config)
            .into_iter()
            .map(|(agent, networks)| json!({ "agent": agent, "networks": networks }))
            .collect::<Vec<_>>(),
        "sessions": bounds(&loaded.config).into_iter().map(bound).collect::<Vec<_>>(),
    })
}

fn refused(errors: &ConfigErrors) -> Value {
    json!({
        "valid": false,
        "errors": errors.errors.iter().map(diagnostic).collect::<Vec<_>>(),
        "more_errors": errors.more,
        "warnings": [],
    })
}

fn diagnostic(found: &Diagnostic) -> Value {
    json!({
        "file": found.origin,
        "line": found.place.as_ref().map(|p| p.line),
        "column": found.place.as_ref().map(|p| p.column),
        "text": found.place.as_ref().map(|p| &p.text),
        "sentence": found.sentence,
        "remedy": found.remedy,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_of_the_file_are_named_as_direct_with_their_networks_however_many_they_are() {
        let mut text = "[[port]]\ninterface = \"eth0\"\n[overlay]\nvtep = \"44.128.0.9/20\"\n".to_owned();
        for (name, subnet, more) in [
            ("dcos", "9.0.0.0/8", "mode = \"hub\""),
            ("lab", "172.20.0.0/16", ""),
            ("all", "172.21.0.0/16", "isolation = \"open\""),
        ] {
            text += &format!("[[overlay.network]]\nname = \"{name}\"\nsubnet = \"{subnet}\"\n{more}\n");
        }
        for n in 9..=30 {
            let subnets = format!("dcos = \"9.0.{n}.0/24\", lab = \"172.20.{n}.0/24\", all = \"172.21.{n}.0/24\"");
            text += &format!(
                "[[overlay.agent]]\nip = \"10.0.0.{n}\"\nvtep_ip = \"44.128.0.{n}\"\nsubnets = {{ {subnets} }}\n"
            );
        }
        let loaded = sluice_config::parse_text(&text, "t.toml").unwrap();
        let check = Check { config: ConfigFile { config: "t.toml".into() }, offline: true, json: false };
        let said = check.sentences(&loaded);
        let of = |agent: &str| said.lines().find(|line| line.starts_with(agent)).map(str::to_owned);
        assert_eq!(
            of("agent 10.0.0.10:").unwrap(),
            "agent 10.0.0.10: direct: groups do not hold between its containers in dcos, lab"
        );
        assert_eq!(of("agent 10.0.0.9:"), None, "our own entry is no agent");
        assert!(said.contains("and 1 more agents of the file likewise"), "{said}");
        let document = valid(&loaded);
        assert_eq!(document["direct"].as_array().unwrap().len(), 21);
        assert_eq!(document["direct"][0]["networks"], json!(["dcos", "lab"]));
    }
}
