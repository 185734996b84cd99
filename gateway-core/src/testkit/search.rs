//! What is promised of a message store's full-text search.

use std::time::Duration;

use super::message_store::{Any, Outcome, Store, append, message, say};
use super::{START, clock, conversation, holds, same, text, user};
use crate::store::{MessageKind, Search, SearchCursor, SearchScope, SearchTerms, StoredMessage};

fn terms(query: &str) -> Result<SearchTerms, String> {
    query.parse().map_err(text)
}

fn scope(name: &str) -> Result<SearchScope, String> {
    Ok(SearchScope::new(conversation(name)?))
}

fn bodies(messages: &[StoredMessage]) -> Vec<&str> {
    messages.iter().filter_map(|message| std::str::from_utf8(&message.body).ok()).collect()
}

async fn search(store: &Store, search: Search) -> Result<Vec<StoredMessage>, String> {
    store.search(search).await.map_err(text)
}

async fn finds(store: &Store, query: &str, wanted: &[&str]) -> Outcome {
    let all = Search::new(terms(query)?, 100).with_scopes([scope("group:a")?]);
    let mut found = search(store, all).await?;
    found.sort_by_key(|message| message.seq);
    same!(bodies(&found), wanted, "what {query:?} finds");
    Ok(())
}

pub(super) async fn search_finds_words_and_phrases(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    let (one, two) =
        ("The quick brown fox: e-mail us!", "A fox is quick, QUICK as e.g. mail; brown");
    for body in [one, two, "nothing", "", "..."] {
        say(&store, "group:a", "alice", body).await?;
    }
    finds(&store, "fox quick", &[one, two]).await?;
    finds(&store, "\"quick brown\"", &[one]).await?;
    finds(&store, "e-mail", &[one]).await?;
    finds(&store, "\"fox is quick\" brow*", &[two]).await?;
    finds(&store, "quic", &[]).await?;
    finds(&store, "fox missing", &[]).await?;
    finds(&store, "Nothing", &["nothing"]).await
}

pub(super) async fn search_finds_parts_of_texts_without_spaces(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    let (one, two, three) = ("明天下午三点开会", "会议改到下午，bob 你好", "東京タワーへ行きます");
    for body in [one, two, three] {
        say(&store, "group:a", "李雷", body).await?;
    }
    finds(&store, "下午", &[one, two]).await?;
    finds(&store, "会", &[one, two]).await?;
    finds(&store, "下午三点", &[one]).await?;
    finds(&store, "三点下午", &[]).await?;
    finds(&store, "\"bob 你好\" 会议", &[two]).await?;
    finds(&store, "タワー", &[three]).await?;
    finds(&store, "京都", &[]).await
}

pub(super) async fn search_looks_only_where_it_is_told(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    for (to, from) in [
        ("direct:alice:bob", "alice"),
        ("direct:alice:carol", "carol"),
        ("direct:bob:carol", "bob"),
        ("group:a", "alice"),
        ("group:b", "bob"),
        ("group:a", "bob"),
    ] {
        say(&store, to, from, &format!("word of {from} in {to}")).await?;
    }
    let places = |found: Vec<StoredMessage>| {
        let mut places: Vec<_> =
            found.iter().map(|message| (message.conversation.to_string(), message.seq)).collect();
        places.sort();
        places
    };
    let place = |name: &str, seq| (name.to_owned(), seq);
    for query in ["word", "wor*"] {
        let nowhere = Search::new(terms(query)?, 100);
        same!(places(search(&store, nowhere.clone()).await?), [], "what is found nowhere");
        let bobs = nowhere.clone().with_direct_of(user("bob")?);
        let wanted = [place("direct:alice:bob", 1), place("direct:bob:carol", 1)];
        same!(places(search(&store, bobs.clone()).await?), wanted, "bob's {query}");
        let both = bobs.with_scopes([scope("group:a")?, scope("group:none")?]);
        let wanted = [&wanted[..], &[place("group:a", 1), place("group:a", 2)]].concat();
        same!(places(search(&store, both).await?), wanted, "bob's {query}, and that of a group");
        let late = nowhere.with_scopes([scope("group:a")?.with_after_seq(1), scope("group:b")?]);
        let wanted = [place("group:a", 2), place("group:b", 1)];
        same!(places(search(&store, late).await?), wanted, "{query} in the later part");
    }
    Ok(())
}

pub(super) async fn search_gives_the_newest_first_page_by_page(harness: Any<'_>) -> Outcome {
    let clock = clock();
    let store = harness.create(clock.clone()).await;
    let names = ["group:a", "direct:alice:bob", "group:b"];
    let mut wanted = Vec::new();
    for number in 0..20_u64 {
        // Two share each timestamp.
        clock.set(START + number / 2);
        let name = names.get(usize::try_from(number * 7 % 3).unwrap_or(0)).unwrap_or(&"");
        let appended = say(&store, name, "alice", &format!("word {number}")).await?;
        wanted.push((appended.timestamp, appended.conversation, appended.seq));
        clock.advance(Duration::from_millis(1));
        say(&store, name, "alice", "another").await?;
    }
    wanted.sort();
    wanted.reverse();
    for query in ["word", "wor*"] {
        let mut found = Vec::new();
        let mut cursor = None;
        for _ in 0..20 {
            let part = Search::new(terms(query)?, 3)
                .with_direct_of(user("bob")?)
                .with_scopes([scope("group:a")?, scope("group:b")?])
                .with_after(cursor.take());
            let page = search(&store, part).await?;
            holds!(page.len() <= 3, "{} messages, asked for 3", page.len());
            let Some(last) = page.last() else { break };
            // As a client hands it back.
            cursor = Some(SearchCursor::of(last).to_string().parse().map_err(text)?);
            found.extend(page.into_iter().map(|one| (one.timestamp, one.conversation, one.seq)));
        }
        same!(found, wanted, "the pages of {query}");
    }
    Ok(())
}

pub(super) async fn search_finds_texts_of_plain_messages_only(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    let word = || message("group:a", "alice", "word");
    let typed = |kind: &str| Ok::<_, String>(word()?.with_header("content-type", kind));
    append(&store, word()?).await?;
    append(&store, typed("text/plain;charset=utf-8")?).await?;
    append(&store, typed("Text/Markdown")?).await?;
    append(&store, typed("application/json")?).await?;
    for kind in [MessageKind::Reaction, MessageKind::Member, MessageKind::System] {
        append(&store, word()?.with_kind(kind)).await?;
    }
    let mut octets = word()?;
    octets.body = (&b"word \xff"[..]).into();
    append(&store, octets).await?;
    let all = Search::new(terms("word")?, 100).with_scopes([scope("group:a")?]);
    let found: Vec<_> = search(&store, all).await?.iter().map(|message| message.seq).collect();
    same!(found, [3, 2, 1], "seqs");
    Ok(())
}

pub(super) async fn search_is_bounded_in_octets(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    for number in 0..5 {
        let long = format!("word {number} {}", "x".repeat(10_000));
        say(&store, "group:a", "alice", &long).await?;
    }
    let all = Search::new(terms("word")?, 100).with_scopes([scope("group:a")?]);
    let one = search(&store, all.clone().with_max_octets(1)).await?;
    same!(one.len(), 1, "messages where none would fit");
    let some = search(&store, all.with_max_octets(25_000)).await?;
    holds!((1..5).contains(&some.len()), "{} messages of 10 000 octets in 25 000", some.len());
    let seqs: Vec<_> = some.iter().map(|message| message.seq).collect();
    holds!(seqs.iter().copied().eq((1..=5).rev().take(seqs.len())), "{seqs:?}: not the newest");
    Ok(())
}

pub(super) async fn search_finds_after_a_restart(harness: Any<'_>) -> Outcome {
    let store = harness.create(clock()).await;
    for number in 0..30 {
        say(&store, "group:a", "alice", &format!("word {number} 会议")).await?;
    }
    let all = Search::new(terms("word 会议")?, 100).with_scopes([scope("group:a")?]);
    let before = search(&store, all.clone()).await?;
    same!(before.len(), 30, "messages found");
    let Some(store) = harness.restart(store).await else { return Ok(()) };
    same!(search(&store, all).await?, before, "what is found after a restart");
    Ok(())
}
