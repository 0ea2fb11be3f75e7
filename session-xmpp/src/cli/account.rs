//! [`Account`]: what the options came to.

use super::{AccountArgs, DialectName, Exit, Problem, Program, Ways, config, password};
use crate::{
    client::{Authorities, Options, Password, Policy, Rule, Server, driver_random},
    endpoint::Service,
    trace::Trace,
};
use session_core::Peer;
use std::{fmt, fs, path::Path};

/// Where a switchboard listens.
const SWITCHBOARD: (&str, u16) = ("127.0.0.1", 5222);

/// The port of XMPP servers (RFC 6120 §14.7).
const PORT: u16 = 5222;

/// What a program logs in with, and how it is to behave. Everything may still be changed before [`Account::login`].
#[non_exhaustive]
pub struct Account {
    /// The account, or the domain of an anonymous login.
    pub address: Peer,
    /// The login.
    pub options: Options,
    /// How to talk to peers of whom it is not known how they talk.
    pub dialect: DialectName,
    /// How to reach peers.
    pub ways: Ways,
    /// Who may start sessions.
    pub policy: Policy,
    /// What takes stanzas that are neither for sessions nor for what every program has.
    pub services: Vec<Box<dyn Service>>,
    /// Where everything that happens is told; [`Trace::note`] takes what the program has to add.
    pub trace: Trace,
    /// Whether to speak JSON.
    pub json: bool,
    /// Whether to say nothing but failures.
    pub quiet: bool,
    /// Whether the password goes into the keyring after the login.
    #[cfg(feature = "keyring")]
    pub(super) remember: Option<Password>,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("address", &self.address)
            .field("options", &self.options)
            .field("dialect", &self.dialect)
            .field("ways", &self.ways)
            .finish_non_exhaustive()
    }
}

impl AccountArgs {
    /// Looks at the configuration file for what the options leave open, once: to be called before anything is told, which the
    /// file may want as JSON.
    ///
    /// # Errors
    /// Problems of usage: what the file has that is not understood.
    pub fn configure(&mut self, program: &Program) -> Result<(), Problem> {
        if !self.configured {
            config::fill(self, program.name)?;
            self.configured = true;
        }
        Ok(())
    }

    /// Looks at the configuration file ([`configure`](Self::configure)), and for the password; asks for it where somebody
    /// sits. It reads files and may run a command.
    ///
    /// # Errors
    /// Problems of usage, which say what makes no sense.
    pub fn resolve(mut self, program: &Program) -> Result<Account, Problem> {
        self.configure(program)?;
        let (address, password) = self.whom()?;
        let mut options = match &password {
            Some(password) => Options::new(&address, password.clone()),
            None => Options::anonymous(address.as_str()),
        };
        // The same name as long as the program runs, so that sessions go on after a loss.
        let resource = options.login.resource.take();
        options.login.resource = resource.or_else(|| Some(device(program.name)));
        options.server = self.place()?;
        if let Some(path) = self.ca.as_ref().or(self.switchboard.as_ref()) {
            options.tls = Some(trust(path, self.switchboard.is_some())?);
        }
        let trace = match &self.trace {
            None => Trace::default(),
            Some(path) => Trace::create(path).map_err(|error| {
                let what = format!("write the trace {}", path.display());
                Problem::setup(
                    what,
                    error.to_string(),
                    "choose a folder that is there and yours",
                )
            })?,
        };
        Ok(Account {
            dialect: self.dialect.unwrap_or_default(),
            ways: Ways::new(&self)?,
            policy: Policy::new(self.rules()?),
            services: Vec::new(),
            trace,
            json: self.json,
            quiet: self.quiet,
            #[cfg(feature = "keyring")]
            remember: password.filter(|_| self.remember),
            address,
            options,
        })
    }

    fn whom(&self) -> Result<(Peer, Option<Password>), Problem> {
        if let Some(domain) = &self.anonymous {
            return Ok((Problem::address("--anonymous", domain)?, None));
        }
        let Some(jid) = &self.jid else {
            let hint = "give --jid alice@example.org, or write jid = \"alice@example.org\" into the configuration file";
            return Err(Problem::setup("log in", "no account is named", hint));
        };
        let address = Problem::address("--jid", jid)?;
        if !address.account().contains('@') {
            let hint = "accounts look like alice@example.org; --anonymous DOMAIN logs in as nobody";
            return Err(Problem::setup(
                format!("log in as {jid}"),
                "that is a domain",
                hint,
            ));
        }
        let password = password::find(self, &address)?;
        Ok((address, Some(password)))
    }

    fn place(&self) -> Result<Server, Problem> {
        let Some(server) = &self.server else {
            let (host, port) = SWITCHBOARD;
            return Ok(self
                .switchboard
                .as_ref()
                .map_or(Server::Discover, |_| Server::At {
                    host: host.to_owned(),
                    port,
                    direct_tls: false,
                }));
        };
        if server.starts_with("wss://") {
            let url = server.clone();
            return Ok(Server::WebSocket { url });
        }
        let (host, port) = place(server, PORT).ok_or_else(|| {
            let hint =
                "like --server xmpp.example.org:5222, [2001:db8::1]:5222 or wss://example.org/ws";
            Problem::usage(
                format!("--server {server:?}"),
                "that is neither HOST:PORT nor the address of a WebSocket",
                hint,
            )
        })?;
        Ok(Server::At {
            host,
            port,
            direct_tls: self.direct_tls,
        })
    }

    fn rules(&self) -> Result<Vec<Rule>, Problem> {
        if self.accept.is_empty() {
            return Ok(vec![Rule::Roster]);
        }
        let rules = self.accept.iter().map(|text| {
            let refused = |why: String| {
                let hint = "roster, any, an address, or several of them with commas";
                Problem::usage(format!("--accept {text:?}"), why, hint)
            };
            match text.parse::<Rule>() {
                Ok(Rule::Ask) => Err(refused("nobody would be asked".to_owned())),
                Ok(rule @ (Rule::Any | Rule::Roster | Rule::Peer(_))) => Ok(rule),
                Err(error) => Err(refused(error.to_string())),
            }
        });
        rules.collect()
    }
}

/// Whom to trust when a file says so.
fn trust(
    path: &Path,
    switchboard: bool,
) -> Result<std::sync::Arc<crate::endpoint::rustls::ClientConfig>, Problem> {
    let refused = |why: String| {
        let hint = if switchboard {
            "start the server by `cargo xtask switchboard`, which says where its certificate is"
        } else {
            "--ca takes the certificate of an authority, in PEM"
        };
        let what = format!("read the certificate {}", path.display());
        Problem::new(Exit::Usage, "ca", what, why, hint)
    };
    let pem = fs::read(path).map_err(|error| refused(error.to_string()))?;
    let authorities = Authorities::from_pem(&pem).and_then(Authorities::only);
    authorities.map_err(|error| refused(error.to_string()))
}

/// A name for this run of a program.
fn device(program: &str) -> String {
    let mut bytes = [0; 4];
    driver_random(&mut bytes);
    format!("{program}-{:08x}", u32::from_le_bytes(bytes))
}

/// A name or an address, and a port; with this one where none is said. Addresses of IPv6 stand in brackets.
pub(super) fn place(text: &str, port: u16) -> Option<(String, u16)> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => text.find(':').map_or((text, ""), |at| text.split_at(at)),
    };
    let port = match rest.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
        None if rest.is_empty() => port,
        None => return None,
    };
    let is_host = !host.is_empty() && !host.contains(['/', '@', ' ']);
    is_host.then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Credentials;

    const PROGRAM: Program = Program {
        name: "pcp",
        node: "https://example.org/pcp",
        kind: "console",
        features: &[],
        calls: false,
    };

    fn args() -> AccountArgs {
        AccountArgs {
            jid: Some("alice@example.org".to_owned()),
            password_command: Some("echo secret".to_owned()),
            config: Some(empty()),
            ..AccountArgs::default()
        }
    }

    /// A configuration file with nothing in it, so that nobody's own is read.
    fn empty() -> std::path::PathBuf {
        let nothing = if cfg!(windows) { "NUL" } else { "/dev/null" };
        nothing.into()
    }

    #[test]
    fn places_have_ports_or_get_one() {
        let found = |text| place(text, 7).map(|(host, port)| format!("{host} {port}"));
        assert_eq!(found("a.example:5").as_deref(), Some("a.example 5"));
        assert_eq!(found("a.example").as_deref(), Some("a.example 7"));
        assert_eq!(found("[::1]:5").as_deref(), Some("::1 5"));
        assert_eq!(found("[::1]").as_deref(), Some("::1 7"));
        for text in [
            "", ":5", "a:", "a:x", "a:0", "a:70000", "::1", "[::1", "[::1]5", "a/b:1",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }

    #[test]
    fn options_become_an_account() {
        let account = args().resolve(&PROGRAM).unwrap();
        assert_eq!(account.options.server, Server::Discover);
        let resource = account.options.login.resource.unwrap();
        assert!(
            resource.starts_with("pcp-") && resource.len() == 12,
            "{resource}"
        );
        assert!(matches!(
            account.options.login.credentials,
            Credentials::Password { .. }
        ));
        assert!(account.policy.needs_roster());
        let anonymous = AccountArgs {
            jid: None,
            anonymous: Some("example.org".to_owned()),
            accept: vec!["any".to_owned()],
            ..args()
        };
        let account = anonymous.resolve(&PROGRAM).unwrap();
        assert!(matches!(
            account.options.login.credentials,
            Credentials::Anonymous
        ));
        assert!(!account.policy.needs_roster());
    }

    #[test]
    fn the_configuration_is_read_once_and_before_anything_is_told() {
        let name = format!("jingle-account-{}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, "json = true\nquiet = true\n").unwrap();
        let config = Some(path.clone());
        let mut args = AccountArgs { config, ..args() };
        args.configure(&PROGRAM).unwrap();
        assert!(args.json && args.quiet);
        fs::remove_file(path).unwrap();
        let account = args.resolve(&PROGRAM).unwrap();
        assert!(account.json && account.quiet);
    }

    #[test]
    fn a_server_may_be_behind_the_web() {
        let url = "wss://example.org:5281/ws".to_owned();
        let server = Some(url.clone());
        let account = AccountArgs { server, ..args() }.resolve(&PROGRAM).unwrap();
        assert_eq!(account.options.server, Server::WebSocket { url });
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        let refused = |args: AccountArgs| {
            let problem = args.resolve(&PROGRAM).unwrap_err();
            assert_eq!(problem.exit, Exit::Usage);
            problem.to_string()
        };
        let without = AccountArgs {
            jid: None,
            ..args()
        };
        assert!(refused(without).contains("no account is named"));
        let domain = Some("example.org".to_owned());
        assert!(
            refused(AccountArgs {
                jid: domain,
                ..args()
            })
            .contains("that is a domain")
        );
        let server = Some("a:b".to_owned());
        assert!(refused(AccountArgs { server, ..args() }).contains("--server \"a:b\""));
        let accept = vec!["a@@b".to_owned()];
        assert!(
            refused(AccountArgs { accept, ..args() }).contains("cannot take --accept \"a@@b\"")
        );
        let accept = vec!["roster".to_owned(), "ask".to_owned()];
        let asks = refused(AccountArgs { accept, ..args() });
        assert!(asks.contains("nobody would be asked") && !asks.contains("any, ask"));
        let switchboard = Some("/no/such/file".into());
        assert!(
            refused(AccountArgs {
                switchboard,
                ..args()
            })
            .contains("cargo xtask switchboard")
        );
        let turn = vec!["relay.example".to_owned()];
        assert!(refused(AccountArgs { turn, ..args() }).contains("--turn"));
    }
}
