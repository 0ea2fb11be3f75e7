//! SASL (RFC 6120 §6): which mechanism, and what is said in it.

use super::{
    error::LoginError,
    scram::{Hash, Salted, Scram},
};
use std::{fmt, sync::Arc};
use zeroize::Zeroizing;

/// A password, which is wiped when it is dropped and never shown.
#[derive(Clone, Default)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Keeps a password.
    pub fn new(password: impl Into<String>) -> Self {
        Self(Zeroizing::new(password.into()))
    }

    /// Its bytes, for a digest.
    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The password itself.
    #[cfg(any(feature = "keyring", all(test, feature = "cli")))]
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// Who we are, for the server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Credentials {
    /// An account with a password.
    Password {
        /// The account's name: the local part of its address.
        user: String,
        /// Its password.
        password: Password,
    },
    /// Nobody in particular (RFC 4505): the server makes up an account that lasts as long as the login.
    Anonymous,
}

/// A mechanism that we know. The greater is the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mechanism {
    /// ANONYMOUS (RFC 4505).
    Anonymous,
    /// PLAIN (RFC 4616): the password itself, protected by TLS alone.
    Plain,
    /// SCRAM (RFC 5802).
    Scram {
        /// Whether the login is bound to the TLS connection (`-PLUS`), so that nobody can stand in between.
        plus: bool,
        /// The hash function.
        hash: Hash,
    },
}

/// All of ours with their names, the best first.
const MECHANISMS: &[(&str, Mechanism)] = &[
    ("SCRAM-SHA-512-PLUS", scram(true, Hash::Sha512)),
    ("SCRAM-SHA-256-PLUS", scram(true, Hash::Sha256)),
    ("SCRAM-SHA-1-PLUS", scram(true, Hash::Sha1)),
    ("SCRAM-SHA-512", scram(false, Hash::Sha512)),
    ("SCRAM-SHA-256", scram(false, Hash::Sha256)),
    ("SCRAM-SHA-1", scram(false, Hash::Sha1)),
    ("PLAIN", Mechanism::Plain),
    ("ANONYMOUS", Mechanism::Anonymous),
];

const fn scram(plus: bool, hash: Hash) -> Mechanism {
    Mechanism::Scram { plus, hash }
}

impl Mechanism {
    /// The name by which it is registered.
    pub fn name(self) -> &'static str {
        let found = MECHANISMS.iter().find(|(_, mechanism)| *mechanism == self);
        found.map_or("", |(name, _)| name)
    }

    fn is_plus(self) -> bool {
        matches!(self, Self::Scram { plus: true, .. })
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is known of a connection's TLS, as far as a login can be bound to it (RFC 5929, RFC 9266).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Secured {
    /// The keying material of RFC 9266 §2, the 32 bytes of `EXPORTER-Channel-Binding`. On TLS 1.3 alone: earlier versions
    /// give what is safe only with an extension that cannot be asked for here (RFC 9266 §4.2).
    pub exporter: Option<Vec<u8>>,
    /// The hash of the server's certificate (RFC 5929 §4).
    pub end_point: Option<Vec<u8>>,
}

impl Secured {
    /// What there is, with its name, the better first.
    fn bindings(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        let exporter = self.exporter.as_deref().map(|data| ("tls-exporter", data));
        let end_point = self.end_point.as_deref();
        let end_point = end_point.map(|data| ("tls-server-end-point", data));
        exporter.into_iter().chain(end_point)
    }
}

/// What a login says about being bound to its connection (RFC 5802 §6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Binding {
    /// We cannot.
    Unsupported,
    /// We could, but the server has not offered it. If it had, it will know that somebody took the offer out.
    NotOffered,
    /// It is.
    Bound { kind: &'static str, data: Vec<u8> },
}

impl Binding {
    /// The header of the first message.
    pub(super) fn gs2(&self) -> String {
        match self {
            Self::Unsupported => "n,,".to_owned(),
            Self::NotOffered => "y,,".to_owned(),
            Self::Bound { kind, .. } => format!("p={kind},,"),
        }
    }

    /// The header with the binding itself, as the last message has it.
    pub(super) fn header(&self) -> Vec<u8> {
        let mut header = self.gs2().into_bytes();
        if let Self::Bound { data, .. } = self {
            header.extend_from_slice(data);
        }
        header
    }
}

/// What a server offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) mechanisms: Vec<String>,
    /// The kinds of channel binding that the server knows (XEP-0440). `None`: it does not say.
    pub(super) bindings: Option<Vec<String>>,
}

/// What a login must not fall below.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Floor {
    /// What an earlier login of this client used.
    pub(super) earlier: Option<Mechanism>,
    /// Whether the login has to be bound to the connection.
    pub(super) binding_required: bool,
}

/// The best of what is offered.
///
/// # Errors
/// [`LoginError::NoMechanism`], [`LoginError::Downgrade`].
pub(super) fn choose(
    offer: &Offer,
    credentials: &Credentials,
    secured: Option<&Secured>,
    floor: Floor,
) -> Result<(Mechanism, Binding), LoginError> {
    let offered = |mechanism: Mechanism| {
        let mut names = offer.mechanisms.iter();
        names.any(|name| name == mechanism.name())
    };
    let none = || LoginError::NoMechanism(offer.mechanisms.join(", ").into());
    if let Credentials::Anonymous = credentials {
        let offered = offered(Mechanism::Anonymous);
        let choice = (Mechanism::Anonymous, Binding::Unsupported);
        return offered.then_some(choice).ok_or_else(none);
    }
    let has_scram = offer
        .mechanisms
        .iter()
        .any(|name| name.starts_with("SCRAM-"));
    let binding = common_binding(offer, secured, floor.binding_required);
    let usable = |mechanism: Mechanism| match mechanism {
        Mechanism::Anonymous => false,
        // Somebody in between could take everything else out of the offer, but then he would have to break TLS.
        Mechanism::Plain => secured.is_some() && !has_scram && !floor.binding_required,
        Mechanism::Scram { plus: true, .. } => binding.is_some(),
        Mechanism::Scram { plus: false, .. } => !floor.binding_required,
    };
    let mut ours = MECHANISMS.iter().map(|(_, mechanism)| *mechanism);
    let best = ours.find(|&mechanism| offered(mechanism) && usable(mechanism));
    let best = best.ok_or_else(none)?;
    if let Some(earlier) = floor.earlier.filter(|earlier| best < *earlier) {
        return Err(LoginError::Downgrade {
            offered: best.name().into(),
            earlier: earlier.name().into(),
        });
    }
    let some_plus = offer.mechanisms.iter().any(|name| name.ends_with("-PLUS"));
    let binding = match binding {
        Some((kind, data)) if best.is_plus() => Binding::Bound {
            kind,
            data: data.to_vec(),
        },
        // Offered, but of no kind that we have: we cannot say that the server has none (RFC 5802 §6).
        _ if some_plus => Binding::Unsupported,
        _ if secured.is_some_and(|secured| secured.bindings().next().is_some()) => {
            Binding::NotOffered
        }
        _ => Binding::Unsupported,
    };
    Ok((best, binding))
}

/// The kind of channel binding to use with a server that offers any.
///
/// Where the server does not name the kinds (XEP-0440), only somebody who insists takes a risk: RFC 9266 §4 makes one the
/// default for TLS 1.3, but there are servers (ejabberd 23.01) that offer `-PLUS` on TLS 1.3 and mean that of TLS 1.2, which
/// refuses all who believe the RFC.
fn common_binding<'a>(
    offer: &Offer,
    secured: Option<&'a Secured>,
    insist: bool,
) -> Option<(&'static str, &'a [u8])> {
    let mut ours = secured?.bindings();
    match &offer.bindings {
        Some(theirs) => ours.find(|(kind, _)| theirs.iter().any(|their| their == kind)),
        None => ours.find(|(kind, _)| insist && *kind == "tls-exporter"),
    }
}

/// An exchange in one mechanism.
pub(super) enum Exchange {
    Anonymous,
    Plain {
        message: Zeroizing<Vec<u8>>,
    },
    Scram {
        scram: Box<Scram>,
        first: String,
        proven: bool,
    },
}

impl Exchange {
    /// Begins one.
    ///
    /// # Errors
    /// [`LoginError::Characters`].
    pub(super) fn new(
        mechanism: Mechanism,
        binding: &Binding,
        credentials: &Credentials,
        nonce: &[u8],
    ) -> Result<Self, LoginError> {
        let Credentials::Password { user, password } = credentials else {
            return Ok(Self::Anonymous);
        };
        let prepared = stringprep::saslprep(user)
            .ok()
            .filter(|user| !user.is_empty());
        let user = prepared.ok_or(LoginError::Characters("name"))?;
        let prepared = stringprep::saslprep(&password.0);
        let password = prepared.map_err(|_| LoginError::Characters("password"))?;
        let password = Zeroizing::new(password.into_owned());
        Ok(match mechanism {
            Mechanism::Anonymous => Self::Anonymous,
            Mechanism::Plain => {
                if user.contains('\0') || password.contains('\0') {
                    return Err(LoginError::Characters("password"));
                }
                let message = [b"\0", user.as_bytes(), b"\0", password.as_bytes()].concat();
                Self::Plain {
                    message: Zeroizing::new(message),
                }
            }
            Mechanism::Scram { hash, .. } => {
                let scram = Scram::new(hash, &user, password, binding, nonce);
                Self::Scram {
                    first: scram.first(binding),
                    scram: Box::new(scram),
                    proven: false,
                }
            }
        })
    }

    /// What goes with the request itself.
    pub(super) fn initial(&self) -> &[u8] {
        match self {
            Self::Anonymous => b"",
            Self::Plain { message } => message,
            Self::Scram { first, .. } => first.as_bytes(),
        }
    }

    /// Answers a challenge.
    ///
    /// # Errors
    /// A challenge that the mechanism does not have.
    pub(super) fn challenge(
        &mut self,
        challenge: &[u8],
        cache: &mut Option<Salted>,
    ) -> Result<Vec<u8>, LoginError> {
        match self {
            Self::Anonymous | Self::Plain { .. } => Err(LoginError::protocol(
                "a challenge in a mechanism without one",
            )),
            // The proof may come before the consent instead of with it (RFC 6120 §6.4.6).
            Self::Scram { scram, proven, .. } if challenge.starts_with(b"v=") => {
                scram.verify(challenge)?;
                *proven = true;
                Ok(Vec::new())
            }
            Self::Scram { scram, .. } => Ok(scram.respond(challenge, cache)?.into_bytes()),
        }
    }

    /// The server consents.
    ///
    /// # Errors
    /// [`LoginError::ServerProof`] when it had to prove something and did not.
    pub(super) fn success(&self, data: &[u8]) -> Result<(), LoginError> {
        match self {
            Self::Anonymous | Self::Plain { .. } => Ok(()),
            Self::Scram { proven: true, .. } if data.is_empty() => Ok(()),
            Self::Scram { scram, .. } => scram.verify(data),
        }
    }
}

/// What a refusal means (RFC 6120 §6.5).
pub(super) fn refusal(condition: &str, text: Option<Arc<str>>) -> LoginError {
    match condition {
        "not-authorized" => LoginError::WrongPassword(text),
        condition => LoginError::Refused {
            condition: condition.into(),
            text,
        },
    }
}

#[cfg(test)]
mod tests;
