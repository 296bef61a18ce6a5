//! On which agents a task may run: Marathon's placement constraints, as version 1.9 reads them.
//!
//! The lab's agents have a host name (which is their address) and no attributes, regions or zones: a constraint on another
//! field is kept as Marathon keeps it on an agent that lacks the attribute, by `UNLIKE` alone.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

use super::definition::Object;

/// One constraint of an app or a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Constraint {
    field: String,
    operator: String,
    value: Option<String>,
}

/// Those of an app: lists of two or three words.
pub(crate) fn of_app(app: &Object) -> Vec<Constraint> {
    let all = app.get("constraints").and_then(Value::as_array).into_iter().flatten();
    all.filter_map(|one| Constraint::new(one.get(0), one.get(1), one.get(2))).collect()
}

/// Those of a pod: objects under `scheduling.placement`.
pub(crate) fn of_pod(pod: &Object) -> Vec<Constraint> {
    let all = pod.get("scheduling").and_then(|s| s.pointer("/placement/constraints")).and_then(Value::as_array);
    let of = |one: &Value| Constraint::new(one.get("fieldName"), one.get("operator"), one.get("value"));
    all.into_iter().flatten().filter_map(of).collect()
}

/// A pattern of `LIKE` and `UNLIKE`, which stands for the whole of a value; none if it is no regular expression.
pub(crate) fn pattern(text: &str) -> Option<Regex> {
    Regex::new(&format!("^(?:{text})$")).ok()
}

impl Constraint {
    fn new(field: Option<&Value>, operator: Option<&Value>, value: Option<&Value>) -> Option<Self> {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        Some(Self { field: text(field)?, operator: text(operator)?, value: text(value) })
    }

    /// Whether a task may go to `host` while others of its app, of the same definition, are on `placed`.
    pub(crate) fn admits(&self, host: &str, placed: &[&str]) -> bool {
        let value = self.value.as_deref().unwrap_or_default();
        if !["hostname", "@hostname"].contains(&self.field.as_str()) {
            return self.operator == "UNLIKE";
        }
        let like = || pattern(value).is_some_and(|pattern| pattern.is_match(host));
        match self.operator.as_str() {
            "UNIQUE" => !placed.contains(&host),
            "CLUSTER" => (value.is_empty() || value == host) && placed.iter().all(|other| *other == host),
            "IS" => value == host,
            "LIKE" => like(),
            "UNLIKE" => !like(),
            "GROUP_BY" => is_smallest(host, placed, value.parse().unwrap_or(0)),
            "MAX_PER" => value.parse().is_ok_and(|most: usize| on(host, placed) < most),
            // Such a definition was refused.
            _ => true,
        }
    }
}

fn on(host: &str, placed: &[&str]) -> usize {
    placed.iter().filter(|other| **other == host).count()
}

/// A host without a task, or, once there are `groups` hosts with tasks, one with the fewest.
fn is_smallest(host: &str, placed: &[&str], groups: usize) -> bool {
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    for other in placed {
        *sizes.entry(other).or_default() += 1;
    }
    let own = sizes.get(host);
    own.is_none() || (sizes.len() >= groups && own == sizes.values().min())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_operator_admits_what_marathon_admits() {
        let rows: &[(&[&str], &str, &[&str], bool)] = &[
            (&["hostname", "UNIQUE"], "a", &["b"], true),
            (&["hostname", "UNIQUE"], "a", &["b", "a"], false),
            (&["hostname", "CLUSTER", "a"], "a", &["a"], true),
            (&["hostname", "CLUSTER", "a"], "b", &[], false),
            (&["hostname", "CLUSTER", ""], "b", &[], true),
            (&["hostname", "CLUSTER", ""], "b", &["a"], false),
            (&["@hostname", "IS", "a"], "a", &["b"], true),
            (&["hostname", "IS", "a"], "b", &[], false),
            (&["hostname", "LIKE", "10.0.0.1[12]"], "10.0.0.12", &[], true),
            (&["hostname", "LIKE", "10.0.0.1"], "10.0.0.12", &[], false),
            (&["hostname", "LIKE", "a|b"], "ab", &[], false),
            (&["hostname", "UNLIKE", "a|b"], "c", &[], true),
            (&["hostname", "UNLIKE", "a|b"], "b", &[], false),
            (&["hostname", "GROUP_BY"], "a", &["a", "b"], true),
            (&["hostname", "GROUP_BY"], "a", &["a", "a", "b"], false),
            (&["hostname", "GROUP_BY", "3"], "a", &["a", "b"], false),
            (&["hostname", "GROUP_BY", "3"], "c", &["a", "b"], true),
            (&["hostname", "MAX_PER", "2"], "a", &["a", "b"], true),
            (&["hostname", "MAX_PER", "2"], "a", &["a", "a"], false),
            (&["rack", "CLUSTER", "r1"], "a", &[], false),
            (&["rack", "UNLIKE", "r1"], "a", &[], true),
        ];
        for (words, host, placed, admitted) in rows {
            let app = Object::from_iter([("constraints".to_owned(), json!([words]))]);
            let constraints = of_app(&app);
            assert_eq!(constraints[0].admits(host, placed), *admitted, "{words:?} {host} beside {placed:?}");
        }
    }

    #[test]
    fn a_pods_constraints_are_read_where_pods_have_them() {
        let placement = json!({"constraints": [{"fieldName": "hostname", "operator": "CLUSTER", "value": "a"}]});
        let pod = Object::from_iter([("scheduling".to_owned(), json!({"placement": placement}))]);
        let app = Object::from_iter([("constraints".to_owned(), json!([["hostname", "CLUSTER", "a"]]))]);
        assert_eq!(of_pod(&pod), of_app(&app));
    }
}
