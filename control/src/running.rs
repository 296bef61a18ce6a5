//! Tasks that end with their owner.

use tokio::task::JoinHandle;

/// A task that ends with its owner.
pub(crate) struct Running(JoinHandle<()>);

impl Running {
    pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}
