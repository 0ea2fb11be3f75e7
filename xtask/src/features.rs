//! Which features a machine can build: all of them, but for those whose library of the system is not there.

use serde_json::Value;

use crate::setup;
use crate::tools::{self, Failure};

/// A feature that needs more than crates: its package, its name, and how to see that its need is met.
struct Native {
    package: &'static str,
    feature: &'static str,
    need: &'static str,
    is_met: fn(&str) -> bool,
}

const NATIVE: &[Native] = &[
    Native {
        package: "session-voice",
        feature: "opus",
        need: "cmake",
        is_met: setup::has_program,
    },
    Native {
        package: "session-voice",
        feature: "devices",
        need: "alsa",
        is_met: setup::has_library,
    },
    Native {
        package: "transport-p2p",
        feature: "dtls-openssl",
        need: "openssl",
        is_met: setup::has_library,
    },
];

/// The arguments that switch on all that can be built here, of one package or of the whole workspace.
///
/// # Errors
/// cargo does not tell what features there are.
pub(crate) fn all(package: Option<&str>) -> Result<Vec<String>, Failure> {
    let missing: Vec<&Native> = NATIVE
        .iter()
        .filter(|native| package.is_none_or(|name| name == native.package))
        .filter(|native| !(native.is_met)(native.need))
        .collect();
    if missing.is_empty() {
        return Ok(vec!["--all-features".to_owned()]);
    }
    for native in &missing {
        println!(
            "      without {}/{}: {} is not here",
            native.package, native.feature, native.need
        );
    }
    let hint = "cargo metadata --no-deps";
    let mut command = tools::cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&tools::capture(&mut command, hint)?)
        .map_err(|error| Failure::new("cargo metadata", error.to_string(), hint))?;
    let left_out = |crate_name: &str, feature: &str| {
        missing
            .iter()
            .any(|native| native.package == crate_name && native.feature == feature)
    };
    let mut names = Vec::new();
    for found in metadata["packages"].as_array().into_iter().flatten() {
        let name = found["name"].as_str().unwrap_or_default();
        if package.is_some_and(|wanted| wanted != name) {
            continue;
        }
        let table = &found["features"];
        for (feature, _) in table.as_object().into_iter().flatten() {
            if !leads_to(table, feature, &|feature| left_out(name, feature)) {
                names.push(if package.is_some() {
                    feature.clone()
                } else {
                    format!("{name}/{feature}")
                });
            }
        }
    }
    Ok(vec![
        "--no-default-features".to_owned(),
        "--features".to_owned(),
        names.join(","),
    ])
}

/// Whether switching on `feature` switches on one of which `is_out` holds. Cargo refuses features that go in circles.
fn leads_to(table: &Value, feature: &str, is_out: &dyn Fn(&str) -> bool) -> bool {
    let further = table[feature].as_array().into_iter().flatten();
    is_out(feature)
        || further
            .filter_map(Value::as_str)
            .any(|next| table.get(next).is_some() && leads_to(table, next, is_out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_to_a_missing_one_is_left_out_too() {
        let table = serde_json::json!({
            "default": ["cli"], "cli": ["dep:clap", "sound"], "sound": [], "other": ["dep:x"],
        });
        let out = |feature: &str| leads_to(&table, feature, &|feature| feature == "sound");
        assert!(out("default") && out("cli") && out("sound"));
        assert!(!out("other"));
    }
}
