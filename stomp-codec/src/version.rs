use std::fmt;

/// Version of the protocol
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(clippy::exhaustive_enums, reason = "a new version of STOMP changes this crate throughout")]
pub enum Version {
    /// STOMP 1.0: no escapes, no heart-beats, no NACK
    V1_0,
    /// STOMP 1.1
    V1_1,
    /// STOMP 1.2
    V1_2,
}

impl Version {
    /// Every version, ascending
    pub const ALL: [Self; 3] = [Self::V1_0, Self::V1_1, Self::V1_2];

    /// The token of `accept-version` and `version`
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1_0 => "1.0",
            Self::V1_1 => "1.1",
            Self::V1_2 => "1.2",
        }
    }

    /// The version of exactly this token: no prefix, no numeric comparison
    pub fn from_token(token: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == token)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of versions: what one side is willing to speak
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    enabled: [bool; 3],
}

impl Versions {
    /// All three
    pub const ALL: Self = Self { enabled: [true; 3] };
    /// None; add with [`Versions::with`]
    pub const NONE: Self = Self { enabled: [false; 3] };

    /// The set and `version`
    #[must_use]
    pub const fn with(mut self, version: Version) -> Self {
        self.enabled[version as usize] = true;
        self
    }

    /// Whether `version` is in the set
    pub const fn contains(self, version: Version) -> bool {
        self.enabled[version as usize]
    }

    /// The versions of the set, ascending
    pub fn iter(self) -> impl DoubleEndedIterator<Item = Version> {
        Version::ALL.into_iter().filter(move |version| self.contains(*version))
    }

    /// The highest version of the set that a peer's `accept-version` names
    ///
    /// `None` for the header means that the peer speaks only 1.0 (1.1 and 1.2, "Protocol
    /// Negotiation"). Tokens are compared whole; blanks around them and empty tokens are skipped.
    pub fn negotiate(self, accept_version: Option<&str>) -> Option<Version> {
        let Some(list) = accept_version else {
            return self.contains(Version::V1_0).then_some(Version::V1_0);
        };
        list.split(',')
            .filter_map(|token| Version::from_token(token.trim_matches([' ', '\t'])))
            .filter(|version| self.contains(*version))
            .max()
    }
}

impl Default for Versions {
    fn default() -> Self {
        Self::ALL
    }
}

impl FromIterator<Version> for Versions {
    fn from_iter<I: IntoIterator<Item = Version>>(versions: I) -> Self {
        versions.into_iter().fold(Self::NONE, Self::with)
    }
}

/// The comma-separated list, ascending, as `accept-version` wants it
impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, version) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            f.write_str(version.as_str())?;
        }
        Ok(())
    }
}
