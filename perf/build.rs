//! Compiles `xdp/blast.bpf.c` with clang into `OUT_DIR/blast.bpf.o`, which `src/veth/wire.rs` embeds.

use std::path::{Path, PathBuf};
use std::process::{Command, exit};

const SOURCE: &str = "xdp/blast.bpf.c";

fn main() {
    println!("cargo:rerun-if-changed={SOURCE}");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=CLANG");
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let object = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join("blast.bpf.o");
    let mut command = Command::new(&clang);
    command.args(["-target", "bpf", "-O2", "-g", "-Wall", "-Werror", "-c", SOURCE, "-o"]).arg(object);
    // The bpf target has no multiarch include path of its own, and <linux/types.h> wants <asm/types.h>.
    let multiarch = format!("/usr/include/{}-linux-gnu", std::env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default());
    if Path::new(&multiarch).is_dir() {
        command.arg("-idirafter").arg(multiarch);
    }
    if !command.status().is_ok_and(|status| status.success()) {
        eprintln!("error: `{clang}` could not compile perf/{SOURCE}: apt-get install clang libbpf-dev linux-libc-dev");
        exit(1);
    }
}
