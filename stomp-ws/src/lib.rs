//! STOMP over WebSocket and TCP: server and client transports.
