//! Servers beside the XMPP server, STUN and TURN above all, with what they ask for (XEP-0215).

use crate::endpoint::{Endpoint, QueryKind};
use session_core::{Element, ElementRef, Peer, StanzaError};
use std::{fmt, time::Duration};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The namespace of XEP-0215.
pub const EXTDISCO: &str = "urn:xmpp:extdisco:2";

/// Services that are read of one answer.
const SERVICES_MAX: usize = 64;

/// How long the server may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Credentials are renewed no more often than this, whatever the server says.
pub const RENEWAL_MIN: Duration = Duration::from_secs(60);

/// Credentials without an end are asked for again after this time.
pub const RENEWAL_DEFAULT: Duration = Duration::from_secs(60 * 60);

/// A server beside the XMPP server.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExternalService {
    /// What it is: `stun`, `stuns`, `turn`, `turns` or anything else.
    pub kind: String,
    /// A name or an address.
    pub host: String,
    /// The port; none where the service's own default applies.
    pub port: Option<u16>,
    /// `udp` or `tcp`; empty where the server does not say.
    pub transport: String,
    /// Who to be there.
    pub username: Option<String>,
    /// And how to prove it.
    pub password: Option<String>,
    /// Until when that holds, in seconds since 1970.
    pub expires: Option<i64>,
    /// Whether it asks for credentials.
    pub restricted: bool,
}

impl fmt::Debug for ExternalService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalService")
            .field("kind", &self.kind)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("transport", &self.transport)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("expires", &self.expires)
            .field("restricted", &self.restricted)
            .finish()
    }
}

impl ExternalService {
    fn read(element: ElementRef<'_>) -> Option<Self> {
        let attribute = |name| element.attribute(name).filter(|value| !value.is_empty());
        let owned = |name| attribute(name).map(str::to_owned);
        let expires = attribute("expires");
        let expires = expires.and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
        let port = match attribute("port") {
            None => None,
            // A port that is none makes a service that is none.
            Some(port) => Some(port.parse().ok().filter(|port| *port != 0)?),
        };
        Some(Self {
            kind: owned("type")?,
            host: owned("host")?,
            port,
            transport: owned("transport").unwrap_or_default().to_ascii_lowercase(),
            username: owned("username"),
            password: owned("password"),
            expires: expires.map(OffsetDateTime::unix_timestamp),
            restricted: matches!(attribute("restricted"), Some("true" | "1")),
        })
    }

    /// Whether it asks for credentials that are not there.
    pub fn lacks_credentials(&self) -> bool {
        let relay = matches!(&*self.kind, "turn" | "turns");
        (self.restricted || relay) && (self.username.is_none() || self.password.is_none())
    }
}

/// The services in an answer. What cannot be read is left out, and the rest stays.
pub fn read(services: ElementRef<'_>) -> Vec<ExternalService> {
    let children = services
        .children()
        .filter(|child| child.is(EXTDISCO, "service"));
    children
        .filter_map(ExternalService::read)
        .take(SERVICES_MAX)
        .collect()
}

/// Asks a server for all of its services, and for the credentials that it did not give along; where TURN lacks them and TURN
/// over TLS at the same host has them, or the other way round, they are taken for the same.
///
/// # Errors
/// The server's, as of [`Endpoint::query`].
pub async fn fetch(
    endpoint: &Endpoint,
    server: &Peer,
) -> Result<Vec<ExternalService>, StanzaError> {
    let all = Element::new(EXTDISCO, "services");
    let answer = endpoint
        .query(QueryKind::Get, server.clone(), all, ANSWER_MAX)
        .await?;
    let mut services = answer.map_or_else(Vec::new, |answer| read(answer.view()));
    share_credentials(&mut services);
    for at in 0..services.len() {
        if !services[at].lacks_credentials() {
            continue;
        }
        let service = &services[at];
        let wanted = Element::new(EXTDISCO, "service")
            .with("host", &service.host)
            .with("type", &service.kind)
            .with_opt("port", service.port);
        let question = Element::new(EXTDISCO, "credentials").child(wanted);
        let answer = endpoint
            .query(QueryKind::Get, server.clone(), question, ANSWER_MAX)
            .await;
        // Without an answer the service stays as it is: who can do without credentials may.
        let Ok(Some(answer)) = answer else { continue };
        let found = read(answer.view()).into_iter().find(|found| {
            found.kind == service.kind && (found.port.is_none() || found.port == service.port)
        });
        if let Some(found) = found {
            let service = &mut services[at];
            service.username = found.username;
            service.password = found.password;
            service.expires = found.expires.or(service.expires);
        }
        share_credentials(&mut services);
    }
    Ok(services)
}

fn share_credentials(services: &mut [ExternalService]) {
    let donors: Vec<_> = services
        .iter()
        .filter(|service| service.kind.starts_with("turn") && !service.lacks_credentials())
        .cloned()
        .collect();
    let poor = services
        .iter_mut()
        .filter(|service| service.kind.starts_with("turn") && service.lacks_credentials());
    for service in poor {
        if let Some(donor) = donors.iter().find(|donor| donor.host == service.host) {
            service.username.clone_from(&donor.username);
            service.password.clone_from(&donor.password);
            service.expires = donor.expires;
        }
    }
}

/// When to ask again, from `now` in seconds since 1970: at half of the time that is left, so that what is in use at that
/// moment still lasts while the new is put in its place.
pub fn renewal(services: &[ExternalService], now: i64) -> Duration {
    let ends = services.iter().filter_map(|service| service.expires).min();
    let Some(end) = ends else {
        return RENEWAL_DEFAULT;
    };
    let left = u64::try_from(end.saturating_sub(now)).unwrap_or(0);
    Duration::from_secs(left / 2).max(RENEWAL_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::{self, Context};
    use session_core::ElementLimits;

    fn services(inner: &str) -> Vec<ExternalService> {
        let text = format!("<services xmlns='{EXTDISCO}'>{inner}</services>");
        let element = xml::parse(text.as_bytes(), &Context::NONE, &ElementLimits::default());
        read(element.unwrap().view())
    }

    #[test]
    fn what_cannot_be_read_harms_no_other() {
        let found = services(
            "<service type='stun' host='s.example' port='3478' transport='UDP'/>\
             <service type='turns' host='t.example' port='5349' transport='tcp' username='u' password='p' \
              expires='2026-11-23T12:00:00Z' restricted='1'/>\
             <service type='turn' host='t.example' port='0'/><service host='x'/><service type='x' port='70000' host='y'/>\
             <service type='ftp' host='f.example'/><other/>",
        );
        let kinds: Vec<_> = found.iter().map(|service| service.kind.as_str()).collect();
        assert_eq!(kinds, ["stun", "turns", "ftp"]);
        assert_eq!(
            (found[0].transport.as_str(), found[0].port),
            ("udp", Some(3478))
        );
        assert_eq!(found[1].expires, Some(1_795_435_200));
        assert!(found.iter().all(|service| !service.lacks_credentials()));
        assert!(
            !format!("{found:?}").contains("\"p\""),
            "a password is not shown"
        );
    }

    #[test]
    fn one_relay_has_one_pair_of_credentials() {
        let mut found = services(
            "<service type='turn' host='a' username='u' password='p' expires='2026-11-23T12:00:00+01:00'/>\
             <service type='turns' host='a'/><service type='turn' host='b' restricted='true'/>",
        );
        assert!(found[1].lacks_credentials());
        share_credentials(&mut found);
        assert_eq!(found[1].username.as_deref(), Some("u"));
        assert_eq!(found[1].expires, found[0].expires);
        assert!(found[2].lacks_credentials(), "another host has its own");
    }

    #[test]
    fn credentials_are_renewed_at_half_time() {
        let mut found = services("<service type='stun' host='a'/>");
        assert_eq!(renewal(&found, 0), RENEWAL_DEFAULT);
        found[0].expires = Some(10_000);
        assert_eq!(renewal(&found, 4_000), Duration::from_secs(3_000));
        for late in [9_990, 10_000, i64::MAX] {
            assert_eq!(renewal(&found, late), RENEWAL_MIN);
        }
    }
}
