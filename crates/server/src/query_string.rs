//! Parameters of a request: of its address, and of its form if it has one.

use uuid::Uuid;

use crate::http::{ApiError, Call};

/// Parameters in order; a name may come several times.
#[derive(Debug, Default)]
pub struct QueryString(Vec<(String, String)>);

/// More parameters than any honest request has.
const MAX_PARAMETERS: usize = 1_000;

impl QueryString {
    /// Of the address only.
    pub fn of(call: &Call) -> Result<Self, ApiError> {
        let mut parameters = QueryString::default();
        parameters.add(call.request.query_string())?;
        Ok(parameters)
    }

    /// Of the address, then of the form: as Go's `FormValue` has it, the form comes first.
    pub fn with_form(call: &Call) -> Result<Self, ApiError> {
        let mut parameters = QueryString::default();
        if !call.body.is_empty() {
            let content_type = call.header("Content-Type").unwrap_or_default().to_ascii_lowercase();
            if content_type.starts_with("application/x-www-form-urlencoded") {
                let form =
                    std::str::from_utf8(&call.body).map_err(|_| ApiError::bad_request("the form is no UTF-8"))?;
                parameters.add(form)?;
            } else {
                return Err(ApiError::bad_request("the body must be application/x-www-form-urlencoded"));
            }
        }
        parameters.add(call.request.query_string())?;
        Ok(parameters)
    }

    fn add(&mut self, text: &str) -> Result<(), ApiError> {
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            if self.0.len() >= MAX_PARAMETERS {
                return Err(ApiError::bad_request(format!("more than {MAX_PARAMETERS} parameters")));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            self.0.push((decode(name)?, decode(value)?));
        }
        Ok(())
    }

    /// The first value of a name; an empty one counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn cursor(&self) -> Result<Option<Uuid>, ApiError> {
        let parse = |text| Uuid::try_parse(text).map_err(|_| ApiError::field("cursor", "the cursor is none of ours"));
        self.get("cursor").map(parse).transpose()
    }

    pub fn limit(&self, default: u64, most: u64) -> Result<u64, ApiError> {
        let Some(text) = self.get("limit") else { return Ok(default) };
        let limit = text.parse::<u64>().ok().filter(|limit| (1..=most).contains(limit));
        limit.ok_or_else(|| ApiError::field("limit", format!("the limit must be 1 to {most}")))
    }
}

/// Percent and plus signs, as forms have them.
fn decode(text: &str) -> Result<String, ApiError> {
    let invalid = || ApiError::bad_request("a parameter is not percent-encoded UTF-8");
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'+' => decoded.push(b' '),
            b'%' => {
                let digits = bytes.get(at + 1..at + 3).ok_or_else(invalid)?;
                let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
                let (high, low) = (digit(digits[0]).ok_or_else(invalid)?, digit(digits[1]).ok_or_else(invalid)?);
                decoded.push(high << 4 | low);
                at += 2;
            }
            other => decoded.push(other),
        }
        at += 1;
    }
    String::from_utf8(decoded).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str)]) {
        let mut parameters = QueryString::default();
        parameters.add(text).unwrap();
        let found: Vec<(&str, &str)> =
            parameters.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn parameters_are_decoded_as_forms_are() {
        check("", &[]);
        check("a=1&b=&c&&a=2", &[("a", "1"), ("b", ""), ("c", ""), ("a", "2")]);
        check("query=up%7Bjob%3D%22x+y%22%7D", &[("query", "up{job=\"x y\"}")]);
        check("match%5B%5D=a%2Bb", &[("match[]", "a+b")]);
        check("x=a=b", &[("x", "a=b")]);
    }

    #[test]
    fn what_is_not_encoded_right_is_refused() {
        for wrong in ["a=%", "a=%4", "a=%zz", "a=%ff"] {
            assert!(QueryString::default().add(wrong).is_err(), "{wrong}");
        }
        assert!(QueryString::default().add(&"a&".repeat(1_001)).is_err());
    }
}
