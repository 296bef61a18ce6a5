// SPDX-License-Identifier: Apache-2.0
// The two ends of `sluice-bench veth` and `sluice-bench dns`, loaded by src/veth/wire.rs.
//
// blast: run by BPF_PROG_TEST_RUN on live frames. Gives the frame another UDP source port (its checksum is 0, so none
// goes wrong), another number where it has one in five decimal digits, and sends it out of OUT: the fastest generator there is on one core.
// sink: what comes back is dropped. Both count.
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define SOURCE_PORT 34 // Ethernet, IPv4 without options

volatile const __u32 OUT;
volatile const __u32 FLOWS_MASK;
volatile const __u32 DIGITS; // Offset of the digits; 0 without

#define SENT 0
#define SUNK 1

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 2);
    __type(key, __u32);
    __type(value, __u64);
} COUNTS SEC(".maps");

static __always_inline void count(__u32 what)
{
    __u64 *value = bpf_map_lookup_elem(&COUNTS, &what);
    if (value)
        (*value)++;
}

SEC("xdp")
int blast(struct xdp_md *context)
{
    unsigned char *frame = (void *)(long)context->data;
    if (frame + SOURCE_PORT + 2 > (unsigned char *)(long)context->data_end)
        return XDP_ABORTED;
    *(__u16 *)(frame + SOURCE_PORT) = bpf_htons(1024 + (bpf_get_prandom_u32() & FLOWS_MASK));
    if (DIGITS && DIGITS < 1024) {
        unsigned char *digits = frame + DIGITS;
        if (digits + 5 > (unsigned char *)(long)context->data_end)
            return XDP_ABORTED;
        __u32 number = bpf_get_prandom_u32() % 10000;
        for (int i = 4; i >= 0; i--) {
            digits[i] = '0' + number % 10;
            number /= 10;
        }
    }
    count(SENT);
    return bpf_redirect(OUT, 0);
}

SEC("xdp")
int sink(struct xdp_md *context)
{
    count(SUNK);
    return XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
