//! What is worth a line in the log of something that fails or does not, however often it is asked.

use std::time::Duration;

use tokio::time::Instant;

/// What was told is not told again before.
const QUIET: Duration = Duration::from_secs(60);
/// Lines within that time.
const MOST: usize = 4;
/// Characters by which reasons are told apart: whoever answers may make them up.
const LONGEST: usize = 256;

/// What was told last, and all that was in the last minute, the newest at the end. `None` stands for "answers again".
#[derive(Debug, Default)]
pub(super) struct News(Vec<(Option<Box<str>>, Instant)>);

impl News {
    /// Whether it is to be told what has come of a question: why it failed, or `None`. It is not while it is what was told last, or was told within the last minute, or
    /// four lines were. So what stays as it is is told in the end, at the first question behind that minute.
    pub(super) fn is_to_tell(&mut self, wrong: Option<&str>, now: Instant) -> bool {
        let wrong = wrong.map(|why| &why[..why.char_indices().nth(LONGEST).map_or(why.len(), |(at, _)| at)]);
        let last = self.0.last().and_then(|(what, _)| what.as_deref());
        if last == wrong {
            return false;
        }
        // If the last one goes all go, and this is told.
        self.0.retain(|(_, told)| now.saturating_duration_since(*told) < QUIET);
        if self.0.len() >= MOST || self.0.iter().any(|(what, _)| what.as_deref() == wrong) {
            return false;
        }
        self.0.push((wrong.map(Box::from), now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of these questions, which are so many seconds after the first.
    fn told<'a>(news: &mut News, began: Instant, questions: &[(u64, Option<&'a str>)]) -> Vec<(u64, Option<&'a str>)> {
        let mut questions = questions.to_vec();
        questions.retain(|(at, wrong)| news.is_to_tell(*wrong, began + Duration::from_secs(*at)));
        questions
    }

    #[test]
    fn a_reason_is_told_once_and_its_end() {
        let (mut news, began) = (News::default(), Instant::now());
        let questions = [
            (0, None),
            (1, Some("a")),
            (2, Some("a")),
            (3, Some("b")),
            (4, None),
            (5, None),
            (500, None),
            (501, Some("a")),
            (900, Some("a")),
            (901, None),
        ];
        let wanted = [(1, Some("a")), (3, Some("b")), (4, None), (501, Some("a")), (901, None)];
        assert_eq!(told(&mut news, began, &questions), wanted);
    }

    #[test]
    fn who_fails_and_answers_in_turn_has_two_lines_a_minute() {
        let (mut news, began) = (News::default(), Instant::now());
        let turns: Vec<_> = (0..180).map(|at| (at, (at % 2 == 0).then_some("a"))).collect();
        let wanted = [0, 60, 120].map(|at| [(at, Some("a")), (at + 1, None)]).concat();
        assert_eq!(told(&mut news, began, &turns), wanted);
    }

    #[test]
    fn the_last_word_is_right_where_things_stay_as_they_are() {
        for stays in [Some("a"), Some("c"), None] {
            let (mut news, began) = (News::default(), Instant::now());
            let turns = [Some("a"), None, Some("b"), Some("c"), None, Some("a"), Some("b")];
            let turns: Vec<_> = (0..70).map(|at| (at / 5, turns[at as usize % turns.len()])).collect();
            told(&mut news, began, &turns);
            let rest: Vec<_> = (14..200).map(|at| (at, stays)).collect();
            told(&mut news, began, &rest);
            let last = news.0.last().unwrap().0.as_deref();
            assert_eq!(last, stays);
        }
    }

    #[test]
    fn reasons_that_are_made_up_are_bounded_in_lines_and_memory() {
        let (mut news, began) = (News::default(), Instant::now());
        let reasons: Vec<String> = (0..6_000).map(|at| format!("{at}{}", "ä".repeat(9_999))).collect();
        let mut lines = Vec::new();
        for (at, why) in reasons.iter().enumerate() {
            let now = began + Duration::from_millis(at as u64 * 100);
            if news.is_to_tell(Some(why), now) {
                lines.push(now);
            }
            assert!(
                news.0
                    .iter()
                    .all(|(what, _)| what.as_ref().is_some_and(|what| what.chars().count() <= LONGEST))
            );
        }
        assert_eq!(lines.len(), 10 * MOST);
        assert!(lines.windows(MOST + 1).all(|lines| lines[MOST] - lines[0] >= QUIET));
        assert!(news.0.len() <= MOST);
    }
}
