//! Typed views: one per command, with accessors named as the specification names the headers
//!
//! A view owns its [`Frame`] and is made from it with `TryFrom`, which gives the frame back where the
//! command is another one. Every accessor reads the header of its name; whether a header is required in
//! the session's version is checked by the sessions.

use std::borrow::Cow;

use bytes::Bytes;

use crate::{Command, Frame};

macro_rules! views {
    ($(
        $(#[$doc:meta])*
        $name:ident ($($command:ident)|+) { $($(#[$header_doc:meta])* $method:ident = $header:literal,)* }
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(Frame);

        impl $name {
            $(
                $(#[$header_doc])*
                pub fn $method(&self) -> Option<Cow<'_, str>> {
                    self.0.header($header)
                }
            )*

            /// The frame
            pub const fn frame(&self) -> &Frame {
                &self.0
            }

            /// The frame
            pub fn into_frame(self) -> Frame {
                self.0
            }

            /// The value of the first header of this name
            pub fn header(&self, name: &str) -> Option<Cow<'_, str>> {
                self.0.header(name)
            }

            /// The body
            pub fn body(&self) -> &[u8] {
                self.0.body()
            }

            /// The body, sharing the memory
            pub fn body_bytes(&self) -> Bytes {
                self.0.body_bytes()
            }
        }

        impl TryFrom<Frame> for $name {
            type Error = Frame;

            fn try_from(frame: Frame) -> Result<Self, Frame> {
                match frame.command() {
                    $(Command::$command)|+ => Ok(Self(frame)),
                    _ => Err(frame),
                }
            }
        }

        impl From<$name> for Frame {
            fn from(view: $name) -> Self {
                view.0
            }
        }
    )*};
}

views! {
    /// CONNECT or STOMP: opens a session
    Connect(Connect | Stomp) {
        /// The versions that the client speaks; absent means 1.0
        accept_version = "accept-version",
        /// The virtual host
        host = "host",
        /// Who signs in
        login = "login",
        /// The secret that proves it
        passcode = "passcode",
        /// What the client can send and wants to get
        heart_beat = "heart-beat",
    }
    /// CONNECTED: accepts a session
    Connected(Connected) {
        /// The version of the session; absent means 1.0
        version = "version",
        /// The session's identifier
        session = "session",
        /// The server's name and version
        server = "server",
        /// What the server can send and wants to get
        heart_beat = "heart-beat",
    }
    /// SEND: sends a message
    Send(Send) {
        /// Where to
        destination = "destination",
        /// The transaction it is part of
        transaction = "transaction",
        /// The receipt asked for
        receipt = "receipt",
        /// The MIME type of the body
        content_type = "content-type",
    }
    /// SUBSCRIBE: registers to listen to a destination
    Subscribe(Subscribe) {
        /// What to listen to
        destination = "destination",
        /// The subscription's identifier (optional in 1.0)
        id = "id",
        /// How messages are acknowledged; absent means `auto`
        ack = "ack",
        /// The receipt asked for
        receipt = "receipt",
    }
    /// UNSUBSCRIBE: removes a subscription
    Unsubscribe(Unsubscribe) {
        /// Which subscription
        id = "id",
        /// Which subscription, where it has no identifier (1.0)
        destination = "destination",
        /// The receipt asked for
        receipt = "receipt",
    }
    /// ACK: acknowledges consumption
    Ack(Ack) {
        /// The `ack` value of the MESSAGE (1.2)
        id = "id",
        /// The `message-id` of the MESSAGE (1.0, 1.1)
        message_id = "message-id",
        /// The subscription that the MESSAGE came in (1.1)
        subscription = "subscription",
        /// The transaction it is part of
        transaction = "transaction",
        /// The receipt asked for
        receipt = "receipt",
    }
    /// NACK: says that a message was not consumed (from 1.1)
    Nack(Nack) {
        /// The `ack` value of the MESSAGE (1.2)
        id = "id",
        /// The `message-id` of the MESSAGE (1.1)
        message_id = "message-id",
        /// The subscription that the MESSAGE came in (1.1)
        subscription = "subscription",
        /// The transaction it is part of
        transaction = "transaction",
        /// The receipt asked for
        receipt = "receipt",
    }
    /// BEGIN: starts a transaction
    Begin(Begin) {
        /// The transaction's identifier
        transaction = "transaction",
        /// The receipt asked for
        receipt = "receipt",
    }
    /// COMMIT: applies a transaction
    Commit(Commit) {
        /// The transaction's identifier
        transaction = "transaction",
        /// The receipt asked for
        receipt = "receipt",
    }
    /// ABORT: discards a transaction
    Abort(Abort) {
        /// The transaction's identifier
        transaction = "transaction",
        /// The receipt asked for
        receipt = "receipt",
    }
    /// DISCONNECT: ends the session
    Disconnect(Disconnect) {
        /// The receipt asked for
        receipt = "receipt",
    }
    /// MESSAGE: conveys a message of a subscription
    Message(Message) {
        /// Where it was sent to
        destination = "destination",
        /// The message's identifier
        message_id = "message-id",
        /// The subscription it comes in
        subscription = "subscription",
        /// What to acknowledge it with (1.2)
        ack = "ack",
        /// The MIME type of the body
        content_type = "content-type",
    }
    /// RECEIPT: confirms a frame
    Receipt(Receipt) {
        /// The `receipt` value of that frame
        receipt_id = "receipt-id",
    }
    /// ERROR: says what went wrong
    Error(Error) {
        /// A short description
        message = "message",
        /// The `receipt` value of the frame at fault
        receipt_id = "receipt-id",
        /// The MIME type of the body
        content_type = "content-type",
        /// The versions that the server speaks, where there was no common one
        version = "version",
    }
}
