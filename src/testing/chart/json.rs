//! Text in JSON and HTML, and bytes in base64: so little that a crate would be more.

use std::fmt::{self, Write as _};
use std::io::{self, Write};

/// A JSON string that may stand in a script element: no `<`, `>`, `&` and nothing that ends a line
/// of a script is in it.
pub(super) struct Text<'a>(pub(super) &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => write!(f, "\\u{:04x}", u32::from(c))?,
                c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

/// Text in HTML.
pub(super) struct Html<'a>(pub(super) &'a str);

impl fmt::Display for Html<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Writes bytes as base64.
pub(super) fn base64(bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |word: u32, place: u32| DIGITS[(word >> (18 - 6 * place) & 63) as usize];
    // Whole lines at a time: a page has millions of digits.
    let mut line = Vec::with_capacity(4096);
    for block in bytes.chunks(3 * 1024) {
        line.clear();
        for three in block.chunks(3) {
            let at = |place: usize| u32::from(three.get(place).copied().unwrap_or_default());
            let word = at(0) << 16 | at(1) << 8 | at(2);
            let used = three.len() as u32;
            line.extend((0..4).map(|place| if place <= used { digit(word, place) } else { b'=' }));
        }
        out.write_all(&line)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        let encode = |text: &str| {
            let mut out = Vec::new();
            base64(text.as_bytes(), &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        // RFC 4648, section 10.
        for (text, digits) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(text), digits);
        }
    }

    #[test]
    fn text_from_a_trace_is_never_markup() {
        let evil = "</script><b>\"\\\u{2028}\n&";
        let text = Text(evil).to_string();
        assert!(!text.contains(['<', '>', '&', '\n', '\u{2028}']), "{text}");
        assert_eq!(Html("<a href=\"&\">").to_string(), "&lt;a href=&quot;&amp;&quot;&gt;");
    }
}
