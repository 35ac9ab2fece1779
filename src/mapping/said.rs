//! What a message says beside its topic, for templates: who sent it and when, its user properties, and fields of a JSON payload.

use std::time::{Duration, UNIX_EPOCH};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::draft::Inbound;
use super::route::RefusalReason;

/// A placeholder that is no capture and not the client id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// `{identity}`: who the client was recognised as.
    Identity,
    /// `{now}`, `{now.iso}` and `{now.date}`: the time of receipt.
    Now(Moment),
    /// `{user.NAME}`: the first user property of that name.
    User(String),
    /// `{payload.FIELD}`, `{payload.FIELD.FIELD}`: a text, number or truth value of the payload, which is JSON.
    Payload(Vec<String>),
}

/// How a time is written; always in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// Milliseconds since the epoch, as Kafka's timestamps.
    Millis,
    /// RFC 3339, with milliseconds.
    Iso,
    /// Its first ten characters: year, month and day.
    Date,
}

impl Said {
    /// What a name stands for; `None`: it is not one of these.
    pub(super) fn named(name: &str) -> Option<Said> {
        match name {
            "identity" => return Some(Said::Identity),
            "now" => return Some(Said::Now(Moment::Millis)),
            "now.iso" => return Some(Said::Now(Moment::Iso)),
            "now.date" => return Some(Said::Now(Moment::Date)),
            _ => {}
        }
        if let Some(user) = name.strip_prefix("user.").filter(|user| !user.is_empty()) {
            return Some(Said::User(user.to_owned()));
        }
        let path: Vec<String> = name.strip_prefix("payload.")?.split('.').map(str::to_owned).collect();
        path.iter().all(|field| !field.is_empty()).then_some(Said::Payload(path))
    }

    /// Appends what the message says.
    ///
    /// # Errors
    /// It does not say it.
    pub(super) fn append(&self, inbound: &Inbound<'_>, out: &mut String) -> Result<(), RefusalReason> {
        match self {
            Said::Identity => out.push_str(inbound.identity.ok_or(RefusalReason::NoIdentity)?),
            Said::Now(moment) => moment.append(inbound.now_ms, out),
            Said::User(wanted) => {
                let value = inbound.publish.properties.user.iter().find(|(name, _)| name == wanted);
                out.push_str(value.ok_or(RefusalReason::NoUserProperty)?.1);
            }
            Said::Payload(path) => {
                let field = field(inbound.publish.payload, path)?.ok_or(RefusalReason::NoPayloadField)?;
                append_scalar(field.get(), out)?;
            }
        }
        Ok(())
    }
}

impl Moment {
    fn append(self, now_ms: i64, out: &mut String) {
        use std::fmt::Write;
        let since = u64::try_from(now_ms).unwrap_or(0);
        let (start, time) = (
            out.len(),
            humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(since)),
        );
        match self {
            Moment::Millis => write!(out, "{since}"),
            Moment::Iso | Moment::Date => write!(out, "{time}"),
        }
        .expect("a String takes all; the clock is before the year 10000");
        if self == Moment::Date {
            out.truncate(start + "2026-01-01".len());
        }
    }
}

/// A time as devices write it, in milliseconds since the epoch: such a number, or RFC 3339 in UTC.
pub(super) fn time_of(text: &str) -> Option<i64> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    let time = humantime::parse_rfc3339(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(time.as_millis()).ok()
}

/// Whether a capture may not have this name.
pub(super) fn is_reserved(name: &str) -> bool {
    name == "client" || Said::named(name).is_some()
}

/// The text of a JSON text, number or truth value. A table, a list and null have none.
fn append_scalar(json: &str, out: &mut String) -> Result<(), RefusalReason> {
    match json.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(text) if !text.contains('\\') => out.push_str(text),
        Some(_) => {
            let text: String = serde_json::from_str(json).map_err(|_| RefusalReason::NotJson)?;
            out.push_str(&text);
        }
        None if json.starts_with(['{', '[', 'n']) => return Err(RefusalReason::NoPayloadField),
        None => out.push_str(json),
    }
    Ok(())
}

/// The field at a path, as it is written; of several of one name the last. The payload is walked once and nothing of it is kept.
fn field<'p>(payload: &'p [u8], path: &[String]) -> Result<Option<&'p RawValue>, RefusalReason> {
    let mut json = serde_json::Deserializer::from_slice(payload);
    let found = Field(path).deserialize(&mut json);
    let whole = found.and_then(|field| json.end().map(|()| field));
    whole.map_err(|_| RefusalReason::NotJson)
}

struct Field<'n>(&'n [String]);

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        match self.0 {
            [] => serde::Deserialize::deserialize(from).map(Some),
            _ => from.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Field<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let Some((name, rest)) = self.0.split_first() else {
            return Ok(None);
        };
        let mut found = None;
        while let Some(wanted) = map.next_key_seed(Named(name))? {
            if wanted {
                found = map.next_value_seed(Field(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Self::Value, S::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Whether a key is this one, without keeping it.
struct Named<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for Named<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Named<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}
