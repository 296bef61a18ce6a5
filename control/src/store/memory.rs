//! Claims in memory.

use std::sync::Mutex;

use super::{Store, StoreError};
use crate::desire::Claims;

/// Claims that end with the process: for offline questions and tests.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Claims>);

impl Store for MemoryStore {
    fn load(&self) -> Result<Claims, StoreError> {
        Ok(self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone())
    }

    fn save(&self, claims: &Claims) -> Result<(), StoreError> {
        claims.clone_into(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        Ok(())
    }
}
