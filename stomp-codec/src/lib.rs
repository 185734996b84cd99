//! Zero-copy STOMP 1.0, 1.1 and 1.2 frame codec and sans-I/O protocol sessions.
