//! Layering: which crate may depend on which.

use serde_json::Value;

use crate::tools::{self, Failure, Outcome};

/// What each library crate may use of the workspace, always. xtask may use everything, and nobody may use xtask.
const ARROWS: &[(&str, &[&str])] = &[
    ("session-core", &[]),
    ("session-xmpp", &["session-core"]),
    ("transport-relay", &["session-core"]),
    ("transport-p2p", &["session-core", "transport-relay"]),
    ("session-voice", &["session-core"]),
    ("session-file", &["session-core"]),
];
/// Crates with a program of their own, or with what programs share, which may use anything behind the feature [`PROGRAM`].
const WITH_PROGRAM: &[&str] = &["session-file", "session-voice", "session-xmpp"];
/// The feature that builds a program; off by default.
const PROGRAM: &str = "cli";

/// A package, as far as layering looks at it.
#[derive(Debug)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
    /// Each feature with what it turns on.
    features: Vec<(String, Vec<String>)>,
    /// The features that each binary requires.
    binaries: Vec<Vec<String>>,
}

#[derive(Debug)]
struct Dependency {
    name: String,
    dev: bool,
    optional: bool,
}

/// Checks the arrows between the crates, and that no dependency asks for a newer Rust than the workspace promises.
pub(crate) fn run() -> Outcome {
    let hint = "does `cargo metadata` run here?";
    let text = tools::capture(
        &mut tools::cargo(&["metadata", "--format-version", "1", "--all-features"]),
        hint,
    )?;
    let metadata: Value = serde_json::from_str(&text)
        .map_err(|error| Failure::new("cargo metadata", error.to_string(), hint))?;
    let members: Vec<&Value> = array(&metadata, "packages")
        .filter(|package| package["source"].is_null())
        .collect();
    let packages: Vec<Package> = members.iter().map(|package| parse(package)).collect();

    let mut findings: Vec<String> = packages
        .iter()
        .flat_map(|p| offences(p, &packages))
        .collect();
    findings.extend(
        ARROWS
            .iter()
            .filter(|(name, _)| !packages.iter().any(|package| package.name == *name))
            .map(|(name, _)| format!("{name} is not in the workspace")),
    );
    let promised = members
        .first()
        .and_then(|package| package["rust_version"].as_str());
    findings.extend(array(&metadata, "packages").filter_map(|package| too_new(package, promised?)));

    if findings.is_empty() {
        let count = array(&metadata, "packages").count();
        Ok(format!(
            "{} packages; {count} with dependencies, all for Rust {} or older",
            packages.len(),
            promised.unwrap_or("unsaid")
        ))
    } else {
        Err(Failure::findings(
            "layering",
            &findings,
            "arrows point at session-core; compose in the application, not in a library crate",
        ))
    }
}

/// The arrows of `package` that must not be.
fn offences(package: &Package, all: &[Package]) -> Vec<String> {
    let name = package.name.as_str();
    let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| *known == name) else {
        return if name == "xtask" {
            Vec::new()
        } else {
            vec![format!("{name} has no place in the layers")]
        };
    };
    let mut offences = Vec::new();
    let inside = |dependency: &&Dependency| all.iter().any(|other| other.name == dependency.name);
    for dependency in package.dependencies.iter().filter(inside) {
        let other = dependency.name.as_str();
        let permitted = if dependency.dev {
            // A test may stand on anything above, but the lowest crate's tests stay with itself.
            other != "xtask" && (name != "session-core" || other == name)
        } else {
            allowed.contains(&other)
                || (other != "xtask"
                    && WITH_PROGRAM.contains(&name)
                    && for_program(package, dependency))
        };
        if !permitted {
            let kind = if dependency.dev {
                "dev-depends"
            } else {
                "depends"
            };
            offences.push(format!("{name} {kind} on {other}"));
        }
    }
    if turns_on(package, "default", &[PROGRAM]) {
        offences.push(format!("{name}: {PROGRAM} is on by default"));
    }
    for required in &package.binaries {
        if !required.iter().any(|feature| feature == PROGRAM) {
            offences.push(format!(
                "{name} has a binary that does not require {PROGRAM}"
            ));
        }
    }
    offences
}

/// Whether nothing but the feature [`PROGRAM`] turns this dependency on.
fn for_program(package: &Package, dependency: &Dependency) -> bool {
    let other = dependency.name.as_str();
    let ways = [other.to_owned(), format!("dep:{other}")];
    let ways: Vec<&str> = ways.iter().map(String::as_str).collect();
    dependency.optional
        && package
            .features
            .iter()
            .filter(|(feature, _)| feature != PROGRAM)
            .all(|(feature, _)| !turns_on(package, feature, &ways))
}

/// Whether `feature` itself lists one of `targets`, also as `target/feature`.
fn turns_on(package: &Package, feature: &str, targets: &[&str]) -> bool {
    package
        .features
        .iter()
        .filter(|(name, _)| name == feature)
        .flat_map(|(_, values)| values)
        .any(|value| targets.contains(&value.split('/').next().unwrap_or(value)))
}

/// What is wrong if `package` asks for a newer Rust than `promised`.
fn too_new(package: &Value, promised: &str) -> Option<String> {
    let wanted = package["rust_version"].as_str()?;
    (version(wanted) > version(promised)).then(|| {
        let (name, version) = (text(&package["name"]), text(&package["version"]));
        format!("{name} {version} needs Rust {wanted}, the workspace promises {promised}")
    })
}

/// A version's numbers, so that 1.9 stands before 1.88, and 1.88 is 1.88.0.
pub(crate) fn version(text: &str) -> [u32; 3] {
    let mut numbers = text
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|part| part.parse().ok());
    std::array::from_fn(|_| numbers.next().unwrap_or(0))
}

fn parse(package: &Value) -> Package {
    let list = |value: &Value| value.as_array().into_iter().flatten().map(text).collect();
    Package {
        name: text(&package["name"]),
        dependencies: array(package, "dependencies")
            .map(|dependency| Dependency {
                name: text(&dependency["name"]),
                dev: dependency["kind"] == "dev",
                optional: dependency["optional"] == true,
            })
            .collect(),
        features: package["features"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, values)| (name.clone(), list(values)))
            .collect(),
        binaries: array(package, "targets")
            .filter(|target| array(target, "kind").any(|kind| kind == "bin"))
            .map(|target| list(&target["required-features"]))
            .collect(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn array<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value[key].as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[(&str, bool, bool)]) -> Package {
        let dependencies = dependencies
            .iter()
            .map(|&(name, dev, optional)| Dependency {
                name: name.to_owned(),
                dev,
                optional,
            })
            .collect();
        Package {
            name: name.to_owned(),
            dependencies,
            features: Vec::new(),
            binaries: Vec::new(),
        }
    }

    fn offences_of(subject: &Package) -> usize {
        let mut all: Vec<Package> = ARROWS.iter().map(|(name, _)| package(name, &[])).collect();
        all.push(package("xtask", &[]));
        offences(subject, &all).len()
    }

    #[test]
    fn arrows_point_at_the_core() {
        assert_eq!(
            offences_of(&package("transport-p2p", &[("session-core", false, false)])),
            0
        );
        assert_eq!(
            offences_of(&package(
                "transport-p2p",
                &[("transport-relay", false, false)]
            )),
            0
        );
        assert_eq!(
            offences_of(&package(
                "transport-relay",
                &[("transport-p2p", false, false)]
            )),
            1
        );
        assert_eq!(
            offences_of(&package("session-core", &[("session-xmpp", false, true)])),
            1
        );
        assert_eq!(
            offences_of(&package("session-file", &[("session-xmpp", false, false)])),
            1
        );
        assert_eq!(
            offences_of(&package("session-file", &[("bytes", false, false)])),
            0
        );
        assert_eq!(
            offences_of(&package("xtask", &[("session-xmpp", false, false)])),
            0
        );
        assert_eq!(offences_of(&package("surprise", &[])), 1);
    }

    #[test]
    fn tests_may_reach_further_but_the_cores_may_not() {
        assert_eq!(
            offences_of(&package("transport-p2p", &[("session-xmpp", true, false)])),
            0
        );
        assert_eq!(
            offences_of(&package("session-core", &[("session-core", true, false)])),
            0
        );
        assert_eq!(
            offences_of(&package("session-core", &[("session-xmpp", true, false)])),
            1
        );
        assert_eq!(
            offences_of(&package("session-file", &[("xtask", true, false)])),
            1
        );
    }

    #[test]
    fn only_a_program_behind_its_feature_reaches_the_wire() {
        let feature = |name: &str, values: &[&str]| {
            (
                name.to_owned(),
                values
                    .iter()
                    .map(|&value| value.to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        let mut file = package("session-file", &[("session-xmpp", false, true)]);
        file.features = vec![feature(
            "cli",
            &["dep:session-xmpp", "session-xmpp/endpoint"],
        )];
        assert_eq!(offences_of(&file), 0);
        file.features
            .push(feature("session-xmpp", &["dep:session-xmpp"]));
        assert_eq!(offences_of(&file), 1);
        file.features.pop();
        file.features.push(feature("default", &["cli"]));
        assert_eq!(offences_of(&file), 1);
        file.features.pop();
        file.binaries = vec![vec!["cli".to_owned()]];
        assert_eq!(offences_of(&file), 0);
        file.binaries = vec![Vec::new()];
        assert_eq!(offences_of(&file), 1);

        let mut relay = package("transport-relay", &[("session-xmpp", false, true)]);
        relay.features = vec![feature("cli", &["dep:session-xmpp"])];
        assert_eq!(offences_of(&relay), 1);
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(version("1.9") < version("1.88.0"));
        assert!(version("1.88") < version("1.95.0 (59807616e)"));
        let needs = |rust: &str| {
            too_new(
                &serde_json::json!({"name": "a", "version": "1", "rust_version": rust}),
                "1.88",
            )
        };
        assert_eq!(needs("1.85"), None);
        assert_eq!(needs("1.88"), None);
        assert_eq!(needs("1.88.0"), None);
        assert!(needs("1.88.1").is_some());
        assert!(needs("1.91").is_some());
    }
}
