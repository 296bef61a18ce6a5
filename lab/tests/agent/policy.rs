//! A policy that changes while containers talk: established sessions of those whom it parts stop, those of others lose
//! nothing, and taken back it lets them go on.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sluice_lab::place::within;

use super::ping::Ping;
use super::world::{World, app, end, topology, until};

/// A hundred milliseconds are the aim, which is printed; on a machine that builds something beside this a worker may not
/// run for longer than that.
const AT_MOST: f64 = 1.0;

#[test]
fn a_change_of_groups_stops_established_sessions_at_once_and_taken_back_lets_them_go_on() {
    let mut two_agents = topology(2);
    two_agents.overlay.hub = true;
    // A Mesos master remembers the groups that a task was started with.
    two_agents.mesos = None;
    let Some(world) = World::start(&two_agents) else { return };
    let agents = [world.agent("agent1"), world.agent("agent2")];
    until("agent1 hears of agent2", || world.kernel("agent1").contains("44.128.0.2 dev vtep1024 lladdr").then_some(()));
    let on = |ips: &[String], net: &str| ips.iter().find(|ip| ip.starts_with(net)).cloned().unwrap();
    let asking = world.deploy(&app("/asking", 2, &["red"], "/asking:80"));
    let asked = world.deploy(&app("/asked", 2, &["red"], "/asked:80"));
    let blue = world.deploy(&app("/blue", 2, &["blue"], "/blue:80"));
    let from = world.role_of(&on(&asking, "9.0.0."));
    let parted = [on(&asked, "9.0.0."), on(&asked, "9.0.1.")];

    let pings = parted.each_ref().map(|to| Ping::start(&world, &from, to));
    let others = Ping::start(&world, &world.role_of(&on(&blue, "9.0.0.")), &on(&blue, "9.0.1."));
    let download = format!("http://{}/octets?n=4000000", on(&blue, "9.0.1."));
    let mut download = world
        .lab
        .command(&world.role_of(&on(&blue, "9.0.0.")), "curl")
        .unwrap()
        .args(["-sS", "-m", "60", "--limit-rate", "500k", "-o", "/dev/null", "-w", "%{size_download}", &download])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let namespace = world.lab.state().namespace(&from);
    let stop = AtomicBool::new(false);
    let answers = [Mutex::new(Vec::new()), Mutex::new(Vec::new())];
    std::thread::scope(|scope| {
        for (to, answers) in parted.iter().zip(&answers) {
            let (namespace, stop) = (&namespace, &stop);
            scope.spawn(move || within(namespace, || keep_asking(to, answers, stop)).unwrap());
        }
        // A panic must end the threads, too.
        let _guard = Guard(&stop);
        let last = |n: usize| answers[n].lock().unwrap().last().copied().unwrap_or(0.0);
        until("both sessions are established", || (0..2).all(|n| last(n) > 0.0).then_some(()));
        std::thread::sleep(Duration::from_secs(1));

        let (_, parting) = publication(&world, || change(&world, &["green"]));
        // Long enough for whatever would still pass to be seen.
        std::thread::sleep(Duration::from_secs(3));
        for (n, to) in parted.iter().enumerate() {
            let icmp = pings[n].answers().into_iter().fold(0.0, f64::max);
            for (kind, at) in [("ICMP", icmp), ("TCP", last(n))] {
                println!("{kind} to {to}: the last answer {:.1} ms after the publication", (at - parting) * 1e3);
                assert!(at > parting - 1.0, "{kind} to {to} did not go on until then");
                assert!(at < parting + AT_MOST, "{kind} to {to} goes on {:.3} s after it", at - parting);
            }
        }
        let denied = world.shown("policy")["denied"].clone();
        assert!(denied.as_array().unwrap().iter().any(|pair| pair["packets"].as_u64() > Some(100)), "{denied}");

        let (again, together) = publication(&world, || change(&world, &["red"]));
        for (n, to) in parted.iter().enumerate() {
            let icmp =
                until("pings are answered again", || pings[n].answers().into_iter().find(|at| *at > parting + AT_MOST));
            let tcp = until("the session goes on", || Some(last(n)).filter(|at| *at > parting + AT_MOST));
            assert!(icmp > again && tcp > again, "{to}: not before it is allowed");
            println!("{to}: pings are answered {:.1} ms after the publication", (icmp - together) * 1e3);
        }
    });
    let (sent, received) = others.end();
    println!("another group's: {sent} sent, {received} answered");
    assert!(sent > 100 && received + 1 >= sent, "{sent} sent, {received} answered");
    for ping in pings {
        ping.end();
    }
    let done = download.wait().unwrap();
    let mut size = String::new();
    download.stdout.take().unwrap().read_to_string(&mut size).unwrap();
    assert!(done.success() && size == "4000000", "{size}");
    for agent in agents {
        end(agent, Signal::SIGTERM);
    }
}

/// The groups of `/asked`, by a deployment that gets no further: new tasks are never healthy, so the old ones stay.
fn change(world: &World, groups: &[&str]) {
    let mut app = app("/asked", 2, groups, "/asked:80");
    app["healthChecks"] = json!([{"protocol": "HTTP", "path": "/health", "portIndex": 0, "delaySeconds": 3600,
        "gracePeriodSeconds": 3600, "intervalSeconds": 3600, "timeoutSeconds": 20, "maxConsecutiveFailures": 0}]);
    app["upgradeStrategy"] = json!({"minimumHealthCapacity": 1.0, "maximumOverCapacity": 0.5});
    let to = world.lab.marathon("marathon").unwrap();
    let answer = world.lab.http("master", "PUT", to, "/v2/apps/asked?force=true", &app.to_string()).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    let _: Value = serde_json::from_str(&answer.body).unwrap();
}

/// When this was begun, and when Sluice published first after that, by its log: seconds since 1970.
fn publication(world: &World, begin: impl FnOnce()) -> (f64, f64) {
    let before = now();
    begin();
    let published = until("a publication", || {
        let log = fs::read_to_string(world.lab.log("sluice")).unwrap();
        log.lines().filter(|line| line.contains(": published ")).filter_map(at).find(|at| *at >= before)
    });
    (before, published)
}

/// The time of a line of a log, `2026-11-26T08:30:00.123456Z`: seconds since 1970, of the day that is nearest.
fn at(line: &str) -> Option<f64> {
    let time = line.split_once('T')?.1.split_once('Z')?.0;
    let mut parts = time.split(':').map(|part| part.parse::<f64>().ok());
    let of_day = parts.next()?? * 3600.0 + parts.next()?? * 60.0 + parts.next()??;
    let (day, now) = (86_400.0, now());
    let ago = (now - of_day).rem_euclid(day);
    Some(now - if ago > day / 2.0 { ago - day } else { ago })
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// One request after the other on one connection, until told to stop; when each was answered.
fn keep_asking(to: &str, answers: &Mutex<Vec<f64>>, stop: &AtomicBool) {
    let mut stream = TcpStream::connect((to, 80)).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut buffer = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        loop {
            match stream.read(&mut buffer) {
                Ok(length) => {
                    assert!(length > 0, "{to} has closed");
                    answers.lock().unwrap().push(now());
                    break;
                }
                Err(_) if stop.load(Ordering::Relaxed) => return,
                Err(_) => {}
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

struct Guard<'a>(&'a AtomicBool);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
