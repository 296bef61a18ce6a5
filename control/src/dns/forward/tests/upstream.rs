//! Resolvers that are right, wrong, silent, or gone.

use super::*;

#[tokio::test]
async fn the_first_question_is_asked_and_the_next_answered_from_memory_in_the_clients_spelling() {
    let fake = Fake::start(|query, _| vec![one(query)]).await;
    let names = names(&[&fake]);
    let first = told(&names, &asked("Web.Example.ORG", 1)).await;
    assert_eq!(first[..12], [0x12, 0x34, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0], "RA; neither AA nor AD");
    assert_eq!(first[12..33], asked("Web.Example.ORG", 1)[12..], "the question octet for octet");
    assert_eq!(first[33..], [0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, 1]);
    let second = told(&names, &asked("wEB.example.org", 1)).await;
    assert_eq!(second[12..33], asked("wEB.example.org", 1)[12..]);
    assert_eq!(second[33..35], [0xc0, 12], "the owner is the question's name as it was written");
    assert_eq!((fake.asked(), count(&names, "cached"), count(&names, "questions")), (1, 1, 2));
    let other = told(&names, &asked_with_edns("web.example.org", 1, 1232)).await;
    assert_eq!(
        (fake.asked(), other[11], &other[other.len() - 11..][..3]),
        (1, 1, &[0, 0, 41][..]),
        "with an OPT of ours"
    );
}

#[tokio::test]
async fn what_is_not_the_answer_is_waited_past() {
    let fake = Fake::start(|query, _| {
        let right = one(query);
        let changed = |at: usize, bits: u8| {
            let mut wrong = right.clone();
            wrong[at] ^= bits;
            wrong
        };
        let mut forged = answer(query, ResponseCode::NoError, vec![RData::A(A::new(6, 6, 6, 6))], 300);
        forged[1] ^= 1;
        // Another id, another letter's case, another type, a query, a name cut off, octets without sense; then the answer.
        let cut = right[..20].to_vec();
        let wrong_counts = changed(6, 0x40);
        vec![
            forged,
            changed(13, 0x20),
            changed(query.len() - 14, 2),
            changed(2, 0x80),
            cut,
            wrong_counts,
            vec![9; 40],
            right,
        ]
    })
    .await;
    let names = names(&[&fake]);
    let told = told(&names, &asked("web.example.org", 1)).await;
    assert_eq!(told[told.len() - 4..], [192, 0, 2, 1]);
    assert_eq!((fake.asked(), count(&names, "replies_ignored")), (1, 7));
}

#[tokio::test]
async fn the_right_answer_from_elsewhere_is_never_seen() {
    let resolver = UdpSocket::bind("[::1]:0").await.unwrap();
    let names = names_with(&format!("external = true\nresolvers = [\"{}\"]", resolver.local_addr().unwrap()));
    tokio::spawn(async move {
        let elsewhere = UdpSocket::bind("[::1]:0").await.unwrap();
        let mut query = [0; 512];
        let (len, from) = resolver.recv_from(&mut query).await.unwrap();
        let forged = answer(&query[..len], ResponseCode::NoError, vec![RData::A(A::new(6, 6, 6, 6))], 300);
        elsewhere.send_to(&forged, from).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        resolver.send_to(&one(&query[..len]), from).await.unwrap();
    });
    let told = told(&names, &asked("web.example.org", 1)).await;
    assert_eq!((&told[told.len() - 4..], count(&names, "replies_ignored")), (&[192, 0, 2, 1][..], 0));
}

#[tokio::test]
async fn many_wrong_answers_or_a_cut_one_make_it_ask_over_tcp() {
    let forger = Fake::start_with(|_, _| vec![vec![7; 50]; 20], one).await;
    let forged = names(&[&forger]);
    let by_tcp = told(&forged, &asked("web.example.org", 1)).await;
    assert_eq!(by_tcp[by_tcp.len() - 4..], [192, 0, 2, 1]);
    assert_eq!((count(&forged, "over_tcp"), count(&forged, "replies_ignored")), (1, 16));
    let cut = |query: &[u8], _| {
        let mut cut = answer(query, ResponseCode::NoError, Vec::new(), 0);
        cut[2] |= 2;
        vec![cut]
    };
    let long = Fake::start_with(cut, |query| answer(query, ResponseCode::NoError, vec![text(20_000)], 60)).await;
    let names = names(&[&long]);
    let query = asked_with_edns("web.example.org", 16, 4096);
    let whole = ended(say(&names, &query, CLIENT, Limit::Tcp)).await;
    assert!(whole.len() > 20_000 && whole[2] & 2 == 0, "{}", whole.len());
    assert_eq!(Message::from_vec(&whole).unwrap().answers.len(), 1);
    for query in [query, asked("web.example.org", 16)] {
        let cut = told(&names, &query).await;
        assert_eq!((cut[2] & 2, &cut[6..8], cut.len()), (2, &[0, 0][..], query.len()), "TC and whole RRsets");
    }
}

#[tokio::test]
async fn additional_records_are_left_out_before_an_answer_is_cut() {
    let fake = Fake::start(|query, _| {
        let mut message = Message::from_vec(&one(query)).unwrap();
        message.add_additional(Record::from_rdata(Name::from_ascii("x.org.").unwrap(), 300, text(600)));
        vec![message.to_vec().unwrap()]
    })
    .await;
    let names = names(&[&fake]);
    let short = told(&names, &asked("web.example.org", 1)).await;
    assert_eq!((short[2] & 2, &short[6..12]), (0, &[0, 1, 0, 0, 0, 0][..]));
    let long = told(&names, &asked_with_edns("web.example.org", 1, 1232)).await;
    assert_eq!((long[2] & 2, &long[6..12]), (0, &[0, 1, 0, 0, 0, 2][..]));
}

#[tokio::test]
async fn nobody_else_says_anything_about_our_names_and_what_leads_to_one_is_ended_by_us() {
    let fake = Fake::start(|query, _| {
        let name = |text: &str| Name::from_ascii(text).unwrap();
        let to = if query[13].eq_ignore_ascii_case(&b'n') { "nosuch.mesos." } else { "WEB.mesos." };
        let cname = RData::CNAME(hickory_proto::rr::rdata::CNAME(name(to)));
        let mut message = Message::from_vec(&answer(query, ResponseCode::NXDomain, vec![cname], 300)).unwrap();
        let lie = |owner: &str| Record::from_rdata(name(owner), 300, RData::A(A::new(6, 6, 6, 6)));
        message.add_answers([lie(to)]);
        message.add_authority(Record::from_rdata(
            name("org."),
            900,
            RData::NS(hickory_proto::rr::rdata::NS(name("x.org."))),
        ));
        message.add_additionals([lie("leader.mesos."), lie("x.org.")]);
        vec![message.to_vec().unwrap()]
    })
    .await;
    let names = names(&[&fake]);
    for _asked_or_remembered in 0..2 {
        let told = told(&names, &asked("web.example.org", 1)).await;
        let message = Message::from_vec(&told).unwrap();
        let answers: Vec<String> = message.answers.iter().map(|r| format!("{} {}", r.name, r.data)).collect();
        assert_eq!(answers, ["web.example.org. WEB.mesos.", "WEB.mesos. 10.0.0.1"]);
        assert_eq!((rcode(&told), &told[8..12]), (0, &[0; 4][..]), "only ours");
    }
    let told = told(&names, &asked("nx.example.org", 1)).await;
    let message = Message::from_vec(&told).unwrap();
    assert_eq!((rcode(&told), message.answers.len()), (NXDOMAIN, 1));
    assert_eq!(message.authorities[0].name.to_string(), "mesos.", "our SOA");
}

#[tokio::test]
async fn a_resolver_that_fails_is_passed_over_and_one_that_is_silent_is_remembered() {
    let silent = Fake::start(|_, _| Vec::new()).await;
    let refusing = Fake::start(|query, _| vec![answer(query, ResponseCode::Refused, Vec::new(), 0)]).await;
    let good = Fake::start(|query, _| vec![one(query)]).await;
    let names = names(&[&silent, &refusing, &good]);
    for name in ["a.org", "b.org", "c.org"] {
        assert_eq!(rcode(&told(&names, &asked(name, 1)).await), 0, "{name}");
    }
    assert_eq!((silent.asked(), refusing.asked(), good.asked()), (2, 3, 3));
    let down: Vec<_> = names.forwarder.as_ref().unwrap().shown().resolvers.into_iter().filter(|r| r.down).collect();
    assert_eq!(down.iter().map(|r| r.address).collect::<Vec<_>>(), [silent.address]);
}

#[tokio::test]
async fn who_knows_neither_edns_nor_mixed_case_is_asked_plainly() {
    let old = Fake::start(|query, _| {
        let mut refusal = query[..query.len().saturating_sub(11)].to_vec();
        match query[11] {
            0 => return vec![one(query)],
            _ => (refusal[2], refusal[3], refusal[11]) = (0x81, 1, 0),
        }
        vec![refusal]
    })
    .await;
    // The id may hold octets that look like capitals: it stays.
    let lowering = Fake::start(|query, _| vec![one(&[&query[..12], &query[12..].to_ascii_lowercase()].concat())]).await;
    // So long that no draw of cases is all small.
    let name = format!("{0}.{0}.example.org", "w".repeat(60));
    for fake in [&old, &lowering] {
        let names = names(&[fake]);
        assert_eq!(rcode(&told(&names, &asked(&name, 1)).await), 0);
        assert_eq!(fake.asked(), 2);
    }
}

#[tokio::test]
async fn nobody_there_is_servfail_and_is_not_asked_again_at_once() {
    let fake = Fake::start(|query, _| vec![answer(query, ResponseCode::ServFail, Vec::new(), 0)]).await;
    let names = names(&[&fake]);
    assert_eq!(rcode(&told(&names, &asked("web.example.org", 1)).await), SERVFAIL);
    let before = fake.asked();
    let again = told(&names, &asked_with_edns("web.example.org", 1, 1232)).await;
    assert_eq!((rcode(&again), fake.asked(), again[11]), (SERVFAIL, before, 1));
    assert_eq!((count(&names, "failed"), count(&names, "in_flight")), (2, 0));
}

#[tokio::test]
async fn silence_ends_in_servfail_within_the_bound() {
    let fake = Fake::start(|_, _| Vec::new()).await;
    let names = names(&[&fake]);
    let began = Instant::now();
    assert_eq!(rcode(&told(&names, &asked("web.example.org", 1)).await), SERVFAIL);
    assert!(began.elapsed() < OVERALL + Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!((fake.asked(), count(&names, "upstream_failures")), (2, 2));
}

#[tokio::test]
async fn a_name_that_is_not_there_is_remembered_and_a_referral_is_no_answer() {
    let fake = Fake::start(|query, _| vec![nothing(query, ResponseCode::NXDomain, 600)]).await;
    let names = names(&[&fake]);
    for _ in 0..2 {
        let answer = told(&names, &asked("nosuch.org", 1)).await;
        assert_eq!((rcode(&answer), &answer[6..10]), (NXDOMAIN, &[0, 0, 0, 1][..]));
        assert_eq!(Message::from_vec(&answer).unwrap().authorities[0].ttl, 60);
    }
    assert_eq!(fake.asked(), 1);
    let referring = Fake::start(|query, _| {
        let mut message = Message::from_vec(&answer(query, ResponseCode::NoError, Vec::new(), 0)).unwrap();
        let ns = hickory_proto::rr::rdata::NS(Name::from_ascii("ns.org.").unwrap());
        message.add_authority(Record::from_rdata(Name::from_ascii("org.").unwrap(), 300, RData::NS(ns)));
        vec![message.to_vec().unwrap()]
    })
    .await;
    let names = super::names(&[&referring]);
    assert_eq!(rcode(&told(&names, &asked("web.org", 1)).await), SERVFAIL);
}

#[tokio::test]
async fn an_old_answer_is_told_while_nobody_answers() {
    let short = |query: &[u8], _| vec![answer(query, ResponseCode::NoError, vec![RData::A(A::new(192, 0, 2, 1))], 1)];
    let fake = Fake::start(short).await;
    let address = fake.address;
    let names = names(&[&fake]);
    assert_eq!(rcode(&told(&names, &asked("web.example.org", 1)).await), 0);
    drop(fake);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    for _ in 0..2 {
        let stale = Message::from_vec(&told(&names, &asked("web.example.org", 1)).await).unwrap();
        assert_eq!((stale.answers.len(), stale.answers[0].ttl), (1, 1));
    }
    assert_eq!((count(&names, "stale"), count(&names, "failed")), (2, 0));
    assert_eq!(rcode(&told(&names, &asked("other.example.org", 1)).await), SERVFAIL);
    // A silent one: the client does not wait longer than it must.
    let _silent = UdpSocket::bind(address).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let began = Instant::now();
    assert_eq!(rcode(&told(&names, &asked("web.example.org", 1)).await), 0);
    assert!((PATIENCE..PATIENCE + Duration::from_secs(1)).contains(&began.elapsed()), "{:?}", began.elapsed());
}
