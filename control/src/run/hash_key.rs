//! The key of every hash whose result nodes must agree on (`vip.hash_key_file`).

use std::io::Read as _;
use std::path::{Path, PathBuf};

use sluice_config::model::Config;

/// A key, 16 octets.
pub type Key = [u8; 16];

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum HashKeyError {
    /// The file cannot be read.
    #[error("vip.hash_key_file {path}: {source}; `head -c 16 /dev/urandom` makes one")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// The file is something else.
    #[error(
        "vip.hash_key_file {path} is neither 16 octets nor 32 hexadecimal digits; `head -c 16 /dev/urandom` makes one"
    )]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// No random numbers.
    #[error("cannot read /dev/urandom: {0}")]
    Random(#[source] std::io::Error),
}

/// The key of the configuration's file; `None` without one.
///
/// # Errors
/// When the file holds no key.
pub fn read(config: &Config) -> Result<Option<Key>, HashKeyError> {
    config.vip.hash_key_file.as_deref().map(read_file).transpose()
}

/// The file's key, or a random one.
///
/// # Errors
/// When the file holds no key, or there are no random numbers.
pub fn read_or_random(config: &Config) -> Result<Key, HashKeyError> {
    match read(config)? {
        Some(key) => Ok(key),
        None => random().map_err(HashKeyError::Random),
    }
}

fn random() -> std::io::Result<Key> {
    let mut key = Key::default();
    std::fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
    Ok(key)
}

fn read_file(path: &Path) -> Result<Key, HashKeyError> {
    let unreadable = |source| HashKeyError::Unreadable { path: path.into(), source };
    let mut bytes = Vec::new();
    // A final newline more than the longest form.
    std::fs::File::open(path).map_err(unreadable)?.take(65).read_to_end(&mut bytes).map_err(unreadable)?;
    parse(&bytes).ok_or_else(|| HashKeyError::NotAKey { path: path.into() })
}

fn parse(bytes: &[u8]) -> Option<Key> {
    if let Ok(key) = bytes.try_into() {
        return Some(key);
    }
    let digits = std::str::from_utf8(bytes).ok()?.trim();
    let is_hexadecimal = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_hexadecimal.then(|| u128::from_str_radix(digits, 16).ok())?.map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_16_octets_or_32_digits_and_nothing_else() {
        assert_eq!(parse(&[7; 16]), Some([7; 16]));
        assert_eq!(parse(b"000102030405060708090a0b0c0d0e0f\n"), Some(std::array::from_fn(|n| n as u8)));
        for wrong in [&b""[..], &[7; 15], &[7; 17], b"+00102030405060708090a0b0c0d0e0f"] {
            assert_eq!(parse(wrong), None);
        }
    }
}
