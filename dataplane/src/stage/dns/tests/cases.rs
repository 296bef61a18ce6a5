//! The table.

use super::{additional, ask, ask_wire, compiled, edns, opt_record, say, set, terms, then};

/// A sentence, a query, what is said.
type Case = (&'static str, Vec<u8>, &'static str);

const APP: &str = "app.marathon.mesos";
const A: u16 = 1;
const AAAA: u16 = 28;

const APP_A: &str = "NoError aa / app.marathon.mesos. 60 IN A 10.0.0.1 / - / -";
const APP_A_OPT: &str = "NoError aa / app.marathon.mesos. 60 IN A 10.0.0.1 / - / opt 1232 v0";
const NODATA: &str = "NoError aa / - / mesos. 5 IN SOA ns1.mesos. root.ns1.mesos. 2024 60 600 86400 5 / -";
const NXDOMAIN: &str = "NXDomain aa / - / mesos. 5 IN SOA ns1.mesos. root.ns1.mesos. 2024 60 600 86400 5 / -";
const NXDOMAIN_OPT: &str =
    "NXDomain aa / - / mesos. 5 IN SOA ns1.mesos. root.ns1.mesos. 2024 60 600 86400 5 / opt 1232 v0";
const REFUSED: &str = "Refused / - / - / -";
const NOTIMP: &str = "NotImp / - / - / -";
/// Rcode 16 is BADVERS in OPT and BADSIG in TSIG (RFC 6895 section 2.3); the decoder knows only the second name.
const BADVERS: &str = "BADSIG / - / - / opt 1232 v0";
const FORMERR: &str = "FormErr / - / - / -";
const FORMERR_OPT: &str = "FormErr / - / - / opt 1232 v0";
const FORMERR_HEADER: &str = "FormErr headeronly / - / - / -";

fn run(cases: Vec<Case>) {
    let (zones, terms) = (compiled(), terms());
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|(sentence, query, expected)| {
            let said = say(query, &zones, &terms);
            (said != *expected).then(|| format!("{sentence}\n  expected {expected}\n  said     {said}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn flags(first: u8, second: u8) -> Vec<u8> {
    set(ask(APP, A), 2, &[first, second])
}

fn opcode(opcode: u8) -> Vec<u8> {
    flags(opcode << 3, 0)
}

#[test]
fn header_flags_and_opcodes() {
    run(vec![
        ("A query RD=0: NOERROR QR AA, 1 answer, no OPT when none asked", ask(APP, A), APP_A),
        ("RD=1 is copied (decode checks it)", flags(1, 0), APP_A),
        ("ID 0x0000 echoed", set(ask(APP, A), 0, &[0, 0]), APP_A),
        ("ID 0xffff echoed", set(ask(APP, A), 0, &[0xff, 0xff]), APP_A),
        ("QR=1 gets no answer", flags(0x80, 0), "drop"),
        ("QR=1 with garbage body gets no answer", then(flags(0x80, 0), &[0xff; 40]), "drop"),
        ("AA=1 in query ignored", flags(4, 0), APP_A),
        ("TC=1 in query ignored", flags(2, 0), APP_A),
        ("RA=1 in query ignored", flags(0, 0x80), APP_A),
        ("Z bit not echoed", flags(0, 0x40), APP_A),
        ("AD=1 in query: AD=0 in answer", flags(0, 0x20), APP_A),
        ("CD cleared", flags(0, 0x10), APP_A),
        ("RCODE in query ignored", flags(0, 0x0f), APP_A),
        ("opcode IQUERY", opcode(1), NOTIMP),
        ("opcode STATUS", opcode(2), NOTIMP),
        ("opcode 3", opcode(3), NOTIMP),
        ("opcode NOTIFY", opcode(4), NOTIMP),
        ("opcode UPDATE", opcode(5), NOTIMP),
        ("opcode DSO", opcode(6), NOTIMP),
        ("opcode 7", opcode(7), NOTIMP),
        ("opcode 14", opcode(14), NOTIMP),
        ("opcode 15", opcode(15), NOTIMP),
        ("opcode 15 with EDNS", set(edns(ask(APP, A), 1232), 2, &[0x78]), "NotImp / - / - / opt 1232 v0"),
        ("opcode 15, header only", vec![1, 2, 0x78, 0, 0, 0, 0, 0, 0, 0, 0, 0], "NotImp headeronly / - / - / -"),
        ("opcode UPDATE with a prerequisite that is cut", set(opcode(5), 7, &[1]), "NotImp headeronly / - / - / -"),
    ]);
}

#[test]
fn counts_and_lengths() {
    let question = [b"\x03app\x08marathon\x05mesos\0".as_slice(), &[0, 1, 0, 1]].concat();
    let record = [&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4], &[1u8, 2, 3, 4][..]].concat();
    run(vec![
        ("0 octets", vec![], "drop"),
        ("1 octet", vec![0], "drop"),
        ("11 octets", vec![0; 11], "drop"),
        ("QDCOUNT=0 header only", vec![0; 12], FORMERR_HEADER),
        ("QDCOUNT=1, no question octets", ask(APP, A)[..12].to_vec(), FORMERR_HEADER),
        ("two questions", set(then(ask(APP, A), &question), 5, &[2]), FORMERR_HEADER),
        ("QDCOUNT=65535", set(ask(APP, A), 4, &[0xff, 0xff]), FORMERR_HEADER),
        ("ANCOUNT=1 without RR", set(ask(APP, A), 7, &[1]), FORMERR),
        ("NSCOUNT=1 without RR", set(ask(APP, A), 9, &[1]), FORMERR),
        ("ARCOUNT=1 without RR", set(ask(APP, A), 11, &[1]), FORMERR),
        ("ARCOUNT=65535", set(ask(APP, A), 10, &[0xff, 0xff]), FORMERR),
        ("a query with an answer RR", set(then(ask(APP, A), &record), 7, &[1]), FORMERR),
        ("a query with an authority RR", set(then(ask(APP, A), &record), 9, &[1]), FORMERR),
        ("a query with an additional RR", additional(ask(APP, A), &record), APP_A),
        ("1 trailing octet", then(ask(APP, A), &[0]), FORMERR),
        ("300 trailing octets", then(ask(APP, A), &[7; 300]), FORMERR),
    ]);
}

#[test]
fn names() {
    let labels = |n: usize, end: &[u8]| ask_wire(&[b"\x01a".repeat(n).as_slice(), end].concat(), A);
    let raw = |name: &[u8]| ask_wire(name, A);
    run(vec![
        ("pointer to itself", raw(&[0xc0, 12]), FORMERR_HEADER),
        ("pointer forward", raw(&[0xc0, 14, 0]), FORMERR_HEADER),
        ("pointer into the header", raw(&[0xc0, 0]), FORMERR_HEADER),
        ("label then pointer back to it", raw(&[1, b'a', 0xc0, 12]), FORMERR_HEADER),
        ("half a pointer at the end", raw(&[0xc0])[..13].to_vec(), FORMERR_HEADER),
        ("label length 0x40", raw(&[&[0x40][..], &[b'a'; 64], &[0]].concat()), FORMERR_HEADER),
        ("label type 0x80", raw(&[0x80, 0]), FORMERR_HEADER),
        ("binary label type 0x41", raw(&[0x41, 8, 0xaa, 0]), FORMERR_HEADER),
        ("name without end", raw(b"\x03app")[..16].to_vec(), FORMERR_HEADER),
        ("label runs past the end", raw(b"\x3fapp\0"), FORMERR_HEADER),
        ("name but no type and class", ask(APP, A)[..32].to_vec(), FORMERR_HEADER),
        ("class cut", ask(APP, A)[..35].to_vec(), FORMERR_HEADER),
        ("255-octet name is legal", labels(124, b"\x05mesos\0"), NXDOMAIN),
        ("256-octet name", labels(124, b"\x06xmesos\0"), FORMERR_HEADER),
        ("255 octets of another zone", labels(127, b"\0"), REFUSED),
        (
            "zero octet inside a label",
            raw(b"\x03a\0b\x05mesos\0"),
            "NXDomain aa / - / mesos. 5 IN SOA ns1.mesos. root.ns1.mesos. 2024 60 600 86400 5 / -",
        ),
        ("zero octet where a stored name ends", raw(b"\x03app\x08marathon\x05mesos\x01\0\0"), REFUSED),
        ("dot octet inside a label does not match", raw(b"\x0capp.marathon\x05mesos\0"), NXDOMAIN),
        (
            "0x20: answered and echoed",
            raw(b"\x03ApP\x08MARathon\x05mesOS\0"),
            "NoError aa / ApP.MARathon.mesOS. 60 IN A 10.0.0.1 / - / -",
        ),
        (
            "0x20 on NXDOMAIN",
            raw(b"\x02Nx\x05mEsOs\0"),
            "NXDomain aa / - / mEsOs. 5 IN SOA ns1.mesos. root.ns1.mesos. 2024 60 600 86400 5 / -",
        ),
        ("octets that are letters with another bit", raw(b"\x03\xe1pp\x08marathon\x05mesos\0"), NXDOMAIN),
        ("xmesos. is not in zone mesos.", ask("xmesos", A), REFUSED),
        ("empty non-terminal", ask("marathon.mesos", A), NODATA),
        ("deep empty non-terminal", ask("down.mesos", A), NODATA),
        ("below a leaf", ask("x.app.marathon.mesos", A), NXDOMAIN),
        ("many labels below a leaf", ask("a.b.c.d.e.f.g.h.app.marathon.mesos", A), NXDOMAIN),
        ("unknown name", ask("nx.mesos", A), NXDOMAIN),
        ("unknown name, SRV", ask("_nx._tcp.marathon.mesos", 33), NXDOMAIN),
        (
            "the nested zone answers for its names",
            ask("nx.inner.mesos", A),
            "NXDomain aa / - / inner.mesos. 5 IN SOA ns1.mesos. root.ns1.mesos. 2024 60 600 86400 5 / -",
        ),
        (
            "what the outer zone holds there is hidden",
            ask("hidden.inner.mesos", A),
            "NXDomain aa / - / inner.mesos. 5 IN SOA ns1.mesos. root.ns1.mesos. 2024 60 600 86400 5 / -",
        ),
        (
            "an alias zone owns its SOA",
            ask("nx.l4lb.thisdcos.global", A),
            "NXDomain aa / - / thisdcos.global. 5 IN SOA ns1.mesos. root.ns1.mesos. 2024 60 600 86400 5 / -",
        ),
        (
            "a VIP name",
            ask("web.marathon.l4lb.thisdcos.directory", A),
            "NoError aa / web.marathon.l4lb.thisdcos.directory. 60 IN A 10.0.0.11 / - / -",
        ),
        ("foreign name", ask("example.org", A), REFUSED),
        ("the root's NS", ask("", 2), REFUSED),
    ]);
}

#[test]
fn types_and_classes() {
    let class = |class: [u8; 2]| {
        let query = ask(APP, 16);
        let at = query.len() - 2;
        set(query, at, &class)
    };
    let ixfr = set(then(ask("mesos", 251), &[0xc0, 12, 0, 6, 0, 1, 0, 0, 0, 0, 0, 0]), 9, &[1]);
    run(vec![
        ("CH", class([0, 3]), REFUSED),
        ("class HS", class([0, 4]), REFUSED),
        ("class NONE", class([0, 254]), REFUSED),
        ("class ANY", class([0, 255]), REFUSED),
        ("class 0", class([0, 0]), REFUSED),
        (
            "ANY: one RRset, A first",
            ask("both.marathon.mesos", 255),
            "NoError aa / both.marathon.mesos. 60 IN A 10.0.0.2 / - / -",
        ),
        (
            "ANY: AAAA where there is no A",
            ask("six.marathon.mesos", 255),
            "NoError aa / six.marathon.mesos. 60 IN AAAA fd00::6 / - / -",
        ),
        ("ANY at the apex: by number", ask("mesos", 255), "NoError aa / mesos. 3600 IN NS ns1.mesos. / - / -"),
        ("ANY at an empty non-terminal", ask("marathon.mesos", 255), NODATA),
        ("QTYPE 0", ask(APP, 0), NODATA),
        ("unknown type 666", ask(APP, 666), NODATA),
        ("type 65535", ask(APP, 65535), NODATA),
        ("QTYPE OPT", ask(APP, 41), NODATA),
        ("QTYPE TSIG", ask(APP, 250), NODATA),
        ("MAILA", ask(APP, 254), NODATA),
        ("AXFR over UDP never transfers", ask("mesos", 252), REFUSED),
        ("IXFR over UDP", ixfr, REFUSED),
        ("AAAA for an A-only name", ask(APP, AAAA), NODATA),
        ("AAAA", ask("both.marathon.mesos", AAAA), "NoError aa / both.marathon.mesos. 60 IN AAAA fd00::2 / - / -"),
        (
            "SOA at apex in ANSWER",
            ask("mesos", 6),
            "NoError aa / mesos. 60 IN SOA ns1.mesos. root.ns1.mesos. 2024 60 600 86400 5 / - / -",
        ),
        ("SOA below apex", ask(APP, 6), NODATA),
        ("NS at apex in ANSWER", ask("mesos", 2), "NoError aa / mesos. 3600 IN NS ns1.mesos. / - / -"),
        ("A at apex", ask("mesos", A), NODATA),
        ("DS at apex of an unsigned zone", ask("mesos", 43), NODATA),
        ("DNSKEY in an unsigned zone", ask("mesos", 48), NODATA),
    ]);
}

#[test]
fn edns_rules() {
    let opt = |ttl: [u8; 4], options: &[u8]| additional(ask(APP, A), &opt_record(1232, ttl, options));
    let plain = opt_record(1232, [0; 4], &[]);
    let address = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 1, 2, 3, 4];
    let mut owned = vec![1, b'a'];
    owned.extend(&plain);
    let past_end = set(opt([0; 4], &[]), 36 + 10, &[9]);
    run(vec![
        ("EDNS answered with OPT v0", edns(ask(APP, A), 1232), APP_A_OPT),
        ("size 0", edns(ask(APP, A), 0), APP_A_OPT),
        ("size 100", edns(ask(APP, A), 100), APP_A_OPT),
        ("OPT also in NXDOMAIN", edns(ask("nx.mesos", A), 1232), NXDOMAIN_OPT),
        ("OPT also in REFUSED", edns(ask("example.org", A), 1232), "Refused / - / - / opt 1232 v0"),
        ("EDNS version 1", opt([0, 1, 0, 0], &[]), BADVERS),
        ("EDNS version 255", opt([0, 255, 0, 0], &[]), BADVERS),
        ("BADVERS goes before NXDOMAIN", additional(ask("nx.mesos", A), &opt_record(1232, [0, 1, 0, 0], &[])), BADVERS),
        ("unknown option ignored, not echoed", opt([0; 4], &[0xff, 0xf0, 0, 2, 1, 2]), APP_A_OPT),
        ("NSID, ECS and EXPIRE together", opt([0; 4], &[0, 3, 0, 0, 0, 8, 0, 4, 0, 1, 0, 0, 0, 9, 0, 0]), APP_A_OPT),
        (
            "DO copied",
            opt([0, 0, 0x80, 0], &[]),
            "NoError aa / app.marathon.mesos. 60 IN A 10.0.0.1 / - / opt 1232 v0 do",
        ),
        ("EDNS Z flags not echoed", opt([0, 0, 0x7f, 0xff], &[]), APP_A_OPT),
        ("extended rcode in the query ignored", opt([0xff, 0, 0, 0], &[]), APP_A_OPT),
        ("two OPT", additional(edns(ask(APP, A), 1232), &plain), FORMERR_OPT),
        ("OPT owner not root", additional(ask(APP, A), &owned), FORMERR_OPT),
        ("OPT RDLENGTH past the end", past_end, FORMERR),
        ("option length past RDATA", opt([0; 4], &[0, 3, 0, 9, 1]), FORMERR_OPT),
        ("3 stray octets in OPT RDATA", opt([0; 4], &[1, 2, 3]), FORMERR_OPT),
        ("OPT in the answer section", set(then(ask(APP, A), &plain), 7, &[1]), FORMERR),
        ("OPT then another RR", additional(edns(ask(APP, A), 1232), &address), APP_A_OPT),
        ("another RR then OPT", edns(additional(ask(APP, A), &address), 1232), APP_A_OPT),
    ]);
}

#[test]
fn answers_fit() {
    let many = "many.marathon.mesos";
    let (zones, terms) = (compiled(), terms());
    let cut = |query: Vec<u8>| {
        let answer = super::answer(&query, &zones, &terms).unwrap();
        (answer.len(), say(&query, &zones, &terms))
    };
    assert_eq!(cut(ask(many, A)).1, "NoError aa tc / - / - / -");
    let whole = "NoError aa / 60 records / - / opt 1232 v0";
    assert_eq!(cut(edns(ask(many, A), 1232)), (12 + 25 + 60 * 16 + 11, whole.to_owned()));
    assert_eq!(cut(edns(ask(many, A), 65535)).1, whole);
    for size in [0, 100, 511, 512, 600] {
        assert_eq!(cut(edns(ask(many, A), size)).1, "NoError aa tc / - / - / opt 1232 v0");
    }
}

#[test]
fn configuration_sets_tc_and_ra() {
    let zones = compiled();
    let mut terms = terms();
    (terms.truncate_bit, terms.recursion_available) = (false, true);
    assert_eq!(say(&ask("many.marathon.mesos", A), &zones, &terms), "NoError aa ra / 29 records / - / -");
    assert!(say(&ask("nx.mesos", A), &zones, &terms).starts_with("NXDomain aa ra"));
    assert_eq!(say(&ask("example.org", A), &zones, &terms), REFUSED);
}

/// The options of an answer's OPT record, which ends it.
fn options(query: &[u8], terms: &crate::tables::dns::Terms) -> Vec<(u16, Vec<u8>)> {
    let answer = super::answer(query, &compiled(), terms).unwrap();
    super::decode(&answer, query);
    let opt = answer.windows(3).rposition(|w| w == [0, 0, 41]).unwrap();
    let mut rest = &answer[opt + 11..];
    let mut options = Vec::new();
    while let Some(([c0, c1, l0, l1], after)) = rest.split_first_chunk::<4>() {
        let (data, after) = after.split_at(usize::from(u16::from_be_bytes([*l0, *l1])));
        options.push((u16::from_be_bytes([*c0, *c1]), data.to_vec()));
        rest = after;
    }
    options
}

#[test]
fn cookies_and_nsid() {
    let with = |options: &[u8]| additional(ask(APP, A), &opt_record(1232, [0; 4], options));
    let client = [0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];
    let terms = terms();
    let [(10, cookie)] = &options(&with(&client), &terms)[..] else { panic!("no cookie") };
    assert!(cookie.len() == 24 && cookie[..8] == client[4..]);
    let shown = with(&[&[0, 10, 0, 24][..], cookie].concat());
    let query = crate::wire::dns::parse(&shown).unwrap();
    let (zones, asker) = (compiled(), super::ASKER);
    let read = |query: &[u8]| super::super::answer::read(query, &zones).unwrap();
    assert!(query.edns.is_some() && read(&shown).is_proven(&shown, &terms, &asker));
    assert!(!read(&with(&client)).is_proven(&with(&client), &terms, &asker));
    let mut wrong = shown.clone();
    *wrong.last_mut().unwrap() ^= 1;
    assert!(!read(&wrong).is_proven(&wrong, &terms, &asker) && options(&wrong, &terms)[0].1.len() == 24);
    for len in [0u8, 7, 9, 15, 41] {
        let option = [&[0, 10, 0, len][..], &vec![1; usize::from(len)]].concat();
        assert_eq!(say(&with(&option), &zones, &terms), FORMERR_OPT, "a cookie of {len} octets");
    }
    let alone = additional(vec![0; 12], &opt_record(1232, [0; 4], &client));
    let answer = super::answer(&alone, &zones, &terms).unwrap();
    assert_eq!((answer[3] & 15, answer.len()), (0, 12 + 11 + 28), "NOERROR with a cookie (RFC 7873 section 5.4)");
    assert!(options(&with(&[0, 3, 0, 0]), &terms).is_empty());
    let mut named = terms;
    named.nsid = b"n1".as_slice().into();
    assert_eq!(options(&with(&[0, 3, 0, 0]), &named), [(3, b"n1".to_vec())]);
    assert!(options(&with(&[]), &named).is_empty(), "not sent unasked");
}
