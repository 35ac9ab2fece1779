//! Frames: four bytes of length, then a correlation id, then a body that only its version explains.

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::{
    messages::{ApiKey, ResponseHeader},
    protocol::{Decodable, HeaderVersion},
};

use super::{guard, layouts::layout};

/// The next whole frame without its length. Memory follows the bytes that came, never the length that was said.
pub(super) fn cut(buffer: &mut BytesMut, largest: usize) -> Result<Option<Bytes>, &'static str> {
    let Some(prefix) = buffer.get(..4) else { return Ok(None) };
    let length = i32::from_be_bytes(prefix.try_into().expect("four bytes"));
    let length = usize::try_from(length).map_err(|_| "a frame of negative length")?;
    if length < 4 || length > largest {
        return Err("a frame of impossible length");
    }
    if buffer.len() < 4 + length {
        return Ok(None);
    }
    buffer.advance(4);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// Header and body of an answer, and an upper bound of the memory that it takes; bytes left over mean that we and the broker do not
/// speak of the same thing.
pub(super) fn decode<R: Decodable + HeaderVersion>(mut frame: Bytes, api: ApiKey, version: i16) -> Result<(R, usize), &'static str> {
    const GARBLED: &str = "an answer that cannot be decoded";
    let layout = layout(api).filter(|l| version <= l.newest).ok_or("an answer of unknown layout")?;
    let memory = guard::check(&frame, layout, version)?;
    // ApiVersions keeps header version 0 for ever, so that any broker can be understood (KIP-511).
    let header_version = if api == ApiKey::ApiVersions {
        0
    } else {
        R::header_version(version)
    };
    ResponseHeader::decode(&mut frame, header_version).map_err(|_| GARBLED)?;
    // Of ShareFetch kafka-protocol has the version before; what is new in 2 is new in its request only.
    let answer = R::decode(&mut frame, version.min(api.valid_versions().max)).map_err(|_| GARBLED)?;
    if frame.is_empty() {
        Ok((answer, memory))
    } else {
        Err("an answer with bytes left over")
    }
}

/// The name of an API in metrics.
pub(super) fn api_name(api: ApiKey) -> &'static str {
    layout(api).map_or("other", |layout| layout.name)
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;
    use kafka_protocol::messages::{MetadataResponse, ProduceResponse};

    use super::*;

    #[test]
    fn frames_are_cut_where_they_end() {
        let mut buffer = BytesMut::from(&[0, 0, 0, 5, 1, 2, 3, 4, 5, 0, 0][..]);
        assert_eq!(cut(&mut buffer, 100).unwrap().unwrap(), &[1, 2, 3, 4, 5][..]);
        assert_eq!(cut(&mut buffer, 100), Ok(None));
        buffer.extend([0, 101, 9]);
        assert!(cut(&mut buffer, 100).is_err());
        assert!(cut(&mut BytesMut::from(&[255, 255, 255, 255][..]), 100).is_err());
        assert!(cut(&mut BytesMut::from(&[0, 0, 0, 3][..]), 100).is_err());
    }

    #[test]
    fn counts_beyond_the_bytes_are_refused_before_memory_is_reserved() {
        for version in [9, 12] {
            let mut body = BytesMut::new();
            body.put_u32(7);
            // Header tags, throttle time, then brokers: four billion.
            body.put_u8(0);
            body.put_u32(0);
            body.put_slice(&[255, 255, 255, 255, 15]);
            assert!(decode::<MetadataResponse>(body.freeze(), ApiKey::Metadata, version).is_err());
        }
        let mut body = BytesMut::new();
        body.put_slice(&[0, 0, 0, 7, 0x7f, 255, 255, 255]);
        assert!(decode::<ProduceResponse>(body.freeze(), ApiKey::Produce, 5).is_err());
    }

    #[test]
    fn bytes_left_over_are_an_error() {
        let mut body = BytesMut::new();
        // Correlation id, no topics, throttle time, and one byte more.
        body.put_slice(&[0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert!(decode::<ProduceResponse>(body.freeze(), ApiKey::Produce, 5).is_err());
    }
}
