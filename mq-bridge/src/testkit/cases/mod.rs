//! The cases, by subject.

mod acknowledging;
mod content;
mod control;
mod durability;
mod flow;
mod topics;

pub(super) use acknowledging::*;
pub(super) use content::*;
pub(super) use control::*;
pub(super) use durability::*;
pub(super) use flow::*;
pub(super) use topics::*;
