//! What docs/kafka.md promises names the tests that hold it: each of them is there.

use std::fs;
use std::path::Path;

/// What stands between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn each_promise_names_tests_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = include_str!("../docs/kafka.md");
    let (_, section) = text.split_once("## What is promised, and where it ends\n").unwrap();
    let (table, _) = section.split_once("\n\n*").unwrap();
    let rows: Vec<_> = table.lines().filter(|line| line.starts_with('|')).skip(2).collect();
    assert!(rows.len() > 20, "{rows:?}");
    for row in rows {
        let (promise, cell) = row.trim_matches(['|', ' ']).rsplit_once(" | ").unwrap();
        let (mut file, mut source, mut tests) = ("", String::new(), 0);
        for word in quoted(cell) {
            if word.contains('/') {
                source = fs::read_to_string(root.join(word)).unwrap_or_else(|e| panic!("{word}: {e}"));
                file = word;
            } else {
                assert!(source.contains(&format!("fn {word}(")), "{file} has no test {word}: {promise}");
                tests += 1;
            }
        }
        assert!(tests > 0, "no test: {promise}");
    }
}
