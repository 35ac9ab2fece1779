//! How the interpreter makes values, looks into them and changes parts of them.

use std::sync::Arc;

use jaq_core::box_iter::{BoxIter, box_once};
use jaq_core::path::Opt;
use jaq_core::val::Range;
use jaq_core::{ValR, ValT, ValX};

use super::fuel::{charge, charge_bytes, charge_values};
use super::value::{Fields, Value, take_fields, take_items};

type Error = jaq_core::Error<Value>;

impl From<Range<Value>> for Value {
    fn from(range: Range<Value>) -> Self {
        let ends = [("start", range.start), ("end", range.end)];
        let fields = ends.into_iter().filter_map(|(name, end)| Some((name.into(), end?)));
        Value::object(fields.collect())
    }
}

impl ValT for Value {
    fn from_num(written: &str) -> ValR<Self> {
        charge_bytes(written.len());
        let whole = written.parse::<i128>().ok().map(Value::int);
        let number = whole.or_else(|| written.parse().ok().map(Value::Float));
        number.ok_or_else(|| Error::str(format_args!("`{written}` is no number")))
    }

    fn from_map<I: IntoIterator<Item = (Self, Self)>>(pairs: I) -> ValR<Self> {
        let mut fields = Fields::default();
        for (name, value) in pairs {
            charge(2);
            match name {
                Value::Text(name) => fields.insert(name, value),
                other => return Err(Error::typ(other, "name of a field")),
            };
        }
        Ok(Value::object(fields))
    }

    fn key_values(self) -> BoxIter<'static, ValR<(Self, Self), Self>> {
        match self {
            Value::Array(array) => {
                let items = take_items(array).into_iter().enumerate();
                Box::new(items.map(|(place, item)| Ok((Value::from(place), item))).inspect(|_| charge(1)))
            }
            Value::Object(object) => {
                let fields = take_fields(object).into_iter();
                Box::new(fields.map(|(name, value)| Ok((Value::Text(name), value))).inspect(|_| charge(1)))
            }
            other => box_once(Err(Error::typ(other, "array or object"))),
        }
    }

    fn values(self) -> Box<dyn Iterator<Item = ValR<Self>>> {
        match self {
            Value::Array(array) => Box::new(take_items(array).into_iter().map(Ok).inspect(|_| charge(1))),
            Value::Object(object) => Box::new(take_fields(object).into_values().map(Ok).inspect(|_| charge(1))),
            other => box_once(Err(Error::typ(other, "array or object"))),
        }
    }

    fn index(self, index: &Self) -> ValR<Self> {
        charge(1);
        self.part(index).map(Option::unwrap_or_default)
    }

    fn range(self, range: Range<&Self>) -> ValR<Self> {
        match &self {
            Value::Null => Ok(Value::Null),
            Value::Array(array) => {
                let (from, to) = bounds(range, array.items.len())?;
                charge_values(to - from);
                Ok(Value::array(array.items[from..to].to_vec()))
            }
            Value::Text(text) => {
                let (from, to) = text_bounds(range, text)?;
                Ok(Value::text(&text[from..to]))
            }
            _ => Err(Error::typ(self, "array or text")),
        }
    }

    fn map_values<'a, I: Iterator<Item = ValX<'a, Self>>>(self, opt: Opt, f: impl Fn(Self) -> I) -> ValX<'a, Self> {
        match self {
            Value::Array(array) => {
                let items = take_items(array).into_iter().flat_map(f).inspect(|_| charge(1));
                Ok(Value::array(items.collect::<Result<_, _>>()?))
            }
            Value::Object(object) => {
                let fields = take_fields(object).into_iter();
                let changed = fields.filter_map(|(name, value)| f(value).next().map(|value| Ok((name, value?))));
                Ok(Value::object(changed.collect::<Result<_, jaq_core::Exn<'a, Value>>>()?))
            }
            other => opt.fail(other, |other| Error::typ(other, "array or object").into()),
        }
    }

    fn map_index<'a, I: Iterator<Item = ValX<'a, Self>>>(self, index: &Self, opt: Opt, f: impl Fn(Self) -> I) -> ValX<'a, Self> {
        charge(1);
        match (self, index) {
            (value @ (Value::Array(_) | Value::Text(_)), Value::Object(ends)) => {
                value.map_range(ends.fields.get("start")..ends.fields.get("end"), opt, f)
            }
            (Value::Object(object), Value::Text(name)) => map_field(take_fields(object), name, f),
            (Value::Null, Value::Text(name)) => map_field(Fields::default(), name, f),
            (Value::Array(array), Value::Int(_) | Value::Float(_)) => {
                let Some(place) = place_of(index, array.items.len()).filter(|place| *place < array.items.len()) else {
                    let fail = |_| Error::str(format_args!("index {index} is out of bounds")).into();
                    return opt.fail(Value::Array(array), fail);
                };
                let mut items = take_items(array);
                match f(std::mem::take(&mut items[place])).next().transpose()? {
                    Some(value) => items[place] = value,
                    None => _ = items.remove(place),
                }
                Ok(Value::array(items))
            }
            (other, _) => opt.fail(other, |other| Error::index(other, index.clone()).into()),
        }
    }

    fn map_range<'a, I: Iterator<Item = ValX<'a, Self>>>(self, range: Range<&Self>, opt: Opt, f: impl Fn(Self) -> I) -> ValX<'a, Self> {
        match self {
            Value::Array(array) => {
                let (from, to) = match bounds(range, array.items.len()) {
                    Ok(bounds) => bounds,
                    Err(error) => return opt.fail(Value::Array(array), |_| error.into()),
                };
                let mut items = take_items(array);
                let within = Value::array(items[from..to].to_vec());
                let instead = match f(within).next().transpose()? {
                    Some(Value::Array(instead)) => take_items(instead),
                    Some(other) => return Err(Error::typ(other, "array").into()),
                    None => Vec::new(),
                };
                items.splice(from..to, instead);
                Ok(Value::array(items))
            }
            Value::Text(text) => {
                let (from, to) = match text_bounds(range, &text) {
                    Ok(bounds) => bounds,
                    Err(error) => return opt.fail(Value::Text(text), |_| error.into()),
                };
                let instead = match f(Value::text(&text[from..to])).next().transpose()? {
                    Some(Value::Text(instead)) => instead,
                    Some(other) => return Err(Error::typ(other, "text").into()),
                    None => "".into(),
                };
                charge_bytes(text.len() + instead.len());
                Ok(Value::Text([&text[..from], &*instead, &text[to..]].concat().into()))
            }
            other => opt.fail(other, |other| Error::typ(other, "array or text").into()),
        }
    }

    fn as_bool(&self) -> bool {
        !matches!(self, Value::Null | Value::Bool(false))
    }

    fn into_string(self) -> Self {
        match self {
            Value::Text(_) => self,
            other => Value::text(&other.to_json()),
        }
    }
}

/// Changes one field, which need not be there; nothing takes it away.
fn map_field<'a, I: Iterator<Item = ValX<'a, Value>>>(mut fields: Fields, name: &Arc<str>, f: impl Fn(Value) -> I) -> ValX<'a, Value> {
    let old = fields.get_mut(name).map(std::mem::take).unwrap_or_default();
    match f(old).next().transpose()? {
        Some(value) => _ = fields.insert(name.clone(), value),
        None => {
            charge_values(fields.len());
            fields.shift_remove(name);
        }
    }
    Ok(Value::object(fields))
}

impl Value {
    /// What lies at an index; `None`: nothing does.
    pub(super) fn part(&self, index: &Value) -> Result<Option<Value>, Error> {
        match (self, index) {
            (Value::Null, Value::Text(_) | Value::Int(_) | Value::Float(_) | Value::Null) => Ok(None),
            (Value::Object(object), Value::Text(name)) => Ok(object.fields.get(name).cloned()),
            (Value::Array(array), Value::Int(_) | Value::Float(_)) => {
                let place = place_of(index, array.items.len());
                Ok(place.and_then(|place| array.items.get(place)).cloned())
            }
            (Value::Array(_), Value::Array(_)) => self.indices(index).map(Some),
            (Value::Null | Value::Array(_) | Value::Text(_), Value::Object(ends)) => {
                self.clone().range(ends.fields.get("start")..ends.fields.get("end")).map(Some)
            }
            _ => Err(Error::index(self.clone(), index.clone())),
        }
    }
}

/// The place that an index means; counted from the end if it is below zero.
fn place_of(index: &Value, len: usize) -> Option<usize> {
    let index = index.floor()?;
    if index < 0 {
        usize::try_from(index.unsigned_abs()).ok().and_then(|back| len.checked_sub(back))
    } else {
        usize::try_from(index).ok()
    }
}

/// Where a slice begins and ends, within `len`.
fn bounds(range: Range<&Value>, len: usize) -> Result<(usize, usize), Error> {
    let bound = |end: Option<&Value>, default: usize, round_up: bool| match end {
        None | Some(Value::Null) => Ok(default),
        Some(number @ (Value::Int(_) | Value::Float(_))) => {
            let up = matches!(number, Value::Float(n) if round_up && n.fract() != 0.0);
            let number = number.floor().unwrap_or(0).saturating_add(i64::from(up));
            let from_start = if number < 0 { (len as i64).saturating_add(number) } else { number };
            Ok(from_start.clamp(0, len as i64) as usize)
        }
        Some(other) => Err(Error::typ(other.clone(), "bound of a slice")),
    };
    let (from, to) = (bound(range.start, 0, false)?, bound(range.end, len, true)?);
    Ok((from, to.max(from)))
}

/// The same of text, whose places are characters; gives bytes.
fn text_bounds(range: Range<&Value>, text: &str) -> Result<(usize, usize), Error> {
    charge_bytes(text.len());
    let (from, to) = bounds(range, text.chars().count())?;
    let byte = |place| text.char_indices().nth(place).map_or(text.len(), |(byte, _)| byte);
    Ok((byte(from), byte(to)))
}

impl jaq_std::ValT for Value {
    fn into_seq<S: FromIterator<Self>>(self) -> Result<S, Self> {
        match self {
            Value::Array(array) => {
                charge_values(array.items.len());
                Ok(take_items(array).into_iter().collect())
            }
            other => Err(other),
        }
    }

    fn is_int(&self) -> bool {
        matches!(self, Value::Int(_))
    }

    fn as_isize(&self) -> Option<isize> {
        match self {
            Value::Int(number) => isize::try_from(*number).ok(),
            _ => None,
        }
    }

    fn as_f64(&self) -> Option<f64> {
        self.number()
    }

    fn is_utf8_str(&self) -> bool {
        matches!(self, Value::Text(_))
    }

    fn as_bytes(&self) -> Option<&[u8]> {
        let text = self.as_text()?;
        // Who asks reads it.
        charge_bytes(text.len());
        Some(text.as_bytes())
    }

    fn as_sub_str(&self, sub: &[u8]) -> Self {
        Value::text(&String::from_utf8_lossy(sub))
    }

    fn from_utf8_bytes(bytes: impl AsRef<[u8]> + Send + 'static) -> Self {
        Value::text(&String::from_utf8_lossy(bytes.as_ref()))
    }
}
