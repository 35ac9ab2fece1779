//! SCRAM-SHA-256 (RFC 5802, RFC 7677) as a server, without channel binding: the two messages of a client against a file of verifiers.
//!
//! The file holds what PostgreSQL stores, `name:SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`, one user a line: whoever reads it cannot
//! log in with it. A user whom nobody knows gets a salt and iterations like all others, and is refused where a wrong password is.
//!
//! Such salts are made with a secret, the same on all instances that have the file. It is a comment of the file, `# salts:` and 32 bytes of chance.
//! A file without one has none but its whole text: then its salts become others with each change, while those of users stay, and who knows a part
//! of the text can try the rest.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};

use super::Principal;
use super::passwords::Kind;

/// The method's name in CONNECT.
pub const METHOD: &str = "SCRAM-SHA-256";
/// Bytes of a salt that is made.
pub const SALT: usize = 16;
/// Iterations of a verifier that is made: RFC 7677 §4 asks for 15,000 and more. The client pays for them.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(16_384).expect("it is not zero");
/// Fewest iterations that are taken (RFC 7677 §4), and most: clients would not answer in time.
const FEWEST: u32 = 4_096;
const MOST: u32 = 1_000_000;
/// So the comment begins that makes the salts of users that are not there.
const SALTS: &str = "# salts:";
/// Users of one file at most.
const MOST_USERS: usize = 1_000_000;
/// Bytes of a client's longest message.
const LONGEST: usize = 2_048;
/// Bytes of a client's longest nonce.
const LONGEST_NONCE: usize = 256;

/// What is kept of one password.
#[derive(Clone)]
struct Verifier {
    iterations: NonZeroU32,
    salt: Box<[u8]>,
    stored_key: [u8; 32],
    server_key: [u8; 32],
}

/// Users and their verifiers. `Debug` shows how many.
pub struct Verifiers {
    users: HashMap<Box<str>, Verifier>,
    /// Makes salts of users that are not there: the same on all instances that have this file.
    nobody: hmac::Key,
    iterations: NonZeroU32,
}

impl fmt::Debug for Verifiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifiers({} users)", self.users.len())
    }
}

impl Verifiers {
    /// Reads the text of a file; empty lines and `#` comments may stand between.
    ///
    /// # Errors
    /// What is wrong, with its line, never with what stands there.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut users = HashMap::<Box<str>, Verifier>::new();
        let mut first = None;
        for (at, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, verifier) = line.split_once(':').ok_or_else(|| format!("line {at} has no `:` after the name"))?;
            if Principal::new(name).is_none() {
                return Err(format!("line {at} has no legal name: 1 to {} bytes", super::LONGEST_IDENTITY));
            }
            let verifier = Verifier::read(verifier).ok_or_else(|| {
                if Kind::of(verifier) == Some(Kind::Hashes) {
                    return format!("line {at}: an argon2id hash, and no verifier of SCRAM-SHA-256; name such a file under `method: password_file`");
                }
                format!("line {at}: no verifier of SCRAM-SHA-256 with {FEWEST} to {MOST} iterations; make lines with `mqtt-kafka-proxy password --scram`")
            })?;
            first.get_or_insert_with(|| verifier.clone());
            if users.insert(name.into(), verifier).is_some() {
                return Err(format!("line {at} names a user for the second time"));
            }
            if users.len() > MOST_USERS {
                return Err(format!("more than {MOST_USERS} users"));
            }
        }
        // Not of a verifier: its user could compute it.
        let secret = sha256(salts_of(text).unwrap_or(text).as_bytes());
        Ok(Self {
            users,
            nobody: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            iterations: first.map_or(ITERATIONS, |verifier| verifier.iterations),
        })
    }

    /// Whether there is such a user.
    pub fn knows(&self, user: &str) -> bool {
        self.users.contains_key(user)
    }

    /// A user's verifier, or one that no password fits.
    fn of(&self, user: &str) -> (Verifier, bool) {
        // Made in any case: it takes the time of the search.
        let made = |what: &[u8]| array(hmac::sign(&self.nobody, &[what, user.as_bytes()].concat()).as_ref());
        let salt = made(b"salt\0");
        let unfit = Verifier {
            iterations: self.iterations,
            salt: salt[..SALT].into(),
            stored_key: made(b"stored\0"),
            server_key: made(b"server\0"),
        };
        match self.users.get(user) {
            Some(known) => (known.clone(), true),
            None => (unfit, false),
        }
    }
}

impl Verifier {
    fn read(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(METHOD)?.strip_prefix('$')?;
        let (head, keys) = rest.split_once('$')?;
        let (iterations, salt) = head.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let key = |text| <[u8; 32]>::try_from(BASE64.decode(text).ok()?).ok();
        let iterations: NonZeroU32 = iterations.parse().ok()?;
        let salt = BASE64.decode(salt).ok().filter(|salt| !salt.is_empty())?;
        (FEWEST..=MOST).contains(&iterations.get()).then_some(Self {
            iterations,
            salt: salt.into(),
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
        })
    }

    fn make(password: &[u8], salt: &[u8; SALT]) -> Self {
        let mut salted = zeroize::Zeroizing::new([0; 32]);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ITERATIONS, salt, password, &mut *salted);
        Self {
            iterations: ITERATIONS,
            salt: salt.as_slice().into(),
            stored_key: sha256(&mac(&*salted, b"Client Key")),
            server_key: mac(&*salted, b"Server Key"),
        }
    }
}

/// The line of a user. `salt` is the caller's chance.
///
/// # Errors
/// The name or the password cannot be one. Passwords are ASCII: others would have to be prepared (RFC 4013), and not all clients do it alike.
pub fn entry(user: &str, password: &str, salt: &[u8; SALT]) -> Result<String, String> {
    super::passwords::check_name(user)?;
    if password.is_empty() || !password.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err("a password for SCRAM has only printable ASCII characters".to_owned());
    }
    let Verifier {
        iterations,
        salt,
        stored_key,
        server_key,
    } = Verifier::make(password.as_bytes(), salt);
    let [salt, stored_key, server_key] = [&salt[..], &stored_key, &server_key].map(|bytes| BASE64.encode(bytes));
    Ok(format!("{user}:{METHOD}${iterations}:{salt}${stored_key}:{server_key}"))
}

/// The comment with the secret. One that only begins like it is somebody's own.
pub(super) fn salts_of(text: &str) -> Option<&str> {
    text.lines().map(str::trim).find(|line| {
        let secret = line.strip_prefix(SALTS).and_then(|rest| BASE64.decode(rest.trim()).ok());
        secret.is_some_and(|secret| secret.len() == 32)
    })
}

/// A file's text with the secret that makes the salts of unknown users, as it was or of this chance.
pub fn with_salts(text: String, chance: &[u8; 32]) -> String {
    match salts_of(&text) {
        Some(_) => text,
        None => format!("{SALTS} {}\n{text}", BASE64.encode(chance)),
    }
}

/// An exchange whose challenge is with the client.
pub struct Exchange {
    user: Box<str>,
    verifier: Verifier,
    known: bool,
    /// What channel binding the client has named, as it must repeat it.
    header: Box<str>,
    nonce: Box<str>,
    /// `client-first-message-bare`, a comma, `server-first-message`, a comma.
    said: String,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Exchange of {}", self.user)
    }
}

/// The client's first message, taken apart.
struct First<'a> {
    header: &'a str,
    bare: &'a str,
    user: String,
    nonce: &'a str,
}

impl Exchange {
    /// Takes `client-first-message`. Of the files the first that knows the user counts; which it is comes back with the challenge. `nonce` is
    /// the caller's chance: printable ASCII without a comma.
    ///
    /// # Errors
    /// It is no such message, or wants something that is not there: a word for logs.
    pub fn begin<'a>(
        files: impl Iterator<Item = &'a Verifiers> + Clone,
        message: &[u8],
        nonce: &str,
    ) -> Result<(Self, usize, Vec<u8>), &'static str> {
        let First {
            header,
            bare,
            user,
            nonce: theirs,
        } = First::read(message).ok_or("scram_malformed")?;
        let mut numbered = files.enumerate();
        let (at, file) = numbered
            .clone()
            .find(|(_, file)| file.knows(&user))
            .or_else(|| numbered.next())
            .ok_or("scram_without_file")?;
        let (verifier, known) = file.of(&user);
        let nonce = format!("{theirs}{nonce}");
        let challenge = format!("r={nonce},s={},i={}", BASE64.encode(&verifier.salt), verifier.iterations);
        let exchange = Self {
            said: format!("{bare},{challenge},"),
            user: user.into(),
            verifier,
            known,
            header: BASE64.encode(header).into(),
            nonce: nonce.into(),
        };
        Ok((exchange, at, challenge.into_bytes()))
    }

    /// Takes `client-final-message`: who the client is, and the proof that we know its password, too.
    ///
    /// # Errors
    /// It does not know the password: a word for logs. The client is not told.
    pub fn finish(self, message: &[u8]) -> Result<(Principal, Vec<u8>), &'static str> {
        let text = text(message).ok_or("scram_malformed")?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or("scram_malformed")?;
        let proof: [u8; 32] = BASE64
            .decode(proof)
            .ok()
            .and_then(|proof| proof.try_into().ok())
            .ok_or("scram_malformed")?;
        let mut parts = without_proof.split(',');
        let mut part = |name: &str| parts.next().and_then(|part| part.strip_prefix(name));
        if part("c=") != Some(&*self.header) || part("r=") != Some(&*self.nonce) || part("m=").is_some() {
            return Err("scram_malformed");
        }
        let said = self.said + without_proof;
        let signature = mac(&self.verifier.stored_key, said.as_bytes());
        let mut client_key = proof;
        client_key.iter_mut().zip(signature).for_each(|(byte, mask)| *byte ^= mask);
        let fits = constant_time::verify_slices_are_equal(&sha256(&client_key), &self.verifier.stored_key).is_ok();
        if !self.known {
            return Err("unknown_credentials");
        }
        if !fits {
            return Err("wrong_password");
        }
        let principal = Principal::new(&self.user).ok_or("identity_not_legal")?;
        let ours = format!("v={}", BASE64.encode(mac(&self.verifier.server_key, said.as_bytes())));
        Ok((principal, ours.into_bytes()))
    }
}

impl<'a> First<'a> {
    /// `n,,n=user,r=nonce` (RFC 5802 §7).
    fn read(message: &'a [u8]) -> Option<Self> {
        let text = text(message)?;
        // Channel binding that a client could do is none that it asks for; one that it asks for (`p=`) is not there.
        let rest = text.strip_prefix("n,").or_else(|| text.strip_prefix("y,"))?;
        let (authorization, bare) = rest.split_once(',')?;
        let header = &text[..text.len() - bare.len()];
        let mut parts = bare.split(',');
        // Before these only an extension that we would have to know could stand ("m=").
        let user = name(parts.next()?.strip_prefix("n=")?)?;
        let nonce = parts.next()?.strip_prefix("r=")?;
        let is_nonce = !nonce.is_empty() && nonce.len() <= LONGEST_NONCE && nonce.bytes().all(|byte| byte.is_ascii_graphic());
        // Who wants to act as somebody else is not let in.
        let as_himself = authorization.is_empty() || authorization.strip_prefix("a=").and_then(name).is_some_and(|other| other == user);
        (is_nonce && as_himself).then_some(Self { header, bare, user, nonce })
    }
}

/// Whom `client-first-message` names, for logs; `None` if it is no such message.
pub fn user_of(message: &[u8]) -> Option<String> {
    First::read(message).map(|first| first.user)
}

/// A name without its escapes (§5.1), if it can be an identity.
fn name(text: &str) -> Option<String> {
    let mut pieces = text.split('=');
    let mut name = pieces.next()?.to_owned();
    for piece in pieces {
        let (plain, rest) = match (piece.strip_prefix("2C"), piece.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return None,
        };
        name.push(plain);
        name += rest;
    }
    Principal::new(&name).map(|_| name)
}

fn text(message: &[u8]) -> Option<&str> {
    std::str::from_utf8(message).ok().filter(|text| text.len() <= LONGEST)
}

fn mac(key: &[u8], message: &[u8]) -> [u8; 32] {
    array(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref())
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    array(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn array(hash: &[u8]) -> [u8; 32] {
    hash.try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
#[path = "scram_tests.rs"]
mod tests;
