//! A sequence diagram as SVG, without anything that a viewer would have to load or to run.

use super::text::cut;
use super::{Diagram, What};

/// Pixels: of a row, between two lifelines, of the margin, and beside the last lifeline for what is said.
const ROW: usize = 18;
const WIDTH: usize = 220;
const MARGIN: usize = 80;
const BESIDE: usize = 700;

/// The most characters of what is said.
const TEXT_MAX: usize = 140;

/// The whole diagram.
pub(super) fn draw(diagram: &Diagram) -> String {
    let columns = diagram.columns.len();
    let x = |column: usize| MARGIN + column * WIDTH;
    let lines = diagram.rows.len() + diagram.ends.len() + 3;
    let (width, height) = (x(columns) + BESIDE, (lines + 2) * ROW);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"monospace\" font-size=\"11\">\n\
         <style>text{{fill:#222}}line{{stroke:#888}}.a{{stroke:#06c}}.h{{fill:#06c}}.n{{fill:#a50}}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    let bottom = (diagram.rows.len() + 2) * ROW;
    for (column, name) in diagram.columns.iter().enumerate() {
        let at = x(column);
        out += &format!(
            "<text x=\"{at}\" y=\"{ROW}\" text-anchor=\"middle\">{}</text>\n",
            escape(name, 30)
        );
        out += &format!(
            "<line x1=\"{at}\" y1=\"{}\" x2=\"{at}\" y2=\"{bottom}\"/>\n",
            ROW + 6
        );
    }
    for (number, row) in diagram.rows.iter().enumerate() {
        let y = (number + 2) * ROW;
        out += &format!("<text x=\"4\" y=\"{y}\">{}</text>\n", escape(&row.time, 12));
        let text = match &row.what {
            What::Arrow { from, to, text } => {
                let (from, to) = (x(*from), x(*to));
                // The head of the arrow, towards whom it is said.
                let back = if from < to { to - 7 } else { to + 7 };
                let middle = y - 4;
                out += &format!(
                    "<line class=\"a\" x1=\"{from}\" y1=\"{middle}\" x2=\"{to}\" y2=\"{middle}\"/>\n"
                );
                out += &format!(
                    "<polygon class=\"h\" points=\"{to},{middle} {back},{} {back},{}\"/>\n",
                    middle - 4,
                    middle + 4
                );
                text
            }
            What::Note { at, text } => {
                out += &format!(
                    "<circle class=\"n\" cx=\"{}\" cy=\"{}\" r=\"3\"/>\n",
                    x(*at),
                    y - 4
                );
                text
            }
        };
        let beside = x(columns.saturating_sub(1)) + 12;
        out += &format!(
            "<text x=\"{beside}\" y=\"{y}\">{}</text>\n",
            escape(text, TEXT_MAX)
        );
    }
    for (number, end) in diagram.ends.iter().enumerate() {
        let y = bottom + (number + 1) * ROW;
        out += &format!(
            "<text x=\"{MARGIN}\" y=\"{y}\">why it ended: {}</text>\n",
            escape(end, TEXT_MAX)
        );
    }
    out + "</svg>\n"
}

/// A text within XML.
fn escape(text: &str, max: usize) -> String {
    let short = cut(text, max);
    short
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::tests::TRACE;
    use super::*;
    use session_core::ElementLimits;
    use session_xmpp::xml::{self, Context};

    #[test]
    fn it_is_one_document_whatever_the_trace_holds() {
        let diagram = Diagram::read(TRACE.as_bytes(), true).unwrap();
        let svg = draw(&diagram);
        assert!(svg.contains("success &amp; &lt;more&gt;"), "{svg}");
        let limits = ElementLimits::default();
        let element = xml::parse(svg.trim_end().as_bytes(), &Context::NONE, &limits).unwrap();
        assert_eq!(element.name(), "svg");
        let arrows = element.children().filter(|child| child.name() == "polygon");
        assert_eq!(arrows.count(), 2);
    }
}
