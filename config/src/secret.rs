//! Users and passwords that somebody wrote into a URL: where they stand, so that no message repeats them.

use std::ops::Range;

/// What stands between `://` and the last `@` of the same text, for each URL of a line of TOML. The time grows with the
/// length of the line, and no faster.
pub(crate) fn users(line: &str) -> Vec<Range<usize>> {
    let mut users = Vec::new();
    let mut from = 0;
    while let Some((before, after)) = line.get(from..).and_then(|rest| rest.split_once("://")) {
        let start = line.len() - after.len();
        let length = end(after, before.chars().rfind(|c| matches!(c, '"' | '\'')));
        users.extend(after.get(..length).and_then(|text| text.rfind('@')).map(|length| start..start + length));
        from = start + length + 1;
    }
    users
}

/// Where the text that `quote` opened ends.
fn end(rest: &str, quote: Option<char>) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices() {
        if Some(c) == quote && !escaped {
            return at;
        }
        escaped = c == '\\' && quote == Some('"') && !escaped;
    }
    rest.len()
}

/// A URL for a sentence.
pub(crate) fn without_user(url: &str) -> String {
    let start = url.find("://").map_or(0, |at| at + 3);
    match (url.get(..start), url.rfind('@').and_then(|at| url.get(at..))) {
        (Some(scheme), Some(host)) if scheme.len() + host.len() <= url.len() => format!("{scheme}***{host}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_in_each_url_of_a_line_and_nowhere_else() {
        let found = |line: &str| users(line).into_iter().map(|at| line[at].to_owned()).collect::<Vec<_>>();
        assert_eq!(found(r#"urls = ["http://a:1", "http://u:p@h", 'https://x@y']  # me@home"#), ["u:p", "x"]);
        assert_eq!(found(r#"urls = ["http://u:p/w#'\"@@h"]"#), [r#"u:p/w#'\"@"#]);
        assert_eq!(found("urls = [http://u:p@h]"), ["u:p"]);
        assert_eq!(found("urls = [\"http://é:ü@h"), ["é:ü"]);
        assert!(found(r#"mail = "me@home""#).is_empty());
    }

    #[test]
    fn a_url_is_quoted_without_its_user() {
        assert_eq!(without_user("http://u:p@w@h:80/x"), "http://***@h:80/x");
        assert_eq!(without_user("u:p@h"), "***@h");
        assert_eq!(without_user("http://h"), "http://h");
        assert_eq!(without_user("a@b://c"), "a@b://c");
    }
}
