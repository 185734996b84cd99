//! A word that must not be said, and one that is said more politely.

use std::sync::Arc;

use async_trait::async_trait;
use gateway_core::{Destination, Draft, Gateway, Interceptor, RefusedError, SendRequest, UserName};

#[derive(Debug)]
struct Manners;

#[async_trait]
impl Interceptor for Manners {
    async fn intercept(&self, draft: &mut Draft<'_>) -> Result<(), RefusedError> {
        let Ok(text) = std::str::from_utf8(draft.body) else { return Ok(()) };
        if text.contains("voldemort") {
            return Err(RefusedError::Denied("that name is not said here"));
        }
        *draft.body = text.replace("damn", "d***").into();
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let gateway = Gateway::builder().interceptor(Arc::new(Manners)).build()?;
    let (alice, bob) = (UserName::new("alice")?, UserName::new("bob")?);
    gateway.create_user(&alice, None).await?;
    gateway.create_user(&bob, None).await?;

    let to_bob = Destination::parse("/user/bob")?;
    let say = |text: &'static str| SendRequest::new(alice.clone(), to_bob.clone(), text);
    println!("{:?}", gateway.send(say("damn, it rains")).await?);
    match gateway.send(say("have you seen voldemort?")).await {
        Ok(_) => Err("it was said".into()),
        Err(error) => {
            println!("{error}");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_runs() -> Result<(), Box<dyn std::error::Error>> {
        super::main()
    }
}
