//! A formatter that encrypts bodies with AES-256-GCM.
//!
//! The key's name stands in the `content-type` of what is stored, beside the original one; so keys can be changed: new
//! messages get the current key, older ones are read with theirs. The conversation and the sender are authenticated
//! along: a stored body cannot be moved to another conversation or put into another's mouth.

use std::collections::HashMap;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use gateway_core::{
    ConversationId, Formatter, MessageKind, NewMessage, StoreError, StoredMessage, UserName,
};

const CONTENT_TYPE: &str = "content-type";
const ENCRYPTED: &str = "application/vnd.im.encrypted;key=";

/// Encrypts with the current key, and decrypts with any of its keys.
#[derive(Debug)]
pub(crate) struct Cipher {
    current: String,
    keys: HashMap<String, RandomizedNonceKey>,
}

impl Cipher {
    /// With a first key, which is the current one. A name has letters, digits and `-`.
    pub(crate) fn new(name: &str, key: &[u8; 32]) -> Result<Self, StoreError> {
        let cipher = Self { current: String::new(), keys: HashMap::new() };
        cipher.with_current(name, key)
    }

    /// Also with this key, which is the current one from now on.
    pub(crate) fn with_current(mut self, name: &str, key: &[u8; 32]) -> Result<Self, StoreError> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, key)
            .map_err(|_| StoreError::Unusable(format!("the key {name} is none")))?;
        self.keys.insert(name.to_owned(), key);
        self.current = name.to_owned();
        Ok(self)
    }

    fn key(&self, name: &str) -> Result<&RandomizedNonceKey, StoreError> {
        let missing = || StoreError::Unusable(format!("the key {name} is missing"));
        self.keys.get(name).ok_or_else(missing)
    }
}

impl Formatter for Cipher {
    fn store(&self, message: &mut NewMessage) -> Result<(), StoreError> {
        if !matches!(message.kind, MessageKind::Message | MessageKind::Edit) {
            return Ok(());
        }
        let mut body = message.body.to_vec();
        let nonce = self
            .key(&self.current)?
            .seal_in_place_append_tag(about(&message.conversation, &message.sender), &mut body)
            .map_err(|_| StoreError::Unusable("a message could not be encrypted".to_owned()))?;
        body.extend_from_slice(nonce.as_ref());
        message.body = body.into();
        let encrypted = format!("{ENCRYPTED}{}", self.current);
        match message.headers.iter_mut().find(|(name, _)| name == CONTENT_TYPE) {
            Some((_, value)) => *value = format!("{encrypted};{value}"),
            None => message.headers.push((CONTENT_TYPE.to_owned(), encrypted)),
        }
        Ok(())
    }

    fn load(&self, message: &mut StoredMessage) -> Result<(), StoreError> {
        let place = message
            .headers
            .iter()
            .position(|(name, value)| name == CONTENT_TYPE && value.starts_with(ENCRYPTED));
        let Some(place) = place else { return Ok(()) };
        let (_, value) = message.headers.remove(place);
        let about_key = value.strip_prefix(ENCRYPTED).unwrap_or_default();
        let (key, original) = match about_key.split_once(';') {
            Some((key, original)) => (key, Some(original)),
            None => (about_key, None),
        };
        let changed = || StoreError::Unusable("a stored message was changed".to_owned());
        let mut body = message.body.to_vec();
        let start = body.len().checked_sub(NONCE_LEN).ok_or_else(changed)?;
        let nonce = body.split_off(start);
        let nonce = Nonce::try_assume_unique_for_key(&nonce).map_err(|_| changed())?;
        let about = about(&message.conversation, &message.sender);
        let plain =
            self.key(key)?.open_in_place(nonce, about, &mut body).map_err(|_| changed())?.len();
        body.truncate(plain);
        message.body = body.into();
        if let Some(original) = original {
            message.headers.insert(place, (CONTENT_TYPE.to_owned(), original.to_owned()));
        }
        Ok(())
    }
}

fn about(conversation: &ConversationId, sender: &UserName) -> Aad<String> {
    Aad::from(format!("{conversation} {sender}"))
}
