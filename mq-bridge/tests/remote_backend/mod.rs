//! What the tests of several backends over a network are made of.

#![allow(dead_code, reason = "each backend uses its part")]

pub(crate) mod nodes;
pub(crate) mod proxy;
pub(crate) mod steps;
