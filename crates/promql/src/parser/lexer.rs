//! Cuts a query into tokens. What a character means depends on whether braces or brackets are open, as in Prometheus.

use crate::ast::{BinaryOp, Span};
use crate::quote::quote_char;

use super::token::{Keyword, Token, TokenKind, keyword};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Statements,
    /// Inside of `{}`: words are label names, never keywords.
    Braces,
    /// Inside of `[]`: durations.
    Brackets,
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    start: usize,
    mode: Mode,
    paren_depth: usize,
    bracket_open: bool,
    got_colon: bool,
    got_duration: bool,
}

/// All tokens up to the end, or up to and with the first error. Comments are left out.
pub(crate) fn lex(text: &str) -> Vec<Token> {
    let mut lexer = Lexer {
        text,
        at: 0,
        start: 0,
        mode: Mode::Statements,
        paren_depth: 0,
        bracket_open: false,
        got_colon: false,
        got_duration: false,
    };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blank();
        lexer.start = lexer.at;
        let token = match lexer.next_token() {
            Ok(kind) => Token { kind, span: Span::new(lexer.start, lexer.at), message: String::new() },
            Err(message) => Token { kind: TokenKind::Error, span: Span::new(lexer.start, text.len()), message },
        };
        let last = matches!(token.kind, TokenKind::End | TokenKind::Error);
        tokens.push(token);
        if last {
            return tokens;
        }
    }
}

impl Lexer<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn peek_byte(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    fn next(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.at += character.len_utf8();
        Some(character)
    }

    fn accept(&mut self, valid: &str) -> bool {
        let found = self.peek().is_some_and(|character| valid.contains(character));
        if found {
            self.at += 1;
        }
        found
    }

    fn accept_run(&mut self, valid: &str) {
        while self.accept(valid) {}
    }

    fn skip_blank(&mut self) {
        loop {
            match self.peek_byte() {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                b'#' if self.mode != Mode::Brackets => {
                    while !matches!(self.peek_byte(), b'\n' | b'\r') && self.at < self.text.len() {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    fn next_token(&mut self) -> Result<TokenKind, String> {
        match self.mode {
            Mode::Statements => self.statement_token(),
            Mode::Braces => self.brace_token(),
            Mode::Brackets => self.bracket_token(),
        }
    }

    fn statement_token(&mut self) -> Result<TokenKind, String> {
        let Some(character) = self.next() else {
            if self.paren_depth != 0 {
                return Err("unclosed left parenthesis".to_owned());
            }
            if self.bracket_open {
                return Err("unclosed left bracket".to_owned());
            }
            return Ok(TokenKind::End);
        };
        let kind = match character {
            ',' => TokenKind::Comma,
            '*' => TokenKind::Operator(BinaryOp::Mul),
            '/' => TokenKind::Operator(BinaryOp::Div),
            '%' => TokenKind::Operator(BinaryOp::Mod),
            '+' => TokenKind::Operator(BinaryOp::Add),
            '-' => TokenKind::Operator(BinaryOp::Sub),
            '^' => TokenKind::Operator(BinaryOp::Pow),
            '=' if self.accept("=") => TokenKind::Operator(BinaryOp::Equal),
            '=' if self.peek_byte() == b'~' => {
                return Err(format!("unexpected character after '=': {}", quote_char(Some('~'))));
            }
            '=' => TokenKind::Assign,
            '!' => match self.next() {
                Some('=') => TokenKind::Operator(BinaryOp::NotEqual),
                other => return Err(format!("unexpected character after '!': {}", quote_char(other))),
            },
            '<' if self.accept("=") => TokenKind::Operator(BinaryOp::LessEqual),
            '<' if self.accept("/") => TokenKind::Operator(BinaryOp::TrimUpper),
            '<' => TokenKind::Operator(BinaryOp::Less),
            '>' if self.accept("=") => TokenKind::Operator(BinaryOp::GreaterEqual),
            '>' if self.accept("/") => TokenKind::Operator(BinaryOp::TrimLower),
            '>' => TokenKind::Operator(BinaryOp::Greater),
            '@' => TokenKind::At,
            c if c.is_ascii_digit() || (c == '.' && self.peek_byte().is_ascii_digit()) => {
                self.at -= 1;
                return self.number_or_duration();
            }
            '"' | '\'' => return self.string(character),
            '`' => return self.raw_string(),
            c if is_alpha(c) || c == ':' => return self.word(c),
            '(' => {
                self.paren_depth += 1;
                TokenKind::LeftParen
            }
            ')' => return self.close_paren(),
            '{' => {
                self.mode = Mode::Braces;
                TokenKind::LeftBrace
            }
            '[' => {
                if self.bracket_open {
                    return Err(format!("unexpected left bracket {}", quote_char(Some('['))));
                }
                self.got_colon = false;
                self.bracket_open = true;
                self.mode = Mode::Brackets;
                TokenKind::LeftBracket
            }
            ']' => {
                if !self.bracket_open {
                    return Err(format!("unexpected right bracket {}", quote_char(Some(']'))));
                }
                self.bracket_open = false;
                TokenKind::RightBracket
            }
            other => return Err(format!("unexpected character: {}", quote_char(Some(other)))),
        };
        Ok(kind)
    }

    fn close_paren(&mut self) -> Result<TokenKind, String> {
        if self.paren_depth == 0 {
            self.start = self.at;
            return Err(format!("unexpected right parenthesis {}", quote_char(Some(')'))));
        }
        self.paren_depth -= 1;
        Ok(TokenKind::RightParen)
    }

    /// An identifier or keyword; inside of brackets, after a number, only a colon or the words of durations.
    fn word(&mut self, first: char) -> Result<TokenKind, String> {
        if self.bracket_open {
            if first == ':' {
                if self.got_colon {
                    return Err(format!("unexpected colon {}", quote_char(Some(':'))));
                }
                self.got_colon = true;
                return Ok(TokenKind::Colon);
            }
            return self.duration_keyword().ok_or_else(|| {
                format!("unexpected character: {}, expected {}", quote_char(Some(first)), quote_char(Some(':')))
            });
        }
        while self.peek().is_some_and(|c| is_alpha(c) || c.is_ascii_digit() || c == ':') {
            self.at += 1;
        }
        let word = &self.text[self.start..self.at];
        match keyword(word) {
            // These were added late: they are keywords only where nothing else is possible.
            Some(TokenKind::Keyword(Keyword::Fill | Keyword::FillLeft | Keyword::FillRight))
                if !self.text[self.at..].trim_start_matches([' ', '\t', '\n', '\r']).starts_with('(') =>
            {
                Ok(TokenKind::Identifier)
            }
            Some(kind) => Ok(kind),
            None if word.contains(':') => Ok(TokenKind::MetricIdentifier),
            None => Ok(TokenKind::Identifier),
        }
    }

    fn duration_keyword(&mut self) -> Option<TokenKind> {
        while self.peek().is_some_and(is_alpha) {
            self.at += 1;
        }
        match keyword(&self.text[self.start..self.at]) {
            Some(kind @ TokenKind::Keyword(Keyword::Step | Keyword::Range | Keyword::MaxOf | Keyword::MinOf)) => {
                Some(kind)
            }
            _ => None,
        }
    }

    fn brace_token(&mut self) -> Result<TokenKind, String> {
        let Some(character) = self.next() else {
            return Err("unexpected end of input inside braces".to_owned());
        };
        match character {
            c if is_alpha(c) => {
                while self.peek().is_some_and(|c| is_alpha(c) || c.is_ascii_digit()) {
                    self.at += 1;
                }
                Ok(TokenKind::Identifier)
            }
            ',' => Ok(TokenKind::Comma),
            '"' | '\'' => self.string(character),
            '`' => self.raw_string(),
            '=' if self.accept("~") => Ok(TokenKind::RegexMatch),
            '=' => Ok(TokenKind::Assign),
            '!' => match self.next() {
                Some('~') => Ok(TokenKind::RegexNotMatch),
                Some('=') => Ok(TokenKind::Operator(BinaryOp::NotEqual)),
                other => Err(format!("unexpected character after '!' inside braces: {}", quote_char(other))),
            },
            '{' => Err(format!("unexpected left brace {}", quote_char(Some('{')))),
            '}' => {
                self.mode = Mode::Statements;
                Ok(TokenKind::RightBrace)
            }
            other => Err(format!("unexpected character inside braces: {}", quote_char(Some(other)))),
        }
    }

    fn bracket_token(&mut self) -> Result<TokenKind, String> {
        let Some(character) = self.next() else {
            return Err("unexpected end of input in duration expression".to_owned());
        };
        match character {
            ']' => {
                self.bracket_open = false;
                self.got_colon = false;
                self.mode = Mode::Statements;
                Ok(TokenKind::RightBracket)
            }
            ':' if !self.got_duration => {
                self.start = self.at;
                Err("unexpected colon before duration in duration expression".to_owned())
            }
            ':' if self.got_colon => {
                self.start = self.at;
                Err("unexpected repeated colon in duration expression".to_owned())
            }
            ':' => {
                self.got_colon = true;
                Ok(TokenKind::Colon)
            }
            '(' => {
                self.paren_depth += 1;
                Ok(TokenKind::LeftParen)
            }
            ')' => self.close_paren(),
            '+' => Ok(TokenKind::Operator(BinaryOp::Add)),
            '-' => Ok(TokenKind::Operator(BinaryOp::Sub)),
            '*' => Ok(TokenKind::Operator(BinaryOp::Mul)),
            '/' => Ok(TokenKind::Operator(BinaryOp::Div)),
            '%' => Ok(TokenKind::Operator(BinaryOp::Mod)),
            '^' => Ok(TokenKind::Operator(BinaryOp::Pow)),
            ',' => Ok(TokenKind::Comma),
            c if c.is_ascii_digit() || (c == '.' && self.peek_byte().is_ascii_digit()) => {
                self.at -= 1;
                self.got_duration = true;
                self.mode = Mode::Statements;
                self.number_or_duration()
            }
            other => {
                let found = if is_alpha(other) { self.duration_keyword() } else { None };
                if found.is_some() {
                    self.got_duration = true;
                }
                found.ok_or_else(|| format!("unexpected character in duration expression: {}", quote_char(Some(other))))
            }
        }
    }

    fn number_or_duration(&mut self) -> Result<TokenKind, String> {
        if self.scan_number() {
            return Ok(TokenKind::Number);
        }
        if self.scan_duration_rest() {
            return Ok(TokenKind::Duration);
        }
        Err(format!(
            "bad number or duration syntax: {}",
            crate::quote::quote(&self.text.as_bytes()[self.start..self.at])
        ))
    }

    /// Digits have been read; a unit and more digits with units may follow. Wrong units are found when it is parsed.
    fn scan_duration_rest(&mut self) -> bool {
        if !self.accept("smhdwy") {
            return false;
        }
        self.accept("s");
        while self.accept("0123456789") {
            self.accept_run("0123456789");
            if !self.accept("smhdw") {
                return false;
            }
            self.accept("s");
        }
        if !self.peek().is_some_and(is_alphanumeric) {
            return true;
        }
        // The message names what does not belong there.
        self.at += 1;
        false
    }

    /// Scans decimal, hexadecimal and floating point numbers with single underscores between digits.
    /// What it accepts is not always a number; the parser finds that.
    fn scan_number(&mut self) -> bool {
        let initial = self.at;
        let mut digits = "0123456789";
        if self.accept("0") && self.accept("xX") {
            self.accept("_");
            digits = "0123456789abcdefABCDEF";
        }
        let hexadecimal = digits.len() > 10;
        self.accept(".");
        self.accept(digits);
        let (mut dot, mut exponent) = (false, false);
        loop {
            match self.peek() {
                Some('.') => {
                    self.at += 1;
                    if dot || hexadecimal || self.accept("_.") {
                        return false;
                    }
                    dot = true;
                }
                Some('e' | 'E') if !hexadecimal => {
                    self.at += 1;
                    if exponent {
                        return false;
                    }
                    exponent = true;
                    self.accept("+-");
                    if self.accept("._eE") || self.at == self.text.len() {
                        return false;
                    }
                }
                Some('_') => {
                    self.at += 1;
                    if self.accept("._eE") || self.at == self.text.len() {
                        return false;
                    }
                }
                Some(c) if digits.contains(c) => self.accept_run(digits),
                _ => break,
            }
        }
        self.at > initial && !self.peek().is_some_and(is_alphanumeric)
    }

    fn string(&mut self, quote: char) -> Result<TokenKind, String> {
        loop {
            match self.next() {
                Some('\\') => self.escape(quote)?,
                None | Some('\n') => return Err("unterminated quoted string".to_owned()),
                Some(c) if c == quote => return Ok(TokenKind::String),
                Some(char::REPLACEMENT_CHARACTER) => return Err("invalid UTF-8 rune".to_owned()),
                Some(_) => {}
            }
        }
    }

    fn raw_string(&mut self) -> Result<TokenKind, String> {
        loop {
            match self.next() {
                None => return Err("unterminated raw string".to_owned()),
                Some('`') => return Ok(TokenKind::String),
                Some(char::REPLACEMENT_CHARACTER) => return Err("invalid UTF-8 rune".to_owned()),
                Some(_) => {}
            }
        }
    }

    fn escape(&mut self, quote: char) -> Result<(), String> {
        let unterminated = || "escape sequence not terminated".to_owned();
        let first = self.next().ok_or_else(unterminated)?;
        let (digits, base, largest) = match first {
            'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' => return Ok(()),
            c if c == quote => return Ok(()),
            '0'..='7' => {
                self.at -= 1;
                (3, 8, 255)
            }
            'x' => (2, 16, 255),
            'u' => (4, 16, 0x10_ffff),
            'U' => (8, 16, 0x10_ffff),
            other => return Err(format!("unknown escape sequence {}", unicode_name(other))),
        };
        let mut code: u32 = 0;
        for _ in 0..digits {
            let character = self.next().ok_or_else(unterminated)?;
            let digit = character
                .to_digit(base)
                .ok_or_else(|| format!("illegal character {} in escape sequence", unicode_name(character)))?;
            code = code.wrapping_mul(base).wrapping_add(digit);
        }
        if code > largest || (0xd800..0xe000).contains(&code) {
            return Err("escape sequence is an invalid Unicode code point".to_owned());
        }
        Ok(())
    }
}

/// As Go's `%#U` prints a character.
fn unicode_name(character: char) -> String {
    if character.is_control() {
        format!("U+{:04X}", character as u32)
    } else {
        format!("U+{:04X} '{character}'", character as u32)
    }
}

fn is_alpha(character: char) -> bool {
    character == '_' || character.is_ascii_alphabetic()
}

fn is_alphanumeric(character: char) -> bool {
    is_alpha(character) || character.is_ascii_digit()
}
