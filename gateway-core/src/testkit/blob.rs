//! What is promised of a store for attachments, one function for each promise.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::join_all;

use super::{Check, Harness, clock, conversation, holds, same, table, text, user};
use crate::blob::{BlobId, BlobInfo, BlobStore};
use crate::clock::Clock;

type Outcome = Result<(), String>;
type Any<'a> = &'a mut dyn Harness<dyn BlobStore>;
type Store = Arc<dyn BlobStore>;

#[doc(hidden)]
#[macro_export]
macro_rules! __blob_store_checks {
    ([$($callback:tt)+] [$($arguments:tt)*]) => {
        $($callback)+! {
            [$($arguments)*]
            what_was_written_is_read
            what_is_known_of_a_blob_is_kept
            ids_cannot_be_guessed
            writers_do_not_disturb_each_other
            a_removed_blob_is_gone
            the_list_has_what_was_finished_page_by_page
            what_was_finished_survives_a_restart
        }
    };
}

/// The suite for stores of attachments
#[must_use]
pub fn blob_store_checks() -> Vec<Check<dyn BlobStore>> {
    __blob_store_checks!([table] [])
}

fn about(name: &str) -> Result<BlobInfo, String> {
    Ok(BlobInfo::new(conversation("group:李")?, user("alice")?, name, "image/png"))
}

async fn keep(store: &Store, name: &str, parts: &[Bytes]) -> Result<BlobId, String> {
    let mut writer = store.create(about(name)?).await.map_err(text)?;
    for part in parts {
        writer.write(part.clone()).await.map_err(text)?;
        tokio::task::yield_now().await;
    }
    writer.finish().await.map_err(text)
}

async fn read(store: &Store, id: BlobId) -> Result<Vec<u8>, String> {
    let blob = store.open(id).await.map_err(text)?.ok_or_else(|| format!("{id} is missing"))?;
    let (size, mut content) = (blob.size, blob.content);
    let mut octets = Vec::new();
    while let Some(part) = content.next().await {
        octets.extend_from_slice(&part.map_err(text)?);
    }
    same!(octets.len() as u64, size, "octets read, and the size");
    Ok(octets)
}

/// Parts of a content that is nowhere alike
fn parts(lengths: &[usize]) -> Vec<Bytes> {
    let mut next = 1_u32;
    let octet = |_| {
        next = next.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        next.to_be_bytes()[0]
    };
    let mut octets = (0..).map(octet);
    lengths.iter().map(|length| octets.by_ref().take(*length).collect()).collect()
}

async fn what_was_written_is_read(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    for lengths in [&[][..], &[0], &[1], &[100_000, 0, 7, 300_000], &[65_536, 65_536]] {
        let parts = parts(lengths);
        let id = keep(&store, "x", &parts).await?;
        for _ in 0..2 {
            holds!(
                read(&store, id).await? == parts.concat(),
                "of {lengths:?} other octets are read"
            );
        }
    }
    Ok(())
}

async fn what_is_known_of_a_blob_is_kept(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    for name in ["plan.png", "会议 \"a\"\n{}", "..", &"x".repeat(255)] {
        let id = keep(&store, name, &parts(&[10])).await?;
        let blob = store.open(id).await.map_err(text)?.ok_or("it is missing")?;
        same!(blob.about, about(name)?, "what is known");
    }
    Ok(())
}

async fn ids_cannot_be_guessed(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    let mut last = keep(&store, "x", &[]).await?;
    for _ in 0..20 {
        let next = keep(&store, "x", &[]).await?;
        let number = |id: BlobId| u128::from_str_radix(&id.to_string(), 16).map_err(text);
        let differ = (number(last)? ^ number(next)?).count_ones();
        holds!(differ > 20, "{next} follows {last}: only {differ} bits differ");
        last = next;
    }
    Ok(())
}

async fn writers_do_not_disturb_each_other(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    let writing = (1..9_usize).map(|number| {
        let store = Arc::clone(&store);
        async move {
            let parts = parts(&[number * 1000; 10]);
            let id = keep(&store, &number.to_string(), &parts).await?;
            holds!(read(&store, id).await? == parts.concat(), "writer {number} reads other octets");
            Ok(())
        }
    });
    join_all(writing.map(tokio::spawn)).await.into_iter().try_for_each(|done| done.map_err(text)?)
}

async fn a_removed_blob_is_gone(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    let (one, other) = (keep(&store, "x", &[]).await?, keep(&store, "y", &[]).await?);
    same!(store.remove(one).await.map_err(text)?, true, "the answer");
    same!(store.remove(one).await.map_err(text)?, false, "the second answer");
    holds!(store.open(one).await.map_err(text)?.is_none(), "it is still there");
    read(&store, other).await?;
    let unknown = BlobId::generate().map_err(text)?;
    holds!(store.open(unknown).await.map_err(text)?.is_none(), "{unknown} is there");
    Ok(())
}

async fn the_list_has_what_was_finished_page_by_page(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    let before = store.list(None, 1000).await.map_err(text)?.len();
    same!(before, 0, "attachments in the beginning");
    let mut kept = Vec::new();
    for _ in 0..20 {
        kept.push(keep(&store, "x", &parts(&[10])).await?);
    }
    let mut unfinished = store.create(about("y")?).await.map_err(text)?;
    unfinished.write(Bytes::from_static(b"half")).await.map_err(text)?;
    let removed = kept.pop().ok_or("nothing was kept")?;
    store.remove(removed).await.map_err(text)?;
    kept.sort_unstable();
    let mut listed = Vec::new();
    loop {
        let page = store.list(listed.last().copied(), 7).await.map_err(text)?;
        if page.is_empty() {
            break;
        }
        holds!(page.len() <= 7, "a page of 7 has {}", page.len());
        for entry in page {
            same!(entry.conversation, about("x")?.conversation, "the conversation");
            // Any clock is right that is not far from that of the machine.
            let now = Clock::system().now_millis();
            holds!(now.abs_diff(entry.time) < 3_600_000, "its time is {}, not {now}", entry.time);
            listed.push(entry.id);
        }
        holds!(listed.len() <= kept.len(), "{listed:?} are listed of {kept:?}");
    }
    same!(listed, kept, "the list");
    Ok(())
}

async fn what_was_finished_survives_a_restart(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    let parts = parts(&[1000, 100_000]);
    let id = keep(&store, "x", &parts).await?;
    let mut unfinished = store.create(about("y")?).await.map_err(text)?;
    unfinished.write(Bytes::from_static(b"half")).await.map_err(text)?;
    let Some(store) = harness.restart(store).await else { return Ok(()) };
    holds!(read(&store, id).await? == parts.concat(), "other octets are read");
    Ok(())
}
