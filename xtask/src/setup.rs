//! `cargo xtask setup`: what others wrote and the tests meet: servers, peers, and libraries of the system.
//!
//! Nothing of it is needed to build the crates or to run the demo. Where something is missing, the tests that want it say
//! so and do not run. Continuous integration installs it first ([`prepare`]), so that nothing is skipped there.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::tools::{self, Failure, Outcome};

/// Something that Debian has a package of.
struct Part {
    package: &'static str,
    mark: Mark,
    about: &'static str,
}

/// By what a part is recognised.
enum Mark {
    /// A program in the search path, or where Debian puts what only root runs.
    Program(&'static str),
    /// What pkg-config knows.
    Library(&'static str),
    /// A line of Python that ends well.
    Python(&'static str),
    /// What Debian says that is installed.
    Package,
}

const PARTS: &[Part] = &[
    Part::new(
        "prosody",
        Mark::Program("prosody"),
        "an XMPP server: logins, calls, files through it",
    ),
    Part::new(
        "ejabberd",
        Mark::Program("ejabberdctl"),
        "another XMPP server",
    ),
    Part::new(
        "coturn",
        Mark::Program("turnserver"),
        "a TURN server: relays",
    ),
    Part::new(
        "pkg-config",
        Mark::Program("pkg-config"),
        "finds libraries of the system",
    ),
    Part::new(
        "libnice-dev",
        Mark::Library("nice"),
        "an ICE agent and PseudoTCP",
    ),
    Part::new(
        "libsrtp2-dev",
        Mark::Library("libsrtp2"),
        "a peer of the benchmarks of calls",
    ),
    Part::new(
        "libssl-dev",
        Mark::Library("openssl"),
        "DTLS for peers with RSA certificates",
    ),
    Part::new(
        "libervia-backend",
        Mark::Program("libervia-backend"),
        "an XMPP client: files with it",
    ),
    Part::new(
        "libervia-cli",
        Mark::Program("libervia-cli"),
        "its command line",
    ),
    Part::new(
        "dbus-daemon",
        Mark::Program("dbus-daemon"),
        "the message bus of clients",
    ),
    Part::new("libasound2-dev", Mark::Library("alsa"), "sound devices"),
    Part::new("cmake", Mark::Program("cmake"), "builds the codec Opus"),
    Part::new(
        "nftables",
        Mark::Program("nft"),
        "NATs for natlab, losses for pcp",
    ),
    Part::new(
        "iproute2",
        Mark::Program("ip"),
        "hosts for natlab, and for pcp",
    ),
    Part::new(
        "rsync",
        Mark::Program("rsync"),
        "a peer of the file benchmarks",
    ),
    Part::new(
        "espeak-ng",
        Mark::Program("espeak-ng"),
        "speaks, for the benchmarks of calls",
    ),
    Part::new("nodejs", Mark::Program("node"), "peers written for Node"),
    Part::new("npm", Mark::Program("npm"), "their packages"),
    Part::new(
        "python3-venv",
        Mark::Python("import ensurepip"),
        "peers written in Python",
    ),
    Part::new(
        "python3-dev",
        Mark::Python("import sysconfig; open(sysconfig.get_path('include') + '/Python.h')"),
        "builds those of them that are written in C",
    ),
];

/// Clients that people use, with a screen, which are installed only when they are asked for. To fetch and on a disk: Dino 32
/// and 114 MB, Gajim 11 and 34, Chromium 120 and 405, Firefox 80 and 309.
const CLIENTS: &[Part] = &[
    Part::new(
        "dino-im",
        Mark::Program("dino-im"),
        "an XMPP client: calls and files with it",
    ),
    Part::new(
        "gstreamer1.0-plugins-good",
        Mark::Package,
        "RTP for its calls",
    ),
    Part::new(
        "gstreamer1.0-pulseaudio",
        Mark::Package,
        "where its sound goes",
    ),
    Part::new(
        "pulseaudio",
        Mark::Program("pulseaudio"),
        "a sound card for it",
    ),
    Part::new("xvfb", Mark::Program("Xvfb"), "a screen for clients"),
    Part::new(
        "xdotool",
        Mark::Program("xdotool"),
        "their keyboard and mouse",
    ),
    Part::new(
        "libglib2.0-bin",
        Mark::Program("gdbus"),
        "calls Dino's actions",
    ),
    Part::new("sqlite3", Mark::Program("sqlite3"), "reads its database"),
    Part::new(
        "ca-certificates",
        Mark::Program("update-ca-certificates"),
        "whom it trusts",
    ),
    Part::new(
        "gajim",
        Mark::Program("gajim"),
        "an XMPP client: files with it",
    ),
    Part::new(
        "chromium",
        Mark::Program("chromium"),
        "a browser: calls and files with it",
    ),
    Part::new(
        "firefox-esr",
        Mark::Program("firefox-esr"),
        "another browser",
    ),
];

/// `cargo xtask setup`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also Dino, Gajim, Chromium and Firefox, which `test clients` meets (250 MB to fetch)
    #[arg(long)]
    clients: bool,
}

/// Peers from PyPI, in an environment of their own below the target folder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Python {
    folder: &'static str,
    /// Each with its version.
    packages: &'static [(&'static str, &'static str)],
    /// What they bring, which is imported to see that they work.
    modules: &'static [&'static str],
    /// What has to be there first, because the packages are built with it and do not say so.
    tools: &'static [(&'static str, &'static str)],
}

/// Those that tests meet. What only a benchmark needs is installed by it.
const PYTHON: [Python; 3] = [Python::SLIXMPP, Python::JINGLE, Python::AIOICE];

/// Peers from npm, in the version that the programs around them were written for.
const NODE: [&str; 1] = [DATACHANNEL];
pub(crate) const DATACHANNEL: &str = "node-datachannel@0.33.4";

impl Part {
    const fn new(package: &'static str, mark: Mark, about: &'static str) -> Self {
        Self {
            package,
            mark,
            about,
        }
    }

    fn is_there(&self) -> bool {
        match self.mark {
            Mark::Program(name) => has_program(name),
            Mark::Library(name) => has_library(name),
            Mark::Python(line) => tools::succeeds(Command::new("python3").args(["-c", line])),
            Mark::Package => has_package(self.package),
        }
    }
}

impl Python {
    /// An XMPP client.
    pub(crate) const SLIXMPP: Self = Self {
        folder: "slixmpp",
        packages: &[("slixmpp", "1.17.0")],
        modules: &["slixmpp"],
        tools: &[],
    };
    /// A client that calls.
    pub(crate) const JINGLE: Self = Self {
        folder: "jingle-peer",
        packages: &[("aiortc", "1.16.0"), ("slixmpp", "1.17.0")],
        modules: &["aiortc", "slixmpp"],
        tools: &[],
    };
    /// An ICE agent.
    pub(crate) const AIOICE: Self = Self {
        folder: "aioice",
        packages: &[("aioice", "0.10.1")],
        modules: &["aioice"],
        tools: &[],
    };
    /// Says how speech sounds beside what was spoken (ITU-T P.862.2).
    pub(crate) const PESQ: Self = Self {
        folder: "pesq",
        packages: &[("pesq", "0.0.4"), ("numpy", "2.4.6")],
        modules: &["pesq", "numpy"],
        tools: &[
            ("setuptools", "80.9.0"),
            ("wheel", "0.48.0"),
            ("cython", "3.3.1"),
            ("numpy", "2.4.6"),
        ],
    };

    /// Copies files, by a server that tells its two ends of each other.
    pub(crate) const WORMHOLE: Self = Self {
        folder: "wormhole",
        packages: &[
            ("magic-wormhole", "0.24.0"),
            ("magic-wormhole-mailbox-server", "0.8.0"),
        ],
        modules: &["wormhole", "wormhole_mailbox_server"],
        tools: &[],
    };

    /// The interpreter that finds the packages.
    pub(crate) fn program(&self) -> PathBuf {
        tools::target_dir().join(self.folder).join("bin/python")
    }

    /// What they are: the first one's version, then the others with their names.
    pub(crate) fn version(&self) -> String {
        let mut words = self.packages.iter();
        let first = words.next().map_or("", |(_, version)| *version);
        words.fold(first.to_owned(), |text, (name, version)| {
            format!("{text}, {name} {version}")
        })
    }

    /// Why it cannot be used, if so.
    pub(crate) fn missing(&self) -> Option<String> {
        let names: Vec<&str> = self.packages.iter().map(|(name, _)| *name).collect();
        let import = format!("import {}", self.modules.join(", "));
        let found = tools::succeeds(Command::new(self.program()).args(["-c", &import]));
        (!found).then(|| format!("{} not installed (cargo xtask setup)", names.join(" and ")))
    }

    pub(crate) fn install(&self) -> Result<(), Failure> {
        if self.missing().is_none() {
            return Ok(());
        }
        let hint = "python3 with venv and PyPI are wanted (Debian: apt-get install python3-venv)";
        let folder = tools::target_dir().join(self.folder);
        let mut make = Command::new("python3");
        make.args(["-m", "venv"]).arg(folder);
        tools::capture(&mut make, hint)?;
        let pip = |options: &[&str], packages: &[(&str, &str)]| {
            let mut pip = Command::new(self.program());
            let named = |(name, version): &(&str, &str)| format!("{name}=={version}");
            pip.args(["-m", "pip", "install", "--quiet"])
                .args(options)
                .args(packages.iter().map(named));
            tools::capture(&mut pip, hint)
        };
        if self.tools.is_empty() {
            pip(&[], self.packages)?;
        } else {
            pip(&[], self.tools)?;
            pip(&["--no-build-isolation"], self.packages)?;
        }
        Ok(())
    }
}

/// Whether a program is installed.
pub(crate) fn has_program(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(system)
        .any(|folder| folder.join(name).is_file())
}

/// Whether pkg-config finds a library to build with.
pub(crate) fn has_library(name: &str) -> bool {
    tools::succeeds(Command::new("pkg-config").args(["--exists", name]))
}

/// What installs these packages.
pub(crate) fn command(packages: &[&str]) -> &'static str {
    let of_clients = |package: &&str| CLIENTS.iter().any(|part| part.package == *package);
    match packages.iter().any(of_clients) {
        true => "cargo xtask setup --clients",
        false => "cargo xtask setup",
    }
}

/// Whether Debian has installed a package.
pub(crate) fn has_package(name: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    let status = query.args(["-W", "-f=${db:Status-Status}", name]).output();
    status.is_ok_and(|output| output.stdout == b"installed")
}

/// Installs the packages of Debian that somebody needs now, if they are missing.
pub(crate) fn packages(names: &[&str]) -> Result<(), Failure> {
    let wanted: Vec<&Part> = PARTS
        .iter()
        .filter(|part| names.contains(&part.package) && !part.is_there())
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    install(&wanted)
}

/// Installs what is missing, and clients with a screen where they are asked for.
pub(crate) fn run(args: &Args) -> Outcome {
    let asked = if args.clients { CLIENTS } else { &[] };
    let parts = || PARTS.iter().chain(asked);
    let wanted: Vec<&Part> = parts().filter(|part| !part.is_there()).collect();
    for part in &wanted {
        println!("      {:14} {}", part.package, part.about);
    }
    if !wanted.is_empty() {
        install(&wanted)?;
    }
    PYTHON.iter().try_for_each(Python::install)?;
    for package in NODE {
        node_package(package)?;
    }
    let left: Vec<String> = parts()
        .filter(|part| !part.is_there())
        .map(|part| part.package.to_owned())
        .collect();
    if left.is_empty() {
        return Ok(format!(
            "{} packages were missing, all {} are there",
            wanted.len(),
            parts().count() + PYTHON.len() + NODE.len()
        ));
    }
    Err(Failure::findings(
        "what the tests meet",
        &left,
        "the packages' names are Debian's; install them as your system does",
    ))
}

/// Before the tests: continuous integration installs, anybody else is told what the tests will not meet.
pub(crate) fn prepare() -> Outcome {
    if env::var_os("CI").is_some() && has_program("apt-get") && is_root() {
        return run(&Args { clients: false });
    }
    let missing: Vec<&str> = PARTS
        .iter()
        .filter(|part| !part.is_there())
        .map(|part| part.package)
        .collect();
    if missing.is_empty() {
        return Ok("everything that the tests meet is there".to_owned());
    }
    Ok(format!(
        "not here, and what needs it is skipped: {} (cargo xtask setup installs it)",
        missing.join(" ")
    ))
}

fn install(parts: &[&Part]) -> Result<(), Failure> {
    let names: Vec<&str> = parts.iter().map(|part| part.package).collect();
    let by_hand = format!("as root: apt-get install {}", names.join(" "));
    if !has_program("apt-get") || !is_root() {
        let why = "only root installs packages, and only where apt-get is";
        return Err(Failure::new("install packages", why, by_hand));
    }
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            // What is installed is for tests, which start their own: no service of the system is to run.
            .env("RUNLEVEL", "1");
        tools::capture(&mut command, &by_hand)
    };
    apt(&["update", "-q"])?;
    let mut arguments = vec!["install", "-q", "-y", "--no-install-recommends"];
    arguments.extend(names);
    apt(&arguments)?;
    Ok(())
}

/// The folder in which programs for Node find a package of npm, named with its version.
pub(crate) fn node_package(package: &str) -> Result<PathBuf, Failure> {
    let folder = tools::target_dir().join("node");
    let (name, version) = package.split_once('@').unwrap_or((package, ""));
    let manifest = folder.join("node_modules").join(name).join("package.json");
    let mark = format!("\"version\": \"{version}\"");
    if fs::read_to_string(&manifest).is_ok_and(|text| text.contains(&mark)) {
        return Ok(folder);
    }
    let hint = "node, npm and its registry are wanted (Debian: apt-get install nodejs npm)";
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--silent", "--prefix"]);
    tools::capture(npm.arg(&folder).arg(package), hint)?;
    Ok(folder)
}

/// Whether root runs this.
pub(crate) fn is_root() -> bool {
    let user = Command::new("id").arg("-u").output();
    user.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_found() {
        assert!(has_program("cargo"));
        assert!(!has_program("no-such-program-here"));
        assert!(!has_library("no-such-library-here"));
        assert!(!has_package("no-such-package-here"));
    }
}
