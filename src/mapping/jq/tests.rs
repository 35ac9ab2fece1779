//! Programs over values: what they make, and that none costs more than it may.

use super::fuel::steps_taken;
use super::program::{Output, Program, Trouble};
use super::value::Value;

fn compile(text: &str) -> Program {
    Program::compile(text, vec!["$vin".to_owned(), "$now".to_owned()], vec![]).unwrap_or_else(|wrong| panic!("{text}: {wrong:?}"))
}

fn run(text: &str, input: &str) -> (Result<Vec<String>, Trouble>, u64) {
    let mut outputs = Vec::new();
    let (outcome, steps) = compile(text).run(
        input.len(),
        || Value::from_json(input.as_bytes()).map_err(|_| Trouble::Unreadable("json")),
        |name| if name == "$vin" { Value::text("42") } else { Value::int(1_000) },
        |output: Output| {
            outputs.push(output.value.to_json());
            Ok(())
        },
    );
    (outcome.map(|()| outputs), steps)
}

#[track_caller]
fn gives(text: &str, input: &str, expected: &[&str]) {
    assert_eq!(run(text, input).0.unwrap(), expected, "{text}");
}

#[test]
fn programs_select_reshape_and_split() {
    gives(
        "select(.celsius > 90) | {vin: $vin, celsius, at: $now}",
        r#"{"celsius":91.5}"#,
        &[r#"{"vin":"42","celsius":91.5,"at":1000}"#],
    );
    gives("select(.celsius > 90)", r#"{"celsius":90}"#, &[]);
    gives(
        ".readings[] | {v: .}",
        r#"{"readings":[1,2.50,"x"]}"#,
        &[r#"{"v":1}"#, r#"{"v":2.5}"#, r#"{"v":"x"}"#],
    );
    gives(
        "to_entries | map({(.key): .value + 1}) | add",
        r#"{"b":1,"a":2}"#,
        &[r#"{"b":2,"a":3}"#],
    );
    gives(".a.b |= . * 2 | del(.c) | .d[1:]", r#"{"a":{"b":4},"c":1,"d":[1,2,3]}"#, &["[2,3]"]);
    gives(".a.b |= . * 2 | del(.c)", r#"{"a":{"b":4},"c":1}"#, &[r#"{"a":{"b":8}}"#]);
    gives(
        "[limit(3; range(10))], first(.[]), last, (map(. * .) | add)",
        "[1,2,3]",
        &["[0,1,2]", "1", "3", "14"],
    );
    gives(
        "18446744073709551615, 9007199254740993, .",
        "9223372036854775807",
        &["18446744073709551615", "9007199254740993", "9223372036854775807"],
    );
    gives(
        "\"\\(.a)-\\(.b)\" | ascii_upcase | split(\"-\")",
        r#"{"a":"x","b":[1]}"#,
        &[r#"["X","[1]"]"#],
    );
    gives(
        "[.[] | tonumber? // \"no\"], (0 | todate), (\"1970-01-01T00:00:01.500Z\" | fromdate)",
        r#"["1","x"]"#,
        &[r#"[1,"no"]"#, r#""1970-01-01T00:00:00Z""#, "1.5"],
    );
    gives(
        "@base64, (@base64 | @base64d), @uri, tojson, ([1,\"a\\\"b\"] | @csv)",
        r#""a/ä""#,
        &[r#""YS/DpA==""#, r#""a/ä""#, r#""a%2F%C3%A4""#, r#""\"a/ä\"""#, r#""1,\"a\"\"b\"""#],
    );
    gives(
        "sort_by(.k) | group_by(.k) | map(length), any, all",
        r#"[{"k":2},{"k":1},{"k":2}]"#,
        &["[1,2]", "true", "true"],
    );
    gives(
        "type, has(\"a\"), keys, (.. | numbers), contains({a: 1}), (try error(\"x\") catch .)",
        r#"{"a":1}"#,
        &["\"object\"", "true", "[\"a\"]", "1", "true", "\"x\""],
    );
    gives(
        "walk(if type == \"number\" then . + 1 else . end), ([paths] | length), getpath([\"a\",0])",
        r#"{"a":[1]}"#,
        &[r#"{"a":[2]}"#, "2", "1"],
    );
}

#[test]
fn what_is_wrong_with_a_program_is_told_with_its_place() {
    let wrong = |text: &str| {
        Program::compile(text, vec!["$vin".to_owned()], vec![])
            .err()
            .map(|wrong| (wrong[0].at, wrong[0].message.clone()))
    };
    assert_eq!(
        wrong(".a | foo(1)").unwrap(),
        (5, "there is no function `foo` with 1 arguments".to_owned())
    );
    assert_eq!(wrong("{a: $nothing}").unwrap().0, 4);
    let all = Program::compile("lookup(\"t\"; $a) | b", vec![], vec![]).err().unwrap();
    assert_eq!(all.iter().map(|wrong| wrong.at).collect::<Vec<_>>(), [8, 12, 18]);
    assert_eq!(wrong(".a | (.b").unwrap().0, 8);
    assert_eq!(wrong(".a | | .b").unwrap().0, 5);
    assert_eq!(wrong("").unwrap().0, 0);
    for away in [
        "now",
        "env",
        "$ENV",
        "halt",
        "input",
        "inputs",
        "debug",
        "include \"x\"; .",
        "import \"x\" as x; .",
        "$__prog_args",
    ] {
        assert!(wrong(away).is_some(), "{away}");
    }
    assert!(wrong("def f(g): f(g | .); f(.)").unwrap().1.contains("grows"));
    assert!(wrong("def f(g): def h: f(g | g); h; f(.)").is_some());
    assert!(wrong(&"(".repeat(10_000)).is_some() && wrong(&"[".repeat(60_000)).is_some());
    assert_eq!(wrong("def f($x): if $x > 3 then $x else f($x + 1) end; f(0)"), None);
    assert_eq!(wrong("def f(g): if . > 3 then . else g | f(g) end; f(. + 1)"), None);
}

/// Each would go on for ever, or take all memory, or the whole stack.
const HOSTILE: &[&str] = &[
    "def f: f; f",
    "def f: f | f; f",
    "def f: [f]; f",
    "def f: (f, 1) | f; f",
    "def f($x): f($x + 1); f(0)",
    "def f(g): g | f(g); f(.)",
    "range(infinite)",
    "[range(infinite)]",
    "last(range(infinite))",
    "[limit(1e9; repeat(1))]",
    "limit(1e9; range(infinite)) | empty",
    "skip(1e9; range(infinite))",
    "until(false; .)",
    "[while(true; . + 1)]",
    "[recurse(. + 1)]",
    "[range(90)] | [recurse] | [recurse] | [recurse] | .. | .. | .. | .. | .. | empty",
    "first(range(infinite) | select(false))",
    "isempty(range(infinite) | empty)",
    "reduce range(infinite) as $i (0; . + $i)",
    "foreach range(infinite) as $i (0; . + 1; empty)",
    "label $out | range(infinite) | select(. < 0) | break $out",
    "try until(false; .) catch .",
    "try (try until(false; .) catch until(false; .)) catch .",
    "[.[]?, (until(false; .))?] | 1",
    "(until(false; .) // 1)",
    "\"x\" * 1e9 | length",
    "\"x\" * 1e18",
    "[range(1e9)] | length",
    "reduce range(60) as $i (\"x\"; . + .) | length",
    "reduce range(60) as $i ([0]; . + .) | length",
    "reduce range(60) as $i (0; [., .]) | tojson",
    "reduce range(60) as $i (0; [., .]) | . == (. | map(.))",
    "reduce range(60) as $i (0; [., .]) | flatten",
    "reduce range(60) as $i (0; [., .]) | [..] | length",
    "reduce range(60) as $i (0; [., .]) | [paths] | length",
    "reduce range(60) as $i (0; {a: ., b: .}) | . * .",
    "reduce range(60) as $i (0; [., .]) | sort | error",
    "reduce range(60) as $i (0; [., .]) | . as $x | contains($x)",
    "reduce range(60) as $i (0; [., .]) | walk(.)",
    "reduce range(100000) as $i (0; [.])",
    "reduce range(100000) as $i (0; {a: .})",
    "reduce range(3000) as $i (.; record({}))",
    "reduce range(3000) as $i (.; {} | record({a: $i}) | [.] | .[0])  | until(false; .)",
    "reduce range(3000) as $i (.; . as $inner | 0 | record({key: $inner}))",
    "[range(100000)] as $p | null | setpath($p; 1)",
    "[range(100000)] as $p | null | [path(getpath($p))] | length",
    "[range(15000) | 0] as $p | null | [path(getpath($p))] | length",
    "(\"[\" * 1000000) | fromjson",
    "(\"[\" * 100000 + \"]\" * 100000) | fromjson? // until(false; .)",
    "[range(3000)] as $a | [range(3000)] as $b | $a - $b | until(false; .)",
    "[range(5000)] | [combinations(5)] | length",
    "[[range(100)], [range(100)], [range(100)], [range(100)]] | [combinations] | length",
    "[range(4000)] | indices([range(2000)]) | until(false; .)",
    "(\"ab\" * 10000) as $s | [range(10000)] | map($s) | add | length",
    "(\"a\" * 30000) | explode | map([., .]) | flatten | implode | split(\"\") | until(false; .)",
    "def f: reduce .[] as $x (.; [f]); [1] | f",
    "def f: .a |= f; f",
    "def f: .[] |= f; [[1]] | f",
    "path(def f: .a | f; f)",
    "[.. |= [., .]] | until(false; .)",
    "def f: try error(.) catch f; f",
    "def f: . as [$a] | f; f",
    "def f: if . then f else f end; f",
    "def f: f as $x | f; f",
    "def f: \"\\(f)\"; f",
    "def f: {a: f}; f",
    "def f: -f; f",
    "def f: f + f; f",
    "def f: label $x | f; f",
    "[range(10000)] | sort_by(until(false; .))",
    "[range(10000)] | group_by(range(infinite))",
];

/// They run on a stack as small as that of any thread of ours.
#[test]
fn no_program_goes_on_for_ever() {
    let mut survivors = Vec::new();
    for text in HOSTILE.iter().copied() {
        let ran = std::thread::Builder::new()
            .stack_size(2 << 20)
            .spawn(move || run(text, "1"))
            .unwrap()
            .join()
            .unwrap_or_else(|_| panic!("{text}"));
        if !matches!(ran.0, Err(Trouble::CutOff | Trouble::Error(_))) || ran.1 > 21_000 {
            survivors.push((text, ran));
        }
    }
    assert!(survivors.is_empty(), "{survivors:#?}");
}

#[test]
fn a_run_that_was_cut_off_leaves_nothing_behind() {
    assert_eq!(run("until(false; .)", "1").0, Err(Trouble::CutOff));
    gives("[range(100)] | length", "1", &["100"]);
    // Outside of runs values are compared without a bound.
    assert!((0..1_000_000).all(|_| Value::int(1) == Value::int(1)));
}

#[test]
fn payloads_that_are_nested_deeply_are_no_json() {
    let deep = "[".repeat(100_000);
    assert_eq!(run(".", &deep).0, Err(Trouble::Unreadable("json")));
    let legal = format!("{}{}", "[".repeat(120), "]".repeat(120));
    gives(".. |= . | tojson | fromjson", &legal, &[&legal]);
}

#[test]
fn regular_expressions_match_capture_scan_split_and_replace() {
    gives(
        r#"test("^v\\d+$"), test("V"; "i"), test(["V", "i"]), test("^v *(\\d) # one"; "x"), test("v\\d\\b"), test("")"#,
        r#""v7""#,
        &["true"; 6],
    );
    gives(r#"test("^\\d"), test("v$"), test("v.7"), test("^$")"#, r#""v7""#, &["false"; 4]);
    gives(r#"test("a.b"), test("a.b"; "s")"#, r#""a\nb""#, &["false", "true"]);
    // Offsets count characters; a group that took no part has none.
    gives(
        r#"match("(?<unit>[CF])(x)?"; "g")"#,
        r#""ä C F""#,
        &[
            r#"{"offset":2,"length":1,"string":"C","captures":[{"offset":2,"length":1,"string":"C","name":"unit"},{"offset":-1,"length":0,"string":null,"name":null}]}"#,
            r#"{"offset":4,"length":1,"string":"F","captures":[{"offset":4,"length":1,"string":"F","name":"unit"},{"offset":-1,"length":0,"string":null,"name":null}]}"#,
        ],
    );
    gives(
        r#"[match("ä|";"g").offset], [match("";"gn")], [match("b").offset]"#,
        r#""äöb""#,
        &["[0,1,2,3]", "[]", "[2]"],
    );
    gives(
        r#"capture("^(?<site>[a-z]+)-(?<line>\\d+)(?<rest>-.*)?$") | .line |= tonumber"#,
        r#""north-12""#,
        &[r#"{"site":"north","line":12,"rest":null}"#],
    );
    gives(
        r#"[scan("[a-z]+")], [scan("([a-z])(\\d)")], [scan("X"; "i")]"#,
        r#""ab c1 x2""#,
        &[r#"["ab","c","x"]"#, r#"[["c","1"],["x","2"]]"#, r#"["x"]"#],
    );
    gives(
        r#"split(", *"; null), [splits("B"; "i")], split(", ")"#,
        r#""a,  b,c""#,
        &[r#"["a","b","c"]"#, r#"["a,  ",",c"]"#, r#"["a"," b,c"]"#],
    );
    gives(
        r#"sub("\\s+"; "_"), gsub("\\s+"; "_"), gsub("(?<c>[a-z])"; "<\(.c | ascii_upcase)>"), gsub("^"; ">"), gsub("";"-"), sub("(?<x>B)"; .x + .x; "gi")"#,
        r#""a  ä b""#,
        &[
            r#""a_ä b""#,
            r#""a_ä_b""#,
            r#""<A>  ä <B>""#,
            r#"">a  ä b""#,
            r#""-a- - -ä- -b-""#,
            r#""a  ä bb""#,
        ],
    );
    // One that the program makes, and one of the program's own.
    gives(
        r#"test($vin), [scan("\($vin)|x")], (def test($x): $x; test("("))"#,
        r#""x42""#,
        &["true", r#"["x","42"]"#, "\"(\""],
    );
    let failed = |text: &str| match run(text, r#""a""#).0 {
        Err(Trouble::Error(why)) => why.trim_matches('"').to_owned(),
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(failed(r#"test("(" + "")"#), "not a regular expression: unclosed group");
    assert_eq!(failed(r#"test("a"; "" + "q")"#), "`q` is no flag: there are g, i, n, s and x");
    assert_eq!(failed(r#"test("x" * 2000)"#), "not a regular expression: longer than 1 KiB");
    assert_eq!(
        failed(r#"test("\\w" + "{90}")"#),
        "not a regular expression: takes more than 64 KiB"
    );
    assert!(failed("1 | test(\"a\")").contains("string"));
}

#[test]
fn a_regular_expression_that_is_none_is_told_where_it_stands() {
    let wrong = |text: &str| {
        Program::compile(text, vec![], vec![])
            .err()
            .map(|wrong| (wrong[0].at, wrong[0].message.clone()))
            .unwrap()
    };
    assert_eq!(
        wrong(r#".a | select(test("ab(c"))"#),
        (18, "not a regular expression: unclosed group".to_owned())
    );
    assert_eq!(
        wrong(r#"gsub("a"; "b"; "q")"#),
        (6, "`q` is no flag: there are g, i, n, s and x".to_owned())
    );
    assert!(wrong(r#"sub("(?=a)"; "")"#).1.contains("look-around"));
    assert!(wrong(r#"test("\\w{900}")"#).1.ends_with("takes more than 512 KiB"));
}

/// Whatever a text is, and whoever wrote the expression: a run comes by within its bound, and what the automaton walks costs little.
#[test]
fn regular_expressions_cost_what_they_walk() {
    let long = format!("\"{}\"", "ab".repeat(30_000));
    for hostile in [
        r#"test("(.*)(.*)(.*)(.*)x" + "")"#,
        r#"[range(100000)] | map(tostring | test("a" + .))"#,
        r#"gsub("a(?<x>.*)y|a"; "")"#,
        r#"[scan("(a|b|ab)*z|a")]"#,
        r#"last(range(1000000) | tostring as $n | "x" | test("[\($n)]"))"#,
        // What is too large, or no expression at all, costs as well: `try` goes on.
        r#"[range(100) | tostring as $n | try ("x" | test(("\\w" * 400) + $n)) catch 0] | length"#,
        r#"[range(100) | tostring as $n | try ("x" | test(("\\s" * 400) + $n)) catch 0] | length"#,
        r#"[range(100) | tostring as $n | try ("x" | test(("(a|b)" * 200) + $n + "(")) catch 0] | length"#,
        r#""x" | test("(?i)\\p{Any}" + "")"#,
        r#""x" | test("[a-\\x{10ffff}]" + ""; "i")"#,
    ] {
        let (outcome, steps) = run(hostile, &long);
        assert_eq!(outcome, Err(Trouble::CutOff), "{hostile}");
        assert!(steps <= 20_000 + 60_002 / 8 + 1, "{hostile}: {steps}");
    }
    let (outcome, steps) = run(r#"test("^v\\d+-" + "(?i:north|süd)$")"#, r#""v123-NORTH""#);
    assert_eq!(outcome.unwrap(), ["true"]);
    assert!((500..2_000).contains(&steps), "{steps}");
    let (outcome, steps) = run(r#"test("(?i)[cd]+|x$"), (gsub("(ab)+"; "z"; "i"))"#, &long);
    assert_eq!(outcome, Err(Trouble::CutOff), "a group is looked for by states: {steps}");
    let (outcome, steps) = run(r#"test("(?i)[cd]+|x$"), gsub("(?:ab)+"; "z"; "i")"#, &long);
    assert_eq!(outcome.unwrap(), ["false", "\"z\""]);
    assert!(steps < 10_000, "three walks over 60 kB: {steps}");
    let (outcome, steps) = run(r#"test("^v\\d{3}-(north|south)-\\w+$")"#, r#""v123-north-line_7""#);
    assert_eq!(outcome.unwrap(), ["true"]);
    assert!(steps < 40, "{steps}");
}

#[test]
fn what_the_runs_of_a_thread_take_adds_up() {
    let before = steps_taken();
    let runs = [".", "last(range(1000000) | . + 1)", "error(\"no\")"].map(|program| run(program, "1"));
    assert_eq!(runs[1].0, Err(Trouble::CutOff));
    assert_eq!(steps_taken() - before, runs.iter().map(|(_, steps)| steps).sum::<u64>());
}

/// What stands behind it would not be looked at before it runs.
#[test]
fn a_program_is_no_module() {
    for text in ["module {}; .a | length", "module {}; def f(g): f(g|g); f(.)"] {
        let wrong = Program::compile(text, vec![], vec![]).err().unwrap();
        assert!(wrong[0].message.contains("module"), "{wrong:?}");
    }
}
