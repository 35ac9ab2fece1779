//! The newest schemas of the subjects that rules write. The last good one stays in force.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{
    RegistrySettings, SubjectSettings,
    client::{NotFound, RegistryClient},
};
use crate::{
    metrics::Metrics,
    schema::{Known, Schema, Written},
    upstream::backoff,
};

/// The wait after the first failure, and the longest.
const FIRST: Duration = Duration::from_millis(500);
const MOST: Duration = Duration::from_secs(30);

/// Keeps the subjects of one registry fresh, for ever.
pub(super) async fn keep(settings: RegistrySettings, client: Arc<RegistryClient>) {
    let (mut failures, mut told) = (0, HashMap::new());
    loop {
        let mut all = true;
        for subject in &settings.subjects {
            all &= renew(&settings, subject, &client, &mut told).await;
        }
        failures = if all { 0 } else { failures + 1 };
        sleep(match failures {
            // Instances that were started together do not ask together.
            0 => settings.refresh.mul_f64(1.0 - 0.2 * backoff::fraction()),
            failures => backoff::wait(failures - 1, FIRST, MOST.min(settings.refresh)),
        })
        .await;
    }
}

/// Asks for one subject. `told`: what was wrong the last time.
async fn renew(
    settings: &RegistrySettings,
    subject: &SubjectSettings,
    client: &RegistryClient,
    told: &mut HashMap<String, String>,
) -> bool {
    let (url, name, before) = (client.url(), subject.name.as_str(), subject.writer.get());
    match ask(client, subject, before.as_ref().map(|written| written.id)).await {
        Ok(written) => {
            if let Some(written) = written {
                tracing::info!(%url, subject = name, id = written.id, "the newest schema is known");
                // What it writes it can read, without asking.
                for catalog in settings.catalogs.iter().filter(|catalog| catalog.format() == subject.format) {
                    catalog.put(written.id, Known::Schema(written.schema.clone()));
                }
                subject.writer.set(written);
            } else if told.contains_key(name) {
                tracing::info!(%url, subject = name, "the registry answers again");
            }
            told.remove(name);
            true
        }
        Err(why) => {
            if told.get(name) != Some(&why) {
                let effect = match before {
                    Some(_) => "the last known schema stays in force",
                    None => "messages of its rules are refused",
                };
                tracing::error!(%url, subject = name, why, "the newest schema is not known; {effect}");
            }
            told.insert(name.to_owned(), why);
            false
        }
    }
}

/// The newest schema, compiled; `None`: it is the one that is in force.
async fn ask(client: &RegistryClient, subject: &SubjectSettings, now: Option<u32>) -> Result<Option<Written>, String> {
    let found = client.newest(&subject.name, subject.format).await.map_err(|not| match not {
        NotFound::Missing(why) | NotFound::Away(why) => why,
    })?;
    if now == Some(found.id) {
        return Ok(None);
    }
    let (id, format, message) = (found.id, subject.format, subject.message.clone());
    // A large one takes its time.
    let compiled = tokio::task::spawn_blocking(move || Schema::compile(format, &found.text, message.as_deref())).await;
    let compiled = compiled.unwrap_or_else(|_| Err("broke our compiler".to_owned()));
    let schema = compiled.map_err(|why| format!("its schema {id} {why}"))?;
    Ok(Some(Written {
        id,
        schema: Arc::new(schema),
    }))
}

/// Asks for each subject once: its name, and the id of its newest schema or what is wrong with it, in words for an operator.
pub async fn examine(settings: &RegistrySettings) -> Vec<(String, Result<u32, String>)> {
    let client = RegistryClient::new(settings, Metrics::new().outside);
    let mut found = Vec::new();
    for subject in &settings.subjects {
        let asked = ask(&client, subject, None).await;
        let id = asked.map(|written| written.map_or(0, |written| written.id));
        found.push((subject.name.clone(), id));
    }
    found
}
