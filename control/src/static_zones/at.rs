//! `@` in record data stands for the origin (RFC 1035 section 5.1); hickory-proto knows it as an owner alone. Here each is
//! written out, in its place, so that lines keep their numbers.

/// Types whose data has names, which `@` may stand for; in a TXT it is a character like others.
const NAMING: [&str; 6] = ["CNAME", "PTR", "MX", "SRV", "NS", "SOA"];

/// The text with every `@` in data written out; `origin` is without its final dot.
pub(super) fn written_out(origin: &str, text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut entry = Entry { origin: format!("{origin}."), ..Entry::default() };
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            ';' => rest.find('\n').unwrap_or(rest.len()),
            '"' => quoted(rest),
            '\n' | '(' | ')' | ' ' | '\t' | '\r' => 1,
            _ => word(rest),
        };
        let (piece, behind) = rest.split_at(length);
        rest = behind;
        match first {
            '\n' if entry.depth == 0 => entry.end(),
            '(' => entry.depth += 1,
            ')' => entry.depth = entry.depth.saturating_sub(1),
            ' ' | '\t' | '\r' | '\n' => entry.begun = true,
            ';' | '"' => {}
            _ => {
                out.push_str(entry.take(piece));
                continue;
            }
        }
        out.push_str(piece);
    }
    out
}

/// A record, or a directive, as far as it was read.
#[derive(Default)]
struct Entry {
    origin: String,
    depth: usize,
    /// Whether it has an owner, be it a blank for the one before.
    begun: bool,
    names: bool,
    directive: bool,
}

impl Entry {
    /// A word, or what is to be in its place.
    fn take<'a>(&'a mut self, word: &'a str) -> &'a str {
        if !self.begun {
            self.begun = true;
            self.directive = word.eq_ignore_ascii_case("$ORIGIN");
        } else if std::mem::take(&mut self.directive) {
            self.origin = match word {
                "@" => return &self.origin,
                absolute if absolute.ends_with('.') => absolute.to_owned(),
                relative => format!("{relative}.{}", self.origin.trim_start_matches('.')),
            };
        } else if word == "@" && self.names {
            return &self.origin;
        } else {
            self.names |= NAMING.iter().any(|name| word.eq_ignore_ascii_case(name));
        }
        word
    }

    fn end(&mut self) {
        (self.begun, self.names, self.directive) = (false, false, false);
    }
}

/// Octets of the quoted string that the text begins with, quotes included.
fn quoted(text: &str) -> usize {
    let mut escaped = true;
    for (at, c) in text.char_indices() {
        match (escaped, c) {
            (false, '"') => return at + 1,
            (false, '\\') => escaped = true,
            _ => escaped = false,
        }
    }
    text.len()
}

/// Octets of the word that the text begins with.
fn word(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ' ' | '\t' | '\r' | '\n' | '(' | ')' | ';' | '"' => return at,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::written_out;

    #[test]
    fn the_origin_that_holds_is_written_where_data_has_an_at_and_nothing_else_is_touched() {
        for (text, expected) in [
            ("@ MX 10 @\n", "@ MX 10 corp.\n"),
            ("www CNAME @ ; not @ here\n", "www CNAME corp. ; not @ here\n"),
            ("@ SOA @ admin (1 2\n 3 4 5)\n@ NS @", "@ SOA corp. admin (1 2\n 3 4 5)\n@ NS corp."),
            (
                "$ORIGIN sub\na PTR @\n$ORIGIN x.org.\n  60 IN MX 1 @\n",
                "$ORIGIN sub\na PTR sub.corp.\n$ORIGIN x.org.\n  60 IN MX 1 x.org.\n",
            ),
            ("t TXT @ \"@ \\\" @\"\nns A 10.0.0.1\n", "t TXT @ \"@ \\\" @\"\nns A 10.0.0.1\n"),
            ("cname TXT @\na SRV 0 0 1 \\@\n", "cname TXT @\na SRV 0 0 1 \\@\n"),
        ] {
            assert_eq!(written_out("corp", text), expected);
        }
    }
}
