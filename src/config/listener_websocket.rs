//! `path`, `frame_size` and `origins` of a listener.

use crate::downstream::{WebSocketSettings, origin};

use super::walk::{Section, Walk};

impl Walk<'_> {
    /// `path`, `frame_size` and `origins` of a listener.
    pub(super) fn websocket(&mut self, section: &Section<'_>) -> Option<WebSocketSettings> {
        let mut settings = WebSocketSettings::default();
        let path = self.optional(section, "path").map(|node| {
            self.parsed(node, "listeners[].path", |text| match text {
                "*" => Ok(None),
                path if path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic() && !b"?#".contains(&b)) => {
                    Ok(Some(path.to_owned()))
                }
                _ => Err(("is no path".to_owned(), "write for example /mqtt, or \"*\" for any".to_owned())),
            })
        });
        let size = self.optional(section, "frame_size");
        let size = size.map(|node| self.size(node, "listeners[].frame_size", 128..=1 << 30));
        let origins = self.optional(section, "origins").map(|node| {
            let list = self.list(node, "origins");
            let read: Vec<Option<String>> = list.iter().map(|n| self.parsed(n, "origins", web_origin)).collect();
            read.into_iter().collect::<Option<Vec<_>>>().filter(|origins| !origins.is_empty())
        });
        if let Some(path) = path {
            settings.path = path?;
        }
        if let Some(size) = size {
            settings.frame_size = u32::try_from(size?).expect("the range is below 2^32");
        }
        if let Some(origins) = origins {
            settings.origins = Some(origins?);
        }
        Some(settings)
    }
}

/// As browsers write it, since that is compared.
fn web_origin(text: &str) -> Result<String, (String, String)> {
    let example = "write scheme, host and perhaps a port, for example \"https://app.example.org\" or \"http://localhost:8080\"";
    let origin = origin(text).ok_or_else(|| ("is no origin of a web page".to_owned(), example.to_owned()))?;
    let port = match origin.split_once("://") {
        Some(("http", _)) => ":80",
        Some(("https", _)) => ":443",
        _ => return Ok(origin),
    };
    match origin.strip_suffix(port) {
        None => Ok(origin),
        Some(without) => Err(("has the port that browsers leave out".to_owned(), format!("write \"{without}\""))),
    }
}
