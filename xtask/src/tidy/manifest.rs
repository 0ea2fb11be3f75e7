//! Manifests: what the workspace defines once, a package inherits.

/// Keys of `[package]` that the workspace defines.
const INHERITED: &[&str] = &["version", "edition", "rust-version", "license", "publish"];

/// What is wrong with the manifest at `path`. The root's and those of packages outside the workspace inherit nothing.
pub(super) fn check(path: &str, text: &str) -> Vec<String> {
    let entries = entries(text);
    if text.lines().any(|line| line.trim() == "[workspace]") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for key in INHERITED {
        let wanted = format!("{key}.workspace = true");
        if !entries
            .iter()
            .any(|(section, entry)| section == "package" && *entry == wanted)
        {
            findings.push(format!("{path}: [package] lacks `{wanted}`"));
        }
    }
    if !entries
        .iter()
        .any(|(section, entry)| section == "lints" && entry == "workspace = true")
    {
        findings.push(format!("{path}: lacks `[lints] workspace = true`"));
    }
    for (section, entry) in &entries {
        if section.ends_with("dependencies") && !inherits(entry) {
            findings.push(format!(
                "{path}: [{section}] `{entry}` does not inherit its version"
            ));
        }
        if section.contains("dependencies.") {
            findings.push(format!("{path}: [{section}] is a table; write one line"));
        }
    }
    findings
}

/// Whether a dependency's line takes its version from the workspace. A package may name itself for its own tests.
fn inherits(entry: &str) -> bool {
    let spaceless: String = entry.chars().filter(|c| !c.is_whitespace()).collect();
    spaceless.contains("workspace=true") || spaceless.contains("path=\".\"")
}

/// The lines that say something, each with the section it stands in. Arrays over several lines stay several entries.
fn entries(text: &str) -> Vec<(String, String)> {
    let mut section = String::new();
    let mut entries = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            section = name.to_owned();
        } else if !line.is_empty() && !line.starts_with('#') {
            entries.push((section.clone(), line.to_owned()));
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[package]\nname = \"a\"\nversion.workspace = true\nedition.workspace = true\n\
        rust-version.workspace = true\nlicense.workspace = true\npublish.workspace = true\n\n[lints]\nworkspace = true\n\n\
        [dependencies]\n# why\nbytes.workspace = true\ntokio = { workspace = true, features = [\"sync\"] }\n\n\
        [dev-dependencies]\na = { path = \".\", features = [\"testing\"] }\n";

    #[test]
    fn a_manifest_that_inherits_passes() {
        assert_eq!(check("a/Cargo.toml", GOOD), [""; 0]);
        assert_eq!(
            check("x/Cargo.toml", "[package]\nname = \"x\"\n[workspace]\n"),
            [""; 0]
        );
        assert_eq!(check("Cargo.toml", "[workspace]\nmembers = []\n"), [""; 0]);
    }

    #[test]
    fn each_omission_is_named() {
        for line in GOOD
            .lines()
            .filter(|line| line.ends_with(".workspace = true"))
        {
            let kept: Vec<&str> = GOOD.lines().filter(|other| *other != line).collect();
            let text = kept.join("\n");
            let expected = usize::from(!line.starts_with("bytes"));
            assert_eq!(
                check("a/Cargo.toml", &text).len(),
                expected,
                "without {line}"
            );
        }
        let text = GOOD.replace("[lints]\nworkspace = true\n", "");
        assert_eq!(check("a/Cargo.toml", &text).len(), 1);
        let text = GOOD.replace("bytes.workspace = true", "bytes = \"1\"");
        assert_eq!(check("a/Cargo.toml", &text).len(), 1);
        let text = format!("{GOOD}\n[target.'cfg(unix)'.dependencies]\nlibc = \"0.2\"\n");
        assert_eq!(check("a/Cargo.toml", &text).len(), 1);
        let text = format!("{GOOD}\n[dependencies.libc]\nworkspace = true\n");
        assert_eq!(check("a/Cargo.toml", &text).len(), 1);
    }
}
