//! Changes of messages, groups, blocks and devices.

use super::*;

#[tokio::test]
async fn messages_are_edited_recalled_and_reacted_to_by_whoever_may() {
    let api = Api::new().await;
    let (_, receipt) = api.send("alice", json!({"to": "/user/bob", "body": "helo"})).await;
    let id = receipt["message_id"].as_str().expect("an id").to_owned();
    let change = |to: &str, kind: &str, id: &str, body: &str| json!({"to": to, "kind": kind, "in_reply_to": id, "body": body});
    let refused = [
        ("bob", change("/user/alice", "edit", &id, "x"), StatusCode::FORBIDDEN),
        ("bob", change("/user/alice", "recall", &id, ""), StatusCode::FORBIDDEN),
        ("mallory", change("/user/alice", "reaction", &id, "x"), StatusCode::UNPROCESSABLE_ENTITY),
        ("bob", change("/user/alice", "reaction", "m0", "x"), StatusCode::UNPROCESSABLE_ENTITY),
        (
            "bob",
            change("/user/alice", "reaction", &id, &"x".repeat(65)),
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        ("alice", change("/user/bob", "recall", &id, "x"), StatusCode::UNPROCESSABLE_ENTITY),
        (
            "alice",
            json!({"to": "/user/bob", "kind": "edit", "body": "x"}),
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
    ];
    for (user, body, wanted) in refused {
        let (status, problem) = api.send(user, body).await;
        assert_eq!(status, wanted, "{user}: {problem}");
    }
    let path = format!("/conversations/direct:alice:bob/messages/{id}");
    api.send("alice", change("/user/bob", "edit", &id, "hello")).await;
    api.send("bob", change("/user/alice", "reaction", &id, "👋")).await;
    let (_, _, now) = api.call("bob", "GET", &path, None).await;
    assert_eq!((&now["body"], &now["edited"]), (&json!("hello"), &json!(2)));
    assert_eq!(now["reactions"], json!({"bob": "👋"}));
    let (_, _, first) = api.call("bob", "GET", &format!("{path}?original=true"), None).await;
    assert_eq!(first["body"], "helo");
    for user in ["mallory", "carl"] {
        let (status, _, _) = api.call(user, "GET", &path, None).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{user}");
    }
    api.send("alice", change("/user/bob", "recall", &id, "")).await;
    let (_, _, gone) = api.call("bob", "GET", &format!("{path}?original=true"), None).await;
    assert_eq!((&gone["body"], &gone["recalled"]), (&json!(""), &json!(4)));
    let (status, _) = api.send("bob", change("/user/alice", "reaction", &id, "x")).await;
    assert_eq!(status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn a_group_is_run_by_its_owner_and_admins() {
    let api = Api::new().await;
    let group =
        json!({"name": "ops", "members": ["bob"], "title": "Operations", "history": "joining"});
    let (status, _, made) = api.call("alice", "POST", "/groups", Some(group)).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(
        (&made["title"], &made["open"], &made["history"]),
        (&json!("Operations"), &json!(false), &json!("joining"))
    );
    let is = async |user: &str, method: &str, path: &str, body: Value, wanted: StatusCode| {
        let body = Some(body).filter(|body| !body.is_null());
        let (status, _, answer) = api.call(user, method, path, body).await;
        assert_eq!(status, wanted, "{user} {method} {path}: {answer}");
        answer
    };
    let (no, done) = (StatusCode::FORBIDDEN, StatusCode::NO_CONTENT);
    is("mallory", "POST", "/groups/ops/join", Value::Null, StatusCode::NOT_FOUND).await;
    is("bob", "PATCH", "/groups/ops", json!({"open": true}), no).await;
    is(
        "bob",
        "PATCH",
        "/groups/ops/members/alice",
        json!({"muted_until": 9_999_999_999_999_u64}),
        no,
    )
    .await;
    is(
        "alice",
        "PATCH",
        "/groups/ops/members/bob",
        json!({"role": "boss"}),
        StatusCode::UNPROCESSABLE_ENTITY,
    )
    .await;
    is(
        "alice",
        "PATCH",
        "/groups/ops/members/bob",
        json!({"role": "owner"}),
        StatusCode::UNPROCESSABLE_ENTITY,
    )
    .await;
    is("alice", "PATCH", "/groups/ops/members/bob", json!({"role": "admin"}), done).await;
    is("bob", "PATCH", "/groups/ops/members/alice", json!({"role": "member"}), no).await;
    is("bob", "PATCH", "/groups/ops", json!({"open": true}), StatusCode::OK).await;
    is("mallory", "POST", "/groups/ops/join", Value::Null, StatusCode::OK).await;
    is("mallory", "PUT", "/groups/ops/owner", json!({"user": "mallory"}), no).await;
    is(
        "bob",
        "PATCH",
        "/groups/ops/members/mallory",
        json!({"muted_until": 9_999_999_999_999_u64}),
        done,
    )
    .await;
    let (status, problem) = api.send("mallory", json!({"to": "/group/ops", "body": "!"})).await;
    assert_eq!((status, &problem["detail"]), (no, &json!("refused: you are muted in this group")));
    is("bob", "PATCH", "/groups/ops/members/mallory", json!({"muted_until": 0}), done).await;
    assert_eq!(
        api.send("mallory", json!({"to": "/group/ops", "body": "!"})).await.0,
        StatusCode::CREATED
    );
    is("alice", "PUT", "/groups/ops/owner", json!({"user": "bob"}), done).await;
    let shown = is("alice", "GET", "/groups/ops", Value::Null, StatusCode::OK).await;
    let roles: Vec<_> = shown["members"]
        .as_array()
        .expect("members")
        .iter()
        .map(|member| (&member["user"], &member["role"]))
        .collect();
    assert_eq!(
        roles,
        [
            (&json!("alice"), &json!("admin")),
            (&json!("bob"), &json!("owner")),
            (&json!("mallory"), &json!("member"))
        ]
    );
    is("alice", "DELETE", "/groups/ops/members/bob", Value::Null, no).await;
}

#[tokio::test]
async fn who_is_blocked_says_nothing_and_sees_nothing() {
    let api = Api::new().await;
    api.send("bob", json!({"to": "/user/alice", "body": "hi"})).await;
    assert_eq!(api.call("alice", "PUT", "/blocks/bob", None).await.0, StatusCode::NO_CONTENT);
    let (_, _, list) = api.call("alice", "GET", "/blocks", None).await;
    assert_eq!(list, json!({"users": ["bob"]}));
    for (from, to) in [("bob", "/user/alice"), ("alice", "/user/bob")] {
        let (status, _) = api.send(from, json!({"to": to, "body": "hi"})).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{from}");
    }
    let group = json!({"name": "trap", "members": ["alice"]});
    assert_eq!(api.call("bob", "POST", "/groups", Some(group)).await.0, StatusCode::FORBIDDEN);
    assert_eq!(api.call("alice", "PUT", "/blocks/alice", None).await.0, StatusCode::FORBIDDEN);
    assert_eq!(api.call("alice", "PUT", "/blocks/nobody", None).await.0, StatusCode::NOT_FOUND);
    assert_eq!(api.call("alice", "DELETE", "/blocks/bob", None).await.0, StatusCode::NO_CONTENT);
    let (status, _) = api.send("bob", json!({"to": "/user/alice", "body": "hi"})).await;
    assert_eq!(status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_user_sees_names_and_removes_devices() {
    let api = Api::new().await;
    let label = json!({"label": "Alice's phone"});
    let (status, ..) = api.call("alice", "PATCH", "/devices/alice", Some(label)).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (_, _, list) = api.call("alice", "GET", "/devices", None).await;
    let device = &list["devices"][0];
    assert_eq!((&device["name"], &device["label"]), (&json!("alice"), &json!("Alice's phone")));
    let label = json!({"label": "x".repeat(65)});
    let (status, ..) = api.call("alice", "PATCH", "/devices/alice", Some(label.clone())).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let label = json!({"label": "x"});
    let (status, ..) = api.call("bob", "PATCH", "/devices/alice", Some(label)).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "another's device");
    for _ in 0..2 {
        let (status, ..) = api.call("alice", "DELETE", "/devices/alice", None).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
    }
    let (_, _, list) = api.call("alice", "GET", "/devices", None).await;
    assert_eq!(list, json!({"devices": []}));
}
