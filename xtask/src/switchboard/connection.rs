//! One client's connection: the stream (RFC 6120 §4), TLS, SASL, binding, and what the server itself answers.

use std::sync::Arc;
use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use session_core::{Element, ElementLimits};
use session_xmpp::splitter::{Frame, Framing, Splitter};
use session_xmpp::xml::{self, Context, NS_STREAMS};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::auth::{self, Hash, Scram};
use super::router::{self, Router, Seat};
use super::server::Shared;

const CLIENT: &str = "jabber:client";
const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
const SASL_CB: &str = "urn:xmpp:sasl-cb:0";
const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
const SESSION: &str = "urn:ietf:params:xml:ns:xmpp-session";
const STANZAS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
const STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
const DISCO_ITEMS: &str = "http://jabber.org/protocol/disco#items";
const ROSTER: &str = "jabber:iq:roster";
const CARBONS: &str = "urn:xmpp:carbons:2";
const EXTDISCO: &str = "urn:xmpp:extdisco:2";
const PING: &str = "urn:xmpp:ping";

/// How long a client may take to log in.
const LOGIN_MAX: Duration = Duration::from_secs(30);
/// How long a client may take to read what is written to it.
const WRITE_MAX: Duration = Duration::from_secs(10);
/// Wrong passwords before the connection is ended.
const FAILURES_MAX: usize = 3;
/// The longest name of a device.
const RESOURCE_MAX: usize = 256;

/// How a stream ends.
enum End {
    /// By this stream error.
    Error(&'static str),
    /// In order.
    Closed,
    /// The connection is gone.
    Lost,
}

/// A connection, over TCP or TLS.
struct Stream<S> {
    shared: Arc<Shared>,
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    splitter: Splitter,
    limits: ElementLimits,
    buffer: Vec<u8>,
    /// What SASL can be bound to; within TLS.
    binding: Option<Vec<u8>>,
}

/// Serves a client until one of both has had enough.
pub(super) async fn serve(shared: Arc<Shared>, mut socket: TcpStream) {
    let mut plain = Stream::new(shared.clone(), &mut socket, None);
    let secured = timeout(LOGIN_MAX, plain.until_tls()).await;
    match secured.unwrap_or(Err(End::Error("connection-timeout"))) {
        Ok(()) => drop(plain),
        Err(end) => return plain.end(end).await,
    }
    let accepted = timeout(LOGIN_MAX, shared.tls.accept(socket)).await;
    let Ok(Ok(tls)) = accepted else { return };
    let label = b"EXPORTER-Channel-Binding";
    let binding = tls
        .get_ref()
        .1
        .export_keying_material([0; 32], label, Some(b""));
    let is_13 = tls.get_ref().1.protocol_version()
        == Some(session_xmpp::endpoint::rustls::ProtocolVersion::TLSv1_3);
    let binding = binding
        .ok()
        .filter(|_| is_13)
        .map(|binding| binding.to_vec());
    let mut stream = Stream::new(shared.clone(), tls, binding);
    let login = timeout(LOGIN_MAX, stream.login(&shared.router)).await;
    let end = match login.unwrap_or(Err(End::Error("connection-timeout"))) {
        Ok((seat, queue)) => stream.stanzas(&seat, queue).await,
        Err(end) => end,
    };
    stream.end(end).await;
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    fn new(shared: Arc<Shared>, connection: S, binding: Option<Vec<u8>>) -> Self {
        let (reader, writer) = tokio::io::split(connection);
        let limits = ElementLimits::default();
        Self {
            shared,
            reader,
            writer,
            splitter: Splitter::new(Framing::Stream, &limits),
            limits,
            buffer: vec![0; 16 * 1024],
            binding,
        }
    }

    /// Up to the point where TLS begins.
    async fn until_tls(&mut self) -> Result<(), End> {
        let required = Element::new(TLS, "required");
        let offer = Element::new(TLS, "starttls").child(required);
        self.open(vec![offer]).await?;
        let element = self.element().await?;
        if !element.is(TLS, "starttls") {
            return Err(End::Error("policy-violation"));
        }
        self.send(&Element::new(TLS, "proceed")).await?;
        if self.splitter.held() > 0 {
            return Err(End::Error("policy-violation"));
        }
        Ok(())
    }

    /// SASL and binding; the client's place, which it has before it is told so: whoever it tells may ask for it at once.
    async fn login<'a>(
        &mut self,
        router: &'a Router,
    ) -> Result<(Seat<'a>, mpsc::Receiver<Bytes>), End> {
        let offers = self.mechanisms();
        self.open(offers).await?;
        let user = self.authenticate().await?;
        self.splitter.restart();
        let optional = Element::new(SESSION, "optional");
        let session = Element::new(SESSION, "session").child(optional);
        self.open(vec![Element::new(BIND, "bind"), session]).await?;
        loop {
            let element = self.element().await?;
            let bind = element
                .find(BIND, "bind")
                .filter(|_| element.is(CLIENT, "iq"));
            let Some(bind) = bind else {
                return Err(End::Error("not-authorized"));
            };
            let wanted = bind.find(BIND, "resource");
            let wanted = wanted.map(|wanted| wanted.text_content().into_owned());
            let made_up = || {
                auth::random::<6>()
                    .map(|byte| format!("{byte:02x}"))
                    .concat()
            };
            let resource = wanted.filter(|name| !name.is_empty() && name.len() <= RESOURCE_MAX);
            let resource = resource.unwrap_or_else(made_up);
            let domain = &self.shared.domain;
            let full = format!("{user}@{domain}/{resource}");
            let Ok(address) = session_xmpp::address::parse(&full) else {
                self.send(&error(&element, "modify", "bad-request")).await?;
                continue;
            };
            let mut address = address.as_str().to_owned();
            if router.has(&address) {
                address = format!("{address}-{}", made_up());
            }
            let jid = Element::new(BIND, "jid").text(&address);
            let bound = Element::new(BIND, "bind").child(jid);
            let place = router.join(&address);
            self.send(&result(&element, Some(bound))).await?;
            return Ok(place);
        }
    }

    fn mechanisms(&self) -> Vec<Element> {
        let mut names = Vec::new();
        if !self.shared.accounts.is_empty() {
            if self.binding.is_some() {
                names.extend(["SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"]);
            }
            names.extend(["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"]);
        }
        if self.shared.anonymous {
            names.push("ANONYMOUS");
        }
        let names = names
            .into_iter()
            .map(|name| Element::new(SASL, "mechanism").text(name));
        let mut offers = vec![Element::new(SASL, "mechanisms").children_from(names)];
        if self.binding.is_some() {
            let kind = Element::new(SASL_CB, "channel-binding").with("type", "tls-exporter");
            offers.push(Element::new(SASL_CB, "sasl-channel-binding").child(kind));
        }
        offers
    }

    /// Who the client is.
    async fn authenticate(&mut self) -> Result<String, End> {
        for _ in 0..FAILURES_MAX {
            let element = self.element().await?;
            if !element.is(SASL, "auth") {
                return Err(End::Error("not-authorized"));
            }
            let mechanism = element.attribute("mechanism").unwrap_or_default();
            let initial = decode(&element);
            let found = match mechanism {
                "SCRAM-SHA-256" | "SCRAM-SHA-256-PLUS" => {
                    self.scram(Hash::Sha256, mechanism, initial).await?
                }
                "SCRAM-SHA-1" | "SCRAM-SHA-1-PLUS" => {
                    self.scram(Hash::Sha1, mechanism, initial).await?
                }
                "PLAIN" => {
                    let user = initial.and_then(|data| auth::plain(&self.shared.accounts, &data));
                    user.map(|user| (user, String::new()))
                }
                "ANONYMOUS" if self.shared.anonymous => {
                    let name = auth::random::<8>()
                        .map(|byte| format!("{byte:02x}"))
                        .concat();
                    Some((name, String::new()))
                }
                _ => None,
            };
            if let Some((user, proof)) = found {
                let success = Element::new(SASL, "success").text(&BASE64.encode(proof));
                self.send(&success).await?;
                return Ok(user);
            }
            let failure = Element::new(SASL, "failure");
            let failure = failure.child(Element::new(SASL, "not-authorized"));
            self.send(&failure).await?;
        }
        Err(End::Error("policy-violation"))
    }

    async fn scram(
        &mut self,
        hash: Hash,
        mechanism: &str,
        initial: Option<Vec<u8>>,
    ) -> Result<Option<(String, String)>, End> {
        let binding = (mechanism.ends_with("-PLUS"), self.binding.as_deref());
        let initial = initial.unwrap_or_default();
        let begun = Scram::begin(&self.shared.accounts, hash, &initial, binding);
        let Some((scram, challenge)) = begun else {
            return Ok(None);
        };
        let challenge = Element::new(SASL, "challenge").text(&BASE64.encode(challenge));
        self.send(&challenge).await?;
        let response = self.element().await?;
        if !response.is(SASL, "response") {
            return Ok(None);
        }
        Ok(decode(&response).and_then(|response| scram.finish(&response)))
    }

    /// Carries stanzas in both directions; how it ends.
    async fn stanzas(&mut self, seat: &Seat<'_>, mut queue: mpsc::Receiver<Bytes>) -> End {
        loop {
            match self.next() {
                Ok(Some(element)) => {
                    if let Some(answer) = self.handle(&seat.address, element)
                        && let Err(end) = self.send(&answer).await
                    {
                        return end;
                    }
                    continue;
                }
                Ok(None) => {}
                Err(end) => return end,
            }
            tokio::select! {
                stanza = queue.recv() => {
                    // Put out: replaced by another login, or too slow.
                    let Some(stanza) = stanza else { return End::Error("conflict") };
                    if let Err(end) = self.write(&stanza).await {
                        return end;
                    }
                }
                count = self.reader.read(&mut self.buffer) => match count {
                    Ok(0) | Err(_) => return End::Lost,
                    Ok(count) => self.splitter.push(&self.buffer[..count]),
                },
            }
        }
    }

    /// What a client sends; an answer to it, if it gets one from us.
    fn handle(&self, from: &str, stanza: Element) -> Option<Element> {
        if stanza.namespace() != CLIENT {
            return None;
        }
        let domain = &self.shared.domain;
        let stanza = stanza.with("from", from);
        let to = stanza.attribute("to").unwrap_or_default();
        let is_request = matches!(stanza.attribute("type"), Some("get" | "set"));
        match stanza.name() {
            "presence" if to.is_empty() => {
                if matches!(stanza.attribute("type"), None | Some("unavailable")) {
                    self.shared.router.show(from, &stanza);
                }
                None
            }
            "iq" if to.is_empty() || to == domain || to == router::account(from) => {
                is_request.then(|| self.answer(from, &stanza))
            }
            _ if self.shared.router.route(&stanza) => None,
            "iq" if is_request => Some(error(&stanza, "cancel", "service-unavailable")),
            "message" if !matches!(stanza.attribute("type"), Some("error" | "headline")) => {
                Some(error(&stanza, "cancel", "service-unavailable"))
            }
            _ => None,
        }
    }

    /// What the server itself answers.
    fn answer(&self, from: &str, request: &Element) -> Element {
        let payload = request.children().next();
        let kind = payload.map(|payload| (payload.namespace(), payload.name()));
        let answer = match kind.unwrap_or_default() {
            (PING, "ping") | (SESSION, "session") => None,
            (CARBONS, name @ ("enable" | "disable")) => {
                self.shared.router.set_carbons(from, name == "enable");
                None
            }
            (DISCO_INFO, "query") => Some(info()),
            (DISCO_ITEMS, "query") => Some(Element::new(DISCO_ITEMS, "query")),
            (ROSTER, "query") => Some(self.roster(from)),
            (EXTDISCO, "services") => Some(self.shared.relays(router::account(from))),
            _ => return error(request, "cancel", "service-unavailable"),
        };
        result(request, answer)
    }

    /// Everybody is in everybody's roster.
    fn roster(&self, from: &str) -> Element {
        let domain = &self.shared.domain;
        let names = self.shared.accounts.keys();
        let addresses = names.map(|name| format!("{name}@{domain}"));
        let others = addresses.filter(|address| address != router::account(from));
        let items = others.map(|address| {
            Element::new(ROSTER, "item")
                .with("jid", address)
                .with("subscription", "both")
        });
        Element::new(ROSTER, "query").children_from(items)
    }

    /// Awaits the client's header, and answers it with ours and these offers.
    async fn open(&mut self, offers: Vec<Element>) -> Result<(), End> {
        let header = loop {
            match self.splitter.next_frame() {
                Err(error) => return Err(End::Error(error.condition())),
                Ok(Some(Frame::Open(bytes))) => {
                    let parsed = xml::parse_header(bytes, &self.limits);
                    break parsed.map_err(|error| End::Error(error.condition()))?.0;
                }
                Ok(Some(Frame::Stanza(_) | Frame::Close)) => return Err(End::Closed),
                Ok(None) => self.read().await?,
            }
        };
        let domain = self.shared.domain.clone();
        let id = auth::random::<8>()
            .map(|byte| format!("{byte:02x}"))
            .concat();
        let ours = Element::new(NS_STREAMS, "stream")
            .with("from", &domain)
            .with("id", id)
            .with("version", "1.0");
        let mut out = Vec::new();
        let written = xml::write_header(&ours, &Context::CLIENT, &mut out);
        written.map_err(|_| End::Error("internal-server-error"))?;
        self.write(&out).await?;
        if !header
            .attribute("to")
            .is_some_and(|to| to.eq_ignore_ascii_case(&domain))
        {
            return Err(End::Error("host-unknown"));
        }
        let features = Element::new(NS_STREAMS, "features").children_from(offers);
        self.send(&features).await
    }

    /// The next element, awaited.
    async fn element(&mut self) -> Result<Element, End> {
        loop {
            match self.next()? {
                Some(element) => return Ok(element),
                None => self.read().await?,
            }
        }
    }

    /// The next element, if it is here.
    fn next(&mut self) -> Result<Option<Element>, End> {
        let frame = self.splitter.next_frame();
        match frame.map_err(|error| End::Error(error.condition()))? {
            None => Ok(None),
            Some(Frame::Open(_)) => Err(End::Error("bad-format")),
            Some(Frame::Close) => Err(End::Closed),
            Some(Frame::Stanza(bytes)) => {
                let element = xml::parse(bytes, &Context::CLIENT, &self.limits);
                Ok(Some(
                    element.map_err(|error| End::Error(error.condition()))?,
                ))
            }
        }
    }

    async fn read(&mut self) -> Result<(), End> {
        match self.reader.read(&mut self.buffer).await {
            Ok(0) | Err(_) => Err(End::Lost),
            Ok(count) => {
                self.splitter.push(&self.buffer[..count]);
                Ok(())
            }
        }
    }

    async fn send(&mut self, element: &Element) -> Result<(), End> {
        let mut out = Vec::new();
        let written = xml::write(element, &Context::CLIENT, &mut out);
        written.map_err(|_| End::Error("internal-server-error"))?;
        self.write(&out).await
    }

    /// Writes, but waits for nobody for long.
    async fn write(&mut self, bytes: &[u8]) -> Result<(), End> {
        let writing = async {
            self.writer.write_all(bytes).await?;
            self.writer.flush().await
        };
        match timeout(WRITE_MAX, writing).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Lost),
        }
    }

    async fn end(&mut self, end: End) {
        let error = match end {
            End::Lost => return,
            End::Closed => String::new(),
            End::Error(condition) => {
                format!("<stream:error><{condition} xmlns='{STREAM_ERRORS}'/></stream:error>")
            }
        };
        let last = format!("{error}</stream:stream>");
        if self.write(last.as_bytes()).await.is_ok() {
            let _ = timeout(WRITE_MAX, self.writer.shutdown()).await;
        }
    }
}

/// What the server is and can.
fn info() -> Element {
    let identity = Element::new(DISCO_INFO, "identity")
        .with("category", "server")
        .with("type", "im")
        .with("name", "switchboard");
    let features = [DISCO_INFO, DISCO_ITEMS, PING, CARBONS, EXTDISCO];
    let features = features.map(|var| Element::new(DISCO_INFO, "feature").with("var", var));
    Element::new(DISCO_INFO, "query")
        .child(identity)
        .children_from(features)
}

fn reply(request: &Element, kind: &str) -> Element {
    Element::new(CLIENT, request.name())
        .with("type", kind)
        .with_opt("id", request.attribute("id"))
        .with_opt("from", request.attribute("to"))
        .with_opt("to", request.attribute("from"))
}

fn result(request: &Element, payload: Option<Element>) -> Element {
    reply(request, "result").children_from(payload)
}

fn error(request: &Element, kind: &str, condition: &str) -> Element {
    let condition = Element::new(STANZAS, condition);
    let error = Element::new(CLIENT, "error")
        .with("type", kind)
        .child(condition);
    reply(request, "error").child(error)
}

/// What SASL carries (RFC 6120 §6.4.2).
fn decode(element: &Element) -> Option<Vec<u8>> {
    let text = element.text_content();
    match text.trim() {
        "=" => Some(Vec::new()),
        text => BASE64.decode(text).ok(),
    }
}
