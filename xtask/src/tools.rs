//! Processes, paths, time and failures: what every command shares.

use std::env;
use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What a command or a check ends with: one line that says what was shown, or why not.
pub(crate) type Outcome = Result<String, Failure>;

/// Why a step failed, told so that the reader knows what to do next.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    why: String,
    hint: String,
}

impl Failure {
    pub(crate) fn new(
        what: impl Into<String>,
        why: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            what: what.into(),
            why: why.into(),
            hint: hint.into(),
        }
    }

    /// A failure that lists one finding a line.
    pub(crate) fn findings(what: &str, findings: &[String], hint: &str) -> Self {
        Self::new(what, findings.join("\n        "), hint)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  what  {}", self.what)?;
        writeln!(f, "  why   {}", self.why)?;
        write!(f, "  try   {}", self.hint)
    }
}

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest
        .parent()
        .map_or_else(|| manifest.clone(), Path::to_path_buf)
}

/// Where cargo builds: packages outside the workspace share it, so that a dependency is built once.
pub(crate) fn target_dir() -> PathBuf {
    let named = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    // Relative to where the user stands, while what runs here runs in the root.
    let named = named.map(|path| std::path::absolute(&path).unwrap_or(path));
    named.unwrap_or_else(|| root().join("target"))
}

/// The packages beside the workspace that exist, by their manifest relative to the root.
pub(crate) fn outside_packages() -> Vec<&'static str> {
    [
        "xtask/bench/Cargo.toml",
        "xtask/fuzz/Cargo.toml",
        "xtask/outside/Cargo.toml",
    ]
    .into_iter()
    .filter(|manifest| root().join(manifest).is_file())
    .collect()
}

/// The cargo that runs this program, in the root, with the shared target folder.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(arguments)
        .current_dir(root())
        .env("CARGO_TARGET_DIR", target_dir());
    // What is built once needs nothing by which to build it again, which takes a sixth of the time.
    if env::var_os("CI").is_some() && env::var_os("CARGO_INCREMENTAL").is_none() {
        command.env("CARGO_INCREMENTAL", "0");
    }
    // Tests that need a switchboard run this very program.
    if let Ok(program) = env::current_exe() {
        command.env("XTASK", program);
    }
    command
}

/// Runs a process whose output the reader sees.
pub(crate) fn run(command: &mut Command, hint: &str) -> Result<(), Failure> {
    let status = command
        .status()
        .map_err(|error| not_started(command, &error, hint))?;
    if status.success() {
        Ok(())
    } else {
        Err(ended(command, &status.to_string(), hint))
    }
}

/// Runs a process and answers its standard output; what it says on standard error is shown only if it fails.
pub(crate) fn capture(command: &mut Command, hint: &str) -> Result<String, Failure> {
    let output = command
        .output()
        .map_err(|error| not_started(command, &error, hint))?;
    if !output.status.success() {
        print!("{}", String::from_utf8_lossy(&output.stdout));
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        return Err(ended(command, &output.status.to_string(), hint));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a process ends well; what it prints is not shown.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// Runs a process whose output the reader sees, and shows every line of its standard output to `watch`.
pub(crate) fn tee(
    command: &mut Command,
    hint: &str,
    mut watch: impl FnMut(&str),
) -> Result<(), Failure> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| not_started(command, &error, hint))?;
    if let Some(stdout) = child.stdout.take() {
        let mut reader = BufReader::new(stdout);
        let mut line = Vec::new();
        while reader
            .read_until(b'\n', &mut line)
            .is_ok_and(|read| read > 0)
        {
            let text = String::from_utf8_lossy(&line);
            print!("{text}");
            // Progress is worth little when it arrives late, and a closed pipe ends the child by itself.
            let _ = std::io::stdout().flush();
            watch(text.trim_end());
            line.clear();
        }
    }
    let status = child
        .wait()
        .map_err(|error| not_started(command, &error, hint))?;
    if status.success() {
        Ok(())
    } else {
        Err(ended(command, &status.to_string(), hint))
    }
}

/// Reads a text file of the workspace.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| {
        Failure::new(
            format!("read {}", path.display()),
            error.to_string(),
            "is it there, readable, and UTF-8?",
        )
    })
}

/// A duration as a person reads it.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// The command as it could be typed.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or_default();
    let mut words = vec![program.to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|argument| argument.to_string_lossy().into_owned()),
    );
    words.join(" ")
}

fn ended(command: &Command, status: &str, hint: &str) -> Failure {
    Failure::new(
        format!("`{}`", shown(command)),
        format!("it ended with {status}; its messages stand above"),
        hint,
    )
}

fn not_started(command: &Command, error: &std::io::Error, hint: &str) -> Failure {
    Failure::new(
        format!("`{}`", shown(command)),
        format!("it could not run: {error}"),
        hint,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_why_and_what_to_try() {
        let failure = Failure::findings(
            "tidy",
            &["a is long".to_owned(), "b is long".to_owned()],
            "split",
        );
        assert_eq!(
            failure.to_string(),
            "  what  tidy\n  why   a is long\n        b is long\n  try   split"
        );
    }

    #[test]
    fn processes_report_their_output_and_their_end() {
        assert_eq!(
            capture(Command::new("echo").arg("hello"), "").unwrap(),
            "hello\n"
        );
        let failure = run(&mut Command::new("false"), "nothing")
            .unwrap_err()
            .to_string();
        assert!(
            failure.contains("`false`") && failure.contains("try   nothing"),
            "{failure}"
        );
        let failure = run(&mut Command::new("no-such-program-here"), "")
            .unwrap_err()
            .to_string();
        assert!(failure.contains("could not run"), "{failure}");
    }

    #[test]
    fn tee_shows_every_line_also_without_a_last_newline() {
        let mut lines = Vec::new();
        tee(Command::new("printf").arg("a\\nb"), "", |line| {
            lines.push(line.to_owned())
        })
        .unwrap();
        assert_eq!(lines, ["a", "b"]);
    }
}
