//! What the fuzz targets of `xtask/fuzz` run: each takes any bytes and panics when a promise is broken.

use crate::socks5::{Client, Destination, Server, Socks5Error, Step};
use bytes::Bytes;

/// SOCKS5 framing: however the bytes are cut, both ends come to the same verdict after the same bytes, say the same, and
/// keep no more than a message.
///
/// The first byte says whether the methods are skipped, the second where to cut.
pub fn socks5(data: &[u8]) {
    let [greet, cut, rest @ ..] = data else {
        return;
    };
    let cut = usize::from(*cut).max(1);
    let prefix: &[u8] = if greet % 2 == 0 { &[] } else { &[5, 1, 0] };
    let asked = [prefix, rest].concat();
    assert_eq!(server(&asked, cut), server(&asked, asked.len().max(1)));
    let prefix: &[u8] = if greet % 2 == 0 { &[] } else { &[5, 0] };
    let answered = [prefix, rest].concat();
    assert_eq!(
        client(&answered, cut),
        client(&answered, answered.len().max(1))
    );
}

/// What was said, whether it ended and how, and after how many bytes the stream begins.
type Verdict = (Vec<u8>, Option<Result<(), Socks5Error>>, usize);

fn server(bytes: &[u8], cut: usize) -> Verdict {
    let mut server = Server::default();
    run(bytes, cut, |piece| server.handle_input(piece, |_| true))
}

fn client(bytes: &[u8], cut: usize) -> Verdict {
    let (mut client, _) = Client::new(Destination::new("sid", "a@a.example/1", "b@b.example/2"));
    run(bytes, cut, |piece| client.handle_input(piece))
}

fn run(
    bytes: &[u8],
    cut: usize,
    mut step: impl FnMut(&mut Bytes) -> Result<Step, Socks5Error>,
) -> Verdict {
    let mut said = Vec::new();
    let mut read = 0;
    for piece in bytes.chunks(cut) {
        let mut piece = Bytes::copy_from_slice(piece);
        let length = piece.len();
        loop {
            let before = piece.len();
            match step(&mut piece) {
                Ok(Step::Wait) => {
                    assert!(piece.is_empty(), "waits, and has not read all");
                    break;
                }
                Ok(Step::Write(bytes)) => {
                    assert!(piece.len() < before, "says something for nothing");
                    said.extend_from_slice(&bytes);
                }
                Ok(Step::Done(bytes)) => {
                    said.extend_from_slice(&bytes);
                    return (said, Some(Ok(())), read + length - piece.len());
                }
                Err(error) => return (said, Some(Err(error)), 0),
            }
        }
        read += length;
    }
    (said, None, 0)
}
