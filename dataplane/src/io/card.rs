//! What must be true of an interface before Sluice takes it, read by ioctl and changed by nobody here.
//!
//! Contract: after [`Card::check`] every queue that can receive has a worker, every worker's queue exists, and no tag
//! is taken out of a frame behind the program's back.
#![allow(unsafe_code, reason = "ioctl has no safe binding for ethtool's structures")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketType, socket};

/// ethtool.h.
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_GRXFHINDIR: u32 = 0x38;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETH_FLAG_RXVLAN: u32 = 1 << 8;

/// Why an interface cannot be used as configured.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CardError {
    /// ENODEV.
    #[error("interface {interface} does not exist: `ip link` lists those that do")]
    NoInterface {
        /// Its name.
        interface: String,
    },
    /// A configured queue beyond the last.
    #[error(
        "{interface} has {count} receive queue(s), numbered from 0, but queue {queue} is configured: change `queues`, or run `{command}`"
    )]
    NoQueue {
        /// Interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// Queues that there are.
        count: u32,
        /// What gives it enough of them.
        command: String,
    },
    /// A queue that receives and that no worker polls.
    #[error(
        "{interface} also receives on queue(s) {queues:?}, which no worker polls: add them to `queues`, or run `{command}`"
    )]
    Unpolled {
        /// Interface.
        interface: String,
        /// The queues.
        queues: Vec<u32>,
        /// What leaves only the configured ones.
        command: String,
    },
    /// rxvlan offload.
    #[error(
        "{interface} takes VLAN tags out of frames before Sluice sees them: run `ethtool -K {interface} rxvlan off`"
    )]
    RxVlan {
        /// Interface.
        interface: String,
    },
    /// The kernel did not say.
    #[error("{interface}: {what}: {reason}")]
    Unreadable {
        /// Interface.
        interface: String,
        /// What was asked.
        what: &'static str,
        /// What the kernel said.
        reason: String,
    },
}

/// An interface as it is now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Card {
    /// Its name.
    pub interface: String,
    /// Largest IP packet.
    pub mtu: usize,
    /// Receive queues.
    pub queues: u32,
    /// Whether they are set as `combined` channels.
    pub combined: bool,
    /// Queues that the RSS table spreads packets over, sorted; `None` where the driver has none to read.
    pub spread: Option<Vec<u32>>,
    /// Whether rxvlan offload is on; `None` where the driver does not say.
    pub rx_vlan: Option<bool>,
}

impl Card {
    /// Reads `interface` in this network namespace.
    ///
    /// # Errors
    /// No such interface.
    pub fn read(interface: &str) -> Result<Self, CardError> {
        let ask = Ask::new(interface)?;
        let mtu = ask.mtu()?;
        let (queues, combined) = ask.channels()?;
        let (spread, rx_vlan) = (ask.spread(), ask.rx_vlan());
        Ok(Self { interface: interface.to_owned(), mtu, queues, combined, spread, rx_vlan })
    }

    /// Whether `queues` are exactly those that receive.
    ///
    /// # Errors
    /// With the `ethtool` command that mends it.
    pub fn check(&self, queues: &[u32]) -> Result<(), CardError> {
        let interface = || self.interface.clone();
        if let Some(queue) = queues.iter().copied().find(|q| *q >= self.queues) {
            let enough = queues.iter().max().map_or(1, |q| q + 1);
            return Err(CardError::NoQueue {
                interface: interface(),
                queue,
                count: self.queues,
                command: self.command(enough),
            });
        }
        let receiving = self.spread.clone().unwrap_or_else(|| (0..self.queues).collect());
        let unpolled: Vec<u32> = receiving.into_iter().filter(|q| !queues.contains(q)).collect();
        if !unpolled.is_empty() {
            let command = self.command(queues.len() as u32);
            return Err(CardError::Unpolled { interface: interface(), queues: unpolled, command });
        }
        Ok(())
    }

    /// Whether frames arrive with their tags.
    ///
    /// # Errors
    /// With the `ethtool` command that mends it.
    pub fn check_tags(&self) -> Result<(), CardError> {
        match self.rx_vlan {
            Some(true) => Err(CardError::RxVlan { interface: self.interface.clone() }),
            Some(false) | None => Ok(()),
        }
    }

    fn command(&self, count: u32) -> String {
        let kind = if self.combined { "combined" } else { "rx" };
        format!("ethtool -L {} {kind} {count}", self.interface)
    }
}

struct Ask<'a> {
    interface: &'a str,
    socket: OwnedFd,
}

impl<'a> Ask<'a> {
    fn new(interface: &'a str) -> Result<Self, CardError> {
        let unreadable =
            |reason: String| CardError::Unreadable { interface: interface.to_owned(), what: "socket", reason };
        let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).map_err(|e| unreadable(e.to_string()))?;
        Ok(Self { interface, socket })
    }

    fn mtu(&self) -> Result<usize, CardError> {
        let mut request = self.request()?;
        // SAFETY: `request` is a whole ifreq with a terminated name; SIOCGIFMTU writes ifru_mtu.
        let mtu = unsafe {
            if libc::ioctl(self.socket.as_raw_fd(), libc::SIOCGIFMTU, &raw mut request) != 0 {
                return Err(self.failed("MTU", &io::Error::last_os_error()));
            }
            request.ifr_ifru.ifru_mtu
        };
        Ok(usize::try_from(mtu).unwrap_or(0))
    }

    /// Receive queues, and whether they are combined channels. A driver that does not say has one.
    fn channels(&self) -> Result<(u32, bool), CardError> {
        // struct ethtool_channels: cmd, four maxima (rx, tx, other, combined), four counts in the same order.
        let mut words = [ETHTOOL_GCHANNELS, 0, 0, 0, 0, 0, 0, 0, 0];
        match self.ethtool(&mut words) {
            Ok(()) => Ok(((words[5] + words[8]).max(1), words[4] > 0)),
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok((1, true)),
            Err(error) => Err(self.failed("channels", &error)),
        }
    }

    fn spread(&self) -> Option<Vec<u32>> {
        // struct ethtool_rxfh_indir: cmd, size, then the table; size 0 asks for the size.
        let mut size = [ETHTOOL_GRXFHINDIR, 0];
        self.ethtool(&mut size).ok()?;
        let mut words = vec![0; 2 + size[1] as usize];
        words[..2].copy_from_slice(&[ETHTOOL_GRXFHINDIR, size[1]]);
        self.ethtool(&mut words).ok()?;
        let mut queues = words.split_off(2);
        queues.sort_unstable();
        queues.dedup();
        (!queues.is_empty()).then_some(queues)
    }

    fn rx_vlan(&self) -> Option<bool> {
        let mut words = [ETHTOOL_GFLAGS, 0];
        self.ethtool(&mut words).ok()?;
        Some(words[1] & ETH_FLAG_RXVLAN != 0)
    }

    fn ethtool(&self, words: &mut [u32]) -> io::Result<()> {
        let mut request = self.request().map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
        request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
        // SAFETY: `request` is a whole ifreq with a terminated name, and `words` is the structure that its command
        // (its first word) means, with the room that it claims.
        match unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn request(&self) -> Result<libc::ifreq, CardError> {
        let name = self.interface.as_bytes();
        if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains(&0) {
            return Err(CardError::NoInterface { interface: self.interface.to_owned() });
        }
        // SAFETY: an ifreq of zeros is a valid one.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name) {
            *to = *from as libc::c_char;
        }
        Ok(request)
    }

    fn failed(&self, what: &'static str, error: &io::Error) -> CardError {
        let interface = self.interface.to_owned();
        match error.raw_os_error() {
            Some(libc::ENODEV | libc::ENXIO) => CardError::NoInterface { interface },
            _ => CardError::Unreadable { interface, what, reason: error.to_string() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(queues: u32, spread: Option<Vec<u32>>) -> Card {
        Card { interface: "eth0".to_owned(), mtu: 1500, queues, combined: true, spread, rx_vlan: Some(false) }
    }

    #[test]
    fn a_queue_that_is_not_there_is_refused_with_the_command_that_makes_it() {
        assert_eq!(
            card(2, None).check(&[0, 1, 3]).unwrap_err().to_string(),
            "eth0 has 2 receive queue(s), numbered from 0, but queue 3 is configured: change `queues`, \
             or run `ethtool -L eth0 combined 4`"
        );
    }

    #[test]
    fn a_queue_that_receives_and_is_not_polled_is_refused() {
        assert_eq!(
            card(4, None).check(&[0, 1]).unwrap_err().to_string(),
            "eth0 also receives on queue(s) [2, 3], which no worker polls: add them to `queues`, \
             or run `ethtool -L eth0 combined 2`"
        );
        assert_eq!(card(4, Some(vec![0, 1])).check(&[0, 1]), Ok(()));
        assert_eq!(card(2, None).check(&[1, 0]), Ok(()));
    }

    #[test]
    fn stripped_tags_are_refused() {
        let stripping = Card { rx_vlan: Some(true), ..card(1, None) };
        assert!(stripping.check_tags().unwrap_err().to_string().ends_with("`ethtool -K eth0 rxvlan off`"));
    }

    #[test]
    fn the_loopback_can_be_read_and_a_missing_interface_is_named() {
        assert_eq!(Card::read("lo").unwrap().queues, 1);
        let missing = CardError::NoInterface { interface: "nosuch0".to_owned() };
        assert_eq!(Card::read("nosuch0"), Err(missing));
        assert!(matches!(Card::read("a-name-that-is-far-too-long"), Err(CardError::NoInterface { .. })));
    }
}
