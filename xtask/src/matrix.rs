//! `cargo xtask matrix`: our stack with other people's clients, simulated from their habits and, where they are installed,
//! real.
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a stage passes on what it has nothing to do with"
)]

mod cases;
#[cfg(test)]
mod fallback;
mod ours;
mod real;
mod stage;
#[cfg(test)]
mod transcripts;

use crate::tools::{self, Failure, Outcome};
use real::Which;
use session_core::{
    Role,
    testing::persona::{Persona, catalogue},
};
use std::{collections::BTreeMap, fmt::Write as _, fs};

const BEGIN: &str = "<!-- begin:matrix -->";
const END: &str = "<!-- end:matrix -->";
/// What a line of a real client has.
const REAL: &str = "| real |";
/// Cases that only real clients have.
const REAL_ONLY: [&str; 5] = [
    "call, PCMU",
    "file, IBB",
    "call, contents",
    "call, Opus as wished",
    "file, data channel",
];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only peers whose name begins so
    peer: Option<String>,
    /// One JSON object a line instead of a table
    #[arg(long)]
    json: bool,
    /// Print every stanza of the cases that fail
    #[arg(long)]
    stanzas: bool,
    /// Meet real clients too, where they are installed
    #[arg(long)]
    real: bool,
    /// Write the table into README.md; without --real, what stands there of real clients stays
    #[arg(long)]
    write: bool,
}

/// One case with one peer.
#[derive(Clone, Debug)]
struct Row {
    peer: &'static str,
    real: bool,
    version: String,
    case: &'static str,
    role: &'static str,
    ok: bool,
    why: String,
    transcript: Vec<String>,
}

impl Row {
    /// What a real one came to: how it went, or why it did not.
    fn real(
        (peer, version): (&'static str, &str),
        (case, role): (&'static str, &'static str),
        came: Result<String, String>,
    ) -> Self {
        Self {
            peer,
            real: true,
            version: version.to_owned(),
            case,
            role,
            ok: came.is_ok(),
            why: came.unwrap_or_else(|why| why),
            transcript: Vec::new(),
        }
    }
}

pub(crate) fn run(args: &Args) -> Outcome {
    let wanted = args.peer.as_deref().unwrap_or_default().to_lowercase();
    let mut rows = simulated(&wanted);
    let mut absent = Vec::new();
    if args.real {
        let met = real::meet(Which::Named(&wanted))?;
        rows.extend(met.rows);
        absent = met.absent;
        absent.iter().for_each(|absent| eprintln!("{absent}"));
    }
    if rows.is_empty() && absent.is_empty() {
        let names: Vec<_> = catalogue::ALL.iter().map(|persona| persona.name).collect();
        return Err(Failure::new(
            format!("cargo xtask matrix {wanted}"),
            "there is no such peer",
            format!("one of {}", names.join(", ")),
        ));
    }
    for row in &rows {
        match args.json {
            true => println!("{}", json(row)),
            false if !row.ok => println!(
                "{} ({}), {}, {}: {}",
                row.peer, row.version, row.case, row.role, row.why
            ),
            false => {}
        }
        for line in row.transcript.iter().filter(|_| args.stanzas && !row.ok) {
            println!("    {line}");
        }
    }
    if args.write {
        write(&rows)?;
    }
    match args.json {
        true => Ok(String::new()),
        false => Ok(format!("\n{}\n{}", table(&rows), summary(&rows))),
    }
}

/// Says whether the README shows what is so, as far as it is simulated.
pub(crate) fn check() -> Outcome {
    let rows = simulated("");
    let readme = tools::read(&tools::root().join("README.md"))?;
    let wanted = replaced(&readme, &rows).ok_or_else(no_place)?;
    if wanted != readme {
        return Err(Failure::new(
            "matrix",
            "README.md does not show the matrix as it is",
            "cargo xtask matrix, to see what changed; cargo xtask matrix --write, when that is right",
        ));
    }
    Ok(summary(&rows))
}

/// Meets real ones that have no screen, as a step of `cargo xtask test`.
pub(crate) fn peers() -> Outcome {
    judge(real::meet(Which::Bare)?)
}

/// Meets real ones that people use, as a step that runs when it is named.
pub(crate) fn clients() -> Outcome {
    judge(real::meet(Which::Screened)?)
}

fn judge(met: real::Met) -> Outcome {
    let bad = |row: &&Row| !row.ok;
    let bad: Vec<String> = met.rows.iter().filter(bad).map(json).collect();
    if !bad.is_empty() {
        return Err(Failure::findings(
            "real clients",
            &bad,
            "cargo xtask matrix --real",
        ));
    }
    let mut told = met.absent;
    if !met.rows.is_empty() {
        told.insert(0, summary(&met.rows));
    }
    Ok(told.join("; "))
}

fn no_place() -> Failure {
    Failure::new(
        "matrix",
        format!("README.md lacks `{BEGIN}` or, after it, `{END}`"),
        "put both markers where the matrix belongs",
    )
}

fn write(rows: &[Row]) -> Result<(), Failure> {
    let path = tools::root().join("README.md");
    let readme = tools::read(&path)?;
    let text = replaced(&readme, rows).ok_or_else(no_place)?;
    fs::write(&path, text)
        .map_err(|error| Failure::new("write README.md", error.to_string(), "is it writable?"))
}

/// The text with the rows in their place. Without real ones, those that stand there stay.
fn replaced(text: &str, rows: &[Row]) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (present, after) = rest.split_once(END)?;
    let mut table = table(rows);
    if !rows.iter().any(|row| row.real) {
        for line in present.lines().filter(|line| line.contains(REAL)) {
            let _ = writeln!(table, "{line}");
        }
    }
    Some(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

/// Every case with every persona whose name begins so.
fn simulated(wanted: &str) -> Vec<Row> {
    let fits = |persona: &&Persona| persona.name.to_lowercase().starts_with(wanted);
    let mut rows = Vec::new();
    for persona in catalogue::ALL.iter().filter(fits) {
        for case in cases::ALL.iter().filter(|case| case.fits(persona)) {
            for (role, name) in [
                (Role::Initiator, "initiator"),
                (Role::Responder, "responder"),
            ] {
                let result = case.run(*persona, role);
                rows.push(Row {
                    peer: persona.name,
                    real: false,
                    version: persona.version.to_owned(),
                    case: case.name,
                    role: name,
                    ok: result.ok,
                    why: result.why,
                    transcript: result.transcript,
                });
            }
        }
    }
    rows
}

fn json(row: &Row) -> String {
    let Row {
        peer,
        real,
        version,
        case,
        role,
        ok,
        why,
        ..
    } = row;
    serde_json::json!({
        "peer": peer, "real": real, "version": version, "case": case, "role": role, "ok": ok, "why": why,
    })
    .to_string()
}

/// A line for each peer, a column for each case. In a cell: we begin, they begin.
fn table(rows: &[Row]) -> String {
    let columns = cases::ALL.iter().map(|case| case.name).chain(REAL_ONLY);
    let columns: Vec<&str> = columns.collect();
    let mut text = format!(
        "| peer | | {} |\n|---|---|{}\n",
        columns.join(" | "),
        "---|".repeat(columns.len())
    );
    let mut peers: Vec<(&str, &str, bool)> = Vec::new();
    for row in rows {
        let peer = (row.peer, &*row.version, row.real);
        if !peers.contains(&peer) {
            peers.push(peer);
        }
    }
    for (peer, version, real) in peers {
        let mut cells: BTreeMap<&str, String> = BTreeMap::new();
        for row in rows
            .iter()
            .filter(|row| (row.peer, &*row.version, row.real) == (peer, version, real))
        {
            cells
                .entry(row.case)
                .or_default()
                .push(if row.ok { '●' } else { '✗' });
        }
        let kind = if real { "real" } else { "simulated" };
        let _ = write!(text, "| {peer} ({version}) | {kind} |");
        for column in &columns {
            let _ = write!(text, " {} |", cells.get(column).map_or("–", String::as_str));
        }
        text.push('\n');
    }
    text
}

fn summary(rows: &[Row]) -> String {
    let good = rows.iter().filter(|row| row.ok).count();
    format!("{good} of {} cases as they should be", rows.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use session_core::testing::persona::{CallHabits, FileHabits};

    #[test]
    fn every_case_ends_as_it_should_and_the_readme_says_so() {
        let rows = simulated("");
        let bad: Vec<String> = rows.iter().filter(|row| !row.ok).map(json).collect();
        assert!(bad.is_empty(), "{}", bad.join("\n"));
        if let Err(failure) = check() {
            panic!("{failure}");
        }
    }

    fn only(persona: Persona, case: &str, role: Role) -> cases::Result {
        let case = cases::ALL.iter().find(|known| known.name == case);
        case.expect("there is this case").run(persona, role)
    }

    #[test]
    fn a_demand_that_is_not_met_is_reported_as_what_the_client_does_about_it() {
        // Its capabilities do not tell that it demands fingerprints, so that it gets none.
        let silent = Persona {
            features: &["urn:xmpp:jingle:1", "urn:xmpp:jingle:transports:ice-udp:1"],
            ..catalogue::STANZA
        };
        let result = only(silent, "call", Role::Initiator);
        assert!(
            !result.ok && result.why.contains("no fingerprint"),
            "{}",
            result.why
        );
        assert!(result.why.contains("security-error"), "{}", result.why);

        let habits = catalogue::STANZA.call.expect("it calls");
        let call = CallHabits {
            candidate_attributes: &["colour"],
            ..habits
        };
        let result = only(
            Persona {
                call: Some(call),
                ..catalogue::STANZA
            },
            "call",
            Role::Initiator,
        );
        assert!(
            !result.ok && result.why.contains("a candidate without colour"),
            "{}",
            result.why
        );

        let call = CallHabits {
            name_max: Some(2),
            ..habits
        };
        let result = only(
            Persona {
                call: Some(call),
                ..catalogue::STANZA
            },
            "call",
            Role::Initiator,
        );
        assert!(
            !result.ok && result.why.contains("content name"),
            "{}",
            result.why
        );

        let habits = catalogue::SMACK.file.expect("it has files");
        let file = FileHabits {
            reversed_ties: Some((0, u32::MAX)),
            ..habits
        };
        let result = only(
            Persona {
                file: Some(file),
                ..catalogue::SMACK
            },
            "file, S5B",
            Role::Initiator,
        );
        assert!(
            !result.ok && result.why.contains("the priority"),
            "{}",
            result.why
        );
    }

    #[test]
    fn rows_are_said_in_json_and_the_table_has_a_line_for_each_peer() {
        let rows = simulated("stanza");
        let value: serde_json::Value = serde_json::from_str(&json(&rows[0])).expect("it is JSON");
        assert_eq!(
            (&value["peer"], &value["real"]),
            (&"Stanza".into(), &false.into())
        );
        for key in ["version", "case", "role", "ok", "why"] {
            assert!(!value[key].is_null(), "{key}");
        }
        let table = table(&rows);
        assert_eq!(table.lines().count(), 3, "{table}");
        assert!(table.contains("| simulated | ●● |"), "{table}");
    }
}
