//! The filters of `GET /v2/apps`: `id`, `cmd` (part of the text) and `label` (a selector).

use serde_json::Value;

use super::super::definition::Object;

/// Every filter given must hold.
pub(super) fn matches(id: &str, app: &Object, pairs: &[(String, String)]) -> bool {
    pairs.iter().all(|(key, value)| match key.as_str() {
        "id" => id.contains(value.as_str()),
        "cmd" => app.get("cmd").and_then(Value::as_str).is_some_and(|cmd| cmd.contains(value.as_str())),
        "label" => selectors(value).iter().all(|selector| selects(selector, app.get("labels"))),
        _ => true,
    })
}

/// Commas separate selectors, but for those of a set in parentheses.
fn selectors(text: &str) -> Vec<String> {
    let (mut all, mut depth) = (vec![String::new()], 0_u32);
    for letter in text.chars() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if letter == ',' && depth == 0 {
            all.push(String::new());
        } else if let Some(last) = all.last_mut() {
            last.push(letter);
        }
    }
    all.iter().map(|s| s.trim().to_owned()).filter(|s| !s.is_empty()).collect()
}

/// `key`, `key==value`, `key!=value`, `key in (a, b)`, `key notin (a, b)`.
fn selects(selector: &str, labels: Option<&Value>) -> bool {
    let label = |key: &str| labels.and_then(|l| l.get(key.trim())).and_then(Value::as_str);
    let set = |text: &str| -> Vec<String> {
        text.trim().trim_matches(['(', ')']).split(',').map(|item| item.trim().to_owned()).collect()
    };
    if let Some((key, value)) = selector.split_once("==") {
        return label(key) == Some(value.trim());
    }
    if let Some((key, value)) = selector.split_once("!=") {
        return label(key) != Some(value.trim());
    }
    if let Some((key, values)) = selector.split_once(" notin ") {
        return label(key).is_none_or(|value| !set(values).iter().any(|v| v == value));
    }
    if let Some((key, values)) = selector.split_once(" in ") {
        return label(key).is_some_and(|value| set(values).iter().any(|v| v == value));
    }
    label(selector).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_selectors_hold_for_what_they_say() {
        let labels = serde_json::json!({"tier": "web", "zone": "a"});
        let cases = [
            ("tier", true),
            ("tier==web", true),
            ("tier!=web", false),
            ("tier in (db, web), zone", true),
            ("tier notin (web)", false),
            ("absent", false),
            ("absent!=x", true),
        ];
        for (text, expected) in cases {
            assert_eq!(selectors(text).iter().all(|s| selects(s, Some(&labels))), expected, "{text}");
        }
    }
}
