//! Mesos-DNS's HTTP API in its shapes (facts/dcos.md A.6), and the parts of Spartan's that are about names and VIPs (B.5).
//!
//! | path | answer |
//! |---|---|
//! | `/v1/version`, `/v1/config` | who answers, and by what configuration, credentials left out |
//! | `/v1/hosts/{host}` | addresses under `domain`; one empty row where there are none |
//! | `/v1/services/{service}` | one row for each SRV record and family of its target |
//! | `/v1/hosts/{host}/ports` | 501, as there |
//! | `/v1/enumerate`, `/v1/axfr` | everything, unless `dns.enumeration = false` |
//! | `/v1/records`, `/v1/vips` | every record of every zone; every VIP with its backends |

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use sluice_config::model::{Config, IpSource, Masters, Record, RecordData, Zone};

use super::observed::{Observed, Published};
use super::zone::rows;
use crate::desire::naming;
use crate::view::ClusterView;

/// The routes.
pub fn routes(observed: Arc<Observed>) -> Router {
    let mut router = Router::new()
        .route("/v1/version", get(version))
        .route("/v1/config", get(config))
        .route("/v1/hosts/{host}", get(host))
        .route("/v1/hosts/{host}/ports", get(ports))
        .route("/v1/services/{service}", get(service))
        .route("/v1/records", get(records))
        .route("/v1/vips", get(vips));
    if observed.config.dns.enumeration {
        router = router.route("/v1/enumerate", get(enumerate)).route("/v1/axfr", get(axfr));
    }
    router.fallback(async || (StatusCode::NOT_FOUND, "404: Page Not Found")).with_state(observed)
}

async fn version() -> Json<Value> {
    Json(json!({
        "Service": "Mesos-DNS",
        "Version": env!("CARGO_PKG_VERSION"),
        "URL": "https://github.com/mesosphere/mesos-dns",
        "Program": "sluice",
    }))
}

async fn config(State(observed): State<Arc<Observed>>) -> Json<Value> {
    Json(configuration(&observed.config, &observed))
}

async fn ports() -> Response {
    (StatusCode::NOT_IMPLEMENTED, "To be implemented...").into_response()
}

/// The name without its final dot and every `.*`, in lower case.
fn cleaned(name: &str) -> String {
    let name = name.to_ascii_lowercase().replace(".*", "");
    name.strip_suffix('.').map_or_else(|| name.clone(), str::to_owned)
}

/// The records of a name in Mesos-DNS's zone.
fn of(published: Option<&Published>, config: &Config, name: &str) -> Vec<Record> {
    domain(published, config).map_or_else(Vec::new, |zone| zone.records.of(name).to_vec())
}

fn domain<'a>(published: Option<&'a Published>, config: &Config) -> Option<&'a Zone> {
    let zones = published.map(|p| &p.tables.desired.shared.zones)?;
    zones.iter().find(|zone| zone.apex == config.dns.domain)
}

fn address(record: &Record) -> Option<String> {
    match record.data {
        RecordData::A(ip) => Some(ip.to_string()),
        RecordData::Aaaa(ip) => Some(ip.to_string()),
        RecordData::Srv { .. }
        | RecordData::Cname(_)
        | RecordData::Ptr(_)
        | RecordData::Mx { .. }
        | RecordData::Txt(_) => None,
    }
}

async fn host(State(observed): State<Arc<Observed>>, Path(host): Path<String>) -> Json<Value> {
    let name = cleaned(&host);
    let found = of(observed.published().as_ref(), &observed.config, &name);
    let rows: Vec<Value> =
        found.iter().filter_map(address).map(|ip| json!({ "host": format!("{name}."), "ip": ip })).collect();
    Json(if rows.is_empty() { json!([{ "host": "", "ip": "" }]) } else { Value::Array(rows) })
}

async fn service(State(observed): State<Arc<Observed>>, Path(service): Path<String>) -> Json<Value> {
    let published = observed.published();
    let mut rows = Vec::new();
    for record in of(published.as_ref(), &observed.config, &cleaned(&service)) {
        let RecordData::Srv { port, target, .. } = record.data else { continue };
        let addresses = of(published.as_ref(), &observed.config, &target);
        // Of each family the first.
        let first = |kind: &str| addresses.iter().find(|r| r.data.mnemonic() == kind).and_then(address);
        for ip in [first("A"), first("AAAA")].into_iter().flatten() {
            let (host, port) = (format!("{target}."), port.to_string());
            rows.push(json!({ "service": service, "host": host, "ip": ip, "port": port }));
        }
    }
    let none = json!([{ "service": "", "host": "", "ip": "", "port": "" }]);
    Json(if rows.is_empty() { none } else { Value::Array(rows) })
}

/// A target as Mesos-DNS writes it.
fn shown(data: &RecordData) -> String {
    if let RecordData::Srv { port, target, .. } = data { format!("{target}.:{port}") } else { data.to_string() }
}

async fn enumerate(State(observed): State<Arc<Observed>>) -> Json<Value> {
    let published = observed.published();
    let mut view = ClusterView::default();
    if let Some(Published { report, .. }) = &published {
        view.mesos.clone_from(&report.mesos);
        view.hosts.clone_from(&report.hosts);
        view.marathons = report.listings.iter().map(|(_, listing)| Arc::clone(listing)).enumerate().collect();
    }
    Json(enumeration(&observed.config, &view))
}

/// Frameworks, tasks and records; one appears under the first task that has it.
#[must_use]
pub fn enumeration(config: &Config, view: &ClusterView) -> Value {
    let mut told: BTreeSet<(String, String, &'static str)> = BTreeSet::new();
    let frameworks = naming::enumerate(config, view).into_iter().map(|framework| {
        let tasks: Vec<Value> = framework
            .tasks
            .into_iter()
            .map(|task| {
                let rows = task.records.into_iter().map(|(name, data)| (format!("{name}."), shown(&data), data.mnemonic()));
                let fresh: Vec<_> = rows.filter(|row| told.insert(row.clone())).collect();
                let record = |(name, host, rtype)| json!({ "name": name, "host": host, "rtype": rtype });
                json!({ "name": task.name, "id": task.id, "records": fresh.into_iter().map(record).collect::<Vec<_>>() })
            })
            .collect();
        json!({ "name": framework.name, "tasks": tasks })
    });
    json!({ "frameworks": frameworks.collect::<Vec<_>>() })
}

async fn axfr(State(observed): State<Arc<Observed>>) -> Json<Value> {
    let published = observed.published();
    let serial = published.as_ref().map_or(0, |p| p.tables.desired.local.soa_serial);
    Json(transfer(&observed.config, domain(published.as_ref(), &observed.config), serial))
}

/// The whole of Mesos-DNS's zone.
#[must_use]
pub fn transfer(config: &Config, zone: Option<&Zone>, serial: u32) -> Value {
    let mut kinds: [BTreeMap<String, Vec<String>>; 3] = Default::default();
    for record in zone.into_iter().flat_map(|zone| zone.records.iter()) {
        let kind = match record.data {
            RecordData::A(_) => 0,
            RecordData::Aaaa(_) => 1,
            RecordData::Srv { .. } => 2,
            RecordData::Cname(_) | RecordData::Ptr(_) | RecordData::Mx { .. } | RecordData::Txt(_) => continue,
        };
        kinds[kind].entry(format!("{}.", record.name)).or_default().push(shown(&record.data));
    }
    let [a, aaaa, srv] = kinds;
    json!({
        "TTL": config.dns.ttl,
        "Serial": serial,
        "RefreshSeconds": config.mesos.as_ref().map_or(0, |mesos| mesos.refresh_seconds),
        "Mname": format!("{}.", config.dns.soa_mname),
        "Rname": format!("{}.", config.dns.soa_rname),
        "Domain": config.dns.domain,
        "Records": { "As": a, "AAAAs": aaaa, "SRVs": srv },
    })
}

/// As Mesos-DNS writes them: the port where it is another than DNS's.
fn resolvers(list: &[SocketAddr]) -> Vec<String> {
    let bare = |at: &SocketAddr| at.port() == crate::dns::PORT;
    list.iter().map(|at| if bare(at) { at.ip().to_string() } else { at.to_string() }).collect()
}

/// What of the configuration Mesos-DNS's has a word for. Credentials are none of it.
fn configuration(config: &Config, observed: &Observed) -> Value {
    let dns = &config.dns;
    let (masters, zk) = match config.mesos.as_ref().map(|mesos| &mesos.masters) {
        Some(Masters::Listed(urls)) => {
            let bare = |url: &String| url.split_once("://").map_or(url.as_str(), |(_, host)| host).to_owned();
            (urls.iter().map(bare).collect(), String::new())
        }
        Some(Masters::ZooKeeper { zk, .. }) => (Vec::new(), format!("zk://{}{}", zk.servers.join(","), zk.path)),
        None => (Vec::new(), String::new()),
    };
    let source = |source: &IpSource| match source {
        IpSource::Host => "host",
        IpSource::NetInfo => "netinfo",
        IpSource::Mesos => "mesos",
        IpSource::Docker => "docker",
    };
    let sources: Vec<&str> = dns.ip_sources.iter().map(source).collect();
    let zones: BTreeMap<&String, Vec<String>> =
        dns.zone_resolvers.iter().map(|(suffix, list)| (suffix, resolvers(list))).collect();
    let serial = observed.published().map_or(0, |p| p.tables.desired.local.soa_serial);
    let listener = dns.all_addresses().next().map(|ip| ip.to_string()).unwrap_or_default();
    let http = config.api.listen.map(|at| (at.ip().to_string(), at.port()));
    json!({
        "RefreshSeconds": config.mesos.as_ref().map_or(0, |mesos| mesos.refresh_seconds),
        "Port": crate::dns::PORT, "Timeout": 5, "StateTimeoutSeconds": 300, "ZkDetectionTimeout": 30,
        "HttpPort": http.as_ref().map_or(0, |(_, port)| *port), "TTL": dns.ttl,
        "SRVRecordDefaultWeight": dns.srv_weight, "SOASerial": serial, "SOARefresh": dns.soa_refresh,
        "SOARetry": dns.soa_retry, "SOAExpire": dns.soa_expire, "SOAMinttl": dns.negative_ttl,
        "SOAMname": format!("{}.", dns.soa_mname), "SOARname": format!("{}.", dns.soa_rname),
        "Masters": masters, "ZoneResolvers": zones, "Resolvers": resolvers(&dns.resolvers), "IPSources": sources,
        "Zk": zk, "Domain": dns.domain, "File": "", "Listener": listener,
        "HTTPListener": http.map(|(ip, _)| ip).unwrap_or_default(), "RecurseOn": dns.recurse,
        "DnsOn": dns.is_on(), "HttpOn": true, "ExternalOn": dns.external, "EnforceRFC952": dns.enforce_rfc952,
        "SetTruncateBit": dns.truncate_bit, "EnumerationOn": dns.enumeration, "MesosHTTPSOn": false,
        "CACertFile": "", "CertFile": "", "KeyFile": "",
        "MesosCredentials": { "Principal": "", "Secret": "" }, "IAMConfigFile": "", "MesosAuthentication": "",
    })
}

async fn records(State(observed): State<Arc<Observed>>) -> Json<Value> {
    let published = observed.published();
    let rows = published.as_ref().map_or_else(Vec::new, |p| {
        let desired = &p.tables.desired;
        rows(&desired.shared.zones, &p.tables.zones, desired.local.soa_serial, false)
    });
    let row = |row: super::zone::Row| {
        let (name, rtype) = (row.name, row.r#type);
        row.values.into_iter().map(move |host| json!({ "name": name, "host": host, "rtype": rtype }))
    };
    Json(rows.into_iter().flat_map(row).collect())
}

/// Every VIP; a caller that has the answer already gets 304.
async fn vips(State(observed): State<Arc<Observed>>, headers: HeaderMap) -> Response {
    let published = observed.published();
    let services = published.iter().flat_map(|p| &p.tables.desired.shared.services);
    let vips: Vec<Value> = services
        .map(|service| {
            let port = service.key.port;
            let vip = match &service.name {
                Some(name) => format!("{name}.l4lb.thisdcos.directory:{port}"),
                None => format!("{}:{port}", service.key.ip),
            };
            let backend: Vec<Value> =
                service.backends.iter().map(|b| json!({ "ip": b.address.ip(), "port": b.address.port() })).collect();
            json!({ "vip": vip, "protocol": service.key.protocol.to_string(), "backend": backend })
        })
        .collect();
    let body = Value::Array(vips).to_string();
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    let tag = format!("\"{:016x}\"", hasher.finish());
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response();
    }
    ([(header::ETAG, tag), (header::CONTENT_TYPE, "application/json".to_owned())], body).into_response()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt as _;
    use sluice_config::model::Desired;
    use sluice_dataplane::tables::Tables;
    use sluice_dataplane::tables::ids::Ids;
    use sluice_dataplane::time::Nanos;
    use tower::ServiceExt as _;

    use super::*;
    use crate::desire::naming::tests::{recorded, view};
    use crate::desire::{Report, names};
    use crate::fixture::golden;

    fn observed(config: Config, view: &ClusterView) -> Arc<Observed> {
        let mut desired = Desired { local: crate::offline::local_from_config(&config), ..Desired::default() };
        desired.shared.zones = names(&config, view, &[]).zones;
        let tables = Tables::compile(&Arc::new(desired), &mut Ids::new(8, 8, 60), Nanos(0), None).unwrap();
        let report = Report { mesos: view.mesos.clone(), hosts: view.hosts.clone(), ..Report::default() };
        let observed = Observed::new(config, Vec::new(), Vec::new());
        observed.note(Published { tables: Arc::new(tables), report: Arc::new(report) }, Duration::ZERO);
        Arc::new(observed)
    }

    async fn get(observed: &Arc<Observed>, path: &str) -> (u16, String, String) {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let answer = routes(Arc::clone(observed)).oneshot(request).await.unwrap();
        let kind = answer.headers().get("content-type").map(|k| k.to_str().unwrap().to_owned()).unwrap_or_default();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, kind, String::from_utf8(body.to_vec()).unwrap())
    }

    /// Arrays in any order, and what only the original has left out.
    fn normal(value: &Value) -> Value {
        match value {
            Value::Array(all) => {
                let mut all: Vec<Value> = all.iter().map(normal).collect();
                all.sort_by_key(ToString::to_string);
                Value::Array(all)
            }
            Value::Object(members) => {
                let kept = members.iter().filter(|(key, _)| !["Serial", "Version", "Program"].contains(&key.as_str()));
                Value::Object(kept.map(|(key, value)| (key.clone(), normal(value))).collect())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
        }
    }

    #[tokio::test]
    async fn every_recorded_request_is_answered_alike() {
        let Some(recording) = golden("mesos-dns/http-answers.json") else { return };
        let mut wrong = Vec::new();
        for case in recording["cases"].as_array().unwrap() {
            let config = recorded(case);
            let Some(view) = view(&config, case["state_file"].as_str().unwrap()) else { return };
            let observed = observed(config, &view);
            let mut compare = |what: &str, ours: &Value, theirs: &Value| {
                if normal(ours) != normal(theirs) {
                    wrong.push(format!("{what}\n  is  {ours}\n  was {theirs}"));
                }
            };
            for (path, theirs) in case["http"].as_object().unwrap() {
                if path == "/v1/services/_slave._tcp.mesos" {
                    // The original takes any of the addresses of slave.mesos.
                    continue;
                }
                let (status, kind, body) = get(&observed, path).await;
                let ours = serde_json::from_str(&body).unwrap_or(Value::String(body));
                compare(path, &ours, &theirs["body"]);
                compare(path, &json!([status, kind]), &json!([theirs["status"], theirs["content_type"]]));
            }
            let ours: Value = serde_json::from_str(&get(&observed, "/v1/axfr").await.2).unwrap();
            let records = |value: &Value| value["Records"].clone();
            compare("axfr", &records(&ours), &records(&case["axfr"]));
            let keys = |value: &Value| json!(value.as_object().unwrap().keys().collect::<Vec<_>>());
            compare("keys of axfr", &keys(&ours), &keys(&case["axfr"]));
            let ours: Value = serde_json::from_str(&get(&observed, "/v1/enumerate").await.2).unwrap();
            compare("enumerate", &ours, &case["enumerate"]);
            let ours: Value = serde_json::from_str(&get(&observed, "/v1/config").await.2).unwrap();
            compare("keys of config", &keys(&ours), &keys(&case["effective_config"]));
        }
        assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong[..wrong.len().min(8)].join("\n"));
    }

    #[tokio::test]
    async fn resolvers_are_told_as_they_were_written() {
        let mut config = crate::fixture::config();
        let at = |text: &str| text.parse().unwrap();
        config.dns.external = true;
        config.dns.resolvers = vec![at("192.0.2.1:53"), at("[fd00::1]:5353")];
        config.dns.zone_resolvers.insert("corp".to_owned(), vec![at("192.0.2.2:53")]);
        let observed = observed(config, &ClusterView::default());
        let told: Value = serde_json::from_str(&get(&observed, "/v1/config").await.2).unwrap();
        assert_eq!(told["ExternalOn"], json!(true));
        assert_eq!(told["Resolvers"], json!(["192.0.2.1", "[fd00::1]:5353"]));
        assert_eq!(told["ZoneResolvers"], json!({"corp": ["192.0.2.2"]}));
    }

    #[tokio::test]
    async fn nothing_is_enumerated_where_that_is_off_and_an_unchanged_list_of_vips_is_not_sent_again() {
        let mut config = crate::fixture::config();
        config.dns.enumeration = false;
        let observed = observed(config, &ClusterView::default());
        assert_eq!(get(&observed, "/v1/enumerate").await.0, 404);
        let request = |tag: Option<&str>| {
            let request = Request::builder().uri("/v1/vips");
            let request = tag.into_iter().fold(request, |request, tag| request.header("if-none-match", tag));
            routes(Arc::clone(&observed)).oneshot(request.body(Body::empty()).unwrap())
        };
        let first = request(None).await.unwrap();
        let tag = first.headers()["etag"].to_str().unwrap().to_owned();
        assert_eq!((first.status().as_u16(), request(Some(&tag)).await.unwrap().status().as_u16()), (200, 304));
    }
}
