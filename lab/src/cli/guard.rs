//! A lab goes with the process that made it: on Ctrl-C, on SIGTERM, and on a panic that unwinds nothing (the release
//! profile aborts). SIGKILL leaves it for `sluice-lab down`.

use std::process::exit;

use anyhow::Result;
use sluice_lab::state::LabState;

/// The shell's status of a program that Ctrl-C ended: 128 and SIGINT.
const INTERRUPTED: i32 = 130;

/// Watches from now on.
pub(super) fn install() -> Result<()> {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        remove_own();
    }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if runtime.block_on(super::labs::told_to_stop()).is_ok() {
            remove_own();
            exit(INTERRUPTED);
        }
    })?;
    Ok(())
}

fn remove_own() {
    for lab in LabState::made_by(std::process::id()) {
        match lab.remove() {
            Ok(()) => eprintln!("lab {} is removed", lab.id()),
            Err(error) => eprintln!("lab {} is not wholly removed: {error}", lab.id()),
        }
    }
}
