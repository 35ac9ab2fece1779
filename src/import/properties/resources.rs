//! What a manifest of Kubernetes holds beside variables: its ConfigMaps, and from which of them containers take variables (`envFrom`).

use super::OF_IMAGE;
use super::compose::{depth, meant};
use super::kubernetes::{entry, is_text};

/// A ConfigMap.
#[derive(Debug)]
struct Map {
    name: String,
    /// Where it begins.
    line: usize,
    has_variables: bool,
}

/// What `envFrom` names: `ConfigMap` or `Secret`, and which. `None`: that was not understood.
#[derive(Debug)]
struct Wanted {
    line: usize,
    named: Option<(&'static str, String)>,
}

/// Both of one file.
#[derive(Debug, Default)]
pub(super) struct Resources {
    maps: Vec<Map>,
    wanted: Vec<Wanted>,
}

impl Resources {
    pub(super) fn read(lines: &[&str]) -> Resources {
        let mut resources = Resources::default();
        for at in 0..lines.len() {
            if says(lines[at], "kind", "ConfigMap") {
                let siblings = siblings(lines, at);
                resources.maps.push(Map {
                    name: name(lines, &siblings).unwrap_or_default(),
                    line: siblings[0] + 1,
                    has_variables: false,
                });
            } else if is_key(lines[at], "envFrom") {
                resources.wanted.extend(wanted(lines, at));
            }
        }
        resources
    }

    /// Notes that the ConfigMap that begins at a line has variables of the image.
    pub(super) fn note_variable(&mut self, begins: usize) {
        self.maps
            .iter_mut()
            .filter(|map| map.line == begins)
            .for_each(|map| map.has_variables = true);
    }
}

/// What is to be asked about all files, each with its name.
pub(super) fn open(files: &[(String, Resources)]) -> Vec<String> {
    let maps = || files.iter().flat_map(|(file, one)| one.maps.iter().map(move |map| (file, map)));
    let mut open = Vec::new();
    let mut with_variables = maps().filter(|(_, map)| map.has_variables);
    if let Some((file, first)) = with_variables.next() {
        open.extend(with_variables.map(|(other, map)| {
            format!(
                "{other}:{}: the ConfigMaps `{}` ({file}:{}) and `{}` both have `{OF_IMAGE}*` variables, which became one configuration, and of what both \
                 set the later counts: if they are of two proxies, import each for itself",
                map.line, first.name, first.line, map.name
            )
        }));
    }
    for (file, wanted) in files
        .iter()
        .flat_map(|(file, one)| one.wanted.iter().map(move |wanted| (file, wanted)))
    {
        let told = match &wanted.named {
            Some(("ConfigMap", name)) if maps().any(|(_, map)| map.name == *name) => continue,
            Some(("ConfigMap", name)) => format!("the ConfigMap `{name}`: give it, too"),
            Some((kind, name)) => format!("the {kind} `{name}`: write those that it has"),
            None => "elsewhere: give the ConfigMap, too, and write those of a Secret".to_owned(),
        };
        open.push(format!("{file}:{}: envFrom: Kubernetes takes variables from {told}", wanted.line));
    }
    open
}

/// Whether a text is a manifest, whatever it sets.
pub(super) fn is_manifest(lines: &[&str]) -> bool {
    ["apiVersion", "kind"].iter().all(|key| lines.iter().any(|line| is_key(line, key)))
}

/// Where the ConfigMap begins below whose `data` a variable of the image stands at a line, if it does. That of a Secret is not text.
pub(super) fn config_map(lines: &[&str], at: usize) -> Option<usize> {
    let is_variable = lines[at].trim_start().trim_start_matches(['\'', '"']).starts_with(OF_IMAGE);
    if !is_variable {
        return None;
    }
    let outer = (0..at)
        .rev()
        .find(|above| is_text(lines[*above]) && depth(lines[*above]) < depth(lines[at]))?;
    let siblings = siblings(lines, outer);
    let is_map = siblings.iter().any(|at| says(lines[*at], "kind", "ConfigMap"));
    (says(lines[outer], "data", "") && is_map).then(|| siblings[0] + 1)
}

/// How deep the key of a line stands, behind the mark of an item.
fn deep(line: &str) -> usize {
    line.len() - line.trim_start_matches([' ', '-']).len()
}

fn is_item(line: &str) -> bool {
    line.trim_start().starts_with("- ")
}

fn key_and_scalar(line: &str) -> Option<(String, String)> {
    entry(line.trim_start_matches([' ', '-']))
}

fn is_key(line: &str, key: &str) -> bool {
    key_and_scalar(line).is_some_and(|(own, _)| own == key)
}

fn says(line: &str, key: &str, value: &str) -> bool {
    key_and_scalar(line).is_some_and(|(own, said)| own == key && meant(&said) == value)
}

/// The lines with the keys of the mapping that the key at a line is of: a document, or an item of a `List`.
fn siblings(lines: &[&str], at: usize) -> Vec<usize> {
    let inner = deep(lines[at]);
    let is_outside = |line: &str| line.starts_with("---") || (is_text(line) && depth(line) < inner);
    let begins = |at: usize| is_item(lines[at]) && deep(lines[at]) == inner;
    let first = match (0..=at).rev().find(|at| begins(*at) || is_outside(lines[*at])) {
        Some(item) if begins(item) => item,
        outside => outside.map_or(0, |outside| outside + 1),
    };
    let end = (at + 1..lines.len()).find(|at| is_outside(lines[*at])).unwrap_or(lines.len());
    let is_sibling = |at: &usize| is_text(lines[*at]) && deep(lines[*at]) == inner;
    (first..end).filter(is_sibling).collect()
}

/// What the `metadata` of a resource calls it.
fn name(lines: &[&str], siblings: &[usize]) -> Option<String> {
    let named = |text: &str| entry(text.trim()).filter(|(key, _)| key == "name").map(|(_, name)| meant(&name));
    let at = siblings.iter().copied().find(|at| is_key(lines[*at], "metadata"))?;
    if let Some((_, flow)) = lines[at].split_once('{') {
        return flow.split([',', '}']).find_map(named);
    }
    let below: Vec<&str> = lines[at + 1..]
        .iter()
        .copied()
        .filter(|line| is_text(line))
        .take_while(|line| depth(line) > deep(lines[at]))
        .collect();
    let inner = depth(below.first()?);
    below.into_iter().filter(|line| depth(line) == inner).find_map(named)
}

/// What the `envFrom` at a line names.
fn wanted(lines: &[&str], at: usize) -> Vec<Wanted> {
    let inner = deep(lines[at]);
    let below = lines[at + 1..].iter().filter(|line| is_text(line));
    let below = below.take_while(|line| depth(line) > inner || (depth(line) == inner && is_item(line)));
    let block = below.fold(lines[at].to_owned(), |block, line| block + " " + line.trim());
    let pieces: Vec<&str> = block.split("Ref:").collect();
    let each = pieces.windows(2).map(|pair| {
        let kind = if pair[0].ends_with("configMap") { "ConfigMap" } else { "Secret" };
        let name = pair[1].split_once("name:").map(|(_, name)| name.trim_start());
        let name = name.and_then(|name| name.split([' ', ',', '}']).next());
        Wanted {
            line: at + 1,
            named: name.map(|name| (kind, meant(name))),
        }
    });
    let mut wanted: Vec<Wanted> = each.collect();
    if wanted.is_empty() {
        wanted.push(Wanted { line: at + 1, named: None });
    }
    wanted
}
