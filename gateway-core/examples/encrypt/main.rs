//! A gateway whose store sees no text: `cargo run -p gateway-core --example encrypt`

use std::sync::Arc;

use gateway_core::{
    ConversationId, Destination, Gateway, MemoryStore, MessageStore, Page, SendRequest, UserName,
};

mod cipher;

use cipher::Cipher;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = Arc::new(MemoryStore::new());
    // Keys come from where secrets are kept, not from the source.
    let cipher = Cipher::new("2026-10", &[1; 32])?.with_current("2026-11", &[2; 32])?;
    let gateway = Gateway::builder().store(store.clone()).formatter(Arc::new(cipher)).build()?;
    let (alice, bob) = (UserName::new("alice")?, UserName::new("bob")?);
    gateway.create_user(&alice, None).await?;
    gateway.create_user(&bob, None).await?;
    let to_bob = Destination::parse("/user/bob")?;
    gateway.send(SendRequest::new(alice.clone(), to_bob, "between you and me")).await?;

    let conversation = ConversationId::direct(&alice, &bob);
    let read = gateway.history(&bob, &conversation, Page::latest(1)).await?;
    println!("bob reads {:?}", read.messages[0].body);
    let stored = store.history(&conversation, Page::latest(1)).await?;
    println!("stored is {:?} {:?}", stored[0].headers, stored[0].body);
    gateway.shutdown().await;
    Ok(())
}
