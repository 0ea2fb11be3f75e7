//! A private ejabberd. Run as the Erlang application that it is: its control script would change the user, and ask for a
//! name service that all nodes of a machine share.

use crate::lab::{ACCOUNTS, ANONYMOUS, Certificates, DOMAINS, Folder, PLAIN, Running, SCRAM, SHA1};
use std::{fs, path::Path, process::Command};

/// What a test may want otherwise.
#[derive(Clone, Copy)]
pub(crate) struct Wishes {
    /// Bytes of a stanza at most.
    pub(crate) stanza_max: u32,
    /// What a client may send, in bytes per second.
    pub(crate) rate: Option<u32>,
    /// More listeners, a line each.
    pub(crate) listeners: &'static str,
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            stanza_max: 262_144,
            rate: None,
            listeners: "",
        }
    }
}

/// Starts one; `None` where it is not installed, which is said.
pub(crate) fn start(name: &str) -> Option<Running> {
    start_with(name, Wishes::default())
}

/// The same with wishes.
pub(crate) fn start_with(name: &str, wishes: Wishes) -> Option<Running> {
    let script = fs::read_to_string("/usr/sbin/ejabberdctl").unwrap_or_default();
    let libraries = script
        .lines()
        .find_map(|line| line.strip_prefix("ERL_LIBS="));
    let Some(libraries) = libraries.map(|path| path.trim_matches('\'').to_owned()) else {
        eprintln!("SKIPPED: ejabberd is not installed (Debian: apt-get install ejabberd)");
        return None;
    };
    let folder = Folder::new(name);
    let certificates = Certificates::new(DOMAINS);
    let ports = crate::lab::free_ports();
    let chain = [
        &certificates.certificate,
        &certificates.authority,
        &certificates.key,
    ];
    folder.write("server.pem", &chain.map(String::as_str).concat());
    folder.write("ejabberd.yml", &config(folder.path(), ports, wishes));
    Some(Running::start(folder, certificates, ports, move |folder| {
        let mut command = Command::new("erl");
        let database = format!("\"{}\"", folder.join("db").display());
        command
            .env("EJABBERD_CONFIG_PATH", folder.join("ejabberd.yml"))
            .env("EJABBERD_LOG_PATH", folder.join("ejabberd.log"))
            .env("ERL_CRASH_DUMP", "/dev/null")
            .env("ERL_LIBS", &libraries)
            .env("HOME", folder)
            .args(["-noinput", "+sbwt", "none", "-mnesia", "dir", &database])
            .args(["-s", "ejabberd", "-eval", &accounts()]);
        command
    }))
}

/// What makes the accounts, in Erlang.
fn accounts() -> String {
    let mut calls = Vec::new();
    for domain in [SCRAM, SHA1, PLAIN] {
        for (user, password) in ACCOUNTS {
            calls.push(format!(
                "ejabberd_auth:try_register(<<{user:?}>>,<<{domain:?}>>,<<{password:?}>>)"
            ));
        }
    }
    calls.join(", ") + "."
}

fn config(folder: &Path, (starttls, direct): (u16, u16), wishes: Wishes) -> String {
    let domains = DOMAINS.join("\", \"");
    let (max, listeners) = (wishes.stanza_max, wishes.listeners);
    let (shaper, shapers) = match wishes.rate {
        Some(rate) => ("slow", format!("shaper: {{ slow: {rate} }}")),
        None => ("none", String::new()),
    };
    let proxy = crate::lab::free_ports().0;
    let folder = folder.display();
    format!(
        r#"
hosts: [ "{domains}" ]
loglevel: warning
certfiles: [ "{folder}/server.pem" ]
auth_method: internal
auth_password_format: scram
auth_scram_hash: sha256
host_config:
  "{SHA1}": {{ auth_scram_hash: sha, disable_sasl_mechanisms: [ "PLAIN", "X-OAUTH2", "SCRAM-SHA-1-PLUS" ] }}
  "{PLAIN}":
    auth_password_format: plain
    disable_sasl_mechanisms: [ "X-OAUTH2", "DIGEST-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-512-PLUS" ]
  "{ANONYMOUS}": {{ auth_method: anonymous, anonymous_protocol: sasl_anon, allow_multiple_connections: true }}
listen:
  - {{ port: {starttls}, ip: "127.0.0.1", module: ejabberd_c2s, starttls: true, starttls_required: true, max_stanza_size: {max}, shaper: {shaper} }}
  - {{ port: {direct}, ip: "127.0.0.1", module: ejabberd_c2s, tls: true, max_stanza_size: {max}, shaper: {shaper} }}
{listeners}{shapers}
access_rules: {{ local: {{ allow: all }}, c2s: {{ allow: all }} }}
modules:
  mod_stun_disco:
    secret: "a secret"
    credentials_lifetime: 10m
    services:
      - {{ type: stun, transport: udp, host: "192.0.2.7", port: 3478, restricted: false }}
      - {{ type: turn, transport: udp, host: "192.0.2.7", port: 3478, restricted: true }}
  mod_disco: {{}}
  mod_proxy65: {{ host: "proxy.@HOST@", ip: "127.0.0.1", hostname: "127.0.0.1", port: {proxy}, access: all }}
  mod_ping: {{}}
  mod_roster: {{}}
  mod_carboncopy: {{}}
  mod_stream_mgmt: {{ resume_timeout: 30 }}
"#
    )
}
