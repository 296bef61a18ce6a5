//! Definitions of apps and pods, as somebody would post them to Marathon.

use serde_json::{Value, json};

use super::rows::{Kind, Net};

/// What every container listens on.
pub(crate) const CONTAINER_PORT: u16 = 8080;

/// Whether the agent has a port for a container's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostPort {
    /// In host and bridge mode one that is free, on the overlay none.
    AsUsual,
    Any,
    Fixed(u16),
}

/// One app or pod of the matrix.
#[derive(Debug, Clone)]
pub(crate) struct App {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) net: Net,
    /// The address of the agent that it is to be on; round robin where there is none.
    pub(crate) agent: Option<&'static str>,
    pub(crate) instances: usize,
    pub(crate) host_port: HostPort,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) protocol: &'static str,
    /// The overlay network of [`Net::User`].
    pub(crate) network: &'static str,
}

impl App {
    pub(crate) fn new(name: impl Into<String>, kind: Kind, net: Net) -> Self {
        Self {
            name: name.into(),
            kind,
            net,
            agent: None,
            instances: 1,
            host_port: HostPort::AsUsual,
            labels: Vec::new(),
            protocol: "tcp",
            network: "dcos",
        }
    }

    pub(crate) fn on(mut self, agent: &'static str) -> Self {
        self.agent = Some(agent);
        self
    }

    pub(crate) fn vip(mut self, vip: &str) -> Self {
        self.labels.push((format!("VIP_{}", self.labels.len()), vip.to_owned()));
        self
    }

    /// As `/v2/apps` or, of a pod, `/v2/pods` takes it.
    pub(crate) fn definition(&self) -> Value {
        if self.kind == Kind::Pod { self.pod() } else { self.app() }
    }

    fn app(&self) -> Value {
        let port = self.port();
        let mut app = json!({
            "id": format!("/{}", self.name), "instances": self.instances, "cpus": 0.01, "mem": 32,
            "networks": [self.network()],
            "constraints": self.agent.map(|agent| json!(["hostname", "CLUSTER", agent])).into_iter().collect::<Vec<_>>(),
        });
        let mut container = match self.kind {
            Kind::Docker => json!({"type": "DOCKER", "docker": {"image": "web"}}),
            Kind::Mesos => json!({"type": "MESOS", "docker": {"image": "web"}}),
            Kind::None | Kind::Pod => json!({"type": "MESOS"}),
        };
        if self.net == Net::Host {
            app["portDefinitions"] = json!([port]);
            app["requirePorts"] = (self.host_port != HostPort::AsUsual && port["port"] != 0).into();
        } else {
            container["portMappings"] = json!([port]);
        }
        if self.kind == Kind::None {
            let listens = if self.net == Net::Host { "$PORT0".to_owned() } else { CONTAINER_PORT.to_string() };
            app["cmd"] = format!("exec {} task --port {listens}", env!("CARGO_BIN_EXE_sluice-lab")).into();
        }
        if self.kind != Kind::None || self.net != Net::Host {
            app["container"] = container;
        }
        app
    }

    fn pod(&self) -> Value {
        let mut endpoint = self.port();
        endpoint["protocol"] = json!([self.protocol]);
        if endpoint["hostPort"].is_null() {
            endpoint.as_object_mut().unwrap().remove("hostPort");
        }
        if self.net == Net::Host {
            endpoint["hostPort"] = endpoint.as_object_mut().unwrap().remove("port").unwrap();
        }
        let here = |agent| json!({"fieldName": "hostname", "operator": "CLUSTER", "value": agent});
        json!({
            "id": format!("/{}", self.name), "scaling": {"kind": "fixed", "instances": self.instances},
            "containers": [{"name": "web", "resources": {"cpus": 0.01, "mem": 32}, "endpoints": [endpoint],
                "image": {"kind": "DOCKER", "id": "web"}}],
            "networks": [self.network()],
            "scheduling": {"placement": {"constraints": self.agent.map(here).into_iter().collect::<Vec<_>>()}},
        })
    }

    fn network(&self) -> Value {
        match self.net {
            Net::Host => json!({"mode": "host"}),
            Net::Bridge => json!({"mode": "container/bridge"}),
            Net::User => json!({"mode": "container", "name": self.network}),
        }
    }

    fn port(&self) -> Value {
        let number = match self.host_port {
            HostPort::Fixed(port) => json!(port),
            HostPort::AsUsual if self.net == Net::User => Value::Null,
            HostPort::AsUsual | HostPort::Any => json!(0),
        };
        let labels: Value = self.labels.iter().map(|(key, vip)| (key.clone(), Value::from(vip.clone()))).collect();
        let mut port = json!({"name": "web", "protocol": self.protocol, "labels": labels});
        if self.net == Net::Host {
            port["port"] = number;
        } else {
            port["containerPort"] = CONTAINER_PORT.into();
            port["hostPort"] = number;
        }
        port
    }
}
