//! Tables that programs look into: files, and topics as they are read.

use super::transforms::{faults, refusal, telemetry, values};
use super::*;

fn table(file: &str, key: Option<&str>, content: &str) -> Result<Table, String> {
    Table::new(file.into(), key.map(Into::into), content.as_bytes())
}

#[test]
fn programs_look_into_tables() {
    let sites = table("sites.csv", None, "vin,site,note\n42,Berlin,\"a, b\"\n7,Paris,\n").unwrap();
    let limits = table("limits.json", Some("k"), r#"[{"k":"true","max":1},{"k":"1.5","max":2}]"#).unwrap();
    let (sites, limits) = (std::sync::Arc::new(sites), std::sync::Arc::new(limits));
    let mut rule = telemetry(r#"[lookup("sites"; $vin).site, lookup("sites"; "8"), lookup("limits"; .a).max, lookup("limits"; null)]"#);
    rule.lookup = vec![("sites".into(), sites.clone()), ("limits".into(), limits)];
    let set = compile(vec![rule.clone()]);
    assert_eq!(values(&set, br#"{"a":true}"#), [r#"["Berlin",null,1,null]"#]);
    assert_eq!(values(&set, br#"{"a":1.5}"#), [r#"["Berlin",null,2,null]"#]);
    assert_eq!(refusal(&set, br#"{"a":[]}"#), RefusalReason::TransformError);
    assert!(set.rule(RuleId(0)).tables().len() == 2);
    sites.renew(b"vin,site\n42,Rome\n").unwrap();
    assert!(sites.renew(b"vin,site\n42,Rome\n42,Oslo\n").is_err());
    assert_eq!(values(&set, br#"{"a":true}"#), [r#"["Rome",null,1,null]"#]);

    rule.transform = Some("lookup(\"other\"; 1)".into());
    assert_eq!(faults(rule.clone()), [(Field::Transform, Some(8))]);
    rule.transform = Some(".".into());
    assert_eq!(faults(rule), [(Field::Lookup, None)]);
    for (file, key, content, words) in [
        ("a.csv", Some("x"), "a,b\n1,2\n", "has no column `x`"),
        ("a.csv", None, "a,b\n1,2,3\n", "is no CSV"),
        ("a.json", None, "[]", "is no object"),
        ("a.json", Some("k"), "{}", "is no array"),
        ("a.json", Some("k"), "[{}]", "has no text `k` in row 1: rows are found by it"),
        (
            "a.json",
            Some("k"),
            r#"[{"k":"a"},{"k":7}]"#,
            "has no text `k` in row 2: it is of the kind number, and keys of rows are strings",
        ),
        (
            "a.json",
            Some("k"),
            "[7]",
            "has no text `k` in row 1: the row is of the kind number",
        ),
        ("a.json", None, "{", "is no JSON"),
        ("a.txt", None, "", "neither"),
    ] {
        let why = table(file, key, content).unwrap_err();
        assert!(why.contains(words), "{why}");
    }
}

fn vins(key: Option<&str>, format: Format, memory: usize) -> (RuleSet, TopicRows) {
    let table = std::sync::Arc::new(Table::of_topic(TopicTable {
        topic: "vins".into(),
        key: key.map(Into::into),
        format,
        memory,
        sample: None,
    }));
    let mut rule = telemetry(r#"try lookup("vins"; .a) catch "caught" // "none""#);
    rule.lookup = vec![("vins".into(), table.clone())];
    (compile(vec![rule]), TopicRows::new(&table).unwrap())
}

#[test]
fn programs_look_into_the_table_of_a_topic() {
    let (set, mut rows) = vins(None, Format::Json, 1 << 20);
    let row = |key: &str| values(&set, format!(r#"{{"a":"{key}"}}"#).as_bytes());
    // Nobody knows yet what there is, and no program takes that for "nothing".
    assert_eq!(refusal(&set, br#"{"a":"42"}"#), RefusalReason::NoTable);
    assert_eq!(rows.put(Some(b"42"), Some(br#"{"site":"Berlin"}"#)), Put::Taken);
    assert_eq!(refusal(&set, br#"{"a":"42"}"#), RefusalReason::NoTable, "it is not published");
    rows.publish();
    assert_eq!(row("42"), [r#"{"site":"Berlin"}"#]);
    assert_eq!(row("7"), [r#""none""#]);
    for (key, value) in [
        (None, Some(&b"1"[..])),
        (Some(&b"\xff"[..]), Some(b"1")),
        (Some(b"42"), Some(b"{")),
        (Some(b"42"), Some(b"")),
    ] {
        assert_eq!(rows.put(key, value), Put::Unreadable);
    }
    assert_eq!(rows.put(Some(b"42"), Some(b"[1]")), Put::Taken);
    assert_eq!(rows.put(Some(b"7"), Some(b"null")), Put::Taken);
    assert_eq!(row("42"), [r#"{"site":"Berlin"}"#], "what is not published is not seen");
    rows.publish();
    assert_eq!(
        (row("42"), row("7"), rows.count()),
        (vec!["[1]".to_owned()], vec![r#""none""#.to_owned()], 2)
    );
    let held = rows.held();
    for key in ["42", "7", "nobody"] {
        assert_eq!(rows.put(Some(key.as_bytes()), None), Put::Taken);
    }
    rows.publish();
    assert_eq!((row("42"), rows.count(), rows.held()), (vec![r#""none""#.to_owned()], 0, 0));
    assert!(held > 0);
}

#[test]
fn a_topic_that_is_larger_than_its_table_may_be_makes_no_wrong_answers() {
    let (set, mut rows) = vins(None, Format::Text, 1_000);
    let value = "x".repeat(300);
    assert_eq!(rows.put(Some(b"a"), Some(value.as_bytes())), Put::Taken);
    assert_eq!(rows.put(Some(b"b"), Some(value.as_bytes())), Put::Taken);
    let held = rows.held();
    assert!((600..=1_000).contains(&held), "{held}");
    assert_eq!(rows.put(Some(b"c"), Some(value.as_bytes())), Put::NoRoom);
    // One that grows beyond the bound is none any more: what it was is not true.
    assert_eq!(rows.put(Some(b"b"), Some("y".repeat(900).as_bytes())), Put::NoRoom);
    rows.publish();
    assert!(!rows.is_whole() && rows.count() == 1);
    assert_eq!(values(&set, br#"{"a":"a"}"#), [format!("\"{value}\"")]);
    for lost in ["b", "c", "never there"] {
        let payload = format!(r#"{{"a":"{lost}"}}"#);
        assert_eq!(refusal(&set, payload.as_bytes()), RefusalReason::TableFull, "{lost}");
    }
    // A record of it that fits is known again.
    assert_eq!(rows.put(Some(b"c"), Some(b"z")), Put::Taken);
    rows.publish();
    assert_eq!(values(&set, br#"{"a":"c"}"#), [r#""z""#]);
    for key in ["a", "c"] {
        rows.put(Some(key.as_bytes()), None);
    }
    assert_eq!(
        (rows.held(), rows.count(), rows.is_whole()),
        (0, 0, false),
        "what was left out is still not there"
    );
}

#[test]
fn rows_of_a_topic_are_found_by_a_field_of_its_keys() {
    let (set, mut rows) = vins(Some("id"), Format::Cbor, 1 << 20);
    assert_eq!(rows.put(Some(br#"{"id":"x","more":1}"#), Some(b"\x81\x01")), Put::Taken);
    assert_eq!(rows.put(Some(br#"{"id":7}"#), Some(b"\x02")), Put::Taken);
    for key in [&b"x"[..], b"{}", br#"{"id":null}"#, br#"["id"]"#] {
        assert_eq!(rows.put(Some(key), Some(b"\x02")), Put::Unreadable);
    }
    rows.publish();
    assert_eq!(values(&set, br#"{"a":"x"}"#), ["[1]"]);
    assert_eq!(values(&set, br#"{"a":7}"#), ["2"]);
    assert_eq!(values(&set, br#"{"a":"7"}"#), ["2"]);
    assert_eq!(rows.put(Some(br#"{"id":7}"#), None), Put::Taken);
    rows.publish();
    assert_eq!(values(&set, br#"{"a":7}"#), [r#""none""#]);
}

/// What counts is about what the allocator gives: no topic fills a machine of which it may have a part.
#[test]
fn what_rows_of_a_topic_take_is_counted() {
    for (value, format) in [
        (
            r#"{"site":"Berlin","line":7,"tags":["a","b"],"at":{"x":1.5,"y":null}}"#,
            Format::Json,
        ),
        ("Berlin", Format::Text),
    ] {
        let mut counted = 0.0;
        let allocated = allocation_counter::measure(|| {
            let (_, mut rows) = vins(None, format, usize::MAX);
            for number in 0..20_000 {
                rows.put(Some(format!("vehicle-{number}").as_bytes()), Some(value.as_bytes()));
            }
            counted = rows.held() as f64;
            std::mem::forget(rows);
        });
        let real = allocated.bytes_current as f64;
        assert!(
            (0.7..=1.4).contains(&(counted / real)),
            "{format:?}: {counted} counted, {real} taken"
        );
    }
}

#[test]
fn a_table_that_no_program_names_is_told() {
    let sites = || std::sync::Arc::new(table("sites.csv", None, "vin,site\n42,Berlin\n").unwrap());
    let told = |program: &str| {
        let mut rule = telemetry(program);
        rule.lookup = vec![("sites".into(), sites()), ("limits".into(), sites())];
        rule.direction = Direction::Publish;
        let warnings = compile(vec![rule]).warnings();
        warnings.into_iter().map(|told| (told.field, told.message)).collect::<Vec<_>>()
    };
    let unused = "no program of the rule looks into the table `limits`, nor does one of another rule that has it".to_owned();
    assert_eq!(told("lookup(\"sites\"; $vin)"), [(Field::Lookup, unused)]);
    assert_eq!(told("[lookup(\"sites\", \"limits\"; $vin)]"), [], "it may be either");
    assert_eq!(told("lookup(.table; $vin)"), []);
    assert_eq!(told("def lookup(a; b): .; lookup(\"sites\"; $vin)"), []);
}

#[test]
fn a_table_that_rules_share_is_idle_only_if_none_of_them_looks_into_it() {
    let shared = |content: &str| std::sync::Arc::new(table("t.csv", None, content).unwrap());
    let rule = |name: &str, program: &str, tables: &[(&str, std::sync::Arc<Table>)]| RuleSpec {
        name: name.into(),
        mqtt: format!("{name}/{{vin}}"),
        direction: Direction::Publish,
        lookup: tables.iter().map(|(name, table)| ((*name).to_owned(), table.clone())).collect(),
        ..telemetry(program)
    };
    let told = |rules: Vec<RuleSpec>| {
        let warnings = compile(rules).warnings();
        warnings.into_iter().map(|told| (told.rule, told.field)).collect::<Vec<_>>()
    };
    let (sites, limits) = (shared("vin,site\n42,Berlin\n"), shared("vin,max\n42,7\n"));
    let both = [("sites", sites.clone()), ("limits", limits.clone())];
    let of_sites = || rule("a", "lookup(\"sites\"; $vin)", &both);
    let of_limits = rule("b", "lookup(\"limits\"; $vin)", &both);
    assert_eq!(told(vec![of_sites(), of_limits.clone()]), [], "each looks into its part");
    assert_eq!(told(vec![of_limits, of_sites()]), [], "in whatever order");
    // Nobody looks into `limits`.
    let idle = [(0, Field::Lookup), (1, Field::Lookup)];
    assert_eq!(told(vec![of_sites(), rule("b", "lookup(\"sites\"; 1)", &both)]), idle);
    // Another table of that name is not shared, nor is this one under another name.
    let other = [("sites", sites), ("limits", shared("vin,max\n7,1\n"))];
    let of_other = rule("b", "lookup(\"limits\"; lookup(\"sites\"; 1))", &other);
    assert_eq!(told(vec![of_sites(), of_other]), [(0, Field::Lookup)]);
    let renamed = rule("b", "lookup(\"most\"; $vin)", &[("most", limits)]);
    assert_eq!(told(vec![of_sites(), renamed]), [(0, Field::Lookup)]);
}
