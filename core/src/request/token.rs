//! Fencing tokens: they name a request and prove that their bearer holds it.

use super::{Digest, digest};

/// A token: the request's name, and a secret of which only a digest is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// The request.
    pub name: Digest,
    /// What nobody else knows.
    pub secret: Digest,
}

impl Token {
    /// What the row of the request remembers of its holder.
    pub fn holder(&self) -> i64 {
        let digest = digest("slotkeeper holder 1", &[&self.name, &self.secret]);
        digest
            .iter()
            .take(8)
            .fold(0, |number, byte| number << 8 | i64::from(*byte))
    }

    /// The text that the holder gets.
    pub fn to_text(&self) -> String {
        let bytes = self.name.iter().chain(&self.secret);
        bytes.flat_map(|byte| [byte >> 4, byte & 15]).map(digit).collect()
    }

    /// Reads what [`Token::to_text`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: Vec<u8> = text.bytes().map(value).collect::<Option<_>>()?;
        let mut bytes = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]);
        if digits.len() != 64 {
            return None;
        }
        let mut token = Self {
            name: Digest::default(),
            secret: Digest::default(),
        };
        for (to, from) in token.name.iter_mut().chain(&mut token.secret).zip(&mut bytes) {
            *to = from;
        }
        Some(token)
    }
}

fn digit(value: u8) -> char {
    char::from_digit(value.into(), 16).unwrap_or_default()
}

/// Lower case only: one token has one text.
fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back() {
        let token = Token {
            name: [0x0f; 16],
            secret: [0xa5; 16],
        };
        assert_eq!(Token::parse(&token.to_text()), Some(token));
        let text = token.to_text();
        for wrong in [
            "",
            "ab",
            &text[1..],
            &text.to_uppercase(),
            &format!("{text}00"),
            &"é".repeat(32),
        ] {
            assert_eq!(Token::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_holder_depends_on_name_and_secret() {
        let token = Token {
            name: [1; 16],
            secret: [2; 16],
        };
        let other = Token {
            name: [2; 16],
            secret: [1; 16],
        };
        assert_ne!(token.holder(), other.holder());
        assert_ne!(
            token.holder(),
            Token {
                secret: [3; 16],
                ..token
            }
            .holder()
        );
    }
}
