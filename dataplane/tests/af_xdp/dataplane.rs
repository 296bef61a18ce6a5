//! The launched packet path.

use super::*;

#[test]
fn a_vip_is_balanced_over_two_workers_and_replies_come_back_through_their_owner() {
    let Some(lab) = Lab::new(2, 1, 1500) else { return };
    let mut config = config(&[0, 1], XdpMode::Copy);
    config.limits.handover = 256;
    let dataplane = launch(&config, &compile(balanced())).unwrap();
    let backend = lab.socket("10.9.0.2:5001");
    for source in 0..64u8 {
        let client = lab.socket(&format!("10.9.0.2:{}", 6000 + u16::from(source)));
        client.send_to(&[source], (VIP, 7)).unwrap();
        let mut bytes = [0; 16];
        let (len, from) = backend.recv_from(&mut bytes).unwrap();
        assert_eq!((&bytes[..len], from.ip()), (&[source][..], Ipv4Addr::new(10, 9, 0, 102).into()));
        backend.send_to(b"answer", from).unwrap();
        let (len, from) = client.recv_from(&mut bytes).unwrap();
        assert_eq!((&bytes[..len], from), (&b"answer"[..], SocketAddr::from((VIP, 7))));
    }
    std::thread::sleep(Duration::from_millis(30));
    let sum = |of: fn(&Counters) -> u64| dataplane.counters().iter().map(|c| of(c)).sum::<u64>();
    assert!(dataplane.counters().iter().all(|c| c.rx.get() > 16), "both workers received");
    assert_eq!(sum(|c| c.given.get()), sum(|c| c.taken.get()));
    assert!(sum(|c| c.given.get()) > 8, "replies that came to the other worker were handed over");
    assert!(sum(|c| c.tx.get()) >= 128);
    for counters in dataplane.counters() {
        let (came, went) = counters.books();
        assert_eq!(came, went);
    }
}

#[test]
fn the_dataplane_comes_up_follows_its_tables_and_leaves_nothing_behind() {
    let Some(lab) = Lab::new(2, 1, 1500) else { return };
    let client = lab.socket("10.9.0.2:5000");
    let mut dataplane = launch(&config(&[0, 1], XdpMode::Auto), &tables(&[])).unwrap();
    assert!(dataplane.alive() && lab.show().contains("xdp"));
    assert_eq!((dataplane.counters().len(), dataplane.flows().len()), (2, 2));
    let taken = |dataplane: &sluice_dataplane::launch::Dataplane| {
        client.send_to(b"x", (VIP, 7)).unwrap();
        std::thread::sleep(Duration::from_millis(5));
        dataplane.statistics()[0].steer.unwrap().taken
    };
    assert_eq!(taken(&dataplane), 0);
    dataplane.publish(&tables(&[VIP])).unwrap();
    assert_eq!(taken(&dataplane), 1);
    dataplane.publish(&tables(&[])).unwrap();
    assert_eq!(taken(&dataplane), 1);
    assert_eq!(dataplane.statistics()[0].sockets.len(), 2);
    dataplane.stop();
    lab.expect_no_program();
    // The queues are free at once.
    drop(launch(&config(&[0, 1], XdpMode::Skb), &tables(&[])).unwrap());
    lab.expect_no_program();
}

#[test]
fn a_worker_on_sockets_answers_arp_for_an_address_of_ours() {
    let Some(lab) = Lab::new(2, 1, 1500) else { return };
    let ours = Ipv4Addr::new(10, 9, 0, 101);
    let dataplane = launch(&config(&[0, 1], XdpMode::Auto), &tables(&[ours])).unwrap();
    // No fixed neighbour: the client's kernel asks, and keeps the datagram until it knows.
    lab.socket("10.9.0.2:5000").send_to(b"x", (ours, 7)).unwrap();
    let resolved = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        let out = Command::new("ip").args(["-n", &lab.client, "neigh", "show", "10.9.0.101"]).output().unwrap();
        String::from_utf8_lossy(&out.stdout).contains("lladdr 02:00:00:00:00:01")
    });
    assert!(resolved, "{:?}", dataplane.statistics());
    let turns: Vec<u64> = dataplane.counters().iter().map(|c| c.turns.get()).collect();
    std::thread::sleep(Duration::from_millis(100));
    for (counters, before) in dataplane.counters().iter().zip(turns) {
        let turns = counters.turns.get() - before;
        assert!((3..2000).contains(&turns), "{turns} turns in 100 ms: an idle worker sleeps, and its heart beats");
        assert!(counters.sleeps.get() > 0);
        let (came, went) = counters.books();
        assert_eq!(came, went);
    }
    assert!(dataplane.alive());
}

#[test]
fn the_host_port_is_polled_too_and_its_kernel_end_passes_everything() {
    let Some(lab) = Lab::new(2, 1, 1500) else { return };
    let o = &lab.ours;
    let q = "numrxqueues 2 numtxqueues 2";
    run(&format!("ip -n {o} link add h0 {q} type veth peer name h1 {q}"));
    run(&format!("ip -n {o} link set h0 up"));
    run(&format!("ip -n {o} link set h1 up"));
    run(&format!("ip -n {o} addr add 10.7.0.1/24 dev h0"));
    run(&format!("ip -n {o} neigh add 10.7.0.9 lladdr 02:00:00:00:00:09 dev h0"));
    let mut config = config(&[0, 1], XdpMode::Auto);
    config.host = Some(Host { interface: "h0".to_owned(), peer: "h1".to_owned(), addresses: Vec::new() });
    let dataplane = launch(&config, &tables(&[])).unwrap();
    assert_eq!(dataplane.warnings(), [""; 0]);
    UdpSocket::bind("10.7.0.1:0").unwrap().send_to(b"x", "10.7.0.9:9").unwrap();
    std::thread::sleep(Duration::from_millis(20));
    let statistics = dataplane.statistics();
    assert_eq!((statistics[1].interface.as_str(), statistics[1].sockets.len()), ("h1", 2));
    assert_eq!(statistics[1].steer.unwrap().taken, 1);
    let attached = |link: &str| {
        let out = Command::new("ip").args(["-n", o, "link", "show", link]).output().unwrap();
        String::from_utf8_lossy(&out.stdout).contains("xdp")
    };
    assert!(attached("h0") && attached("h1"));
    dataplane.stop();
    lab.expect_no_program();
    assert!(!attached("h0") && !attached("h1"));
}
