//! Schemas as a registry hands them out.

/// Bytes of the largest schema, with all that it refers to.
pub const LARGEST_SCHEMA: usize = 1 << 20;
/// How deep brackets may lie in each other in a schema that is no JSON.
const DEEPEST_BRACKETS: usize = 100;

/// The text of a schema, and those that it refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchemaText {
    /// As it was registered.
    pub text: String,
    /// Under the names by which it, or one of them, refers to them; each comes before those that refer to it.
    pub references: Vec<(String, String)>,
}

impl SchemaText {
    /// One that refers to nothing.
    pub fn alone(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            references: Vec::new(),
        }
    }

    pub(super) fn check_size(&self) -> Result<(), String> {
        let size = self.references.iter().map(|(_, text)| text.len()).sum::<usize>() + self.text.len();
        match size <= LARGEST_SCHEMA {
            true => Ok(()),
            false => Err(format!("has {size} bytes with what it refers to, more than {LARGEST_SCHEMA}")),
        }
    }

    /// Whether a parser that descends into brackets may be given it: registries take what they are given, and its stack has an end.
    pub(super) fn check_depth(&self) -> Result<(), String> {
        let texts = self.references.iter().map(|(_, text)| text).chain([&self.text]);
        for text in texts {
            let mut depth = 0usize;
            for byte in text.bytes() {
                match byte {
                    b'{' | b'(' | b'[' | b'<' => depth += 1,
                    b'}' | b')' | b']' | b'>' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                if depth > DEEPEST_BRACKETS {
                    return Err(format!("has brackets more than {DEEPEST_BRACKETS} deep"));
                }
            }
        }
        Ok(())
    }
}
