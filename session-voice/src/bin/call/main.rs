//! `call`: a voice call from the command line.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a program has a clock, files and a screen"
)]

mod announce;
mod contents;
mod dial;
mod form;
mod keys;
mod outcome;
mod phone;
mod report;
mod screen;
mod sound;
mod talk;
mod talked;

use clap::{Parser, Subcommand};
use keys::Keys;
use phone::{Conversation, Phone};
use screen::Screen;
use session_core::{Cause, Peer, Reason, ReasonCondition};
use session_xmpp::cli::{AccountArgs, Exit, Problem, Program};
use sound::Sound;
use std::{path::PathBuf, process::ExitCode, time::Duration};
use talk::Ended;
use talked::Talked;

/// What no option says.
const AFTER_HELP: &str = "\
Keys during a call, typed as lines where there is no terminal:
  m  mutes you, or ends that            0-9 * # a-d  digits for the peer
  h  puts the peer on hold, or ends it  q, Ctrl-C    hangs up; Ctrl-C again ends at once
Before the answer m and h wait for it, and q gives up or declines.

Exit codes:
  0  there was a call, or you ended it  3  no login
  1  it failed                          4  declined, or busy
  2  the options make no sense          130  Ctrl-C was pressed again";

/// Voice calls over XMPP, encrypted, straight from one device to the other
#[derive(Debug, Parser)]
#[command(name = "call", version, after_help = AFTER_HELP)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Call somebody
    Dial {
        /// Whom: bob@example.org, or bob@example.org/desk
        to: String,
        /// Give up when nobody answers for so many seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
        ring: f64,
        #[command(flatten)]
        how: How,
    },
    /// Wait for a call and answer it
    Answer {
        /// Ring for so many seconds before the call is answered
        #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
        after: f64,
        /// Decline the call instead
        #[arg(long)]
        decline: bool,
        /// While it rings, play this WAV file to the caller, again and again; not every caller can hear it
        #[arg(long, value_name = "WAV")]
        early_media: Option<PathBuf>,
        #[command(flatten)]
        how: How,
    },
}

/// What is said and heard.
#[derive(Clone, Debug, clap::Args)]
struct How {
    /// Say what is in this WAV file; without it the microphone, and a tone where there is none
    #[arg(long, value_name = "WAV")]
    play: Option<PathBuf>,
    /// Write what is heard to this WAV file; without it the loudspeaker, if there is one
    #[arg(long, value_name = "WAV")]
    record: Option<PathBuf>,
    /// Hang up after so many seconds of conversation
    #[arg(long = "for", value_name = "SECONDS")]
    length: Option<f64>,
    /// Send what the microphone hears as it is, with echo and noise
    #[arg(long)]
    #[cfg_attr(not(feature = "enhance"), arg(hide = true))]
    raw: bool,
    /// Leave out silence
    #[arg(long)]
    dtx: bool,
    /// Write a page that shows how the call went
    #[arg(long, value_name = "HTML")]
    report: Option<PathBuf>,
    /// End the call if the peer's certificate has another fingerprint than this (sha-256, as in AB:CD:…)
    #[arg(long, value_name = "FINGERPRINT")]
    fingerprint: Option<String>,
    #[command(flatten)]
    account: AccountArgs,
}

impl How {
    /// What would otherwise be noticed at the end of a call, or in the middle of one.
    fn check(&self) -> Result<(), Problem> {
        if let Some(fingerprint) = self
            .fingerprint
            .as_deref()
            .filter(|text| !phone::is_fingerprint(text))
        {
            let hint = "copy what the other side shows as its own: sha-256 and 32 pairs of digits, as in AB:CD:…";
            let why = "it is not a fingerprint of sha-256";
            return Err(Problem::usage(
                format!("--fingerprint {fingerprint:?}"),
                why,
                hint,
            ));
        }
        self.report.as_deref().map_or(Ok(()), report::check)
    }
}

const PROGRAM: Program = Program {
    name: "call",
    node: "https://example.org/call",
    kind: "phone",
    features: phone::FEATURES,
    calls: true,
};

#[tokio::main]
async fn main() -> ExitCode {
    let mut args = Args::parse();
    let (What::Dial { how, .. } | What::Answer { how, .. }) = &mut args.what;
    // The configuration file may want JSON, also of what goes wrong.
    let configured = how.account.configure(&PROGRAM);
    let (json, quiet) = (how.account.json, how.account.quiet);
    let outcome = match configured {
        Ok(()) => run(args).await,
        Err(problem) => Err(problem),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => problem.report(PROGRAM.name, json, quiet),
    }
}

async fn run(args: Args) -> Result<(), Problem> {
    let (how, dialled) = match &args.what {
        What::Dial { to, ring, how } => (
            how.clone(),
            Some((somebody(to)?, seconds("--ring", *ring)?)),
        ),
        What::Answer { how, .. } => (how.clone(), None),
    };
    let length = how.length.map(|length| seconds("--for", length));
    let length = length.transpose()?;
    let ringing = Ringing::of(&args.what)?;
    how.check()?;
    let mut sound = Sound::open(&how)?;
    let account = how.account.clone().resolve(&PROGRAM)?;
    let mut keys = Keys::open();
    let screen = || Screen::new(account.json, account.quiet, keys.is_raw());
    let (screen, meanwhile) = (screen(), screen());
    let ring = dialled.as_ref().map(|(_, ring)| *ring);
    let login = Phone::login(account, &how, ring, screen);
    let mut phone = tokio::select! {
        phone = login => phone?,
        () = keys.quit(&meanwhile) => return Ok(()),
    };
    let begun = match (dialled, ringing) {
        (Some((to, ring)), _) => phone.dial(&to, ring, &mut keys).await,
        (None, Some(ringing)) => phone.answer(ringing, &mut keys).await,
        (None, None) => Ok(None),
    };
    let mut call = match begun {
        Ok(Some(call)) => call,
        // Whatever it was: the login ends in order.
        Ok(None) => {
            return phone
                .finish(None, &Reason::new(ReasonCondition::Cancel))
                .await;
        }
        Err(problem) => {
            let reason = Reason::new(ReasonCondition::Cancel);
            // What went wrong first is told.
            let _ = phone.finish(None, &reason).await;
            return Err(problem);
        }
    };
    let result = converse(&mut phone, &mut call, &mut sound, &how, length, &mut keys).await;
    let condition = match &result {
        Ok(Some(talked)) if !talked.codec.is_empty() => ReasonCondition::Success,
        Ok(None) => ReasonCondition::Decline,
        Ok(Some(_)) | Err(_) => ReasonCondition::Cancel,
    };
    let screen = std::mem::take(&mut phone.screen);
    let ended = phone.finish(Some(&call), &Reason::new(condition)).await;
    let told = result?.map_or(Ok(()), |talked| talked.tell(&screen, &call.peer, &how));
    ended?;
    told
}

/// Speaks until the end, also where the call goes on in another session. None if it was declined here.
async fn converse(
    phone: &mut Phone,
    call: &mut Conversation,
    sound: &mut Sound,
    how: &How,
    length: Option<Duration>,
    keys: &mut Keys,
) -> Result<Option<Talked>, Problem> {
    let mut talked = Talked::default();
    loop {
        let ended = talk::talk(phone, call, &mut talked, sound, how, length, keys).await?;
        let next = match ended {
            Ended::Declined => return Ok(None),
            Ended::Moved(id, from) => {
                let ringing = Ringing::at_once();
                phone.take_announced(&id, &from, ringing, keys).await?
            }
            Ended::Over if matches!(talked.cause, Some(Cause::TieBreak)) => {
                talked.cause = None;
                phone.crossed(&call.peer, keys).await?
            }
            Ended::Over => break,
        };
        let Some(next) = next else {
            talked.hung_up = true;
            break;
        };
        *call = next;
    }
    let finished = sound.finish();
    finished.map_err(|error| failed("record", "write what was heard", error, ""))?;
    Ok(Some(talked))
}

/// What is done with a call while it rings here.
pub(crate) struct Ringing {
    /// How long it rings.
    pub(crate) length: Duration,
    /// Whether it is declined then.
    pub(crate) declines: bool,
    /// What the caller hears meanwhile.
    pub(crate) played: Option<Sound>,
}

impl Ringing {
    /// Of a call that is answered without a question.
    pub(crate) fn at_once() -> Self {
        Self {
            length: Duration::ZERO,
            declines: false,
            played: None,
        }
    }

    fn of(what: &What) -> Result<Option<Self>, Problem> {
        let What::Answer {
            after,
            decline,
            early_media,
            ..
        } = what
        else {
            return Ok(None);
        };
        let played = early_media.as_deref().map(Sound::repeating);
        Ok(Some(Self {
            length: seconds("--after", *after)?,
            declines: *decline,
            played: played.transpose()?,
        }))
    }
}

/// Who is to be called: an account or a device of one.
fn somebody(to: &str) -> Result<Peer, Problem> {
    let peer = Problem::address("TO", to)?;
    if peer.as_str().contains('@') {
        return Ok(peer);
    }
    let hint = "addresses of people look like alice@example.org";
    Err(Problem::usage(
        format!("TO {to:?}"),
        "it names a server and nobody there",
        hint,
    ))
}

/// A time in an option.
fn seconds(option: &str, seconds: f64) -> Result<Duration, Problem> {
    Duration::try_from_secs_f64(seconds).map_err(|error| {
        let hint = "give a number of seconds, such as 10 or 2.5";
        Problem::usage(format!("{option} {seconds}"), error.to_string(), hint)
    })
}

/// What does not work, and is nobody's mistake in an option.
fn failed(code: &'static str, what: &str, why: impl ToString, hint: &str) -> Problem {
    Problem::new(Exit::Failed, code, what, why.to_string(), hint)
}
