//! One sealed batch into two that are filled anew, for a broker that finds it too large.

use bytes::Bytes;

use super::{
    RecordFields,
    batch::BatchBuilder,
    fetched::{Limits, RecordView, batches},
};

/// The records of a batch that [`BatchBuilder::seal`] made, in two batches of about the same bytes; each has at least one record.
/// `None` for a batch of one record, and for bytes that are no such batch.
pub fn split(batch: &Bytes) -> Option<[BatchBuilder; 2]> {
    let limits = Limits {
        // What was once held is held again.
        max_decompressed: i32::MAX as usize,
    };
    let batch = batches(batch.clone(), limits).next()?.ok()?;
    let half = batch.records_len() / 2;
    let mut halves = [BatchBuilder::new(), BatchBuilder::new()];
    let last = batch.count().checked_sub(1)?;
    for (at, record) in batch.records().enumerate() {
        let [first, second] = &mut halves;
        let fits = first.is_empty() || (second.is_empty() && first.len() < half && (at as u32) < last);
        append(if fits { first } else { second }, &record.ok()?)?;
    }
    (!halves[1].is_empty()).then_some(halves)
}

fn append(builder: &mut BatchBuilder, record: &RecordView<'_>) -> Option<()> {
    let headers = record
        .headers()
        .map(|(name, value)| (str::from_utf8(name).expect("the builder takes names as text only"), value));
    builder
        .append(&RecordFields {
            timestamp: record.timestamp,
            key: record.key,
            value: record.value,
            headers,
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::{Compression, batch::Producer};

    /// Values of these lengths, under a compression.
    fn sealed(lengths: &[usize], compression: Compression) -> Bytes {
        let mut builder = BatchBuilder::new();
        for (at, length) in lengths.iter().enumerate() {
            let value = vec![b'v'; *length];
            let fields = RecordFields {
                timestamp: 1_000 - at as i64,
                key: Some(&[at as u8][..]),
                value: Some(&value),
                headers: [("h", Some(&b"1"[..])), ("h", None)].into_iter(),
            };
            builder.append(&fields).unwrap();
        }
        builder.seal(&Producer::NONE, compression).bytes
    }

    /// (timestamp, key, length of the value, headers) of all records.
    fn records(bytes: &Bytes) -> Vec<(i64, u8, usize, usize)> {
        let limits = Limits { max_decompressed: 1 << 20 };
        let batch = batches(bytes.clone(), limits).next().unwrap().unwrap();
        let told = batch.records().map(|r| {
            let r = r.unwrap();
            (r.timestamp, r.key.unwrap()[0], r.value.unwrap().len(), r.headers().count())
        });
        told.collect()
    }

    #[test]
    fn both_halves_together_are_the_batch_in_its_order() {
        for compression in [Compression::None, Compression::Lz4] {
            for lengths in [&[100; 9][..], &[1, 1], &[5_000, 1, 1], &[1, 1, 5_000], &[0, 9_000, 0, 0]] {
                let whole = sealed(lengths, compression);
                let halves = split(&whole).unwrap();
                assert!(halves.iter().all(|h| h.count() > 0), "{lengths:?}");
                let together: Vec<_> = halves
                    .into_iter()
                    .flat_map(|half| records(&half.seal(&Producer::NONE, compression).bytes))
                    .collect();
                assert_eq!(together, records(&whole), "{lengths:?}");
            }
        }
    }

    #[test]
    fn the_cut_is_where_half_of_the_bytes_are() {
        let counts = split(&sealed(&[100; 100], Compression::None)).unwrap().map(|h| h.count());
        assert!(counts.iter().all(|c| (45..=55).contains(c)), "{counts:?}");
        let counts = split(&sealed(&[10, 10, 10, 9_000], Compression::None)).unwrap().map(|h| h.count());
        assert_eq!(counts, [3, 1]);
    }

    #[test]
    fn one_record_and_what_is_no_batch_are_not_split() {
        assert!(split(&sealed(&[10], Compression::None)).is_none());
        assert!(split(&Bytes::from_static(b"no batch at all, though long enough for a magic byte")).is_none());
    }
}
