//! The JSON types of an app's fields. A value of another type never reaches the rules of [`super::rules`]: Marathon
//! refuses it while it parses, under the path of the value (`/healthChecks(0)/portIndex`).

use serde_json::{Map, Value};

use super::error::Violation;

/// What a value must be; `null` is as good as absent everywhere.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Text,
    Number,
    Int,
    Bool,
    List(&'static Self),
    /// Keys are the user's own.
    Map(&'static Self),
    /// A value of the environment: text, or `{"secret": name}`.
    TextOrSecret,
    /// Fields that are not named here may be anything.
    Fields(&'static [(&'static str, Self)]),
}

use Kind::{Bool, Fields, Int, List, Map as Table, Number, Text, TextOrSecret};

const PORT_DEFINITION: Kind = Fields(&[("port", Int), ("protocol", Text), ("name", Text), ("labels", Table(&Text))]);

const PORT_MAPPING: Kind = Fields(&[
    ("containerPort", Int),
    ("hostPort", Int),
    ("servicePort", Int),
    ("protocol", Text),
    ("name", Text),
    ("labels", Table(&Text)),
    ("networkNames", List(&Text)),
]);

const HEALTH_CHECK: Kind = Fields(&[
    ("protocol", Text),
    ("path", Text),
    ("portIndex", Int),
    ("port", Int),
    ("command", Fields(&[("value", Text)])),
    ("gracePeriodSeconds", Number),
    ("intervalSeconds", Number),
    ("timeoutSeconds", Number),
    ("maxConsecutiveFailures", Int),
    ("delaySeconds", Number),
    ("ignoreHttp1xx", Bool),
]);

const CONTAINER: Kind = Fields(&[
    ("type", Text),
    ("volumes", List(&Fields(&[]))),
    ("portMappings", List(&PORT_MAPPING)),
    ("docker", Fields(&[("image", Text), ("network", Text), ("portMappings", List(&PORT_MAPPING))])),
]);

const DISCOVERED: Kind = Fields(&[("number", Int), ("name", Text), ("protocol", Text), ("labels", Table(&Text))]);

const IP_ADDRESS: Kind = Fields(&[
    ("networkName", Text),
    ("groups", List(&Text)),
    ("labels", Table(&Text)),
    ("discovery", Fields(&[("ports", List(&DISCOVERED))])),
]);

const APP: Kind = Fields(&[
    ("id", Text),
    ("cmd", Text),
    ("args", List(&Text)),
    ("user", Text),
    ("executor", Text),
    ("env", Table(&TextOrSecret)),
    ("labels", Table(&Text)),
    ("instances", Int),
    ("cpus", Number),
    ("mem", Number),
    ("disk", Number),
    ("gpus", Int),
    ("constraints", List(&List(&Text))),
    ("dependencies", List(&Text)),
    ("acceptedResourceRoles", List(&Text)),
    ("uris", List(&Text)),
    ("storeUrls", List(&Text)),
    ("fetch", List(&Fields(&[("uri", Text)]))),
    ("ports", List(&Int)),
    ("portDefinitions", List(&PORT_DEFINITION)),
    ("requirePorts", Bool),
    ("container", CONTAINER),
    ("ipAddress", IP_ADDRESS),
    ("networks", List(&Fields(&[("mode", Text), ("name", Text), ("labels", Table(&Text))]))),
    ("healthChecks", List(&HEALTH_CHECK)),
    ("readinessChecks", List(&Fields(&[]))),
    ("upgradeStrategy", Fields(&[("minimumHealthCapacity", Number), ("maximumOverCapacity", Number)])),
    ("backoffSeconds", Number),
    ("backoffFactor", Number),
    ("maxLaunchDelaySeconds", Number),
    ("taskKillGracePeriodSeconds", Number),
]);

const GROUP: Kind = Fields(&[
    ("id", Text),
    ("apps", List(&Fields(&[]))),
    ("groups", List(&Fields(&[]))),
    ("dependencies", List(&Text)),
    ("scaleBy", Number),
    ("version", Text),
]);

/// What is of another type than Marathon reads, each with its place.
pub(crate) fn of_app(app: &Map<String, Value>) -> Vec<Violation> {
    checked(&APP, app)
}

/// The same for a group; the apps and groups in it are looked at one by one as they are read.
pub(crate) fn of_group(group: &Map<String, Value>) -> Vec<Violation> {
    checked(&GROUP, group)
}

fn checked(kind: &Kind, object: &Map<String, Value>) -> Vec<Violation> {
    let mut wrong = Vec::new();
    if let Fields(fields) = kind {
        check_fields(fields, object, "", &mut wrong);
    }
    wrong
}

fn check_fields(fields: &[(&str, Kind)], object: &Map<String, Value>, path: &str, wrong: &mut Vec<Violation>) {
    for (name, kind) in fields {
        if let Some(value) = object.get(*name) {
            check(kind, value, &format!("{path}/{name}"), wrong);
        }
    }
}

fn check(kind: &Kind, value: &Value, path: &str, wrong: &mut Vec<Violation>) {
    match (kind, value) {
        (_, Value::Null) | (Text | TextOrSecret, Value::String(_)) | (Number, Value::Number(_)) => {}
        (Bool, Value::Bool(_)) => {}
        (Int, Value::Number(number)) if number.is_i64() || number.is_u64() => {}
        (TextOrSecret, Value::Object(entry)) if entry.get("secret").is_some_and(Value::is_string) => {}
        (List(kind), Value::Array(items)) => {
            items.iter().enumerate().for_each(|(i, item)| check(kind, item, &format!("{path}({i})"), wrong));
        }
        (Table(kind), Value::Object(entries)) => {
            entries.iter().for_each(|(key, item)| check(kind, item, &format!("{path}/{key}"), wrong));
        }
        (Fields(fields), Value::Object(object)) => check_fields(fields, object, path, wrong),
        (kind, value) => wrong.push(Violation::new(path, expected(kind, value))),
    }
}

/// In the words of Marathon's JSON reader (Play's).
fn expected(kind: &Kind, value: &Value) -> &'static str {
    match kind {
        Int if value.is_number() => "error.expected.int",
        Text | TextOrSecret => "error.expected.jsstring",
        Number | Int => "error.expected.jsnumber",
        Bool => "error.expected.jsboolean",
        List(_) => "error.expected.jsarray",
        Table(_) | Fields(_) => "error.expected.jsobject",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_of_another_type_is_named_by_its_path_and_what_was_expected() {
        let cases = [
            (json!({"mem": "a"}), Some(("/mem", "error.expected.jsnumber"))),
            (json!({"instances": 1.5}), Some(("/instances", "error.expected.int"))),
            (json!({"labels": {"a": 1}}), Some(("/labels/a", "error.expected.jsstring"))),
            (json!({"env": {"a": 1}}), Some(("/env/a", "error.expected.jsstring"))),
            (json!({"env": {"a": {"secret": "s"}}}), None),
            (json!({"constraints": [["hostname", 5]]}), Some(("/constraints(0)(1)", "error.expected.jsstring"))),
            (json!({"container": []}), Some(("/container", "error.expected.jsobject"))),
            (
                json!({"container": {"docker": {"portMappings": [{"labels": {"VIP_0": 80}}]}}}),
                Some(("/container/docker/portMappings(0)/labels/VIP_0", "error.expected.jsstring")),
            ),
            (json!({"healthChecks": {}}), Some(("/healthChecks", "error.expected.jsarray"))),
            (json!({"requirePorts": "yes"}), Some(("/requirePorts", "error.expected.jsboolean"))),
            (json!({"cmd": null, "mem": 32, "instances": 2, "unknown": []}), None),
        ];
        for (app, wanted) in cases {
            let wrong = of_app(app.as_object().unwrap());
            let wrong: Vec<_> = wrong.iter().map(|v| (v.path.as_str(), v.error.as_str())).collect();
            assert_eq!(wrong, wanted.into_iter().collect::<Vec<_>>(), "{app}");
        }
    }
}
