//! Files of lookup tables, read again when they change. One that cannot be read, or is wrong, leaves the rows of before.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::mapping::{LARGEST_TABLE, Table};

/// How often it is looked whether a file has changed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What a file looked like, as far as that tells a change.
type Look = Option<(SystemTime, u64)>;

/// The content of a file of rows.
///
/// # Errors
/// It cannot be read, or is too large, in words that follow its name.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    // One byte more than allowed tells "too large" without trusting what the file system says of its size.
    let read = File::open(path).and_then(|file| file.take(LARGEST_TABLE + 1).read_to_end(&mut content));
    read.map_err(|error| format!("cannot be read: {error}"))?;
    if content.len() as u64 > LARGEST_TABLE {
        return Err(format!("is larger than {} MiB", LARGEST_TABLE >> 20));
    }
    Ok(content)
}

/// Reads a table's file anew; what is wrong is logged. Blocks for as long as that takes.
pub fn read_anew(table: &Table) {
    let Some(file) = table.path() else { return };
    let path = file.display();
    match read(file).and_then(|content| table.renew(&content)) {
        Ok(rows) => tracing::info!(%path, rows, "a lookup table was read again"),
        Err(why) => tracing::error!(%path, why, "a lookup table cannot be read again: its rows stay as they were"),
    }
}

/// Reads the sample of a topic's table, if it has one, and has its rows stand for the topic's.
///
/// # Errors
/// The file, and what is wrong with it.
pub fn stand_in(table: &Table) -> Result<(), (PathBuf, String)> {
    let Some(path) = table.topic().and_then(|topic| topic.sample.as_ref()) else {
        return Ok(());
    };
    let taken = read(path).and_then(|content| table.stand_in(path, &content));
    taken.map(|_| ()).map_err(|why| (path.clone(), why))
}

/// Reads tables anew whose files change; those without one are left out. Runs until it is dropped.
pub async fn watch(tables: Vec<Arc<Table>>) {
    watch_each(tables, LOOK_AGAIN).await;
}

async fn watch_each(tables: Vec<Arc<Table>>, every: Duration) {
    let tables: Arc<[Arc<Table>]> = tables.into();
    let mut looks = look_at(&tables).await.unwrap_or_default();
    let mut clock = tokio::time::interval(every);
    loop {
        clock.tick().await;
        // Not where the runtime ends: this does so with it.
        let Some(now) = look_at(&tables).await else { continue };
        let before = std::mem::replace(&mut looks, now);
        for ((table, now), before) in tables.iter().zip(&looks).zip(before) {
            if *now != before {
                let table = table.clone();
                // A panic there is logged by its hook, and the rows stay.
                let _ = tokio::task::spawn_blocking(move || read_anew(&table)).await;
            }
        }
    }
}

/// Not where connections are served: a file system that is gone may hold up whoever looks.
async fn look_at(tables: &Arc<[Arc<Table>]>) -> Option<Vec<Look>> {
    let tables = tables.clone();
    let looks = tokio::task::spawn_blocking(move || tables.iter().map(|table| look(table)).collect());
    looks.await.ok()
}

fn look(table: &Table) -> Look {
    let metadata = table.path()?.metadata().ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_changes_is_read_again_and_one_that_is_wrong_leaves_its_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sites.csv");
        std::fs::write(&path, "vin,site\n1,a\n").unwrap();
        let table = Arc::new(Table::new(path.clone(), None, &read(&path).unwrap()).unwrap());
        let watching = watch_each(vec![table.clone()], Duration::from_millis(5));
        let row = |key: &str| table.row_as_json(key);
        assert_eq!(row("1").as_deref(), Some(r#"{"vin":"1","site":"a"}"#));
        let change = async {
            // It has looked at the file before that changes.
            tokio::time::sleep(Duration::from_millis(20)).await;
            std::fs::write(&path, "vin,site\n1,a\n2,bb\n").unwrap();
            while row("2").is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = watching => unreachable!("it has no end"),
            done = tokio::time::timeout(Duration::from_secs(60), change) => done.expect("it is read again"),
        }
        std::fs::write(&path, "vin,site\n1,a\n1,b\n").unwrap();
        read_anew(&table);
        std::fs::remove_file(&path).unwrap();
        read_anew(&table);
        assert_eq!(row("2").as_deref(), Some(r#"{"vin":"2","site":"bb"}"#));
    }
}
