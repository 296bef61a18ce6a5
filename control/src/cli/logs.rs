//! Where log lines go: standard error, filtered by `--log-level`, else RUST_LOG, else `info`.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use super::LogFormat;

pub(super) fn begin(format: LogFormat, level: Option<&str>) {
    let from_environment = std::env::var("RUST_LOG").ok();
    let wanted = level.or(from_environment.as_deref()).unwrap_or("info");
    let filter = EnvFilter::try_new(wanted).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Only tests that call this twice see a refusal; the first subscriber stays.
    let _ = match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
}
