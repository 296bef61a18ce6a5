//! The secrets of DNS cookies (`dns.cookie_secret_file`): one or two lines of 32 hexadecimal digits.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use sluice_config::model::Config;

/// A secret.
pub type Secret = [u8; 16];

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("dns.cookie_secret_file {path}: {source}; `openssl rand -hex 16` makes one")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It holds something else.
    #[error(
        "dns.cookie_secret_file {path} must be one or two lines of 32 hexadecimal digits; `openssl rand -hex 16` makes one"
    )]
    NotASecret {
        /// Which file.
        path: PathBuf,
    },
    /// The kernel has no random octets.
    #[error("/dev/urandom: {0}")]
    Random(std::io::Error),
}

/// The configured secrets, the first of which makes cookies; a random one where there are none.
///
/// # Errors
/// When the file cannot be read or holds something else.
pub fn read_or_random(config: &Config) -> Result<Vec<Secret>, SecretError> {
    match &config.dns.cookie_secret_file {
        Some(path) => read(path),
        None => random().map(|secret| vec![secret]).map_err(SecretError::Random),
    }
}

fn random() -> std::io::Result<Secret> {
    let mut secret = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut secret)?;
    Ok(secret)
}

fn read(path: &Path) -> Result<Vec<Secret>, SecretError> {
    let text = std::fs::read_to_string(path).map_err(|source| SecretError::Io { path: path.to_owned(), source })?;
    let secrets: Option<Vec<Secret>> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(secret).collect();
    match secrets {
        Some(secrets) if (1..=2).contains(&secrets.len()) => Ok(secrets),
        Some(_) | None => Err(SecretError::NotASecret { path: path.to_owned() }),
    }
}

fn secret(line: &str) -> Option<Secret> {
    if line.len() != 32 || !line.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut secret = [0; 16];
    for (octet, digits) in secret.iter_mut().zip(line.as_bytes().chunks(2)) {
        *octet = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_or_two_lines_of_hexadecimal_digits_are_secrets_and_nothing_else_is() {
        let folder = std::env::temp_dir().join(format!("sluice-secrets-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("secret");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read(&path).map_err(|error| error.to_string())
        };
        let line = "000102030405060708090a0b0c0d0e0F";
        assert_eq!(read(&format!("{line}\n")).unwrap(), [std::array::from_fn(|i| i as u8)]);
        assert_eq!(read(&format!("{line}\n{line}\n")).unwrap().len(), 2);
        for bad in ["", "00", &format!("{line}{line}"), &format!("{line}\n{line}\n{line}"), &"é".repeat(16)] {
            assert!(read(bad).unwrap_err().contains("one or two lines"), "{bad}");
        }
        assert_ne!(random().unwrap(), random().unwrap());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
