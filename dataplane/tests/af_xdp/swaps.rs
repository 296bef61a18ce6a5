//! Tables that change ten thousand times under flows, and questions, that go on.

use super::*;

/// Snapshots published, each another one.
const SWAPS: u64 = 10_000;
const BACKENDS: u16 = 4;
const FLOWS: u16 = 6;
/// Datagrams of a flow under way at once: enough to be put out of order.
const TRAIN: u32 = 8;

/// The service of `balanced` with four backends, of which in turn some take no new flows; a route comes and goes with
/// every table, a second service with every 64th.
fn turned(number: u64) -> Desired {
    let mut desired = balanced();
    let service = &mut desired.shared.services[0];
    let only = service.backends[0].clone();
    let backend = |i: u16| Backend {
        address: SocketAddr::new(only.address.ip(), 5001 + i),
        weight: ((number / 8 + u64::from(i)) % 3) as u16,
        ..only.clone()
    };
    service.backends = (0..BACKENDS).map(backend).collect();
    if number % 2 == 1 {
        desired.local.routes.push(Route { prefix: "10.99.0.0/16".parse().unwrap(), via: None, port: 0 });
    }
    if number / 64 % 2 == 1 {
        let mut other = service.clone();
        other.key.port = 9;
        desired.shared.services.push(other);
    }
    desired
}

/// Says who it is, and what came.
fn backend(socket: &UdpSocket, number: u8, stop: &AtomicBool) {
    let mut bytes = [0; 5];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((4, from)) = socket.recv_from(&mut bytes[1..]) {
            bytes[0] = number;
            socket.send_to(&bytes, from).unwrap();
        }
    }
}

/// What no number is.
const HELLO: [u8; 4] = [0xff; 4];

/// Asks until somebody answers: while the sender's kernel looks for the VIP's MAC it may lose what waits.
fn establish(socket: &UdpSocket) {
    let asked = (0..20).any(|_| socket.send(&HELLO).is_ok() && socket.recv(&mut [0; 16]).is_ok());
    assert!(asked, "nobody answers");
}

/// Numbered datagrams, some at once; all come back in order, by the same backend. How many.
fn flow(socket: &UdpSocket, stop: &AtomicBool) -> u32 {
    let mut number = 0u32;
    establish(socket);
    let mut known = None;
    while !stop.load(Ordering::Relaxed) {
        (number..number + TRAIN).for_each(|n| assert_eq!(socket.send(&n.to_be_bytes()).unwrap(), 4));
        for n in number..number + TRAIN {
            let mut bytes = [0; 16];
            let mut length = 5;
            bytes[1..5].copy_from_slice(&HELLO);
            while bytes[1..length] == HELLO {
                length = socket.recv(&mut bytes).unwrap_or_else(|error| panic!("datagram {n} is lost: {error}"));
            }
            assert_eq!(bytes.get(1..length), Some(&n.to_be_bytes()[..]), "another than datagram {n}");
            assert_eq!(*known.get_or_insert(bytes[0]), bytes[0], "another backend answers datagram {n}");
        }
        number += TRAIN;
        // The publisher needs the processors too.
        std::thread::sleep(Duration::from_millis(1));
    }
    number
}

/// Octets of this process in memory (proc_pid_statm(5)).
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn ten_thousand_tables_lose_and_move_no_datagram_of_an_established_flow() {
    swap(SWAPS, None);
}

/// A hundred tables a second for ten minutes; memory stays what it was after the first of them.
#[test]
#[ignore = "ten minutes; `make soak`"]
fn sixty_thousand_tables_in_ten_minutes_take_no_memory() {
    swap(60_000, Some(Duration::from_millis(10)));
}

/// Publishes `swaps` tables under flows, at once or one a `pace`.
fn swap(swaps: u64, pace: Option<Duration>) {
    let Some(lab) = Lab::new(2, 1, 1500) else { return };
    let mut config = config(&[0, 1], XdpMode::Copy);
    config.limits.handover = 256;
    let mut ids = Ids::new(16, 16, 0);
    let mut tables = Arc::new(Tables::compile(&Arc::new(turned(0)), &mut ids, Nanos(0), None).unwrap());
    let mut dataplane = launch(&config, &tables).unwrap();
    let backends: Vec<_> = (0..BACKENDS).map(|i| lab.socket(&format!("10.9.0.2:{}", 5001 + i))).collect();
    let flows: Vec<_> = (0..FLOWS).map(|i| lab.socket(&format!("10.9.0.2:{}", 6000 + i))).collect();
    let (flows_end, backends_end) = (AtomicBool::new(false), AtomicBool::new(false));
    let sent: Vec<u32> = std::thread::scope(|scope| {
        for (socket, number) in backends.iter().zip(0..) {
            let end = &backends_end;
            scope.spawn(move || backend(socket, number, end));
        }
        let running: Vec<_> = flows
            .iter()
            .map(|socket| {
                socket.connect((VIP, 7)).unwrap();
                scope.spawn(|| flow(socket, &flows_end))
            })
            .collect();
        let start = Instant::now();
        let mut before = 0;
        for number in 1..=swaps {
            let desired = Arc::new(turned(number));
            tables = Arc::new(Tables::compile(&desired, &mut ids, Nanos(number), Some(&tables)).unwrap());
            dataplane.publish(&tables).unwrap();
            if let Some(pace) = pace {
                std::thread::sleep((start + pace * number as u32).saturating_duration_since(Instant::now()));
            }
            if number == swaps / 10 {
                before = resident();
            }
        }
        if pace.is_some() {
            let after = resident();
            println!("{before} octets resident after a tenth of it, {after} at the end");
            assert!(after < before + (8 << 20), "{before} octets resident have become {after}");
        }
        flows_end.store(true, Ordering::Relaxed);
        let sent = running.into_iter().map(|flow| flow.join());
        let sent = sent.collect::<Result<_, _>>();
        backends_end.store(true, Ordering::Relaxed);
        sent.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    assert!(sent.iter().all(|sent| *sent >= 100 * TRAIN), "each flow went on meanwhile: {sent:?}");
    assert!(dataplane.alive());
    std::thread::sleep(Duration::from_millis(30));
    for counters in dataplane.counters() {
        let (came, went) = counters.books();
        assert_eq!((came, counters.dropped()), (went, 0));
        assert!(counters.rx.get() > 100, "both workers received");
    }
}

/// Where names are asked for.
const NAMES: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 53);
/// Names beside those that are asked for: some of them change with every table.
const OTHERS: u64 = 1000;

/// `still.mesos` has one address for ever, `turn.mesos` that of the table's number, and of a thousand others ten change.
fn named(number: u64) -> Desired {
    let mut desired = balanced();
    desired.local.dns_addresses = vec![NAMES];
    desired.local.dns.trusted = vec!["10.9.0.0/24".parse().unwrap()];
    desired.local.soa_serial = number as u32;
    let record = |name: String, ip: Ipv4Addr| Record { name, ttl: 60, data: RecordData::A(ip) };
    let other = |n: u64| {
        let turned = if number % (OTHERS / 10) == n / 10 { number } else { 0 };
        record(format!("app-{n}.mesos"), Ipv4Addr::from_bits(turned as u32))
    };
    let own = [("still", 0xa00_0007), ("turn", number as u32)];
    let own = own.map(|(name, ip)| record(format!("{name}.mesos"), Ipv4Addr::from_bits(ip)));
    let records = own.into_iter().chain((0..OTHERS).map(other)).collect::<Vec<_>>().into();
    desired.shared.zones = Arc::new(vec![Zone { records, ..Zone::new("mesos", "ns1.mesos") }]);
    desired
}

fn question(id: u16, name: &[u8]) -> Vec<u8> {
    [&id.to_be_bytes()[..], &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0], &[name.len() as u8], name, b"\x05mesos\0\0\x01\0\x01"]
        .concat()
}

/// Questions, some at once; each has its answer, and that is right. How many.
fn asker(socket: &UdpSocket, stop: &AtomicBool) -> u32 {
    let mut bytes = [0; 512];
    let hello = question(u16::MAX, b"still");
    let asked = (0..20).any(|_| socket.send(&hello).is_ok() && socket.recv(&mut bytes).is_ok());
    assert!(asked, "nobody answers");
    let (mut number, mut newest) = (0u32, 0);
    while !stop.load(Ordering::Relaxed) {
        let train = number..number + TRAIN;
        for n in train.clone() {
            let name = if n.is_multiple_of(2) { &b"still"[..] } else { b"turn" };
            socket.send(&question(n as u16 & 0x7fff, name)).unwrap();
        }
        for n in train {
            let mut length = socket.recv(&mut bytes).unwrap_or_else(|error| panic!("question {n} is lost: {error}"));
            while bytes[..2] == [0xff; 2] {
                length = socket.recv(&mut bytes).unwrap_or_else(|error| panic!("question {n} is lost: {error}"));
            }
            assert_eq!(bytes[..2], (n as u16 & 0x7fff).to_be_bytes(), "another than question {n}");
            assert_eq!((bytes[3] & 15, bytes[7]), (0, 1), "question {n}: no address");
            let address = u32::from_be_bytes(bytes[length - 4..length].try_into().unwrap());
            if n.is_multiple_of(2) {
                assert_eq!(address, 0xa00_0007);
            } else {
                assert!(address >= newest, "an older table's answer: {address} after {newest}");
                newest = address;
            }
        }
        number += TRAIN;
        std::thread::sleep(Duration::from_millis(1));
    }
    number
}

#[test]
fn ten_thousand_tables_of_names_lose_no_question() {
    let Some(lab) = Lab::new(2, 1, 1500) else { return };
    // In a namespace without any address everybody may bind to any (no local table): it counts as the kernel's own.
    run(&format!("ip -n {} neigh add {NAMES} lladdr 02:00:00:00:00:01 dev c0", lab.client));
    let mut ids = Ids::new(16, 16, 0);
    let mut tables = Arc::new(Tables::compile(&Arc::new(named(0)), &mut ids, Nanos(0), None).unwrap());
    let mut dataplane = launch(&config(&[0, 1], XdpMode::Copy), &tables).unwrap();
    let askers: Vec<_> = (0..FLOWS).map(|i| lab.socket(&format!("10.9.0.2:{}", 6000 + i))).collect();
    let end = AtomicBool::new(false);
    let asked: Vec<u32> = std::thread::scope(|scope| {
        let running: Vec<_> = askers
            .iter()
            .map(|socket| {
                socket.connect((NAMES, 53)).unwrap();
                scope.spawn(|| asker(socket, &end))
            })
            .collect();
        for number in 1..=SWAPS {
            let desired = Arc::new(named(number));
            tables = Arc::new(Tables::compile(&desired, &mut ids, Nanos(number), Some(&tables)).unwrap());
            dataplane.publish(&tables).unwrap();
        }
        end.store(true, Ordering::Relaxed);
        let asked = running.into_iter().map(|asker| asker.join());
        asked.collect::<Result<_, _>>().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    assert!(asked.iter().all(|asked| *asked >= 100 * TRAIN), "everybody went on meanwhile: {asked:?}");
    std::thread::sleep(Duration::from_millis(30));
    for counters in dataplane.counters() {
        let (came, went) = counters.books();
        assert_eq!((came, counters.dropped()), (went, 0));
        assert!(counters.dns[0].get() > 100, "both workers answered");
    }
}
