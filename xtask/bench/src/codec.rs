//! The codec of session-xmpp: bytes to a tree and back, and stanzas out of a stream.

use std::fmt::Write as _;
use std::hint::black_box;

use session_core::ElementLimits;
use session_xmpp::splitter::{Framing, Splitter};
use session_xmpp::xml::{self, Context};

use crate::Figure;
use crate::measure::{alone, compare};

pub(crate) const FIGURES: &[Figure] = &[
    ("codec.tree_2k", |name| tree(name, &session_initiate(6, 4))),
    ("codec.tree_20k", |name| {
        tree(name, &session_initiate(80, 40))
    }),
    ("codec.write_tree_2k", |name| {
        write_tree(name, &session_initiate(6, 4))
    }),
    ("codec.split_2k", |name| {
        split(name, &session_initiate(6, 4))
    }),
];

/// Bytes to a tree; the peer is roxmltree's.
fn tree(name: &str, stanza: &str) {
    let limits = ElementLimits::default();
    compare(
        name,
        || {
            let element = xml::parse(black_box(stanza.as_bytes()), &Context::CLIENT, &limits);
            black_box(element.expect("the sample is a stanza"));
        },
        || {
            let document = roxmltree::Document::parse(black_box(stanza));
            black_box(document.expect("the sample is a document"));
        },
    );
}

/// A tree to bytes. No peer has a tree of this kind.
fn write_tree(name: &str, stanza: &str) {
    let element = xml::parse(
        stanza.as_bytes(),
        &Context::CLIENT,
        &ElementLimits::default(),
    )
    .expect("the sample is a stanza");
    let mut out = Vec::new();
    alone(name, || {
        out.clear();
        xml::write(black_box(&element), &Context::CLIENT, &mut out).expect("it was read");
        black_box(&out);
    });
}

/// A stanza out of a stream that arrives in segments of an Ethernet's size.
fn split(name: &str, stanza: &str) {
    let mut splitter = Splitter::new(Framing::Bare, &ElementLimits::default());
    alone(name, || {
        let mut frames = 0;
        for segment in black_box(stanza.as_bytes()).chunks(1_460) {
            splitter.push(segment);
            while let Some(frame) = splitter.next_frame().expect("the sample is a stanza") {
                black_box(frame);
                frames += 1;
            }
        }
        assert_eq!(frames, 1);
    });
}

/// A session-initiate of XEP-0167 over XEP-0176 with this many candidates and payload types.
pub(crate) fn session_initiate(candidates: usize, payload_types: usize) -> String {
    let mut stanza = String::from(
        "<iq xmlns='jabber:client' from='romeo@montague.lit/dr4hcr0st3lup4c' to='juliet@capulet.lit/yn0cl4bnw0yr3vym' \
         id='xs51r0k4' type='set'><jingle xmlns='urn:xmpp:jingle:1' action='session-initiate' \
         initiator='romeo@montague.lit/dr4hcr0st3lup4c' sid='a73sjjvkla37jfea'><content creator='initiator' name='voice' \
         senders='both'><description xmlns='urn:xmpp:jingle:apps:rtp:1' media='audio'>",
    );
    for index in 0..payload_types {
        let _ = write!(
            stanza,
            "<payload-type id='{}' name='opus{index}' clockrate='48000' channels='2'><parameter name='useinbandfec' \
             value='1'/></payload-type>",
            96 + index % 30,
        );
    }
    stanza += "</description><transport xmlns='urn:xmpp:jingle:transports:ice-udp:1' pwd='asd88fgpdd777uzjYhagZg' \
               ufrag='8hhy'><fingerprint xmlns='urn:xmpp:jingle:apps:dtls:0' hash='sha-256' setup='actpass'>02:1A:CC:54:\
               27:AB:EB:9C:53:3F:3E:4B:65:2E:7D:46:3F:54:42:CD:54:F1:7A:03:A2:7D:F9:B0:7F:46:19:B2</fingerprint>";
    for index in 0..candidates {
        let _ = write!(
            stanza,
            "<candidate component='1' foundation='{}' generation='0' id='el0747fg{index}' ip='10.0.{}.{}' network='1' \
             port='{}' priority='{}' protocol='udp' type='srflx' rel-addr='192.168.1.{}' rel-port='8998'/>",
            index % 9 + 1,
            index / 250,
            index % 250 + 1,
            8_998 + index,
            2_130_706_431 - index,
            index % 250 + 1,
        );
    }
    stanza += "</transport></content></jingle></iq>";
    stanza
}
