//! Directives, anchors, aliases and tags.

use super::{Kind, Scanned, Scanner, is_blank, is_blank_or_end, is_name};

/// Letters of tags besides those of names.
const TAG_SIGNS: &str = ";/?:@&=+$,.!~*'()[]%";
/// Digits of a version's number.
const MAX_VERSION_DIGITS: usize = 2;

impl Scanner {
    pub(super) fn fetch_directive(&mut self) -> Scanned {
        self.close_blocks(None);
        self.forget_key()?;
        self.key_allowed = false;
        let line = self.mark.line;
        self.skip();
        let name = self.directive_name()?;
        let kind = match name.as_str() {
            "YAML" => self.version()?,
            "TAG" => self.tag_prefix()?,
            _ => return self.fault("found unknown directive name"),
        };
        self.end_line()?;
        self.push(kind, line);
        Ok(())
    }

    fn directive_name(&mut self) -> Scanned<String> {
        let name = self.name()?;
        if name.is_empty() {
            return self.fault("could not find expected directive name");
        }
        if !is_blank_or_end(self.at(0)) {
            return self.fault("found unexpected non-alphabetical character");
        }
        Ok(name)
    }

    fn name(&mut self) -> Scanned<String> {
        let mut name = String::new();
        self.need(1)?;
        while is_name(self.at(0)) {
            self.read(&mut name);
            self.need(1)?;
        }
        Ok(name)
    }

    fn version(&mut self) -> Scanned<Kind> {
        self.skip_blanks()?;
        let major = self.version_number()?;
        if self.at(0) != '.' {
            return self.fault("did not find expected digit or '.' character");
        }
        self.skip();
        let minor = self.version_number()?;
        Ok(Kind::Version { major, minor })
    }

    fn version_number(&mut self) -> Scanned<u8> {
        let mut digits = String::new();
        self.need(1)?;
        while self.at(0).is_ascii_digit() {
            if digits.len() == MAX_VERSION_DIGITS {
                return self.fault("found extremely long version number");
            }
            self.read(&mut digits);
            self.need(1)?;
        }
        digits.parse().or_else(|_| self.fault("did not find expected version number"))
    }

    fn tag_prefix(&mut self) -> Scanned<Kind> {
        self.skip_blanks()?;
        let handle = self.tag_handle(true)?;
        self.need(1)?;
        if !is_blank(self.at(0)) {
            return self.fault("did not find expected whitespace");
        }
        self.skip_blanks()?;
        let prefix = self.tag_text("")?;
        self.need(1)?;
        if !is_blank_or_end(self.at(0)) {
            return self.fault("did not find expected whitespace or line break");
        }
        Ok(Kind::TagPrefix { handle, prefix })
    }

    pub(super) fn fetch_anchor(&mut self) -> Scanned {
        self.remember_key()?;
        self.key_allowed = false;
        let (is_alias, line) = (self.at(0) == '*', self.mark.line);
        self.skip();
        let name = self.name()?;
        if name.is_empty() || !(is_blank_or_end(self.at(0)) || "?:,]}%@`".contains(self.at(0))) {
            return self.fault("did not find expected alphabetic or numeric character");
        }
        self.push(if is_alias { Kind::Alias(name) } else { Kind::Anchor(name) }, line);
        Ok(())
    }

    pub(super) fn fetch_tag(&mut self) -> Scanned {
        self.remember_key()?;
        self.key_allowed = false;
        let line = self.mark.line;
        self.need(2)?;
        let (handle, suffix) = if self.at(1) == '<' {
            self.skip();
            self.skip();
            let suffix = self.tag_text("")?;
            if self.at(0) != '>' {
                return self.fault("did not find the expected '>'");
            }
            self.skip();
            (String::new(), suffix)
        } else {
            self.short_tag()?
        };
        self.need(1)?;
        if !is_blank_or_end(self.at(0)) {
            return self.fault("did not find expected whitespace or line break");
        }
        self.push(Kind::Tag { handle, suffix }, line);
        Ok(())
    }

    /// Handle and suffix of a tag such as `!!int`, `!e!name` or `!name`; one that is a mark alone has no handle.
    fn short_tag(&mut self) -> Scanned<(String, String)> {
        let handle = self.tag_handle(false)?;
        if handle.len() > 1 && handle.ends_with('!') {
            let suffix = self.tag_text("")?;
            return Ok((handle, suffix));
        }
        let suffix = self.tag_text(&handle)?;
        Ok(if suffix.is_empty() { (String::new(), "!".into()) } else { ("!".into(), suffix) })
    }

    fn tag_handle(&mut self, directive: bool) -> Scanned<String> {
        self.need(1)?;
        if self.at(0) != '!' {
            return self.fault("did not find expected '!'");
        }
        let mut handle = String::new();
        self.read(&mut handle);
        handle.push_str(&self.name()?);
        if self.at(0) == '!' {
            self.read(&mut handle);
        } else if directive && handle != "!" {
            return self.fault("did not find expected '!'");
        }
        Ok(handle)
    }

    /// The rest of a tag, behind what was read as its handle and is none.
    fn tag_text(&mut self, head: &str) -> Scanned<String> {
        let mut text = head.get(1..).unwrap_or_default().as_bytes().to_vec();
        let mut found = !head.is_empty();
        self.need(1)?;
        while is_name(self.at(0)) || TAG_SIGNS.contains(self.at(0)) {
            if self.at(0) == '%' {
                self.escaped(&mut text)?;
            } else {
                text.extend(u8::try_from(self.at(0)));
                self.skip();
            }
            self.need(1)?;
            found = true;
        }
        if !found {
            return self.fault("did not find expected tag URI");
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// A letter that is written as its octets.
    fn escaped(&mut self, text: &mut Vec<u8>) -> Scanned {
        let mut left = None;
        while left != Some(0) {
            self.need(3)?;
            let digits =
                [self.at(1), self.at(2)].map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()));
            let ('%', [Some(high), Some(low)]) = (self.at(0), digits) else {
                return self.fault("did not find URI escaped octet");
            };
            let octet = (high << 4) | low;
            let behind = match (left, octet) {
                (None, 0..=0x7f) => 0,
                (None, 0xc0..=0xdf) => 1,
                (None, 0xe0..=0xef) => 2,
                (None, 0xf0..=0xf7) => 3,
                (None, _) => return self.fault("found an incorrect leading UTF-8 octet"),
                (Some(left), 0x80..=0xbf) => left - 1,
                (Some(_), _) => return self.fault("found an incorrect trailing UTF-8 octet"),
            };
            text.push(octet);
            (0..3).for_each(|_| self.skip());
            left = Some(behind);
        }
        Ok(())
    }
}
