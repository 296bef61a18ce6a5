//! What cannot be had is named, and nothing else is spoiled.

use super::*;

#[test]
fn a_taken_queue_is_waited_for_and_then_named() {
    let Some(_lab) = Lab::new(1, 1, 1500) else { return };
    let (first_umem, _first_pool) = umem(2048);
    let (second_umem, _second_pool) = umem(2048);
    let first = XskPort::open(&first_umem, "s0", 0, 16, Bind::Copy).unwrap();
    let error = XskPort::open(&second_umem, "s0", 0, 16, Bind::Copy).err().unwrap();
    assert_eq!(
        error.to_string(),
        "queue 0 of s0 is taken by another process (another sluice, or another AF_XDP program): \
         stop it, or name other `queues` for this port"
    );
    let leaver = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        drop((first, first_umem, _first_pool));
    });
    XskPort::open(&second_umem, "s0", 0, 16, Bind::Copy).unwrap();
    leaver.join().unwrap();
}

#[test]
fn what_is_missing_is_named() {
    let Some(_lab) = Lab::new(1, 1, 1500) else { return };
    let (umem, _pool) = umem(2048);
    let open = |interface, queue, bind| XskPort::open(&umem, interface, queue, 16, bind).err().unwrap();
    assert!(matches!(open("nosuch0", 0, Bind::Copy), XskError::NoInterface { .. }));
    assert!(matches!(open("s0", 5, Bind::Copy), XskError::NoQueue { queue: 5, .. }));
    assert!(matches!(open("s0", 0, Bind::ZeroCopy), XskError::NoZeroCopy { .. }));
    // None of these failures spoils the UMEM.
    XskPort::open(&umem, "s0", 0, 16, Bind::Copy).unwrap();
    let attach = Steer::load("nosuch0", Side::Wire { arp: true }).unwrap().attach(XdpMode::Copy, 1500);
    assert!(matches!(attach, Err(SteerError::NoInterface { .. })), "{attach:?}");
}

#[test]
fn another_program_is_left_alone_and_named() {
    let Some(lab) = Lab::new(1, 1, 1500) else { return };
    let mut first = Steer::load("s0", Side::Wire { arp: true }).unwrap();
    first.attach(XdpMode::Copy, 1500).unwrap();
    for mode in [XdpMode::Copy, XdpMode::Skb] {
        let error = Steer::load("s0", Side::Wire { arp: true }).unwrap().attach(mode, 1500).unwrap_err();
        assert!(error.to_string().contains("`ip link set dev s0 xdp off`"), "{error}");
    }
    assert!(lab.show().contains("xdp"));
    first.detach();
    lab.expect_no_program();
    for mode in [XdpMode::Skb, XdpMode::Auto] {
        let mut second = Steer::load("s0", Side::Wire { arp: true }).unwrap();
        second.attach(mode, 1500).unwrap();
        assert_eq!(lab.show().contains("xdpgeneric"), mode == XdpMode::Skb);
        drop(second);
        lab.expect_no_program();
    }
}

#[test]
fn without_privileges_the_capabilities_are_named() {
    let Some(_lab) = Lab::new(1, 1, 1500) else { return };
    // aya asks the kernel once per process what it can do, which needs privileges.
    drop(Steer::load("s0", Side::Host).unwrap());
    let errors = std::thread::scope(|scope| {
        let unprivileged = scope.spawn(|| {
            keep_capabilities(0);
            let memory = WorkerUmem::new(NonZeroU32::new(64).unwrap(), 2048, 64).err().unwrap();
            let program = Steer::load("s0", Side::Host).unwrap_err();
            [memory.to_string(), program.to_string()]
        });
        unprivileged.join().unwrap()
    });
    for error in errors {
        assert!(error.contains("Sluice needs CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF"), "{error}");
    }
}

#[test]
fn the_capabilities_that_the_errors_name_are_enough() {
    let Some(lab) = Lab::new(2, 1, 1500) else { return };
    let (net_admin, net_raw, ipc_lock, bpf) = (12, 13, 14, 39);
    std::thread::scope(|scope| {
        let least = scope.spawn(|| {
            keep_capabilities(1 << net_admin | 1 << net_raw | 1 << ipc_lock | 1 << bpf);
            launch(&config(&[0, 1], XdpMode::Auto), &tables(&[VIP])).unwrap().stop();
        });
        least.join().unwrap();
    });
    lab.expect_no_program();
}

/// Takes every capability but these (a bit each, by linux/capability.h's numbers) from this thread.
fn keep_capabilities(kept: u64) {
    #[repr(C)]
    struct Header(u32, i32);
    let header = Header(0x2008_0522, 0);
    let (low, high) = (kept as u32, (kept >> 32) as u32);
    // Effective, permitted and inheritable, first of the low half.
    let sets = [low, low, 0, high, high, 0];
    // SAFETY: header and data are linux/capability.h's version 3 structures, and live through the call.
    assert_eq!(unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) }, 0);
}

#[test]
fn a_card_is_read_as_it_is() {
    let Some(lab) = Lab::new(2, 1, 1400) else { return };
    let card = Card::read("s0").unwrap();
    assert_eq!((card.queues, card.mtu, card.combined, card.rx_vlan), (2, 1400, false, Some(false)));
    card.check(&[0, 1]).unwrap();
    let unpolled = card.check(&[0]).unwrap_err().to_string();
    assert!(unpolled.ends_with("or run `ethtool -L s0 rx 1`"), "{unpolled}");
    run(&format!("ip netns exec {} ethtool -K s0 rxvlan on", lab.ours));
    let tags = Card::read("s0").unwrap().check_tags().unwrap_err().to_string();
    assert!(tags.ends_with("run `ethtool -K s0 rxvlan off`"), "{tags}");
}

#[test]
fn a_launch_that_fails_gives_everything_back() {
    let Some(lab) = Lab::new(2, 1, 1500) else { return };
    let refused = |config: &Config| launch(config, &tables(&[])).err().unwrap();
    assert!(matches!(refused(&config(&[0], XdpMode::Auto)), LaunchError::Card(_)));
    assert!(matches!(refused(&config(&[0, 1, 2], XdpMode::Auto)), LaunchError::Card(_)));
    assert!(matches!(refused(&config(&[0, 1], XdpMode::ZeroCopy)), LaunchError::Xsk(XskError::NoZeroCopy { .. })));
    let mut other = Steer::load("s0", Side::Wire { arp: true }).unwrap();
    other.attach(XdpMode::Copy, 1500).unwrap();
    assert!(matches!(refused(&config(&[0, 1], XdpMode::Auto)), LaunchError::Steer(SteerError::Occupied { .. })));
    other.detach();
    lab.expect_no_program();
    let (umem, _pool) = umem(2048);
    let port = XskPort::open(&umem, "s0", 1, 16, Bind::Copy).unwrap();
    assert!(matches!(
        refused(&config(&[0, 1], XdpMode::Auto)),
        LaunchError::Xsk(XskError::QueueTaken { queue: 1, .. })
    ));
    assert!(port.as_fd().as_raw_fd() > 0);
}
