//! Regular expressions of users: in Go's dialect (RE2), with Go's words for what is wrong, carried out by this language's engine.
//!
//! The dialects differ where it matters: here `{` is a letter where it is no count, `[` is one within brackets, `&&` and
//! `--` are nothing special, and `\d`, `\s` and `\w` mean ASCII.

use regex::{Regex, RegexBuilder};

/// Names of classes in brackets, as `[:alpha:]`.
const CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];
/// Memory that a pattern compiled in one direction may take, and a cache of a search: patterns come from users.
const MAX_BYTES: usize = 1024 * 1024;
/// What most patterns stay below.
const USUAL_BYTES: usize = 64 * 1024;
/// A pattern is compiled forwards and backwards, and small ones into tables besides.
const PARTS: usize = 3;
/// Largest count of a repetition, as Go's.
const MAX_REPEAT: u32 = 1000;
const DIGITS: &str = "0-9";
const SPACES: &str = r"\t\n\x0C\r\x20";
const WORDS: &str = "0-9A-Za-z_";

/// Compiles a pattern; the error is what Go says of it.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    compile_weighed(pattern).map(|(compiled, _)| compiled)
}

/// Compiles a pattern, and tells how much memory it takes at most. Caches of searches are not in it: each clone has its own, and
/// makes it when it first searches.
pub(crate) fn compile_weighed(pattern: &str) -> Result<(Regex, usize), String> {
    let translated = translate(pattern).map_err(|(what, at)| format!("error parsing regexp: {what}: `{at}`"))?;
    let within = |bytes| RegexBuilder::new(&translated).size_limit(bytes).dfa_size_limit(MAX_BYTES).build();
    if let Ok(compiled) = within(USUAL_BYTES) {
        return Ok((compiled, PARTS * USUAL_BYTES));
    }
    within(MAX_BYTES).map(|compiled| (compiled, PARTS * MAX_BYTES)).map_err(|error| {
        let why = error.to_string();
        let last = why.lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_owned();
        format!("error parsing regexp: {last}: `{pattern}`")
    })
}

/// What is wrong, and the part that is.
type Wrong<'p> = (&'static str, &'p str);

/// The same pattern in the dialect of the engine.
fn translate(pattern: &str) -> Result<String, Wrong<'_>> {
    let mut parser = Parser { whole: pattern, rest: pattern, out: String::with_capacity(pattern.len()) };
    let mut depth = 0_usize;
    // Whether something stands before that can be repeated, and where the last repetition began.
    let (mut repeatable, mut last_repeat) = (false, None::<&str>);
    while let Some(letter) = parser.rest.chars().next() {
        let before = parser.rest;
        let mut repeated = None;
        match letter {
            '(' => {
                let opened = parser.open()?;
                depth += usize::from(opened);
                repeatable = false;
            }
            ')' => {
                depth = depth.checked_sub(1).ok_or(("unexpected )", parser.whole))?;
                parser.copy(1);
                repeatable = true;
            }
            '|' => {
                parser.copy(1);
                repeatable = false;
            }
            '*' | '+' | '?' => {
                parser.repeat(1, before, repeatable, last_repeat)?;
                repeated = Some(before);
            }
            '{' => match count(before) {
                None => {
                    parser.literal('{');
                    repeatable = true;
                }
                Some((length, fits)) => {
                    let shown = before.get(..length).unwrap_or(before);
                    if !fits {
                        return Err(("invalid repeat count", shown));
                    }
                    parser.repeat(length, before, repeatable, last_repeat)?;
                    repeated = Some(before);
                }
            },
            '[' => {
                parser.class()?;
                repeatable = true;
            }
            '\\' => repeatable |= parser.escape()?,
            '^' | '$' | '.' => {
                parser.copy(1);
                repeatable = true;
            }
            other => {
                parser.literal(other);
                repeatable = true;
            }
        }
        last_repeat = repeated;
    }
    if depth > 0 { Err(("missing closing )", pattern)) } else { Ok(parser.out) }
}

/// How long a count in braces is, and whether it is one that may be asked for; none where the brace is but a letter.
fn count(text: &str) -> Option<(usize, bool)> {
    let close = text.find('}')?;
    let (from, to) = text.get(1..close)?.split_once(',').map_or((text.get(1..close)?, None), |(a, b)| (a, Some(b)));
    let number = |digits: &str| -> Option<u32> {
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        (plain && (digits.len() < 2 || !digits.starts_with('0'))).then(|| digits.parse().unwrap_or(u32::MAX))
    };
    let least = number(from)?;
    let most = match to {
        None => least,
        Some("") => least,
        Some(digits) => number(digits)?,
    };
    Some((close + 1, least <= MAX_REPEAT && most <= MAX_REPEAT && least <= most))
}

struct Parser<'p> {
    whole: &'p str,
    rest: &'p str,
    out: String,
}

impl<'p> Parser<'p> {
    fn skip(&mut self, length: usize) -> &'p str {
        let (taken, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    fn copy(&mut self, length: usize) {
        let taken = self.skip(length);
        self.out.push_str(taken);
    }

    fn literal(&mut self, letter: char) {
        self.skip(letter.len_utf8());
        self.out.push_str(&written(letter));
    }

    /// A repetition of `length` bytes, with the mark that makes it lazy.
    fn repeat(
        &mut self,
        length: usize,
        before: &'p str,
        repeatable: bool,
        last: Option<&'p str>,
    ) -> Result<(), Wrong<'p>> {
        let lazy = usize::from(before.get(length..).is_some_and(|rest| rest.starts_with('?')));
        let end = before.len() - length - lazy;
        if let Some(last) = last {
            return Err(("invalid nested repetition operator", last.get(..last.len() - end).unwrap_or(last)));
        }
        if !repeatable {
            let shown = before.get(..length + lazy).unwrap_or(before);
            return Err(("missing argument to repetition operator", shown));
        }
        self.copy(length + lazy);
        Ok(())
    }

    /// The start of a group, or flags; answers whether it is a group. Nothing asks for what groups captured.
    fn open(&mut self) -> Result<bool, Wrong<'p>> {
        let start = self.rest;
        if !start.starts_with("(?") {
            self.skip(1);
            self.out.push_str("(?:");
            return Ok(true);
        }
        for prefix in ["(?P<", "(?<"] {
            let Some(named) = start.strip_prefix(prefix) else { continue };
            let Some(end) = named.find('>') else { return Err(("invalid named capture", start)) };
            let name = named.get(..end).unwrap_or_default();
            let length = prefix.len() + end + 1;
            if name.is_empty() || !name.chars().all(|letter| letter.is_alphanumeric() || letter == '_') {
                return Err(("invalid named capture", start.get(..length).unwrap_or(start)));
            }
            self.skip(length);
            self.out.push_str("(?:");
            return Ok(true);
        }
        let (mut negated, mut any) = (false, false);
        for (at, letter) in start.char_indices().skip(2) {
            let end = at + letter.len_utf8();
            match letter {
                'i' | 'm' | 's' | 'U' => any = true,
                '-' if !negated => (negated, any) = (true, false),
                ':' | ')' if !negated || any => {
                    self.copy(end);
                    return Ok(letter == ':');
                }
                _ => return Err(("invalid or unsupported Perl syntax", start.get(..end).unwrap_or(start))),
            }
        }
        Err(("missing closing )", self.whole))
    }

    /// An escape outside of brackets; answers whether it is something that can be repeated.
    fn escape(&mut self) -> Result<bool, Wrong<'p>> {
        if let Some(quoted) = self.rest.strip_prefix("\\Q") {
            let (literal, rest) = quoted.split_once("\\E").unwrap_or((quoted, ""));
            literal.chars().for_each(|letter| self.out.push_str(&written(letter)));
            self.rest = rest;
            return Ok(!literal.is_empty());
        }
        match self.rest.chars().nth(1) {
            Some('A' | 'z' | 'B') => self.copy(2),
            Some('b') => {
                self.skip(2);
                self.out.push_str(r"(?-u:\b)");
            }
            Some('C') => {
                self.skip(2);
                self.out.push_str("(?s:.)");
            }
            _ => {
                if let Some(class) = self.named_class()? {
                    self.out.push_str(&format!("[{class}]"));
                } else {
                    let letter = self.escaped()?;
                    self.out.push_str(&written(letter));
                }
            }
        }
        Ok(true)
    }

    /// `\d`, `\pL` and their like, as they stand within brackets.
    fn named_class(&mut self) -> Result<Option<String>, Wrong<'p>> {
        let letter = self.rest.strip_prefix('\\').and_then(|rest| rest.chars().next());
        let class = match letter {
            Some('d') => DIGITS.to_owned(),
            Some('s') => SPACES.to_owned(),
            Some('w') => WORDS.to_owned(),
            Some('D') => format!("[^{DIGITS}]"),
            Some('S') => format!("[^{SPACES}]"),
            Some('W') => format!("[^{WORDS}]"),
            Some('p' | 'P') => return self.unicode_class().map(Some),
            _ => return Ok(None),
        };
        self.skip(2);
        Ok(Some(class))
    }

    fn unicode_class(&mut self) -> Result<String, Wrong<'p>> {
        let start = self.rest;
        let length = match start.get(2..).and_then(|rest| rest.chars().next()) {
            None => return Err(("invalid escape sequence", start)),
            Some('{') => match start.find('}') {
                Some(end) => end + 1,
                None => return Err(("invalid character class range", start)),
            },
            Some(letter) => 2 + letter.len_utf8(),
        };
        let class = self.skip(length);
        if Regex::new(class).is_err() {
            return Err(("invalid character class range", class));
        }
        Ok(class.to_owned())
    }

    /// The letter that an escape stands for.
    fn escaped(&mut self) -> Result<char, Wrong<'p>> {
        let start = self.rest;
        let Some(letter) = start.chars().nth(1) else { return Err(("trailing backslash at end of expression", "")) };
        let length = 1 + letter.len_utf8();
        let shown = start.get(..length).unwrap_or(start);
        let after = start.get(length..).unwrap_or_default();
        let is_octal = |byte: u8| (b'0'..=b'7').contains(&byte);
        let plain = match letter {
            '1'..='7' if !after.bytes().next().is_some_and(is_octal) => None,
            '0'..='7' => {
                let more = after.bytes().take(2).take_while(|byte| is_octal(*byte)).count();
                let digits = start.get(1..length + more).unwrap_or_default();
                self.skip(length + more);
                return Ok(u32::from_str_radix(digits, 8).ok().and_then(char::from_u32).unwrap_or('\0'));
            }
            'x' => return self.hexadecimal(),
            'a' => Some('\u{7}'),
            'f' => Some('\u{c}'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\u{b}'),
            other if other.is_ascii() && !other.is_ascii_alphanumeric() => Some(other),
            _ => None,
        };
        let plain = plain.ok_or(("invalid escape sequence", shown))?;
        self.skip(length);
        Ok(plain)
    }

    fn hexadecimal(&mut self) -> Result<char, Wrong<'p>> {
        let start = self.rest;
        let after = start.get(2..).unwrap_or_default();
        let (digits, length) = match after.strip_prefix('{') {
            Some(inner) => match inner.find('}') {
                Some(end) => (inner.get(..end).unwrap_or_default(), end + 4),
                None => return Err(("invalid escape sequence", start)),
            },
            None => (after.get(..2).unwrap_or(after), 4),
        };
        let shown = start.get(..length).unwrap_or(start);
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let letter = u32::from_str_radix(digits, 16).ok().filter(|_| plain && (length != 4 || digits.len() == 2));
        let letter = letter.and_then(char::from_u32).ok_or(("invalid escape sequence", shown))?;
        self.skip(length);
        Ok(letter)
    }

    /// What stands in brackets.
    fn class(&mut self) -> Result<(), Wrong<'p>> {
        let whole = self.rest;
        self.copy(1);
        if self.rest.starts_with('^') {
            self.copy(1);
        }
        let mut first = true;
        while first || !self.rest.starts_with(']') {
            first = false;
            if self.rest.starts_with("[:")
                && let Some(end) = self.rest.find(":]")
            {
                let name = self.skip(end + 2);
                let own = name.trim_start_matches("[:").trim_end_matches(":]");
                if !CLASSES.contains(&own.strip_prefix('^').unwrap_or(own)) {
                    return Err(("invalid character class range", name));
                }
                self.out.push_str(name);
                continue;
            }
            if let Some(class) = self.named_class()? {
                self.out.push_str(&class);
                continue;
            }
            let range = self.rest;
            let low = self.class_letter(whole)?;
            let mut high = low;
            if self.rest.len() >= 2 && self.rest.starts_with('-') && !self.rest.starts_with("-]") {
                self.skip(1);
                high = self.class_letter(whole)?;
                if high < low {
                    let length = range.len() - self.rest.len();
                    return Err(("invalid character class range", range.get(..length).unwrap_or(range)));
                }
            }
            self.out.push_str(&written(low));
            if high != low {
                self.out.push('-');
                self.out.push_str(&written(high));
            }
        }
        self.copy(1);
        Ok(())
    }

    fn class_letter(&mut self, whole: &'p str) -> Result<char, Wrong<'p>> {
        match self.rest.chars().next() {
            None => Err(("missing closing ]", whole)),
            Some('\\') => self.escaped(),
            Some(letter) => {
                self.skip(letter.len_utf8());
                Ok(letter)
            }
        }
    }
}

/// A letter so that it means itself wherever it stands.
fn written(letter: char) -> String {
    if letter.is_ascii_alphanumeric() || !letter.is_ascii() {
        letter.to_string()
    } else {
        format!("\\x{:02X}", u32::from(letter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_in_go() {
        for (pattern, matching, other) in [
            (r"^\d+$", "12", "١٢"),
            ("^[^[]+$", "a", "["),
            ("^[a&&b]+$", "a&b", "c"),
            ("^a{,2}$", "a{,2}", "aa"),
            ("^{x}$", "{x}", "x"),
            ("^a{2,3}?$", "aaa", "a"),
            (r"^[\w.-]+$", "a_b-.c", "ä"),
            (r"^[]a]+$", "]a", "b"),
            (r"^[a-c\-]+$", "a-c", "d"),
            (r"^\Qa.b\E$", "a.b", "axb"),
            (r"^(?P<year>\d{4})-(?i:x)$", "2024-X", "2024-y"),
            (r"^\x41\x{42}\103$", "ABC", "ABD"),
            (r"^[[:alpha:]]\/$", "a/", "1/"),
            (r"^[\D]$", "a", "1"),
            ("^(a|)*$", "aa", "b"),
            (r"\bfoo\b", "a foo b", "afoob"),
            (r"^\pL\p{Greek}$", "aα", "αa"),
            ("^ä$", "ä", "a"),
        ] {
            let compiled = compile(pattern).unwrap();
            assert!(compiled.is_match(matching), "{pattern} {matching}");
            assert!(!compiled.is_match(other), "{pattern} {other}");
        }
    }

    #[test]
    fn faults_are_told_in_gos_words() {
        for (pattern, why) in [
            ("a[b", "missing closing ]: `[b`"),
            ("(a", "missing closing ): `(a`"),
            ("a)", "unexpected ): `a)`"),
            ("*a", "missing argument to repetition operator: `*`"),
            ("(+?)", "missing argument to repetition operator: `+?`"),
            ("a**", "invalid nested repetition operator: `**`"),
            ("a{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            ("a{3,2}", "invalid repeat count: `{3,2}`"),
            (r"a\", "trailing backslash at end of expression: ``"),
            (r"\y", r"invalid escape sequence: `\y`"),
            (r"\1", r"invalid escape sequence: `\1`"),
            (r"[\d-\z]", r"invalid escape sequence: `\z`"),
            ("[b-a]", "invalid character class range: `b-a`"),
            ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
            (r"\p{Foo}", r"invalid character class range: `\p{Foo}`"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
            ("(?<!a)", "invalid named capture: `(?<!a)`"),
            ("(?P<a b>x)", "invalid named capture: `(?P<a b>`"),
        ] {
            assert_eq!(compile(pattern).unwrap_err(), format!("error parsing regexp: {why}"), "{pattern}");
        }
    }
}
