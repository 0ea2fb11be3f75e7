//! Files with Libervia, from Debian.

use super::Row;
use crate::lab::{self, DOMAIN, PATIENCE, Process, Prosody, wait, write};
use bytes::Bytes;
use clap::Parser;
use session_core::{Misuse, Reason, ReasonCondition, SessionManager};
use session_file::{
    Acceptance, Decision, FILE_TRANSFER, File, FileClient, FileConfig, FileText, FileVerdict,
    Outcome, Proposal, Read, TransferId,
};
use session_xmpp::cli::{AccountArgs, Online, Program};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};
use transport_relay::{ibb, s5b};

const PROGRAM: Program = Program {
    name: "matrix",
    node: "https://example.org/matrix",
    kind: "console",
    features: &[FILE_TRANSFER],
    calls: false,
};
const FILE_NAME: &str = "letter.bin";
const FILE_BYTES: usize = 300_000;

const WANTED: [lab::Wanted; 4] = [
    ("prosody", "prosody"),
    ("libervia-backend", "libervia-backend"),
    ("libervia-cli", "libervia-cli"),
    ("dbus-daemon", "dbus-daemon"),
];

#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    account: AccountArgs,
}

pub(super) const NAME: &str = "Libervia";

pub(super) fn missing() -> Option<String> {
    lab::missing(NAME, &WANTED)
}

pub(super) fn meet(folder: &Path) -> Result<Vec<Row>, String> {
    let server = Prosody::start(folder, "", "")?;
    let libervia = Libervia::start(folder, server.port)?;
    let version = format!(
        "{}, over Prosody {}",
        libervia.version,
        lab::prosody_version()
    );
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let bytes: Bytes = (0..FILE_BYTES)
        .map(|at| (at * 31 + at / 257) as u8)
        .collect::<Vec<_>>()
        .into();
    let cases: [(&'static str, &'static str, &str); 3] = [
        ("file, S5B", "initiator", "s5b,ibb"),
        ("file, IBB", "initiator", "ibb"),
        ("file, S5B", "responder", "s5b,ibb"),
    ];
    let mut rows = Vec::new();
    for (case, role, transports) in cases {
        let place = Place {
            folder,
            server: &server,
            transports,
        };
        let outcome = match role {
            "initiator" => runtime.block_on(send(&place, &libervia, &bytes)),
            _ => runtime.block_on(receive(&place, &libervia, &bytes)),
        };
        let wanted = if case == "file, IBB" {
            ibb::NAMESPACE
        } else {
            s5b::NAMESPACE
        };
        let came = outcome.and_then(|(transport, why)| match transport == wanted {
            true => Ok(why),
            false => Err(format!("{why}, but over {transport}")),
        });
        rows.push(Row::real((NAME, &version), (case, role), came));
    }
    Ok(rows)
}

/// Libervia's daemon, with a message bus of its own, logged in as Juliet.
struct Libervia {
    home: PathBuf,
    version: String,
    _backend: Process,
    _bus: Process,
}

impl Libervia {
    fn start(folder: &Path, port: u16) -> Result<Self, String> {
        let home = folder.join("libervia");
        let at = home.display();
        let config = format!(
            r#"[DEFAULT]
local_dir = {at}/data
log_level = info
init_script_extra =
xmpp_domain = {DOMAIN}
hosts_dict = {{"{DOMAIN}": {{"host": "127.0.0.1", "port": {port}}}}}
check_certificate = false
bridge = dbus
"#
        );
        write(&home.join(".config/sat/sat.conf"), &config)?;
        fs::create_dir_all(home.join("data")).map_err(|error| error.to_string())?;
        fs::create_dir_all(home.join("received")).map_err(|error| error.to_string())?;
        let bus = lab::message_bus(&home, folder)?;
        let backend = Process::start(
            "libervia",
            folder,
            environment(&home, "libervia-backend").arg("fg"),
        )?;
        let libervia = Self {
            version: lab::debian_version("libervia-backend"),
            home,
            _backend: backend,
            _bus: bus,
        };
        wait("Libervia", || libervia.cli(&["profile", "list"]).is_ok())?;
        let jid = format!("juliet@{DOMAIN}/libervia");
        libervia.cli(&["profile", "create", "-j", &jid, "-x", "julietpw", "juliet"])?;
        // The server's certificate is of an authority that lives as long as this run.
        let check = [
            "param",
            "set",
            "-p",
            "juliet",
            "Connection",
            "check_certificate",
            "false",
        ];
        libervia.cli(&check)?;
        libervia.cli(&["profile", "connect", "-c", "-p", "juliet"])?;
        // Otherwise it waits for a person to allow that it asks the web for its own address.
        libervia.cli(&[
            "param",
            "set",
            "-p",
            "juliet",
            "General",
            "allow_get_ip",
            "false",
        ])?;
        Ok(libervia)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = environment(&self.home, "timeout");
        command.args(["60", "libervia-cli"]).args(arguments);
        command
    }

    fn cli(&self, arguments: &[&str]) -> Result<(), String> {
        let output = self
            .command(arguments)
            .output()
            .map_err(|error| error.to_string())?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!(
                "libervia-cli {}: {}{}",
                arguments.first().unwrap_or(&""),
                String::from_utf8_lossy(&output.stdout).trim(),
                String::from_utf8_lossy(&output.stderr).trim(),
            )),
        }
    }
}

fn environment(home: &Path, program: &str) -> Command {
    let mut command = Command::new(program);
    // It makes folders where it is started.
    command.current_dir(home).env_clear();
    command
        .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
        .env("HOME", home)
        .env("LANG", "C.UTF-8");
    command.env(
        "DBUS_SESSION_BUS_ADDRESS",
        format!("unix:path={}/bus", home.display()),
    );
    command
        .env("PYTHONWARNINGS", "ignore")
        .env("PYTHONUNBUFFERED", "1")
        .env("XDG_RUNTIME_DIR", home);
    command
}

/// Where we log in, and with which transports.
struct Place<'a> {
    folder: &'a Path,
    server: &'a Prosody,
    transports: &'a str,
}

impl Place<'_> {
    async fn login(&self) -> Result<Online, String> {
        let mut words = vec!["matrix".to_owned()];
        words.extend(self.server.account("romeo"));
        let more = ["--transports", self.transports, "--accept", "any"];
        words.extend(more.map(str::to_owned));
        let args = Args::try_parse_from(words).map_err(|error| error.to_string())?;
        let account = args
            .account
            .resolve(&PROGRAM)
            .map_err(|error| error.to_string())?;
        account
            .login(&PROGRAM, setup)
            .await
            .map_err(|error| error.to_string())
    }
}

fn setup(manager: &mut SessionManager) -> Result<(), Misuse> {
    let mut files = FileClient::new(FileConfig::default());
    files.set_policy(|offer| {
        let all = offer.files.iter();
        let all = all.map(|file| {
            (
                file.content.clone(),
                Decision::Accept(Acceptance::default()),
            )
        });
        FileVerdict::Decide(all.collect())
    });
    manager.add_client(files)
}

type Came = Result<(String, String), String>;

/// We send, Libervia receives.
async fn send(place: &Place<'_>, libervia: &Libervia, bytes: &Bytes) -> Came {
    let target = libervia.home.join("received").join(FILE_NAME);
    let _ = fs::remove_file(&target);
    let folder = libervia.home.join("received").display().to_string();
    let receive = ["file", "receive", "-f", "--path", &folder, "-p", "juliet"];
    let _receiver = Process::start("receive", place.folder, &mut libervia.command(&receive))?;
    let online = place.login().await?;
    // Its command line takes a moment until it listens, and says nothing then.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let juliet = format!("juliet@{DOMAIN}/libervia");
    let found = online.find(&juliet.as_str().into(), &[FILE_TRANSFER]).await;
    let found = found.map_err(|error| error.to_string())?;
    let from = online.address.clone();
    let names: &[&str] = match place.transports {
        "ibb" => &[ibb::NAMESPACE],
        _ => &[s5b::NAMESPACE, ibb::NAMESPACE],
    };
    let id = online.endpoint.update(|manager, now| {
        let session = manager
            .create_session(from, FILE_TRANSFER, now)
            .map_err(|e| e.to_string())?;
        if let Some(session) = manager.session(session) {
            session
                .set_potential_transports(names)
                .map_err(|error| error.to_string())?;
        }
        let mut file = File::new(FILE_NAME, bytes.len() as u64);
        // Libervia fails on an offer without one.
        file.texts.push(FileText {
            language: None,
            text: "a file".into(),
        });
        let offer = Proposal::Offer(file);
        let opened = FileClient::open(manager, session, found.device, vec![offer], now);
        let opened = opened.map_err(|error| error.to_string())?;
        opened
            .into_iter()
            .next()
            .ok_or_else(|| "no transfer".to_owned())
    })?;
    let mut left = bytes.clone();
    let mut transport = String::new();
    let outcome = until(&online, |manager, now| {
        if !left.is_empty() {
            // Not yet, or not any more: the outcome tells.
            let _ = FileClient::write(manager, &id, &mut left, now);
        }
        note(manager, &id, &mut transport);
        manager
            .find_client::<FileClient>()?
            .transfer(&id)?
            .outcome()
            .cloned()
    })
    .await;
    let arrived = fs::read(&target).is_ok_and(|there| there == *bytes);
    finish(online).await;
    match outcome {
        Some(outcome @ Outcome::Sent { .. }) if arrived => Ok((transport, format!("{outcome:?}"))),
        outcome => Err(format!(
            "{outcome:?} over {transport:?}, and the file is whole: {arrived}"
        )),
    }
}

/// Libervia sends, we receive.
async fn receive(place: &Place<'_>, libervia: &Libervia, bytes: &Bytes) -> Came {
    let online = place.login().await?;
    let path = libervia.home.join(FILE_NAME);
    fs::write(&path, bytes).map_err(|error| error.to_string())?;
    let (path, to) = (
        path.display().to_string(),
        online.address.as_str().to_owned(),
    );
    let send = ["file", "send", "-p", "juliet", &path, &to];
    let _sender = Process::start("send", place.folder, &mut libervia.command(&send))?;
    let mut id: Option<TransferId> = None;
    let (mut transport, mut received) = (String::new(), Vec::new());
    let outcome = until(&online, |manager, now| {
        let files = manager.find_client::<FileClient>()?;
        if id.is_none() {
            let session = files.sessions().next()?;
            let content = files.transfers(session).next()?.content().clone();
            id = Some(TransferId { session, content });
        }
        let id = id.as_ref()?;
        note(manager, id, &mut transport);
        while let Ok(Read::Bytes(bytes)) = FileClient::read(manager, id, usize::MAX, now) {
            received.extend_from_slice(&bytes);
        }
        manager
            .find_client::<FileClient>()?
            .transfer(id)?
            .outcome()
            .cloned()
    })
    .await;
    finish(online).await;
    match outcome {
        Some(outcome @ Outcome::Received(_)) if received == *bytes => {
            Ok((transport, format!("{outcome:?}")))
        }
        outcome => Err(format!(
            "{outcome:?} over {transport:?}, {} bytes",
            received.len()
        )),
    }
}

fn note(manager: &SessionManager, id: &TransferId, transport: &mut String) {
    let used = manager
        .peek(id.session)
        .and_then(|session| session.transport());
    if let Some(used) = used {
        used.clone_into(transport);
    }
}

async fn until(
    online: &Online,
    mut outcome: impl FnMut(&mut SessionManager, Instant) -> Option<Outcome>,
) -> Option<Outcome> {
    let begun = Instant::now();
    while Instant::now().saturating_duration_since(begun) < PATIENCE {
        if let Some(outcome) = online.endpoint.update(&mut outcome) {
            return Some(outcome);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    None
}

async fn finish(online: Online) {
    // The outcome is known; that its stream does not end in order changes nothing.
    let _ = online.finish(Reason::new(ReasonCondition::Success)).await;
}
