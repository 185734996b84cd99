//! Every backend that needs no server passes the conformance kit.

#![allow(clippy::unwrap_used)]

mod in_process;

use in_process::{EmbeddedHarness, MemoryHarness};

mod memory {
    mq_bridge::testkit::suite!(super::MemoryHarness::start());
}

mod embedded {
    mq_bridge::testkit::suite!(super::EmbeddedHarness::start());
}
