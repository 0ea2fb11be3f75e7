//! A stream over WebSocket (RFC 7395), made to look like one over TCP: each message is one element there, and `<open/>` and
//! `<close/>` stand for the tags of the stream.

use super::{
    LoginError, Options,
    connect::{Connected, Connection, race_to, tls_for},
    skipped::is_limit,
};
use crate::{
    splitter::{Frame, Framing, Splitter},
    xml::{self, Context, NS_STREAMS, NS_XML},
};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use session_core::{Element, ElementLimits};
use std::{net::IpAddr, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex, split},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Message,
        client::IntoClientRequest,
        http::{HeaderValue, Request, header::SEC_WEBSOCKET_PROTOCOL},
        protocol::WebSocketConfig,
    },
};
use tracing::debug;

/// What stands around a stream here (RFC 7395 §3.3).
const FRAMING: &str = "urn:ietf:params:xml:ns:xmpp-framing";

/// What we speak (RFC 7395 §3.1).
const PROTOCOL: &str = "xmpp";

/// Bytes that wait on the way to and from the stream's machine.
const PIPE_BYTES: usize = 64 * 1024;

/// How long the network may take for one message.
const STALL_MAX: Duration = Duration::from_secs(60);

/// The longest message that is taken, in bytes; what a stanza may be is for the stream to say.
const MESSAGE_MAX: usize = 4 << 20;

/// Connects to a place such as `wss://example.org:5281/xmpp-websocket`. The certificate has to be for the host in it.
///
/// # Errors
/// As of a connection over TCP; [`LoginError::NoTls`] for `ws:` to another machine.
pub(super) async fn connect(url: &str, options: &Options) -> Result<Connected, LoginError> {
    let odd = |why: String| LoginError::Unreachable(format!("{url}: {why}").into());
    let mut request = url
        .into_client_request()
        .map_err(|error| odd(error.to_string()))?;
    let uri = request.uri();
    let (tls, port) = match uri.scheme_str() {
        Some("wss") => (true, 443),
        Some("ws") => (false, 80),
        _ => return Err(odd("neither wss: nor ws:".to_owned())),
    };
    let host = uri.host().unwrap_or_default();
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let port = uri.port_u16().unwrap_or(port);
    let headers = request.headers_mut();
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    let stream = race_to(&host, port, &options.login.domain).await?;
    if tls {
        let (stream, secured) = tls_for(stream, options, &host).await?;
        let pipe = begin(request, stream, &options.login.limits).await?;
        return Ok(Connected {
            connection: Connection::WebSocket(pipe),
            secured: Some(secured),
        });
    }
    let far = stream.peer_addr().map(|address| address.ip());
    if !far.as_ref().is_ok_and(IpAddr::is_loopback) {
        return Err(LoginError::NoTls);
    }
    let pipe = begin(request, stream, &options.login.limits).await?;
    Ok(Connected {
        connection: Connection::WebSocket(pipe),
        secured: None,
    })
}

/// The handshake, and what carries everything after it.
async fn begin<S>(
    request: Request<()>,
    stream: S,
    limits: &ElementLimits,
) -> Result<DuplexStream, LoginError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let config = WebSocketConfig::default().max_message_size(Some(MESSAGE_MAX));
    let opened = client_async_with_config(request, stream, Some(config)).await;
    let (socket, response) =
        opened.map_err(|error| LoginError::Unreachable(format!("no WebSocket: {error}").into()))?;
    let spoken = response.headers().get(SEC_WEBSOCKET_PROTOCOL);
    if spoken.is_none_or(|spoken| spoken != PROTOCOL) {
        return Err(LoginError::protocol("a WebSocket that is not for XMPP"));
    }
    let (ours, theirs) = duplex(PIPE_BYTES);
    let limits = *limits;
    tokio::spawn(async move {
        if let Err(why) = carry(socket, theirs, &limits).await {
            debug!(why, "a WebSocket ended");
        }
    });
    Ok(ours)
}

/// Carries elements between the socket and the pipe, until either ends. Neither direction waits for the other.
async fn carry<S>(
    socket: WebSocketStream<S>,
    pipe: DuplexStream,
    limits: &ElementLimits,
) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (outgoing, incoming) = socket.split();
    let (reader, writer) = split(pipe);
    tokio::select! {
        ended = carry_out(reader, outgoing) => ended,
        ended = carry_in(incoming, writer, limits) => ended,
    }
}

async fn carry_out<S>(
    mut reader: impl AsyncRead + Unpin,
    mut outgoing: SplitSink<WebSocketStream<S>, Message>,
) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut buffer = vec![0; PIPE_BYTES];
    let mut out = Outgoing::new();
    let late = |_| "nothing is taken".to_owned();
    loop {
        let read = reader.read(&mut buffer).await;
        let count = read.map_err(|error| error.to_string())?;
        if count == 0 {
            let closed = timeout(STALL_MAX, outgoing.close()).await.map_err(late)?;
            return closed.map_err(|error| error.to_string());
        }
        for frame in out.push(&buffer[..count])? {
            // The other end of the pipe may be gone by then, and would not be missed.
            let sent = timeout(STALL_MAX, outgoing.send(Message::text(frame))).await;
            sent.map_err(late)?.map_err(|error| error.to_string())?;
        }
    }
}

async fn carry_in<S>(
    mut incoming: SplitStream<WebSocketStream<S>>,
    mut writer: impl AsyncWrite + Unpin,
    limits: &ElementLimits,
) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match incoming.next().await {
            Some(Ok(Message::Text(text))) => {
                let bytes = received(text.as_bytes(), limits)?;
                let written = writer.write_all(&bytes).await;
                written.map_err(|error| error.to_string())?;
            }
            Some(Ok(Message::Close(_))) | None => return Ok(()),
            Some(Ok(Message::Binary(_))) => return Err("a binary message".to_owned()),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Err(error)) => return Err(error.to_string()),
        }
    }
}

/// Cuts what the stream's machine says into messages.
struct Outgoing(Splitter);

/// What we say ourselves is not measured: what it may be is for the server to say.
const OURS: ElementLimits = ElementLimits {
    depth: usize::MAX,
    children: usize::MAX,
    attributes: usize::MAX,
    elements: usize::MAX,
    namespaces: usize::MAX,
    bytes: usize::MAX,
};

impl Outgoing {
    fn new() -> Self {
        Self(Splitter::new(Framing::Stream, &OURS))
    }

    fn push(&mut self, bytes: &[u8]) -> Result<Vec<String>, String> {
        // After a login the stream begins anew within the same connection, at the beginning of what is written.
        let begins = bytes.starts_with(b"<?xml") || bytes.starts_with(b"<stream:stream");
        if begins && self.0.held() == 0 {
            *self = Self::new();
        }
        self.0.push(bytes);
        let mut frames = Vec::new();
        loop {
            let frame = self.0.next_frame().map_err(|error| error.to_string())?;
            let element = match frame {
                None => return Ok(frames),
                Some(Frame::Close) => Element::new(FRAMING, "close"),
                Some(Frame::Open(bytes)) => {
                    let (header, _) =
                        xml::parse_header(bytes, &OURS).map_err(|error| error.to_string())?;
                    rename(&header, FRAMING, "open")
                }
                Some(Frame::Stanza(bytes)) => {
                    xml::parse(bytes, &Context::CLIENT, &OURS).map_err(|error| error.to_string())?
                }
            };
            let mut out = Vec::new();
            xml::write(&element, &Context::NONE, &mut out).map_err(|error| error.to_string())?;
            frames.push(String::from_utf8(out).map_err(|error| error.to_string())?);
        }
    }
}

/// What a message is in a stream over TCP.
fn received(message: &[u8], limits: &ElementLimits) -> Result<Vec<u8>, String> {
    // A server that leaves out the namespace means this one.
    let context = Context::new(crate::ns::CLIENT, [("stream", NS_STREAMS)]);
    let message = message.trim_ascii();
    let element = match xml::parse(message, &context, limits) {
        // The stream's machine counts what it skips.
        Err(error) if is_limit(&error) && is_whole(message, limits) => return Ok(message.to_vec()),
        element => element.map_err(|error| error.to_string())?,
    };
    if element.is(FRAMING, "close") {
        return Ok(b"</stream:stream>".to_vec());
    }
    let mut out = Vec::new();
    let written = if element.is(FRAMING, "open") {
        let header = rename(&element, NS_STREAMS, "stream");
        xml::write_header(&header, &Context::CLIENT, &mut out)
    } else {
        xml::write(&element, &Context::CLIENT, &mut out)
    };
    written.map(|()| out).map_err(|error| error.to_string())
}

/// Whether a message is one element and nothing else, whatever its size.
fn is_whole(message: &[u8], limits: &ElementLimits) -> bool {
    let mut splitter = Splitter::new(Framing::Bare, limits);
    splitter.push(message);
    let one = matches!(splitter.next_part(), Ok(Some(_)));
    one && splitter.next_part() == Ok(None) && splitter.held() == 0
}

/// A header under another name.
fn rename(header: &Element, namespace: &'static str, name: &'static str) -> Element {
    let mut out = Element::new(namespace, name);
    for key in ["to", "from", "id", "version"] {
        out = out.with_opt(key, header.attribute(key));
    }
    match header.attribute_ns(NS_XML, "lang") {
        Some(lang) => out.with_ns(NS_XML, "lang", lang),
        None => out,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_tungstenite::tungstenite::protocol::Role;

    #[test]
    fn tags_become_messages_and_back() {
        let limits = ElementLimits::default();
        let mut out = Outgoing::new();
        let mut header = Vec::new();
        let element = Element::new(NS_STREAMS, "stream")
            .with("to", "x")
            .with("version", "1.0");
        xml::write_header(&element, &Context::CLIENT, &mut header).unwrap();
        let open = out.push(&header).unwrap();
        assert_eq!(open.len(), 1);
        assert!(
            open[0].starts_with("<open xmlns='urn:ietf:params:xml:ns:xmpp-framing'"),
            "{open:?}"
        );
        assert!(open[0].contains("to='x'"));
        let auth = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>x</auth>";
        assert_eq!(out.push(auth.as_bytes()).unwrap(), [auth]);
        assert_eq!(
            out.push(&header).unwrap().len(),
            1,
            "the stream begins anew"
        );
        let cut = out.push(b"<iq id='1'/><mess").unwrap();
        assert_eq!(cut, ["<iq xmlns='jabber:client' id='1'/>"]);
        assert_eq!(out.push(b"age/></stream:stream>").unwrap().len(), 2);

        let text = |message: &str| {
            String::from_utf8(received(message.as_bytes(), &limits).unwrap()).unwrap()
        };
        let header = text(
            "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' id='1' from='x' version='1.0'/>",
        );
        let parsed = xml::parse_header(
            &header.as_bytes()[header.find("<stream").unwrap()..],
            &limits,
        )
        .unwrap();
        assert_eq!(
            (parsed.0.attribute("id"), parsed.1.default_namespace()),
            (Some("1"), crate::ns::CLIENT)
        );
        assert_eq!(
            text("<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>"),
            "</stream:stream>"
        );
        assert_eq!(
            text("<message xmlns='jabber:client' id='2'/>"),
            "<message id='2'/>"
        );
        assert_eq!(text("<message id='3'/>"), "<message id='3'/>");
        let features = text("<stream:features xmlns:stream='http://etherx.jabber.org/streams'/>");
        assert_eq!(features, "<stream:features/>");
        assert!(received(b"<a/><b/>", &limits).is_err());
        assert!(received(b"x", &limits).is_err());
    }

    /// A login over a WebSocket, and its server's end.
    async fn joined() -> (DuplexStream, WebSocketStream<DuplexStream>) {
        let (near, far) = duplex(4 * 1024);
        let socket = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        let server = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
        let (mut ours, theirs) = duplex(PIPE_BYTES);
        tokio::spawn(async move { carry(socket, theirs, &ElementLimits::default()).await });
        let header = b"<stream:stream xmlns='jabber:client' version='1.0' \
                       xmlns:stream='http://etherx.jabber.org/streams'>";
        ours.write_all(header).await.unwrap();
        (ours, server)
    }

    async fn hears(pipe: &mut DuplexStream, text: &str) {
        let mut heard = vec![0; text.len()];
        let read = timeout(Duration::from_secs(5), pipe.read_exact(&mut heard)).await;
        read.expect("soon").unwrap();
        assert_eq!(String::from_utf8(heard).unwrap(), text);
    }

    #[tokio::test]
    async fn a_stanza_that_breaks_a_limit_is_for_the_stream_to_skip() {
        let (mut ours, mut server) = joined().await;
        let deep = format!(
            "<message>{}{}</message>",
            "<d>".repeat(64),
            "</d>".repeat(64)
        );
        for text in [&deep, "<message/>"] {
            server.send(Message::text(text)).await.unwrap();
            hears(&mut ours, text).await;
        }
        // What is no single element is nothing, long or not.
        let limits = ElementLimits::default();
        for odd in [
            format!("{deep}<message/>"),
            format!("{deep}x"),
            deep[..deep.len() - 1].to_owned(),
            deep.replacen("</d>", "<!-- -->", 1),
        ] {
            assert!(received(odd.as_bytes(), &limits).is_err(), "{odd}");
        }
        assert_eq!(received(deep.as_bytes(), &limits), Ok(deep.into_bytes()));
    }

    #[test]
    fn what_we_say_is_not_measured() {
        let mut out = Outgoing::new();
        let long = format!("<message x='{}'/>", "x".repeat(ElementLimits::BYTES));
        let header =
            "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
        assert_eq!(out.push(header.as_bytes()).unwrap().len(), 1);
        assert_eq!(out.push(long.as_bytes()).unwrap().len(), 1);
    }

    #[tokio::test]
    async fn what_arrives_passes_while_nothing_can_be_sent() {
        let (mut ours, mut server) = joined().await;
        for _ in 0..1_000 {
            ours.write_all(b"<message/>").await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        server.send(Message::text("<iq id='1'/>")).await.unwrap();
        hears(&mut ours, "<iq id='1'/>").await;
    }
}
