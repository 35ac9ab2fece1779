//! A file of Java properties, each with its line.

mod command;
mod compose;
mod forms;
mod kubernetes;
mod resources;
mod variables;

use java_properties::{LineContent, PropertiesIter};

use super::Source;
use forms::{Form, Found, found};
use resources::Resources;
pub(super) use variables::{kept, restored};

/// What the names of the image's variables begin with.
const OF_IMAGE: &str = "KAFKA_MQTT_";

/// One setting.
#[derive(Clone, Debug)]
pub(super) struct Property {
    pub(super) key: String,
    pub(super) value: String,
    /// `FILE:LINE`.
    place: String,
    /// Whether it gives way to whatever else sets it.
    is_shared: bool,
}

/// All settings; what nobody has asked for when all is written has no equal.
#[derive(Debug, Default)]
pub(super) struct Properties {
    list: Vec<Property>,
    /// What has no equal: where it stands, its key, and why.
    left: Vec<(String, String, String)>,
    /// The service, command or container that all of it is of, and where that begins.
    service: Option<(String, String)>,
    /// What was read for the proxy to fill in: where it stands, its key, and what it is.
    filled: Vec<String>,
    /// What was not read and may be a setting.
    open: Vec<String>,
    /// What manifests of Kubernetes hold or name, each with its file.
    resources: Vec<(String, Resources)>,
}

impl Properties {
    /// Reads one more file. Of a key that stands there twice the last counts, as in Java.
    ///
    /// # Errors
    /// It is no file of properties; in words, with its name and line.
    pub(super) fn read(&mut self, source: &Source) -> Result<(), String> {
        let Some(found) = found(&source.text) else {
            return self.read_lines(source, (1, &source.text), (None, false));
        };
        self.read_services(source, &found)?;
        for (settings, is_shared) in [(&found.shared, true), (&found.settings, false)] {
            for (line, setting) in settings {
                self.read_lines(source, (*line, setting), (Some(found.form), is_shared))?;
            }
        }
        self.resources.push((source.name.clone(), found.resources));
        Ok(())
    }

    /// Reads text of a file from a line on, which variables of the image have been made of if it has a form.
    fn read_lines(
        &mut self,
        source: &Source,
        (first, text): (usize, &str),
        (form, is_shared): (Option<&Form>, bool),
    ) -> Result<(), String> {
        let mut fault = None;
        // They are read as ISO 8859-1 unless told otherwise; those of today are UTF-8.
        let lines = PropertiesIter::new_with_encoding(text.as_bytes(), encoding_rs::UTF_8);
        for line in lines {
            match line {
                Ok(line) => {
                    let place = format!("{}:{}", source.name, first - 1 + line.line_number());
                    if let LineContent::KVPair(key, value) = line.consume_content() {
                        let (key, value) = of_image(key, value.trim());
                        if let Some(form) = form {
                            self.note_variables(form, &place, &key, &value);
                        }
                        self.add(Property {
                            key,
                            value,
                            place,
                            is_shared,
                        });
                    }
                }
                Err(error) => {
                    fault.get_or_insert(format!("{}: {error}", source.name));
                }
            }
        }
        fault.map_or(Ok(()), Err)
    }

    fn add(&mut self, property: Property) {
        match self.list.iter_mut().find(|known| known.key == property.key) {
            Some(known) if property.is_shared && !known.is_shared => {
                let why = format!("a ConfigMap gives way to what is set at {}", known.place);
                self.replaced(property, why);
            }
            Some(known) => {
                let before = std::mem::replace(known, property);
                self.replaced(before, "set again below".to_owned());
            }
            None => self.list.push(property),
        }
    }

    /// Tells that a setting does not count. Rules that are missing nobody would look for behind what has no equal.
    fn replaced(&mut self, property: Property, why: String) {
        let Property { key, place, .. } = property;
        if key == "topic.regex.list" {
            let ask = "none of its pairs is among the rules; if they are to be, write them into the one list that counts";
            self.open.push(format!("{place}: {key}: {why}: {ask}"));
        } else {
            self.left.push((place, key, why));
        }
    }

    /// What else such a file says, and that all of it is of one service.
    fn read_services(&mut self, source: &Source, found: &Found) -> Result<(), String> {
        let of = found.form.of;
        if let Some(line) = found.other {
            let (place, key) = (format!("{}:{line}", source.name), format!("what is no `{OF_IMAGE}*`"));
            self.left.push((place, key, format!("it is of {of}, not of the proxy")));
        }
        for (line, key, why) in &found.elsewhere {
            let (key, _) = of_image(key.clone(), "");
            self.open.push(format!("{}:{line}: {key}: {why}", source.name));
        }
        for (service, line) in &found.services {
            let (service, place) = (service.clone(), format!("{}:{line}", source.name));
            let (first, at) = self.service.get_or_insert_with(|| (service.clone(), place.clone()));
            if let Some(why) = found.form.mixed((first, at), (&service, &place)) {
                return Err(why);
            }
        }
        Ok(())
    }

    /// Tells what would have been filled in of a value there: `variables` says which of it the proxy does instead.
    fn note_variables(&mut self, form: &Form, place: &str, key: &str, value: &str) {
        let Form { fills, whence, .. } = form;
        for name in variables::kept(value) {
            self.filled.push(format!(
                "{place}: {key}: {fills} would have put `{name}` in its place, from {whence}; here the proxy does, \
                 from the environment that it is started with: set it there, too, or write the value"
            ));
        }
        if let Some(begin) = form.unknown.iter().find(|begin| value.contains(**begin)) {
            let shown = match *begin {
                "${" => "${…}",
                "$(" => "$(…)",
                _ => "`…`",
            };
            let why = format!(
                "{fills} would have put a variable in the place of `{shown}`, in a form that the proxy does not know; here it stands as text: \
                 write what it is"
            );
            self.open.push(format!("{place}: {key}: {why}"));
        }
    }

    /// What is left to the proxy to fill in.
    pub(super) fn filled(&mut self) -> Vec<String> {
        std::mem::take(&mut self.filled)
    }

    /// What would have to be decided before anything is made of the settings.
    pub(super) fn open(&mut self) -> Vec<String> {
        let mut open = std::mem::take(&mut self.open);
        open.extend(resources::open(&self.resources));
        open
    }

    /// The value of a setting, which is used by that. One without a value is as if it were not there, and told.
    pub(super) fn take(&mut self, key: &str) -> Option<Property> {
        let property = self.take_even_empty(key)?;
        if property.value.is_empty() {
            self.leave(property, "it is empty, and taken as if it were not there");
            return None;
        }
        Some(property)
    }

    /// The same of a setting that means something also without a value.
    pub(super) fn take_even_empty(&mut self, key: &str) -> Option<Property> {
        let at = self.list.iter().position(|one| one.key == key)?;
        Some(self.list.remove(at))
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

impl Property {
    /// Where it stands.
    pub(super) fn place(&self) -> &str {
        &self.place
    }
}
