//! Fields as Mesos writes them, in either of its two ways: a text or `{"value": text}`, a list of labels bare or inside an
//! object, ports as text or as ranges. A field that is null, absent or of another kind is not there.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::desire::vip_label;
use crate::rejected::Rejected;
use crate::view::Labels;

/// Longest id, octets: Mesos itself refuses ids above 255 characters.
pub(super) const ID_OCTETS: usize = 1024;
/// Longest name, host or label key, octets. DNS takes 253 of a name.
pub(super) const TEXT_OCTETS: usize = 4096;
/// Most elements read of any list inside one object.
pub(super) const LIST_MAX: usize = 4096;

/// Longest object (a task, an agent, a framework without its tasks, an event), octets: read, it takes many times as much.
pub(super) const OBJECT_OCTETS: usize = 4 << 20;

/// Why an object is not taken.
pub(super) type Refused = String;

/// The members of an object, unread; none where there is no object.
pub(super) fn members(raw: &RawValue) -> BTreeMap<Cow<'_, str>, &RawValue> {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

/// The elements of a list, unread; none where there is no list.
pub(super) fn elements(raw: &RawValue) -> Vec<&RawValue> {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

/// A whole object.
pub(super) fn object(raw: &RawValue) -> Result<Value, Refused> {
    if raw.get().len() > OBJECT_OCTETS {
        return Err(format!("longer than {OBJECT_OCTETS} octets"));
    }
    serde_json::from_str(raw.get()).map_err(|e| e.to_string())
}

/// The id of an object of which the rest is not taken.
pub(super) fn id_alone(raw: &RawValue, fields: [&str; 2]) -> Option<String> {
    let all = members(raw);
    let said = fields.iter().find_map(|field| all.get(*field)).filter(|raw| raw.get().len() <= 2 * ID_OCTETS)?;
    let said = serde_json::json!({ fields[0]: serde_json::from_str::<Value>(said.get()).ok()? });
    id(&said, fields).ok().flatten().map(str::to_owned)
}

/// The elements of a list; none where there is no list.
pub(super) fn list(value: &Value) -> &[Value] {
    let all = value.as_array().map_or(&[][..], Vec::as_slice);
    all.get(..LIST_MAX).unwrap_or(all)
}

/// A text that is not too long; empty where there is none.
pub(super) fn text<'a>(of: &'a Value, field: &str) -> Result<&'a str, Refused> {
    let text = of[field].as_str().unwrap_or_default();
    if text.len() > TEXT_OCTETS { Err(format!("{field} is longer than {TEXT_OCTETS} octets")) } else { Ok(text) }
}

/// An id, bare or as `{"value": ..}`, under one of these names. `None` where there is none.
pub(super) fn id<'a>(of: &'a Value, fields: [&str; 2]) -> Result<Option<&'a str>, Refused> {
    let said = fields.iter().map(|field| &of[*field]).find(|v| !v.is_null());
    let found = said.and_then(|v| v.as_str().or_else(|| v["value"].as_str())).filter(|id| !id.is_empty());
    match found {
        Some(id) if id.len() > ID_OCTETS => Err(format!("{} is longer than {ID_OCTETS} octets", fields[0])),
        found => Ok(found),
    }
}

/// Labels by key, bare (`/state`) or as `{"labels": [..]}`. Of two with one key the second is kept under a key of its own
/// where it is a VIP label, which is one as well because any key is that begins like one.
pub(super) fn labels(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let list = if value.is_array() { list(value) } else { list(&value["labels"]) };
    list.iter().filter_map(|label| Some((label["key"].as_str()?, &label["value"])))
}

/// The VIP and `SLUICE_` labels among them. What cannot be one is listed as `owner`'s.
pub(super) fn own_labels(owner: &str, value: &Value, rejected: &mut Vec<Rejected>) -> Arc<Labels> {
    let mut kept = Labels::new();
    for (key, value) in labels(value) {
        let begins = key.get(..3).is_some_and(|k| k.eq_ignore_ascii_case("vip"));
        if !begins && !key.starts_with("SLUICE_") {
            continue;
        }
        match value.as_str() {
            Some(_) if key.len() > TEXT_OCTETS => {
                let reason = format!("a label's key has at most {TEXT_OCTETS} octets");
                rejected.push(Rejected::new(owner, key, "", reason));
            }
            Some(text) if text.len() <= vip_label::VALUE_OCTETS => keep(&mut kept, key, text),
            Some(text) => rejected.push(Rejected::new(owner, key, text, vip_label::NotAVip::TooLong.to_string())),
            // Mesos writes a label without a value as a key alone.
            None if value.is_null() && !begins => {}
            None => rejected.push(Rejected::new(owner, key, &value.to_string(), "a label's value must be text")),
        }
    }
    Arc::new(kept)
}

fn keep(labels: &mut Labels, key: &str, value: &str) {
    let mut key = key.to_owned();
    while labels.get(&key).is_some_and(|there| there != value) && vip_label::is_vip_key(&key) {
        key.push('+');
    }
    labels.entry(key).or_insert_with(|| value.to_owned());
}

/// The first label of a key, as text.
pub(super) fn label<'a>(value: &'a Value, wanted: &str) -> Option<&'a str> {
    labels(value).find(|(key, _)| *key == wanted).and_then(|(_, value)| value.as_str())
}

/// A number that may be a port: 0 is not chosen yet, what cannot be a port is `None`.
pub(super) fn port(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|n| u16::try_from(n).ok())
}

/// Addresses of a network, in the list or alone (before Mesos 0.26).
pub(super) fn addresses(network: &Value) -> Vec<IpAddr> {
    let address = |v: &Value| v["ip_address"].as_str().and_then(|ip| ip.parse().ok());
    let many: Vec<IpAddr> = list(&network["ip_addresses"]).iter().filter_map(address).collect();
    if list(&network["ip_addresses"]).is_empty() { address(network).into_iter().collect() } else { many }
}

/// The ranges of the resource `ports`: text such as `[31000-31001, 32000-32000]` in `/state`, ranges in the operator API.
pub(super) fn port_ranges(resources: &Value) -> Vec<RangeInclusive<u16>> {
    if let Some(text) = resources["ports"].as_str() {
        let inner = text.trim().trim_start_matches('[').trim_end_matches(']');
        let range = |part: &str| {
            let (begin, end) = part.trim().split_once('-')?;
            Some(begin.trim().parse().ok()?..=end.trim().parse().ok()?)
        };
        return inner.split(',').take(LIST_MAX).filter_map(range).collect();
    }
    let ports = list(resources).iter().filter(|r| r["name"] == "ports");
    let ranges = ports.flat_map(|r| list(&r["ranges"]["range"]));
    ranges.filter_map(|r| Some(port(&r["begin"])?..=port(&r["end"])?)).take(LIST_MAX).collect()
}

/// An agent's attributes as text: a map in `/state`, typed values in the operator API.
pub(super) fn attributes(value: &Value) -> BTreeMap<String, String> {
    let mapped = value.as_object().into_iter().flatten().filter_map(|(k, v)| Some((k.clone(), plain(v)?)));
    let typed = list(value).iter().filter_map(|a| {
        let text = a["text"]["value"].as_str().map(str::to_owned).or_else(|| plain(&a["scalar"]["value"]))?;
        Some((a["name"].as_str()?.to_owned(), text))
    });
    let short = |(k, v): &(String, String)| k.len() <= TEXT_OCTETS && v.len() <= TEXT_OCTETS;
    mapped.chain(typed).filter(short).take(LIST_MAX).collect()
}

fn plain(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned).or_else(|| value.is_number().then(|| value.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ports_are_text_or_ranges() {
        assert_eq!(port_ranges(&json!({"ports": "[31000-31001, 32000-32000]"})), [31000..=31001, 32000..=32000]);
        assert_eq!(port_ranges(&json!({"ports": "[]"})), []);
        assert_eq!(port_ranges(&json!({"ports": "[1-x, 70000-70001, 5-6"})), [5..=6]);
        let ranges = json!([{"name": "cpus", "scalar": {"value": 1}},
            {"name": "ports", "ranges": {"range": [{"begin": 1, "end": 2}, {"begin": null, "end": 3}, 7]}}]);
        assert_eq!(port_ranges(&ranges), [1..=2]);
        assert_eq!(port_ranges(&Value::Null), []);
    }

    #[test]
    fn labels_stand_bare_or_in_an_object_and_two_of_one_vip_key_are_two() {
        let mut rejected = Vec::new();
        let bare = json!([{"key": "VIP_0", "value": "/a:80"}, {"key": "VIP_0", "value": "/b:80"}, {"key": "x", "value": "y"},
            {"key": "SLUICE_MODE"}, {"key": null, "value": "z"}, 7, {"key": "VIP_1", "value": 3}]);
        let expected = [("VIP_0", "/a:80"), ("VIP_0+", "/b:80")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(*own_labels("t", &bare, &mut rejected), Labels::from(expected.clone()));
        assert_eq!(*own_labels("t", &json!({ "labels": bare }), &mut rejected), Labels::from(expected));
        assert_eq!(rejected.len(), 2, "{rejected:?}");
        assert_eq!(rejected[0].value, "3");
    }

    #[test]
    fn an_address_stands_in_the_list_or_alone() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let list = json!({"ip_addresses": [{"ip_address": "9.0.0.2"}, {"ip_address": "x"}, {"protocol": "IPv6"}], "ip_address": "1.1.1.1"});
        assert_eq!(addresses(&list), [ip("9.0.0.2")]);
        assert_eq!(addresses(&json!({"ip_address": "9.0.0.3", "ip_addresses": null})), [ip("9.0.0.3")]);
        assert_eq!(addresses(&Value::Null), [] as [IpAddr; 0]);
    }

    #[test]
    fn attributes_are_a_map_or_typed() {
        let expected = [("a", "b"), ("n", "2.5")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(attributes(&json!({"a": "b", "n": 2.5, "odd": {}})), BTreeMap::from(expected.clone()));
        let typed =
            json!([{"name": "a", "text": {"value": "b"}}, {"name": "n", "scalar": {"value": 2.5}}, {"name": "r"}]);
        assert_eq!(attributes(&typed), BTreeMap::from(expected));
    }
}
