//! What a relay's web server is asked, and what it answers (libjingle p2p/client/httpportallocator.cc).

use super::{GoogleProtocol, wire::MAGIC_COOKIE};
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};
use thiserror::Error;

/// Bytes of an answer that are kept.
pub(super) const ANSWER_MAX: usize = 16 * 1024;
/// Characters of a user name.
const USERNAME_MAX: usize = 256;
/// Characters of a token.
const TOKEN_MAX: usize = 4_096;

/// A session of a relay.
#[derive(Clone, PartialEq, Eq)]
pub struct RelaySession {
    /// What opens the allocation, and what peers have to begin with.
    pub username: Arc<str>,
    /// What marks messages for the relay.
    pub magic_cookie: [u8; 4],
    /// Where it takes allocations, in the order in which they are to be tried. None where the answer named none.
    pub ways: Vec<(GoogleProtocol, SocketAddr)>,
}

impl fmt::Debug for RelaySession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelaySession")
            .field("ways", &self.ways)
            .finish_non_exhaustive()
    }
}

/// Why there is no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SessionError {
    /// The token or the name cannot stand in a request.
    #[error("the token or the name of the relay cannot stand in a request")]
    Unwritable,
    /// The answer is none of HTTP.
    #[error("the answer is none of a web server")]
    Malformed,
    /// It refuses.
    #[error("the web server of the relay refuses, with status {0}")]
    Refused(u16),
    /// It names no user.
    #[error("the answer names no user")]
    NoUser,
}

/// The request, after which the server closes the connection.
///
/// # Errors
/// [`SessionError::Unwritable`].
pub(super) fn request(name: &str, token: &str) -> Result<String, SessionError> {
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    if !plain(name) || !plain(token) || token.len() > TOKEN_MAX || name.len() > 255 {
        return Err(SessionError::Unwritable);
    }
    // Old servers look for the one header, new ones for the other. HTTP 1.0 is answered in one piece.
    Ok(format!(
        "GET /create_session HTTP/1.0\r\nHost: {name}\r\nX-Talk-Google-Relay-Auth: {token}\r\n\
         X-Google-Relay-Auth: {token}\r\nX-Stream-Type: video_rtp\r\nContent-Length: 0\r\n\r\n"
    ))
}

impl RelaySession {
    /// Reads the whole answer: lines of `key=value`.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn read(answer: &[u8]) -> Result<Self, SessionError> {
        let end = answer
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .ok_or(SessionError::Malformed)?;
        let head = std::str::from_utf8(&answer[..end]).map_err(|_| SessionError::Malformed)?;
        let mut words = head.split_ascii_whitespace();
        if !words.next().is_some_and(|word| word.starts_with("HTTP/1.")) {
            return Err(SessionError::Malformed);
        }
        let status = words.next().and_then(|word| word.parse().ok());
        match status {
            Some(200) => {}
            Some(other) => return Err(SessionError::Refused(other)),
            None => return Err(SessionError::Malformed),
        }
        let body = &answer[end + 4..];
        let value = |key: &str| {
            let mut lines = body.split(|byte| *byte == b'\n');
            let line =
                lines.find_map(|line| line.strip_prefix(key.as_bytes())?.strip_prefix(b"="))?;
            Some(line.strip_suffix(b"\r").unwrap_or(line))
        };
        let text = |key| value(key).and_then(|value| std::str::from_utf8(value).ok());
        let username = text("username").map(str::trim).filter(|name| {
            (1..=USERNAME_MAX).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic())
        });
        let cookie = value("magic_cookie").and_then(|value| value.try_into().ok());
        let ip: Option<IpAddr> = text("relay.ip").and_then(|ip| ip.trim().parse().ok());
        let ways = [
            (GoogleProtocol::Udp, "relay.udp_port"),
            (GoogleProtocol::Tcp, "relay.tcp_port"),
            (GoogleProtocol::SslTcp, "relay.ssltcp_port"),
        ];
        let ways = ways.into_iter().filter_map(|(protocol, key)| {
            let port: u16 = text(key)?.trim().parse().ok()?;
            let usable = port != 0 && ip?.is_ipv4() && !ip?.is_unspecified() && !ip?.is_multicast();
            usable.then_some((protocol, SocketAddr::new(ip?, port)))
        });
        Ok(Self {
            username: username.ok_or(SessionError::NoUser)?.into(),
            magic_cookie: cookie.unwrap_or(MAGIC_COOKIE),
            ways: ways.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nrelay.ip=192.0.2.9\n\
        relay.udp_port=19295\r\nrelay.tcp_port=19294\nrelay.ssltcp_port=443\nusername=0123456789abcdef\n\
        password=xyz\nmagic_cookie=r\xc6K\xc6\nother=1\n";

    #[test]
    fn the_answer_names_a_user_and_where_to_go() {
        let session = RelaySession::read(ANSWER).unwrap();
        assert_eq!(&*session.username, "0123456789abcdef");
        assert_eq!(session.magic_cookie, MAGIC_COOKIE);
        let at = |port| SocketAddr::new("192.0.2.9".parse().unwrap(), port);
        let ways = [
            (GoogleProtocol::Udp, at(19_295)),
            (GoogleProtocol::Tcp, at(19_294)),
            (GoogleProtocol::SslTcp, at(443)),
        ];
        assert_eq!(session.ways, ways);
        assert!(!format!("{session:?}").contains("0123"));
    }

    #[test]
    fn what_is_no_session_is_said() {
        let read = |text: &str| RelaySession::read(text.as_bytes());
        assert_eq!(read("220 smtp"), Err(SessionError::Malformed));
        assert_eq!(read("SSH-2.0\r\n\r\n"), Err(SessionError::Malformed));
        let refused = read("HTTP/1.1 403 No\r\n\r\n");
        assert_eq!(refused, Err(SessionError::Refused(403)));
        assert_eq!(
            read("HTTP/1.0 200 OK\r\n\r\na=b"),
            Err(SessionError::NoUser)
        );
        let odd = read("HTTP/1.0 200 OK\r\n\r\nusername=a b\n");
        assert_eq!(odd, Err(SessionError::NoUser));
        let bare = read("HTTP/1.0 200 OK\r\n\r\nusername=ab\nrelay.ip=224.0.0.1\nrelay.udp_port=1");
        assert_eq!(bare.unwrap().ways, []);
    }

    #[test]
    fn nothing_in_a_token_can_add_to_the_request() {
        let text = request("relay.example", "TOKEN").unwrap();
        assert!(text.starts_with("GET /create_session HTTP/1.0\r\nHost: relay.example\r\n"));
        assert_eq!(text.matches("TOKEN").count(), 2);
        assert!(text.ends_with("\r\n\r\n"));
        for (name, token) in [("a", "x\r\nEvil: 1"), ("a b", "x"), ("", "x"), ("a", "")] {
            assert_eq!(request(name, token), Err(SessionError::Unwritable));
        }
        let long = "x".repeat(TOKEN_MAX + 1);
        assert_eq!(request("a", &long), Err(SessionError::Unwritable));
    }

    proptest! {
        #[test]
        fn no_answer_is_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0..60_usize) {
            let _ = RelaySession::read(&bytes);
            let mut answer = ANSWER.to_vec();
            answer.truncate(ANSWER.len() - at);
            answer.extend(bytes);
            let _ = RelaySession::read(&answer);
        }
    }
}
