//! The variables of the image in a compose file, line by line, and which of its services they are of.

use super::forms::{COMPOSE, ESCAPES, Found, in_flow};
use super::variables::marked;
use super::{OF_IMAGE, unquoted};

/// Reads a compose file. `None`: it is none, or names nothing of the image.
pub(super) fn of_compose(text: &str) -> Option<Found> {
    let begins = ["services:", "environment:", "- "];
    let is_compose = |line: &str| begins.iter().any(|begin| line.trim_start().starts_with(*begin));
    let lines = joined(text);
    let mut entries: Vec<Option<String>> = lines.iter().map(|line| entry(line)).collect();
    let names_some = entries.iter().any(Option::is_some) || lines.iter().any(|line| in_flow(line).is_some());
    if !names_some || !text.lines().any(is_compose) {
        return None;
    }
    within_flow(&lines, &mut entries);
    let services = services(&lines, &mut entries);
    let says_something = |line: &str| !line.is_empty() && !line.starts_with('#');
    let mut told = lines.iter().zip(&entries);
    let other = told.position(|(line, entry)| entry.is_none() && says_something(line.trim()));
    let with_others = (1..)
        .zip(&lines)
        .zip(&entries)
        .filter(|((_, line), _)| has_other_escapes(scalar_of(line)));
    let with_others = with_others.filter_map(|((line, _), entry)| {
        let (name, _) = entry.as_deref()?.split_once('=')?;
        Some((line, name.to_owned(), ESCAPES))
    });
    let mut found = Found::of(&COMPOSE);
    found.other = other.map(|at| at + 1);
    found.elsewhere = with_others.collect();
    found.elsewhere.extend(services.elsewhere());
    found.services = services.named;
    found.settings = (1..).zip(entries).filter_map(|(line, entry)| Some((line, entry?))).collect();
    Some(found)
}

/// Leaves out what stands in brackets or braces of several lines: it has commas behind it.
fn within_flow(lines: &[String], entries: &mut [Option<String>]) {
    let (mut open, mut quote) = (0_usize, None::<char>);
    for (line, entry) in lines.iter().zip(entries) {
        if open > 0 {
            *entry = None;
        } else {
            let value = line.split_once(':').map_or("", |(_, value)| value.trim_start());
            if entry.is_some() || !value.starts_with(['[', '{']) {
                continue;
            }
        }
        for c in line.chars() {
            match (quote, c) {
                (Some(begun), c) if c == begun => quote = None,
                (None, '\'' | '"') => quote = Some(c),
                (None, '[' | '{') => open += 1,
                (None, ']' | '}') => {
                    open = open.saturating_sub(1);
                    if open == 0 {
                        break;
                    }
                }
                _ => {}
            }
        }
    }
}

/// The services of a compose file.
#[derive(Default)]
struct Services {
    /// Those under whose `environment` there are variables of the image, each with its line.
    named: Vec<(String, usize)>,
    /// What services take from elsewhere: which service, the line, the key, and what to do.
    taken: Vec<(String, usize, &'static str, &'static str)>,
}

impl Services {
    /// What those with variables take from elsewhere; if there are none, what any takes.
    fn elsewhere(&self) -> Vec<(usize, String, &'static str)> {
        let is_of_image = |service: &str| self.named.is_empty() || self.named.iter().any(|(named, _)| named == service);
        let taken = self.taken.iter().filter(|(service, ..)| is_of_image(service));
        taken.map(|(_, line, key, why)| (*line, (*key).to_owned(), *why)).collect()
    }
}

/// Reads which services there are. Variables that are of none are left out if the file has `services`: what is shared counts only where it is taken.
fn services(lines: &[String], entries: &mut [Option<String>]) -> Services {
    let has_services = lines.iter().any(|line| depth(line) == 0 && opened(line) == Some("services"));
    // The keys that are open, each with how deep it stands and its line.
    let mut open: Vec<(usize, &str, usize)> = Vec::new();
    let mut services = Services::default();
    for ((line, entry), number) in lines.iter().zip(entries).zip(1..) {
        let text = line.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        // The items of a list may stand where its key does.
        let deep = depth(line) + usize::from(text.starts_with("- "));
        open.retain(|(other, ..)| *other < deep);
        if has_services && open.first().is_none_or(|(_, key, _)| *key != "services") {
            *entry = None;
        }
        let own = open.get(usize::from(has_services)..).unwrap_or_default();
        if let (Some(_), [.., (_, service, begins), (_, "environment", _)]) = (&entry, open.as_slice()) {
            let is_known = services.named.iter().any(|(known, _)| known.as_str() == *service);
            if !is_known && !service.starts_with("x-") {
                services.named.push(((*service).to_owned(), *begins));
            }
            continue;
        }
        if let ([(_, service, _)] | [(_, service, _), (_, "environment", _)], Some((key, why))) = (own, taken(text)) {
            services.taken.push(((*service).to_owned(), number, key, why));
        }
        if let Some(key) = opened(text) {
            open.push((deep, key, number));
        }
    }
    services
}

/// The key of a line by which a service takes variables from elsewhere, and what to do.
fn taken(line: &str) -> Option<(&'static str, &'static str)> {
    let (key, value) = line.split_once(':')?;
    match key.trim_end() {
        "env_file" => Some(("env_file", "Compose takes variables from elsewhere: give that file, too")),
        "extends" => Some((
            "extends",
            "Compose takes what that service has, too, which was not read: write its variables here",
        )),
        "<<" => Some(("<<", "merge keys are not followed: write here what they bring")),
        "environment" if value.trim_start().starts_with('*') => {
            Some(("environment", "aliases are not followed: write here what it stands for"))
        }
        _ => None,
    }
}

/// The key of a line that has nothing behind it but an anchor or a comment.
fn opened(line: &str) -> Option<&str> {
    let (key, rest) = line.split_once(':')?;
    let rest = rest.trim_start();
    (rest.is_empty() || rest.starts_with(['&', '#'])).then(|| unquoted(key.trim_end()))
}

pub(super) fn depth(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// The lines. What stands deeper than a variable of the image goes on with its value: it is put on that line, and leaves its own empty.
fn joined(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut begun: Option<usize> = None;
    for (at, line) in text.lines().enumerate() {
        match begun {
            Some(first) if !line.trim().is_empty() && depth(line) > depth(&lines[first]) => {
                lines[first].push(' ');
                lines[first].push_str(line.trim());
                lines.push(String::new());
            }
            // A text may have blank lines.
            Some(_) if line.trim().is_empty() => lines.push(String::new()),
            _ => {
                let is_variable = line.trim_start_matches(['-', ' ', '\'', '"']).starts_with(OF_IMAGE);
                begun = is_variable.then_some(at);
                lines.push(line.to_owned());
            }
        }
    }
    lines
}

/// The scalar that the value of a line's variable stands in: an item is one as a whole.
fn scalar_of(line: &str) -> &str {
    match line.trim().strip_prefix("- ") {
        Some(item) => scalar(item.trim_start()),
        None => line.split_once(['=', ':']).map_or("", |(_, value)| scalar(value.trim_start())),
    }
}

/// A variable of the image in a compose file, as a property: `NAME: VALUE`, or `- NAME=VALUE`.
fn entry(line: &str) -> Option<String> {
    let line = line.trim();
    let item = line.strip_prefix("- ").map(|item| meant(scalar(item.trim_start())));
    let setting = item.as_deref().unwrap_or(line);
    let (name, value) = setting.split_once(['=', ':']).unwrap_or((setting, ""));
    let name = unquoted(name.trim_end());
    let value = match item {
        Some(_) => value.to_owned(),
        None => meant(scalar(value.trim_start())),
    };
    name.starts_with(OF_IMAGE).then(|| format!("{name}={}", marked(&value)))
}

/// What a scalar means: between single quotes one of them is written twice, between double quotes there are escapes.
pub(super) fn meant(scalar: &str) -> String {
    match (within(scalar, '\''), within(scalar, '"')) {
        (Some(text), _) => text.replace("''", "'"),
        (_, Some(text)) => unescaped(text).0,
        _ => scalar.to_owned(),
    }
}

/// Whether what a scalar means has escapes that were left as they are.
pub(super) fn has_other_escapes(scalar: &str) -> bool {
    within(scalar, '"').is_some_and(|text| unescaped(text).1)
}

fn within(scalar: &str, quote: char) -> Option<&str> {
    scalar.strip_prefix(quote)?.strip_suffix(quote)
}

/// A text of double quotes without its escapes, and whether others than these are left.
fn unescaped(text: &str) -> (String, bool) {
    let (mut out, mut has_others) = (String::with_capacity(text.len()), false);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let escaped = if c == '\\' { chars.next() } else { None };
        match (c, escaped) {
            ('\\', Some(c @ ('\\' | '"'))) => out.push(c),
            // What becomes one line of properties has no end of a line within.
            ('\\', Some('n')) => out.push(' '),
            ('\\', Some('t')) => out.push('\t'),
            ('\\', other) => {
                out.push(c);
                out.extend(other);
                has_others = true;
            }
            _ => out.push(c),
        }
    }
    (out, has_others)
}

/// A scalar of YAML, with its quotes, without the comment behind it.
pub(super) fn scalar(text: &str) -> &str {
    let is_end = |end: &usize| {
        let rest = text[*end..].trim_start();
        rest.is_empty() || rest.starts_with('#')
    };
    let end = match text.chars().next() {
        Some(quote @ ('\'' | '"')) => text.match_indices(quote).skip(1).map(|(at, _)| at + 1).find(is_end),
        // Folded or literal: a mark, and then the text as it is.
        Some('>' | '|') => return text.split_once(' ').map_or("", |(_, block)| block),
        Some('#') => Some(0),
        _ => text.find(" #"),
    };
    text[..end.unwrap_or(text.len())].trim_end()
}
