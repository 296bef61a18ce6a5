//! What a definition asks the lab to run, read out of either form. Reading never fails: what was accepted was validated.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::definition::Object;
use super::placement::{self, Constraint};

/// Everything that launching, checking and ending the instances of one app or pod needs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RunSpec {
    pub(crate) id: String,
    pub(crate) pod: bool,
    pub(crate) instances: usize,
    pub(crate) network: Network,
    pub(crate) container: Container,
    /// Where it may run.
    pub(crate) placement: Vec<Constraint>,
    /// One for an app; one per container for a pod.
    pub(crate) units: Vec<Unit>,
    pub(crate) ports: Vec<Port>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
    /// `ipAddress.groups`: Mesos's NetworkInfo carries them.
    pub(crate) groups: Vec<String>,
    pub(crate) health: Vec<HealthCheck>,
    pub(crate) min_health: f64,
    pub(crate) max_over: f64,
    pub(crate) kill_grace: Duration,
    pub(crate) backoff: Duration,
    pub(crate) backoff_factor: f64,
}

/// Where a task's addresses come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Network {
    Host,
    Bridge,
    Container(String),
}

/// Who makes the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Container {
    Docker,
    /// Mesos's own containerizer.
    Mesos,
    /// The same, asked for a command and nothing else.
    None,
}

/// One process of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) name: String,
    pub(crate) command: Command,
    pub(crate) image: Option<String>,
    pub(crate) env: BTreeMap<String, String>,
}

/// What is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// By `/bin/sh -c`.
    Shell(String),
    Exec(Vec<String>),
    /// The lab's own web task: there are no images here.
    BuiltIn,
}

/// One port of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) name: String,
    /// Index into `units`.
    pub(crate) unit: usize,
    /// 0: the same as the host port.
    pub(crate) container: u16,
    pub(crate) host: HostPort,
    pub(crate) service: u16,
    pub(crate) tcp: bool,
    pub(crate) udp: bool,
    pub(crate) labels: BTreeMap<String, String>,
}

/// Whether a port of the agent is taken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostPort {
    None,
    Any,
    Fixed(u16),
}

/// How Marathon asks whether a task is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HealthCheck {
    pub(crate) probe: Probe,
    pub(crate) grace: Duration,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    /// 0: never kill.
    pub(crate) max_failures: u32,
    /// As it stands in the definition, for events.
    pub(crate) source: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Probe {
    Http { path: String, port: ProbePort },
    Tcp { port: ProbePort },
    Command(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProbePort {
    Index(usize),
    Number(u16),
}

/// Mesos waits 3 s by default; the demo's task lingers that long on purpose.
const KILL_GRACE: Duration = Duration::from_secs(10);

impl RunSpec {
    pub(crate) fn of_app(app: &Object) -> Self {
        let get = |field: &str| app.get(field).unwrap_or(&Value::Null);
        let network = network(app);
        let image = get("container").pointer("/docker/image").and_then(Value::as_str).map(str::to_owned);
        let unit =
            Unit { name: "_app".to_owned(), command: command(get("cmd"), get("args")), image, env: BTreeMap::new() };
        Self {
            id: text(get("id")),
            pod: false,
            instances: get("instances").as_u64().unwrap_or(1) as usize,
            ports: ports(app, &network),
            network,
            container: containerizer(get("container")),
            placement: placement::of_app(app),
            units: vec![unit],
            env: strings(get("env")),
            labels: strings(get("labels")),
            groups: list(get("ipAddress").get("groups").unwrap_or(&Value::Null)).map(text).collect(),
            health: list(get("healthChecks")).map(health_check).collect(),
            min_health: get("upgradeStrategy").get("minimumHealthCapacity").and_then(Value::as_f64).unwrap_or(1.0),
            max_over: get("upgradeStrategy").get("maximumOverCapacity").and_then(Value::as_f64).unwrap_or(1.0),
            kill_grace: get("taskKillGracePeriodSeconds").as_f64().and_then(seconds).unwrap_or(KILL_GRACE),
            backoff: get("backoffSeconds").as_f64().and_then(seconds).unwrap_or(Duration::from_secs(1)),
            backoff_factor: get("backoffFactor").as_f64().unwrap_or(1.15),
        }
    }

    pub(crate) fn of_pod(pod: &Object) -> Self {
        let get = |field: &str| pod.get(field).unwrap_or(&Value::Null);
        let containers: Vec<&Value> = list(get("containers")).collect();
        let fixed = get("scaling").get("instances").and_then(Value::as_u64);
        Self {
            id: text(get("id")),
            pod: true,
            instances: fixed.unwrap_or(1) as usize,
            network: network(pod),
            container: Container::Mesos,
            placement: placement::of_pod(pod),
            units: containers.iter().map(|c| pod_unit(c)).collect(),
            ports: containers.iter().enumerate().flat_map(|(i, c)| endpoints(i, c)).collect(),
            env: strings(get("environment")),
            labels: strings(get("labels")),
            groups: Vec::new(),
            health: Vec::new(),
            min_health: 1.0,
            max_over: 1.0,
            kill_grace: KILL_GRACE,
            backoff: Duration::from_secs(1),
            backoff_factor: 1.15,
        }
    }
}

fn network(app: &Object) -> Network {
    let container = app.get("container");
    let docker = container.and_then(|c| c.pointer("/docker/network")).and_then(Value::as_str).map(str::to_uppercase);
    let ip = app.get("ipAddress").filter(|ip| !ip.is_null());
    let named = |of: Option<&Value>, key: &str| of.and_then(|v| v.get(key)).and_then(Value::as_str).map(str::to_owned);
    if let Some(first) = app.get("networks").and_then(|n| n.get(0)) {
        return match first.get("mode").and_then(Value::as_str) {
            Some("container/bridge") => Network::Bridge,
            Some("container") | None => Network::Container(named(Some(first), "name").unwrap_or_default()),
            Some(_) => Network::Host,
        };
    }
    let mapped = container.is_some_and(|c| c.pointer("/docker/portMappings").is_some_and(Value::is_array));
    match (docker.as_deref(), ip) {
        (Some("HOST"), _) => Network::Host,
        (Some("BRIDGE"), _) => Network::Bridge,
        (Some("USER"), _) | (None, Some(_)) => Network::Container(named(ip, "networkName").unwrap_or_default()),
        (None, None) if mapped => Network::Bridge,
        _ => Network::Host,
    }
}

fn containerizer(container: &Value) -> Container {
    match container.get("type").and_then(Value::as_str) {
        Some("DOCKER") => Container::Docker,
        Some(_) => Container::Mesos,
        None if container.is_object() => Container::Mesos,
        None => Container::None,
    }
}

fn ports(app: &Object, network: &Network) -> Vec<Port> {
    let container = app.get("container").unwrap_or(&Value::Null);
    let mappings = container.get("portMappings").or_else(|| container.pointer("/docker/portMappings"));
    let discovered = app.get("ipAddress").and_then(|ip| ip.pointer("/discovery/ports"));
    let default_host = if *network == Network::Bridge { HostPort::Any } else { HostPort::None };
    let required = app.get("requirePorts").and_then(Value::as_bool).unwrap_or(false);
    match (network, mappings.and_then(Value::as_array), discovered.and_then(Value::as_array)) {
        (Network::Host, _, _) => {
            let definitions = app.get("portDefinitions").unwrap_or(&Value::Null);
            list(definitions).map(|definition| host_port(definition, required)).collect()
        }
        (_, Some(mappings), _) if !mappings.is_empty() => mappings.iter().map(|m| mapped(m, default_host)).collect(),
        (_, _, discovered) => discovered.into_iter().flatten().map(discovered_port).collect(),
    }
}

fn host_port(definition: &Value, required: bool) -> Port {
    let service = port(definition, "port").unwrap_or(0);
    let host = if required && service != 0 { HostPort::Fixed(service) } else { HostPort::Any };
    Port { container: 0, host, service, ..common(definition) }
}

fn mapped(mapping: &Value, default_host: HostPort) -> Port {
    let host = match port(mapping, "hostPort") {
        None => default_host,
        Some(0) => HostPort::Any,
        Some(fixed) => HostPort::Fixed(fixed),
    };
    let service = port(mapping, "servicePort").unwrap_or(0);
    Port { container: port(mapping, "containerPort").unwrap_or(0), host, service, ..common(mapping) }
}

fn discovered_port(discovered: &Value) -> Port {
    Port { container: port(discovered, "number").unwrap_or(0), ..common(discovered) }
}

fn common(of: &Value) -> Port {
    let protocol = of.get("protocol").and_then(Value::as_str).unwrap_or("tcp").to_lowercase();
    Port {
        name: of.get("name").map(text).unwrap_or_default(),
        unit: 0,
        container: 0,
        host: HostPort::None,
        service: 0,
        tcp: protocol.contains("tcp"),
        udp: protocol.contains("udp"),
        labels: of.get("labels").map(strings).unwrap_or_default(),
    }
}

fn pod_unit(container: &Value) -> Unit {
    let shell = container.pointer("/exec/command/shell").unwrap_or(&Value::Null);
    let argv = container.pointer("/exec/command/argv").unwrap_or(&Value::Null);
    Unit {
        name: container.get("name").map(text).unwrap_or_default(),
        command: command(shell, argv),
        image: container.pointer("/image/id").and_then(Value::as_str).map(str::to_owned),
        env: container.get("environment").map(strings).unwrap_or_default(),
    }
}

fn endpoints(unit: usize, container: &Value) -> Vec<Port> {
    let endpoints = list(container.get("endpoints").unwrap_or(&Value::Null));
    endpoints
        .map(|endpoint| {
            let protocols: Vec<String> = list(endpoint.get("protocol").unwrap_or(&Value::Null)).map(text).collect();
            let has = |name: &str| protocols.iter().any(|p| p.eq_ignore_ascii_case(name));
            let tcp = protocols.is_empty() || has("tcp");
            Port { unit, tcp, udp: has("udp"), ..mapped(endpoint, HostPort::None) }
        })
        .collect()
}

fn health_check(check: &Value) -> HealthCheck {
    let time = |field: &str, default: u64| {
        check.get(field).and_then(Value::as_f64).and_then(seconds).unwrap_or_else(|| Duration::from_secs(default))
    };
    let probe_port = port(check, "port").map_or_else(
        || ProbePort::Index(check.get("portIndex").and_then(Value::as_u64).unwrap_or(0) as usize),
        ProbePort::Number,
    );
    let path = check.get("path").map(text).filter(|p| !p.is_empty()).unwrap_or_else(|| "/".to_owned());
    let probe = match check.get("protocol").and_then(Value::as_str).unwrap_or("HTTP") {
        "TCP" | "MESOS_TCP" => Probe::Tcp { port: probe_port },
        "COMMAND" => Probe::Command(check.pointer("/command/value").map(text).unwrap_or_default()),
        _ => Probe::Http { path, port: probe_port },
    };
    HealthCheck {
        probe,
        grace: time("gracePeriodSeconds", 300),
        interval: time("intervalSeconds", 60),
        timeout: time("timeoutSeconds", 20),
        max_failures: check.get("maxConsecutiveFailures").and_then(Value::as_u64).unwrap_or(3) as u32,
        source: check.clone(),
    }
}

fn command(shell: &Value, arguments: &Value) -> Command {
    let arguments: Vec<String> = list(arguments).map(text).collect();
    match shell.as_str().filter(|text| !text.is_empty()) {
        Some(line) => Command::Shell(line.to_owned()),
        None if arguments.is_empty() => Command::BuiltIn,
        None => Command::Exec(arguments),
    }
}

/// No more than a day: a bound for what arithmetic with clocks can take.
fn seconds(value: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(value.clamp(0.0, 86_400.0)).ok()
}

fn port(of: &Value, field: &str) -> Option<u16> {
    of.get(field).and_then(Value::as_u64).and_then(|n| u16::try_from(n).ok())
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn strings(value: &Value) -> BTreeMap<String, String> {
    let entries = value.as_object().into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}
