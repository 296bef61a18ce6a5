//! Probes of backends that answer as the VIP: one that has lost the VIP, or serves no more, is out of the service, although
//! its host would answer at its own address; and comes back.

use std::time::{Duration, Instant};

use super::in_url;
use super::tools::Tools;
use super::world::{SERVICES, Service, World};

const PATIENCE: Duration = Duration::from_secs(30);

/// Every service is probed; a standing takes two probes at most.
const HEALTH: &str =
    "[health]\nkind = \"tcp\"\ninterval_seconds = 1\ntimeout_seconds = 1\nrise = 1\nfall = 2\neject_percent = 0\n";

#[test]
fn a_backend_that_lost_the_vip_or_serves_no_more_is_out_of_the_service_and_comes_back() {
    let Some(world) = World::start_with(HEALTH) else { return };
    let tools = Tools::of(&world);
    let services: Vec<&Service> = SERVICES.iter().filter(|service| service.is_dsr()).collect();
    for service in &services {
        for host in service.hosts {
            until(&world, service, host, "fit", "answers");
        }
    }
    for service in &services {
        let host = service.hosts[0];
        let (vip, length) = (service.ip(), if service.ip().is_ipv4() { 32 } else { 128 });
        run(&world, host, &format!("ip addr del {vip}/{length} dev lo"));
        until(&world, service, host, "unfit", "");
        assert_eq!(seen(&tools, service), vec![service.hosts[1]; 8], "{service:?}");
        run(&world, host, &format!("ip addr add {vip}/{length} dev lo"));
        until(&world, service, host, "fit", "answers");
    }
    for host in ["agent2", "c2"] {
        world.kill(&format!("task-{host}"));
    }
    for service in &services {
        until(&world, service, service.hosts[1], "unfit", "refused");
        assert_eq!(seen(&tools, service), vec![service.hosts[0]; 8], "{service:?}");
    }
    let (asked, answered) = (world.metric("sluice_probes_carried_total"), world.metric("sluice_probes_answered_total"));
    assert!(asked > answered && answered > 100, "{asked} packets of probes, {answered} of answers");
    world.the_books_balance();
    world.stop();
}

/// Waits until the probe of a service's backend says so, as the VIP.
fn until(world: &World, service: &Service, host: &str, verdict: &str, why: &str) {
    let began = Instant::now();
    let vip = format!("{}:80/tcp", service.vip);
    let backend = service.backend_on(host);
    loop {
        let all = world.show("backends");
        let row = all.as_array().unwrap().iter().find(|b| b["vip"] == vip.as_str() && b["ip"] == backend).unwrap();
        let probe = row["judges"].as_array().unwrap().iter().find(|j| j["judge"] == "probe").unwrap();
        let reason = probe["reason"].as_str().unwrap();
        assert!(reason.contains(&format!("as the VIP, in {}", service.mode)), "{reason}");
        if probe["verdict"] == verdict && reason.contains(why) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{vip} {backend}: not {verdict}: {row:#}\ndrops {:?}", world.dropped());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Who answers eight new connections.
fn seen(tools: &Tools<'_>, service: &Service) -> Vec<String> {
    let said = tools.curl(&format!("http://{}/?[1-8]", in_url(service.ip())));
    said.lines().filter_map(|line| line.strip_prefix("host ")).map(str::to_owned).collect()
}

fn run(world: &World, role: &str, line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let output = world.exec(role, &words);
    assert!(output.status.success(), "{role}: {line}: {}", String::from_utf8_lossy(&output.stderr));
}
