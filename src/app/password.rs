//! `password`: a user's line in the password file. The password comes from standard input, never from the command line, which others see.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, BufRead, ErrorKind, IsTerminal, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use crate::auth::passwords::{Kind, check_kind, with_line, with_user};
use crate::auth::scram;

use super::exit::{Exit, answer, tell};

/// Bytes of the longest password: what CONNECT can hold (§3.1.3.6).
const LONGEST: u64 = 65_535;

/// Puts `user` into `file` with the password that is the first line of standard input.
pub(super) fn put(file: &Path, user: &str, scram: bool) -> Exit {
    let unusable = |e: io::Error| {
        tell(&format_args!(
            "{}: {e}; give a file that this user may read and write",
            file.display()
        ));
        Exit::Unwritten
    };
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
        Err(e) => return unusable(e),
    };
    // Before anybody is asked for a password that the file cannot take.
    if let Err(why) = check_kind(&text, if scram { Kind::Verifiers } else { Kind::Hashes }) {
        tell(&format_args!("{}: {why}", file.display()));
        return Exit::Usage;
    }
    let made = read_password().and_then(|password| {
        let text = match scram {
            true => with_verifier(&text, user, &password),
            false => with_user(&text, user, password.as_bytes()),
        };
        Ok(scram::with_salts(text?, &chance()?))
    });
    let text = match made {
        Ok(text) => text,
        Err(why) => {
            tell(&why);
            return Exit::Usage;
        }
    };
    match replace(file, &text) {
        Ok(()) => answer(&format!("{}: {user} has this password now", file.display())),
        Err(e) => unusable(e),
    }
}

fn with_verifier(text: &str, user: &str, password: &str) -> Result<String, String> {
    let line = scram::entry(user, password, &chance::<{ scram::SALT }>()?)?;
    Ok(with_line(text, user, &line))
}

fn chance<const BYTES: usize>() -> Result<[u8; BYTES], String> {
    let mut chance = [0; BYTES];
    aws_lc_rs::rand::fill(&mut chance).map_err(|_| "the system gives no salt".to_owned())?;
    Ok(chance)
}

fn read_password() -> Result<Zeroizing<String>, String> {
    let input = io::stdin();
    if input.is_terminal() {
        tell(&"password (it is shown while you type; better: <FILE):");
    }
    let mut line = Zeroizing::new(String::new());
    let read = input.lock().take(LONGEST + 2).read_line(&mut line);
    read.map_err(|e| format!("no password on standard input: {e}"))?;
    let password = line
        .strip_suffix('\n')
        .map_or(line.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if password.is_empty() || password.len() as u64 > LONGEST {
        return Err(format!(
            "a password has 1 to {LONGEST} bytes; it is the first line of standard input"
        ));
    }
    Ok(Zeroizing::new(password.to_owned()))
}

/// Whole or not at all: a proxy that reads it meanwhile sees the old or the new one. A new file is for its owner only.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let new = Path::new(&name);
    let written = (|| {
        let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
        let mode = fs::metadata(file).map_or(0o600, |old| old.permissions().mode() & 0o777);
        out.set_permissions(Permissions::from_mode(mode))?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        fs::rename(new, file)
    })();
    if written.is_err() {
        // It may never have been made.
        let _ = fs::remove_file(new);
    }
    written
}
