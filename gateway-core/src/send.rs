use bytes::Bytes;

use crate::destination::Destination;
use crate::error::GatewayError;
use crate::names::{DeviceName, UserName};
use crate::outgoing;
use crate::pipeline::SendReceipt;
use crate::store::{MAX_KEY_OCTETS, MessageKind};

/// Something to be sent, as a SEND frame or a REST call says it.
///
/// ```
/// # use gateway_core::{Destination, SendRequest, UserName};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let to = Destination::parse("/user/bob")?;
/// let request = SendRequest::new(UserName::new("alice")?, to, "hello")
///     .with_header("idempotency-key", "6f1c")?
///     .with_header("x-client", "demo")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SendRequest {
    /// Who sends.
    pub from: UserName,
    /// From which device; it is not told of the message again.
    pub device: Option<DeviceName>,
    /// Where to.
    pub destination: Destination,
    /// What it is.
    pub kind: SendKind,
    /// The sender's key for it.
    pub idempotency_key: Option<String>,
    /// Headers that travel with it, each name once.
    pub headers: Vec<(String, String)>,
    /// Its content.
    pub body: Bytes,
}

/// What a SEND is, by its `kind` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendKind {
    /// Something to keep.
    Stored(MessageKind),
    /// Somebody is typing.
    Typing,
    /// One of the sender's devices has everything up to this `seq`.
    Delivered(u64),
    /// The sender has read everything up to this `seq`.
    Read(u64),
}

/// What came of a send.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sent {
    /// Stored, and confirmed by the broker for every recipient.
    Stored(SendReceipt),
    /// Confirmed by the broker; nothing was stored.
    Published,
}

impl SendRequest {
    /// A plain message.
    #[must_use]
    pub fn new(from: UserName, destination: Destination, body: impl Into<Bytes>) -> Self {
        Self {
            from,
            device: None,
            destination,
            kind: SendKind::Stored(MessageKind::Message),
            idempotency_key: None,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// Sets the device it is sent from.
    #[must_use]
    pub fn with_device(mut self, device: DeviceName) -> Self {
        self.device = Some(device);
        self
    }

    /// Sets the sender's key for it.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Invalid`] unless it has 1 to [`MAX_KEY_OCTETS`](crate::MAX_KEY_OCTETS) octets.
    pub fn with_idempotency_key(mut self, key: &str) -> Result<Self, GatewayError> {
        check_key(key)?;
        self.idempotency_key = Some(key.to_owned());
        Ok(self)
    }

    /// Sets what it is: the value of the `kind` header, and of `up-to` where the kind needs it.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Invalid`] for a kind that a client may not send, or where `up-to` is missing.
    pub fn with_kind(mut self, kind: &str, up_to: Option<&str>) -> Result<Self, GatewayError> {
        let up_to = || {
            up_to.and_then(|up_to| up_to.parse().ok()).ok_or(GatewayError::Invalid {
                name: "up-to",
                problem: "must be the seq up to which it is read or delivered",
            })
        };
        self.kind = match kind {
            "typing" => SendKind::Typing,
            "delivered" => SendKind::Delivered(up_to()?),
            "read" => SendKind::Read(up_to()?),
            other => match other.parse() {
                Ok(
                    kind @ (MessageKind::Message
                    | MessageKind::Edit
                    | MessageKind::Recall
                    | MessageKind::Reaction),
                ) => SendKind::Stored(kind),
                _ => {
                    return Err(GatewayError::Invalid {
                        name: "kind",
                        problem: "must be message, edit, recall, reaction, read, delivered or typing",
                    });
                }
            },
        };
        Ok(self)
    }

    /// Adds a header as a SEND carries it. `idempotency-key` is taken as such; headers that belong to
    /// the SEND itself, or that only the server sets, are passed over, and so are repeats of a name, and a
    /// `traceparent` or `tracestate` that is none.
    ///
    /// # Errors
    ///
    /// As for [`with_idempotency_key`](Self::with_idempotency_key).
    pub fn with_header(mut self, name: &str, value: &str) -> Result<Self, GatewayError> {
        if name == "idempotency-key" {
            if self.idempotency_key.is_some() {
                return Ok(self);
            }
            return self.with_idempotency_key(value);
        }
        if outgoing::is_relayed(name, value) && !self.headers.iter().any(|(known, _)| known == name)
        {
            self.headers.push((name.to_owned(), value.to_owned()));
        }
        Ok(self)
    }
}

/// Whether a sender's key is one.
pub(crate) const fn check_key(key: &str) -> Result<(), GatewayError> {
    if key.is_empty() || key.len() > MAX_KEY_OCTETS {
        return Err(GatewayError::Invalid {
            name: "idempotency-key",
            problem: "must have 1 to 128 octets",
        });
    }
    Ok(())
}
