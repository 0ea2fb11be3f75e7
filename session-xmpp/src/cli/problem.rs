//! What goes wrong, for people and for machines.

use crate::{address, client::LoginError};
use session_core::Peer;
use std::{fmt, process::ExitCode};

/// What a program's end tells whoever started it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: it is done.
    Done = 0,
    /// 1: it was tried, and failed.
    Failed = 1,
    /// 2: the options make no sense.
    Usage = 2,
    /// 3: there is no login.
    NoLogin = 3,
    /// 4: the peer does not want to.
    Declined = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// How the program ends.
    pub exit: Exit,
    /// A name for machines, such as `wrong-password`.
    pub code: &'static str,
    /// What was tried.
    pub what: String,
    /// Why it failed.
    pub why: String,
    /// What may help.
    pub hint: String,
}

impl Problem {
    /// With all of its parts.
    pub fn new(
        exit: Exit,
        code: &'static str,
        what: impl Into<String>,
        why: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            exit,
            code,
            what: what.into(),
            why: why.into(),
            hint: hint.into(),
        }
    }

    /// An option or an argument that makes no sense, as it was given: `--stun "x"`.
    pub fn usage(
        given: impl Into<String>,
        why: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self::setup(format!("take {}", given.into()), why, hint)
    }

    /// Something else that the options ask for, and cannot be.
    pub(super) fn setup(
        what: impl Into<String>,
        why: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self::new(Exit::Usage, "usage", what, why, hint)
    }

    /// The address in an option, or why it is none.
    ///
    /// # Errors
    /// A problem of usage that names the option.
    pub fn address(option: &str, text: &str) -> Result<Peer, Self> {
        address::from_uri(text).map_err(|error| {
            let what = format!("{option} {text:?}");
            Self::usage(
                what,
                error.to_string(),
                "addresses look like alice@example.org",
            )
        })
    }

    /// Why there is no login, or no more.
    pub fn login(account: &str, error: &LoginError) -> Self {
        let what = format!("log in as {account}");
        let (code, hint) = explain(error);
        Self::new(Exit::NoLogin, code, what, error.to_string(), hint)
    }

    /// Tells it on standard error, for people or as one line of JSON, and gives the program's exit code. Quiet programs
    /// tell it too: whoever asked for silence wants to know of failures.
    pub fn report(&self, program: &str, json: bool, quiet: bool) -> ExitCode {
        if json {
            eprintln!("{}", self.to_json());
        } else if quiet {
            eprintln!("{program}: cannot {}: {}", self.what, self.why);
        } else {
            eprintln!("{program}: {self}");
        }
        self.exit.into()
    }

    /// One line of JSON: `{"event":"problem","code":…,"exit":…,"what":…,"why":…,"hint":…}`.
    pub fn to_json(&self) -> String {
        let Self {
            exit,
            code,
            what,
            why,
            hint,
        } = self;
        let value = serde_json::json!({
            "event": "problem", "code": code, "exit": *exit as u8, "what": what, "why": why, "hint": hint,
        });
        value.to_string()
    }
}

/// Two lines: what and why, and what to try.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.what, self.why)?;
        if self.hint.is_empty() {
            return Ok(());
        }
        write!(f, "\n  try: {}", self.hint)
    }
}

impl std::error::Error for Problem {}

/// The code of a failed login, and what may help.
fn explain(error: &LoginError) -> (&'static str, &'static str) {
    match error {
        LoginError::UnknownHost { .. } => (
            "unknown-host",
            "check the part of the address behind the @, or name the server with --server HOST:PORT",
        ),
        LoginError::Unreachable(_) => (
            "unreachable",
            "is the network up and the server running? --server HOST:PORT names another one",
        ),
        LoginError::UntrustedCertificate(_) => (
            "untrusted-certificate",
            "if the server has a private authority, give its certificate with --ca FILE; else somebody may stand in between",
        ),
        LoginError::Tls(_) => (
            "tls",
            "is that a server for XMPP, and the right kind of port (--direct-tls)?",
        ),
        LoginError::NoTls => (
            "no-tls",
            "no password goes over a connection that anybody can read; ask whoever runs the server",
        ),
        LoginError::WrongPassword(_) => (
            "wrong-password",
            "check the name, the password and where it comes from (--password-file, --password-env, --password-command)",
        ),
        LoginError::Refused { .. } => ("refused", "ask whoever runs the server"),
        LoginError::NoMechanism(_) => (
            "no-mechanism",
            "ask whoever runs the server for SCRAM-SHA-256",
        ),
        LoginError::Downgrade { .. } | LoginError::ServerProof => (
            "impostor",
            "somebody may stand between you and the server: try another network before anything else",
        ),
        LoginError::Characters(_) => ("characters", "check name and password for odd characters"),
        LoginError::NoAddress(_) => (
            "no-address",
            "is another program logged in with the same device? give none in --jid",
        ),
        LoginError::Stream { .. } => ("stream", "the server says why; later it may say otherwise"),
        LoginError::Protocol(_) => ("protocol", "report it with what --trace FILE writes"),
        LoginError::Timeout => (
            "timeout",
            "is that a server for XMPP, and is the network good enough?",
        ),
        LoginError::Closed => ("closed", "try again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_own_code_and_says_what_to_try() {
        let unknown = LoginError::UnknownHost {
            domain: "x".into(),
            why: "no such name".into(),
        };
        let errors = [
            unknown,
            LoginError::Unreachable("refused".into()),
            LoginError::UntrustedCertificate("unknown issuer".into()),
            LoginError::WrongPassword(None),
            LoginError::NoTls,
            LoginError::Timeout,
        ];
        let problems = errors.map(|error| Problem::login("a@x", &error));
        let mut codes: Vec<_> = problems.iter().map(|problem| problem.code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), problems.len());
        for problem in problems {
            assert_eq!(problem.exit, Exit::NoLogin);
            let text = problem.to_string();
            assert!(text.starts_with("cannot log in as a@x: "), "{text}");
            assert!(text.contains("\n  try: "), "{text}");
            let json: serde_json::Value = serde_json::from_str(&problem.to_json()).unwrap();
            assert_eq!(
                (&json["exit"], &json["code"]),
                (&3.into(), &problem.code.into())
            );
        }
    }

    #[test]
    fn an_address_is_checked_where_it_is_given() {
        assert_eq!(
            Problem::address("TO", "xmpp:bob@example.org"),
            Ok("bob@example.org".into())
        );
        let problem = Problem::address("TO", "bob@@x").unwrap_err();
        assert_eq!((problem.exit, problem.code), (Exit::Usage, "usage"));
        let text = problem.to_string();
        assert!(text.starts_with("cannot take TO \"bob@@x\": "), "{text}");
    }
}
