/// Bounds on what a peer may send, in octets and counts
///
/// Each bound acts while octets arrive: a peer that exceeds it is refused at the first octet too many,
/// and nothing is allocated because a peer announced it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Longest command line, without its EOL
    ///
    /// 32 by default: the longest command has 11 octets; the rest is room for an error message that
    /// names what arrived.
    pub command: usize,
    /// Longest header line, without its EOL
    ///
    /// 16 KiB by default: tokens and passcodes of 8 KiB are met in practice.
    pub header_line: usize,
    /// Most header lines of one frame, repeats included
    ///
    /// 128 by default: known peers send fewer than 64.
    pub headers: usize,
    /// Longest head: command line and all header lines with their EOLs
    ///
    /// 64 KiB by default: count times line would be 2 MiB.
    pub head: usize,
    /// Longest body
    ///
    /// 4 MiB by default; 1 MiB is the least that known clients expect.
    pub body: usize,
}

impl Limits {
    /// The defaults for an established session
    pub const DEFAULT: Self = Self {
        command: 32,
        header_line: 16 * 1024,
        headers: 128,
        head: 64 * 1024,
        body: 4 * 1024 * 1024,
    };

    /// The defaults before a session is established: a stranger gets less
    ///
    /// A CONNECT frame carries at most a token; it has no body (EOLs are tolerated in lenient mode).
    pub const BEFORE_CONNECT: Self =
        Self { command: 32, header_line: 16 * 1024, headers: 64, head: 32 * 1024, body: 16 };

    /// Sets [`Limits::header_line`]
    #[must_use]
    pub const fn with_header_line(mut self, octets: usize) -> Self {
        self.header_line = octets;
        self
    }

    /// Sets [`Limits::headers`]
    #[must_use]
    pub const fn with_headers(mut self, count: usize) -> Self {
        self.headers = count;
        self
    }

    /// Sets [`Limits::head`]
    #[must_use]
    pub const fn with_head(mut self, octets: usize) -> Self {
        self.head = octets;
        self
    }

    /// Sets [`Limits::body`]
    #[must_use]
    pub const fn with_body(mut self, octets: usize) -> Self {
        self.body = octets;
        self
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// How to meet octets that the grammar forbids but real peers send
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a third mode would be a breaking change of meaning")]
pub enum Mode {
    /// The grammar of the negotiated version and nothing else
    Strict,
    /// Also accepts what is met in practice and cannot be misread: CR LF in 1.0 and 1.1, stray NULs
    /// between frames, a CONNECT body of EOLs only, blanks around the number of `content-length`
    #[default]
    Lenient,
}
