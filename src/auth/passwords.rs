//! The password file: one user a line, `name:$argon2id$…` (PHC string format), empty lines and `#` comments between.
//!
//! Asking costs the time and memory that the hashes say, some 20 ms and 19 MiB with the parameters of [`entry`]: never on a reactor.

use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Argon2, Params, Version};

use super::scram::salts_of;
use super::stand_ins::StandIns;

/// Users of one file at most.
pub const MOST_USERS: usize = 1_000_000;
/// KiB that one check may take at most: what a file asks for is paid with each CONNECT.
const MOST_MEMORY: u32 = 256 * 1024;
/// Passes over that memory at most.
const MOST_PASSES: u32 = 16;

#[cfg(test)]
thread_local! {
    /// Hashes that this thread has made to check passwords.
    pub(super) static HASHES: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// What stands in the lines of a file: all of one are of one kind, as they are of one method of `authentication`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Hashes, for `method: password_file`.
    Hashes,
    /// Verifiers of SCRAM-SHA-256, for `method: scram`.
    Verifiers,
}

impl Kind {
    /// Of what stands behind the name and its colon; `None`: it is neither.
    pub(super) fn of(secret: &str) -> Option<Self> {
        if secret.starts_with("$argon2") {
            return Some(Kind::Hashes);
        }
        let verifier = secret.strip_prefix(super::scram::METHOD)?;
        verifier.starts_with('$').then_some(Kind::Verifiers)
    }

    fn words(self) -> &'static str {
        match self {
            Kind::Hashes => "argon2id hashes (for `method: password_file`)",
            Kind::Verifiers => "SCRAM-SHA-256 credentials (for `method: scram`)",
        }
    }
}

/// Whether a line of this kind may be put into a file of this text: a login refuses a file that mixes them.
///
/// # Errors
/// The first line of the other kind, what it is, and what to do.
pub fn check_kind(text: &str, new: Kind) -> Result<(), String> {
    for (at, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line.trim())) {
        let secret = line.split_once(':').filter(|_| !line.starts_with('#')).map(|(_, secret)| secret);
        let Some(other) = secret.and_then(Kind::of).filter(|kind| *kind != new) else {
            continue;
        };
        let remedy = match other {
            Kind::Hashes => "leave `--scram` out to add to it",
            Kind::Verifiers => "write `--scram` to add to it",
        };
        let (holds, wanted) = (other.words(), new.words());
        return Err(format!(
            "line {at}: the file holds {holds}, and {wanted} cannot stand in it; {remedy}, or name another file"
        ));
    }
    Ok(())
}

/// Users and their hashes. `Debug` shows how many.
pub struct Passwords {
    users: HashMap<Box<str>, PasswordHash>,
    /// What passwords of unknown users are checked against.
    pub(super) nobody: StandIns,
}

impl Passwords {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// What is wrong, with its line, never with what stands there.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut users = HashMap::new();
        let mut order = Vec::new();
        for (at, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, hash) = line.split_once(':').ok_or_else(|| format!("line {at} has no `:` after the name"))?;
            if super::Principal::new(name).is_none() {
                return Err(format!("line {at} has no legal name: 1 to {} bytes", super::LONGEST_IDENTITY));
            }
            let hash = read_hash(hash).map_err(|why| format!("line {at}: {why}"))?;
            order.push((name, line));
            if users.insert(name.into(), hash).is_some() {
                return Err(format!("line {at} names a user for the second time"));
            }
            if users.len() > MOST_USERS {
                return Err(format!("more than {MOST_USERS} users"));
            }
        }
        let lines = order.iter().filter_map(|(name, line)| Some((*line, users.get(*name)?)));
        let nobody = StandIns::of(lines, salts_of(text), || hash(b"nobody", Params::DEFAULT))?;
        Ok(Self { users, nobody })
    }

    /// Of these files, the one that knows a user; for an unknown one always the same, as if its users were spread over them as known ones are. `None`:
    /// there is no file.
    pub(super) fn that_asks<F: Deref<Target = Self>>(files: Vec<(usize, F)>, user: &str) -> Option<(usize, F)> {
        let known = files.iter().position(|(_, file)| file.knows(user));
        // Drawn in any case: it takes its time.
        let lots = files.iter().map(|(_, file)| file.nobody.lot(user)).enumerate();
        let (drawn, _) = lots.max_by(|(_, one), (_, other)| one.total_cmp(other))?;
        files.into_iter().nth(known.unwrap_or(drawn))
    }

    /// Whether a user has this password; `None`: there is no such user. What it costs does not tell which of both, whatever parameters the hashes
    /// of the file have.
    pub fn check(&self, user: &str, password: &[u8]) -> Option<bool> {
        #[cfg(test)]
        HASHES.set(HASHES.get() + 1);
        let known = self.users.get(user);
        let right = Argon2::default()
            .verify_password(password, known.unwrap_or(self.nobody.hash(user)))
            .is_ok();
        known.map(|_| right)
    }

    /// Whether there is such a user. Takes no time: who asks must not let it show.
    pub fn knows(&self, user: &str) -> bool {
        self.users.contains_key(user)
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Passwords({} users)", self.users.len())
    }
}

/// The line of a user, hashed with a salt from the system's random source: argon2id with 19 MiB, 2 passes, 1 lane (OWASP).
///
/// # Errors
/// The name cannot be one, or the system gives no salt.
pub fn entry(user: &str, password: &[u8]) -> Result<String, String> {
    check_name(user)?;
    Ok(format!("{user}:{}", hash(password, Params::DEFAULT)?))
}

/// Whether a name can stand in a line.
pub(super) fn check_name(user: &str) -> Result<(), String> {
    if super::Principal::new(user).is_none() || user.contains(':') || user.starts_with('#') || user.trim() != user {
        return Err("a user's name has no `:`, no control characters, no blanks around it, and does not begin with `#`".to_owned());
    }
    Ok(())
}

/// A file's text with the line of one user put in or replaced; all other lines stay as they are.
///
/// # Errors
/// As [`entry`].
pub fn with_user(text: &str, user: &str, password: &[u8]) -> Result<String, String> {
    Ok(with_line(text, user, &entry(user, password)?))
}

/// The same with a line that is made already.
pub fn with_line(text: &str, user: &str, new: &str) -> String {
    let is_theirs = |line: &str| line.trim().split_once(':').is_some_and(|(name, _)| name == user);
    let mut lines: Vec<&str> = text.lines().filter(|line| !is_theirs(line)).collect();
    lines.push(new);
    lines.join("\n") + "\n"
}

fn hash(password: &[u8], params: Params) -> Result<PasswordHash, String> {
    let argon2 = Argon2::new(argon2::Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password(password).map_err(|e| format!("no hash can be made: {e}"))
}

fn read_hash(text: &str) -> Result<PasswordHash, String> {
    const WANTED: &str = "no argon2id hash; make lines with `mqtt-kafka-proxy password`";
    if Kind::of(text) == Some(Kind::Verifiers) {
        return Err("a SCRAM-SHA-256 credential, and no argon2id hash; name such a file under `method: scram`".to_owned());
    }
    let mut hash = PasswordHash::new(text).map_err(|_| WANTED.to_owned())?;
    if hash.algorithm.as_str() != "argon2id" || hash.hash.is_none() || hash.salt.is_none() {
        return Err(WANTED.to_owned());
    }
    let params = Params::try_from(&hash).map_err(|_| WANTED.to_owned())?;
    if params.m_cost() > MOST_MEMORY || params.t_cost() > MOST_PASSES || params.p_cost() > MOST_PASSES {
        return Err(format!(
            "a hash that asks for more than {} MiB, {MOST_PASSES} passes or {MOST_PASSES} lanes",
            MOST_MEMORY >> 10
        ));
    }
    // One that is not written is the first that there was; the library would take it for the newest.
    let version = hash.version.unwrap_or(Version::V0x10.into());
    Version::try_from(version).map_err(|_| "a hash of a version of argon2 that is neither 19 nor 16".to_owned())?;
    hash.version = Some(version);
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use super::super::stand_ins::cost;
    use super::*;

    #[test]
    fn a_line_that_was_made_is_read_and_asked() {
        let text = with_user("# fleet\nold:$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$", "vin42", b"s3cret");
        let text = text.unwrap().replace("old:$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$\n", "");
        let file = Passwords::parse(&text).unwrap();
        assert_eq!(file.len(), 1);
        assert_eq!(file.check("vin42", b"s3cret"), Some(true));
        assert_eq!(file.check("vin42", b"S3cret"), Some(false));
        assert_eq!(file.check("vin42", b""), Some(false));
        assert_eq!(file.check("vin4", b"s3cret"), None);
        assert!(text.starts_with("# fleet\n"), "what stood there stays");
        let changed = with_user(&text, "vin42", b"other").unwrap();
        assert_eq!(changed.lines().count(), 2, "replaced, not added");
        assert_eq!(Passwords::parse(&changed).unwrap().check("vin42", b"s3cret"), Some(false));
    }

    #[test]
    fn no_file_takes_lines_of_both_kinds() {
        let hash = entry("vin42", b"s3cret").unwrap();
        let verifier = super::super::scram::entry("vin43", "s3cret", &[7; super::super::scram::SALT]).unwrap();
        for (line, own, other, words) in [
            (&hash, Kind::Hashes, Kind::Verifiers, "line 3: the file holds argon2id hashes"),
            (
                &verifier,
                Kind::Verifiers,
                Kind::Hashes,
                "line 3: the file holds SCRAM-SHA-256 credentials",
            ),
        ] {
            let text = format!("# the fleet: $argon2id and SCRAM-SHA-256$\n\n{line}\n");
            assert_eq!(check_kind(&text, own), Ok(()));
            let why = check_kind(&text, other).unwrap_err();
            assert!(why.starts_with(words) && why.contains("another file"), "{why}");
            assert!(why.contains("--scram") && !why.contains("vin4"), "{why}");
        }
        assert_eq!(check_kind("", Kind::Hashes), Ok(()));
        // Who names the file under the other method learns which it is.
        let why = Passwords::parse(&verifier).unwrap_err();
        assert!(
            why.contains("line 1: a SCRAM-SHA-256 credential") && why.contains("`method: scram`"),
            "{why}"
        );
        let why = super::super::scram::Verifiers::parse(&hash).unwrap_err();
        assert!(
            why.contains("line 1: an argon2id hash") && why.contains("`method: password_file`"),
            "{why}"
        );
    }

    #[test]
    fn the_reference_implementation_s_hash_is_read() {
        // `echo -n password | argon2 somesalt -id -t 2 -k 65536 -p 1`, from the tests of the reference implementation.
        let line = "user:$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert_eq!(Passwords::parse(line).unwrap().check("user", b"password"), Some(true));
    }

    /// Of the first version, also where it is not written (PHC string format).
    #[test]
    fn a_hash_is_checked_by_its_own_version() {
        let params = Params::new(64, 2, 1, Some(32)).unwrap();
        let [old, new] = [Version::V0x10, Version::V0x13].map(|version| {
            let argon2 = Argon2::new(argon2::Algorithm::Argon2id, version, params.clone());
            argon2.hash_password_with_salt(b"password", b"somesalt").unwrap().to_string()
        });
        assert!(old.contains("$v=16$") && new.contains("$v=19$"), "{old} {new}");
        let unwritten = |line: &str, version| format!("user:{}", line.replace(version, "$"));
        let right = |line: &str| Passwords::parse(line).unwrap().check("user", b"password");
        for line in [format!("user:{old}"), format!("user:{new}"), unwritten(&old, "$v=16$")] {
            assert_eq!(right(&line), Some(true), "{line}");
        }
        assert_eq!(right(&unwritten(&new, "$v=19$")), Some(false));
        let costs = [&old, &new].map(|line| cost(&read_hash(line).unwrap()));
        assert_ne!(costs[0], costs[1]);
    }

    #[test]
    fn an_unknown_user_is_checked_against_hashes_as_costly() {
        let line = entry("a", b"b").unwrap();
        let file = Passwords::parse(&line).unwrap();
        for user in ["", "nobody", "vin42"] {
            assert_eq!(cost(file.nobody.hash(user)), cost(&file.users["a"]));
        }
        assert_eq!(file.check("nobody", b"nobody"), None);
        let empty = Passwords::parse("# nobody yet\n").unwrap();
        assert_eq!(cost(empty.nobody.hash("any")), Some((19 * 1024, 2, 1, Some(19))));
        assert_eq!(empty.check("nobody", b"nobody"), None, "the stand-in is nobody's password");
    }

    #[test]
    fn faults_tell_their_line_and_no_secret() {
        for (text, words) in [
            ("\nplainpassword", "line 2 has no `:`"),
            ("a:plainpassword", "line 1: no argon2id"),
            (
                "a:$argon2i$v=19$m=8,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
                "no argon2id",
            ),
            ("a:$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ", "no argon2id"),
            (
                "a:$argon2id$v=19$m=4194304,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
                "256 MiB",
            ),
            (
                "a:$argon2id$v=19$m=8,t=99999,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
                "16 passes",
            ),
            (
                "#\na:$argon2id$v=17$m=8,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
                "line 2: a hash of a version",
            ),
            (
                "a:$argon2id$v=19$m=8,t=1,p=2$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
                "line 1: no argon2id",
            ),
            (
                "a:$argon2id$v=19$m=8,t=1,p=1$c2FsdA$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
                "line 1: no argon2id",
            ),
            (":$argon2id$", "no legal name"),
        ] {
            let fault = Passwords::parse(text).unwrap_err();
            assert!(fault.contains(words), "{text}: {fault}");
            assert!(!fault.contains("plainpassword") && !fault.contains("c29tZXNhbHQ"), "{fault}");
        }
        let twice = format!("{0}\n{0}", entry("a", b"b").unwrap());
        assert!(Passwords::parse(&twice).unwrap_err().contains("second time"));
        for name in ["", "a:b", " a", "#a", "a\n"] {
            assert!(entry(name, b"x").is_err(), "{name:?}");
        }
    }
}
