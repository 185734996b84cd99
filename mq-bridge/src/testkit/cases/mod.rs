//! The cases, by subject.

mod acknowledging;
mod competing;
mod content;
mod control;
mod durability;
mod flow;
mod nodes;
mod outage;
mod topics;

pub(super) use acknowledging::*;
pub(super) use competing::*;
pub(super) use content::*;
pub(super) use control::*;
pub(super) use durability::*;
pub(super) use flow::*;
pub(super) use nodes::*;
pub(super) use outage::*;
pub(super) use topics::*;
