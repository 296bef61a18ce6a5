//! Clients: who may ask, how many at once, and over which transport.

use super::*;
use crate::dns::{tcp, udp};

#[tokio::test]
async fn only_questions_of_the_trusted_with_rd_and_of_class_in_are_forwarded() {
    let fake = Fake::start(|query, _| vec![one(query)]).await;
    let names = names(&[&fake]);
    let with = |change: fn(&mut Vec<u8>)| {
        let mut query = asked("web.example.org", 1);
        change(&mut query);
        query
    };
    let stranger: IpAddr = "192.0.2.7".parse().unwrap();
    for (why, query, client) in [
        ("RD=0", with(|q| q[2] = 0), CLIENT),
        ("class CH", with(|q| *q.last_mut().unwrap() = 3), CLIENT),
        ("AXFR", asked("web.example.org", 252), CLIENT),
        ("a stranger", asked("web.example.org", 1), stranger),
        (
            "EDNS of version 1 is told so",
            with(|q| {
                q[11] = 1;
                q.extend([0, 0, 41, 4, 208, 0, 1, 0, 0, 0, 0]);
            }),
            CLIENT,
        ),
    ] {
        for limit in [Limit::Udp, Limit::Tcp] {
            let Said::Known(answer) = say(&names, &query, client, limit) else { panic!("{why}") };
            let expected = if query[11] == 1 { 0 } else { REFUSED };
            assert_eq!((rcode(&answer), &answer[6..10]), (expected, &[0; 4][..]), "{why}");
        }
    }
    assert_eq!((fake.asked(), count(&names, "questions")), (0, 0));
    for own in ["127.0.0.1", "198.51.100.1"] {
        let said = say(&names, &asked("web.example.org", 1), own.parse().unwrap(), Limit::Udp);
        assert_eq!(rcode(&ended(said).await), 0, "the node's own processes");
    }
}

#[tokio::test]
async fn without_external_only_the_zones_of_resolvers_are_forwarded() {
    let fake = Fake::start(|query, _| vec![one(query)]).await;
    let names = names_with(&format!("zone_resolvers = {{ corp = \"{}\" }}", fake.address));
    assert_eq!(rcode(&told(&names, &asked("web.corp", 1)).await), 0);
    assert_eq!(rcode(&told(&names, &asked("web.example.org", 1)).await), REFUSED);
    assert_eq!(rcode(&told(&names, &asked("web.mesos", 1)).await), 0, "a name of ours is never asked for");
    assert_eq!(fake.asked(), 1);
}

#[tokio::test]
async fn identical_questions_share_one_query() {
    let fake = Fake::start(|query, n| if n == 0 { Vec::new() } else { vec![one(query)] }).await;
    let names = names(&[&fake]);
    let query = asked("web.example.org", 1);
    let waiting: Vec<_> = (0..50).map(|_| say(&names, &query, CLIENT, Limit::Udp)).collect();
    assert_eq!(count(&names, "in_flight"), 1);
    for said in waiting {
        assert_eq!(rcode(&ended(said).await), 0);
    }
    assert_eq!((count(&names, "shared"), count(&names, "queries"), count(&names, "in_flight")), (49, 2, 0));
}

#[tokio::test]
async fn one_question_more_than_may_be_on_their_way_fails_at_once() {
    crate::run::privileges::raise_open_files();
    let fake = Fake::start(|_, _| Vec::new()).await;
    let names = names(&[&fake]);
    let mut waiting = Vec::new();
    for n in 0..IN_FLIGHT {
        let said = say(&names, &asked(&format!("n{n}.org"), 1), CLIENT, Limit::Udp);
        assert!(matches!(said, Said::Later(_)), "{n}");
        waiting.push(said);
    }
    let Said::Known(answer) = say(&names, &asked("one-more.org", 1), CLIENT, Limit::Udp) else { panic!("it waits") };
    assert_eq!((rcode(&answer), count(&names, "over_limit")), (SERVFAIL, 1));
    let same = say(&names, &asked("N7.org", 1), CLIENT, Limit::Udp);
    assert!(matches!(same, Said::Later(_)), "one that is on its way costs nothing");
    drop(waiting);
    assert_eq!(rcode(&ended(same).await), SERVFAIL);
}

#[tokio::test]
async fn a_question_that_comes_back_from_a_resolver_is_refused() {
    let fake = Fake::start(|_, _| Vec::new()).await;
    let names = names(&[&fake]);
    let resolver = fake.address.ip();
    let first = say(&names, &asked("web.example.org", 1), CLIENT, Limit::Udp);
    assert!(matches!(first, Said::Later(_)));
    let back = say(&names, &asked_with_edns("wEb.example.org", 1, 1232), resolver, Limit::Udp);
    assert!(matches!(back, Said::Known(answer) if rcode(&answer) == REFUSED));
    assert!(matches!(say(&names, &asked("its.own.org", 1), resolver, Limit::Udp), Said::Later(_)));
    assert_eq!(count(&names, "loops"), 1);
}

#[tokio::test]
async fn a_slow_resolver_holds_no_other_answer_up() {
    let fake = Fake::start(|_, _| Vec::new()).await;
    let names = names(&[&fake]);
    let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (over_udp, over_tcp) = (socket.local_addr().unwrap(), listener.local_addr().unwrap());
    tokio::spawn(udp::answer(socket, names.clone()));
    tokio::spawn(tcp::accept(listener, names.clone(), tcp::Room::default()));
    let began = Instant::now();
    // The resolver is at the same address as these clients: a question of its own would be a loop, ours are two.
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    client.send_to(&asked("slow.example.org", 1), over_udp).await.unwrap();
    client.send_to(&asked("web.mesos", 1), over_udp).await.unwrap();
    let mut answer = [0; 512];
    let (len, _) = client.recv_from(&mut answer).await.unwrap();
    assert_eq!(answer[len - 4..len], [10, 0, 0, 1]);
    let mut stream = tokio::net::TcpStream::connect(over_tcp).await.unwrap();
    let framed = |query: Vec<u8>| [&(query.len() as u16).to_be_bytes()[..], &query].concat();
    stream.write_all(&[framed(asked("slow.too.org", 1)), framed(asked("web.mesos", 1))].concat()).await.unwrap();
    let len = usize::from(stream.read_u16().await.unwrap());
    stream.read_exact(&mut answer[..len]).await.unwrap();
    assert_eq!(answer[len - 4..len], [10, 0, 0, 1]);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    // The client will ask no more, and gets what it asked for.
    stream.shutdown().await.unwrap();
    let len = usize::from(stream.read_u16().await.unwrap());
    stream.read_exact(&mut answer[..len]).await.unwrap();
    assert_eq!(rcode(&answer), SERVFAIL);
    assert_eq!(stream.read(&mut answer).await.unwrap(), 0);
}

#[tokio::test]
async fn a_connection_has_sixty_four_questions_on_their_way_and_is_closed_at_one_more() {
    let fake = Fake::start(|_, _| Vec::new()).await;
    let names = names(&[&fake]);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(tcp::accept(listener, names.clone(), tcp::Room::default()));
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    for n in 0..=tcp::IN_FLIGHT {
        let query = asked(&format!("n{n}.org"), 1);
        stream.write_all(&[&(query.len() as u16).to_be_bytes()[..], &query].concat()).await.unwrap();
    }
    assert!(stream.read_u16().await.is_err());
    assert_eq!((names.statistics.tcp_crowded.load(Relaxed), count(&names, "in_flight")), (1, tcp::IN_FLIGHT as u64));
}
