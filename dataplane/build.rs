//! Compiles `xdp/steer.bpf.c` with clang into `OUT_DIR/steer.bpf.o`, which `src/io/steer.rs` embeds.

use std::path::{Path, PathBuf};
use std::process::{Command, exit};

const SOURCE: &str = "xdp/steer.bpf.c";

fn main() {
    println!("cargo:rerun-if-changed={SOURCE}");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=CLANG");
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let object = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join("steer.bpf.o");
    let run = command(&clang, &object).status();
    match run {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!(
            "`{clang}` could not compile dataplane/{SOURCE} ({status}); when it misses bpf/*.h or linux/*.h: \
             apt-get install libbpf-dev linux-libc-dev"
        )),
        Err(error) => {
            fail(&format!("cannot run `{clang}` ({error}); it compiles dataplane/{SOURCE}: apt-get install clang"))
        }
    }
}

fn command(clang: &str, object: &Path) -> Command {
    let mut command = Command::new(clang);
    command.args(["-target", "bpf", "-O2", "-g", "-Wall", "-Werror", "-c", SOURCE, "-o"]).arg(object);
    // The bpf target has no multiarch include path of its own, and <linux/types.h> wants <asm/types.h>.
    let arch = std::env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let multiarch = format!("/usr/include/{arch}-linux-gnu");
    if Path::new(&multiarch).is_dir() {
        command.arg("-idirafter").arg(multiarch);
    }
    command
}

fn fail(message: &str) {
    eprintln!("error: {message}");
    exit(1);
}
