//! What nodes that serve the same have to share. That there are several is seen by keys that mean nothing on one alone.

use std::ops::Range;

use toml::Spanned;

use crate::diagnostic::Findings;
use crate::file::File;
use crate::model::Config;

pub(super) fn check(file: &File, config: &Config, found: &mut Findings<'_>) {
    let Some((key, at)) = sign(file, config) else { return };
    if config.vip.hash_key_file.is_none() {
        found.warning(
            &at,
            format!("`{key}` is for several nodes, and the hash key is random: each node would choose other backends"),
            "give `vip.hash_key_file` the same 16 octets on every node (`head -c 16 /dev/urandom` makes them)",
        );
    }
    if config.dns.is_on() && config.dns.cookie_secret_file.is_none() {
        found.warning(
            &at,
            format!(
                "`{key}` is for several nodes, and the secret of DNS cookies is random: no node would know another's"
            ),
            "give `dns.cookie_secret_file` the same line on every node (`openssl rand -hex 16` makes one)",
        );
    }
}

/// The key that says that there are others.
fn sign(file: &File, config: &Config) -> Option<(&'static str, Range<usize>)> {
    let vip = file.vip.as_ref().map(Spanned::get_ref);
    let chance = vip.and_then(|vip| vip.second_chance.as_ref()).filter(|_| config.vip.second_chance);
    let hash_key = vip.and_then(|vip| vip.hash_key_file.as_ref());
    let cookies = file.dns.as_ref().and_then(|dns| dns.get_ref().cookie_secret_file.as_ref());
    chance
        .map(|at| ("vip.second_chance", at.span()))
        .or_else(|| hash_key.map(|at| ("vip.hash_key_file", at.span())))
        .or_else(|| cookies.map(|at| ("dns.cookie_secret_file", at.span())))
}
