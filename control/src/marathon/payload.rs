//! Marathon's answers read into a [`Listing`], old forms (before 1.5) and new.
//!
//! An answer that is cut, empty or not JSON, or that has no list of apps, is an error and gives nothing: whoever asked
//! keeps what it had. Inside a whole answer one bad app, task, port or label spoils nothing beside it: each is read on
//! its own and, where it cannot be, listed in [`Listing::rejected`]. Octets that are not UTF-8 and halves of surrogate
//! pairs are read as U+FFFD, so they spoil no more than the text that they stand in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::desire::own_labels::{self, GROUPS};
use crate::desire::vip_label;
use crate::rejected::{self, Rejected};
use crate::view::{Labels, Listing};

use super::text::readable;
use super::{app, pod};

/// Longest answer that is read when [`Settings`](super::shell::Settings) do not say otherwise, octets: some 30,000 tasks.
pub const BODY_OCTETS: usize = 64 << 20;
/// Most rejected things kept of one listing.
const REJECTED_MAX: usize = 10_000;

/// An answer that says nothing.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// Cut, empty, or something else altogether.
    #[error("{what}: not the JSON that Marathon sends: {source}")]
    NotJson {
        /// Which answer.
        what: &'static str,
        /// The parser's own words.
        source: serde_json::Error,
    },
    /// A pods answer that is neither a list nor a pod.
    #[error("/v2/pods::status: neither a list of pods nor one pod")]
    NotPods,
}

/// The answers that make up one listing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answers<'a> {
    /// `/v2/apps?embed=apps.tasks`.
    pub apps: &'a [u8],
    /// `/v2/pods::status`, where this Marathon has pods; one pod's status will do.
    pub pods: Option<&'a [u8]>,
    /// `/v2/info`.
    pub info: Option<&'a [u8]>,
    /// `/v2/tasks`, for a Marathon that does not embed them.
    pub tasks: Option<&'a [u8]>,
}

#[derive(Deserialize)]
struct Apps<'a> {
    #[serde(borrow)]
    apps: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Tasks<'a> {
    #[serde(borrow)]
    tasks: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct TaskOwner {
    #[serde(rename = "appId")]
    app_id: String,
}

/// Tasks that came on their own, by app.
pub(super) type LooseTasks<'a> = BTreeMap<String, Vec<&'a RawValue>>;

/// Reads one Marathon's answers.
///
/// # Errors
/// When an answer says nothing at all.
pub fn listing(answers: Answers<'_>) -> Result<Listing, PayloadError> {
    let (whole_apps, whole_tasks) = (readable(answers.apps), answers.tasks.map(readable));
    let (whole_pods, whole_info) = (answers.pods.map(readable), answers.info.map(readable));
    let apps: Apps<'_> = json("/v2/apps", &whole_apps)?;
    let loose = whole_tasks.as_deref().map(loose_tasks).transpose()?.unwrap_or_default();
    let mut out = Listing::default();
    for raw in apps.apps {
        app::read(raw, &loose, &mut out);
    }
    for raw in whole_pods.as_deref().map(pods).transpose()?.unwrap_or_default() {
        pod::read(raw, &mut out);
    }
    if let Some(info) = &whole_info {
        read_info(&json("/v2/info", info)?, &mut out);
    }
    out.tasks.sort();
    out.idle.sort();
    out.rejected.sort();
    out.rejected.dedup();
    out.rejected.truncate(REJECTED_MAX);
    Ok(out)
}

fn json<'a, T: Deserialize<'a>>(what: &'static str, body: &'a str) -> Result<T, PayloadError> {
    serde_json::from_str(body).map_err(|source| PayloadError::NotJson { what, source })
}

fn loose_tasks(body: &str) -> Result<LooseTasks<'_>, PayloadError> {
    let mut by_app = LooseTasks::new();
    for raw in json::<Tasks<'_>>("/v2/tasks", body)?.tasks {
        if let Ok(owner) = serde_json::from_str::<TaskOwner>(raw.get()) {
            by_app.entry(owner.app_id).or_default().push(raw);
        }
    }
    Ok(by_app)
}

fn pods(body: &str) -> Result<Vec<&RawValue>, PayloadError> {
    let whole: &RawValue = json("/v2/pods::status", body)?;
    match whole.get().as_bytes().first() {
        Some(b'[') => json("/v2/pods::status", body),
        Some(b'{') => Ok(vec![whole]),
        Some(_) | None => Err(PayloadError::NotPods),
    }
}

/// The framework's name is `marathon_config.framework_name`; `name` is the product's. The scheduler is the leader.
fn read_info(info: &Value, out: &mut Listing) {
    let config = &info["marathon_config"];
    out.framework = config["framework_name"].as_str().filter(|n| !n.is_empty()).map(str::to_owned);
    out.framework_id = info["frameworkId"].as_str().filter(|id| !id.is_empty()).map(str::to_owned);
    let leader = info["leader"].as_str().and_then(|l| l.rsplit_once(':')).map(|(host, _)| host);
    out.framework_host = leader.or_else(|| config["hostname"].as_str()).filter(|h| !h.is_empty()).map(str::to_owned);
}

// What apps and pods have in common.

#[derive(Deserialize)]
struct Id<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

/// The id of an app or pod of which the rest cannot be read; empty where that cannot be read either.
pub(super) fn id_alone(raw: &RawValue) -> String {
    let id = serde_json::from_str::<Id<'_>>(raw.get()).ok().and_then(|i| i.id);
    id.and_then(|id| serde_json::from_str(id.get()).ok()).unwrap_or_default()
}

/// The VIP and `SLUICE_` labels of a label map; a VIP label whose value is no text is listed.
pub(super) fn labels(owner: &str, map: Option<&BTreeMap<String, Value>>, out: &mut Vec<Rejected>) -> Arc<Labels> {
    let mut labels = Labels::new();
    for (key, value) in map.into_iter().flatten() {
        if let Some(reason) = own_labels::unknown(key) {
            out.push(Rejected::new(owner, key, value.as_str().unwrap_or_default(), reason));
            continue;
        }
        let begins = key.get(..3).is_some_and(|k| k.eq_ignore_ascii_case("vip"));
        if !begins && !key.starts_with("SLUICE_") {
            continue;
        }
        if begins && !vip_label::is_vip_key(key) && app::legacy(key).is_none() {
            let rest = key.get(3..).unwrap_or_default();
            let reason = format!("a VIP label begins with VIP or vip, in one case: write VIP{}", rejected::shown(rest));
            out.push(Rejected::new(owner, key, value.as_str().unwrap_or_default(), reason));
            continue;
        }
        match value.as_str() {
            Some(text) if text.len() <= vip_label::VALUE_OCTETS => {
                labels.insert(key.clone(), text.to_owned());
            }
            Some(text) => out.push(Rejected::new(owner, key, text, vip_label::NotAVip::TooLong.to_string())),
            None => out.push(Rejected::new(owner, key, &value.to_string(), "a label's value must be text")),
        }
    }
    Arc::new(labels)
}

/// [`labels`] of a field that should be a map of labels; one that is something else is listed.
pub(super) fn label_map(owner: &str, field: &Value, out: &mut Vec<Rejected>) -> Arc<Labels> {
    let map: Option<BTreeMap<String, Value>> = field.as_object().map(|o| o.clone().into_iter().collect());
    if map.is_none() && !field.is_null() {
        out.push(Rejected::new(owner, "labels", &field.to_string(), "labels must be an object of keys and texts"));
    }
    labels(owner, map.as_ref(), out)
}

/// [`label_map`] of a port: groups are not a port's.
pub(super) fn port_labels(owner: &str, port: &Value, out: &mut Vec<Rejected>) -> Arc<Labels> {
    let mut labels = label_map(owner, &port["labels"], out);
    if let Some(groups) = labels.get(GROUPS) {
        let reason = "groups are a network's or the app's: put it into networks[].labels or the app's labels";
        out.push(Rejected::new(owner, GROUPS, groups, reason));
        Arc::make_mut(&mut labels).remove(GROUPS);
    }
    labels
}

/// `SLUICE_GROUPS` of a network's labels; what else of Sluice's is there is listed.
pub(super) fn network_groups<'a>(
    owner: &str,
    labels: impl Iterator<Item = (&'a String, &'a Value)>,
    out: &mut Vec<Rejected>,
) -> Option<&'a str> {
    let mut groups = None;
    for (key, value) in labels {
        let misplaced = || {
            let reason = "of a network only SLUICE_GROUPS is read: put it on the port or the app";
            (key.starts_with("SLUICE_") && key != GROUPS).then(|| reason.to_owned())
        };
        match own_labels::unknown(key).or_else(misplaced) {
            Some(reason) => out.push(Rejected::new(owner, key, value.as_str().unwrap_or_default(), reason)),
            None if key == GROUPS => groups = value.as_str(),
            None => {}
        }
    }
    groups
}

/// The elements of a field that should be a list; one that is something else is listed.
pub(super) fn elements<'a>(owner: &str, of: &'a Value, field: &str, out: &mut Vec<Rejected>) -> &'a [Value] {
    let said = &of[field];
    if !said.is_array() && !said.is_null() {
        out.push(Rejected::new(owner, field, &said.to_string(), format!("{field} must be a list")));
    }
    said.as_array().map_or(&[], Vec::as_slice)
}

/// Whether an element of a list of ports is an object; what is not is listed under the list's name.
pub(super) fn is_port(owner: &str, port: &Value, list: &str, out: &mut Vec<Rejected>) -> bool {
    if !port.is_object() {
        out.push(Rejected::new(owner, list, &port.to_string(), "a port must be an object"));
    }
    port.is_object()
}

/// Lists those fields of a port that are there and are not what they must be.
pub(super) fn odd_fields(owner: &str, port: &Value, out: &mut Vec<Rejected>) {
    for field in ["containerPort", "hostPort", "number"] {
        if !port[field].is_null() && port_number(&port[field]).is_none() {
            let reason = format!("{field} must be a number from 0 to 65535");
            out.push(Rejected::new(owner, field, &port[field].to_string(), reason));
        }
    }
}

/// A port number: 0 (not chosen yet) is `Some(0)`, what cannot be a port is `None`.
pub(super) fn port_number(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|n| u16::try_from(n).ok())
}

/// `SLUICE_GROUPS` as groups: a comma list, trimmed, each at most 63 octets.
pub(crate) fn groups<'a>(
    owner: &str,
    listed: impl Iterator<Item = &'a str>,
    label: Option<&'a str>,
    out: &mut Vec<Rejected>,
) -> Arc<[String]> {
    let mut groups = BTreeSet::new();
    for group in listed.chain(label.unwrap_or_default().split(',')).map(str::trim).filter(|g| !g.is_empty()) {
        if group.len() > 63 {
            out.push(Rejected::new(owner, GROUPS, group, "a group has at most 63 octets"));
        } else {
            groups.insert(group.to_owned());
        }
    }
    groups.into_iter().collect()
}
