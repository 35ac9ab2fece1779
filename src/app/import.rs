//! `import`: a configuration of another gateway, as `proxy.yaml` on stdout.

use std::path::PathBuf;

use clap::Subcommand;

use crate::import::{self, Source};

use super::exit::{Exit, answer, tell};

/// Of what.
#[derive(Debug, Subcommand)]
pub(super) enum From {
    /// The Confluent MQTT Proxy: kafka-mqtt.properties, and the JAAS files that its Java was given; or files with the variables of its image: a
    /// compose file, a script with `docker run -e`, a manifest of Kubernetes
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
            Ok(bytes) => match text(bytes) {
                Ok(text) => sources.push(Source { name, text }),
                Err(why) => {
                    tell(&format_args!("{name}{why}"));
                    return Exit::Nothing;
                }
            },
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

/// The text of a file.
///
/// # Errors
/// It is none; in words that follow its name.
fn text(bytes: Vec<u8>) -> Result<String, String> {
    if bytes.contains(&0) {
        return Err(": is no text; give the configuration file itself, saved as UTF-8".to_owned());
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
        format!(":{line}: is not UTF-8; save the file as UTF-8 (Java's own properties may be ISO 8859-1: iconv -f ISO-8859-1 -t UTF-8)")
    })
}
