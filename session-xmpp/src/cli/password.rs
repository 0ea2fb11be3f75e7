//! Where passwords come from.

use super::{AccountArgs, Problem};
use crate::client::Password;
use session_core::Peer;
use std::{
    env, fs,
    io::{self, IsTerminal},
    process::{Command, Stdio},
};

/// The password of every account that a switchboard makes up.
const SWITCHBOARD: &str = "secret";

/// The longest password that is taken, in bytes.
const PASSWORD_MAX: usize = 1_024;

/// The name under which keyrings know our passwords.
#[cfg(feature = "keyring")]
const SERVICE: &str = "xmpp";

/// Looks where the options say, then in the keyring, and then asks whoever sits there.
pub(super) fn find(args: &AccountArgs, account: &Peer) -> Result<Password, Problem> {
    let hint = "give --password-file, --password-env or --password-command";
    let failed = |what: String, why: String| Problem::setup(what, why, hint);
    let text = if let Some(path) = &args.password_file {
        let text = fs::read_to_string(path).map_err(|error| {
            failed(
                format!("read the password in {}", path.display()),
                error.to_string(),
            )
        })?;
        first_line(&text)
    } else if let Some(name) = &args.password_env {
        env::var(name)
            .map_err(|error| failed(format!("read the password in ${name}"), error.to_string()))?
    } else if let Some(command) = &args.password_command {
        run(command).map_err(|why| failed(format!("run {command:?}"), why))?
    } else if args.switchboard.is_some() {
        SWITCHBOARD.to_owned()
    } else if let Some(password) = of_keyring(account) {
        password
    } else {
        let what = format!("know the password of {account}");
        if !io::stdin().is_terminal() {
            return Err(failed(what, "nobody is there to ask".to_owned()));
        }
        let asked = rpassword::prompt_password(format!("Password of {account}: "));
        asked.map_err(|error| failed(what, error.to_string()))?
    };
    if text.is_empty() || text.len() > PASSWORD_MAX {
        let why = format!("it has {} bytes", text.len());
        return Err(failed(format!("use the password of {account}"), why));
    }
    Ok(Password::new(text))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn run(command: &str) -> Result<String, String> {
    let (shell, flag) = if cfg!(windows) {
        ("cmd", "/C")
    } else {
        ("sh", "-c")
    };
    let output = Command::new(shell)
        .args([flag, command])
        .stdin(Stdio::inherit())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("it failed ({})", output.status));
    }
    let text = String::from_utf8(output.stdout).map_err(|_| "it printed no text".to_owned())?;
    Ok(first_line(&text))
}

#[cfg(feature = "keyring")]
fn of_keyring(account: &Peer) -> Option<String> {
    // Without a keyring, or with a locked one, whoever sits there is asked.
    let entry = keyring::Entry::new(SERVICE, account.as_str()).ok()?;
    entry.get_password().ok()
}

#[cfg(not(feature = "keyring"))]
fn of_keyring(_: &Peer) -> Option<String> {
    None
}

/// Puts a password into the keyring.
#[cfg(feature = "keyring")]
pub(super) fn remember(account: &Peer, password: &Password) -> Result<(), Problem> {
    let put = keyring::Entry::new(SERVICE, account.as_str())
        .and_then(|entry| entry.set_password(password.reveal()));
    put.map_err(|error| {
        let what = format!("put the password of {account} into the keyring");
        let hint = "leave out --remember; --password-command takes it from elsewhere";
        Problem::new(
            super::Exit::Failed,
            "keyring",
            what,
            error.to_string(),
            hint,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(args: &AccountArgs) -> Result<String, Problem> {
        find(args, &Peer::from("alice@example.org")).map(|password| password.reveal().to_owned())
    }

    #[test]
    fn passwords_come_from_files_and_commands() {
        let path = env::temp_dir().join(format!("jingle-password-{}", std::process::id()));
        fs::write(&path, "two words\nno more\n").unwrap();
        let of_file = AccountArgs {
            password_file: Some(path.clone()),
            ..AccountArgs::default()
        };
        assert_eq!(found(&of_file).unwrap(), "two words");
        let of_command = AccountArgs {
            password_command: Some(format!("cat {}", path.display())),
            ..AccountArgs::default()
        };
        assert_eq!(found(&of_command).unwrap(), "two words");
        fs::write(&path, "\n").unwrap();
        assert!(found(&of_file).unwrap_err().why.contains("0 bytes"));
        fs::remove_file(path).unwrap();
        assert!(found(&of_file).is_err() && found(&of_command).is_err());
        let of_env = AccountArgs {
            password_env: Some("JINGLE_NO_SUCH_VARIABLE".to_owned()),
            ..AccountArgs::default()
        };
        assert!(found(&of_env).is_err());
        let of_switchboard = AccountArgs {
            switchboard: Some("x.pem".into()),
            ..AccountArgs::default()
        };
        assert_eq!(found(&of_switchboard).unwrap(), SWITCHBOARD);
    }
}
