use super::*;
use std::sync::Arc;
use tokio::{
    io::{DuplexStream, duplex},
    sync::mpsc,
    task::JoinHandle,
};

/// What [`connection`] gives: its outbox, its news with what is buffered, the other end, its task.
type Parts = (
    Arc<Outbox>,
    mpsc::Receiver<(News, usize)>,
    DuplexStream,
    JoinHandle<()>,
);

/// A connection over a pipe of this capacity.
fn connection(capacity: usize) -> Parts {
    let outbox = Arc::<Outbox>::default();
    let (near, far) = duplex(capacity);
    let (sender, news) = mpsc::channel(100_000);
    let shared = outbox.clone();
    let task = tokio::spawn(async move {
        let tell = |news| sender.try_send((news, shared.buffered())).unwrap();
        run(near, &shared, tell).await;
    });
    (outbox, news, far, task)
}

async fn read(far: &mut DuplexStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    far.read_exact(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test]
async fn bytes_go_both_ways_in_order() {
    let (outbox, mut news, mut far, _task) = connection(1 << 20);
    outbox.write("ab".into());
    outbox.write(Bytes::new());
    outbox.write("cd".into());
    assert_eq!(read(&mut far, 4).await, b"abcd");
    far.write_all(b"efg").await.unwrap();
    let mut arrived = Vec::new();
    while arrived.len() < 3 {
        if let (News::Data(bytes), _) = news.recv().await.unwrap() {
            arrived.extend_from_slice(&bytes);
        }
    }
    assert_eq!(arrived, b"efg");
    assert_eq!(outbox.buffered(), 0);
}

#[tokio::test]
async fn a_slow_peer_shows_in_what_is_buffered() {
    let (outbox, mut news, mut far, _task) = connection(10);
    outbox.write(vec![1; 15].into());
    outbox.write(vec![2; 15].into());
    assert_eq!(outbox.buffered(), 30);
    let mut seen = Vec::new();
    let mut left = 30;
    while left > 0 {
        let (progress, buffered) = news.recv().await.unwrap();
        assert_eq!(progress, News::Progress);
        assert!(buffered < left, "{buffered} of {left}");
        left = buffered;
        seen.extend(read(&mut far, 30 - left - seen.len()).await);
    }
    assert_eq!(seen, [[1; 15], [2; 15]].concat());
    assert!(news.try_recv().is_err(), "no news without progress");
}

#[tokio::test]
async fn a_connection_that_is_held_does_not_read() {
    let (outbox, mut news, mut far, _task) = connection(10);
    outbox.hold(true);
    outbox.write("out".into());
    assert_eq!(read(&mut far, 3).await, b"out");
    assert_eq!(news.recv().await.unwrap().0, News::Progress);
    far.write_all(b"0123456789").await.unwrap();
    tokio::task::yield_now().await;
    assert!(news.try_recv().is_err());
    outbox.hold(false);
    let (arrived, _) = news.recv().await.unwrap();
    assert_eq!(arrived, News::Data("0123456789".into()));
}

#[tokio::test]
async fn an_end_of_the_peer_leaves_our_direction_open() {
    let (outbox, mut news, mut far, _task) = connection(100);
    far.shutdown().await.unwrap();
    assert_eq!(news.recv().await.unwrap().0, News::Finished);
    outbox.write("still".into());
    assert_eq!(read(&mut far, 5).await, b"still");
}

#[tokio::test]
async fn closing_sends_what_was_written_and_the_end() {
    let (outbox, mut news, mut far, task) = connection(7);
    outbox.write(vec![1; 1_000].into());
    outbox.close();
    outbox.write("too late".into());
    // The peer does not stop talking before it has read everything.
    let talk = vec![9; 5];
    let mut all = Vec::new();
    let mut part = [0; 7];
    loop {
        far.write_all(&talk).await.unwrap();
        let count = far.read(&mut part).await.unwrap();
        if count == 0 {
            break;
        }
        all.extend_from_slice(&part[..count]);
    }
    assert_eq!(all, vec![1; 1_000]);
    assert!(!task.is_finished(), "the peer has not ended");
    drop(far);
    task.await.unwrap();
    assert_eq!(outbox.buffered(), 0);
    assert!(
        news.recv().await.is_none(),
        "nobody is told about a closed connection"
    );
}

#[tokio::test(start_paused = true)]
async fn a_closed_connection_does_not_wait_for_ever() {
    let (outbox, _news, _far, task) = connection(7);
    outbox.write(vec![1; 1_000].into());
    outbox.close();
    task.await.unwrap();

    let (outbox, _news, _far, task) = connection(7);
    outbox.close();
    task.await.unwrap();
}

#[tokio::test]
async fn a_failure_is_told_once_and_drops_what_waits() {
    let (outbox, mut news, far, task) = connection(10);
    outbox.write(vec![1; 100].into());
    drop(far);
    let mut failures = 0;
    while let Some((told, _)) = news.recv().await {
        failures += usize::from(matches!(told, News::Failed(_)));
    }
    assert_eq!(failures, 1);
    task.await.unwrap();
    outbox.write("nowhere".into());
    assert_eq!(outbox.buffered(), 0);
}

#[tokio::test]
async fn an_outbox_is_bounded() {
    let (outbox, mut news, _far, task) = connection(10);
    outbox.write(vec![1; OUTBOX_BYTES].into());
    outbox.write("x".into());
    assert_eq!(
        outbox.buffered(),
        OUTBOX_BYTES,
        "nothing is skipped in a stream"
    );
    task.await.unwrap();
    let (told, _) = news.recv().await.unwrap();
    assert!(matches!(told, News::Failed(_)), "{told:?}");
}

/// A port that is told to a peer is the one that connections come from, to several peers at a time.
#[tokio::test]
async fn connections_leave_from_the_port_that_is_reserved() {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let reserved = reserve(loopback).unwrap();
    let from = reserved.local_addr().unwrap();
    let mut connections = Vec::new();
    for _ in 0..2 {
        let listener = tokio::net::TcpListener::bind(loopback).await.unwrap();
        let to = listener.local_addr().unwrap();
        let (accepted, connected) = tokio::join!(listener.accept(), connect_from(from, to));
        let (stream, seen) = accepted.unwrap();
        assert_eq!(seen, from);
        connections.push((stream, connected.unwrap()));
    }
    // Nobody listens there: who comes without being gone out to is refused.
    assert!(TcpStream::connect(from).await.is_err());
}
