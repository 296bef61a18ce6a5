//! The port alone: packets in and out, and where frames are.

use super::*;

/// Receives until `count` packets came or 2 s passed, letting `each` decide what becomes of a packet.
fn serve(port: &mut XskPort, pool: &mut Pool, count: usize, mut each: impl FnMut(&mut Pool, &mut Frame)) -> usize {
    let mut served = 0;
    let mut frames = Frames::new();
    let start = Instant::now();
    while served < count && start.elapsed() < Duration::from_secs(2) {
        port.receive(pool, Nanos(0), &mut frames);
        served += frames.len();
        for frame in &mut frames {
            each(pool, frame);
        }
        port.transmit(pool, &mut frames);
        assert!(frames.is_empty(), "the tx ring had no room for {}", frames.len());
        port.flush(pool);
        assert_eq!(pool.free() + port.held(), pool.count());
    }
    served
}

fn settle(port: &mut XskPort, pool: &mut Pool) {
    for _ in 0..500 {
        port.flush(pool);
        if !port.unfinished() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("{} transmits never came back", port.held());
}

#[test]
fn packets_to_a_vip_are_echoed_and_no_frame_is_lost() {
    let Some(lab) = Lab::new(1, 1, 1500) else { return };
    let (umem, mut pool) = umem(2048);
    let mut port = XskPort::open(&umem, "s0", 0, 128, Bind::Copy).unwrap();
    let steer = steer("s0", &[(0, &port)]);
    port.prime(&mut pool);
    assert_eq!(port.held(), 128, "the share is kept for reception");
    let client = lab.socket("10.9.0.2:5000");
    for round in 0..20u8 {
        for n in 0..50u8 {
            client.send_to(&[round, n, 0, 1, 2], (VIP, 7)).unwrap();
        }
        assert_eq!(serve(&mut port, &mut pool, 50, |pool, frame| turn_round(pool.bytes_mut(frame))), 50);
        for n in 0..50 {
            let mut bytes = [0; 64];
            let (len, from) = client.recv_from(&mut bytes).unwrap();
            assert_eq!((&bytes[..len], from), (&[round, n, 0, 1, 2][..], SocketAddr::from((VIP, 7))));
        }
    }
    settle(&mut port, &mut pool);
    assert_eq!(port.held(), 128);
    let counts = steer.statistics().unwrap();
    assert_eq!((counts.taken, counts.no_socket), (1000, 0));
    assert_eq!(port.gauge().unwrap().statistics().unwrap(), Default::default());
}

#[test]
fn a_packet_whose_start_has_moved_leaves_whole() {
    let Some(lab) = Lab::new(1, 1, 1500) else { return };
    let (umem, mut pool) = umem(2048);
    let mut port = XskPort::open(&umem, "s0", 0, 128, Bind::Copy).unwrap();
    let _steer = steer("s0", &[(0, &port)]);
    port.prime(&mut pool);
    let client = lab.socket("10.9.0.2:5000");
    let payload: Vec<u8> = (0..1300).map(|n| n as u8).collect();
    let mut inner = Vec::new();
    let build = PacketBuilder::ethernet2(OUR_MAC, CLIENT_MAC).ipv4(VIP.octets(), [10, 9, 0, 2], 64).udp(7, 5000);
    build.write(&mut inner, &payload).unwrap();
    for strip in [true, false] {
        let sent = if strip { &inner } else { &payload };
        client.send_to(sent, (VIP, 7)).unwrap();
        let served = serve(&mut port, &mut pool, 1, |pool, frame| {
            if strip {
                assert!(frame.trim_front(42));
                return;
            }
            turn_round(pool.bytes_mut(frame));
            let headers = pool.bytes(frame)[..42].to_vec();
            // The same packet, begun 30 octets earlier in its chunk.
            let body = pool.bytes(frame)[42..].to_vec();
            assert!(frame.prepend(30));
            let len = frame.len() - 30;
            let bytes = pool.bytes_mut(frame);
            bytes[..42].copy_from_slice(&headers);
            bytes[42..len].copy_from_slice(&body);
            frame.set_len(len as u16);
        });
        assert_eq!(served, 1);
        let mut bytes = [0; 2000];
        let (len, _) = client.recv_from(&mut bytes).unwrap();
        assert_eq!(&bytes[..len], &payload[..]);
    }
    settle(&mut port, &mut pool);
}

#[test]
fn a_packet_that_no_port_may_send_is_given_back_and_counted() {
    let Some(_lab) = Lab::new(1, 1, 1500) else { return };
    let (umem, mut pool) = umem(2048);
    let mut port = XskPort::open(&umem, "s0", 0, 16, Bind::Copy).unwrap();
    let mut frames = Frames::new();
    frames.push(pool.take_copy(&[1; 13]).unwrap());
    frames.push(pool.take().unwrap());
    port.transmit(&mut pool, &mut frames);
    assert!(frames.is_empty() && !port.unfinished());
    assert_eq!(pool.free(), pool.count());
    assert_eq!(port.gauge().unwrap().statistics().unwrap().refused, 2);
}

#[test]
fn a_full_ring_leaves_the_rest_with_the_worker_and_a_flush_empties_it() {
    let Some(_lab) = Lab::new(1, 1, 1500) else { return };
    let (umem, mut pool) = umem(2048);
    let mut port = XskPort::open(&umem, "s0", 0, 16, Bind::Copy).unwrap();
    let mut packet = Vec::new();
    let build = PacketBuilder::ethernet2(OUR_MAC, CLIENT_MAC).ipv4(VIP.octets(), [10, 9, 0, 2], 64).udp(7, 5000);
    build.write(&mut packet, &[0; 18]).unwrap();
    let burst = |pool: &mut Pool, port: &mut XskPort| {
        let mut frames: Frames = (0..64).map(|_| pool.take_copy(&packet).unwrap()).collect();
        port.transmit(pool, &mut frames);
        let left = frames.len();
        frames.into_iter().for_each(|f| pool.recycle(f));
        left
    };
    let left: Vec<usize> = (0..5).map(|_| burst(&mut pool, &mut port)).collect();
    assert_eq!((left, port.held()), (vec![0, 0, 0, 0, 64], RING as usize));
    settle(&mut port, &mut pool);
    assert_eq!((port.held(), pool.free()), (0, pool.count()));
    assert_eq!(burst(&mut pool, &mut port), 0);
}

#[test]
fn two_queues_share_the_flows() {
    let Some(lab) = Lab::new(2, 1, 1500) else { return };
    let mut halves: Vec<_> = (0..2)
        .map(|queue| {
            let (umem, mut pool) = umem(2048);
            let mut port = XskPort::open(&umem, "s0", queue, 128, Bind::Copy).unwrap();
            port.prime(&mut pool);
            (port, pool)
        })
        .collect();
    let steer = steer("s0", &[(0, &halves[0].0), (1, &halves[1].0)]);
    for source in 0..64 {
        let client = lab.socket(&format!("10.9.0.2:{}", 6000 + source));
        client.send_to(b"flow", (VIP, 7)).unwrap();
    }
    let counts: Vec<usize> = halves
        .iter_mut()
        .map(|(port, pool)| {
            let mut frames = Frames::new();
            port.receive(pool, Nanos(0), &mut frames);
            let count = frames.len();
            frames.into_iter().for_each(|f| pool.recycle(f));
            count
        })
        .collect();
    assert_eq!(counts.iter().sum::<usize>(), 64, "{counts:?}");
    assert!(counts.iter().all(|n| *n > 8), "{counts:?}");
    assert_eq!(steer.statistics().unwrap().taken, 64);
}

#[test]
fn what_arrives_on_a_queue_without_a_socket_is_dropped_and_counted_and_the_kernel_keeps_its_own() {
    let Some(lab) = Lab::new(2, 1, 1500) else { return };
    run(&format!("ip -n {} addr add 10.9.0.1/24 dev s0", lab.ours));
    run(&format!("ip -n {} neigh add 10.9.0.1 lladdr 02:00:00:00:00:01 dev c0", lab.client));
    let (umem, mut pool) = umem(2048);
    let mut port = XskPort::open(&umem, "s0", 0, 128, Bind::Copy).unwrap();
    let steer = steer("s0", &[(0, &port)]);
    let mut frames = Frames::new();
    port.receive(&mut pool, Nanos(0), &mut frames);
    let node = UdpSocket::bind("10.9.0.1:9000").unwrap();
    node.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    for source in 0..64 {
        let client = lab.socket(&format!("10.9.0.2:{}", 6000 + source));
        client.send_to(b"ours", (VIP, 7)).unwrap();
        client.send_to(b"the node's", "10.9.0.1:9000").unwrap();
        assert_eq!(node.recv(&mut [0; 64]).unwrap(), 10);
    }
    port.receive(&mut pool, Nanos(0), &mut frames);
    let counts = steer.statistics().unwrap();
    assert_eq!(counts.taken, frames.len() as u64);
    assert_eq!((counts.taken + counts.no_socket, counts.passed >= 64), (64, true), "{counts:?}");
    assert!(counts.no_socket > 8, "{counts:?}");
    frames.into_iter().for_each(|f| pool.recycle(f));
}

#[test]
fn a_frame_received_on_one_interface_leaves_by_another_of_the_same_worker() {
    let Some(lab) = Lab::new(1, 2, 1500) else { return };
    let (umem, mut pool) = umem(2048);
    let mut east = XskPort::open(&umem, "s0", 0, 128, Bind::Copy).unwrap();
    let mut west = XskPort::open(&umem, "s1", 0, 128, Bind::Copy).unwrap();
    let _steer = steer("s0", &[(0, &east)]);
    let sender = lab.socket("10.9.0.2:5000");
    let receiver = lab.socket("10.8.0.2:5001");
    let mut frames = Frames::new();
    east.receive(&mut pool, Nanos(0), &mut frames);
    for n in 0..200u8 {
        sender.send_to(&[n; 8], (VIP, 7)).unwrap();
        east.receive(&mut pool, Nanos(0), &mut frames);
        for frame in &mut frames {
            let packet = pool.bytes(frame)[42..].to_vec();
            let mut out = Vec::new();
            let build = PacketBuilder::ethernet2([2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 1, 2])
                .ipv4([10, 8, 0, 100], [10, 8, 0, 2], 64)
                .udp(7, 5001);
            build.write(&mut out, &packet[..8]).unwrap();
            frame.set_len(out.len() as u16);
            pool.bytes_mut(frame).copy_from_slice(&out);
        }
        west.transmit(&mut pool, &mut frames);
        west.flush(&mut pool);
        assert_eq!(pool.free() + east.held() + west.held(), pool.count());
        let mut bytes = [0; 64];
        assert_eq!(receiver.recv(&mut bytes).unwrap(), 8);
        assert_eq!(bytes[..8], [n; 8]);
    }
    settle(&mut west, &mut pool);
    assert_eq!((east.held(), west.held()), (128, 0));
}

#[test]
fn a_port_without_frames_does_not_starve_the_other() {
    let Some(_lab) = Lab::new(1, 2, 1500) else { return };
    let (umem, mut pool) = umem(2048);
    let mut ports: Vec<_> =
        (0..2).map(|i| XskPort::open(&umem, &format!("s{i}"), 0, FRAMES as usize / 3, Bind::Copy).unwrap()).collect();
    for port in &mut ports {
        for _ in 0..4 {
            port.prime(&mut pool);
        }
        assert_eq!(port.held(), FRAMES as usize / 3);
    }
    assert_eq!(pool.free(), FRAMES as usize - 2 * (FRAMES as usize / 3));
}

#[test]
fn long_packets_need_long_chunks_and_are_counted_when_they_do_not_fit() {
    // Above 3498 octets the program is the one for several buffers: veth refuses the plain one.
    for (chunk, mtu, len, expected) in [(4096, 3400, 3300, 1), (4096, 3700, 3600, 1), (2048, 3400, 3300, 0)] {
        let Some(lab) = Lab::new(1, 1, mtu) else { return };
        let (umem, mut pool) = umem(chunk);
        let mut port = XskPort::open(&umem, "s0", 0, 128, Bind::Copy).unwrap();
        let mut steer = Steer::load("s0", Side::Wire { arp: true }).unwrap();
        steer.register(0, &port).unwrap();
        steer.set(&vip_steering()).unwrap();
        steer.attach(XdpMode::Copy, mtu as usize).unwrap();
        let mut frames = Frames::new();
        port.receive(&mut pool, Nanos(0), &mut frames);
        let client = lab.socket("10.9.0.2:5000");
        client.send_to(&vec![7; len], (VIP, 7)).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        port.receive(&mut pool, Nanos(0), &mut frames);
        assert_eq!(frames.len(), expected);
        assert_eq!(port.gauge().unwrap().statistics().unwrap().rx_dropped, 1 - expected as u64);
        for frame in frames {
            assert_eq!(pool.bytes(&frame)[42..], vec![7; len]);
            pool.recycle(frame);
        }
    }
}

/// Echoes on one socket, through the loop that every worker's thread runs.
struct Echo {
    port: XskPort,
    pool: Pool,
}

impl Turn for Echo {
    fn turn(&mut self, now: Nanos) -> usize {
        let mut frames = Frames::new();
        self.port.receive(&mut self.pool, now, &mut frames);
        let count = frames.len();
        for frame in &mut frames {
            turn_round(self.pool.bytes_mut(frame));
        }
        self.port.transmit(&mut self.pool, &mut frames);
        self.port.flush(&mut self.pool);
        count
    }

    fn waiting(&self) -> bool {
        false
    }

    fn unfinished(&self) -> bool {
        self.port.unfinished()
    }

    fn flush(&mut self) {
        self.port.flush(&mut self.pool);
    }

    fn descriptors(&self) -> Vec<RawFd> {
        self.port.descriptor().into_iter().collect()
    }
}

#[test]
fn a_packet_wakes_a_sleeping_worker() {
    let Some(lab) = Lab::new(1, 1, 1500) else { return };
    let (umem, mut pool) = umem(2048);
    let mut port = XskPort::open(&umem, "s0", 0, 128, Bind::Copy).unwrap();
    port.prime(&mut pool);
    let _steer = steer("s0", &[(0, &port)]);
    let (waker, stop) = (Arc::new(Waker::new().unwrap()), Arc::new(AtomicBool::new(false)));
    let mut echo = Echo { port, pool };
    let client = lab.socket("10.9.0.2:5000");
    let worker = {
        let (waker, stop) = (Arc::clone(&waker), Arc::clone(&stop));
        std::thread::spawn(move || {
            let sleeps = Counter::default();
            idle::run(&mut echo, Idle::Adaptive, &waker, &stop, &sleeps);
            (sleeps.get(), echo.port.unfinished())
        })
    };
    let mut waits: Vec<Duration> = (0..101u8)
        .map(|n| {
            std::thread::sleep(Duration::from_millis(2));
            let start = Instant::now();
            client.send_to(&[n], (VIP, 7)).unwrap();
            assert_eq!(client.recv(&mut [0; 16]).unwrap(), 1);
            start.elapsed()
        })
        .collect();
    waits.sort_unstable();
    stop.store(true, Ordering::Relaxed);
    waker.wake();
    let (slept, unfinished) = worker.join().unwrap();
    println!("there and back: median {:?}, worst {:?}, slept {slept} times", waits[50], waits[100]);
    assert!(slept > 50 && !unfinished);
    assert!(waits[50] < Duration::from_millis(2), "{waits:?}");
}
