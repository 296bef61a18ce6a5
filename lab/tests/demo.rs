//! The whole product on real packets, with the form of networking that Marathon 1.9 has (`make demo` runs 1.3). Needs
//! root, and the binary `sluice` beside `sluice-lab` (`cargo build --workspace`).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::process::Command;

#[test]
fn every_line_of_the_demo_holds_and_it_leaves_nothing_behind() {
    let program = Path::new(env!("CARGO_BIN_EXE_sluice-lab"));
    let sluice = program.with_file_name("sluice");
    if !sluice.is_file() {
        println!("skipped: {} is not built (`cargo build --workspace`)", sluice.display());
        return;
    }
    let output =
        Command::new(program).args(["demo", "--marathon-version", "1.9", "--sluice"]).arg(&sluice).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    for line in ["loses no request", "both workers received, and packets were handed over", "the books balance"] {
        assert!(said.contains(line), "no line `{line}` in:\n{said}");
    }
    let config = said.lines().find_map(|line| line.split("sluice run -c ").nth(1)).unwrap();
    let folder = Path::new(config.trim()).parent().unwrap();
    assert!(!folder.exists(), "{} is still there", folder.display());
}
