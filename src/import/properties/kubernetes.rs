//! The variables of the image in a manifest of Kubernetes, line by line: `- name: NAME` and `value: VALUE` below `env`, and `NAME: VALUE` below the
//! `data` of a ConfigMap.

use super::OF_IMAGE;
use super::compose::{depth, has_other_escapes, meant, scalar};
use super::forms::{ESCAPES, Found, KUBERNETES};
use super::resources::{Resources, config_map, is_manifest};

/// Reads a manifest. `None`: it is none, or sets nothing of the image.
pub(super) fn of_kubernetes(text: &str) -> Option<Found> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Found::of(&KUBERNETES);
    found.other = Some(1);
    found.resources = Resources::read(&lines);
    for at in 0..lines.len() {
        if let Some(map) = config_map(&lines, at) {
            let (name, value) = joined(&lines, at);
            found.resources.note_variable(map);
            let setting = found.setting(at + 1, &meant(&name), &value);
            found.shared.push(setting);
            continue;
        }
        let item = entries(&lines, at);
        let value = |key: &str| item.iter().find(|(own, _)| own == key).map(|(_, value)| value.as_str());
        let Some(name) = value("name").map(meant).filter(|name| name.starts_with(OF_IMAGE)) else {
            continue;
        };
        match value("value") {
            Some(value) => {
                let setting = found.setting(at + 1, &name, value);
                found.settings.push(setting);
            }
            None => found.elsewhere.push((
                at + 1,
                name,
                "Kubernetes takes it from elsewhere (`valueFrom`): write what it is, and a secret as a variable",
            )),
        }
        let container = container(&lines, at);
        if !found.services.contains(&container) {
            found.services.push(container);
        }
    }
    let is_empty = [&found.settings, &found.shared].iter().all(|list| list.is_empty()) && found.elsewhere.is_empty();
    (!is_empty || is_manifest(&lines)).then_some(found)
}

impl Found {
    /// A setting of a scalar, of which it is noted what was not read.
    fn setting(&mut self, line: usize, name: &str, scalar: &str) -> (usize, String) {
        if has_other_escapes(scalar) {
            self.elsewhere.push((line, name.to_owned(), ESCAPES));
        }
        (line, format!("{name}={}", meant(scalar)))
    }
}

/// The entry of a mapping that begins at a line, with what stands deeper.
fn joined(lines: &[&str], at: usize) -> (String, String) {
    // A text may have blank lines.
    let below = lines[at + 1..].iter().filter(|line| !line.trim().is_empty());
    let below = below.take_while(|line| depth(line) > depth(lines[at]));
    let text = below.fold(lines[at].trim().to_owned(), |text, line| text + " " + line.trim());
    entry(&text).unwrap_or((text, String::new()))
}

/// Neither empty nor a comment.
pub(super) fn is_text(line: &str) -> bool {
    !line.trim().is_empty() && !line.trim_start().starts_with('#')
}

/// The entries of the mapping that is the item of a list at a line; nothing if there is none.
fn entries(lines: &[&str], at: usize) -> Vec<(String, String)> {
    let line = lines[at];
    let Some(first) = line.trim_start().strip_prefix("- ") else {
        return Vec::new();
    };
    if let Some(inner) = first.trim().strip_prefix('{').and_then(|flow| flow.strip_suffix('}')) {
        let (name, value) = inner.split_once(", value:").unwrap_or((inner, ""));
        return [entry(name.trim()), entry(&format!("value:{value}"))]
            .into_iter()
            .flatten()
            .collect();
    }
    let inner = line.len() - first.trim_start().len();
    let mut texts = vec![first.trim().to_owned()];
    // Comments stand at any depth; deeper ones are behind the value, or in it.
    let below = lines[at + 1..]
        .iter()
        .filter(|line| is_text(line) || (depth(line) > inner && !line.trim().is_empty()));
    for line in below.take_while(|line| depth(line) >= inner) {
        match texts.last_mut() {
            // What stands deeper goes on with the value.
            Some(last) if depth(line) > inner => {
                last.push(' ');
                last.push_str(line.trim());
            }
            _ => texts.push(line.trim().to_owned()),
        }
    }
    texts.iter().filter_map(|text| entry(text)).collect()
}

/// A key and its scalar.
pub(super) fn entry(text: &str) -> Option<(String, String)> {
    let (key, value) = text.split_once(':')?;
    Some((key.trim_end().to_owned(), scalar(value.trim_start()).to_owned()))
}

/// The container of an item of `env`, by its name if that stands before, and where its `env` begins.
fn container(lines: &[&str], at: usize) -> (String, usize) {
    let before = || lines[..at].iter().enumerate().rev();
    let env = before().find(|(_, line)| line.trim_start().trim_start_matches("- ").starts_with("env:"));
    let Some((begins, env)) = env else {
        return ("env".to_owned(), 1);
    };
    let deep = |line: &str| line.len() - line.trim_start_matches([' ', '-']).len();
    let is_beside = |(_, line): &(usize, &&str)| deep(line) == deep(env) && line.trim_start_matches([' ', '-']).starts_with("name:");
    let name = before().skip(at - begins).find(is_beside);
    let name = name.and_then(|(_, line)| entry(line.trim_start_matches([' ', '-'])));
    (name.map_or_else(|| "env".to_owned(), |(_, name)| meant(&name)), begins + 1)
}
