//! String literals, with the escapes of Go.

/// The value of a literal with its quotes; the lexer has already checked the escapes.
pub(crate) fn unquote(literal: &str) -> Vec<u8> {
    let quote = literal.as_bytes().first().copied().unwrap_or(b'"');
    let inner = literal.get(1..literal.len().saturating_sub(1)).unwrap_or("");
    if quote == b'`' {
        // Go drops carriage returns from raw strings.
        return inner.bytes().filter(|byte| *byte != b'\r').collect();
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let (value, used) = unescape(&rest.as_bytes()[at + 1..]);
        match value {
            Escape::Byte(byte) => out.push(byte),
            Escape::Char(character) => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
        rest = &rest[at + 1 + used..];
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

enum Escape {
    Byte(u8),
    Char(char),
}

/// The value of the escape after a backslash, and the bytes it took.
fn unescape(after: &[u8]) -> (Escape, usize) {
    let radix = |from: usize, digits: usize, base: u32| {
        let text = after.get(from..from + digits).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or("0");
        u32::from_str_radix(text, base).unwrap_or(0)
    };
    let character = |code: u32| Escape::Char(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
    // Codes above a byte can't come here: the lexer refuses them.
    let byte = |code: u32| Escape::Byte(u8::try_from(code).unwrap_or(u8::MAX));
    match after.first() {
        Some(b'a') => (Escape::Byte(7), 1),
        Some(b'b') => (Escape::Byte(8), 1),
        Some(b'f') => (Escape::Byte(12), 1),
        Some(b'n') => (Escape::Byte(b'\n'), 1),
        Some(b'r') => (Escape::Byte(b'\r'), 1),
        Some(b't') => (Escape::Byte(b'\t'), 1),
        Some(b'v') => (Escape::Byte(11), 1),
        Some(b'0'..=b'7') => (byte(radix(0, 3, 8)), 3),
        Some(b'x') => (byte(radix(1, 2, 16)), 3),
        Some(b'u') => (character(radix(1, 4, 16)), 5),
        Some(b'U') => (character(radix(1, 8, 16)), 9),
        Some(other) => (Escape::Byte(*other), 1),
        None => (Escape::Byte(b'\\'), 0),
    }
}

/// Double-quotes bytes the way Go's `%q` does.
pub fn quote(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            push_escaped(&mut out, character, '"');
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out.push('"');
    out
}

/// Single-quotes a character; none stands for the end of the input.
pub(crate) fn quote_char(character: Option<char>) -> String {
    let mut out = String::from("'");
    push_escaped(&mut out, character.unwrap_or(char::REPLACEMENT_CHARACTER), '\'');
    out.push('\'');
    out
}

fn push_escaped(out: &mut String, character: char, quote: char) {
    match character {
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\x0b' => out.push_str("\\v"),
        c if c == quote => {
            out.push('\\');
            out.push(c);
        }
        c if (c as u32) < 0x20 || c == '\x7f' => out.push_str(&format!("\\x{:02x}", c as u32)),
        c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
        c => out.push(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone_and_made_again() {
        for (literal, value, quoted) in [
            (r#""a\n\"b\"""#, b"a\n\"b\"".as_slice(), r#""a\n\"b\"""#),
            (r#"'it\'s'"#, b"it's", r#""it's""#),
            (r#""a\xc5z""#, b"a\xc5z", r#""a\xc5z""#),
            (r#""\u263a\101""#, "\u{263a}A".as_bytes(), "\"\u{263a}A\""),
            ("`a\\n`", b"a\\n", r#""a\\n""#),
        ] {
            assert_eq!(unquote(literal), value);
            assert_eq!(quote(value), quoted);
        }
    }
}
