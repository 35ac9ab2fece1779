//! `mqtt` of the broker, as far as it has an equal.

use super::Import;

/// `limits`, where EMQX bounds packets; nothing if it does not, or by a bound that is none here.
pub(super) fn limits(import: &mut Import) -> String {
    if let Some(word) = import.tree.take(&["mqtt", "session_expiry_interval"]) {
        import.open(format!(
            "mqtt.session_expiry_interval = {word}: `sessions.expiry` is the equal, without which sessions end with their connections: \
             write it, see proxy.yaml"
        ));
    }
    let Some(word) = import.tree.take(&["mqtt", "max_packet_size"]) else {
        return String::new();
    };
    match size(&word) {
        Some(size) => format!("\nlimits: {{packet_size: {size}}}\n"),
        None => {
            import.open(format!(
                "mqtt.max_packet_size = {word}: `limits.packet_size` is the equal, of 128B to 256MiB, and without it 1MiB: how much?"
            ));
            String::new()
        }
    }
}

/// A size with the unit that is meant: there a kilobyte has 1,024 bytes.
fn size(word: &str) -> Option<String> {
    let (number, unit) = word.split_at(word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len()));
    let (unit, bytes) = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => ("B", 1),
        "k" | "kb" => ("KiB", 1 << 10),
        "m" | "mb" => ("MiB", 1 << 20),
        "g" | "gb" => ("GiB", 1 << 30),
        _ => return None,
    };
    let number: u64 = number.parse().ok()?;
    let is_legal = number.checked_mul(bytes).is_some_and(|size| (128..=256 << 20).contains(&size));
    is_legal.then(|| format!("{number}{unit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_as_large_as_there() {
        for (theirs, ours) in [
            ("1MB", Some("1MiB")),
            ("512kb", Some("512KiB")),
            ("268435456", Some("268435456B")),
            ("257MB", None),
            ("1B", None),
            ("infinity", None),
        ] {
            assert_eq!(size(theirs).as_deref(), ours, "{theirs}");
        }
    }
}
