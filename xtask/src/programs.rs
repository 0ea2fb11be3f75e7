//! `cargo xtask programs`: our two programs as people use them, each in a process of its own, over a private Prosody: files both
//! ways, calls, also to several devices, a relay that the server tells of, a server that restarts meanwhile, and what each failure
//! is called.

mod devices;
mod failures;

use crate::lab::{self, DOMAIN, Folder, Process, Prosody, sound};
use crate::tools::{Failure, Outcome};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::Duration,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only the case of this name
    case: Option<String>,
}

/// A case: what it is called, what it takes, and what comes of it.
type Case = (
    &'static str,
    &'static [lab::Wanted],
    fn(&Place) -> Result<String, String>,
);

const PROSODY: lab::Wanted = ("prosody", "prosody");

const CASES: [Case; 8] = [
    ("files", &[PROSODY], files),
    ("call", &[PROSODY], call),
    ("devices", &[PROSODY], devices::all),
    ("share", &[PROSODY], share),
    ("relay", &[PROSODY, ("turnserver", "coturn")], relay),
    ("restart-call", &[PROSODY], restart_in_a_call),
    ("restart-file", &[PROSODY], restart_in_a_file),
    ("failures", &[PROSODY], failures::all),
];

/// What romeo says in calls, and juliet, in hertz.
const ROMEO: u32 = 440;
const JULIET: u32 = 660;
/// What server and relay share.
const SECRET: &str = "north";

pub(crate) fn run(args: &Args) -> Outcome {
    let wanted = |case: &&Case| args.case.as_deref().is_none_or(|name| name == case.0);
    let cases: Vec<&Case> = CASES.iter().filter(wanted).collect();
    if cases.is_empty() {
        let names = CASES.map(|(name, ..)| name).join(", ");
        let why = format!("there are {names}");
        return Err(Failure::new(
            "cargo xtask programs",
            why,
            "name one of them",
        ));
    }
    let (pcp, call) = (lab::program("pcp")?, lab::program("call")?);
    let (mut done, mut left) = (0, Vec::new());
    for (name, wanted, case) in cases {
        if let Some(missing) = lab::missing(name, wanted) {
            left.push(missing);
            continue;
        }
        let place = Folder::new(&format!("programs-{name}")).map(|folder| Place {
            folder,
            pcp: pcp.clone(),
            call: call.clone(),
        });
        match place.and_then(|place| case(&place)) {
            Ok(how) => println!("      {name}: {how}"),
            Err(why) => {
                let hint = format!("cargo xtask programs {name}");
                return Err(Failure::new(format!("programs: {name}"), why, hint));
            }
        }
        done += 1;
    }
    left.insert(0, format!("{done} cases as they should be"));
    Ok(left.join("; "))
}

/// All of them, as a step of `cargo xtask test`.
pub(crate) fn all() -> Outcome {
    run(&Args { case: None })
}

struct Place {
    folder: Folder,
    pcp: PathBuf,
    call: PathBuf,
}

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn server(&self, modules: &str, settings: &str) -> Result<Prosody, String> {
        sound::write_tone(&self.path("romeo.wav"), ROMEO, 60.0)?;
        sound::write_tone(&self.path("juliet.wav"), JULIET, 60.0)?;
        Prosody::start(self.folder.path(), modules, settings)
    }

    /// Runs a program for somebody, who speaks JSON.
    fn start(
        &self,
        program: &Path,
        server: &Prosody,
        user: &str,
        words: &[&str],
    ) -> Result<Process, String> {
        let mut command = Command::new(program);
        command
            .args(words)
            .arg("--json")
            .args(server.account(user))
            .arg("--trace")
            .arg(self.path(&format!("{user}.trace")));
        Process::start(user, self.folder.path(), &mut command)
    }

    /// Runs `call` for somebody, with sound from a file and into one.
    fn phone(&self, server: &Prosody, user: &str, words: &[&str]) -> Result<Process, String> {
        let path = |name: String| self.path(&name).display().to_string();
        let (play, record) = (
            path(format!("{user}.wav")),
            path(format!("{user}.heard.wav")),
        );
        let sound = ["--play", &play, "--record", &record];
        self.start(&self.call, server, user, &[words, &sound].concat())
    }

    /// Romeo calls Juliet, for so many seconds of conversation.
    fn dial(
        &self,
        server: &Prosody,
        seconds: &str,
        more: &[&str],
    ) -> Result<(Process, Process), String> {
        let mut juliet = self.phone(server, "juliet", &[&["answer"], more].concat())?;
        juliet.hear("\"waiting\"")?;
        let to = format!("juliet@{DOMAIN}");
        let words = [&["dial", &to, "--for", seconds], more].concat();
        Ok((self.phone(server, "romeo", &words)?, juliet))
    }

    /// Both end well, after both have heard the other for so many seconds.
    fn heard(&self, pair: (Process, Process), seconds: f64) -> Result<String, String> {
        let (mut romeo, mut juliet) = pair;
        let ends = (romeo.wait()?, juliet.wait()?);
        let all = || format!("romeo: {}\njuliet: {}", romeo.said(), juliet.said());
        if ends != (0, 0) {
            return Err(format!("they ended with {ends:?}\n{}", all()));
        }
        let here = sound::tone_seconds(&self.path("romeo.heard.wav"), JULIET)?;
        let there = sound::tone_seconds(&self.path("juliet.heard.wav"), ROMEO)?;
        if here.min(there) < seconds {
            return Err(format!(
                "{here:.1} s and {there:.1} s were heard\n{}",
                all()
            ));
        }
        let done = lab::event(&romeo.said(), "done").ok_or_else(all)?;
        let text = |key: &str| done[key].as_str().unwrap_or_default().to_owned();
        Ok(format!(
            "{here:.1} s and {there:.1} s heard, {}, {}, {}",
            text("codec"),
            text("security"),
            text("path")
        ))
    }
}

/// Some bytes that do not repeat soon.
fn bytes(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    (0..size).map(|_| next()).collect()
}

/// Sends a file from one to the other; both programs end well, and it is the same.
fn send(
    place: &Place,
    server: &mut Prosody,
    (from, to): (&str, &str),
    content: &[u8],
    limit: &[&str],
    meanwhile: impl FnOnce(&mut Prosody) -> Result<(), String>,
) -> Result<String, String> {
    let (name, inbox) = (format!("from-{from}.bin"), format!("inbox-of-{to}"));
    let (path, into) = (place.path(&name), place.path(&inbox));
    fs::write(&path, content).map_err(|error| error.to_string())?;
    fs::create_dir_all(&into).map_err(|error| error.to_string())?;
    let into = into.display().to_string();
    let words = ["receive", "--into", &into, "--count", "1"];
    let mut receiver = place.start(&place.pcp, server, to, &words)?;
    receiver.hear("\"ready\"")?;
    let (path, whom) = (path.display().to_string(), format!("{to}@{DOMAIN}"));
    let words = [&["send", &path, &whom], limit].concat();
    let mut sender = place.start(&place.pcp, server, from, &words)?;
    meanwhile(server)?;
    let ends = (sender.wait()?, receiver.wait()?);
    let all = || format!("{from}: {}\n{to}: {}", sender.said(), receiver.said());
    if ends != (0, 0) {
        return Err(format!("they ended with {ends:?}\n{}", all()));
    }
    let arrived = fs::read(Path::new(&into).join(&name));
    if arrived.map_err(|error| format!("{error}\n{}", all()))? != content {
        return Err(format!("another file arrived\n{}", all()));
    }
    let sent = lab::event(&sender.said(), "sent").ok_or_else(all)?;
    Ok(format!(
        "{} bytes, {}",
        content.len(),
        sent["protection"].as_str().unwrap_or("?")
    ))
}

fn files(place: &Place) -> Result<String, String> {
    let mut server = place.server("", "")?;
    let mut told = Vec::new();
    for (pair, size) in [(("romeo", "juliet"), 3_000_000), (("juliet", "romeo"), 1)] {
        let content = bytes(size, 7);
        let came = send(place, &mut server, pair, &content, &[], |_| Ok(()))?;
        told.push(format!("{} to {}: {came}", pair.0, pair.1));
    }
    Ok(told.join("; "))
}

/// Juliet shares a folder: her contact Romeo sees what is in it, and fetches some of it; when she is gone there is nothing.
fn share(place: &Place) -> Result<String, String> {
    let server = place.server("\"pep\";", "")?;
    let content = bytes(100_000, 4);
    fs::create_dir_all(place.path("shelf/photos")).map_err(|error| error.to_string())?;
    for name in ["shelf/photos/beach.jpg", "shelf/notes.txt"] {
        fs::write(place.path(name), &content).map_err(|error| error.to_string())?;
    }
    let text = |name: &str| place.path(name).display().to_string();
    let shelf = text("shelf");
    let mut juliet = place.start(&place.pcp, &server, "juliet", &["share", &shelf])?;
    juliet.hear("\"published\"")?;
    let whom = format!("juliet@{DOMAIN}");
    let romeo = |what: &str| {
        let into = text("fetched");
        fs::create_dir_all(&into).map_err(|error| error.to_string())?;
        let words = ["get", what, "--into", &into];
        let mut romeo = place.start(&place.pcp, &server, "romeo", &words)?;
        Ok::<_, String>((romeo.wait()?, romeo.said()))
    };
    let (end, said) = romeo(&whom)?;
    let listed = ["photos/beach.jpg", "notes.txt"].map(|name| said.contains(name));
    if end != 0 || listed != [true; 2] {
        return Err(format!(
            "romeo sees {listed:?} and ends with {end}: {said}\njuliet: {}",
            juliet.said()
        ));
    }
    let (end, said) = romeo(&format!("{whom}:photos/beach.jpg"))?;
    let fetched = fs::read(place.path("fetched/beach.jpg"));
    if end != 0 || !fetched.is_ok_and(|fetched| fetched == content) {
        return Err(format!("romeo fetches it and ends with {end}: {said}"));
    }
    juliet.interrupt()?;
    let ended = juliet.wait()?;
    if ended != 0 {
        let said = juliet.said();
        return Err(format!(
            "juliet is asked to end, and ends with {ended}: {said}"
        ));
    }
    let (end, said) = romeo(&whom)?;
    if end == 0 || !said.contains("nothing-shared") {
        return Err(format!("juliet is gone, and romeo sees: {said}"));
    }
    Ok("2 files listed, 1 fetched, none when she is gone".to_owned())
}

fn call(place: &Place) -> Result<String, String> {
    let server = place.server("", "")?;
    let pair = place.dial(&server, "4", &[])?;
    place.heard(pair, 2.5)
}

/// Nothing but what goes through the relay, whose credentials Prosody hands out (XEP-0215).
fn relay(place: &Place) -> Result<String, String> {
    let (ip, port) = (own_address(), lab::free_port()?);
    let settings = format!(
        "external_service_secret = \"{SECRET}\"\n\
         external_services = {{ {{ type = \"turn\"; transport = \"udp\"; host = \"{ip}\"; port = {port}; \
         secret = true; ttl = 600 }} }}"
    );
    let server = place.server("\"external_services\";", &settings)?;
    let _relay = coturn(place.folder.path(), ip, port)?;
    let options = ["--relay-only", "--transports", "ice"];
    let pair = place.dial(&server, "4", &options)?;
    let how = place.heard(pair, 2.5)?;
    let trace = fs::read_to_string(place.path("romeo.trace")).map_err(|e| e.to_string())?;
    let last = trace
        .lines()
        .rfind(|line| line.contains("\"event\":\"path\""));
    if !last.is_some_and(|path| path.contains("relay")) {
        return Err(format!("it did not go through the relay: {last:?}"));
    }
    if trace.contains("type='host'") || !trace.contains("password='…'") {
        return Err("an address of the host was told, or no credentials came".to_owned());
    }
    Ok(how)
}

/// The server goes away in the middle and comes back; sound goes on, and the end is said in order.
fn restart_in_a_call(place: &Place) -> Result<String, String> {
    let mut server = place.server("", "")?;
    let (mut romeo, juliet) = place.dial(&server, "14", &[])?;
    romeo.hear("connected")?;
    sleep(Duration::from_secs(2));
    server.stop();
    sleep(Duration::from_secs(3));
    server.run()?;
    // Of 14 seconds of which 3 were without a server; a hole would be missing here.
    place.heard((romeo, juliet), 12.0)
}

fn restart_in_a_file(place: &Place) -> Result<String, String> {
    let mut server = place.server("", "")?;
    let content = bytes(8_000_000, 9);
    let restart = |server: &mut Prosody| {
        let receiving = place.path("juliet.log");
        lab::wait("the beginning", || {
            fs::read_to_string(&receiving).is_ok_and(|said| said.contains("\"progress\""))
        })?;
        server.stop();
        sleep(Duration::from_secs(2));
        server.run()
    };
    let limit = ["--limit", "1M"];
    send(
        place,
        &mut server,
        ("romeo", "juliet"),
        &content,
        &limit,
        restart,
    )
}

/// A relay that knows the secret.
fn coturn(folder: &Path, ip: IpAddr, port: u16) -> Result<Process, String> {
    let at = folder.display();
    let config = format!(
        "listening-ip={ip}\nrelay-ip={ip}\nlistening-port={port}\nno-tls\nno-dtls\nuse-auth-secret\n\
         static-auth-secret={SECRET}\nrealm={DOMAIN}\nuserdb={at}/turndb\npidfile={at}/turnserver.pid\n\
         no-cli\nallow-loopback-peers\nlog-file=stdout\nsimple-log\nno-multicast-peers\n"
    );
    let path = folder.join("turnserver.conf");
    lab::write(&path, &config)?;
    Process::start(
        "coturn",
        folder,
        Command::new("turnserver").arg("-c").arg(path),
    )
}

/// The address of this host by which others reach it; it is enough to ask for a way, nothing is sent.
fn own_address() -> IpAddr {
    let local = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect(("192.0.2.1", 9))?;
        socket.local_addr()
    });
    local.map_or_else(|_| Ipv4Addr::LOCALHOST.into(), |address| address.ip())
}
