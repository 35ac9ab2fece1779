//! Where the mapped record of a retained message lies: the header `mqtt.mapped` of the records in the retained topic.
//!
//! `TOPIC/ID/PARTITION/OFFSET`: the Kafka topic's name, its id in 32 hexadecimal digits, and two decimal numbers. Of two retained messages of
//! one MQTT topic in one mapped partition the higher offset wins, whichever was written here later: that is the order for everybody.

use crate::kafka::fetched::RecordView;

/// The header's name.
pub const HEADER: &[u8] = b"mqtt.mapped";
/// The header of a record that is written once more: the decimal offset of the last record of its key that its writer knew of.
pub const AS_OF: &str = "mqtt.as-of";

/// A record of a mapped topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped<'a> {
    /// The Kafka topic's name.
    pub topic: &'a str,
    /// Its id; a topic that was made anew has another.
    pub id: [u8; 16],
    /// The partition.
    pub partition: i32,
    /// The record's offset.
    pub offset: i64,
}

impl std::fmt::Display for Mapped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}/{:032x}/{}/{}",
            self.topic,
            u128::from_be_bytes(self.id),
            self.partition,
            self.offset
        )
    }
}

impl<'a> Mapped<'a> {
    /// Of a record in the retained topic; `None` if it has no such header.
    pub fn of(record: &RecordView<'a>) -> Option<Self> {
        let (_, value) = record.headers().find(|(name, _)| *name == HEADER)?;
        Self::read(value?)
    }

    /// Reads the header's value; `None` if it is not one.
    pub fn read(value: &'a [u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(value).ok()?.split('/');
        let (topic, id) = (parts.next()?, parts.next()?);
        let legal = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
        let mapped = Self {
            topic,
            id: legal.then(|| u128::from_str_radix(id, 16).ok())??.to_be_bytes(),
            partition: parts.next()?.parse().ok()?,
            offset: parts.next()?.parse().ok()?,
        };
        let whole = parts.next().is_none() && !topic.is_empty() && mapped.partition >= 0 && mapped.offset >= 0;
        whole.then_some(mapped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mapped = Mapped {
            topic: "vehicle-telemetry",
            id: *b"0123456789abcdef",
            partition: 3,
            offset: i64::MAX,
        };
        let text = mapped.to_string();
        assert_eq!(text, "vehicle-telemetry/30313233343536373839616263646566/3/9223372036854775807");
        assert_eq!(Mapped::read(text.as_bytes()), Some(mapped));
        for wrong in [
            "",
            "t",
            "t/30313233343536373839616263646566/3",
            "t/30313233343536373839616263646566/3/4/5",
            "t/+0313233343536373839616263646566/3/4",
            "t/303132333435363738396162636465/3/4",
            "/30313233343536373839616263646566/3/4",
            "t/30313233343536373839616263646566/-3/4",
            "t/30313233343536373839616263646566/3/-4",
            "t/30313233343536373839616263646566/3/9223372036854775808",
        ] {
            assert_eq!(Mapped::read(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(Mapped::read(&[0xff]), None);
    }
}
