//! A file of Java properties, each with its line.

mod compose;
mod variables;

use java_properties::{LineContent, PropertiesIter};

use super::Source;
use compose::{Compose, of_compose};
pub(super) use variables::restored;

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
    /// The service of compose that all of it is of, and where that begins.
    service: Option<(String, String)>,
    /// What was read of a compose file for the proxy to fill in: where it stands, its key, and what it is.
    filled: Vec<String>,
}

impl Properties {
    /// Reads one more file. Of a key that stands there twice the last counts, as in Java.
    ///
    /// # Errors
    /// It is no file of properties; in words, with its name and line.
    pub(super) fn read(&mut self, source: &Source) -> Result<(), String> {
        let mut fault = None;
        let compose = of_compose(&source.text);
        if let Some(compose) = &compose {
            self.read_services(source, compose)?;
        }
        let text = compose.as_ref().map_or(source.text.as_str(), |compose| compose.properties.as_str());
        // They are read as ISO 8859-1 unless told otherwise; those of today are UTF-8.
        let lines = PropertiesIter::new_with_encoding(text.as_bytes(), encoding_rs::UTF_8);
        for line in lines {
            match line {
                Ok(line) => {
                    let place = format!("{}:{}", source.name, line.line_number());
                    if let LineContent::KVPair(key, value) = line.consume_content() {
                        let (key, value) = of_image(key, value.trim());
                        if compose.is_some() {
                            self.note_variables(&place, &key, &value);
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

    /// What else a compose file says, and that all of it is of one service.
    fn read_services(&mut self, source: &Source, compose: &Compose) -> Result<(), String> {
        if let Some(line) = compose.other {
            let (place, key) = (format!("{}:{line}", source.name), format!("what is no `{OF_IMAGE}*`"));
            self.left.push((place, key, "it is of compose, not of the proxy".to_owned()));
        }
        for (service, line) in &compose.services {
            let (service, place) = (service.clone(), format!("{}:{line}", source.name));
            let (first, at) = self.service.get_or_insert_with(|| (service.clone(), place.clone()));
            if *first != service {
                return Err(format!(
                    "{place}: the services `{first}` ({at}) and `{service}` both have `{OF_IMAGE}*` variables, and one configuration is made; \
                     keep only one of them in the file, and import each for itself"
                ));
            }
        }
        Ok(())
    }

    /// Tells what Compose would have filled in of a value: `variables` says which of it the proxy does instead.
    fn note_variables(&mut self, place: &str, key: &str, value: &str) {
        for name in variables::kept(value) {
            self.filled.push(format!(
                "{place}: {key}: Compose would have put `{name}` in its place, from its own environment or `.env`; here the proxy does, \
                 from the environment that it is started with: set it there, too, or write the value"
            ));
        }
        if value.contains("${") {
            let why = "Compose would have put a variable in the place of `${…}`, in a form that the proxy does not know; \
                       here it stands as text: write what it is";
            self.left.push((place.to_owned(), key.to_owned(), why.to_owned()));
        }
    }

    /// What is left to the proxy to fill in.
    pub(super) fn filled(&mut self) -> Vec<String> {
        std::mem::take(&mut self.filled)
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

impl Property {
    /// Where it stands.
    pub(super) fn place(&self) -> &str {
        &self.place
    }
}
