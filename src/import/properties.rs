//! A file of Java properties, each with its line.

use java_properties::{LineContent, PropertiesIter};

use super::Source;

/// What the names of the image's variables begin with.
const OF_IMAGE: &str = "KAFKA_MQTT_";

/// One setting.
#[derive(Clone, Debug)]
pub(super) struct Property {
    pub(super) key: String,
    pub(super) value: String,
    /// `FILE:LINE`.
    place: String,
}

/// All settings; what nobody has asked for when all is written has no equal.
#[derive(Debug, Default)]
pub(super) struct Properties {
    list: Vec<Property>,
    /// What has no equal: where it stands, its key, and why.
    left: Vec<(String, String, String)>,
}

impl Properties {
    /// Reads one more file. Of a key that stands there twice the last counts, as in Java.
    ///
    /// # Errors
    /// It is no file of properties; in words, with its name and line.
    pub(super) fn read(&mut self, source: &Source) -> Result<(), String> {
        let mut fault = None;
        let compose = of_compose(&source.text);
        if let Some((_, Some(line))) = &compose {
            let (place, key) = (format!("{}:{line}", source.name), format!("what is no `{OF_IMAGE}*`"));
            self.left.push((place, key, "it is of compose, not of the proxy".to_owned()));
        }
        let text = compose.as_ref().map_or(source.text.as_str(), |(text, _)| text.as_str());
        // They are read as ISO 8859-1 unless told otherwise; those of today are UTF-8.
        let lines = PropertiesIter::new_with_encoding(text.as_bytes(), encoding_rs::UTF_8);
        for line in lines {
            match line {
                Ok(line) => {
                    let place = format!("{}:{}", source.name, line.line_number());
                    if let LineContent::KVPair(key, value) = line.consume_content() {
                        let (key, value) = of_image(key, value.trim());
                        if compose.is_some() && value.contains("${") {
                            let why = "compose fills `${…}` in, and here it stands as text: write what it is";
                            self.left.push((place.clone(), key.clone(), why.to_owned()));
                        }
                        match self.list.iter_mut().find(|known| known.key == key) {
                            Some(known) => {
                                let before = std::mem::replace(known, Property { key, value, place });
                                self.left.push((before.place, before.key, "set again below".to_owned()));
                            }
                            None => self.list.push(Property { key, value, place }),
                        }
                    }
                }
                Err(error) => {
                    fault.get_or_insert(format!("{}: {error}", source.name));
                }
            }
        }
        fault.map_or(Ok(()), Err)
    }

    /// The value of a setting, which is used by that.
    pub(super) fn take(&mut self, key: &str) -> Option<Property> {
        let at = self.list.iter().position(|one| one.key == key)?;
        Some(self.list.remove(at)).filter(|one| !one.value.is_empty())
    }

    /// The same of the first of several names that is set; the others stay.
    pub(super) fn take_first(&mut self, keys: &[&str]) -> Option<Property> {
        keys.iter().find_map(|key| self.take(key))
    }

    /// Whether a setting is there that nobody has taken.
    pub(super) fn has(&self, key: &str) -> bool {
        self.list.iter().any(|one| one.key == key)
    }

    /// A setting that was taken has no equal, and why.
    pub(super) fn leave(&mut self, property: Property, why: impl Into<String>) {
        self.left.push((property.place, property.key, why.into()));
    }

    /// All that has no equal, in the order of the files; `why` says it of those that nobody has taken.
    pub(super) fn left(mut self, why: impl Fn(&str) -> &'static str) -> Vec<String> {
        for property in std::mem::take(&mut self.list) {
            let why = why(&property.key);
            self.leave(property, why);
        }
        let line = |place: &str| place.rsplit(':').next().and_then(|line| line.parse::<usize>().ok());
        self.left
            .sort_by_key(|(place, ..)| (place.rsplit_once(':').map(|(file, _)| file.to_owned()), line(place)));
        let told = |(place, key, why): (String, String, String)| format!("{place}: {key}: {why}");
        self.left.into_iter().map(told).collect()
    }
}

/// What the image's environment calls a setting, and its value as the setting has it: `KAFKA_MQTT_TOPIC_REGEX_LIST: 'a:b'`, of a file of variables or
/// the `environment` of a compose file. A period is one `_` there, a dash two, an underscore three.
fn of_image(key: String, value: &str) -> (String, String) {
    let Some(name) = key.strip_prefix(OF_IMAGE) else {
        return (key, value.to_owned());
    };
    let name = name.to_lowercase().replace("___", "\u{1}").replace("__", "-");
    (name.replace('_', ".").replace('\u{1}', "_"), unquoted(value).to_owned())
}

fn unquoted(text: &str) -> &str {
    let quoted = ['\'', '"']
        .into_iter()
        .find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote));
    quoted.unwrap_or(text)
}

/// What a compose file sets of the image, as properties on the lines where it stands, and the first line with something else. `None`: it is no such
/// file.
fn of_compose(text: &str) -> Option<(String, Option<usize>)> {
    let begins = ["services:", "environment:", "- "];
    let is_compose = |line: &str| begins.iter().any(|begin| line.trim_start().starts_with(*begin));
    let lines = joined(text);
    let entries: Vec<Option<String>> = lines.iter().map(|line| entry(line)).collect();
    if !text.lines().any(is_compose) || entries.iter().all(Option::is_none) {
        return None;
    }
    let says_something = |line: &str| !line.is_empty() && !line.starts_with('#');
    let mut told = lines.iter().zip(&entries);
    let other = told.position(|(line, entry)| entry.is_none() && says_something(line.trim()));
    let entries: Vec<String> = entries.into_iter().map(Option::unwrap_or_default).collect();
    Some((entries.join("\n"), other.map(|at| at + 1)))
}

/// The lines. What stands deeper than a variable of the image goes on with its value: it is put on that line, and leaves its own empty.
fn joined(text: &str) -> Vec<String> {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let mut lines: Vec<String> = Vec::new();
    let mut begun: Option<usize> = None;
    for (at, line) in text.lines().enumerate() {
        match begun {
            Some(first) if !line.trim().is_empty() && depth(line) > depth(&lines[first]) => {
                lines[first].push(' ');
                lines[first].push_str(line.trim());
                lines.push(String::new());
            }
            _ => {
                let is_variable = line.trim_start_matches(['-', ' ', '\'', '"']).starts_with(OF_IMAGE);
                begun = is_variable.then_some(at);
                lines.push(line.to_owned());
            }
        }
    }
    lines
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
    // For compose a `$` that is none of its own is written twice.
    name.starts_with(OF_IMAGE).then(|| format!("{name}={}", value.replace("$$", "$")))
}

/// What a scalar means: between single quotes one of them is written twice.
fn meant(scalar: &str) -> String {
    let single = scalar.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    single.map_or_else(|| unquoted(scalar).to_owned(), |text| text.replace("''", "'"))
}

/// A scalar of YAML, with its quotes, without the comment behind it.
fn scalar(text: &str) -> &str {
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

impl Property {
    /// Where it stands.
    pub(super) fn place(&self) -> &str {
        &self.place
    }
}
