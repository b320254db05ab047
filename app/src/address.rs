//! The query of a link to the page: `?model=NAME&score=NAME&device=auto|cpu|gpu&autoload=1&run=ADDRESS`.

use crate::protocol::PreferredDevice;

/// The query of the page's address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Address {
    /// The chat model to preselect.
    pub model: Option<String>,
    /// The score model to preselect.
    pub score: Option<String>,
    /// The device to preselect.
    pub device: PreferredDevice,
    /// Load the models without waiting for a click.
    pub autoload: bool,
    /// Training runs to open: addresses of `metrics.jsonl` files.
    pub runs: Vec<String>,
}

impl Address {
    /// Reads a query, with or without its question mark, and then the query in a fragment ([`crate::share`]). Unknown
    /// parameters are ignored.
    pub fn parse_with(query: &str, fragment: &str) -> Self {
        let mut address = Self::parse(query);
        if let Some((_, query)) = fragment.split_once('?') {
            let shared = Self::parse(query);
            address.model = shared.model.or(address.model);
            address.score = shared.score.or(address.score);
        }
        address
    }

    /// Reads a query, with or without its question mark. Unknown parameters are ignored.
    pub fn parse(query: &str) -> Self {
        let mut address = Self::default();
        for pair in query.trim_start_matches('?').split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value);
            match name {
                "model" if !value.is_empty() => address.model = Some(value),
                "score" if !value.is_empty() => address.score = Some(value),
                "device" => address.device = value.parse().unwrap_or_default(),
                "run" if !value.is_empty() => address.runs.push(value),
                "autoload" => address.autoload = value == "1",
                _ => {}
            }
        }
        address
    }
}

/// `query` with the models that are loaded in place of those it names; what else it says stays.
pub fn follow(query: &str, model: Option<&str>, score: Option<&str>) -> String {
    let names = [("model", model), ("score", score)];
    let named = names.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", encode(value?))));
    let rest = query.trim_start_matches('?').split('&').filter(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        !matches!(name, "" | "model" | "score")
    });
    format!("?{}", named.chain(rest.map(str::to_string)).collect::<Vec<_>>().join("&"))
}

/// Percent encoding (RFC 3986, section 2.1) of all but unreserved characters.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// Undoes percent encoding (RFC 3986, section 2.1) and the plus signs of forms.
pub fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match rest {
            [b'%', high, low, ..] => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(if *first == b'+' { b' ' } else { *first }));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_chooses_model_and_device() {
        let address = Address::parse(
            "?model=My%20model+2&score=r&device=gpu&autoload=1&theme=none&run=runs%2Fa%2Fmetrics.jsonl&run=b",
        );
        assert_eq!(
            address,
            Address {
                model: Some("My model 2".to_string()),
                score: Some("r".to_string()),
                device: PreferredDevice::Gpu,
                autoload: true,
                runs: vec!["runs/a/metrics.jsonl".to_string(), "b".to_string()],
            }
        );
    }

    #[test]
    fn the_address_follows_what_is_loaded() {
        let query = follow("?model=old&device=gpu&autoload=1&score=r", Some("My model é"), None);
        assert_eq!(query, "?model=My%20model%20%C3%A9&device=gpu&autoload=1");
        assert_eq!(Address::parse(&query).model.as_deref(), Some("My model é"));
        assert_eq!(follow("", Some("a"), Some("b/c")), "?model=a&score=b%2Fc");
    }

    #[test]
    fn what_is_missing_or_odd_falls_back() {
        assert_eq!(Address::parse(""), Address::default());
        let shared = Address::parse_with("?model=a&device=cpu", "#chat?model=b%20c&autoload=1");
        assert_eq!((shared.model.as_deref(), shared.device), (Some("b c"), PreferredDevice::Cpu));
        assert!(!shared.autoload, "a shared link loads nothing without a click");
        assert_eq!(Address::parse("?model=&device=tpu&autoload=yes&&="), Address::default());
        assert_eq!(Address::parse("model=100%25%2").model.as_deref(), Some("100%%2"));
        assert_eq!(Address::parse("model=%ff").model.as_deref(), Some("\u{fffd}"));
    }
}
