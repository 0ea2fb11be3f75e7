//! `pcp`: copies files and folders to people, directly, over XMPP sessions.

use std::process::ExitCode;

#[cfg(unix)]
fn main() -> ExitCode {
    session_file::pcp::main()
}

#[cfg(not(unix))]
#[allow(
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a program speaks"
)]
fn main() -> ExitCode {
    eprintln!(
        "pcp: files are opened in a way that this system does not have; it runs on Unix systems"
    );
    ExitCode::FAILURE
}
