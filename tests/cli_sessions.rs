//! `sessions` on the command line, as far as no Kafka is needed: what of a file keeps an operator from stored sessions, and what does not.

// clippy.toml allows it in test functions; the functions they share are not seen as such.
#![allow(clippy::unwrap_used)]

use std::process::Command;

const LISTENER: &str = "listeners: [{name: tls, address: \"127.0.0.1:0\", protocol: mqtts, tls: {certificate: gone.pem, key: gone.key}}]\n";
const KAFKA: &str = "kafka: {bootstrap_servers: [\"127.0.0.1:1\"]}\n";
const EXPIRY: &str = "sessions: {expiry: {default: 1h, max: 7d}}\n";
const RULES: &str =
    "rules: [{name: all, mqtt: \"a/{x}\", lookup: {t: gone.csv}, transform: 'lookup(\"t\"; $x)', kafka: {topic: t, key: \"{x}\"}}]\n";
const LOGINS: &str = "authentication: [{method: password_file, file: gone.txt}]\n";

const COMMANDS: [&[&str]; 4] = [&["list"], &["list", "--json"], &["show", "a"], &["end", "a"]];

/// Exit code, stdout, stderr.
fn sessions(text: &str, arguments: &[&str]) -> (i32, String, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("proxy.yaml"), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-kafka-proxy"));
    let output = command.arg("sessions").args(arguments).current_dir(folder.path()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_file_that_stores_no_sessions_is_told_so() {
    for more in ["", "sessions: {group_prefix: x}\n"] {
        for command in COMMANDS {
            let (code, out, err) = sessions(&[LISTENER, KAFKA, RULES, more].concat(), command);
            assert_eq!((code, out.as_str()), (64, ""), "{command:?}: {err}");
            let words = "proxy.yaml: this file stores no sessions in Kafka: it has no `sessions.expiry`";
            assert!(err.starts_with(words) && err.lines().count() == 1, "{command:?}: {err}");
        }
    }
}

/// They come as far as Kafka, which is not there; `end` does if what rules name can be read.
#[test]
fn files_of_rules_listeners_and_logins_keep_nobody_from_sessions() {
    let judge = |rules: &str, command: &[&str]| {
        let (code, out, err) = sessions(&[LISTENER, KAFKA, rules, LOGINS, EXPIRY].concat(), command);
        assert_eq!((code, out.as_str()), (69, ""), "{command:?}: {err}");
        assert!(err.lines().count() == 1 && err.contains("127.0.0.1:1"), "{command:?}: {err}");
    };
    // Each waits for Kafka as long as it does.
    std::thread::scope(|scope| {
        scope.spawn(|| judge(RULES, &["list"]));
        scope.spawn(|| judge(RULES, &["show", "a"]));
        scope.spawn(|| {
            judge(
                "rules: [{name: all, mqtt: \"a/{x}\", kafka: {topic: t, key: \"{x}\"}}]\n",
                &["end", "a"],
            );
        });
    });
}

/// The will of a session that is ended may look for a row: without the table it would be lost.
#[test]
fn a_session_is_not_ended_while_a_table_cannot_be_read() {
    let (code, out, err) = sessions(&[LISTENER, KAFKA, RULES, LOGINS, EXPIRY].concat(), &["end", "a"]);
    assert_eq!((code, out.as_str()), (64, ""), "{err}");
    let lines: Vec<&str> = err.lines().collect();
    assert!(
        lines.len() == 2
            && lines[0].starts_with("proxy.yaml:3:48: gone.csv cannot be read")
            && lines[1].starts_with("proxy.yaml: the session is not ended: its will may need"),
        "{err}"
    );
}

/// By the rules `end` sends a will; the others do without.
#[test]
fn what_is_needed_is_judged() {
    let broken = RULES.replace("$x)", "$y)");
    let (code, _, err) = sessions(&[LISTENER, KAFKA, &broken, EXPIRY].concat(), &["end", "a"]);
    assert!(code == 64 && err.contains("there is no variable `$y`"), "{code}: {err}");
    let nowhere = KAFKA.replace("127.0.0.1:1", "nowhere");
    for command in COMMANDS {
        let (code, _, err) = sessions(&[LISTENER, &nowhere, RULES, EXPIRY].concat(), command);
        assert!(
            code == 64 && err.contains("has no port") && err.lines().count() == 1,
            "{command:?}: {err}"
        );
    }
}
