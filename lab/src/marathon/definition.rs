//! From what a user posts to what Marathon keeps and returns: validation, conversion to the form of the emulated
//! version, defaults.
//!
//! Definitions stay JSON objects, so that fields which the lab has no use for come back as they went in. Version 1.3
//! keeps `ipAddress` and `container.docker.portMappings`; 1.9 keeps `networks`, `container.portMappings` and
//! `portDefinitions`, accepts the old form and drops `ipAddress.groups` ("Ignored by Marathon" says its RAML).

use serde_json::{Map, Value, json};

use super::error::{ApiError, Violation};
use super::{convert, rules, types};

/// Which Marathon this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    V1_3,
    V1_9,
}

impl Dialect {
    /// `1.3` or `1.9`, as `--marathon-version` takes it.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "1.3" => Ok(Self::V1_3),
            "1.9" => Ok(Self::V1_9),
            other => Err(format!("`{other}` is not an emulated version: use 1.3 or 1.9")),
        }
    }

    /// What [`Dialect::parse`] takes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V1_3 => "1.3",
            Self::V1_9 => "1.9",
        }
    }

    /// As `GET /v2/info` says it.
    #[must_use]
    pub fn version(self) -> &'static str {
        match self {
            Self::V1_3 => "1.3.13",
            Self::V1_9 => "1.9.136",
        }
    }
}

pub(crate) type Object = Map<String, Value>;

/// Fields that Marathon writes and does not read.
const READ_ONLY: &[&str] = &[
    "version",
    "versionInfo",
    "tasks",
    "tasksStaged",
    "tasksRunning",
    "tasksHealthy",
    "tasksUnhealthy",
    "deployments",
    "readinessCheckResults",
    "lastTaskFailure",
    "taskStats",
];

/// `/a/b` for `a/b`, `/a/b`, `//a/b/` and `/a/./x/../b`. What leads out of the root stays as it is, for [`check_id`] to
/// refuse.
pub(crate) fn absolute(id: &str) -> String {
    let mut path: Vec<&str> = Vec::new();
    for segment in id.split('/').filter(|segment| !matches!(*segment, "" | ".")) {
        match (segment, path.last()) {
            ("..", Some(last)) if *last != ".." => drop(path.pop()),
            _ => path.push(segment),
        }
    }
    format!("/{}", path.join("/"))
}

/// The definition that is kept for an app. `update` is what was sent; `existing` is what it is laid over.
pub(crate) fn accept(
    dialect: Dialect,
    id: &str,
    update: Object,
    existing: Option<&Object>,
) -> Result<Object, ApiError> {
    let mut update = update;
    READ_ONLY.iter().for_each(|field| drop(update.remove(*field)));
    update.retain(|_, value| !value.is_null());
    let mistyped = types::of_app(&update);
    if !mistyped.is_empty() {
        return Err(ApiError::Mistyped(dialect, mistyped));
    }
    let mut violations = Vec::new();
    check_id(dialect, id, &mut violations);
    rules::of_update(&update, &mut violations);
    if dialect == Dialect::V1_9 && violations.is_empty() {
        convert::modernise(&mut update, &mut violations);
    }
    let mut definition = lay_over(existing.cloned().unwrap_or_default(), update);
    definition.insert("id".to_owned(), id.into());
    rules::of_app(dialect, &definition, &mut violations);
    if !violations.is_empty() {
        return Err(ApiError::Invalid(violations));
    }
    fill_defaults(dialect, &mut definition);
    Ok(definition)
}

/// `ports` and `portDefinitions` say the same: whichever was sent replaces both.
fn lay_over(mut existing: Object, update: Object) -> Object {
    match (update.contains_key("ports"), update.contains_key("portDefinitions")) {
        (true, false) => drop(existing.remove("portDefinitions")),
        (false, true) => drop(existing.remove("ports")),
        (true, true) | (false, false) => {}
    }
    existing.extend(update);
    existing
}

/// Each segment of a path is a DNS label (Marathon's `PathId` pattern).
pub(crate) fn check_id(dialect: Dialect, id: &str, violations: &mut Vec<Violation>) {
    let segment = |text: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let label =
            |text: &str| !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-');
        text.split('.').all(label)
    };
    let path = id.trim_start_matches('/');
    if path.is_empty() || !path.split('/').all(segment) {
        violations.push(Violation::new(
            "/id",
            "must fully match regular expression '^(([a-z0-9]|[a-z0-9][a-z0-9\\-]*[a-z0-9])\\.)*\
             ([a-z0-9]|[a-z0-9][a-z0-9\\-]*[a-z0-9])|(\\.|\\.\\.)$'",
        ));
    }
    let last = path.rsplit('/').next().unwrap_or_default();
    if dialect == Dialect::V1_9 && ["restart", "tasks", "versions"].contains(&last) {
        violations.push(Violation::new("/id", format!("\"{id}\" ends with a reserved keyword")));
    }
}

fn fill_defaults(dialect: Dialect, app: &mut Object) {
    let mut defaults = json!({
        "instances": 1, "cpus": 1, "mem": 128, "disk": 0, "executor": "", "env": {}, "labels": {},
        "constraints": [], "dependencies": [], "fetch": [], "healthChecks": [], "readinessChecks": [],
        "backoffSeconds": 1, "backoffFactor": 1.15, "requirePorts": false,
        "upgradeStrategy": {"minimumHealthCapacity": 1, "maximumOverCapacity": 1},
    });
    let more = match dialect {
        Dialect::V1_3 => json!({
            "cmd": null, "args": null, "user": null, "uris": [], "storeUrls": [], "container": null,
            "acceptedResourceRoles": null, "ipAddress": null, "residency": null, "secrets": {},
            "taskKillGracePeriodSeconds": null, "maxLaunchDelaySeconds": 3600,
        }),
        Dialect::V1_9 => json!({
            "gpus": 0, "secrets": {}, "maxLaunchDelaySeconds": 300, "networks": [{"mode": "host"}], "role": "*",
            "killSelection": "YOUNGEST_FIRST", "unreachableStrategy": {"inactiveAfterSeconds": 0, "expungeAfterSeconds": 0},
        }),
    };
    merge_missing(app, more);
    merge_missing(app, defaults.take());
    each_object(app.get_mut("healthChecks"), |check| {
        merge_missing(
            check,
            json!({
                "protocol": "HTTP", "gracePeriodSeconds": 300, "intervalSeconds": 60, "timeoutSeconds": 20,
                "maxConsecutiveFailures": 3, "ignoreHttp1xx": false,
            }),
        );
    });
    let mappings = ["/container/portMappings", "/container/docker/portMappings"];
    let mut whole = Value::Object(std::mem::take(app));
    for path in mappings {
        each_object(whole.pointer_mut(path), |m| merge_missing(m, json!({"protocol": "tcp", "labels": {}})));
    }
    each_object(whole.pointer_mut("/portDefinitions"), |p| merge_missing(p, json!({"protocol": "tcp", "labels": {}})));
    if let Value::Object(object) = whole {
        *app = object;
    }
}

fn merge_missing(object: &mut Object, defaults: Value) {
    if let Value::Object(defaults) = defaults {
        for (key, value) in defaults {
            object.entry(key).or_insert(value);
        }
    }
}

/// Applies `change` to every object of a list.
pub(crate) fn each_object(list: Option<&mut Value>, mut change: impl FnMut(&mut Object)) {
    let items = list.and_then(Value::as_array_mut).into_iter().flatten();
    items.filter_map(Value::as_object_mut).for_each(&mut change);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_what_its_dot_segments_lead_to_and_never_leads_out_of_the_root() {
        let id = |text: &str| {
            let mut violations = Vec::new();
            let id = absolute(text);
            check_id(Dialect::V1_9, &id, &mut violations);
            violations.is_empty().then_some(id)
        };
        for (given, kept) in [
            ("/a/../b", Some("/b")),
            ("a/./b/", Some("/a/b")),
            ("//a//b/c/../..", Some("/a")),
            ("/a.b/c", Some("/a.b/c")),
            ("/a/../../b", None),
            ("..", None),
            ("/a/..", None),
            ("/a..b", None),
            ("/...", None),
        ] {
            assert_eq!(id(given).as_deref(), kept, "{given}");
        }
    }
}
