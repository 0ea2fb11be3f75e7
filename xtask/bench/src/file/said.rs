//! What one side of a data channel tells the other before it: in SDP (RFC 8829), in XML (XEP-0343), and in the words of
//! `cargo xtask peer`.

use session_core::Element;
use transport_p2p::{dtls, ice::ICE_UDP, sctp};

#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    pub(super) ufrag: String,
    pub(super) password: String,
    pub(super) setup: String,
    pub(super) hash: String,
    pub(super) fingerprint: String,
    pub(super) port: String,
    /// As in RFC 8839 §5.1: `candidate:…`.
    pub(super) candidates: Vec<String>,
    /// Only ours says it.
    pub(super) init: Option<String>,
}

impl Said {
    pub(super) fn from_sdp(sdp: &str) -> Self {
        let value = |name: &str| {
            let line = sdp.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().trim().to_owned()
        };
        let digest = value("a=fingerprint:");
        let (hash, fingerprint) = digest.split_once(' ').unwrap_or_default();
        Self {
            ufrag: value("a=ice-ufrag:"),
            password: value("a=ice-pwd:"),
            setup: value("a=setup:"),
            hash: hash.to_owned(),
            fingerprint: fingerprint.to_owned(),
            port: value("a=sctp-port:"),
            candidates: sdp
                .lines()
                .filter(|line| line.starts_with("a=candidate:"))
                .map(|line| line.trim()[2..].to_owned())
                .collect(),
            init: None,
        }
    }

    pub(super) fn to_sdp(&self) -> String {
        let Self {
            ufrag,
            password,
            setup,
            hash,
            fingerprint,
            port,
            candidates,
            init: _,
        } = self;
        let mut sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
             m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\n\
             a=sendrecv\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\na=fingerprint:{hash} {fingerprint}\r\n\
             a=setup:{setup}\r\na=sctp-port:{port}\r\na=max-message-size:262144\r\n"
        );
        for candidate in candidates {
            sdp.push_str(&format!("a={candidate}\r\n"));
        }
        sdp
    }

    /// Without candidates, which ours tells later.
    pub(super) fn from_xml(transport: &Element) -> Self {
        let get = |name| transport.attribute(name).unwrap_or_default().to_owned();
        let digest = transport
            .find(dtls::NAMESPACE, "fingerprint")
            .expect("a layer that says so");
        let map = transport
            .find(sctp::NAMESPACE, "sctpmap")
            .expect("a layer that says so");
        let of = |name| digest.attribute(name).unwrap_or_default().to_owned();
        Self {
            ufrag: get("ufrag"),
            password: get("pwd"),
            setup: of("setup"),
            hash: of("hash"),
            fingerprint: digest.text_content().trim().to_owned(),
            port: map.attribute("number").unwrap_or_default().to_owned(),
            candidates: Vec::new(),
            init: None,
        }
    }

    pub(super) fn to_xml(&self) -> Element {
        let digest = Element::new(dtls::NAMESPACE, "fingerprint")
            .with("hash", &self.hash)
            .with("setup", &self.setup)
            .text(&self.fingerprint);
        let map = Element::new(sctp::NAMESPACE, "sctpmap")
            .with("number", &self.port)
            .with("protocol", "webrtc-datachannel")
            .with("streams", 1024);
        let transport = Element::new(ICE_UDP, "transport")
            .with("ufrag", &self.ufrag)
            .with("pwd", &self.password)
            .child(digest)
            .child(map);
        let init = self.init.as_ref();
        let init = init.map(|init| Element::new(sctp::INIT_NAMESPACE, "init").text(init));
        let candidates = self.candidates.iter().filter_map(|line| candidate(line));
        candidates.chain(init).fold(transport, Element::child)
    }

    /// Takes a line of a program; whether it says all now.
    pub(super) fn hear(&mut self, line: &str) -> bool {
        match *line.split(' ').collect::<Vec<_>>() {
            ["dtls", setup, hash, fingerprint] => {
                self.setup = setup.to_owned();
                self.hash = hash.to_owned();
                self.fingerprint = fingerprint.to_owned();
            }
            ["sctp", port] => self.port = port.to_owned(),
            ["local", ufrag, password] => {
                self.ufrag = ufrag.to_owned();
                self.password = password.to_owned();
            }
            ["cand", ..] => self.candidates.push(line["cand ".len()..].to_owned()),
            _ => {}
        }
        !self.ufrag.is_empty() && !self.candidates.is_empty()
    }

    /// Lines for a program.
    pub(super) fn words(&self) -> String {
        let mut words = format!(
            "dtls {} {} {}\nsctp {}\nremote {} {}\n",
            self.setup, self.hash, self.fingerprint, self.port, self.ufrag, self.password
        );
        for candidate in &self.candidates {
            words.push_str(&format!("cand {candidate}\n"));
        }
        words
    }
}

/// A candidate of a host, in XML.
fn candidate(line: &str) -> Option<Element> {
    let words: Vec<&str> = line.split(' ').collect();
    let ["udp" | "UDP", priority, ip, port, "typ", kind, ..] = words[2..] else {
        return None;
    };
    let foundation = words[0].trim_start_matches("candidate:");
    Some(
        Element::new(ICE_UDP, "candidate")
            .with("component", words[1])
            .with("foundation", foundation)
            .with("generation", 0)
            .with("id", "1")
            .with("ip", ip)
            .with("network", 0)
            .with("port", port)
            .with("priority", priority)
            .with("protocol", "udp")
            .with("type", kind),
    )
}

/// A candidate of ours, as others write it.
pub(super) fn candidate_line(candidate: session_core::ElementRef<'_>) -> Option<String> {
    let get = |name| candidate.attribute(name);
    let (ip, port, kind) = (get("ip")?, get("port")?, get("type")?);
    let (foundation, component, priority) =
        (get("foundation")?, get("component")?, get("priority")?);
    Some(format!(
        "candidate:{foundation} {component} UDP {priority} {ip} {port} typ {kind}"
    ))
}
