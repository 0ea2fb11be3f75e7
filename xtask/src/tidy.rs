//! What the compiler does not check: sizes, words, places, and that manifests inherit.

mod manifest;
mod source;

use std::fs;
use std::path::{Path, PathBuf};

use crate::tools::{self, Failure, Outcome};

/// Longest Rust file.
const FILE_LINES_MAX: usize = 700;
/// Longest function, from its `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 80;
/// Longest README.md, without what is generated in it.
const README_LINES_MAX: usize = 130;

/// Longest file of the example from outside: that it takes so little is what it shows.
const OUTSIDE_LINES_MAX: usize = 149;

/// Functions that may be longer, with their present length and why. An entry may only shrink, and goes when it is not needed.
const LONG_FUNCTIONS: &[LongFunction] = &[];

/// Everything that may stand at the root.
const ROOT_NAMES: &[&str] = &[
    ".cargo",
    ".ci",
    ".config",
    ".gitattributes",
    ".github",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "NOTICE",
    "README.md",
    "SECURITY.md",
    "clippy.toml",
    "deny.toml",
    "rustfmt.toml",
    "session-core",
    "session-file",
    "session-voice",
    "session-xmpp",
    "transport-p2p",
    "transport-relay",
    "xtask",
];

/// The library crates, in the order of their arrows.
pub(crate) const CRATES: &[&str] = &[
    "session-core",
    "session-xmpp",
    "transport-relay",
    "transport-p2p",
    "session-voice",
    "session-file",
];

struct LongFunction {
    path: &'static str,
    name: &'static str,
    lines: usize,
    reason: &'static str,
}

/// Checks the whole workspace.
pub(crate) fn run() -> Outcome {
    let root = tools::root();
    let mut findings = Vec::new();
    findings.extend(unknown_root_names(&root));

    let files = text_files(&root);
    let mut functions = Vec::new();
    for path in &files {
        let text = tools::read(&root.join(path))?;
        findings.extend(check_text(path, &text));
        if path.ends_with(".rs") {
            let split = source::split(&text);
            findings.extend(check_rust(path, &text, &split));
            functions.extend(
                source::functions(&split.code)
                    .into_iter()
                    .map(|f| (path.clone(), f)),
            );
        }
        if path.ends_with(".md") {
            findings.extend(dead_links(&root, path, &text));
        }
        if path.ends_with("Cargo.toml") {
            findings.extend(manifest::check(path, &text));
        }
    }
    findings.extend(check_functions(&functions, LONG_FUNCTIONS));
    findings.extend(check_crates(&root)?);

    if findings.is_empty() {
        Ok(format!(
            "{} files, {} functions",
            files.len(),
            functions.len()
        ))
    } else {
        Err(Failure::findings(
            "tidy",
            &findings,
            "split what is long, finish what is open; xtask/src/tidy.rs says what is asked",
        ))
    }
}

/// Names at the root that nobody expects there. What git ignores and git itself are not looked at.
fn unknown_root_names(root: &Path) -> Vec<String> {
    let ignored = [".git", "target"];
    names(root)
        .into_iter()
        .filter(|name| !ROOT_NAMES.contains(&name.as_str()) && !ignored.contains(&name.as_str()))
        .map(|name| format!("{name}: not a name for the root; put it into the crate it belongs to"))
        .collect()
}

/// The text files that people write, as paths relative to the root with `/`, sorted. Test vectors and corpora are data.
fn text_files(root: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for name in names(&root.join(&folder)) {
            let path = folder.join(&name);
            let full = root.join(&path);
            if full.is_dir() {
                if ![".git", "target", "corpus", "vectors"].contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if [".rs", ".toml", ".md", ".yml"]
                .iter()
                .any(|end| name.ends_with(end))
                || folder.ends_with(".ci")
            {
                files.push(path.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    files.sort();
    files
}

/// What holds for every text file.
fn check_text(path: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim_end() != line {
            findings.push(format!("{path}:{}: ends with white space", index + 1));
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        findings.push(format!("{path}: the last line has no end"));
    }
    let lines = written_lines(text);
    if path == "README.md" && lines > README_LINES_MAX {
        findings.push(format!(
            "{path}: {lines} lines, more than {README_LINES_MAX}"
        ));
    }
    findings
}

/// How many lines somebody wrote: those between markers of what is generated do not count.
fn written_lines(text: &str) -> usize {
    let mut generated = false;
    let is_written = |line: &&str| {
        generated =
            (generated || line.starts_with("<!-- begin:")) && !line.starts_with("<!-- end:");
        !generated
    };
    text.lines().filter(is_written).count()
}

/// Links of a Markdown file to files of the workspace that are not there.
fn dead_links(root: &Path, path: &str, text: &str) -> Vec<String> {
    let folder = root.join(path);
    let folder = folder.parent().unwrap_or(root);
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let targets = line
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split_once(')'));
        for (target, _) in targets {
            let file = target.split('#').next().unwrap_or_default();
            if !target.contains("://") && !file.is_empty() && !folder.join(file).exists() {
                findings.push(format!(
                    "{path}:{}: links to {target}, which is not there",
                    index + 1
                ));
            }
        }
    }
    findings
}

/// What holds for every Rust file beyond [`check_text`].
fn check_rust(path: &str, text: &str, split: &source::Split) -> Vec<String> {
    let mut findings = Vec::new();
    let lines = text.lines().count();
    let outside = path.starts_with("xtask/outside/src/");
    let limit = if outside {
        OUTSIDE_LINES_MAX
    } else {
        FILE_LINES_MAX
    };
    if lines > limit {
        findings.push(format!("{path}: {lines} lines, more than {limit}"));
    }
    if path.ends_with("/src/lib.rs") && !text.starts_with("//!") {
        findings.push(format!(
            "{path}: does not open with //! and what the crate is"
        ));
    }
    if path.contains("/src/") && path.ends_with("/mod.rs") {
        findings.push(format!("{path}: a module is foo.rs beside foo/"));
    }
    for (index, line) in text.lines().enumerate() {
        if line.contains('\t') {
            findings.push(format!(
                "{path}:{}: holds a tab; write \\t in a literal",
                index + 1
            ));
        }
    }
    for (index, line) in split.code.lines().enumerate() {
        for word in ["todo!", "unimplemented!", "#[ignore", ", ignore)"] {
            if line.contains(word) {
                findings.push(format!("{path}:{}: {word} is unfinished work", index + 1));
            }
        }
    }
    for (index, line) in split.comments.lines().enumerate() {
        let unfinished = line
            .split(|c: char| !c.is_alphanumeric())
            .find(|word| ["FIXME", "TODO", "XXX"].contains(word));
        if let Some(word) = unfinished {
            findings.push(format!(
                "{path}:{}: {word} in a comment: do it, or file it",
                index + 1
            ));
        }
        let fence = line.trim_start_matches(['/', '!', '*', ' ']);
        if fence.starts_with("```") && fence.contains("ignore") {
            findings.push(format!(
                "{path}:{}: an ignored example proves nothing",
                index + 1
            ));
        }
    }
    findings
}

/// Functions past the limit that the list does not allow, and entries of the list that are not needed.
fn check_functions(
    functions: &[(String, source::Function)],
    allowed: &[LongFunction],
) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, function) in functions {
        let limit = allowed
            .iter()
            .find(|entry| entry.path == path && entry.name == function.name)
            .map_or(FUNCTION_LINES_MAX, |entry| entry.lines);
        if function.lines > limit {
            findings.push(format!(
                "{path}:{}: fn {} has {} lines, more than {limit}",
                function.line, function.name, function.lines
            ));
        }
    }
    for entry in allowed {
        let lines = functions
            .iter()
            .filter(|(path, function)| path == entry.path && function.name == entry.name)
            .map(|(_, function)| function.lines)
            .max();
        if entry.reason.is_empty()
            || entry.lines <= FUNCTION_LINES_MAX
            || lines != Some(entry.lines)
        {
            findings.push(format!(
                "xtask/src/tidy.rs: LONG_FUNCTIONS names {} in {} with {} lines, it has {lines:?}: the list only shrinks",
                entry.name, entry.path, entry.lines
            ));
        }
    }
    findings
}

/// What holds for every library crate: a lib.rs, and where it is pure the same bans as the other pure crates.
fn check_crates(root: &Path) -> Result<Vec<String>, Failure> {
    let mut findings = Vec::new();
    let mut bans: Option<(&str, String)> = None;
    for name in CRATES {
        if !root.join(name).join("src/lib.rs").is_file() {
            findings.push(format!("{name}: has no src/lib.rs"));
        }
        if *name == "session-xmpp" {
            continue;
        }
        let text = tools::read(&root.join(name).join("clippy.toml"))?;
        match &bans {
            None => bans = Some((name, text)),
            Some((first, bans)) if *bans != text => {
                findings.push(format!(
                    "{name}/clippy.toml differs from {first}/clippy.toml"
                ));
            }
            Some(_) => {}
        }
    }
    Ok(findings)
}

/// The names in a folder, sorted; none if it cannot be read.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rust(text: &str) -> Vec<String> {
        check_rust("a/src/b.rs", text, &source::split(text))
    }

    #[test]
    fn unfinished_work_is_found_where_it_counts() {
        assert_eq!(rust("fn a() { todo!() }\n").len(), 1);
        assert_eq!(rust("fn a() { unimplemented!() }\n").len(), 1);
        assert_eq!(rust("#[ignore = \"slow\"]\nfn a() {}\n").len(), 1);
        assert_eq!(rust("#[cfg_attr(windows, ignore)]\nfn a() {}\n").len(), 1);
        assert_eq!(rust("// FIXME later\n").len(), 1);
        assert_eq!(rust("/* a\n XXX: b */\n").len(), 1);
        assert_eq!(rust("/// ```ignore\n/// x\n/// ```\n").len(), 1);
        assert_eq!(rust("fn a() {\t}\n").len(), 1);
        assert_eq!(
            rust("fn a() { b(\"todo!() FIXME // XXX\") } // unignored\n"),
            [""; 0]
        );
    }

    #[test]
    fn long_files_and_odd_places_are_found() {
        assert_eq!(rust(&"// a\n".repeat(FILE_LINES_MAX)), [""; 0]);
        assert_eq!(rust(&"// a\n".repeat(FILE_LINES_MAX + 1)).len(), 1);
        let bare = source::split("fn a() {}\n");
        assert_eq!(check_rust("a/src/lib.rs", "fn a() {}\n", &bare).len(), 1);
        assert_eq!(check_rust("a/src/b/mod.rs", "fn a() {}\n", &bare).len(), 1);
        assert_eq!(check_text("a.md", "a \nb").len(), 2);
        assert_eq!(
            check_text("README.md", &"a\n".repeat(README_LINES_MAX + 1)).len(),
            1
        );
        let generated = format!("<!-- begin:a -->\n{}<!-- end:a -->\n", "a\n".repeat(99));
        let longest = "a\n".repeat(README_LINES_MAX - 1);
        assert_eq!(check_text("README.md", &(longest + &generated)), [""; 0]);
        assert_eq!(check_text("a.md", "a\nb\n"), [""; 0]);
    }

    #[test]
    fn links_lead_somewhere() {
        let dead = |text: &str| dead_links(&tools::root(), "README.md", text).len();
        assert_eq!(
            dead("see [a](xtask/src/tidy.rs), [b](https://example.org/x) and [c](#d)"),
            0
        );
        assert_eq!(
            dead("see [a](xtask/src/tidy.rs#L1) and [b](xtask/no/such.rs)"),
            1
        );
        assert_eq!(
            dead_links(&tools::root(), "xtask/src/x.md", "[a](tidy.rs)").len(),
            0
        );
    }

    #[test]
    fn the_list_of_long_functions_only_shrinks() {
        let function = |lines| {
            vec![(
                "a.rs".to_owned(),
                source::Function {
                    name: "f".to_owned(),
                    line: 1,
                    lines,
                },
            )]
        };
        let entry = |lines, reason| {
            [LongFunction {
                path: "a.rs",
                name: "f",
                lines,
                reason,
            }]
        };
        assert_eq!(check_functions(&function(80), &[]).len(), 0);
        assert_eq!(check_functions(&function(81), &[]).len(), 1);
        assert_eq!(
            check_functions(&function(100), &entry(100, "a table")).len(),
            0
        );
        assert_eq!(
            check_functions(&function(101), &entry(100, "a table")).len(),
            2
        );
        assert_eq!(
            check_functions(&function(90), &entry(100, "a table")).len(),
            1
        );
        assert_eq!(check_functions(&function(100), &entry(100, "")).len(), 1);
        assert_eq!(check_functions(&[], &entry(100, "a table")).len(), 1);
    }

    #[test]
    fn data_and_products_are_not_looked_at() {
        let files = text_files(&tools::root());
        assert!(files.iter().any(|path| path == "xtask/src/tidy.rs"));
        assert!(files.iter().any(|path| path == ".ci/run"));
        assert!(
            !files
                .iter()
                .any(|path| path.contains("/target/") || path.contains(".git/"))
        );
    }
}
