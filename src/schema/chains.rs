//! How many parts of a JSON Schema may apply to one and the same value because one leads to the other: by `$ref`, `allOf` and their like.
//!
//! The validator goes down a level of its stack for each, and again for each level of the value: registries take schemas in which fifteen
//! thousand lead to each other.

use std::collections::HashMap;

use serde_json::Value;

/// Chains that are followed.
pub(super) const LONGEST: usize = 200;
/// Ways from one part to the next, up to which they are looked at.
const MOST_LINKS: usize = 1 << 20;

/// Keywords whose schemas apply to the same value: one, several, and by names of members.
const ONE: [&str; 4] = ["not", "if", "then", "else"];
const SEVERAL: [&str; 3] = ["allOf", "anyOf", "oneOf"];
const NAMED: [&str; 2] = ["dependentSchemas", "dependencies"];
const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];

/// The links of the longest chain; `None`: more than 200, or without end.
pub(super) fn longest(schema: &Value, references: &HashMap<&str, &Value>) -> Option<usize> {
    let mut parts = Parts::default();
    parts.gather(schema, "");
    references.iter().for_each(|(name, referred)| parts.gather(referred, name));
    let (links, unknown) = parts.links()?;
    // What cannot be followed from here may lead to any other.
    let chain = steps(&links, parts.list.len())?.max(1);
    Some(chain * (unknown + 1)).filter(|all| *all <= LONGEST)
}

/// How often one can go on by links, from wherever; at most 200.
fn steps(links: &[(usize, usize)], parts: usize) -> Option<usize> {
    let mut here = vec![true; parts];
    for step in 0..=LONGEST {
        let mut next = vec![false; parts];
        let mut goes_on = false;
        for (_, to) in links.iter().filter(|(from, _)| here[*from]) {
            next[*to] = true;
            goes_on = true;
        }
        if !goes_on {
            return Some(step);
        }
        here = next;
    }
    None
}

/// All objects of all documents.
#[derive(Default)]
struct Parts<'a> {
    /// Each with the document or the part with a name of its own in which it lies.
    list: Vec<(&'a Value, &'a Value)>,
    places: HashMap<*const Value, usize>,
    /// By the names of documents, of parts, and by the last piece of those.
    names: HashMap<&'a str, Vec<usize>>,
    anchors: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Parts<'a> {
    fn gather(&mut self, document: &'a Value, name: &'a str) {
        if document.is_object() {
            self.name(name, self.list.len());
        }
        let mut left = vec![(document, document)];
        while let Some((part, around)) = left.pop() {
            match part {
                Value::Array(items) => left.extend(items.iter().map(|item| (item, around))),
                Value::Object(entries) => {
                    let text = |key: &str| entries.get(key).and_then(Value::as_str);
                    let place = self.list.len();
                    let mut resource = around;
                    for id in ["$id", "id"].into_iter().filter_map(text) {
                        match id.strip_prefix('#') {
                            Some(anchor) => self.anchors.entry(anchor).or_default().push(place),
                            None => {
                                resource = part;
                                self.name(id, place);
                            }
                        }
                    }
                    for anchor in ["$anchor", "$dynamicAnchor"].into_iter().filter_map(text) {
                        self.anchors.entry(anchor).or_default().push(place);
                    }
                    if entries.get("$recursiveAnchor").is_some() {
                        self.anchors.entry("").or_default().push(place);
                    }
                    self.places.insert(std::ptr::from_ref(part), place);
                    self.list.push((part, resource));
                    left.extend(entries.values().map(|entry| (entry, resource)));
                }
                _ => {}
            }
        }
    }

    fn name(&mut self, name: &'a str, place: usize) {
        let whole = name.split('#').next().unwrap_or("");
        let last = whole.rsplit('/').next().unwrap_or("");
        self.names.entry(whole).or_default().push(place);
        if last != whole {
            self.names.entry(last).or_default().push(place);
        }
    }

    /// From part to part, and how many references lead nobody knows where; `None`: too many.
    fn links(&self) -> Option<(Vec<(usize, usize)>, usize)> {
        let (mut links, mut unknown) = (Vec::new(), 0);
        for (from, (part, resource)) in self.list.iter().enumerate() {
            let mut lead = |to: &Value| links.extend(self.places.get(&std::ptr::from_ref(to)).map(|to| (from, *to)));
            ONE.iter().filter_map(|key| part.get(key)).for_each(&mut lead);
            let several = SEVERAL.iter().filter_map(|key| part.get(key)?.as_array());
            several.flatten().for_each(&mut lead);
            let named = NAMED.iter().filter_map(|key| part.get(key)?.as_object());
            named.flat_map(|named| named.values()).for_each(&mut lead);
            for target in REFERENCES.iter().filter_map(|key| part.get(key)?.as_str()) {
                let start = links.len();
                self.follow(target, resource, &mut |to| links.push((from, to)));
                unknown += usize::from(links.len() == start);
            }
            if links.len() > MOST_LINKS {
                return None;
            }
        }
        Some((links, unknown))
    }

    /// Where a reference may lead.
    fn follow(&self, target: &str, resource: &'a Value, lead: &mut dyn FnMut(usize)) {
        let (name, fragment) = target.split_once('#').unwrap_or((target, ""));
        if !fragment.is_empty() && !fragment.starts_with('/') {
            return self.anchors.get(fragment).into_iter().flatten().for_each(|to| lead(*to));
        }
        if target == "#" {
            self.anchors.get("").into_iter().flatten().for_each(|to| lead(*to));
        }
        let documents: Vec<&Value> = match name {
            "" => vec![resource],
            name => self.named(name).iter().map(|place| self.list[*place].0).collect(),
        };
        let parts = documents.into_iter().filter_map(|document| document.pointer(fragment));
        parts
            .filter_map(|part| self.places.get(&std::ptr::from_ref(part)))
            .for_each(|to| lead(*to));
    }

    fn named(&self, name: &str) -> &[usize] {
        let last = name.rsplit('/').next().unwrap_or("");
        self.names.get(name).or_else(|| self.names.get(last)).map_or(&[], Vec::as_slice)
    }
}
