//! The variables of the image in a command that runs it, `docker run -e NAME=VALUE`, also in a script of several commands.

use super::OF_IMAGE;
use super::forms::{COMMAND, Found};
use super::variables::marked;

/// A word of a command. A `$` that the shell would leave stands twice.
struct Word {
    text: String,
    line: usize,
}

/// Reads a script. `None`: no command there sets something of the image.
pub(super) fn of_command(text: &str) -> Option<Found> {
    let mut found = Found::of(&COMMAND);
    for command in commands(text) {
        let options: Vec<(&str, usize)> = options(&command);
        let of_image: Vec<_> = options.into_iter().filter(|(option, _)| option.starts_with(OF_IMAGE)).collect();
        if of_image.is_empty() {
            continue;
        }
        let begins = command[0].line;
        found.other.get_or_insert(begins);
        found.services.push((name(&command).unwrap_or("run").to_owned(), begins));
        for (option, line) in of_image {
            match option.split_once('=') {
                Some((name, value)) => found.settings.push((line, format!("{name}={}", marked(value).replace('\n', " ")))),
                None => found.elsewhere.push((
                    line,
                    option.to_owned(),
                    "the command takes it from its own environment: write what it is",
                )),
            }
        }
        let files = command.iter().filter(|word| word.text.starts_with("--env-file"));
        found
            .elsewhere
            .extend(files.map(|word| (word.line, "--env-file".to_owned(), "give that file, too")));
    }
    (!found.services.is_empty()).then_some(found)
}

/// What a command calls its container.
fn name(command: &[Word]) -> Option<&str> {
    let at = command.iter().position(|word| word.text.starts_with("--name"))?;
    match command[at].text.strip_prefix("--name=") {
        Some(name) => Some(name),
        None => command.get(at + 1).map(|word| word.text.as_str()),
    }
}

/// What a command gives as variables, each with its line: `-e X`, `--env X`, `-eX`, `--env=X`.
fn options(command: &[Word]) -> Vec<(&str, usize)> {
    let mut options = Vec::new();
    let mut words = command.iter();
    while let Some(word) = words.next() {
        let text = word.text.as_str();
        let is_last_of_short = text.starts_with('-') && text.ends_with('e') && text[1..].chars().all(|c| c.is_ascii_alphabetic());
        if is_last_of_short || text == "--env" {
            options.extend(words.next().map(|next| (next.text.as_str(), next.line)));
        } else if let Some(setting) = text.strip_prefix("--env=").or_else(|| text.strip_prefix("-e")) {
            options.push((setting, word.line));
        }
    }
    options
}

/// The commands of a script, each as its words.
fn commands(text: &str) -> Vec<Vec<Word>> {
    let (mut commands, mut command, mut word) = (Vec::new(), Vec::new(), None::<Word>);
    let (mut quote, mut line) = (None::<char>, 1);
    let mut chars = text.chars().filter(|c| *c != '\r').peekable();
    while let Some(c) = chars.next() {
        let begun = line;
        line += usize::from(c == '\n');
        let word_at = |line| Word { text: String::new(), line };
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_with(|| word_at(begun));
            }
            (None | Some('"'), '\\') => {
                let next = chars.peek().copied();
                if next == Some('\n') {
                    line += 1;
                    chars.next();
                } else if let Some(escaped) = next.filter(|next| quote.is_none() || matches!(next, '$' | '`' | '"' | '\\')) {
                    chars.next();
                    push(word.get_or_insert_with(|| word_at(begun)), escaped, true);
                } else {
                    push(word.get_or_insert_with(|| word_at(begun)), c, true);
                }
            }
            (None, '#') if word.is_none() => while chars.next_if(|c| *c != '\n').is_some() {},
            (None, c) if c.is_whitespace() || matches!(c, ';' | '&' | '|') => {
                command.extend(word.take());
                if !matches!(c, ' ' | '\t') && !command.is_empty() {
                    commands.push(std::mem::take(&mut command));
                }
            }
            (_, c) => push(word.get_or_insert_with(|| word_at(begun)), c, quote == Some('\'')),
        }
    }
    command.extend(word);
    commands.push(command);
    commands.retain(|command| !command.is_empty());
    commands
}

fn push(word: &mut Word, c: char, is_literal: bool) {
    word.text.push(c);
    if c == '$' && is_literal {
        word.text.push(c);
    }
}
