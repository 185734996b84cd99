use super::*;

#[tokio::test]
async fn p8_a_search_finds_what_the_caller_may_read_and_nothing_else() {
    let api = Api::new().await;
    let group = json!({"name": "ops", "members": ["bob"]});
    assert_eq!(api.call("alice", "POST", "/groups", Some(group)).await.0, StatusCode::CREATED);
    for (from, to, body) in [
        ("alice", "/user/bob", "the secret plan"),
        ("alice", "/group/ops", "a plan for 明天下午"),
        ("mallory", "/user/alice", "my plan"),
    ] {
        assert_eq!(api.send(from, json!({"to": to, "body": body})).await.0, StatusCode::CREATED);
    }
    let find = async |user: &str, query: &str| {
        let (status, _, page) = api.call(user, "GET", &format!("/search?{query}"), None).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        let messages = page["messages"].as_array().expect("messages").clone();
        let bodies = messages.iter().map(|one| one["body"].as_str().unwrap_or("").to_owned());
        (bodies.collect::<Vec<_>>(), page["next"].clone())
    };
    assert_eq!(find("bob", "q=plan").await.0, ["a plan for 明天下午", "the secret plan"]);
    assert_eq!(find("mallory", "q=plan").await.0, ["my plan"]);
    assert_eq!(find("bob", "q=%E4%B8%8B%E5%8D%88").await.0, ["a plan for 明天下午"]);
    assert_eq!(find("alice", "q=plan&conversation=group%3Aops").await.0, ["a plan for 明天下午"]);
    let (first, next) = find("bob", "q=plan&limit=1").await;
    let next = next.as_str().expect("a cursor").replace(':', "%3A");
    let (second, next) = find("bob", &format!("q=plan&limit=1&before={next}")).await;
    assert_eq!([first, second].concat(), ["a plan for 明天下午", "the secret plan"]);
    let next = next.as_str().expect("a cursor").replace(':', "%3A");
    assert_eq!(find("bob", &format!("q=plan&before={next}")).await, (vec![], Value::Null));

    for (user, query, wanted) in [
        ("mallory", "q=plan&conversation=group%3Aops", StatusCode::NOT_FOUND),
        ("mallory", "q=plan&conversation=direct%3Aalice%3Abob", StatusCode::NOT_FOUND),
        ("mallory", "q=plan&conversation=group%3Anone", StatusCode::NOT_FOUND),
        ("mallory", "q=plan&conversation=ops", StatusCode::NOT_FOUND),
        ("bob", "q=%21", StatusCode::UNPROCESSABLE_ENTITY),
        ("bob", "q=plan&limit=201", StatusCode::UNPROCESSABLE_ENTITY),
        ("bob", "q=plan&before=yesterday", StatusCode::UNPROCESSABLE_ENTITY),
        ("bob", "limit=1", StatusCode::UNPROCESSABLE_ENTITY),
        ("", "q=plan", StatusCode::UNAUTHORIZED),
    ] {
        let (status, _, body) = api.call(user, "GET", &format!("/search?{query}"), None).await;
        assert_eq!(status, wanted, "{user} {query}: {body}");
    }
}
