//! DNS cookies (RFC 7873) as RFC 9018 has every server of an anycast set make them: a client that shows one has
//! received an answer at its address within the last hour.

use std::hash::Hasher as _;
use std::net::IpAddr;

use siphasher::sip::SipHasher24;

use crate::tables::dns::Secret;
use crate::wire::dns::Cookie;

/// Octets of a client's and our cookie together.
pub(super) const COOKIE_LEN: usize = 24;
/// Version 1, and three octets that are 0 (RFC 9018 section 4).
const VERSION: [u8; 4] = [1, 0, 0, 0];
/// How old a cookie may be, and how far ahead another server's clock, seconds (RFC 9018 section 4.3).
const OLD: u32 = 3600;
const AHEAD: u32 = 300;

/// Who asks, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asker {
    /// Its address.
    pub ip: IpAddr,
    /// Seconds since 1970, modulo 2^32.
    pub unix_seconds: u32,
}

/// The client's cookie and ours, made now with the first secret.
pub(super) fn fresh(client: &[u8; 8], secrets: &[Secret], asker: &Asker) -> [u8; COOKIE_LEN] {
    let mut cookie = [0; COOKIE_LEN];
    let stamp = asker.unix_seconds.to_be_bytes();
    cookie[..8].copy_from_slice(client);
    cookie[8..12].copy_from_slice(&VERSION);
    cookie[12..16].copy_from_slice(&stamp);
    if let Some(secret) = secrets.first() {
        cookie[16..].copy_from_slice(&hash(secret, client, stamp, asker.ip));
    }
    cookie
}

/// Whether the server's part is one that a server with one of these secrets made for this client within the hour.
pub(super) fn is_valid(cookie: &Cookie, secrets: &[Secret], asker: &Asker) -> bool {
    let Some(server) = cookie.server else { return false };
    let [v0, v1, v2, v3, t0, t1, t2, t3, sum @ ..] = server;
    let stamp = [t0, t1, t2, t3];
    let made = u32::from_be_bytes(stamp);
    // Serial number arithmetic (RFC 1982), as RFC 9018 asks for.
    let (age, ahead) = (asker.unix_seconds.wrapping_sub(made), made.wrapping_sub(asker.unix_seconds));
    let timely = age <= OLD || ahead <= AHEAD;
    // Every octet is looked at whatever the others are: how long it takes tells nothing.
    let same = |secret: &Secret| {
        let differ = hash(secret, &cookie.client, stamp, asker.ip).iter().zip(&sum).fold(0, |d, (a, b)| d | (a ^ b));
        differ == 0
    };
    [v0, v1, v2, v3] == VERSION && timely && secrets.iter().any(same)
}

/// SipHash-2-4 over client cookie, version, reserved, time and the client's address (RFC 9018 section 4.4), in the
/// octet order of the reference implementation.
fn hash(secret: &Secret, client: &[u8; 8], stamp: [u8; 4], ip: IpAddr) -> [u8; 8] {
    let mut hasher = SipHasher24::new_with_key(&secret.0);
    hasher.write(client);
    hasher.write(&VERSION);
    hasher.write(&stamp);
    match ip {
        IpAddr::V4(ip) => hasher.write(&ip.octets()),
        IpAddr::V6(ip) => hasher.write(&ip.octets()),
    }
    hasher.finish().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        std::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
    }

    fn asker(ip: &str, unix_seconds: u32) -> Asker {
        Asker { ip: ip.parse().unwrap(), unix_seconds }
    }

    #[test]
    fn cookies_are_those_of_rfc_9018_appendix_a() {
        let secret = [Secret(hex("e5e973e5a6b2a43f48e7dc849e37bfcf"))];
        let client = hex("2464c4abcf10c957");
        let made = fresh(&client, &secret, &asker("198.51.100.100", 1_559_731_985));
        assert_eq!(made, hex("2464c4abcf10c957010000005cf79f111f8130c3eee29480"));
        let six = [Secret(hex("dd3bdf9344b678b185a6f5cb60fca715"))];
        let made = fresh(&hex("22681ab97d52c298"), &six, &asker("2001:db8:220:1:59de:d0f4:8769:82b8", 1_559_741_817));
        assert_eq!(made, hex("22681ab97d52c298010000005cf7c57926556bd0934c72f8"));
    }

    #[test]
    fn a_cookie_is_good_for_an_hour_for_its_client_and_by_both_secrets() {
        let secrets = [Secret([1; 16]), Secret([2; 16])];
        let client = [7; 8];
        let [_, _, _, _, _, _, _, _, server @ ..] = fresh(&client, &secrets[1..], &asker("192.0.2.1", 10_000));
        let cookie = Cookie { client, server: Some(server) };
        let valid = |secrets: &[Secret], ip, at| is_valid(&cookie, secrets, &asker(ip, at));
        assert!(valid(&secrets, "192.0.2.1", 10_000) && valid(&secrets, "192.0.2.1", 13_600));
        assert!(valid(&secrets, "192.0.2.1", 9_700), "another server's clock may be ahead");
        assert!(!valid(&secrets, "192.0.2.1", 13_601) && !valid(&secrets, "192.0.2.1", 9_699));
        assert!(!valid(&secrets, "192.0.2.2", 10_000) && !valid(&secrets[..1], "192.0.2.1", 10_000));
        assert!(!is_valid(&Cookie { client, server: None }, &secrets, &asker("192.0.2.1", 10_000)));
        assert!(!is_valid(&Cookie { client: [8; 8], ..cookie }, &secrets, &asker("192.0.2.1", 10_000)));
    }
}
