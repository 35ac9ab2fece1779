//! Files that set the variables of the image: what is read of them, and in which words they are spoken of.

use super::OF_IMAGE;
use super::{command::of_command, compose::of_compose, kubernetes::of_kubernetes, resources::Resources};

/// A kind of file.
#[derive(Debug)]
pub(super) struct Form {
    /// What is not of the proxy there is of this.
    pub(super) of: &'static str,
    /// Who puts what variables hold in their place, and whence.
    pub(super) fills: &'static str,
    pub(super) whence: &'static str,
    /// How variables begin that the proxy does not know.
    pub(super) unknown: &'static [&'static str],
    /// What may stand in one file several times.
    several: &'static str,
    /// Whether those of one name are one, wherever they stand.
    is_by_name: bool,
    /// Whether it is YAML, where lists and mappings may stand in brackets and braces.
    is_yaml: bool,
}

pub(super) const COMPOSE: Form = Form {
    of: "compose",
    fills: "Compose",
    whence: "its own environment or `.env`",
    unknown: &["${"],
    several: "services",
    is_by_name: true,
    is_yaml: true,
};
pub(super) const COMMAND: Form = Form {
    of: "the command",
    fills: "the shell",
    whence: "its own environment",
    unknown: &["${", "$(", "`"],
    several: "commands",
    is_by_name: false,
    is_yaml: false,
};
pub(super) const KUBERNETES: Form = Form {
    of: "Kubernetes",
    fills: "Kubernetes",
    whence: "the variables above it",
    unknown: &["$("],
    several: "containers",
    is_by_name: false,
    is_yaml: true,
};

/// What a file sets of the image.
pub(super) struct Found {
    pub(super) form: &'static Form,
    /// As properties, each with its line.
    pub(super) settings: Vec<(usize, String)>,
    /// The same of what may be set elsewhere, which counts before it.
    pub(super) shared: Vec<(usize, String)>,
    /// The first line with something else.
    pub(super) other: Option<usize>,
    /// The services, commands or containers that set it, each with the line where it begins.
    pub(super) services: Vec<(String, usize)>,
    /// What is named there and stands elsewhere: its line, its name, and what to do.
    pub(super) elsewhere: Vec<(usize, String, &'static str)>,
    /// What else of Kubernetes it holds or names.
    pub(super) resources: Resources,
}

/// What is to be done with escapes of double quotes that are not undone.
pub(super) const ESCAPES: &str =
    "of its escapes only `\\\\`, `\\\"`, `\\n` and `\\t` are undone, and others left as they are: write what it is";

/// Reads a file in one of these forms. `None`: it is none, or sets nothing of the image.
pub(super) fn found(text: &str) -> Option<Found> {
    let mut found = of_command(text).or_else(|| of_kubernetes(text)).or_else(|| of_compose(text))?;
    found.tell_others(text);
    Some(found)
}

impl Found {
    /// Nothing yet of a form.
    pub(super) fn of(form: &'static Form) -> Found {
        Found {
            form,
            settings: Vec::new(),
            shared: Vec::new(),
            other: None,
            services: Vec::new(),
            elsewhere: Vec::new(),
            resources: Resources::default(),
        }
    }

    /// Tells what the form that was read first has hidden: variables of the image at other places, and whole sets of them.
    fn tell_others(&mut self, text: &str) {
        let settings = self.settings.iter().chain(&self.shared).map(|(line, _)| *line);
        let known: Vec<usize> = settings.chain(self.elsewhere.iter().map(|(line, ..)| *line)).collect();
        for (line, text) in (1..).zip(text.lines()).filter(|(line, _)| !known.contains(line)) {
            let begins = text.trim_start().trim_start_matches(['-', ' ', '\'', '"']);
            if begins.starts_with(OF_IMAGE) {
                let why = "it was not read, since it stands where the others do not: if it is a setting, write it beside them";
                self.elsewhere.push((line, named(begins).to_owned(), why));
            } else if let Some(name) = in_flow(text).filter(|_| self.form.is_yaml) {
                let why = "it, and what is beside it, was not read: what stands in `[ ]` or `{ }` is not; write one a line";
                self.elsewhere.push((line, name.to_owned(), why));
            }
        }
    }
}

/// The variable of the image that a line of YAML names first in brackets or braces.
pub(super) fn in_flow(line: &str) -> Option<&str> {
    let (before, _) = line.split_once(OF_IMAGE)?;
    let is_comment = before.trim_start().starts_with('#') || before.contains(" #");
    let is_name = before.ends_with(['[', '{', ',', ' ', '"', '\'']) && !before.ends_with("${");
    (is_name && !is_comment && before.contains(['[', '{'])).then(|| named(&line[before.len()..]))
}

/// The name that a text begins with.
fn named(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

impl Form {
    /// Why the second of two is refused, if they are two: each with its name and place.
    pub(super) fn mixed(&self, (first, at): (&str, &str), (second, place): (&str, &str)) -> Option<String> {
        let is_one = first == second && (self.is_by_name || at == place);
        let several = self.several;
        (!is_one).then(|| {
            format!(
                "{place}: the {several} `{first}` ({at}) and `{second}` both have `{OF_IMAGE}*` variables, and one configuration is made; \
                 keep only one of them in the file, and import each for itself"
            )
        })
    }
}
