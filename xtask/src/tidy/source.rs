//! Rust source seen just closely enough: what is code, what is comment, and how long each function is.

/// A source text taken apart. Both halves keep the line structure; what belongs to the other half, and every literal's
/// content, is blanked.
#[derive(Debug)]
pub(super) struct Split {
    pub(super) code: String,
    pub(super) comments: String,
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    /// The line of its `fn`, from 1.
    pub(super) line: usize,
    /// From its `fn` to its closing brace, both counted.
    pub(super) lines: usize,
}

/// Where the reader stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Code,
    LineComment,
    /// Nested this deep.
    BlockComment(u32),
    /// In a string or character literal that ends with this character and knows escapes.
    Literal(char),
    /// In a raw string that ends with a quote and this many hashes.
    Raw(usize),
}

pub(super) fn split(text: &str) -> Split {
    let chars: Vec<char> = text.chars().collect();
    let mut split = Split {
        code: String::new(),
        comments: String::new(),
    };
    let mut mode = Mode::Code;
    let mut at = 0;
    while at < chars.len() {
        let before = mode;
        let (after, taken) = step(mode, &chars, at);
        mode = after;
        for &c in &chars[at..at + taken] {
            let (code, comment) = match (before, after, c) {
                (_, _, '\n') => ('\n', '\n'),
                (Mode::Code, Mode::Code, c) => (c, ' '),
                (Mode::LineComment | Mode::BlockComment(_), _, c)
                | (_, Mode::LineComment | Mode::BlockComment(_), c) => (' ', c),
                (Mode::Code | Mode::Literal(_) | Mode::Raw(_), _, _) => (' ', ' '),
            };
            split.code.push(code);
            split.comments.push(comment);
        }
        at += taken;
    }
    split
}

/// Every function with a body in `code`, which [`split`] made, in the order of their `fn`. Nested ones count twice.
pub(super) fn functions(code: &str) -> Vec<Function> {
    let chars: Vec<char> = code.chars().collect();
    let mut functions = Vec::new();
    for at in 0..chars.len() {
        if let Some((name, after)) = function_name(&chars, at)
            && let Some(end) = body_end(&chars, after)
        {
            let newlines = |part: &[char]| part.iter().filter(|c| **c == '\n').count();
            functions.push(Function {
                name,
                line: newlines(&chars[..at]) + 1,
                lines: newlines(&chars[at..end]) + 1,
            });
        }
    }
    functions
}

/// What the characters at `at` do to the mode, and how many of them belong together.
fn step(mode: Mode, chars: &[char], at: usize) -> (Mode, usize) {
    let c = chars[at];
    let next = chars.get(at + 1).copied();
    match mode {
        Mode::Code => step_code(chars, at),
        Mode::LineComment if c == '\n' => (Mode::Code, 1),
        Mode::BlockComment(depth) if c == '/' && next == Some('*') => {
            (Mode::BlockComment(depth + 1), 2)
        }
        Mode::BlockComment(depth) if c == '*' && next == Some('/') => (
            if depth == 1 {
                Mode::Code
            } else {
                Mode::BlockComment(depth - 1)
            },
            2,
        ),
        Mode::Literal(_) if c == '\\' && next.is_some() => (mode, 2),
        Mode::Literal(end) if c == end => (Mode::Code, 1),
        Mode::Raw(hashes) if c == '"' && hashes_at(chars, at + 1) >= hashes => {
            (Mode::Code, 1 + hashes)
        }
        Mode::LineComment | Mode::BlockComment(_) | Mode::Literal(_) | Mode::Raw(_) => (mode, 1),
    }
}

fn step_code(chars: &[char], at: usize) -> (Mode, usize) {
    let next = chars.get(at + 1).copied();
    match chars[at] {
        '/' if next == Some('/') => (Mode::LineComment, 2),
        '/' if next == Some('*') => (Mode::BlockComment(1), 2),
        '"' => (Mode::Literal('"'), 1),
        'r' if starts_raw(chars, at) => {
            let hashes = hashes_at(chars, at + 1);
            (Mode::Raw(hashes), 2 + hashes)
        }
        // A lifetime has no closing quote one character later, and no backslash.
        '\'' if next == Some('\\') || chars.get(at + 2) == Some(&'\'') => (Mode::Literal('\''), 1),
        _ => (Mode::Code, 1),
    }
}

/// Whether the `r` at `at` begins a raw string (also `br` and `cr`) rather than a name or a raw identifier.
fn starts_raw(chars: &[char], at: usize) -> bool {
    let hashes = hashes_at(chars, at + 1);
    let in_name = |index: usize| chars.get(index).is_some_and(|c| is_name(*c));
    let prefixed = at > 0 && matches!(chars[at - 1], 'b' | 'c');
    let inside = match at {
        0 => false,
        1 if prefixed => false,
        _ if prefixed => in_name(at - 2),
        _ => in_name(at - 1),
    };
    !inside && chars.get(at + 1 + hashes) == Some(&'"')
}

fn hashes_at(chars: &[char], at: usize) -> usize {
    chars[at.min(chars.len())..]
        .iter()
        .take_while(|c| **c == '#')
        .count()
}

/// The name of the function whose `fn` stands at `at`, and where it ends. `fn(u8)` is a type and has none.
fn function_name(chars: &[char], at: usize) -> Option<(String, usize)> {
    let keyword = chars.get(at) == Some(&'f') && chars.get(at + 1) == Some(&'n');
    if !keyword || (at > 0 && is_name(chars[at - 1])) {
        return None;
    }
    let spaces = chars[at + 2..]
        .iter()
        .take_while(|c| c.is_whitespace())
        .count();
    let start = at + 2 + spaces;
    let name: String = chars[start..]
        .iter()
        .take_while(|c| is_name(**c) || **c == '$' || **c == '#')
        .collect();
    (spaces > 0 && !name.is_empty()).then(|| {
        let end = start + name.chars().count();
        (name, end)
    })
}

/// The index of the brace that closes the body; none for a declaration without one.
fn body_end(chars: &[char], from: usize) -> Option<usize> {
    let mut nesting = 0_i32;
    let mut braces = 0_i32;
    for (offset, c) in chars[from..].iter().enumerate() {
        match c {
            '(' | '[' => nesting += 1,
            ')' | ']' => nesting -= 1,
            ';' if nesting == 0 && braces == 0 => return None,
            '{' if nesting == 0 || braces > 0 => braces += 1,
            '}' if braces > 0 => {
                braces -= 1;
                if braces == 0 {
                    return Some(from + offset);
                }
            }
            _ => {}
        }
    }
    None
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_comments_are_not_code() {
        let text =
            "a // b \"c\nd /* e /* f */ g */ h \"i // \\\" j\" k 'l' '\\'' '\"' m r#\"n \" o\"# p";
        let split = split(text);
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words(&split.code), "a d h k m p");
        assert_eq!(words(&split.comments), "// b \"c /* e /* f */ g */");
        assert_eq!(split.code.lines().count(), 2);
    }

    #[test]
    fn lifetimes_raw_names_and_byte_strings_are_told_apart() {
        let code = split("fn r#fn<'a>(x: &'a str) { b'{'; b\"{\"; br#\"{\"#; for_r(\"{\") }").code;
        assert_eq!(code.matches('{').count(), 1);
        assert!(code.contains("r#fn<'a>(x: &'a str)"), "{code}");
    }

    #[test]
    fn functions_are_measured_from_fn_to_brace() {
        let text = "pub fn a(x: [u8; 3]) -> u8 {\n  let f = |y| { y };\n  f(\"}\")\n}\n\
                    trait T { fn b(); }\ntype F = fn(u8);\nimpl S {\n  async fn c<T>()\n  where T: Fn() {\n  }\n}\n";
        let found = functions(&split(text).code);
        let expected = [("a", 1, 4), ("c", 8, 3)].map(|(name, line, lines)| Function {
            name: name.to_owned(),
            line,
            lines,
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn unfinished_text_ends_quietly() {
        for text in [
            "fn", "fn a", "fn a(", "fn a() {", "\"", "r#\"", "/*", "'", "'\\", "r#",
        ] {
            assert_eq!(functions(&split(text).code), [], "{text}");
        }
    }
}
