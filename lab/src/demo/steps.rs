//! The lines of the demo, in their order.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::apps::{self, NAMED_VIP, STATIC_VIP};
use super::board::millis;
use super::session::Session;
use super::{Demo, DemoError};
use crate::load::Seen;
use crate::place::Place;
use crate::processes::signal_one;

/// Requests a second while scaling and killing.
const RATE: u32 = 150;
/// Requests by curl for each line of spread.
const ASKED: usize = 40;
const SSH_PORT: u16 = 2222;

impl Demo {
    pub(super) fn all_steps(&mut self) {
        let session = self.session();
        self.deploy();
        self.names();
        self.spread();
        self.scale();
        self.kill();
        self.rest();
        self.passed(session);
        self.books();
    }

    fn session(&mut self) -> Result<Session, DemoError> {
        self.board.doing("an ssh-like session to the node's own address, to be kept through everything");
        let address = SocketAddr::from((self.lab.topology().sluice.address, SSH_PORT));
        let (from, to) = (self.namespace("client")?, self.namespace("sluice")?);
        Session::open(&from, &to, address).map_err(DemoError::Not)
    }

    fn namespace(&self, role: &str) -> Result<String, DemoError> {
        let Place { namespace, .. } = self.lab.place(role)?;
        Ok(namespace)
    }

    fn deploy(&mut self) {
        let all = [
            ("marathon", "/minitwit", apps::minitwit(2), 2),
            ("marathon", "/overlay/api", apps::overlay(), 2),
            ("marathon-user", "/group/app", apps::group_app(), 1),
        ];
        self.board.doing("deploying minitwit (bridge), /overlay/api (overlay), /group/app (host, marathon-user)");
        let mut posted = Ok(());
        for (framework, _, app, _) in &all {
            posted = posted.and_then(|()| self.marathon(framework, "POST", "/v2/apps", app).map(drop));
        }
        let up = posted.and_then(|()| {
            self.until("all tasks are healthy", Duration::from_secs(20), || {
                all.iter().try_fold(true, |so_far, (framework, id, _, wanted)| {
                    Ok(so_far && self.healthy(framework, id)? == *wanted)
                })
            })
        });
        self.board.check("five tasks run and are healthy", up.map(|took| format!("after {}", millis(took))));
        let in_table = self.until("the VIP has two backends", Duration::from_secs(10), || self.has_backends(2));
        if let Ok(took) = &in_table {
            self.board.figure("tasks healthy in Marathon's API to their backends active in the tables", millis(*took));
        }
        self.board.check("`show vips` has both backends of 172.16.0.1:80", in_table.map(millis));
    }

    fn has_backends(&self, wanted: usize) -> Result<bool, DemoError> {
        let vip: SocketAddr = STATIC_VIP.parse().map_err(|e| DemoError::Not(format!("{e}")))?;
        Ok(self.backends(vip)? == wanted)
    }

    fn names(&mut self) {
        let agents: Vec<String> = self.lab.topology().agents.iter().map(|a| a.address.to_string()).collect();
        let before = self.answers_made();
        // Names follow services: at the very start the second task's may be on its way.
        let asked = || Ok(self.dig("client", "minitwit.marathon.mesos")? == agents);
        let found = self
            .until("both tasks have the name", Duration::from_secs(5), asked)
            .and_then(|_| self.dig("client", "minitwit.marathon.mesos"))
            .and_then(|found| equal(found, &agents));
        self.board.check("dig minitwit.marathon.mesos from the client", found);
        let named = [NAMED_VIP.to_owned()];
        for role in ["client", "c1"] {
            let found =
                self.dig(role, "minitwit.marathon.l4lb.thisdcos.directory").and_then(|found| equal(found, &named));
            self.board.check(&format!("dig minitwit.marathon.l4lb.thisdcos.directory from {role}"), found);
        }
        let found = self.dig("client", "app-group.marathon-user.mesos").map(|found| found.join(" "));
        self.board.check("dig app-group.marathon-user.mesos", found);
        let counted = before.and_then(|before| {
            let made = self.answers_made()? - before;
            if made < 4 {
                return Err(DemoError::Not(format!("the workers answered only {made} of 4 questions")));
            }
            Ok(format!("{made} answers counted by the workers"))
        });
        self.board.check("names are answered by the packet path", counted);
        self.enumerated();
    }

    /// DNS answers that the workers made themselves.
    fn answers_made(&self) -> Result<u64, DemoError> {
        let workers = self.show("workers")?;
        Ok(workers.as_array().into_iter().flatten().filter_map(|w| w["dns"]["noerror"].as_u64()).sum())
    }

    fn spread(&mut self) {
        let overlay = self.dig("client", "overlay.marathon.l4lb.thisdcos.directory");
        let overlay = overlay.ok().and_then(|found| found.first().cloned());
        let named = format!("http://{NAMED_VIP}/");
        let by_name = "http://minitwit.marathon.l4lb.thisdcos.directory/".to_owned();
        let mut lines = vec![("static VIP", format!("http://{STATIC_VIP}/")), ("named VIP", named)];
        // In some chroots a process cannot be given a resolver of its own (place.rs).
        let server = self.lab.topology().sluice.dns.first().map(ToString::to_string).unwrap_or_default();
        let asked = self.lab.exec("client", &["grep", "-q", &server, "/etc/resolv.conf"]);
        if asked.is_ok_and(|output| output.status.success()) {
            lines.push(("named VIP by name", by_name));
        }
        let overlay_url = overlay
            .map_or_else(|| "http://overlay.marathon.l4lb.thisdcos.directory/".to_owned(), |a| format!("http://{a}/"));
        lines.push(("VIP of overlay containers", overlay_url));
        for (what, url) in lines {
            for (role, from) in [("client", "the client"), ("c1", "an overlay container")] {
                let spread = self.curl(role, &url, ASKED).and_then(|tasks| over(&tasks, 2));
                self.board.check(&format!("curl {what} ({url}) from {from}"), spread);
            }
        }
    }

    fn scale(&mut self) {
        self.board.doing(&format!("scaling 2 -> 5 -> 2 under {RATE} requests/s, a connection each, no retries"));
        let result = self.scale_under_load();
        let seen = match result {
            Ok(seen) => seen,
            Err(error) => return self.board.check("scaling from 2 to 5 and back loses no request", Err(error)),
        };
        let none_lost = if seen.lost == 0 {
            Ok(format!("{} requests, all answered, by {} tasks", seen.ok, seen.tasks.len()))
        } else {
            Err(DemoError::Not(format!(
                "{} of {} requests lost: {:?} at {:?} ms",
                seen.lost,
                seen.sent,
                seen.causes,
                first(&seen.lost_at_ms)
            )))
        };
        self.board.check("scaling from 2 to 5 and back loses no request", none_lost);
        let all_used = if seen.tasks.len() >= 5 {
            Ok(format!("{:?}", seen.tasks.values().collect::<Vec<_>>()))
        } else {
            Err(DemoError::Not(format!("only {} tasks answered: {:?}", seen.tasks.len(), seen.tasks)))
        };
        self.board.check("each of the five tasks took its share", all_used);
        self.board.figure(
            "requests while scaling",
            format!("{} sent, {} lost, {} took a second or longer", seen.sent, seen.lost, seen.slow),
        );
        self.latency("request latency while scaling", &seen);
    }

    fn latency(&mut self, name: &str, seen: &Seen) {
        let ms = |us: u64| millis(Duration::from_micros(us));
        self.board
            .figure(name, format!("p50 {}, p99 {}, longest {}", ms(seen.p50_us), ms(seen.p99_us), ms(seen.max_us)));
    }

    fn scale_under_load(&mut self) -> Result<Seen, DemoError> {
        let load = self.load(STATIC_VIP, RATE, 13.0)?;
        sleep(Duration::from_millis(800));
        let took = self.scale_to(5)?;
        self.board.figure("PUT instances=5 to five backends in the tables", millis(took));
        sleep(Duration::from_secs(3));
        let took = self.scale_to(2)?;
        self.board.figure("PUT instances=2 to two backends in the tables", millis(took));
        load.seen()
    }

    fn scale_to(&self, instances: usize) -> Result<Duration, DemoError> {
        self.board.doing(&format!("PUT /v2/apps/minitwit {{\"instances\": {instances}}}"));
        // Scaling waits for what is under way; a deployment of a healthy app is over in a moment.
        self.until("no deployment is under way", Duration::from_secs(10), || Ok(self.deployments("marathon")? == 0))?;
        self.marathon("marathon", "PUT", "/v2/apps/minitwit", &json!({"instances": instances}))?;
        let what = format!("the VIP has {instances} backends");
        self.until(&what, Duration::from_secs(10), || self.has_backends(instances))
    }

    fn kill(&mut self) {
        self.board.doing(&format!("a task is killed with SIGKILL under {RATE} requests/s"));
        let settled = self
            .until("no deployment is under way", Duration::from_secs(15), || Ok(self.deployments("marathon")? == 0));
        let result = settled.and_then(|_| self.kill_under_load());
        match result {
            Err(error) => self.board.check("a killed task's flows recover", Err(error)),
            Ok((seen, at_ms, end_ms)) => {
                let last = seen.lost_at_ms.iter().max().copied();
                let recovery = last.map_or(0.0, |last| (last.saturating_sub(at_ms)) as f64 / 1e3);
                let recovered = last.is_none_or(|last| last + 2000 < end_ms);
                let said = format!("{} of {} requests lost, recovered after {recovery:.2} s", seen.lost, seen.sent);
                self.board.figure("a task killed with SIGKILL", said.clone());
                self.latency("request latency around the kill", &seen);
                let result = if recovered {
                    Ok(said)
                } else {
                    Err(DemoError::Not(format!("still losing at the end: {:?}", seen.causes)))
                };
                self.board.check("a task killed with SIGKILL: recovery", result);
            }
        }
    }

    /// What was seen, when the kill was, and when the load ended (milliseconds of the load).
    fn kill_under_load(&self) -> Result<(Seen, u64, u64), DemoError> {
        let tasks = self.marathon("marathon", "GET", "/v2/apps/minitwit/tasks", &Value::Null)?;
        let victim = tasks["tasks"][0]["id"].as_str().unwrap_or_default().to_owned();
        let pid = self.pid_of(&victim).ok_or_else(|| DemoError::Not(format!("no process of {victim} is recorded")))?;
        let seconds = 8.0;
        let load = self.load(STATIC_VIP, RATE, seconds)?;
        sleep(Duration::from_secs(2));
        let at = load.began.elapsed();
        signal_one(pid, Signal::SIGKILL);
        self.board.doing(&format!("SIGKILL to {victim} (pid {pid})"));
        Ok((load.seen()?, at.as_millis() as u64, (seconds * 1e3) as u64))
    }

    /// From the lab's own record of what it started.
    fn pid_of(&self, task: &str) -> Option<u32> {
        let text = fs::read_to_string(self.lab.state().file("processes")).ok()?;
        let line = text.lines().rfind(|line| line.ends_with(&format!(" {task}")))?;
        line.split(' ').next()?.parse().ok()
    }

    /// Marathon starts a new task in the place of the killed one.
    fn rest(&mut self) {
        let back = self.until("two tasks are healthy again", Duration::from_secs(15), || {
            Ok(self.healthy("marathon", "/minitwit")? == 2 && self.has_backends(2)?)
        });
        self.board.check("two backends again", back.map(|took| format!("{} after the load's end", millis(took))));
    }

    fn passed(&mut self, session: Result<Session, DemoError>) {
        let held = session.and_then(|session| session.end().map_err(DemoError::Not));
        self.board.check(
            "the ssh-like session to the node lived through it all",
            held.map(|lines| format!("{lines} lines to and fro")),
        );
        let node = self.lab.topology().sluice.address.to_string();
        let asked = self.lab.exec(
            "agent1",
            &["sh", "-c", "ip neigh flush dev eth0; ping -c1 -W2 \"$0\" && ip neigh show \"$0\"", &node],
        );
        let found = asked.map_err(DemoError::from).and_then(|output| {
            let said = String::from_utf8_lossy(&output.stdout);
            let line = said.lines().find(|line| line.contains("lladdr"));
            line.map(|l| l.trim().to_owned()).ok_or_else(|| DemoError::Not(format!("no ARP answer: {said}")))
        });
        self.board.check("ARP and ping to the node's own address, asked anew", found);
    }

    /// The mean of one of Sluice's histograms, from its metrics.
    fn mean(&self, histogram: &str) -> Option<Duration> {
        let answer = crate::http::get_unix(&self.lab.sluice_socket(), "/metrics").ok()?;
        let of = |kind: &str| {
            let name = format!("sluice_{histogram}_{kind} ");
            answer.body.lines().find_map(|line| line.strip_prefix(&name)?.trim().parse::<f64>().ok())
        };
        Duration::try_from_secs_f64(of("sum")? / of("count")?.max(1.0)).ok()
    }

    fn books(&mut self) {
        if let Some(mean) = self.mean("marathon_to_dataplane_seconds") {
            self.board.figure("Marathon's answer to tables in the workers (mean)", millis(mean));
        }
        let workers = self.show("workers");
        let sum = |all: &Value, field: &str| -> Vec<u64> {
            let of = |w: &Value| w["books"][field].as_u64().unwrap_or(0);
            all.as_array().into_iter().flatten().map(of).collect()
        };
        let both = workers.and_then(|all| {
            let (rx, given) = (sum(&all, "rx"), sum(&all, "given"));
            let (taken, handed) = (sum(&all, "taken").iter().sum::<u64>(), given.iter().sum::<u64>());
            if rx.len() < 2 || rx.contains(&0) || handed == 0 || handed != taken {
                return Err(DemoError::Not(format!("received {rx:?}, given {given:?}, taken {taken}")));
            }
            Ok(format!("received {rx:?}, {handed} handed over and taken"))
        });
        self.board.check("both workers received, and packets were handed over", both);
        let drops = self.show("drops");
        if let Ok(drops) = &drops {
            let reasons = drops["reasons"].as_array().into_iter().flatten();
            let seen = reasons.filter(|r| r["count"].as_u64().unwrap_or(0) > 0);
            let seen: Vec<String> =
                seen.map(|r| format!("{} {}", r["name"].as_str().unwrap_or("?"), r["count"])).collect();
            self.board.figure("drops by reason", if seen.is_empty() { "none".to_owned() } else { seen.join(", ") });
        }
        let balanced = drops.and_then(|drops| {
            let books = &drops["books"];
            let line = format!(
                "rx {} + taken {} + made {} = tx {} + host {} + drops {} + given {} + held {}",
                books["rx"],
                books["taken"],
                books["made"],
                books["tx"],
                books["host"],
                books["drops"],
                books["given"],
                books["held"],
            );
            if books["balanced"] == true { Ok(line) } else { Err(DemoError::Not(format!("not balanced: {line}"))) }
        });
        if let Ok(line) = &balanced {
            self.board.figure("books", line.clone());
        }
        self.board.check("the books balance", balanced);
    }
}

fn first(times: &[u64]) -> &[u64] {
    times.get(..times.len().min(10)).unwrap_or_default()
}

fn equal(found: Vec<String>, wanted: &[String]) -> Result<String, DemoError> {
    if found == wanted {
        return Ok(found.join(" "));
    }
    Err(DemoError::Not(format!("{} instead of {}", found.join(" "), wanted.join(" "))))
}

/// Answers must come from this many tasks.
fn over(tasks: &BTreeMap<String, usize>, wanted: usize) -> Result<String, DemoError> {
    let counts: Vec<String> = tasks.values().map(ToString::to_string).collect();
    if tasks.len() == wanted {
        return Ok(format!("{} requests over {wanted} tasks", counts.join(" + ")));
    }
    Err(DemoError::Not(format!("answers from {} tasks ({}) instead of {wanted}", tasks.len(), counts.join(" + "))))
}
