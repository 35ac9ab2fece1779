//! What passwords of unknown users are checked against.

use std::collections::HashMap;

use argon2::Params;
use argon2::password_hash::phc::PasswordHash;
use aws_lc_rs::{digest, hmac};

/// A hash of each cost that there is, so that a password of an unknown user takes the time of a known one: each cost comes to as large a part of
/// unknown users as of known ones, and to a user always the same, at all instances that have the file.
///
/// It is drawn by chance that the file's secret makes, the comment `# salts:`, so that lines move users only by how many each cost has. A file without
/// one has the chance that its lines make: each line has a place on a ring, and a user, by the name alone, has that of the line behind.
/// So a line that changes, comes or goes, whichever it is, moves users who have it, about one of as many as there are lines. Of the others move only
/// those by whom its cost gains or loses a line, about as many.
///
/// An outsider can compute a user's place on the ring, and no line's: so neither which users have the same line, nor, of any of them, the cost. Who
/// has the text of a line can foretell the costs of those who have it, and of no others. Who compares times before and behind many changes sees
/// those move, in the end, who are nobody: with the lines the chance changes, too.
pub(super) struct StandIns {
    /// With how many users have its cost.
    hashes: Vec<(usize, PasswordHash)>,
    /// What each line makes: its place and its secret. In order.
    ring: Vec<[u8; 32]>,
    /// Of the file.
    secret: Option<[u8; 32]>,
}

impl StandIns {
    /// For users with these lines and hashes; `default` if there are none. `secret` is that of the file, if it has one.
    pub(super) fn of<'a>(
        lines: impl Iterator<Item = (&'a str, &'a PasswordHash)>,
        secret: Option<&str>,
        default: impl FnOnce() -> Result<PasswordHash, String>,
    ) -> Result<Self, String> {
        let (mut places, mut hashes) = (HashMap::new(), Vec::<(usize, PasswordHash)>::new());
        let mut ring = Vec::new();
        for (line, hash) in lines {
            ring.push(sha256(line));
            let place = *places.entry(cost(hash)).or_insert(hashes.len());
            match hashes.get_mut(place) {
                Some((count, _)) => *count += 1,
                None => hashes.push((1, hash.clone())),
            }
        }
        if hashes.is_empty() {
            hashes.push((1, default()?));
        }
        ring.sort_unstable();
        let secret = secret.map(sha256);
        Ok(Self { hashes, ring, secret })
    }

    /// What makes the chance of this user.
    fn secret(&self, user: &str) -> hmac::Key {
        if let Some(secret) = &self.secret {
            return hmac::Key::new(hmac::HMAC_SHA256, secret);
        }
        let place = sha256(user);
        let behind = self.ring.partition_point(|line| *line < place);
        let line = self.ring.get(behind).or(self.ring.first());
        hmac::Key::new(hmac::HMAC_SHA256, line.map_or(&[], |line| line))
    }

    /// Of several files that with the highest lot has an unknown user: each as large a part of them as it has of all lines.
    pub(super) fn lot(&self, user: &str) -> f64 {
        lot(&self.secret(user), &["file", user], self.ring.len())
    }

    /// What a user who is not there is checked against.
    pub(super) fn hash(&self, user: &str) -> &PasswordHash {
        let secret = self.secret(user);
        let lots = self.hashes.iter().map(|(count, hash)| {
            let what = format!("{:?}", cost(hash));
            (lot(&secret, &["cost", &what, user], *count), hash)
        });
        let highest = lots.max_by(|(one, _), (other, _)| one.total_cmp(other));
        highest.map_or(&self.hashes[0].1, |(_, hash)| hash)
    }
}

/// The lot of one of several, by chance that is always the same for `what`. It is the highest for as large a part as its weight is of all; if the
/// weight of one changes, only that one gains or loses (rendezvous hashing with weights).
fn lot(secret: &hmac::Key, what: &[&str], weight: usize) -> f64 {
    let tag = hmac::sign(secret, what.join("\0").as_bytes());
    let chance = tag.as_ref().iter().take(6).fold(0u64, |sum, byte| (sum << 8) | u64::from(*byte));
    // Between 0 and 1, and neither of them.
    let chance = (chance as f64 + 0.5) / (1u64 << 48) as f64;
    chance.ln() / weight as f64
}

fn sha256(text: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    out
}

/// What a check takes. Versions of argon2 differ in how they write over memory.
pub(super) fn cost(hash: &PasswordHash) -> Option<(u32, u32, u32, Option<u32>)> {
    let params = Params::try_from(hash).ok()?;
    Some((params.m_cost(), params.t_cost(), params.p_cost(), hash.version))
}

#[cfg(test)]
mod tests {
    use super::super::{passwords::Passwords, scram::with_salts};
    use super::*;

    /// So many users whose hashes have this cost; the hashes are nobody's.
    fn lines(name: &str, count: usize, memory: u32) -> String {
        let secret = "c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        let line = |at| format!("{name}{at}:$argon2id$v=19$m={memory},t=1,p=1${secret}\n");
        (0..count).map(line).collect()
    }

    /// How many of a thousand unknown users cost how much memory.
    fn costs_of_unknown(hash: impl Fn(&str) -> Option<(u32, u32, u32, Option<u32>)>) -> HashMap<u32, usize> {
        let mut counts = HashMap::new();
        for at in 0..1_000 {
            let (memory, ..) = hash(&format!("unknown{at}")).unwrap();
            *counts.entry(memory).or_default() += 1;
        }
        counts
    }

    /// Half, three tenths and two tenths, within six standard deviations.
    fn are_as_of_known(counts: &HashMap<u32, usize>) -> bool {
        [(8, 500), (16, 300), (32, 200)]
            .iter()
            .all(|(memory, wanted)| counts[memory].abs_diff(*wanted) < 95)
    }

    /// What an unknown user costs with these files.
    fn cost_over(files: &[Passwords], user: &str) -> Option<(u32, u32, u32, Option<u32>)> {
        let (_, file) = Passwords::that_asks(files.iter().enumerate().collect(), user)?;
        cost(file.nobody.hash(user))
    }

    /// How many of a thousand unknown users cost something else with these texts of files than with those.
    fn moved(these: &[String], those: &[String]) -> usize {
        let [these, those] = [these, those].map(|texts| {
            let files = texts.iter().map(|text| Passwords::parse(text).unwrap());
            files.collect::<Vec<_>>()
        });
        let users = (0..1_000).map(|at| format!("unknown{at}"));
        users.filter(|user| cost_over(&these, user) != cost_over(&those, user)).count()
    }

    #[test]
    fn where_hashes_differ_the_time_does_not_tell_who_is_known() {
        let text = lines("a", 50, 8) + &lines("b", 30, 16) + &lines("c", 20, 32);
        let file = Passwords::parse(&text).unwrap();
        let counts = costs_of_unknown(|user| cost(file.nobody.hash(user)));
        assert!(are_as_of_known(&counts), "{counts:?}");
    }

    #[test]
    fn whichever_line_changes_it_is_another_for_few() {
        let texts = [
            lines("a", 50, 8) + &lines("b", 30, 16),
            String::new(),
            "# c\n".to_owned() + &lines("c", 20, 32),
        ];
        assert_eq!(moved(&texts, &texts), 0, "the same at another instance");
        let edits: [fn(&str) -> String; 3] = [
            |line| line.replace("c29tZXNhbHQ$", "b3RoZXJzYWw$") + "\n",
            |_| String::new(),
            |line| format!("{line}\nx{line}\n"),
        ];
        for (name, edit) in ["a0:", "a49:", "b13:", "c0:", "c19:"]
            .iter()
            .flat_map(|name| edits.map(|edit| (name, edit)))
        {
            let edited = texts.each_ref().map(|text| {
                let lines = text
                    .lines()
                    .map(|line| if line.starts_with(name) { edit(line) } else { format!("{line}\n") });
                lines.collect::<String>()
            });
            assert_ne!(edited, texts, "{name}");
            assert!(moved(&texts, &edited) < 70, "{name}: {}", moved(&texts, &edited));
        }
    }

    /// Or who knows what some cost could tell it of others, since places on the ring are no secret.
    #[test]
    fn users_of_one_line_do_not_cost_the_same() {
        let file = Passwords::parse(&(lines("a", 1, 8) + &lines("b", 1, 16))).unwrap();
        let mut seen = HashMap::<_, usize>::new();
        for user in (0..1_000).map(|at| format!("unknown{at}")) {
            let line = sha256(&user) < file.nobody.ring[0] || sha256(&user) >= file.nobody.ring[1];
            *seen.entry((line, cost(file.nobody.hash(&user)))).or_default() += 1;
        }
        assert_eq!(seen.len(), 4, "{seen:?}");
        let of = |line| {
            seen.iter()
                .filter(|(key, _)| key.0 == line)
                .map(|(_, count)| *count)
                .collect::<Vec<_>>()
        };
        assert!([of(true), of(false)].iter().all(|of| of[0].abs_diff(of[1]) < 190), "{seen:?}");
    }

    /// Whoever may write a line, or sees all of them made anew, learns nothing of who is nobody.
    #[test]
    fn with_a_secret_of_the_file_its_lines_do_not_move_what_unknown_users_cost() {
        let secret = |byte: u8| with_salts(String::new(), &[byte; 32]);
        let text = |secret: &str, name: &str| secret.to_owned() + &lines(name, 50, 8) + &lines(&format!("{name}b"), 50, 16);
        let one = [text(&secret(1), "a")];
        assert_eq!(moved(&one, &[text(&secret(1), "c")]), 0);
        let other = moved(&one, &[text(&secret(2), "a")]);
        assert!(other.abs_diff(500) < 95, "{other}");
        let counts = costs_of_unknown(|user| cost_over(&[Passwords::parse(&one[0]).unwrap()], user));
        assert!(counts[&8].abs_diff(500) < 95, "{counts:?}");
    }

    #[test]
    fn over_several_files_it_does_not_either() {
        let texts = [lines("a", 50, 8) + &lines("b", 30, 16), String::new(), lines("c", 20, 32)];
        let files = texts.map(|text| Passwords::parse(&text).unwrap());
        let all = || files.iter().enumerate().collect::<Vec<_>>();
        for (user, file) in [("a49", 0), ("b0", 0), ("c19", 2)] {
            assert_eq!(Passwords::that_asks(all(), user).unwrap().0, file, "{user}");
        }
        let counts = costs_of_unknown(|user| cost_over(&files, user));
        assert!(are_as_of_known(&counts), "{counts:?}");
        let empty = Passwords::parse("").unwrap();
        assert_eq!(Passwords::that_asks(vec![(7, &empty), (8, &empty)], "any").unwrap().0, 8);
        assert!(Passwords::that_asks(Vec::<(usize, &Passwords)>::new(), "any").is_none());
    }
}
