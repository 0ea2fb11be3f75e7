use super::*;
use proptest::prelude::*;

fn offer(names: &[&str], bindings: Option<&[&str]>) -> Offer {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    Offer {
        mechanisms: owned(names),
        bindings: bindings.map(owned),
    }
}

fn password() -> Credentials {
    Credentials::Password {
        user: "romeo".to_owned(),
        password: Password::new("secret"),
    }
}

fn tls() -> Secured {
    Secured {
        exporter: Some(vec![7; 32]),
        end_point: Some(vec![9; 32]),
    }
}

/// The mechanism chosen, and how its first message begins.
fn chosen(
    offer: &Offer,
    secured: Option<&Secured>,
    floor: Floor,
) -> Option<(&'static str, String)> {
    let (mechanism, binding) = choose(offer, &password(), secured, floor).ok()?;
    Some((mechanism.name(), binding.gs2()))
}

#[test]
#[expect(clippy::type_complexity, reason = "a table")]
fn the_best_that_both_have_is_used() {
    let exporter = Some(&["tls-exporter"][..]);
    let cases: &[(&[&str], Option<&[&str]>, bool, Option<(&str, &str)>)] = &[
        (
            &["PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256"],
            None,
            true,
            Some(("SCRAM-SHA-256", "y,,")),
        ),
        (
            &["PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256"],
            None,
            false,
            Some(("SCRAM-SHA-256", "n,,")),
        ),
        (
            &["SCRAM-SHA-1-PLUS", "SCRAM-SHA-256"],
            exporter,
            true,
            Some(("SCRAM-SHA-1-PLUS", "p=tls-exporter,,")),
        ),
        (
            &["SCRAM-SHA-1-PLUS", "SCRAM-SHA-256"],
            None,
            true,
            Some(("SCRAM-SHA-256", "n,,")),
        ),
        // Offered in a kind that we lack: said honestly, or the server would take it for an attack.
        (
            &["SCRAM-SHA-1-PLUS", "SCRAM-SHA-256"],
            Some(&["tls-unique"]),
            true,
            Some(("SCRAM-SHA-256", "n,,")),
        ),
        (
            &["SCRAM-SHA-1-PLUS"],
            Some(&["tls-server-end-point"]),
            true,
            Some(("SCRAM-SHA-1-PLUS", "p=tls-server-end-point,,")),
        ),
        (&["SCRAM-SHA-1-PLUS"], None, false, None),
        (&["PLAIN"], None, true, Some(("PLAIN", "y,,"))),
        (&["PLAIN"], None, false, None),
        // Better was offered, only not for us: the password does not go out in the clear instead.
        (&["PLAIN", "SCRAM-SHA3-512"], None, true, None),
        (&["DIGEST-MD5", "ANONYMOUS", "EXTERNAL"], None, true, None),
        (&[], None, true, None),
    ];
    for (names, bindings, secure, expected) in cases {
        let secured = secure.then(tls);
        let found = chosen(&offer(names, *bindings), secured.as_ref(), Floor::default());
        let found = found.as_ref().map(|(name, gs2)| (*name, gs2.as_str()));
        assert_eq!(found, *expected, "{names:?} {bindings:?} {secure}");
    }
}

#[test]
fn nobody_in_particular_logs_in_as_such_alone() {
    let anonymous = |names: &[&str]| {
        choose(
            &offer(names, None),
            &Credentials::Anonymous,
            None,
            Floor::default(),
        )
    };
    assert_eq!(
        anonymous(&["PLAIN", "ANONYMOUS"]).unwrap().0,
        Mechanism::Anonymous
    );
    assert_eq!(
        anonymous(&["PLAIN"]),
        Err(LoginError::NoMechanism("PLAIN".into()))
    );
}

#[test]
fn what_was_better_before_is_not_given_up() {
    let floor = |earlier| Floor {
        earlier: Some(earlier),
        binding_required: false,
    };
    let plus = scram(true, Hash::Sha1);
    let less = offer(&["SCRAM-SHA-512", "PLAIN"], None);
    let refused = choose(&less, &password(), Some(&tls()), floor(plus));
    let expected = LoginError::Downgrade {
        offered: "SCRAM-SHA-512".into(),
        earlier: "SCRAM-SHA-1-PLUS".into(),
    };
    assert_eq!(refused, Err(expected));
    let floor = Floor {
        binding_required: true,
        ..Floor::default()
    };
    assert_eq!(chosen(&less, Some(&tls()), floor), None);
    let more = offer(&["SCRAM-SHA-256-PLUS"], None);
    assert!(chosen(&more, Some(&tls()), floor).is_some());
}

#[test]
fn the_proof_may_come_before_the_consent_but_must_come() {
    let exchange =
        |mechanism| Exchange::new(mechanism, &Binding::Unsupported, &password(), b"n").unwrap();
    let scram = exchange(scram(false, Hash::Sha1));
    assert_eq!(scram.success(b""), Err(LoginError::ServerProof));
    let mut plain = exchange(Mechanism::Plain);
    assert_eq!(plain.initial(), b"\0romeo\0secret");
    assert_eq!(plain.success(b""), Ok(()));
    assert!(plain.challenge(b"", &mut None).is_err());
}

#[test]
fn forbidden_characters_are_told() {
    for (user, word, expected) in [
        ("", "x", "name"),
        ("a\u{7}", "x", "name"),
        ("a", "x\0", "password"),
        ("a", "x\u{e000}", "password"),
    ] {
        let credentials = Credentials::Password {
            user: user.to_owned(),
            password: Password::new(word),
        };
        let refused = Exchange::new(Mechanism::Plain, &Binding::Unsupported, &credentials, b"");
        assert_eq!(
            refused.err(),
            Some(LoginError::Characters(expected)),
            "{user:?} {word:?}"
        );
    }
    assert_eq!(format!("{:?}", Password::new("secret")), "Password(…)");
}

proptest! {
    /// Whatever is offered: no password in the clear without TLS or beside SCRAM, and never less than before.
    #[test]
    fn no_offer_leads_downwards(
        picks in proptest::collection::vec(0..MECHANISMS.len(), 0..8),
        bindings in proptest::option::of(proptest::sample::subsequence(vec!["tls-exporter", "tls-unique", "tls-server-end-point"], 0..=3)),
        secure: bool,
        earlier in proptest::option::of(0..MECHANISMS.len() - 1),
        binding_required: bool,
    ) {
        let names: Vec<&str> = picks.iter().map(|&at| MECHANISMS[at].0).collect();
        let floor = Floor { earlier: earlier.map(|at| MECHANISMS[at].1), binding_required };
        let offer = offer(&names, bindings.as_deref());
        let secured = secure.then(tls);
        let Ok((mechanism, binding)) = choose(&offer, &password(), secured.as_ref(), floor) else {
            return Ok(());
        };
        prop_assert!(names.contains(&mechanism.name()));
        prop_assert!(mechanism != Mechanism::Anonymous);
        prop_assert!(mechanism != Mechanism::Plain || (secure && !names.iter().any(|name| name.starts_with("SCRAM"))));
        prop_assert!(floor.earlier.is_none_or(|earlier| mechanism >= earlier));
        prop_assert_eq!(mechanism.is_plus(), matches!(binding, Binding::Bound { .. }));
        prop_assert!(mechanism.is_plus() || !binding_required);
        prop_assert!(binding != Binding::NotOffered || !names.iter().any(|name| name.ends_with("-PLUS")));
    }
}
