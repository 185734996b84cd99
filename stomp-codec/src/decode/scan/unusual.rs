use super::Scanner;
use crate::find::Marks;
use crate::{DecodeError, DecodeErrorKind};

/// What a head so far holds that needs a closer look: noted as it comes, judged at the end of the head
#[derive(Clone, Copy, Debug)]
pub(super) struct Unusual {
    /// Where the last escape sequence or EOL ends that was looked at.
    until: usize,
    pub(super) nul: bool,
    /// A CR that ends a line.
    pub(super) cr: bool,
    pub(super) backslash: bool,
    bare_cr: Option<usize>,
    bad_escape: Option<usize>,
    not_ascii: Option<usize>,
}

impl Unusual {
    pub(super) const NONE: Self = Self {
        until: 0,
        nul: false,
        cr: false,
        backslash: false,
        bare_cr: None,
        bad_escape: None,
        not_ascii: None,
    };

    /// How much of `head` need not be looked at again when more octets have come
    pub(super) fn seen(&self, head: &[u8]) -> usize {
        // What begins with its last octet is known with the next one.
        let begins = matches!(head.last(), Some(b'\\' | b'\r')) && self.until < head.len();
        head.len() - usize::from(begins)
    }
}

impl Scanner {
    /// Notes the unusual octets of one word
    #[cold]
    pub(super) fn note(&mut self, head: &[u8], at: usize, marks: Marks) {
        let (reading, cr_ends_lines) = (self.reading(), self.cr_ends_lines());
        let unusual = &mut self.unusual;
        for place in marks.unusual() {
            let at = at + place;
            let next = head.get(at + 1);
            match head.get(at) {
                // Unless it is the second one of a sequence.
                Some(b'\\') if at >= unusual.until => {
                    unusual.backslash = true;
                    match next {
                        Some(letter) if reading.defines(*letter) => unusual.until = at + 2,
                        Some(_) => _ = unusual.bad_escape.get_or_insert(at),
                        None => {}
                    }
                }
                Some(b'\r') if cr_ends_lines => match next {
                    Some(b'\n') => unusual.cr = true,
                    Some(_) => _ = unusual.bare_cr.get_or_insert(at),
                    None => {}
                },
                Some(0) => unusual.nul = true,
                Some(0x80..) => _ = unusual.not_ascii.get_or_insert(at),
                _ => {}
            }
        }
    }

    /// Judges what was noted in a head that is complete
    #[cold]
    pub(super) fn judge(&mut self, head: &[u8]) -> Result<(), DecodeError> {
        let unusual = self.unusual;
        if unusual.nul {
            return Err(self.fault(head, head.len(), DecodeErrorKind::NulInHeader, 0));
        }
        if let Some(at) = unusual.bare_cr {
            return Err(self.error(DecodeErrorKind::BareCr, at));
        }
        if let Some(first) = unusual.not_ascii {
            let rest = head.get(first..).unwrap_or_default();
            self.count_examined(rest.len());
            if let Err(error) = std::str::from_utf8(rest) {
                let at = first + error.valid_up_to();
                return Err(self.error(DecodeErrorKind::InvalidUtf8, at));
            }
        }
        match unusual.bad_escape {
            Some(at) if self.reading().escapes() => Err(self.error(DecodeErrorKind::BadEscape, at)),
            _ => Ok(()),
        }
    }
}
