//! Bytes: integers and strings of both protocols, bounded. Knows no packet and no request.

pub mod read;
pub mod varint;
pub mod write;
