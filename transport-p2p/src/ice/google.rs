//! ICE as Google had it before it was a standard: `http://www.google.com/transport/p2p` (libjingle p2p/base).
//!
//! Each candidate has a user name of its own. Who may be talked to is shown by pings that carry the peer's name and then
//! one's own, with nothing between; who uses which path is for each side to choose. Nothing is sealed: whoever learns
//! both names can take the place of the peer, and they travel by signalling alone. So it is for the dialects of Google
//! Talk, and a session of standard Jingle takes it only where that is asked for
//! ([`with_jingle`](GoogleIceFactory::with_jingle), for libjingle 0.5 to 0.7).

mod candidate;
mod channel;
mod checks;
mod connection;
mod outlet;
mod wire;

use super::{config::IceConfig, random::Random};
use channel::{GoogleChannel, Name};
use session_core::{
    Dialect, Element, GOOGLE_P2P, InfoTarget, Transport, TransportChannel, TransportContext,
    TransportError, TransportFactory, TransportKind,
};
use std::{fmt, sync::Arc};

/// Characters of a user name and of a password, as libjingle 0.7 has them.
const USERNAME_LENGTH: usize = 16;
const PASSWORD_LENGTH: usize = 24;

/// Makes transports of Google's ICE.
///
/// Of the configuration it uses the addresses, servers, relays, limits, the pace and the patience; what is about
/// nomination and consent has no counterpart.
#[derive(Clone, Debug)]
pub struct GoogleIceFactory {
    config: Arc<IceConfig>,
    jingle: bool,
}

impl GoogleIceFactory {
    /// Transports of this configuration, for the dialects of Google Talk.
    pub fn new(config: IceConfig) -> Self {
        Self {
            config: Arc::new(config),
            jingle: false,
        }
    }

    /// Whether sessions of Jingle may use it too, as those of libjingle 0.5 to 0.7 do. Default no.
    #[must_use]
    pub fn with_jingle(mut self, jingle: bool) -> Self {
        self.jingle = jingle;
        self
    }
}

impl TransportFactory for GoogleIceFactory {
    fn namespace(&self) -> &str {
        GOOGLE_P2P
    }

    fn kind(&self) -> TransportKind {
        TransportKind::Datagram
    }

    fn create(&self, context: &TransportContext) -> Box<dyn Transport> {
        Box::new(GoogleTransport {
            config: self.config.clone(),
            random: Random::new(&context.seed),
            context: context.clone(),
            names: Vec::new(),
        })
    }

    fn supports(&self, dialect: &Dialect) -> bool {
        self.jingle || dialect.implied_transport == Some(GOOGLE_P2P)
    }
}

struct GoogleTransport {
    config: Arc<IceConfig>,
    random: Random,
    context: TransportContext,
    /// Channels by component, from 1. A channel that comes again gets the names that it had.
    names: Vec<(Arc<str>, Name)>,
}

impl fmt::Debug for GoogleTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GoogleTransport").finish_non_exhaustive()
    }
}

impl GoogleTransport {
    /// Of the second channel, the name is that of the first with the last character one higher: some derive the user
    /// name of RTCP from that of RTP (libjingle 0.7, p2p/base/transport.cc).
    fn name(&mut self) -> Name {
        let username = match &self.names[..] {
            [(_, first)] => increment(&first.username),
            _ => self.random.text(USERNAME_LENGTH),
        };
        Name {
            username: username.into(),
            password: self.random.text(PASSWORD_LENGTH).into(),
        }
    }
}

/// With the last character one higher; one that stays a letter or a digit of the alphabet that user names are made of.
fn increment(name: &str) -> String {
    let mut name = name.to_owned();
    let last = name.pop().unwrap_or('A');
    name.push(match last {
        '9' | 'Z' | 'z' | '+' => 'A',
        '/' => '0',
        other => char::from(other as u8 + 1),
    });
    name
}

impl Transport for GoogleTransport {
    fn namespace(&self) -> &str {
        GOOGLE_P2P
    }

    /// Candidates follow by themselves.
    fn offer(&mut self) -> Element {
        Element::new(GOOGLE_P2P, "transport")
    }

    fn accept_offer(&mut self, offer: &Element) -> Result<Element, TransportError> {
        expect(offer)?;
        Ok(self.offer())
    }

    fn accept_answer(&mut self, answer: &Element) -> Result<(), TransportError> {
        expect(answer)
    }

    fn create_channel(&mut self, name: &str) -> Result<Box<dyn TransportChannel>, TransportError> {
        let known = self.names.iter().position(|(known, _)| &**known == name);
        let at = known.unwrap_or(self.names.len());
        if at >= self.config.components_max.min(256) {
            return Err(TransportError::NoResource("no component is left".into()));
        }
        if known.is_none() {
            let own = self.name();
            self.names.push((name.into(), own));
        }
        let seed = self.random.seed();
        Ok(Box::new(GoogleChannel::new(
            self.config.clone(),
            &self.context,
            at as u16 + 1,
            self.names[at].1.clone(),
            &seed,
        )))
    }

    fn split_info(&mut self, info: &Element) -> Result<Vec<(InfoTarget, Element)>, TransportError> {
        expect(info)?;
        let candidates = info
            .children()
            .filter(|child| child.is(GOOGLE_P2P, "candidate"));
        candidates
            .map(|child| {
                let child = child.to_element();
                candidate::read(&child)?;
                let name = child.attribute("name").ok_or(TransportError::Malformed {
                    field: "name",
                    problem: "missing",
                })?;
                Ok((InfoTarget::Channel(name.into()), child))
            })
            .collect()
    }
}

fn expect(transport: &Element) -> Result<(), TransportError> {
    if transport.is(GOOGLE_P2P, "transport") {
        return Ok(());
    }
    Err(TransportError::Malformed {
        field: "transport",
        problem: "another name or namespace",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_name_follows_from_the_first() {
        assert_eq!(increment("aIq66Xy0LUKh1h4O"), "aIq66Xy0LUKh1h4P");
        for last in ['A', 'Z', 'a', 'z', '0', '9', '+', '/'] {
            let next = increment(&last.to_string());
            let letter = next.chars().next().unwrap();
            assert!(
                letter != last && (letter.is_ascii_alphanumeric() || letter == '/'),
                "{last}"
            );
        }
    }
}
