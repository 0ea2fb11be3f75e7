//! What goes wrong has a name and an exit code of its own, in both programs.

use super::Place;
use crate::lab::{self, DOMAIN, Prosody};
use session_core::{Config, Peer, SeededEntropy, SessionManager};
use session_xmpp::{
    address,
    client::{Authorities, Client, Discovery, Info, Options, Password, Server},
    endpoint::{self, Endpoint},
};
use std::{fs, path::Path};

/// What is done, the exit code, and the code for machines.
type Failing<'a> = (&'a [&'a str], i32, &'a str);

pub(super) fn all(place: &Place) -> Result<String, String> {
    let server = place.server("", "")?;
    lab::write(&place.path("file"), "a file")?;
    lab::write(&place.path("wrong"), "not this\n")?;
    let other = rcgen::generate_simple_self_signed([DOMAIN.to_owned()]);
    let other = other.map_err(|error| error.to_string())?.cert.pem();
    lab::write(&place.path("other.pem"), &other)?;
    let path = |name: &str| place.path(name).display().to_string();
    let (wrong, other, nowhere) = (
        path("wrong"),
        path("other.pem"),
        "no-such-host.invalid:5222",
    );
    let juliet = format!("juliet@{DOMAIN}");
    let cases: [Failing<'_>; 5] = [
        (&[&juliet, "--password-file", &wrong], 3, "wrong-password"),
        (&[&juliet, "--server", nowhere], 3, "unknown-host"),
        (&[&juliet, "--ca", &other], 3, "untrusted-certificate"),
        (&[&juliet], 1, "peer-offline"),
        (&["juliet@@nowhere"], 2, "usage"),
    ];
    let mut count = 0;
    for case in cases {
        for program in [&place.pcp, &place.call] {
            fails(place, &server, program, case)?;
            count += 1;
        }
    }
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let guest = runtime.block_on(without_jingle(&server))?;
    let device = guest.1.as_str().to_owned();
    for to in [juliet.as_str(), &device] {
        for program in [&place.pcp, &place.call] {
            fails(place, &server, program, (&[to], 1, "peer-without-jingle"))?;
            count += 1;
        }
    }
    drop(guest);
    let mut callee = place.phone(&server, "juliet", &["answer", "--decline"])?;
    callee.hear("\"waiting\"")?;
    fails(place, &server, &place.call, (&[&juliet], 4, "declined"))?;
    match callee.wait()? {
        0 => Ok(format!("{} failures, each by its name", count + 1)),
        code => Err(format!("who declines ended with {code}: {}", callee.said())),
    }
}

/// Runs a program that is to fail so.
fn fails(
    place: &Place,
    server: &Prosody,
    program: &Path,
    (words, exit, code): Failing<'_>,
) -> Result<(), String> {
    let file = place.path("file").display().to_string();
    let begin: &[&str] = match program == place.pcp {
        true => &["send", &file],
        false => &["dial"],
    };
    let words = [begin, words].concat();
    // What a case gives again replaces what the account has.
    let account = server.account("romeo");
    let given: Vec<&str> = words
        .iter()
        .copied()
        .filter(|word| word.starts_with("--"))
        .collect();
    let rest = account.chunks(2).filter(|pair| !given.contains(&&*pair[0]));
    let mut command = std::process::Command::new(program);
    command.args(&words).args(rest.flatten()).arg("--json");
    let mut process = lab::Process::start("failing", place.folder.path(), &mut command)?;
    let ended = process.wait()?;
    let said = process.said();
    let problem = lab::event(&said, "problem").unwrap_or_default();
    let told = ["what", "why", "hint"].map(|key| problem[key].as_str().unwrap_or_default().len());
    if ended != exit || problem["code"] != code || told.contains(&0) {
        let program = program.display();
        return Err(format!(
            "{program} {} ended with {ended} instead of {exit}, {code}: {said}",
            words.join(" ")
        ));
    }
    Ok(())
}

/// A device of Juliet's that knows no Jingle.
async fn without_jingle(server: &Prosody) -> Result<(Endpoint, Peer), String> {
    let path = server.folder().join("ca.pem");
    let authority = fs::read(path).map_err(|error| error.to_string())?;
    let address = address::parse(&format!("juliet@{DOMAIN}/guest"));
    let address = address.map_err(|error| error.to_string())?;
    let mut options = Options::new(&address, Password::new("julietpw"));
    options.server = Server::At {
        host: "127.0.0.1".to_owned(),
        port: server.port,
        direct_tls: false,
    };
    let trust = Authorities::from_pem(&authority).and_then(Authorities::only);
    options.tls = Some(trust.map_err(|error| error.to_string())?);
    let (client, link) = Client::start(options);
    let info = Info::new("client", "pc", "guest", ["jabber:iq:version"]);
    let discovery = Discovery::new("https://example.org/guest", info);
    let mut options = endpoint::Options::default();
    options.service = Some(discovery.service());
    let manager = SessionManager::new(Config::default(), SeededEntropy::new(1));
    let endpoint = Endpoint::spawn_with(manager, link, options);
    let address = client.online().await.map_err(|error| error.to_string())?;
    let sent = endpoint.send_stanza(&discovery.presence(None));
    sent.map_err(|error| error.to_string())?;
    Ok((endpoint, address))
}
