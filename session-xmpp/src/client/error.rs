//! Why a login did not come to be, or did not last.

use std::sync::Arc;

/// Why there is no login. Each variant is something else for a person to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// Nobody knows the server: the name does not resolve, or the server does not serve this domain (`host-unknown`).
    #[error("the server of {domain} is not known: {why}")]
    UnknownHost {
        /// The domain of the account.
        domain: Arc<str>,
        /// Who says so, and how.
        why: Arc<str>,
    },
    /// No address of the server takes a connection, or the connection broke.
    #[error("no connection to the server: {0}")]
    Unreachable(Arc<str>),
    /// The server's certificate is not from whom we trust, not for the domain, or not valid now.
    #[error("the server's certificate is not trusted: {0}")]
    UntrustedCertificate(Arc<str>),
    /// TLS failed for another reason.
    #[error("TLS with the server failed: {0}")]
    Tls(Arc<str>),
    /// The server offers no TLS, and the account does not allow to go on without.
    #[error("the server offers no TLS")]
    NoTls,
    /// The server does not accept name and password (`not-authorized`, RFC 6120 §6.5.10).
    #[error("wrong name or password{}", said(.0))]
    WrongPassword(Option<Arc<str>>),
    /// The server refuses the login for another reason than a wrong password.
    #[error("the server refuses the login: {condition}{}", said(.text))]
    Refused {
        /// The condition of RFC 6120 §6.5: `account-disabled`, `credentials-expired`, `temporary-auth-failure`.
        condition: Arc<str>,
        /// What the server says to people.
        text: Option<Arc<str>>,
    },
    /// The server offers no way of logging in that we would use. PLAIN is used under TLS alone, and not at all once the
    /// server has offered better.
    #[error("the server offers no acceptable way to log in, but: {0}")]
    NoMechanism(Arc<str>),
    /// The server, or somebody on the way to it, offers less than it did at an earlier login of this client.
    #[error("the server offers only {offered}, after a login with {earlier}: refused")]
    Downgrade {
        /// The best that is offered now.
        offered: Arc<str>,
        /// What the last login used.
        earlier: Arc<str>,
    },
    /// Whoever answers does not know the password either (RFC 5802 §3).
    #[error("the server could not prove that it knows the password")]
    ServerProof,
    /// The name or the password holds characters that RFC 4013 forbids.
    #[error("the {0} holds characters that are not allowed")]
    Characters(&'static str),
    /// The server did not give us an address (RFC 6120 §7).
    #[error("the server gives no address: {0}")]
    NoAddress(Arc<str>),
    /// The server ended the stream with an error (RFC 6120 §4.9).
    #[error("the server ended the stream: {condition}{}", said(.text))]
    Stream {
        /// The condition of RFC 6120 §4.9.3, such as `conflict` or `system-shutdown`.
        condition: Arc<str>,
        /// What the server says to people.
        text: Option<Arc<str>>,
    },
    /// What arrived is not what RFC 6120 lets a server send.
    #[error("the server breaks the protocol: {0}")]
    Protocol(Arc<str>),
    /// The login did not come to an end in time, or a connection fell silent.
    #[error("the server does not answer")]
    Timeout,
    /// The other side ended the stream without an error.
    #[error("the server ended the stream")]
    Closed,
}

impl LoginError {
    /// Whether trying again can help without anybody doing something: the network or the server may come back.
    ///
    /// A wrong password, a bad certificate or a refusal does not get better by repetition, and a server may lock an
    /// account that tries too often.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Timeout | Self::Closed | Self::Tls(_) => true,
            // On the way back from a loss of the network, names do not resolve at first.
            Self::UnknownHost { .. } => true,
            Self::Protocol(_) | Self::NoAddress(_) => true,
            Self::Refused { condition, .. } => &**condition == "temporary-auth-failure",
            // Another login with our resource replaced us (RFC 6120 §7.7.2.2): to come back would begin a fight.
            Self::Stream { condition, .. } => !matches!(
                &**condition,
                "conflict" | "not-authorized" | "policy-violation"
            ),
            Self::UntrustedCertificate(_)
            | Self::NoTls
            | Self::WrongPassword(_)
            | Self::NoMechanism(_)
            | Self::Downgrade { .. }
            | Self::ServerProof
            | Self::Characters(_) => false,
        }
    }

    /// What breaks the rules.
    pub(super) fn protocol(what: impl Into<Arc<str>>) -> Self {
        Self::Protocol(what.into())
    }
}

/// What somebody said, for the end of a sentence.
fn said(text: &Option<Arc<str>>) -> String {
    text.as_deref()
        .map_or_else(String::new, |text| format!(" ({text})"))
}
