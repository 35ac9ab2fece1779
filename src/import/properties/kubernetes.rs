//! The variables of the image in a manifest of Kubernetes, line by line: `- name: NAME` and `value: VALUE` below `env`.

use super::OF_IMAGE;
use super::compose::{depth, meant, scalar};
use super::forms::{Found, KUBERNETES};

/// Reads a manifest. `None`: it is none, or sets nothing of the image.
pub(super) fn of_kubernetes(text: &str) -> Option<Found> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Found {
        form: &KUBERNETES,
        settings: Vec::new(),
        other: Some(1),
        services: Vec::new(),
        elsewhere: Vec::new(),
    };
    for at in 0..lines.len() {
        let item = entries(&lines, at);
        let value = |key: &str| item.iter().find(|(own, _)| own == key).map(|(_, value)| value.as_str());
        let Some(name) = value("name").filter(|name| name.starts_with(OF_IMAGE)) else {
            continue;
        };
        match value("value") {
            Some(value) => found.settings.push((at + 1, format!("{name}={value}"))),
            None => found.elsewhere.push((
                at + 1,
                name.to_owned(),
                "Kubernetes takes it from elsewhere (`valueFrom`): write what it is, and a secret as a variable",
            )),
        }
        let container = container(&lines, at);
        if !found.services.contains(&container) {
            found.services.push(container);
        }
    }
    (!found.services.is_empty()).then_some(found)
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
    let below = lines[at + 1..].iter().filter(|line| !line.trim().is_empty());
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

/// A key and what its value means.
fn entry(text: &str) -> Option<(String, String)> {
    let (key, value) = text.split_once(':')?;
    Some((key.to_owned(), meant(scalar(value.trim_start()))))
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
    (name.map_or_else(|| "env".to_owned(), |(_, name)| name), begins + 1)
}
