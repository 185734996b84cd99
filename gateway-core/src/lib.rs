//! An instant-messaging gateway as a library: sessions, routing, inboxes, storage, REST.
