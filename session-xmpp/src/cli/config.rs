//! The configuration file.

use super::{AccountArgs, DialectName, Problem, TransportName};
use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

/// The most that is read of a configuration file, in bytes.
const FILE_MAX: u64 = 64 * 1024;

/// The keys of the file: as the options, with underscores or dashes alike.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Keys {
    jid: Option<String>,
    anonymous: Option<String>,
    password_file: Option<PathBuf>,
    password_env: Option<String>,
    password_command: Option<String>,
    server: Option<String>,
    direct_tls: Option<bool>,
    ca: Option<PathBuf>,
    dialect: Option<DialectName>,
    transports: Option<Vec<TransportName>>,
    relay_only: Option<bool>,
    relay_until_accepted: Option<bool>,
    stun: Option<Vec<String>>,
    turn: Option<Vec<String>>,
    accept: Option<Vec<String>>,
    trace: Option<PathBuf>,
    json: Option<bool>,
    quiet: Option<bool>,
}

/// Fills what the options leave open out of the file: the table of the program first, then what stands above all tables.
/// A file that was not asked for need not be there.
pub(super) fn fill(args: &mut AccountArgs, program: &str) -> Result<(), Problem> {
    let asked = args.config.is_some();
    let Some(path) = args.config.clone().or_else(default_path) else {
        return Ok(());
    };
    let refused = |why: String| {
        let what = format!("read the configuration {}", path.display());
        let hint = format!(
            "it may hold what --help lists under \"Account and network\", above all tables or in [{program}]; not --config, \
             --remember and --switchboard"
        );
        Problem::setup(what, why, hint)
    };
    let text = match read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !asked => return Ok(()),
        Err(error) => return Err(refused(error.to_string())),
    };
    let all: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        // Without the lines around it, which may hold a password of a relay.
        refused(error.message().to_owned())
    })?;
    let own = all.get(program).and_then(toml::Value::as_table).cloned();
    let plain = all
        .into_iter()
        .filter(|(_, value)| !value.is_table())
        .collect();
    for table in [own.unwrap_or_default(), plain] {
        let keys = keys(table).map_err(&refused)?;
        apply(args, keys, path.parent().unwrap_or_else(|| Path::new("")));
    }
    Ok(())
}

fn keys(table: toml::Table) -> Result<Keys, String> {
    let table = table.into_iter();
    let table: toml::Table = table
        .map(|(key, value)| (key.replace('-', "_"), value))
        .collect();
    let keys = table.try_into::<Keys>();
    keys.map_err(|error| error.message().to_owned())
}

fn apply(args: &mut AccountArgs, keys: Keys, folder: &Path) {
    fn fill<T>(place: &mut Option<T>, value: Option<T>) {
        if place.is_none() {
            *place = value;
        }
    }
    fn list<T>(place: &mut Vec<T>, value: Option<Vec<T>>) {
        if place.is_empty() {
            *place = value.unwrap_or_default();
        }
    }
    let beside = |path: Option<PathBuf>| path.map(|path| folder.join(path));
    // An account of its own does not take another one's password.
    if args.jid.is_none() && args.anonymous.is_none() {
        fill(&mut args.jid, keys.jid);
        if args.jid.is_none() {
            fill(&mut args.anonymous, keys.anonymous);
        }
    }
    let has_password = args.password_file.is_some()
        || args.password_env.is_some()
        || args.password_command.is_some();
    if !has_password {
        fill(&mut args.password_file, beside(keys.password_file));
        fill(&mut args.password_env, keys.password_env);
        fill(&mut args.password_command, keys.password_command);
    }
    if args.switchboard.is_none() {
        if args.server.is_none() {
            args.direct_tls |= keys.direct_tls.unwrap_or_default();
        }
        fill(&mut args.server, keys.server);
        fill(&mut args.ca, beside(keys.ca));
    }
    fill(&mut args.dialect, keys.dialect);
    fill(&mut args.trace, beside(keys.trace));
    list(&mut args.transports, keys.transports);
    list(&mut args.stun, keys.stun);
    list(&mut args.turn, keys.turn);
    list(&mut args.accept, keys.accept);
    args.relay_only |= keys.relay_only.unwrap_or_default();
    args.relay_until_accepted |= keys.relay_until_accepted.unwrap_or_default();
    args.json |= keys.json.unwrap_or_default();
    args.quiet |= keys.quiet.unwrap_or_default();
}

fn read(path: &Path) -> io::Result<String> {
    let size = fs::metadata(path)?.len();
    if size > FILE_MAX {
        let why = format!("it has {size} bytes, more than {FILE_MAX}");
        return Err(io::Error::other(why));
    }
    fs::read_to_string(path)
}

/// Where it stands when nobody says (XDG Base Directory Specification).
fn default_path() -> Option<PathBuf> {
    let absolute = |name: &str| {
        let path = PathBuf::from(env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    let folder = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(folder.join("jingle").join("config.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str, args: AccountArgs) -> Result<AccountArgs, Problem> {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("jingle-config-{}-{count}.toml", std::process::id());
        let path = env::temp_dir().join(name);
        fs::write(&path, text).unwrap();
        let config = Some(path.clone());
        let mut args = AccountArgs { config, ..args };
        let filled = fill(&mut args, "pcp");
        fs::remove_file(path).unwrap();
        filled.map(|()| args)
    }

    #[test]
    fn options_come_before_the_programs_table_and_that_before_the_rest() {
        let text = "jid = 'alice@example.org'\npassword-file = 'secret'\ntransports = ['ibb', 'ice-tcp']\n\
            stun = ['a:1']\nrelay_only = true\nrelay_until_accepted = true\n[pcp]\njid = 'pcp@example.org'\ndialect = 'gtalk-late'\n\
            [call]\nunknown = 1\n";
        let args = filled(text, AccountArgs::default()).unwrap();
        assert_eq!(args.jid.as_deref(), Some("pcp@example.org"));
        assert_eq!(args.password_file, Some(env::temp_dir().join("secret")));
        assert_eq!(args.transports, [TransportName::Ibb, TransportName::IceTcp]);
        assert_eq!(args.dialect, Some(DialectName::GtalkLate));
        assert!(args.relay_only && args.relay_until_accepted && !args.json);
        let given = AccountArgs {
            jid: Some("bob@example.org".to_owned()),
            password_env: Some("PASSWORD".to_owned()),
            stun: vec!["b:2".to_owned()],
            ..AccountArgs::default()
        };
        let args = filled(text, given).unwrap();
        assert_eq!(args.jid.as_deref(), Some("bob@example.org"));
        assert_eq!(args.password_file, None);
        assert_eq!(args.stun, ["b:2"]);
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (text, word) in [
            ("jidd = 'x'", "jidd"),
            ("dialect = 'klingon'", "klingon"),
            ("turn = ['turn:a:sesame@", ""),
            ("[pcp]\ntransports = 'ice'", "sequence"),
        ] {
            let problem = filled(text, AccountArgs::default()).unwrap_err();
            assert_eq!(problem.code, "usage");
            assert!(problem.why.contains(word), "{problem}");
            assert!(!problem.to_string().contains("sesame"), "{problem}");
            assert!(problem.hint.contains("[pcp]"), "{problem}");
        }
        let config = Some(PathBuf::from("/no/such/file"));
        let mut args = AccountArgs {
            config,
            ..AccountArgs::default()
        };
        assert!(
            fill(&mut args, "pcp").is_err(),
            "who asks for a file wants it"
        );
    }
}
