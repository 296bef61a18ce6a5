//! What runs inside a lab: `marathon`, `task`, `load`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use sluice_lab::marathon::{Dialect, Emulator, Settings};
use sluice_lab::state::LabState;
use sluice_lab::{Lab, load, mesos, programs, web_task};

#[derive(clap::Args)]
pub(super) struct Marathon {
    /// Where the API is to be.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// As `marathon_config.framework_name` of /v2/info; part of every DNS name.
    #[arg(long, default_value = "marathon")]
    framework_name: String,
    /// 1.3 or 1.9.
    #[arg(long, default_value = "1.9", value_parser = Dialect::parse)]
    marathon_version: Dialect,
    /// Run the tasks on the agents of this lab.
    #[arg(long)]
    lab: Option<String>,
}

impl Marathon {
    pub(super) fn run(self) -> Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let (state, topology) = match &self.lab {
            Some(id) => {
                let lab = Lab::open(LabState::open(id)?)?;
                (lab.state().clone(), Some(lab.topology().clone()))
            }
            None => (LabState::create()?, None),
        };
        let settings = Settings {
            framework: self.framework_name,
            dialect: self.marathon_version,
            state: state.clone(),
            topology,
            program: programs::find("sluice-lab", None)?,
        };
        let served = runtime.block_on(serve(self.listen, settings));
        if self.lab.is_none() {
            state.remove()?;
        }
        served.map(|()| ExitCode::SUCCESS)
    }
}

async fn serve(listen: SocketAddr, settings: Settings) -> Result<()> {
    let listener = tokio::net::TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}: give --listen a free address of this machine"))?;
    let emulator = Emulator::start(listener, settings)?;
    println!("Marathon's API is at http://{}", emulator.address());
    let told = super::labs::told_to_stop().await;
    emulator.stop().await;
    told
}

#[derive(clap::Args)]
pub(super) struct Mesos {
    /// Where the API is to be.
    #[arg(long, default_value = "127.0.0.1:5050")]
    listen: SocketAddr,
    /// A Marathon of the lab that runs its tasks here; may be repeated.
    #[arg(long = "marathon")]
    marathons: Vec<SocketAddr>,
    /// Be a standby of this master.
    #[arg(long)]
    standby_of: Option<SocketAddr>,
    /// Seconds in which all agents register, one after the other, as after a change of master.
    #[arg(long, default_value_t = 0.0)]
    reregister: f64,
    /// Seconds between heartbeats.
    #[arg(long, default_value_t = 15.0)]
    heartbeat: f64,
    /// Tell of this lab's overlay.
    #[arg(long)]
    lab: Option<String>,
}

impl Mesos {
    pub(super) fn run(self) -> Result<ExitCode> {
        let lab = self.lab.as_deref().map(|id| Lab::open(LabState::open(id)?)).transpose()?;
        let settings = mesos::Settings {
            marathons: self.marathons,
            leader: self.standby_of,
            reregister: Duration::try_from_secs_f64(self.reregister)
                .context("--reregister must be seconds, 0 or more")?,
            heartbeat: Duration::try_from_secs_f64(self.heartbeat).context("--heartbeat must be seconds, 0 or more")?,
            lab: lab.map(|lab| (lab.state().clone(), lab.topology().clone())),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind(self.listen).await;
            let refused = || format!("cannot listen on {}: give --listen a free address of this machine", self.listen);
            let master = mesos::Master::start(listener.with_context(refused)?, settings)?;
            println!("Mesos's API is at http://{}", master.address());
            super::labs::told_to_stop().await
        })?;
        // A Marathon that is being asked is not waited for.
        runtime.shutdown_background();
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(clap::Args)]
pub(super) struct Task {
    /// A port to listen on; may be repeated. None: PORT0, else 80.
    #[arg(long = "port")]
    ports: Vec<u16>,
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    bind: IpAddr,
    /// Seconds for which it goes on accepting after SIGTERM.
    #[arg(long, default_value_t = 3.0)]
    linger: f64,
}

impl Task {
    pub(super) fn run(mut self) -> Result<ExitCode> {
        if self.ports.is_empty() {
            let port = std::env::var("PORT0").ok().and_then(|port| port.parse().ok());
            self.ports.push(port.unwrap_or(80));
        }
        let linger = Duration::try_from_secs_f64(self.linger).context("--linger must be seconds, 0 or more")?;
        let task = web_task::WebTask { bind: self.bind, ports: self.ports, linger };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(web_task::serve(&task)).with_context(|| format!("{}: {:?}", task.bind, task.ports))?;
        Ok(ExitCode::SUCCESS)
    }
}

pub(super) fn decap() -> Result<ExitCode> {
    sluice_lab::decap::run().context("raw sockets need root, and UDP port 6080 must be free")?;
    Ok(ExitCode::SUCCESS)
}

#[derive(clap::Args)]
pub(super) struct Load {
    /// Address and port to ask.
    #[arg(long)]
    target: SocketAddr,
    #[arg(long, default_value = "/")]
    path: String,
    /// Requests a second.
    #[arg(long, default_value_t = 100)]
    rate: u32,
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// A request without its whole answer after this long is lost.
    #[arg(long, default_value_t = 3000)]
    timeout_ms: u64,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

impl Load {
    pub(super) fn run(self) -> Result<ExitCode> {
        let load = load::Load {
            target: self.target,
            path: self.path,
            rate_per_second: self.rate.clamp(1, 100_000),
            duration: Duration::try_from_secs_f64(self.seconds).context("--seconds must be 0 or more")?,
            timeout: Duration::from_millis(self.timeout_ms),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let seen = runtime.block_on(load::run(load));
        if self.json {
            println!("{}", serde_json::to_string(&seen)?);
        } else {
            println!("{seen}");
        }
        Ok(ExitCode::SUCCESS)
    }
}
