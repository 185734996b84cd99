//! One STOMP session: what a client's frames do, and what is delivered to it.

mod deliver;
mod input;
mod ready;
mod reply;
mod run;
mod send;
mod subscribe;
mod timeline;

pub(crate) use run::run;
#[cfg(feature = "rest")]
pub(crate) use subscribe::PREFETCH;
pub(crate) use subscribe::declare_queue;
