//! The command line without a listener: help, version, `check`, exit codes, what goes to stdout and what to stderr.

// clippy.toml allows it in test functions; the functions they share are not seen as such.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

const GOOD: &str = "\
listeners: [{name: tcp, address: \"127.0.0.1:0\", protocol: mqtt, authentication: none}]
kafka: {bootstrap_servers: [\"${SERVERS:-127.0.0.1:1}\"]}
rules: [{name: all, mqtt: \"{topic#}\", kafka: {topic: mqtt, key: \"{topic}\"}}]
";

fn proxy(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-kafka-proxy"));
    let Output { status, stdout, stderr } = command
        .args(arguments)
        .current_dir(folder)
        .env("PASSWORD", "hunter2")
        .env_remove("RUST_LOG")
        .output()
        .unwrap();
    (
        status.code().unwrap(),
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    )
}

fn folder_with(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("proxy.yaml"), text).unwrap();
    folder
}

#[test]
fn a_good_file_is_told_on_stdout() {
    let folder = folder_with(GOOD);
    assert_eq!(
        proxy(folder.path(), &["check"]),
        (0, "proxy.yaml: ok, 1 rule\n".to_owned(), String::new())
    );
    let other = folder.path().join("proxy.yaml").display().to_string();
    let (code, out, _) = proxy(Path::new("/"), &["check", "-c", &other]);
    assert_eq!((code, out), (0, format!("{other}: ok, 1 rule\n")));
}

#[test]
fn a_warning_is_told_with_its_place_and_is_no_fault() {
    let folder = folder_with(&GOOD.replace("{topic#}", "a/+/{topic#}"));
    let (code, out, err) = proxy(folder.path(), &["check"]);
    assert_eq!((code, out.as_str()), (0, "proxy.yaml: ok, 1 rule\n"));
    let start = "proxy.yaml:3:28: warning: records of other producers reach no subscriber unless they have the header `mqtt.topic`";
    assert!(err.starts_with(start) && err.lines().count() == 1, "{err}");
    let sample = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (_, _, err) = proxy(sample, &["check"]);
    assert!(!err.contains("warning"), "{err}");
}

/// Where everybody is let in as nobody, a template that asks who it is refuses all.
/// [MQTT-3.8.3-3] cannot be kept without it.
#[test]
fn a_rule_that_does_not_tell_whose_a_record_is_is_warned_of() {
    let without = GOOD.replace("topic: mqtt,", "topic: mqtt, client_header: false,");
    let (code, _, err) = proxy(folder_with(&without).path(), &["check"]);
    let start = "proxy.yaml:3:75: warning: a subscription with No Local gets its client's own messages";
    assert!(code == 0 && err.starts_with(start) && err.lines().count() == 1, "{err}");
    for silent in [
        without.replace("client_header: false", "client_header: true"),
        without.replace("kafka: {topic", "direction: publish, kafka: {topic"),
    ] {
        let (code, _, err) = proxy(folder_with(&silent).path(), &["check"]);
        assert_eq!((code, err.as_str()), (0, ""), "{silent}");
    }
}

#[test]
fn an_identity_that_nobody_has_is_warned_of() {
    let kafka = r#"kafka: {topic: mqtt, key: "{identity}", headers: {who: "x-{identity}"}}"#;
    let nobody = GOOD.replace(r#"kafka: {topic: mqtt, key: "{topic}"}"#, &format!("direction: publish, {kafka}"));
    let nobody = nobody.replace("{topic#}", "#");
    let (code, _, err) = proxy(folder_with(&nobody).path(), &["check"]);
    let lines: Vec<&str> = err.lines().collect();
    assert_eq!((code, lines.len()), (0, 2), "{err}");
    let words =
        "warning: `{identity}` with `authentication: none`: everybody is let in as nobody, and all messages of this rule are refused";
    assert!(lines.iter().all(|line| line.contains(words)), "{err}");
    // What stands there for all counts only where a listener has nothing of its own.
    let unused = format!("{nobody}authentication: [{{method: certificate}}]\n");
    let (_, _, err) = proxy(folder_with(&unused).path(), &["check"]);
    assert_eq!(err.matches(words).count(), 2, "{err}");
    let known = unused.replace(", authentication: none", "");
    let (_, _, err) = proxy(folder_with(&known).path(), &["check"]);
    assert!(!err.contains(words), "{err}");
}

/// By TLS, or by what a balancer tells.
#[test]
fn a_listener_that_asks_for_no_certificate_where_only_certificates_count_is_warned_of() {
    const ASKED: &str = "no client is asked for one; add `client_ca`";
    const NAME: &str = "a balancer tells no other name than the common one; write `identity: common_name`";
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let tls = "protocol: mqtts, tls: {certificate: a.pem, key: a.key";
    let balanced = "protocol: mqtt, proxy_protocol: true, proxy_from: [\"127.0.0.1\"]";
    for (listener, method, told) in [
        ("protocol: mqtt", "{method: certificate}", Some(ASKED)),
        (&*format!("{tls}}}"), "{method: certificate}", Some(ASKED)),
        (
            &*format!("{tls}, client_ca: a.pem, client_auth: optional}}"),
            "{method: certificate}",
            None,
        ),
        (balanced, "{method: certificate}", Some(ASKED)),
        (&*format!("{balanced}, proxy_identity: true"), "{method: certificate}", None),
        (
            &*format!("{balanced}, proxy_identity: true"),
            "{method: certificate, identity: dns}",
            Some(NAME),
        ),
        (
            &*format!("{balanced}, proxy_identity: true"),
            "{method: certificate, identity: dns}, {method: certificate}",
            None,
        ),
        ("protocol: mqtt", "{method: certificate, identity: dns}", Some(ASKED)),
        ("protocol: mqtt", "{method: certificate}, {method: anonymous}", None),
        (
            "protocol: mqtt",
            "{method: certificate}, {method: http, url: \"http://127.0.0.1:1\"}",
            None,
        ),
    ] {
        let text = GOOD.replace(
            "protocol: mqtt, authentication: none",
            &format!("{listener}, authentication: [{method}]"),
        );
        let folder = folder_with(&text);
        std::fs::write(folder.path().join("a.pem"), made.cert.pem()).unwrap();
        std::fs::write(folder.path().join("a.key"), made.signing_key.serialize_pem()).unwrap();
        let (code, out, err) = proxy(folder.path(), &["check"]);
        assert_eq!((code, out.as_str()), (0, "proxy.yaml: ok, 1 rule\n"), "{err}\n{text}");
        let start =
            told.map(|told| format!("proxy.yaml:1:13: warning: nobody comes in at `tcp`: only certificates count there, and {told}"));
        assert!(err.starts_with(&start.unwrap_or_default()), "{err}\n{text}");
        assert_eq!(err.lines().count(), usize::from(told.is_some()), "{err}\n{text}");
    }
}

/// What stands in front of each mark is where the warning is told.
#[test]
fn what_is_warned_of_is_told_with_line_and_column_and_why() {
    let rules = r#"rules:
  - {name: all, direction: publish, mqtt_regex: "§a/.*", kafka: {topic: t}}
  - {name: later, direction: publish, mqtt_regex: "§a/[0-9]+", kafka: {topic: u}}
  - {name: filter, direction: publish, mqtt: "§a/+/b", kafka: {topic: u}}
  - {name: none, direction: publish, mqtt_regex: "§b#", kafka: {topic: u}}
  - {name: two, mqtt: "§c/{x}/{y}", kafka: {topic: v, key: "{x}{y}"}}
  - {name: copy, also: §true, direction: publish, mqtt: "d/#", kafka: {topic: w}}
  - {name: also, also: true, direction: publish, mqtt: "a/1", kafka: {topic: w}}
"#;
    let expected = [
        "",
        "never reached: `all` before it takes every topic of this expression; place it before `all`",
        "never reached: `all` before it takes every topic of this filter; place it before `all`",
        "no topic name matches this expression",
        "records of other producers reach no subscriber unless they have the header `mqtt.topic`: `kafka.key` has `{x}` beside something",
        "no ordinary rule takes a topic of this filter",
    ];
    let text = GOOD.lines().take(2).collect::<Vec<_>>().join("\n") + "\n" + rules;
    let places = text
        .lines()
        .zip(1..)
        .filter_map(|(line, number)| Some((number, line.find('§')? + 1)));
    let marks: Vec<(usize, usize)> = places.collect();
    let folder = folder_with(&text.replace('§', ""));
    let (code, out, err) = proxy(folder.path(), &["check"]);
    assert_eq!((code, out.as_str()), (0, "proxy.yaml: ok, 7 rules\n"), "{err}");
    let wanted = marks.iter().zip(expected).filter(|(_, words)| !words.is_empty());
    let wanted: Vec<String> = wanted
        .map(|((line, column), words)| format!("proxy.yaml:{line}:{column}: warning: {words}"))
        .collect();
    assert_eq!(err.lines().count(), wanted.len(), "{err}");
    for (told, wanted) in err.lines().zip(&wanted) {
        assert!(told.starts_with(wanted.as_str()), "{told}\nnot {wanted}");
    }
}

#[test]
fn all_faults_are_told_on_stderr() {
    let text = GOOD.replace("mqtt, auth", "mqttt, auth").replace("127.0.0.1:1}", "nowhere}") + "unmapped: \"${PASSWORD}\"\n";
    let folder = folder_with(&text);
    for command in ["check", "run"] {
        let (code, out, err) = proxy(folder.path(), &[command]);
        assert_eq!((code, out.as_str()), (64, ""));
        let lines: Vec<&str> = err.lines().collect();
        assert_eq!(lines.len(), 3, "{err}");
        assert!(
            lines[0].starts_with("proxy.yaml:1:59: ") && lines[0].ends_with("did you mean `mqtt`?"),
            "{err}"
        );
        assert!(lines[1].starts_with("proxy.yaml:2:29: ") && lines[1].contains("; "), "{err}");
        assert!(lines[2].starts_with("proxy.yaml:4:11: ") && !err.contains("hunter2"), "{err}");
    }
}

#[test]
fn an_example_that_fails_is_a_fault_for_every_command() {
    let examples = "examples: [{topic: a/1, becomes: {key: x}}]";
    let folder = folder_with(&GOOD.replace("name: all,", &format!("name: all, {examples},")));
    for command in [&["check"][..], &["run"], &["explain", "a/1"]] {
        let (code, out, err) = proxy(folder.path(), command);
        assert_eq!((code, out.as_str()), (64, ""), "{err}");
        assert!(err.contains("`key` becomes `a/1`, not `x`") && err.lines().count() == 1, "{err}");
    }
}

#[test]
fn a_file_that_is_not_there_is_66() {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, err) = proxy(folder.path(), &["check", "--config", "gone.yaml"]);
    assert_eq!((code, out.as_str()), (66, ""));
    assert!(err.starts_with("gone.yaml: cannot be read: ") && err.lines().count() == 1, "{err}");
}

#[test]
fn a_certificate_that_is_not_there_is_64() {
    let text = GOOD.replace("protocol: mqtt,", "protocol: mqtts, tls: {certificate: gone.pem, key: gone.key},");
    let folder = folder_with(&text);
    for command in ["check", "run"] {
        let (code, out, err) = proxy(folder.path(), &[command]);
        assert_eq!((code, out.as_str()), (64, ""), "{err}");
        assert!(err.lines().count() == 1 && err.contains("gone.pem"), "{err}");
    }
}

/// Files are looked into whatever else is wrong, and a table that is not there hides nothing of the program that looks into it.
#[test]
fn certificates_and_programs_are_judged_beside_other_faults() {
    let tls = "protocol: mqtts, tls: {certificate: gone.pem, key: gone.key},";
    let rules = "[{name: all, mqtt: \"a/{x}\", lookup: {t: gone.csv}, transform: 'lookup(\"t\"; $y)', kafka: {topic: mqtt, key: \"{x}-${UNSET}\"}}]";
    let text = GOOD.replace("protocol: mqtt,", tls);
    let text = format!("{}\nrules: {rules}\n", text.split_once("\nrules").unwrap().0);
    let (code, out, err) = proxy(folder_with(&text).path(), &["check"]);
    assert_eq!((code, out.as_str()), (64, ""), "{err}");
    for words in ["gone.csv cannot be read", "there is no variable `$y`", "no `UNSET`", "gone.pem"] {
        assert_eq!(err.lines().filter(|line| line.contains(words)).count(), 1, "{words}: {err}");
    }
    assert_eq!(err.lines().count(), 4, "{err}");
}

/// The file that is shipped is a whole: what one of its rules reads by the form of names is not what others mean by theirs.
#[test]
fn no_rule_of_the_shipped_file_reads_the_topics_of_others_by_their_form() {
    use mqtt_kafka_proxy::mapping::KafkaTopics;
    let config = mqtt_kafka_proxy::config::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("proxy.yaml")).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let tables = config.rules.tables();
    let mut named: Vec<String> = tables.iter().filter_map(|table| Some(table.topic()?.topic.clone())).collect();
    for (_, rule) in config.rules.iter() {
        named.extend(rule.kafka_topic().map(str::to_owned));
        named.extend(rule.topics().iter().cloned());
        named.extend(rule.dead_letter.clone());
    }
    assert!(named.len() > 5, "{named:?}");
    let mut forms = 0;
    for (_, rule) in config.rules.iter() {
        if let KafkaTopics::Like(form) = rule.kafka_topics() {
            forms += 1;
            let others: Vec<_> = named.iter().filter(|name| form.matches(name)).collect();
            assert!(others.is_empty(), "{} reads {others:?}", rule.name);
        }
    }
    assert!(forms > 0);
}

#[test]
fn help_and_version_are_on_stdout_and_usage_on_stderr() {
    let here = Path::new("/");
    let (code, out, err) = proxy(here, &["--help"]);
    assert_eq!((code, err.as_str()), (0, ""));
    for words in ["run", "check", "Examples:", "Exit codes:", "64", "74"] {
        assert!(out.contains(words), "no {words} in\n{out}");
    }
    for (command, own) in [
        (&["run"][..], "--log-format json"),
        (&["check"], "--online"),
        (&["password"], "secret.txt"),
        (&["explain"], "--kafka vehicle-commands"),
        (&["sessions"], "sessions show device-17"),
    ] {
        let (code, out, _) = proxy(here, &[command, &["--help"]].concat());
        assert!(code == 0 && out.contains(own), "{out}");
        let others = out.matches("  mqtt-kafka-proxy ").count() - out.matches(&format!("  mqtt-kafka-proxy {}", command[0])).count();
        assert_eq!(others, 0, "{out}");
    }
    let (code, out, _) = proxy(here, &["--version"]);
    assert_eq!((code, out), (0, format!("mqtt-kafka-proxy {}\n", env!("CARGO_PKG_VERSION"))));
    for arguments in [&[][..], &["frobnicate"], &["run", "--log-format", "xml"], &["check", "--offline"]] {
        let (code, out, err) = proxy(here, arguments);
        assert_eq!((code, out.as_str()), (64, ""), "{arguments:?}");
        assert!(!err.is_empty());
    }
}

#[test]
fn a_password_is_put_into_its_file() {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users.txt");
    let verifiers = folder.path().join("scram.txt");
    let put_into = |file: &Path, more: &[&str], user: &str, password: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_mqtt-kafka-proxy"))
            .args(["password", file.to_str().unwrap(), user])
            .args(more)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(!String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).contains("hunter2"));
        output.status.code().unwrap()
    };
    let put = |user: &str, password: &str| put_into(&file, &[], user, password);
    let put_verifier = |user: &str, password: &str| put_into(&verifiers, &["--scram"], user, password);
    assert_eq!((put_verifier("vin42", "hunter2\n"), put_verifier("vin43", "hunter2")), (0, 0));
    assert_eq!((put_verifier("vin42", "hunter3"), put_verifier("vin42", "hünter2")), (0, 64));
    let text = std::fs::read_to_string(&verifiers).unwrap();
    let made = mqtt_kafka_proxy::auth::scram::Verifiers::parse(&text).unwrap();
    assert!(text.lines().count() == 3 && made.knows("vin42") && made.knows("vin43"), "{text}");
    assert!(text.starts_with("# salts: ") && text.matches("# salts: ").count() == 1, "{text}");
    assert_eq!(text.lines().filter(|line| line.contains("$16384:")).count(), 2);
    assert_eq!(put("vin42", "hunter2\n"), 0);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(put("vin43", "hunter2"), 0);
    assert_eq!(put("vin42", "hunter3\r\n"), 0);
    assert_eq!((put("a:b", "hunter2"), put("a", ""), put("a", "\n")), (64, 64, 64));
    let text = std::fs::read_to_string(&file).unwrap();
    let users = mqtt_kafka_proxy::auth::passwords::Passwords::parse(&text).unwrap();
    assert_eq!(
        (users.len(), users.check("vin42", b"hunter3"), users.check("vin43", b"hunter2")),
        (2, Some(true), Some(true))
    );
    assert!(!text.contains("hunter"));
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o640,
        "what the owner allows stays"
    );
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        2,
        "nothing is left beside the two"
    );
}

#[test]
fn a_password_of_the_other_kind_is_refused_before_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let hash = mqtt_kafka_proxy::auth::passwords::entry("vin42", b"hunter2").unwrap();
    let salt = [7; mqtt_kafka_proxy::auth::scram::SALT];
    let verifier = mqtt_kafka_proxy::auth::scram::entry("vin42", "hunter2", &salt).unwrap();
    let put = |arguments: &[&str]| {
        // With nothing on its standard input: if it asked first, it would miss a password.
        let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-kafka-proxy"));
        let command = command
            .args(arguments)
            .current_dir(folder.path())
            .stdin(std::process::Stdio::null());
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    // To replace a user and to add one is the same.
    for (line, user, more, words) in [
        (&hash, "vin42", &["--scram"][..], "line 2: the file holds argon2id hashes"),
        (
            &hash,
            "vin43",
            &["--scram"],
            "leave `--scram` out to add to it, or name another file",
        ),
        (&verifier, "vin42", &[], "line 2: the file holds SCRAM-SHA-256 credentials"),
        (&verifier, "vin43", &[], "write `--scram` to add to it, or name another file"),
    ] {
        let text = format!("# fleet\n{line}\n");
        std::fs::write(folder.path().join("users.txt"), &text).unwrap();
        let (code, told) = put(&[&["password", "users.txt", user], more].concat());
        assert_eq!(code, 64, "{told}");
        assert!(told.starts_with("users.txt: ") && told.contains(words), "{told}");
        assert!(told.lines().count() == 1 && !told.contains("$"), "{told}");
        assert_eq!(std::fs::read_to_string(folder.path().join("users.txt")).unwrap(), text);
    }
}
