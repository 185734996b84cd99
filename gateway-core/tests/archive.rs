//! A conversation is exported from one gateway and imported into another, and is the same there.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use common::{builder, populated, user};
use futures::TryStreamExt as _;
use gateway_core::{
    ConversationId, Destination, Directory, Gateway, GroupName, GroupSettings, HistoryFrom,
    ImportError, ImportFault, MemoryDirectory, MemoryStore, MessageStore, Role, SendRequest, Sent,
};

async fn export(gateway: &Gateway, of: &str) -> Vec<String> {
    let of = ConversationId::new(of).unwrap();
    let parts: Vec<_> =
        gateway.export(&user("alice"), &of).await.unwrap().try_collect().await.unwrap();
    let text = String::from_utf8(parts.concat()).unwrap();
    text.lines().map(str::to_owned).collect()
}

async fn import(gateway: &Gateway, of: &str, lines: &[String]) -> Result<u64, ImportError> {
    let of = ConversationId::new(of).unwrap();
    let mut import = gateway.import(&user("root"), &of);
    for line in lines {
        import.line(line.as_bytes()).await?;
    }
    import.finish().await
}

async fn say(gateway: &Gateway, from: &str, to: &str, kind: &str, of: &str, body: &str) -> String {
    let mut request =
        SendRequest::new(user(from), Destination::parse(to).unwrap(), body.to_owned())
            .with_kind(kind, Some("3"))
            .unwrap();
    if !of.is_empty() {
        request = request.with_header("in-reply-to", of).unwrap();
    }
    match gateway.send(request).await.unwrap() {
        Sent::Stored(receipt) => receipt.message_id.to_string(),
        _ => String::new(),
    }
}

/// A group with something of everything, and a direct conversation.
async fn filled() -> Gateway {
    let gateway = populated(builder()).await;
    let ops = GroupName::new("ops").unwrap();
    let mut settings = GroupSettings::default();
    settings.title = "Operations 会".to_owned();
    settings.history = HistoryFrom::Joining;
    gateway.change_group(&user("alice"), &ops, settings).await.unwrap();
    for to in ["/group/ops", "/user/bob"] {
        let first = say(&gateway, "alice", to, "message", "", "frist").await;
        let second = say(&gateway, "alice", to, "message", &first, "secret\u{0}\n").await;
        say(&gateway, "alice", to, "edit", &first, "first").await;
        let back = if to == "/user/bob" { "/user/alice" } else { to };
        say(&gateway, "bob", back, "reaction", &first, "👍").await;
        say(&gateway, "alice", to, "recall", &second, "").await;
        say(&gateway, "bob", back, "read", "", "").await;
    }
    gateway.add_member(&user("alice"), &ops, &user("carol")).await.unwrap();
    gateway.set_role(&user("alice"), &ops, &user("carol"), Role::Admin).await.unwrap();
    gateway.mute_member(&user("alice"), &ops, &user("bob"), Some(1 << 50)).await.unwrap();
    gateway
}

async fn empty(store: Arc<dyn MessageStore>, directory: Arc<dyn Directory>) -> Gateway {
    let gateway = builder().store(store).directory(directory).build().unwrap();
    gateway.create_user(&user("root"), None).await.unwrap();
    gateway
}

async fn in_memory() -> Gateway {
    empty(Arc::new(MemoryStore::new()), Arc::new(MemoryDirectory::new())).await
}

async fn comes_out_as_it_went_in(store: Arc<dyn MessageStore>, directory: Arc<dyn Directory>) {
    let from = filled().await;
    let to = empty(store, directory).await;
    for of in ["group:ops", "direct:alice:bob"] {
        let wanted = export(&from, of).await;
        let messages = wanted.iter().filter(|line| !line.contains("\"record\"")).count();
        // Broken off, and done again.
        import(&to, of, &wanted[..wanted.len() / 2]).await.unwrap();
        let new = import(&to, of, &wanted).await.unwrap();
        assert!(new > 0 && (new as usize) < messages, "{new} of {messages}");
        assert_eq!(import(&to, of, &wanted).await, Ok(0), "{of}: again");
        assert_eq!(export(&to, of).await, wanted, "{of}");
    }
    let unread = async |gateway: &Gateway, who: &str| {
        let list = gateway.conversations(&user(who), None, 9).await.unwrap();
        let mut list: Vec<_> =
            list.into_iter().map(|line| (line.conversation, line.unread, line.markers)).collect();
        list.sort_by(|one, other| one.0.cmp(&other.0));
        list
    };
    for who in ["alice", "bob", "carol"] {
        assert_eq!(unread(&to, who).await, unread(&from, who).await, "{who}");
    }
    assert_eq!(unread(&to, "root").await, [], "the importer is no member");
    say(&to, "alice", "/group/ops", "message", "", "it goes on").await;
    from.shutdown().await;
    to.shutdown().await;
}

#[tokio::test]
async fn an_export_comes_out_as_it_went_in_in_memory() {
    comes_out_as_it_went_in(Arc::new(MemoryStore::new()), Arc::new(MemoryDirectory::new())).await;
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn an_export_comes_out_as_it_went_in_over_sqlite() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = gateway_core::SqliteStore::open(folder.path().join("store.db")).unwrap();
    let store = Arc::new(store);
    comes_out_as_it_went_in(store.clone(), store).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
#[ignore = "needs postgresql"]
async fn an_export_comes_out_as_it_went_in_over_postgresql() {
    let server = mq_bridge::testkit::servers::Postgres::start().await.unwrap();
    let store = Arc::new(gateway_core::PostgresStore::open(server.url()).await.unwrap());
    comes_out_as_it_went_in(store.clone(), store).await;
}

/// What is wrong is said with its line, and what is here already is not touched.
#[tokio::test]
async fn a_bad_archive_is_refused_with_the_number_of_the_line() {
    let from = filled().await;
    let good = export(&from, "group:ops").await;
    let first = good.iter().position(|line| !line.contains("\"record\"")).unwrap();
    let bad: [(usize, String, &str); 7] = [
        (0, "{".to_owned(), "EOF"),
        (0, good[0].replace("group:ops", "group:other"), "the archive is of"),
        (1, good[0].clone(), "first line"),
        (first, good[first].replace("\"seq\":1", "\"seq\":1,\"more\":1"), "unknown field"),
        (first + 1, good[first].clone(), "order of seq"),
        (first + 2, good[1].clone(), "before the messages"),
        (first, good[first].replace("\"utf8\"", "\"utf9\""), "body_encoding"),
    ];
    for (place, line, wanted) in bad {
        let to = in_memory().await;
        let mut lines = good.clone();
        lines[place] = line;
        let error = import(&to, "group:ops", &lines).await.unwrap_err();
        assert_eq!(error.line, place as u64 + 1, "{error}");
        assert!(error.to_string().contains(wanted), "{error}");
        to.shutdown().await;
    }
    let other = filled().await;
    other.create_user(&user("root"), None).await.unwrap();
    let before = export(&other, "group:ops").await;
    let error = import(&other, "group:ops", &good).await.unwrap_err();
    assert!(error.line == 1 && matches!(error.fault, ImportFault::Conflict(_)), "{error}");
    assert_eq!(export(&other, "group:ops").await, before);
    other.shutdown().await;
    from.shutdown().await;
}
