//! What of a declaration acts on deliveries.

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::Declaration;

/// The settings of a declaration that act on deliveries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) max_deliveries: Option<NonZeroU32>,
    pub(crate) dead_letter: Option<Arc<str>>,
}

impl Settings {
    pub(crate) fn of(declaration: &Declaration) -> Self {
        Self {
            max_deliveries: declaration.max_deliveries,
            dead_letter: declaration.dead_letter.clone(),
        }
    }
}
