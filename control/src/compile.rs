//! `sluice compile --json` and `sluice zone --json`: what Sluice makes of answers in files, with no network and no
//! privileges (design.md section 9).
//!
//! It is [`desire`] itself over the same reading of the same bytes, so what it shows is what `run` would do. A broken file
//! is an error that names it; a bad label among good ones is in `rejected` of the result.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use sluice_config::model::{Backend, Config, Desired, Isolation, OverlayNetwork, Service};
use sluice_dataplane::tables::hash::HashKey;
use sluice_dataplane::tables::zone::Zones;

use crate::api::zone::{self, Row};
use crate::desire::{Claims, Report, desire};
use crate::marathon::payload::{self, Answers, PayloadError};
use crate::mesos::files::{self, FileError};
use crate::mesos::state::{self, StateError};
use crate::offline::local_from_config;
use crate::overlay_state::{self, OverlayError};
use crate::view::{ClusterView, Event};

/// Largest file read, octets.
const FILE_OCTETS: u64 = 512 << 20;

/// Which files to read.
#[derive(Clone, Debug, Default)]
pub struct CompileInputs {
    /// `--marathon-apps`: `/v2/apps?embed=apps.tasks`.
    pub marathon_apps: Option<PathBuf>,
    /// `--marathon-info`: `/v2/info`.
    pub marathon_info: Option<PathBuf>,
    /// `--marathon-pods`: `/v2/pods::status`, or one pod's status.
    pub marathon_pods: Option<PathBuf>,
    /// `--overlay-state`: `/overlay-master/state`.
    pub overlay_state: Option<PathBuf>,
    /// `--mesos-state`.
    pub mesos_state: Option<PathBuf>,
    /// `--operator-api`.
    pub operator_api: Option<PathBuf>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// A file is too long.
    #[error("{path}: longer than {FILE_OCTETS} octets")]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// Not what Marathon answers.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// Not what the overlay's master answers.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    /// Not what a Mesos master answers.
    #[error("--mesos-state: {0}")]
    MesosState(#[from] StateError),
    /// Not what Mesos's operator API says.
    #[error("--operator-api: {0}")]
    OperatorApi(#[from] FileError),
    /// Two words of one Mesos.
    #[error("--mesos-state and --operator-api both say what one Mesos says: give one of them")]
    TwoMesos,
    /// Info or pods without apps.
    #[error("{flag} says nothing without --marathon-apps: an empty one is {{\"apps\":[]}}")]
    NoApps {
        /// The flag.
        flag: &'static str,
    },
}

/// Reads the inputs into a view, as `run` would have it after asking each source once.
///
/// # Errors
/// When a file cannot be read or says nothing.
pub fn view_from_inputs(config: &Config, inputs: &CompileInputs) -> Result<ClusterView, CompileError> {
    let mut view = ClusterView::default();
    let read = |path: &Option<PathBuf>| path.as_deref().map(read).transpose();
    let (pods, info) = (read(&inputs.marathon_pods)?, read(&inputs.marathon_info)?);
    if let Some(apps) = read(&inputs.marathon_apps)? {
        let answers = Answers { apps: &apps, pods: pods.as_deref(), info: info.as_deref(), tasks: None };
        view.apply(Event::Marathon { source: 0, listing: payload::listing(answers)? });
    } else if pods.is_some() || info.is_some() {
        let flag = if pods.is_some() { "--marathon-pods" } else { "--marathon-info" };
        return Err(CompileError::NoApps { flag });
    }
    let facts = match (read(&inputs.mesos_state)?, read(&inputs.operator_api)?) {
        (Some(_), Some(_)) => return Err(CompileError::TwoMesos),
        (Some(state), None) => Some(state::read(&state)?),
        (None, Some(said)) => Some(files::read(&said)?),
        (None, None) => None,
    };
    if let Some(facts) = facts {
        let facts = Arc::new(facts.with_masters_of(config.mesos.as_ref()));
        view.apply(Event::Mesos { facts, streaming: true });
    }
    if let Some(state) = read(&inputs.overlay_state)? {
        view.apply(Event::Overlay(overlay_state::read(&state)?));
    }
    Ok(view)
}

fn read(path: &Path) -> Result<Vec<u8>, CompileError> {
    let io = |source| CompileError::Io { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(io)?.len() > FILE_OCTETS {
        return Err(CompileError::TooLong { path: path.to_owned() });
    }
    std::fs::read(path).map_err(io)
}

/// The document of `compile --json`.
///
/// # Errors
/// As [`view_from_inputs`].
pub fn compile_json(config: &Config, inputs: &CompileInputs) -> Result<Value, CompileError> {
    let view = view_from_inputs(config, inputs)?;
    let local = local_from_config(config);
    let (desired, report) = desire(config, &view, &Claims::default(), &local, [0; 16]);
    Ok(document(&desired, &report))
}

/// The rows of `zone --json`; those of alias zones only with `aliases`. None where `dns.addresses` is empty.
///
/// # Errors
/// As [`view_from_inputs`].
pub fn zone_rows(config: &Config, inputs: &CompileInputs, aliases: bool) -> Result<Vec<Row>, CompileError> {
    let view = view_from_inputs(config, inputs)?;
    let local = local_from_config(config);
    let (desired, _) = desire(config, &view, &Claims::default(), &local, [0; 16]);
    let (zones, serial) = (&desired.shared.zones, desired.local.soa_serial);
    Ok(zone::rows(zones, &Zones::compile(zones, serial, HashKey::default()), serial, aliases))
}

/// A desired state and its report as the document of `compile --json`.
#[must_use]
pub fn document(desired: &Desired, report: &Report) -> Value {
    let shared = &desired.shared;
    json!({
        "vips": shared.services.iter().map(|s| vip(s, report)).collect::<Vec<_>>(),
        "rejected": report.rejected,
        "networks": networks(desired),
        "policy": policy(desired, report),
    })
}

fn vip(service: &Service, report: &Report) -> Value {
    json!({
        "protocol": service.key.protocol.to_string(),
        "ip": service.key.ip,
        "port": service.key.port,
        "name": service.name,
        "framework": service.framework,
        "backends": service.backends.iter().map(|b| backend(b, report)).collect::<Vec<_>>(),
    })
}

fn backend(backend: &Backend, report: &Report) -> Value {
    let ip = backend.address.ip();
    json!({
        "ip": ip,
        "port": backend.address.port(),
        "weight": backend.weight,
        "agent_ip": backend.agent,
        "network": backend.network.as_ref().or_else(|| report.other_networks.get(&ip)),
        "groups": backend.groups,
    })
}

fn networks(desired: &Desired) -> Vec<Value> {
    let agents = |network: &OverlayNetwork| {
        let with = desired.shared.agents.iter().filter_map(|a| Some((a, a.subnets.get(&network.name)?)));
        with.map(|(a, subnet)| {
            json!({ "ip": a.ip, "subnet": subnet, "vtep_ip": a.vtep_ip, "vtep_mac": a.vtep_mac.to_string() })
        })
        .collect::<Vec<_>>()
    };
    let network = |n: &OverlayNetwork| json!({ "name": n.name, "subnet": n.subnet, "prefix": n.prefix, "own": n.own, "agents": agents(n) });
    desired.shared.networks.iter().map(network).collect()
}

/// Who is in which group, and where groups hold.
fn policy(desired: &Desired, report: &Report) -> Value {
    let isolation = |i| match i {
        Isolation::Enforced => "enforced",
        Isolation::Open => "open",
    };
    let networks = desired.shared.networks.iter();
    let containers = desired.shared.containers.iter();
    json!({
        "networks": networks.map(|n| json!({
            "name": n.name, "isolation": isolation(n.isolation), "underlay_allow": n.underlay_allow,
        })).collect::<Vec<_>>(),
        "containers": containers.map(|c| json!({
            "ip": c.ip, "network": c.network, "groups": c.groups,
        })).collect::<Vec<_>>(),
        "mixed_groups": report.mixed_groups.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "fail_open": report.fail_open.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use sluice_config::model::StaticZone;

    use super::*;
    use crate::fixture::config;

    fn data(name: &str) -> Option<PathBuf> {
        Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name))
    }

    fn inputs() -> CompileInputs {
        CompileInputs { marathon_apps: data("apps.json"), marathon_info: data("info.json"), ..CompileInputs::default() }
    }

    #[test]
    fn the_document_says_what_becomes_of_each_label() {
        let document = compile_json(&config(), &inputs()).unwrap();
        let vips: Vec<String> = document["vips"].as_array().unwrap().iter().map(Value::to_string).collect();
        let club = r#"{"backends":[{"agent_ip":"10.0.0.11","groups":["secret-club"],"ip":"9.0.1.130","network":"dcos","port":80,"weight":1}],"#;
        assert!(vips.iter().any(|v| v.starts_with(club) && v.contains(r#""name":"club.marathon-user""#)), "{vips:#?}");
        let both = r#"{"backends":[{"agent_ip":"10.0.0.11","groups":[],"ip":"10.0.0.11","network":null,"port":31001,"weight":1},{"agent_ip":"10.0.0.12","groups":[],"ip":"10.0.0.12","network":null,"port":31002,"weight":0}],"framework":"marathon-user","ip":"172.16.0.1","name":null,"port":80,"protocol":"tcp"}"#;
        assert!(vips.iter().any(|v| v == both), "{vips:#?}");
        assert_eq!(vips.len(), 3);
        let rejected: Vec<&str> =
            document["rejected"].as_array().unwrap().iter().map(|r| r["task"].as_str().unwrap()).collect();
        assert_eq!(rejected, ["hostile.a", "minitwit.a", "minitwit.b"]);
        assert_eq!(document["rejected"][0]["value"], "\\u{0}<script>:80x");
        assert_eq!(document["policy"]["containers"][0]["groups"], json!(["secret-club"]));
        assert_eq!(document["networks"][0]["agents"], json!([]));
    }

    #[test]
    fn what_a_zone_does_not_serve_is_no_row_of_it() {
        let mut config = config();
        let records = ["www.other.org. A 1.2.3.4", "good A 1.2.3.4", "good CNAME x", "also A 1.2.3.5"];
        let zone = StaticZone { name: "corp".to_owned(), file: None, records: records.map(str::to_owned).to_vec() };
        config.dns.zones = vec![zone];
        let rows = zone_rows(&config, &inputs(), false).unwrap();
        let own = rows.iter().filter(|row| row.name.ends_with("corp.") || row.name.ends_with("org."));
        let own: Vec<(&str, &str)> = own.map(|row| (row.name.as_str(), row.r#type)).collect();
        let expected = [("also.corp.", "A"), ("corp.", "NS"), ("corp.", "SOA"), ("good.corp.", "A")];
        assert_eq!(own, expected);
    }

    #[test]
    fn a_zone_has_its_rows_and_those_of_aliases_when_asked() {
        let rows = |aliases| zone_rows(&config(), &inputs(), aliases).unwrap();
        let all = rows(true);
        let plain = rows(false);
        let row = |rows: &[Row], name: &str, kind: &str| {
            rows.iter().find(|r| r.name == name && r.r#type == kind).map(|r| (r.ttl, r.values.clone()))
        };
        let soa = "ns1.mesos. root.ns1.mesos. 1 60 600 86400 5".to_owned();
        assert_eq!(row(&plain, "mesos.", "SOA"), Some((60, vec![soa])));
        assert_eq!(row(&plain, "mesos.", "NS"), Some((60, vec!["ns1.mesos.".to_owned()])));
        for alias in ["l4lb.thisdcos.global.", "dclb.thisdcos.directory.", "dclb.thisdcos.global."] {
            let of = |zone: &str| row(&all, &format!("club.marathon-user.{zone}"), "A");
            assert_eq!(of(alias), of("l4lb.thisdcos.directory."));
            assert!(of(alias).is_some(), "{alias}");
            assert_eq!(row(&plain, &format!("club.marathon-user.{alias}"), "A"), None);
        }
        assert!(row(&plain, "club.marathon-user.l4lb.thisdcos.directory.", "A").is_some());
        assert!(row(&plain, "thisdcos.global.", "SOA").is_none() && row(&all, "thisdcos.global.", "SOA").is_some());
        for row in &all {
            assert!(row.name.ends_with('.') && row.name == row.name.to_ascii_lowercase() && row.values.is_sorted());
        }
    }

    #[test]
    fn the_overlays_master_tells_agents_and_networks() {
        let mut bare = config();
        bare.overlay = None;
        let inputs = CompileInputs { overlay_state: data("overlay.json"), ..inputs() };
        let document = compile_json(&bare, &inputs).unwrap();
        assert_eq!(document["networks"][0]["name"], "dcos");
        assert_eq!(document["networks"][0]["agents"][0]["vtep_mac"], "70:b3:d5:80:00:02");
        assert_eq!(document["networks"][0]["agents"][0]["subnet"], "9.0.1.0/24");
    }

    #[test]
    fn a_network_that_no_configuration_knows_is_shown_as_the_app_names_it() {
        let mut bare = config();
        bare.overlay = None;
        let document = compile_json(&bare, &inputs()).unwrap();
        let networks: Vec<&Value> =
            document["vips"].as_array().unwrap().iter().map(|v| &v["backends"][0]["network"]).collect();
        assert!(networks.contains(&&json!("dcos")), "{networks:?}");
    }

    #[test]
    fn what_cannot_be_read_is_an_error_that_names_it() {
        let error = |inputs: CompileInputs| compile_json(&config(), &inputs).unwrap_err().to_string();
        let missing = CompileInputs { marathon_apps: Some("/no/such".into()), ..CompileInputs::default() };
        assert!(error(missing).contains("/no/such"));
        let swapped = CompileInputs { marathon_apps: data("info.json"), ..CompileInputs::default() };
        assert!(error(swapped).contains("/v2/apps"));
        assert!(
            error(CompileInputs { mesos_state: data("apps.json"), ..inputs() }).contains("--mesos-state: no list of")
        );
        assert!(
            error(CompileInputs { operator_api: data("apps.json"), ..inputs() }).contains("--operator-api: message 1")
        );
        let alone = CompileInputs { marathon_info: data("info.json"), ..CompileInputs::default() };
        assert!(error(alone).contains("--marathon-apps"));
    }

    #[test]
    fn the_samples_of_every_marathon_version_are_read() {
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/samples");
        if !samples.exists() {
            println!("skipped: {} is absent", samples.display());
            return;
        }
        for apps in ["marathon-v2-apps-embed-tasks.json", "marathon-legacy-apps-pre15.json"] {
            let inputs = CompileInputs {
                marathon_apps: Some(samples.join(apps)),
                marathon_info: Some(samples.join("marathon-v2-info.json")),
                marathon_pods: Some(samples.join("marathon-pod-status.json")),
                overlay_state: Some(samples.join("overlay-master-state.json")),
                ..CompileInputs::default()
            };
            let document = compile_json(&config(), &inputs).unwrap();
            assert_eq!(document["rejected"], json!([]), "{apps}");
            println!("{document:#}");
        }
    }
}
