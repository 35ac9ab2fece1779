//! What programs are compiled with: of the library's definitions and functions those that a program calls, and what these call. With all of them
//! each program would take a millisecond to compile, and memory for each definition and function of its own.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use jaq_core::load::parse::Def;
use jaq_core::native::Fun;

use super::natives::{self, definitions};
use super::program::Kind;
use super::recursion::said;

struct Library {
    definitions: Vec<Def<&'static str>>,
    /// Which other names each calls.
    calls: Vec<Vec<&'static str>>,
    /// Where the definitions of a name are, whatever their number of arguments.
    places: HashMap<&'static str, Vec<usize>>,
}

static LIBRARY: LazyLock<Library> = LazyLock::new(|| {
    let definitions: Vec<Def<&'static str>> = definitions().collect();
    let calls = definitions.iter().map(|def| said(&def.body).calls).collect();
    let mut places: HashMap<&'static str, Vec<usize>> = HashMap::new();
    for (place, def) in definitions.iter().enumerate() {
        places.entry(def.name).or_default().push(place);
    }
    Library {
        definitions,
        calls,
        places,
    }
});

/// What is behind names.
pub(super) struct Needed {
    /// In the order of the library.
    pub(super) definitions: Vec<Def<&'static str>>,
    /// Those that the compiler calls itself among them.
    pub(super) functions: Vec<Fun<Kind>>,
}

/// What is behind these names.
pub(super) fn needed(calls: &[&str]) -> Needed {
    let library = &*LIBRARY;
    let mut wanted = vec![false; library.definitions.len()];
    let (mut next, mut names) = (calls.to_vec(), HashSet::new());
    while let Some(name) = next.pop() {
        if !names.insert(name) {
            continue;
        }
        for place in library.places.get(name).into_iter().flatten() {
            wanted[*place] = true;
            next.extend(&library.calls[*place]);
        }
    }
    let kept = library.definitions.iter().zip(wanted).filter(|(_, wanted)| *wanted);
    let functions = natives::functions().filter(|(name, ..)| name.starts_with('!') || names.contains(name));
    Needed {
        definitions: kept.map(|(def, _)| def.clone()).collect(),
        functions: functions.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::program::Program;
    use super::*;

    #[test]
    fn a_program_has_what_it_calls_and_what_that_calls() {
        let names = |calls: &[&str]| needed(calls).definitions.iter().map(|def| def.name).collect::<Vec<_>>();
        assert_eq!(names(&["nothing"]), [""; 0]);
        assert!(names(&["select"]).contains(&"empty") && names(&["select"]).len() < 5);
        assert!(names(&["with_entries"]).contains(&"map"));
    }

    /// If one lacked what it calls, it would not compile.
    #[test]
    fn each_definition_can_be_called_alone() {
        for def in &LIBRARY.definitions {
            let given = vec!["1"; def.args.len()].join("; ");
            let call = match def.args.len() {
                0 => def.name.to_owned(),
                _ => format!("{}({given})", def.name),
            };
            let text = if def.name.starts_with('@') {
                format!("{} \"\\(.)\"", def.name)
            } else {
                call
            };
            let compiled = Program::compile(&text, vec![], vec![]);
            assert!(compiled.is_ok(), "{text}: {:?}", compiled.err());
        }
    }
}
