//! The settings of a HOCON file, each a path and a text; what nobody has asked for when all is written has no equal.

use hocon::{HoconError, HoconValue};

use super::includes;
use crate::import::Source;

/// One setting.
type Leaf = (Vec<String>, String);

/// All settings, in the order of the files.
#[derive(Debug, Default)]
pub(super) struct Tree {
    leaves: Vec<Leaf>,
    /// What has no equal: its path, and why.
    left: Vec<(String, String)>,
}

impl Tree {
    /// Reads one more file. Of a setting that is there twice the last counts.
    ///
    /// # Errors
    /// It is no HOCON; in words, with its name and the place.
    pub(super) fn read(&mut self, source: &Source) -> Result<(), String> {
        let read = hocon::parse_string_with_options(&source.text, includes::options(source)).map_err(|error| fault(source, error))?;
        let keys: Vec<String> = read.keys().into_iter().map(str::to_owned).collect();
        for key in keys {
            // A key is a path for `get`: in quotes it is one name.
            let name = format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""));
            if let Some(value) = read.get(&name).or_else(|| read.get(&key)) {
                self.add(&mut vec![key], value);
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &mut Vec<String>, value: &HoconValue) {
        if let Some(entries) = value.as_object() {
            for (key, value) in entries {
                path.push(key.clone());
                self.add(path, value);
                path.pop();
            }
        } else if let Some(items) = value.as_array() {
            for (at, value) in items.iter().enumerate() {
                path.push(at.to_string());
                self.add(path, value);
                path.pop();
            }
        } else if let HoconValue::Scalar(scalar) = value
            && !value.is_null()
        {
            self.leaves.retain(|(known, _)| known != path);
            self.leaves.push((path.clone(), without_margin(&scalar.raw)));
        }
    }

    /// The text of a setting, which is used by that.
    pub(super) fn take(&mut self, path: &[&str]) -> Option<String> {
        let at = self.leaves.iter().position(|(known, _)| known == path)?;
        Some(self.leaves.remove(at).1)
    }

    /// Whether what stands below a path is switched off, by either of the names that releases have for it.
    pub(super) fn is_off(&mut self, path: &[&str]) -> bool {
        let [of_today, of_5_0] = ["enable", "enabled"].map(|name| self.take(&[path, &[name]].concat()));
        of_today.or(of_5_0).is_some_and(|on| on == "false")
    }

    /// The names right below a path.
    pub(super) fn below(&self, path: &[&str]) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for (known, _) in &self.leaves {
            let is_below = known.len() > path.len() && known.iter().zip(path).all(|(own, wanted)| own == wanted);
            if is_below && !names.contains(&known[path.len()]) {
                names.push(known[path.len()].clone());
            }
        }
        names
    }

    /// All below a path has no equal, and why; or a setting alone.
    pub(super) fn leave(&mut self, path: &[&str], why: impl Into<String>) {
        let before = self.leaves.len();
        self.leaves
            .retain(|(known, _)| known.len() < path.len() || !known.iter().zip(path).all(|(own, wanted)| own == wanted));
        if self.leaves.len() < before {
            self.left.push((path.join("."), why.into()));
        }
    }

    /// Something that was taken has no equal, and why.
    pub(super) fn leave_told(&mut self, path: &str, why: &str) {
        self.left.push((path.to_owned(), why.to_owned()));
    }

    /// All that has no equal; `why` says it of those that nobody has taken, with how much of their path is told.
    pub(super) fn left(mut self, why: impl Fn(&[String]) -> (usize, &'static str)) -> Vec<String> {
        for (path, _) in std::mem::take(&mut self.leaves) {
            let (depth, why) = why(&path);
            let told = (path[..depth.clamp(1, path.len())].join("."), why.to_owned());
            if !self.left.contains(&told) {
                self.left.push(told);
            }
        }
        self.left.into_iter().map(|(path, why)| format!("{path}: {why}")).collect()
    }
}

/// Why a source is no HOCON. Of what is included the parser tells a line without saying whose it is.
fn fault(source: &Source, error: HoconError) -> String {
    let name = &source.name;
    let told = match error {
        HoconError::Parse(error) => format!("{name}:{}:{}: {}", error.line, error.col, error.message),
        HoconError::Resolve(error) if error.line > 0 && !includes::has_some(&source.text) => {
            format!("{name}:{}:{}: {} ({})", error.line, error.col, error.message, error.path)
        }
        error => format!("{name}: {error}"),
    };
    format!("{told}; mend the HOCON")
}

/// EMQX writes texts of several lines with a margin, between `~` and `~`, which is not of the text.
fn without_margin(text: &str) -> String {
    let Some(lines) = text.strip_prefix("~\n").map(|text| text.strip_suffix('~').unwrap_or(text)) else {
        return text.to_owned();
    };
    let filled = lines.lines().filter(|line| !line.trim().is_empty());
    let margin = filled.map(|line| line.len() - line.trim_start().len()).min().unwrap_or(0);
    let lines: Vec<&str> = lines.lines().map(|line| line.get(margin..).unwrap_or("")).collect();
    lines.join("\n").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Tree {
        let (mut tree, name) = (Tree::default(), "emqx.conf".to_owned());
        let text = text.to_owned();
        tree.read(&Source { name, text }).unwrap();
        tree
    }

    #[test]
    fn settings_are_found_however_they_are_written() {
        let mut tree = tree("a.b.c = 1\na { b { d = \"${x}\" } }\nlist = [{n = x}, {n = y}]\n\"k.l\" { m = true }\nnone = null");
        assert_eq!(tree.below(&["a", "b"]), ["c", "d"]);
        assert_eq!(tree.take(&["a", "b", "c"]).as_deref(), Some("1"));
        assert_eq!(tree.take(&["a", "b", "c"]), None);
        assert_eq!(tree.take(&["a", "b", "d"]).as_deref(), Some("${x}"));
        assert_eq!(tree.take(&["list", "1", "n"]).as_deref(), Some("y"));
        assert_eq!(tree.take(&["k.l", "m"]).as_deref(), Some("true"));
        assert_eq!(tree.left(|_| (1, "not known")), ["list: not known"]);
    }

    #[test]
    fn a_margin_is_not_of_the_text() {
        assert_eq!(without_margin("~\n    SELECT\n      *\n    FROM x~"), "SELECT\n  *\nFROM x");
        assert_eq!(without_margin("a ~ b"), "a ~ b");
    }
}
