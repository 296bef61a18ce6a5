//! The pcap port: packets come from a capture, at the capture's times, and what is transmitted goes into one.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use pcap_file::{DataLink, PcapError, TsResolution};

use super::{Frames, Port};
use crate::frame::Pool;
use crate::time::Nanos;

/// A packet with its time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Captured {
    /// Nanoseconds since 1970.
    pub at: Nanos,
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
}

/// Why a capture cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file system's word.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not a capture, or a broken one.
    #[error("{path}: packet {packet}: {source}; a pcap or pcapng file with Ethernet packets is needed")]
    Format {
        /// Which file.
        path: PathBuf,
        /// Packets read before.
        packet: usize,
        /// Why.
        source: PcapError,
    },
    /// Another link type.
    #[error("{path}: link type {link:?}; only Ethernet captures can be replayed")]
    LinkType {
        /// Which file.
        path: PathBuf,
        /// What it has.
        link: DataLink,
    },
}

/// Reads a pcap or pcapng file.
///
/// # Errors
/// When it cannot be read, is cut, or holds something else than Ethernet.
pub fn read(path: &Path) -> Result<Vec<Captured>, CaptureError> {
    let file = File::open(path).map_err(|source| CaptureError::File { path: path.into(), source })?;
    let mut reader = BufReader::new(file);
    let mut magic = [0; 4];
    reader.read_exact(&mut magic).map_err(|source| CaptureError::File { path: path.into(), source })?;
    let whole = std::io::Cursor::new(magic).chain(reader);
    match magic {
        [0x0a, 0x0d, 0x0d, 0x0a] => read_pcapng(path, whole),
        _ => read_pcap(path, whole),
    }
}

fn read_pcap(path: &Path, from: impl Read) -> Result<Vec<Captured>, CaptureError> {
    let mut packets = Vec::new();
    let bad = |packet, source| CaptureError::Format { path: path.into(), packet, source };
    let mut reader = PcapReader::new(from).map_err(|e| bad(0, e))?;
    ethernet(path, reader.header().datalink)?;
    while let Some(packet) = reader.next_packet() {
        let packet = packet.map_err(|e| bad(packets.len(), e))?;
        packets.push(captured(packet.timestamp, &packet.data));
    }
    Ok(packets)
}

fn read_pcapng(path: &Path, from: impl Read) -> Result<Vec<Captured>, CaptureError> {
    let mut packets: Vec<Captured> = Vec::new();
    let mut units = Vec::new();
    let bad = |packet, source| CaptureError::Format { path: path.into(), packet, source };
    let mut reader = PcapNgReader::new(from).map_err(|e| bad(0, e))?;
    while let Some(block) = reader.next_block() {
        match block.map_err(|e| bad(packets.len(), e))? {
            Block::InterfaceDescription(interface) => {
                ethernet(path, interface.linktype)?;
                units.push(Unit::of(&interface.options));
            }
            Block::EnhancedPacket(packet) => {
                let unit = units.get(packet.interface_id as usize).copied().unwrap_or(MICROSECONDS);
                let at = unit.nanos(packet.timestamp.as_nanos());
                packets.push(captured(Duration::from_nanos(at), &packet.data));
            }
            // Simple packets have no time: the one before is the best known.
            Block::SimplePacket(packet) => {
                let at = packets.last().map_or_else(Nanos::default, |p| p.at);
                packets.push(Captured { at, bytes: packet.data.into_owned() });
            }
            // Interfaces count from 0 in every section.
            Block::SectionHeader(_) => units.clear(),
            Block::Packet(_)
            | Block::NameResolution(_)
            | Block::InterfaceStatistics(_)
            | Block::SystemdJournalExport(_)
            | Block::Unknown(_) => {}
        }
    }
    Ok(packets)
}

/// What an interface's raw times count, and what is added to them: `if_tsresol` and `if_tsoffset` of pcapng.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Unit {
    /// A power of ten to divide seconds by, or with the highest bit of two.
    resolution: u8,
    /// Seconds, which may be negative.
    offset: i64,
}

/// What an interface without options has.
const MICROSECONDS: Unit = Unit { resolution: 6, offset: 0 };

impl Unit {
    /// The unit that an interface's options give: pcap-file hands on the raw number, whatever it counts.
    fn of(options: &[InterfaceDescriptionOption<'_>]) -> Self {
        let mut unit = MICROSECONDS;
        for option in options {
            if let InterfaceDescriptionOption::IfTsOffset(seconds) = option {
                unit.offset = seconds.cast_signed();
            }
            if let InterfaceDescriptionOption::IfTsResol(resolution) = option {
                unit.resolution = *resolution;
            }
        }
        unit
    }

    /// The time that a raw number stands for; what lies before or behind all times is the first or the last of them.
    fn nanos(self, raw: u128) -> u64 {
        const SECOND: u128 = 1_000_000_000;
        let power = u32::from(self.resolution & 0x7f);
        let nanos = match self.resolution & 0x80 {
            0 => raw.saturating_mul(SECOND) / 10u128.checked_pow(power).unwrap_or(u128::MAX),
            _ => raw.saturating_mul(SECOND) >> power,
        };
        let nanos = i128::try_from(nanos).unwrap_or(i128::MAX);
        let at = nanos.saturating_add(i128::from(self.offset) * SECOND.cast_signed());
        u64::try_from(at.max(0)).unwrap_or(u64::MAX)
    }
}

fn ethernet(path: &Path, link: DataLink) -> Result<(), CaptureError> {
    match link == DataLink::ETHERNET {
        true => Ok(()),
        false => Err(CaptureError::LinkType { path: path.into(), link }),
    }
}

fn captured(at: Duration, data: &[u8]) -> Captured {
    Captured { at: Nanos(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX)), bytes: data.to_vec() }
}

/// Writes a pcap file with nanosecond times.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, packets: &[Captured]) -> Result<(), CaptureError> {
    let file = File::create(path).map_err(|source| CaptureError::File { path: path.into(), source })?;
    let bad = |packet, source| CaptureError::Format { path: path.into(), packet, source };
    let header = PcapHeader { ts_resolution: TsResolution::NanoSecond, snaplen: 262_144, ..PcapHeader::default() };
    let mut writer = PcapWriter::with_header(BufWriter::new(file), header).map_err(|e| bad(0, e))?;
    for (number, packet) in packets.iter().enumerate() {
        let at = Duration::from_nanos(packet.at.0);
        let packet = PcapPacket::new(at, packet.bytes.len() as u32, &packet.bytes);
        writer.write_packet(&packet).map_err(|e| bad(number, e))?;
    }
    Ok(())
}

/// A port over captures.
#[derive(Debug, Default)]
pub struct PcapPort {
    incoming: VecDeque<Captured>,
    outgoing: Vec<Captured>,
    now: Nanos,
}

impl PcapPort {
    /// Adds a packet to be received when its time has come.
    pub fn add(&mut self, packet: Captured) {
        self.incoming.push_back(packet);
    }

    /// What was transmitted, with the times of the turns.
    #[must_use]
    pub fn sent(&self) -> &[Captured] {
        &self.outgoing
    }
}

impl Port for PcapPort {
    fn receive(&mut self, pool: &mut Pool, now: Nanos, into: &mut Frames) {
        self.now = now;
        while !into.is_full() && self.incoming.front().is_some_and(|p| p.at <= now) {
            // Longer than a frame, as a card would: cut to what fits, so that it is parsed, counted and dropped.
            let Some(packet) = self.incoming.front() else { break };
            let fits = packet.bytes.len().min(pool.packet_bytes());
            let Some(frame) = pool.take_copy(&packet.bytes[..fits]) else { break };
            into.push(frame);
            self.incoming.pop_front();
        }
    }

    fn transmit(&mut self, pool: &mut Pool, frames: &mut Frames) {
        for frame in frames.drain(..) {
            self.outgoing.push(Captured { at: self.now, bytes: pool.bytes(&frame).to_vec() });
            pool.recycle(frame);
        }
    }

    fn flush(&mut self, _pool: &mut Pool) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pcapng file with one packet at raw time 1,700,000,000 (low and high word swapped in the format).
    fn pcapng(resolution: Option<u8>, raw: u64) -> Vec<u8> {
        let block = |kind: u32, body: &[u8]| {
            let length = (body.len() as u32 + 12).to_le_bytes();
            [&kind.to_le_bytes()[..], &length, body, &length].concat()
        };
        let section = block(0x0a0d_0d0a, &[&0x1a2b_3c4du32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat());
        let mut interface = vec![1, 0, 0, 0, 0, 0, 4, 0];
        if let Some(resolution) = resolution {
            interface.extend([9, 0, 1, 0, resolution, 0, 0, 0, 0, 0, 0, 0]);
        }
        let mut packet = vec![0; 4];
        packet.extend(((raw >> 32) as u32).to_le_bytes());
        packet.extend((raw as u32).to_le_bytes());
        packet.extend([4, 0, 0, 0, 4, 0, 0, 0, 1, 2, 3, 4]);
        [section, block(1, &interface), block(6, &packet)].concat()
    }

    #[test]
    fn times_of_pcapng_are_read_in_the_interface_s_unit() {
        let path = std::env::temp_dir().join(format!("sluice-pcapng-{}", std::process::id()));
        for (resolution, raw) in [
            (None, 1_700_000_000_000_000),
            (Some(6), 1_700_000_000_000_000),
            (Some(9), 1_700_000_000_000_000_000),
            (Some(3), 1_700_000_000_000),
            (Some(0), 1_700_000_000),
            (Some(7), 17_000_000_000_000_000),
            (Some(0x80 | 10), 1_700_000_000 << 10),
        ] {
            std::fs::write(&path, pcapng(resolution, raw)).unwrap();
            let packets = read(&path).unwrap();
            assert_eq!(packets[0].at, Nanos::from_seconds(1_700_000_000), "resolution {resolution:?}");
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn times_out_of_reach_are_the_first_or_the_last() {
        let unit = |resolution, offset| Unit { resolution, offset };
        assert_eq!(unit(6, -1).nanos(3_000_000), 2_000_000_000);
        assert_eq!((unit(6, -9).nanos(1), unit(0, i64::MAX).nanos(u128::MAX)), (0, u64::MAX));
        assert_eq!((unit(0x7f, 0).nanos(u128::from(u64::MAX)), unit(0xff, 0).nanos(u128::from(u64::MAX))), (0, 0));
    }
}
