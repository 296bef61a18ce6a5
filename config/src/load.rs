//! Reading a configuration: bytes -> text -> checked [`Config`], or every mistake that is in it.
//!
//! [`load`] and [`parse`] are for those who want the configuration alone (`replay`, `compile`, tests); [`load_file`]
//! and [`parse_text`] keep the places of the values, for warnings and for [`Loaded::check_machine`].

use std::io::Read;
use std::path::Path;

use crate::diagnostic::{ConfigErrors, Diagnostic, Findings, Severity, Source};
use crate::machine::Machine;
use crate::model::Config;
use crate::{check, file, shape};

/// The largest file that is read, octets. A thousand services take about 100 KiB.
pub const LARGEST_FILE: u64 = 16 << 20;

/// A checked configuration that still knows where its values stand in the file.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the file means.
    pub config: Config,
    /// Worth saying, in the order of the file.
    pub warnings: Vec<Diagnostic>,
    source: Source,
    file: file::File,
}

impl Loaded {
    /// Compares the configuration with the machine: interfaces, queues, cores, and addresses that the kernel owns.
    ///
    /// # Errors
    /// Everything that the machine does not have, or has and must not.
    pub fn check_machine(&self, machine: &dyn Machine) -> Result<(), ConfigErrors> {
        let mut found = Findings::new(&self.source);
        check::machine::check(&self.file, &self.config, machine, &mut found);
        found.finish().map(|_| ())
    }
}

/// Reads and checks `path`.
///
/// # Errors
/// Every mistake in the file, or why it cannot be read.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    load_file(path).map(|loaded| loaded.config)
}

/// Checks `text`; `origin` is what diagnostics call it.
///
/// # Errors
/// Every mistake in the text.
pub fn parse(text: &str, origin: &str) -> Result<Config, ConfigErrors> {
    parse_text(text, origin).map(|loaded| loaded.config)
}

/// [`load`], keeping the places.
///
/// # Errors
/// As [`load`].
pub fn load_file(path: &Path) -> Result<Loaded, ConfigErrors> {
    let origin = path.display().to_string();
    let bytes = read(path).map_err(|(sentence, remedy)| unreadable(&origin, sentence, remedy))?;
    match String::from_utf8(bytes) {
        Ok(text) => parse_text(&text, &origin),
        Err(error) => Err(not_utf8(&error, &origin)),
    }
}

/// [`parse`], keeping the places.
///
/// # Errors
/// As [`parse`].
pub fn parse_text(text: &str, origin: &str) -> Result<Loaded, ConfigErrors> {
    let source = Source::new(origin, text);
    let mut found = Findings::new(&source);
    let Some(file) = shape::read(&mut found) else {
        return Err(found.into_errors());
    };
    let config = check::check(&file, &mut found);
    let warnings = found.finish()?;
    Ok(Loaded { config, warnings, source, file })
}

fn read(path: &Path) -> Result<Vec<u8>, (String, String)> {
    let cannot = |error: std::io::Error| {
        (format!("cannot be read: {error}"), "give a file that exists and may be read".to_owned())
    };
    let file = std::fs::File::open(path).map_err(cannot)?;
    let mut bytes = Vec::new();
    file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > LARGEST_FILE {
        let limit = LARGEST_FILE >> 20;
        return Err((format!("is larger than {limit} MiB"), "is this the TOML file?".to_owned()));
    }
    Ok(bytes)
}

fn unreadable(origin: &str, sentence: String, remedy: String) -> ConfigErrors {
    let error = Diagnostic { severity: Severity::Error, origin: origin.to_owned(), place: None, sentence, remedy };
    ConfigErrors { errors: vec![error], more: 0 }
}

fn not_utf8(error: &std::string::FromUtf8Error, origin: &str) -> ConfigErrors {
    let valid = error.utf8_error().valid_up_to();
    let octet = error.as_bytes().get(valid).copied().unwrap_or_default();
    let source = Source::new(origin, &String::from_utf8_lossy(error.as_bytes()));
    let mut found = Findings::new(&source);
    found.error(&(valid..valid + 1), format!("the octet 0x{octet:02x} is not UTF-8"), "save the file as UTF-8");
    found.into_errors()
}
