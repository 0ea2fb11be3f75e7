use super::*;
use std::time::Duration;
use tokio::{sync::mpsc, time::timeout};

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn socket() -> Arc<Udp> {
    Arc::new(Udp::bind(ANY, Arc::default()).unwrap())
}

/// Runs a socket and collects what arrives, datagram by datagram.
fn run(udp: &Arc<Udp>) -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(100_000);
    let udp = udp.clone();
    tokio::spawn(async move {
        let pool = Pool::default();
        let deliver = |received: &mut Vec<Received>| {
            for part in received.drain(..) {
                let batch = session_core::Batch {
                    payload: part.payload,
                    segment_size: part.segment_size,
                };
                batch.for_each(|datagram| sender.try_send(datagram).unwrap());
            }
        };
        udp.run(&pool, deliver).await;
    });
    receiver
}

async fn next(receiver: &mut mpsc::Receiver<Bytes>) -> Bytes {
    let received = timeout(Duration::from_secs(10), receiver.recv()).await;
    received.unwrap().unwrap()
}

/// Numbered datagrams of this size, in one buffer.
fn numbered(count: u32, size: usize) -> Bytes {
    let mut bytes = Vec::new();
    for number in 0..count {
        let end = bytes.len() + size;
        bytes.extend_from_slice(&number.to_be_bytes());
        bytes.resize(end, number as u8);
    }
    bytes.into()
}

#[tokio::test]
async fn batches_arrive_as_the_datagrams_they_were() {
    let (a, b) = (socket(), socket());
    let mut received = run(&b);
    let to = b.local_addr().unwrap();
    for (count, size, extra) in [
        (1, 4, 0),
        (3, 1_200, 700),
        (64, 1_000, 0),
        (200, 1_452, 4),
        (20, 8_000, 1),
    ] {
        let payload = numbered(count, size);
        let with_tail = [&payload[..], &vec![9; extra]].concat();
        a.send(to, with_tail.into(), size);
        for number in 0..count {
            let datagram = next(&mut received).await;
            assert_eq!(
                (datagram.len(), &datagram[..4]),
                (size, &number.to_be_bytes()[..])
            );
        }
        if extra > 0 {
            assert_eq!(next(&mut received).await, vec![9; extra]);
        }
    }
    a.send(to, Bytes::new(), 0);
    assert_eq!(next(&mut received).await, "", "an empty datagram");
    a.send(to, Bytes::new(), 10);
    a.send(to, Bytes::from_static(b"end"), 0);
    assert_eq!(next(&mut received).await, "end", "no datagram was sent");
    assert_eq!(a.counters.stats(), crate::endpoint::Stats::default());
}

#[tokio::test]
async fn a_refused_datagram_is_counted_and_harms_no_other() {
    let (a, b) = (socket(), socket());
    let (mut at_a, mut at_b) = (run(&a), run(&b));
    let to = b.local_addr().unwrap();
    let closed = socket().local_addr().unwrap();
    a.send(SocketAddr::new(to.ip(), 0), numbered(3, 100), 100);
    assert_eq!(a.counters.stats().datagrams_refused, 3, "port 0");
    a.send(to, vec![0; 70_000].into(), 0);
    assert_eq!(a.counters.stats().datagrams_refused, 4, "too large");
    a.send("[::1]:9".parse().unwrap(), Bytes::from_static(b"x"), 0);
    assert_eq!(a.counters.stats().datagrams_refused, 5, "another family");
    for _ in 0..3 {
        a.send(closed, Bytes::from_static(b"nobody"), 0);
        sleep(Duration::from_millis(5)).await;
    }
    a.send(to, Bytes::from_static(b"there"), 0);
    assert_eq!(next(&mut at_b).await, "there");
    b.send(a.local_addr().unwrap(), Bytes::from_static(b"back"), 0);
    assert_eq!(next(&mut at_a).await, "back");
}

#[tokio::test]
async fn what_waits_goes_out_in_order() {
    let (a, b) = (socket(), socket());
    let mut received = run(&b);
    let to = b.local_addr().unwrap();
    {
        let mut outgoing = lock(&a.outgoing);
        outgoing.backlog_bytes = 300;
        outgoing.backlog.push_back(Datagrams {
            destination: to,
            payload: numbered(3, 100),
            segment_size: 100,
        });
    }
    a.send(to, Bytes::from_static(b"after"), 0);
    assert!(received.try_recv().is_err(), "it waits behind the others");
    let _at_a = run(&a);
    for number in 0..3_u32 {
        assert_eq!(next(&mut received).await[..4], number.to_be_bytes());
    }
    assert_eq!(next(&mut received).await, "after");
    let outgoing = lock(&a.outgoing);
    assert_eq!((outgoing.backlog_bytes, outgoing.backlog.len()), (0, 0));
}

#[tokio::test]
async fn what_waits_is_bounded() {
    let a = socket();
    let to = a.local_addr().unwrap();
    let waiting = |bytes: usize| Datagrams {
        destination: to,
        payload: vec![0; bytes].into(),
        segment_size: 0,
    };
    {
        let mut outgoing = lock(&a.outgoing);
        outgoing.backlog.push_back(waiting(1_000));
        outgoing.backlog_bytes = BACKLOG_BYTES - 10;
    }
    a.send(to, numbered(2, 5), 5);
    a.send(to, numbered(2, 5), 5);
    assert_eq!(a.counters.stats().datagrams_dropped, 2, "by bytes");
    {
        let mut outgoing = lock(&a.outgoing);
        outgoing.backlog_bytes = 0;
        outgoing.backlog.resize_with(BACKLOG_ITEMS, || waiting(0));
    }
    a.send(to, Bytes::new(), 0);
    assert_eq!(a.counters.stats().datagrams_dropped, 3, "by number");
}

#[tokio::test]
async fn batches_come_back_after_they_were_given_up() {
    let a = socket();
    let state = UdpSocketState::new(a.raw()).unwrap();
    if state.max_gso_segments() == 1 {
        return;
    }
    let payload = numbered(10, 100);
    let datagrams = Datagrams {
        destination: ANY,
        payload,
        segment_size: 100,
    };
    let batch = |udp: &Udp| lock(&udp.outgoing).next_batch(udp.raw(), &datagrams);
    assert_eq!(batch(&a), 1_000);
    // The system refuses a batch to port 0, which quinn-udp takes for missing support.
    let transmit = Transmit {
        destination: ANY,
        ecn: None,
        contents: &datagrams.payload,
        segment_size: Some(100),
        src_ip: None,
    };
    let refused = lock(&a.outgoing).state.try_send(a.raw(), &transmit);
    assert!(refused.is_err());
    assert_eq!(batch(&a), 100, "one by one");
    lock(&a.outgoing).unbatched = OFFLOAD_RETRY - 1;
    assert_eq!(batch(&a), 1_000);
}
