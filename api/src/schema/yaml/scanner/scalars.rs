//! Scalars: in blocks, in quotes, and plain.

use super::{Kind, Scanned, Scanner, is_blank, is_blank_or_end, is_break, is_break_or_end};

/// What becomes of the line ends behind a block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Chomping {
    Strip,
    Clip,
    Keep,
}

/// Blanks and line ends between words, until it is known what they come to.
#[derive(Default)]
struct Gap {
    blanks: String,
    first_break: String,
    breaks: String,
    broken: bool,
}

impl Gap {
    /// A single line end is a blank, and of more the first is dropped.
    fn fold(&mut self, text: &mut String) {
        if !self.broken {
            text.push_str(&self.blanks);
        } else if !self.first_break.is_empty() && !self.first_break.starts_with('\n') {
            text.push_str(&self.first_break);
            text.push_str(&self.breaks);
        } else if self.breaks.is_empty() && !self.first_break.is_empty() {
            text.push(' ');
        } else {
            text.push_str(&self.breaks);
        }
        *self = Self::default();
    }
}

impl Scanner {
    pub(super) fn fetch_block_scalar(&mut self) -> Scanned {
        self.forget_key()?;
        self.key_allowed = true;
        let (literal, line) = (self.at(0) == '|', self.mark.line);
        self.skip();
        let (chomping, deeper) = self.block_header()?;
        self.end_line()?;
        let mut indent = deeper.map_or(0, |deeper| self.indent.unwrap_or(0) + deeper);
        let text = self.block_text(literal, chomping, &mut indent)?;
        self.push(Kind::Scalar { text, plain: false }, line);
        Ok(())
    }

    /// What becomes of line ends at the end, and how much deeper the text is where that is told; in any order.
    fn block_header(&mut self) -> Scanned<(Chomping, Option<usize>)> {
        let (mut chomping, mut deeper) = (None, None);
        for _ in 0..2 {
            self.need(1)?;
            match self.at(0) {
                '+' if chomping.is_none() => chomping = Some(Chomping::Keep),
                '-' if chomping.is_none() => chomping = Some(Chomping::Strip),
                '0' if deeper.is_none() => return self.fault("found an indentation indicator equal to 0"),
                digit @ '1'..='9' if deeper.is_none() => {
                    deeper = digit.to_digit(10).and_then(|digit| usize::try_from(digit).ok());
                }
                _ => break,
            }
            self.skip();
        }
        Ok((chomping.unwrap_or(Chomping::Clip), deeper))
    }

    fn block_text(&mut self, literal: bool, chomping: Chomping, indent: &mut usize) -> Scanned<String> {
        let (mut text, mut first_break, mut breaks) = (String::new(), String::new(), String::new());
        let mut began_blank = false;
        self.block_breaks(indent, &mut breaks)?;
        self.need(1)?;
        while self.mark.column == *indent && self.at(0) != '\0' {
            let begins_blank = is_blank(self.at(0));
            if !literal && !began_blank && !begins_blank && first_break.starts_with('\n') {
                if breaks.is_empty() {
                    text.push(' ');
                }
            } else {
                text.push_str(&first_break);
            }
            first_break.clear();
            text.push_str(&breaks);
            breaks.clear();
            began_blank = begins_blank;
            while !is_break_or_end(self.at(0)) {
                self.read(&mut text);
                self.need(1)?;
            }
            self.need(2)?;
            self.read_line(&mut first_break);
            self.block_breaks(indent, &mut breaks)?;
        }
        if chomping != Chomping::Strip {
            text.push_str(&first_break);
        }
        if chomping == Chomping::Keep {
            text.push_str(&breaks);
        }
        Ok(text)
    }

    /// Empty lines and the blanks before a line of a block; finds out how deep it is where that is not known.
    fn block_breaks(&mut self, indent: &mut usize, breaks: &mut String) -> Scanned {
        let mut deepest = 0;
        loop {
            self.need(1)?;
            let within = |column: usize| *indent == 0 || column < *indent;
            while within(self.mark.column) && self.at(0) == ' ' {
                self.skip();
                self.need(1)?;
            }
            deepest = deepest.max(self.mark.column);
            if within(self.mark.column) && self.at(0) == '\t' {
                return self.fault("found a tab character where an indentation space is expected");
            }
            if !is_break(self.at(0)) {
                break;
            }
            self.need(2)?;
            self.read_line(breaks);
        }
        if *indent == 0 {
            *indent = deepest.max(self.indent.map_or(0, |indent| indent + 1)).max(1);
        }
        Ok(())
    }

    pub(super) fn fetch_quoted(&mut self) -> Scanned {
        self.remember_key()?;
        self.key_allowed = false;
        let (quote, line) = (self.at(0), self.mark.line);
        self.skip();
        let (mut text, mut gap) = (String::new(), Gap::default());
        loop {
            self.need(4)?;
            if self.is_document_mark('-') || self.is_document_mark('.') {
                return self.fault("found unexpected document indicator");
            }
            if self.at(0) == '\0' {
                return self.fault("found unexpected end of stream");
            }
            gap.broken = self.quoted_words(quote, &mut text)?;
            self.need(1)?;
            if self.at(0) == quote {
                break;
            }
            self.gap(&mut gap, None)?;
            gap.fold(&mut text);
        }
        self.skip();
        self.push(Kind::Scalar { text, plain: false }, line);
        Ok(())
    }

    /// Reads up to a blank, a line end or the closing quote; whether the line end was escaped.
    fn quoted_words(&mut self, quote: char, text: &mut String) -> Scanned<bool> {
        while !is_blank_or_end(self.at(0)) {
            match (quote, self.at(0), self.at(1)) {
                ('\'', '\'', '\'') => {
                    text.push('\'');
                    self.skip();
                    self.skip();
                }
                (quote, letter, _) if quote == letter => break,
                ('"', '\\', end) if is_break(end) => {
                    self.need(3)?;
                    self.skip();
                    self.skip_line();
                    return Ok(true);
                }
                ('"', '\\', _) => self.escape(text)?,
                _ => self.read(text),
            }
            self.need(2)?;
        }
        Ok(false)
    }

    fn escape(&mut self, text: &mut String) -> Scanned {
        let (letter, digits) = match self.at(1) {
            '0' => ('\0', 0),
            'a' => ('\u{7}', 0),
            'b' => ('\u{8}', 0),
            't' | '\t' => ('\t', 0),
            'n' => ('\n', 0),
            'v' => ('\u{b}', 0),
            'f' => ('\u{c}', 0),
            'r' => ('\r', 0),
            'e' => ('\u{1b}', 0),
            same @ (' ' | '"' | '\'' | '\\') => (same, 0),
            'N' => ('\u{85}', 0),
            '_' => ('\u{a0}', 0),
            'L' => ('\u{2028}', 0),
            'P' => ('\u{2029}', 0),
            'x' => ('\0', 2),
            'u' => ('\0', 4),
            'U' => ('\0', 8),
            _ => return self.fault("found unknown escape character"),
        };
        self.skip();
        self.skip();
        if digits == 0 {
            text.push(letter);
            return Ok(());
        }
        self.need(digits)?;
        let mut code: u64 = 0;
        for place in 0..digits {
            let Some(digit) = self.at(place).to_digit(16) else {
                return self.fault("did not find expected hexdecimal number");
            };
            code = (code << 4) | u64::from(digit);
        }
        let Some(letter) = u32::try_from(code).ok().and_then(char::from_u32) else {
            return self.fault("found invalid Unicode character escape code");
        };
        text.push(letter);
        (0..digits).for_each(|_| self.skip());
        Ok(())
    }

    /// Reads blanks and line ends. In a plain scalar no tab may stand where the block's indentation is.
    fn gap(&mut self, gap: &mut Gap, indent: Option<usize>) -> Scanned {
        while is_blank(self.at(0)) || is_break(self.at(0)) {
            if is_break(self.at(0)) {
                self.need(2)?;
                if gap.broken {
                    self.read_line(&mut gap.breaks);
                } else {
                    gap.blanks.clear();
                    self.read_line(&mut gap.first_break);
                    gap.broken = true;
                }
            } else if !gap.broken {
                self.read(&mut gap.blanks);
            } else if self.at(0) == '\t' && indent.is_some_and(|indent| self.mark.column < indent) {
                return self.fault("found a tab character that violates indentation");
            } else {
                self.skip();
            }
            self.need(1)?;
        }
        Ok(())
    }

    pub(super) fn fetch_plain(&mut self) -> Scanned {
        self.remember_key()?;
        self.key_allowed = false;
        let (mut text, mut gap) = (String::new(), Gap::default());
        let (line, indent) = (self.mark.line, self.indent.map_or(0, |indent| indent + 1));
        loop {
            self.need(4)?;
            if self.is_document_mark('-') || self.is_document_mark('.') || self.at(0) == '#' {
                break;
            }
            while !is_blank_or_end(self.at(0)) && !self.ends_plain() {
                gap.fold(&mut text);
                self.read(&mut text);
                self.need(2)?;
            }
            if !(is_blank(self.at(0)) || is_break(self.at(0))) {
                break;
            }
            self.need(1)?;
            self.gap(&mut gap, Some(indent))?;
            if self.flow_level == 0 && self.mark.column < indent {
                break;
            }
        }
        self.push(Kind::Scalar { text, plain: true }, line);
        if gap.broken {
            self.key_allowed = true;
        }
        Ok(())
    }

    fn ends_plain(&self) -> bool {
        let letter = self.at(0);
        (letter == ':' && is_blank_or_end(self.at(1))) || (self.flow_level > 0 && ",?[]{}".contains(letter))
    }
}
