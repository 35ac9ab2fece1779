//! `import`: a configuration of another gateway, as `proxy.yaml` on stdout.

use std::path::PathBuf;

use clap::Subcommand;

use crate::import::{self, Source};

use super::exit::{Exit, answer, tell};

/// Of what.
#[derive(Debug, Subcommand)]
pub(super) enum From {
    /// The Confluent MQTT Proxy: kafka-mqtt.properties, and the JAAS files that its Java was given
    Confluent {
        /// The files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// EMQX: emqx.conf, cluster.hocon and other files in HOCON. Its Kafka connectors, actions and sources, with rules that are plain mappings
    Emqx {
        /// The files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

/// Writes it to stdout.
pub(super) fn import(from: &From) -> Exit {
    let (From::Confluent { files } | From::Emqx { files }) = from;
    let mut sources = Vec::with_capacity(files.len());
    for path in files {
        let name = path.display().to_string();
        match std::fs::read(path) {
            // Whatever its encoding, its settings are ASCII.
            Ok(bytes) => sources.push(Source {
                name,
                text: String::from_utf8_lossy(&bytes).into_owned(),
            }),
            Err(e) => {
                tell(&format_args!("{name}: cannot be read: {e}"));
                return Exit::NoInput;
            }
        }
    }
    let written = match from {
        From::Confluent { .. } => import::confluent(&sources),
        From::Emqx { .. } => import::emqx(&sources),
    };
    match written {
        Ok(yaml) => answer(yaml.trim_end()),
        Err(why) => {
            tell(&why);
            Exit::Nothing
        }
    }
}
