//! What `explain` is asked: its arguments, and the bytes that they stand for.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use clap::Args;

use crate::mapping::SamplePacket;

/// A packet of MQTT is never longer.
const LONGEST_PAYLOAD: u64 = 256 << 20;

/// Decoded. A type of its own: clap takes a `Vec` for an argument that may be repeated.
#[derive(Clone, Debug)]
pub(super) struct Bytes(Vec<u8>);

/// What is asked.
#[derive(Debug, Args)]
pub(in crate::app) struct Question {
    /// The topic of a PUBLISH; whether its client may publish it is not looked at
    #[arg(required_unless_present_any = ["kafka", "subscribe"], conflicts_with_all = ["kafka", "subscribe"])]
    pub(super) topic: Option<String>,
    /// Its payload, or with --kafka the record's value; empty without it
    #[arg(long, value_name = "TEXT", conflicts_with = "subscribe")]
    payload: Option<String>,
    /// The same, of any bytes, in base64
    #[arg(long, value_name = "BASE64", value_parser = bytes, conflicts_with_all = ["payload", "subscribe"])]
    payload_base64: Option<Bytes>,
    /// The same, as it stands in a file; `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["payload", "payload_base64", "subscribe"])]
    payload_file: Option<PathBuf>,
    /// The client id of its publisher
    #[arg(long, value_name = "ID", default_value = "client", conflicts_with_all = ["kafka", "subscribe"])]
    pub(super) client: String,
    /// Who its client was recognised as, for {identity}
    #[arg(long, value_name = "NAME", conflicts_with_all = ["kafka", "subscribe"])]
    pub(super) identity: Option<String>,
    /// A user property of it; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair, conflicts_with_all = ["kafka", "subscribe"])]
    pub(super) property: Vec<(String, String)>,
    #[command(flatten)]
    pub(super) packet: Packet,
    /// How many partitions the Kafka topic has: then the partition is told; with --subscribe that of the proxy's own records, where the filter
    /// fixes the key
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "kafka")]
    pub(super) partitions: Option<u32>,
    /// The Kafka topic of a record: the way back is told
    #[arg(long, value_name = "TOPIC", conflicts_with = "subscribe")]
    pub(super) kafka: Option<String>,
    /// The record's key; without it the record has none
    #[arg(long, value_name = "KEY", conflicts_with_all = ["topic", "subscribe"])]
    key: Option<String>,
    /// The same, of any bytes, in base64
    #[arg(long, value_name = "BASE64", value_parser = bytes, conflicts_with_all = ["key", "topic", "subscribe"])]
    key_base64: Option<Bytes>,
    /// A header of the record; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair, conflicts_with_all = ["topic", "subscribe"])]
    header: Vec<(String, String)>,
    /// A header of any bytes, behind those of --header; may be repeated
    #[arg(long, value_name = "NAME=BASE64", value_parser = bytes_pair, conflicts_with_all = ["topic", "subscribe"])]
    header_base64: Vec<(String, Bytes)>,
    /// The record's partition
    #[arg(long, value_name = "NUMBER", default_value_t = 0, value_parser = clap::value_parser!(i32).range(0..), conflicts_with_all = ["topic", "subscribe"])]
    pub(super) partition: i32,
    /// The record's value is null
    #[arg(long, conflicts_with_all = ["topic", "subscribe", "payload", "payload_base64", "payload_file"])]
    pub(super) tombstone: bool,
    /// A filter: what its subscriber reads is told
    #[arg(long, value_name = "FILTER")]
    pub(super) subscribe: Option<String>,
    /// As one JSON object
    #[arg(long)]
    pub(super) json: bool,
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value = "proxy.yaml")]
    pub(in crate::app) config: PathBuf,
}

/// What the PUBLISH says beside topic and payload.
#[derive(Debug, Args)]
pub(super) struct Packet {
    /// The QoS of the PUBLISH
    #[arg(long, value_name = "0|1|2", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2), conflicts_with_all = ["kafka", "subscribe"])]
    qos: u8,
    /// It has the retain flag
    #[arg(long, conflicts_with_all = ["kafka", "subscribe"])]
    retain: bool,
    /// Its payload format indicator: 1 is text in UTF-8, 0 any bytes
    #[arg(long, value_name = "0|1", value_parser = clap::value_parser!(u8).range(0..=1), conflicts_with_all = ["kafka", "subscribe"])]
    payload_format: Option<u8>,
    /// Its content type
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["kafka", "subscribe"])]
    content_type: Option<String>,
    /// Its response topic
    #[arg(long, value_name = "TOPIC", conflicts_with_all = ["kafka", "subscribe"])]
    response_topic: Option<String>,
    /// Its correlation data
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["kafka", "subscribe"])]
    correlation_data: Option<String>,
    /// Its message expiry interval
    #[arg(long, value_name = "SECONDS", conflicts_with_all = ["kafka", "subscribe"])]
    message_expiry: Option<u32>,
}

impl Packet {
    pub(super) fn sample(&self) -> SamplePacket<'_> {
        SamplePacket {
            qos: self.qos,
            retain: self.retain,
            expiry: self.message_expiry,
            is_utf8: self.payload_format.map(|format| format == 1),
            content_type: self.content_type.as_deref(),
            response_topic: self.response_topic.as_deref(),
            correlation_data: self.correlation_data.as_deref().map(str::as_bytes),
        }
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn bytes(text: &str) -> Result<Bytes, String> {
    let decoded = BASE64_STANDARD.decode(text);
    decoded.map(Bytes).map_err(|error| format!("no base64: {error}"))
}

fn bytes_pair(text: &str) -> Result<(String, Bytes), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=BASE64")?;
    Ok((name.to_owned(), bytes(value)?))
}

impl Question {
    /// The payload of the message, or the value of the record.
    ///
    /// # Errors
    /// Its file cannot be read, or is too long; in words.
    pub(super) fn payload(&self) -> Result<Vec<u8>, String> {
        match (&self.payload, &self.payload_base64, &self.payload_file) {
            (Some(text), ..) => Ok(text.as_bytes().to_vec()),
            (_, Some(Bytes(bytes)), _) => Ok(bytes.clone()),
            (.., Some(path)) => content(path),
            _ => Ok(vec![]),
        }
    }

    /// The record's key, if it has one.
    pub(super) fn key(&self) -> Option<&[u8]> {
        let text = self.key.as_deref().map(str::as_bytes);
        text.or(self.key_base64.as_ref().map(|Bytes(bytes)| bytes.as_slice()))
    }

    /// The record's headers, in order.
    pub(super) fn headers(&self) -> Vec<(String, Vec<u8>)> {
        let texts = self.header.iter().map(|(name, value)| (name.clone(), value.as_bytes().to_vec()));
        let others = self.header_base64.iter().map(|(name, Bytes(value))| (name.clone(), value.clone()));
        texts.chain(others).collect()
    }
}

fn content(path: &Path) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    // One byte more than allowed tells "too long" without trusting what the file system says of its size.
    let read = if path.as_os_str() == "-" {
        io::stdin().lock().take(LONGEST_PAYLOAD + 1).read_to_end(&mut content)
    } else {
        File::open(path).and_then(|file| file.take(LONGEST_PAYLOAD + 1).read_to_end(&mut content))
    };
    read.map_err(|error| format!("{}: cannot be read: {error}", path.display()))?;
    if content.len() as u64 > LONGEST_PAYLOAD {
        return Err(format!("{}: is larger than {} MiB", path.display(), LONGEST_PAYLOAD >> 20));
    }
    Ok(content)
}
