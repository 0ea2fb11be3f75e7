use super::*;

fn text(event: Option<LinkEvent>) -> String {
    match event {
        Some(LinkEvent::Stanza(stanza)) => String::from_utf8(stanza.to_vec()).unwrap(),
        other => format!("{other:?}"),
    }
}

/// A link whose first event has been taken.
async fn attach(router: &Router, address: &str) -> RouterLink {
    let mut link = router.link(address);
    let up = LinkEvent::Up(address.into());
    assert_eq!(link.next_event().await, Some(up));
    link
}

fn quiet(link: &mut RouterLink) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    link.poll_event(&mut cx).is_pending()
}

#[tokio::test]
async fn a_stanza_arrives_with_its_true_sender() {
    let router = Router::new();
    let mut a = attach(&router, "a@x/1").await;
    let mut b = attach(&router, "b@x/1").await;
    a.send("<iq type='set' id='1' from='c@x' to='b@x/1'>é</iq>".into())
        .unwrap();
    assert_eq!(
        text(b.next_event().await),
        "<iq from='a@x/1' type='set' id='1' to='b@x/1'>é</iq>"
    );
    assert!(quiet(&mut a) && quiet(&mut b));
}

#[tokio::test]
async fn an_account_and_a_domain_speak_for_their_own_and_receive_for_them() {
    let router = Router::new();
    let mut domain = attach(&router, "x").await;
    let mut account = attach(&router, "a@x").await;
    let mut device = attach(&router, "a@x/1").await;
    for (to, link) in [
        ("a@x/1", &mut device),
        ("a@x/2", &mut account),
        ("b@x/1", &mut domain),
    ] {
        let stanza = format!("<message to='{to}'/>");
        router.link("z").send(stanza.into()).unwrap();
        assert!(text(link.next_event().await).contains(to));
    }
    for (from, stamped) in [("b@x/9", "b@x/9"), ("x", "x"), ("b@y", "x")] {
        let stanza = format!("<message from='{from}' to='a@x/1'/>");
        domain.send(stanza.into()).unwrap();
        let arrived = text(device.next_event().await);
        assert!(
            arrived.contains(&format!("from='{stamped}'")),
            "{from}: {arrived}"
        );
    }
}

#[tokio::test]
async fn the_router_answers_for_who_is_not_there() {
    let router = Router::new();
    let mut tap = router.tap();
    let mut a = attach(&router, "a@x/1").await;
    a.send("<iq type='get' id='7' to='nobody@x'/>".into())
        .unwrap();
    let answer = text(a.next_event().await);
    assert!(
        answer.starts_with("<iq type='error' to='a@x/1' from='nobody@x' id='7'>"),
        "{answer}"
    );
    assert!(answer.contains("<service-unavailable"), "{answer}");
    a.send("<iq type='result' id='7' to='nobody@x'/>".into())
        .unwrap();
    a.send("<presence to='nobody@x'/>".into()).unwrap();
    a.send("no stanza".into()).unwrap();
    assert!(quiet(&mut a), "what is not answered is dropped");
    let passed: Vec<_> = std::iter::from_fn(|| tap.try_next())
        .map(|passed| (passed.to.to_string(), passed.delivered))
        .collect();
    let expected = [
        ("nobody@x", false),
        ("a@x/1", true),
        ("nobody@x", false),
        ("nobody@x", false),
        ("", false),
    ];
    assert_eq!(
        passed,
        expected.map(|(to, delivered)| (to.to_owned(), delivered))
    );
}

#[tokio::test]
async fn a_link_that_is_down_reaches_nobody_and_nobody_reaches_it() {
    let router = Router::new();
    let mut a = attach(&router, "a").await;
    let mut b = attach(&router, "b").await;
    a.send("<message to='b'>lost</message>".into()).unwrap();
    assert!(router.set_up(&"b".into(), false));
    assert_eq!(
        b.send("<message to='a'/>".into()),
        Err(LinkError::Down),
        "it notices when it sends"
    );
    a.send("<iq type='set' id='1' to='b'/>".into()).unwrap();
    assert!(text(a.next_event().await).contains("service-unavailable"));
    assert_eq!(
        b.next_event().await,
        Some(LinkEvent::Down("taken down".into()))
    );
    assert!(router.set_up(&"b".into(), true));
    assert_eq!(b.next_event().await, Some(LinkEvent::Up("b".into())));
    a.send("<message to='b'>now</message>".into()).unwrap();
    assert!(text(b.next_event().await).contains("now"));
    assert!(!router.set_up(&"c".into(), false));
}

#[tokio::test]
async fn a_second_link_of_the_same_address_ends_the_first() {
    let router = Router::new();
    let mut first = attach(&router, "a").await;
    let waiting = tokio::spawn(async move {
        assert_eq!(first.next_event().await, None);
        first
    });
    tokio::task::yield_now().await;
    let mut second = attach(&router, "a").await;
    let mut first = waiting.await.unwrap();
    assert_eq!(first.send("<message/>".into()), Err(LinkError::Down));
    drop(first);
    assert!(router.deliver(&"a".into(), "<message/>"));
    assert_eq!(text(second.next_event().await), "<message/>");
    drop(second);
    assert!(!router.deliver(&"a".into(), "<message/>"));
}

#[tokio::test]
async fn queues_are_bounded() {
    let router = Router::new();
    let mut tap = router.tap();
    let mut a = attach(&router, "a").await;
    let _b = attach(&router, "b").await;
    for _ in 0..ROUTER_QUEUE_STANZAS {
        a.send("<message to='b'/>".into()).unwrap();
    }
    assert!(quiet(&mut a));
    a.send("<iq type='get' id='1' to='b'/>".into()).unwrap();
    assert!(text(a.next_event().await).contains("resource-constraint"));
    let passed = ROUTER_QUEUE_STANZAS + 2;
    assert_eq!(tap.missed(), (passed - ROUTER_TAP_STANZAS) as u64);
    assert!(tap.try_next().is_some());
}
