//! Where the web says that a server has its WebSocket (XEP-0156 §3): the way to one from where only the web gets through.

use super::{
    Options,
    connect::{race_to, tls_for},
};
use crate::xml::{self, Context};
use session_core::ElementLimits;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

/// What a link to a WebSocket is called.
const REL: &str = "urn:xmpp:alt-connections:websocket";

const XRD: &str = "http://docs.oasis-open.org/ns/xri/xrd-1.0";

/// The port of the web.
pub(super) const HTTPS: u16 = 443;

/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// How long one question may take. It is asked when everything else has failed.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// The address of the WebSocket of the account's domain, asked of the domain's own web server, whose certificate counts.
pub(super) async fn websocket(options: &Options, port: u16) -> Option<String> {
    let json = fetch(options, port, "/.well-known/host-meta.json").await;
    if let Some(url) = json.as_deref().and_then(in_json) {
        return Some(url);
    }
    let xml = fetch(options, port, "/.well-known/host-meta").await;
    xml.as_deref().and_then(in_xml)
}

/// The body of an answer that is good. HTTP 1.0, so that it comes in one piece and ends with the connection.
async fn fetch(options: &Options, port: u16, path: &str) -> Option<Vec<u8>> {
    let host = idna::domain_to_ascii(&options.login.domain).ok()?;
    let asked = async {
        let stream = race_to(&host, port, &host).await.ok()?;
        let (mut stream, _) = tls_for(stream, options, &host).await.ok()?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept: */*\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        let mut reader = stream.take(ANSWER_BYTES_MAX as u64);
        // Many end TLS without a word; what came counts.
        let _ = reader.read_to_end(&mut answer).await;
        Some(answer)
    };
    body(&timeout(ANSWER_MAX, asked).await.ok()??).map(<[u8]>::to_vec)
}

fn body(answer: &[u8]) -> Option<&[u8]> {
    let status = answer.split(|byte| *byte == b'\r').next()?;
    let mut words = status.split(|byte| *byte == b' ');
    let (version, code) = (words.next()?, words.next()?);
    let end = memchr::memmem::find(answer, b"\r\n\r\n")?;
    (version.starts_with(b"HTTP/1.") && code == b"200").then(|| &answer[end + 4..])
}

/// In the form of RFC 6415, appendix A.
fn in_json(text: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(text).ok()?;
    let links = value.get("links")?.as_array()?;
    let urls = links.iter().filter_map(|link| {
        let text = |key: &str| link.get(key).and_then(serde_json::Value::as_str);
        text("href").filter(|_| text("rel") == Some(REL))
    });
    secure(urls)
}

/// In the form of RFC 6415 §3.
fn in_xml(text: &[u8]) -> Option<String> {
    let start = memchr::memmem::find(text, b"<XRD")?;
    let text = text[start..].trim_ascii_end();
    let document = xml::parse(text, &Context::NONE, &ElementLimits::default()).ok()?;
    let links = document.children().filter(|child| child.is(XRD, "Link"));
    let links = links.filter(|link| link.attribute("rel") == Some(REL));
    secure(links.filter_map(|link| link.attribute("href")))
}

/// The first that TLS protects; others would lead anywhere.
fn secure<'a>(mut urls: impl Iterator<Item = &'a str>) -> Option<String> {
    urls.find(|url| url.starts_with("wss://"))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        client::{Authorities, Password},
        endpoint::rustls,
    };
    use std::sync::Arc;
    use tokio::net::TcpListener;

    #[test]
    fn links_are_found_in_both_forms() {
        let json = br#"{"links":[{"rel":"urn:xmpp:alt-connections:xbosh","href":"https://x/bosh"},
            {"rel":"urn:xmpp:alt-connections:websocket","href":"ws://x/plain"},{"rel":7},
            {"rel":"urn:xmpp:alt-connections:websocket","href":"wss://x/ws"}]}"#;
        assert_eq!(in_json(json).as_deref(), Some("wss://x/ws"));
        let xml = b"<?xml version='1.0' encoding='utf-8'?>\n<XRD xmlns='http://docs.oasis-open.org/ns/xri/xrd-1.0'>\
            <Link rel='urn:xmpp:alt-connections:xbosh' href='https://x'/>\
            <Link rel='urn:xmpp:alt-connections:websocket' href='wss://x/ws'/></XRD>\n";
        assert_eq!(in_xml(xml).as_deref(), Some("wss://x/ws"));
        for odd in [&b""[..], b"{}", b"[]", b"<XRD", b"{\"links\":3}", b"<XRD/>"] {
            assert_eq!((in_json(odd), in_xml(odd)), (None, None));
        }
        assert_eq!(body(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nxy"), Some(&b"xy"[..]));
        for odd in [
            &b"HTTP/1.1 404 No\r\n\r\nxy"[..],
            b"200\r\n\r\n",
            b"HTTP/1.0 200",
            b"",
        ] {
            assert_eq!(body(odd), None);
        }
    }

    /// A web server that knows the XML form alone.
    async fn serve(listener: TcpListener, config: Arc<rustls::ServerConfig>) {
        let acceptor = tokio_rustls::TlsAcceptor::from(config);
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut asked = Vec::new();
            while memchr::memmem::find(&asked, b"\r\n\r\n").is_none() {
                if stream.read_buf(&mut asked).await.unwrap() == 0 {
                    break;
                }
            }
            let xml = "<XRD xmlns='http://docs.oasis-open.org/ns/xri/xrd-1.0'>\
                <Link rel='urn:xmpp:alt-connections:websocket' href='wss://localhost/ws'/></XRD>";
            let answer = match asked.starts_with(b"GET /.well-known/host-meta HTTP/1.0\r\n") {
                true => format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{xml}"),
                false => "HTTP/1.1 404 Not Found\r\n\r\n".to_owned(),
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
            let _ = stream.shutdown().await;
        }
    }

    #[tokio::test]
    async fn the_domain_itself_is_asked_and_has_to_prove_who_it_is() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.unwrap())
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(serve(listener, config.into()));
        let mut options = Options::new(&"alice@localhost".into(), Password::new("x"));
        let trusted = Authorities::from_pem(made.cert.pem().as_bytes()).unwrap();
        options.tls = Some(trusted.only().unwrap());
        let found = websocket(&options, port).await;
        assert_eq!(found.as_deref(), Some("wss://localhost/ws"));
        options.tls = None;
        assert_eq!(websocket(&options, port).await, None);
    }
}
