//! What a record is made of, on the way into a batch.

/// A header of a record on its way to Kafka: its key is text, its value may be null.
pub type Header<'a> = (&'a str, Option<&'a [u8]>);

/// One record to be written. Everything is borrowed: the encoder's copy into the batch is the only one.
///
/// `H` is walked twice (first for the length), so it must be cheap to clone; nothing is collected.
#[derive(Clone, Copy, Debug)]
pub struct RecordFields<'a, H: Iterator<Item = Header<'a>> + Clone> {
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// Key; `None` is a null key.
    pub key: Option<&'a [u8]>,
    /// Value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers in their order, repeats kept.
    pub headers: H,
}
