//! Hairpin: a client that is the backend, or behind the same agent, in the NAT modes. The backend must never see an
//! address that it would answer past us.

use sluice_config::model::*;

use crate::common::*;
use crate::world::*;

const NAT: [Mode; 2] = [Mode::Nat, Mode::NatPreserve];

#[test]
fn a_backend_reaches_itself_through_its_vip() {
    for mode in NAT {
        for (vip, backend) in [(VIP, "10.0.0.11:80"), (VIP6, "[2001:db8::11]:80")] {
            let mut machine = Machine::new(cluster(2, vec![service_in(mode, vip, &[backend])]));
            let address = backend.parse::<std::net::SocketAddr>().unwrap().ip().to_string();
            let snat = if vip == VIP { "10.0.0.100" } else { "2001:db8::100" };
            let there = machine.pass(0, segment((&address, 5000), (vip, 80), "S", &[], 0));
            let (from, to) = ends_of(&there);
            assert_eq!((from.0, to), (snat.parse().unwrap(), end(&address, 80)));
            assert_eq!((&there[..6], &there[6..12]), (&AGENT[0].0[..], &OURS.0[..]));
            for worker in [0, 1] {
                let back = machine.pass(worker, segment((&address, 80), (snat, from.1), "SA", &[], 0));
                assert_eq!(ends_of(&back), (end(vip, 80), end(&address, 5000)));
                assert_eq!(back[..6], AGENT[0].0);
            }
        }
    }
}

#[test]
fn containers_of_one_agent_reach_each_other_through_the_vip_and_a_container_itself() {
    for mode in NAT {
        for client in ["9.0.1.7", "9.0.1.2"] {
            let mut machine = Machine::new(cluster(2, vec![service_in(mode, VIP, &["9.0.1.2:80"])]));
            let there = machine.pass(0, vxlan(1, 1024, &tcp((client, 5000), (VIP, 80), "S")));
            assert_eq!(ends(&there).1, ("10.0.0.11".into(), 64000));
            let ((snat, port), to) = ends(&there[50..]);
            assert_eq!((&*snat, to), ("9.0.9.2", ("9.0.1.2".into(), 80)));
            check_sums(&there[50..]);
            for worker in [0, 1] {
                let back = machine.pass(worker, vxlan(1, 1024, &tcp(("9.0.1.2", 80), (&snat, port), "SA")));
                assert_eq!(ends(&back).1, ("10.0.0.11".into(), 64000));
                assert_eq!(ends(&back[50..]), ((VIP.into(), 80), (client.into(), 5000)));
                check_sums(&back[50..]);
            }
        }
    }
}
