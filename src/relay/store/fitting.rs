//! Which record goes by which pair, where the rules of the moment make others of a message than those of which the pairs were written down.
//!
//! Nearly always Kafka has the record of a pair already and looks at the pair only; so what matters is that no record goes by two pairs. What
//! follows, if one did: the program of a rule made two records of a message, Kafka has the first, and the owner dies; now the program makes
//! one. Said again by the second pair, which Kafka does not know, it would be there twice.
//!
//! A pair that is left without a record has none behind it, in its topic, that has one. So where a pair is left out, and those behind it in its
//! partition get others, nothing is said by those that Kafka may have by the former.

use crate::ownership::Pair;

/// A topic's id.
pub(super) type Id = [u8; 16];

/// For each pair the index of its record; `None`: the message makes no such record any more. `topics`: where the rules want each record,
/// `None` if nowhere.
pub(super) fn fitting(pairs: &[Pair], topics: &[Option<Id>]) -> Vec<Option<usize>> {
    let wants = |(pair, topic): (&Pair, &Option<Id>)| *topic == Some(pair.source.topic);
    if pairs.len() == topics.len() && pairs.iter().zip(topics).all(wants) {
        return (0..pairs.len()).map(Some).collect();
    }
    let mut free = vec![true; topics.len()];
    let mut take = |fits: &dyn Fn(&Option<Id>) -> bool| {
        let found = (0..topics.len()).find(|at| free[*at] && fits(&topics[*at]));
        found.inspect(|at| free[*at] = false)
    };
    // The first of a topic by its first pair, and so on. Then what is left, whatever its topic.
    let mut fitting: Vec<_> = pairs.iter().map(|pair| take(&|topic| *topic == Some(pair.source.topic))).collect();
    for fit in fitting.iter_mut().filter(|fit| fit.is_none()) {
        *fit = take(&|_| true);
    }
    fitting
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ownership::Source;

    /// A letter for each topic; a dot is a record that the rules want nowhere.
    fn fit(pairs: &str, records: &str) -> String {
        let id = |letter: u8| [letter; 16];
        let pair = |letter| Pair {
            source: Source {
                topic: id(letter),
                partition: 0,
            },
            producer: 1,
            epoch: 0,
            sequence: 0,
        };
        let pairs: Vec<_> = pairs.bytes().map(pair).collect();
        let records: Vec<_> = records.bytes().map(|letter| (letter != b'.').then(|| id(letter))).collect();
        let fitting = fitting(&pairs, &records);
        fitting.iter().map(|fit| fit.map_or("-".to_owned(), |at| at.to_string())).collect()
    }

    #[test]
    fn each_record_goes_by_one_pair() {
        for (pairs, records, fits) in [
            ("tut", "tut", "012"),
            // The rules write elsewhere.
            ("t", "u", "0"),
            ("tu", "ut", "10"),
            ("tt", "uu", "01"),
            ("t", ".", "0"),
            // Fewer than before: the last pairs have none.
            ("tt", "t", "0-"),
            ("ttu", "ut", "1-0"),
            ("tut", "u", "-0-"),
            ("tut", "v", "0--"),
            ("tt", "", "--"),
            // More than before: they are left out.
            ("t", "ut", "1"),
            ("t", "tt", "0"),
        ] {
            assert_eq!(fit(pairs, records), fits, "{pairs} {records}");
        }
    }
}
