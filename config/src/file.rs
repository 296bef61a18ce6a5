//! What the TOML says: every key, as written, with its place. Types are right (`shape` has removed what is
//! not), values are not checked; absent is `None`, so defaults are `check`'s.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

/// A value with its place.
pub(crate) type Value<T> = Option<Spanned<T>>;
/// An array whose elements have places too.
pub(crate) type List<T> = Option<Spanned<Vec<Spanned<T>>>>;
/// Repeated sections; the place is the header's.
pub(crate) type Sections<T> = Vec<Spanned<T>>;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct File {
    pub(crate) port: Sections<Port>,
    pub(crate) workers: Option<Spanned<Workers>>,
    pub(crate) neighbour: Sections<Neighbour>,
    pub(crate) route: Sections<Route>,
    pub(crate) marathon: Sections<Marathon>,
    pub(crate) mesos: Option<Spanned<Mesos>>,
    pub(crate) vip: Option<Spanned<Vip>>,
    pub(crate) service: Sections<Service>,
    pub(crate) snat: Option<Spanned<Snat>>,
    pub(crate) dns: Option<Spanned<Dns>>,
    pub(crate) overlay: Option<Spanned<Overlay>>,
    pub(crate) host: Option<Spanned<Host>>,
    pub(crate) api: Option<Spanned<Api>>,
    pub(crate) timeouts: Option<Spanned<Timeouts>>,
    pub(crate) health: Option<Spanned<Health>>,
    pub(crate) limits: Option<Spanned<Limits>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Port {
    pub(crate) name: Value<String>,
    pub(crate) interface: Value<String>,
    pub(crate) queues: List<i64>,
    pub(crate) mode: Value<String>,
    pub(crate) mac: Value<String>,
    pub(crate) addresses: List<String>,
    pub(crate) role: Value<String>,
    pub(crate) mtu: Value<i64>,
    pub(crate) arp: Value<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Workers {
    pub(crate) cores: List<i64>,
    pub(crate) idle: Value<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Neighbour {
    pub(crate) ip: Value<String>,
    pub(crate) mac: Value<String>,
    pub(crate) port: Value<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Route {
    pub(crate) prefix: Value<String>,
    pub(crate) via: Value<String>,
    pub(crate) port: Value<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Marathon {
    pub(crate) urls: List<String>,
    pub(crate) framework: Value<String>,
    pub(crate) user: Value<String>,
    pub(crate) password_file: Value<String>,
    pub(crate) token_file: Value<String>,
    pub(crate) ca_file: Value<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Mesos {
    pub(crate) masters: List<String>,
    pub(crate) zk: Value<String>,
    pub(crate) https: Value<bool>,
    pub(crate) refresh_seconds: Value<i64>,
    pub(crate) reregister_seconds: Value<i64>,
    pub(crate) state_octets: Value<i64>,
    pub(crate) user: Value<String>,
    pub(crate) password_file: Value<String>,
    pub(crate) token_file: Value<String>,
    pub(crate) ca_file: Value<String>,
    pub(crate) cert_file: Value<String>,
    pub(crate) key_file: Value<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Vip {
    pub(crate) named_min: Value<String>,
    pub(crate) named_max: Value<String>,
    pub(crate) named6_min: Value<String>,
    pub(crate) named6_max: Value<String>,
    pub(crate) mode: Value<String>,
    pub(crate) sharing: Value<String>,
    pub(crate) empty: Value<String>,
    pub(crate) second_chance: Value<bool>,
    pub(crate) store: Value<String>,
    pub(crate) hash_key_file: Value<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Service {
    pub(crate) vip: Value<String>,
    pub(crate) protocol: Value<String>,
    pub(crate) mode: Value<String>,
    pub(crate) empty: Value<String>,
    pub(crate) new_per_second: Value<i64>,
    pub(crate) sessions: Value<i64>,
    pub(crate) allow: List<String>,
    pub(crate) deny: List<String>,
    pub(crate) maglev_size: Value<i64>,
    pub(crate) health: Option<Spanned<ServiceHealth>>,
    pub(crate) backends: Sections<Backend>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ServiceHealth {
    pub(crate) kind: Value<String>,
    pub(crate) path: Value<String>,
    pub(crate) status: Value<String>,
    pub(crate) payload: Value<String>,
    pub(crate) interval_seconds: Value<i64>,
    pub(crate) timeout_seconds: Value<i64>,
    pub(crate) rise: Value<i64>,
    pub(crate) fall: Value<i64>,
    pub(crate) fail_open: Value<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Health {
    pub(crate) kind: Value<String>,
    pub(crate) path: Value<String>,
    pub(crate) status: Value<String>,
    pub(crate) payload: Value<String>,
    pub(crate) interval_seconds: Value<i64>,
    pub(crate) timeout_seconds: Value<i64>,
    pub(crate) rise: Value<i64>,
    pub(crate) fall: Value<i64>,
    pub(crate) fail_open: Value<bool>,
    pub(crate) parallel: Value<i64>,
    pub(crate) eject_failures: Value<i64>,
    pub(crate) eject_seconds: Value<i64>,
    pub(crate) eject_percent: Value<i64>,
    pub(crate) upgrade_percent: Value<i64>,
    pub(crate) probe_range: Value<String>,
    pub(crate) probe_range6: Value<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Backend {
    pub(crate) address: Value<String>,
    pub(crate) weight: Value<i64>,
    pub(crate) network: Value<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Snat {
    pub(crate) underlay: List<String>,
    pub(crate) overlay: List<String>,
    pub(crate) ports: Value<String>,
    pub(crate) quota: Value<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Dns {
    pub(crate) addresses: List<String>,
    pub(crate) domain: Value<String>,
    pub(crate) ttl: Value<i64>,
    pub(crate) dcos_ttl: Value<i64>,
    pub(crate) negative_ttl: Value<i64>,
    pub(crate) health: Value<String>,
    pub(crate) compat: Value<String>,
    pub(crate) ip_sources: List<String>,
    pub(crate) enforce_rfc952: Value<bool>,
    pub(crate) soa_mname: Value<String>,
    pub(crate) soa_rname: Value<String>,
    pub(crate) soa_refresh: Value<i64>,
    pub(crate) soa_retry: Value<i64>,
    pub(crate) soa_expire: Value<i64>,
    pub(crate) srv_weight: Value<i64>,
    pub(crate) truncate_bit: Value<bool>,
    pub(crate) recurse: Value<bool>,
    pub(crate) external: Value<bool>,
    pub(crate) resolvers: List<String>,
    /// A single resolver stands as a list of one.
    pub(crate) zone_resolvers: BTreeMap<Spanned<String>, Vec<Spanned<String>>>,
    pub(crate) enumeration: Value<bool>,
    pub(crate) cluster_id: Value<String>,
    pub(crate) trusted: List<String>,
    pub(crate) responses_per_second: Value<i64>,
    pub(crate) edns_max: Value<i64>,
    pub(crate) cookie_secret_file: Value<String>,
    pub(crate) nsid: Value<String>,
    pub(crate) zone: Sections<DnsZone>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DnsZone {
    pub(crate) name: Value<String>,
    pub(crate) file: Value<String>,
    pub(crate) records: List<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Overlay {
    pub(crate) vni: Value<i64>,
    pub(crate) port: Value<i64>,
    pub(crate) vtep: Value<String>,
    pub(crate) vtep_mac: Value<String>,
    pub(crate) underlay: Value<String>,
    pub(crate) mtu: Value<i64>,
    pub(crate) leases: Value<bool>,
    pub(crate) lease_store: Value<String>,
    pub(crate) token_file: Value<String>,
    pub(crate) gateway: Value<String>,
    pub(crate) network: Sections<Network>,
    pub(crate) agent: Sections<Agent>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Network {
    pub(crate) name: Value<String>,
    pub(crate) subnet: Value<String>,
    pub(crate) prefix: Value<i64>,
    pub(crate) own: Value<String>,
    pub(crate) subnet6: Value<String>,
    pub(crate) prefix6: Value<i64>,
    pub(crate) own6: Value<String>,
    pub(crate) vni: Value<i64>,
    pub(crate) port: Value<i64>,
    pub(crate) mtu: Value<i64>,
    pub(crate) mode: Value<String>,
    pub(crate) isolation: Value<String>,
    pub(crate) underlay_allow: List<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Agent {
    pub(crate) ip: Value<String>,
    pub(crate) vtep_ip: Value<String>,
    pub(crate) vtep_mac: Value<String>,
    pub(crate) subnets: BTreeMap<Spanned<String>, Spanned<String>>,
    pub(crate) subnets6: BTreeMap<Spanned<String>, Spanned<String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Host {
    pub(crate) enabled: Value<bool>,
    pub(crate) interface: Value<String>,
    pub(crate) peer: Value<String>,
    pub(crate) addresses: List<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Api {
    pub(crate) listen: Value<String>,
    pub(crate) socket: Value<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Timeouts {
    pub(crate) tcp_half_open: Value<i64>,
    pub(crate) tcp_established: Value<i64>,
    pub(crate) tcp_closing: Value<i64>,
    pub(crate) udp: Value<i64>,
    pub(crate) sctp: Value<i64>,
    pub(crate) snat_rest: Value<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    pub(crate) sessions: Value<i64>,
    pub(crate) masquerade: Value<i64>,
    pub(crate) frames: Value<i64>,
    pub(crate) rings: Value<i64>,
    pub(crate) handover: Value<i64>,
    pub(crate) services: Value<i64>,
    pub(crate) backends: Value<i64>,
    pub(crate) echo_per_second: Value<i64>,
    pub(crate) errors_per_second: Value<i64>,
    pub(crate) resets_per_second: Value<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    use serde::de::value::Error;
    use serde::de::{Deserializer, Error as _, Visitor};

    /// Says which fields serde was asked for, and gives nothing.
    struct Fields<'a>(&'a mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Fields<'_> {
        type Error = Error;

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Error> {
            *self.0 = fields;
            Err(Error::custom("only asking"))
        }

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
            Err(Error::custom("not a struct"))
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    fn fields<T: for<'de> Deserialize<'de>>() -> &'static [&'static str] {
        let mut fields: &'static [&'static str] = &["never asked"];
        assert!(T::deserialize(Fields(&mut fields)).is_err());
        fields
    }

    #[test]
    fn the_schema_has_the_keys_of_these_types_and_no_other() {
        let types = [
            ("", fields::<File>()),
            ("port", fields::<Port>()),
            ("workers", fields::<Workers>()),
            ("neighbour", fields::<Neighbour>()),
            ("route", fields::<Route>()),
            ("marathon", fields::<Marathon>()),
            ("mesos", fields::<Mesos>()),
            ("vip", fields::<Vip>()),
            ("service", fields::<Service>()),
            ("service.health", fields::<ServiceHealth>()),
            ("service.backends", fields::<Backend>()),
            ("snat", fields::<Snat>()),
            ("dns", fields::<Dns>()),
            ("dns.zone", fields::<DnsZone>()),
            ("overlay", fields::<Overlay>()),
            ("overlay.network", fields::<Network>()),
            ("overlay.agent", fields::<Agent>()),
            ("host", fields::<Host>()),
            ("api", fields::<Api>()),
            ("timeouts", fields::<Timeouts>()),
            ("health", fields::<Health>()),
            ("limits", fields::<Limits>()),
        ];
        for (path, fields) in types {
            let section = schema::section(path).unwrap();
            let keys: Vec<_> = section.keys.iter().map(|key| key.name).collect();
            assert_eq!(keys, fields, "{path}");
        }
        // The top level is not among the sections.
        assert_eq!(types.len(), schema::SECTIONS.len() + 1);
    }
}
