//! The state diagram of ARCHITECTURE.md, written from the transition table.

use std::fmt::Write as _;
use std::fs;

use session_core::state::TRANSITIONS;

use crate::tools::{self, Failure, Outcome};

const BEGIN: &str = "<!-- begin:state-diagram -->";
const END: &str = "<!-- end:state-diagram -->";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only say whether the diagram is current
    #[arg(long)]
    check: bool,
}

/// A transition by name: from, event, to.
type Row = [String; 3];

/// Says whether the diagram is current.
pub(crate) fn check() -> Outcome {
    run(&Args { check: true })
}

pub(crate) fn run(args: &Args) -> Outcome {
    let path = tools::root().join("ARCHITECTURE.md");
    let present = tools::read(&path)?;
    let rows: Vec<Row> = TRANSITIONS
        .iter()
        .map(|(from, event, to)| [format!("{from:?}"), format!("{event:?}"), format!("{to:?}")])
        .collect();
    let wanted = replaced(&present, &render(&rows)).ok_or_else(|| {
        Failure::new(
            "diagrams",
            format!("ARCHITECTURE.md lacks `{BEGIN}` or, after it, `{END}`"),
            "put both markers where the diagram belongs",
        )
    })?;
    let states = states(&rows).len();
    let summary = format!("{} transitions between {states} states", rows.len());
    if wanted == present {
        return Ok(summary);
    }
    if args.check {
        return Err(Failure::new(
            "diagrams --check",
            "ARCHITECTURE.md does not show the transition table as it is",
            "cargo xtask diagrams",
        ));
    }
    fs::write(&path, wanted).map_err(|error| {
        Failure::new(
            "write ARCHITECTURE.md",
            error.to_string(),
            "is it writable?",
        )
    })?;
    Ok(format!("{summary}; ARCHITECTURE.md written"))
}

/// `text` with what stands between the markers replaced.
fn replaced(text: &str, diagram: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{diagram}{END}{after}"))
}

/// The table as a Mermaid diagram, and again as a table of rows. Events between the same two states share an arrow.
fn render(rows: &[Row]) -> String {
    let states = states(rows);
    let starts = |state: &String| {
        !rows
            .iter()
            .any(|[from, _, to]| to == state && from != state)
    };
    let ends = |state: &String| {
        !rows
            .iter()
            .any(|[from, _, to]| from == state && to != state)
    };
    let mut text = String::new();
    let common = common_events(rows, &states);
    for (event, to) in &common {
        let _ = writeln!(
            text,
            "`{event}` leads from every state to {to}; it is drawn where nothing else leads on.\n"
        );
    }
    text.push_str("```mermaid\nstateDiagram-v2\n");
    for state in states.iter().filter(|state| starts(state)) {
        let _ = writeln!(text, "    [*] --> {state}");
    }
    for from in &states {
        let drawn = |event: &str| {
            let exits = rows.iter().filter(|row| row[0] == *from).count();
            exits == 1 || !common.iter().any(|(name, _)| name == event)
        };
        for to in &states {
            let events: Vec<&str> = rows
                .iter()
                .filter(|[f, event, t]| f == from && t == to && drawn(event))
                .map(|[_, event, _]| event.as_str())
                .collect();
            if !events.is_empty() {
                let _ = writeln!(text, "    {from} --> {to}: {}", events.join(", "));
            }
        }
    }
    for state in states.iter().filter(|state| ends(state)) {
        let _ = writeln!(text, "    {state} --> [*]");
    }
    text.push_str("```\n\n| State | Event → next state |\n|---|---|\n");
    for state in &states {
        let exits: Vec<String> = rows
            .iter()
            .filter(|[from, _, _]| from == state)
            .map(|[_, event, to]| format!("{event} → {to}"))
            .collect();
        let exits = if exits.is_empty() {
            "(the end)".to_owned()
        } else {
            exits.join(" · ")
        };
        let _ = writeln!(text, "| {state} | {exits} |");
    }
    text
}

/// The events that lead from every other state to one and the same, each with that state.
fn common_events(rows: &[Row], states: &[String]) -> Vec<(String, String)> {
    let mut common = Vec::new();
    for [_, event, to] in rows {
        let from = rows
            .iter()
            .filter(|[_, e, t]| e == event && t == to)
            .count();
        let all = rows.iter().filter(|[_, e, _]| e == event).count();
        let entry = (event.clone(), to.clone());
        if from == all && from + 1 == states.len() && !common.contains(&entry) {
            common.push(entry);
        }
    }
    common
}

/// The states in the order in which the table names them.
fn states(rows: &[Row]) -> Vec<String> {
    let mut states = Vec::new();
    for state in rows
        .iter()
        .map(|row| &row[0])
        .chain(rows.iter().map(|row| &row[2]))
    {
        if !states.contains(state) {
            states.push(state.clone());
        }
    }
    states
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_becomes_arrows_and_rows() {
        let rows = [
            ["A", "Go", "B"],
            ["A", "Run", "B"],
            ["B", "Stay", "B"],
            ["B", "Stop", "C"],
        ]
        .map(|row| row.map(str::to_owned));
        assert_eq!(
            render(&rows),
            "```mermaid\nstateDiagram-v2\n    [*] --> A\n    A --> B: Go, Run\n    B --> B: Stay\n    B --> C: Stop\n    \
             C --> [*]\n```\n\n| State | Event → next state |\n|---|---|\n| A | Go → B · Run → B |\n\
             | B | Stay → B · Stop → C |\n| C | (the end) |\n"
        );
    }

    #[test]
    fn what_leads_from_everywhere_is_drawn_once() {
        let rows = [["A", "Go", "B"], ["A", "End", "C"], ["B", "End", "C"]]
            .map(|row| row.map(str::to_owned));
        let text = render(&rows);
        assert!(
            text.starts_with("`End` leads from every state to C;"),
            "{text}"
        );
        assert!(
            text.contains("    B --> C: End\n") && !text.contains("    A --> C"),
            "{text}"
        );
        assert!(text.contains("| A | Go → B · End → C |"), "{text}");
    }

    #[test]
    fn only_what_stands_between_the_markers_changes() {
        let text = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let once = replaced(&text, "new\n").unwrap();
        assert_eq!(once, format!("a\n{BEGIN}\nnew\n{END}\nb\n"));
        assert_eq!(replaced(&once, "new\n").unwrap(), once);
        assert_eq!(replaced(BEGIN, ""), None);
        assert_eq!(replaced(&format!("{END}{BEGIN}"), ""), None);
    }
}
