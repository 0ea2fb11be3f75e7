//! A scripted server, in virtual time.
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test names only what it looks for"
)]

use super::*;
use crate::client::sasl::Password;
use session_core::SeededEntropy;

const HEADER: &str = "<?xml version='1.0'?><stream:stream id='s' from='a.example' version='1.0' \
    xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
const PLAIN: &str = "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms>";
const BIND: &str = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>";
const SM: &str = "<sm xmlns='urn:xmpp:sm:3'/>";
const SUCCESS: &str = "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";
const BOUND: &str = "<iq type='result' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
    <jid>romeo@a.example/x</jid></bind></iq>";

/// A machine and what it said.
struct Side {
    stream: Stream,
    now: Instant,
    /// What was transmitted since it was last looked at.
    said: String,
    /// Everything else that came out.
    told: Vec<Output>,
}

fn login() -> Login {
    let password = Password::new("secret");
    let user = "romeo".to_owned();
    let credentials = Credentials::Password { user, password };
    let mut login = Login::new("a.example", credentials);
    login.resource = Some("x".to_owned());
    login
}

impl Side {
    #[allow(clippy::disallowed_methods, reason = "a test's beginning of time")]
    fn new(login: Login) -> Self {
        Self {
            stream: Stream::new(login, SeededEntropy::new(1)),
            now: Instant::now(),
            said: String::new(),
            told: Vec::new(),
        }
    }

    fn drain(&mut self) -> Option<Instant> {
        loop {
            match self.stream.poll_output() {
                Output::Transmit(bytes) => self.said += std::str::from_utf8(&bytes).unwrap(),
                Output::Wait(until) => return until,
                other => self.told.push(other),
            }
        }
    }

    /// A connection with TLS already.
    fn connect(&mut self) {
        self.stream
            .handle_connected(Some(Secured::default()), self.now);
        self.drain();
    }

    /// The server says something; what is said to it.
    fn hear(&mut self, text: &str) -> String {
        self.said.clear();
        self.stream.handle_bytes(text.as_bytes(), self.now);
        self.drain();
        self.said.clone()
    }

    /// We say something; whether it was taken, and what went out.
    fn send(&mut self, stanza: &str) -> (Result<(), LinkError>, String) {
        self.said.clear();
        let taken = self.stream.send(stanza.to_owned().into());
        self.drain();
        (taken, self.said.clone())
    }

    fn lose(&mut self) {
        self.stream
            .handle_disconnected(LoginError::Closed, self.now);
        self.drain();
    }

    /// To the offers after SASL.
    fn authenticate(&mut self, features: &str) -> String {
        self.connect();
        let auth = self.hear(&format!(
            "{HEADER}<stream:features>{PLAIN}</stream:features>"
        ));
        assert_eq!(
            auth,
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AHJvbWVvAHNlY3JldA==</auth>"
        );
        let header = self.hear(SUCCESS);
        assert!(header.contains("<stream:stream") && header.contains("to='a.example'"));
        self.hear(&format!(
            "{HEADER}<stream:features>{features}</stream:features>"
        ))
    }

    /// Logged in, with stream management that can be resumed.
    fn online(login: Login) -> Self {
        let mut side = Self::new(login);
        let bind = side.authenticate(&format!("{BIND}{SM}"));
        assert!(bind.contains("<resource>x</resource>"), "{bind}");
        let enable = side.hear(BOUND);
        assert_eq!(enable, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
        side.hear("<enabled xmlns='urn:xmpp:sm:3' id='s1' resume='true' max='100'/>");
        let up = Output::Up(Peer::from("romeo@a.example/x"));
        assert_eq!(std::mem::take(&mut side.told), [up]);
        side
    }

    fn disconnected(&self) -> &LoginError {
        match self.told.last() {
            Some(Output::Disconnect(why)) => why,
            last => panic!("{last:?}"),
        }
    }
}

const ASK: &str = "<r xmlns='urn:xmpp:sm:3'/>";
const RESUME: &str = "<resume xmlns='urn:xmpp:sm:3' previd='s1' h='1'/>";

#[test]
fn what_was_not_confirmed_is_sent_again_and_nothing_else() {
    let mut side = Side::online(login());
    assert_eq!(side.send("<iq id='1'/>").1, format!("<iq id='1'/>{ASK}"));
    assert_eq!(
        side.send("<iq id='2'/>").1,
        "<iq id='2'/>",
        "one question at a time"
    );
    assert_eq!(side.send("<iq id='3'/>").0, Ok(()));
    assert_eq!(side.hear("<a xmlns='urn:xmpp:sm:3' h='1'/>"), ASK);
    side.hear("<message id='m'/>");
    assert_eq!(side.hear(ASK), "<a xmlns='urn:xmpp:sm:3' h='1'/>");
    side.lose();
    let message = Output::Stanza("<message id='m'/>".into());
    assert_eq!(side.told, [message, Output::Suspended]);
    // What is said meanwhile waits.
    assert_eq!(side.send("<iq id='4'/>"), (Ok(()), String::new()));
    assert_eq!(side.authenticate(&format!("{BIND}{SM}")), RESUME);
    let again = side.hear("<resumed xmlns='urn:xmpp:sm:3' previd='s1' h='2'/>");
    assert_eq!(again, format!("<iq id='3'/><iq id='4'/>{ASK}"));
    assert_eq!(side.told.last(), Some(&Output::Resumed));
    assert_eq!(side.hear("<a xmlns='urn:xmpp:sm:3' h='4'/>"), "");
    assert!(side.stream.is_settled());
    assert_eq!(side.hear("<a xmlns='urn:xmpp:sm:3' h='9'/>"), "");
    assert_eq!(
        *side.disconnected(),
        LoginError::protocol("a count that cannot be")
    );
}

#[test]
fn a_stream_that_cannot_be_resumed_is_a_new_login() {
    let mut side = Side::online(login());
    assert_eq!(side.send("<iq id='1'/>").0, Ok(()));
    side.hear("<presence/>");
    side.lose();
    assert_eq!(side.authenticate(&format!("{BIND}{SM}")), RESUME);
    side.told.clear();
    let bind = side.hear(
        "<failed xmlns='urn:xmpp:sm:3' h='0'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>",
    );
    assert!(bind.contains("<bind"), "{bind}");
    let why = LoginError::protocol("the stream could not be resumed: item-not-found");
    assert_eq!(side.told, [Output::Down(why)]);
    assert_eq!(side.send("<iq id='2'/>").0, Err(LinkError::Down));
    side.hear(BOUND);
    side.hear("<enabled xmlns='urn:xmpp:sm:3' id='s2' resume='true'/>");
    assert!(matches!(side.told.last(), Some(Output::Up(_))));
    assert_eq!(
        side.send("<iq id='3'/>").1,
        format!("<iq id='3'/>{ASK}"),
        "nothing old"
    );
}

#[test]
fn a_loss_lasts_as_long_as_the_server_says() {
    let mut side = Side::online(login());
    side.lose();
    let until = side.drain().unwrap();
    assert_eq!(until, side.now + Duration::from_secs(100));
    side.stream.handle_timeout(until - Duration::from_millis(1));
    side.drain();
    // A connection that does not come to a login is no second loss.
    side.connect();
    side.lose();
    assert_eq!(side.told, [Output::Suspended]);
    side.stream.handle_timeout(until);
    assert_eq!(side.drain(), None);
    assert_eq!(
        side.told,
        [Output::Suspended, Output::Down(LoginError::Timeout)]
    );
    assert_eq!(side.send("<iq/>").0, Err(LinkError::Down));
}

#[test]
fn a_silent_server_is_asked_and_then_given_up() {
    let mut side = Side::online(login());
    let minute = side.login_idle();
    side.now += minute;
    side.stream.handle_timeout(side.now);
    side.said.clear();
    side.drain();
    assert_eq!(side.said, ASK);
    side.hear("<a xmlns='urn:xmpp:sm:3' h='0'/>");
    for _ in 0..2 {
        side.now += minute;
        side.stream.handle_timeout(side.now);
    }
    side.drain();
    assert_eq!(*side.disconnected(), LoginError::Timeout);
    assert!(
        side.told
            .iter()
            .all(|told| !matches!(told, Output::Down(_)))
    );
}

impl Side {
    fn login_idle(&self) -> Duration {
        self.stream.login().idle
    }
}

#[test]
fn a_login_that_takes_too_long_is_given_up() {
    let mut side = Side::new(login());
    side.connect();
    let until = side.drain().unwrap();
    assert_eq!(until, side.now + Duration::from_secs(30));
    side.stream.handle_timeout(until);
    side.drain();
    assert_eq!(*side.disconnected(), LoginError::Timeout);
}

#[test]
fn nothing_in_the_clear_is_taken_for_protected() {
    let start = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
    let proceed = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
    let clear = || {
        let mut side = Side::new(login());
        side.stream.handle_connected(None, side.now);
        side.drain();
        side
    };
    let mut side = clear();
    let asked = side.hear(&format!(
        "{HEADER}<stream:features>{start}{PLAIN}</stream:features>"
    ));
    assert_eq!(asked, start);
    side.hear(proceed);
    assert_eq!(side.told, [Output::StartTls]);
    side.stream.handle_secured(Secured::default());
    side.said.clear();
    side.drain();
    assert!(side.said.starts_with("<?xml"), "a new stream inside");

    let mut side = clear();
    side.hear(&format!(
        "{HEADER}<stream:features>{start}</stream:features>"
    ));
    side.hear(&format!(
        "{proceed}<stream:features>{PLAIN}</stream:features>"
    ));
    let why = "something in the clear after STARTTLS";
    assert_eq!(*side.disconnected(), LoginError::protocol(why));

    let mut side = clear();
    assert_eq!(
        side.hear(&format!(
            "{HEADER}<stream:features>{PLAIN}</stream:features>"
        )),
        ""
    );
    assert_eq!(*side.disconnected(), LoginError::NoTls);

    // On the same machine it may be allowed, but the password itself never goes out.
    let mut login = login();
    login.allow_unencrypted = true;
    let mut side = Side::new(login);
    side.stream.handle_connected(None, side.now);
    side.drain();
    side.hear(&format!(
        "{HEADER}<stream:features>{PLAIN}</stream:features>"
    ));
    assert_eq!(
        *side.disconnected(),
        LoginError::NoMechanism("PLAIN".into())
    );
}

#[test]
fn refusals_are_told_apart() {
    let sasl = "urn:ietf:params:xml:ns:xmpp-sasl";
    let streams = "urn:ietf:params:xml:ns:xmpp-streams";
    let cases = [
        (
            format!("<failure xmlns='{sasl}'><not-authorized/><text>No.</text></failure>"),
            LoginError::WrongPassword(Some("No.".into())),
            false,
        ),
        (
            format!("<failure xmlns='{sasl}'><account-disabled/></failure>"),
            LoginError::Refused {
                condition: "account-disabled".into(),
                text: None,
            },
            false,
        ),
        (
            format!("<failure xmlns='{sasl}'><temporary-auth-failure/></failure>"),
            LoginError::Refused {
                condition: "temporary-auth-failure".into(),
                text: None,
            },
            true,
        ),
        (
            format!("<stream:error><host-unknown xmlns='{streams}'/></stream:error>"),
            LoginError::UnknownHost {
                domain: "a.example".into(),
                why: "the server says host-unknown".into(),
            },
            true,
        ),
        (
            format!("<stream:error><conflict xmlns='{streams}'/></stream:error>"),
            LoginError::Stream {
                condition: "conflict".into(),
                text: None,
            },
            false,
        ),
        ("</stream:stream>".to_owned(), LoginError::Closed, true),
    ];
    for (said, why, temporary) in cases {
        let mut side = Side::new(login());
        side.connect();
        side.hear(&format!(
            "{HEADER}<stream:features>{PLAIN}</stream:features>"
        ));
        side.hear(&said);
        assert_eq!(*side.disconnected(), why);
        assert_eq!(why.is_temporary(), temporary, "{why}");
    }
}

#[test]
fn a_device_that_is_taken_gets_another_name() {
    let mut side = Side::new(login());
    side.authenticate(BIND);
    let again = side.hear(
        "<iq type='error' id='bind'><error type='cancel'><conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>",
    );
    assert!(
        again.contains("<bind") && !again.contains("resource"),
        "{again}"
    );
    // What comes before the address is known waits for it.
    side.hear("<message id='early'/>");
    side.hear(BOUND);
    let up = Output::Up(Peer::from("romeo@a.example/x"));
    assert_eq!(
        side.told,
        [up, Output::Stanza("<message id='early'/>".into())]
    );
    side.lose();
    let down = Output::Down(LoginError::Closed);
    assert_eq!(
        side.told.last(),
        Some(&down),
        "nothing to resume without XEP-0198"
    );
}

#[test]
fn a_server_may_spell_its_stanzas_otherwise() {
    let mut side = Side::online(login());
    side.hear("<c:message xmlns:c='jabber:client' id='m'/>");
    side.hear("<message id='n'/><other xmlns='urn:x'/>");
    let stanzas = ["<message id='m'/>", "<message id='n'/>"];
    let stanzas = stanzas.map(|stanza| Output::Stanza(stanza.into()));
    assert_eq!(side.told, stanzas);
    assert_eq!(side.hear(ASK), "<a xmlns='urn:xmpp:sm:3' h='2'/>");
    side.hear("<!-- a comment -->");
    assert!(matches!(side.disconnected(), LoginError::Protocol(_)));
    assert!(side.said.contains("restricted-xml"));
}

/// Elements in elements, more of them than may be.
fn deep() -> String {
    let depth = ElementLimits::DEPTH;
    format!("{}{}", "<d>".repeat(depth), "</d>".repeat(depth))
}

/// Servers relay what anybody writes, and say it again after each resumption: nothing in a stanza ends the stream.
#[test]
fn a_stanza_that_breaks_a_limit_is_skipped_and_counted() {
    let long = "x".repeat(ElementLimits::BYTES);
    let long_tag = format!("<message x='{long}'><a/></message>");
    let spelled = format!("<message xmlns='jabber:client'>{}</message>", deep());
    let mut side = Side::online(login());
    let mut count = 0;
    for stanza in [
        format!("<message><body>{long}</body></message>"),
        format!("<presence>{}</presence>", deep()),
        format!("<iq type='result' id='1'>{}</iq>", deep()),
        format!("<iq type='error' id='1'>{}</iq>", deep()),
        format!("<message type='error'>{}</message>", deep()),
        long_tag,
        spelled,
    ] {
        for piece in stanza.as_bytes().chunks(7_000) {
            side.said.clear();
            side.stream.handle_bytes(piece, side.now);
            assert_eq!(side.drain().is_some(), side.stream.is_online());
            assert_eq!(side.said, "", "{:.60}", stanza);
        }
        count += 2;
        let counted = side.hear(&format!("<message id='{count}'/>{ASK}"));
        assert_eq!(counted, format!("<a xmlns='urn:xmpp:sm:3' h='{count}'/>"));
        let next = Output::Stanza(format!("<message id='{count}'/>").into());
        assert_eq!(std::mem::take(&mut side.told), [next], "{:.60}", stanza);
    }
}

/// As a server says it of a device that is not there: who asks may be a stranger.
#[test]
fn a_request_that_breaks_a_limit_is_refused() {
    let mut side = Side::online(login());
    for kind in ["get", "set"] {
        let refusal = side.hear(&format!(
            "<iq type='{kind}' id='&lt;' from='juliet@b.example/y' to='romeo@a.example/x'>{}</iq>",
            deep()
        ));
        assert_eq!(
            refusal.replace(ASK, ""),
            "<iq type='error' to='juliet@b.example/y' from='romeo@a.example/x' id='&lt;'>\
             <error type='cancel'><service-unavailable \
             xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
        );
    }
    let refusal = side.hear(&format!("<iq type='set' id='1'>{}</iq>", deep()));
    assert!(refusal.starts_with("<iq type='error' to='romeo@a.example' id='1'>"));
    assert!(side.stream.is_online() && side.told.is_empty());
    // The refusals are stanzas of ours as any other.
    side.hear("<a xmlns='urn:xmpp:sm:3' h='3'/>");
    assert!(side.stream.is_settled());
}

#[test]
fn a_stanza_that_is_skipped_is_xml_all_the_same_and_nothing_else_is_skipped() {
    for broken in [
        format!("<message>{}<!-- --></message>", &deep()[..3 * 65]),
        format!("<message>{}< /message>", deep()),
        format!("<other xmlns='urn:example'>{}</other>", deep()),
        format!("<message xmlns='urn:example'>{}</message>", deep()),
        format!("<message a='1' a='2'>{}</message>", deep()),
    ] {
        let mut side = Side::online(login());
        side.hear(&broken);
        let why = side.disconnected();
        assert!(matches!(why, LoginError::Protocol(_)), "{broken:.60}");
    }
    let mut side = Side::new(login());
    side.connect();
    side.hear(&format!(
        "{HEADER}<stream:features>{}</stream:features>",
        deep()
    ));
    assert!(matches!(side.disconnected(), LoginError::Protocol(_)));
}

#[test]
fn a_stanza_of_another_spelling_may_break_limits_as_well() {
    let header = HEADER.replace("xmlns='jabber:client'", "xmlns='jabber:client' xmlns:q='q'");
    let mut side = Side::new(login());
    side.connect();
    side.hear(&format!(
        "{HEADER}<stream:features>{PLAIN}</stream:features>"
    ));
    side.hear(SUCCESS);
    side.hear(&format!(
        "{header}<stream:features>{BIND}{SM}</stream:features>"
    ));
    side.hear(BOUND);
    side.hear("<enabled xmlns='urn:xmpp:sm:3' id='s1' resume='true' max='100'/>");
    side.told.clear();
    let attributes: String = (0..100).map(|number| format!(" a{number}=''")).collect();
    let refusal = side.hear(&format!(
        "<message><a{attributes}/></message><iq type='get' id='1' from='b'><a{attributes}/></iq>"
    ));
    assert!(refusal.starts_with("<iq type='error' to='b' id='1'>"));
    assert_eq!(side.hear(ASK), "<a xmlns='urn:xmpp:sm:3' h='2'/>");
    assert_eq!(side.told, []);
}

#[test]
fn a_server_that_asks_often_is_answered_once() {
    let mut side = Side::online(login());
    let asks = ASK.repeat(1_000);
    let said = side.hear(&format!("<message/>{asks}<message/>"));
    assert_eq!(said, "<a xmlns='urn:xmpp:sm:3' h='2'/>");
    side.stream.handle_bytes(ASK.as_bytes(), side.now);
    side.said.clear();
    side.stream.close();
    side.drain();
    assert_eq!(
        side.said,
        "<a xmlns='urn:xmpp:sm:3' h='2'/></stream:stream>"
    );
}

#[test]
fn a_server_that_confirms_what_it_has_not_read_does_not_make_room() {
    let mut side = Side::online(login());
    let stanza = Bytes::from(vec![b' '; OUTBOX_BYTES / 5]);
    for number in 1..=4 {
        assert_eq!(side.stream.send(stanza.clone()), Ok(()));
        let confirmed = format!("<a xmlns='urn:xmpp:sm:3' h='{number}'/>");
        side.stream.handle_bytes(confirmed.as_bytes(), side.now);
    }
    assert_eq!(side.stream.send(stanza.clone()), Err(LinkError::Full));
    side.drain();
    assert_eq!(side.stream.send(stanza), Ok(()));
}

#[test]
fn an_end_in_order_says_everything_first() {
    let mut side = Side::online(login());
    side.said.clear();
    side.stream.send("<iq id='1'/>".into()).unwrap();
    side.stream.close();
    side.drain();
    assert!(side.said.starts_with("<iq id='1'/>") && side.said.ends_with("</stream:stream>"));
    assert_eq!(*side.disconnected(), LoginError::Closed);
    side.lose();
    assert!(
        side.told
            .iter()
            .all(|told| !matches!(told, Output::Down(_))),
        "asked for"
    );
}

const INLINE: &str = "<authentication xmlns='urn:xmpp:sasl:2'><mechanism>PLAIN</mechanism><inline>\
    <bind xmlns='urn:xmpp:bind:0'><inline><feature var='urn:xmpp:sm:3'/></inline></bind>\
    <sm xmlns='urn:xmpp:sm:3'/></inline></authentication>";

/// XEP-0388, XEP-0386, XEP-0198 §8: one round trip instead of four.
#[test]
fn everything_in_one_step() {
    let offers = format!("{HEADER}<stream:features>{PLAIN}{INLINE}</stream:features>");
    let mut anywhere = login();
    anywhere.resource = None;
    let mut side = Side::new(anywhere);
    side.connect();
    let asked = side.hear(&offers);
    assert_eq!(
        asked,
        "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'>\
         <initial-response>AHJvbWVvAHNlY3JldA==</initial-response>\
         <bind xmlns='urn:xmpp:bind:0'><enable xmlns='urn:xmpp:sm:3' resume='true'/></bind></authenticate>"
    );
    let identifier = "<authorization-identifier>romeo@a.example/made-up</authorization-identifier>";
    side.hear(&format!(
        "<success xmlns='urn:xmpp:sasl:2'>{identifier}<bound xmlns='urn:xmpp:bind:0'>\
         <enabled xmlns='urn:xmpp:sm:3' id='s1' resume='true'/></bound></success>\
         <stream:features>{BIND}{SM}</stream:features>"
    ));
    let up = Output::Up(Peer::from("romeo@a.example/made-up"));
    assert_eq!(std::mem::take(&mut side.told), [up]);
    assert_eq!(side.send("<iq id='1'/>").0, Ok(()));
    side.lose();
    side.connect();
    let asked = side.hear(&offers);
    assert!(
        asked.contains("<resume xmlns='urn:xmpp:sm:3' previd='s1' h='0'/><bind"),
        "{asked}"
    );
    let again = side.hear(
        "<success xmlns='urn:xmpp:sasl:2'><resumed xmlns='urn:xmpp:sm:3' previd='s1' h='0'/></success>",
    );
    assert_eq!(again, format!("<iq id='1'/>{ASK}"));
    let told = std::mem::take(&mut side.told);
    assert_eq!(told, [Output::Suspended, Output::Resumed]);
    side.lose();
    side.connect();
    side.hear(&offers);
    side.hear(&format!(
        "<success xmlns='urn:xmpp:sasl:2'>{identifier}<failed xmlns='urn:xmpp:sm:3'/>\
         <bound xmlns='urn:xmpp:bind:0'/></success>"
    ));
    assert!(
        matches!(side.told[..], [Output::Suspended, Output::Down(_)]),
        "{:?}",
        side.told
    );
    // Stream management was not had along with it: it is asked for in the old way.
    let asked = side.hear(&format!("<stream:features>{SM}</stream:features>"));
    assert_eq!(asked, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
    side.hear("<enabled xmlns='urn:xmpp:sm:3' id='s2' resume='true'/>");
    assert!(matches!(side.told.last(), Some(Output::Up(_))));
}

#[test]
fn a_device_with_a_name_is_bound_in_the_old_way() {
    let mut side = Side::new(login());
    side.connect();
    let asked = side.hear(&format!(
        "{HEADER}<stream:features>{INLINE}</stream:features>"
    ));
    assert!(
        asked.starts_with("<authenticate") && !asked.contains("<bind"),
        "{asked}"
    );
    side.hear("<success xmlns='urn:xmpp:sasl:2'><authorization-identifier>romeo@a.example</authorization-identifier></success>");
    let bind = side.hear(&format!("<stream:features>{BIND}</stream:features>"));
    assert!(bind.contains("<resource>x</resource>"), "{bind}");
    let mut side = Side::new(login());
    side.connect();
    side.hear(&format!(
        "{HEADER}<stream:features>{INLINE}</stream:features>"
    ));
    side.hear(
        "<failure xmlns='urn:xmpp:sasl:2'><not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/><text>No.</text></failure>",
    );
    assert_eq!(
        *side.disconnected(),
        LoginError::WrongPassword(Some("No.".into()))
    );
}

proptest::proptest! {
    /// Whatever a server says, cut anywhere: no panic, and an end at the latest when the time is up.
    #[test]
    fn no_server_breaks_it(
        picks in proptest::collection::vec(0_usize..16, 0..12),
        noise in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..8),
        cut in 1_usize..40,
        managed: bool,
    ) {
        let parts = [
            HEADER, "<stream:features/>", SUCCESS, BOUND, ASK, "<a xmlns='urn:xmpp:sm:3' h='1'/>",
            "<resumed xmlns='urn:xmpp:sm:3' h='4294967295'/>", "<failed xmlns='urn:xmpp:sm:3'/>",
            "<enabled xmlns='urn:xmpp:sm:3' id='' resume='1' max='99999999999'/>", "</stream:stream>",
            "<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>!</challenge>", "<iq/>", "<stream:error/>",
            "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", "<presence><", "<a/>",
        ];
        let mut side = if managed { Side::online(login()) } else { Side::new(login()) };
        if !managed {
            side.connect();
        }
        let mut bytes: Vec<u8> = picks.iter().flat_map(|&at| parts[at].bytes()).collect();
        bytes.extend(noise);
        for chunk in bytes.chunks(cut) {
            side.stream.handle_bytes(chunk, side.now);
            side.drain();
            let _ = side.stream.send("<iq/>".into());
        }
        for _ in 0..4 {
            side.now += Duration::from_secs(100_000);
            side.stream.handle_timeout(side.now);
            side.drain();
        }
        side.lose();
        side.now += Duration::from_secs(100_000);
        side.stream.handle_timeout(side.now);
        proptest::prop_assert_eq!(side.drain(), None);
        proptest::prop_assert_eq!(side.stream.send("<iq/>".into()), Err(LinkError::Down));
    }
}

/// XEP-0478: the last word counts, also behind SASL that binds along, and holds for its connection.
#[test]
fn the_server_says_how_large_a_stanza_may_be() {
    let limits = "<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>9000</max-bytes></limits>";
    let mut side = Side::new(login());
    side.authenticate(&format!("{BIND}{limits}"));
    assert_eq!(side.stream.stanza_max(), Some(9_000));
    side.hear(BOUND);
    let more = limits.replace("9000", "90000");
    side.hear(&format!("<stream:features>{more}</stream:features>"));
    side.hear("<stream:features/>");
    assert_eq!(side.stream.stanza_max(), Some(90_000));
    side.lose();
    side.authenticate(BIND);
    assert_eq!(side.stream.stanza_max(), None);
}
