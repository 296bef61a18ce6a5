//! What the kernel said, out of an error that a library wrapped.

use std::error::Error;
use std::io;

/// The error number at the bottom of a chain of sources; 0 when there is none.
pub(crate) fn errno(error: &(dyn Error + 'static)) -> i32 {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(number) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return number;
        }
        next = error.source();
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] io::Error);

    #[test]
    fn the_number_is_found_below_wrappers() {
        assert_eq!(errno(&Outer(io::Error::from_raw_os_error(libc::EBUSY))), libc::EBUSY);
        assert_eq!(errno(&Outer(io::Error::other("no number"))), 0);
    }
}
