//! Every way in which a packet ends, each with a sentence that says what it means and what to do.

/// Makes the enum, its list, its names and its sentences from one table, so that none can be forgotten.
macro_rules! drop_reasons {
    ($($variant:ident, $name:literal, $sentence:literal;)*) => {
        /// Why a packet was dropped.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum DropReason {
            $(#[doc = $sentence] $variant,)*
        }

        impl DropReason {
            /// All of them, in counter order.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Name in counters, metrics and `sluice show drops`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it means and what to do.
            #[must_use]
            pub fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence,)* }
            }
        }
    };
}

drop_reasons! {
    // parse
    Truncated, "truncated", "the frame ends inside a header that it announces; look for a cutting link or capture";
    NotOurMac, "not_our_mac", "the Ethernet destination is another station's or a group; look for flooding on the segment";
    SourceMac, "source_mac", "the Ethernet source is a group address, all zeros or our own, which no sender has";
    EtherType, "ether_type", "neither IPv4, IPv6 nor ARP: nothing here serves it";
    TagDepth, "vlan_depth", "more than two 802.1Q tags, or one with the reserved number 4095";
    Ip4Header, "ip4_bad_header", "the IPv4 version, header length or total length cannot be; look for a broken sender";
    Ip4Checksum, "ip4_bad_checksum", "the IPv4 header checksum is wrong; look for a broken sender or link";
    Ip4SourceRoute, "ip4_source_route", "the packet asks for source routing, which is never honoured; IPv6: a routing header with segments left";
    Ip6Header, "ip6_bad_header", "the IPv6 version or payload length cannot be (jumbograms are not served); look for a broken sender";
    Ip6Extension, "ip6_extension", "more than 8 IPv6 extension headers, or one that is cut or out of place";
    Martian, "martian", "the source address can not be a sender: loopback, multicast, broadcast, 0/8, our own or equal to the destination";
    Fragment, "fragment", "a DNS question, neighbour solicitation or ICMP error in fragments: all of them are short, so look for an attack";
    PortZero, "port_zero", "the source port is 0, to which nothing can be answered";
    L4Header, "l4_bad_header", "the TCP data offset or the UDP length does not fit the packet, or UDP over IPv6 has no checksum";
    Protocol, "protocol", "an IP protocol that no VIP or SNAT address of ours takes";
    FragmentLength, "fragment_bad_length", "a fragment that is empty, no multiple of 8 octets, or ends beyond 65535; look for a broken sender or an attack";
    FragmentTiny, "fragment_tiny", "a first fragment without its whole transport header, or a later one that overlaps that: nobody sends such but to get past filters";
    FragmentNoFirst, "fragment_no_first", "a later fragment whose first one did not come in time; look for loss, or for ECMP that parts fragments";
    FragmentSctp, "fragment_sctp", "SCTP in fragments, whose ports cannot be rewritten in the first one alone; lower the sender's path MTU";
    FragmentStale, "fragment_stale", "a later fragment whose first one was sent by tables that changed since; the datagram is lost once";
    FragmentsFull, "fragments_full", "no room for another fragment to wait for its first one; lower the sender's MTU, or look for an attack";
    // decap
    VxlanPort, "vxlan_client_port", "VXLAN on a port whose role is client; agents belong on an underlay port";
    VxlanHeader, "vxlan_bad_header", "the VXLAN flags are not exactly I (RFC 7348 section 5)";
    VxlanUnknownVtep, "vxlan_unknown_vtep", "VXLAN from an address that is no known agent; is the agent in the overlay's state?";
    VxlanUnknownVni, "vxlan_unknown_vni", "VXLAN with a VNI that we do not have on this port, or from an agent that has no part of its networks";
    VxlanInner, "vxlan_inner", "the inner frame is not IP to our VTEP's MAC";
    OverlaySpoof, "overlay_src_spoof", "an overlay source that does not belong to the sending agent's subnet, or that came outside a tunnel";
    VxlanNested, "vxlan_nested", "VXLAN in VXLAN: one tunnel is taken off, never two";
    EcnLost, "ecn_lost", "congestion marked on the tunnel of a packet that cannot carry the mark (RFC 6040 section 4.2)";
    VxlanFragment, "vxlan_fragment", "VXLAN in fragments, which are not reassembled here; raise the underlay's MTU or lower the overlay's";
    // classify
    ArpNotOurs, "arp_not_ours", "ARP for an address that is not ours, or ARP is off on this port";
    NoService, "no_service", "a VIP's address, but no service on this protocol and port";
    NoBackend, "no_backend", "the service has no eligible backend";
    NotForUs, "not_for_us", "the destination is neither ours nor reachable by a route of the packet path";
    IcmpUnhandled, "icmp_unhandled", "ICMP that nobody here serves: neither an echo request to a VIP or DNS address, nor an error about a packet of a VIP or SNAT address";
    IcmpQuote, "icmp_quote", "an ICMP error that quotes no TCP, UDP or SCTP packet of the address that it is sent to: cut short, forged, or to the wrong host";
    IcmpNoSession, "icmp_no_session", "an ICMP error about a flow that no worker has a session of; ended flows leave a few, many are forged";
    IcmpTunnel, "icmp_tunnel", "an ICMP error about a tunnel of ours: its outer packet does not fit the underlay or does not arrive; compare the overlay's and the underlay's MTU";
    SnatUnknown, "snat_unknown", "to a SNAT address, but from no backend that we know";
    SnatNoSession, "snat_no_session", "a reply whose session is unknown or expired";
    MasqueradeProtocol, "masquerade_protocol", "from a container to the outside, and neither TCP, UDP, SCTP nor ICMP echo: nothing else can be masqueraded";
    // isolate
    GroupDenied, "group_denied", "source and destination share no isolation group on one network";
    GroupUnderlay, "group_underlay", "the underlay may not reach a grouped container or VIP; see underlay_allow";
    GroupMasqueraded, "group_masqueraded", "group unknown: an agent asked a grouped VIP or container in its own name, masquerading its container; run `sluice agent` there, or see underlay_allow";
    AdmissionSource, "admission_source", "the service is not for this source; see its allow and deny";
    // reply
    EchoLimited, "echo_limited", "more echo requests to VIPs than limits.echo_per_second answers; raise it, or look for a flood";
    // balance
    TcpFlags, "tcp_bad_flags", "TCP flags that no stack sends (none, SYN with FIN or RST, FIN without ACK) and no session: a scan, or a broken sender";
    SessionsFull, "sessions_full", "no room for a new session; raise limits.sessions";
    SnatExhausted, "snat_exhausted", "no free SNAT port towards the backend; add a SNAT address";
    NoSnat, "no_snat", "no SNAT address towards this backend's side; set snat.underlay or snat.overlay";
    SnatQuota, "snat_quota", "this client holds its share of SNAT ports, and those that are left towards the backend, or the last eighth of `limits.masquerade`, are for others; add a SNAT address or raise the limit";
    MasqueradeFull, "masquerade_full", "no room for another flow between a container and the outside; raise limits.masquerade";
    MasqueradeExhausted, "masquerade_exhausted", "no free SNAT port for a container's flow towards this destination; add an address to snat.underlay";
    AdmissionRate, "admission_rate", "the service has had its new connections for the moment; see its new_per_second";
    AdmissionSessions, "admission_sessions", "the service has as many sessions as it may; see its sessions";
    // dns
    DnsMalformed, "dns_malformed", "a DNS message that deserves no answer: too short, or a response";
    DnsChecksum, "dns_bad_checksum", "the UDP checksum of a DNS question is wrong; look for a broken sender, or for transmit checksum offload on its end of a veth";
    DnsSourcePort, "dns_source_port", "a DNS question from echo, daytime or chargen (ports 7, 13, 19), whose answer would bounce for ever";
    DnsRate, "dns_rate", "more answers to one prefix than dns.responses_per_second, without a DNS cookie; every second one was cut instead";
    // egress
    TtlExpired, "ttl_expired", "TTL 0 or 1 would leave as 0; look for a routing loop";
    NoAgent, "no_agent", "the destination lies in the overlay, but no agent that we know has it";
    NoRoute, "no_route", "no route of the packet path leads to the destination";
    NextHopUnresolved, "next_hop_unresolved", "the next hop's MAC is not known yet; is the neighbour alive?";
    TooBig, "too_big", "larger than the MTU of the way out; lower the sender's MTU";
    NoHeadroom, "no_headroom", "no room in the frame for the outer headers";
    NoHost, "no_host", "for the node's kernel, but there is no host port";
    // settle
    PortFull, "port_full", "the transmit ring was full";
    HandoverFull, "handover_full", "another worker's hand-over ring was full; raise limits.handover";
    HandoverTwice, "handover_twice", "handed over once already, and owned by neither worker: tables changed under way";
    Undecided, "undecided", "no stage decided what becomes of it: a defect of Sluice, please report it";
}

/// What is answered in place: such a packet is its answer's transmission, not a drop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Reply {
    /// Echo reply.
    Echo,
    /// ICMP time exceeded.
    TimeExceeded,
    /// ICMP fragmentation needed, ICMPv6 packet too big.
    TooBig,
    /// ICMP port unreachable.
    Unreachable,
    /// TCP reset.
    Reset,
    /// SCTP abort.
    Abort,
}

impl Reply {
    /// Every kind with its name in metrics, in counter order.
    pub const ALL: &[(Self, &str)] = &[
        (Self::Echo, "echo"),
        (Self::TimeExceeded, "time_exceeded"),
        (Self::TooBig, "too_big"),
        (Self::Unreachable, "port_unreachable"),
        (Self::Reset, "reset"),
        (Self::Abort, "abort"),
    ];
}

impl DropReason {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();
}

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Not yet decided; never seen after egress.
    Pending,
    /// Leaves on this port.
    Transmit(u8),
    /// Goes to the node's kernel by the host port.
    Host,
    /// Belongs to another worker.
    Give(u8),
    /// A fragment that waits for its first one, at this place.
    Hold(u16),
    /// Ends here.
    Drop(DropReason),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_sentence_says_something() {
        let mut names: Vec<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::COUNT);
        assert!(DropReason::ALL.iter().all(|r| r.sentence().len() > 20));
    }

    #[test]
    fn counter_order_is_the_discriminant() {
        for (index, (reply, _)) in Reply::ALL.iter().enumerate() {
            assert_eq!(*reply as usize, index);
        }
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
    }
}
