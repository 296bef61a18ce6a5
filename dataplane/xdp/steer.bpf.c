// SPDX-License-Identifier: Apache-2.0
// Steering: frames that are ours go to the socket on their receive queue, everything else goes to the kernel.
//
// One instance per interface, loaded by src/io/steer.rs, which fills ADDRESSES. Ours are
//   - IPv4 and IPv6 to an address with TAKE_ALL (VIPs, SNAT addresses), fragments included;
//   - whole TCP, UDP and SCTP packets from an address and port in PRESERVED: replies of nat-preserve backends, which go
//     to the client;
//   - UDP to an address with TAKE_DNS and port 53 (DNS), or with TAKE_TUNNELS and a port in TUNNELS (VTEP);
//   - IPv4 and IPv6 to an address in NETWORKS (the overlay, where Sluice is its gateway);
//   - ARP requests and neighbour solicitations whose target has TAKE_ARP;
//   - on Sluice's end of the host port (HOST_PORT), all IPv4, IPv6 to one station, and all ARP requests: the peer is private.
// Non-first fragments of UDP to a DNS or VTEP address carry no port: they pass and are counted. So do, uncounted, those
// of a PRESERVED sender and all fragments of it over IPv6: the packet path keeps replies small by their MSS. At most two 802.1Q tags
// are looked behind; a frame with more passes.
// What is ours and has no socket on its queue is dropped and counted: the kernel must not answer for a VIP.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/icmpv6.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

// Flags that are a value of ADDRESSES (steer.rs).
#define TAKE_ALL     0x1u
#define TAKE_DNS     0x2u
#define TAKE_ARP     0x4u
#define TAKE_TUNNELS 0x8u

#define DNS_PORT 53
#define FRAGMENT_OFFSET 0x1fff // RFC 791 section 3.1
#define MOST_TAGS 2

// Indexes of STATISTICS, in the order of steer.rs.
enum statistic { TAKEN, PASSED, NO_SOCKET, FRAGMENT_PASSED, ARP_TAKEN, STATISTIC_COUNT };

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct in6_addr); // IPv4 as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2)
	__type(value, __u32);
} ADDRESSES SEC(".maps");

// Whose replies are ours (steer.rs sender_key).
struct sender {
	struct in6_addr address;
	__be16 port;
	__u8 protocol, zero;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct sender);
	__type(value, __u32);
} PRESERVED SEC(".maps");

// Outer UDP ports of the overlay, host byte order.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 512);
	__type(key, __u16);
	__type(value, __u32);
} TUNNELS SEC(".maps");

// The overlay's networks, where Sluice is their gateway; IPv4 as in ADDRESSES.
struct prefix {
	__u32 length;
	struct in6_addr address;
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 512);
	__type(key, struct prefix);
	__type(value, __u32);
} NETWORKS SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u32);
} SOCKETS SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, STATISTIC_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} STATISTICS SEC(".maps");

volatile const __u32 HOST_PORT = 0;

struct tag {
	__be16 control, type;
};

// RFC 4861 section 4.3.
struct solicitation {
	struct icmp6hdr icmp;
	struct in6_addr target;
};

// RFC 826 for Ethernet and IPv4; if_arp.h leaves the variable part out.
struct arp_ipv4 {
	__be16 hardware, protocol;
	__u8 hardware_len, protocol_len;
	__be16 operation;
	__u8 sender_mac[6];
	__be32 sender;
	__u8 target_mac[6];
	__be32 target;
} __attribute__((packed));

static __always_inline void count(__u32 statistic)
{
	__u64 *value = bpf_map_lookup_elem(&STATISTICS, &statistic);
	if (value)
		(*value)++;
}

static __always_inline __u32 flags_of6(struct in6_addr *address)
{
	__u32 *flags = bpf_map_lookup_elem(&ADDRESSES, address);
	return flags ? *flags : 0;
}

static __always_inline __u32 flags_of(__be32 address)
{
	struct in6_addr mapped = { .in6_u.u6_addr32 = { 0, 0, bpf_htonl(0xffff), address } };
	return flags_of6(&mapped);
}

static __always_inline int enters6(struct in6_addr *address)
{
	struct prefix key = { .length = 128, .address = *address };
	return bpf_map_lookup_elem(&NETWORKS, &key) != 0;
}

static __always_inline int enters(__be32 address)
{
	struct in6_addr mapped = { .in6_u.u6_addr32 = { 0, 0, bpf_htonl(0xffff), address } };
	return enters6(&mapped);
}

static __always_inline int pass(void)
{
	count(PASSED);
	return XDP_PASS;
}

// A redirect to a queue without a socket vanishes with every socket statistic at 0, so look before.
static __always_inline int take(struct xdp_md *ctx, __u32 statistic)
{
	__u32 queue = ctx->rx_queue_index;
	if (!bpf_map_lookup_elem(&SOCKETS, &queue)) {
		count(NO_SOCKET);
		return XDP_DROP;
	}
	count(statistic);
	return bpf_redirect_map(&SOCKETS, queue, XDP_DROP);
}

static __always_inline int arp(struct xdp_md *ctx, struct arp_ipv4 *arp, void *end)
{
	if ((void *)(arp + 1) > end)
		return pass();
	if (arp->hardware != bpf_htons(1) || arp->protocol != bpf_htons(ETH_P_IP) || arp->hardware_len != 6 ||
	    arp->protocol_len != 4 || arp->operation != bpf_htons(1))
		return pass();
	if (HOST_PORT || flags_of(arp->target) & TAKE_ARP)
		return take(ctx, ARP_TAKEN);
	return pass();
}

static __always_inline int has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP;
}

// Whether a packet with this source, port and protocol is a nat-preserve backend's reply.
static __always_inline int preserved(struct sender *sender)
{
	return bpf_map_lookup_elem(&PRESERVED, sender) != 0;
}

// Behind options the port is copied out, as in udp_port.
static __always_inline int preserved4(struct xdp_md *ctx, struct iphdr *ip, __u32 at, void *end)
{
	struct sender sender = { .address.in6_u.u6_addr32 = { 0, 0, bpf_htonl(0xffff), ip->saddr }, .protocol = ip->protocol };
	__be16 *port = (void *)(ip + 1);
	if (!has_ports(ip->protocol) || ip->frag_off & bpf_htons(FRAGMENT_OFFSET) || ip->ihl < 5)
		return 0;
	if (ip->ihl == 5) {
		if ((void *)(port + 1) > end)
			return 0;
		sender.port = *port;
	} else if (bpf_xdp_load_bytes(ctx, at + ip->ihl * 4, &sender.port, sizeof(sender.port))) {
		return 0;
	}
	return preserved(&sender);
}

static __always_inline int preserved6(struct ipv6hdr *ip, void *end)
{
	struct sender sender = { .address = ip->saddr, .protocol = ip->nexthdr };
	__be16 *port = (void *)(ip + 1);
	if (!has_ports(ip->nexthdr) || (void *)(port + 1) > end)
		return 0;
	sender.port = *port;
	return preserved(&sender);
}

// The UDP destination port, 0 when it is cut off. Behind options it is copied out: to add a variable to a packet
// pointer takes CAP_PERFMON.
static __always_inline __u16 udp_port(struct xdp_md *ctx, struct iphdr *ip, __u32 at, void *end)
{
	struct udphdr *udp = (void *)(ip + 1), copy;
	if (ip->ihl == 5)
		return (void *)(udp + 1) > end ? 0 : bpf_ntohs(udp->dest);
	if (ip->ihl < 5 || bpf_xdp_load_bytes(ctx, at + ip->ihl * 4, &copy, sizeof(copy)))
		return 0;
	return bpf_ntohs(copy.dest);
}

static __always_inline int udp(struct xdp_md *ctx, __u16 port, __u32 flags)
{
	if ((flags & TAKE_DNS && port == DNS_PORT) || (flags & TAKE_TUNNELS && bpf_map_lookup_elem(&TUNNELS, &port)))
		return take(ctx, TAKEN);
	return pass();
}

// `at` is the header's offset in the frame.
static __always_inline int ipv4(struct xdp_md *ctx, struct iphdr *ip, __u32 at, void *end)
{
	if ((void *)(ip + 1) > end)
		return pass();
	if (HOST_PORT)
		return take(ctx, TAKEN);
	__u32 flags = flags_of(ip->daddr);
	if (flags & TAKE_ALL || preserved4(ctx, ip, at, end) || (!flags && enters(ip->daddr)))
		return take(ctx, TAKEN);
	if (!(flags & (TAKE_DNS | TAKE_TUNNELS)) || ip->protocol != IPPROTO_UDP)
		return pass();
	if (ip->frag_off & bpf_htons(FRAGMENT_OFFSET)) {
		count(FRAGMENT_PASSED);
		return pass();
	}
	return udp(ctx, udp_port(ctx, ip, at, end), flags);
}

static __always_inline int solicited(struct xdp_md *ctx, struct solicitation *asked, void *end)
{
	if ((void *)(asked + 1) > end || asked->icmp.icmp6_type != 135 || !(flags_of6(&asked->target) & TAKE_ARP))
		return pass();
	return take(ctx, ARP_TAKEN);
}

// Extension headers are walked behind TAKE_ALL only, by the packet path: neither DNS nor discovery has them.
static __always_inline int ipv6(struct xdp_md *ctx, struct ipv6hdr *ip, void *end)
{
	struct udphdr *header = (void *)(ip + 1);
	if ((void *)(ip + 1) > end)
		return pass();
	// What the kernel says to groups on a link (ff00::/8) is for nobody here.
	if (HOST_PORT)
		return ip->daddr.in6_u.u6_addr8[0] == 0xff ? pass() : take(ctx, TAKEN);
	__u32 flags = flags_of6(&ip->daddr);
	if (flags & TAKE_ALL || preserved6(ip, end) || (!flags && enters6(&ip->daddr)))
		return take(ctx, TAKEN);
	if (ip->nexthdr == IPPROTO_ICMPV6)
		return solicited(ctx, (void *)(ip + 1), end);
	if (flags & TAKE_DNS && ip->nexthdr == IPPROTO_UDP && (void *)(header + 1) <= end)
		return udp(ctx, bpf_ntohs(header->dest), flags);
	return pass();
}

static __always_inline int steering(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *ethernet = (void *)(long)ctx->data;
	void *next = ethernet + 1;
	if (next > end)
		return pass();
	__be16 type = ethernet->h_proto;
	__u32 at = sizeof(*ethernet);
#pragma unroll
	for (int n = 0; n < MOST_TAGS; n++) {
		struct tag *tag = next;
		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD) && type != bpf_htons(ETH_P_QINQ1))
			break;
		if ((void *)(tag + 1) > end)
			return pass();
		type = tag->type;
		next = tag + 1;
		at += sizeof(*tag);
	}
	if (type == bpf_htons(ETH_P_IP))
		return ipv4(ctx, next, at, end);
	if (type == bpf_htons(ETH_P_IPV6))
		return ipv6(ctx, next, end);
	if (type == bpf_htons(ETH_P_ARP))
		return arp(ctx, next, end);
	return pass();
}

SEC("xdp")
int steer(struct xdp_md *ctx)
{
	return steering(ctx);
}

// The same for interfaces whose MTU is beyond one buffer of the driver.
SEC("xdp.frags")
int steer_frags(struct xdp_md *ctx)
{
	return steering(ctx);
}

// For the kernel's end of the host port: a veth transmits to a peer with a program twice as fast.
SEC("xdp")
int pass_all(struct xdp_md *ctx)
{
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Apache-2.0";
