//! Two namespaces and the veth pair between them, the generator and the sink; removed when dropped.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use aya::maps::{MapData, PerCpuArray};
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp, xdp};
use aya::{Ebpf, EbpfLoader};
use etherparse::PacketBuilder;
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, setns};
use nix::unistd::Pid;

use super::subject::{CLIENT, CLIENT_MAC, GENERATOR_CORE, OUR_MAC, VIP};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/blast.bpf.o"));

/// Our end of the pair.
pub(super) const INTERFACE: &str = "s0";
/// How namespaces are called: this, the process, the side.
const PREFIX: &str = "sluice-bench-";
/// Live frames of one system call: some milliseconds.
const FRAMES_PER_CALL: u32 = 1 << 14;
/// Frames that are under way at once: the kernel's own bound of a live run.
const BATCH: u32 = 64;

/// The pair, with the sink attached.
pub(super) struct Wire {
    namespaces: Namespaces,
    programs: Ebpf,
    frame: Vec<u8>,
}

impl Wire {
    /// A pair for datagrams of 60 octets to the VIP.
    pub(super) fn new(flows: u32) -> Result<Self> {
        Self::with(Load { frame: frame()?, flows, digits: 0 }, true)
    }

    /// Afterwards this thread is in our namespace: what it opens and whom it starts belong there. Without a `sink` what
    /// comes back reaches the kernel of the other end.
    pub(super) fn with(load: Load, sink: bool) -> Result<Self> {
        let Load { frame, flows, digits } = load;
        ensure!(flows.is_power_of_two() && flows <= 32_768, "--flows {flows}: a power of two up to 32768 is needed");
        ensure!(nix::unistd::geteuid().is_root(), "this makes network namespaces: run it as root");
        let namespaces = Namespaces::new()?;
        enter(&namespaces.theirs)?;
        let (out, mask) = (index("c0")?, flows - 1);
        let mut loader = EbpfLoader::new();
        loader.override_global("OUT", &out, true).override_global("FLOWS_MASK", &mask, true);
        let mut programs = loader.override_global("DIGITS", &digits, true).load(OBJECT)?;
        program(&mut programs, "blast")?.load()?;
        if sink {
            let sink = program(&mut programs, "sink")?;
            sink.load()?;
            sink.attach("c0", xdp::XdpMode::Driver)?;
        }
        enter(&namespaces.ours)?;
        Ok(Self { namespaces, programs, frame })
    }

    /// Does something in the other end's namespace, on the generator's processor, in a thread of its own.
    pub(super) fn there<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                enter(&self.namespaces.theirs)?;
                pin(GENERATOR_CORE).context("this needs two processors")?;
                work()
            });
            thread.join().unwrap_or_else(|_| bail!("the client panicked"))
        })
    }

    /// Sends as fast as a core can while `work` goes on.
    pub(super) fn blast<T>(&self, work: impl FnOnce() -> T) -> Result<T> {
        let done = AtomicBool::new(false);
        let Some(aya::programs::Program::Xdp(program)) = self.programs.program("blast") else { bail!("no `blast`") };
        std::thread::scope(|scope| {
            let generator = scope.spawn(|| {
                // Interfaces are looked up in the caller's namespace.
                enter(&self.namespaces.theirs)?;
                pin(GENERATOR_CORE).context("this needs two processors")?;
                while !done.load(Ordering::Relaxed) {
                    let attrs = TestRunAttrs::new().xdp_live_frames(BATCH);
                    let data_in = Some(self.frame.as_slice());
                    program.test_run(TestRunOptions {
                        data_in,
                        repeat: FRAMES_PER_CALL,
                        attrs,
                        ..TestRunOptions::new()
                    })?;
                }
                anyhow::Ok(())
            });
            let result = work();
            done.store(true, Ordering::Relaxed);
            generator.join().unwrap_or_else(|_| bail!("the generator panicked"))?;
            Ok(result)
        })
    }

    /// Packets that were sent, and that came back, so far.
    pub(super) fn counts(&self) -> Result<[u64; 2]> {
        let map = self.programs.map("COUNTS").context("no map COUNTS")?;
        let map: PerCpuArray<&MapData, u64> = PerCpuArray::try_from(map)?;
        let sum = |what: u32| anyhow::Ok(map.get(&what, 0)?.iter().sum::<u64>());
        // In the order of blast.bpf.c.
        Ok([sum(0)?, sum(1)?])
    }
}

/// What is sent.
pub(super) struct Load {
    /// The frame.
    pub frame: Vec<u8>,
    /// Source ports, a power of two.
    pub flows: u32,
    /// Offset of five decimal digits that are others in every frame, below 10,000; 0 without.
    pub digits: u32,
}

/// Both sides, joined.
struct Namespaces {
    ours: String,
    theirs: String,
}

impl Namespaces {
    fn new() -> Result<Self> {
        sweep();
        let name = |side: &str| format!("{PREFIX}{}-{side}", std::process::id());
        let both = Self { ours: name("ours"), theirs: name("theirs") };
        let (ours, theirs) = (&both.ours, &both.theirs);
        let one = "numtxqueues 1 numrxqueues 1";
        ip(&format!("netns add {ours}"))?;
        ip(&format!("netns add {theirs}"))?;
        ip(&format!("link add {INTERFACE} netns {ours} {one} type veth peer name c0 netns {theirs} {one}"))?;
        ip(&format!("-n {ours} link set {INTERFACE} address {OUR_MAC} up"))?;
        ip(&format!("-n {theirs} link set c0 address {CLIENT_MAC} up"))?;
        ip(&format!("-n {theirs} addr add {CLIENT}/16 dev c0"))?;
        // A local stack's checksums would be left to a card.
        ip(&format!("netns exec {theirs} ethtool -K c0 tx off"))?;
        // Sluice refuses a card that takes tags out of frames.
        ip(&format!("netns exec {ours} ethtool -K {INTERFACE} rxvlan off"))?;
        Ok(both)
    }
}

/// Removes what benches that were killed (Ctrl-C among others) have left.
fn sweep() {
    let names = fs::read_dir("/run/netns").into_iter().flatten().flatten().map(|entry| entry.file_name());
    for name in names.filter_map(|name| name.into_string().ok()) {
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // Whoever else removed it was first.
            let _ = ip(&format!("netns del {name}"));
        }
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in [&self.ours, &self.theirs] {
            // Nothing else can be done about it here; `ip netns` lists what is left.
            let _ = ip(&format!("netns del {name}"));
        }
    }
}

fn program<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    Ok(object.program_mut(name).with_context(|| format!("no program `{name}`"))?.try_into()?)
}

/// A datagram of 60 octets to the VIP.
fn frame() -> Result<Vec<u8>> {
    let mut frame = Vec::new();
    let udp =
        PacketBuilder::ethernet2(CLIENT_MAC.0, OUR_MAC.0).ipv4(CLIENT.octets(), VIP.0.octets(), 64).udp(1024, VIP.1);
    udp.write(&mut frame, &[0; 18])?;
    // No checksum: the source port is another one in every frame.
    frame.get_mut(40..42).context("a short frame")?.fill(0);
    Ok(frame)
}

fn enter(namespace: &str) -> Result<()> {
    let file = File::open(format!("/run/netns/{namespace}"))?;
    Ok(setns(file, CloneFlags::CLONE_NEWNET)?)
}

/// Keeps this thread on a processor.
pub(super) fn pin(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &cores)?)
}

/// An interface's index in this thread's namespace, where /sys shows another one's.
fn index(interface: &str) -> Result<u32> {
    let said = Command::new("ip").args(["-o", "link", "show", "dev", interface]).output()?.stdout;
    let said = String::from_utf8_lossy(&said).into_owned();
    said.split(':').next().and_then(|n| n.parse().ok()).with_context(|| format!("no interface {interface}: {said}"))
}

pub(super) fn ip(line: &str) -> Result<()> {
    let output = Command::new("ip").args(line.split(' ')).output().context("cannot start ip (package iproute2)")?;
    ensure!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// CPU time of a thread so far, nanoseconds.
pub(super) fn cpu_ns_of(thread: &str) -> Result<u64> {
    for task in fs::read_dir("/proc/self/task")?.flatten() {
        let read = |name: &str| fs::read_to_string(task.path().join(name));
        if read("comm").is_ok_and(|comm| comm.trim() == thread) {
            let ns = read("schedstat")?.split(' ').next().and_then(|ns| ns.parse().ok());
            return ns.context("no schedstat in this kernel");
        }
    }
    bail!("the thread {thread} has ended")
}
