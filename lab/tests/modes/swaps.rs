//! Tables that change all the time under flows that must not notice.

use std::net::SocketAddr;

use super::flows::Conversation;
use super::world::{SERVICES, UDP_PORT, World};

/// Tables published; SWAPS in the environment asks for others (10000 takes some minutes).
const SWAPS: u32 = 200;
/// Connections of each mode.
const CONNECTIONS: usize = 2;

#[test]
fn tables_that_change_under_load_lose_no_flow_and_put_none_out_of_order() {
    let Some(world) = World::start() else { return };
    let swaps = std::env::var("SWAPS").map_or(SWAPS, |text| text.parse().unwrap());
    let mut flows: Vec<Conversation> = SERVICES
        .iter()
        .flat_map(|service| (0..CONNECTIONS).map(|_| SocketAddr::new(service.ip(), 80)))
        .map(|to| Conversation::begin(&world, to))
        .collect();
    let of_udp = SERVICES.iter().filter(|s| s.udp).map(|s| SocketAddr::new(s.ip(), UDP_PORT));
    flows.extend(of_udp.map(|to| Conversation::begin_udp(&world, to)));
    let before = world.metric("sluice_table_generation");
    let began = std::time::Instant::now();
    for number in 0..swaps {
        let what = ["10.0.0.11:80", "10.0.0.12:80"][number as usize / 2 % 2];
        world.order(if number % 2 == 0 { "drain" } else { "undrain" }, what);
    }
    let took = began.elapsed();
    let published = world.metric("sluice_table_generation") - before;
    let disorder = world.out_of_order();
    let rounds: Vec<u64> = flows.into_iter().map(Conversation::end).collect();
    println!("{published} tables in {took:?}; times there and back, by flow: {rounds:?}; {disorder}");
    assert_eq!(disorder, 0, "segments out of order at the client");
    assert!(published >= u64::from(swaps), "{published} tables for {swaps} orders");
    assert!(rounds.iter().all(|rounds| *rounds > 2), "every flow went on meanwhile: {rounds:?}");
    assert_eq!(world.drops("no_backend") + world.drops("snat_no_session"), 0);
    world.the_books_balance();
    world.stop();
}
