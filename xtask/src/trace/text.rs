//! A sequence diagram in characters.

use super::{Diagram, What};

/// Characters of the time, and between two lifelines.
const TIME: usize = 10;
const WIDTH: usize = 26;

/// The most characters of what is said.
const TEXT_MAX: usize = 160;

/// The whole diagram, and below it why each session ended.
pub(super) fn draw(diagram: &Diagram) -> String {
    let columns = diagram.columns.len();
    let mut out = format!("{:TIME$}", "");
    for name in &diagram.columns {
        out += &format!("{:<WIDTH$}", cut(name, WIDTH - 1));
    }
    out = out.trim_end().to_owned() + "\n";
    for row in &diagram.rows {
        let mut line = vec![' '; columns * WIDTH];
        for column in 0..columns {
            line[column * WIDTH] = '│';
        }
        let text = match &row.what {
            What::Arrow { from, to, text } if from == to => {
                line[from * WIDTH] = '↺';
                text
            }
            What::Arrow { from, to, text } => {
                let (left, right) = (from.min(to) * WIDTH, from.max(to) * WIDTH);
                line[left + 1..right].fill('─');
                if from < to {
                    line[right - 1] = '▶';
                } else {
                    line[left + 1] = '◀';
                }
                text
            }
            What::Note { at, text } => {
                line[at * WIDTH] = '●';
                text
            }
        };
        let line: String = line.into_iter().collect();
        out += &format!("{:>8}  {line}{}\n", row.time, cut(text, TEXT_MAX)).to_string();
    }
    if !diagram.ends.is_empty() {
        out += "\nwhy it ended\n";
        for end in &diagram.ends {
            out += &format!("  {end}\n");
        }
    }
    out
}

/// The beginning of a text, with a sign that there is more. Control characters are replaced: a trace may hold anything.
pub(super) fn cut(text: &str, max: usize) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let all = text.chars().count();
    if all <= max {
        return text.chars().map(clean).collect();
    }
    let mut short: String = text
        .chars()
        .take(max.saturating_sub(1))
        .map(clean)
        .collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::super::tests::TRACE;
    use super::*;

    #[test]
    fn arrows_point_from_who_says_to_whom() {
        let diagram = Diagram::read(TRACE.as_bytes(), false).unwrap();
        let text = draw(&diagram);
        let said = text
            .lines()
            .find(|line| line.contains("session-terminate"))
            .unwrap();
        assert!(said.starts_with("   0.500  │──"), "{said}");
        assert!(said.contains("▶│"), "{said}");
        assert!(
            text.contains("why it ended\n  bob, session 0.1: ended by the peer"),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'));
        assert_eq!(cut("a\u{1b}bcdef", 5), "a bc…");
    }
}
