//! Bytes that can be told apart wherever they are, and garbage.

use crate::{Element, ElementRef, SeededEntropy, element::Node};
use bytes::{Bytes, BytesMut};

/// An endless sequence of bytes that is checked as it is received.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    seed: u64,
    pub(super) position: u64,
}

impl Pattern {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, position: 0 }
    }

    /// The next `size` bytes, without going on.
    pub(super) fn peek(&self, size: usize) -> Bytes {
        let mut bytes = BytesMut::with_capacity(size);
        bytes.extend((0..size as u64).map(|offset| self.byte(self.position + offset)));
        bytes.freeze()
    }

    /// Goes on by what was received, if it is right.
    pub(super) fn check(&mut self, bytes: &[u8]) -> Result<(), String> {
        for byte in bytes {
            if *byte != self.byte(self.position) {
                return Err(format!("byte {} of the stream is wrong", self.position));
            }
            self.position += 1;
        }
        Ok(())
    }

    fn byte(&self, position: u64) -> u8 {
        // Neither periodic nor the same in both directions, so that no shift and no mix-up goes unseen.
        let mut z = (self.seed ^ position).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z ^= z >> 29;
        (z.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 56) as u8
    }
}

/// A packet that says whose and which it is.
pub(super) fn packet(end: usize, number: usize, size: usize) -> Bytes {
    let seed = (end as u64) << 32 | number as u64;
    Pattern::new(seed.wrapping_mul(0x51_7c_c1_b7)).peek(size)
}

/// Bytes as nobody means them.
pub(super) fn garbage(entropy: &mut SeededEntropy, most: usize) -> Bytes {
    let size = pick(entropy, most + 1);
    let mut bytes = vec![0; size];
    crate::Entropy::fill(entropy, &mut bytes);
    // Each kind of first byte that is told apart on one socket (RFC 9443 §3) in turn.
    if let Some(first) = bytes.first_mut() {
        *first = [0, 1, 20, 22, 64, 79, 128, 191, 192, *first][pick(entropy, 10)];
    }
    bytes.into()
}

/// One of `count`.
pub(super) fn pick(entropy: &mut SeededEntropy, count: usize) -> usize {
    (entropy.next_u64() % count.max(1) as u64) as usize
}

/// An element with something wrong in it.
pub(super) fn mutate(element: &Element, entropy: &mut SeededEntropy) -> Element {
    let nodes = element
        .walk()
        .filter(|step| matches!(step, crate::element::Step::Open(_)))
        .count();
    let victim = pick(entropy, nodes);
    rebuild(element.view(), &mut 0, victim, entropy)
}

fn rebuild(
    element: ElementRef<'_>,
    index: &mut usize,
    victim: usize,
    entropy: &mut SeededEntropy,
) -> Element {
    let hit = *index == victim;
    *index += 1;
    let fault = if hit { pick(entropy, 8) } else { usize::MAX };
    let namespace = if fault == 0 {
        "urn:example:nothing"
    } else {
        element.namespace()
    };
    let name = if fault == 1 {
        "nothing"
    } else {
        element.name()
    };
    let mut copy = Element::new(namespace, name);
    let attributes: Vec<_> = element.attributes().collect();
    let chosen = pick(entropy, attributes.len());
    for (number, attribute) in attributes.iter().enumerate() {
        let value = match fault {
            2..=4 if number == chosen => odd_value(entropy, attribute.value),
            5 if number == chosen => continue,
            _ => attribute.value.to_owned(),
        };
        copy.set_attribute_ns(attribute.namespace, attribute.name, value);
    }
    if fault == 6 {
        copy.push_text("<garbage/>");
    }
    for node in element.nodes() {
        match node {
            Node::Text(text) => copy.push_text(text),
            Node::Element(child) => {
                let child = rebuild(child, index, victim, entropy);
                let copies = if fault == 7 { 200 } else { 1 };
                for _ in 0..copies {
                    copy.push(child.clone());
                }
            }
        }
    }
    copy
}

fn odd_value(entropy: &mut SeededEntropy, value: &str) -> String {
    const ODD: &[&str] = &[
        "",
        " ",
        "-1",
        "0",
        "65536",
        "4294967296",
        "18446744073709551616",
        "1e9",
        "NaN",
        "true",
        "::1",
        "256.1.1.1",
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "[::]:0",
        "10.0.0.1:0",
        "a.example",
        "\u{0}",
        "\u{feff}",
        "é",
        "%n%n%s",
        "../../etc/passwd",
    ];
    match pick(entropy, 4) {
        0 => value.chars().rev().collect(),
        1 => value.repeat(2_000),
        2 => value.chars().skip(1).collect(),
        _ => ODD[pick(entropy, ODD.len())].to_owned(),
    }
}
