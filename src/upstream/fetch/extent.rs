//! How far a record set reaches, from the headers of its batches.

use crate::kafka::batch::HEADER_LEN;

/// The whole batches in front of a record set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Bytes of all of them.
    pub(super) length: usize,
    /// The offset behind the last.
    pub(super) next_offset: i64,
}

/// What the header of one batch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The first offset.
    pub(super) base_offset: i64,
    /// The epoch of the leader that took it; -1 in old messages.
    pub(super) leader_epoch: i32,
}

/// Walks over all whole batches up to the first whose header makes no sense; `None` if there is none before that.
///
/// Only headers are looked at: 8 bytes base offset, 4 length, 4 leader epoch, 1 magic; with magic 2 then 4 CRC, 2 attributes, 4 last
/// offset delta. Older messages have one offset, and no epoch.
pub(super) fn walk(bytes: &[u8], mut each: impl FnMut(Head)) -> Option<Extent> {
    let mut end = 0;
    let mut next = None;
    while let Some(head) = bytes.get(end..end + 17) {
        let base_offset = i64::from_be_bytes(head[..8].try_into().expect("eight bytes"));
        let length = i32::from_be_bytes(head[8..12].try_into().expect("four bytes"));
        let Some(batch) = usize::try_from(length).ok().and_then(|length| bytes.get(end..end + 12 + length)) else {
            break;
        };
        let (delta, leader_epoch) = match head[16] {
            2 if batch.len() < HEADER_LEN => break,
            2 => (
                i64::from(i32::from_be_bytes(batch[23..27].try_into().expect("four bytes"))),
                i32::from_be_bytes(head[12..16].try_into().expect("four bytes")),
            ),
            _ => (0, -1),
        };
        let Some(behind) = base_offset.checked_add(delta).and_then(|last| last.checked_add(1)) else {
            break;
        };
        next = Some(behind);
        each(Head { base_offset, leader_epoch });
        end += batch.len();
    }
    next.map(|next_offset| Extent { length: end, next_offset })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(base: i64, last_delta: i32, epoch: i32, body: usize) -> Vec<u8> {
        let mut out = base.to_be_bytes().to_vec();
        out.extend(i32::try_from(49 + body).unwrap().to_be_bytes());
        out.extend(epoch.to_be_bytes());
        out.extend([2, 0, 0, 0, 0, 0, 0]);
        out.extend(last_delta.to_be_bytes());
        out.resize(61 + body, 0);
        out
    }

    fn extent(bytes: &[u8]) -> Option<(i64, usize)> {
        walk(bytes, |_| {}).map(|e| (e.next_offset, e.length))
    }

    #[test]
    fn the_extent_ends_with_the_last_whole_batch() {
        let mut set = batch(10, 4, 7, 30);
        let first = set.len();
        assert_eq!(extent(&set), Some((15, first)));
        set.extend(batch(20, 0, 8, 5));
        assert_eq!(extent(&set), Some((21, set.len())));
        let mut heads = Vec::new();
        walk(&set, |head| heads.push((head.base_offset, head.leader_epoch)));
        assert_eq!(heads, [(10, 7), (20, 8)]);
        set.pop();
        assert_eq!(extent(&set), Some((15, first)));
        assert_eq!(extent(&set[..20]), None);
        assert_eq!(extent(&[]), None);
        assert_eq!(extent(&[255; 100]), None);
    }

    #[test]
    fn what_lies_before_a_header_that_makes_no_sense_can_be_read() {
        let first = batch(10, 4, 7, 30);
        let mut short = batch(15, 0, 7, 0);
        short[8..12].copy_from_slice(&8_i32.to_be_bytes());
        let mut negative = batch(15, 0, 7, 0);
        negative[8] = 255;
        let last = batch(i64::MAX, 0, 7, 0);
        for broken in [short, negative, last] {
            assert_eq!(extent(&broken), None);
            assert_eq!(extent(&[first.clone(), broken].concat()), Some((15, first.len())));
        }
    }
}
