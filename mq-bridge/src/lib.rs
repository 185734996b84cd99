//! One broker trait over many message queues, with a conformance kit.
