//! House rules that rustc and clippy cannot see. Std only; runs in every `cargo test`.

// clippy.toml allows it in test functions; the functions they share are not seen as such.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// The architecture. A module may import the modules in its row, and a row may name only rows above it;
/// so what is not written here does not happen, and circles cannot be written.
const MAY_USE: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("metrics", &[]),
    ("audit", &[]),
    ("pem", &[]),
    ("import", &[]),
    ("mqtt", &["wire"]),
    ("kafka", &["wire"]),
    ("schema", &["wire"]),
    ("mapping", &["mqtt", "kafka", "schema"]),
    ("auth", &["mqtt"]),
    ("session", &["mqtt"]),
    ("progress", &["kafka"]),
    ("ownership", &["mqtt", "session"]),
    ("downstream", &["mqtt", "metrics", "audit", "pem"]),
    ("upstream", &["kafka", "metrics", "pem"]),
    ("resources", &["kafka", "schema", "mapping", "auth", "upstream", "metrics"]),
    (
        "relay",
        &[
            "mqtt",
            "kafka",
            "mapping",
            "auth",
            "session",
            "ownership",
            "progress",
            "downstream",
            "upstream",
            "resources",
            "metrics",
            "audit",
        ],
    ),
    ("admin", &["metrics"]),
    // The two languages only for the values that settings are made of: `QoS` and `Compression`.
    (
        "config",
        &[
            "mqtt",
            "kafka",
            "schema",
            "mapping",
            "auth",
            "session",
            "downstream",
            "upstream",
            "resources",
            "relay",
            "admin",
            "pem",
        ],
    ),
    (
        "app",
        &[
            "config",
            "relay",
            "resources",
            "admin",
            "downstream",
            "upstream",
            "session",
            "mapping",
            "auth",
            "metrics",
            "import",
        ],
    ),
];

/// Paths that see bytes, values and a `now` argument, and nothing else.
const PURE: &[&str] = &[
    "wire/",
    "mqtt/",
    "kafka/",
    "schema/",
    "mapping/",
    "auth/",
    "session/",
    "ownership/",
    "progress/",
    "import/",
    "upstream/accumulator",
    "upstream/group/assign",
    "upstream/group/embedded",
    "upstream/group/membership",
    "upstream/group/requests",
    "upstream/group/share/request",
    "upstream/group/share/session",
];
const IMPURE: &[&str] = &["tokio::", "async fn", "std::net", "std::fs", "std::env", "::now()", "rand::"];

const MAX_LINES: usize = 400;
const MAX_FUNCTION_LINES: usize = 70;

/// Names that say nothing of what a thing is.
const EMPTY_NAMES: &[&str] = &["Manager", "Handler", "Helper", "Util", "Utils", "Service", "Data", "Info"];

/// Names that a foreign trait gives to what is implemented for it.
const GIVEN_NAMES: &[(&str, &str)] = &[("mapping/jq/program.rs", "Data")];

/// What must not be left lying about, in sources and tests. Written in halves, so that this list is not found.
const LEFTOVERS: &[(&str, &str)] = &[
    ("todo", "!("),
    ("unimplemented", "!("),
    ("dbg", "!("),
    ("FIX", "ME"),
    ("#[ig", "nore"),
];

/// What ends the line that begins a private key in PEM, whatever its kind. In halves, too.
const PRIVATE_KEY: (&str, &str) = ("PRIVATE", " KEY-----");
/// Base64 characters in a row that are a key behind such a line: PEM has 64 in each of its own.
const KEY_CHARACTERS: usize = 48;
/// Lines behind it that are looked at: those of a key with a pass phrase say so first.
const KEY_LINES: usize = 6;

/// Folders whose paths ARCHITECTURE.md may name.
const FOLDERS: &[&str] = &["src/", "tests/", "integration/", "benches/", "fuzz/", "certs/"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
        if entry.is_dir() {
            rust_files(&entry, out);
        } else if entry.extension().is_some_and(|x| x == "rs") {
            out.push(entry);
        }
    }
}

/// Path below `src`, whole text.
fn sources() -> Vec<(String, String)> {
    let src = std::env::var("TIDY_SRC").map_or_else(|_| root().join("src"), PathBuf::from);
    let mut files = vec![];
    rust_files(&src, &mut files);
    assert!(files.len() > 10, "the scan found almost nothing: is the path right?");
    files
        .iter()
        .map(|f| {
            (
                f.strip_prefix(&src).unwrap().to_string_lossy().into_owned(),
                fs::read_to_string(f).unwrap(),
            )
        })
        .collect()
}

/// The file without its tests.
fn body(text: &str) -> &str {
    let tests = [
        "\n#[cfg(test)]\nmod ",
        "\n#[cfg(test)]\npub mod ",
        "\n#[cfg(test)]\npub(crate) mod ",
    ];
    let end = tests.iter().filter_map(|t| text.find(t)).min().unwrap_or(text.len());
    &text[..end]
}

/// The text without comments. A `//` in a string ends its line early, which hides nothing that matters here.
fn without_comments(text: &str) -> String {
    text.lines().map(|l| l.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// The body without comments.
fn code(text: &str) -> String {
    without_comments(body(text))
}

fn is_test(path: &str) -> bool {
    path.ends_with("tests.rs") || path.contains("/tests/")
}

fn ident(s: &str) -> String {
    s.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// First path segments that follow `crate::`, braces expanded.
fn imports(code: &str) -> Vec<String> {
    let mut found = vec![];
    for tail in code.split("crate::").skip(1) {
        let Some(list) = tail.strip_prefix('{') else {
            found.push(ident(tail));
            continue;
        };
        let (mut depth, mut item) = (0, String::new());
        for c in list.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    found.push(ident(&item));
                    item.clear();
                    continue;
                }
                _ => {}
            }
            item.push(c);
        }
        found.push(ident(&item));
    }
    found.retain(|s| !s.is_empty());
    found
}

/// Functions longer than allowed, as name and lines. rustfmt puts the closing brace under the first word.
fn long_functions(code: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = code.lines().collect();
    let mut long = vec![];
    for (start, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let words = ["fn ", "pub fn ", "pub(", "async fn ", "pub async fn ", "const fn ", "pub const fn "];
        let Some(at) = trimmed.find("fn ").filter(|_| words.iter().any(|w| trimmed.starts_with(w))) else {
            continue;
        };
        let end = format!("{}}}", " ".repeat(line.len() - trimmed.len()));
        // It has no body, or one on this line.
        if line.trim_end().ends_with([';', '}']) {
            continue;
        }
        let Some(length) = lines[start..].iter().position(|l| *l == end) else {
            continue;
        };
        if length + 1 > MAX_FUNCTION_LINES {
            long.push((ident(&trimmed[at + 3..]), length + 1));
        }
    }
    long
}

/// Types and modules defined in the code whose name ends with an empty word.
fn empty_names(code: &str) -> Vec<String> {
    let mut found = vec![];
    for word in ["struct ", "enum ", "trait ", "mod ", "type "] {
        for tail in code.split(word).skip(1) {
            let name = ident(tail);
            let capital = name.chars().next().is_some_and(char::is_uppercase);
            let module = EMPTY_NAMES.iter().any(|e| name == e.to_lowercase());
            if capital && EMPTY_NAMES.iter().any(|e| name.ends_with(e)) || word == "mod " && module {
                found.push(name);
            }
        }
    }
    found
}

/// Whether there is a private key in the text, by lines or in a string. Who only speaks of one has no base64 behind it.
fn holds_private_key(text: &str) -> bool {
    let ending = [PRIVATE_KEY.0, PRIVATE_KEY.1].concat();
    text.match_indices(&ending).any(|(at, _)| {
        let line = text[..at].rsplit('\n').next().unwrap();
        let behind = text[at + ending.len()..].replace("\\n", "\n");
        let other = |c: char| !(c.is_ascii_alphanumeric() || "+/=".contains(c));
        let is_key = |line: &str| line.split(other).any(|run| run.len() >= KEY_CHARACTERS);
        line.contains("-----BEGIN ") && behind.lines().take(KEY_LINES).any(is_key)
    })
}

#[test]
fn the_table_has_no_circle() {
    for (i, (module, uses)) in MAY_USE.iter().enumerate() {
        for u in *uses {
            assert!(
                MAY_USE[..i].iter().any(|(m, _)| m == u),
                "`{module}` names `{u}`, which is not above it"
            );
        }
    }
}

#[test]
fn imports_follow_the_table() {
    let mut faults = vec![];
    for (path, text) in sources() {
        let module = path.split(['/', '.']).next().unwrap().to_owned();
        if module == "lib" || module == "main" || is_test(&path) {
            continue;
        }
        let code = code(&text);
        if code.contains("super::super") {
            faults.push(format!("{path}: `super::super` hides where it points"));
        }
        match MAY_USE.iter().find(|(m, _)| *m == module) {
            None => faults.push(format!("{path}: `{module}` is not in the table")),
            Some((_, uses)) => {
                for import in imports(&code) {
                    if import != module && !uses.contains(&import.as_str()) {
                        faults.push(format!("{path}: `{module}` may not use `{import}`"));
                    }
                }
            }
        }
        if PURE.iter().any(|p| path.starts_with(p)) {
            for bad in IMPURE.iter().filter(|b| code.contains(**b)) {
                faults.push(format!("{path}: pure, but has `{bad}`"));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn files_and_functions_are_short_and_say_what_they_are() {
    let mut faults = vec![];
    for (path, text) in sources() {
        if !text.starts_with("//!") {
            faults.push(format!("{path}: no `//!` on the first line"));
        }
        let lines = text.lines().count();
        if lines > MAX_LINES {
            faults.push(format!("{path}: {lines} lines, over {MAX_LINES}"));
        }
        faults.extend(
            long_functions(&without_comments(&text))
                .into_iter()
                .map(|(name, lines)| format!("{path}: `{name}` has {lines} lines, over {MAX_FUNCTION_LINES}")),
        );
        if is_test(&path) {
            continue;
        }
        let code = code(&text);
        faults.extend(
            empty_names(&code)
                .into_iter()
                .filter(|name| !GIVEN_NAMES.contains(&(path.as_str(), name)))
                .map(|name| format!("{path}: the name `{name}` says nothing")),
        );
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn nothing_is_left_lying_about() {
    let mut files = vec![];
    for folder in ["src", "tests", "integration", "benches", "fuzz"] {
        let folder = root().join(folder);
        if folder.exists() {
            rust_files(&folder, &mut files);
        }
    }
    let mut faults = vec![];
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for (a, b) in LEFTOVERS {
            if text.contains(&format!("{a}{b}")) {
                faults.push(format!("{}: `{a}{b}`", file.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// Folders that `.gitignore` names; of `certs` it takes all but what has no key.
const NOT_COMMITTED: &[&str] = &[".git", "target", "fuzz/artifacts", ".run", "bench/results", "__pycache__"];

/// Tests make their keys when they run, and so does `certs/make`.
#[test]
fn no_private_key_is_committed() {
    let (mut left, mut read, mut faults) = (vec![root().to_path_buf()], 0, vec![]);
    while let Some(path) = left.pop() {
        if path.is_dir() {
            let within = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
            left.extend(within.filter(|path| !NOT_COMMITTED.iter().any(|not| path.ends_with(not))));
            continue;
        }
        let (name, bytes) = (path.strip_prefix(root()).unwrap(), fs::read(&path).unwrap());
        read += 1;
        if name.parent() != Some(Path::new("certs")) && holds_private_key(&String::from_utf8_lossy(&bytes)) {
            faults.push(name.display().to_string());
        }
    }
    assert!(read > 100, "the scan found almost nothing: {read} files");
    assert!(faults.is_empty(), "with a private key:\n{}", faults.join("\n"));
}

/// What ARCHITECTURE.md puts in backticks as `path` or `path:function` is there.
#[test]
fn the_map_shows_what_is_there() {
    let Ok(map) = fs::read_to_string(root().join("ARCHITECTURE.md")) else {
        return;
    };
    let mut faults = vec![];
    for named in map
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|n| FOLDERS.iter().any(|f| n.starts_with(f)) && !n.contains([' ', '*']))
    {
        let (path, function) = named.split_once(':').map_or((named, None), |(p, f)| (p, Some(f)));
        let file = root().join(path);
        if !file.exists() {
            faults.push(format!("`{path}` is not there"));
        } else if let Some(function) = function {
            let text = fs::read_to_string(&file).unwrap();
            let (name, rest) = (format!("fn {function}"), |c: char| c == '(' || c == '<');
            if !text.match_indices(&name).any(|(at, _)| text[at + name.len()..].starts_with(rest)) {
                faults.push(format!("`{path}` has no function `{function}`"));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// The checks find what they look for.
#[test]
fn the_checks_can_fail() {
    assert_eq!(imports("use crate::{a, b::{c, d}, e};\ncrate::f::g()"), ["a", "b", "e", "f"]);
    assert_eq!(
        empty_names("pub struct LinkManager;\nmod util;\nstruct Link;\nmod link;"),
        ["LinkManager", "util"]
    );
    let long = format!(
        "    pub fn long() {{\n{}    }}\n    fn short() {{\n    }}\n",
        "        A => {}\n".repeat(MAX_FUNCTION_LINES)
    );
    assert_eq!(long_functions(&long), [("long".to_owned(), MAX_FUNCTION_LINES + 2)]);
    assert_eq!(
        body("a\n#[cfg(test)]\nuse b;\n\n#[cfg(test)]\nmod tests {}"),
        "a\n#[cfg(test)]\nuse b;\n"
    );
    let (begun, line) = (
        |kind: &str| format!("-----BEGIN {kind}{}{}", PRIVATE_KEY.0, PRIVATE_KEY.1),
        "MC4C".repeat(16),
    );
    for key in [
        format!("key: |\n  {}\n  {line}\n", begun("")),
        format!(
            "{}\r\nProc-Type: 4,ENCRYPTED\r\nDEK-Info: AES-256-CBC,00\r\n\r\n{line}\r\n",
            begun("RSA ")
        ),
        format!("{{\"key\": \"{}\\n{line}\\n\"}}", begun("EC ")),
    ] {
        assert!(holds_private_key(&key), "{key}");
    }
    for none in [
        format!("\"holds no {}\"; write it behind the certificate", begun("")),
        format!("{}\n...\n", begun("")),
        format!("-----BEGIN CERTIFICATE-----\n{line}\n"),
    ] {
        assert!(!holds_private_key(&none), "{none}");
    }
}
