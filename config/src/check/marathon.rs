//! `[[marathon]]`.

use std::path::PathBuf;

use toml::Spanned;

use super::claims::{Claims, Owner};
use super::value;
use crate::diagnostic::Findings;
use crate::file::{self, Value};
use crate::model::{self, Marathon};
use crate::secret::without_user;
use crate::words::short;

/// Each is a connection that control keeps.
const MOST: usize = 64;

pub(super) fn marathons(
    file: &[Spanned<file::Marathon>],
    claims: &mut Claims,
    found: &mut Findings<'_>,
) -> Vec<Marathon> {
    if let Some(at) = file.get(MOST) {
        found.error(&at.span(), format!("{} Marathons", file.len()), format!("write at most {MOST}"));
    }
    file.iter().take(MOST).map(|at| marathon(at, claims, found)).collect()
}

fn marathon(at: &Spanned<file::Marathon>, claims: &mut Claims, found: &mut Findings<'_>) -> Marathon {
    let (file, span) = (at.get_ref(), at.span());
    credentials((&file.user, &file.password_file, &file.token_file), found);
    Marathon {
        urls: urls(file, &span, claims, found),
        framework: value::text(&file.framework, ""),
        user: value::filled("user", &file.user, "a user's name", found),
        password_file: path("password_file", &file.password_file, found),
        token_file: path("token_file", &file.token_file, found),
        ca_file: path("ca_file", &file.ca_file, found),
    }
}

pub(super) fn path(key: &str, value: &Value<String>, found: &mut Findings<'_>) -> Option<PathBuf> {
    value::filled(key, value, "the path of a file", found).map(PathBuf::from)
}

/// User and password come together, and not with a token: both are one header.
pub(super) fn credentials(
    (user, password_file, token_file): (&Value<String>, &Value<String>, &Value<String>),
    found: &mut Findings<'_>,
) {
    match (user, password_file) {
        (Some(user), None) => found.error(
            &user.span(),
            "`user` is there without `password_file`",
            "add `password_file = \"/etc/sluice/password\"`",
        ),
        (None, Some(file)) => {
            found.error(&file.span(), "`password_file` is there without `user`", "add `user = \"...\"`")
        }
        (Some(_), Some(_)) | (None, None) => {}
    }
    if let (Some(_), Some(token)) = (user, token_file) {
        found.error(
            &token.span(),
            "`token_file` is there beside `user`",
            "keep one of the two: both are the Authorization header",
        );
    }
}

fn urls(
    file: &file::Marathon,
    at: &std::ops::Range<usize>,
    claims: &mut Claims,
    found: &mut Findings<'_>,
) -> Vec<String> {
    let example = "[\"http://10.0.0.2:8080\"]";
    let Some(list) = value::required("[[marathon]]", "urls", &file.urls, at, example, found) else { return Vec::new() };
    if list.get_ref().is_empty() {
        found.error(&list.span(), "`urls` is empty", format!("write at least one, for example {example}"));
    }
    let mut good = Vec::new();
    for at in list.get_ref() {
        let Some(url) = url("urls", "http://10.0.0.2:8080", at, found) else { continue };
        if let Some(ip) = model::url_address(&url) {
            claims.once(Owner::Marathon, ip, "marathon.urls", &at.span());
        }
        good.push(url);
    }
    good
}

/// A base URL without the final slash.
pub(super) fn url(key: &str, example: &str, at: &Spanned<String>, found: &mut Findings<'_>) -> Option<String> {
    let given = at.get_ref().as_str();
    let wrong = match given.strip_prefix("http://").or_else(|| given.strip_prefix("https://")) {
        None => "does not begin with http:// or https://",
        Some(rest) => after_scheme(rest)?,
    };
    if !wrong.is_empty() {
        let sentence = format!("`{key}` has \"{}\", which {wrong}", short(&without_user(given)));
        let remedy = format!("write a base URL like \"{example}\"");
        if given.contains('@') {
            found.error_at_secret(&at.span(), sentence, &remedy);
        } else {
            found.error(&at.span(), sentence, remedy);
        }
        return None;
    }
    Some(given.trim_end_matches('/').to_owned())
}

/// What is wrong with a URL after its scheme; empty is nothing.
fn after_scheme(rest: &str) -> Option<&'static str> {
    let authority = rest.split('/').next()?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (authority, "80"),
    };
    Some(match () {
        () if rest.contains(|c: char| c.is_whitespace() || c.is_control()) => "has a space in it",
        () if rest.contains(['?', '#']) => "has a query or a fragment",
        () if authority.contains('@') => "has a user in it (there is `user` and `password_file` for that)",
        () if host.is_empty() => "has no host",
        () if port.parse::<u16>().map_or(true, |port| port == 0) => "has a port that is not 1 to 65535",
        () => "",
    })
}
