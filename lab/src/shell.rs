//! Running Debian's own tools: a command either succeeds or its whole line and what it said is the error.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

/// Why a tool did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    #[error("cannot start `{line}`: {source}; `make setup` installs what the lab needs")]
    Start { line: String, source: std::io::Error },
    #[error("`{line}` failed ({status}): {said}")]
    Failed { line: String, status: String, said: String },
}

/// Runs a tool and gives what it printed.
pub fn run(program: &str, arguments: &[&str]) -> Result<String, ShellError> {
    let mut command = Command::new(program);
    command.args(arguments);
    finish(&mut command, &format!("{program} {}", arguments.join(" ")))
}

/// Runs `ip -batch -` in a namespace: one process for many changes; the first that fails is named with its text.
///
/// Not `ip -n`: that wants to change how / propagates mounts, which fails in a chroot whose root is no mount point.
pub fn ip_batch(namespace: &str, lines: &[String]) -> Result<(), ShellError> {
    let net = format!("--net=/run/netns/{namespace}");
    let said = run_with_input("nsenter", &[&net, "--", "ip", "-batch", "-"], &(lines.join("\n") + "\n"));
    said.map(drop).map_err(|error| name_batch_line(error, lines))
}

/// Feeds a text to a tool's standard input.
pub fn run_with_input(program: &str, arguments: &[&str], input: &str) -> Result<String, ShellError> {
    let line = format!("{program} {}", arguments.join(" "));
    let start = |source| ShellError::Start { line: line.clone(), source };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    if let Some(mut pipe) = child.stdin.take() {
        // A tool that stopped reading says why on stderr: that is the error to show.
        let _ = pipe.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(start)?;
    judge(&output, &line)
}

fn finish(command: &mut Command, line: &str) -> Result<String, ShellError> {
    let output = command.output().map_err(|source| ShellError::Start { line: line.to_owned(), source })?;
    judge(&output, line)
}

fn judge(output: &Output, line: &str) -> Result<String, ShellError> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ShellError::Failed { line: line.to_owned(), status: output.status.to_string(), said })
}

/// `ip -batch` says "Command failed -:3": put the third line beside it.
fn name_batch_line(error: ShellError, lines: &[String]) -> ShellError {
    match error {
        ShellError::Failed { line, status, said } => {
            let at = said.rsplit("-:").next().and_then(|n| n.trim().parse::<usize>().ok());
            let text = at.and_then(|n| lines.get(n.saturating_sub(1)));
            let line = text.map_or_else(|| line.clone(), |text| format!("{line}: {text}"));
            ShellError::Failed { line, status, said }
        }
        start @ ShellError::Start { .. } => start,
    }
}
