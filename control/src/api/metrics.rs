//! `/metrics`: names and labels are listed in docs by [`text`] itself; label values never come from a packet, and series
//! per VIP are bounded by [`MOST_VIPS`].

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use sluice_config::model::Gateway;
use sluice_dataplane::counters::{Counter, Counters, NetworkCounters, PortCounters};
use sluice_dataplane::stage::refuse::is_told;
use sluice_dataplane::verdict::{DropReason, Reply};

use super::names;
use super::observed::{Observed, Published};
use super::policy;
use super::prometheus::{Family, Kind, Text};
use super::show::{Vip, vips};
use crate::health::combine::State;

/// VIPs with series of their own; the others are summed under `vip="other"`.
pub const MOST_VIPS: usize = 500;

/// The whole text.
#[must_use]
pub fn text(observed: &Observed) -> String {
    let published = observed.published();
    let mut text = Text::default();
    process(&mut text, observed, published.as_ref());
    packets(&mut text, observed);
    denials(&mut text, observed, published.as_ref());
    ports(&mut text, observed);
    sessions_and_names(&mut text, observed);
    masquerade(&mut text, observed);
    services(&mut text, observed, published.as_ref());
    health(&mut text, observed, published.as_ref());
    sockets(&mut text, observed);
    marathons(&mut text, observed);
    mesos(&mut text, observed);
    text.finish()
}

fn process(text: &mut Text, observed: &Observed, published: Option<&Published>) {
    text.family(Kind::Gauge, "build_info", "Always 1; the version of this program.", |f| {
        f.sample(&[("version", &env!("CARGO_PKG_VERSION"))], 1);
    });
    text.family(Kind::Gauge, "up", "1 while every worker turns.", |f| {
        f.sample(&[], u8::from(observed.unhealthy().is_empty()));
    });
    text.family(Kind::Gauge, "ready", "1 once tables are published and every Marathon was listed.", |f| {
        f.sample(&[], u8::from(observed.unready().is_empty()));
    });
    text.family(Kind::Gauge, "table_generation", "Counts published tables up from 1.", |f| {
        f.sample(&[], published.map_or(0, |p| p.tables.generation));
    });
    text.family(Kind::Gauge, "table_entries", "Entries of the published tables.", |f| {
        let Some(Published { tables, .. }) = published else { return };
        let shared = &tables.desired.shared;
        let backends: usize = shared.services.iter().map(|s| s.backends.len()).sum();
        let records: usize = shared.zones.iter().map(|z| z.records.len()).sum();
        let counts: [(&str, usize); 6] = [
            ("services", shared.services.len()),
            ("backends", backends),
            ("agents", shared.agents.len()),
            ("records", records),
            ("routes", tables.desired.local.routes.len()),
            ("neighbours", tables.desired.local.neighbours.len()),
        ];
        for (table, count) in counts {
            f.sample(&[("table", &table)], count);
        }
    });
    text.family(
        Kind::Gauge,
        "left_out",
        "Services and backends without a number (`limits`), or that the service's mode cannot reach: not served.",
        |f| {
            f.sample(&[], published.map_or(0, |p| p.tables.left_out.len()));
        },
    );
    text.family(Kind::Counter, "publish_errors_total", "Tables that could not be made; the old ones stay.", |f| {
        f.sample(&[], observed.publish_errors.load(Relaxed));
    });
    text.histogram("table_publish_seconds", "From a known change to published tables.", &observed.publish.read());
}

fn each(family: &mut Family<'_>, workers: &[Arc<Counters>], value: impl Fn(&Counters) -> &Counter) {
    for (worker, counters) in workers.iter().enumerate() {
        family.sample(&[("worker", &worker)], value(counters).get());
    }
}

fn packets(text: &mut Text, observed: &Observed) {
    type Read = fn(&Counters) -> &Counter;
    let workers = &observed.workers;
    let counters: [(&str, &str, Read); 15] = [
        ("worker_rx_packets_total", "Packets received from ports.", |c| &c.rx),
        ("worker_tx_packets_total", "Packets transmitted, those to the node's kernel excepted.", |c| &c.tx),
        ("pass_packets_total", "Packets given to the node's kernel.", |c| &c.host),
        ("worker_made_packets_total", "Packets made here.", |c| &c.made),
        ("handover_given_packets_total", "Packets given to another worker.", |c| &c.given),
        ("handover_taken_packets_total", "Packets taken from another worker.", |c| &c.taken),
        ("worker_loops_total", "Turns.", |c| &c.turns),
        ("worker_idle_loops_total", "Turns that received nothing.", |c| &c.idle_turns),
        ("worker_sleeps_total", "Times that a worker slept.", |c| &c.sleeps),
        ("events_lost_total", "Events that control did not read in time.", |c| &c.events_lost),
        ("flow_table_expired_total", "Sessions ended by expiry.", |c| &c.sessions_expired),
        ("icmp_errors_translated_total", "ICMP errors translated and sent on.", |c| &c.icmp_errors),
        ("icmp_mtu_raised_total", "Of these, those with a forged MTU that was raised.", |c| &c.icmp_mtu_raised),
        ("fragments_followed_total", "Later fragments sent on as their first one.", |c| &c.fragments_followed),
        ("fragments_waited_total", "Fragments that waited for their first one.", |c| &c.fragments_waited),
    ];
    for (name, help, read) in counters {
        text.family(Kind::Counter, name, help, |f| each(f, workers, read));
    }
    text.family(Kind::Gauge, "held_packets", "Fragments that wait for their first one.", |f| {
        each(f, workers, |c| &c.held)
    });
    text.family(
        Kind::Counter,
        "answer_packets_total",
        "Packets answered in place, by kind of answer; each is a transmitted packet as well.",
        |f| {
            for (worker, counters) in workers.iter().enumerate() {
                for (reply, kind) in Reply::ALL {
                    f.sample(&[("worker", &worker), ("kind", kind)], counters.answers(*reply).get());
                }
            }
        },
    );
    let told = DropReason::ALL.iter().filter(|reason| is_told(**reason));
    text.family(
        Kind::Counter,
        "refused_packets_total",
        "Packets refused for a reason that their sender was told: answered in place of a drop, so not in drop_packets_total.",
        |f| {
            for (worker, counters) in workers.iter().enumerate() {
                for reason in told.clone() {
                    f.sample(&[("worker", &worker), ("reason", &reason.name())], counters.answered(*reason).get());
                }
            }
        },
    );
    text.family(
        Kind::Counter,
        "drop_packets_total",
        "Packets dropped; `sluice show drops` explains each reason.",
        |f| {
            for (worker, counters) in workers.iter().enumerate() {
                for reason in DropReason::ALL {
                    f.sample(&[("worker", &worker), ("reason", &reason.name())], counters.drops(*reason).get());
                }
            }
        },
    );
}

/// What the masquerading gateway does; zeros elsewhere.
fn masquerade(text: &mut Text, observed: &Observed) {
    type Read = fn(&Counters) -> &Counter;
    let workers = &observed.workers;
    let counters: [(&str, &str, Read); 5] = [
        ("masqueraded_packets_total", "Packets of containers that left with an address of snat.underlay.", |c| {
            &c.masqueraded
        }),
        ("unmasqueraded_packets_total", "Packets that came back to these, and went to their container.", |c| {
            &c.unmasqueraded
        }),
        ("masquerade_flows_total", "Masqueraded flows begun.", |c| &c.masquerade_made),
        ("masquerade_expired_total", "Flows of the masquerading gateway ended by expiry.", |c| &c.masquerade_expired),
        ("masquerade_evictions_total", "Of these flows, half-open ones that gave way to newer ones.", |c| {
            &c.masquerade_evicted
        }),
    ];
    for (name, help, read) in counters {
        text.family(Kind::Counter, name, help, |f| each(f, workers, read));
    }
    let help = "Flows of the masquerading gateway now, by who began them; limits.masquerade bounds each.";
    text.family(Kind::Gauge, "masquerade_entries", help, |f| {
        for (worker, counters) in workers.iter().enumerate() {
            for (begun, count) in [("container", &counters.masquerade_flows), ("outside", &counters.masquerade_entered)]
            {
                f.sample(&[("worker", &worker), ("begun", &begun)], count.get());
            }
        }
    });
    text.family(Kind::Gauge, "masquerade_capacity", "Flows of each kind that there is room for, per worker.", |f| {
        let overlay = observed.config.overlay.as_ref();
        let masquerades = overlay.is_some_and(|overlay| overlay.gateway == Gateway::Masqueraded);
        f.sample(&[], if masquerades { observed.config.limits.masquerade } else { 0 });
    });
}

/// Pairs are bounded (`Denials::PAIRS`), and named by configuration and labels.
fn denials(text: &mut Text, observed: &Observed, published: Option<&Published>) {
    type Read = fn(&NetworkCounters) -> &Counter;
    let counters: [(&str, &str, Read); 2] = [
        ("network_rx_packets_total", "Packets that came out of tunnels from a network's containers.", |n| &n.rx),
        ("network_tx_packets_total", "Packets that went into tunnels to a network's containers.", |n| &n.tx),
    ];
    for (name, help, read) in counters {
        text.family(Kind::Counter, name, help, |f| {
            for (network, place) in published.iter().flat_map(|p| p.tables.overlay.places()) {
                f.sample(&[("network", &network)], network_packets(observed, place, read));
            }
        });
    }
    let help = "Packets that isolation groups kept from a party, by who sent them; `sluice show policy` lists them.";
    text.family(Kind::Counter, "group_denied_packets_total", help, |f| {
        for pair in published.map(|p| policy::denied(observed, &p.tables)).unwrap_or_default() {
            f.sample(&[("from", &pair.from), ("to", &pair.to)], pair.packets);
        }
    });
}

/// Over all workers.
fn network_packets(observed: &Observed, place: u8, read: impl Fn(&NetworkCounters) -> &Counter) -> u64 {
    observed.workers.iter().filter_map(|c| c.networks.get(usize::from(place))).map(|n| read(n).get()).sum()
}

fn ports(text: &mut Text, observed: &Observed) {
    type Read = fn(&PortCounters) -> &Counter;
    let counters: [(&str, &str, Read); 4] = [
        ("rx_packets_total", "Packets received.", |p| &p.rx),
        ("rx_bytes_total", "Octets received.", |p| &p.rx_bytes),
        ("tx_packets_total", "Packets that the transmit ring took.", |p| &p.tx),
        ("tx_bytes_total", "Octets that the transmit ring took.", |p| &p.tx_bytes),
    ];
    for (name, help, read) in counters {
        text.family(Kind::Counter, name, help, |f| {
            for (worker, counters) in observed.workers.iter().enumerate() {
                for (port, values) in observed.ports.iter().zip(&counters.ports) {
                    f.sample(&[("worker", &worker), ("port", port)], read(values).get());
                }
            }
        });
    }
}

fn sessions_and_names(text: &mut Text, observed: &Observed) {
    let workers = &observed.workers;
    text.family(Kind::Gauge, "flow_table_entries", "Sessions now.", |f| each(f, workers, |c| &c.sessions));
    text.family(Kind::Gauge, "flow_table_capacity", "Sessions that there is room for, per worker.", |f| {
        f.sample(&[], observed.config.limits.sessions);
    });
    text.family(Kind::Counter, "flows_total", "Sessions begun.", |f| each(f, workers, |c| &c.sessions_made));
    text.family(Kind::Counter, "flow_table_evictions_total", "Half-open sessions that gave way to newer ones.", |f| {
        each(f, workers, |c| &c.sessions_evicted);
    });
    text.family(
        Kind::Gauge,
        "snat_ports_resting",
        "SNAT ports that rest until their backends have forgotten them.",
        |f| {
            each(f, workers, |c| &c.snat_resting);
        },
    );
    let cut = "SNAT ports whose rest ended early for want of room; raise limits.sessions.";
    text.family(Kind::Counter, "snat_rests_cut_short_total", cut, |f| each(f, workers, |c| &c.snat_rests_cut));
    text.family(
        Kind::Counter,
        "flows_unremembered_total",
        "Packets of DSR flows sent by Maglev alone: table full.",
        |f| {
            each(f, workers, |c| &c.unremembered);
        },
    );
    text.family(Kind::Counter, "probes_carried_total", "Packets of our own probes carried in a DSR mode.", |f| {
        each(f, workers, |c| &c.probes_carried);
    });
    text.family(Kind::Counter, "probes_answered_total", "Packets of backends that answered these, as the VIP.", |f| {
        each(f, workers, |c| &c.probes_answered);
    });
    text.family(Kind::Counter, "mss_clamped_total", "SYNs whose MSS was lowered to what fits the way.", |f| {
        each(f, workers, |c| &c.mss_clamped);
    });
    text.family(Kind::Counter, "dns_questions_total", "DNS answers of the packet path by question type.", |f| {
        names::types(workers).for_each(|(name, answers)| f.sample(&[("type", &name)], answers));
    });
    text.family(Kind::Counter, "dns_kernel_total", "DNS over the kernel's sockets, by what became of it.", |f| {
        for (event, count) in observed.names.all() {
            f.sample(&[("event", &event)], count);
        }
    });
    forwarder(text, observed);
    text.family(Kind::Counter, "dns_responses_total", "DNS answers by response code.", |f| {
        names::rcodes(workers).for_each(|(name, answers)| f.sample(&[("rcode", &name)], answers));
    });
    text.family(
        Kind::Counter,
        "dns_sources_total",
        "DNS answers of the packet path by where the names of their zone come from.",
        |f| names::sources(workers).for_each(|(name, answers)| f.sample(&[("source", &name)], answers)),
    );
}

fn forwarder(text: &mut Text, observed: &Observed) {
    let Some(forwarder) = &observed.forwarder else { return };
    text.family(Kind::Counter, "dns_forward_total", "Foreign names, by what became of them.", |f| {
        for (event, count) in forwarder.statistics.all() {
            f.sample(&[("event", &event)], count);
        }
    });
    text.family(Kind::Gauge, "dns_forward_questions", "Questions on their way to resolvers, and remembered.", |f| {
        for (state, count) in forwarder.sizes() {
            f.sample(&[("state", &state)], count);
        }
    });
    text.family(Kind::Gauge, "dns_resolver_up", "1 while a resolver answers, or nobody has tried.", |f| {
        for resolver in forwarder.resolvers.all() {
            f.sample(&[("resolver", &resolver.address)], u8::from(!resolver.is_down()));
        }
    });
}

fn services(text: &mut Text, observed: &Observed, published: Option<&Published>) {
    let vips = vips(observed, published);
    let (own, others) = vips.split_at(vips.len().min(MOST_VIPS));
    let label = |v: &Vip| format!("{}/{}", std::net::SocketAddr::new(v.ip, v.port), v.protocol);
    let name = |v: &Vip| v.name.clone().unwrap_or_default();
    text.family(Kind::Counter, "vip_packets_total", "Packets towards the backends of a VIP.", |f| {
        for vip in own {
            f.sample(&[("vip", &label(vip)), ("name", &name(vip))], vip.packets);
        }
        if !others.is_empty() {
            f.sample(&[("vip", &"other"), ("name", &"")], others.iter().map(|v| v.packets).sum::<u64>());
        }
    });
    text.family(Kind::Gauge, "vip_backends", "Backends of a VIP by whether they take new flows.", |f| {
        for vip in own {
            let draining = vip.backends.iter().filter(|b| b.weight == 0).count();
            let states: [(&str, usize); 2] = [("active", vip.backends.len() - draining), ("draining", draining)];
            for (state, count) in states {
                f.sample(&[("vip", &label(vip)), ("state", &state)], count);
            }
        }
    });
    text.family(Kind::Counter, "backend_flows_total", "Flows begun towards a backend.", |f| {
        let mut seen = std::collections::BTreeSet::new();
        for vip in own {
            for b in &vip.backends {
                let backend = format!("{}/{}", std::net::SocketAddr::new(b.ip, b.port), vip.protocol);
                // A backend of two VIPs has one number and one counter; 10 series per VIP on average bound the text.
                if seen.len() < 10 * MOST_VIPS && seen.insert(backend.clone()) {
                    f.sample(&[("backend", &backend)], b.flows);
                }
            }
        }
    });
    text.family(
        Kind::Gauge,
        "rejected_labels",
        "Labels, apps and tasks that are not honoured; see `show labels`.",
        |f| {
            f.sample(&[], published.map_or(0, |p| p.report.rejected.len()));
        },
    );
}

fn health(text: &mut Text, observed: &Observed, published: Option<&Published>) {
    text.family(Kind::Gauge, "backend_healthy", "1 while nobody judges a backend unfit; see `show backends`.", |f| {
        let Some(Published { tables, report }) = published else { return };
        let own = tables.desired.shared.services.iter().take(MOST_VIPS);
        let all = own.flat_map(|service| service.backends.iter().map(move |backend| (service, backend)));
        // As many series as `backend_flows_total` has at most.
        for (service, backend) in all.take(10 * MOST_VIPS) {
            let place = (service.key, backend.address);
            let fit = report.judged.get(&place).is_none_or(|judged| judged.state == State::Active);
            f.sample(&[("vip", &service.key), ("backend", &backend.address)], u8::from(fit));
        }
    });
    text.family(Kind::Counter, "probes_total", "Our own probes of backends by how they ended.", |f| {
        for (result, probes) in observed.probes.read() {
            f.sample(&[("result", &result)], probes);
        }
    });
    text.family(Kind::Gauge, "drains", "What an operator drains; see `show drains`.", |f| {
        f.sample(&[], published.map_or(0, |p| p.report.drains.len()));
    });
    text.family(Kind::Gauge, "fail_open_vips", "VIPs whose backends are all judged unfit, and all used.", |f| {
        f.sample(&[], published.map_or(0, |p| p.report.fail_open.len()));
    });
}

fn sockets(text: &mut Text, observed: &Observed) {
    text.family(Kind::Counter, "xsk_total", "What the AF_XDP sockets count, by the kernel's name of it.", |f| {
        for socket in (observed.sockets)() {
            for (counter, value) in &socket.counters {
                f.sample(&[("port", &socket.port), ("worker", &socket.worker), ("counter", counter)], value);
            }
        }
    });
    text.family(Kind::Counter, "steering_packets_total", "What the kernel program did with packets.", |f| {
        for port in (observed.steering)() {
            for (counter, value) in &port.counters {
                f.sample(&[("port", &port.port), ("counter", counter)], value);
            }
        }
    });
}

fn marathons(text: &mut Text, observed: &Observed) {
    let all = (observed.marathons)();
    type Read = fn(&super::observed::MarathonState) -> Box<dyn Display>;
    let families: [(Kind, &str, &str, Read); 4] = [
        (Kind::Gauge, "marathon_connected", "1 while the event stream is open.", |m| Box::new(u8::from(m.connected))),
        (Kind::Gauge, "marathon_listed", "1 once everything was listed.", |m| Box::new(u8::from(m.listed))),
        (Kind::Gauge, "marathon_last_event_seconds", "Seconds since the last listing; NaN before the first.", |m| {
            Box::new(m.listed_ago.unwrap_or(f64::NAN))
        }),
        (Kind::Counter, "marathon_events_total", "Events that meant a change.", |m| Box::new(m.events)),
    ];
    for (kind, name, help, read) in families {
        text.family(kind, name, help, |f| {
            for marathon in &all {
                f.sample(&[("marathon", &marathon.name)], read(marathon));
            }
        });
    }
    text.family(
        Kind::Counter,
        "marathon_errors_total",
        "Failures by kind; nothing is lost from the tables by them.",
        |f| {
            for marathon in &all {
                f.sample(&[("marathon", &marathon.name), ("kind", &"stream")], marathon.stream_errors);
                f.sample(&[("marathon", &marathon.name), ("kind", &"listing")], marathon.list_errors);
            }
        },
    );
    text.histogram(
        "marathon_to_dataplane_seconds",
        "From a whole Marathon listing to its tables in the workers' mailboxes.",
        &observed.marathon_to_dataplane.read(),
    );
}

fn mesos(text: &mut Text, observed: &Observed) {
    let all = (observed.mesos)();
    type Read = fn(&super::observed::MesosState) -> Box<dyn Display>;
    let families: [(Kind, &str, &str, Read); 7] = [
        (Kind::Gauge, "mesos_connected", "1 while the event stream is open.", |m| Box::new(u8::from(m.connected))),
        (Kind::Gauge, "mesos_known", "1 once everything was known.", |m| Box::new(u8::from(m.known))),
        (
            Kind::Gauge,
            "mesos_last_event_seconds",
            "Seconds since its last word, heartbeats included; NaN before.",
            |m| Box::new(m.heard_ago.unwrap_or(f64::NAN)),
        ),
        (Kind::Counter, "mesos_events_total", "Events that meant a change.", |m| Box::new(m.events)),
        (
            Kind::Gauge,
            "mesos_agents_waited_for",
            "Agents that a new master has not heard from, whose tasks are kept.",
            |m| Box::new(m.waiting),
        ),
        (Kind::Counter, "mesos_failovers_held_total", "Changes of master after which agents were waited for.", |m| {
            Box::new(m.held)
        }),
        (Kind::Gauge, "mesos_overlay_agents", "Agents that have joined its overlay, by its last answer.", |m| {
            Box::new(m.overlay.as_ref().map_or(0, |overlay| overlay.agents))
        }),
    ];
    for (kind, name, help, read) in families {
        text.family(kind, name, help, |f| {
            for mesos in &all {
                f.sample(&[("mesos", &mesos.name)], read(mesos));
            }
        });
    }
    text.family(
        Kind::Counter,
        "mesos_errors_total",
        "Failures by kind; nothing is lost from the tables by them.",
        |f| {
            for mesos in &all {
                f.sample(&[("mesos", &mesos.name), ("kind", &"stream")], mesos.stream_errors);
                f.sample(&[("mesos", &mesos.name), ("kind", &"listing")], mesos.list_errors);
                let overlay = mesos.overlay.as_ref().map_or(0, |overlay| overlay.errors);
                f.sample(&[("mesos", &mesos.name), ("kind", &"overlay")], overlay);
            }
        },
    );
    text.histogram(
        "mesos_to_dataplane_seconds",
        "From Mesos's word to its tables in the workers' mailboxes.",
        &observed.mesos_to_dataplane.read(),
    );
}
