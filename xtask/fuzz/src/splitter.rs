//! A stream gives the same frames and the same error however its bytes are cut.

use session_core::ElementLimits;
use session_xmpp::splitter::{Frame, Framing, Splitter};
use session_xmpp::xml::XmlError;

/// The first byte says how many bytes of lengths follow; the rest is a stream, cut at these lengths, over and over. An even
/// count makes it a stream of RFC 6120, an odd one bare stanzas.
pub fn splitter(data: &[u8]) {
    let Some((&count, rest)) = data.split_first() else {
        return;
    };
    let framing = if count % 2 == 0 {
        Framing::Stream
    } else {
        Framing::Bare
    };
    let (cuts, stream) = rest.split_at(usize::from(count % 32).min(rest.len()));
    let whole = frames(framing, [stream]);
    let bytes = frames(framing, stream.chunks(1));
    assert_eq!(whole, bytes, "byte by byte");
    assert_eq!(
        whole,
        frames(framing, pieces(stream, cuts)),
        "cut at {cuts:?}"
    );
}

/// `stream` cut into pieces of these lengths, over and over; a length of 0 is an empty piece. At least one length is not 0,
/// or the rest is one piece.
fn pieces<'a>(stream: &'a [u8], cuts: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = stream;
    let mut lengths = cuts.iter().cycle().take(stream.len() + cuts.len());
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let length = lengths
            .next()
            .map_or(rest.len(), |&length| usize::from(length));
        let (piece, after) = rest.split_at(length.min(rest.len()));
        rest = after;
        Some(piece)
    })
}

/// A frame that owns its bytes.
#[derive(Debug, PartialEq)]
enum Owned {
    Open(u64, Vec<u8>),
    Stanza(u64, Vec<u8>),
    Close,
}

type Frames = (Vec<Owned>, Option<XmlError>);

fn frames<'a>(framing: Framing, pieces: impl IntoIterator<Item = &'a [u8]>) -> Frames {
    let limits = ElementLimits::default();
    let mut splitter = Splitter::new(framing, &limits);
    let mut frames = Vec::new();
    for piece in pieces {
        splitter.push(piece);
        loop {
            let frame = match splitter.next_frame() {
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(splitter.next_frame(), Err(error), "an error stays");
                    return (frames, Some(error));
                }
                Ok(Some(Frame::Open(bytes))) => Owned::Open(0, bytes.to_vec()),
                Ok(Some(Frame::Stanza(bytes))) => Owned::Stanza(0, bytes.to_vec()),
                Ok(Some(Frame::Close)) => Owned::Close,
            };
            let position = splitter.frame_position();
            frames.push(match frame {
                Owned::Open(_, bytes) => Owned::Open(position, bytes),
                Owned::Stanza(_, bytes) => Owned::Stanza(position, bytes),
                Owned::Close => Owned::Close,
            });
        }
        assert!(
            splitter.held() <= limits.bytes + piece.len(),
            "memory is bounded"
        );
    }
    (frames, None)
}
