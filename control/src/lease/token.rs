//! The word that agents show for a lease.

use std::path::{Path, PathBuf};

/// A word that is compared and never shown.
#[derive(Clone)]
pub struct Token(Vec<u8>);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("{key} {path}: {source}; `head -c 24 /dev/urandom | base64` makes one")]
    Unreadable {
        /// The key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// The file is something else.
    #[error(
        "{key} {path} is not one line of {TOKEN_MIN} to {TOKEN_MAX} printable octets; `head -c 24 /dev/urandom | base64` makes one"
    )]
    NotAToken {
        /// The key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
    },
}

/// Shortest token, octets.
const TOKEN_MIN: usize = 16;
/// Longest.
const TOKEN_MAX: usize = 256;

impl Token {
    /// The one line of a file; `key` is where the configuration names it.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(key: &'static str, path: &Path) -> Result<Self, TokenError> {
        let text =
            std::fs::read(path).map_err(|source| TokenError::Unreadable { key, path: path.to_owned(), source })?;
        let word = text.trim_ascii_end();
        let printable = word.iter().all(u8::is_ascii_graphic);
        match printable && (TOKEN_MIN..=TOKEN_MAX).contains(&word.len()) {
            true => Ok(Self(word.to_owned())),
            false => Err(TokenError::NotAToken { key, path: path.to_owned() }),
        }
    }

    /// As a header has it: `Bearer WORD`.
    #[must_use]
    pub fn header(&self) -> String {
        format!("Bearer {}", String::from_utf8_lossy(&self.0))
    }

    /// Whether a header shows it. How long that takes does not tell how much of it is right.
    #[must_use]
    pub fn is_shown(&self, header: &[u8]) -> bool {
        let mine = self.header();
        let differs = mine.bytes().zip(header).fold(0, |seen, (a, b)| seen | (a ^ b));
        mine.len() == header.len() && differs == 0
    }
}
