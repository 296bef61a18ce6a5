//! Claims in a JSON file.

use std::path::PathBuf;

use super::{Store, StoreError};
use crate::desire::Claims;
use crate::json_file::{self, JsonError};

/// Largest file read, octets: a hundred thousand of the longest names, each with an address of both families.
pub(super) const FILE_OCTETS: u64 = 64 << 20;

/// Claims in a JSON file, replaced by rename.
#[derive(Clone, Debug)]
pub struct FileStore {
    /// The file. Its folder must exist.
    pub path: PathBuf,
}

impl FileStore {
    fn error(&self, error: JsonError) -> StoreError {
        let path = self.path.clone();
        match error {
            JsonError::Io(source) => StoreError::Io { path, source },
            JsonError::Format(source) => StoreError::Format { path, source },
            JsonError::TooLong => StoreError::TooLong { path },
        }
    }
}

impl Store for FileStore {
    fn load(&self) -> Result<Claims, StoreError> {
        json_file::load(&self.path, FILE_OCTETS).map_err(|e| self.error(e))
    }

    fn save(&self, claims: &Claims) -> Result<(), StoreError> {
        json_file::save(&self.path, claims).map_err(|e| self.error(e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desire::claims::tests::claimed;

    #[test]
    fn a_file_keeps_claims_across_a_restart_and_a_broken_one_is_an_error() {
        let folder = std::env::temp_dir().join(format!("sluice-claims-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let store = FileStore { path: folder.join("claims.json") };
        assert_eq!(store.load().unwrap(), Claims::default());
        let claims = claimed(&[("a.m", [11, 0, 0, 1]), ("b.m", [11, 0, 0, 2])], 1);
        store.save(&claims).unwrap();
        assert_eq!(FileStore { path: store.path.clone() }.load().unwrap(), claims);
        std::fs::write(&store.path, b"{\"named\":").unwrap();
        assert!(matches!(store.load(), Err(StoreError::Format { .. })));
        for (broken, what) in
            [(&b""[..], "EOF"), (b"{}", "missing field"), (b"{\"named\":{\"a.m\":{\"ip\":7}}}", "IPv4")]
        {
            std::fs::write(&store.path, broken).unwrap();
            let said = store.load().unwrap_err().to_string();
            assert!(said.contains(&store.path.display().to_string()) && said.contains("move the file away"), "{said}");
            assert!(said.contains(what), "{said}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
