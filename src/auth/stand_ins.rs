//! What passwords of unknown users are checked against.

use std::collections::HashMap;

use argon2::Params;
use argon2::password_hash::phc::PasswordHash;
use aws_lc_rs::hmac;

/// A hash of each cost that there is, so that a password of an unknown user takes the time of a known one: each cost comes to as large a part of
/// unknown users as of known ones, and to a user always the same, at all instances that have the file. Users who come and go move it for few.
pub(super) struct StandIns {
    /// With how many users have its cost or that of one before it.
    hashes: Vec<(usize, PasswordHash)>,
    /// Of the first line: nobody else has it.
    secret: hmac::Key,
}

impl StandIns {
    /// For users with these hashes, in the order of the file; `default` if there are none.
    pub(super) fn of<'a>(
        hashes: impl Iterator<Item = &'a PasswordHash>,
        default: impl FnOnce() -> Result<PasswordHash, String>,
    ) -> Result<Self, String> {
        let (mut places, mut counted) = (HashMap::new(), Vec::<(usize, PasswordHash)>::new());
        for hash in hashes {
            let place = *places.entry(cost(hash)).or_insert(counted.len());
            match counted.get_mut(place) {
                Some((count, _)) => *count += 1,
                None => counted.push((1, hash.clone())),
            }
        }
        if counted.is_empty() {
            counted.push((1, default()?));
        }
        let secret = hmac::Key::new(hmac::HMAC_SHA256, counted[0].1.to_string().as_bytes());
        let mut all = 0;
        for (count, _) in &mut counted {
            all += *count;
            *count = all;
        }
        Ok(Self { hashes: counted, secret })
    }

    /// A place below `all` (0 if that is 0), by chance that is always the same for a user. What is drawn of one user for several purposes has nothing
    /// to do with each other.
    pub(super) fn place(&self, purpose: &str, user: &str, all: usize) -> usize {
        let tag = hmac::sign(&self.secret, &[purpose.as_bytes(), b"\0", user.as_bytes()].concat());
        let chance = tag.as_ref().iter().take(8).fold(0u128, |sum, byte| (sum << 8) | u128::from(*byte));
        ((chance * all as u128) >> 64) as usize
    }

    /// What a user who is not there is checked against.
    pub(super) fn hash(&self, user: &str) -> &PasswordHash {
        let all = self.hashes.last().map_or(0, |(all, _)| *all);
        let place = self.place("cost", user, all);
        &self.hashes[self.hashes.partition_point(|(up_to, _)| *up_to <= place)].1
    }
}

/// What a check takes.
pub(super) fn cost(hash: &PasswordHash) -> Option<(u32, u32, u32)> {
    let params = Params::try_from(hash).ok()?;
    Some((params.m_cost(), params.t_cost(), params.p_cost()))
}

#[cfg(test)]
mod tests {
    use super::super::passwords::Passwords;
    use super::*;

    /// So many users whose hashes have this cost; the hashes are nobody's.
    fn lines(name: &str, count: usize, memory: u32) -> String {
        let secret = "c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        let line = |at| format!("{name}{at}:$argon2id$v=19$m={memory},t=1,p=1${secret}\n");
        (0..count).map(line).collect()
    }

    /// How many of a thousand unknown users cost how much memory.
    fn costs_of_unknown(hash: impl Fn(&str) -> Option<(u32, u32, u32)>) -> HashMap<u32, usize> {
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

    #[test]
    fn where_hashes_differ_the_time_does_not_tell_who_is_known() {
        let text = lines("a", 50, 8) + &lines("b", 30, 16) + &lines("c", 20, 32);
        let file = Passwords::parse(&text).unwrap();
        let of = |file: &Passwords| costs_of_unknown(|user| cost(file.nobody.hash(user)));
        assert!(are_as_of_known(&of(&file)), "{:?}", of(&file));
        // The same at another instance, and for all but few when somebody comes.
        let grown = Passwords::parse(&(text.clone() + &lines("d", 1, 8))).unwrap();
        let again = Passwords::parse(&text).unwrap();
        let moved = |other: &Passwords| {
            let users = (0..1_000).map(|at| format!("unknown{at}"));
            users
                .filter(|user| cost(file.nobody.hash(user)) != cost(other.nobody.hash(user)))
                .count()
        };
        assert_eq!(moved(&again), 0);
        assert!(moved(&grown) < 50, "{}", moved(&grown));
    }

    #[test]
    fn over_several_files_it_does_not_either() {
        let texts = [lines("a", 50, 8) + &lines("b", 30, 16), String::new(), lines("c", 20, 32)];
        let files = texts.map(|text| Passwords::parse(&text).unwrap());
        let all = || files.iter().enumerate().collect::<Vec<_>>();
        for (user, file) in [("a49", 0), ("b0", 0), ("c19", 2)] {
            assert_eq!(Passwords::that_asks(all(), user).unwrap().0, file, "{user}");
        }
        let counts = costs_of_unknown(|user| {
            let (_, file) = Passwords::that_asks(all(), user)?;
            cost(file.nobody.hash(user))
        });
        assert!(are_as_of_known(&counts), "{counts:?}");
        let empty = Passwords::parse("").unwrap();
        assert_eq!(Passwords::that_asks(vec![(7, &empty), (8, &empty)], "any").unwrap().0, 8);
        assert!(Passwords::that_asks(Vec::<(usize, &Passwords)>::new(), "any").is_none());
    }
}
