//! The command line: what the user asked for, done, and told with an exit code.
//!
//! What was asked for goes to stdout, errors and logs to stderr. `run` builds every room and starts them; `lifecycle`
//! knows signals and the order of the end.

mod descriptors;
mod exit;
mod explain;
mod import;
mod lifecycle;
mod logs;
mod online;
mod password;
mod run;
mod sessions;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::config::{self, Config, Hidden, LoadError};
use crate::downstream::Listener;

use exit::Exit;
use logs::LogFormat;

const HELP: &str = "\
Examples:
  mqtt-kafka-proxy check -c proxy.yaml     all faults of the file, with line and column; then those of listeners' certificates
  mqtt-kafka-proxy explain vehicles/42/telemetry/rpm     which rules take a message, which records it makes
  mqtt-kafka-proxy run -c proxy.yaml       until SIGTERM or SIGINT
  mqtt-kafka-proxy import confluent kafka-mqtt.properties >proxy.yaml
  mqtt-kafka-proxy sessions list           what is stored of clients, straight from Kafka
More with each command: mqtt-kafka-proxy COMMAND --help

Exit codes:
   0  done; of `run`: ended by a signal, with everything in flight finished or given up within the bound
  64  faults in the configuration, a certificate or key of a listener that cannot be read or used, or a command line
      that is not understood; of `sessions`: the file stores none; of `sessions end` also: a file that its rules name
      cannot be read or used
  65  of `explain`: the answer is that nothing comes of it: no record, no message, or nothing to read; of `import`: the file says nothing
      that rules could be made of
  66  the configuration file, or the one to import or explain, cannot be read; of `sessions show` and `sessions end`: there is no such session
  69  of `check --online` and `sessions`: Kafka is not reached, or is not as the configuration needs it
  70  a fault of the program itself
  71  the system refuses: a port is taken or forbidden, no threads
  74  what was asked for cannot be written; of `password`: its file cannot be read or written
  75  of `run`: a second signal came before everything in flight was finished";

const RUN: &str = "\
Examples:
  mqtt-kafka-proxy run -c proxy.yaml
  RUST_LOG=debug mqtt-kafka-proxy run --log-format json 2>proxy.log";

const CHECK: &str = "\
Examples:
  mqtt-kafka-proxy check -c proxy.yaml            the file, and the certificates that it names
  mqtt-kafka-proxy check -c proxy.yaml --online   also whether Kafka is there as it needs it";

const PASSWORD: &str = "\
Example:
  mqtt-kafka-proxy password users.txt vin42 <secret.txt   the password is the first line of stdin
  mqtt-kafka-proxy password --scram scram.txt vin42 <secret.txt   for `method: scram`";

const EXPLAIN: &str = "\
Examples:
  mqtt-kafka-proxy explain vehicles/42/telemetry/rpm --payload 1850 --client device-1   which rules, which records
  mqtt-kafka-proxy explain --kafka vehicle-commands --key 42                            the way back
  mqtt-kafka-proxy explain vehicles/42/frame --payload-file frame.bin                   any bytes, here of a file
  mqtt-kafka-proxy explain --kafka frames --key-base64 /wA= --payload-base64 AAEC       or in base64
  mqtt-kafka-proxy explain --subscribe 'vehicles/42/#'                                  what a subscriber reads

Exit codes: 0, and 65 if the answer is that nothing comes of it: no record, no message, or nothing to read";

const IMPORT: &str = "\
Examples:
  mqtt-kafka-proxy import confluent kafka-mqtt.properties >proxy.yaml
  mqtt-kafka-proxy import confluent kafka-mqtt.properties mqtt.jaas >proxy.yaml   with the login modules of its listeners
  mqtt-kafka-proxy import emqx emqx.conf cluster.hocon >proxy.yaml";

const SCHEMA: &str = "\
Example:
  mqtt-kafka-proxy schema >proxy.schema.json   proxy.yaml begins with: # yaml-language-server: $schema=proxy.schema.json";

const SESSIONS: &str = "\
Examples:
  mqtt-kafka-proxy sessions list
  mqtt-kafka-proxy sessions show device-17 --json
  mqtt-kafka-proxy sessions end device-17       its client is disconnected, what was kept for it discarded";

/// Lets MQTT devices publish to and subscribe from Apache Kafka topics directly.
#[derive(Debug, Parser)]
#[command(name = "mqtt-kafka-proxy", version, after_help = HELP)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the proxy; it ends with SIGTERM or SIGINT
    #[command(after_help = RUN)]
    Run {
        /// The configuration file
        #[arg(short, long, value_name = "FILE", default_value = "proxy.yaml")]
        config: PathBuf,
        /// How log lines on stderr are written; what is logged is RUST_LOG's affair (default: info)
        #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
        log_format: LogFormat,
    },
    /// Check a configuration file and the certificates it names, and on request the Kafka cluster; start and change nothing
    #[command(after_help = CHECK)]
    Check {
        /// The configuration file
        #[arg(short, long, value_name = "FILE", default_value = "proxy.yaml")]
        config: PathBuf,
        /// Ask Kafka too: whether it takes us, has the topics of the rules, and state topics as they must be; and schema registries
        #[arg(long)]
        online: bool,
    },
    /// Put a user into a password file, or give one a new password; running proxies read the file again by themselves
    #[command(after_help = PASSWORD)]
    Password {
        /// The password file; it is made if it is missing
        file: PathBuf,
        /// The user's name, which is the identity
        user: String,
        /// For `method: scram`, whose file is another one
        #[arg(long)]
        scram: bool,
    },
    /// Tell what the rules make of a message, of a Kafka record, or of a subscriber's filter; nothing is sent or asked
    #[command(after_help = EXPLAIN)]
    Explain(Box<explain::Question>),
    /// Write the JSON Schema of proxy.yaml to stdout, for editors
    #[command(after_help = SCHEMA)]
    Schema,
    /// Write the configuration of another gateway as proxy.yaml to stdout, with a comment for each setting that has no equal
    #[command(subcommand, after_help = IMPORT)]
    Import(import::From),
    /// Tell what is stored of clients, straight from Kafka; no instance need run
    #[command(subcommand, after_help = SESSIONS)]
    Sessions(Sessions),
}

#[derive(Debug, Subcommand)]
enum Sessions {
    /// All stored sessions, a line for each
    List {
        /// The configuration file
        #[arg(short, long, value_name = "FILE", default_value = "proxy.yaml")]
        config: PathBuf,
        /// A JSON object in each line; times are milliseconds since 1970
        #[arg(long)]
        json: bool,
    },
    /// One session, with its records as they lie in the topic
    Show {
        /// Its client id
        client: String,
        /// The configuration file
        #[arg(short, long, value_name = "FILE", default_value = "proxy.yaml")]
        config: PathBuf,
        /// As one JSON object
        #[arg(long)]
        json: bool,
    },
    /// End one session: its client is disconnected wherever it is, and what was kept for it is discarded
    End {
        /// Its client id
        client: String,
        /// The configuration file
        #[arg(short, long, value_name = "FILE", default_value = "proxy.yaml")]
        config: PathBuf,
    },
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let exit = match CommandLine::try_parse() {
        Ok(CommandLine {
            command: Command::Run { config, log_format },
        }) => start(&config, log_format),
        Ok(CommandLine {
            command: Command::Check { config, online },
        }) => check(&config, online),
        Ok(CommandLine {
            command: Command::Password { file, user, scram },
        }) => password::put(&file, &user, scram),
        Ok(CommandLine {
            command: Command::Explain(question),
        }) => load(&question.config).map_or_else(
            |exit| exit,
            |config| {
                let own = [&*config.state_topics.sessions.name, &*config.state_topics.retained.name];
                let setting = explain::Setting {
                    state_topics: &own,
                    payload_format_check: config.payload_format_check,
                    retained_topic: &config.state_topics.retained.name,
                };
                explain::explain(&question, &config.rules, &setting)
            },
        ),
        Ok(CommandLine { command: Command::Schema }) => exit::answer(config::SCHEMA.trim_end()),
        Ok(CommandLine {
            command: Command::Import(from),
        }) => import::import(&from),
        Ok(CommandLine {
            command: Command::Sessions(wanted),
        }) => sessions(&wanted),
        Err(e) => misunderstood(&e),
    };
    exit.into()
}

/// Help, the version, or what is wrong with the command line.
fn misunderstood(error: &clap::Error) -> Exit {
    // Fails only if nobody reads; there is nobody to tell then.
    let _ = error.print();
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return Exit::Done;
    }
    let mut arguments = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    if arguments.next().as_deref() == Some("explain") {
        exit::tell(&explain::hint(error.kind(), &arguments.collect::<Vec<_>>()));
    }
    Exit::Usage
}

fn check(path: &Path, online: bool) -> Exit {
    let loaded = config::load(path);
    let (listeners, hidden) = match &loaded {
        Ok(config) => (config.listeners.as_slice(), &config.hidden),
        Err(LoadError::Faults { listeners, hidden, .. }) => (listeners.as_slice(), hidden),
        Err(LoadError::Unreadable { .. }) => (&[][..], &Hidden::default()),
    };
    let wrong = listeners.iter().filter_map(|listener| Listener::check(listener).err());
    let wrong: Vec<_> = wrong.map(|e| hidden.without_in(e)).collect();
    let loaded = loaded.map_err(|e| tell_why(&e));
    wrong.iter().for_each(exit::tell);
    let config = match loaded {
        Ok(config) if wrong.is_empty() => config,
        Ok(_) => return Exit::Usage,
        Err(exit) => return exit,
    };
    for warning in &config.warnings {
        exit::tell(&format_args!("{}:{}", path.display(), warning.as_warning()));
    }
    let rules = config.rules.len();
    let told = exit::answer(&format!(
        "{}: ok, {rules} {}",
        path.display(),
        if rules == 1 { "rule" } else { "rules" }
    ));
    if online && told == Exit::Done {
        online::check(&config)
    } else {
        told
    }
}

fn sessions(wanted: &Sessions) -> Exit {
    let (Sessions::List { config, .. } | Sessions::Show { config, .. } | Sessions::End { config, .. }) = wanted;
    let mut stored = match config::load_stored(config) {
        Ok(stored) => stored,
        Err(e) => return tell_why(&e),
    };
    let Some(store) = stored.store.take() else {
        exit::tell(&format_args!(
            "{}: this file stores no sessions in Kafka: it has no `sessions.expiry`, so sessions end with their connections; add for example \
             `sessions: {{expiry: {{default: 1h, max: 7d}}}}`, or name the file that the proxies run with: -c FILE",
            config.display()
        ));
        return Exit::Usage;
    };
    match wanted {
        Sessions::List { json, .. } => sessions::list(&stored, *json),
        Sessions::Show { client, json, .. } => sessions::show(&stored, client, *json),
        Sessions::End { client, .. } => {
            for problem in &stored.unfit {
                exit::tell(&format_args!("{}:{problem}", config.display()));
            }
            // By the rules, and what they look up, its will is sent.
            match stored.rules {
                Ok(rules) if stored.unfit.is_empty() => sessions::end(stored.kafka, store, rules, client),
                Ok(_) => {
                    exit::tell(&format_args!(
                        "{}: the session is not ended: its will may need what cannot be read, and would be lost",
                        config.display()
                    ));
                    Exit::Usage
                }
                Err(e) => tell_why(&e),
            }
        }
    }
}

fn start(path: &Path, log_format: LogFormat) -> Exit {
    match load(path) {
        Ok(config) => {
            let _until_the_end = logs::start(log_format);
            run::run(config)
        }
        Err(exit) => exit,
    }
}

/// The configuration, or the code that tells why not; the words are on stderr by then.
fn load(path: &Path) -> Result<Config, Exit> {
    config::load(path).map_err(|e| tell_why(&e))
}

/// Why there is no configuration.
fn tell_why(error: &LoadError) -> Exit {
    exit::tell(error);
    match error {
        LoadError::Unreadable { .. } => Exit::NoInput,
        LoadError::Faults { .. } => Exit::Usage,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        CommandLine::command().debug_assert();
    }

    /// Each command shows itself at work; of one that has others below it, each of those is shown.
    #[test]
    fn every_command_has_examples() {
        for command in CommandLine::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let name = command.get_name();
            assert!(help.starts_with("Example"), "{name}");
            assert!(help.contains(&format!("\n  mqtt-kafka-proxy {name}")), "{name}");
            for below in command.get_subcommands() {
                let below = below.get_name();
                assert!(
                    help.contains(&format!("\n  mqtt-kafka-proxy {name} {below} "))
                        || help.contains(&format!("\n  mqtt-kafka-proxy {name} {below}\n")),
                    "{name} {below}"
                );
            }
        }
    }

    #[test]
    fn every_exit_code_is_in_the_help() {
        for exit in Exit::ALL {
            assert!(
                HELP.lines().any(|line| line.starts_with(&format!("  {:>2}  ", exit.code()))),
                "{exit:?}"
            );
        }
    }
}
