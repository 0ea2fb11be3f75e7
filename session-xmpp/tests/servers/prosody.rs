//! A private Prosody.

use crate::lab::{ACCOUNTS, ANONYMOUS, Certificates, DOMAINS, Folder, PLAIN, Running, SCRAM, SHA1};
use std::process::Command;

/// What a test may want otherwise.
#[derive(Clone, Copy, Default)]
pub(crate) struct Wishes {
    /// More modules, as Lua strings.
    pub(crate) modules: &'static str,
    /// More settings.
    pub(crate) settings: &'static str,
    /// More hosts, after all others.
    pub(crate) hosts: &'static str,
    /// A module `test` in Lua, to be named among the modules.
    pub(crate) lua: &'static str,
    /// A proxy for SOCKS5 bytestreams (XEP-0065).
    pub(crate) proxy: bool,
}

/// Starts one; `None` where it is not installed, which is said.
pub(crate) fn start(name: &str, wishes: Wishes) -> Option<Running> {
    if !crate::lab::is_installed("prosody", "prosody") {
        return None;
    }
    let folder = Folder::new(name);
    let certificates = Certificates::new(DOMAINS);
    let ports = crate::lab::free_ports();
    let chain = format!("{}{}", certificates.certificate, certificates.authority);
    folder.write("server.crt", &chain);
    folder.write("server.key", &certificates.key);
    folder.write("modules/mod_test.lua", wishes.lua);
    for domain in [SCRAM, SHA1, PLAIN] {
        for (user, password) in ACCOUNTS {
            let path = format!("data/{}/accounts/{user}.dat", domain.replace('.', "%2e"));
            folder.write(
                &path,
                &format!("return {{ [\"password\"] = {password:?}; }};\n"),
            );
        }
    }
    folder.write("prosody.cfg.lua", &config(folder.path(), ports, wishes));
    Some(Running::start(folder, certificates, ports, |folder| {
        let mut command = Command::new("prosody");
        command
            .args(["-F", "--config"])
            .arg(folder.join("prosody.cfg.lua"));
        command
    }))
}

fn config(folder: &std::path::Path, (starttls, direct): (u16, u16), wishes: Wishes) -> String {
    let Wishes {
        modules,
        settings,
        hosts,
        ..
    } = wishes;
    let folder = folder.display();
    let (proxy, proxy_port) = match wishes.proxy {
        true => (
            format!("Component \"proxy.{SCRAM}\" \"proxy65\"\n  proxy65_address = \"127.0.0.1\""),
            crate::lab::free_ports().0,
        ),
        false => (String::new(), 0),
    };
    format!(
        r#"
run_as_root = true
daemonize = false
pidfile = "{folder}/prosody.pid"
data_path = "{folder}/data"
plugin_paths = {{ "{folder}/modules"; "/usr/lib/prosody/modules" }}
interfaces = {{ "127.0.0.1" }}
local_interfaces = {{ "127.0.0.1" }}
network_settings = {{ nagle = false }}
modules_enabled = {{ "roster"; "saslauth"; "tls"; "disco"; "carbons"; "ping"; "smacks"; "posix"; {modules} }}
modules_disabled = {{ "s2s"; "offline"; "s2s_auth_certs" }}
c2s_require_encryption = true
c2s_ports = {{ {starttls} }}
c2s_direct_tls_ports = {{ {direct} }}
authentication = "internal_plain"
smacks_hibernation_time = 30
proxy65_ports = {{ {proxy_port} }}
proxy65_interfaces = {{ "127.0.0.1" }}
{settings}
ssl = {{ certificate = "{folder}/server.crt"; key = "{folder}/server.key" }}
c2s_direct_tls_ssl = ssl
certificates = "{folder}"
log = {{ {{ levels = {{ min = "info" }}, to = "console" }} }}
VirtualHost "{SCRAM}"
VirtualHost "{SHA1}"
  disable_sasl_mechanisms = {{ "PLAIN"; "SCRAM-SHA-256"; "SCRAM-SHA-256-PLUS" }}
VirtualHost "{PLAIN}"
  disable_sasl_mechanisms = {{ "SCRAM-SHA-1"; "SCRAM-SHA-1-PLUS"; "SCRAM-SHA-256"; "SCRAM-SHA-256-PLUS" }}
VirtualHost "{ANONYMOUS}"
  authentication = "anonymous"
{proxy}
{hosts}
"#
    )
}
