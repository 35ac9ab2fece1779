//! Tables that programs look into: files, and topics as they are read.

use super::transforms::{faults, refusal, telemetry, values};
use super::*;

fn table(file: &str, key: Option<&str>, content: &str) -> Result<Table, String> {
    Table::new(file.into(), key.map(Into::into), content.as_bytes())
}

#[test]
fn programs_look_into_tables() {
    let sites = table("sites.csv", None, "vin,site,note\n42,Berlin,\"a, b\"\n7,Paris,\n").unwrap();
    let limits = table("limits.json", Some("k"), r#"[{"k":true,"max":1},{"k":1.5,"max":2}]"#).unwrap();
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
        (
            "a.json",
            Some("k"),
            "[{}]",
            "has no text, number or truth value `k` in row 1: rows are found by it",
        ),
        (
            "a.json",
            Some("k"),
            r#"[{"k":"a"},{"k":[7]}]"#,
            "has no text, number or truth value `k` in row 2: it is of the kind array",
        ),
        (
            "a.json",
            Some("k"),
            "[7]",
            "has no text, number or truth value `k` in row 1: the row is of the kind number",
        ),
        ("a.json", Some("k"), r#"[{"k":1},{"k":1}]"#, "has two rows of the key `1`"),
        ("a.csv", None, "a,b,b\n1,2,3\n", "has two columns `b`: 2 and 3"),
        ("a.json", None, "{", "is no JSON"),
        ("a.json", None, "{\"x\":1,\"y\":1,\"x\":2}", "has two rows of the key `x`"),
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
    (compile(vec![rule]), TopicRows::new(&table, 1).unwrap())
}

/// A record of the only partition, or of the first.
fn put(rows: &mut TopicRows, key: Option<&[u8]>, value: Option<&[u8]>) -> Put {
    rows.put(key, value, written(1, 0))
}

fn written(timestamp: i64, partition: i32) -> Written {
    Written { timestamp, partition }
}

/// The topic had one partition, and has two: what was written before still lies in the first, which is read beside the second.
#[test]
fn keys_that_have_moved_to_another_partition_have_their_last_record() {
    let later = [(Some("42"), Some("2"), "2"), (Some("7"), None, "\"none\"")];
    for old_first in [true, false] {
        let (set, rows) = vins(None, Format::Json, 1 << 20);
        let table = set.rule(RuleId(0)).tables()[0].1.clone();
        drop(rows);
        let mut rows = TopicRows::new(&table, 2).unwrap();
        for step in [old_first, !old_first] {
            for (key, value, _) in later {
                let (value, written) = match step {
                    true => (Some("1"), written(5, 0)),
                    false => (value, written(6, 1)),
                };
                assert_eq!(rows.put(key.map(str::as_bytes), value.map(str::as_bytes), written), Put::Taken);
            }
        }
        rows.settle();
        rows.publish();
        for (key, _, row) in later {
            let payload = format!("{{\"a\":\"{}\"}}", key.unwrap());
            assert_eq!(values(&set, payload.as_bytes()), [row], "{key:?}, the old one first: {old_first}");
        }
        // A clock that went back is no reason to leave out what its own partition says.
        assert_eq!(rows.put(Some(b"42"), Some(b"3"), written(4, 1)), Put::Taken);
        assert_eq!(rows.put(Some(b"42"), Some(b"1"), written(3, 0)), Put::Taken);
        rows.publish();
        assert_eq!(values(&set, br#"{"a":"42"}"#), ["3"]);
        let held = rows.held();
        assert_eq!(rows.put(Some(b"42"), None, written(7, 1)), Put::Taken);
        assert!(held > 0 && rows.held() == 0 && rows.count() == 0, "{held} and {}", rows.held());
    }
}

/// What it takes to know which record was the last one counts as the rows do.
#[test]
fn records_that_remove_rows_take_room_until_all_has_been_read() {
    let (set, _) = vins(None, Format::Json, 300);
    let mut rows = TopicRows::new(&set.rule(RuleId(0)).tables()[0].1, 2).unwrap();
    let put: Vec<Put> = (0..10)
        .map(|number: i32| rows.put(Some(format!("{number}").as_bytes()), None, written(1, 0)))
        .collect();
    assert!(put.starts_with(&[Put::Taken; 3]) && put.ends_with(&[Put::NoRoom; 2]), "{put:?}");
    assert!(!rows.is_whole() && rows.held() <= 300);
    rows.settle();
    assert_eq!(rows.held(), 0);
}

#[test]
fn programs_look_into_the_table_of_a_topic() {
    let (set, mut rows) = vins(None, Format::Json, 1 << 20);
    let row = |key: &str| values(&set, format!(r#"{{"a":"{key}"}}"#).as_bytes());
    // Nobody knows yet what there is, and no program takes that for "nothing".
    assert_eq!(refusal(&set, br#"{"a":"42"}"#), RefusalReason::NoTable);
    assert_eq!(put(&mut rows, Some(b"42"), Some(br#"{"site":"Berlin"}"#)), Put::Taken);
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
        assert_eq!(put(&mut rows, key, value), Put::Unreadable);
    }
    assert_eq!(put(&mut rows, Some(b"42"), Some(b"[1]")), Put::Taken);
    assert_eq!(put(&mut rows, Some(b"7"), Some(b"null")), Put::Taken);
    assert_eq!(row("42"), [r#"{"site":"Berlin"}"#], "what is not published is not seen");
    rows.publish();
    assert_eq!(
        (row("42"), row("7"), rows.count()),
        (vec!["[1]".to_owned()], vec![r#""none""#.to_owned()], 2)
    );
    let held = rows.held();
    for key in ["42", "7", "nobody"] {
        assert_eq!(put(&mut rows, Some(key.as_bytes()), None), Put::Taken);
    }
    rows.publish();
    assert_eq!((row("42"), rows.count(), rows.held()), (vec![r#""none""#.to_owned()], 0, 0));
    assert!(held > 0);
}

#[test]
fn a_topic_that_is_larger_than_its_table_may_be_makes_no_wrong_answers() {
    let (set, mut rows) = vins(None, Format::Text, 1_000);
    let value = "x".repeat(300);
    assert_eq!(put(&mut rows, Some(b"a"), Some(value.as_bytes())), Put::Taken);
    assert_eq!(put(&mut rows, Some(b"b"), Some(value.as_bytes())), Put::Taken);
    let held = rows.held();
    assert!((600..=1_000).contains(&held), "{held}");
    assert_eq!(put(&mut rows, Some(b"c"), Some(value.as_bytes())), Put::NoRoom);
    // One that grows beyond the bound is none any more: what it was is not true.
    assert_eq!(put(&mut rows, Some(b"b"), Some("y".repeat(900).as_bytes())), Put::NoRoom);
    rows.publish();
    assert!(!rows.is_whole() && rows.count() == 1);
    assert_eq!(values(&set, br#"{"a":"a"}"#), [format!("\"{value}\"")]);
    for lost in ["b", "c", "never there"] {
        let payload = format!(r#"{{"a":"{lost}"}}"#);
        assert_eq!(refusal(&set, payload.as_bytes()), RefusalReason::TableFull, "{lost}");
    }
    // A record of it that fits is known again.
    assert_eq!(put(&mut rows, Some(b"c"), Some(b"z")), Put::Taken);
    rows.publish();
    assert_eq!(values(&set, br#"{"a":"c"}"#), [r#""z""#]);
    for key in ["a", "c"] {
        put(&mut rows, Some(key.as_bytes()), None);
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
    assert_eq!(put(&mut rows, Some(br#"{"id":"x","more":1}"#), Some(b"\x81\x01")), Put::Taken);
    assert_eq!(put(&mut rows, Some(br#"{"id":7}"#), Some(b"\x02")), Put::Taken);
    for key in [&b"x"[..], b"{}", br#"{"id":null}"#, br#"["id"]"#] {
        assert_eq!(put(&mut rows, Some(key), Some(b"\x02")), Put::Unreadable);
    }
    rows.publish();
    assert_eq!(values(&set, br#"{"a":"x"}"#), ["[1]"]);
    assert_eq!(values(&set, br#"{"a":7}"#), ["2"]);
    assert_eq!(values(&set, br#"{"a":"7"}"#), ["2"]);
    assert_eq!(put(&mut rows, Some(br#"{"id":7}"#), None), Put::Taken);
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
        for partitions in [1, 2] {
            let mut counted = 0.0;
            let allocated = allocation_counter::measure(|| {
                let (set, _) = vins(None, format, usize::MAX);
                let mut rows = TopicRows::new(&set.rule(RuleId(0)).tables()[0].1, partitions).unwrap();
                for number in 0..20_000 {
                    put(&mut rows, Some(format!("vehicle-{number}").as_bytes()), Some(value.as_bytes()));
                }
                counted = rows.held() as f64;
                std::mem::forget((set, rows));
            });
            let real = allocated.bytes_current as f64;
            assert!(
                (0.7..=1.4).contains(&(counted / real)),
                "{format:?} in {partitions} partitions: {counted} counted, {real} taken"
            );
        }
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
