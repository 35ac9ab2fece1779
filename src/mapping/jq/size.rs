//! How large a program may be, and the stack that it is compiled on.
//!
//! Lexer, parser and compiler go down a level for each bracket, for each operator and for each word such as `try`, and what the parser made
//! is dropped by recursion, too. So all that is done on a stack that suffices for the longest text, whatever it is made of; and a program
//! has so few tokens that the stack of a run suffices for what the interpreter makes of them.

use std::cell::Cell;
use std::{io, thread};

use jaq_core::load::lex::{Lexer, StrPart, Tok, Token};
use jaq_core::load::span;

use crate::mapping::fault::Wrong;

/// Bytes of a program: beyond that it is no mapping any more.
pub(super) const LONGEST_PROGRAM: usize = 64 << 10;
/// Words, numbers, strings, operators and brackets of a program.
const MOST_TOKENS: usize = 4_000;
/// Brackets within each other.
const MOST_NESTED: usize = 100;
/// Bytes of stack, of which only what is used takes memory: for 65,536 brackets before they are counted, and then for the most tokens.
const STACK: usize = 256 << 20;

thread_local! {
    /// Whether this thread has such a stack.
    static IS_LARGE: Cell<bool> = const { Cell::new(false) };
}

/// Runs on a stack that suffices to compile any program: that of this thread, if it is one, or that of another.
///
/// # Errors
/// The system has no thread; nothing was run.
pub(in crate::mapping) fn on_large_stack<T: Send>(run: impl FnOnce() -> T + Send) -> io::Result<T> {
    if IS_LARGE.get() {
        return Ok(run());
    }
    let marked = || {
        IS_LARGE.set(true);
        run()
    };
    thread::scope(|scope| {
        let started = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, marked)?;
        Ok(started.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// To be called on a large stack.
///
/// # Errors
/// The text is too long, or too much of something: at the first that is too much.
pub(super) fn check(text: &str) -> Result<(), Wrong> {
    if text.len() > LONGEST_PROGRAM {
        return Err(Wrong::new(
            LONGEST_PROGRAM,
            "the program is longer than 64 KiB",
            "write a shorter one",
        ));
    }
    // What cannot be read at all is told by the loader.
    let Ok(tokens) = Lexer::new(text).lex() else { return Ok(()) };
    let mut seen = Seen { text, tokens: 0, open: 0 };
    seen.all(&tokens)
}

struct Seen<'s> {
    text: &'s str,
    tokens: usize,
    open: usize,
}

impl Seen<'_> {
    fn all(&mut self, tokens: &[Token<&str>]) -> Result<(), Wrong> {
        tokens.iter().try_for_each(|token| self.one(token))
    }

    fn one(&mut self, Token(written, kind): &Token<&str>) -> Result<(), Wrong> {
        self.tokens += 1;
        if self.tokens > MOST_TOKENS {
            let message = "the program has more than 4,000 words and signs";
            return Err(self.wrong(written, message, "write a shorter one; rows of a table belong into `lookup`"));
        }
        match kind {
            Tok::Block(within) => self.block(written, within),
            Tok::Str(parts) => parts.iter().try_for_each(|part| match part {
                StrPart::Term(token) => self.one(token),
                StrPart::Str(_) | StrPart::Char(_) => Ok(()),
            }),
            Tok::Word | Tok::Var | Tok::Fmt | Tok::Num | Tok::Sym => Ok(()),
        }
    }

    fn block(&mut self, written: &str, within: &[Token<&str>]) -> Result<(), Wrong> {
        self.open += 1;
        if self.open > MOST_NESTED {
            let message = "more than 100 brackets within each other";
            return Err(self.wrong(written, message, "define parts of the program with `def`"));
        }
        self.all(within)?;
        self.open -= 1;
        Ok(())
    }

    fn wrong(&self, written: &str, message: &str, remedy: &'static str) -> Wrong {
        Wrong::new(span(self.text, written).start, message, remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::super::program::Program;
    use super::super::value::Value;

    /// Long without brackets, or nested behind what looks like their ends: each form that the parser or the interpreter goes down for.
    fn endless(parts: usize) -> Vec<String> {
        let joined = |part: &str, by: &str| vec![part; parts].join(by);
        let before = |part: &str| format!("{}.", part.repeat(parts));
        let defs: String = (0..parts).map(|n| format!("def f{n}: ")).collect();
        vec![
            joined(".", "|"),
            joined("1", "+"),
            joined("1", ","),
            joined("null", "//"),
            joined("1", " and "),
            joined(".", "|="),
            joined("1", "-"),
            format!("[{}]", joined("1", ",")),
            format!("{{{}}}", joined("a:1", ",")),
            format!("\"{}\"", "\\(1)".repeat(parts)),
            before("try "),
            before("- "),
            before(". as $x|"),
            before("label $x|"),
            before("def f: .;"),
            before("reduce "),
            before("if . then "),
            format!("{}.{}", "if . then ".repeat(parts), " else . end".repeat(parts)),
            format!("if . then . {} end", "elif . then . ".repeat(parts)),
            format!("{defs}."),
            format!("{defs}.{}", "; .".repeat(parts)),
            format!(".{}", ".a?".repeat(parts)),
            format!(".{}", "[0]?".repeat(parts)),
            format!(".{}|=1", ".a".repeat(parts)),
            format!(".{}", "?".repeat(parts)),
            "[\")\"+".repeat(parts),
            format!("{}1{}", "[\"]\"+".repeat(parts), "]".repeat(parts)),
            "(".repeat(parts),
            "\"\\(".repeat(parts),
        ]
    }

    /// They are compiled, run and dropped on a stack as small as that of any thread of ours.
    #[test]
    fn no_program_is_too_long_for_the_stack() {
        for parts in [90, 700, 1_300, 1_999, 3_900, 65_000] {
            for text in endless(parts) {
                let short = format!("{} of {parts}", &text[..text.len().min(30)]);
                let ran = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
                    let program = Program::compile(&text, vec![], vec![]);
                    program.map(|program| program.run(1, || Ok(Value::Null), |_| Value::Null, |_| Ok(())))
                });
                let ran = ran.unwrap().join().unwrap_or_else(|_| panic!("{short}"));
                let refused = ran.err().map(|wrong| wrong[0].message.clone());
                assert!(parts < 65_000 || refused.is_some(), "{short}");
                assert!(refused.is_none_or(|why| !why.is_empty()), "{short}");
            }
        }
    }

    #[test]
    fn a_program_has_a_bound_of_words_and_signs() {
        let wrong = |text: &str| {
            Program::compile(text, vec![], vec![])
                .err()
                .map(|wrong| (wrong[0].at, wrong[0].message.clone()))
        };
        let items = |count: usize| format!("[{}]", vec!["1"; count].join(","));
        // The bracket, its end, and two for each but the last.
        assert_eq!(wrong(&items(1_999)), None);
        assert_eq!(
            wrong(&items(2_000)),
            Some((4_000, "the program has more than 4,000 words and signs".to_owned()))
        );
        assert_eq!(wrong(&format!("\"{}\"", "(".repeat(60_000))), None);
        assert_eq!(wrong(&format!("{}.{}", "[".repeat(100), "]".repeat(100))), None);
        let deep = format!("{}.{}", "[\")\",".repeat(101), "]".repeat(101));
        assert_eq!(wrong(&deep), Some((500, "more than 100 brackets within each other".to_owned())));
    }
}
