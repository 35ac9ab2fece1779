//! `sessions`: what is stored of the clients, straight from Kafka; instances need not run. Only `end` claims or changes anything.

use std::error::Error;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use humantime::{format_duration, format_rfc3339_seconds};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::config::Stored;
use crate::mapping::RuleSet;
use crate::relay::{Listed, Roster, Shown, Standing, StoreSettings, discard, roster};
use crate::upstream::{Cluster, Settings};

use super::exit::{Exit, answer, tell};

/// All sessions, a line for each.
pub(super) fn list(stored: &Stored, json: bool) -> Exit {
    with_roster(stored, None, |roster, now| {
        let sessions = roster.sessions(now);
        let text = if json { json_lines(sessions) } else { table(sessions, now) };
        answer(text.trim_end())
    })
}

/// One session whole.
pub(super) fn show(stored: &Stored, client: &str, json: bool) -> Exit {
    with_roster(stored, Some(client), |roster, now| match roster.shown(now) {
        Some(shown) if json => answer(&line(&shown.listed, Some(&shown))),
        Some(shown) => answer(description(&shown, now).trim_end()),
        None => unknown(client),
    })
}

/// Ends one session, if there is one: of who is not known nothing is written.
pub(super) fn end(kafka: Settings, store: StoreSettings, rules: RuleSet, client: &str) -> Exit {
    let ended = in_runtime(async {
        let cluster = Cluster::start(kafka);
        let ended = end_if_known(store, &cluster, rules, client).await;
        cluster.shutdown().await;
        ended
    });
    match ended {
        Ok(Ok(true)) => answer(&format!("there is no session of {client:?} any more")),
        Ok(Ok(false)) => unknown(client),
        Ok(Err(why)) => {
            tell(&why);
            Exit::Unavailable
        }
        Err(exit) => exit,
    }
}

/// Whether the client was known.
async fn end_if_known(settings: StoreSettings, cluster: &Cluster, rules: RuleSet, client: &str) -> Result<bool, Box<dyn Error>> {
    let is_known = roster(cluster, &settings.topic, Some(client)).await?.is_known(now());
    if is_known {
        discard(settings, cluster, Arc::new(rules), client).await?;
    }
    Ok(is_known)
}

fn unknown(client: &str) -> Exit {
    tell(&format_args!("there is no session of {client:?}"));
    Exit::NoInput
}

fn in_runtime<T>(work: impl Future<Output = T>) -> Result<T, Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| {
        tell(&format_args!("the system refuses a runtime: {e}; raise the limits of the process"));
        Exit::System
    })?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    Ok(done)
}

fn with_roster(stored: &Stored, client: Option<&str>, then: impl FnOnce(&Roster, u64) -> Exit) -> Exit {
    let found = in_runtime(async {
        let cluster = Cluster::start(stored.kafka.clone());
        roster(&cluster, &stored.topic, client).await
    });
    match found {
        Ok(Ok(roster)) => then(&roster, now()),
        Ok(Err(why)) => {
            tell(&why);
            Exit::Unavailable
        }
        Err(exit) => exit,
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A session as one JSON object. Times are milliseconds since 1970.
#[derive(Serialize)]
struct Line<'a> {
    client: &'a str,
    standing: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
    owner: &'a str,
    partition: i32,
    claim: Option<i64>,
    will: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<&'a RawValue>,
}

fn line(listed: &Listed<'_>, shown: Option<&Shown<'_>>) -> String {
    let (since, until) = match listed.standing {
        Standing::Away { since, until } => (Some(since), until),
        _ => (None, None),
    };
    let line = Line {
        client: listed.client,
        standing: word(listed.standing),
        since,
        until,
        owner: listed.owner,
        partition: listed.partition,
        claim: listed.claim,
        will: listed.has_will,
        state: shown.and_then(|shown| shown.state),
        steps: shown.and_then(|shown| shown.steps),
    };
    serde_json::to_string(&line).expect("strings and numbers have a JSON form")
}

fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Connected => "connected",
        Standing::Away { .. } => "away",
        Standing::Unreadable => "unreadable",
    }
}

/// `CLIENT` comes last: it may hold anything, so it is quoted where it would not be one word.
fn table<'a>(sessions: impl Iterator<Item = Listed<'a>>, now: u64) -> String {
    let mut text = format!(
        "{:<11}{:<22}{:<22}{:<6}{:<40}CLIENT\n",
        "STANDING", "SINCE", "EXPIRES", "WILL", "OWNER"
    );
    for listed in sessions {
        let (since, until) = times(listed.standing, now);
        let (standing, will) = (word(listed.standing), if listed.has_will { "yes" } else { "no" });
        let client = quoted(listed.client);
        let _ = writeln!(text, "{standing:<11}{since:<22}{until:<22}{will:<6}{:<39} {client}", listed.owner);
    }
    text
}

fn json_lines<'a>(sessions: impl Iterator<Item = Listed<'a>>) -> String {
    sessions.map(|listed| line(&listed, None) + "\n").collect()
}

fn quoted(client: &str) -> String {
    let plain = |c: char| !c.is_control() && !c.is_whitespace() && c != '"';
    match client.chars().all(plain) {
        true => client.to_owned(),
        false => format!("{client:?}"),
    }
}

fn times(standing: Standing, now: u64) -> (String, String) {
    match standing {
        Standing::Away { since, until } => (moment(since), until.map_or("never".to_owned(), |at| remaining(at, now))),
        _ => ("-".to_owned(), "-".to_owned()),
    }
}

fn moment(millis: u64) -> String {
    let at = UNIX_EPOCH.checked_add(Duration::from_millis(millis));
    at.map_or_else(|| millis.to_string(), |at| format_rfc3339_seconds(at).to_string())
}

fn remaining(at: u64, now: u64) -> String {
    format!("in {}", format_duration(Duration::from_secs(at.saturating_sub(now) / 1000)))
}

/// What is known, then the records as they are.
fn description(shown: &Shown<'_>, now: u64) -> String {
    let listed = &shown.listed;
    let (since, until) = times(listed.standing, now);
    let claim = listed.claim.map_or("-".to_owned(), |claim| claim.to_string());
    let record = |value: Option<&RawValue>| value.map_or("-".to_owned(), |value| value.get().to_owned());
    let rows = [
        ("client", quoted(listed.client)),
        ("standing", word(listed.standing).to_owned()),
        ("since", since),
        ("expires", until),
        ("owner", listed.owner.to_owned()),
        ("partition", listed.partition.to_string()),
        ("claim", claim),
        ("state", record(shown.state)),
        ("steps", record(shown.steps)),
    ];
    rows.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{name:<11}{value}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const AWAY: Listed<'_> = Listed {
        client: "meter 7",
        partition: 3,
        standing: Standing::Away {
            since: 1_764_102_345_000,
            until: Some(1_764_105_945_000),
        },
        owner: "proxy-2-5f1c",
        claim: Some(12),
        has_will: true,
    };

    #[test]
    fn a_line_for_people_names_times_and_quotes_what_is_not_one_word() {
        let table = table([AWAY].into_iter(), 1_764_102_405_000);
        let words: Vec<_> = table.lines().nth(1).unwrap_or_default().split_whitespace().collect();
        assert_eq!(
            words,
            ["away", "2025-11-25T20:25:45Z", "in", "59m", "yes", "proxy-2-5f1c", "\"meter", "7\""]
        );
    }

    #[test]
    fn a_line_for_programs_is_json() {
        assert_eq!(
            line(&AWAY, None),
            r#"{"client":"meter 7","standing":"away","since":1764102345000,"until":1764105945000,"owner":"proxy-2-5f1c","partition":3,"claim":12,"will":true}"#
        );
    }
}
