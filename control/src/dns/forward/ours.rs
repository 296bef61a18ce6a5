//! Our own names in what others say: nobody else tells anything about them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use hickory_proto::op::Message;
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::BinEncodable as _;
use sluice_dataplane::stage::dns::{Asker, Limit, Reply, answer};
use sluice_dataplane::tables::Tables;
use sluice_dataplane::wire::dns::{CLASS_IN, flag};

use crate::dns::Latest;

/// The tables of now: an answer that is remembered outlives those that it came with.
#[derive(Clone)]
pub(in crate::dns) struct Ours(pub(in crate::dns) Latest);

impl fmt::Debug for Ours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ours")
    }
}

impl Ours {
    /// As it is from now on.
    pub(super) fn now(&self) -> Now {
        Now((self.0)())
    }
}

/// One table, for all of an answer.
pub(super) struct Now(Option<Arc<Tables>>);

impl Now {
    /// Whether a zone of ours answers for this name.
    pub(super) fn have(&self, name: &Name) -> bool {
        let (Some(tables), Ok(wire)) = (&self.0, name.to_bytes()) else { return false };
        tables.zones.resolve(&wire).is_some()
    }

    /// What we say about it.
    pub(super) fn answer(&self, name: &Name, rtype: RecordType) -> Option<Message> {
        let tables = self.0.as_ref()?;
        let header = [0, 0, flag::RD, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let kind = [u16::from(rtype).to_be_bytes(), CLASS_IN.to_be_bytes()].concat();
        let mut buffer = [&header[..], &name.to_bytes().ok()?, &kind].concat();
        let len = buffer.len();
        buffer.resize(usize::from(u16::MAX), 0);
        // Who asks decides about cookies alone, and there is no EDNS here.
        let asker = Asker { ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED), unix_seconds: 0 };
        match answer(&mut buffer, len, &tables.zones, &tables.local.dns, &asker, Limit::Tcp) {
            Reply::Answer { len, .. } => Message::from_vec(buffer.get(..len)?).ok(),
            Reply::Drop(_) => None,
        }
    }
}
